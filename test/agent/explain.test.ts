/**
 * Checks inspect --explain: every place it names is held against the streams of the capture, put
 * together here from its frames; its sums against RFC 8446; and what it says of little that was seen.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { randomness } from "../../agent/assess/explain.ts";
import { formatExplained, explainFlow } from "../../agent/explain-flow.ts";
import type { Explained } from "../../agent/explain-flow.ts";
import { painter } from "../../agent/assess/sentence.ts";
import { SYN, ethernet, ipv4, join, latin1, random, tcp, u16 } from "../frames.ts";
import { GOLDEN, framesOf, placeOf } from "./captures.ts";
import type { Frame } from "./captures.ts";
import { CLIENT_HELLO, talk, text } from "./talk.ts";

const launcher = path.join(import.meta.dirname, "../../wireproof");
const folder = mkdtempSync(path.join(tmpdir(), "wireproof-explain-"));
t.teardown(() => rmSync(folder, { recursive: true }));
const golden = (name: string) => path.join(GOLDEN, `${name}.pcap`);

/** A capture of the frames; each keeps at most `snap` bytes. */
function capture(frames: readonly Frame[], snap = Infinity): string {
  const file = path.join(folder, "made.pcap");
  const head = Buffer.alloc(24);
  head.writeUInt32LE(0xa1b2c3d4, 0);
  head.writeUInt16LE(2, 4);
  head.writeUInt16LE(4, 6);
  head.writeUInt32LE(65535, 16);
  head.writeUInt32LE(frames[0]!.linkType, 20);
  const parts: Uint8Array[] = [head];
  for (const { bytes, timeUs } of frames) {
    const record = Buffer.alloc(16);
    const kept = bytes.subarray(0, Math.min(snap, bytes.length));
    record.writeUInt32LE(Math.floor(timeUs / 1e6), 0);
    record.writeUInt32LE(timeUs % 1e6, 4);
    record.writeUInt32LE(kept.length, 8);
    record.writeUInt32LE(bytes.length, 12);
    parts.push(record, kept);
  }
  writeFileSync(file, Buffer.concat(parts));
  return file;
}

const plain = painter(false);
const shown = (explained: Explained) => formatExplained(explained, 1, plain);
const conclusion = ({ conclusions }: Explained, field: string) =>
  conclusions.find((c) => c.field === field);

/** What both sides of a capture's one connection sent, by the frames' sequence numbers. */
async function streamsOf(name: string) {
  const sides: { ends: string; first: number; bytes: number[] }[] = [];
  const frames = await framesOf(golden(name));
  for (const frame of frames) {
    const place = placeOf(frame);
    if (!place) continue;
    let side = sides.find((s) => s.ends === place.ends);
    if (!side) {
      side = { ends: place.ends, first: (place.sequence + 1) | 0, bytes: [] }; // behind the SYN
      sides.push(side);
    }
    const at = (place.sequence - side.first) | 0;
    const payload = frame.bytes.subarray(place.payloadAt, place.end);
    payload.forEach((byte, i) => (side.bytes[at + i] = byte));
  }
  return { frames, client: sides[0]!, server: sides[1]! };
}

const TYPES: Readonly<Record<string, number>> = {
  change_cipher_spec: 20,
  alert: 21,
  handshake: 22,
  application_data: 23,
};

t.test("places of records and messages are where the streams have them", async (t) => {
  let records = 0;
  let messages = 0;
  for (const name of [
    "tls10",
    "tls12",
    "mtls12",
    "tls13",
    "mtls13",
    "mtls13-retry",
    "tls12-ecdsa",
  ]) {
    const streams = await streamsOf(name);
    const { steps } = await explainFlow([golden(name)], 1);
    for (const { frame, side, from, to, what } of steps) {
      if (side === null || from === null || to === null) continue;
      const { bytes, first, ends } = streams[side];
      const record = /^record (\w+), (\d+) byte/.exec(what);
      if (record) {
        records++;
        const header = [TYPES[record[1]!], bytes[from + 3], bytes[from + 4]];
        t.strictSame(header, [bytes[from], ...u16(Number(record[2]))], `${name}: ${what}`);
        t.equal(to, from + 5 + Number(record[2]), `${name}: ${what}`);
        // The frame is the one that brought the record's header or its last byte.
        const place = placeOf(streams.frames[frame - 1]!)!;
        const at = (place.sequence - first) | 0;
        t.equal(place.ends, ends);
        t.ok(at < to && at + place.end - place.payloadAt > from, `${name}: frame ${frame}`);
      }
      const message = /^(ClientHello|ServerHello|Certificate|ServerHelloDone), (\d+) bytes/.exec(
        what,
      );
      if (message) {
        messages++;
        const types = { ClientHello: 1, ServerHello: 2, Certificate: 11, ServerHelloDone: 14 };
        const type = types[message[1] as keyof typeof types];
        const length = Number(message[2]) - 4;
        const wanted = [type, length >> 16, ...u16(length & 0xffff)];
        const windows = bytes.slice(from, to).map((_, i) => bytes.slice(from + i, from + i + 4));
        t.ok(
          windows.some((w) => w.join() === wanted.join()),
          `${name}: ${what} stands in its record`,
        );
      }
    }
  }
  t.ok(records > 60 && messages > 20, `${records} records, ${messages} messages`);
});

t.test("fields of a hello stand where it says", async (t) => {
  const { client } = await streamsOf("mtls13");
  const { steps } = await explainFlow([golden("mtls13")], 1);
  const hello = steps.find((s) => s.what.startsWith("ClientHello"))!;
  const message = Uint8Array.from(client.bytes.slice(hello.from! + 5, hello.to!));
  let checked = 0;
  for (const detail of hello.details) {
    const [, from, to, rest = ""] = /^(\d+)\.\.(\d+) {2}(.*)$/.exec(detail) ?? [];
    if (from === undefined) continue;
    const bytes = message.subarray(Number(from), Number(to));
    checked++;
    if (rest.startsWith("legacy_version")) t.strictSame([...bytes], [3, 3]);
    if (rest.startsWith("extension server_name")) {
      t.strictSame([...bytes.subarray(0, 2)], [0, 0]);
      t.match(Buffer.from(bytes).toString("latin1"), /server\.golden$/);
    }
    if (rest.startsWith("extension key_share")) {
      t.strictSame([...bytes.subarray(0, 2)], [0, 51]);
      t.strictSame([...bytes.subarray(6, 10)], [0, 29, 0, 32], "x25519, 32 bytes");
    }
  }
  t.ok(checked > 10, `${checked} fields`);
  t.ok(hello.details.some((d) => d.startsWith("JA4 t13d3110")));
});

t.test("a TLS 1.3 client's flight: the sums of RFC 8446 §4.4", async (t) => {
  const flight = async (name: string) => {
    const { steps } = await explainFlow([golden(name)], 1);
    return steps.findLast((s) => s.source === "RFC 8446 §4.4")!;
  };
  // SHA-384: 4 + 48 + 17 = 69; SHA-256: 4 + 32 + 17 = 53.
  const mutual = await flight("mtls13");
  t.match(mutual.what, /has room for a Certificate/);
  t.match(mutual.details.join("\n"), "Finished: 4 + 48 (SHA-384) = 52, alone in a record 69");
  t.match(mutual.details.join("\n"), "the Finished is in the record of 69");
  t.match(mutual.details.join("\n"), "8 + a signature of 256 + 17 = 281"); // RSA 2048
  const declined = await flight("mtls13-missing");
  t.match(declined.what, /an empty Certificate and a Finished: asked, it had none/);
  t.match(declined.details[0], /: 25, 69/);
  const none = await flight("tls13-chacha");
  t.match(none.what, /exactly a Finished/);
  t.match(none.details.join("\n"), "Finished: 4 + 32 (SHA-256) = 36, alone in a record 53");
  const ecdsa = await flight("mtls13-ecdsa");
  t.match(ecdsa.what, /has room for a Certificate/);
});

t.test("each conclusion has its reason", async (t) => {
  const told = async (name: string) => explainFlow([golden(name)], 1);
  const mtls12 = await told("mtls12");
  t.match(conclusion(mtls12, "tls.mutual"), { value: "yes", why: /certificate was read/ });
  t.match(shown(mtls12), /CN=server\.golden,O=golden, RSA 2048, signed by sha256WithRSAEncryption/);
  t.match(shown(mtls12), /signed by rsa_pss_rsae_sha256/);
  t.match(shown(mtls12), "CertificateRequest");
  const tls12 = await told("tls12");
  t.match(conclusion(tls12, "tls.mutual"), { value: "no", why: /did not ask/ });
  t.notMatch(shown(tls12), "CertificateRequest");
  const declined = await told("mtls12-declined");
  t.match(conclusion(declined, "tls.mutual"), { why: /sent an empty list/ });
  t.match(conclusion(await told("tls13-psk"), "tls.mutual")?.why, /sizes tell|earlier one/);
  const refused = await told("no-common-version");
  const { why } = conclusion(refused, "failure.code")!;
  t.match(why, /no TLS version in common; told by an alert in clear 70 \(protocol_version\)/);
  t.match(shown(refused), /alert 70, protocol_version \(fatal\) {2}\[RFC 8446 §6\]/);
  const mismatch = await told("server-untrusted13");
  t.match(conclusion(mismatch, "handshake"), { value: "failed" });
  t.match(conclusion(await told("postgres-tls"), "protocol")?.why, /postgresql negotiated/);
  t.match(shown(await told("postgres-tls")), /TLS is read inside postgresql: from byte 8 of/);
  t.equal((await told("redis")).crypto, null);
  t.match(conclusion(await told("plaintext-reset"), "accepted"), { value: "false" });
});

t.test("plaintext: which signature, of which side, at which bytes, written where", async (t) => {
  const explained = await explainFlow([golden("http")], 1);
  const step = explained.steps.find((s) => s.what.startsWith("the bytes match http"))!;
  t.match(step, { side: "client", from: 0, source: "RFC 9112 §3" });
  t.ok(step.to! > 10);
  // What a named protocol carries is not shown: it may hold credentials.
  t.notMatch(shown(explained), /unknown: its first|47 45 54|GET/);
});

t.test("unknown bytes: shown, with a note on randomness that concludes nothing", async (t) => {
  const below = random(7);
  const noise = Uint8Array.from({ length: 600 }, (_, i) => (i === 0 ? 0xf7 : below(256)));
  const words = latin1("\u0002zz these are words and words of nobody, ".repeat(12));
  const file = capture(
    talk([
      [">", noise],
      ["<", words],
      [">", "close"],
      ["<", "close"],
    ]),
  );
  const explained = await explainFlow([file], 1);
  t.match(explained.record, { protocol: null, encryption: "unknown" });
  const [client, server] = explained.steps.filter((s) => s.what.startsWith("unknown: its first"));
  t.match(client, { side: "client", frame: 4, from: 0, to: 600 });
  t.equal(
    client!.details[0],
    Buffer.from(noise.subarray(0, 48))
      .toString("hex")
      .replace(/..(?=.)/g, "$& "),
  );
  t.match(client!.details[1], /as random bytes have .* proves nothing$/);
  t.match(server, { side: "server", frame: 5 });
  t.match(server!.details[1], /less than random bytes have .* proves nothing$/);
  t.equal(conclusion(explained, "encryption")?.value, "unknown");
  t.equal(randomness(noise.subarray(0, 31)), null, "of so few bytes nothing is said");
  // Random bytes of any length look random; text does not.
  for (const length of [32, 64, 200, 256, 1024]) {
    const bytes = Uint8Array.from({ length }, () => below(256));
    t.match(randomness(bytes), "as random bytes have", `${length} bytes`);
    t.match(randomness(words.subarray(0, length)), "less than", `${length} bytes of text`);
  }
});

t.test("little was seen: said in words, and nothing is made of it", async (t) => {
  const frames = await framesOf(golden("mtls13"));
  const alone = await explainFlow([capture(frames.slice(0, 4))], 1);
  t.match(alone.record, { handshake: "incomplete", failure: null });
  t.match(alone.limits, [/ClientHello alone/]);
  t.match(conclusion(alone, "handshake")?.why, /capture ends behind the ClientHello/);
  t.match(conclusion(alone, "tls.mutual"), { value: "null", why: /server's hello was not seen/ });
  t.equal(alone.crypto?.["sp800-52r2"].verdict, "undecidable");

  const half = talk([[">", CLIENT_HELLO.subarray(0, 20)]]);
  const begun = await explainFlow([capture(half)], 1);
  t.match(begun.limits, [/no hello came whole/]);

  const snapped = await explainFlow([capture(frames, 200)], 1);
  t.match(snapped.steps.map((s) => s.what).join("\n"), /captured in part: 134 of 319 bytes/);
  t.ok(snapped.limits.some((l) => l.includes("snap length")));
  t.ok(snapped.record.notes.includes("snapped"));

  const joined = await explainFlow([capture(frames.slice(9))], 1);
  t.match(joined.limits.join("\n"), /joined this flow after its start/);
  t.equal(joined.record.midstream, true);

  const [open] = talk([[">", text("x")]]);
  const attempted = await explainFlow([capture([open!])], 1);
  t.match(conclusion(attempted, "state")?.why, /the capture ends before an answer/);
});

t.test("a gap is told where it is", async (t) => {
  const frames = await framesOf(golden("mtls13"));
  const without = frames.filter((_, i) => i !== 3); // the ClientHello's
  const { steps } = await explainFlow([capture(without)], 1);
  t.ok(steps.some((s) => s.what === "319 bytes before this have not come yet"));
});

t.test("flows are numbered as they are printed, over several files", async (t) => {
  const files = ["redis", "tls12-ticket", "ssh"].map(golden);
  const run = (...argv: string[]) => {
    const { status, stdout, stderr } = spawnSync(launcher, ["inspect", ...files, ...argv]);
    return { status, out: stdout.toString(), err: stderr.toString() };
  };
  const records = run("--format", "jsonl").out.trim().split("\n");
  t.equal(records.length, 4);
  for (const [i, record] of records.entries()) {
    const { record: told } = await explainFlow(files, i + 1);
    t.equal(JSON.stringify(told), record, `flow ${i + 1}`);
  }
  const { status, out } = run("--explain", "3", "--format", "jsonl");
  t.equal(status, 0);
  const lines = out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { kind: string });
  t.strictSame([...new Set(lines.map((l) => l.kind))], ["flow", "step", "conclusion", "crypto"]);
  t.match(run("--explain", "2").out, /^flow 2 of tls12-ticket\.pcap\n {4}2 {2}/);
  const beyond = run("--explain", "5");
  t.strictSame([beyond.status, beyond.out], [2, ""]);
  t.equal(beyond.err, "wireproof: --explain: there is no flow 5, but 4 flows\n");
  t.match(run("--explain", "first"), { status: 2, err: /first is no flow's number/ });
});

t.test("explaining changes nothing of what is read: every golden", async (t) => {
  const { captures } = JSON.parse(readFileSync(path.join(GOLDEN, "truth.json"), "utf8")) as {
    captures: { file: string }[];
  };
  let steps = 0;
  for (const { file } of captures) {
    const name = path.basename(file, ".pcap");
    const [first = ""] = readFileSync(path.join(GOLDEN, `${name}.jsonl`), "utf8").split("\n");
    const explained = await explainFlow([golden(name)], 1);
    steps += explained.steps.length;
    t.equal(JSON.stringify(explained.record), first, name);
    t.notMatch(shown(explained), /undefined|NaN|\[object/, name);
  }
  t.ok(steps > 500, `${steps} steps`);
});

t.test("over datagrams: the transport is told, and no places in streams", async (t) => {
  for (const [name, over, step] of [
    ["quic", "over QUIC", /extension quic_transport_parameters/],
    ["dtls12", "over DTLS", /39\.\.56 {2}cookie, 16 bytes/],
  ] as const) {
    const text = shown(await explainFlow([golden(name)], 1));
    t.match(text, over);
    t.match(text, step);
    t.notMatch(text, /contradict|0\.\.0 /);
  }
  const { conclusions } = await explainFlow([golden("quic")], 1);
  t.match(conclusions.find((c) => c.field === "tls.mutual")!.why, /datagrams hide the sizes/);
});

t.test("--help teaches with examples", async (t) => {
  const { status, stdout } = spawnSync(launcher, ["inspect", "--help"]);
  t.equal(status, 0);
  const help = stdout.toString();
  for (const flag of ["--where", "--explain", "--crypto", "--format", "--policy", "NO_COLOR"]) {
    t.match(help, flag);
  }
  t.ok(help.split("\n").every((line) => line.length <= 100));
});

t.test("icmp errors: who sent them, and what they refuse", async (t) => {
  const syn = (sequence: number) => ipv4({}, tcp({ flags: SYN, sequence }));
  const error = (sequence: number) =>
    ipv4(
      { protocol: 1, source: "192.0.2.1", destination: "10.0.0.1" },
      join([3, 13, 0, 0, 0, 0, 0, 0], syn(sequence).subarray(0, 28)),
    );
  const file = capture(
    [syn(7), error(8), error(7)].map((packet, i) => ({
      ...{ bytes: ethernet(packet), timeUs: 1.7e15 + i, linkType: 1 },
    })),
  );
  const explained = await explainFlow([file], 1);
  const [, forged, real] = explained.steps;
  const what = "ICMP admin prohibited, from 192.0.2.1";
  t.match(forged, { frame: 2, side: null, what: new RegExp(`^${what}: refuses nothing, `) });
  t.match(real, { frame: 3, side: null, what: new RegExp(`^${what}$`), source: "RFC 792" });
  t.match(conclusion(explained, "state"), {
    ...{ value: "refused", why: "ICMP admin prohibited came back, and nothing else" },
  });
  t.match(shown(explained), "tcp without payload; refused: ICMP admin prohibited ");
});
