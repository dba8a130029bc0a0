/** Holds a process to a share of one core, as a container's CPU limit does. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import path from "node:path";

const PERIOD_US = 100_000;
/**
 * Where control groups of the second version begin, and the first one's of CPU: as the process sees
 * them that made the network namespace, since `ip netns exec` lays a /sys of its own over ours.
 */
const SECOND = `/proc/${process.ppid}/root/sys/fs/cgroup`;
const FIRST = `${SECOND}/cpu`;

export class CpuLimit {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Returns why it cannot be made, in the kernel's words, where it cannot. */
  static make(share: number): CpuLimit | string {
    const isFirst = existsSync(path.join(FIRST, "cgroup.procs"));
    const folder = path.join(isFirst ? FIRST : SECOND, `wireproof-bench-${process.pid}`);
    const quota = Math.round(share * PERIOD_US);
    try {
      mkdirSync(folder);
      if (isFirst) {
        writeFileSync(path.join(folder, "cpu.cfs_period_us"), String(PERIOD_US));
        writeFileSync(path.join(folder, "cpu.cfs_quota_us"), String(quota));
      } else writeFileSync(path.join(folder, "cpu.max"), `${quota} ${PERIOD_US}`);
      return new CpuLimit(folder);
    } catch (error) {
      if (existsSync(folder)) rmdirSync(folder);
      return (error as Error).message;
    }
  }

  /** Takes in all threads of a process, and what it starts. */
  add(pid: number): void {
    writeFileSync(path.join(this.#folder, "cgroup.procs"), String(pid));
  }

  /** What still runs goes on without it. */
  close(): void {
    const pids = readFileSync(path.join(this.#folder, "cgroup.procs"), "latin1");
    for (const pid of pids.split("\n").filter(Boolean)) {
      writeFileSync(path.join(this.#folder, "../cgroup.procs"), pid);
    }
    rmdirSync(this.#folder);
  }
}
