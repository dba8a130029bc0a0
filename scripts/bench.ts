/**
 * Measures the agent's reading (packets per CPU-second beside other tools on the same file),
 * collections per million packets, how long policies take to compile and to be asked, and the live
 * agent. Writes test/bench/results.md.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import path from "node:path";
import { writeCapture } from "./bench/capture.ts";
import type { Made } from "./bench/capture.ts";
import { liveReport } from "./bench/live.ts";
import { ROOT, script, wireproof } from "./bench/program.ts";

const CACHE = path.join(ROOT, "node_modules/.cache/wireproof");
const RUNS = 4;
/** Flows of the smaller captures, and how many times that the larger have. */
const FLOWS = 20_000;
const GROWTH = 8;

type Timed = { seconds: number };

/** Least user and system seconds of a command over a few runs; null where it is not installed. */
function time(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Timed | null {
  if (spawnSync("which", [argv[0]!]).status !== 0) return null;
  let best: Timed | null = null;
  for (let run = 0; run < (argv[0] === "tshark" ? 1 : RUNS); run++) {
    // A shell between measures this command alone: `times` of its children.
    const script = `"$@" > /dev/null 2>&1; times`;
    const { stdout, status } = spawnSync("sh", ["-c", script, "sh", ...argv], {
      encoding: "utf8",
      env: { ...process.env, ...env },
      cwd: ROOT,
    });
    if (status !== 0) return null;
    const children = stdout.split("\n")[1] ?? "";
    const [user, system] = [...children.matchAll(/(\d+)m([\d.]+)s/g)].map(
      (m) => Number(m[1]) * 60 + Number(m[2]),
    );
    const seconds = user! + system!;
    if (best === null || seconds < best.seconds) best = { seconds };
  }
  return best;
}

/** The capture, made once and kept. */
async function captureOf(
  name: string,
  bulk: boolean,
  flows: number,
): Promise<Made & { file: string }> {
  mkdirSync(CACHE, { recursive: true });
  const file = path.join(CACHE, `${name}-${flows}.pcap`);
  const told = `${file}.json`;
  if (!existsSync(file) || !existsSync(told)) {
    console.error(`making ${file}`);
    writeFileSync(told, JSON.stringify(await writeCapture(file, flows, bulk)));
  }
  return { ...(JSON.parse(readFileSync(told, "utf8")) as Made), file };
}

const built = spawnSync("npm", ["run", "build"], { cwd: ROOT }).status === 0;
const lines: string[] = [];
const print = (line: string) => {
  console.log(line);
  lines.push(line);
};

const number = (n: number) => Math.round(n).toLocaleString("en-US");

/** CPU seconds by tool, and how many flows they were for. */
type Took = { flows: number; seconds: ReadonlyMap<string, number> };

async function table(name: string, bulk: boolean, count: number): Promise<Took> {
  const { file, packets, flows } = await captureOf(name, bulk, count);
  const mib = statSync(file).size / 2 ** 20;
  const idle = time(wireproof("inspect", ["--help"]))!.seconds;
  print(`\n${number(packets)} packets, ${number(flows)} flows, ${number(mib)} MiB (${name}):\n`);
  print("| tool | CPU seconds | packets per CPU-second | Wireproof is … times as fast |");
  print("| --- | ---: | ---: | ---: |");
  const seconds = new Map<string, number>();
  let wireproofSeconds = 0;
  const tools: [string, string[]][] = [
    ["wireproof inspect", wireproof("inspect", ["--format", "jsonl", file])],
    ["tcpdump -w /dev/null", ["tcpdump", "-r", file, "-w", "/dev/null"]],
    ["ndpiReader", ["ndpiReader", "-i", file]],
    [
      "tshark, TLS fields",
      ["tshark", "-r", file, "-Y", "tls.handshake", "-T", "fields", "-e", "tls.handshake.ja3"],
    ],
  ];
  for (const [tool, argv] of tools) {
    const timed = time(argv);
    if (!timed) {
      print(`| ${tool} | not installed | | |`);
      continue;
    }
    seconds.set(tool, timed.seconds);
    wireproofSeconds ||= timed.seconds;
    const ratio = (timed.seconds / wireproofSeconds).toFixed(1);
    const rate = number(packets / timed.seconds);
    print(`| ${tool} | ${timed.seconds.toFixed(2)} | ${rate} | ${ratio} |`);
    if (tool.startsWith("wireproof")) {
      const own = timed.seconds - idle;
      const rate = number(packets / own);
      const start = idle.toFixed(2);
      print(`| the same without its start (${start} s) | ${own.toFixed(2)} | ${rate} | |`);
      print(`| a flow, all told | ${((1e6 * own) / flows).toFixed(1)} µs | | |`);
    }
  }
  return { flows, seconds };
}

/** What the flows cost that one capture has more than another: the engine has compiled by then. */
function printGrowth(few: Took, many: Took): void {
  const flows = many.flows - few.flows;
  const more = (tool: string) => (many.seconds.get(tool) ?? NaN) - (few.seconds.get(tool) ?? NaN);
  const own = more("wireproof inspect");
  const ratios = [...many.seconds.keys()].slice(1).flatMap((tool) => {
    const ratio = more(tool) / own;
    return Number.isFinite(ratio) ? [`${tool} ${ratio.toFixed(1)} times that`] : [];
  });
  print(`\nThe ${number(flows)} flows that it has more than the one before took`);
  print(`${((1e6 * own) / flows).toFixed(1)} µs each; ${ratios.join(", ")}.`);
}

print("# Bench\n");
print(`${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC, Node ${process.version},`);
print(`${cpus().length} × ${cpus()[0]!.model}, ${number(totalmem() / 2 ** 30)} GiB,`);
print(
  `load ${loadavg()
    .map((l) => l.toFixed(2))
    .join(" ")} when begun; ${built ? "built" : "sources"};`,
);
print(`least of ${RUNS} runs, tshark one. Recorded flows of real servers and clients, multiplied.`);
for (const [name, bulk] of [
  ["mixed", true],
  ["handshakes", false],
] as const) {
  printGrowth(await table(name, bulk, FLOWS), await table(name, bulk, FLOWS * GROWTH));
}

print("\n2,000 policies of one family over 5,000 pods:\n");
print("| family | namespaces | compiled | one changed | a pair, at first | a pair | RSS |");
print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
for (const family of ["NetworkPolicy", "AdminNetworkPolicy", "Istio", "Calico", "Cilium"]) {
  for (const spaces of ["100", "10"]) {
    const [command, ...args] = script("policy", [family, spaces]);
    const told = spawnSync(command!, args, { cwd: ROOT, encoding: "utf8" });
    const m = JSON.parse(told.stdout) as Record<string, number>;
    const ms = (name: string) => `${number(m[name]!)} ms`;
    const us = (name: string) => `${m[name]!.toFixed(1)} µs`;
    const rest = [ms("changeMs"), us("firstUs"), us("lookupUs"), `${number(m["rssMib"]!)} MiB`];
    print(`| ${[family, spaces, ms("compileMs"), ...rest].join(" | ")} |`);
  }
}

const garbage = spawnSync(
  process.execPath,
  ["--max-semi-space-size=1", path.join(ROOT, "test/agent/without-garbage.ts")],
  { encoding: "utf8" },
);
const { decodeAndFlow, wholeLine } = JSON.parse(garbage.stdout) as Record<string, number>;
print(`\nCollections in a million packets: ${decodeAndFlow} in decode and flow,`);
print(`${wholeLine} in the line for flows whose opening was read.`);
await liveReport(print);
writeFileSync(path.join(ROOT, "test/bench/results.md"), `${lines.join("\n")}\n`);
