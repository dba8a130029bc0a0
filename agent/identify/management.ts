/** Recognises what keeps networks running: SNMP, NTP, BGP, syslog, StatsD. */
import { Fields } from "./fields.ts";
import { Match, firstLine, latin1 } from "./match.ts";

/**
 * SEQUENCE { version, community, PDU } (RFC 1157 §4, RFC 1901 §3), or of version 3 (RFC 3412 §6)
 * SEQUENCE { version, SEQUENCE { msgID, msgMaxSize, msgFlags, msgSecurityModel }, … }.
 */
export function isSnmp(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0x30) return Match.no;
  const f = new Fields(view, at, end);
  f.element(0x30);
  const version = f.integer();
  f.expect(version <= 3);
  if (version === 3) {
    f.expect(f.element(0x30) >= 12);
    f.integer();
    f.integer();
    f.expect(f.element(0x04) === 1);
    f.expect(f.uint8() <= 7);
    f.integer();
    f.element(0x04);
    return f.match;
  }
  const community = f.element(0x04);
  f.expect(community <= 255);
  f.skip(community);
  const pdu = f.uint8();
  f.expect(pdu >= 0xa0 && pdu <= 0xa8);
  f.length();
  if (pdu === 0xa4) {
    f.element(0x06); // Trap-PDU { enterprise OBJECT IDENTIFIER, … }
    return f.match;
  }
  // request-id may be negative.
  const id = f.element(0x02);
  f.expect(id >= 1 && id <= 5);
  f.skip(id);
  f.integer();
  f.integer();
  f.element(0x30);
  return f.match;
}

/**
 * By its mode (RFC 5905 §7.3; RFC 9327 §2 for mode 6; ntp.org's mode 7): agrees at most, for the
 * header holds hardly a constant. The port, or the other side, decides.
 *
 *     leap(2) version(3) mode(3) | stratum | poll | precision | …
 */
export function isNtp(view: DataView, at: number, end: number): Match {
  const length = end - at;
  const first = view.getUint8(at);
  const mode = first & 7;
  const version = (first >> 3) & 7;
  if (version === 0 || version > 4 || mode === 0) return Match.no;
  if (mode === 6) {
    if (length < 12) return Match.no;
    const count = view.getUint16(at + 10);
    const isOperation = (view.getUint8(at + 1) & 0x1f) <= 31;
    return isOperation && length >= 12 + count && count <= 468 ? Match.likely : Match.no;
  }
  if (mode === 7) {
    if (length < 8) return Match.no;
    const implementation = view.getUint8(at + 2);
    const isKnown = implementation === 0 || implementation === 2 || implementation === 3;
    return isKnown ? Match.likely : Match.no;
  }
  // 48 bytes, then extension fields and a MAC, in words.
  if (length < 48 || length > 1500 || length % 4 !== 0) return Match.no;
  const poll = view.getInt8(at + 2);
  const precision = view.getInt8(at + 3);
  const isSane = view.getUint8(at + 1) <= 16 && poll >= -6 && poll <= 36 && precision <= 32;
  // Delay and dispersion to the root are seconds in 16.16; the delay may be negative.
  const delay = Math.abs(view.getInt16(at + 4));
  return isSane && delay <= 256 && view.getUint16(at + 8) <= 4096 ? Match.likely : Match.no;
}

/** The marker of sixteen ones, length, type 1 to 5 (RFC 4271 §4.1, RFC 2918, RFC 8654). */
export function isBgp(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0xff) return Match.no;
  const f = new Fields(view, at, end);
  f.run(16, (byte) => byte === 0xff);
  f.expect(f.uint16() >= 19);
  const type = f.uint8();
  f.expect(type >= 1 && type <= 5);
  return f.match;
}

/** Bytes of a syslog message that its kind is told by. */
const SYSLOG_HEAD = 64;
const MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)";
/** `<PRI>` with a timestamp (RFC 3164 §4.1.2), an ISO one, or version 1 (RFC 5424 §6.2). */
const SYSLOG = new RegExp(
  String.raw`^<(?:0|[1-9]\d?|1[0-8]\d|19[01])>(?:${MONTH} [ \d]\d \d\d:\d\d:\d\d|` +
    String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:|1 (?:-|\d{4}-\d\d-\d\dT))`,
);
/** `<PRI>` and text: what many devices send. */
const SYSLOG_TEXT = /^<(?:0|[1-9]\d?|1[0-8]\d|19[01])>[\t -~\u0080-\u00ff]/;

/** One message in a datagram (RFC 3164 §4, RFC 5424 §6). */
export function isSyslogDatagram(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0x3c) return Match.no;
  return syslogHead(latin1(view, at, end, SYSLOG_HEAD));
}

function syslogHead(text: string): Match {
  if (SYSLOG.test(text)) return Match.yes;
  return SYSLOG_TEXT.test(text) ? Match.likely : Match.no;
}

/** Messages ended by a line feed, or each behind its length in decimal (RFC 6587 §3.4). */
export function isSyslogStream(view: DataView, at: number, end: number): Match {
  let from = at;
  while (from < end && from - at < 6 && isDigit(view.getUint8(from))) from++;
  if (from > at) {
    // The length has no leading zero, and a space behind it.
    if (view.getUint8(at) === 0x30 || from - at > 5) return Match.no;
    if (from === end) return Match.more;
    if (view.getUint8(from++) !== 0x20) return Match.no;
  }
  if (from === end) return Match.more;
  if (view.getUint8(from) !== 0x3c) return Match.no;
  if (from + 1 < end && !isDigit(view.getUint8(from + 1))) return Match.no;
  const line = firstLine(view, from, end);
  if (line === "") return Match.no;
  if (line === null && end - from < SYSLOG_HEAD) return Match.more;
  const match = syslogHead((line ?? latin1(view, from, end, SYSLOG_HEAD)).slice(0, SYSLOG_HEAD));
  // A length in front of `<PRI>` says as much as a timestamp.
  return match === Match.likely && from > at ? Match.yes : match;
}

const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;

/**
 * `name:value|type`, with a rate, tags and more behind it (StatsD, "Metric Types"; DogStatsD,
 * "Datagram format" 1.0 to 1.3), events `_e{4,4}:…` and service checks `_sc|…`.
 */
const STATSD = new RegExp(
  String.raw`^[A-Za-z_][\w.\-/+=,;[\]~ ]*(?::[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)+` +
    String.raw`\|(?:c|g|ms|h|s|d|m)(?:$|\||[@#,])`,
);
const STATSD_SET = /^[A-Za-z_][\w.\-/+=,;\[\]~ ]*:[^|]+\|s(?:$|\||#)/;
const STATSD_OTHER = /^(?:_e\{\d+,\d+\}:.+\||_sc\|[^|]+\|[0-3](?:$|\|))/;

function isStatsdLine(line: string): boolean {
  return STATSD.test(line) || STATSD_SET.test(line) || STATSD_OTHER.test(line);
}

/** Bytes of a metric's line that are looked at. */
const METRIC_LIMIT = 1024;

export function isStatsdDatagram(view: DataView, at: number, end: number): Match {
  if (!isNameStart(view.getUint8(at))) return Match.no;
  const text = latin1(view, at, end, METRIC_LIMIT);
  const lineEnd = text.search(/[\r\n]/);
  const line = lineEnd < 0 ? text : text.slice(0, lineEnd);
  return isStatsdLine(line) ? Match.yes : Match.no;
}

/** Over TCP a metric is a line, and its name is of few characters: other text is given up early. */
export function isStatsdStream(view: DataView, at: number, end: number): Match {
  if (!isNameStart(view.getUint8(at))) return Match.no;
  const limit = Math.min(end, at + METRIC_LIMIT);
  let i = at;
  while (i < limit && isNamePart(view.getUint8(i))) i++;
  if (i === limit) return i - at < METRIC_LIMIT ? Match.more : Match.no;
  const byte = view.getUint8(i);
  if (byte !== 0x3a && byte !== 0x7b && byte !== 0x7c) return Match.no;
  const line = firstLine(view, at, end);
  if (line === null) return Match.more;
  return isStatsdLine(line) ? Match.yes : Match.no;
}

const isNameStart = (byte: number) =>
  byte === 0x5f || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);

/** Letters, digits and `_ . - / , ; =`. */
const isNamePart = (byte: number) =>
  isNameStart(byte) || (byte >= 0x2c && byte <= 0x39) || byte === 0x3b || byte === 0x3d;
