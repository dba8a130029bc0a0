/**
 * Watches by several workers, in a network namespace of its own, what it sends itself, and prints
 * what they told: one line of JSON. Pairs of veths are there: `saN` sends, `sbN` is watched.
 *
 *     node working.ts WORKERS [faulty]
 */
import { spawnSync } from "node:child_process";
import { BroadcastChannel } from "node:worker_threads";
import { readAgentConfig } from "../../agent/config.ts";
import { Workers } from "../../agent/workers.ts";
import type { Coverage } from "../../protocol/coverage.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import type { Observation } from "../../protocol/observation.ts";
import { FrameSender } from "../../scripts/bench/sender.ts";
import { mixedTraffic } from "./mixed.ts";
import { VXLAN_PORTS } from "./wrapping.ts";

const [count, how] = process.argv.slice(2) as [string, string?];
const ip = (args: string) => spawnSync("ip", args.split(" "));
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const log: string[] = [];
const finals = new Map<string, Observation>();
const twice: string[] = [];
const covered: Coverage[] = [];
const flags = {
  ...{ node: "n", collector: "wss://127.0.0.1:1", key: "-", cert: "-", ca: "-" },
  ...{ interfaces: "sb\\d+", workers: count, "report-interval": "300", "ring-mib": "8" },
  vxlanPort: VXLAN_PORTS.join(),
};
const config = readAgentConfig(flags);
const workers = await Workers.open({
  ...{ config, flags, run: "run", log: (_: string, text: string) => void log.push(text) },
  onObservation: (row) => {
    if (finals.get(row.flow)?.final) twice.push(row.flow);
    finals.set(row.flow, row);
  },
  onCoverage: (row) => covered.push(row),
  ...(how ? { worker: new URL("faulty-watcher.ts", import.meta.url) } : {}),
});
workers.begin();
await sleep(300);
workers.tellCoverage();
const startMs = Date.now();
const { frames, flows, strays } = mixedTraffic(7, 8, 60_000);
const sender = new FrameSender("sa0", frames);
let sent = 0;
for (let at = 0; at < frames.length; at += 200) {
  sent += sender.send(at, Math.min(frames.length, at + 200));
  await sleep(5);
}
await sleep(200);
workers.tellCoverage();
await sleep(100);
if (how) {
  new BroadcastChannel("fault").postMessage("runw2 frame");
  await sleep(50);
  new FrameSender("sa1", frames).send(0, 500); // by which the fault comes out
  await sleep(200);
}
ip("link del sa1"); // a watch ends, and one begins
for (const name of ["sa1", "sb1"]) {
  if (name === "sa1") ip("link add sa1 mtu 65535 type veth peer name sb1 mtu 65535");
  ip(`link set ${name} up`);
}
const isBack = () => log.filter((text) => text === "worker 2: watching sb0").length > 1;
for (let waited = 0; how && waited < 10_000 && !isBack(); waited += 50) await sleep(50);
await sleep(500);
const again = how ? sender.send(0, frames.length) : 0;
await sleep(how ? 600 : 100);
workers.tellCoverage();
await sleep(1200);
const { counters, table } = workers.line;
const watches = workers.capture.watches().find(({ name }) => name === "sb0")!;
const metrics = { none: counters.stopped[0], opened: counters.opened, flows: table.count };
const seen = { delivered: watches.delivered, cutOff: watches.cutOff };
await workers.end();

/** Packets and bytes of either end, client first, of flows of the same ends. */
const told: Record<string, unknown> = {};
/** Workers that told of flows of the same ends. */
const by: Record<string, string[]> = {};
for (const { flow, record: r } of finals.values()) {
  const ends = [`${r.src_ip}:${r.src_port}`, `${r.dst_ip}:${r.dst_port}`];
  const name = [r.proto, ...ends.toSorted()].join(" ");
  (by[name] ??= []).push(flow.split(".")[0]!);
  const sides: Record<string, Flow["packets"]> = {};
  ends.forEach((end, i) => (sides[end] = [r.packets[i]!, r.bytes[i]!]));
  told[told[name] === undefined ? name : `${name} again in ${flow}`] = sides;
}
const result = {
  ...{ sent, again, strays, flows, told, by, twice, covered, metrics, seen, log },
  ...{ startMs, faults: workers.faults },
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
