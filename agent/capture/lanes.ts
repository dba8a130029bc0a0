/** Numbers interfaces under watch, so that none has the number of another. */

/** A flow's key has 16 bits for its lane. */
const LANES = 1 << 16;

export class Lanes {
  readonly #count: number;
  readonly #taken = new Set<number>();
  #next = 0;

  constructor(count = LANES) {
    this.#count = count;
  }

  /** The number that was given longest ago, or never; not all are taken. */
  take(): number {
    while (this.#taken.has(this.#next)) this.#next = (this.#next + 1) % this.#count;
    const lane = this.#next;
    this.#next = (lane + 1) % this.#count;
    this.#taken.add(lane);
    return lane;
  }

  free(lane: number): void {
    this.#taken.delete(lane);
  }
}
