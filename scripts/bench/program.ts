/** Names programs of this project as they are run for measuring: built, where there is a build. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

/** This file may be the built one, in `dist/`. */
const here = import.meta.dirname;
export const ROOT = path.join(
  here,
  here.includes(`${path.sep}dist${path.sep}`) ? "../../.." : "../..",
);

/** What the launcher has the engine do for a command's memory. */
function memoryOf(command: string): string[] {
  const launcher = readFileSync(path.join(ROOT, "wireproof"), "utf8");
  const line = launcher.split("\n").find((one) => one.startsWith(`${command}) memory=`));
  if (line === undefined) throw new Error(`bench: the launcher says nothing of ${command}`);
  return line
    .slice(line.indexOf("=") + 1)
    .replaceAll(/"|;;/g, "")
    .trim()
    .split(" ");
}

function run(file: string, memory: readonly string[], args: readonly string[]): string[] {
  const built = path.join(ROOT, "dist", `${file}.js`);
  const source = path.join(ROOT, `${file}.ts`);
  return [process.execPath, ...memory, existsSync(built) ? built : source, ...args];
}

/** A script of the bench. */
export const script = (name: string, args: readonly (string | number)[]): string[] =>
  run(`scripts/bench/${name}`, ["--max-semi-space-size=8"], args.map(String));

/** The program itself, with a command, as its launcher starts it. */
export const wireproof = (command: string, args: readonly string[]): string[] =>
  run("wireproof", memoryOf(command), [command, ...args]);
