/**
 * Watches by one watcher, in a network namespace of its own, and has it fail, one way after the
 * other; prints what was told, and what is open, as one line of JSON. Pairs of veths are there:
 * `saN` sends, `sbN` is watched.
 *
 *     node restarting.ts TIER
 */
import { readFileSync, readdirSync } from "node:fs";
import { readAgentConfig } from "../../agent/config.ts";
import { agentMetrics } from "../../agent/metrics.ts";
import { RingCapture } from "../../agent/capture/ring-capture.ts";
import { SystemCalls } from "../../agent/capture/system-calls.ts";
import { Line } from "../../agent/line.ts";
import { RestartingWatcher } from "../../agent/restarting-watcher.ts";
import type { Uplink } from "../../agent/uplink/uplink.ts";
import type { Coverage } from "../../protocol/coverage.ts";
import { FrameSender } from "../../scripts/bench/sender.ts";
import { mixedTraffic } from "./mixed.ts";

const capture = process.argv[2]!;
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const log: string[] = [];
let covered: Coverage[] = [];
/** Packets of flows by who told of them. */
const packets: Record<string, number> = {};
const flags = {
  ...{ node: "n", collector: "wss://127.0.0.1:1", key: "-", cert: "-", ca: "-" },
  ...{ interfaces: "sb0", "ring-mib": "8", flows: "4096", capture },
};
const watcher = await RestartingWatcher.open({
  ...{ config: readAgentConfig(flags), run: "run" },
  log: (_: string, text: string) => void log.push(text),
  onObservation: ({ flow, final, record }) => {
    const who = flow.split(".")[0]!;
    if (final) packets[who] = (packets[who] ?? 0) + record.packets[0] + record.packets[1];
  },
  onCoverage: (row) => covered.push(row),
});
watcher.begin();

/** Once, and then as before. */
function plant<Name extends string>(of: Record<Name, unknown>, name: Name): void {
  const before = of[name];
  of[name] = () => {
    of[name] = before;
    throw new Error(`planted in ${name}`);
  };
}
const said = (text: string) => log.filter((line) => line.includes(text)).length;

async function until(text: string, times: number): Promise<void> {
  for (let waited = 0; said(text) < times; waited += 20) {
    if (waited > 10_000) throw new Error(`never: ${text}\n${log.join("\n")}`);
    await sleep(20);
  }
}

const { frames } = mixedTraffic(7, 2, 60_000);
const sender = new FrameSender("sa0", frames);

function seen(): number {
  const { capture: source } = watcher;
  const sum = source.watches().reduce((n, w) => n + w.delivered + w.cutOff + w.dropped, 0);
  return sum + source.droppedOnAny();
}

/** Sends all, and has told what was covered since it last was. */
async function send(): Promise<object> {
  const before = seen();
  const sent = sender.send();
  for (let waited = 0; seen() < before + sent && waited < 5000; waited += 20) await sleep(20);
  watcher.tellCoverage();
  const rows = covered;
  covered = [];
  const total = rows.reduce((sum, r) => sum + r.delivered + r.cut_off + r.dropped, 0);
  return { sent, total, from: rows[0]?.from_ms, to: rows.at(-1)?.to_ms };
}

function open(): Record<string, number> {
  const maps = readFileSync("/proc/self/maps", "latin1").trim().split("\n");
  return {
    descriptors: readdirSync("/proc/self/fd").length,
    rings: maps.filter((line) => line.includes("socket:[")).length,
  };
}

const metrics = agentMetrics(watcher, {} as Uplink);
const metric = async (name: string) => {
  const text = await metrics.getSingleMetricAsString(`wireproof_agent_${name}`);
  return Number(text.trim().split(" ").at(-1));
};
await until("watching sb0", 1);
const first = { ...(await send()), open: open() };
const steps: object[] = [];
const PLACES: Record<string, [of: object, name: string][]> = {
  "a frame": [[Line.prototype, "frame"]],
  "a look at flows": [[Line.prototype, "advance"]],
  "a look at interfaces": [[RingCapture.prototype, "rescan"]],
  "a frame, and the next at its start": [
    [Line.prototype, "frame"],
    [SystemCalls.prototype, "socket"],
  ],
};
for (const [what, places] of Object.entries(PLACES)) {
  if (capture === "libpcap" && what !== "a frame" && what !== "a look at flows") continue;
  for (const [of, name] of places) plant(of as Record<string, unknown>, name);
  const watching = said("watching sb0");
  sender.send(0, 100); // by which some faults come out
  await until("watching sb0", watching + 1);
  await sleep(200);
  const faults = await metric("worker_faults_total");
  steps.push({ what, ...(await send()), faults, open: open() });
}
const opened = await metric("flows_opened_total");
watcher.end();
await sleep(100);
const result = { first, steps, opened, packets, log, last: open() };
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
