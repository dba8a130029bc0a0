/** Lists what a side's first bytes are recognised by; never by port alone. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { isDtls, isIke, isQuic, isWireguard } from "./datagrams.ts";
import { isDnsMessage, isDnsOverTcp } from "./dns.ts";
import { isHttpRequest, isHttpResponse, isHttp2Preface, isHttp2Settings } from "./http.ts";
import { startsWith } from "./match.ts";
import type { Test } from "./match.ts";
import { isMysqlGreeting, isMysqlLogin, isPostgresqlStartup } from "./sql.ts";
import { isRedisRequest } from "./stores.ts";
import { isTlsAlert, isTlsClientHello, isTlsMidstream, isTlsServerHello } from "./tls-record.ts";

export type Signature = {
  protocol: ProtocolName;
  /** Who sends these bytes; `either` says nothing about who is the client. */
  side: "client" | "server" | "either";
  transport: "tcp" | "udp" | "both";
  /** Where the bytes are specified. */
  source: string;
  test: Test;
  /** Registered ports: one of them decides where the bytes are likely, never without them. */
  ports?: readonly number[];
  /** Only for flows that were joined after their start. */
  midstream?: boolean;
};

const text = (begin: string): Test => {
  return (view, at, end) => startsWith(view, at, end, begin);
};

type Row = readonly [
  protocol: ProtocolName,
  side: Signature["side"],
  test: Test,
  source: string,
  ports?: readonly number[],
];

const rows = (transport: Signature["transport"], list: readonly Row[], midstream = false) =>
  list.map(([protocol, side, test, source, ports]): Signature => {
    const signature = { protocol, side, transport, source, test, midstream };
    return ports ? { ...signature, ports } : signature;
  });

/** In the order they are tried; the first that answers yes is the protocol. */
export const SIGNATURES: readonly Signature[] = [
  ...rows("tcp", [
    ["tls", "client", isTlsClientHello, "RFC 8446 §4.1.2"],
    ["tls", "server", isTlsServerHello, "RFC 8446 §4.1.3"],
    ["tls", "either", isTlsAlert, "RFC 8446 §6"],
    ["http2", "client", isHttp2Preface, "RFC 9113 §3.4"],
    ["http2", "server", isHttp2Settings, "RFC 9113 §6.5"],
    ["http", "client", isHttpRequest, "RFC 9112 §3"],
    ["http", "server", isHttpResponse, "RFC 9112 §4"],
    ["ssh", "either", text("SSH-"), "RFC 4253 §4.2"],
    ["postgresql", "client", isPostgresqlStartup, "PostgreSQL protocol, Message Formats"],
    ["mysql", "server", isMysqlGreeting, "MySQL protocol, HandshakeV10"],
    ["mysql", "client", isMysqlLogin, "MySQL protocol, HandshakeResponse41"],
    ["redis", "client", isRedisRequest, "Redis serialization protocol"],
    ["dns", "either", isDnsOverTcp, "RFC 1035 §4.2.2"],
  ]),
  ...rows("udp", [
    ["quic", "either", isQuic, "RFC 9000 §17.2"],
    ["dtls", "either", isDtls, "RFC 6347 §4.1"],
    ["ike", "either", isIke, "RFC 7296 §3.1"],
    ["wireguard", "either", isWireguard, "WireGuard paper §5.4"],
    ["dns", "either", isDnsMessage, "RFC 1035 §4.1"],
  ]),
  ...rows("tcp", [["tls", "either", isTlsMidstream, "RFC 8446 §5.1"]], true),
];
