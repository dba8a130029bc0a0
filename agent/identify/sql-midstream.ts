/** Recognises PostgreSQL and MySQL on connections that were joined late. */
import { Fields } from "./fields.ts";
import { Match, latin1 } from "./match.ts";

const codes = (types: string) => new Set(Array.from(types, (type) => type.charCodeAt(0)));

/** Types of messages by sender (PostgreSQL protocol, "Message Formats"); some have no body. */
const FRONTEND = codes("QPBDECSHXFdcfp");
const FRONTEND_EMPTY = codes("SHXc");
const BACKEND = codes("RKSZTDCEINAGHWVdc123nstv");
const BACKEND_EMPTY = codes("I123nsc");
const MESSAGE_LIMIT = 0x1000000;

const QUERY = 0x51;
const TERMINATE = 0x58;
const READY = 0x5a;
const INT32 = 4;

/** Reports whether five bytes can begin a message: type, and a length that counts itself. */
function isMessage(
  view: DataView,
  at: number,
  types: ReadonlySet<number>,
  empty: ReadonlySet<number>,
): boolean {
  const type = view.getUint8(at);
  const length = view.getUint32(at + 1);
  if (!types.has(type) || length < INT32 || length > MESSAGE_LIMIT) return false;
  if (type === READY && types === BACKEND) return length === INT32 + 1;
  return empty.has(type) === (length === INT32);
}

/** Two messages in a row; or a query, whose text ends with it. */
function chain(
  view: DataView,
  at: number,
  end: number,
  types: ReadonlySet<number>,
  empty: ReadonlySet<number>,
): Match {
  if (!types.has(view.getUint8(at))) return Match.no;
  if (end - at < 5) return Match.more;
  if (!isMessage(view, at, types, empty)) return Match.no;
  const type = view.getUint8(at);
  const next = at + 1 + view.getUint32(at + 1);
  if (types === FRONTEND && type === TERMINATE) return Match.likely;
  if (types === FRONTEND && type === QUERY) {
    if (next > end) return Match.more;
    return view.getUint8(next - 1) === 0 && view.getUint8(at + 5) >= 0x20 ? Match.yes : Match.no;
  }
  if (end - next < 5) return Match.more;
  return isMessage(view, next, types, empty) ? Match.yes : Match.no;
}

export function isPostgresqlRequest(view: DataView, at: number, end: number): Match {
  return chain(view, at, end, FRONTEND, FRONTEND_EMPTY);
}

export function isPostgresqlReply(view: DataView, at: number, end: number): Match {
  return chain(view, at, end, BACKEND, BACKEND_EMPTY);
}

/** Commands (MySQL protocol, "Command Phase"). */
const Command = { quit: 1, initDb: 2, query: 3, ping: 14, prepare: 0x16, execute: 0x17 } as const;
const STATEMENT_WORDS = [
  ...["select", "insert", "update", "delete", "replace", "set", "show", "begin", "commit", "with"],
  ...["rollback", "start", "call", "use", "create", "drop", "alter", "truncate", "lock", "unlock"],
  ...["explain", "describe", "desc", "do", "prepare", "execute", "savepoint", "release", "load"],
  ...["grant", "flush", "analyze", "kill"],
];
const STATEMENT = new RegExp(
  String.raw`^(?:\s|/\*.{0,200}?\*/|\()*(?:${STATEMENT_WORDS.join("|")})\b`,
  "is",
);
const STATEMENT_LIMIT = 256;

/** uint24 length, little-endian | sequence 0 | command; a statement is told by its first word. */
export function isMysqlCommand(view: DataView, at: number, end: number): Match {
  if (end - at < 5) {
    return end - at === 4 && view.getUint8(at + 3) !== 0 ? Match.no : Match.more;
  }
  const length = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  if (view.getUint8(at + 3) !== 0) return Match.no;
  const body = at + 4;
  switch (view.getUint8(body)) {
    case Command.quit:
    case Command.ping:
      return length === 1 ? Match.likely : Match.no;
    case Command.execute: {
      // Statement, flags, and an iteration count that is always 1.
      if (end - body < 10) return Match.more;
      const agrees = view.getUint8(body + 5) <= 15 && view.getUint32(body + 6, true) === 1;
      return length >= 10 && agrees ? Match.likely : Match.no;
    }
    case Command.query:
    case Command.prepare: {
      const whole = Math.min(body + length, body + STATEMENT_LIMIT);
      if (length < 4) return Match.no;
      if (end < whole) return Match.more;
      // Version 8 puts a count of attributes, and of their sets, in front.
      const attributes = view.getUint16(body + 1) === 0x0001 ? 2 : 0;
      const from = body + 1 + attributes;
      return STATEMENT.test(latin1(view, from, whole, STATEMENT_LIMIT)) ? Match.yes : Match.no;
    }
    default:
      return Match.no;
  }
}

const OK = 0;
const ERROR = 0xff;

/** Sequence 1: a count of columns and the first one's definition, an error, or OK. */
export function isMysqlReply(view: DataView, at: number, end: number): Match {
  if (end - at < 5) {
    return end - at === 4 && view.getUint8(at + 3) !== 1 ? Match.no : Match.more;
  }
  const length = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  if (view.getUint8(at + 3) !== 1) return Match.no;
  const f = new Fields(view, at + 4, end);
  const first = f.uint8();
  if (length === 1) {
    // Column definitions begin with the catalog, which is `def` always.
    f.expect(first >= 1 && first <= 250);
    f.skip(3);
    f.expect(f.uint8() === 2);
    f.text("\x03def");
    return f.match;
  }
  if (first === ERROR) {
    f.expect(length >= 9 && length <= 1024);
    const code = f.uint16(true);
    f.expect(code >= 1000 && code < 6000);
    f.text("#");
    return f.match;
  }
  // OK: affected rows, last id, status, warnings.
  return first === OK && length >= 7 && length <= 64 ? Match.likely : Match.no;
}
