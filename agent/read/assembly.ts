/** Puts the pieces of one stream or message together, in whatever order they come. */

/** Pieces this far ahead are kept at once; farther ones only behind a share of what is before. */
const FREE_BYTES = 8192;
/** Bytes that are allocated for each one that came, at most, beyond the free ones. */
const STRETCH = 4;
const FIRST_BYTES = 1024;

const NOTHING = new Uint8Array(0);
const NO_VIEW = new DataView(NOTHING.buffer);

/**
 * Which bytes have come is remembered byte by byte, so that no order, overlap or count of pieces
 * costs more than the bytes themselves. Bytes that came first win. What is allocated stays in
 * proportion to what came, whatever offsets are claimed.
 *
 * 0 <= have <= limit; all bytes below `have` have come.
 */
export class Assembly {
  /** Bytes of the stream's start that have come without a gap. */
  have = 0;
  /** A piece differed from bytes that came before it. */
  disagreed = false;
  readonly #limit: number;
  #received = 0;
  #bytes: Uint8Array<ArrayBuffer> = NOTHING;
  #come: Uint8Array<ArrayBuffer> = NOTHING;
  #view: DataView<ArrayBuffer> = NO_VIEW;

  /** Nothing at or beyond `limit` is kept. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The bytes from the stream's start; `[0, have)` may be read, until the next `put`. */
  get view(): DataView<ArrayBuffer> {
    return this.#view;
  }

  /** Puts `[at, end)` of `view` at `offset` of the stream; what lies too far ahead is lost. */
  put(offset: number, view: DataView, at: number, end: number): void {
    this.#received += end - at;
    const reach = Math.max(FREE_BYTES, this.#received * STRETCH);
    const to = Math.min(offset + end - at, this.#limit, reach);
    if (to <= offset) return;
    if (to > this.#bytes.length) this.#grow(to);
    for (let i = offset; i < to; i++) {
      const byte = view.getUint8(at + i - offset);
      if (this.#come[i] === 1) {
        if (this.#bytes[i] !== byte) this.disagreed = true;
      } else {
        this.#bytes[i] = byte;
        this.#come[i] = 1;
      }
    }
    // Also over pieces that waited behind a gap that is filled now.
    while (this.#come[this.have] === 1) this.have++;
  }

  #grow(to: number): void {
    let length = Math.max(FIRST_BYTES, this.#bytes.length);
    while (length < to) length *= 2;
    const larger = new Uint8Array(Math.min(length, this.#limit));
    larger.set(this.#bytes);
    const come = new Uint8Array(larger.length);
    come.set(this.#come);
    this.#bytes = larger;
    this.#come = come;
    this.#view = new DataView(larger.buffer);
  }
}
