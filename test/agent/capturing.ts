/**
 * Captures by one tier, in a network namespace of its own, what it sends itself, and prints what
 * came of it: one line of JSON. Pairs of veths are there: `saN` sends, `sbN` is watched.
 *
 *     node capturing.ts TIER golden PAIRS | mixed | again | full FLOWS [swept] | deleted
 *     node capturing.ts TIER flood FRAMES BYTES | broken | opened | crash
 */
import { spawnSync } from "node:child_process";
import { globSync, readdirSync } from "node:fs";
import path from "node:path";
import type {
  CaptureChoice,
  LiveSource,
  OnFrame,
  OnLiveFrame,
  Watch,
} from "../../agent/capture/frame-source.ts";
import type { Wanted } from "../../agent/capture/interfaces.ts";
import { RingCapture } from "../../agent/capture/ring-capture.ts";
import { AF_PACKET, SOL_SOCKET, SystemCalls } from "../../agent/capture/system-calls.ts";
import { openCapture } from "../../agent/capture/tiers.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { bulkOf, loadTemplates, readdress } from "../../scripts/bench/traffic.ts";
import { FrameSender } from "../../scripts/bench/sender.ts";
import { viewOf } from "../frames.ts";
import { GOLDEN, framesOf } from "./captures.ts";
import type { Frame } from "./captures.ts";
import { bulk, mixedTraffic } from "./mixed.ts";

const [tier, what, ...rest] = process.argv.slice(2) as [CaptureChoice, string, ...string[]];
const log: string[] = [];
/** Both ends of each pair are in one namespace, so that they are no pods' by themselves. */
const PAIRS: Wanted = { pattern: /^sb\d+$/, kinds: [] };
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function open(handle: OnFrame, more: Record<string, unknown> = {}): LiveSource {
  const clock = new Float64Array(1);
  const onFrame: OnLiveFrame = (view, at, end, wire, linkType, lane, direction) =>
    handle(view, at, end, wire, clock[0]!, linkType, lane, direction);
  const source = openCapture({
    clock,
    ...{ choice: tier, wanted: PAIRS, ringBytes: 32 << 20, flows: 4096, onFrame },
    onWatch: () => {},
    ...{ onChange: () => log.push("changed"), log: (_: string, text: string) => log.push(text) },
    ...more,
  });
  source.rescan();
  return source;
}

function newLine(records: Flow[]): Line {
  return new Line(
    {
      table: { ...FLOW_TABLE_DEFAULTS, flows: 4096, slots: 1024 },
      revisions: false,
      reportIntervalMs: 1e9,
    },
    (record) => records.push(record),
  );
}

const seen = (watch: Watch) => watch.delivered + watch.cutOff + watch.dropped;

/** Waits until all interfaces together have seen so many frames, for five seconds at most. */
async function until(source: LiveSource, frames: number): Promise<void> {
  for (let waited = 0; waited < 5000; waited += 10) {
    source.rescan();
    const total = source.watches().reduce((sum, watch) => sum + seen(watch), 0);
    if (total + source.droppedOnAny() >= frames) return;
    await sleep(10);
  }
}

const counts = (source: LiveSource) =>
  source.watches().map(({ name, delivered, dropped, cutOff }) => {
    return { name, delivered, dropped, cutOff };
  });

const byStart = (records: Flow[]) =>
  records.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
const meaning = (records: Flow[]) =>
  byStart(records).map((record) => ({ ...record, start: null, end: null }));

/** Recorded connections whose server goes on for far longer than the cutoff hands over. */
async function longOnes(): Promise<{ name: string; frames: Frame[] }[]> {
  const long: { name: string; frames: Frame[] }[] = [];
  for (const template of await loadTemplates()) {
    const segments = bulkOf(template, 1400);
    if (segments === null) continue;
    const frames: Frame[] = [];
    let shift = 0;
    const add = (frame: (typeof template.frames)[number]) => {
      readdress(frame, 7, shift);
      frames.push({ bytes: frame.bytes.slice(), timeUs: 0, linkType: 1 });
    };
    template.frames.forEach((frame, i) => {
      add(frame);
      if (i !== template.bulkAt) return;
      for (let n = 0; n < 150; n++, shift += 1400) {
        add(segments.data);
        add(segments.answer);
      }
    });
    long.push({ name: `${template.name}, long`, frames });
  }
  return long;
}

/** What differs between the frames of a file, at the times at which they came, and the tier's. */
async function golden(pairs: number): Promise<object> {
  const wrong: string[] = [];
  const lanes: { line: Line; records: Flow[]; times: number[] }[] = [];
  const source = open((view, at, end, wire, timeUs, linkType, lane) => {
    lanes[lane]!.times.push(timeUs);
    lanes[lane]!.line.frame(view, at, end, wire, timeUs, linkType, lane);
  });
  const newCountedLine = (records: Flow[]) => {
    const line = newLine(records);
    line.countPassedOver(source.passedOver);
    return line;
  };
  const files = globSync("*.pcap", { cwd: GOLDEN }).sort();
  const captures: { name: string; frames: Frame[] }[] = [];
  for (const name of files) {
    const frames = await framesOf(path.join(GOLDEN, name));
    if (frames.every((f) => f.linkType === 1)) captures.push({ name, frames });
  }
  const whole = captures.length;
  captures.push(...(await longOnes()));
  let sent = 0;
  let flows = 0;
  for (let i = 0; i < captures.length; i += pairs) {
    const round = captures.slice(i, i + pairs);
    round.forEach(({ frames }, n) => {
      const records: Flow[] = [];
      const lane = source.watches().find((watch) => watch.name === `sb${n}`)!.lane;
      lanes[lane] = { line: newCountedLine(records), records, times: [] };
      const sender = new FrameSender(`sa${n}`, frames.map((f) => f.bytes)); // prettier-ignore
      sent += sender.send();
      sender.close();
    });
    await until(source, sent);
    round.forEach(({ name, frames }, n) => {
      const lane = source.watches().find((watch) => watch.name === `sb${n}`)!.lane;
      const { line, records, times } = lanes[lane]!;
      line.finish();
      const expected: Flow[] = [];
      const reader = newLine(expected);
      const isLong = name.endsWith("long");
      frames.forEach(({ bytes, linkType }, f) => {
        // What was cut off has no time of its own: between its neighbours.
        const timeUs = isLong ? 1.7e15 + f : (times[f] ?? 0);
        reader.frame(viewOf(bytes), 0, bytes.length, bytes.length, timeUs, linkType, lane);
      });
      reader.finish();
      flows += expected.length;
      const [told, wanted] = [meaning(records), meaning(expected)].map((x) => JSON.stringify(x));
      if (told !== wanted) wrong.push(`${name}:\n${told}\nnot\n${wanted}`);
    });
  }
  const dropped = source.droppedOnAny();
  source.close();
  return { captures: whole, long: captures.length - whole, flows, sent, wrong, dropped };
}

/** The flows of mixed traffic, as told, and what was sent. */
async function mixed(): Promise<object> {
  const { frames, flows, strays } = mixedTraffic(7, 8, 400_000);
  const records: Flow[] = [];
  const line = newLine(records);
  const source = open((view, at, end, wire, timeUs, linkType, lane) =>
    line.frame(view, at, end, wire, timeUs, linkType, lane),
  );
  line.countPassedOver(source.passedOver);
  const sender = new FrameSender("sa0", frames);
  for (let at = 0; at < frames.length; at += 500) {
    sender.send(at, Math.min(frames.length, at + 500));
    await sleep(1);
  }
  await until(source, frames.length);
  const open_ = counts(source);
  line.finish();
  const stopped = line.counters.stoppedByName();
  const dropped = source.droppedOnAny();
  source.close();
  // What the same frames say when they are handed over one by one.
  const expected: Flow[] = [];
  const reader = newLine(expected);
  frames.forEach((frame, i) =>
    reader.frame(viewOf(frame), 0, frame.length, frame.length, 1.7e15 + i, 1, 0),
  );
  reader.finish();
  const sorted = (list: Flow[]) =>
    meaning(list)
      .map((record) => JSON.stringify(record))
      .sort();
  const [one, other] = [sorted(records), sorted(expected)];
  const wrong = one.flatMap((text, i) => (text === other[i] ? [] : [text, other[i]]));
  const told: Record<string, unknown> = {};
  for (const r of records) {
    const ends = [`${r.src_ip}:${r.src_port}`, `${r.dst_ip}:${r.dst_port}`];
    const name = [r.proto, ...ends.toSorted()].join(" ");
    if (told[name] !== undefined) told[`${name} again`] = r;
    told[name] = {
      [ends[0]!]: [r.packets[0], r.bytes[0]],
      [ends[1]!]: [r.packets[1], r.bytes[1]],
    };
  }
  return { sent: frames.length, strays, flows, told, wrong, counts: open_, stopped, dropped };
}

/** Records by their ends: packets and bytes, client first. */
const countersOf = (records: readonly Flow[]) =>
  records.map((r) => [r.src_port, ...r.packets, ...r.bytes]);

/** Two ends connect anew three times, a bulk each; the frames come all at once. */
async function again(): Promise<object> {
  const records: Flow[] = [];
  const line = newLine(records);
  const source = open((view, at, end, wire, timeUs, linkType, lane) =>
    line.frame(view, at, end, wire, timeUs, linkType, lane),
  );
  line.countPassedOver(source.passedOver);
  const frames = [200_000, 1000, 300_000].flatMap((size, i) => bulk(20_000, size, i * 1e6));
  let sent = 0;
  for (const sender of [new FrameSender("sa0", frames)]) {
    for (let at = 0; at < frames.length; at += 50) {
      sent += sender.send(at, Math.min(frames.length, at + 50));
      await sleep(60); // what was cut off of one connection is read before the next but one begins
    }
  }
  await until(source, sent);
  line.finish();
  const told = { sent, flows: countersOf(records), counts: counts(source)[0] };
  source.close();
  return told;
}

/** More flows than the cutoff has room for, then as many again, with or without a sweep between. */
async function full(flows: number, isSwept: boolean): Promise<object> {
  const records: Flow[] = [];
  const line = newLine(records);
  const source = open(
    (view, at, end, wire, timeUs, linkType, lane) => {
      // Of the first half nothing reaches the line: it is as if they had been lost on the way.
      if (view.getUint16(at + 34) < 30_000 && view.getUint16(at + 36) < 30_000) return;
      line.frame(view, at, end, wire, timeUs, linkType, lane);
    },
    { flows },
  ) as RingCapture;
  line.countPassedOver(source.passedOver);
  let sent = 0;
  const send = async (from: number) => {
    for (let n = 0; n < 2 * flows; n++) {
      const sender = new FrameSender("sa0", bulk(from + n, 60_000, 0));
      sent += sender.send();
      sender.close();
    }
    await until(source, sent);
    return source.refused();
  };
  const first = await send(20_000);
  for (let i = 0; i < 4 && isSwept; i++) line.report(1);
  const second = (await send(40_000)) - first;
  line.finish();
  const counters = new Set(countersOf(records).map((row) => row.slice(1).join(" ")));
  const told = { sent, first, second, counters: [...counters], counts: counts(source)[0] };
  source.close();
  return { ...told, flows: records.length };
}

/** Frames through an interface that is deleted, and made anew, while others go on. */
async function deleted(): Promise<object> {
  const frame = mixedTraffic(1, 1, 0).frames[0]!;
  let came = 0;
  const source = open(() => came++);
  const steady = new FrameSender("sa0", [frame]);
  const ended: Watch[] = [];
  let sent = 0;
  for (let round = 0; round < 5; round++) {
    const sender = new FrameSender("sa1", [frame]);
    for (let i = 0; i < 20; i++) sent += sender.send() + steady.send();
    sender.close();
    if (tier === "libpcap") await sleep(120); // its session takes with it what it has not told
    spawnSync("ip", ["link", "del", "sa1"]);
    sent += steady.send();
    const until = Date.now() + 3000;
    while (source.watches().some((w) => w.name === "sb1") && Date.now() < until) {
      await sleep(10);
      ended.push(...source.rescan());
    }
    spawnSync("ip", "link add sa1 mtu 65535 type veth peer name sb1 mtu 65535".split(" "));
    for (const name of ["sa1", "sb1"]) spawnSync("ip", ["link", "set", name, "up"]);
    while (!source.watches().some((w) => w.name === "sb1") && Date.now() < until) {
      await sleep(10);
      ended.push(...source.rescan());
    }
  }
  // A poll that spins would take all of a core.
  const before = process.cpuUsage();
  await sleep(1000);
  const { user, system } = process.cpuUsage(before);
  const now = counts(source);
  source.close();
  const endedCounts = ended.map(({ name, delivered }) => ({ name, delivered }));
  return { sent, came, ended: endedCounts, now, cpuShare: (user + system) / 1e6 };
}

/** Many frames as fast as they go: all are delivered, counted by flow, or counted as dropped. */
async function flood(frames: number, ringBytes: number): Promise<object> {
  const { frames: some } = mixedTraffic(3, 8, 100_000);
  const source = open(() => {}, { ringBytes });
  const sender = new FrameSender("sa0", some);
  let sent = 0;
  while (sent < frames) {
    sent += sender.send(0, Math.min(some.length, frames - sent));
    if (ringBytes > 8 << 20) await sleep(1);
  }
  await until(source, sent);
  const told = { sent, counts: counts(source), dropped: source.droppedOnAny() };
  source.close();
  return told;
}

/** A block of the ring is overwritten before it is read: what it says can no longer be. */
async function broken(): Promise<object> {
  let came = 0;
  const before = Date.now();
  const source = open(() => came++);
  const calls = new SystemCalls();
  const domain = new Uint8Array(4);
  const SO_DOMAIN = 39;
  const fd = readdirSync("/proc/self/fd").map(Number).find((n) => {
    try {
      calls.getOption(n, SOL_SOCKET, SO_DOMAIN, domain, "domain");
    } catch {
      return false; // no socket
    }
    return domain[0] === AF_PACKET;
  })!; // prettier-ignore
  const { view } = calls.map(fd, 32 << 20, "the ring once more");
  const sender = new FrameSender("sa0", mixedTraffic(3, 1, 0).frames);
  let sent = sender.send();
  await until(source, sent);
  const whole = { sent, came };
  sent += sender.send();
  const pause = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(pause, 0, 0, 100); // the kernel hands the block over, and nobody reads it yet
  view.setUint32((512 << 10) + 12, 0xffffff, true);
  const brokenMs = Date.now();
  const ended: Watch[] = [];
  for (let i = 0; i < 200 && (ended.length === 0 || source.watches().length === 0); i++) {
    await sleep(10);
    ended.push(...source.rescan()); // opens it anew
  }
  const again = came;
  const more = sender.send();
  await until(source, more);
  const now = counts(source);
  source.close();
  const untilMs = ended.map((watch) => watch.untilMs! - before);
  return {
    whole,
    ended: ended.length,
    untilMs,
    brokenMs: brokenMs - before,
    more,
    came,
    again,
    now,
  };
}

/** Which tier was opened, and what the log says of it. */
async function opened(): Promise<object> {
  const source = open(() => {});
  const { kind } = source;
  source.close();
  return { kind };
}

/** The agent ends by a fault of its own while the waiting thread sits in poll. */
async function crash(): Promise<object> {
  open(() => {});
  await sleep(200);
  throw new Error("planted");
}

const result = {
  golden: () => golden(Number(rest[0])),
  mixed,
  again,
  full: () => full(Number(rest[0]), rest[1] === "swept"),
  deleted,
  broken,
  opened,
  crash,
  flood: () => flood(Number(rest[0]), Number(rest[1])),
}[what]!;
const told = await result();
process.stdout.write(`${JSON.stringify({ ...told, log })}\n`, () => process.exit(0));
