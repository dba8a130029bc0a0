/** Measures live capture over a veth, each tier beside the others, as lines of a report. */
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

const TIERS = ["ring-cutoff", "ring", "libpcap"] as const;
/** Seconds of each measurement. */
const SECONDS = 6;
const BYTES = 200;
const FLOWS = 1000;
const RATES = [125_000, 250_000, 500_000];
/** Milliseconds until an agent has started whole, its waiting thread too. */
const START_MS = 1500;
/** Alternations with and without an agent, for its cost to the traffic. */
const ALTERNATIONS = 6;

const ROOT = path.join(import.meta.dirname, "../..");
const netns = `wpb${process.pid.toString(36)}`;
const peer = `${netns}p`;

type Counts = {
  share: number;
  delivered: number;
  cutOff: number;
  dropped: number;
  rssMib: number;
};
type Sent = { sent: number; seconds: number };

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const number = (n: number) => Math.round(n).toLocaleString("en-US");
const percent = (share: number) => `${(share * 100).toFixed(1)} %`;

function ip(args: string): void {
  const { status, stderr } = spawnSync("ip", args.split(" "), { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args}: ${stderr}`);
}

/** A script of ours in the namespace, built where there is a build. */
function script(name: string, args: readonly string[]): string[] {
  const built = path.join(ROOT, "dist/scripts/bench", `${name}.js`);
  const file = existsSync(built) ? built : path.join(ROOT, "scripts/bench", `${name}.ts`);
  return [...inside(netns), process.execPath, "--max-semi-space-size=8", file, ...args];
}

const inside = (name: string) => ["ip", "netns", "exec", name];

function json<T>(argv: readonly string[]): T {
  const { stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: "utf8" });
  if (stdout === "") throw new Error(`${argv.join(" ")}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** An agent's line that captures; each `ask` tells what came since the last. */
class Watching {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterableIterator<string>;

  private constructor(tier: string) {
    const [command, ...args] = script("watching", [tier, "wpw."]);
    this.#child = spawn(command!, args, { cwd: ROOT, stdio: ["pipe", "pipe", "ignore"] });
    children.add(this.#child);
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  static async start(tier: string): Promise<Watching> {
    const watching = new Watching(tier);
    await watching.ask();
    await sleep(START_MS);
    await watching.ask();
    return watching;
  }

  async ask(): Promise<Counts> {
    this.#child.stdin!.write("\n");
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the capture ended");
    return JSON.parse(value as string) as Counts;
  }

  async end(): Promise<void> {
    this.#child.stdin!.end();
    if (this.#child.exitCode === null) await once(this.#child, "exit");
    children.delete(this.#child);
  }
}
const children = new Set<ChildProcess>();

/** One tier at one rate. */
async function atRate(tier: string, rate: number): Promise<Counts & Sent> {
  const watching = await Watching.start(tier);
  const load = (seconds: number, port: number) =>
    json<Sent>(script("load", ["wps0", rate, seconds, BYTES, FLOWS, port].map(String)));
  load(1, 8001); // other connections, by which the engine warms up
  await sleep(300);
  await watching.ask();
  const sent = load(SECONDS, 8002);
  await sleep(300); // the last block
  const counts = await watching.ask();
  await watching.end();
  return { ...counts, ...sent, share: (counts.share * (sent.seconds + 0.3)) / sent.seconds };
}

type Iperf = { end: { sum_received: { bits_per_second: number } } };

function iperf(seconds: number): number {
  const args = ["iperf3", "-c", "10.77.0.2", "-t", String(seconds), "-J"];
  return json<Iperf>([...inside(netns), ...args]).end.sum_received.bits_per_second / 1e9;
}

async function bulk(): Promise<string[]> {
  if (spawnSync("which", ["iperf3"]).status !== 0) return ["\nBulk TCP: iperf3 is not installed."];
  const [command, ...args] = [...inside(peer), "iperf3", "-s"];
  const server = spawn(command!, args, { stdio: "ignore" });
  children.add(server);
  await sleep(500);
  const lines = ["\nBulk TCP through iperf3, one connection:\n"];
  lines.push("| tier | Gbit/s | of a core | handed over | cut off | dropped |");
  lines.push("| --- | ---: | ---: | ---: | ---: | ---: |");
  for (const tier of TIERS) {
    const watching = await Watching.start(tier);
    const rate = iperf(SECONDS);
    const c = await watching.ask();
    await watching.end();
    const counts = [c.delivered, c.cutOff, c.dropped].map(number).join(" | ");
    lines.push(`| ${tier} | ${rate.toFixed(1)} | ${percent(c.share)} | ${counts} |`);
  }
  const ratios: number[] = [];
  for (let i = 0; i < ALTERNATIONS; i++) {
    const without = iperf(1);
    const watching = await Watching.start("ring-cutoff");
    ratios.push(iperf(1) / without);
    await watching.end();
  }
  ratios.sort((a, b) => a - b);
  const [least, middle, most] = [0, ALTERNATIONS >> 1, ALTERNATIONS - 1].map((i) => ratios[i]!);
  lines.push(`\nIts rate with ring-cutoff, to that without an agent just before: median`);
  lines.push(
    `${middle!.toFixed(2)} (${least!.toFixed(2)} to ${most!.toFixed(2)}) of ${ALTERNATIONS}.`,
  );
  server.kill();
  children.delete(server);
  return lines;
}

async function idle(): Promise<string> {
  const shares: string[] = [];
  for (const tier of TIERS) {
    const watching = await Watching.start(tier);
    await sleep(4000);
    const { share, rssMib } = await watching.ask();
    shares.push(`${tier} ${(share * 100).toFixed(2)} % of a core, RSS ${number(rssMib)} MiB`);
    await watching.end();
  }
  return `\nIdle: ${shares.join("; ")} (of the rings' 32 are the ring itself).`;
}

/** The whole section; says why where it is left out. */
export async function liveReport(): Promise<string[]> {
  const title = "\n## Live, on a veth\n";
  const isRoot = process.getuid?.() === 0 && spawnSync("unshare", ["--net", "true"]).status === 0;
  if (!isRoot) return [title, "Left out: network namespaces need root."];
  const cleanUp = () => {
    for (const child of children) child.kill();
    for (const name of [netns, peer]) spawnSync("ip", ["netns", "del", name]);
  };
  process.once("exit", cleanUp);
  for (const name of [netns, peer]) ip(`netns add ${name}`);
  for (const name of [netns, peer]) {
    const quiet = ["all", "default"].map((which) => `net.ipv6.conf.${which}.disable_ipv6=1`);
    spawnSync("ip", ["netns", "exec", name, "sysctl", "-qw", ...quiet]);
  }
  ip(`-n ${netns} link add wps0 type veth peer name wpw0`);
  ip(`-n ${netns} link add wpw1 type veth peer name eth0 netns ${peer}`);
  for (const name of ["lo", "wps0", "wpw0", "wpw1"]) ip(`-n ${netns} link set ${name} up`);
  ip(`-n ${peer} link set eth0 up`);
  ip(`-n ${netns} addr add 10.77.0.1/24 dev wpw1`);
  ip(`-n ${peer} addr add 10.77.0.2/24 dev eth0`);
  const lines = [title];
  lines.push(`Segments of ${BYTES} bytes of ${number(FLOWS)} new TCP connections, ${SECONDS} s;`);
  lines.push("CPU of the whole process, user and system; the sender and the kernel's side of");
  lines.push("reception are not in it. Sent = handed over + cut off + dropped, in every row.\n");
  lines.push("| tier | packets/s | of a core | handed over | cut off | dropped |");
  lines.push("| --- | ---: | ---: | ---: | ---: | ---: |");
  for (const rate of RATES) {
    for (const tier of TIERS) {
      const c = await atRate(tier, rate);
      const isWhole = c.delivered + c.cutOff + c.dropped === c.sent;
      const counts = [c.delivered, c.cutOff, c.dropped].map(number).join(" | ");
      const reached = number(c.sent / c.seconds);
      const told = isWhole ? "" : ` (of ${number(c.sent)} sent)`;
      lines.push(`| ${tier} | ${reached} | ${percent(c.share)} | ${counts}${told} |`);
    }
  }
  lines.push(...(await bulk()), await idle());
  cleanUp();
  return lines;
}
