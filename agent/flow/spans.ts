/** Remembers which bytes of a slot have come, as a few spans in order. */

/** Most separate spans a slot remembers; one more is refused, and the refusal is counted. */
export const SPANS_LIMIT = 8;

/**
 * The spans of one slot are `[from, to)` pairs, ascending, never touching:
 * from₀ < to₀ < from₁ < to₁ …
 */
export class Spans {
  readonly #lanes: Int32Array;
  readonly #counts: Uint8Array;

  constructor(slots: number) {
    this.#lanes = new Int32Array(slots * SPANS_LIMIT * 2);
    this.#counts = new Uint8Array(slots);
  }

  clear(slot: number): void {
    this.#counts[slot] = 0;
  }

  count(slot: number): number {
    return this.#counts[slot]!;
  }

  /** Adds `[from, to)`, from < to. False, and nothing changes, when it is one span too many. */
  add(slot: number, from: number, to: number): boolean {
    const lanes = this.#lanes;
    const first = slot * SPANS_LIMIT * 2;
    const last = first + this.#counts[slot]! * 2;
    let i = first;
    while (i < last && lanes[i + 1]! < from) i += 2; // wholly before: kept
    let j = i;
    while (j < last && lanes[j]! <= to) {
      // Touches: absorbed.
      from = Math.min(from, lanes[j]!);
      to = Math.max(to, lanes[j + 1]!);
      j += 2;
    }
    if (j === i && last - first === SPANS_LIMIT * 2) return false;
    lanes.copyWithin(i + 2, j, last);
    lanes[i] = from;
    lanes[i + 1] = to;
    this.#counts[slot]! += 1 - (j - i) / 2;
    return true;
  }

  /** The end of the span that covers `at`, or `at` where none does. */
  endFrom(slot: number, at: number): number {
    const first = slot * SPANS_LIMIT * 2;
    const last = first + this.#counts[slot]! * 2;
    for (let i = first; i < last; i += 2) {
      if (this.#lanes[i]! <= at && at < this.#lanes[i + 1]!) return this.#lanes[i + 1]!;
    }
    return at;
  }

  /** Reports whether byte `at` has come. */
  has(slot: number, at: number): boolean {
    return this.endFrom(slot, at) > at;
  }

  /** Where the next span after `at` begins, or `limit`. */
  nextFrom(slot: number, at: number, limit: number): number {
    const first = slot * SPANS_LIMIT * 2;
    const last = first + this.#counts[slot]! * 2;
    for (let i = first; i < last; i += 2) {
      if (this.#lanes[i]! > at) return Math.min(limit, this.#lanes[i]!);
    }
    return limit;
  }

  /** Moves all spans `by` bytes towards 0, and forgets what falls below it. */
  shift(slot: number, by: number): void {
    const lanes = this.#lanes;
    const first = slot * SPANS_LIMIT * 2;
    const last = first + this.#counts[slot]! * 2;
    let kept = first;
    for (let i = first; i < last; i += 2) {
      const to = lanes[i + 1]! - by;
      if (to <= 0) continue;
      lanes[kept] = Math.max(0, lanes[i]! - by);
      lanes[kept + 1] = to;
      kept += 2;
    }
    this.#counts[slot] = (kept - first) / 2;
  }
}
