/**
 * Checks handshakes that are seldom seen, constructed by the RFCs around hellos and records that
 * real stacks made: SSL 2.0 and its hello, renegotiation, early data, hellos of many records.
 */
import path from "node:path";
import t from "tap";
import { FIN, RST, hex, join, latin1, u16, viewOf } from "../frames.ts";
import { GOLDEN, framesOf, meaning, placeOf, read, replaced, split } from "./captures.ts";
import { check, hello, record, talk } from "./talk.ts";
import type { Turn } from "./talk.ts";
import { Handshake } from "../../agent/tls/handshake.ts";

/** What the sides of a capture's only flow said. */
async function turnsOf(name: string): Promise<Turn[]> {
  const turns: Turn[] = [];
  let client: string | null = null;
  for (const frame of await framesOf(path.join(GOLDEN, `${name}.pcap`))) {
    const place = placeOf(frame)!;
    client ??= place.ends;
    const flags = frame.bytes[14 + (frame.bytes[14]! & 15) * 4 + 13]!;
    if ((flags & RST) !== 0) throw new Error(`${name} was reset`);
    const way = place.ends === client ? ">" : "<";
    const payload = frame.bytes.subarray(place.payloadAt, place.end);
    if (payload.length > 0) turns.push([way, payload]);
    if ((flags & FIN) !== 0) turns.push([way, "close"]);
  }
  return turns;
}

/** One byte a segment, and each segment of the whole in two, in both orders. */
function resent(t: { equal: (a: unknown, b: unknown, what: string) => boolean }, turns: Turn[]) {
  const whole = meaning(read(talk(turns)));
  const bytes = turns.flatMap(([way, what]): Turn[] =>
    what === "close" ? [[way, what]] : [...what].map((byte) => [way, Uint8Array.of(byte)]),
  );
  t.equal(meaning(read(talk(bytes))), whole, "byte by byte");
  const frames = talk(turns);
  let wrong = 0;
  frames.forEach((frame, i) => {
    const place = placeOf(frame)!;
    const length = place.end - place.payloadAt;
    for (let at = 1; at < length; at += Math.ceil(length / 200)) {
      const [first, second] = split(frame, place, at);
      if (meaning(read(replaced(frames, i, first, second))) !== whole) wrong++;
      if (meaning(read(replaced(frames, i, second, first))) !== whole) wrong++;
    }
  });
  t.equal(wrong, 0, "in two segments");
}

const sized = (body: Uint8Array) => join(u16(body.length), body);
const extension = (type: number, body: Uint8Array) => join(u16(type), sized(body));
const FRESH = join(u16(0x0303), new Uint8Array(32), [0]);
const clientHello = (...extensions: Uint8Array[]) =>
  hello(1, join(FRESH, u16(2), u16(0x1301), [1, 0], sized(join(...extensions))));
const serverName = (name: string) => extension(0, sized(join([0], sized(latin1(name)))));
/** supported_versions of a client and of a server (RFC 8446 §4.2.1). */
const OFFERS_13 = extension(43, hex("02 0304"));
const CHOOSES_13 = extension(43, hex("0304"));
const serverHello13 = (...extensions: Uint8Array[]) =>
  record(22, hello(2, join(FRESH, u16(0x1301), [0], sized(join(CHOOSES_13, ...extensions)))));
const application = (length: number) => record(23, new Uint8Array(length));
const CHANGE = record(20, Uint8Array.of(1));

// SSL 2.0 (Hickman 1995) and its hello (RFC 6101 Appendix E.2).

const ssl2 = (body: Uint8Array) => join(u16(0x8000 | body.length), body);
/** Encrypted: MAC and data behind a header of three bytes, with padding. */
const hidden = (length: number) => join(u16(length), [3], new Uint8Array(length).fill(0xa5));
const SPECS = hex("010080 0700c0 00002f 00000a");
const ssl2Hello = (version: number) =>
  ssl2(join([1], u16(version), u16(SPECS.length), u16(0), u16(16), SPECS, new Uint8Array(16)));

async function ssl2ServerHello(hit: number, certificate: Uint8Array): Promise<Uint8Array> {
  const lengths = [...u16(certificate.length), ...u16(6), ...u16(16)];
  const tail = join(SPECS.subarray(0, 6), new Uint8Array(16));
  return ssl2(join([4, hit, hit === 1 ? 0 : 1, 0, 2], lengths, certificate, tail));
}

/** The first certificate of a golden capture's server. */
async function certificate(): Promise<Uint8Array> {
  const server = join(
    ...(await turnsOf("tls12")).flatMap(([w, b]) => (w === "<" && b !== "close" ? [b] : [])),
  );
  const at = server.findIndex((byte, i) => byte === 22 && server[i + 5] === 11);
  const length = (server[at + 12]! << 16) | (server[at + 13]! << 8) | server[at + 14]!;
  return server.subarray(at + 15, at + 15 + length);
}

t.test("an SSLv2-style hello, answered in SSL 3.0 and TLS", async (t) => {
  for (const [minor, version] of [
    [0, "SSLv3"],
    [1, "TLSv1.0"],
    [3, "TLSv1.2"],
  ] as const) {
    const answer = hello(2, join([3, minor], new Uint8Array(32), [0], u16(0x002f), [0]));
    const turns: Turn[] = [
      [">", ssl2Hello(0x0300 | minor)],
      ["<", record(22, answer)],
    ];
    const tls = { version, cipher_suite: "TLS_RSA_WITH_AES_128_CBC_SHA", ja3: null };
    check(t, turns, { protocol: "tls", encryption: "tls", handshake: "incomplete", tls } as never);
    resent(t, turns);
  }
});

t.test("SSL 2.0: its version and certificate, and how far it came", async (t) => {
  const der = await certificate();
  const hellos: Turn[] = [
    [">", ssl2Hello(2)],
    ["<", await ssl2ServerHello(0, der)],
  ];
  const key = ssl2(join([2], new Uint8Array(120)));
  const finished: Turn[] = [
    ...hellos,
    [">", join(key, hidden(40))],
    ["<", join(hidden(40), hidden(40))],
  ];
  const data: Turn[] = [
    [">", hidden(120)],
    ["<", join(hidden(400), hidden(400))],
  ];
  const told = { protocol: "tls", encryption: "tls", findings: ["tls-version-deprecated"] };
  const tls = {
    ...{ version: "SSLv2", cipher_suite: null, ja3: null, ja3s: null, mutual: null },
    server_cert_subject: "CN=server.golden,O=golden",
  };
  check(t, hellos, { ...told, tls, handshake: "incomplete", accepted: null } as never);
  check(t, finished, { ...told, tls, handshake: "complete", accepted: null } as never);
  const whole = [...finished, ...data];
  check(t, whole, { ...told, tls, handshake: "complete", accepted: true, failed: null } as never);
  resent(t, whole);
  const left = { handshake: "failed", failed: "server-cert-refused" };
  check(t, [...hellos, [">", "close"]], left as never);
  const broken = { handshake: "failed", failed: "server-aborted" };
  check(t, [...hellos, [">", key], ["<", "close"]], broken as never);
  const resumed: Turn[] = [
    [">", ssl2Hello(2)],
    ["<", await ssl2ServerHello(1, new Uint8Array(0))],
    [">", hidden(40)],
    ["<", join(hidden(40), hidden(40))],
  ];
  const again = { ...told, handshake: "resumed", tls: { version: "SSLv2", mutual: "resumed" } };
  check(t, resumed, again as never);
  const answer = (await ssl2ServerHello(0, der)).subarray(0);
  for (let cut = 0; cut < answer.length; cut++) {
    const h = new Handshake();
    const lying = Uint8Array.from(answer.subarray(0, Math.max(3, cut)));
    lying.set(u16(0x8000 | Math.max(1, lying.length - 2)));
    h.read(1, viewOf(answer), 0, cut, 0, -1);
    if (h.serverHello) t.fail(`cut at ${cut}`);
    new Handshake().read(1, viewOf(lying), 0, lying.length, 0, -1); // must not throw
  }
});

t.test("renegotiation: asked for in clear, and done out of sight", async (t) => {
  const turns = await turnsOf("tls12");
  const at = turns.findIndex(([, what]) => what !== "close" && what[0] === 23);
  const plain = read(talk(turns))[0]!;
  t.match(plain, { handshake: "complete", notes: [], tls: { mutual: "no" } });
  // HelloRequest (RFC 5246 §7.4.1.1) while a handshake goes on is ignored.
  const request = record(22, hello(0, new Uint8Array(0)));
  const asked = [turns[0]!, ["<", request] as Turn, ...turns.slice(1)];
  t.strictSame(read(talk(asked))[0]?.tls, plain.tls);
  // IIS asks for a certificate only once it has seen what is asked for.
  const hiddenHandshake = (length: number) => record(22, new Uint8Array(length));
  const anew: Turn[] = [
    ["<", hiddenHandshake(40)],
    [">", hiddenHandshake(280)],
    ["<", hiddenHandshake(2400)],
    [">", join(hiddenHandshake(2000), CHANGE, hiddenHandshake(40))],
    ["<", join(CHANGE, hiddenHandshake(40))],
  ];
  t.equal(turns[at]![0], ">");
  const again = [...turns.slice(0, at + 1), ...anew, ...turns.slice(at + 1)];
  const told = { handshake: "complete", accepted: true, failed: null, notes: ["renegotiated"] };
  check(t, again, { ...told, tls: { mutual: null, client_cert: null } } as never);
  // Asked for and not done: nothing changes.
  const refused: Turn[] = [anew[0]!, [">", record(21, new Uint8Array(26))]];
  const ignored = [...turns.slice(0, at + 1), ...refused, ...turns.slice(at + 1)];
  check(t, ignored, { ...told, notes: [], tls: { mutual: "no" } } as never);
  // As late as it likes: behind the answer, where nothing else is read any more.
  const answered = turns.findIndex(([way, what]) => way === "<" && what[0] === 23);
  const late = [...turns.slice(0, answered + 1), ...anew, ...turns.slice(answered + 1)];
  check(t, late, { ...told, tls: { mutual: null, client_cert: null } } as never);
});

t.test("a certificate that cannot be read was shown all the same", async (t) => {
  const turns = await turnsOf("tls12");
  const at = turns.findIndex(([way, what], i) => i > 0 && way === ">" && what[0] === 22);
  const [, flight] = turns[at] as [string, Uint8Array];
  const shows = (list: Uint8Array) => {
    const message = record(22, hello(11, join([0], u16(list.length), list)));
    const more: Turn = [">", join(message, flight)];
    return read(talk([...turns.slice(0, at), more, ...turns.slice(at + 1)]))[0]!.tls;
  };
  // An OpenPGP key, a raw one, or an algorithm that is not known: three bytes of none of them.
  const strange = shows(join([0], u16(3), hex("0badc0")));
  t.match(strange, { mutual: "yes", client_cert: true, client_cert_subject: null });
  t.match(shows(new Uint8Array(0)), { mutual: "no", client_cert: false });
});

t.test("early data: what the server says before the Finished is no acceptance", async (t) => {
  const psk = extension(41, new Uint8Array(80)); // pre_shared_key is the last
  const first = record(22, clientHello(OFFERS_13, extension(42, new Uint8Array(0)), psk));
  const begun: Turn[] = [
    [">", join(first, CHANGE, application(300), application(500))],
    ["<", join(serverHello13(extension(41, Uint8Array.of(0, 0))), CHANGE, application(40))],
    ["<", join(application(53), application(900))],
  ];
  const resumed = { protocol: "tls", tls: { version: "TLSv1.3", mutual: "resumed" } };
  check(t, begun, { handshake: "incomplete", accepted: null, failed: null } as never);
  // EndOfEarlyData is 4 + 17, Finished with SHA-256 36 + 17.
  const finished: Turn[] = [...begun, [">", join(application(21), application(53))]];
  // That the server took it is not seen yet.
  check(t, finished, {
    ...resumed,
    handshake: "incomplete",
    failed: null,
    accepted: null,
  } as never);
  const done = { ...resumed, handshake: "resumed", failed: null };
  const whole: Turn[] = [...finished, [">", application(120)], ["<", application(700)]];
  check(t, whole, { ...done, accepted: true } as never);
  resent(t, whole);
  // Refused early data has no end of its own: what acknowledges the hello is no early data.
  const declined: Turn[] = [
    begun[0]!,
    ["<", join(serverHello13(), CHANGE, application(40), application(900), application(53))],
    [">", application(53)],
  ];
  check(t, declined, { tls: { version: "TLSv1.3", mutual: "inferred-no" } } as never);
});

t.test("an encrypted hello inside: the name is the outer one, and is marked", async (t) => {
  const outer = clientHello(OFFERS_13, serverName("public.example"), extension(0xfe0d, hex("00")));
  const turns: Turn[] = [
    [">", record(22, outer)],
    ["<", serverHello13()],
  ];
  check(t, turns, { notes: ["ech"], tls: { sni: "public.example" } } as never);
});

t.test("a hello larger than a record, and than what is kept of a side", async (t) => {
  const large = clientHello(
    OFFERS_13,
    extension(21, new Uint8Array(40_000)),
    serverName("behind.example"),
  );
  const records: Uint8Array[] = [];
  for (let at = 0; at < large.length; at += 16384) {
    records.push(record(22, large.subarray(at, at + 16384)));
  }
  t.equal(records.length, 3);
  const bytes = join(...records);
  const inSegments = (size: number): Turn[] => {
    const starts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => i * size);
    return [
      ...starts.map((from): Turn => [">", bytes.subarray(from, from + size)]),
      ["<", serverHello13()],
    ];
  };
  const tls = { sni: "behind.example", version: "TLSv1.3" };
  for (const size of [536, 1460, 1500]) {
    check(t, inSegments(size), { protocol: "tls", tls, notes: [] } as never);
  }
  // What does not fit is told as missing, and nothing is concluded from it.
  const missed = { encryption: "tls", failed: null, notes: ["bytes-missing"] };
  for (const size of [8960, 16384, 65_000]) check(t, inSegments(size), missed as never);
});
