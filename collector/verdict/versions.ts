/** Asks what was required of pods as they are, and as they were: labels change, as policy does. */
import type { Holder } from "../attribution/holder.ts";
import type { Inventory } from "../attribution/inventory.ts";
import type { Expectation } from "../policy/expectation.ts";
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
    const pairsOf = (from: number, to: number) =>
      inventory
        .versionsOf(client, from, to)
        .flatMap((a) => inventory.versionsOf(server, from, to).map((b) => [a, b] as const))
        .filter(([a, b]) => a !== client || b !== server);
    const near = pairsOf(atMs - graceMs - apartMs, atMs + apartMs).map(([a, b]) => ask(a, b));
    const later = pairsOf(atMs, Math.max(atMs, toMs) + apartMs).map(([a, b]) => ask(a, b));
    if (near.length === 0 && later.length === 0) return expected;
    return merged(expected, near, later);
  };
}

function merged(first: Expected, near: readonly Expected[], later: readonly Expected[]): Expected {
  const known = new Set<string>();
  const isNew = ({ path, transport }: Expectation) => {
    const text = JSON.stringify([path, transport]);
    return !known.has(text) && known.add(text);
  };
  const [own, ...others] = first.atStart;
  isNew(own);
  return {
    atStart: [own, ...[...others, ...near.flatMap(({ atStart }) => atStart)].filter(isNew)],
    later: [
      ...first.later,
      ...[...near, ...later].flatMap((e) => [...e.atStart, ...e.later]),
    ].filter(isNew),
  };
}
