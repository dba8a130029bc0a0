/**
 * Checks fragments: datagrams put together in any order, against what was cut; overlaps; what never
 * becomes whole; storms. Every frame and every flow is counted.
 */
import t from "tap";
import { FRAGMENT_SLOTS } from "../../agent/decode/fragments.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { ACK, SYN, ethernet, ipv4, ipv6, join, latin1, random, tcp, u16, u32 } from "../frames.ts";
import { frameAt, udp, viewOf } from "../frames.ts";

const SEED = 20261122;
type Sent = { bytes: Uint8Array; timeUs?: number; lane?: number };

/** The flows of these frames, and the line that read them. */
function run(frames: readonly Sent[]): { flows: Flow[]; line: Line } {
  const flows: Flow[] = [];
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 256, slots: 64 };
  const line = new Line({ table, revisions: false, reportIntervalMs: 1e9 }, (f) => flows.push(f));
  let timeUs = 1e12;
  for (const { bytes, lane = 0, ...more } of frames) {
    timeUs = more.timeUs ?? timeUs + 1000;
    frameAt(line, viewOf(bytes), 0, bytes.length, bytes.length, timeUs, 1, lane);
  }
  line.finish();
  const { counters } = line;
  if (counters.frames !== frames.length) throw new Error("a frame was not counted");
  return { flows, line };
}

type Cut = { offset: number; payload: Uint8Array; more: boolean };

/** Cuts a payload at these places, which are words of eight bytes. */
function cut(payload: Uint8Array, places: readonly number[]): Cut[] {
  const ends = [...places.map((p) => p * 8).filter((p) => p > 0 && p < payload.length)];
  ends.push(payload.length);
  return ends.map((end, i) => {
    const offset = i === 0 ? 0 : ends[i - 1]!;
    return { offset, payload: payload.subarray(offset, end), more: end < payload.length };
  });
}

function inIpv4({ offset, payload, more }: Cut, id = 1, protocol = 17): Sent {
  const packet = ipv4({ protocol, fragment: (more ? 0x2000 : 0) | (offset >> 3) }, payload);
  viewOf(packet).setUint16(4, id);
  return { bytes: ethernet(packet) };
}

function inIpv6({ offset, payload, more }: Cut, id = 1, next = 17): Sent {
  const header = join([next, 0], u16(offset | (more ? 1 : 0)), u32(id));
  return { bytes: ethernet(ipv6({ next: 44 }, join(header, payload)), 0x86dd) };
}

const QUESTION = join(u16(7), u16(0x0100), u16(1), u16(0), u16(0), u16(0));
/** A DNS question whose name fills two fragments: only the whole of it is one. */
const LABEL = join([63], new Uint8Array(63).fill(0x61));
const DNS = udp(join(QUESTION, LABEL, LABEL, LABEL, [0, 0, 1, 0, 1]));

for (const [name, wrap, header] of [
  ["IPv4", inIpv4, 20],
  ["IPv6", inIpv6, 48],
] as const) {
  t.test(`${name}: in any order, whole is whole, and all is counted`, async (t) => {
    for (let round = 0; round < 200; round++) {
      const below = random(SEED + round);
      const places = [...new Set(Array.from({ length: 1 + below(5) }, () => 1 + below(26)))];
      const parts = cut(
        DNS,
        places.sort((a, b) => a - b),
      );
      const bytes = DNS.length + parts.length * header;
      const frames = parts.map((part) => wrap(part));
      for (let i = frames.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [frames[i], frames[j]] = [frames[j]!, frames[i]!];
      }
      const { flows, line } = run(frames);
      const [flow] = flows;
      const isRight =
        flows.length === 1 && flow?.protocol === "dns" && flow.packets[0] === parts.length;
      const isCounted = flow?.bytes[0] === bytes && line.fragments.inUse === 0;
      if (!isRight || !isCounted) return t.fail(`seed ${SEED + round}`);
    }
  });

  t.test(`${name}: a beginning alone names its flow, an end alone names none`, async (t) => {
    const [first, second] = cut(DNS, [8]);
    const begun = run([wrap(first!)]);
    t.match(begun.flows, [{ proto: "udp", dst_port: 53, packets: [1, 0], protocol: null }]);
    t.equal(begun.flows[0]!.bytes[0], header + 64);
    const ended = run([wrap(second!)]);
    t.equal(ended.flows.length, 0);
    t.equal(ended.line.fragments.lost, 1);
    const apart = run([wrap(first!, 1), wrap(second!, 2)]);
    t.match(apart.flows, [{ packets: [1, 0] }], "another identification is another datagram");
    t.equal(apart.line.fragments.lost, 1);
  });

  t.test(`${name}: after 30 s of capture it is given up, and its flow counts it`, async (t) => {
    const [first, second] = cut(DNS, [8]);
    const late = { ...wrap(second!), timeUs: 1e12 + 31e6 };
    const { flows, line } = run([{ ...wrap(first!), timeUs: 1e12 }, late]);
    t.match(flows, [{ protocol: null, packets: [1, 0] }]);
    t.equal(line.fragments.lost, 1);
  });

  t.test(`${name}: two interfaces put theirs together apart`, async (t) => {
    const [first, second] = cut(DNS, [8]).map((part) => wrap(part));
    const seen = [0, 1].map((lane) => ({ ...first!, lane }));
    const { flows } = run([...seen, ...[0, 1].map((lane) => ({ ...second!, lane }))]);
    t.match(flows, [
      { protocol: "dns", packets: [2, 0] },
      { protocol: "dns", packets: [2, 0] },
    ]);
  });
}

t.test("overlaps: IPv4 takes what came first and notes it, IPv6 drops the datagram", async (t) => {
  const parts = cut(DNS, [8]);
  const other = DNS.slice();
  other[70]! ^= 1;
  const [, otherSecond] = cut(other, [8]);
  const wide = { offset: 32, payload: DNS.subarray(32, 64), more: true };
  const twice4 = run([inIpv4(parts[0]!), inIpv4(wide), inIpv4(parts[1]!)]);
  t.match(twice4.flows, [{ protocol: "dns", packets: [3, 0], findings: [] }], "agreeing bytes");
  const [end] = [{ offset: 64, payload: DNS.subarray(64, 128), more: true }];
  const differs4 = run([inIpv4(otherSecond!), inIpv4(end!), inIpv4(parts[0]!)]);
  t.match(differs4.flows[0], { packets: [3, 0], notes: ["overlap-disagrees"] });
  t.strictSame(differs4.flows[0]!.findings, ["overlap-disagrees"]);
  t.equal(differs4.line.fragments.disagreed, 1);
  const again6 = run([inIpv6(parts[0]!), inIpv6(parts[0]!), inIpv6(parts[1]!)]);
  t.match(again6.flows, [{ protocol: "dns", packets: [3, 0] }], "RFC 8200: an exact repetition");
  const spoilt = { offset: 56, payload: DNS.subarray(56, 128), more: true };
  const overlap6 = run([inIpv6(parts[0]!), inIpv6(spoilt), inIpv6(parts[1]!)]);
  t.match(overlap6.flows, [{ protocol: null, encryption: "none", packets: [3, 0] }], "RFC 5722");
});

t.test("a first fragment, a tiny one, teardrop, ping of death, ends that differ", async (t) => {
  const segment = tcp({ flags: SYN, to: 80 });
  const tiny = run([
    inIpv4({ offset: 0, payload: segment.subarray(0, 8), more: true }, 1, 6),
    inIpv4({ offset: 8, payload: segment.subarray(8), more: false }, 1, 6),
  ]);
  t.match(tiny.flows, [{ proto: "tcp", dst_port: 80, packets: [2, 0], state: "attempted" }]);
  const data = join(tcp({ to: 80, flags: ACK }, latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n")));
  const inTwo = cut(data, [4]).map((part) => inIpv4(part, 1, 6));
  t.match(run(inTwo).flows, [{ protocol: "http" }]);
  const teardrop = [
    { offset: 0, payload: new Uint8Array(36), more: true },
    { offset: 24, payload: new Uint8Array(4), more: false },
  ];
  t.equal(run(teardrop.map((part) => inIpv4(part))).line.counters.stopped[2], 1, "not words of 8");
  const beyond = { offset: 65528, payload: new Uint8Array(64), more: false };
  t.equal(run([inIpv4(beyond)]).line.counters.stopped[2], 1);
  const ends = [80, 160].map((offset) => ({ offset, payload: new Uint8Array(8), more: false }));
  t.equal(run(ends.map((part) => inIpv4(part))).line.fragments.disagreed, 1);
});

t.test("a storm of beginnings: slots are bounded, the oldest go first, none is lost", async (t) => {
  const [first] = cut(DNS, [8]);
  const frames = Array.from({ length: 1000 }, (_, id) => inIpv4(first!, id));
  const { flows, line } = run(frames);
  t.match(flows, [{ packets: [1000, 0] }]);
  t.equal(line.fragments.lost, 0);
  t.ok(FRAGMENT_SLOTS <= 64);
});

t.test("fragments inside a tunnel, and a tunnel inside fragments", async (t) => {
  const inner = cut(DNS, [8]).map((part) => inIpv4(part).bytes.subarray(14));
  const tunneled = inner.map((packet) => ({ bytes: ethernet(ipv4({ protocol: 4 }, packet)) }));
  t.match(run(tunneled).flows, [{ protocol: "dns", packets: [2, 0], encap: ["ipip"] }]);
  const outer = cut(ipv4({ protocol: 17 }, DNS), [4, 9]).map((part) => inIpv4(part, 9, 4));
  t.match(run(outer).flows, [{ protocol: "dns", packets: [1, 0], encap: ["ipip"] }]);
  const both = [3, 5].flatMap((id, i) => cut(inner[i]!, [4]).map((part) => inIpv4(part, id, 4)));
  t.match(run(both).flows, [{ protocol: "dns", packets: [2, 0], encap: ["ipip"] }]);
});

t.test("mutated fragments: no throw, every frame counted", async (t) => {
  const below = random(SEED);
  for (let round = 0; round < 300; round++) {
    const frames = [inIpv4, inIpv6].flatMap((wrap) => cut(DNS, [3, 9, 20]).map((p) => wrap(p)));
    for (const { bytes } of frames) {
      for (let n = below(3); n > 0; n--) bytes[14 + below(44)] = below(256);
    }
    const { line } = run([...frames, ...frames]);
    if (line.fragments.inUse !== 0) t.fail(`round ${round}`);
  }
  t.pass();
});
