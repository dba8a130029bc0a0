/**
 * Watches a pod's interface, in the namespace of its node, while the pod talks to the node, forges
 * packets of others, and gets some that are not meant for it; prints what it tells of that.
 *
 *     node forging.ts TIER POD
 *
 * POD is the pod's namespace, 10.66.0.2; its interface `wp1` leads to `eth1` there. The node has
 * 10.66.0.1, and sends what is for 10.77.0.0/24 to the pod.
 */
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import type { CaptureChoice } from "../../agent/capture/frame-source.ts";
import { openCapture } from "../../agent/capture/tiers.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { Sightings } from "../../agent/sightings.ts";
import { FrameSender } from "../../scripts/bench/sender.ts";
import type { Observation } from "../../protocol/observation.ts";
import { ACK, SYN, ethernet, ipv4, join, latin1, tcp, udp } from "../frames.ts";

const POD = "10.66.0.2";
const NODE = "10.66.0.1";
const OTHER = "10.66.0.3";

/** As the pod forges them: of another pod's, of the node to itself, and in a tunnel of its own. */
const segment = tcp({ from: 41_000, to: 8443, flags: SYN });
const answer = tcp({ from: 8443, to: 41_001, flags: SYN | ACK });
const inner = ethernet(ipv4({ source: OTHER, destination: NODE }, segment));
const vxlan = join([8, 0, 0, 0, 0, 0, 1, 0], inner);
const FORGED = [
  inner,
  ethernet(ipv4({ source: OTHER, destination: NODE, protocol: 17 }, udp(latin1("hello")))),
  ethernet(ipv4({ source: NODE, destination: POD }, answer)),
  ethernet(ipv4({ source: POD, destination: NODE, protocol: 17 }, udp(vxlan, { to: 4789 }))),
];

const [tier, pod] = process.argv.slice(2) as [CaptureChoice | "forge", string];
if (tier === "forge") {
  new FrameSender("eth1", FORGED).send();
  process.exit(0);
}

const CLIENT = `const socket = require("net").connect(9000, "${NODE}");
  socket.on("end", () => socket.end()).on("data", () => {}).write("hello");`;
/** Runs node in the pod, and waits for its end. */
async function inPod(...argv: string[]): Promise<void> {
  const child = spawn("ip", ["netns", "exec", pod, process.execPath, ...argv], {
    stdio: "inherit",
  });
  await new Promise((resolve) => child.on("close", resolve));
}

const told = new Map<string, Observation>();
const sightings = new Sightings("run", (observation) => told.set(observation.flow, observation));
const table = { ...FLOW_TABLE_DEFAULTS, flows: 1024, slots: 64 };
const line: Line = new Line({ table, revisions: true, reportIntervalMs: 1e9 }, (r, flow, final) =>
  sightings.tell(line, r, flow, final),
);
const source = openCapture({
  ...{ choice: tier, ringBytes: 8 << 20, flows: 1024, clock: line.clock, log: () => {} },
  wanted: { pattern: /^wp1$/, kinds: [] },
  onWatch: (watch) => {
    line.know(watch);
    sightings.know(watch, Date.now());
  },
  onFrame: (...frame) => line.frame(...frame),
  onChange: () => {},
});
line.countPassedOver(source.passedOver);
source.rescan();
const server = createServer((socket) => socket.end("done"));
await new Promise<void>((resolve) => server.listen(9000, NODE, resolve));
await inPod("-e", CLIENT);
await inPod(import.meta.filename, "forge");
const socket = createSocket("udp4");
await new Promise((resolve) => socket.send("stray", 9000, "10.77.0.9", resolve));
socket.close();
await new Promise((resolve) => setTimeout(resolve, 300));
source.rescan();
line.finish();
const [watch] = source.watches();
const coverage = sightings.coverage(watch!, line, source.kind, Date.now());
source.close();
const { addresses, delivered, packets, stopped } = coverage;
const flows = Array.from(told.values(), ({ record: r, vantage }) => {
  return `${r.proto} ${r.src_ip} > ${r.dst_ip}:${r.dst_port} ${vantage}`;
});
const said = { addresses, flows: flows.sort(), delivered, packets, stopped };
process.stdout.write(`${JSON.stringify(said)}\n`, () => process.exit(0));
