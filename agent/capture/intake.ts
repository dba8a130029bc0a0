/** Hands on bytes that come piece by piece: as many as are asked for, the rest is kept. */

/** Bytes read at a time: what a core's own cache holds beside all else. */
export const CHUNK_BYTES = 1 << 18;

/** Bytes that come piece by piece, each the receiver's to keep; null at the end. */
export type Pieces = {
  next(): Promise<Uint8Array | null> | Uint8Array | null;
  readonly isStopped: boolean;
  close(): void;
};

export const NOTHING: Uint8Array = new Uint8Array(0);

/** Bytes at hand, and those to come: what was taken and not used is given back. */
export class Intake {
  /** Those at hand. */
  held = NOTHING;
  /** Bytes that came so far. */
  came = 0;
  readonly #pieces: Pieces;

  constructor(pieces: Pieces) {
    this.#pieces = pieces;
  }

  /** Bytes that were taken and not given back. */
  get position(): number {
    return this.came - this.held.length;
  }

  async #next(): Promise<Uint8Array | null> {
    const piece = await this.#pieces.next();
    if (piece !== null) this.came += piece.length;
    return piece;
  }

  /** Waits until so many bytes are at hand; false where the end comes before. */
  async has(count: number): Promise<boolean> {
    if (this.held.length >= count) return true;
    const pieces = [this.held];
    let length = this.held.length;
    while (length < count) {
      const piece = await this.#next();
      if (piece === null) break;
      pieces.push(piece);
      length += piece.length;
    }
    this.held = pieces.length === 2 && this.held.length === 0 ? pieces[1]! : Buffer.concat(pieces);
    return length >= count;
  }

  /** Takes what is at hand, else what comes next; null at the end. */
  async take(): Promise<Uint8Array | null> {
    if (this.held.length === 0) return this.#next();
    const taken = this.held;
    this.held = NOTHING;
    return taken;
  }

  /** Takes so many bytes of those at hand. */
  cut(count: number): Uint8Array {
    const taken = this.held.subarray(0, count);
    this.held = this.held.subarray(count);
    return taken;
  }

  giveBack(bytes: Uint8Array): void {
    this.held = this.held.length === 0 ? bytes : Buffer.concat([bytes, this.held]);
  }

  /** Passes over so many bytes; false where the end comes before. */
  async skip(count: number): Promise<boolean> {
    while (this.held.length < count) {
      count -= this.held.length;
      const next = await this.#next();
      this.held = next ?? NOTHING;
      if (next === null) return false;
    }
    this.held = this.held.subarray(count);
    return true;
  }
}
