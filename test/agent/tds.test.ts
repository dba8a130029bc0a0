/**
 * Checks TLS inside TDS packets (MS-TDS §2.2.6.5, §3.2.5): the golden captures' handshakes, which
 * real clients and servers made, put into packets by the published grammar, in any segments.
 */
import path from "node:path";
import t from "tap";
import type { t as Tap } from "tap";
import { preloginEncryption } from "../../agent/identify/tds.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { FIN, RST, hex, join, latin1, random, u16, viewOf } from "../frames.ts";
import { GOLDEN, framesOf, meaning, placeOf, read, replaced, split } from "./captures.ts";
import { check, talk } from "./talk.ts";
import type { Turn } from "./talk.ts";

const OFF = 0;
const ON = 1;
const NOT_SUPPORTED = 2;
const REQUIRED = 3;
const PRELOGIN = 0x12;
const REPLY = 4;
const LOGIN7 = 0x10;
const BATCH = 1;

/** A message in packets of `size` bytes at most; the last has status 1 (MS-TDS §2.2.3.1). */
function packets(type: number, message: Uint8Array, size = 4096): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < message.length; at += size - 8) {
    const body = message.subarray(at, at + size - 8);
    const status = at + size - 8 >= message.length ? 1 : 0;
    const head = [type, status, ...u16(body.length + 8), 0, 0, parts.length + 1, 0];
    parts.push(join(head, body));
  }
  return join(...parts);
}

/** VERSION, ENCRYPTION and MARS, each token, offset, length; then 0xff and their values. */
const prelogin = (type: number, encryption: number) =>
  packets(
    type,
    join(
      ...[[0, 0, 16, 0, 6], [1, 0, 22, 0, 1], [4, 0, 23, 0, 1], [0xff]],
      ...[hex("0c000fa0 0000"), [encryption], [0]],
    ),
  );
const negotiated = (client: number, server: number): Turn[] => [
  [">", prelogin(PRELOGIN, client)],
  ["<", prelogin(REPLY, server)],
];

/** LOGIN7 of TDS 7.4 (§2.2.6.4), a statement (§2.2.6.7), and a LOGINACK with DONE (§2.2.7). */
const LOGIN: Turn = [
  ">",
  packets(LOGIN7, join(hex("5e000000 04000074 00100000 00000007"), new Uint8Array(78))),
];
const STATEMENT: Turn = [">", packets(BATCH, join(latin1("s\0e\0l\0e\0c\0t\0 \x001\0")))];
const ANSWER: Turn = [
  "<",
  packets(REPLY, hex("ad 0e00 01 74000004 02 6100 6200 0c000fa0 fd 0000 0000 0000000000000000")),
];

/** What the sides of a capture's flow number `number` said, turn by turn. */
async function turnsOf(name: string, number: number): Promise<Turn[] | null> {
  const turns: Turn[] = [];
  const clients: string[] = [];
  for (const frame of await framesOf(path.join(GOLDEN, `${name}.pcap`))) {
    const place = placeOf(frame)!;
    const [from, to] = [place.ends.slice(0, 8), place.ends.slice(8, 16)];
    const ports = [place.ends.slice(16, 20), place.ends.slice(20)];
    const reversed = `${to}${from}${ports[1]}${ports[0]}`;
    if (!clients.includes(place.ends) && !clients.includes(reversed)) clients.push(place.ends);
    const client = clients[number]!;
    if (place.ends !== client && reversed !== client) continue;
    const way = place.ends === client ? ">" : "<";
    const flags = frame.bytes[14 + (frame.bytes[14]! & 15) * 4 + 13]!;
    if ((flags & RST) !== 0) return null;
    const payload = frame.bytes.subarray(place.payloadAt, place.end);
    if (payload.length > 0) turns.push([way, payload]);
    if ((flags & FIN) !== 0) turns.push([way, "close"]);
  }
  return turns;
}

/** The first `count` turns in packets, the others as they are. */
const wrapped = (turns: readonly Turn[], count: number, size = 4096): Turn[] =>
  turns.map(([way, what], i) =>
    what === "close" || i >= count ? [way, what] : [way, packets(PRELOGIN, what, size)],
  );

const CAPTURES = [
  ...["tls10", "tls11", "tls12", "tls12-ecdsa", "tls12-session-id", "tls12-ticket", "mtls12"],
  ...["mtls12-declined", "mtls12-missing", "mtls12-stranger", "server-expired12", "tls13"],
  ...["mtls13", "mtls13-declined", "mtls13-missing", "mtls13-retry", "tls13-psk", "tls13-sha384"],
  ...["no-common-version", "no-common-cipher", "server-untrusted12", "unknown-name"],
];
const told = ({ tls, handshake, failure, accepted }: Flow) => {
  return { tls, handshake, failure, accepted };
};
const IN_TDS = { protocol: "tds", upgraded_from: "tds", encryption: "tls", notes: [] } as const;

for (const name of CAPTURES) {
  t.test(`${name} inside TDS: all is read as it is without`, async (t) => {
    const flows = read(await framesOf(path.join(GOLDEN, `${name}.pcap`)));
    let compared = 0;
    for (const [number, flow] of flows.entries()) {
      const turns = await turnsOf(name, number);
      if (!turns) continue;
      for (let count = 1; count <= Math.min(turns.length, 6); count++) {
        for (const size of [4096, 512]) {
          const inside = [...negotiated(ON, ON), ...wrapped(turns, count, size)];
          const [record] = read(talk(inside));
          t.match(record, IN_TDS);
          t.strictSame(told(record!), told(flow), `${count} turns in packets of ${size}`);
          compared++;
        }
      }
    }
    t.ok(compared > 0, `${compared} compared`);
  });
}

/** Checks that segments of a few bytes, and segments in another order, change nothing. */
function resent(t: { equal: typeof Tap.equal }, turns: readonly Turn[]): void {
  const whole = meaning(read(talk(turns)));
  for (const size of [1, 3, 7, 100, 1460]) {
    const pieces = turns.flatMap(([way, what]): Turn[] => {
      if (what === "close") return [[way, what]];
      const starts = Array.from({ length: Math.ceil(what.length / size) }, (_, i) => i * size);
      return starts.map((from) => [way, what.subarray(from, from + size)]);
    });
    t.equal(meaning(read(talk(pieces))), whole, `in pieces of ${size}`);
  }
  const frames = talk(turns);
  frames.forEach((frame, i) => {
    const place = placeOf(frame)!;
    for (let at = 1; at < place.end - place.payloadAt; at += 37) {
      const [first, second] = split(frame, place, at);
      const ordered = meaning(read(replaced(frames, i, first, second)));
      const reversed = meaning(read(replaced(frames, i, second, first)));
      if (ordered !== whole || reversed !== whole) t.equal(reversed, whole, `${i} cut at ${at}`);
    }
  });
}

t.test("TLS in TDS in any segments, with the answer in the same ones", async (t) => {
  for (const name of ["mtls12", "tls13"]) {
    const turns = (await turnsOf(name, 0))!;
    resent(t, [...negotiated(REQUIRED, ON), ...wrapped(turns, 4, 512)]);
  }
});

t.test("ENCRYPT_OFF on both sides: TLS for the login alone is no encrypted data", async (t) => {
  const tls = (await turnsOf("mtls12", 0))!.filter(([, what]) => what !== "close");
  const data = tls.findIndex(([, what]) => what[0] === 23);
  const login = tls[data]!;
  t.equal(login[0], ">");
  const begun = [...negotiated(OFF, OFF), ...wrapped(tls.slice(0, data), 99)];
  const plain = { protocol: "tds", upgraded_from: "tds", encryption: "plaintext" } as const;
  const handshake = { handshake: "complete", tls: { version: "TLSv1.2", mutual: "yes" } } as const;
  const wanted = { ...plain, ...handshake, notes: ["login-only"], findings: [] };
  check(t, begun, { ...wanted, accepted: null } as never);
  const whole = [...begun, login, ANSWER, STATEMENT, ANSWER];
  check(t, whole, { ...wanted, accepted: true, failed: null } as never);
  resent(t, whole);
  // Whatever was agreed on: what stands in plaintext behind the TLS is told.
  const contrary = [...negotiated(ON, ON), ...whole.slice(2)];
  check(t, contrary, { ...wanted, accepted: true } as never);
  // Several sessions in one connection have headers of their own ([MC-SMP] §2.2.1).
  const multiplexed: Turn = [">", hex("53 01 0000 10000000 00000000 04000000")];
  check(t, [...negotiated(ON, ON), ...begun.slice(2), login, multiplexed], wanted as never);
  const { tls: read12 } = read(talk(whole))[0]!;
  t.ok(read12?.client_certificate, "and what the handshake showed is told");
});

t.test("what PRELOGIN asked for and did not get", async (t) => {
  const on = { protocol: "tds", encryption: "plaintext", tls: null } as const;
  for (const server of [OFF, NOT_SUPPORTED]) {
    for (const client of [ON, REQUIRED]) {
      const turns = negotiated(client, server);
      const refused = { ...on, findings: ["upgrade-refused"] };
      check(t, turns, { ...refused, failed: null, accepted: null } as never);
      const failed = { failed: "upgrade-refused", accepted: false };
      check(t, [...turns, [">", "close"]], { ...refused, ...failed } as never);
      const went = { ...refused, failed: null, accepted: true };
      check(t, [...turns, LOGIN, ANSWER, [">", "close"]], went as never);
    }
  }
  const stripped = { ...on, findings: ["upgrade-stripped"] };
  check(t, [...negotiated(ON, ON), LOGIN, ANSWER], stripped as never);
  for (const [client, server] of [
    [OFF, NOT_SUPPORTED],
    [NOT_SUPPORTED, NOT_SUPPORTED],
    [OFF, OFF],
  ] as const) {
    const plain = { ...on, findings: [], notes: ["not-tls"], accepted: true };
    const turns = [...negotiated(client, server), LOGIN, ANSWER];
    check(t, turns, plain as never);
    resent(t, turns);
  }
  check(t, [[">", prelogin(PRELOGIN, ON)]], { encryption: "unknown", protocol: "tds" } as never);
});

t.test("joined behind PRELOGIN, and TDS 8.0, which begins with TLS", async (t) => {
  const turns = (await turnsOf("tls12", 0))!;
  const [late] = read(talk(wrapped(turns, 4), false));
  t.match(late, { ...IN_TDS, midstream: true, tls: { version: "TLSv1.2" } });
  const [server] = read(
    talk(
      wrapped(
        turns.filter(([way]) => way === "<"),
        4,
      ),
      false,
    ),
  );
  t.match(server, { protocol: "tds", encryption: "tls", tls: { version: "TLSv1.2" } });
  const [strict] = read(talk(turns));
  t.match(strict, { protocol: "tls", upgraded_from: null });
});

t.test("PRELOGIN's options: cut at each byte, and with offsets that lie", async (t) => {
  const whole = prelogin(PRELOGIN, REQUIRED).subarray(8);
  const told = (bytes: Uint8Array) => preloginEncryption(viewOf(bytes), 0, bytes.length);
  t.equal(told(whole), REQUIRED);
  for (let cut = 0; cut < 23; cut++) t.equal(told(whole.slice(0, cut)), -1, `cut at ${cut}`);
  t.equal(told(Uint8Array.from(whole).fill(0xfe, 6, 8)), -1);
  t.equal(told(Uint8Array.of(0xff)), -1);
  t.equal(told(new Uint8Array(5000)), -1);
});

t.test("strangers' packets: nothing thrown, whatever is changed", async (t) => {
  const turns = [...negotiated(ON, ON), ...wrapped((await turnsOf("mtls12", 0))!, 4, 512)];
  const below = random(20270117);
  for (let i = 0; i < 1500; i++) {
    const changed = turns.map(([way, what]): Turn => {
      if (what === "close" || below(3) > 0) return [way, what];
      const bytes = Uint8Array.from(what);
      for (let n = below(4); n >= 0; n--) bytes[below(Math.min(bytes.length, 600))] = below(256);
      return [way, bytes];
    });
    t.equal(read(talk(changed)).length, 1);
  }
});
