/**
 * Holds the judge to its law in simulated worlds: `npm run world -- --seeds N [--from SEED]`; with
 * `--live` through a collector that is killed and begun again. Prints the story of each kind of
 * breach once, of those that `--kind TEXT` names each time, and how much of what could be decided
 * was.
 */
import { parseArgs } from "node:util";
import { holdToLaw, judgeWorld, makeWorld, storyOf } from "./world/law.ts";
import { formatFate, holdLiveToLaw } from "./world/live.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "20000" },
    from: { type: "string", default: "1" },
    kind: { type: "string" },
    live: { type: "boolean", default: false },
  },
});
const [seeds, from] = [Number(values.seeds), Number(values.from)];
if (!Number.isSafeInteger(seeds) || !Number.isSafeInteger(from) || seeds < 1) {
  console.error("world: --seeds and --from are whole numbers");
  process.exit(2);
}
const kinds = new Map<string, number>();
let [decidable, decided] = [0, 0];
for (let seed = from; seed < from + seeds; seed++) {
  const world = makeWorld(seed);
  const result = values.live ? await holdLiveToLaw(world) : holdToLaw(world, judgeWorld(world));
  decidable += result.decided.decidable;
  decided += result.decided.decided;
  for (const breach of result.breaches) {
    const kind = `${breach.what}: ${breach.aspect} ${breach.verdict}`;
    const count = kinds.get(kind) ?? 0;
    kinds.set(kind, count + 1);
    if (count === 0 || (values.kind !== undefined && kind.includes(values.kind)))
      console.log(storyOf(world, breach), values.live ? `\n${formatFate(world)}` : "");
  }
  if (process.stderr.isTTY && seed % 500 === 0) process.stderr.write(`\r${seed} seeds`);
}
for (const [kind, count] of [...kinds].sort((a, b) => b[1] - a[1]))
  console.log(`${count} × ${kind}`);
const share = ((100 * decided) / Math.max(1, decidable)).toFixed(2);
console.log(`${seeds} worlds; decided ${decided} of ${decidable} that can be (${share} %)`);
process.exit(kinds.size > 0 ? 1 : 0);
