/** Counts, by interface, what of its frames and flows is not told. */
import { END_NAMES } from "./counters.ts";

/** What is counted: frames by the number of `END_NAMES`, and what follows those. */
export const Loss = {
  notSampled: END_NAMES.length, // frames of flows that a sample leaves out
  noRoom: END_NAMES.length + 1, // flows that made room for others, openings without a slot
  attempts: END_NAMES.length + 2, // of connections, from more sources than `Floods` tells apart
} as const;
const KINDS = END_NAMES.length + 3;

export type Lost = { stopped: Record<string, number>; noRoom: number; attempts: number };

export class Losses {
  /** By lane, `KINDS` each; it grows with the number of interfaces. */
  #counts = new Float64Array(16 * KINDS);

  note(lane: number, kind: number): void {
    const at = lane * KINDS + kind;
    if (at >= this.#counts.length) this.#grow(lane);
    this.#counts[at]!++;
  }

  #grow(lane: number): void {
    const grown = new Float64Array(2 * (lane + 1) * KINDS);
    grown.set(this.#counts);
    this.#counts = grown;
  }

  /** What was counted of an interface since this was last called. */
  take(lane: number): Lost {
    const counts = this.#counts.subarray(lane * KINDS, (lane + 1) * KINDS);
    const stopped: Record<string, number> = {};
    for (let kind = 1; kind < Math.min(counts.length, Loss.noRoom); kind++) {
      if (counts[kind]! > 0) stopped[END_NAMES[kind] ?? "notSampled"] = counts[kind]!;
    }
    const noRoom = counts[Loss.noRoom] ?? 0;
    const attempts = counts[Loss.attempts] ?? 0;
    counts.fill(0);
    return { stopped, noRoom, attempts };
  }
}
