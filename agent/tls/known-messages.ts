/**
 * Knows messages again by the bytes that were read of them: a parser that is given the same ones
 * says the same, whatever stands in what it passed over, as random numbers and keys do.
 */
import type { Cursor } from "../read/cursor.ts";
import { copyOf, sameBytes } from "../read/same-bytes.ts";
import { Interned } from "./interned.ts";

/** Messages that are kept, of one length and in all, and the longest of them. */
const ALIKE_LIMIT = 8;
const LIMIT = 256;
const LENGTH_LIMIT = 4096;

type Known<T> = {
  bytes: DataView;
  /** Where bytes were read, from and to, in order. */
  read: Int32Array;
  value: T;
};

export class KnownMessages<T extends object> {
  readonly #byLength = new Map<number, Known<T>[]>();
  readonly #parse: (c: Cursor) => T | null;
  /** Messages that differ where they were read may say the same. */
  readonly #values = new Interned<T>();
  #count = 0;

  constructor(parse: (c: Cursor) => T | null) {
    this.#parse = parse;
  }

  /**
   * What `parse` reads from the cursor on; where it is known, the cursor stays where it is. What
   * says the same is one object.
   */
  read(c: Cursor): T | null {
    const { view, at, end } = c;
    const known = this.#byLength.get(end - at) ?? [];
    for (const one of known) if (isSame(one, view, at)) return one.value;
    const read: number[] = [];
    c.noteReads(read);
    const parsed = this.#parse(c);
    if (parsed === null) return null;
    const value = this.#values.of(parsed);
    if (end - at > LENGTH_LIMIT) return value;
    this.#keep(known, { bytes: copyOf(view, at, end), read: Int32Array.from(read), value }, at);
    return value;
  }

  #keep(known: Known<T>[], one: Known<T>, at: number): void {
    if (this.#count >= LIMIT) {
      this.#byLength.clear();
      this.#count = known.length = 0;
    }
    for (let i = 0; i < one.read.length; i++) one.read[i]! -= at;
    known.unshift(one);
    this.#count++;
    if (known.length > ALIKE_LIMIT) {
      known.pop();
      this.#count--;
    }
    this.#byLength.set(one.bytes.byteLength, known);
  }
}

function isSame({ bytes, read }: Known<unknown>, view: DataView, at: number): boolean {
  for (let i = 0; i < read.length; i += 2) {
    const from = read[i]!;
    if (!sameBytes(view, at + from, bytes, from, read[i + 1]! - from)) return false;
  }
  return true;
}
