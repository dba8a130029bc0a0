/** Counts the different targets that a client tried, in bounded memory, mergeable in any order. */

/** Most that are kept: those of the smallest hashes, which is a fair sample of all. */
const KEPT = 1_024;
const HASHES = 2 ** 32;

type Target = { hash: number; name: string; accepted: boolean };

export class Targets {
  /** By name; of the smallest hashes when there are more than are kept. */
  readonly #kept = new Map<string, Target>();
  /** Greatest hash that may be kept; all of them while there is room. */
  #limit = HASHES;

  /** `name` is an address and a port. */
  add(name: string, accepted: boolean): void {
    this.#take({ hash: hashOf(name), name, accepted });
  }

  merge(other: Targets): void {
    this.#limit = Math.min(this.#limit, other.#limit);
    for (const target of other.#kept.values()) this.#take(target);
    this.#trim();
  }

  /** Targets, those that accepted nothing, and ports: of a sample when they were too many. */
  count(): { targets: number; unaccepted: number; ports: number; isSampled: boolean } {
    this.#trim();
    const all = [...this.#kept.values()];
    return {
      targets: Math.round((all.length * HASHES) / this.#limit),
      unaccepted: Math.round(
        (all.filter(({ accepted }) => !accepted).length * HASHES) / this.#limit,
      ),
      ports: new Set(all.map(({ name }) => name.split(" ")[1])).size,
      isSampled: this.#limit < HASHES,
    };
  }

  #take(target: Target): void {
    if (target.hash >= this.#limit) return;
    const known = this.#kept.get(target.name);
    if (known?.accepted === true) return;
    if (known === undefined || target.accepted) this.#kept.set(target.name, target);
    // Twice as many before they are sorted: once for each that is taken, on the average.
    if (this.#kept.size > 2 * KEPT) this.#trim();
  }

  /** Keeps those below the hash of the first that has no room. */
  #trim(): void {
    if (this.#kept.size <= KEPT) return;
    const hashes = [...this.#kept.values()].map(({ hash }) => hash).sort((a, b) => a - b);
    this.#limit = hashes[KEPT]!;
    for (const { name, hash } of this.#kept.values()) {
      if (hash >= this.#limit) this.#kept.delete(name);
    }
  }
}

/** FNV-1a of 32 bits: whoever chooses targets so that they collide hides none, but the count. */
function hashOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  // The last bits alone differ in names that end alike: they are spread (MurmurHash3's finish).
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
