/** Runs the agent as it is shipped, and tells from outside what it counted and what it cost. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import type { CpuLimit } from "./cpu-limit.ts";
import { ROOT, script, wireproof } from "./program.ts";

const SINK_PORT = 7443;
const METRICS = "127.0.0.1:7444";
const RING_MIB = 32;

/** What came between two calls of `ask`. */
export type Counts = {
  /** Of one core, user and system, all threads. */
  share: number;
  cpuSeconds: number;
  seconds: number;
  delivered: number;
  cutOff: number;
  dropped: number;
  opened: number;
  observations: number;
  /** As they are now; the mapped ring is left out. */
  flows: number;
  rssMib: number;
};

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

const children = new Set<ChildProcess>();

export function start(argv: readonly string[], stdout: "pipe" | "ignore" = "ignore"): ChildProcess {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ["ignore", stdout, "inherit"], cwd: ROOT });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

export function endAll(): void {
  for (const child of children) child.kill();
}

/** What acknowledges, in the collector's place; the keys stand in `folder`. */
export async function startSink(folder: string): Promise<void> {
  const sink = start(script("sink", [SINK_PORT, folder]), "pipe");
  await once(sink.stdout!, "data");
}

export class AgentUnderTest {
  readonly #child: ChildProcess;
  readonly #spool: string;
  readonly #hasRing: boolean;
  #before = { atMs: 0, cpuNs: 0, delivered: 0, cutOff: 0, dropped: 0, opened: 0, observations: 0 };

  private constructor(
    folder: string,
    tier: string,
    flags: readonly string[],
    limit: CpuLimit | null,
  ) {
    this.#spool = path.join(folder, `spool-${tier}`);
    this.#hasRing = tier !== "libpcap";
    const keys = (name: string) => path.join(folder, name);
    this.#child = start(
      wireproof("agent", [
        ...["--node", "bench", "--collector", `wss://127.0.0.1:${SINK_PORT}`],
        ...["--key", keys("bench-key.pem"), "--cert", keys("bench.pem"), "--ca", keys("ca.pem")],
        ...["--spool", this.#spool, "--metrics", METRICS, "--log-level", "error"],
        ...["--ring-mib", String(RING_MIB), "--capture", tier, "--interfaces", "wpw."],
        ...flags,
      ]),
    );
    limit?.add(this.#child.pid!);
  }

  static async start(
    folder: string,
    tier: string,
    flags: readonly string[] = [],
    limit: CpuLimit | null = null,
  ): Promise<AgentUnderTest> {
    const agent = new AgentUnderTest(folder, tier, flags, limit);
    const untilMs = performance.now() + 20_000;
    for (;;) {
      const values = await agent.#metrics().catch(() => null);
      if (values !== null && sum(values, "wireproof_agent_connected") === 1) break;
      if (performance.now() > untilMs) throw new Error("the agent does not come up");
      await sleep(100);
    }
    await sleep(1000); // its waiting thread, its first looks
    await agent.ask();
    return agent;
  }

  async #metrics(): Promise<string> {
    const response = await fetch(`http://${METRICS}/metrics`, { headers: { connection: "close" } });
    return response.text();
  }

  /** Nanoseconds that its threads have run. */
  #cpuNs(): number {
    let total = 0;
    for (const thread of readdirSync(`/proc/${this.#child.pid}/task`)) {
      const file = `/proc/${this.#child.pid}/task/${thread}/schedstat`;
      try {
        total += Number(readFileSync(file, "utf8").split(" ")[0]);
      } catch {
        continue; // a thread that has just ended
      }
    }
    return total;
  }

  async ask(): Promise<Counts> {
    const before = this.#before;
    // What asking costs is in none of the times.
    const seconds = (performance.now() - before.atMs) / 1000;
    const cpuSeconds = (this.#cpuNs() - before.cpuNs) / 1e9;
    const text = await this.#metrics();
    const now = {
      atMs: performance.now(),
      cpuNs: this.#cpuNs(),
      delivered: sum(text, "wireproof_agent_frames_total"),
      cutOff: sum(text, "wireproof_agent_interface_cut_off"),
      dropped:
        sum(text, "wireproof_agent_dropped_on_any_total") +
        sum(text, "wireproof_agent_interface_dropped"),
      opened: sum(text, "wireproof_agent_flows_opened_total"),
      observations: sum(text, "wireproof_agent_rows_offered_total"),
    };
    this.#before = now;
    const status = readFileSync(`/proc/${this.#child.pid}/status`, "utf8");
    const rssMib = Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
    return {
      ...{ seconds, cpuSeconds, share: cpuSeconds / seconds },
      delivered: now.delivered - before.delivered,
      cutOff: now.cutOff - before.cutOff,
      dropped: now.dropped - before.dropped,
      opened: now.opened - before.opened,
      observations: now.observations - before.observations,
      flows: sum(text, "wireproof_agent_flows"),
      rssMib: rssMib - (this.#hasRing ? RING_MIB : 0),
    };
  }

  async end(): Promise<void> {
    this.#child.kill("SIGTERM");
    if (this.#child.exitCode === null) await once(this.#child, "exit");
    rmSync(this.#spool, { recursive: true, force: true });
  }
}

/** The sum of a metric's values over its labels. */
function sum(text: string, name: string): number {
  let total = 0;
  for (const line of text.split("\n")) {
    const rest = line.startsWith(name) ? line.slice(name.length) : "";
    if (rest[0] === " " || rest[0] === "{") total += Number(line.slice(line.lastIndexOf(" ") + 1));
  }
  return total;
}
