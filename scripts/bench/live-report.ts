/**
 * Measures the agent as it is shipped, over a veth of the namespace in which this runs.
 *
 *     node live-report.ts KEYS_FOLDER OTHER_NAMESPACE [SECTION …]
 */
import { spawn, spawnSync } from "node:child_process";
import { AgentUnderTest, endAll, start, startSink } from "./agent.ts";
import type { Counts } from "./agent.ts";
import { CpuLimit } from "./cpu-limit.ts";
import { script } from "./program.ts";

const [folder, peer, ...wanted] = process.argv.slice(2) as [string, string, ...string[]];

const TIERS = ["ring-cutoff", "ring", "libpcap"] as const;
/** Seconds of each measurement. */
const SECONDS = 6;
const BYTES = 200;
const FLOWS = 1000;
/** From one to eight times the load. */
const PACKETS_PER_SECOND = [62_500, 125_000, 250_000, 500_000];
const CONNECTIONS_PER_SECOND = [2_500, 5_000, 10_000, 20_000];
/** More than the sender can: what comes is the most that it does. */
const MOST = 100_000;
/** Of a core: a limit as containers of this kind often have one. */
const CPU_LIMIT = 0.25;
/** Connections a second, and how many: by then the engine has compiled what it will. */
const WARM_UP = [10_000, 60_000] as const;
/** Where the CPU is limited: slower, over the same time. */
const WARM_UP_LIMITED = [4_000, 24_000] as const;
const OPEN_FLOWS = [100_000, 1_000_000];
/** Pairs with and without an agent, for its cost to the traffic; runs of each, their seconds. */
const PAIRS = 20;
const RUNS = 2;
const RUN_SECONDS = 2;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const number = (n: number) => Math.round(n).toLocaleString("en-US");
const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
const row = (...cells: (string | number)[]) =>
  console.log(`| ${cells.map((c) => (typeof c === "number" ? number(c) : c)).join(" | ")} |`);
function head(...names: string[]): void {
  row(...names);
  row("---", ...names.slice(1).map(() => "---:"));
}

type Sent = { sent: number; connections: number; seconds: number };

/** Runs a sender beside this process, which goes on asking. */
function send(name: string, args: readonly (string | number)[]): Promise<Sent> {
  const [command, ...rest] = script(name, args);
  const child = spawn(command!, rest, { stdio: ["ignore", "pipe", "inherit"] });
  let told = "";
  child.stdout.on("data", (part: Buffer) => (told += part.toString()));
  return new Promise((resolve) => child.once("close", () => resolve(JSON.parse(told) as Sent)));
}

/** The kernel hands over the last block when it times out. */
async function settled(agent: AgentUnderTest): Promise<Counts> {
  await sleep(400);
  return agent.ask();
}

const isWhole = (c: Counts, sent: number) => c.delivered + c.cutOff + c.dropped === sent;

async function segments(): Promise<void> {
  console.log(`Segments of ${BYTES} bytes of ${number(FLOWS)} new TCP connections, ${SECONDS} s;`);
  console.log("CPU of the whole agent, user and system; the sender and the kernel's side of");
  console.log("reception are not in it. Sent = handed over + cut off + dropped, in every row.\n");
  head("tier", "packets/s", "of a core", "handed over", "cut off", "dropped");
  for (const rate of PACKETS_PER_SECOND) {
    for (const tier of TIERS) {
      const agent = await AgentUnderTest.start(folder, tier);
      const load = (seconds: number, port: number) =>
        send("load", ["wps0", rate, seconds, BYTES, FLOWS, port]);
      await load(1, 8001); // other connections, by which the engine warms up
      await settled(agent);
      const { sent, seconds } = await load(SECONDS, 8002);
      const c = await settled(agent);
      await agent.end();
      const told = isWhole(c, sent) ? "" : ` (of ${number(sent)} sent)`;
      const share = percent(c.cpuSeconds / seconds);
      row(tier, sent / seconds, share, c.delivered, c.cutOff, `${number(c.dropped)}${told}`);
    }
  }
}

async function connections(): Promise<void> {
  console.log("\nNew connections of recorded clients and servers, three of four of them TLS, each");
  console.log(`from its SYN to its end, ${SECONDS} s; the agent brings every one to a collector.`);
  console.log("The last row is the most that one sender can:\n");
  await connectionTable([...CONNECTIONS_PER_SECOND, MOST]);
  console.log("\nA sample of every eighth connection, as `--sampling 1/8` has it:\n");
  await connectionTable(CONNECTIONS_PER_SECOND.slice(-1), null, ["--sampling", "1/8"]);
  const limit = CpuLimit.make(CPU_LIMIT);
  if (typeof limit === "string") return console.log(`\nUnder a CPU limit: left out, ${limit}`);
  console.log(
    `\nThe same under a limit of ${CPU_LIMIT} of a core, beyond which frames are dropped:\n`,
  );
  try {
    await connectionTable(CONNECTIONS_PER_SECOND, limit);
  } finally {
    limit.close();
  }
}

async function connectionTable(
  rates: readonly number[],
  limit: CpuLimit | null = null,
  more: readonly string[] = [],
): Promise<void> {
  const flags = ["--flows", "262144", ...more];
  head("new/s", "packets/s", "of a core", "CPU of one", "read", "dropped", "rows sent");
  for (const rate of rates) {
    const agent = await AgentUnderTest.start(folder, "ring-cutoff", flags, limit);
    const warmUp = limit ? WARM_UP_LIMITED : WARM_UP;
    await send("connections", ["wps0", ...warmUp, 0, "whole"]);
    await sleep(4000); // they end, and are told
    await agent.ask();
    const total = Math.min(rate, CONNECTIONS_PER_SECOND.at(-1)!) * SECONDS;
    const { sent, connections, seconds } = await send("connections", [
      ...["wps0", rate, total, 1_000_000, "whole"],
    ]);
    await sleep(4000);
    const c = await agent.ask();
    await agent.end();
    const told = isWhole(c, sent) ? "" : ` (of ${number(sent)} sent)`;
    const each = `${((1e6 * c.cpuSeconds) / connections).toFixed(1)} µs`;
    const read = `${number(c.opened)} of ${number(connections)}`;
    const lost = `${number(c.dropped)}${told}`;
    const share = percent(c.cpuSeconds / seconds);
    row(connections / seconds, sent / seconds, share, each, read, lost, c.observations);
  }
}

async function memory(): Promise<void> {
  console.log(
    "\nConnections that stay open, 10,000 new ones each second; the mapped ring apart:\n",
  );
  head("open", "RSS", "RSS before", "of a core, then quiet");
  for (const flows of OPEN_FLOWS) {
    const flags = flows > 131_072 ? ["--flows", String(flows + 48_576)] : [];
    const agent = await AgentUnderTest.start(folder, "ring-cutoff", flags);
    const { rssMib } = await agent.ask();
    await send("connections", ["wps0", 10_000, flows, 0, "open"]);
    await sleep(3000);
    await agent.ask();
    await sleep(5000);
    const c = await agent.ask();
    await agent.end();
    row(c.flows, `${number(c.rssMib)} MiB`, `${number(rssMib)} MiB`, percent(c.share));
  }
}

type Iperf = { end: { sum_received: { bits_per_second: number } } };

/** Gigabits a second, the first second left out. */
function iperf(seconds: number): number {
  const args = ["-c", "10.77.0.2", "-t", String(seconds), "-O", "1", "-J"];
  const { stdout } = spawnSync("iperf3", args, { encoding: "utf8" });
  return (JSON.parse(stdout) as Iperf).end.sum_received.bits_per_second / 1e9;
}

async function bulk(): Promise<void> {
  if (spawnSync("which", ["iperf3"]).status !== 0) {
    return console.log("\nBulk TCP: iperf3 is not installed.");
  }
  const server = start(["ip", "netns", "exec", peer, "iperf3", "-s"]);
  await sleep(500);
  console.log("\nBulk TCP through iperf3, one connection:\n");
  head("tier", "Gbit/s", "of a core", "handed over", "cut off", "dropped");
  for (const tier of TIERS) {
    const agent = await AgentUnderTest.start(folder, tier);
    iperf(1); // by which the engine warms up
    await sleep(3000); // what it compiles and clears away behind that is not the traffic's
    await agent.ask();
    const rate = iperf(SECONDS);
    const c = await agent.ask();
    await agent.end();
    row(tier, rate.toFixed(1), percent(c.share), c.delivered, c.cutOff, c.dropped);
  }
  await costToTraffic();
  server.kill();
}

async function costToTraffic(): Promise<void> {
  const rate = async () => {
    let sum = 0;
    for (let run = 0; run < RUNS; run++) sum += iperf(RUN_SECONDS);
    return sum;
  };
  const beside = async () => {
    const agent = await AgentUnderTest.start(folder, "ring-cutoff");
    await sleep(1000);
    const sum = await rate();
    await agent.end();
    return sum;
  };
  const ratios: number[] = [];
  for (let pair = 0; pair < PAIRS; pair++) {
    // By turns the one first and the other, so that a drift of the machine favours neither.
    const isFirst = pair % 2 === 0;
    const [first, second] = isFirst
      ? [await beside(), await rate()]
      : [await rate(), await beside()];
    ratios.push(isFirst ? first / second : second / first);
  }
  ratios.sort((a, b) => a - b);
  const at = (share: number) => ratios[Math.round((PAIRS - 1) * share)]!.toFixed(3);
  console.log("\nIts rate with ring-cutoff, to that without an agent beside it: median");
  console.log(
    `${at(0.5)}, quartiles ${at(0.25)} and ${at(0.75)}, of ${PAIRS} pairs (${at(0)} to ${at(1)});`,
  );
  console.log(`in a pair ${RUNS} runs of ${RUN_SECONDS} s each.`);
}

async function idle(): Promise<void> {
  console.log("\nIdle, its collector connected:\n");
  head("tier", "of a core", "RSS, the mapped ring apart");
  for (const tier of TIERS) {
    const agent = await AgentUnderTest.start(folder, tier);
    await sleep(10_000);
    const c = await agent.ask();
    await agent.end();
    row(tier, `${(c.share * 100).toFixed(2)} %`, `${number(c.rssMib)} MiB`);
  }
}

const SECTIONS = { segments, connections, memory, bulk, idle };
await startSink(folder);
try {
  for (const [name, section] of Object.entries(SECTIONS)) {
    if (wanted.length === 0 || wanted.includes(name)) await section();
  }
} finally {
  endAll();
}
