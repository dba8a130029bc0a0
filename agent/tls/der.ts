/** Reads DER (X.690 §10) value by value, within the lengths that it claims. */
import { Cursor } from "../read/cursor.ts";

/** Universal tags, with their constructed bit (X.690 §8.1.2). */
export const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Reads a tag and its length and narrows to the value; returns the tag, and -1 on failure. */
export class Der extends Cursor {
  outer = 0;

  /** Enters the next value; `leave(der.outer)` must be saved by the caller first. */
  open(): number {
    const tag = this.uint8();
    let length = this.uint8();
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3) this.fail();
      length = 0;
      for (let i = 0; i < count; i++) length = (length << 8) | this.uint8();
    }
    this.outer = this.enter(length);
    return this.ok ? tag : -1;
  }
}

/** Runs `read` inside the next value when it has the tag; the cursor then stands behind it. */
export function inside<T>(d: Der, tag: number, read: (d: Der) => T, otherwise: T): T {
  const found = d.open();
  const outer = d.outer;
  if (found !== tag) d.fail();
  const value = d.ok ? read(d) : otherwise;
  d.leave(outer);
  return value;
}

/** Passes over one value of any tag. */
export function pass(d: Der): void {
  d.open();
  d.leave(d.outer);
}

/** Object identifier in dots (X.690 §8.19). */
export function readOid(d: Der): string {
  let value = 0;
  let text = "";
  while (d.more) {
    const byte = d.uint8();
    value = value * 128 + (byte & 0x7f);
    if ((byte & 0x80) !== 0) continue;
    if (text === "") {
      const first = Math.min(2, Math.floor(value / 40));
      text = `${first}.${value - first * 40}`;
    } else text += `.${value}`;
    value = 0;
    if (text.length > 200) d.fail();
  }
  return text;
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
