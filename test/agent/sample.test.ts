/** Tests the sample of flows: its hash against another's, evenness, and what goes with its flow. */
import t from "tap";
import { readAgentConfig } from "../../agent/config.ts";
import { decodeFrame } from "../../agent/decode/ethernet.ts";
import { Packet, Stop } from "../../agent/decode/packet.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Sample, hashWords } from "../../agent/flow/sample.ts";
import { Line } from "../../agent/line.ts";
import { Sightings } from "../../agent/sightings.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import type { Observation } from "../../protocol/observation.ts";
import {
  SYN,
  address,
  ethernet,
  hex,
  ipv4,
  ipv6,
  join,
  random,
  tcp,
  udp,
  viewOf,
  frameAt,
} from "../frames.ts";

type Ends = readonly [source: string, from: number, destination: string, to: number, proto: number];

/** First words of SHA-256 of `wireproof`, as `sha256sum` prints it. */
const KEY = [0x6cb8a871, 0x541e5eb4] as const;

function packetOf([source, from, destination, to, protocol]: Ends): Packet {
  const packet = new Packet();
  const words = (text: string) => {
    const bytes = text.includes(":") ? address(text) : [...hex("00000000000000000000ffff"), ...address(text)]; // prettier-ignore
    const view = viewOf(Uint8Array.from(bytes));
    return [0, 4, 8, 12].map((at) => view.getInt32(at));
  };
  const [s, d] = [words(source), words(destination)];
  [packet.source0, packet.source1, packet.source2, packet.source3] = s as [number, number, number, number]; // prettier-ignore
  [packet.destination0, packet.destination1, packet.destination2, packet.destination3] = d as [number, number, number, number]; // prettier-ignore
  return Object.assign(packet, { sourcePort: from, destinationPort: to, protocol });
}

t.test("the hash is MurmurHash3_x86_32, and the draw is as documented", async (t) => {
  // Test vectors of smhasher's own, and of others that have them: no bytes, and four.
  const vectors: readonly (readonly [seed: number, words: readonly number[], hash: number])[] = [
    [0, [], 0],
    [1, [], 0x514e28b7],
    [0xffffffff, [], 0x81f16f39],
    [0, [0xffffffff], 0x76293b50],
    [0, [0x87654321], 0xf55b516b],
    [0x5082edee, [0x87654321], 0x2362f9de],
    [0, [0], 0x2362f9de],
    [0, [0x74736574], 0xba6bd213], // "test"
  ];
  for (const [seed, words, hash] of vectors) t.equal(hashWords(seed | 0, words) >>> 0, hash >>> 0);
  // Python's mmh3 5, over struct.pack("<5I", …) and struct.pack("<2I", …).
  const drawn: readonly (readonly [...Ends, number])[] = [
    ["10.0.0.1", 40000, "10.0.0.2", 443, 6, 0xcd85af3e],
    ["10.0.0.1", 40000, "10.0.0.2", 443, 17, 0xefb089bb],
    ["192.168.1.77", 51234, "10.96.0.1", 53, 17, 0x9f291be5],
    ["fd00::1", 40000, "fd00::2", 443, 6, 0x5146d8e7],
    ["2001:db8:1:2:3:4:5:6", 1, "2001:db8::ffff", 65535, 6, 0x2c5141ba],
    ["10.0.0.1", 0, "10.0.0.2", 0, 50, 0xee01af80],
  ];
  for (const [source, from, destination, to, proto, wanted] of drawn) {
    const there = packetOf([source, from, destination, to, proto]);
    const back = packetOf([destination, to, source, from, proto]);
    // It is told by the smallest rate that takes it, to a part in 2^32.
    const taken = (packet: Packet, limit: number) => !new Sample(limit / 2 ** 32, KEY).leavesOut(packet); // prettier-ignore
    for (const packet of [there, back]) {
      t.notOk(taken(packet, wanted), `${source} ${destination} ${proto}`);
      t.ok(taken(packet, wanted + 1));
    }
  }
});

t.test("both directions of any flow are taken alike, whatever the rate", async (t) => {
  const below = random(5);
  let taken = 0;
  for (let round = 0; round < 20_000; round++) {
    const sample = new Sample((1 + below(99)) / 100, [below(2 ** 32) | 0, below(2 ** 32) | 0]);
    const there = new Packet();
    const back = new Packet();
    for (const word of [0, 1, 2, 3] as const) {
      const [one, other] = [below(2 ** 32) | 0, below(2 ** 32) | 0];
      there[`source${word}`] = back[`destination${word}`] = one;
      there[`destination${word}`] = back[`source${word}`] = other;
    }
    there.sourcePort = back.destinationPort = below(65536);
    there.destinationPort = back.sourcePort = below(65536);
    there.protocol = back.protocol = below(256);
    const [isThere, isBack] = [there, back].map((packet) => sample.leavesOut(packet));
    if (isThere !== isBack) t.fail(`round ${round}`);
    if (!isThere) taken++;
  }
  t.ok(taken > 9_000 && taken < 11_000, `${taken} of 20000`);
});

const FLOWS = 100_000;
/** Flows one after the other, as clients, pods and scanners make them. */
const SERIES: Readonly<Record<string, (i: number, packet: Packet) => void>> = {
  "a client's ports": (i, p) => Object.assign(p, { source3: i >> 16, sourcePort: i & 0xffff }),
  "both ports": (i, p) => Object.assign(p, { sourcePort: i & 0x1ff, destinationPort: i >> 9 }),
  "addresses of one network": (i, p) => Object.assign(p, { source3: (10 << 24) | i }),
  "both addresses, alike": (i, p) => Object.assign(p, { source3: i, destination3: i + 1 }),
  "upper words of IPv6": (i, p) => Object.assign(p, { source0: i, source2: 0 }),
  "every eighth port and address": (i, p) =>
    Object.assign(p, { source3: (i >> 13) << 3, sourcePort: (i & 0x1fff) << 3 }),
};

t.test("flows in sequence are drawn evenly, and another key draws others", async (t) => {
  const BUCKETS = 128;
  for (const [name, change] of Object.entries(SERIES)) {
    const packet = packetOf(["10.1.2.3", 40000, "10.3.2.1", 443, 6]);
    const samples = Array.from({ length: BUCKETS }, (_, i) => new Sample((i + 1) / BUCKETS, KEY));
    const other = new Sample(1 / 2, [KEY[0] + 1, KEY[1]]);
    const counts = new Uint32Array(BUCKETS);
    let both = 0;
    for (let i = 0; i < FLOWS; i++) {
      change(i, packet);
      // The bucket is the smallest of the rates that takes it.
      let [low, high] = [0, BUCKETS - 1];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (samples[middle]!.leavesOut(packet)) low = middle + 1;
        else high = middle;
      }
      counts[low]!++;
      if (low < BUCKETS / 2 && !other.leavesOut(packet)) both++;
    }
    const expected = FLOWS / BUCKETS;
    const chiSquare = counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    // 127 degrees of freedom: between these with all but one in some ten thousand.
    t.ok(chiSquare > 74 && chiSquare < 196, `${name}: chi-square ${chiSquare.toFixed(0)}`);
    const deviation = Math.sqrt((FLOWS * 3) / 16);
    t.ok(Math.abs(both - FLOWS / 4) < 4 * deviation, `${name}: by both keys ${both}`);
  }
});

/** A line that reads a sample, and what it tells. */
function sampled(rate: number) {
  const records: Flow[] = [];
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 4096, slots: 16 };
  const sample = new Sample(rate, KEY);
  const options = { table, revisions: false, reportIntervalMs: 1e9, sample };
  const line = new Line(options, (record) => records.push(record));
  let sent = 0;
  const send = (frame: Uint8Array) => {
    sent++;
    frameAt(line, viewOf(frame), 0, frame.length, frame.length, 1e6 + sent, 1, 0);
  };
  return { line, records, send, sent: () => sent };
}

t.test("all of a flow is taken or none, and what is not is counted", async (t) => {
  const { line, records, send, sent } = sampled(0.5);
  let unreachable = 0;
  for (let i = 0; i < 400; i++) {
    const from = 10_000 + i;
    const [source, destination] = ["10.0.0.1", "10.0.0.2"];
    // A refused attempt, by an ICMP error that another node sends; and a datagram in two parts.
    const attempt = ipv4({ source, destination }, tcp({ from, flags: SYN }));
    send(ethernet(attempt));
    const error = join([3, 13, 0, 0, 0, 0, 0, 0], attempt.subarray(0, 28));
    send(ethernet(ipv4({ protocol: 1, source: "10.9.9.9", destination: source }, error)));
    const datagram = udp(new Uint8Array(64).fill(1), { from });
    const parts = [datagram.subarray(0, 40), datagram.subarray(40)];
    // The later part comes first: by itself it tells no ports.
    for (const part of [1, 0]) {
      const fragment = part === 0 ? 0x2000 : 5;
      const packet = ipv4({ protocol: 17, fragment }, parts[part]!);
      viewOf(packet).setUint16(4, i);
      send(ethernet(packet));
    }
    const answer = { source: destination, destination: source, protocol: 17 };
    send(ethernet(ipv4(answer, udp(new Uint8Array(8), { from: 53, to: from }))));
    const v6 = { source: "fd00::1", destination: "fd00::2" };
    send(ethernet(ipv6(v6, tcp({ from })), 0x86dd));
    send(
      ethernet(
        ipv6({ source: v6.destination, destination: v6.source }, tcp({ from: 443, to: from })),
        0x86dd,
      ),
    );
    unreachable++;
  }
  line.finish();
  t.ok(records.length > 450 && records.length < 750, `${records.length} of 1200 flows`);
  for (const { proto, src_ip: source, packets, state } of records) {
    if (proto === "udp") t.strictSame(packets, [2, 1], "both fragments, and the answer");
    else if (source.includes(":")) t.strictSame(packets, [1, 1]);
    else t.equal(state, "refused", "the error goes with what it quotes");
  }
  const { fragment, notSampled, ...others } = line.counters.stoppedByName();
  t.strictSame(others, {});
  t.equal(fragment, 400);
  // Delivered = packets + Σ stopped.
  t.equal(line.counters.frames, sent());
  t.equal(line.counters.stopped[Stop.none]! + notSampled! + fragment!, sent());
  t.equal(unreachable, 400);
});

t.test("a datagram that is never whole goes with its flow, too", async (t) => {
  const packet = new Packet();
  const first = ethernet(ipv4({ protocol: 17, fragment: 0x2000 }, udp(new Uint8Array(32))));
  t.equal(decodeFrame(viewOf(first), 0, first.length, 1, packet), Stop.none);
  for (const rate of [0.0001, 0.9999]) {
    const { line, records, send } = sampled(rate);
    const isTaken = !new Sample(rate, KEY).leavesOut(packet);
    send(first);
    line.finish();
    t.equal(isTaken, rate > 0.5, "so that both are met");
    t.equal(records.length, isTaken ? 1 : 0);
  }
});

t.test("the rate stands in each observation and coverage", async (t) => {
  const observations: Observation[] = [];
  const sightings = new Sightings("run", (o) => observations.push(o), { sampling: 0.25 });
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 64, slots: 16 };
  const sample = new Sample(0.25, KEY);
  const line: Line = new Line(
    { table, revisions: true, reportIntervalMs: 1e9, sample },
    (record, flow, final) => sightings.tell(line, record, flow, final),
  );
  const counters = { delivered: 0, dropped: 0, cutOff: 0 };
  const watch = {
    name: "veth1",
    kind: "pod" as const,
    lane: 0,
    index: 1,
    addresses: [],
    ...counters,
  };
  sightings.know(watch, 0);
  for (let from = 1; from <= 40; from++) {
    const frame = ethernet(ipv4({}, tcp({ from, flags: SYN })));
    watch.delivered++;
    frameAt(line, viewOf(frame), 0, frame.length, frame.length, 1e6, 1, 0);
  }
  line.finish();
  t.ok(observations.length > 0 && observations.length < 40);
  t.ok(observations.every((o) => o.sampling === 0.25));
  const { sampling, delivered, packets, stopped } = sightings.coverage(watch, line, "ring", 2000);
  t.strictSame({ sampling, delivered }, { sampling: 0.25, delivered: 40 });
  t.strictSame(stopped, { notSampled: 40 - packets });
  t.equal(packets, observations.length);
  t.equal(sightings.lostOnAny(3, "ring", 2000)!.sampling, 0.25);
});

t.test("--sampling and --sampling-key, and the mistakes with them", async (t) => {
  const flags = { collector: "wss://c", key: "k", cert: "c", ca: "a" };
  const sampleOf = (more: Record<string, string>) => readAgentConfig({ ...flags, ...more }).sample;
  t.equal(sampleOf({}), null);
  t.equal(sampleOf({ sampling: "1" }), null);
  t.equal(sampleOf({ sampling: "1/1" }), null);
  t.equal(sampleOf({ sampling: "1/10" })!.rate, 0.1);
  t.equal(sampleOf({ sampling: "0.1" })!.rate, 0.1);
  const packet = packetOf(["10.0.0.1", 40000, "10.0.0.2", 443, 6]);
  const smallest = String((0xcd85af3e + 1) / 2 ** 32);
  t.notOk(sampleOf({ sampling: smallest })!.leavesOut(packet), "the default key");
  const keys = Array.from({ length: 64 }, (_, i) => String(i));
  const taken = keys.filter((key) => {
    return !sampleOf({ sampling: "0.5", samplingKey: key })!.leavesOut(packet);
  });
  t.ok(taken.length > 16 && taken.length < 48, `by ${taken.length} of 64 keys`);
  for (const sampling of ["0", "1.5", "1/0", "2/3", "-1", "1/2.5", "ten", "0.0000001", "."]) {
    t.throws(() => sampleOf({ sampling }), { code: "CONFIG_SAMPLING" }, sampling);
  }
});
