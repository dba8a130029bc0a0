/**
 * Watches interfaces by what they are, in the namespace of a node, while the node's processes talk
 * to each other, and to another by a VXLAN; prints what was seen of each connection, and where.
 *
 *     node kinds.ts TIER KINDS PEER
 *
 * PEER is the namespace of the other node, which `pod0` leads to.
 */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { CaptureChoice } from "../../agent/capture/frame-source.ts";
import { openCapture } from "../../agent/capture/tiers.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { Sightings } from "../../agent/sightings.ts";
import type { Observation } from "../../protocol/observation.ts";
import type { WatchKind } from "../../protocol/watch-kind.ts";

const [tier, kinds, peer] = process.argv.slice(2) as [CaptureChoice, string, string];
const ip = (args: string) => spawnSync("ip", args.split(" "), { stdio: "inherit" });
ip(`link add pod0 type veth peer name eth0 netns ${peer}`);
const nodes = [
  { at: "", device: "pod0", last: 1, other: 2 },
  { at: `-n ${peer} `, device: "eth0", last: 2, other: 1 },
];
for (const { at, device, last, other } of nodes) {
  const ends = `local 10.70.0.${last} remote 10.70.0.${other}`;
  for (const args of [
    ...["link set lo up", `addr add 10.70.0.${last}/24 dev ${device}`, `link set ${device} up`],
    ...[`link add vx0 type vxlan id 7 dstport 4789 ${ends}`, `addr add 10.71.0.${last}/24 dev vx0`],
    "link set vx0 up",
  ]) {
    ip(at + args);
  }
}

const observations = new Map<string, Observation>();
const sightings = new Sightings("run", (o) => observations.set(o.flow, o));
const table = { ...FLOW_TABLE_DEFAULTS, flows: 64, slots: 16 };
const line: Line = new Line({ table, revisions: true, reportIntervalMs: 1e9 }, (r, flow, final) =>
  sightings.tell(line, r, flow, final),
);
const source = openCapture({
  ...{ choice: tier, ringBytes: 8 << 20, flows: 64, clock: line.clock, log: () => {} },
  wanted: { pattern: null, kinds: kinds.split(",") as WatchKind[] },
  onWatch: (watch) => sightings.know(watch, Date.now()),
  onFrame: (view, at, end, wire, link, lane) => line.frame(view, at, end, wire, link, lane),
  onChange: () => {},
});
source.rescan();

const SERVER = `require("net").createServer((s) => s.end("bye")).listen(9000, () => console.log())`;
const remote = spawn("ip", ["netns", "exec", peer, process.execPath, "-e", SERVER], {
  stdio: ["ignore", "pipe", "inherit"],
});
await new Promise((resolve) => remote.stdout.once("data", resolve));
const local = createServer((socket) => socket.end("bye"));
await new Promise<void>((resolve) => local.listen(9000, "127.0.0.1", resolve));
for (const host of ["127.0.0.1", "10.71.0.2"]) {
  await new Promise((resolve) => connect(9000, host).resume().on("close", resolve));
}
await new Promise((resolve) => setTimeout(resolve, 300));
remote.kill();
source.rescan();
line.finish();
const seen = [...observations.values()].filter((o) => o.record.dst_port === 9000);
const loopback = readFileSync("/sys/class/net/lo/statistics/rx_packets", "utf8");
const told = {
  loopback: Number(loopback),
  watches: Object.fromEntries(source.watches().map(({ name, kind }) => [name, kind])),
  seen: seen
    .map(({ interface: name, interface_kind: kind, vantage, record }) => {
      const { dst_ip: to, encap, packets, state } = record;
      return { name, kind: kind ?? "pod", vantage, to, encap, packets, state };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1)),
};
source.close();
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
