/**
 * Writes MessagePack with the record extension of `msgpackr`, whose readers the collector has:
 * objects of one shape name their fields once in a message, and are an identifier and values after
 * that.
 *
 *      d4 72 id, array of names, values …      the first of its shape
 *      id, values …                            every other one; id is 0x40 to 0x7f
 */

/** An int of one byte would be taken for a record from here on. */
const RECORDS_FROM = 0x40;
const RECORDS = 64;
/** Longest text whose bytes are written one by one: for longer ones a call pays. */
const SHORT = 48;
/** Most bytes that a scalar takes, and what stands before a text or list. */
const SCALAR_BYTES = 9;

/** Fields of an object, by a number from 0 to 63; those of 63 are named each time. */
export type Shape = { readonly id: number; readonly names: readonly string[] };
export const NAMED_EACH_TIME = RECORDS - 1;

/** A set of shapes, a bit each. */
export type ShapeSet = { low: number; high: number };

export class MessagePack {
  bytes: Buffer;
  /** Where the next byte goes. */
  at = 0;
  /** Something found no room: what was written since then is worth nothing. */
  isFull = false;
  /** Shapes that were written since the caller emptied it, but for those named each time. */
  readonly used: ShapeSet = { low: 0, high: 0 };
  /** Counts the times that they were named. */
  namings = 0;
  readonly #limit: number;
  /** Shapes that are named in this message, and where. */
  readonly #named: ShapeSet = { low: 0, high: 0 };
  readonly #namedAt = new Int32Array(RECORDS);

  /** Room for `limit` bytes, of which some are taken at once. */
  constructor(limit: number) {
    this.#limit = limit;
    this.bytes = Buffer.allocUnsafeSlow(Math.min(limit, 1 << 14));
  }

  /** Valid until the next byte is written. */
  get written(): Uint8Array {
    return this.bytes.subarray(0, this.at);
  }

  /** Begins a message. */
  clear(): void {
    this.at = 0;
    this.isFull = false;
    this.#named.low = this.#named.high = 0;
  }

  /** Takes back what was written from a position on, the names of shapes included. */
  rollBack(at: number): void {
    this.at = at;
    this.isFull = false;
    for (let id = 0; id < RECORDS; id++) {
      if (this.#namedAt[id]! >= at) leaveOut(this.#named, id);
    }
  }

  /** Reports whether so many bytes have room; makes it as far as the limit goes. */
  #hasRoom(bytes: number): boolean {
    const until = this.at + bytes;
    if (until <= this.bytes.length) return true;
    if (until > this.#limit) {
      this.isFull = true;
      return false;
    }
    const larger = Buffer.allocUnsafeSlow(Math.min(this.#limit, Math.max(until, this.at * 2)));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
    return true;
  }

  nothing(): boolean {
    return this.#byte(0xc0);
  }

  flag(value: boolean): boolean {
    return this.#byte(value ? 0xc3 : 0xc2);
  }

  #byte(byte: number): boolean {
    if (!this.#hasRoom(1)) return false;
    this.bytes[this.at++] = byte;
    return true;
  }

  number(value: number): boolean {
    if (!this.#hasRoom(SCALAR_BYTES)) return false;
    const { bytes, at } = this;
    if (value >>> 0 === value) {
      if (value < RECORDS_FROM) bytes[this.at++] = value;
      else if (value < 0x100) {
        bytes[at] = 0xcc;
        bytes[at + 1] = value;
        this.at += 2;
      } else if (value < 0x10000) {
        bytes[at] = 0xcd;
        bytes[at + 1] = value >> 8;
        bytes[at + 2] = value;
        this.at += 3;
      } else {
        bytes[at] = 0xce;
        this.at = bytes.writeUInt32BE(value, at + 1);
      }
    } else if (value >> 0 === value) {
      bytes[at] = 0xd2;
      this.at = bytes.writeInt32BE(value, at + 1);
    } else this.double(value);
    return true;
  }

  /** Nine bytes, whatever the number. */
  double(value: number): boolean {
    if (!this.#hasRoom(SCALAR_BYTES)) return false;
    this.bytes[this.at] = 0xcb;
    this.at = this.bytes.writeDoubleBE(value, this.at + 1);
    return true;
  }

  text(value: string): boolean {
    const { length } = value;
    if (!this.#hasRoom(length * 3 + SCALAR_BYTES)) return false;
    if (length <= SHORT) {
      const { bytes } = this;
      const start = this.at + (length < 32 ? 1 : 2);
      let i = 0;
      for (; i < length; i++) {
        const unit = value.charCodeAt(i);
        if (unit > 0x7f) break;
        bytes[start + i] = unit;
      }
      if (i === length) {
        this.#head(length, 0xa0, 32, 0xd9);
        this.at += length;
        return true;
      }
    }
    this.#head(Buffer.byteLength(value), 0xa0, 32, 0xd9);
    this.at += this.bytes.write(value, this.at);
    return true;
  }

  /** Bytes that were written before, of shapes that are all named in this message. */
  again(written: Uint8Array, { low, high }: ShapeSet): boolean {
    if (!this.#hasRoom(written.length)) return false;
    this.used.low |= low;
    this.used.high |= high;
    this.bytes.set(written, this.at);
    this.at += written.length;
    return true;
  }

  /** So many items follow. */
  list(items: number): boolean {
    if (!this.#hasRoom(SCALAR_BYTES)) return false;
    this.#head(items, 0x90, 16, 0xdb); // a list's two bytes are 0xdc; one byte there is none
    return true;
  }

  /** A length below `short` goes into the code; else it follows in one, two or four bytes. */
  #head(length: number, code: number, short: number, longer: number): void {
    const { bytes } = this;
    if (length < short) bytes[this.at++] = code | length;
    else if (length < 0x100 && longer === 0xd9) {
      bytes[this.at++] = longer;
      bytes[this.at++] = length;
    } else if (length < 0x10000) {
      bytes[this.at++] = longer + 1;
      this.at = bytes.writeUInt16BE(length, this.at);
    } else {
      bytes[this.at++] = longer + 2;
      this.at = bytes.writeUInt32BE(length, this.at);
    }
  }

  /** An object of that shape begins: its values follow. */
  object({ id, names }: Shape): boolean {
    if (!this.#hasRoom(SCALAR_BYTES)) return false;
    if (id !== NAMED_EACH_TIME) {
      add(this.used, id);
      if (has(this.#named, id)) return this.#byte(RECORDS_FROM | id);
      add(this.#named, id);
      this.#namedAt[id] = this.at;
      this.namings++;
    }
    this.bytes[this.at++] = 0xd4;
    this.bytes[this.at++] = 0x72;
    this.bytes[this.at++] = RECORDS_FROM | id;
    if (!this.list(names.length)) return false;
    for (const name of names) if (!this.text(name)) return false;
    return true;
  }

  /** Reports whether all of these shapes are named in this message. */
  hasNamed({ low, high }: ShapeSet): boolean {
    return (low & ~this.#named.low) === 0 && (high & ~this.#named.high) === 0;
  }
}

function has({ low, high }: ShapeSet, id: number): boolean {
  return id < 32 ? (low & (1 << id)) !== 0 : (high & (1 << (id - 32))) !== 0;
}

function add(set: ShapeSet, id: number): void {
  if (id < 32) set.low |= 1 << id;
  else set.high |= 1 << (id - 32);
}

function leaveOut(set: ShapeSet, id: number): void {
  if (id < 32) set.low &= ~(1 << id);
  else set.high &= ~(1 << (id - 32));
}
