/**
 * Checks tls: hellos that OpenSSL made, cut at every length; record splitting; the arithmetic of
 * client flights as measured; fingerprints and names against foreign readings.
 */
import { spawnSync } from "node:child_process";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import t from "tap";
import { Cursor } from "../../agent/read/cursor.ts";
import { alike } from "../../agent/tls/alike.ts";
import { readClientFlight } from "../../agent/tls/client-flight.ts";
import {
  knownClientHello,
  readClientHello,
  readSsl2ClientHello,
} from "../../agent/tls/client-hello.ts";
import { ja3, ja4 } from "../../agent/tls/fingerprint.ts";
import { Handshake } from "../../agent/tls/handshake.ts";
import { CLIENT, SERVER } from "../../agent/tls/side.ts";
import { Letters } from "../../agent/tls/letters.ts";
import { knownServerHello, readServerHello } from "../../agent/tls/server-hello.ts";
import type { ServerHello } from "../../agent/tls/server-hello.ts";
import { hex, join, latin1, random, u16, u24, viewOf } from "../frames.ts";
import { GOLDEN, framesOf, placeOf, read } from "./captures.ts";

const golden = (name: string) => path.join(GOLDEN, `${name}.pcap`);

/** Bytes that one side of a capture's first flow sent, in order. */
async function sentBy(name: string, role: number): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let client: string | null = null;
  for (const frame of await framesOf(golden(name))) {
    const place = placeOf(frame);
    if (!place) continue;
    client ??= place.ends;
    if ((place.ends === client) !== (role === CLIENT)) continue;
    parts.push(frame.bytes.subarray(place.payloadAt, place.end));
  }
  return join(...parts);
}

/** The body of the first handshake message of a stream, without record and message headers. */
function firstMessage(stream: Uint8Array): Uint8Array<ArrayBuffer> {
  const length = (stream[6]! << 16) | (stream[7]! << 8) | stream[8]!;
  return Uint8Array.from(stream.subarray(9, 9 + length));
}

const parse = <T>(reader: (c: Cursor) => T, bytes: Uint8Array): T =>
  reader(new Cursor(viewOf(join([0xee], bytes, [0xee])), 1, 1 + bytes.length));

/** Lengths at which a hello is lawful without what was cut off: it is older than extensions. */
function lawfulCuts(body: Uint8Array, extensionsAt: number): Set<number> {
  return new Set([extensionsAt, body.length]);
}

/** Where each extension ends, given where their list's length stands. */
function extensionEnds(body: Uint8Array, extensionsAt: number): number[] {
  const ends = [extensionsAt + 2];
  const view = viewOf(body);
  for (let at = extensionsAt + 2; at < body.length; ends.push(at)) {
    at += 4 + view.getUint16(at + 2);
  }
  return ends;
}

/** Where a ClientHello's extensions begin; the body is whole. */
function clientExtensionsAt(body: Uint8Array): number {
  let at = 34;
  at += 1 + body[at]!;
  at += 2 + viewOf(body).getUint16(at);
  return at + 1 + body[at]!;
}

const HELLOS: readonly [string, number, (c: Cursor) => object | null][] = [
  ["tls13", CLIENT, readClientHello],
  ["tls13-psk", CLIENT, readClientHello],
  ["tls12", CLIENT, readClientHello],
  ["tls10", CLIENT, readClientHello],
  ["alpn-mismatch", CLIENT, readClientHello],
  ["tls13", SERVER, readServerHello],
  ["tls13-retry", SERVER, readServerHello],
  ["tls12", SERVER, readServerHello],
];

for (const [name, role, reader] of HELLOS) {
  const who = role === CLIENT ? "ClientHello" : "ServerHello";
  t.test(`${who} of ${name}: cut at each length it is null, lawful cuts apart`, async (t) => {
    const body = firstMessage(await sentBy(name, role));
    const extensionsAt = role === CLIENT ? clientExtensionsAt(body) : 34 + 1 + body[34]! + 3;
    t.ok(parse(reader, body), "whole");
    const outer = lawfulCuts(body, extensionsAt);
    const accepted: number[] = [];
    for (let cut = 0; cut <= body.length; cut++) {
      if (parse(reader, body.subarray(0, cut)) !== null) accepted.push(cut);
    }
    t.strictSame(accepted, [...outer], "outer: only before the extensions");

    // Now the list's own length agrees with the cut: lawful at each extension's end.
    const inner: number[] = [];
    for (let cut = extensionsAt + 2; cut <= body.length; cut++) {
      const lying = Uint8Array.from(body.subarray(0, cut));
      lying.set(u16(cut - extensionsAt - 2), extensionsAt);
      if (parse(reader, lying) !== null) inner.push(cut);
    }
    t.strictSame(inner, extensionEnds(body, extensionsAt), "inner: only between two extensions");

    // One byte less or more in any extension's length shifts all that follows.
    for (const at of extensionEnds(body, extensionsAt).slice(0, -1)) {
      for (const by of [-1, 1, 0x4000]) {
        const lying = Uint8Array.from(body);
        const length = (viewOf(lying).getUint16(at + 2) + by) & 0xffff;
        lying.set(u16(length), at + 2);
        parse(reader, lying); // what it means is open; it must not throw
      }
    }
  });
}

t.test("hellos that are known again say what a reading of them says", async (t) => {
  const below = random(20_261_124);
  const kinds = [
    [CLIENT, readClientHello, knownClientHello, ["tls13", "tls12", "tls13-psk", "tls13-retry"]],
    [SERVER, readServerHello, knownServerHello, ["tls13", "tls12", "tls13-retry", "mtls13"]],
  ] as const;
  for (const [role, reader, knows, names] of kinds) {
    const bodies = await Promise.all(
      names.map(async (name) => firstMessage(await sentBy(name, role))),
    );
    let [others, same] = [0, 0];
    for (let round = 0; round < 20_000; round++) {
      const body = bodies[below(bodies.length)]!.slice();
      const original = parse<object | null>(knows, body);
      // The random number, and then anything.
      for (let i = 2; i < 34; i++) body[i] = below(256);
      if (below(2) === 0) body[below(body.length)] = below(256);
      const said = parse<object | null>(reader, body);
      const known = parse<object | null>(knows, body);
      if (!isDeepStrictEqual(known, said)) return t.fail(Buffer.from(body).toString("hex"));
      if (known === original) same++;
      else others++;
    }
    t.ok(same > 10_000 && others > 1000, `${same} were known, ${others} said something else`);
  }
});

t.test("an SSLv2-style hello: cut at each length it is null", async (t) => {
  const specs = hex("010080 00002f 000035");
  const body = join([3, 1], u16(specs.length), u16(0), u16(16), specs, new Uint8Array(16));
  const whole = parse(readSsl2ClientHello, body)!;
  t.strictSame([whole.legacyVersion, whole.cipherSuites], [0x0301, [0x2f, 0x35]]);
  for (let cut = 0; cut < body.length; cut++) {
    if (parse(readSsl2ClientHello, body.subarray(0, cut)) !== null) t.fail(`cut at ${cut}`);
  }
});

// Record splitting.

/** A handshake record around part of a message. */
const record = (bytes: Uint8Array) => join([22, 3, 3], u16(bytes.length), bytes);

/** Feeds a side's bytes as they come; what is not needed any more is not offered again. */
function feed(h: Handshake, side: number, bytes: Uint8Array): void {
  h.read(side, viewOf(bytes), 0, bytes.length, 0, -1);
}

t.test("messages split over records at each boundary, and many in one record", async (t) => {
  const hello = join([1], u24(0), firstMessage(await sentBy("mtls12", CLIENT)));
  hello.set(u24(hello.length - 4), 1);
  const server = await sentBy("mtls12", SERVER);
  let end = 0;
  const messages: Uint8Array[] = [];
  while (server[end] === 22 && server[end + 5]! !== 4) {
    const length = (server[end + 3]! << 8) | server[end + 4]!;
    messages.push(server.subarray(end + 5, end + 5 + length));
    end += 5 + length;
  }
  const flight = join(...messages);
  const said = (h: Handshake) =>
    JSON.stringify([h.clientHello, h.serverHello, h.serverChain, h.group, h.asked, h.history]);
  const plain = new Handshake();
  feed(plain, CLIENT, record(hello));
  feed(plain, SERVER, server.subarray(0, end));
  t.equal(plain.serverChain?.[0]?.subject, "CN=server.golden,O=golden");
  t.ok(plain.asked && plain.serverHelloDone);
  const before = said(plain);
  const joined = new Handshake();
  feed(joined, CLIENT, record(hello));
  feed(joined, SERVER, record(flight));
  t.equal(said(joined), before, "the whole flight in one record");
  for (const [side, message] of [
    [CLIENT, hello],
    [SERVER, flight],
  ] as const) {
    for (let at = 1; at < message.length; at++) {
      const h = new Handshake();
      const two = join(record(message.subarray(0, at)), record(message.subarray(at)));
      feed(h, CLIENT, side === CLIENT ? two : record(hello));
      feed(h, SERVER, side === SERVER ? two : record(flight));
      if (said(h) !== before || h.malformed.includes(true)) return t.fail(`side ${side} at ${at}`);
    }
  }
  const small: Uint8Array[] = [];
  for (let at = 0; at < flight.length; at += 6) small.push(record(flight.subarray(at, at + 6)));
  const bytewise = new Handshake();
  feed(bytewise, CLIENT, record(hello));
  feed(bytewise, SERVER, join(...small));
  t.equal(said(bytewise), before, "a record for each six bytes");
});

t.test("bytes that are no records end the reading, and are told", async (t) => {
  const h = new Handshake();
  feed(h, SERVER, latin1("HTTP/1.1 400 Bad Request"));
  t.strictSame([h.malformed, h.isRead(SERVER), h.isRead(CLIENT)], [[false, true], true, false]);
  const long = new Handshake();
  feed(long, SERVER, record(join([11], u24(0xffffff), new Uint8Array(64))));
  t.ok(long.isBounded && long.isRead(SERVER), "a message of 16 MiB is not waited for");
  t.notOk(long.malformed[SERVER], "and contradicts nothing");
});

// Client flights: lengths of the records of type 23, `none / declined / presented`, as measured on
// connections of each stack (one-way; asked and declined; EC, RSA, chain, P-384, RSA-4096, tiny).

const FLIGHTS = `
  chromium AES-256: 69 / - / 618 617
  bun AES-128: 53 / 61 / 967 1947 1425 2816
  bun AES-256: 69 / 77 / 983 2832 1044 2475
  bun ChaCha: 53 / 61 / 968
  deno AES-128: 53 / 61 / 602 1184 1426
  deno AES-256: 69 / 77 / 619 2832 441 678 1712 617
  deno ChaCha: 53 / 61 / 603
  gnutls3.7 AES-128: 53 / 25+53 / 488+96+53 884+281+53 1311+96+53
  gnutls3.7 AES-256: 69 / 25+69 / 488+96+69 2516+281+69 516+128+69 1140+537+69
  gnutls3.7 ChaCha: 53 / 25+53 / 488+96+53
  go1.19 AES-128: 53 / 25+53 / 488+95+53 884+281+53 1311+96+53
  go1.19 AES-256: 69 / 25+69 / 488+96+69 2516+281+69 516+127+69 1140+537+69
  go1.19 ChaCha: 53 / 25+53 / 488+97+53
  java17 AES-128: 69 / 41+69 / 504+112+69 900+297+69 1327+113+69
  java17 AES-256: 85 / 41+85 / 504+112+85 2532+297+85 326+112+85 532+145+85 1156+553+85
  java17 ChaCha: 69 / 41+69 / 504+113+69
  node20 AES-128: 53 / 25+53 / 852+95+53 1647+281+53 1311+97+53
  node20 AES-256: 69 / 25+69 / 852+96+69 2516+281+69 880+128+69 1903+537+69
  node20 ChaCha: 53 / 25+53 / 852+96+53
  node24 AES-128: 53 / 25+53 / 852+95+53 1647+281+53 1311+97+53
  node24 AES-256: 69 / 25+69 / 852+96+69 2516+281+69 674+96+69 880+127+69 1903+537+69
  node24 ChaCha: 53 / 25+53 / 852+96+53
  nss3.87 AES-128: 53 / 61 / 602 1184 1426
  nss3.87 AES-256: 69 / 77 / 620 2832 678 1712
  nss3.87 ChaCha: 53 / 61 / 602
  openssl3.0 AES-128: 53 / 25+53 / 951+96+53 1743+281+53 1779+95+53
  openssl3.0 AES-256: 69 / 25+69 / 951+96+69 3385+281+69 1007+129+69 2255+537+69
  openssl3.0 ChaCha: 53 / 25+53 / 951+95+53
  python3.11 AES-128: 53 / 25+53 / 852+96+53 1647+281+53 1311+95+53
  python3.11 AES-256: 69 / 25+69 / 852+96+69 2516+281+69 880+127+69 1903+537+69
  python3.11 ChaCha: 53 / 25+53 / 852+96+53
  rustls0.20 AES-128: 53 / 25+53 / 488+97+53 884+281+53 1311+95+53
  rustls0.20 AES-256: 69 / 25+69 / 488+96+69 2516+281+69 310+95+69 516+127+69 1140+537+69
  rustls0.20 ChaCha: 53 / 25+53 / 488+96+53
  wolfssl5.5 AES-128: 53 / 25+53 / 488+97+53 884+281+53 1311+96+53
  wolfssl5.5 AES-256: 69 / 25+69 / 488+96+69 2516+281+69 516+129+69 1140+537+69
  wolfssl5.5 ChaCha: - / 25+53 / 488+96+53
  nginx-as-client AES-128: - / - / 487+96+53 2516+281+53
  nginx-as-client AES-256: 69 / 25+69 / -
  stunnel-as-client AES-128: - / - / 852+97+53 2516+281+53
  stunnel-as-client AES-256: 69 / 25+69 / 852+95+69 2516+281+69
  haproxy-as-client AES-256: 69 / 25+69 / 487+96+69 2516+281+69
`;

const NOTHING = { earlyData: false, settings: false, psk: false };
const EARLY = { ...NOTHING, earlyData: true };
const PSK = { ...NOTHING, psk: true };
const lengthsOf = (text: string) => (text === "-" ? [] : text.split("+").map(Number));

t.test("client flights of every stack that was measured", async (t) => {
  let checked = 0;
  for (const row of FLIGHTS.trim().split("\n")) {
    const [stack = "", cells = ""] = row.trim().split(": ");
    const hashBytes = stack.endsWith("AES-256") ? 48 : 32;
    const [none = "", declined = "", presented = ""] = cells.split(" / ");
    const check = (kind: string, text: string) => {
      const lengths = lengthsOf(text);
      if (lengths.length === 0) return;
      checked++;
      const wanted = { kind, records: lengths.length };
      const application = [...lengths, 40, 100];
      const flight = readClientFlight(application, hashBytes, NOTHING);
      t.strictSame(flight, wanted, `${stack} ${kind} ${text}, and data behind it`);
      const alone = readClientFlight(lengths, hashBytes, NOTHING);
      // One record may be a Certificate that nothing follows.
      const isAlone = kind === "presented" && lengths.length === 1;
      const kinds = isAlone ? ["certificate", "padded"] : [kind];
      t.ok(kinds.includes(alone.kind), `${stack} ${text}: ${alone.kind}`);
      // Where early data was offered, records may be left of it: only a whole flight is believed.
      const early = readClientFlight(application, hashBytes, EARLY);
      t.ok([kind, "incomplete"].includes(early.kind), `${stack} ${text}, early data offered`);
      const resumed = readClientFlight(application, hashBytes, PSK);
      t.equal(resumed.kind, kind === "none" ? "none" : "unclear", `${stack} ${text} behind a PSK`);
      // While the flight is still coming it must never look like another kind.
      for (let came = 0; came < lengths.length; came++) {
        const soFar = readClientFlight(lengths.slice(0, came), hashBytes, NOTHING);
        const may = [
          "incomplete",
          ...(kind === "presented" ? [kind, "certificate", "padded"] : []),
        ];
        t.ok(may.includes(soFar.kind), `${stack} ${text}, ${came} came: ${soFar.kind}`);
      }
    };
    for (const text of none.split(" ")) check("none", text);
    for (const text of declined.split(" ")) check("declined", text);
    for (const text of presented.split(" ")) check("presented", text);
  }
  t.ok(checked >= 140, `${checked} flights`);
});

t.test("application settings, as Chromium sends them, go before the client's flight", async (t) => {
  const offers = { ...NOTHING, settings: true };
  // 4 + 2 + 4 of EncryptedExtensions join the 36 or 52 of the Finished, and the 8 of no certificate.
  t.strictSame(readClientFlight([63, 87], 32, offers), { kind: "none", records: 1 });
  t.strictSame(readClientFlight([79], 48, offers), { kind: "none", records: 1 });
  t.strictSame(readClientFlight([71], 32, offers), { kind: "declined", records: 1 });
  t.strictSame(readClientFlight([53], 32, offers), { kind: "none", records: 1 });
  t.equal(readClientFlight([63], 32, NOTHING).kind, "unclear", "not where none were offered");
});

t.test("flights that say nothing are unclear, and alerts are alerts", async (t) => {
  const check = (lengths: number[], kind: string, hashBytes = 32) =>
    t.equal(readClientFlight(lengths, hashBytes, NOTHING).kind, kind, lengths.join("+"));
  check([], "incomplete");
  check([19], "alert"); // a client that distrusts the server
  check([35], "alert"); // Java's
  check([25, 19], "alert");
  check([25, 60], "unclear");
  check([54], "unclear");
  check([70], "unclear");
  check([200], "incomplete"); // a raw public key may be as small
  check([200, 40], "unclear");
  check([201], "certificate");
  check([201, 19], "certificate"); // joined, and the client leaves; or it broke off
  check([201, 40], "presented");
  check([53], "unclear", 48); // the Finished of another hash
  check([61], "declined");
  check([77], "declined", 48);
});

t.test("flights of newer stacks, and what padding hides", async (t) => {
  const check = (lengths: number[], kind: string, hashBytes = 32, offers = NOTHING) =>
    t.equal(readClientFlight(lengths, hashBytes, offers).kind, kind, lengths.join("+"));
  check([69], "none"); // JDK 25, SSLEngine: one record, 16 more
  check([77], "declined");
  check([619, 84], "presented");
  check([121, 96, 53], "presented"); // raw public keys (RFC 7250): P-256, Ed25519
  check([74, 89, 53], "presented");
  check([121, 96, 60], "unclear");
  check([121, 96], "incomplete");
  check([16401, 5625, 4652, 69], "presented", 48); // a chain of ML-DSA-87
  check([371, 19], "certificate"); // Go without a common signature scheme breaks off
  for (const block of [64, 128, 256, 512, 4096]) {
    check([block + 16, block + 16, 2 * block + 16], "padded"); // OpenSSL's record_padding
  }
  check([316, 316], "padded"); // to 300
  check([316, 19], "certificate"); // an alert that is not padded
  check([848, 73], "presented");
  check([529, 529, 529, 239, 97, 53], "presented"); // a certificate in small records
  check([16401, 2799, 95, 53], "presented");
  check([317, 21, 53], "none", 32, { ...EARLY, psk: true });
  check([317, 53], "none", 32, { ...EARLY, psk: true });
  check([500, 53], "incomplete", 32, EARLY); // refused early data, or a joined flight
  check([69, 69, 781, 96, 69], "presented", 48, EARLY); // early data of a Finished's size
  check([500, 96, 53], "presented", 32, EARLY);
});

// Fingerprints.

type Parts = { version?: number; ciphers: number[]; extensions: [number, Uint8Array?][] };

/** The body of a ClientHello. */
function helloBody({ version = 0x0303, ciphers, extensions }: Parts): Uint8Array {
  const list = join(
    ...extensions.map(([type, value = new Uint8Array(0)]) =>
      join(u16(type), u16(value.length), value),
    ),
  );
  const suites = join(...ciphers.map(u16));
  const head = [u16(version), new Uint8Array(32), [0], u16(suites.length), suites, [1, 0]];
  return join(...head, ...(extensions.length === 0 ? [] : [u16(list.length), list]));
}

const uint16s = (...list: number[]) => join(u16(list.length * 2), ...list.map(u16));

t.test("JA4 of the example in FoxIO's specification", async (t) => {
  const name = latin1("example.com");
  const signatures = uint16s(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601);
  const values = new Map<number, Uint8Array>([
    [0x0000, join(u16(name.length + 3), [0], u16(name.length), name)],
    [0x000d, signatures],
    [0x0010, join(u16(3), [2], latin1("h2"))],
    [0x002b, join([4], u16(0x0304), u16(0x0303))],
  ]);
  const types = [0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023];
  types.push(0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015);
  const ciphers = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013];
  ciphers.push(0xc014, 0x009c, 0x009d, 0x002f, 0x0035);
  const hello = (grease: boolean) =>
    parse(
      readClientHello,
      helloBody({
        ciphers: grease ? [0x8a8a, ...ciphers] : ciphers,
        extensions: [
          ...(grease ? [[0xdada] as [number]] : []),
          ...types.map((type): [number, Uint8Array?] => [type, values.get(type)!]),
        ],
      }),
    )!;
  t.equal(ja4(hello(false), "t"), "t13d1516h2_8daaf6152771_e5627efa2ab1");
  t.equal(ja4(hello(true), "t"), "t13d1516h2_8daaf6152771_e5627efa2ab1", "GREASE is left out");
  t.equal(ja4(hello(true), "q"), "q13d1516h2_8daaf6152771_e5627efa2ab1");
});

t.test("JA3 of the examples in Salesforce's specification", async (t) => {
  const check = (text: string, digest: string) => {
    const [version, ciphers, extensions, groups, formats] = text
      .split(",")
      .map((list) => list.split("-").filter(Boolean).map(Number));
    const values = new Map([
      [10, uint16s(...groups!)],
      [11, join([formats!.length], formats!)],
    ]);
    const list = extensions!.map((type): [number, Uint8Array?] => [type, values.get(type)!]);
    const body = helloBody({ version: version![0]!, ciphers: ciphers!, extensions: list });
    t.equal(ja3(parse(readClientHello, body)!), digest, text);
  };
  const ciphers = "47-53-5-10-49161-49162-49171-49172-50-56-19-4";
  check(`769,${ciphers},0-10-11,23-24-25,0`, "ada70206e40642a3e4461f35503241d5");
  check("769,4-5-10-9-100-98-3-6-19-18-99,,,", "de350869b8c85de67a350c8d186f11e6");
});

const tshark = spawnSync("tshark", ["--version"]).status === 0;
t.test(
  "tshark reads the same of every golden capture: versions, suites, names, JA3",
  { skip: tshark ? false : "tshark is not installed" },
  async (t) => {
    const fields = ["tcp.stream", "tls.handshake.type", "tls.handshake.extensions_server_name"];
    fields.push("tls.handshake.ja3", "tls.handshake.ja3s", "tls.handshake.ciphersuite");
    const names = ["tls10", "tls11", "tls12", "tls12-ecdsa", "tls13", "tls13-retry", "tls13-psk"];
    names.push("mtls12", "mtls13", "no-common-version", "nginx-mtls", "redis-mtls", "haproxy-mtls");
    let compared = 0;
    for (const name of names) {
      const { stdout } = spawnSync("tshark", [
        ...["-r", golden(name), "-Y", "tls.handshake.type==1 || tls.handshake.type==2"],
        ...["-T", "fields", "-E", "separator=|", ...fields.flatMap((f) => ["-e", f])],
        ...["-d", "tcp.port==6000-6999,tls"], // the first of these are X11's to it
      ]);
      const records = read(await framesOf(golden(name)));
      const seen = new Set<string>();
      for (const row of stdout.toString().trim().split("\n")) {
        const [stream = "", type = "", sni = "", ja3s = "", ja3ss = "", suite = ""] =
          row.split("|");
        const record = records[Number(stream)]!;
        if (type.startsWith("1") && !seen.has(stream)) {
          seen.add(stream); // the second hello after a retry is another
          t.strictSame([record.tls?.sni ?? "", record.tls?.ja3], [sni, ja3s], `${name} client`);
          compared++;
        } else if (type.startsWith("2") && !seen.has(`${stream} retried`)) {
          if (name.endsWith("retry") && !seen.has(`${stream} retry`)) {
            seen.add(`${stream} retry`); // tshark's first ServerHello is the HelloRetryRequest
            continue;
          }
          seen.add(`${stream} retried`);
          t.equal(record.tls?.ja3s, ja3ss, `${name} server, suite ${suite}`);
          compared++;
        }
      }
    }
    t.ok(compared >= 26, `${compared} hellos`);
  },
);

t.test(
  "handshakes that are over and say the same are one; any difference keeps them apart",
  async (t) => {
    const hello = { version: 0x0304, cipherSuite: 0x1301 } as unknown as ServerHello;
    const make = (change: Partial<Record<keyof Handshake, unknown>> = {}, letters = "CcS") => {
      const h = new Handshake();
      for (const letter of letters) h.note(letter.toLowerCase(), letter < "a" ? CLIENT : SERVER);
      const over = { serverHello: hello, answered: true, finishedEnd: 700 };
      return Object.assign(h, over, { flight: { kind: "presented", records: 3 } }, change);
    };
    const first = alike(make());
    t.ok(first.settle());
    t.equal(alike(make()), first);
    t.equal(alike(make({ finishedEnd: 900 })), first, "its place in the stream is told to nobody");
    const chain = (fingerprint: string) => [{ fingerprint }];
    const differences: Partial<Record<keyof Handshake, unknown>>[] = [
      { serverHello: { ...hello } },
      { clientHello: {} },
      { secondHello: {} },
      ...[{ retried: true }, { ssl2Hello: true }, { asked: true }, { abbreviated: true }],
      ...[{ serverHelloDone: true }, { clientKeyExchange: true }, { refusedAtHello: true }],
      ...[{ clientFinished: true }, { serverFinished: true }, { refusedByAlert: true }],
      ...[{ group: 29 }, { primeBits: 2048 }, { signature: 0x0804 }],
      ...[
        { flight: { kind: "declined", records: 3 } },
        { flight: { kind: "presented", records: 2 } },
      ],
      ...[{ serverChain: [] }, { serverChain: chain("a") }, { clientChain: chain("a") }],
      { serverChain: chain("b") },
    ];
    const seen = new Set([first]);
    for (const difference of differences) seen.add(alike(make(difference)));
    seen.add(alike(make({}, "CcSs")));
    t.equal(seen.size, differences.length + 2);

    const open: Partial<Record<keyof Handshake, unknown>>[] = [
      ...[{ answered: false }, { alert: {} }, { ssl2: {} }, { renegotiated: true }],
      ...[{ closes: [{}] }, { transport: "q" }, { serverHello: null }, { finishedEnd: -1 }],
      ...[{ malformed: [false, true] }, { encryptedAlert: [true, false] }],
      ...[
        { flight: { kind: "alert", records: 1 } },
        { serverHello: { ...hello, version: 0x0303 } },
      ],
    ];
    for (const change of open) t.notOk(make(change).settle(), JSON.stringify(change));
    const old = { serverHello: { ...hello, version: 0x0303 }, clientFinished: true };
    t.ok(make({ ...old, serverFinished: true }).settle(), "TLS 1.2 with both Finished");
  },
);

t.test("letters are spelt in order, whatever else was spelt before", async (t) => {
  const below = random(11);
  for (let round = 0; round < 3000; round++) {
    let letters = Letters.none;
    let text = "";
    for (let i = below(6); i >= 0; i--) {
      const letter = "csxkpq"[below(6)]!;
      const isClient = below(2) === 0;
      letters = letters.and(letter, isClient);
      text += isClient ? letter.toUpperCase() : letter;
      const isLast = letters.endsWith(letter, isClient) && !letters.endsWith(letter, !isClient);
      if (!isLast || letters.endsWith("z", isClient)) t.fail(`${text}: its end`);
    }
    if (letters.text !== text) t.fail(`${letters.text}, not ${text}`);
  }
  t.equal(Letters.none.text, "");
  t.equal(Letters.none.and("c", true), Letters.none.and("c", true), "once");
});
