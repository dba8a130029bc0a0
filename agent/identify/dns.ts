/** Recognises DNS messages by their header and whole first question (RFC 1035 §4.1). */
import { Match } from "./match.ts";

/**
 *     ID | QR Opcode AA TC RD RA Z RCODE | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT | question …
 */
export function isDnsMessage(view: DataView, at: number, end: number): Match {
  if (end - at < 17) return Match.no; // a datagram is whole: 12 of header, 5 of the least question
  const flags = view.getUint16(at + 2);
  const opcode = (flags >> 11) & 0x0f;
  const questions = view.getUint16(at + 4);
  const answers = view.getUint16(at + 6);
  const authorities = view.getUint16(at + 8);
  const additionals = view.getUint16(at + 10);
  if (opcode > 6 || opcode === 3 || (flags & 0x0040) !== 0) return Match.no;
  const isResponse = (flags & 0x8000) !== 0;
  if (!isResponse && (answers > 0 || (flags & 0x000f) !== 0) && opcode === 0) return Match.no;
  if (questions !== 1 || answers > 256 || authorities > 64 || additionals > 64) return Match.no;
  const behind = skipName(view, at + 12, end);
  if (behind < 0 || end - behind < 4) return Match.no;
  const type = view.getUint16(behind);
  const klass = view.getUint16(behind + 2) & 0x7fff;
  const isKnown = type > 0 && (type <= 300 || type === 32768 || type === 32769 || type >= 65280);
  return isKnown && ((klass >= 1 && klass <= 4) || klass >= 254) ? Match.yes : Match.no;
}

/** Position behind an uncompressed name, or -1 where its labels do not end. */
function skipName(view: DataView, at: number, end: number): number {
  for (let labels = 0; labels < 128 && at < end; labels++) {
    const length = view.getUint8(at);
    if (length === 0) return at + 1;
    if (length > 63) return -1;
    at += 1 + length;
  }
  return -1;
}

/** Two bytes of length, then a message that fills them (RFC 1035 §4.2.2). */
export function isDnsOverTcp(view: DataView, at: number, end: number): Match {
  if (end - at < 2) return Match.more;
  const length = view.getUint16(at);
  if (length < 17 || length > 4096) return Match.no;
  if (end - at < 2 + length) return end - at < 14 ? Match.more : dnsHead(view, at + 2, end);
  return isDnsMessage(view, at + 2, at + 2 + length);
}

/** While the message is not whole: no when its head already contradicts it. */
function dnsHead(view: DataView, at: number, end: number): Match {
  return isDnsMessage(view, at, end) === Match.no && view.getUint16(at + 4) > 8
    ? Match.no
    : Match.more;
}
