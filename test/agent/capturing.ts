/**
 * Captures by one tier, in a network namespace of its own, what it sends itself, and prints what
 * came of it: one line of JSON. Pairs of veths are there: `saN` sends, `sbN` is watched.
 *
 *     node capturing.ts TIER golden PAIRS | mixed [INSTRUCTIONS] | sampled RATE | refused | spoilt | asked | again
 *     node capturing.ts TIER shared RINGS | full FLOWS [swept] | deleted | broken | opened | crash
 *     node capturing.ts TIER flood FRAMES BYTES
 */
import { spawnSync } from "node:child_process";
import { globSync, readdirSync } from "node:fs";
import path from "node:path";
import type {
  CaptureChoice,
  LiveSource,
  OnFrame,
  Watch,
} from "../../agent/capture/frame-source.ts";
import { BUDGET_BYTES } from "../../agent/capture/flow-cutoff.ts";
import type { Wanted } from "../../agent/capture/interfaces.ts";
import { BLOCK_BYTES } from "../../agent/capture/packet-ring.ts";
import { RingCapture } from "../../agent/capture/ring-capture.ts";
import type { Fanout } from "../../agent/capture/ring-capture.ts";
import { AF_PACKET, SOL_SOCKET, SystemCalls } from "../../agent/capture/system-calls.ts";
import { openCapture } from "../../agent/capture/tiers.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Sample } from "../../agent/flow/sample.ts";
import { Line } from "../../agent/line.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { bulkOf, loadTemplates, readdress } from "../../scripts/bench/traffic.ts";
import { FrameSender } from "../../scripts/bench/sender.ts";
import { keyAt } from "../../agent/flow/flow-record.ts";
import { frameAt, viewOf } from "../frames.ts";
import type { Bytes } from "../frames.ts";
import { GOLDEN, framesOf } from "./captures.ts";
import type { Frame } from "./captures.ts";
import { bulk, mixedTraffic, spoilt, unreachable } from "./mixed.ts";
import { longChain } from "./talk.ts";
import { VXLAN_PORTS } from "./wrapping.ts";

const [tier, what, ...rest] = process.argv.slice(2) as [CaptureChoice, string, ...string[]];
const log: string[] = [];
const FLOWS = 4096;
/** Both ends of each pair are in one namespace, so that they are no pods' by themselves. */
const PAIRS: Wanted = { pattern: /^sb\d+$/, kinds: [] };
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Frames with their time, as `frameAt` takes them. */
type Handle = typeof frameAt extends (line: Line, ...frame: infer Rest) => void
  ? (...frame: Rest) => void
  : never;

function open(handle: Handle, more: Record<string, unknown> = {}): LiveSource {
  const clock = new Float64Array(1);
  const onFrame: OnFrame = (view, at, end, wire, linkType, lane) =>
    handle(view, at, end, wire, clock[0]!, linkType, lane);
  const source = openCapture({
    clock,
    ...{ choice: tier, wanted: PAIRS, ringBytes: 32 << 20, flows: FLOWS, onFrame },
    vxlanPorts: VXLAN_PORTS,
    onWatch: () => {},
    ...{ onChange: () => log.push("changed"), log: (_: string, text: string) => log.push(text) },
    ...more,
  });
  source.rescan();
  return source;
}

function newLine(records: Flow[], flows = FLOWS, sample: Sample | null = null): Line {
  return new Line(
    {
      table: { ...FLOW_TABLE_DEFAULTS, flows, slots: 1024 },
      revisions: false,
      reportIntervalMs: 1e9,
      ...{ sample, vxlanPorts: VXLAN_PORTS },
    },
    (record) => records.push(record),
  );
}

/** What the same frames say when they are handed over one by one. */
function oneByOne(frames: readonly Bytes[], flows = FLOWS, sample: Sample | null = null) {
  const records: Flow[] = [];
  const line = newLine(records, flows, sample);
  frames.forEach((frame, i) =>
    frameAt(line, viewOf(frame), 0, frame.length, frame.length, 1.7e15 + i, 1, 0),
  );
  line.finish();
  return { records, line };
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
    frameAt(lanes[lane]!.line, view, at, end, wire, timeUs, linkType, lane);
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
        frameAt(reader, viewOf(bytes), 0, bytes.length, bytes.length, timeUs, linkType, lane);
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

/** A ring with a cutoff of our own choice, whose frames go to the line. */
function openCutoff(
  line: Line,
  flows: number,
  budgetBytes: number,
  packetsBehind?: number,
  calls = new SystemCalls(),
  fanout?: Fanout,
) {
  const source = new RingCapture({
    ...{ calls, wanted: PAIRS, ringBytes: 32 << 20, clock: line.clock, onWatch: () => {} },
    onFrame: (view, at, end, wire, linkType, lane) =>
      line.frame(view, at, end, wire, linkType, lane),
    ...{ cutoff: { flows, budgetBytes }, vxlanPorts: VXLAN_PORTS },
    ...(fanout ? { fanout } : {}),
    ...{ onChange: () => {}, log: (_, text) => log.push(text) },
  });
  if (!fanout) source.rescan(); // else when all are there
  line.countPassedOver(source.passedOver, packetsBehind);
  return source;
}

/** The kernel's calls, but for programs of more instructions: those are refused as too long. */
function refusing(instructions: number): SystemCalls {
  const calls = new SystemCalls();
  const [PROG_LOAD, E2BIG] = [5, 7];
  const bpf = calls.bpf.bind(calls);
  calls.bpf = (command, attributes) => {
    const isTooLong = command === PROG_LOAD && viewOf(attributes).getUint32(4, true) > instructions;
    return isTooLong ? -E2BIG : bpf(command, attributes);
  };
  return calls;
}

/** No program at all is taken. */
function refused(): object {
  try {
    openCutoff(newLine([]), 8, BUDGET_BYTES, 0, refusing(0)).close();
    return { error: null };
  } catch (error) {
    return { error: `${(error as Error).name}: ${(error as Error).message}` };
  }
}

/** The flows of mixed traffic, as told, and what was sent; maybe by a program of limited length. */
async function mixed(instructions?: number): Promise<object> {
  const { frames, flows, strays } = mixedTraffic(7, 8, 200_000);
  const records: Flow[] = [];
  const line = newLine(records);
  const source = instructions
    ? openCutoff(line, FLOWS, BUDGET_BYTES, 0, refusing(instructions))
    : open((view, at, end, wire, timeUs, linkType, lane) =>
        frameAt(line, view, at, end, wire, timeUs, linkType, lane),
      );
  line.countPassedOver(source.passedOver, 0);
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
  const { records: expected } = oneByOne(frames);
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

/** A sample of mixed traffic, and what a reader of all frames takes of the same. */
async function sampled(rate: number): Promise<object> {
  const sample = new Sample(rate, [0x6cb8a871, 0xd41e5eb4 | 0]);
  const { frames, flows } = mixedTraffic(11, 16, 20_000);
  const records: Flow[] = [];
  const line = newLine(records, FLOWS, sample);
  const source = open(
    (view, at, end, wire, timeUs, linkType, lane) =>
      frameAt(line, view, at, end, wire, timeUs, linkType, lane),
    { sample },
  );
  line.countPassedOver(source.passedOver, 0);
  new FrameSender("sa0", frames).send();
  await until(source, frames.length);
  const [of0] = counts(source);
  line.finish();
  const dropped = source.droppedOnAny();
  source.close();
  const { records: expected, line: reader } = oneByOne(frames, FLOWS, sample);
  return {
    ...{ sent: frames.length, flows: Object.keys(flows).length, of0, dropped },
    ...{ told: sumsOf(records), expected: sumsOf(expected) },
    ...{ notSampled: line.counters.notSampled, leftOut: reader.counters.notSampled },
  };
}

/** Packets and bytes of either end, of all flows of the same ends. */
function sumsOf(records: readonly Flow[]): Record<string, number[]> {
  const sums: Record<string, number[]> = {};
  for (const r of records) {
    const [source, destination] = [`${r.src_ip}:${r.src_port}`, `${r.dst_ip}:${r.dst_port}`];
    const isFirst = source < destination;
    const name = [r.proto, ...(isFirst ? [source, destination] : [destination, source])].join(" ");
    const sum = (sums[name] ??= [0, 0, 0, 0]);
    [r.packets, r.bytes].flat().forEach((n, i) => (sum[isFirst ? i : i ^ 1]! += n));
  }
  return sums;
}

/** Frames whose headers contradict themselves, where all that may be kept back is. */
async function spoiltOnes(): Promise<object> {
  const records: Flow[] = [];
  const line = newLine(records, 1 << 16);
  const source = openCutoff(line, 1 << 16, 1);
  const frames = [1, 2, 3, 4].flatMap((seed) => spoilt(mixedTraffic(seed, 4, 20_000).frames, seed));
  const sender = new FrameSender("sa0", frames);
  sender.send();
  await until(source, frames.length);
  const [of0] = counts(source);
  const dropped = source.droppedOnAny();
  source.close(); // in the order in which the agent ends
  line.finish();
  const { records: expected } = oneByOne(frames, 1 << 16);
  const [told, wanted] = [sumsOf(records), sumsOf(expected)];
  const names = new Set([...Object.keys(told), ...Object.keys(wanted)]);
  const wrong = [...names]
    .filter((name) => told[name]?.join() !== wanted[name]?.join())
    .map((name) => `${name}: ${told[name]?.join()} not ${wanted[name]?.join()}`);
  return { sent: frames.length, of0, dropped, flows: names.size, wrong };
}

const ATTEMPTS = 40;

/** Several rings share what comes, each with a line of its own. */
async function shared(count: number): Promise<object> {
  const { frames, flows, strays } = mixedTraffic(7, 16, 100_000);
  frames.push(...unreachable(ATTEMPTS));
  const lines = Array.from({ length: count }, () => {
    const records: Flow[] = [];
    return { records, line: newLine(records) };
  });
  const sources: RingCapture[] = [];
  let group: number | null = null;
  for (const { line } of lines) {
    const fanout = { group, onSocket: (_: number, joined: number) => void (group = joined) };
    sources.push(openCutoff(line, FLOWS, BUDGET_BYTES, 0, new SystemCalls(), fanout));
  }
  for (const source of sources) source.rescan();
  const came = () =>
    sources.flatMap((source) => {
      source.rescan();
      return source.watches().map(seen);
    }).reduce((a, b) => a + b, 0); // prettier-ignore
  const sender = new FrameSender("sa0", frames);
  for (let at = 0; at < frames.length; at += 500) {
    sender.send(at, Math.min(frames.length, at + 500));
    await sleep(1);
  }
  for (let waited = 0; waited < 5000 && came() < frames.length; waited += 10) await sleep(10);
  const total = came();
  const shares = sources.map((source) =>
    source
      .watches()
      .map(seen)
      .reduce((a, b) => a + b, 0),
  );
  for (const { line } of lines) line.finish();
  const dropped = sources.reduce((sum, source) => sum + source.droppedOnAny(), 0);
  for (const source of sources) source.close();
  const told = lines.map(({ records }) => sumsOf(records));
  const wrong: string[] = [];
  for (const [name, ends] of Object.entries(flows)) {
    const found = told.flatMap((sums) => (sums[name] ? [sums[name].join()] : []));
    const [low, high] = Object.keys(ends).toSorted().map((end) => ends[end]!); // prettier-ignore
    const wanted = [low![0], high![0], low![1], high![1]].join();
    if (found.length !== 1 || found[0] !== wanted) wrong.push(`${name}: ${found} not ${wanted}`);
  }
  const all = lines.flatMap(({ records }) => records);
  const refused = all.filter((record) => record.state === "refused").length;
  const notFlows = lines.reduce((sum, { line }) => {
    const { notIp, notTransport } = line.counters.stoppedByName();
    return sum + (notIp ?? 0) + (notTransport ?? 0);
  }, 0);
  const expected = Object.keys(flows).length + ATTEMPTS;
  const counted = { sent: frames.length, total, dropped, shares, strays, notFlows };
  return { ...counted, records: all.length, expected, refused, wrong };
}

/** Records by their ends: packets and bytes, client first. */
const countersOf = (records: readonly Flow[]) =>
  records.map((r) => [r.src_port, ...r.packets, ...r.bytes]);

/** Two ends connect anew three times, a bulk each; the frames come all at once. */
async function again(): Promise<object> {
  const records: Flow[] = [];
  const line = newLine(records);
  const source = open((view, at, end, wire, timeUs, linkType, lane) =>
    frameAt(line, view, at, end, wire, timeUs, linkType, lane),
  );
  line.countPassedOver(source.passedOver, 0);
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

type Acting = {
  line: Line;
  source: RingCapture;
  send: (frames: readonly Bytes[]) => Promise<void>;
};

/** Flows whose openings are read early or late, most at such a pace that the agent can ask. */
async function asked(): Promise<object> {
  const records: Flow[] = [];
  let sent = 0;
  const run = async (packetsBehind: number | undefined, act: (of: Acting) => Promise<object>) => {
    const line = newLine(records);
    const source = openCutoff(line, FLOWS, BUDGET_BYTES, packetsBehind);
    sent = 0;
    const send = async (frames: readonly Bytes[]) => {
      const sender = new FrameSender("sa0", frames);
      sent += sender.send();
      sender.close();
      await until(source, sent);
    };
    const more = await act({ line, source, send });
    const [watch] = source.watches();
    line.finish();
    const dropped = source.droppedOnAny();
    source.close();
    const { delivered, cutOff } = watch!;
    return { delivered, cutOff, dropped, told: records.splice(0).at(-1)!, ...more };
  };
  const closed = await run(undefined, async ({ line, send }) => {
    const frames = bulk(20_000, 100_000, 1000);
    await send(frames.slice(0, 64));
    await send(frames.slice(64));
    return { asked: line.counters.budgetsClosed };
  });
  // What is asked for an earlier connection of the same ends is not meant for this one.
  const stale = await run(0, async ({ line, source, send }) => {
    const [earlier, later] = [1_000_000, 5_000_000];
    await send(bulk(20_000, 100_000, earlier).slice(0, 64));
    const frames = bulk(20_000, 100_000, later);
    await send(frames.slice(0, 64));
    const closeThatOf = (isn: number) =>
      source.passedOver!.ask(
        ...([line.table.keys, keyAt(line.table.any()), [0, 0], [isn + 1000, isn + 5000]] as const),
      );
    closeThatOf(earlier);
    await send(frames.slice(64, 74));
    closeThatOf(later);
    await send(frames.slice(74));
    return {};
  });
  const chain = longChain(100_000);
  const long = (frames: number) =>
    run(undefined, async ({ line, send }) => {
      const bytes = chain.map((frame) => frame.bytes);
      for (let at = 0; at < bytes.length; at += frames) await send(bytes.slice(at, at + frames));
      return { raised: line.counters.budgetsRaised };
    });
  const [slow, fast] = [await long(16), await long(chain.length)];
  const expected: Flow[] = [];
  const reader = newLine(expected);
  for (const { bytes, timeUs } of chain) {
    frameAt(reader, viewOf(bytes), 0, bytes.length, bytes.length, timeUs, 1, 0);
  }
  reader.finish();
  const isAlike = JSON.stringify(meaning([slow.told])) === JSON.stringify(meaning(expected));
  return { closed, stale, slow, fast, isAlike };
}

/** More flows than the cutoff has room for, then as many again, with or without a sweep between. */
async function full(flows: number, isSwept: boolean): Promise<object> {
  const records: Flow[] = [];
  const line = newLine(records);
  const source = open(
    (view, at, end, wire, timeUs, linkType, lane) => {
      // Of the first half nothing reaches the line: it is as if they had been lost on the way.
      if (view.getUint16(at + 34) < 30_000 && view.getUint16(at + 36) < 30_000) return;
      frameAt(line, view, at, end, wire, timeUs, linkType, lane);
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
  for (let i = 0; i < 4 && isSwept; i++) line.sweep();
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
  // The kernel hands a block over, whichever it is, and nobody reads it yet.
  let isBroken = false;
  for (let i = 0; i < 50 && !isBroken; i++) {
    Atomics.wait(pause, 0, 0, 100);
    for (let block = 0; block < view.byteLength; block += BLOCK_BYTES) {
      if ((view.getUint32(block + 8, true) & 1) === 0) continue;
      view.setUint32(block + 12, 0xffffff, true);
      isBroken = true;
    }
  }
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
  mixed: () => mixed(Number(rest[0])),
  sampled: () => sampled(Number(rest[0])),
  refused,
  spoilt: spoiltOnes,
  asked,
  shared: () => shared(Number(rest[0])),
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
