/** Recognises TLS by its first record, and joined mid-stream by two records in a row. */
import { Match } from "./match.ts";

const LENGTH_LIMIT = 16384 + 2048;

/** A handshake record whose first message is of `type`: 16 03 vv ll ll TT. */
function isHandshake(view: DataView, at: number, end: number, type: number): Match {
  if (view.getUint8(at) !== 22) return Match.no;
  if (end - at < 6) return Match.more;
  const isVersion = view.getUint8(at + 1) === 3 && view.getUint8(at + 2) <= 4;
  const length = view.getUint16(at + 3);
  if (!isVersion || length === 0 || length > LENGTH_LIMIT) return Match.no;
  if (view.getUint8(at + 5) !== type) return Match.no;
  if (length < 4 || end - at < 9) return Match.yes;
  return view.getUint8(at + 6) <= 1 ? Match.yes : Match.no; // a hello is shorter than 128 KiB
}

export function isTlsClientHello(view: DataView, at: number, end: number): Match {
  const match = isHandshake(view, at, end, 1);
  return match === Match.no ? isSsl2Hello(view, at, end) : match;
}

/** An SSLv2-style hello (RFC 6101 Appendix E.2): length with the top bit, 1, version, specs. */
function isSsl2Hello(view: DataView, at: number, end: number): Match {
  if ((view.getUint8(at) & 0x80) === 0) return Match.no;
  if (end - at < 11) return end - at >= 3 && view.getUint8(at + 2) !== 1 ? Match.no : Match.more;
  const length = view.getUint16(at) & 0x7fff;
  const version = view.getUint16(at + 3);
  const specs = view.getUint16(at + 5);
  const session = view.getUint16(at + 7);
  const challenge = view.getUint16(at + 9);
  const agrees =
    view.getUint8(at + 2) === 1 &&
    (version === 0x0002 || (version >= 0x0300 && version <= 0x0304)) &&
    specs > 0 &&
    specs % 3 === 0 &&
    challenge >= 16 &&
    challenge <= 32 &&
    length === 9 + specs + session + challenge;
  return agrees ? Match.yes : Match.no;
}

export function isTlsServerHello(view: DataView, at: number, end: number): Match {
  return isHandshake(view, at, end, 2);
}

/** A whole alert record in clear: 15 03 vv 00 02 level description. */
export function isTlsAlert(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 21) return Match.no;
  if (end - at < 7) return Match.more;
  const agrees =
    view.getUint8(at + 1) === 3 &&
    view.getUint8(at + 2) <= 4 &&
    view.getUint16(at + 3) === 2 &&
    (view.getUint8(at + 5) === 1 || view.getUint8(at + 5) === 2) &&
    view.getUint8(at + 6) <= 121;
  return agrees ? Match.yes : Match.no;
}

/**
 * Reports whether a flow that was joined mid-stream carries TLS records at `at`: one of application
 * data, an encrypted handshake or an alert, and as far as bytes have come, another behind it.
 */
export function isTlsMidstream(view: DataView, at: number, end: number): Match {
  if (end - at < 5) return Match.more;
  const type = view.getUint8(at);
  const length = view.getUint16(at + 3);
  const isRecord =
    type >= 20 &&
    type <= 23 &&
    view.getUint8(at + 1) === 3 &&
    view.getUint8(at + 2) <= 3 &&
    length > 0 &&
    length <= LENGTH_LIMIT;
  if (!isRecord) return Match.no;
  const next = at + 5 + length;
  if (end - next < 3) return type === 23 && length >= 17 ? Match.yes : Match.more;
  const nextType = view.getUint8(next);
  const isNext = nextType >= 20 && nextType <= 23 && view.getUint8(next + 1) === 3;
  return isNext ? Match.yes : Match.no;
}
