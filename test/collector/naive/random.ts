/** Draws everything that a random cluster needs from one seed, the same at every run. */

export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  }

  /** A whole number in [0, n) (mulberry32). */
  below(n: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n);
  }

  /** True once in so many draws. */
  once(inSoMany: number): boolean {
    return this.below(inSoMany) === 0;
  }

  pick<T>(...items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  /** From `least` to `most` things. */
  list<T>(least: number, most: number, make: (i: number) => T): T[] {
    return Array.from({ length: least + this.below(most - least + 1) }, (_, i) => make(i));
  }

  /** A field that is there once in so many draws, to be spread into an object. */
  maybe<T>(inSoMany: number, name: string, make: () => T): Record<string, T> {
    return this.once(inSoMany) ? { [name]: make() } : {};
  }

  /** A field that is absent, null, or there, each with a fair chance. */
  optional<T>(name: string, make: () => T): Record<string, T | null> {
    const n = this.below(7);
    return n < 3 ? {} : n === 3 ? { [name]: null } : { [name]: make() };
  }
}
