/** Says how far the clocks of a cluster may be apart. */

/**
 * Milliseconds by which the clocks of two nodes may differ: who speaks of an instant by another's
 * clock speaks of so much time around it.
 */
export const CLOCKS_APART_MS = 5_000;
