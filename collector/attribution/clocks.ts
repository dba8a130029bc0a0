/** Says how far the clocks that observations tell their time by may be apart. */

/** Milliseconds that clocks may be apart of which nothing was measured. */
const CLOCKS_APART_MS = 5_000;

/** By which a measured clock may have moved since, and the way of the message that told it. */
const MOVED_MS = 1_000;

/**
 * Whose clock is farther off is not heard: nobody can tell when what it saw was, and whoever holds
 * one node's certificate would make the clocks of all others doubtful.
 */
export const CLOCK_LIMIT_MS = 60_000;

/**
 * By agents' offsets against our own clock, in milliseconds: who speaks of an instant by another's
 * clock speaks of so much time around it.
 */
export function clocksApart(offsetsMs: readonly number[]): number {
  if (offsetsMs.length === 0) return CLOCKS_APART_MS;
  const all = [0, ...offsetsMs];
  return Math.max(...all) - Math.min(...all) + MOVED_MS;
}
