/**
 * Sends a million packets through decode and flow, and another million through the whole line, and
 * prints how many garbage collections happened meanwhile: one line of JSON. Run with a small
 * `--max-semi-space-size`, a few bytes per packet are enough to make one.
 */
import { GCProfiler } from "node:v8";
import { decodeFrame } from "../../agent/decode/ethernet.ts";
import { Packet, Stop } from "../../agent/decode/packet.ts";
import { FLOW_TABLE_DEFAULTS, FlowTable, News } from "../../agent/flow/flow-table.ts";
import { Sample } from "../../agent/flow/sample.ts";
import { Line } from "../../agent/line.ts";
import { ACK, FIN, SYN, ethernet, frameAt, ipv4, ipv6, join, latin1 } from "../frames.ts";
import { tag, tcp, udp } from "../frames.ts";
import { WRAPPINGS } from "./wrapping.ts";

const PACKETS = 1_000_000;
const FLOWS = 500;
const SEGMENTS = 19;
/** Microseconds since the epoch, too many for a small integer. */
const START_US = 1.7e15;

/** Each connection whole: handshake, data both ways in and out of order, both FINs. */
function connection(i: number, isn: number): Uint8Array[] {
  const from = 20000 + i;
  const request = latin1(`GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`);
  const client = (flags: number, at: number, seen: number, payload?: Uint8Array) =>
    tcp({ from, to: 80, flags, sequence: isn + at, acknowledgment: 5000 + seen }, payload);
  const server = (flags: number, at: number, seen: number, payload?: Uint8Array) =>
    tcp({ from: 80, to: from, flags, sequence: 5000 + at, acknowledgment: isn + seen }, payload);
  const end = 1 + request.length;
  const body = new Uint8Array(1000).fill(0x41);
  const segments: [boolean, Uint8Array][] = [
    [true, client(SYN, 0, 0)],
    [false, server(SYN | ACK, 0, 1)],
    [true, client(ACK, 1, 1)],
    [true, client(ACK, 1, 1, request)],
    [false, server(ACK, 1001, end, body)], // ahead of the one before it
    [false, server(ACK, 1, end, body)],
    [true, client(ACK, end, 2001)],
    [false, server(ACK, 1, end, body)], // retransmitted
    ...Array.from({ length: 8 }, (_, n): [boolean, Uint8Array] => [
      false,
      server(ACK, 2001 + n * 1000, end, body),
    ]),
    [false, server(FIN | ACK, 10001, end)],
    [true, client(FIN | ACK, end, 10002)],
    [false, server(ACK, 10002, end + 1)],
  ];
  const asIpv6 = i % 3 === 0;
  const tagged = i % 5 === 0;
  return segments.map(([up, segment]) => {
    const ends = up
      ? { source: asIpv6 ? "fd00::1" : "10.0.0.1", destination: asIpv6 ? "fd00::2" : "10.0.0.2" }
      : { source: asIpv6 ? "fd00::2" : "10.0.0.2", destination: asIpv6 ? "fd00::1" : "10.0.0.1" };
    if (asIpv6) return ethernet(ipv6(ends, segment), 0x86dd);
    const inside = ipv4(ends, segment);
    return tagged ? ethernet(join(tag(7, 0x0800), inside), 0x8100) : ethernet(inside);
  });
}

/** A datagram in each wrapper. */
const WRAPPED = Object.values(WRAPPINGS).map(({ carry }) =>
  carry(ipv4({ protocol: 17 }, udp(latin1("not a name"))), 0x0800),
);

/** Frames of all connections in turn, and datagrams between them, in one ring. */
function fillRing(): { view: DataView; starts: Int32Array } {
  const list: Uint8Array[] = [];
  // Twice, with other sequence numbers: the second is a new connection between the same ends.
  for (const isn of [1000, 0xfffffff0]) {
    const connections = Array.from({ length: FLOWS }, (_, i) => connection(i, isn));
    for (let n = 0; n < SEGMENTS; n++) {
      for (const one of connections) list.push(one[n]!);
      list.push(ethernet(ipv4({ protocol: 17 }, udp(latin1("not a name")))));
      list.push(ethernet(new Uint8Array(46), 0x0806));
      list.push(...WRAPPED);
    }
  }
  const whole = join(...list);
  const starts = new Int32Array(list.length + 1);
  for (let i = 0; i < list.length; i++) starts[i + 1] = starts[i]! + list[i]!.length;
  return { view: new DataView(whole.buffer), starts };
}

const { view, starts } = fillRing();
const frames = starts.length - 1;

/** Runs that are measured: what the engine itself collects now and then is not in each of them. */
const RUNS = 4;

/** Least collections while `PACKETS` frames go to `take`, after the engine has warmed up to it. */
function collections(take: (at: number, end: number) => void): number {
  const run = (count: number) => {
    for (let i = 0, frame = 0; i < count; i++) {
      take(starts[frame]!, starts[frame + 1]!);
      if (++frame === frames) frame = 0;
    }
  };
  run(PACKETS);
  let least = Infinity;
  for (let i = 0; i < RUNS && least > 0; i++) {
    const profiler = new GCProfiler();
    profiler.start();
    run(PACKETS);
    least = Math.min(least, profiler.stop()!.statistics.length);
  }
  return least;
}

const packet = new Packet();
const table = new FlowTable(FLOW_TABLE_DEFAULTS);
table.nowUs = START_US + 0.5;
let reused = 0;
const decodeAndFlow = collections((at, end) => {
  table.nowUs += 1;
  if (decodeFrame(view, at, end, 1, packet) !== Stop.none) return;
  let flow = table.take(packet, view, 0);
  if (flow === -1) {
    table.release(table.displaced);
    reused++;
    flow = table.take(packet, view, 0);
  }
  if ((table.news & News.bytes) !== 0) {
    const slot = table.slot(flow * 2 + table.side);
    if (slot >= 0 && table.openings.have(slot) > 3000) table.finishOpening(flow, table.side);
  }
});

/**
 * Flows whose opening was read, and that go on: the line's part of a long connection. Its times are
 * small integers, since a caller that hands over a double makes it on the heap (16 bytes a packet).
 */
const line = new Line(
  {
    ...{ table: FLOW_TABLE_DEFAULTS, revisions: true, reportIntervalMs: 1e9 },
    sample: new Sample(1 - 1e-6, [1, 2]), // draws, and takes them all
  },
  () => {},
);
const round = FLOWS + 2 + WRAPPED.length;
for (let i = 0; i < 16 * round; i++) frameAt(line, view, starts[i]!, starts[i + 1]!, 0, i, 1, 0);
let next = 8 * round;
let lineUs = 0;
const wholeLine = collections(() => {
  frameAt(line, view, starts[next]!, starts[next + 1]!, 0, lineUs++, 1, 0);
  if (++next === 16 * round) next = 8 * round;
});

/** Datagrams in two fragments, of a flow whose opening is read; identifications go round. */
const datagram = udp(latin1("not a name".repeat(20)));
const halves = Array.from({ length: 64 }, (_, id) =>
  [0, 1].map((half) => {
    const fragment = half === 0 ? 0x2000 : 8;
    const part = datagram.subarray(half * 64, half === 0 ? 64 : datagram.length);
    const bytes = ethernet(ipv4({ protocol: 17, fragment }, part));
    new DataView(bytes.buffer).setUint16(18, id);
    return new DataView(bytes.buffer);
  }),
).flat();
let half = 0;
const fragments = collections(() => {
  const bytes = halves[half]!;
  frameAt(line, bytes, 0, bytes.byteLength, 0, lineUs++, 1, 0);
  if (++half === halves.length) half = 0;
});

/** The gauge itself: a short text a packet must be seen (V8 never makes texts old at once). */
const kept = { text: "" };
const planted = collections((at) => void (kept.text = `at ${at}`));

const counts = { decodeAndFlow, wholeLine, fragments, planted, reused, flows: table.count };
console.log(JSON.stringify(counts));
