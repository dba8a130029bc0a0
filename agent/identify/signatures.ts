/** Lists what a side's first bytes are recognised by; never by port alone. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { isDtls, isIke, isQuic, isWireguard } from "./datagrams.ts";
import { isDnsMessage, isDnsOverTcp } from "./dns.ts";
import { isHttpRequest, isHttpResponse, isHttp2Preface, isHttp2Settings } from "./http.ts";
import { startsWith } from "./match.ts";
import type { Test } from "./match.ts";
import { isMysqlGreeting, isMysqlLogin, isPostgresqlStartup } from "./sql.ts";
import * as store from "./stores.ts";
import * as broker from "./brokers.ts";
import * as mail from "./mail.ts";
import { isProxyHeader } from "./proxy.ts";
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
    ["redis", "client", store.isRedisRequest, "Redis serialization protocol"],
    ["dns", "either", isDnsOverTcp, "RFC 1035 §4.2.2"],
  ]),
  // Brokers.
  ...rows("tcp", [
    ["amqp", "either", broker.isAmqpHeader, "AMQP 0-9-1 §4.2.2, 1.0 §2.2"],
    ["amqp", "server", broker.isAmqpFrame, "AMQP 0-9-1 §4.2.3"],
    ["mqtt", "client", broker.isMqttConnect, "MQTT 5.0 §3.1"],
    ["mqtt", "server", broker.isMqttConnack, "MQTT 5.0 §3.2", [1883]],
    ["nats", "server", broker.isNatsServer, "NATS client protocol", [4222]],
    ["nats", "client", broker.isNatsClient, "NATS client protocol", [4222]],
    ["stomp", "client", broker.isStompClient, "STOMP 1.2"],
    ["stomp", "server", broker.isStompServer, "STOMP 1.2"],
    ["kafka", "client", broker.isKafkaRequest, "Kafka protocol, Request Header", [9092]],
  ]),
  // Stores.
  ...rows("tcp", [
    ["redis", "server", store.isRedisReply, "Redis serialization protocol", [6379]],
    ["memcached", "client", store.isMemcachedCommand, "memcached protocol.txt", [11211]],
    ["memcached", "server", store.isMemcachedReply, "memcached protocol.txt", [11211]],
    ["memcached", "either", store.isMemcachedBinary, "memcached binary protocol"],
    ["mongodb", "either", store.isMongodb, "MongoDB wire protocol"],
    ["cassandra", "either", store.isCassandra, "CQL native_protocol_v4.spec §2", [9042]],
    ["zookeeper", "client", store.isZookeeperConnect, "ZooKeeper jute, ConnectRequest"],
    ["zookeeper", "server", store.isZookeeperConnected, "ZooKeeper jute, ConnectResponse"],
    ["zookeeper", "client", store.isZookeeperWord, "ZooKeeper four letter words", [2181]],
    ["zookeeper", "server", store.isZookeeperAnswer, "ZooKeeper four letter words", [2181]],
  ]),
  ...rows("udp", [
    ["memcached", "either", store.isMemcachedDatagram, "memcached protocol.txt, UDP"],
  ]),
  // Mail and file transfer: what one side says is often common to two of them.
  ...rows("tcp", [
    ["smtp", "client", mail.isSmtpCommand, "RFC 5321 §4.1", [25, 465, 587, 2525]],
    ["smtp", "server", mail.isSmtpGreeting, "RFC 5321 §4.2", [25, 465, 587, 2525]],
    ["smtp", "server", mail.isSmtpReply, "RFC 5321 §4.2", [25, 465, 587, 2525]],
    ["ftp", "server", mail.isFtpGreeting, "RFC 959 §5.4", [21]],
    ["ftp", "server", mail.isFtpReply, "RFC 959 §4.2", [21]],
    ["ftp", "client", mail.isFtpCommand, "RFC 959 §4.1", [21]],
    ["imap", "server", mail.isImapGreeting, "RFC 3501 §7.1", [143]],
    ["imap", "client", mail.isImapCommand, "RFC 3501 §6", [143]],
    ["pop3", "server", mail.isPop3Greeting, "RFC 1939 §4", [110]],
    ["pop3", "client", mail.isPop3Command, "RFC 1939 §5", [110]],
  ]),
  ...rows("tcp", [["proxy-protocol", "client", isProxyHeader, "PROXY protocol §2"]]),
  ...rows("udp", [
    ["quic", "either", isQuic, "RFC 9000 §17.2"],
    ["dtls", "either", isDtls, "RFC 6347 §4.1"],
    ["ike", "either", isIke, "RFC 7296 §3.1"],
    ["wireguard", "either", isWireguard, "WireGuard paper §5.4"],
    ["dns", "either", isDnsMessage, "RFC 1035 §4.1"],
  ]),
  // Joined after the start.
  ...rows(
    "tcp",
    [
      ["tls", "either", isTlsMidstream, "RFC 8446 §5.1"],
      ["amqp", "either", broker.isAmqpFrame, "AMQP 0-9-1 §4.2.3"],
      ["amqp", "either", broker.isAmqp1Frame, "AMQP 1.0 §2.3.1"],
      ["mqtt", "either", broker.isMqttPacket, "MQTT 5.0 §2.1", [1883]],
    ],
    true,
  ),
];
