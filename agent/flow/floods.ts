/** Counts, by interface and source, connection attempts that were given up to make room. */

/** Sources that are told apart; what comes from further ones is counted together. */
const SOURCES = 256;
const MASK = SOURCES * 2 - 1;

export type Flood = { words: Int32Array; attempts: number };

/** Fixed memory; nothing is allocated until `take`. */
export class Floods {
  /** Four words of address each, and the lane. */
  readonly #sources = new Int32Array(SOURCES * 4);
  readonly #lanes = new Int32Array(SOURCES);
  readonly #attempts = new Float64Array(SOURCES);
  readonly #buckets = new Int32Array(SOURCES * 2).fill(-1);
  #count = 0;

  /**
   * Counts one attempt of the address that stands at `k` in `words`. Returns false where there are
   * too many others: then it is not counted.
   */
  note(words: Int32Array, k: number, lane: number): boolean {
    const bucket = this.#bucketOf(words, k, lane);
    const known = this.#buckets[bucket]!;
    if (known >= 0) {
      this.#attempts[known]!++;
      return true;
    }
    if (this.#count === SOURCES) return false;
    this.#put(bucket, words, k, lane, 1);
    return true;
  }

  /** Where the source is, or would be. */
  #bucketOf(words: Int32Array, k: number, lane: number): number {
    let hash = Math.imul(words[k + 3]! ^ (words[k]! >>> 3), 0x9e3779b1);
    hash = Math.imul(hash ^ words[k + 1]! ^ words[k + 2]! ^ (hash >>> 15), 0x85ebca6b);
    hash = Math.imul(hash ^ lane, 0xc2b2ae35);
    let bucket = (hash ^ (hash >>> 13)) & MASK;
    for (;;) {
      const known = this.#buckets[bucket]!;
      if (known < 0 || this.#isSame(known, words, k, lane)) return bucket;
      bucket = (bucket + 1) & MASK;
    }
  }

  #put(bucket: number, words: Int32Array, k: number, lane: number, attempts: number): void {
    const fresh = this.#count++;
    for (let i = 0; i < 4; i++) this.#sources[fresh * 4 + i] = words[k + i]!;
    this.#lanes[fresh] = lane;
    this.#attempts[fresh] = attempts;
    this.#buckets[bucket] = fresh;
  }

  #isSame(known: number, words: Int32Array, k: number, lane: number): boolean {
    const at = known * 4;
    const found = this.#sources;
    return (
      found[at + 3] === words[k + 3] &&
      found[at + 2] === words[k + 2] &&
      found[at + 1] === words[k + 1] &&
      found[at] === words[k] &&
      this.#lanes[known] === lane
    );
  }

  /** What was counted at an interface since the last call: the busiest sources first. */
  take(lane: number): Flood[] {
    const taken: Flood[] = [];
    const count = this.#count;
    if (count === 0) return taken;
    this.#buckets.fill(-1);
    this.#count = 0;
    for (let i = 0; i < count; i++) {
      const attempts = this.#attempts[i]!;
      if (this.#lanes[i] === lane) {
        taken.push({ words: this.#sources.slice(i * 4, i * 4 + 4), attempts });
        continue;
      }
      // Those of others move up, behind which nothing is read any more.
      const bucket = this.#bucketOf(this.#sources, i * 4, this.#lanes[i]!);
      this.#put(bucket, this.#sources, i * 4, this.#lanes[i]!, attempts);
    }
    return taken.sort((a, b) => b.attempts - a.attempts);
  }
}
