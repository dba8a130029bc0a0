/**
 * Checks dtls: real handshakes with their messages cut anew, in any order; among other datagrams;
 * joined later; DTLS 1.3 and connection ids built from their grammars; ESP in UDP.
 */
import path from "node:path";
import t from "tap";
import { isDtls } from "../../agent/identify/dtls.ts";
import { Match } from "../../agent/identify/match.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { ethernet, hex, ipv4, join, latin1, random, u16, u24, u32, udp } from "../frames.ts";
import { viewOf } from "../frames.ts";
import { GOLDEN, framesOf, meaning, read } from "./captures.ts";
import type { Frame } from "./captures.ts";

const SEED = 20261122;
const HEADER = 14 + 20 + 8;

function frame(from: "client" | "server", payload: Uint8Array, port = 5684): Frame {
  const up = from === "client";
  const ports = up ? { from: 40000, to: port } : { from: port, to: 40000 };
  const ends = up ? {} : { source: "10.0.0.2", destination: "10.0.0.1" };
  const bytes = ethernet(ipv4({ ...ends, protocol: 17 }, udp(payload, ports)));
  return { bytes, timeUs: 1e12, linkType: 1 };
}

/** The frames, ten milliseconds apart, as one flow. */
function one(list: readonly Frame[]): Flow {
  const flows = read(list.map((f, i) => ({ ...f, timeUs: 1e12 + i * 10_000 })));
  if (flows.length !== 1) throw new Error(`${flows.length} flows`);
  return flows[0]!;
}

const record = (
  type: number,
  epoch: number,
  sequence: number,
  body: Uint8Array,
  version = 0xfefd,
) => join([type], u16(version), u16(epoch), u16(0), u32(sequence), u16(body.length), body);

/** A part of a handshake message (RFC 6347 §4.2.2). */
const part = (type: number, sequence: number, body: Uint8Array, from = 0, to = body.length) =>
  join([type], u24(body.length), u16(sequence), u24(from), u24(to - from), body.subarray(from, to));

const extension = (type: number, body: Uint8Array) => join(u16(type), u16(body.length), body);
const helloBody = (version: number, extensions: Uint8Array, suites = u16(0x1301)) =>
  join(
    ...[u16(version), new Uint8Array(32), [0], [0]], // random, session id, cookie
    ...[u16(suites.length), suites, [1, 0], u16(extensions.length), extensions],
  );
const answerBody = (version: number, suite: number, extensions: Uint8Array) =>
  join(
    ...[u16(version), new Uint8Array(32), [0], u16(suite), [0]],
    ...[u16(extensions.length), extensions],
  );

// Real handshakes, cut and mixed.

/** Messages in clear of a datagram, cut into parts of at most `limit` bytes; else as it is. */
function cutAnew(bytes: Uint8Array, below: (n: number) => number): Uint8Array[] {
  const view = viewOf(bytes);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const behind = at + 13 + view.getUint16(at + 11);
    if (view.getUint8(at) !== 22 || view.getUint16(at + 3) !== 0) return [bytes];
    const length = view.getUint32(at + 13) & 0xffffff;
    const isOne = view.getUint32(at + 13 + 8) % 0x1000000 === length && behind === at + 25 + length;
    if (!isOne || length < 2) return [bytes];
    const body = bytes.subarray(at + 25, behind);
    for (let from = 0; from < length;) {
      const to = Math.min(length, from + 40 + below(300));
      const piece = part(view.getUint8(at + 13), view.getUint16(at + 17), body, from, to);
      parts.push(record(22, 0, 1000 + parts.length, piece, view.getUint16(at + 1)));
      from = to;
    }
    at = behind;
  }
  for (let i = parts.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [parts[i], parts[j]] = [parts[j]!, parts[i]!];
  }
  return parts;
}

for (const name of ["dtls12", "dtls12-mutual", "dtls12-stranger"]) {
  t.test(`${name}: its messages in parts, shuffled and doubled, say the same`, async (t) => {
    const whole = await framesOf(path.join(GOLDEN, `${name}.pcap`));
    const before = meaning(read(whole));
    let tried = 0;
    for (let round = 0; round < 40; round++) {
      const below = random(SEED + round);
      const list = whole.flatMap((f) => {
        const parts = cutAnew(f.bytes.subarray(HEADER), below);
        const head = f.bytes.subarray(0, HEADER);
        const datagrams = parts.length > 12 ? [join(...parts)] : parts;
        return datagrams.flatMap((payload) => {
          const bytes = join(head, payload);
          viewOf(bytes).setUint16(16, bytes.length - 14);
          viewOf(bytes).setUint16(38, bytes.length - 34);
          return below(5) === 0
            ? [
                { ...f, bytes },
                { ...f, bytes },
              ]
            : [{ ...f, bytes }];
        });
      });
      tried += list.length;
      if (meaning(read(list)) !== before) return t.fail(`seed ${SEED + round}`);
    }
    t.ok(tried > whole.length * 40, `${tried} datagrams`);
  });
}

t.test("among STUN and media on one pair of ports (RFC 7983)", async (t) => {
  const whole = await framesOf(path.join(GOLDEN, "dtls12-mutual.pcap"));
  const before = read(whole)[0]!;
  const stun = join(u16(1), u16(8), hex("2112a442"), new Uint8Array(12), new Uint8Array(8));
  const rtp = join([0x80, 111], new Uint8Array(40));
  const dress = (payload: Uint8Array) => ({
    ...whole[0]!,
    bytes: join(whole[0]!.bytes.subarray(0, HEADER), payload),
  });
  const sized = (f: Frame) => {
    viewOf(f.bytes).setUint16(16, f.bytes.length - 14);
    viewOf(f.bytes).setUint16(38, f.bytes.length - 34);
    return f;
  };
  const list = whole.flatMap((f) => [sized(dress(stun)), f, sized(dress(rtp))]);
  const flows = read(list);
  t.equal(flows.length, 1);
  t.match(flows[0], { protocol: "dtls", encryption: "dtls", handshake: "complete" });
  t.strictSame(flows[0]!.tls, before.tls);
  t.equal(flows[0]!.history, before.history);
  const alone = [sized(dress(stun)), sized(dress(rtp))];
  t.match(read(alone)[0], { protocol: null, encryption: "unknown" }, "STUN alone is not named");
});

t.test("joined later: records under keys are told, without a handshake", async (t) => {
  const later = [
    frame("server", record(23, 1, 7, new Uint8Array(40))),
    frame("client", record(23, 1, 9, new Uint8Array(60))),
  ];
  t.match(one(later), { protocol: "dtls", encryption: "dtls", handshake: null, tls: null });
  const said = (bytes: Uint8Array) => isDtls(viewOf(bytes), 0, bytes.length) === Match.yes;
  t.notOk(said(record(23, 0, 7, new Uint8Array(40))), "application data without keys");
  t.notOk(said(record(23, 1, 7, new Uint8Array(40)).subarray(0, -1)), "longer than its datagram");
  t.notOk(said(join(record(23, 1, 7, new Uint8Array(40)), [1, 2, 3])), "and something behind");
  t.notOk(said(record(22, 0, 0, new Uint8Array(30).fill(0x5a))), "no message");
  t.ok(said(join([25], u16(0xfefd), u16(1), new Uint8Array(6), latin1("id"), u16(3), [1, 2, 3])));
});

// Built from the grammars.

/** Hellos that negotiate DTLS 1.3 (RFC 9147 §5.3). */
const HELLO13 = helloBody(0xfefd, extension(43, join([2], u16(0xfefc))));
const ANSWER13 = answerBody(0xfefd, 0x1301, extension(43, join(u16(0xfefc))));
/** A record with the unified header (RFC 9147 §4): an epoch's last bits, length 2 bytes. */
const unified = (epoch: number, length: number) =>
  join([0x2c | epoch], u16(5), u16(length), new Uint8Array(length));

t.test("DTLS 1.3: told complete when both sides went on to application data", async (t) => {
  const hello = frame("client", record(22, 0, 0, part(1, 0, HELLO13)));
  const flight = join(record(22, 0, 0, part(2, 0, ANSWER13)), unified(2, 60), unified(2, 900));
  const answer = frame("server", flight);
  const finished = frame("client", unified(2, 61));
  const acked = frame("server", unified(3, 35));
  const data = frame("client", unified(3, 100));
  const check = (list: Frame[], expected: object) => t.match(one(list), expected);
  check([hello, answer, finished, acked], { handshake: "incomplete", accepted: null });
  check([hello, answer, finished, frame("server", unified(3, 19)), data], {
    handshake: "incomplete", // what has an alert's size may be one
  });
  const flow = one([hello, answer, finished, acked, data]);
  t.match(flow, { protocol: "dtls", handshake: "complete", accepted: null, history: "CseEpP" });
  t.match(flow.tls, { version: "DTLSv1.3", cipher_suite: "TLS_AES_128_GCM_SHA256", mutual: null });
  t.match(flow.tls, { ja4: /^dd3i0101/, server_cert: null });
});

t.test("connection ids (RFC 9146): each side's records have the other's length", async (t) => {
  const id = (length: number) => extension(54, join([length], new Uint8Array(length).fill(7)));
  const suites = u16(0xc0ac);
  const hello = part(1, 0, helloBody(0xfefd, id(3), suites));
  const answer = part(2, 0, answerBody(0xfefd, 0xc0ac, id(5)));
  const done = part(14, 1, new Uint8Array(0));
  const keyExchange = part(16, 1, new Uint8Array(33));
  const change = record(20, 0, 9, Uint8Array.of(1));
  const tagged = (idLength: number, length: number) =>
    join(
      ...[[25], u16(0xfefd), u16(1), new Uint8Array(6), new Uint8Array(idLength).fill(7)],
      ...[u16(length), new Uint8Array(length)],
    );
  const start = [
    frame("client", record(22, 0, 0, hello)),
    frame("server", join(record(22, 0, 0, answer), record(22, 0, 1, done))),
    frame("client", join(record(22, 0, 1, keyExchange), change, tagged(5, 40))),
    frame("server", join(change, tagged(3, 40))),
  ];
  t.match(one(start), { handshake: "complete", accepted: null, tls: { mutual: "no" } });
  const more = [frame("client", tagged(5, 70)), frame("server", tagged(3, 90))];
  t.match(one([...start, ...more]), { handshake: "complete", accepted: true });
});

t.test("hellos under other numbers, alerts, and a version that is deprecated", async (t) => {
  const hello = helloBody(0xfefd, new Uint8Array(0), u16(0xc02f));
  const verify = part(3, 0, join(u16(0xfeff), [4], new Uint8Array(4)));
  const answer = answerBody(0xfeff, 0xc013, new Uint8Array(0));
  const anew = one([
    frame("client", record(22, 0, 0, part(1, 0, hello))),
    frame("server", record(22, 0, 0, verify)),
    frame("client", record(22, 0, 1, part(1, 1, hello))),
    frame("server", record(22, 0, 0, part(2, 0, answer))), // a number that was used before
  ]);
  t.match(anew, { history: "CjCs", tls: { version: "DTLSv1.0" } });
  t.strictSame(anew.findings, ["tls-version-deprecated"]);
  const second = one([
    frame("client", record(22, 0, 1, part(1, 1, hello, 0, 20))),
    frame("client", record(22, 0, 0, part(1, 0, hello, 0, 20))), // never whole
    frame("client", record(22, 0, 2, part(1, 1, hello, 20))),
  ]);
  t.equal(second.history, "C", "the first hello that is whole");
  const refused = one([
    frame("client", record(22, 0, 0, part(1, 0, hello))),
    frame("server", record(21, 0, 0, Uint8Array.of(2, 70))),
  ]);
  t.match(refused.failure, { code: "no-common-version", alert: 70, side: "server" });
});

t.test("messages that lie about themselves are passed over, and hold little", async (t) => {
  const hello = helloBody(0xfefd, new Uint8Array(0));
  const valid = record(22, 0, 0, part(1, 0, hello));
  const lies = [
    record(22, 0, 1, join([11], u24(0xffffff), u16(9), u24(0), u24(1), [0])),
    record(22, 0, 2, join([11], u24(60000), u16(10), u24(59999), u24(1), [0])),
    record(22, 0, 3, join([11], u24(4), u16(11), u24(4), u24(0))),
    ...Array.from({ length: 20 }, (_, i) => record(22, 0, 4, part(11, 20 + i, hello, 0, 9))),
  ];
  const flow = one([valid, ...lies].map((payload) => frame("client", payload)));
  t.match(flow, { protocol: "dtls", history: "C", handshake: "incomplete" });
});

// ESP in UDP.

t.test("ESP on port 4500: no marker, an SPI that is not reserved", async (t) => {
  const esp = (spi: number, sequence: number) => join(u32(spi), u32(sequence), new Uint8Array(64));
  const keepalive = Uint8Array.of(0xff);
  const on = (port: number, ...list: Uint8Array[]) =>
    one(list.map((p) => frame("client", p, port)));
  t.match(on(4500, esp(0xc0ffee01, 8), keepalive, esp(0xc0ffee01, 9)), { protocol: "esp" });
  t.equal(on(4500, esp(0xc0ffee01, 8), esp(0xc0ffee01, 9)).encryption, "encrypted-other");
  t.equal(on(4500, esp(99, 8), esp(99, 9)).protocol, null, "a reserved SPI");
  t.equal(on(5000, esp(0xc0ffee01, 8), esp(0xc0ffee01, 9)).protocol, null, "another port");
  const spis = new Uint8Array(16).fill(7);
  const ike = join(u32(0), spis, [33, 0x20, 34, 8], u32(0), u32(28 + 4), new Uint8Array(4));
  t.equal(on(4500, ike, esp(0xc0ffee01, 1), esp(0xc0ffee01, 2)).protocol, "ike");
});
