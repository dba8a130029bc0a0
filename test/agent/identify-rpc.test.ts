/** Checks Thrift, Dubbo, TDS, TNS, gRPC and WebSocket, and databases that are joined late. */
import t from "tap";
import { httpCarries } from "../../agent/identify/http2.ts";
import { hex, join, latin1, u16, u24, u32, viewOf } from "../frames.ts";
import { read } from "./captures.ts";
import { checkCuts, nameOf, nameOfDatagram, nameOfPair } from "./naming.ts";
import { check, talk, text } from "./talk.ts";
import type { Said, Turn } from "./talk.ts";

const zeros = (length: number) => new Uint8Array(length);

/** thrift-binary-protocol.md, thrift-compact-protocol.md "Message". */
const thrift = {
  strict: (type: number) => join([0x80, 1, 0, type], u32(4), latin1("ping"), u32(1), [0]),
  old: (type: number) => join(u32(4), latin1("ping"), [type], u32(1), [0]),
  compact: (type: number) => join([0x82, (type << 5) | 1, 0x81, 1, 4], latin1("ping"), [0]),
};
const framed = (message: Uint8Array) => join(u32(message.length), message);
/** HeaderFormat.md. */
const THEADER = framed(join(hex("0fff 0000 00000001 0001"), [2, 0, 0, 0], thrift.compact(1)));
/** 0xdabb, flags, status, id, length. */
const dubbo = (flags: number, status: number) =>
  join(hex("dabb"), [flags, status], zeros(8), u32(30), latin1("C0"));

/** MS-TDS §2.2.3.1. */
const tds = (type: number, body: Uint8Array, status = 1) =>
  join([type, status], u16(8 + body.length), u16(0), [1, 0], body);
const PRELOGIN = hex("00 0010 0006 01 0016 0001 02 0017 0001 ff 090000000000 00 00"); // §2.2.6.5
const LOGIN7 = join([200, 0, 0, 0], hex("04000074"), [0, 16, 0, 0], zeros(188)); // §2.2.6.4
const LOGIN5 = join(latin1("host".padEnd(30, "\0")), [4], latin1("sa".padEnd(30, "\0")), [2]);
const wide = (words: string) => join(...Array.from(words, (c) => [c.charCodeAt(0), 0]));
const ALL_HEADERS = join([22, 0, 0, 0, 18, 0, 0, 0, 2, 0], zeros(8), [1, 0, 0, 0]); // §2.2.5.3

/** Oracle Net: length, no checksum, type, no flags, no checksum. */
const tns = (type: number, body: Uint8Array) =>
  join(u16(8 + body.length), u16(0), [type, 0], u16(0), body);
const CONNECT = join(u16(319), u16(300), zeros(22), latin1("(DESCRIPTION="));

checkCuts([
  ["thrift", "client", thrift.strict(1)],
  ["thrift", "client", thrift.old(4)],
  ["thrift", "client", thrift.compact(1)],
  ["thrift", "server", thrift.strict(2)],
  ["thrift", "server", thrift.compact(3)],
  ["thrift", "client", framed(thrift.strict(4))],
  ["thrift", "client", framed(thrift.old(1))],
  ["thrift", "client", framed(thrift.compact(4))],
  ["thrift", "server", framed(thrift.strict(3))],
  ["thrift", "client", THEADER],
  ["dubbo", "client", dubbo(0xc2, 0)],
  ["dubbo", "client", dubbo(0xe2, 0)],
  ["dubbo", "server", dubbo(0x02, 20)],
  ["tds", "client", tds(0x12, PRELOGIN)],
  ["tds", "server", tds(4, PRELOGIN)],
  ["tds", "client", tds(0x10, LOGIN7)],
  ["tds", "client", tds(2, join(LOGIN5, zeros(441)), 0)],
  ["tds", "server", tds(4, hex("e3 1b00 01 06 6d006100"))],
  ["tns", "client", tns(1, CONNECT)],
  ["tns", "server", tns(2, join(u16(314), zeros(22)))],
  ["tns", "server", tns(4, join(hex("2204"), u16(5), latin1("(ERR)")))],
  ["tns", "server", tns(5, join(u16(9), latin1("(ADDRESS=")))],
]);

t.test("calls that are none", async (t) => {
  t.equal(nameOf("client", thrift.strict(2)), "no", "an answer by a client");
  t.equal(nameOf("client", thrift.strict(9)), "no", "no such type");
  t.equal(nameOf("client", framed(join(u32(4), latin1("a b!"), [1], u32(1), [0]))), "no");
  t.equal(nameOfDatagram(thrift.compact(4)), "thrift", "as Jaeger's agents take it");
  t.equal(nameOf("client", dubbo(0xc0, 0)), "no", "a serialization that is none");
  t.equal(nameOf("server", dubbo(0x02, 21)), "no", "a status that is none");
  t.equal(nameOf("client", tds(0x12, hex("01 0010 0006 ff"))), "no", "VERSION comes first");
  t.equal(nameOf("server", tds(4, hex("fd 0000 0000 0000"))), "no", "DONE alone");
  t.equal(nameOf("server", tds(4, hex("fd 0000 0000 0000")), 1433), "tds");
  t.equal(nameOf("client", tns(1, join(u16(700), u16(300), zeros(22)))), "no", "version 7.00");
  t.equal(nameOfPair(tns(1, CONNECT), hex("0008 0000 0b 00 0000")), "tns", "sent again");
});

/** PostgreSQL and MySQL protocols, "Message Formats" and "Command Phase". */
const pg = (type: string, body = "") => join(latin1(type), u32(4 + body.length), latin1(body));
const mysql = (sequence: number, body: Uint8Array) =>
  join([body.length & 255, body.length >> 8, 0, sequence], body);
const COLUMN = mysql(2, join([3], latin1("def"), zeros(30)));
/** RFC 9113 §4.1. */
const frame = (type: number, flags: number, id: number, body: Uint8Array) =>
  join(u24(body.length), [type, flags], u32(id), body);

checkCuts(
  [
    ["tds", "client", tds(1, join(ALL_HEADERS, wide("select 1")))],
    ["tds", "client", tds(1, wide("select 1"))],
    ["tds", "client", tds(3, join(ALL_HEADERS, hex("ffff 0a00 0000")))],
    ["tds", "client", tds(3, join([13, 0], wide("sp_executesql"), [0, 0]))],
    ["postgresql", "client", pg("Q", "select 1\0")],
    ["postgresql", "client", join(pg("P", "\0select 1\0\0\0"), pg("S"))],
    ["postgresql", "server", join(pg("T", "\0\x01"), pg("D", "\0\x01"))],
    ["postgresql", "server", join(pg("C", "SELECT 1\0"), pg("Z", "I"))],
    ["mysql", "client", mysql(0, latin1("\x03select 1 from dual"))],
    ["mysql", "client", mysql(0, latin1("\x03\0\x01insert into a values (1)"))],
    ["mysql", "server", join(mysql(1, Uint8Array.of(1)), COLUMN)],
    ["mysql", "server", mysql(1, join([0xff], [0x28, 4], latin1("#42000You have")))],
    ["http2", "client", frame(1, 5, 3, hex("838684be58"))],
    ["http2", "server", frame(1, 4, 3, hex("88c0bf"))],
    ["http2", "server", frame(1, 0x24, 5, hex("0000000010 3fe11f 48 82"))],
    ["http2", "server", join(frame(0, 0, 7, zeros(20)), frame(8, 0, 0, hex("00000001")))],
    ["http2", "client", join(frame(6, 1, 0, zeros(8)), frame(3, 0, 7, hex("00000008")))],
  ],
  true,
);

t.test("joined late, two agree or a port does; from the start they are not asked", async (t) => {
  t.equal(nameOf("client", hex("01 0000 00 0e"), 7000, true), "no", "COM_PING");
  t.equal(nameOf("client", hex("01 0000 00 0e"), 3306, true), "mysql");
  t.equal(nameOf("client", mysql(0, latin1("\x03hello world")), 3306, true), "no");
  t.equal(nameOf("client", pg("Q", "select 1\0")), "no");
  t.equal(nameOf("client", frame(1, 5, 0, hex("8386")), 7000, true), "no", "HEADERS of stream 0");
  t.equal(
    nameOf("client", frame(1, 5, 3, hex("8086")), 7000, true),
    "no",
    "index 0 (RFC 7541 §6.1)",
  );
  t.equal(nameOf("client", zeros(64), 7000, true), "no");
});

const PREFACE = latin1("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const START = join(PREFACE, frame(4, 0, 0, zeros(0)));
/** RFC 7541 §6.2.1: content-type is 31 in the static table; the value plain or in Huffman code. */
const plain = (value: string) => join([0x83, 0x86, 0x5f, value.length], latin1(value));
/** RFC 7541 §5.2, Appendix B. */
const HUFFMAN = hex("83 86 5f 8b 1d75d0620d263d4c4d6564");
const PROTO = hex("83 86 5f 90 1d75d0620d263d4c4d6564 fff5 7d61e8");
const WEB = hex("83 86 5f 8f 1d75d0620d263d4c4d6564 5bc5 71a7");

const opened = (bytes: Uint8Array) => ({ view: viewOf(bytes), at: 0, end: bytes.length });

t.test("gRPC: the content type of the first HEADERS", async (t) => {
  const carries = (block: Uint8Array) =>
    httpCarries("http2", opened(join(START, frame(1, 4, 1, block))), null);
  t.equal(carries(plain("application/grpc")), "grpc");
  t.equal(carries(plain("application/grpc+proto")), "grpc");
  t.equal(carries(HUFFMAN), "grpc");
  t.equal(carries(PROTO), "grpc");
  t.equal(carries(plain("application/json")), "http2");
  t.equal(carries(plain("application/grpc-web")), "http2", "gRPC-Web is another protocol");
  t.equal(carries(WEB), "http2");
  t.equal(httpCarries("http2", opened(START), null), null, "not told yet");
  const answer = join(frame(4, 0, 0, zeros(0)), frame(1, 4, 1, plain("application/grpc")));
  t.equal(httpCarries("http2", opened(START), opened(answer)), "grpc", "by the server alone");
  for (let length = 0; length < answer.length; length++) {
    const said = httpCarries("http2", opened(START), opened(answer.subarray(0, length)));
    if (said !== null && said !== "grpc") t.fail(`${length} bytes: ${said}`);
  }
});

t.test("gRPC and WebSocket as whole connections, in one segment or many", async (t) => {
  const call = join(START, frame(1, 4, 1, plain("application/grpc")));
  const reply = frame(4, 0, 0, zeros(0));
  const grpc = { protocol: "grpc", encryption: "plaintext", accepted: true } as Said;
  check(
    t,
    [
      [">", call],
      ["<", reply],
    ],
    grpc,
  );
  check(
    t,
    [
      [">", START],
      ["<", reply],
      [">", call.subarray(START.length)],
    ],
    grpc,
  );
  const bytes: Turn[] = Array.from(call, (byte) => [">", Uint8Array.of(byte)]);
  check(t, [...bytes, ["<", reply]], grpc);
  const other = join(START, frame(1, 4, 1, plain("text/html")));
  check(
    t,
    [
      [">", other],
      ["<", reply],
    ],
    { protocol: "http2" } as Said,
  );

  const ask: Turn = [">", text("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")];
  const switched = (to: string) => `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${to}\r\n\r\n`;
  const websocket = { protocol: "websocket", encryption: "plaintext", accepted: true } as Said;
  check(t, [ask, ["<", text(switched("websocket"))]], websocket);
  check(t, [ask, ["<", text(switched("WebSocket"))]], websocket);
  const slowly: Turn[] = Array.from(switched("websocket"), (c) => ["<", text(c)]);
  check(t, [ask, ...slowly], websocket);
  check(t, [ask, ["<", text(switched("h2c"))]], { protocol: "http2" } as Said);
  check(t, [ask, ["<", text("HTTP/1.1 200 OK\r\n\r\n")]], { protocol: "http" } as Said);
  const [late] = read(talk([["<", text(switched("websocket"))]], false));
  t.match(late, { protocol: "websocket", src_ip: "10.0.0.1", midstream: true });
});
