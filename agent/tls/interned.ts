/** Keeps one copy of values that say the same: the clients of a node send the same few hellos. */

/** Most values kept; the oldest goes first. */
const LIMIT = 1024;

/** What a value may hold: texts, numbers, flags, and lists of them. */
type Plain = string | number | boolean | null | readonly Plain[];

export class Interned<T extends object> {
  /** By hash; two that share one displace each other. */
  readonly #known = new Map<number, T>();

  /** The value itself, or an equal one that came before. */
  of(value: T): T {
    const key = hashOf(value);
    const known = this.#known.get(key);
    if (known && isSame(known, value)) return known;
    if (this.#known.size >= LIMIT) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(key, value);
    return value;
  }
}

/** FNV-1a over all fields in their order, lists and texts included. */
function hashOf(value: object): number {
  let hash = 0x811c9dc5;
  for (const key in value) hash = fold(hash, (value as Record<string, Plain>)[key]!);
  return hash;
}

function fold(hash: number, value: Plain): number {
  if (typeof value === "number") return Math.imul(hash ^ value, 0x01000193);
  if (typeof value === "string") {
    for (let i = 0; i < value.length; i++) {
      hash = Math.imul(hash ^ value.charCodeAt(i), 0x01000193);
    }
    return Math.imul(hash ^ 0x5f, 0x01000193);
  }
  if (value === null) return Math.imul(hash ^ 0x3f, 0x01000193);
  if (typeof value === "boolean") return Math.imul(hash ^ (value ? 3 : 5), 0x01000193);
  for (const item of value) hash = fold(hash, item);
  return Math.imul(hash ^ 0x2c, 0x01000193);
}

function isSame(one: object, two: object): boolean {
  for (const key in one) {
    const a = (one as Record<string, Plain>)[key]!;
    if (!isEqual(a, (two as Record<string, Plain>)[key]!)) return false;
  }
  return true;
}

function isEqual(a: Plain, b: Plain): boolean {
  if (typeof a !== "object" || a === null || typeof b !== "object" || b === null) return a === b;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!isEqual(a[i]!, b[i]!)) return false;
  return true;
}

/** The same of values that a text tells apart: of two with one text the first is kept. */
export class InternedBy<T> {
  readonly #known = new Map<string, T>();

  of(text: string, value: T): T {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    if (this.#known.size >= LIMIT) this.#known.clear();
    this.#known.set(text, value);
    return value;
  }
}
