/** Checks identify: each signature cut at each length, upgrades to TLS, plaintext meeting TLS. */
import t from "tap";
import { Match } from "../../agent/identify/match.ts";
import { SIGNATURES } from "../../agent/identify/signatures.ts";
import { isTlsMidstream } from "../../agent/identify/tls-record.ts";
import { hex, join, latin1, u16, u24 } from "../frames.ts";
import { u32, viewOf } from "../frames.ts";
import { read } from "./captures.ts";
import {
  CLIENT_HELLO,
  HELLO_BODY,
  SERVER_HELLO,
  check,
  hello,
  record,
  talk,
  text,
} from "./talk.ts";
import type { Said, Turn } from "./talk.ts";

const SSL2 = join(
  u16(0x8000 | (9 + 3 + 16)),
  [1],
  ...[u16(0x0301), u16(3), u16(0), u16(16), hex("00002f"), new Uint8Array(16)],
);
const startup = (code: number, text = "") => join(u32(8 + text.length), u32(code), latin1(text));
const GREETING_BODY = join(
  ...[[10], latin1("8.0.36\0"), u32(7), latin1("12345678\0"), u16(0xffff), [33], u16(2), u16(0)],
  ...[[21], new Uint8Array(10), latin1("123456789012\0"), latin1("mysql_native_password\0")],
);
const mysql = (sequence: number, body: Uint8Array) =>
  join([body.length & 255, body.length >> 8, 0, sequence], body);
const login = (capabilities: number) =>
  join([capabilities & 255, (capabilities >> 8) & 255, 0, 0], [0, 0, 0, 1, 33], new Uint8Array(23));
const QUESTION = join(u16(7), u16(0x0100), u16(1), u16(0), u16(0), u16(0), [1, 97, 0, 0, 1, 0, 1]);

/** Each with the bytes that begin it, and whether it is told before they are whole. */
const VECTORS: readonly [string, "client" | "server", Uint8Array][] = [
  ["tls", "client", CLIENT_HELLO],
  ["tls", "client", SSL2],
  ["tls", "server", SERVER_HELLO],
  ["tls", "server", hex("15 0303 0002 0228")],
  ["http2", "client", latin1("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
  ["http2", "server", hex("000006 04 00 00000000 000300000064")],
  ["http2", "server", hex("000000 04 00 00000000")],
  ["http", "client", latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n")],
  ["http", "client", latin1("PROPFIND /a%20b HTTP/1.0\n\n")],
  ["http", "server", latin1("HTTP/1.1 200 OK\r\n\r\n")],
  ["ssh", "client", latin1("SSH-2.0-OpenSSH_9.2\r\n")],
  ["ssh", "server", latin1("SSH-1.99-x\r\n")],
  ["postgresql", "client", startup(80877103)],
  ["postgresql", "client", startup(80877104)],
  ["postgresql", "client", startup(80877102, "12345678")],
  ["postgresql", "client", startup(196608, "user\0a\0\0")],
  ["mysql", "server", mysql(0, GREETING_BODY)],
  ["mysql", "client", mysql(1, join(login(0x0200), latin1("root\0")))],
  ["redis", "client", latin1("*1\r\n$4\r\nPING\r\n")],
  ["redis", "client", latin1("*2\r\n$4\r\nLLEN\r\n$1\r\na\r\n")],
  ["dns", "client", join(u16(QUESTION.length), QUESTION)],
];

/** What the signatures of a side say together: the first yes, else whether more may change it. */
function say(side: string, bytes: Uint8Array): string {
  let pending = false;
  for (const s of SIGNATURES) {
    if (s.transport === "udp" || s.midstream) continue;
    if (s.side !== side && s.side !== "either") continue;
    const match = s.test(viewOf(bytes), 0, bytes.length);
    if (match === Match.yes) return s.protocol;
    pending ||= match === Match.more;
  }
  return pending ? "more" : "no";
}

for (const [i, [protocol, side, bytes]] of VECTORS.entries()) {
  t.test(`${protocol} of a ${side} (${i}): first more, then yes, and yes it stays`, async (t) => {
    let seen = "more";
    for (let length = 1; length <= bytes.length; length++) {
      const said = say(side, bytes.subarray(0, length));
      const lawful = said === protocol || (said === "more" && seen === "more");
      if (!lawful) t.fail(`${length} bytes: ${said} behind ${seen}`);
      seen = said;
    }
    t.equal(seen, protocol);
    const other = side === "client" ? "server" : "client";
    const either = protocol === "ssh" || protocol === "dns" || bytes[0] === 21;
    if (!either) t.not(say(other, bytes), protocol, "and not of the other side");
  });
}

t.test("no signature throws, or takes back a yes, on any prefix of any vector", async (t) => {
  for (const { test } of SIGNATURES) {
    for (const [, , bytes] of VECTORS) {
      let was = Match.more as Match;
      for (let length = 1; length <= bytes.length; length++) {
        const match = test(viewOf(bytes.subarray(0, length)), 0, length);
        if (was === Match.yes && match !== Match.yes) t.fail(`${test.name}: ${length}`);
        was = match;
      }
    }
  }
  t.pass(`${SIGNATURES.length} signatures, ${VECTORS.length} vectors`);
});

t.test(
  "datagrams of encrypted protocols: whole they are told, cut or bent they are not",
  async (t) => {
    const udp = (bytes: Uint8Array) =>
      SIGNATURES.find(
        (s) => s.transport === "udp" && s.test(viewOf(bytes), 0, bytes.length) === Match.yes,
      )?.protocol ?? "no";
    const body = (length: number) => new Uint8Array(length).fill(0x5a);
    const spis = new Uint8Array(16).fill(7);
    // Constructed from the grammars: RFC 9000 §17.2, 6347 §4.1, 7296 §3.1, WireGuard §5.4.
    const quic = join([0xc3], u32(1), [8], body(8), [0], body(40));
    const message = join([1], u24(5), u16(0), u24(0), u24(5), body(5));
    const dtls = join([22], u16(0xfefd), new Uint8Array(8), u16(message.length), message);
    const ike = join(spis, [33, 0x20, 34, 8], u32(0), u32(28 + 4), body(4));
    const wireguard = join([1, 0, 0, 0], body(144));
    t.equal(udp(quic), "quic");
    t.equal(udp(join([0xd0], u32(0x6b3343cf), quic.subarray(5))), "quic", "version 2");
    t.equal(udp(join([0xc3], u32(2), quic.subarray(5))), "no", "an unknown version");
    t.equal(udp(join([0x43], quic.subarray(1))), "no", "a short header says too little");
    t.equal(udp(dtls), "dtls");
    t.equal(udp(dtls.subarray(0, -1)), "no", "a record longer than its datagram");
    t.equal(udp(join([22], u16(0x0303), dtls.subarray(3))), "no", "TLS is no DTLS");
    t.equal(udp(ike), "ike");
    t.equal(udp(join(u32(0), ike)), "ike", "behind the non-ESP marker");
    t.equal(udp(join(ike, [0])), "no", "a length that is not the datagram's");
    t.equal(udp(wireguard), "wireguard");
    t.equal(udp(join([4, 0, 0, 0], new Uint8Array(28 + 48))), "wireguard");
    t.equal(udp(join(wireguard, [0])), "no", "an initiation has 148 bytes");
    t.equal(udp(join([1, 0, 1, 0], body(144))), "no", "the reserved bytes are zero");
  },
);

t.test("what only looks alike is nobody's", async (t) => {
  const no = (side: string, bytes: Uint8Array, what: string) =>
    t.match(say(side, bytes), /^(no|more)$/, what);
  no("client", latin1("GET / SIP/2.0\r\n"), "SIP and RTSP share the methods");
  no("client", latin1("HELLO mail.example\r\n"), "no command of SMTP");
  no("client", startup(80877103, "x"), "an SSLRequest is 8 bytes");
  no("client", startup(0x00040000, "user\0"), "PostgreSQL's protocol 4");
  no("client", record(22, hello(9, HELLO_BODY)), "a handshake record without a hello");
  no("server", hex("15 0303 0002 0528"), "an alert of level 5");
  no("server", hex("000006 04 01 00000000 000300000064"), "a SETTINGS with an ACK is no preface");
  no("client", latin1("*x\r\n$4\r\nPING\r\n"), "a RESP array without a count");
});

t.test("joined mid-stream, TLS is two records in a row, or one that may be", async (t) => {
  const application = (length: number) => join([23, 3, 3], u16(length), new Uint8Array(length));
  const check = (bytes: Uint8Array, match: Match) =>
    t.equal(isTlsMidstream(viewOf(bytes), 0, bytes.length), match);
  check(join(application(40), application(20)), Match.yes);
  check(application(40), Match.yes);
  check(join(application(40), latin1("GET / ")), Match.no);
  check(latin1("GET / HTTP/1.1"), Match.no);
  check(hex("1703"), Match.more);
  check(application(3), Match.more);
});

// Whole flows, turn by turn.

const ALERT = hex("15 0303 0002 0228");
const SSL_REQUEST = startup(80877103);
const GSS_REQUEST = startup(80877104);
const STARTUP = startup(196608, "user\0a\0\0");
const READY = join(latin1("R"), u32(8), u32(0));

t.test("PostgreSQL: S begins TLS, N does not, GSS is no TLS", async (t) => {
  const [protocol, inTls] = [
    "postgresql",
    { encryption: "tls", upgraded_from: "postgresql" },
  ] as const;
  check(
    t,
    [
      [">", SSL_REQUEST],
      ["<", text("S")],
      [">", CLIENT_HELLO],
      ["<", SERVER_HELLO],
    ],
    {
      ...{ protocol, ...inTls, accepted: null },
    } as Said,
  );
  check(
    t,
    [
      [">", SSL_REQUEST],
      ["<", text("N")],
      [">", STARTUP],
      ["<", READY],
    ],
    {
      ...{ protocol, encryption: "plaintext", upgraded_from: null, findings: ["upgrade-refused"] },
    } as Said,
  );
  check(t, [[">", SSL_REQUEST]], { protocol, encryption: "unknown", accepted: null } as Said);
  check(
    t,
    [
      [">", GSS_REQUEST],
      ["<", text("N")],
      [">", SSL_REQUEST],
      ["<", text("S")],
      [">", CLIENT_HELLO],
    ],
    {
      ...{ protocol, ...inTls },
    } as Said,
  );
  check(
    t,
    [
      [">", GSS_REQUEST],
      ["<", text("G")],
      [">", text("\u0001\u0002\u0003")],
    ],
    {
      ...{ protocol, encryption: "encrypted-other", upgraded_from: null },
    } as Said,
  );
  check(
    t,
    [
      [">", STARTUP],
      ["<", READY],
    ],
    { protocol, encryption: "plaintext", accepted: true } as Said,
  );
});

t.test("MySQL: the client's SSLRequest begins TLS, a login does not", async (t) => {
  const greeting: Turn = ["<", mysql(0, GREETING_BODY)];
  check(t, [greeting, [">", mysql(1, login(0x0a00))], [">", CLIENT_HELLO], ["<", SERVER_HELLO]], {
    ...{ protocol: "mysql", encryption: "tls", upgraded_from: "mysql" },
  } as Said);
  check(t, [greeting, [">", join(mysql(1, login(0x0a00)), CLIENT_HELLO)]], {
    ...{ protocol: "mysql", encryption: "tls", upgraded_from: "mysql" },
  } as Said);
  const ok = mysql(2, hex("00 00 00 0200 0000"));
  check(t, [greeting, [">", mysql(1, join(login(0x0200), text("root\0")))], ["<", ok]], {
    ...{ protocol: "mysql", encryption: "plaintext", accepted: true },
  } as Said);
});

t.test("HTTP CONNECT: TLS behind a 2xx, and nothing behind another", async (t) => {
  const ask: Turn = [">", text("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")];
  check(
    t,
    [ask, ["<", text("HTTP/1.1 200 OK\r\n\r\n")], [">", CLIENT_HELLO], ["<", SERVER_HELLO]],
    {
      ...{ protocol: "http", encryption: "tls", upgraded_from: "http" },
    } as Said,
  );
  check(t, [ask, ["<", text("HTTP/1.1 403 Forbidden\r\n\r\n")], ["<", "close"]], {
    ...{ protocol: "http", encryption: "plaintext", upgraded_from: null },
    findings: ["upgrade-refused"],
  } as Said);
});

t.test("an answer by which a mesh's proxy denies is no acceptance", async (t) => {
  const get: Turn = [">", text("GET / HTTP/1.1\r\nHost: a\r\n\r\n")];
  const denied = (more: string) => text(`HTTP/1.1 403 Forbidden\r\n${more}`);
  const open = { encryption: "plaintext", accepted: null, failed: null } as Said;
  const answered = { encryption: "plaintext", accepted: true } as Said;
  // linkerd2-proxy, app/core/src/errors/respond.rs: no field but these towards the unmeshed.
  const date = "date: Sun, 22 Nov 2026 09:00:00 GMT\r\n";
  const bare = denied(`content-length: 0\r\n${date}\r\n`);
  check(t, [get, ["<", bare]], open);
  check(t, [get, ["<", bare], get, ["<", bare]], open);
  check(t, [get, ["<", bare], ["<", "close"]], open);
  // Envoy's RBAC filter, as Istio's and Consul's sidecars answer.
  const envoy = "content-length: 19\r\ncontent-type: text/plain\r\nserver: istio-envoy\r\n\r\n";
  check(t, [get, ["<", denied(`${envoy}RBAC: access denied`)]], open);
  check(t, [get, ["<", denied(envoy)], ["<", text("RBAC: access denied")], ["<", "close"]], open);
  const own = "content-length: 4\r\nserver: nginx\r\n\r\nbad!";
  check(t, [get, ["<", denied(own)], ["<", "close"]], answered);
  check(
    t,
    [get, ["<", text("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")], ["<", "close"]],
    answered,
  );
  const preface: Turn = [">", text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0")];
  const h2 = (...block: number[]): Turn => [
    "<",
    Buffer.from([
      ...[0, 0, 0, 4, 0, 0, 0, 0, 0],
      ...[0, 0, block.length, 1, 5, 0, 0, 0, 1, ...block],
    ]),
  ];
  check(t, [preface, h2(0x48, 0x83, 0x68, 0x0c, 0xff)], open);
  check(t, [preface, h2(0x48, 0x03, 0x34, 0x30, 0x33)], open);
  check(t, [preface, h2(0x88, 0x5c, 0x01, 0x30, 0x40)], answered);
});

t.test("TLS inside a protocol that is not known: the hello is found all the same", async (t) => {
  const sieve: Turn[] = [
    ["<", text('"IMPLEMENTATION" "golden"\r\n"STARTTLS"\r\nOK\r\n')],
    [">", text("(begin)\r\n")],
    ["<", text("OK\r\n")],
  ];
  check(t, [...sieve, [">", CLIENT_HELLO], ["<", SERVER_HELLO]], { encryption: "tls" });
  check(t, [...sieve, [">", text("not a hello")]], { encryption: "unknown", tls: null });
});

t.test("plaintext to TLS, and TLS to plaintext: neither is accepted", async (t) => {
  const get: Turn = [">", text("GET / HTTP/1.1\r\nHost: a\r\n\r\n")];
  const bad = (body: string) => text(`HTTP/1.1 400 Bad Request\r\n\r\n${body}`);
  const toTls = { encryption: "plaintext", accepted: false, failed: "plaintext-to-tls" } as Said;
  check(t, [get, ["<", ALERT], ["<", "close"]], toTls);
  check(t, [get, ["<", bad("The plain HTTP request was sent to HTTPS port")]], toTls);
  check(t, [get, ["<", bad("Client sent an HTTP request to an HTTPS server.")]], toTls);
  // In as many segments as it likes: the sentence may come last.
  check(
    t,
    [get, ["<", bad("")], ["<", text("Client sent an HTTP request to an HTTPS server.")]],
    toTls,
  );
  check(t, [get, ["<", bad("")]], { accepted: null, failed: null } as Said);
  check(t, [get, ["<", bad("no such thing")], ["<", "close"]], { accepted: true } as Said);
  check(t, [get, ["<", "close"]], { accepted: false, failed: "plaintext-refused" } as Said);
  // Who leaves before it was spoken to has refused nothing, whatever comes on its way.
  check(t, [["<", "close"], get], { accepted: null, failed: null } as Said);
  const busy: Turn = ["<", text("421 too many connections\r\n")];
  const late: Turn = [">", text("EHLO a\r\n")];
  check(t, [busy, ["<", "close"], late], { accepted: null, failed: null } as Said);
  const answer: Turn = ["<", text("HTTP/1.1 400 Bad Request\r\n\r\n")];
  const toPlain = { handshake: "failed", accepted: false, failed: "tls-to-plaintext" } as Said;
  check(t, [[">", CLIENT_HELLO], answer], toPlain);
  check(
    t,
    [
      [">", CLIENT_HELLO],
      ["<", text("SSH-2.0-OpenSSH_9.2\r\n")],
    ],
    toPlain,
  );
});

t.test("a connection joined late: who is the client is told by what is said", async (t) => {
  const [late] = read(talk([["<", SERVER_HELLO]], false));
  t.match(late, { client_basis: "handshake", src_ip: "10.0.0.1", midstream: true });
  const [plain] = read(talk([["<", text("HTTP/1.1 200 OK\r\n\r\n")]], false));
  t.match(plain, { client_basis: "handshake", src_ip: "10.0.0.1", protocol: "http" });
});
