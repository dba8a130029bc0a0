/**
 * Checks quic: the examples of RFC 9001 and RFC 9369; Initial packets in every order and cut; what
 * closes a connection; and that strangers' bytes neither throw nor cost more than they are.
 */
import t from "tap";
import { Assembly } from "../../agent/read/assembly.ts";
import { deriveInitialKeys } from "../../agent/quic/protection.ts";
import { quicVersionOf } from "../../agent/quic/version.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { ethernet, hex, ipv4, join, latin1, random, u16, u24, u32, udp } from "../frames.ts";
import { viewOf } from "../frames.ts";
import { V1, V2, close, crypto, initial, long, short, tagOf, varint } from "../quic.ts";
import { GOLDEN, framesOf, meaning, read } from "./captures.ts";
import type { Frame } from "./captures.ts";

const SEED = 20261122;

/** A datagram of the client or the server, 10 ms after the one before. */
function frames(list: readonly (readonly ["client" | "server", Uint8Array])[]): Frame[] {
  return list.map(([from, payload], i) => {
    const up = from === "client";
    const ports = up ? { from: 40000, to: 443 } : { from: 443, to: 40000 };
    const ends = up ? {} : { source: "10.0.0.2", destination: "10.0.0.1" };
    const bytes = ethernet(ipv4({ ...ends, protocol: 17 }, udp(payload, ports)));
    return { bytes, timeUs: 1e12 + i * 10_000, linkType: 1 };
  });
}

function one(...list: readonly (readonly ["client" | "server", Uint8Array])[]): Flow {
  const flows = read(frames(list));
  if (flows.length !== 1) throw new Error(`${flows.length} flows`);
  return flows[0]!;
}

// RFC 9001 appendix A and RFC 9369 appendix A.

const ID = hex("8394c8f03e515708");
const SERVER_ID = hex("f067a5502a4262b5");
const CLIENT_FRAME = hex(`060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868
  04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578
  616d706c652e636f6dff01000100000a00080006001d00170018001000070005
  04616c706e000500050100000000003300260024001d00209370b2c9caa47fba
  baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400
  0d0010000e0403050306030203080408050806002d00020101001c0002400100
  3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000
  75300901100f088394c8f03e51570806048000ffff`);
const SERVER_FRAMES = hex(`02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf739
  88cfc79825df566dc5430b9a045a1200130100002e00330024001d00209d3c94
  0d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00
  020304`);
const CLIENT_HELLO = CLIENT_FRAME.subarray(4);

/** As the appendices print them: keys, the whole server packet, and the client packet's tag. */
const EXAMPLES = [
  {
    version: V1,
    client: ["1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c"],
    clientHeader: "9f50449e04a0e810283a1e9933adedd2",
    server: ["cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e"],
    serverHeader: "c206b8d9b9f0f37644430b490eeaa314",
    clientBegins: "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
    clientTag: "e221af44860018ab0856972e194cd934",
    serverPacket: `cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a
      5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3
      dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84
      022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc4 2158407dd074ee`,
  },
  {
    version: V2,
    client: ["8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f"],
    clientHeader: "45b95e15235d6f45a6b19cbcb0294ba9",
    server: ["82db637861d55e1d011f19ea71d5d2a7", "dd13c276499c0249d3310652"],
    serverHeader: "edf6d05c83121201b436e16877593c3a",
    clientBegins: "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
    clientTag: "a18b2faa745b6fe189cf772a9f84cbfc",
    serverPacket: `dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698
      baeea26b91eb761d9b89237bbf87263017915358230035f7fd3945d88965cf17
      f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2
      c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca8 4bed8521e2e140`,
  },
];

const clientInitial = (version = V1) =>
  initial({ from: "client", keyId: ID, version, number: 2, length: 1200 }, CLIENT_FRAME);
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

for (const example of EXAMPLES) {
  t.test(`version ${example.version.toString(16)}: the RFC's example`, async (t) => {
    const [client, server] = deriveInitialKeys(quicVersionOf(example.version)!, ID);
    t.strictSame([text(client.key), text(client.iv)], example.client);
    t.equal(text(client.headerKey), example.clientHeader);
    t.strictSame([text(server.key), text(server.iv)], example.server);
    t.equal(text(server.headerKey), example.serverHeader);
    const packet = clientInitial(example.version);
    t.equal(packet.length, 1200);
    t.equal(text(packet.subarray(0, 32)), example.clientBegins);
    t.equal(tagOf(packet), example.clientTag);
    const flow = one(["client", packet], ["server", hex(example.serverPacket)]);
    t.match(flow, { protocol: "quic", encryption: "quic", handshake: "incomplete" });
    t.match(flow, { client_basis: "handshake", accepted: null, history: "Cs", failure: null });
    t.match(flow.tls, { sni: "example.com", alpn_offered: ["alpn"], version: "TLSv1.3" });
    t.match(flow.tls, { cipher_suite: "TLS_AES_128_GCM_SHA256", group: "x25519" });
    t.match(flow.tls, { mutual: null, client_cert: null, ja4: /^q13d0211an_/ });
  });
}

// Datagrams in any order, CRYPTO frames in any pieces.

const serverInitial = (fields: object = {}, ...more: Uint8Array[]) =>
  initial({ from: "server", keyId: ID, source: SERVER_ID, ...fields }, SERVER_FRAMES, ...more);
const IDS = join([0, 8], SERVER_ID);

/** The hello in pieces, some of them twice, shuffled, and spread over packets. */
function scattered(below: (n: number) => number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < CLIENT_HELLO.length;) {
    const length = 1 + below(60);
    const back = Math.min(at, below(4) === 0 ? below(8) : 0);
    pieces.push(crypto(at - back, CLIENT_HELLO.subarray(at - back, at + length)));
    at += length;
  }
  for (let i = pieces.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [pieces[i], pieces[j]] = [pieces[j]!, pieces[i]!];
  }
  const packets: Uint8Array[] = [];
  for (let number = 0; pieces.length > 0; number++) {
    const some = pieces.splice(0, 1 + below(6));
    if (below(2) === 0) some.splice(below(some.length), 0, Uint8Array.of(1), new Uint8Array(3));
    packets.push(
      initial({ from: "client", keyId: ID, number, numberLength: 1 + below(4) }, ...some),
    );
  }
  return packets;
}

t.test("a hello in any pieces, order and datagrams says the same", async (t) => {
  const whole = one(["client", clientInitial()], ["server", serverInitial()]);
  for (let round = 0; round < 100; round++) {
    const below = random(SEED + round);
    const packets = scattered(below).map((p): ["client", Uint8Array] => ["client", p]);
    if (packets.length > 30) continue;
    const flow = one(...packets, ["server", serverInitial()]);
    if (meaning([flow]) !== meaning([whole])) t.fail(`seed ${SEED + round}: ${flow.history}`);
  }
  const packets = scattered(random(SEED)).slice(0, 12);
  const flow = one(["client", join(...packets, ...packets)], ["server", serverInitial()]);
  t.equal(flow.tls?.version, "TLSv1.3", "packets behind one another in one datagram");
});

t.test("the first bytes win", async (t) => {
  const other = CLIENT_FRAME.slice();
  other.set(latin1("EXAMPLE"), 60);
  const packets = [CLIENT_FRAME, other].map((frame, number): ["client", Uint8Array] => [
    "client",
    initial({ from: "client", keyId: ID, number }, frame),
  ]);
  t.equal(one(...packets).tls?.sni, "example.com");
});

t.test("connection ids of 0 to 20 bytes, on either side", async (t) => {
  for (let length = 0; length <= 20; length++) {
    const keyId = new Uint8Array(length).fill(length);
    const source = new Uint8Array(20 - length).fill(3);
    const client = initial({ from: "client", keyId, source, length: 1200 }, CLIENT_FRAME);
    const server = initial({ from: "server", keyId, destination: source }, SERVER_FRAMES);
    const flow = one(["client", client], ["server", server]);
    t.match(flow.tls, { sni: "example.com", version: "TLSv1.3" }, `${length} bytes`);
  }
});

t.test("a Retry, another version, a Version Negotiation", async (t) => {
  // RFC 9000 §17.2.5: the client's next Initial goes to the Retry's source id, with its token.
  const retry = join([0xf0], u32(V1), IDS, latin1("token"), new Uint8Array(16));
  const again = { from: "client" as const, keyId: SERVER_ID, token: latin1("token"), length: 1200 };
  const retried = one(
    ["client", initial({ from: "client", keyId: ID, length: 1200 }, CLIENT_FRAME)],
    ["server", retry],
    ["client", initial(again, CLIENT_FRAME)],
    ["server", initial({ from: "server", keyId: SERVER_ID }, SERVER_FRAMES)],
  );
  t.equal(retried.history, "Cjs");
  t.equal(retried.tls?.version, "TLSv1.3");
  // RFC 9369 §4.1: version 2 with the keys of the same connection id.
  const changed = one(
    ["client", clientInitial()],
    ["server", initial({ from: "server", keyId: ID, version: V2 }, SERVER_FRAMES)],
  );
  t.equal(changed.tls?.version, "TLSv1.3");
  // RFC 9000 §6: the client begins anew, with what it may.
  const id2 = hex("0102030405060708");
  const negotiation = join([0xc0], u32(0), IDS, u32(V1), u32(0x1a2a3a4a));
  const negotiated = one(
    [
      "client",
      initial({ from: "client", keyId: ID, version: 0x1a2a3a4a, length: 1200 }, CLIENT_FRAME),
    ],
    ["server", negotiation],
    ["client", initial({ from: "client", keyId: id2, length: 1200 }, CLIENT_FRAME)],
    ["server", initial({ from: "server", keyId: id2 }, SERVER_FRAMES)],
  );
  t.match(negotiated, { protocol: "quic", history: "Cns" });
  t.equal(negotiated.tls?.version, "TLSv1.3");
});

t.test("the server's packet came first: the client is told all the same", async (t) => {
  const flow = one(["server", serverInitial()], ["client", clientInitial()]);
  t.match(flow, { src_port: 40000, dst_port: 443, client_basis: "handshake" });
  t.equal(flow.tls?.sni, "example.com");
});

// Completion, acceptance, refusal.

const server = (bytes: Uint8Array) => ["server", bytes] as const;
const client = (bytes: Uint8Array) => ["client", bytes] as const;
const hello = client(clientInitial());
const answer = server(join(serverInitial(), long(2, V1, IDS, 400)));
const finished = client(long(2, V1, join([8], SERVER_ID, [0]), 80));

t.test("complete is what both sides' 1-RTT packets show; accepted takes more", async (t) => {
  t.equal(one(hello, answer, finished).handshake, "incomplete");
  t.equal(one(hello, answer, finished, server(short())).handshake, "incomplete");
  t.equal(one(hello, answer, finished, client(short())).handshake, "incomplete");
  const complete = [hello, answer, finished, client(short()), server(short())];
  t.match(one(...complete), { handshake: "complete", accepted: null, history: "CseEPp" });
  const coalesced = one(hello, answer, client(join(finished[1], short())), server(short()));
  t.match(coalesced, { handshake: "complete" });
  const padded = client(join(finished[1], new Uint8Array(9)));
  t.equal(one(hello, answer, padded, server(short())).handshake, "incomplete", "padding");
  const more = (count: number) => Array.from({ length: count }, () => server(short(1400)));
  t.equal(one(...complete, ...more(20)).accepted, null, "within an initial window");
  t.equal(one(...complete, ...more(80)).accepted, true, "more than without an acknowledgment");
});

t.test("CONNECTION_CLOSE: the alert inside is the failure", async (t) => {
  const closed = (error: number) => server(initial({ from: "server", keyId: ID }, close(error)));
  const failure = (error: number, ...before: (readonly ["server", Uint8Array])[]) =>
    one(hello, ...before, closed(error)).failure;
  t.match(failure(0x178), { code: "no-common-alpn", alert: 120, basis: "alert", side: "server" });
  t.match(failure(0x170), { code: "unrecognized-name", alert: 112 });
  t.match(failure(0x128), { code: "no-common-parameters", alert: 40 });
  t.match(failure(0x102), { code: "alert-2", alert: 2 });
  t.match(failure(0x02), { code: "server-aborted", basis: "close", alert: null });
  t.match(failure(0x0a, answer), { code: "server-aborted", basis: "close" });
  const byClient = client(initial({ from: "client", keyId: ID, number: 3 }, close(0x12a)));
  t.match(one(hello, answer, byClient).failure, { code: "server-cert-refused", alert: 42 });
  t.match(one(hello, client(initial({ from: "client", keyId: ID, number: 3 }, close(0)))).failure, {
    ...{ code: "client-aborted", side: "client" },
  });
});

t.test("a hello without an answer is silence only when it is repeated", async (t) => {
  const alone = frames([hello]);
  const later = { ...alone[0]!, timeUs: 1e12 + 1e6 };
  const other = { ...frames([client(latin1("x"))])[0]!, timeUs: 1e12 + 32e6 };
  other.bytes[34] = 9; // another port: time goes on
  const flowOf = (list: Frame[]) => read(list).find((f) => f.protocol === "quic")!;
  t.match(flowOf([...alone, other]), { handshake: "incomplete", failure: null, accepted: null });
  const silent = flowOf([...alone, later, other]);
  t.match(silent.failure, { code: "silent", confidence: "likely" });
  t.equal(silent.accepted, null, "the server's way may be unseen");
});

t.test("what is no Initial that opens stays without a name, or without a reading", async (t) => {
  t.equal(one(client(short()), server(short()), client(short())).encryption, "unknown");
  t.match(one(server(serverInitial())), { protocol: "quic", handshake: null, tls: null });
  const google = join(hex("0d 0102030405060708"), latin1("Q043"), [1], new Uint8Array(40));
  t.match(one(client(google)), { protocol: "quic", encryption: "quic", tls: null });
  const bent = clientInitial();
  bent[700]! ^= 1;
  t.match(one(client(bent)), { protocol: "quic", handshake: null });
});

// Strangers' bytes.

t.test("assembly: any pieces, in any order; nothing grows beyond what came", async (t) => {
  for (let round = 0; round < 300; round++) {
    const below = random(SEED + round);
    const limit = 1 + below(600);
    const assembly = new Assembly(limit);
    const model: (number | undefined)[] = [];
    let disagreed = false;
    for (let step = 0; step < 40; step++) {
      const offset = below(700);
      const bytes = Uint8Array.from({ length: below(80) }, () => below(2));
      assembly.put(offset, viewOf(bytes), 0, bytes.length);
      bytes.forEach((byte, i) => {
        if (offset + i >= limit) return;
        if (model[offset + i] !== undefined && model[offset + i] !== byte) disagreed = true;
        model[offset + i] ??= byte;
      });
      let have = 0;
      while (model[have] !== undefined) have++;
      const kept = new Uint8Array(assembly.view.buffer).subarray(0, have);
      const same = have === assembly.have && kept.every((byte, i) => byte === model[i]);
      if (!same || disagreed !== assembly.disagreed) return t.fail(`seed ${SEED + round}`);
    }
  }
  const far = new Assembly(65536);
  far.put(60000, viewOf(Uint8Array.of(1)), 0, 1);
  t.equal(far.view.byteLength, 0, "a byte alone claims no memory");
});

t.test("mutated, cut and shuffled datagrams: no throw, and time in proportion", async (t) => {
  const below = random(SEED);
  let flows = 0;
  const names = [
    "quic",
    "quic-v2",
    "quic-retry",
    "quic-chromium",
    "dtls12-mutual",
    "dtls12-stranger",
  ];
  for (const name of names) {
    const whole = await framesOf(`${GOLDEN}/${name}.pcap`);
    for (let round = 0; round < 150; round++) {
      const list = whole.map((frame) => ({ ...frame, bytes: frame.bytes.slice() }));
      for (let n = 1 + below(6); n > 0; n--) {
        const frame = list[below(list.length)]!;
        if (below(3) === 0) frame.bytes = frame.bytes.slice(0, 42 + below(frame.bytes.length - 41));
        else frame.bytes[42 + below(frame.bytes.length - 42)] = below(256);
      }
      if (below(2) === 0) list.sort(() => below(3) - 1);
      flows += read(list).length;
    }
  }
  t.ok(flows >= names.length * 150, `${flows} flows`);
  // Many small pieces far apart, and packets that announce more than they hold.
  const pieces = Array.from({ length: 200 }, (_, i) => crypto(i * 97, Uint8Array.of(i)));
  const storm = Array.from({ length: 40 }, (_, number) =>
    client(initial({ from: "client", keyId: ID, number }, ...pieces)),
  );
  t.match(one(...storm), { protocol: "quic", handshake: null });
  t.match(one(client(join(clientInitial(), u16(0), u24(0), varint(70)))), { protocol: "quic" });
});
