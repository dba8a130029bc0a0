/**
 * Watches by three workers, in a network namespace of its own, and has them fail in every way, one
 * after the other; prints what was told and what is open after each, as one line of JSON. Pairs of
 * veths are there: `saN` sends, `sbN` is watched.
 *
 *     node failing.ts [stuck]
 *
 * With `stuck` one comes to where nothing ends it; the log goes to stderr.
 */
import { readFileSync, readdirSync, writeSync } from "node:fs";
import { BroadcastChannel } from "node:worker_threads";
import { readAgentConfig } from "../../agent/config.ts";
import { agentMetrics } from "../../agent/metrics.ts";
import type { Uplink } from "../../agent/uplink/uplink.ts";
import { Workers } from "../../agent/workers.ts";
import type { Coverage } from "../../protocol/coverage.ts";
import { FrameSender } from "../../scripts/bench/sender.ts";
import { mixedTraffic } from "./mixed.ts";

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const isStuck = process.argv[2] === "stuck";
const log: string[] = [];
let covered: Coverage[] = [];
/** By name of a flow's ends: who told of it, of those that were started first. */
const by: Record<string, string> = {};
const flags = {
  ...{ node: "n", collector: "wss://127.0.0.1:1", key: "-", cert: "-", ca: "-" },
  ...{ interfaces: "sb\\d+", workers: "3", "ring-mib": "32", flows: "1024" },
};
const workers = await Workers.open({
  ...{ config: readAgentConfig(flags), flags, run: "run", answerMs: 4000 },
  log: (_: string, text: string) => {
    log.push(text);
    if (isStuck) writeSync(2, `${text}\n`);
  },
  onObservation: ({ flow, record: r }) => {
    const ends = [`${r.src_ip}:${r.src_port}`, `${r.dst_ip}:${r.dst_port}`];
    by[[r.proto, ...ends.toSorted()].join(" ")] ??= flow.split(".")[0]!;
  },
  onCoverage: (row) => covered.push(row),
  worker: new URL("faulty-watcher.ts", import.meta.url),
});
workers.begin();

async function until(what: string, is: () => boolean): Promise<void> {
  for (let waited = 0; !is(); waited += 20) {
    if (waited > 20_000) throw new Error(`never: ${what}\n${log.join("\n")}`);
    await sleep(20);
  }
}

const metrics = agentMetrics(workers, {} as Uplink);
const channel = new BroadcastChannel("fault");
const { frames, flows, strays } = mixedTraffic(7, 8, 60_000);
const [sender, other] = [new FrameSender("sa0", frames), new FrameSender("sa1", frames)];

async function send(): Promise<number> {
  let sent = 0;
  for (let at = 0; at < frames.length; at += 200) {
    sent += sender.send(at, Math.min(frames.length, at + 200));
    await sleep(2);
  }
  await sleep(200); // the kernel hands over what it has
  return sent;
}

/** Has coverage told, until both of the interfaces' rows are of this time. */
async function tell(): Promise<Coverage[]> {
  const now = Date.now();
  const isTold = (name: string) =>
    covered.some((row) => row.interface === name && row.to_ms >= now);
  await until("coverage", () => {
    workers.tellCoverage();
    return isTold("sb0") && isTold("sb1");
  });
  const told = covered.filter((row) => row.interface === "sb0");
  covered = [];
  return told;
}

/** What the process has open, and what the kernel says of packet sockets here. */
function open(): Record<string, number> {
  const maps = readFileSync("/proc/self/maps", "latin1").trim().split("\n");
  const packet = readFileSync("/proc/net/packet", "latin1").trim().split("\n");
  return {
    descriptors: readdirSync("/proc/self/fd").length,
    rings: maps.filter((line) => line.includes("socket:[")).length,
    sockets: packet.length - 1,
  };
}

/** Of each worker the run of its thread: a new one, behind each end, gets the next number. */
function runs(): string[] {
  const numbers = [1, 2, 3];
  const ends = log.flatMap((line) => /^worker (\d) (?:ended|does not start)/.exec(line)?.[1] ?? []);
  ends.forEach((worker, i) => (numbers[Number(worker) - 1] = 4 + i));
  return numbers.map((number) => `runw${number}`);
}
const said = (text: string) => log.filter((line) => line.includes(text)).length;

type Fault = { faults: Record<number, string>; atStart?: boolean; text: string };

async function fail({ faults: planted, atStart, text }: Fault): Promise<object> {
  const before = await tell();
  const failing = Object.keys(planted).map(Number);
  if (atStart) process.env["FAULT_AT_START"] = "1";
  const ended = said(text);
  const watching = failing.map((i) => said(`worker ${i + 1}: watching sb0`));
  for (const i of failing) channel.postMessage(`${runs()[i]} ${planted[i]}`);
  await sleep(100);
  const isHung = text.includes("answered");
  const during = isHung ? await send() : 0;
  if (!isHung) other.send(0, 500); // by which some faults come out
  await until(text, () => {
    if (isHung) workers.tellCoverage();
    return said(text) === ended + failing.length;
  });
  if (atStart) {
    await until("does not start", () => said("planted at the start") > 0);
    delete process.env["FAULT_AT_START"];
  }
  await until("started anew", () =>
    failing.every((i, at) => said(`worker ${i + 1}: watching sb0`) > watching[at]!),
  );
  await sleep(200);
  const gap = await tell();
  const sent = await send();
  const after = await tell();
  const totals = [before, gap, after].map((rows) =>
    rows.reduce((sum, r) => sum + r.delivered + r.cut_off + r.dropped, 0),
  );
  const spans = [...before, ...gap, ...after].map((r) => [r.from_ms, r.to_ms]);
  const metric = await metrics.getSingleMetricAsString("wireproof_agent_worker_faults_total");
  const faults = Number(metric.trim().split(" ").at(-1));
  return { text, during, sent, totals, spans, faults, open: open() };
}

await sleep(300);
await tell();
if (isStuck) {
  channel.postMessage("runw2 stuck");
  for (;;) {
    await sleep(50);
    workers.tellCoverage();
  }
}
const first = { sent: await send(), open: open() };
const hung = "has not answered for 4 s";
const steps = [];
for (const step of [
  { faults: { 1: "frame" }, text: "worker 2 ended: planted" },
  { faults: { 1: "memory" }, text: "reaching memory limit" },
  { faults: { 1: "frame" }, atStart: true, text: "worker 2 ended: planted" },
  { faults: { 1: "loop", 2: "wait" }, text: hung },
  { faults: { 1: "memory" }, text: "reaching memory limit" },
  { faults: { 0: "frame" }, text: "worker 1 ended: planted" },
] as Fault[]) {
  steps.push(await fail(step));
}
await workers.end();
const last = open();
const result = { first, steps, last, flows, strays, by, log };
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
