/** Names programs of this project as they are run for measuring: built, where there is a build. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

/** This file may be the built one, in `dist/`. */
const here = import.meta.dirname;
export const ROOT = path.join(
  here,
  here.includes(`${path.sep}dist${path.sep}`) ? "../../.." : "../..",
);

/** What the launcher tells the engine for a command, and the C library. */
function engineOf(command: string): { flags: string[]; environment: string[] } {
  const launcher = readFileSync(path.join(ROOT, "wireproof"), "utf8");
  const branch = new RegExp(`^${command}\\)([^]*?);;`, "m").exec(launcher)?.[1] ?? "";
  const flags = /engine="(.*)"/.exec(branch)?.[1];
  if (flags === undefined) throw new Error(`bench: the launcher says nothing of ${command}`);
  const exported = /export (.*)/.exec(branch)?.[1];
  return { flags: flags.split(" "), environment: exported?.split(" ") ?? [] };
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
export function wireproof(command: string, args: readonly string[]): string[] {
  const { flags, environment } = engineOf(command);
  const words = run("wireproof", flags, [command, ...args]);
  return environment.length > 0 ? ["env", ...environment, ...words] : words;
}
