/** Reads borrowed bytes field by field. */
import { latin1Of } from "./text.ts";

/**
 * Reads variable records from borrowed bytes: a read past the end clears `ok`, moves to `end` and
 * returns 0, so a parser is read straight down like the RFC's struct, and asks once.
 *
 * 0 <= at <= end <= view.byteLength. Loops run `while (c.more)`, so they end on failure too.
 */
export class Cursor {
  view: DataView;
  at: number;
  end: number;
  ok = true;
  /** Where bytes were read, from and to, in order; those that were skipped are none of them. */
  #reads: number[] | null = null;

  constructor(view: DataView, at: number, end: number) {
    this.view = view;
    this.at = at;
    this.end = end;
  }

  get more(): boolean {
    return this.at < this.end;
  }

  get left(): number {
    return this.end - this.at;
  }

  uint8(): number {
    const at = this.#advance(1);
    return at < 0 ? 0 : this.view.getUint8(at);
  }

  uint16(): number {
    const at = this.#advance(2);
    return at < 0 ? 0 : this.view.getUint16(at);
  }

  uint24(): number {
    const at = this.#advance(3);
    return at < 0 ? 0 : (this.view.getUint8(at) << 16) | this.view.getUint16(at + 1);
  }

  uint32(): number {
    const at = this.#advance(4);
    return at < 0 ? 0 : this.view.getUint32(at);
  }

  skip(length: number): void {
    this.#pass(length);
  }

  /** Has it noted from now on what is read; ranges that touch are one. */
  noteReads(reads: number[]): void {
    this.#reads = reads;
  }

  /** Narrows to the next `length` bytes; `leave` with the returned value moves behind them. */
  enter(length: number): number {
    const outer = this.end;
    if (length > this.left) this.fail();
    else this.end = this.at + length;
    return outer;
  }

  leave(outer: number): void {
    if (this.ok) this.at = this.end;
    this.end = this.ok ? outer : this.end;
    if (!this.ok) this.at = this.end;
  }

  /** The next `length` bytes as text, one character a byte (ISO 8859-1); `""` past the end. */
  latin1(length: number): string {
    const at = this.#advance(length);
    return at < 0 ? "" : latin1Of(this.view, at, at + length);
  }

  /** A copy of the next `length` bytes; empty past the end. */
  bytes(length: number): Uint8Array {
    const at = this.#advance(length);
    if (at < 0) return new Uint8Array(0);
    return new Uint8Array(this.view.buffer, this.view.byteOffset + at, length).slice();
  }

  fail(): void {
    this.ok = false;
    this.at = this.end;
  }

  #advance(length: number): number {
    const at = this.#pass(length);
    if (this.#reads !== null && at >= 0) this.#note(this.#reads, at, at + length);
    return at;
  }

  #note(reads: number[], from: number, to: number): void {
    if (reads.at(-1) === from) reads[reads.length - 1] = to;
    else reads.push(from, to);
  }

  #pass(length: number): number {
    const at = this.at;
    if (length > this.end - at) {
      this.fail();
      return -1;
    }
    this.at = at + length;
    return at;
  }
}
