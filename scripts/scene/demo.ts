/** Runs the main job on the scene: agents, collector, verdicts, and the proof's check. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ConfigError } from "../../protocol/config-error.ts";
import { createKeys } from "../../collector/evidence/log.ts";
import { formatReport, verifyLog } from "../../collector/evidence/verify.ts";
import { initCa, issue } from "../../collector/pki.ts";
import type { FindingsAnswer, VerdictsAnswer } from "../../collector/api/answers.ts";
import { Cluster } from "./cluster.ts";
import { readExpectation } from "./expectation.ts";
import { MANIFESTS, readPlan } from "./plan.ts";
import { checkCases, formatCase, formatVerdicts } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";

export type DemoOptions = { once: boolean; port: number; replay: boolean };

const ROOT = path.resolve(import.meta.dirname, "..", "..");
const RECORDING = path.join(ROOT, "test", "golden", "scene.pcapng");
/** A window holds every client's round at least once (`ROUND_MS`), and ends soon enough to wait. */
const WINDOW_MS = 5_000;
/** Flows are final two seconds after their end, and batches leave each second. */
const CLOSE_MS = 3_500;
const ONCE_LIMIT_MS = 60_000;
const TRUST_DOMAIN = "demo.wireproof";

type Running = { stop(): Promise<void>; driven: Promise<void> };

/** Resolves to the exit code; Ctrl-C removes everything that was made. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const say = (line: string) => process.stdout.write(`${line}\n`);
  const { port } = options;
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new ConfigError("CONFIG_PORT", "demo: --port must be a number, 0 to 65535");
  }
  const isLive = !options.replay && process.getuid?.() === 0;
  if (!isLive) {
    const why = options.replay ? "--replay" : "not root";
    say(`${why}: replaying the recorded scene, without the cases that need a live kernel`);
    if (!existsSync(RECORDING)) {
      throw new ConfigError("CONFIG_NO_RECORDING", `demo: ${RECORDING} is not there`);
    }
  }
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-demo-"));
  const stopping = new AbortController();
  const onSignal = () => stopping.abort();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
  const children: ChildProcess[] = [];
  let running: Running | null = null;
  try {
    const cluster = isLive ? await startCluster(say, stopping.signal) : null;
    running = cluster?.running ?? null;
    if (stopping.signal.aborted) return 1;
    const nodes = readPlan()
      .nodes.filter((node) => node.agent)
      .map((node) => node.name);
    const host = cluster?.cluster.hostAddress ?? "127.0.0.1";
    await makeKeys(folder, nodes, host);
    const uplink = `${host}:${isLive ? 7443 : await freePort()}`;
    const api = `127.0.0.1:${port || (await freePort())}`;
    children.push(startCollector(folder, uplink, api));
    await untilHealthy(api, children[0]!, folder);
    for (const node of nodes) {
      const argv = agentCommand(folder, node, uplink, isLive);
      const whole = cluster ? cluster.cluster.inNode(node, argv) : argv;
      children.push(start(folder, `agent-${node}`, whole));
    }
    say(`collector and ${nodes.length} agents run; page: http://${api}/  (logs in ${folder})`);
    if (options.once) return await once(api, folder, isLive, stopping.signal, say);
    await watch(api, folder, isLive, stopping.signal);
    return 0;
  } finally {
    await Promise.all([...children.map(end), running?.stop()]);
    rmSync(folder, { recursive: true, force: true });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, onSignal);
  }
}

async function startCluster(
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<{ cluster: Cluster; running: Running }> {
  say("building a cluster of three nodes in network namespaces");
  const cluster = await Cluster.start({ say });
  const pods = cluster.plan.pods.length;
  say(`${cluster.plan.nodes.length} nodes, ${pods} pods, real servers; traffic begins`);
  const driving = new AbortController();
  signal.addEventListener("abort", () => driving.abort(), { once: true });
  const driven = cluster.drive(driving.signal).catch((error: unknown) => {
    say(`traffic ended: ${String(error)}`);
  });
  const stop = async () => {
    driving.abort();
    await driven;
    await cluster.stop();
  };
  return { cluster, running: { stop, driven } };
}

async function makeKeys(folder: string, nodes: readonly string[], host: string): Promise<void> {
  const pki = path.join(folder, "pki");
  await initCa(pki, TRUST_DOMAIN);
  await issue(pki, { ip: [host], days: 1 });
  for (const node of nodes) await issue(pki, { agent: node, days: 1 });
  createKeys(path.join(folder, "keys"), "demo.wireproof/log");
}

const wireproof = (...args: string[]) => [path.join(ROOT, "wireproof"), ...args];

function startCollector(folder: string, uplink: string, api: string): ChildProcess {
  const pki = (name: string) => path.join(folder, "pki", name);
  return start(folder, "collector", [
    ...wireproof("collector", "--uplink", uplink, "--api", api),
    ...["--key", pki("collector-key.pem"), "--cert", pki("collector.pem"), "--ca", pki("ca.pem")],
    ...["--trust-domain", TRUST_DOMAIN, "--data", path.join(folder, "data")],
    ...["--evidence-key", path.join(folder, "keys", "evidence.key"), "--manifests", MANIFESTS],
    ...["--window", String(WINDOW_MS), "--close", String(CLOSE_MS)],
  ]);
}

function agentCommand(folder: string, node: string, uplink: string, isLive: boolean): string[] {
  const pki = (name: string) => path.join(folder, "pki", name);
  return [
    ...wireproof("agent", "--node", node, "--collector", `wss://${uplink}`),
    ...["--key", pki(`${node}-key.pem`), "--cert", pki(`${node}.pem`), "--ca", pki("ca.pem")],
    ...["--trust-domain", TRUST_DOMAIN, "--spool", path.join(folder, `spool-${node}`)],
    ...["--coverage-interval", "500", "--report-interval", "2000"],
    ...(isLive ? ["--interfaces", "wp.*"] : ["--replay", RECORDING]),
  ];
}

/** Starts a process whose output goes to a file of the folder. */
function start(folder: string, name: string, argv: readonly string[]): ChildProcess {
  const log = openSync(path.join(folder, `${name}.log`), "a");
  // Should the demo be killed, its processes are told to end: nobody else would.
  const whole = ["--pdeathsig", "TERM", "--", ...argv];
  return spawn("setpriv", whole, { stdio: ["ignore", log, log], cwd: ROOT });
}

/** Asks a process to end, by its id, and kills it when it takes too long. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
  await gone;
  clearTimeout(timer);
}

async function untilHealthy(api: string, collector: ChildProcess, folder: string): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (collector.exitCode !== null) {
      const told = readFileSync(path.join(folder, "collector.log"), "utf8").slice(-2000);
      throw new ConfigError("CONFIG_DEMO", `demo: the collector ended at its start:\n${told}`);
    }
    const found = await fetch(`http://${api}/healthz`).catch(() => null);
    if (found?.ok) return;
    await sleep(100);
  }
  throw new ConfigError("CONFIG_DEMO", "demo: the collector did not begin to serve in 10 s");
}

/** The newest window's cases; null before there is one. */
async function ask(api: string, isLive: boolean): Promise<Outcome | null> {
  const get = async (route: string) => {
    const response = await fetch(`http://${api}${route}`);
    if (!response.ok) throw new Error(`${route}: ${response.status} ${await response.text()}`);
    return (await response.json()) as unknown;
  };
  const verdicts = (await get("/api/verdicts?limit=20000")) as VerdictsAnswer;
  if (verdicts.from === null) return null;
  const range = `from=${verdicts.from}&to=${verdicts.to}`;
  const findings = (await get(`/api/findings?${range}`)) as FindingsAnswer;
  const { cases } = readExpectation();
  return checkCases(
    isLive ? cases : cases.filter((c) => !c.needs_live),
    isLive ? [] : cases.filter((c) => c.needs_live),
    verdicts,
    findings,
  );
}

/** Waits for a window in which every case came out, prints it, and checks the evidence. */
async function once(
  api: string,
  folder: string,
  isLive: boolean,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<number> {
  const until = Date.now() + ONCE_LIMIT_MS;
  let best: Outcome | null = null;
  let seen = "";
  let windows = 0;
  let failure = "";
  while (Date.now() < until && !signal.aborted) {
    await sleep(250, signal);
    const outcome = await ask(api, isLive).catch((error: unknown) => {
      failure = `${String(error)}\n`;
      return null;
    });
    if (!outcome || outcome.from === seen) continue;
    seen = outcome.from;
    // The first window began before the agents did.
    if (!best || outcome.asDeclared >= best.asDeclared) best = outcome;
    windows++;
    if (outcome.asDeclared === outcome.results.length || windows >= 4) break;
  }
  if (signal.aborted) {
    say("stopped before every case came out");
    return 1;
  }
  if (!best) {
    say(`no window was judged in time; ${failure}the last lines of the collector:`);
    say(readFileSync(path.join(folder, "collector.log"), "utf8").slice(-3000));
    return 1;
  }
  say(formatVerdicts(best));
  for (const result of best.results) say(formatCase(result));
  for (const left of best.leftOut) say(`left out  ${left.id}: ${left.title} (needs a live kernel)`);
  const report = verifyLog(
    path.join(folder, "data", "evidence"),
    path.join(folder, "keys", "evidence.pub"),
  );
  say(formatReport(report).trimEnd());
  say(`${best.asDeclared} of ${best.results.length} cases as declared`);
  return report.ok && best.asDeclared === best.results.length ? 0 : 1;
}

/** Redraws the newest window's table until it is stopped. */
async function watch(
  api: string,
  folder: string,
  isLive: boolean,
  signal: AbortSignal,
): Promise<void> {
  let seen = "";
  process.stdout.write(`waiting for the first window (${WINDOW_MS / 1000} s); Ctrl-C ends\n`);
  while (!signal.aborted) {
    await sleep(500, signal);
    const outcome = await ask(api, isLive).catch(() => null);
    if (!outcome || outcome.from === seen) continue;
    seen = outcome.from;
    if (process.stdout.isTTY) process.stdout.write("\x1b[2J\x1b[H");
    const lines = outcome.results.map(formatCase).join("\n");
    process.stdout.write(`${formatVerdicts(outcome)}\n${lines}\n`);
    const counted = `${outcome.asDeclared} of ${outcome.results.length} cases as declared`;
    process.stdout.write(`${counted}; page: http://${api}/; logs: ${folder}; Ctrl-C ends\n`);
  }
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

async function freePort(): Promise<number> {
  const { createServer } = await import("node:net");
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}
