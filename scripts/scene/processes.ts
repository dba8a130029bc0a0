/** Runs commands, and ends by process id whatever was left running. */
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export type Outcome = { code: number | null; signal: string | null; output: string };
type RunOptions = {
  input?: string;
  limitMs?: number;
  signal?: AbortSignal;
  env?: NodeJS.ProcessEnv;
};

/** Process groups of commands under way. */
const underWay = new Set<number>();

/** Ends every command that `run` has under way; their promises settle. */
export function endCommands(): void {
  for (const pid of underWay) killGroup(pid, "SIGKILL");
}

/** Runs to the end, in a process group of its own; past `limitMs` the group is killed. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      detached: true,
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      env: options.env ?? process.env,
    });
    if (child.pid !== undefined) underWay.add(child.pid);
    let output = "";
    const take = (text: Buffer) => {
      if (output.length < 65536) output += text.toString("utf8");
    };
    child.stdout!.on("data", take);
    child.stderr!.on("data", take);
    const kill = () => killGroup(child.pid, "SIGKILL");
    const timer = setTimeout(kill, options.limitMs ?? 30_000);
    options.signal?.addEventListener("abort", kill, { once: true });
    const settle = () => {
      clearTimeout(timer);
      if (child.pid !== undefined) underWay.delete(child.pid);
      options.signal?.removeEventListener("abort", kill);
    };
    child.on("error", (error) => {
      settle();
      reject(error);
    });
    child.on("close", (code, signal) => {
      settle();
      resolve({ code, signal, output });
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input);
  });
}

/** As `run`, but anything else than exit code 0 is thrown with what the command said. */
export async function mustRun(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, signal, output } = await run(argv, options);
  if (code === 0) return output;
  throw new Error(`${argv.join(" ")}: exit ${code ?? signal}: ${output.trim().slice(-2000)}`);
}

/** A process that keeps running, alone in its process group; its output goes to `log`. */
export function startProcess(argv: readonly string[], log: number): ChildProcess {
  const child = spawn(argv[0]!, argv.slice(1), { detached: true, stdio: ["ignore", log, log] });
  child.on("error", () => {});
  return child;
}

/** Signals a process group that was started here; gone already is well. */
export function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined || pid <= 1) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/**
 * When a process started, in clock ticks since boot (proc(5), stat field 22): tells a process from
 * a later one with the same id. Null when it is gone, or a zombie.
 */
export function startTimeOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? null : fields[19]!;
  } catch {
    return null;
  }
}

/** Waits until the condition holds; throws `what` when it does not in time. */
export async function until(
  what: string,
  limitMs: number,
  holds: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not in ${limitMs} ms: ${what}`);
    await sleep(40);
  }
}
