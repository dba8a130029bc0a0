/** Recognises key-value and document stores by the first message of a side. */
import { Match, anyOf, find, isPrintable, line, startsWith } from "./match.ts";

/** Inline commands that clients send first (Redis protocol, "Inline commands"). */
const INLINE = /^(PING|HELLO [23][^\r]*|SELECT \d+|INFO[^\r]*|QUIT|ECHO [^\r]*)\r\n/i;

/** A RESP array of bulk strings, `*1\r\n$4\r\n`, or an inline command. */
export function isRedisRequest(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0x2a) return isInlineCommand(view, at, end);
  let i = skipDigits(view, at + 1, end);
  if (i === end) return i - at > 6 ? Match.no : Match.more;
  if (i === at + 1) return Match.no;
  for (const byte of [0x0d, 0x0a, 0x24]) {
    if (i === end) return Match.more;
    if (view.getUint8(i++) !== byte) return Match.no;
  }
  const digits = skipDigits(view, i, end);
  if (digits === end) return digits - i > 9 ? Match.no : Match.more;
  return digits > i && view.getUint8(digits) === 0x0d ? Match.yes : Match.no;
}

function skipDigits(view: DataView, at: number, end: number): number {
  while (at < end && view.getUint8(at) >= 0x30 && view.getUint8(at) <= 0x39) at++;
  return at;
}

function isInlineCommand(view: DataView, at: number, end: number): Match {
  let text = "";
  for (let i = at; i < Math.min(end, at + 128); i++) {
    const byte = view.getUint8(i);
    if (byte !== 0x0d && byte !== 0x0a && (byte < 0x20 || byte > 0x7e)) return Match.no;
    text += String.fromCharCode(byte);
    if (byte === 0x0a) return INLINE.test(text) ? Match.likely : Match.no;
  }
  return end - at < 128 ? Match.more : Match.no;
}

/** Replies that Redis alone gives, and those that others give too (RESP). */
export const isRedisReply = line(
  [
    "+PONG",
    "-NOAUTH ",
    "-WRONGTYPE ",
    "-MOVED ",
    "-ASK ",
    "-DENIED ",
    "-LOADING ",
    "-READONLY ",
    "+OK",
    "-ERR ",
    ...[":", "$", "%", "|", "~", ">"],
  ],
  anyOf(
    "",
    /^(\+PONG|-(NOAUTH|WRONGTYPE|MOVED|ASK|DENIED|LOADING|READONLY) .*)$/,
    /^-ERR (unknown command|wrong number|Client sent|invalid|value is|syntax error|AUTH|oper).*$/,
  ),
  /^(\+OK|-ERR .*|:-?\d{1,19}|\$(-1|\d{1,9})|[%|~>]\d{1,4})$/,
);

/** Text commands (memcached protocol.txt); keys have no spaces. */
export const isMemcachedCommand = line(
  [
    ...[
      "get ",
      "gets ",
      "gat ",
      "gats ",
      "set ",
      "add ",
      "replace ",
      "append ",
      "prepend ",
      "cas ",
    ],
    ...["delete ", "incr ", "decr ", "touch ", "stats", "version", "flush_all", "verbosity "],
    ...["mg ", "ms ", "md ", "ma ", "mn"],
  ].map((word) => word.toUpperCase()),
  anyOf(
    "",
    /^(set|add|replace|append|prepend|cas) \S{1,250} \d+ -?\d+ \d+( \d+)?( noreply)?\s*$/,
    /^((incr|decr|touch) \S{1,250} \d+( noreply)?|gats? -?\d+ \S{1,250}.*)\s*$/,
  ),
  anyOf(
    "",
    /^(gets? \S{1,250}( \S+)*|delete \S{1,250}( \d+)?( noreply)?)\s*$/,
    /^(stats( \w+)*|version|flush_all.*|verbosity \d+|m[gsdan]\b.*)\s*$/,
  ),
);
export const isMemcachedReply = line(
  [
    "VALUE ",
    "STORED",
    "NOT_STORED",
    "EXISTS",
    "NOT_FOUND",
    "END",
    "STAT ",
    "VERSION ",
    "DELETED",
    "TOUCHED",
    "CLIENT_ERROR ",
    "SERVER_ERROR ",
    "ERROR",
    "HD",
    "EN",
    "VA ",
  ],
  anyOf(
    "",
    /^(VALUE \S{1,250} \d+ \d+( \d+)?|NOT_STORED|(CLIENT|SERVER)_ERROR .*)$/,
    /^STAT (pid|version|items:\d+:\w+|\d+:chunk_size) \S.*$/,
  ),
  anyOf(
    "",
    /^(STORED|EXISTS|NOT_FOUND|END|DELETED|TOUCHED|ERROR|HD.*|EN|VA \d+.*)$/,
    /^(STAT \S+ .*|VERSION \S+)$/,
  ),
);

/** Bytes of extras of each binary request by opcode (memcached, protocol_binary.h). */
const MEMCACHED_EXTRAS: readonly (readonly number[])[] = [
  ...[[0], [8], [8], [8], [0], [20], [20], [0], [0, 4], [0], [0], [0], [0], [0], [0], [0]],
  ...[[0], [8], [8], [8], [0], [20], [20], [0], [0, 4], [0], [0], [4], [4], [4], [4], [0]],
  ...[[0], [0], [0], [4], [4]],
];

/**
 * The binary protocol's 24 bytes of header: magic, opcode, key length, extras length, data type 0,
 * vbucket or status, body length, opaque, CAS.
 */
export function isMemcachedBinary(view: DataView, at: number, end: number): Match {
  const magic = view.getUint8(at);
  if (magic !== 0x80 && magic !== 0x81) return Match.no;
  if (end - at >= 2 && view.getUint8(at + 1) >= MEMCACHED_EXTRAS.length) return Match.no;
  if (end - at >= 6 && view.getUint8(at + 5) !== 0) return Match.no;
  if (end - at < 24) return Match.more;
  const key = view.getUint16(at + 2);
  const extras = view.getUint8(at + 4);
  const body = view.getUint32(at + 8);
  if (key > 250 || extras > 20 || key + extras > body || body > 1 << 24) return Match.no;
  if (magic === 0x80) {
    const agrees = MEMCACHED_EXTRAS[view.getUint8(at + 1)]!.includes(extras);
    if (!agrees || view.getUint16(at + 6) > 1024) return Match.no;
    const hasKey = [0, 1, 2, 3, 4, 5, 6, 9].includes(view.getUint8(at + 1) & 0x0f);
    if (
      hasKey &&
      (key === 0 || !isPrintable(view, at + 24 + extras, Math.min(end, at + 24 + extras + key)))
    )
      return Match.no;
  } else if (view.getUint16(at + 6) > 0x86 || ![0, 4, 8, 16].includes(extras)) return Match.no;
  const next = at + 24 + body;
  if (end > next) return view.getUint8(next) >> 1 === 0x40 ? Match.yes : Match.no;
  return end === next || magic === 0x80 ? Match.yes : Match.likely;
}

/** Over UDP: request identifier, sequence number, count of datagrams, 0; then the text. */
export function isMemcachedDatagram(view: DataView, at: number, end: number): Match {
  if (end - at < 12) return Match.no;
  const sequence = view.getUint16(at + 2);
  const total = view.getUint16(at + 4);
  if (sequence >= total || total > 1024 || view.getUint16(at + 6) !== 0) return Match.no;
  const command = isMemcachedCommand(view, at + 8, end);
  if (command === Match.yes || command === Match.likely) return Match.yes;
  const reply = isMemcachedReply(view, at + 8, end);
  return reply === Match.yes || reply === Match.likely ? Match.yes : Match.no;
}

/** Opcodes of the wire protocol (MongoDB wire protocol, "Opcodes"). */
const MONGODB_OPCODES: ReadonlySet<number> = new Set([
  ...[1, 1000, 2001, 2002, 2004, 2005, 2006, 2007, 2010, 2011, 2012, 2013],
]);

/** Little-endian: length, request, response to, opcode; then what that opcode begins with. */
export function isMongodb(view: DataView, at: number, end: number): Match {
  if (end - at < 4) return Match.more;
  const length = view.getUint32(at, true);
  if (length < 20 || length > 48_000_000) return Match.no;
  if (end - at < 16) return Match.more;
  const opcode = view.getUint32(at + 12, true);
  if (!MONGODB_OPCODES.has(opcode)) return Match.no;
  if (end - at < 21) return Match.more;
  switch (opcode) {
    case 2013: // OP_MSG: flag bits, then a section of kind 0 or 1
      return (view.getUint32(at + 16, true) & 0xfffefffc) === 0 && view.getUint8(at + 20) <= 1
        ? Match.yes
        : Match.no;
    case 2012: // OP_COMPRESSED: the opcode inside
      return MONGODB_OPCODES.has(view.getUint32(at + 16, true)) ? Match.yes : Match.no;
    case 1: // OP_REPLY: flags, cursor, from, count
      return length >= 36 && view.getUint32(at + 16, true) < 16 ? Match.yes : Match.no;
    case 2007: // OP_KILL_CURSORS: zero, count
      return view.getUint32(at + 16, true) === 0 ? Match.yes : Match.no;
    default: // flags, then a collection's name
      return isPrintable(view, at + 20, Math.min(end, at + 24)) ? Match.yes : Match.no;
  }
}

const CQL = { startup: 1, ready: 2, options: 5, query: 7 };
/** Opcodes of requests, and of responses (§2.4). */
const CQL_REQUESTS: ReadonlySet<number> = new Set([1, 5, 7, 9, 10, 11, 13, 15]);
const CQL_RESPONSES: ReadonlySet<number> = new Set([0, 2, 3, 6, 8, 12, 14, 16]);

/**
 * A frame of CQL versions 3 to 5 (native_protocol_v4.spec §2): version, with the top bit for
 * responses; flags; stream; opcode; length. Versions 1 and 2 have a stream of one byte.
 */
export function isCassandra(view: DataView, at: number, end: number): Match {
  const version = view.getUint8(at) & 0x7f;
  const isResponse = view.getUint8(at) >= 0x80;
  if (version < 1 || version > 5) return Match.no;
  const head = version < 3 ? 8 : 9;
  if (end - at >= 2 && view.getUint8(at + 1) > 0x1f) return Match.no;
  if (end - at < head) return Match.more;
  const opcode = view.getUint8(at + head - 5);
  const length = view.getUint32(at + head - 4);
  const body = at + head;
  const isKnown = (isResponse ? CQL_RESPONSES : CQL_REQUESTS).has(opcode);
  if (!isKnown || length > 1 << 28) return Match.no;
  if (opcode === CQL.options) return isExact(length === 0 && end === body);
  if (opcode === CQL.startup) {
    if (length < 22 || length > 4096) return Match.no;
    if (end - body < 15) return Match.more;
    const key = find(view, body + 2, Math.min(end, body + length), "CQL_VERSION");
    return key >= 0 ? Match.yes : end - body < length ? Match.more : Match.no;
  }
  if (opcode === CQL.query) {
    if (length < 7) return Match.no;
    if (end - body < 8) return Match.more;
    return view.getUint32(body) + 4 <= length && isPrintable(view, body + 4, body + 8)
      ? Match.yes
      : Match.no;
  }
  if (opcode === CQL.ready) return length === 0 ? Match.likely : Match.no;
  return end === body + length && length > 0 ? Match.likely : Match.no;
}

const isExact = (agrees: boolean): Match => (agrees ? Match.yes : Match.no);

/** A session's request: length 44 or 45, version 0, …, 16 bytes of password (ZooKeeper jute). */
export function isZookeeperConnect(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0) return Match.no;
  if (end - at < 32) return end - at >= 4 && !isConnectLength(view, at, 44) ? Match.no : Match.more;
  const agrees = isConnectLength(view, at, 44) && view.getUint32(at + 28) === 16;
  return isExact(agrees && view.getUint32(at + 4) === 0);
}

export function isZookeeperConnected(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0) return Match.no;
  if (end - at < 24) return end - at >= 4 && !isConnectLength(view, at, 36) ? Match.no : Match.more;
  const agrees = isConnectLength(view, at, 36) && view.getUint32(at + 20) === 16;
  return isExact(agrees && view.getUint32(at + 4) === 0);
}

/** Newer ones have a byte more: read-only. */
const isConnectLength = (view: DataView, at: number, length: number) =>
  view.getUint32(at) === length || view.getUint32(at) === length + 1;

const FOUR_LETTERS = [
  "ruok",
  "stat",
  "mntr",
  "srvr",
  "conf",
  "isro",
  "envi",
  "cons",
  "dump",
  "wchs",
];

/** Four letter words (ZooKeeper administrator's guide), alone in their segment. */
export function isZookeeperWord(view: DataView, at: number, end: number): Match {
  if (end - at > 6) return Match.no;
  const matches = FOUR_LETTERS.map((word) => startsWith(view, at, Math.min(end, at + 4), word));
  if (matches.includes(Match.yes)) return Match.likely;
  return matches.includes(Match.more) ? Match.more : Match.no;
}

export const isZookeeperAnswer = line(
  ["IMOK", "ZOOKEEPER VERSION:", "ZK_VERSION"],
  /^(Zookeeper version:|zk_version\s)/,
  /^imok/,
);
