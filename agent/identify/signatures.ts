/** Lists what a side's first bytes are recognised by; never by port alone. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { isIke, isWireguard } from "./datagrams.ts";
import { isDnsMessage, isDnsOfPort, isDnsOverTcp } from "./dns.ts";
import { isDtls } from "./dtls.ts";
import { isHttpRequest, isHttpResponse, isHttp2Preface, isHttp2Settings } from "./http.ts";
import { isHttp2Midstream } from "./http2.ts";
import { startsWith } from "./match.ts";
import type { Test } from "./match.ts";
import { isMysqlGreeting, isMysqlLogin, isPostgresqlStartup } from "./sql.ts";
import * as store from "./stores.ts";
import * as broker from "./brokers.ts";
import * as mail from "./mail.ts";
import { isProxyHeader } from "./proxy.ts";
import * as calls from "./calls.ts";
import * as chat from "./chat.ts";
import * as directory from "./directory.ts";
import * as management from "./management.ts";
import * as remote from "./remote.ts";
import * as rpc from "./rpc.ts";
import * as smb from "./smb.ts";
import * as late from "./sql-midstream.ts";
import * as tds from "./tds.ts";
import * as tunnel from "./tunnels.ts";
import { isQuic } from "./quic.ts";
import { isSsl2ServerHello, isTlsAlert, isTlsClientHello } from "./tls-record.ts";
import { isTlsMidstream, isTlsServerHello } from "./tls-record.ts";

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
  /** Either side may say the same later on: only at a stream's start it tells who that is. */
  isCommonLater: boolean;
};

const COMMON_LATER: ReadonlySet<Test> = new Set([
  ...[calls.isSipRequest, calls.isSipResponse, calls.isRtspRequest, calls.isRtspResponse],
  ...[isHttp2Settings, store.isRedisRequest, broker.isAmqpFrame, broker.isKafkaRequest],
  ...[rpc.isDubboRequest, rpc.isDubboResponse],
]);

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
    const isCommonLater = COMMON_LATER.has(test);
    const signature = { protocol, side, transport, source, test, midstream, isCommonLater };
    return ports ? { ...signature, ports } : signature;
  });

/** In the order they are tried; the first that answers yes is the protocol. */
export const SIGNATURES: readonly Signature[] = [
  // Calls: other protocols know some of their words, and not the rest of the line.
  ...rows("tcp", [
    ["sip", "client", calls.isSipRequest, "RFC 3261 §7.1"],
    ["sip", "server", calls.isSipResponse, "RFC 3261 §7.2"],
    ["rtsp", "client", calls.isRtspRequest, "RFC 7826 §7.1"],
    ["rtsp", "server", calls.isRtspResponse, "RFC 7826 §8.1"],
  ]),
  ...rows("tcp", [
    ["tls", "client", isTlsClientHello, "RFC 8446 §4.1.2"],
    ["tls", "server", isTlsServerHello, "RFC 8446 §4.1.3"],
    ["tls", "server", isSsl2ServerHello, "SSL 2.0 §2.6"],
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
    ["dns", "either", isDnsOfPort, "RFC 1035 §4.1", [53]],
    ["mdns", "either", isDnsOfPort, "RFC 6762 §18", [5353]],
    ["llmnr", "either", isDnsOfPort, "RFC 4795 §2.1", [5355]],
    ["dns", "either", isDnsMessage, "RFC 1035 §4.1"],
  ]),
  // Directories and file shares.
  ...rows("both", [
    ["ldap", "client", directory.isLdapRequest, "RFC 4511 §4.1.1"],
    ["ldap", "server", directory.isLdapResponse, "RFC 4511 §4.1.1"],
  ]),
  ...rows("udp", [
    ["kerberos", "either", directory.isKerberosDatagram, "RFC 4120 §7.2.1"],
    ["kerberos", "either", directory.isKerberosPassword, "RFC 3244 §2"],
  ]),
  ...rows("tcp", [
    ["kerberos", "client", directory.isKerberosRequest, "RFC 4120 §7.2.2"],
    ["kerberos", "server", directory.isKerberosReply, "RFC 4120 §7.2.2"],
    ["kerberos", "either", directory.isKerberosOther, "RFC 4120 §7.2.2"],
    ["smb", "client", smb.isSmbRequest, "MS-SMB2 §2.1"],
    ["smb", "server", smb.isSmbResponse, "MS-SMB2 §2.1"],
    ["smb", "either", smb.isSmbTransform, "MS-SMB2 §2.2.41"],
    ["smb", "client", smb.isNetbiosRequest, "RFC 1002 §4.3.2"],
    ["smb", "server", smb.isNetbiosResponse, "RFC 1002 §4.3.3", [139, 445]],
  ]),
  // Remote desktops and terminals.
  ...rows("tcp", [
    ["rdp", "client", remote.isRdpRequest, "MS-RDPBCGR §2.2.1.1", [3389]],
    ["rdp", "server", remote.isRdpConfirm, "MS-RDPBCGR §2.2.1.2", [3389]],
    ["vnc", "either", remote.isVnc, "RFC 6143 §7.1.1"],
    ["telnet", "either", remote.isTelnet, "RFC 854", [23]],
  ]),
  // Tunnels.
  ...rows("tcp", [
    ["socks", "client", tunnel.isSocks5Greeting, "RFC 1928 §3", [1080]],
    ["socks", "server", tunnel.isSocks5Choice, "RFC 1928 §3", [1080]],
    ["socks", "client", tunnel.isSocks4Request, "SOCKS 4, 4A", [1080]],
    ["socks", "server", tunnel.isSocks4Reply, "SOCKS 4", [1080]],
    ["openvpn", "either", tunnel.isOpenvpnStream, "OpenVPN network protocol"],
    ["ike", "either", text("IKETCP"), "RFC 9329 §4"],
  ]),
  ...rows("udp", [
    ["openvpn", "either", tunnel.isOpenvpnDatagram, "OpenVPN network protocol"],
    ["esp", "either", tunnel.isEspDatagram, "RFC 3948 §2.1", [4500]],
  ]),
  // Networks and their management.
  ...rows("both", [["snmp", "either", management.isSnmp, "RFC 3416 §3, RFC 3412 §6"]]),
  ...rows("tcp", [
    ["bgp", "either", management.isBgp, "RFC 4271 §4.1"],
    ["syslog", "client", management.isSyslogStream, "RFC 6587 §3.4", [514, 601]],
    ["statsd", "client", management.isStatsdStream, "StatsD metric types", [8125]],
  ]),
  ...rows("udp", [
    ["ntp", "either", management.isNtp, "RFC 5905 §7.3", [123]],
    ["syslog", "either", management.isSyslogDatagram, "RFC 5424 §6, RFC 3164 §4", [514]],
    ["statsd", "either", management.isStatsdDatagram, "StatsD metric types"],
  ]),
  // Conversations, and calls in datagrams.
  ...rows("tcp", [
    ["xmpp", "either", chat.isXmpp, "RFC 6120 §4.7"],
    ["irc", "client", chat.isIrcClient, "RFC 2812 §3", [194, 6665, 6666, 6667, 6668, 6669]],
    ["irc", "server", chat.isIrcServer, "RFC 2812 §2.3"],
  ]),
  ...rows("udp", [
    ["sip", "either", calls.isSipDatagram, "RFC 3261 §7", [5060]],
    ["rtsp", "either", calls.isRtspRequest, "RFC 2326 §6.1"],
    ["rtsp", "either", calls.isRtspResponse, "RFC 2326 §7.1"],
  ]),
  // Databases of SQL Server, Sybase and Oracle.
  ...rows("tcp", [
    ["tds", "client", tds.isTdsPrelogin, "MS-TDS §2.2.6.5"],
    ["tds", "client", tds.isTdsClientHello, "MS-TDS §3.2.5.1"],
    ["tds", "server", tds.isTdsServerHello, "MS-TDS §3.2.5.1"],
    ["tds", "client", tds.isTdsLogin, "MS-TDS §2.2.6.4"],
    ["tds", "client", tds.isTdsLogin5, "TDS 5.0 Login Record"],
    ["tds", "server", tds.isTdsReply, "MS-TDS §2.2.7", [1433]],
    ["tns", "client", tds.isTnsConnect, "Oracle Net, CONNECT"],
    ["tns", "server", tds.isTnsAccept, "Oracle Net, ACCEPT"],
    ["tns", "server", tds.isTnsRefuse, "Oracle Net, REFUSE"],
    ["tns", "server", tds.isTnsRedirect, "Oracle Net, REDIRECT"],
    ["tns", "server", tds.isTnsResend, "Oracle Net, RESEND", [1521]],
  ]),
  // Remote procedure calls.
  ...rows("both", [
    ["thrift", "client", rpc.isThriftCall, "thrift-binary-protocol.md, thrift-compact-protocol.md"],
    [
      "thrift",
      "server",
      rpc.isThriftReply,
      "thrift-binary-protocol.md, thrift-compact-protocol.md",
    ],
  ]),
  ...rows("tcp", [
    ["thrift", "client", rpc.isThriftFramedCall, "thrift-rpc.md, HeaderFormat.md"],
    ["thrift", "server", rpc.isThriftFramedReply, "thrift-rpc.md, HeaderFormat.md"],
    ["dubbo", "client", rpc.isDubboRequest, "Dubbo protocol"],
    ["dubbo", "server", rpc.isDubboResponse, "Dubbo protocol"],
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
  ...rows(
    "tcp",
    [
      ["http2", "either", isHttp2Midstream, "RFC 9113 §4.1"],
      ["tds", "client", tds.isTdsBatch, "MS-TDS §2.2.6.7"],
      ["tds", "client", tds.isTdsCall, "MS-TDS §2.2.6.6"],
      ["tds", "client", tds.isTdsTransaction, "MS-TDS §2.2.6.9"],
      ["xmpp", "either", chat.isXmppStanza, "RFC 6120 §8"],
      [
        "postgresql",
        "client",
        late.isPostgresqlRequest,
        "PostgreSQL protocol, Message Formats",
        [5432],
      ],
      [
        "postgresql",
        "server",
        late.isPostgresqlReply,
        "PostgreSQL protocol, Message Formats",
        [5432],
      ],
      ["mysql", "client", late.isMysqlCommand, "MySQL protocol, Command Phase", [3306]],
      ["mysql", "server", late.isMysqlReply, "MySQL protocol, Command Phase", [3306]],
    ],
    true,
  ),
];
