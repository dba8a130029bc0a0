/**
 * Captures while pods' interfaces come and go, in the namespace in which it runs, and prints one
 * line of JSON: what was watched, what came on each, and what it cost.
 *
 *     node come-and-go.ts TIER COUNT PODS
 *
 * PODS is the network namespace that the other ends are in. `sa0` sends all the while to `sb0`.
 */
import { spawn } from "node:child_process";
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { CaptureChoice, Watch } from "../../agent/capture/frame-source.ts";
import { openCapture } from "../../agent/capture/tiers.ts";
import { FrameSender } from "../../scripts/bench/sender.ts";
import { mixedTraffic } from "./mixed.ts";

const [tier, count, pods] = process.argv.slice(2) as [CaptureChoice, string, string];
const names = Array.from({ length: Number(count) }, (_, i) => `wb${i}`);
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Runs `ip` on many lines. */
async function ip(lines: readonly string[], netns: readonly string[] = []): Promise<void> {
  const child = spawn("ip", [...netns, "-batch", "-"], { stdio: ["pipe", "ignore", "inherit"] });
  child.stdin.end(lines.join("\n"));
  await new Promise((resolve) => child.on("close", resolve));
}

const opened = new Map<string, Watch>();
const twice: string[] = [];
const ended: Watch[] = [];
const source = openCapture({
  ...{ choice: tier, ringBytes: 32 << 20, flows: 4096, clock: new Float64Array(1) },
  wanted: { pattern: /^(?:sb0|wb\d+)$/, kinds: [] },
  onFrame: () => {},
  onWatch: (watch) => {
    if (opened.has(watch.name)) twice.push(watch.name);
    opened.set(watch.name, watch);
  },
  onChange: () => ended.push(...source.rescan()),
  log: () => {},
});
// The kernel tells of something before anybody asked for frames.
await ip(["link set sa0 txqueuelen 500"]);
await sleep(200);
const early = opened.size;
source.rescan();
const steady = new FrameSender("sa0", mixedTraffic(3, 1, 0).frames);
let sent = 0;
const timers = [
  setInterval(() => (sent += steady.send(0, 1)), 2),
  setInterval(() => ended.push(...source.rescan()), 1000),
];
await sleep(200);
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
const before = process.cpuUsage();
const startMs = performance.now();

await ip(names.map((name, i) => `link add ${name} type veth peer name p${i} netns ${pods}`));
await ip(names.map((name) => `link set ${name} up`));
await ip(names.map((name, i) => `route add 10.77.${i >> 8}.${i & 255}/32 dev ${name}`));
for (let i = 0; i < 300 && opened.size < names.length + 1; i++) await sleep(10);
await sleep(200);
const born = performance.now() - startMs;
const watched = names.filter((name) => opened.has(name)).length;
const addressed = names.filter((name, i) => {
  return String(opened.get(name)?.addresses) === `10.77.${i >> 8}.${i & 255}`;
}).length;
// Each end of a pod says hello, three times.
const hello = 'import {FrameSender as S} from "./scripts/bench/sender.ts";';
const frame = "new Uint8Array(60).fill(2,0,12)";
const send = `for (let i=0;i<${count};i++) { const s=new S("p"+i,[${frame}]);
  for (let n=0;n<3;n++) s.send(); s.close(); }`;
await ip(names.map((_, i) => `link set p${i} up`), ["-n", pods]); // prettier-ignore
const sender = spawn(
  "ip",
  [...["netns", "exec", pods, process.execPath, "--input-type=module"], "-e", hello + send],
  { stdio: ["ignore", "ignore", "inherit"] },
);
await new Promise((resolve) => sender.on("close", resolve));
await sleep(300);
source.watches();
const greeted = names.filter((name) => opened.get(name)?.delivered === 3).length;
const deleteMs = performance.now();
await ip([`netns del ${pods}`]); // and with it one end of each pair, so all of them
for (let i = 0; i < 500 && ended.length < names.length; i++) await sleep(10);
const died = performance.now() - deleteMs;
const { user, system } = process.cpuUsage(before);
delay.disable();
timers.forEach(clearInterval);
await sleep(200);
source.rescan();
const told = {
  ...{ early, watched, addressed, greeted, twice, dropped: source.droppedOnAny() },
  ended: new Set(ended.map((watch) => watch.name)).size,
  endedGreeted: ended.filter((watch) => watch.delivered === 3).length,
  left: source.watches().map((watch) => watch.name),
  steady: { sent, seen: opened.get("sb0")!.delivered + opened.get("sb0")!.cutOff },
  bornMs: Math.round(born),
  diedMs: Math.round(died),
  cpuMs: Math.round((user + system) / 1000),
  longestStallMs: Math.round(delay.max / 1e6),
};
source.close();
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
