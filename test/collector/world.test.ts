/** Tests that the judge keeps its law in simulated worlds, and that the law can be broken. */
import t from "tap";
import type { Verdict } from "../../collector/verdict/verdict.ts";
import {
  holdToLaw,
  judgeWorld,
  makePerfectWorld,
  makeWorld,
  storyOf,
} from "../../scripts/world/law.ts";
import type { World } from "../../scripts/world/law.ts";
import { formatFate, holdLiveToLaw } from "../../scripts/world/live.ts";

const SEEDS = 20_000;
const LIVE_SEEDS = 400;
/** Share of what can be decided that must be. */
const DECIDED_FROM = 0.97;

function holdAll(seeds: number, judge: (world: World) => Verdict[] = judgeWorld) {
  const stories = new Map<string, string>();
  let [decidable, decided] = [0, 0];
  for (let seed = 1; seed <= seeds; seed++) {
    const world = makeWorld(seed);
    const held = holdToLaw(world, judge(world));
    decidable += held.decided.decidable;
    decided += held.decided.decided;
    for (const breach of held.breaches) stories.set(breach.what, storyOf(world, breach));
  }
  return { stories, decidable, share: decided / decidable };
}

t.test("what is confirmed or violated is true, no violation is lost, enough is decided", (t) => {
  const { stories, decidable, share } = holdAll(SEEDS);
  t.strictSame([...stories.values()], []);
  t.ok(decidable > SEEDS / 10, `${decidable} edges can be decided`);
  t.ok(share >= DECIDED_FROM, `${share} of them are`);
  t.end();
});

t.test("a collector that is killed, and hears late, keeps the law", async (t) => {
  const stories: string[] = [];
  let [decidable, decided] = [0, 0];
  for (let seed = 1; seed <= LIVE_SEEDS; seed++) {
    const world = makeWorld(seed);
    const held = await holdLiveToLaw(world);
    decidable += held.decided.decidable;
    decided += held.decided.decided;
    for (const breach of held.breaches) {
      stories.push(`${storyOf(world, breach)}\n${formatFate(world)}`);
    }
  }
  t.strictSame(stories, []);
  t.ok(decidable > LIVE_SEEDS / 12, `${decidable} edges can be decided`);
  t.ok(decided / decidable >= DECIDED_FROM, `${decided} of them are`);
});

t.test("of a perfect cluster nearly all that was exercised is confirmed", (t) => {
  let [edges, confirmed] = [0, 0];
  const others = new Map<string, number>();
  for (let seed = 1; seed <= 20; seed++) {
    const world = makePerfectWorld(seed, 40);
    const verdicts = judgeWorld(world);
    t.strictSame(holdToLaw(world, verdicts).breaches, []);
    // Nobody demands anything of whoever comes from the pod's own node.
    for (const { edge, verdict, reason } of verdicts.filter((v) => v.edge.client.kind === "pod")) {
      edges++;
      if (verdict === "confirmed") confirmed++;
      else others.set(reason, (others.get(reason) ?? 0) + 1);
      t.not(verdict, "violated", edge.id);
    }
  }
  t.ok(edges > 20 * 200, `${edges} verdicts`);
  t.ok(confirmed / edges >= 0.95, `${confirmed} confirmed; ${[...others].join(" ")}`);
  t.end();
});

t.test("a judge that says too much, or too little, is found out", (t) => {
  const always = (verdict: Verdict["verdict"]) => (world: World) =>
    judgeWorld(world).map((v) => ({ ...v, verdict }));
  const whatOf = (judge: (world: World) => Verdict[]) => [...holdAll(200, judge).stories.keys()];
  t.ok(whatOf(always("confirmed")).includes("confirmed, and not true"));
  t.ok(whatOf(always("violated")).includes("violated, and not true"));
  t.ok(whatOf(always("unproven")).includes("lost a violation"));
  t.equal(holdAll(200, always("unproven")).share, 0);
  t.end();
});
