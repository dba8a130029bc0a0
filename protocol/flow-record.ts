/**
 * Describes one flow as its packets showed it: the record that `wireproof inspect` prints and that
 * every observation carries. A fact that was not seen is `null`, never `false` or `""`.
 */
import Type from "typebox";
import { CRYPTO_PROFILE_NAMES, CRYPTO_VERDICTS } from "./crypto-profile.ts";
import type { CryptoProfile } from "./crypto-profile.ts";
import type { FLOW_SCHEMA } from "./flow-schema.ts";

/** What a flow speaks, told by content. In this spelling everywhere. */
export const PROTOCOLS = [
  ...["http", "http2", "grpc", "websocket", "postgresql", "mysql", "redis", "memcached", "mongodb"],
  ...[
    "cassandra",
    "kafka",
    "amqp",
    "mqtt",
    "nats",
    "stomp",
    "zookeeper",
    "ldap",
    "kerberos",
    "smb",
  ],
  ...[
    "smtp",
    "imap",
    "pop3",
    "ftp",
    "sip",
    "rtsp",
    "dns",
    "mdns",
    "llmnr",
    "ntp",
    "snmp",
    "syslog",
  ],
  ...["statsd", "thrift", "dubbo", "tds", "tns", "rdp", "vnc", "ssh", "telnet", "socks", "xmpp"],
  ...["irc", "bgp", "proxy-protocol", "tls", "dtls", "quic", "wireguard", "ike", "esp", "ah"],
  "openvpn",
] as const;
export type ProtocolName = (typeof PROTOCOLS)[number];

/**
 * attempted: a SYN, and the capture ends; unanswered: no reply for 30 s of capture, or the SYN was
 * retransmitted twice; refused: RST or ICMP answered the SYN. UDP: established when both sides
 * spoke, else attempted.
 */
const STATES = [
  ...(["attempted", "unanswered", "refused", "established", "closed", "reset"] as const),
] as const;

/**
 * What refused a flow: a RST, or "destination unreachable" of either ICMP by its code (RFC 792,
 * RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1; RFC 4443 §3.1). Which codes are called alike stands in
 * `agent/decode/ip.ts`. `icmp-other`: another code, or several that differ.
 */
const REFUSALS = [
  "rst",
  ...(["icmp-net-unreachable", "icmp-host-unreachable", "icmp-protocol-unreachable"] as const),
  ...(["icmp-port-unreachable", "icmp-net-prohibited", "icmp-host-prohibited"] as const),
  ...(["icmp-admin-prohibited", "icmp-policy-failed", "icmp-reject-route", "icmp-other"] as const),
] as const;
export type RefusalName = (typeof REFUSALS)[number];

/** `unknown`: bytes seen, nothing matched. `none`: no payload at all. */
const ENCRYPTIONS = [
  ...(["plaintext", "tls", "dtls", "quic", "encrypted-other", "unknown", "none"] as const),
] as const;

/** A hello at the end of a capture is `incomplete`, not failed. */
export const HANDSHAKES = ["complete", "failed", "incomplete", "resumed"] as const;

/**
 * yes, no: TLS ≤ 1.2, a client certificate read, or never asked for or answered empty.
 * inferred-…: TLS 1.3, by the size of the client's first encrypted flight.
 * resumed: client authentication was not proven again.
 */
const MUTUALS = [
  ...(["yes", "no", "inferred-yes", "inferred-declined", "inferred-no", "resumed"] as const),
] as const;

/** How it is known which end is the client. */
export const CLIENT_BASES = ["syn", "handshake", "port", "first-seen"] as const;

export const FAILURE_CODES = [
  ...(["no-common-version", "no-common-cipher", "no-common-group", "no-common-alpn"] as const),
  ...(["unrecognized-name", "server-cert-expired", "server-cert-untrusted"] as const),
  ...([
    "server-cert-name",
    "server-cert-bad",
    "server-cert-refused",
    "client-cert-missing",
  ] as const),
  ...(["client-cert-untrusted", "client-cert-expired", "client-cert-bad"] as const),
  ...(["client-cert-refused", "no-common-parameters", "plaintext-to-tls"] as const),
  ...(["tls-to-plaintext", "plaintext-refused", "client-aborted", "server-aborted"] as const),
  ...(["silent", "reset", "upgrade-refused", "upgrade-stripped", "record-error"] as const),
  "handshake-error" as const,
] as const;

const nullable = <T extends Type.TSchema>(type: T) => Type.Union([type, Type.Null()]);
const oneOf = <T extends readonly string[]>(names: T) =>
  Type.Unsafe<T[number]>(Type.Enum([...names]));
const text = (limit: number) => Type.String({ maxLength: limit });
const count = Type.Integer({ minimum: 0 });
const port = Type.Integer({ minimum: 0, maximum: 65535 });
const pair = Type.Tuple([count, count]);
const time = Type.String({ maxLength: 40 });

/** Why a handshake, or a plaintext attempt, did not succeed. */
export const Failure = Type.Object({
  /** One of `FAILURE_CODES`, or `alert-N`. */
  code: text(40),
  side: nullable(oneOf(["client", "server"] as const)),
  basis: oneOf(["alert", "close", "reset", "timeout", "in-band", "inferred"] as const),
  alert: nullable(Type.Integer({ minimum: 0, maximum: 255 })),
  confidence: oneOf(["certain", "likely"] as const),
});
export type Failure = Type.Static<typeof Failure>;

/** A certificate as it stood on the wire (RFC 5280 §4.1); TLS ≤ 1.2 only. */
export const Certificate = Type.Object({
  san: Type.Array(text(2048), { maxItems: 200 }),
  issuer: text(4096),
  serial: text(132),
  not_before: nullable(time),
  not_after: nullable(time),
  key: nullable(text(64)),
  signature: nullable(text(64)),
  fingerprint: text(80),
  /** Issuer and subject are the same bytes; the signature is not verified. */
  self_signed: Type.Optional(Type.Boolean()),
  /** BasicConstraints say that it may sign others. */
  ca: Type.Optional(Type.Boolean()),
  /** Certificates of its message that could be read, this one included; 16 at most. */
  chain: Type.Optional(count),
});
export type Certificate = Type.Static<typeof Certificate>;

/** The server as a mesh names it: by the SNI, or by its certificate where that is in clear. */
export const MeshTarget = Type.Object({
  service: nullable(text(2048)),
  namespace: nullable(text(2048)),
  subset: nullable(text(512)),
  /** Port of the service, which the mesh's proxies may take another way to. */
  port: nullable(port),
  /** The name that the server has to prove: a SPIFFE id, or one of Linkerd's. */
  identity: nullable(text(2048)),
  trust_domain: nullable(text(2048)),
});
export type MeshTarget = Type.Static<typeof MeshTarget>;

/** The flow whose handshake issued the session that goes on, and what it showed; TLS ≤ 1.2. */
export const ResumedFrom = Type.Object({
  start: time,
  src_ip: text(45),
  src_port: port,
  dst_ip: text(45),
  dst_port: port,
  mutual: nullable(oneOf(MUTUALS)),
});
export type ResumedFrom = Type.Static<typeof ResumedFrom>;

const CryptoVerdict = Type.Object({
  verdict: oneOf(CRYPTO_VERDICTS),
  reasons: Type.Array(text(400), { maxItems: 20 }),
});
const CRYPTO = Object.fromEntries(
  CRYPTO_PROFILE_NAMES.map((profile) => [profile, CryptoVerdict]),
) as Record<CryptoProfile, typeof CryptoVerdict>;

export const Tls = Type.Object({
  /** Negotiated; null until the server spoke. */
  version: nullable(text(12)),
  cipher_suite: nullable(text(80)),
  group: nullable(text(40)),
  /** SignatureScheme by which the server signed its key exchange; TLS 1.2 only. */
  signature: Type.Optional(nullable(text(40))),
  sni: nullable(text(1024)),
  /** Selected, where it is visible. */
  alpn: nullable(text(256)),
  alpn_offered: Type.Array(text(256), { maxItems: 100 }),
  ja3: nullable(text(40)),
  ja3s: nullable(text(40)),
  ja4: nullable(text(60)),
  mutual: nullable(oneOf(MUTUALS)),
  /** Only where it is known: then certificates and `client_cert` are those of that flow. */
  resumed_from: Type.Optional(ResumedFrom),
  client_cert: nullable(Type.Boolean()),
  server_cert_subject: nullable(text(4096)),
  server_cert: nullable(Certificate),
  client_cert_subject: nullable(text(4096)),
  client_certificate: nullable(Certificate),
  /** Judged against published profiles; only where it was asked for (`inspect --crypto`). */
  crypto: Type.Optional(Type.Partial(Type.Object(CRYPTO))),
  mesh: nullable(oneOf(["istio", "istio-ambient", "linkerd", "consul"] as const)),
  /** Null where there is no mesh, or no name of its server stands in clear. */
  mesh_target: Type.Optional(nullable(MeshTarget)),
});
export type Tls = Type.Static<typeof Tls>;

/** One flow. `src` is the client. Times are RFC 3339, UTC; bytes are IP lengths on the wire. */
export const Flow = Type.Object({
  start: time,
  end: time,
  proto: oneOf(["tcp", "udp", "sctp", "esp", "ah", "gre", "icmp", "icmp6"] as const),
  src_ip: text(45),
  src_port: port,
  dst_ip: text(45),
  dst_port: port,
  client_basis: oneOf(CLIENT_BASES),
  /** Outermost first: `vlan:7`, `vxlan:42`. */
  encap: Type.Array(text(24), { maxItems: 8 }),
  /** [client, server] */
  packets: pair,
  bytes: pair,
  state: oneOf(STATES),
  /** Null where nothing refused. Absent of agents that do not tell. */
  refused_by: Type.Optional(nullable(oneOf(REFUSALS))),
  midstream: Type.Boolean(),
  protocol: nullable(oneOf(PROTOCOLS)),
  encryption: oneOf(ENCRYPTIONS),
  upgraded_from: nullable(oneOf(PROTOCOLS)),
  handshake: nullable(oneOf(HANDSHAKES)),
  failure: nullable(Failure),
  accepted: nullable(Type.Boolean()),
  tls: nullable(Tls),
  /** One letter per event, capitals the client's, after Zeek. */
  history: text(200),
  /** Codes of `protocol/finding.ts`. */
  findings: Type.Array(text(60), { maxItems: 30 }),
  /** What limits the reading: `overlap-disagrees`, `not-tls`, `gap`, `opening-full`, … */
  notes: Type.Array(text(60), { maxItems: 30 }),
});
export type Flow = Type.Static<typeof Flow>;

/** What `inspect` prints: a flow, its schema, and the capture's base name. */
export type FlowRecord = { schema: typeof FLOW_SCHEMA; file: string } & Flow;
