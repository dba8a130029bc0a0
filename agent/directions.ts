/** Counts connections by the sides of which they were seen, and tells which interfaces lack one. */
import { Ways } from "./flow/ways.ts";

/** Connections by whose packets passed: the client's alone, the server's alone, or both. */
export type WayCounts = { client: number; server: number; both: number };

export const NO_WAYS: WayCounts = { client: 0, server: 0, both: 0 };

export function addedWays(one: WayCounts, other: WayCounts): WayCounts {
  const [client, server] = [one.client + other.client, one.server + other.server];
  return { client, server, both: one.both + other.both };
}

/**
 * Share of what is remembered above which an interface lacks a direction: a few may go another way
 * for reasons of their own, or have been dropped.
 */
const LACKING_FROM = 0.01;
/** Connections after which an older one counts half as much. */
const HALF_LIFE = 1000;
const FADE = 0.5 ** (1 / HALF_LIFE);

/** Of one interface. */
export class Directions {
  readonly #node: Directions | null;
  /** By `Ways`: since they were last taken, since the watch began, and as remembered. */
  readonly #now = [0, 0, 0, 0];
  readonly #all = [0, 0, 0, 0];
  readonly #recent = [0, 0, 0, 0];

  /** `node` is of all pods' interfaces of the node; null for that itself. */
  constructor(node: Directions | null) {
    this.#node = node;
  }

  note(ways: number): void {
    this.#now[ways]!++;
    this.#all[ways]!++;
    for (let i = 0; i < this.#recent.length; i++) this.#recent[i]! *= FADE;
    this.#recent[ways]!++;
    this.#node?.note(ways);
  }

  /**
   * Reports whether one direction is led past the interface, by its latest connections, however
   * long ago. Without any of its own it is as the node's others are: one plugin made them all.
   */
  get lacksOne(): boolean {
    const { client, server, both } = countsOf(this.#recent);
    const all = client + server + both;
    if (all === 0) return this.#node?.lacksOne ?? false;
    return client + server > LACKING_FROM * all;
  }

  /** Since the watch began. */
  get counts(): WayCounts {
    return countsOf(this.#all);
  }

  /** Since this was last called; null where there were none. */
  take(): WayCounts | null {
    const counts = countsOf(this.#now);
    this.#now.fill(0);
    return counts.client + counts.server + counts.both > 0 ? counts : null;
  }
}

const countsOf = (ways: readonly number[]): WayCounts => ({
  client: ways[Ways.client]!,
  server: ways[Ways.server]!,
  both: ways[Ways.both]!,
});
