/** Asks what was required of pods as they are, and as they were: labels change, as policy does. */
import type { Holder } from "../attribution/holder.ts";
import type { Inventory } from "../attribution/inventory.ts";
import type { Expectation } from "../policy/expectation.ts";
import { isSame } from "../policy/history/history.ts";
import type { Expected, Lifetime, PolicyHistory } from "../policy/history/history.ts";
import type { Expect } from "./expect.ts";

/**
 * What enforces follows a pod's labels late, as it does the policy: within the grace both versions
 * of the pod count, and of one that changes while a connection lives each.
 */
export function expectOf(inventory: Inventory, history: PolicyHistory, graceMs: number): Expect {
  return (client, server, port, carrier, life, wire) => {
    const ask = (a: Holder, b: Holder) => history.expect(a, b, port, carrier, life, wire);
    const expected = ask(client, server);
    const { atMs, toMs = atMs, apartMs = 0 }: Lifetime = life;
    const [fromMs, untilMs] = [atMs - graceMs - apartMs, Math.max(atMs, toMs) + apartMs];
    // Labels seldom change: of nearly all connections there is one version of either end.
    const isOne = (end: Holder) => inventory.versionsOf(end, fromMs, untilMs).length === 1;
    if (isOne(client) && isOne(server)) return expected;
    const askAll = (from: number, to: number) =>
      inventory
        .versionsOf(client, from, to)
        .flatMap((a) => inventory.versionsOf(server, from, to).map((b) => [a, b] as const))
        .filter(([a, b]) => a !== client || b !== server)
        .map(([a, b]) => ask(a, b));
    return merged(expected, askAll(fromMs, atMs + apartMs), askAll(atMs, untilMs));
  };
}

function merged(first: Expected, near: readonly Expected[], later: readonly Expected[]): Expected {
  const [own, ...others] = first.atStart;
  const atStart: [Expectation, ...Expectation[]] = [own];
  addNew(atStart, [...others, ...near.flatMap((e) => e.atStart)], []);
  const met: Expectation[] = [];
  addNew(
    met,
    [...first.later, ...[...near, ...later].flatMap((e) => [...e.atStart, ...e.later])],
    atStart,
  );
  return { atStart, later: met };
}

/** Adds those that none says yet, of these or of those before. */
function addNew(to: Expectation[], more: readonly Expectation[], before: readonly Expectation[]) {
  for (const one of more) {
    if (![...before, ...to].some((known) => isSame(known, one))) to.push(one);
  }
}
