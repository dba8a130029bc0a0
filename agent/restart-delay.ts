/** Tells how long to wait before what ended by a fault is started anew: longer with each time. */

const FIRST_MS = 100;
const LAST_MS = 5000;

export class RestartDelay {
  #ms = FIRST_MS;

  /** Milliseconds, twice as many as the last time. */
  next(): number {
    const ms = this.#ms;
    this.#ms = Math.min(ms * 2, LAST_MS);
    return ms;
  }

  /** What was started holds. */
  reset(): void {
    this.#ms = FIRST_MS;
  }
}
