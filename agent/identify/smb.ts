/** Recognises SMB by its header in a NetBIOS session, and by that session's start. */
import { Fields } from "./fields.ts";
import { Match } from "./match.ts";
import type { Test } from "./match.ts";

/** Where SMB 1 and SMB 2 say that a message is the server's (MS-CIFS §2.2.3.1, MS-SMB2 §2.2.1). */
const SMB1_FLAGS = 9;
const SMB2_FLAGS = 16;

/**
 *     0 | uint24 length | 0xff, or 0xfe from version 2 on | "SMB" | …
 *
 * (RFC 1002 §4.3.6, MS-SMB2 §2.1.)
 */
const smb = (isResponse: boolean): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) !== 0) return Match.no;
    const f = new Fields(view, at, end);
    const length = f.uint32();
    f.expect(length >= 32);
    const version = f.uint8();
    f.expect(version === 0xff || version === 0xfe);
    f.text("SMB");
    f.skip((version === 0xff ? SMB1_FLAGS : SMB2_FLAGS) - 4);
    const flags = f.uint8();
    f.expect(((flags & (version === 0xff ? 0x80 : 0x01)) !== 0) === isResponse);
    return f.match;
  };
};

export const isSmbRequest = smb(false);
export const isSmbResponse = smb(true);

/** Encrypted or compressed messages (MS-SMB2 §2.2.41, §2.2.42): they do not say whose they are. */
export function isSmbTransform(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0) return Match.no;
  const f = new Fields(view, at, end);
  f.expect(f.uint32() >= 16);
  const kind = f.uint8();
  f.expect(kind === 0xfd || kind === 0xfc);
  f.text("SMB");
  return f.match;
}

/** SESSION REQUEST: two NetBIOS names in their encoded form (RFC 1002 §4.3.2, RFC 1001 §14.1). */
export function isNetbiosRequest(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  f.expect(f.uint8() === 0x81);
  f.expect(f.uint8() <= 1);
  const length = f.uint16();
  f.expect(length >= 68 && length <= 512);
  f.expect(f.uint8() === 0x20);
  f.run(32, (byte) => byte >= 0x41 && byte <= 0x50);
  return f.match;
}

/** POSITIVE or NEGATIVE SESSION RESPONSE (RFC 1002 §4.3.3, §4.3.4): too little to tell alone. */
export function isNetbiosResponse(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  const type = f.uint8();
  f.expect(type === 0x82 || type === 0x83);
  f.expect(f.uint24() === (type === 0x82 ? 0 : 1));
  if (type === 0x83) f.expect(f.uint8() >= 0x80);
  return f.match === Match.yes ? Match.likely : f.match;
}
