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

/** A ServerHello, or a HelloRequest, which may come at any time (RFC 5246 §7.4.1.1). */
export function isTlsServerHello(view: DataView, at: number, end: number): Match {
  const match = isHandshake(view, at, end, 2);
  if (match !== Match.no) return match;
  const isRequest = isHandshake(view, at, end, 0);
  if (isRequest !== Match.yes) return isRequest;
  if (end - at < 9) return Match.more;
  return view.getUint16(at + 3) === 4 && view.getUint32(at + 5) === 0 ? Match.yes : Match.no;
}

/**
 * An SSL 2.0 SERVER-HELLO (Hickman 1995): length with the top bit, 4, session id hit, certificate
 * type, version 2, lengths of the certificate, the cipher specs and the connection id.
 */
export function isSsl2ServerHello(view: DataView, at: number, end: number): Match {
  if ((view.getUint8(at) & 0x80) === 0) return Match.no;
  if (end - at < 13) return end - at >= 3 && view.getUint8(at + 2) !== 4 ? Match.no : Match.more;
  const specs = view.getUint16(at + 9);
  const connection = view.getUint16(at + 11);
  const agrees =
    view.getUint8(at + 2) === 4 &&
    view.getUint8(at + 3) <= 1 &&
    view.getUint8(at + 4) <= 1 &&
    view.getUint16(at + 5) === 2 &&
    specs % 3 === 0 &&
    connection <= 32 &&
    (view.getUint16(at) & 0x7fff) === 11 + view.getUint16(at + 7) + specs + connection;
  return agrees ? Match.yes : Match.no;
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

/** Handshake types that may begin a clear record (RFC 8446 §4, RFC 5246 §7.4). */
const HANDSHAKES: ReadonlySet<number> = new Set([0, 1, 2, 4, 8, 11, 12, 13, 14, 15, 16, 20, 22]);

/**
 * Reports whether TLS records stand at `at` of a flow that was joined mid-stream: one that fills
 * what came, one of application data, a handshake message in clear, or two in a row.
 */
export function isTlsMidstream(view: DataView, at: number, end: number): Match {
  if (end - at < 5) return isRecordStart(view, at, end) ? Match.more : Match.no;
  if (!isRecordStart(view, at, end)) return Match.no;
  const type = view.getUint8(at);
  const length = view.getUint16(at + 3);
  if (length === 0 || length > LENGTH_LIMIT) return Match.no;
  const next = at + 5 + length;
  if (next === end)
    return type === 23 ? (length >= 17 ? Match.yes : Match.more) : isWhole(view, at);
  if (end - next >= 3) return isRecordStart(view, next, end) ? Match.yes : Match.no;
  if (type === 22 && end - at >= 9 && HANDSHAKES.has(view.getUint8(at + 5))) {
    return view.getUint8(at + 6) === 0 ? Match.yes : Match.no;
  }
  return type === 23 && length >= 17 ? Match.yes : Match.more;
}

/** Type 20 to 23 and version 3.0 to 3.3, as far as they came. */
function isRecordStart(view: DataView, at: number, end: number): boolean {
  const type = view.getUint8(at);
  if (type < 20 || type > 23) return false;
  if (end - at < 2) return true;
  return view.getUint8(at + 1) === 3 && (end - at < 3 || view.getUint8(at + 2) <= 3);
}

/** A whole record that is no application data: its length is one that its type has. */
function isWhole(view: DataView, at: number): Match {
  const length = view.getUint16(at + 3);
  switch (view.getUint8(at)) {
    case 20:
      return length === 1 && view.getUint8(at + 5) === 1 ? Match.yes : Match.no;
    case 21:
      return length === 2 || (length >= 16 && length <= 80) ? Match.yes : Match.no;
    default:
      return length >= 4 ? Match.yes : Match.no;
  }
}
