/** Recognises remote desktops and terminals: RDP, VNC, Telnet. */
import { Fields } from "./fields.ts";
import { Match } from "./match.ts";

const CONNECTION_REQUEST = 0xe0;
const CONNECTION_CONFIRM = 0xd0;

/**
 * TPKT (RFC 1006 §6), then X.224's fixed part; returns how many bytes follow it:
 *
 *     3 | 0 | uint16 length of all | length behind here | code | destination | source | class 0
 */
function x224(f: Fields, code: number): number {
  f.expect(f.uint8() === 3);
  f.expect(f.uint8() === 0);
  const length = f.uint16();
  f.expect(length >= 11 && length <= 260);
  f.expect(f.uint8() === length - 5);
  f.expect(f.uint8() === code);
  const destination = f.uint16();
  if (code === CONNECTION_REQUEST) f.expect(destination === 0);
  f.skip(2);
  f.expect(f.uint8() === 0);
  return length - 11;
}

/**
 * A Connection Request with a cookie or RDP_NEG_REQ (MS-RDPBCGR §2.2.1.1). ISO transports of others
 * (S7, MMS) have parameters of X.224 there; a bare one may be anybody's.
 */
export function isRdpRequest(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  const left = x224(f, CONNECTION_REQUEST);
  if (f.match !== Match.yes) return f.match;
  if (left === 0) return Match.likely;
  const first = f.uint8();
  if (first === 0x43) f.text("ookie: ");
  else negotiation(f, first, left, 1, 1);
  return f.match;
}

/** A Connection Confirm with RDP_NEG_RSP or RDP_NEG_FAILURE (MS-RDPBCGR §2.2.1.2). */
export function isRdpConfirm(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  const left = x224(f, CONNECTION_CONFIRM);
  if (f.match !== Match.yes) return f.match;
  if (left === 0) return Match.likely;
  negotiation(f, f.uint8(), left, 2, 3);
  return f.match;
}

/** type | flags | uint16 length 8, little-endian | uint32. A correlation may follow it. */
function negotiation(f: Fields, type: number, left: number, from: number, to: number): void {
  f.expect(type >= from && type <= to && left >= 8);
  f.skip(1);
  f.expect(f.uint16(true) === 8);
}

const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;

/** ProtocolVersion, of both sides: `RFB 003.008\n` (RFC 6143 §7.1.1). */
export function isVnc(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  f.text("RFB ");
  f.run(3, isDigit);
  f.text(".");
  f.run(3, isDigit);
  f.text("\n");
  return f.match;
}

const IAC = 0xff;
const SB = 0xfa;

/**
 * IAC with WILL, WONT, DO, DONT or SB, and an option that IANA lists (RFC 854, RFC 855). Three
 * bytes are too few to name a protocol by; the other side negotiates too.
 */
export function isTelnet(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== IAC) return Match.no;
  const f = new Fields(view, at, end);
  f.skip(1);
  const command = f.uint8();
  f.expect(command >= SB && command < IAC);
  const option = f.uint8();
  f.expect(option <= 49 || (option >= 138 && option <= 140) || option === 255);
  return f.match === Match.yes ? Match.likely : f.match;
}
