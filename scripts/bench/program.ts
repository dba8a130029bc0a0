/** Names programs of this project as they are run for measuring. */
import path from "node:path";

export const ROOT = path.join(import.meta.dirname, "../..");

/** Where the engine keeps what it compiled, so that no run has to strip types but the first. */
const COMPILED = path.join(ROOT, "node_modules/.cache/wireproof/bench");

/** A script of the bench. */
export function script(name: string, args: readonly (string | number)[]): string[] {
  const file = path.join(ROOT, `scripts/bench/${name}.ts`);
  const engine = [process.execPath, "--max-semi-space-size=8", file];
  return ["env", `NODE_COMPILE_CACHE=${COMPILED}`, ...engine, ...args.map(String)];
}

/** The program itself, with a command, as its users start it; `checkout` is another state of it. */
export const wireproof = (command: string, args: readonly string[], checkout = ROOT): string[] => [
  path.join(checkout, "wireproof"),
  command,
  ...args,
];
