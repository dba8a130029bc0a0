/** Recognises DNS messages, those of mDNS and LLMNR too, by their header and first entries. */
import { Fields } from "./fields.ts";
import { Match } from "./match.ts";

const HEADER = 12;
/** Entries that are read of a datagram; the first one tells most. */
const READ_ENTRIES = 8;

/** In place of a position: the bytes contradict, or end too early. */
const BAD = -1;
const CUT = -2;

const OPT = 41;

/** QUERY, STATUS, NOTIFY, UPDATE, DSO (IANA, "DNS OpCodes"); IQUERY is obsolete (RFC 3425). */
const OPCODES = [0, 2, 4, 5, 6];

/** Longest message that asks; answers fill their 16 bits of length. */
const QUERY_LIMIT = 4096;

/**
 * What the header alone says (RFC 1035 §4.1.1, RFC 2136 §2.2):
 *
 *     ID | QR Opcode AA TC RD RA Z AD CD RCODE | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT
 */
function header(view: DataView, at: number, end: number, responses = false): Match {
  const f = new Fields(view, at, end);
  f.skip(2);
  const flags = f.uint8();
  const opcode = (flags >> 3) & 0x0f;
  const isResponse = (flags & 0x80) !== 0;
  f.expect(OPCODES.includes(opcode) && (isResponse || !responses));
  const codes = f.uint8();
  f.expect((codes & 0x40) === 0 && (isResponse || (codes & 0x0f) === 0));
  f.expect(f.uint16() <= 64);
  f.expect(f.uint16() <= 4096);
  f.expect(f.uint16() <= 1024);
  f.expect(f.uint16() <= 1024);
  return f.match;
}

function entriesOf(view: DataView, at: number): number {
  let count = 0;
  for (let i = 4; i < HEADER; i += 2) count += view.getUint16(at + i);
  return count;
}

/**
 * A whole datagram: as many entries as it announces, each in its form. An answer of a server that
 * does not take the question may be a header alone.
 */
export function isDnsMessage(view: DataView, at: number, end: number): Match {
  if (header(view, at, end) !== Match.yes) return Match.no;
  const entries = entriesOf(view, at);
  const isResponse = (view.getUint8(at + 2) & 0x80) !== 0;
  if (entries === 0) return isResponse && end - at === HEADER ? Match.likely : Match.no;
  const questions = view.getUint16(at + 4);
  let next = at + HEADER;
  for (let i = 0; i < Math.min(entries, READ_ENTRIES); i++) {
    next = entry(view, next, end, i === 0, i < questions);
    // A capture may have cut the datagram behind the first entry.
    if (next === CUT && i > 0) return Match.yes;
    if (next < 0) return Match.no;
  }
  return Match.yes;
}

/** As `isDnsMessage`, for what its port makes mDNS (RFC 6762 §3) or LLMNR (RFC 4795 §2). */
export function isDnsOfPort(view: DataView, at: number, end: number): Match {
  return isDnsMessage(view, at, end) === Match.no ? Match.no : Match.likely;
}

/** Two bytes of length, then a message (RFC 1035 §4.2.2): its header and first entry decide. */
export function isDnsOverTcp(view: DataView, at: number, end: number): Match {
  if (end - at < 2) return Match.more;
  const length = view.getUint16(at);
  if (length < HEADER + 5) return Match.no;
  const message = at + 2;
  const head = header(view, message, end, length > QUERY_LIMIT);
  if (head !== Match.yes) return head;
  if (entriesOf(view, message) === 0) return Match.no;
  const isQuestion = view.getUint16(message + 4) > 0;
  const next = entry(view, message + HEADER, end, true, isQuestion);
  if (next === CUT) return end >= message + length ? Match.no : Match.more;
  return next >= 0 && next <= message + length ? Match.yes : Match.no;
}

/**
 * Position behind a question, NAME TYPE CLASS, or a record, which has TTL RDLENGTH RDATA behind
 * these (RFC 1035 §4.1.2, §4.1.3); below 0 where it is neither.
 */
function entry(
  view: DataView,
  at: number,
  end: number,
  isFirst: boolean,
  isQuestion: boolean,
): number {
  const behind = skipName(view, at, end, isFirst);
  if (behind < 0) return behind;
  const rest = isQuestion ? 4 : 10;
  if (end - behind < rest) return CUT;
  const type = view.getUint16(behind);
  const klass = view.getUint16(behind + 2) & 0x7fff; // mDNS uses the highest bit
  const isType = type > 0 && (type <= 300 || type === 32768 || type === 32769 || type >= 65280);
  const isClass = (klass >= 1 && klass <= 4) || klass === 254 || klass === 255;
  if (!isType || (!isClass && type !== OPT)) return BAD;
  if (isFirst && isNetbiosName(view, at, type)) return BAD;
  if (isQuestion) return behind + 4;
  const next = behind + 10 + view.getUint16(behind + 8);
  return next <= end ? next : CUT;
}

/** Position behind a name; only the first one of a message cannot point back. */
function skipName(view: DataView, at: number, end: number, isFirst: boolean): number {
  for (let labels = 0; labels < 128; labels++) {
    if (at >= end) return CUT;
    const length = view.getUint8(at);
    if (length === 0) return at + 1;
    if (length >= 0xc0) return isFirst ? BAD : at + 2 <= end ? at + 2 : CUT;
    if (length > 63) return BAD;
    at += 1 + length;
  }
  return BAD;
}

/** NetBIOS names share the form (RFC 1002 §4.2): 32 letters from A to P, of type NB or NBSTAT. */
function isNetbiosName(view: DataView, at: number, type: number): boolean {
  if (view.getUint8(at) !== 32 || (type !== 0x20 && type !== 0x21 && type !== 0x0a)) return false;
  for (let i = at + 1; i <= at + 32; i++) {
    if (view.getUint8(i) < 0x41 || view.getUint8(i) > 0x50) return false;
  }
  return true;
}
