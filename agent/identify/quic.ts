/** Recognises QUIC, and Google's QUIC before it, by the clear part of a datagram's first packet. */
import { Match } from "./match.ts";

const CONNECTION_ID_LIMIT = 20;
/** Datagrams with a client's first packet are no shorter (RFC 9000 §14.1). */
const INITIAL_BYTES = 1200;

/** QUIC's versions: 1 (RFC 9000), 2 (RFC 9369), the IETF's drafts, and Meta's mvfst. */
function isIetfVersion(version: number): boolean {
  const isDraft = version >>> 8 === 0xff0000 && (version & 0xff) > 0 && (version & 0xff) <= 34;
  return version === 1 || version === 0x6b3343cf || isDraft || version >>> 8 === 0xfaceb0;
}

/** Google's with the IETF's header: `Q050`, `T050`, `T051`. */
function isGoogleVersion(version: number): boolean {
  const letter = version >>> 24;
  const isLetter = letter === 0x51 || letter === 0x54; // Q or T
  return isLetter && (version & 0xfffff0) === 0x303530 && (version & 0x0f) <= 9;
}

/** Versions that no one speaks: they make a server name its own (RFC 9000 §15). */
function isReserved(version: number): boolean {
  return (version & 0x0f0f0f0f) === 0x0a0a0a0a;
}

/**
 * A long header (RFC 9000 §17.2): form and fixed bit, version, two connection identifiers of at
 * most 20 bytes, and something behind them; or a Version Negotiation (§17.2.1).
 */
export function isQuic(view: DataView, at: number, end: number): Match {
  if (end - at < 16) return Match.no;
  const first = view.getUint8(at);
  if ((first & 0x80) === 0) return isEarlyGoogleQuic(view, at, end);
  const version = view.getUint32(at + 1);
  if (version === 0x51303436) return isQ046(view, at, end);
  const destination = view.getUint8(at + 5);
  if (destination > CONNECTION_ID_LIMIT || at + 6 + destination >= end) return Match.no;
  const source = view.getUint8(at + 6 + destination);
  const behind = at + 7 + destination + source;
  if (source > CONNECTION_ID_LIMIT || behind >= end) return Match.no;
  if (version === 0) return listsVersions(view, behind, end) ? Match.yes : Match.no;
  if ((first & 0x40) === 0) return Match.no;
  if (isReserved(version)) {
    return destination >= 8 && end - at >= INITIAL_BYTES ? Match.yes : Match.no;
  }
  return isIetfVersion(version) || isGoogleVersion(version) ? Match.yes : Match.no;
}

/** Reports whether versions fill a Version Negotiation, one that is known among them. */
function listsVersions(view: DataView, at: number, end: number): boolean {
  if ((end - at) % 4 !== 0 || end - at > 256) return false;
  let knows = false;
  for (; at < end; at += 4) {
    const version = view.getUint32(at);
    knows ||= isIetfVersion(version) || isGoogleVersion(version) || version >>> 12 === 0x51303;
  }
  return knows;
}

/** Q046: a long header of its own, with both lengths of connection ids in one byte: 8 and 0. */
function isQ046(view: DataView, at: number, end: number): Match {
  const lengths = view.getUint8(at + 5);
  const isEither = lengths === 0x50 || lengths === 0x05;
  return (view.getUint8(at) & 0xc0) === 0xc0 && isEither && end - at > 18 ? Match.yes : Match.no;
}

/**
 * Google's QUIC up to Q043: flags with the version bit (1) and 8 bytes of connection id (8), the
 * id, `Q0` and two digits, then packet number and an authentication hash.
 */
function isEarlyGoogleQuic(view: DataView, at: number, end: number): Match {
  if (end - at < 26 || (view.getUint8(at) & 0xcb) !== 0x09) return Match.no;
  const isQ0 = view.getUint16(at + 9) === 0x5130;
  const isNumber = isDigit(view.getUint8(at + 11)) && isDigit(view.getUint8(at + 12));
  return isQ0 && isNumber ? Match.yes : Match.no;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
