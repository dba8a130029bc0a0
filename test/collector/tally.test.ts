/** Tests that a window may be judged in parts: their tallies add up in any order to the whole. */
import t from "tap";
import { Tally } from "../../collector/verdict/tally.ts";
import { Targets } from "../../collector/verdict/targets.ts";
import { judgeWindow, readWindow } from "../../collector/verdict/window.ts";
import { tallyPart, weighWindow } from "../../collector/verdict/window.ts";
import { Draw } from "../../scripts/world/draw.ts";
import { inputOf, makeWorld } from "../../scripts/world/law.ts";

const SEEDS = 2_000;

function shuffled<T>(draw: Draw, list: readonly T[]): T[] {
  return list
    .map((value) => [draw.between(0, 1), value] as const)
    .sort(([a], [b]) => a - b)
    .map(([, value]) => value);
}

/** Merges two that lie side by side until one is left. */
function mergedInPairs(draw: Draw, tallies: readonly Tally[]): Tally[] {
  const left = shuffled(draw, tallies);
  while (left.length > 1) {
    const at = draw.whole(0, left.length - 2);
    left[at]!.merge(left[at + 1]!);
    left.splice(at + 1, 1);
  }
  return left;
}

t.test("tallies of parts add up in any order to the judgement of the whole", (t) => {
  let [several, edges] = [0, 0];
  for (let seed = 1; seed <= SEEDS; seed++) {
    const input = inputOf(makeWorld(seed));
    const draw = new Draw(seed);
    const parts = Array.from({ length: draw.whole(1, 6) }, () => [] as typeof connections);
    const { connections: all, foreign } = readWindow(input);
    const connections = shuffled(draw, all);
    for (const connection of connections) draw.pick(parts).push(connection);
    const tallies = parts.map((part) => tallyPart(input, part));
    if (tallies.filter(({ edges }) => edges.size > 0).length > 1) several++;
    const whole = judgeWindow(input);
    edges += whole.verdicts.length;
    const inParts = weighWindow(input, mergedInPairs(draw, [...tallies, foreign]));
    if (JSON.stringify(inParts) !== JSON.stringify(whole)) t.strictSame(inParts, whole, `${seed}`);
  }
  t.ok(several > SEEDS / 2, `${several} windows came in several parts`);
  t.ok(edges > SEEDS, `${edges} verdicts`);
  t.end();
});

t.test("the order of sightings changes nothing", (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const input = inputOf(makeWorld(seed));
    const told = judgeWindow(input);
    const again = judgeWindow({ ...input, sightings: shuffled(new Draw(seed), input.sightings) });
    if (JSON.stringify(again) !== JSON.stringify(told)) t.strictSame(again, told, `${seed}`);
  }
  t.pass();
  t.end();
});

t.test("targets are counted in any order, and estimated when they are too many", (t) => {
  const draw = new Draw(1);
  const all = Array.from({ length: 20_000 }, (_, i) => `10.${i >> 8}.${i & 255}.1 ${i % 7}/tcp`);
  const parts = Array.from({ length: 9 }, () => new Targets());
  const whole = new Targets();
  for (const [i, name] of shuffled(draw, [...all, ...all]).entries()) {
    whole.add(name, i % 10 === 0);
    draw.pick(parts).add(name, i % 10 === 0);
  }
  const [first, ...others] = shuffled(draw, parts);
  for (const other of others) first!.merge(other);
  t.strictSame(first!.count(), whole.count());
  const { targets, unaccepted, ports, isSampled } = whole.count();
  // 1,024 of a sample: a standard deviation is 3 %.
  t.ok(Math.abs(targets / all.length - 1) < 0.1, `${targets} targets`);
  t.ok(Math.abs(unaccepted / targets - 0.81) < 0.05, `${unaccepted} unaccepted`);
  t.strictSame([ports, isSampled], [7, true]);
  const few = new Targets();
  for (const name of all.slice(0, 1_000)) few.add(name, false);
  t.strictSame(few.count(), { targets: 1_000, unaccepted: 1_000, ports: 7, isSampled: false });
  t.end();
});
