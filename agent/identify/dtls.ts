/** Recognises DTLS by the records of one datagram, from the hello on or joined later. */
import { Match } from "./match.ts";

const RECORD_HEADER = 13;
const MESSAGE_HEADER = 12;
const CONNECTION_ID_LIMIT = 32;
/** What CAPWAP puts before each datagram of DTLS (RFC 5415 §4.2): version 0, type 1. */
const CAPWAP = 0x01000000;
/** Most records of a datagram that are looked at. */
const RECORDS_LIMIT = 16;

/**
 * Records (RFC 6347 §4.1) that fill the datagram: content type, version 0xfeff or 0xfefd (0x0100
 * before RFC 4347), epoch, sequence number, length. Those in clear must hold what their type says;
 * those under keys have an epoch. DTLS 1.3 sends its hellos in the same form (RFC 9147 §4), and
 * behind them records that begin with the bits 001.
 */
export function isDtls(view: DataView, at: number, end: number): Match {
  if (end - at > 4 && view.getUint32(at) === CAPWAP) at += 4;
  if (end - at < RECORD_HEADER + 1) return Match.no;
  const version = view.getUint16(at + 1);
  if (version !== 0xfeff && version !== 0xfefd && version !== 0x0100) return Match.no;
  for (let i = 0; i < RECORDS_LIMIT && at < end; i++) {
    if (i > 0 && view.getUint8(at) >> 5 === 1) return Match.yes;
    const behind = recordEnd(view, at, end, version);
    if (behind < 0) return Match.no;
    at = behind;
  }
  return Match.yes;
}

/** Where the record at `at` ends; -1 where there is none. */
function recordEnd(view: DataView, at: number, end: number, version: number): number {
  if (end - at <= RECORD_HEADER || view.getUint16(at + 1) !== version) return -1;
  const type = view.getUint8(at);
  const epoch = view.getUint16(at + 3);
  if (type === 25) return epoch > 0 && hasConnectionId(view, at, end) ? end : -1;
  const length = view.getUint16(at + 11);
  const bodyAt = at + RECORD_HEADER;
  const behind = bodyAt + length;
  if (length === 0 || behind > end) return -1;
  if (epoch > 0) return type >= 20 && type <= 24 && length > 8 ? behind : -1;
  switch (type) {
    case 20: // a change of cipher; one byte, two in what was before RFC 4347
      return length === 1 || length === 3 ? behind : -1;
    case 21:
      return length === 2 && view.getUint8(bodyAt) <= 2 ? behind : -1;
    case 22:
      return isMessage(view, bodyAt, behind) ? behind : -1;
    case 26: // an ACK of DTLS 1.3
      return length >= 2 && view.getUint16(bodyAt) === length - 2 ? behind : -1;
    default:
      return -1;
  }
}

/** A handshake message's header (RFC 6347 §4.2.2), with a part that lies within the message. */
function isMessage(view: DataView, at: number, end: number): boolean {
  if (end - at < MESSAGE_HEADER) return false;
  const type = view.getUint8(at);
  const length = view.getUint32(at) & 0xffffff;
  const offset = view.getUint32(at + 5) & 0xffffff;
  const part = view.getUint32(at + 8) & 0xffffff;
  return type <= 26 && offset + part <= length && at + MESSAGE_HEADER + part <= end;
}

/**
 * Reports whether a record with a connection id (RFC 9146 §4) fills the datagram: the id's length
 * stands nowhere, so its place is told by the length field behind it.
 */
function hasConnectionId(view: DataView, at: number, end: number): boolean {
  for (let n = 0; n <= CONNECTION_ID_LIMIT && at + RECORD_HEADER + n < end; n++) {
    if (view.getUint16(at + 11 + n) === end - at - RECORD_HEADER - n) return true;
  }
  return false;
}
