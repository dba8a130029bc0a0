/**
 * Keeps the first bytes of each side of a flow in order, in slots of fixed size.
 *
 * Every byte knows its place: its offset in the stream is `sequence - first`, so a segment is
 * copied straight there, and only which bytes have come is remembered (`Spans`). Bytes that came
 * first win; a later segment that disagrees is a finding, since an ambiguous stream is evidence.
 *
 *      stream   0 ......... base ............ have ....[came early].... base + SLOT_BYTES
 *      slot                 |<-- readable --->|                         |
 *
 * 0 <= base <= have. The reader moves `base` on with `discard`, also past bytes that have not come
 * yet: those are then not kept when they come (bodies of encrypted records).
 */
import { Spans } from "./spans.ts";

/** Bytes of one side that are kept at a time: one full TLS record (RFC 8446 §5.2) and some. */
export const SLOT_BYTES = 18 * 1024;
/** Slots are allocated in blocks, as they are needed. */
const BLOCK_SLOTS = 64;

export class Openings {
  readonly #limit: number;
  readonly #blocks: Uint8Array<ArrayBuffer>[] = [];
  readonly #views: DataView[] = [];
  readonly #free: Int32Array;
  #freeCount = 0;
  #allocated = 0;
  readonly #spans: Spans;
  readonly #base: Int32Array;
  readonly #have: Int32Array;

  /** Segments beyond the slot, or one span too many: not kept, a retransmission may bring them. */
  refused = 0;
  /** True when the last `put` met bytes that differ from those kept. */
  disagreed = false;

  constructor(slots: number) {
    this.#limit = slots;
    this.#free = new Int32Array(slots);
    this.#spans = new Spans(slots);
    this.#base = new Int32Array(slots);
    this.#have = new Int32Array(slots);
  }

  get inUse(): number {
    return this.#allocated - this.#freeCount;
  }

  /** A fresh slot, or -1 when all are taken. */
  claim(): number {
    if (this.#freeCount === 0) {
      const count = Math.min(BLOCK_SLOTS, this.#limit - this.#allocated);
      if (count <= 0) return -1;
      const block = new Uint8Array(count * SLOT_BYTES);
      this.#blocks.push(block);
      this.#views.push(new DataView(block.buffer));
      for (let i = count - 1; i >= 0; i--) this.#free[this.#freeCount++] = this.#allocated + i;
      this.#allocated += count;
    }
    const slot = this.#free[--this.#freeCount]!;
    this.#base[slot] = 0;
    this.#have[slot] = 0;
    this.#spans.clear(slot);
    return slot;
  }

  release(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  /** Stream offset of the first byte kept. */
  base(slot: number): number {
    return this.#base[slot]!;
  }

  /** Stream offset behind the last byte that has come in order. */
  have(slot: number): number {
    return this.#have[slot]!;
  }

  /** The view that holds the slot; its bytes stand from `viewAt` on. Valid until `release`. */
  view(slot: number): DataView {
    return this.#views[(slot / BLOCK_SLOTS) | 0]!;
  }

  /** Where stream offset `base(slot)` stands in `view(slot)`. */
  viewAt(slot: number): number {
    return (slot % BLOCK_SLOTS) * SLOT_BYTES;
  }

  /**
   * Puts `[at, end)` of `view` at stream offset `offset`, as far as the slot reaches. Returns true
   * when bytes in order have grown.
   */
  put(slot: number, offset: number, view: DataView, at: number, end: number): boolean {
    this.disagreed = false;
    const base = this.#base[slot]!;
    if (offset < base) {
      at += base - offset;
      offset = base;
    }
    let from = offset - base;
    let to = from + end - at;
    if (to > SLOT_BYTES) {
      this.refused++;
      to = SLOT_BYTES;
    }
    if (from >= to) return false;
    const before = this.#have[slot]!;
    const spans = this.#spans;
    if (spans.nextFrom(slot, from - 1, to) === to && !spans.has(slot, from)) {
      if (!spans.add(slot, from, to)) {
        this.refused++;
        return false;
      }
      this.#copy(slot, from, to, view, at);
    } else {
      this.#fill(slot, from, to, view, at);
    }
    this.#have[slot] = base + spans.endFrom(slot, 0);
    return this.#have[slot]! > before;
  }

  /** Copies only what is missing of `[from, to)`, and compares the rest. */
  #fill(slot: number, from: number, to: number, view: DataView, at: number): void {
    const spans = this.#spans;
    let p = from;
    while (p < to) {
      const known = Math.min(to, spans.endFrom(slot, p));
      if (known > p) {
        if (!this.#agrees(slot, p, known, view, at + p - from)) this.disagreed = true;
        p = known;
        continue;
      }
      const until = spans.nextFrom(slot, p, to);
      if (!spans.add(slot, p, until)) {
        this.refused++;
        return;
      }
      this.#copy(slot, p, until, view, at + p - from);
      p = until;
    }
  }

  /**
   * Copies 32 bytes at a time, which takes a quarter of what 4 do: `set` would need a view of the
   * source, which is an allocation. Numbers of 64 bits are none in compiled code.
   */
  #copy(slot: number, from: number, to: number, view: DataView, at: number): void {
    const target = this.view(slot);
    const start = this.viewAt(slot);
    const end = start + to;
    let o = start + from;
    for (; o + 32 <= end; o += 32, at += 32) {
      target.setBigInt64(o, view.getBigInt64(at, true), true);
      target.setBigInt64(o + 8, view.getBigInt64(at + 8, true), true);
      target.setBigInt64(o + 16, view.getBigInt64(at + 16, true), true);
      target.setBigInt64(o + 24, view.getBigInt64(at + 24, true), true);
    }
    for (; o + 4 <= end; o += 4, at += 4) target.setInt32(o, view.getInt32(at, true), true);
    for (; o < end; o++, at++) target.setUint8(o, view.getUint8(at));
  }

  #agrees(slot: number, from: number, to: number, view: DataView, at: number): boolean {
    const block = this.#blocks[(slot / BLOCK_SLOTS) | 0]!;
    const start = this.viewAt(slot);
    for (let i = from; i < to; i++) {
      if (block[start + i] !== view.getUint8(at + i - from)) return false;
    }
    return true;
  }

  /**
   * Gives up all bytes below stream offset `to`, come or not:
   *
   *      before   |base ....... to ..... have|
   *      after                  |base .. have|
   */
  discard(slot: number, to: number): void {
    const base = this.#base[slot]!;
    const by = to - base;
    if (by <= 0) return;
    this.#spans.shift(slot, by);
    if (this.#spans.count(slot) > 0) {
      const start = this.viewAt(slot);
      const block = this.#blocks[(slot / BLOCK_SLOTS) | 0]!;
      block.copyWithin(start, start + by, start + SLOT_BYTES);
    }
    this.#base[slot] = to;
    this.#have[slot] = to + this.#spans.endFrom(slot, 0);
  }
}
