/** Recognises what a side speaks by its first bytes; never by port. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { isIke, isWireguard } from "./datagrams.ts";
import { isDnsMessage } from "./dns.ts";
import { isDtls } from "./dtls.ts";
import { isHttpRequest, isHttpResponse, isHttp2Preface, isHttp2Settings } from "./http.ts";
import { isMysqlGreeting, isMysqlLogin, isPostgresqlStartup, isRedisRequest } from "./databases.ts";
import { isQuic } from "./quic.ts";
import { isTlsAlert, isTlsClientHello, isTlsServerHello } from "./tls-record.ts";

/** What a test says of `[at, end)`: not this protocol, this one, or too few bytes to tell. */
export const Match = { no: 0, yes: 1, more: 2 } as const;
export type Match = (typeof Match)[keyof typeof Match];

export type Signature = {
  protocol: ProtocolName;
  /** Who sends these bytes; `either` says nothing about who is the client. */
  side: "client" | "server" | "either";
  transport: "tcp" | "udp";
  test: (view: DataView, at: number, end: number) => Match;
};

/** In the order they are tried; the first that answers yes is the protocol. */
export const SIGNATURES: readonly Signature[] = [
  { protocol: "tls", side: "client", transport: "tcp", test: isTlsClientHello }, // RFC 8446 §4.1.2
  { protocol: "tls", side: "server", transport: "tcp", test: isTlsServerHello }, // RFC 8446 §4.1.3
  { protocol: "tls", side: "either", transport: "tcp", test: isTlsAlert }, // RFC 8446 §6
  { protocol: "http2", side: "client", transport: "tcp", test: isHttp2Preface }, // RFC 9113 §3.4
  { protocol: "http2", side: "server", transport: "tcp", test: isHttp2Settings }, // RFC 9113 §6.5
  { protocol: "http", side: "client", transport: "tcp", test: isHttpRequest }, // RFC 9112 §3
  { protocol: "http", side: "server", transport: "tcp", test: isHttpResponse }, // RFC 9112 §4
  { protocol: "ssh", side: "either", transport: "tcp", test: isSshVersion }, // RFC 4253 §4.2
  { protocol: "postgresql", side: "client", transport: "tcp", test: isPostgresqlStartup },
  { protocol: "mysql", side: "server", transport: "tcp", test: isMysqlGreeting },
  { protocol: "mysql", side: "client", transport: "tcp", test: isMysqlLogin },
  { protocol: "redis", side: "client", transport: "tcp", test: isRedisRequest },
  { protocol: "dns", side: "either", transport: "tcp", test: isDnsOverTcp }, // RFC 1035 §4.2.2
  { protocol: "quic", side: "either", transport: "udp", test: isQuic }, // RFC 9000 §17.2
  { protocol: "dtls", side: "either", transport: "udp", test: isDtls }, // RFC 6347 §4.1
  { protocol: "ike", side: "either", transport: "udp", test: isIke }, // RFC 7296 §3.1
  { protocol: "wireguard", side: "either", transport: "udp", test: isWireguard },
  { protocol: "dns", side: "either", transport: "udp", test: isDnsMessage }, // RFC 1035 §4.1
];

/** `SSH-2.0-…` or `SSH-1.…` (RFC 4253 §4.2). */
function isSshVersion(view: DataView, at: number, end: number): Match {
  return startsWith(view, at, end, "SSH-");
}

/** Two bytes of length, then a message that fills them (RFC 1035 §4.2.2). */
function isDnsOverTcp(view: DataView, at: number, end: number): Match {
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

/** Compares the first bytes with text; `more` while what came agrees so far. */
export function startsWith(view: DataView, at: number, end: number, text: string): Match {
  const length = Math.min(text.length, end - at);
  for (let i = 0; i < length; i++) {
    if (view.getUint8(at + i) !== text.charCodeAt(i)) return Match.no;
  }
  return length === text.length ? Match.yes : Match.more;
}
