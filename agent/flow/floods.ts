/** Counts, by their source, connection attempts that were given up to make room. */

/** Sources that are told apart; what comes from further ones is counted together. */
const SOURCES = 256;
const MASK = SOURCES * 2 - 1;

/** Fixed memory; nothing is allocated until `take`. */
export class Floods {
  /** Four words of address each. */
  readonly #sources = new Int32Array(SOURCES * 4);
  readonly #attempts = new Float64Array(SOURCES);
  readonly #buckets = new Int32Array(SOURCES * 2).fill(-1);
  #count = 0;
  /** Attempts from sources beyond those that are told apart. */
  #others = 0;

  /** Counts one attempt of the address that stands at `k` in `words`. */
  note(words: Int32Array, k: number): void {
    let hash = Math.imul(words[k + 3]! ^ (words[k]! >>> 3), 0x9e3779b1);
    hash = Math.imul(hash ^ words[k + 1]! ^ words[k + 2]! ^ (hash >>> 15), 0x85ebca6b);
    let bucket = (hash ^ (hash >>> 13)) & MASK;
    for (;;) {
      const known = this.#buckets[bucket]!;
      if (known < 0) break;
      if (this.#isSame(known, words, k)) {
        this.#attempts[known]!++;
        return;
      }
      bucket = (bucket + 1) & MASK;
    }
    if (this.#count === SOURCES) {
      this.#others++;
      return;
    }
    const fresh = this.#count++;
    for (let i = 0; i < 4; i++) this.#sources[fresh * 4 + i] = words[k + i]!;
    this.#attempts[fresh] = 1;
    this.#buckets[bucket] = fresh;
  }

  #isSame(known: number, words: Int32Array, k: number): boolean {
    const at = known * 4;
    const found = this.#sources;
    return (
      found[at + 3] === words[k + 3] &&
      found[at + 2] === words[k + 2] &&
      found[at + 1] === words[k + 1] &&
      found[at] === words[k]
    );
  }

  /** What was counted since the last call: the busiest sources, and all that the others made. */
  take(most: number): { sources: { words: Int32Array; attempts: number }[]; others: number } {
    const order = Array.from({ length: this.#count }, (_, i) => i);
    order.sort((a, b) => this.#attempts[b]! - this.#attempts[a]!);
    const sources = order.slice(0, most).map((i) => ({
      words: this.#sources.slice(i * 4, i * 4 + 4),
      attempts: this.#attempts[i]!,
    }));
    const rest = order.slice(most).reduce((sum, i) => sum + this.#attempts[i]!, 0);
    const others = this.#others + rest;
    this.#count = this.#others = 0;
    this.#buckets.fill(-1);
    return { sources, others };
  }
}
