/** Tests that flows get more while they are read, and no more behind that, by a model of the cutoff. */
import { globSync } from "node:fs";
import path from "node:path";
import t from "tap";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { frameAt, SYN, ethernet, ipv4, tcp, viewOf } from "../frames.ts";
import type { TcpFields } from "../frames.ts";
import { GOLDEN, framesOf } from "./captures.ts";
import type { Frame } from "./captures.ts";
import { ModelCutoff } from "./passing.ts";
import { CLIENT_HELLO, longChain, record } from "./talk.ts";

const captures: { name: string; frames: Frame[] }[] = [];
for (const name of globSync("*.pcap", { cwd: GOLDEN }).sort()) {
  captures.push({ name, frames: await framesOf(path.join(GOLDEN, name)) });
}

/** What is said of frames, all of them or those that a cutoff hands over. */
function read(frames: readonly Frame[], cutoff: ModelCutoff | null, packetsBehind: number) {
  const records: Flow[] = [];
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 4096, slots: 1024 };
  const line = new Line({ table, revisions: false, reportIntervalMs: 1e9 }, (told) =>
    records.push(told),
  );
  line.countPassedOver(cutoff, packetsBehind);
  for (const frame of frames) {
    if (cutoff && !cutoff.passes(frame)) {
      line.advance(frame.timeUs); // time goes on all the same
      continue;
    }
    const { bytes, timeUs, linkType } = frame;
    frameAt(line, viewOf(bytes), 0, bytes.length, bytes.length, timeUs, linkType, 0);
  }
  line.finish();
  // When the last packet of a flow came is not known where it was kept back.
  return { text: records.map((r) => JSON.stringify({ ...r, end: null })), line };
}

t.test("flows of which no more is wanted are told as they would be", async (t) => {
  let cutOff = 0;
  for (const { name, frames } of captures) {
    const cutoff = new ModelCutoff(1 << 20, false);
    const { text } = read(frames, cutoff, 1);
    t.strictSame(text, read(frames, null, 0).text, name);
    t.equal(cutoff.wishes.size, 0, "nothing is left");
    cutOff += cutoff.cutOff;
  }
  t.ok(cutOff > 500, `${cutOff} frames were kept back`);
});

t.test("handshakes under way get more", async (t) => {
  const differing = [false, true].map((isDeaf) =>
    captures.filter(({ frames }) => {
      const cutoff = new ModelCutoff(2000, isDeaf);
      return read(frames, cutoff, 0).text.join() !== read(frames, null, 0).text.join();
    }),
  );
  // Plaintext is not worth more: what is read of it is less than the true budget.
  t.strictSame(differing[0]!.map(({ name }) => name), ["irc.pcap"]); // prettier-ignore
  t.ok(differing[1]!.length > 20, `${differing[1]!.length} captures need more than that`);
});

t.test("a chain of many certificates is read, as far as is fair", async (t) => {
  for (const [kib, bytes, handshake, raised, spent] of [
    [48, 40_000, "complete", 1, 0],
    [48, 100_000, "complete", 3, 0],
    [48, 250_000, "complete", 4, 1],
    [4, 100_000, "incomplete", 4, 1], // 64 KiB are the most
  ] as const) {
    const frames = longChain(bytes);
    const cutoff = new ModelCutoff(kib << 10, false);
    const { text, line } = read(frames, cutoff, 0);
    const [told, all] = [text, read(frames, null, 0).text].map(([r]) => JSON.parse(r!) as Flow);
    t.strictSame([all!.handshake, all!.accepted], ["complete", true]);
    t.equal(told!.handshake, handshake, `${bytes} bytes`);
    t.equal(told!.accepted, kib === 4 ? null : true);
    t.strictSame([told!.packets, told!.bytes], [all!.packets, all!.bytes]);
    t.match(line.counters, { budgetsRaised: raised, budgetsSpent: spent, budgetsRefused: 0 });
    if (kib === 4) t.equal(cutoff.cutOff, Math.ceil(bytes / 1000) + 3 - Math.ceil(65_536 / 1000));
  }
  const { text, line } = read(longChain(100_000), new ModelCutoff(48 << 10, true), 0);
  const { handshake, accepted } = JSON.parse(text[0]!) as Flow;
  t.strictSame([handshake, accepted], ["incomplete", null], "what is not heard is a gap");
  t.ok(line.counters.budgetsRefused > 0);
});

t.test("nothing stays asked of an attempt that makes room for others", async (t) => {
  const cutoff = new ModelCutoff(200, false);
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 8, slots: 8 };
  const line = new Line({ table, revisions: true, reportIntervalMs: 1e9 }, () => {});
  line.countPassedOver(cutoff, 8);
  const take = (fields: TcpFields, payload = new Uint8Array(0)) => {
    const bytes = ethernet(ipv4({}, tcp(fields, payload)));
    if (cutoff.passes({ bytes, timeUs: 1e15, linkType: 1 })) {
      frameAt(line, viewOf(bytes), 0, bytes.length, bytes.length, 1e15, 1, 0);
    }
  };
  // Of the server's side nothing is seen.
  take({ sequence: 999, flags: SYN });
  take({ sequence: 1000 }, CLIENT_HELLO);
  take({ sequence: 1000 + CLIENT_HELLO.length }, record(22, new Uint8Array(90)));
  t.strictSame([cutoff.wishes.size, line.counters.budgetsRaised > 0], [1, true]);
  for (let from = 1; from < 20; from++) take({ from, flags: SYN });
  t.equal(line.counters.aggregated, 12);
  t.equal(cutoff.wishes.size, 0);
});

/** The same frames between other addresses: the second octet of both is another. */
function moved(frames: readonly Frame[], octet: number): Frame[] {
  return frames.map((frame) => {
    const bytes = Uint8Array.from(frame.bytes);
    bytes[27] = bytes[31] = octet;
    return { ...frame, bytes };
  });
}

t.test("connections that have ended hold nothing of which others are short", async (t) => {
  let tried = 0;
  for (const { name, frames } of captures) {
    const isPlain = frames.every(({ bytes }) => viewOf(bytes).getUint16(12) === 0x0800);
    const told = isPlain ? inTurn([frames], 1024) : [];
    if (told.length === 0 || told.some(({ state }) => state !== "closed")) continue;
    const copies = Array.from({ length: 9 }, (_, i) => moved(frames, 100 + i));
    const texts = (flows: readonly Flow[]) => {
      const placed = flows.map((f) => JSON.stringify(f).replace(/(\d+)\.\d+(\.\d+\.\d+)/g, "$1$2"));
      return new Set(placed);
    };
    // Room for one copy's flows, and all within the time for which ended ones are remembered.
    const all = inTurn(copies, 2 * told.length);
    t.strictSame(texts(all), texts(inTurn(copies, 1024)), name);
    tried++;
  }
  t.ok(tried > 40, `${tried} captures`);
});

/** Reads captures one behind the other, each of them at the same time. */
function inTurn(captures: readonly (readonly Frame[])[], slots: number): Flow[] {
  const records: Flow[] = [];
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 4096, slots, endedSeconds: 1e6 };
  const line = new Line({ table, revisions: false, reportIntervalMs: 1e9 }, (told) =>
    records.push(told),
  );
  for (const frames of captures) {
    for (const { bytes, timeUs, linkType } of frames) {
      frameAt(line, viewOf(bytes), 0, bytes.length, bytes.length, timeUs, linkType, 0);
    }
  }
  line.finish();
  return records;
}
