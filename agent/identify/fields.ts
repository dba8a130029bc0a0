/** Reads the fields of a message of which perhaps only the beginning has come. */
import { Match } from "./match.ts";

/**
 * Read straight down, in the order of the bytes: `match` is `yes` while every field came and
 * agreed, `more` from the first one that has not come, `no` from the first one that differs. A read
 * behind either returns 0 and changes nothing, so a grammar is written down once and asked once.
 *
 * at <= end
 */
export class Fields {
  match: Match = Match.yes;
  readonly view: DataView;
  at: number;
  readonly end: number;

  constructor(view: DataView, at: number, end: number) {
    this.view = view;
    this.at = at;
    this.end = end;
  }

  expect(agrees: boolean): void {
    if (!agrees && this.match === Match.yes) this.match = Match.no;
  }

  uint8(): number {
    const at = this.#advance(1);
    return at < 0 ? 0 : this.view.getUint8(at);
  }

  uint16(littleEndian = false): number {
    const at = this.#advance(2);
    return at < 0 ? 0 : this.view.getUint16(at, littleEndian);
  }

  uint24(): number {
    const at = this.#advance(3);
    return at < 0 ? 0 : (this.view.getUint8(at) << 16) | this.view.getUint16(at + 1);
  }

  uint32(littleEndian = false): number {
    const at = this.#advance(4);
    return at < 0 ? 0 : this.view.getUint32(at, littleEndian);
  }

  skip(length: number): void {
    this.#advance(length);
  }

  /** The next `length` bytes, each of which `isPart`; what has come of them is looked at. */
  run(length: number, isPart: (byte: number) => boolean): void {
    for (let i = 0; i < length && this.match === Match.yes; i++) this.expect(isPart(this.uint8()));
  }

  /** The bytes of `text`, one character a byte. */
  text(text: string): void {
    for (let i = 0; i < text.length && this.match === Match.yes; i++) {
      this.expect(this.uint8() === text.charCodeAt(i));
    }
  }

  /** A BER element's tag and definite length (X.690 §8.1.3): its length, of at most 32 bits. */
  element(tag: number): number {
    this.expect(this.uint8() === tag);
    return this.length();
  }

  /** A BER length on its own. */
  length(): number {
    const first = this.uint8();
    if (first < 0x80) return first;
    this.expect(first >= 0x81 && first <= 0x84);
    let length = 0;
    for (let i = 0; i < (first & 7); i++) length = length * 256 + this.uint8();
    return length;
  }

  /** A BER INTEGER or ENUMERATED of at most 32 bits, not negative. */
  integer(tag = 0x02): number {
    const length = this.element(tag);
    this.expect(length >= 1 && length <= 5);
    let value = 0;
    for (let i = 0; i < length && this.match === Match.yes; i++) {
      const byte = this.uint8();
      if (i === 0) this.expect(byte < 0x80 && (length < 5 || byte === 0));
      value = value * 256 + byte;
    }
    return value;
  }

  /** Moves on and returns where it stood; -1 when the bytes have not all come. */
  #advance(length: number): number {
    if (this.match !== Match.yes) return -1;
    const at = this.at;
    if (length > this.end - at) {
      this.match = Match.more;
      return -1;
    }
    this.at = at + length;
    return at;
  }
}
