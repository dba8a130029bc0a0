/**
 * Watches interfaces by what they are, in the namespace of a node, while the node's processes talk
 * to each other, and to another by a VXLAN and by a device of bare IP packets, as WireGuard's is;
 * prints what was seen of each connection, and where.
 *
 *     node kinds.ts TIER KINDS PEER
 *
 * PEER is the namespace of the other node, which `pod0` leads to.
 */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import path from "node:path";
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
// Never more under way than the tunnel's socket holds while its program waits for a processor: what
// is dropped there crosses pod0 alone, and twice.
spawnSync("sysctl", ["-qw", "net.ipv4.tcp_rmem=4096 32768 32768"], { stdio: "inherit" });

/** Runs a program of Node's that ends with this one; resolves when it has said something. */
async function run(netns: readonly string[], ...args: readonly string[]): Promise<void> {
  const [command, ...argv] = [...netns, process.execPath, ...args];
  const child = spawn(command!, argv, { stdio: ["pipe", "pipe", "inherit"] });
  process.once("exit", () => child.kill());
  await new Promise((resolve) => child.stdout.once("data", resolve));
}
const there = ["ip", "netns", "exec", peer];
const vpn = path.join(import.meta.dirname, "vpn.ts");
await run([], vpn, "10.72.0.1", "10.70.0.1", "10.70.0.2");
await run(there, vpn, "10.72.0.2", "10.70.0.2", "10.70.0.1");

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
  onFrame: (...frame) => line.frame(...frame),
  onChange: () => {},
});
line.countPassedOver(source.passedOver);
source.rescan();

const SERVER = `process.stdin.resume().on("end", process.exit);
const serve = (port, said, then) =>
  require("net").createServer((s) => s.end(said)).listen(port, then);
serve(9000, "bye", () => serve(9001, Buffer.alloc(400_000), () => console.log()))`;
await run(there, "-e", SERVER);
const local = createServer((socket) => socket.end("bye"));
await new Promise<void>((resolve) => local.listen(9000, "127.0.0.1", resolve));
for (const [host, port] of [
  ["127.0.0.1", 9000],
  ["10.71.0.2", 9000],
  ["10.72.0.2", 9000],
  ["10.72.0.2", 9001],
] as const) {
  await new Promise((resolve) => connect(port, host).resume().on("close", resolve));
}
await new Promise((resolve) => setTimeout(resolve, 300));
source.rescan();
line.finish();
const seen = [...observations.values()].filter(({ record }) =>
  [9000, 9001].includes(record.dst_port!),
);
const packetsOf = (device: string, way: string) =>
  Number(readFileSync(`/sys/class/net/${device}/statistics/${way}_packets`, "utf8"));
const told = {
  loopback: packetsOf("lo", "rx"),
  tunnel: [packetsOf("tun0", "tx"), packetsOf("tun0", "rx")],
  cutOff: source.watches().find(({ name }) => name === "tun0")?.cutOff,
  watches: Object.fromEntries(source.watches().map(({ name, kind }) => [name, kind])),
  seen: seen
    .map(({ interface: name, interface_kind: kind, vantage, record }) => {
      const { dst_ip: to, encap, packets, bytes, state } = record;
      return { name, kind: kind ?? "pod", vantage, to, encap, packets, bytes, state };
    })
    .map((one) => ({ one, place: `${one.name} ${one.bytes[1]} ${one.to}` }))
    .sort((a, b) => (a.place < b.place ? -1 : 1))
    .map(({ one }) => one),
};
source.close();
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
