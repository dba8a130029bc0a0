/** Recognises PostgreSQL and MySQL by the first message of a side. */
import { Match, isPrintable } from "./match.ts";

/** Codes in place of a protocol version (PostgreSQL protocol, "Message Formats"). */
export const PostgresqlRequest = { cancel: 80877102, ssl: 80877103, gss: 80877104 } as const;

/**
 * StartupMessage, SSLRequest, GSSENCRequest or CancelRequest:
 *
 *     int32 length, itself included | int32 protocol version 3.x, or a request code | …
 */
export function isPostgresqlStartup(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0) return Match.no;
  if (end - at < 8) return Match.more;
  const length = view.getUint32(at);
  const code = view.getUint32(at + 4);
  if (code === PostgresqlRequest.ssl || code === PostgresqlRequest.gss) {
    return length === 8 ? Match.yes : Match.no;
  }
  if (code === PostgresqlRequest.cancel)
    return length >= 16 && length <= 272 ? Match.yes : Match.no;
  const isVersion = code >>> 16 === 3 && (code & 0xffff) <= 9999;
  if (!isVersion || length < 9 || length > 10000) return Match.no;
  // Parameters follow, of which `user` must be one; Kafka's metadata request begins alike.
  if (end - at < 10) return length === 9 && end - at === 9 ? Match.yes : Match.more;
  return isPrintable(view, at + 8, at + 10) ? Match.yes : Match.no;
}

/**
 * The server's greeting (MySQL client/server protocol, HandshakeV10), or an error in its place:
 *
 *     uint24 length (little-endian) | sequence 0 | 10 | version, ended by NUL | …
 */
export function isMysqlGreeting(view: DataView, at: number, end: number): Match {
  if (end - at < 6) {
    return end - at >= 4 && view.getUint8(at + 3) !== 0 ? Match.no : Match.more;
  }
  const length = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  if (view.getUint8(at + 3) !== 0 || length < 8 || length > 512) return Match.no;
  if (view.getUint8(at + 4) === 0xff) {
    // ERR_Packet: a code of 1000 and more, then printable text.
    if (end - at < 9) return Match.more;
    const code = view.getUint16(at + 5, true);
    const isText = view.getUint8(at + 7) >= 0x20 && view.getUint8(at + 7) < 0x7f;
    return code >= 1000 && code < 5000 && isText && end - at >= 4 + length ? Match.yes : Match.no;
  }
  if (view.getUint8(at + 4) !== 10) return Match.no;
  for (let i = at + 5; i < Math.min(end, at + 69); i++) {
    const byte = view.getUint8(i);
    if (byte === 0) return i > at + 7 && length > 30 ? Match.yes : Match.no;
    if (byte < 0x20 || byte > 0x7e) return Match.no;
  }
  return end - at < 69 ? Match.more : Match.no;
}

const CLIENT_PROTOCOL_41 = 0x0200;
const CLIENT_SSL = 0x0800;

/** HandshakeResponse41 or SSLRequest: sequence 1, capabilities, packet size, charset, 23 zeros. */
export function isMysqlLogin(view: DataView, at: number, end: number): Match {
  if (end - at < 5) return end - at >= 4 && view.getUint8(at + 3) !== 1 ? Match.no : Match.more;
  const length = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  if (view.getUint8(at + 3) !== 1 || length < 32 || length > 4096) return Match.no;
  if (end - at < 36) return Match.more;
  if ((view.getUint16(at + 4, true) & CLIENT_PROTOCOL_41) === 0) return Match.no;
  // MariaDB keeps extended capabilities in the last four of the 23 bytes.
  for (let i = at + 13; i < at + 32; i++) if (view.getUint8(i) !== 0) return Match.no;
  return Match.yes;
}

/** Reports whether a client's first packet is an SSLRequest: the TLS begins right behind it. */
export function isMysqlSslRequest(view: DataView, at: number): boolean {
  const length = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  return length === 32 && (view.getUint16(at + 4, true) & CLIENT_SSL) !== 0;
}
