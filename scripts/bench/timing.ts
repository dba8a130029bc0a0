/** Times commands in turn, so that what else the machine does meets all of them alike. */
import { spawnSync } from "node:child_process";
import { ROOT } from "./program.ts";

/** User and system seconds, and seconds by the clock. */
export type Took = { cpu: number; wall: number };

export type Command = { name: string; argv: readonly string[] };

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

function time(argv: readonly string[]): Took | null {
  if (spawnSync("which", [argv[0]!]).status !== 0) return null;
  // A shell between measures this command alone: `times` of its children.
  const script = `"$@" > /dev/null 2>&1; times`;
  const started = performance.now();
  const { stdout, status } = spawnSync("sh", ["-c", script, "sh", ...argv], {
    encoding: "utf8",
    cwd: ROOT,
  });
  const wall = (performance.now() - started) / 1000;
  if (status !== 0) return null;
  const children = stdout.split("\n")[1] ?? "";
  const [user, system] = [...children.matchAll(/(\d+)m([\d.]+)s/g)].map(
    (m) => Number(m[1]) * 60 + Number(m[2]),
  );
  return { cpu: user! + system!, wall };
}

/**
 * Medians over so many rounds, in each of which every command runs once; null where one is not
 * installed. A round before them that is not counted fills the caches.
 */
export function timeInTurn(commands: readonly Command[], rounds: number): Map<string, Took | null> {
  const runs = new Map<string, Took[] | null>(commands.map(({ name }) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const { name, argv } of commands) {
      const before = runs.get(name);
      if (!before) continue;
      const took = time(argv);
      if (took === null) runs.set(name, null);
      else if (round >= 0) before.push(took);
    }
  }
  return new Map(
    [...runs].map(([name, all]) => [
      name,
      all && { cpu: median(all.map((r) => r.cpu)), wall: median(all.map((r) => r.wall)) },
    ]),
  );
}
