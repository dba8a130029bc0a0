/**
 * Measures the agent's reading (packets per CPU-second beside other tools on the same file, and
 * beside an earlier state of the project), collections per million packets, starts, how long
 * policies take to compile and to be asked, and the live agent. Writes test/bench/results.md; with
 * names of parts, as in `npm run bench -- inspect start`, it measures only those and prints them.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import path from "node:path";
import { BEFORE, checkOutBefore } from "./bench/before.ts";
import { writeCapture } from "./bench/capture.ts";
import type { Made } from "./bench/capture.ts";
import { liveReport } from "./bench/live.ts";
import { ROOT, script, wireproof } from "./bench/program.ts";
import { startReport } from "./bench/start.ts";
import { timeInTurn } from "./bench/timing.ts";
import type { Command, Took } from "./bench/timing.ts";

/** `large` is eight times `inspect`, and takes as much longer. */
const PARTS = ["inspect", "large", "start", "policy", "live"] as const;
const asked = process.argv.slice(2);
const unknown = asked.find((part) => !(PARTS as readonly string[]).includes(part));
if (unknown !== undefined) {
  console.error(`bench: ${unknown} is no part; those are ${PARTS.join(", ")}`);
  process.exit(2);
}
const isAsked = (part: (typeof PARTS)[number]) => asked.length === 0 || asked.includes(part);

const CACHE = path.join(ROOT, "node_modules/.cache/wireproof");
const RUNS = 5;
/** Flows of the smaller captures, and how many times that the larger have. */
const FLOWS = 20_000;
const GROWTH = 8;

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

/** What each tool took, and for how many flows. */
type Read = { flows: number; took: ReadonlyMap<string, Took | null> };

const OWN = "wireproof inspect";
const TSHARK = "tshark, TLS fields";

async function table(name: string, bulk: boolean, count: number): Promise<Read> {
  const { file, packets, flows } = await captureOf(name, bulk, count);
  const mib = statSync(file).size / 2 ** 20;
  const args = ["inspect", "--format", "jsonl", file];
  const fields = ["-Y", "tls.handshake", "-T", "fields", "-e", "tls.handshake.ja3"];
  const commands: Command[] = [
    { name: OWN, argv: wireproof("inspect", args.slice(1)) },
    { name: "its start", argv: wireproof("inspect", ["--help"]) },
    ...(before
      ? [
          { name: `${BEFORE}`, argv: [before.launcher, ...args] },
          { name: `${BEFORE}, built`, argv: [before.built, ...args] },
        ]
      : []),
    { name: "tcpdump -w /dev/null", argv: ["tcpdump", "-r", file, "-w", "/dev/null"] },
    { name: "ndpiReader", argv: ["ndpiReader", "-i", file] },
  ];
  const took = timeInTurn(commands, RUNS);
  for (const [tool, one] of timeInTurn(
    [{ name: TSHARK, argv: ["tshark", "-r", file, ...fields] }],
    1,
  )) {
    took.set(tool, one);
  }
  const own = took.get(OWN);
  if (!own) throw new Error(`bench: ${OWN} fails on ${file}`);
  print(`\n${number(packets)} packets, ${number(flows)} flows, ${number(mib)} MiB (${name}):\n`);
  print("| tool | CPU seconds | wall seconds | packets per CPU-second | CPU, times Wireproof's |");
  print("| --- | ---: | ---: | ---: | ---: |");
  for (const [tool, one] of took) {
    if (one === null) print(`| ${tool} | not installed | | | |`);
    else {
      const cells = [one.cpu.toFixed(2), one.wall.toFixed(2), number(packets / one.cpu)];
      if (tool === "its start") cells[2] = "";
      print(`| ${[tool, ...cells, (one.cpu / own.cpu).toFixed(2)].join(" | ")} |`);
    }
  }
  const idle = took.get("its start")?.cpu ?? 0;
  print(`\nA flow, its packets and all told: ${((1e6 * (own.cpu - idle)) / flows).toFixed(1)} µs.`);
  took.delete("its start");
  return { flows, took };
}

/** What the flows cost that one capture has more than another: the engine has compiled by then. */
function printGrowth(few: Read, many: Read): void {
  const flows = many.flows - few.flows;
  const more = (tool: string) =>
    (many.took.get(tool)?.cpu ?? NaN) - (few.took.get(tool)?.cpu ?? NaN);
  const own = more(OWN);
  const ratios = [...many.took.keys()].slice(1).flatMap((tool) => {
    const ratio = more(tool) / own;
    return Number.isFinite(ratio) ? [`${tool} ${ratio.toFixed(1)} times that`] : [];
  });
  print(`\nThe ${number(flows)} flows that it has more than the one before took`);
  print(`${((1e6 * own) / flows).toFixed(1)} µs each; ${ratios.join(", ")}.`);
}

const HELD_AGAINST = ["inspect", "large", "start"] as const;
const before = HELD_AGAINST.some(isAsked) ? checkOutBefore() : null;
print("# Bench\n");
print(`${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC, Node ${process.version},`);
print(`${cpus().length} × ${cpus()[0]!.model}, ${number(totalmem() / 2 ** 30)} GiB,`);
print(
  `load ${loadavg()
    .map((l) => l.toFixed(2))
    .join(" ")} when begun; ${built ? "built" : "sources"};`,
);
print(`medians of ${RUNS} runs in turn, tshark one. Recorded flows of real servers and clients,`);
print("multiplied.");
try {
  await inspectReport();
  if (isAsked("start")) await startReport(print, before);
} finally {
  before?.remove();
}
if (isAsked("policy")) policyReport();
if (isAsked("live")) await liveReport(print);
if (asked.length === 0) {
  writeFileSync(path.join(ROOT, "test/bench/results.md"), `${lines.join("\n")}\n`);
}

async function inspectReport(): Promise<void> {
  for (const [name, bulk] of [
    ["mixed", true],
    ["handshakes", false],
  ] as const) {
    const few = isAsked("inspect") ? await table(name, bulk, FLOWS) : null;
    const many = isAsked("large") ? await table(name, bulk, FLOWS * GROWTH) : null;
    if (few && many) printGrowth(few, many);
  }
  if (!isAsked("inspect")) return;
  const garbage = spawnSync(
    process.execPath,
    ["--max-semi-space-size=1", path.join(ROOT, "test/agent/without-garbage.ts")],
    { encoding: "utf8" },
  );
  const { decodeAndFlow, wholeLine } = JSON.parse(garbage.stdout) as Record<string, number>;
  print(`\nCollections in a million packets: ${decodeAndFlow} in decode and flow,`);
  print(`${wholeLine} in the line for flows whose opening was read.`);
}

function policyReport(): void {
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
}
