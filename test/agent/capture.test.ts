/** Tests live capture, each tier by itself, in network namespaces; and the ring's reader by bytes. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { BpfMap, MapRemoval } from "../../agent/capture/bpf-map.ts";
import { FlowCutoff } from "../../agent/capture/flow-cutoff.ts";
import { SystemCalls } from "../../agent/capture/system-calls.ts";
import { Alu, BpfAssembler, Jump, Size } from "../../agent/capture/bpf-assembler.ts";
import { Direction } from "../../agent/capture/frame-source.ts";
import type { PassedOver, Watch } from "../../agent/capture/frame-source.ts";
import { interfaceFilter } from "../../agent/capture/interface-filter.ts";
import { RingReader } from "../../agent/capture/ring-reader.ts";
import { Line } from "../../agent/line.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Sightings } from "../../agent/sightings.ts";
import { keptBack } from "./mixed.ts";
import { frameAt, ACK, SYN, ethernet, hex, ipv4, tcp, udp, viewOf } from "../frames.ts";
import { makePairs, whyNotLive } from "../live.ts";

t.setTimeout(200_000);

// ---- the ring's memory, as the kernel lays it out ---------------------------------------------

const BLOCK = 4096;

type Laid = {
  bytes: Uint8Array;
  index?: number;
  hardware?: number;
  type?: number;
  wire?: number;
  vlan?: [tci: number, protocol: number | null];
};

/** Writes frames into the block at `at` as `struct tpacket3_hdr` and what follows has them. */
function layBlock(ring: ArrayBuffer, at: number, frames: readonly Laid[]): DataView {
  const view = new DataView(ring);
  let frame = at + 48;
  view.setUint32(at + 8, 1, true);
  view.setUint32(at + 12, frames.length, true);
  view.setUint32(at + 16, 48, true);
  for (const { bytes, index = 7, hardware = 1, type = 0, wire, vlan } of frames) {
    const mac = 86;
    const length = (mac + bytes.length + 15) & ~15;
    view.setUint32(frame, length, true);
    view.setUint32(frame + 4, 1_795_000_000, true);
    view.setUint32(frame + 8, 123_456_789, true);
    view.setUint32(frame + 12, bytes.length, true);
    view.setUint32(frame + 16, wire ?? bytes.length, true);
    view.setUint32(frame + 20, vlan ? (vlan[1] === null ? 16 : 16 | 64) : 0, true);
    view.setUint16(frame + 24, mac, true);
    view.setUint32(frame + 32, vlan?.[0] ?? 0, true);
    view.setUint16(frame + 36, vlan?.[1] ?? 0, true);
    view.setInt32(frame + 52, index, true);
    view.setUint16(frame + 56, hardware, true);
    view.setUint8(frame + 58, type);
    new Uint8Array(ring, frame + mac).set(bytes);
    frame += length;
  }
  return view;
}

const watch = (index: number, lane: number): Watch => ({
  ...{ index, lane, name: `i${index}`, kind: "pod", addresses: [] },
  ...{ delivered: 0, dropped: 0, cutOff: 0 },
});

/** What a reader hands over of the ring, a line a frame. */
function readerOf(ring: ArrayBuffer, ...watches: readonly Watch[]) {
  const told: string[] = [];
  const map = new Map(watches.map((w) => [w.index, w]));
  const clock = new Float64Array(1);
  const reader = new RingReader(
    new DataView(ring),
    BLOCK,
    map,
    clock,
    (view, at, end, wire, link, lane, way) => {
      const bytes = Buffer.from(view.buffer, at, end - at).toString("hex");
      told.push([bytes, wire, clock[0], link, lane, way].join(" "));
    },
  );
  return { reader, told };
}

const FRAME = hex("020000000002 020000000001 0800 4500");

t.test("frames are handed over where they lie: time, length, lane, direction", async (t) => {
  const ring = new ArrayBuffer(BLOCK * 2);
  const seven = watch(7, 3);
  const { reader, told } = readerOf(ring, seven, watch(8, 4));
  t.ok(reader.read(), "nothing is ready");
  t.strictSame(told, []);
  layBlock(ring, 0, [
    { bytes: FRAME, wire: 1500 },
    { bytes: FRAME, index: 8, type: 4 },
    { bytes: FRAME, index: 9 }, // not under watch
    { bytes: FRAME, hardware: 772, type: 4 }, // a loopback's copy of what comes in again
    { bytes: FRAME, hardware: 772 },
    { bytes: FRAME.subarray(14), hardware: 65534 },
    { bytes: FRAME, hardware: 32 },
  ]);
  t.ok(reader.read());
  const whole = Buffer.from(FRAME).toString("hex");
  const time = 1_795_000_000_123_456;
  t.strictSame(told, [
    `${whole} 1500 ${time} 1 3 ${Direction.inbound}`,
    `${whole} 16 ${time} 1 4 ${Direction.outbound}`,
    `${whole} 16 ${time} 1 3 ${Direction.inbound}`,
    `${whole.slice(28)} 2 ${time} 101 3 ${Direction.inbound}`,
    `${whole} 16 ${time} -1 3 ${Direction.inbound}`,
  ]);
  t.equal(seven.delivered, 4);
  t.equal(new DataView(ring).getUint32(8, true), 0, "the block is the kernel's again");
  layBlock(ring, BLOCK, [{ bytes: FRAME }]);
  layBlock(ring, 0, [{ bytes: FRAME }]);
  t.ok(reader.read());
  t.equal(told.length, 7, "the ring goes round");
});

t.test("a VLAN tag that the kernel took out is put back", async (t) => {
  const ring = new ArrayBuffer(BLOCK * 2);
  const { reader, told } = readerOf(ring, watch(7, 0));
  layBlock(ring, 0, [
    { bytes: FRAME, vlan: [0x0007, 0x8100] },
    { bytes: FRAME, vlan: [0x2009, 0x88a8] },
    { bytes: FRAME, vlan: [0x0005, null] }, // kernels before 3.14 do not tell its protocol
  ]);
  reader.read();
  t.strictSame(
    told.map((line) => line.split(" ").slice(0, 2).join(" ")),
    [
      "02000000000202000000000181000007 08004500 20",
      "020000000002020000000001 88a82009 08004500 20",
      "02000000000202000000000181000005 08004500 20",
    ].map((line) => line.replace(/ (?=\w{8})/g, "")),
  );
});

t.test("a block that contradicts itself is never read past its end", async (t) => {
  const spoil: readonly [string, (view: DataView) => void][] = [
    ["more frames than there are", (view) => view.setUint32(12, 0xffffffff, true)],
    ["a first frame behind the block", (view) => view.setUint32(16, BLOCK, true)],
    ["a first frame far away", (view) => view.setUint32(16, 0xfffffff0, true)],
    ["a next frame behind the block", (view) => view.setUint32(48, BLOCK, true)],
    ["a next frame that is this one", (view) => view.setUint32(48, 0, true)],
    ["captured bytes behind the block", (view) => view.setUint32(48 + 12, BLOCK, true)],
    ["a frame's bytes behind the block", (view) => view.setUint16(48 + 24, 0xffff, true)],
  ];
  for (const [what, change] of spoil) {
    const ring = new ArrayBuffer(BLOCK);
    const { reader } = readerOf(ring, watch(7, 0));
    change(layBlock(ring, 0, [{ bytes: FRAME }, { bytes: FRAME }]));
    t.equal(reader.read(), false, what);
  }
});

t.test("the interface filter names each interface, as far as a program may be long", async (t) => {
  const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex").match(/.{16}/g);
  // ld [ifindex] | jeq #3 | ret #17000 | jeq #260 | ret #17000 | ret #0 (linux/filter.h)
  t.strictSame(hexOf(interfaceFilter([3, 260], 17_000)), [
    "2000000008f0ffff",
    "1500000103000000",
    "0600000068420000",
    "1500000104010000",
    "0600000068420000",
    "0600000000000000",
  ]);
  t.strictSame(hexOf(interfaceFilter([], 1)), ["2000000008f0ffff", "0600000000000000"]);
  const many = Array.from({ length: 3000 }, (_, i) => i + 1);
  t.strictSame(hexOf(interfaceFilter(many, 17_000)), ["0600000068420000"]);
  t.equal(interfaceFilter(many.slice(0, 2047), 1).length, 4096 * 8, "BPF_MAXINSNS");
});

t.test(
  "coverage tells what was lost on any interface, and where a broken watch ends",
  async (t) => {
    const line = new Line(
      { table: { ...FLOW_TABLE_DEFAULTS, flows: 8 }, revisions: true, reportIntervalMs: 1e9 },
      () => {},
    );
    const frame = ethernet(ipv4({}, tcp({})));
    frameAt(line, new DataView(frame.buffer), 0, frame.length, frame.length, 1, 1, 0);
    const sightings = new Sightings("run", () => {});
    const seven = { ...watch(7, 0), delivered: 5, cutOff: 3 };
    sightings.know(seven, 1000);
    t.match(sightings.coverage(seven, line, "ring", 3000), {
      from_ms: 1000,
      to_ms: 3000,
      cut_off: 3,
    });
    t.equal(sightings.lostOnAny(0, "ring", 3000), null);
    t.match(sightings.lostOnAny(7, "ring", 4000), {
      ...{ interface: "*", addresses: [], from_ms: 3000, to_ms: 4000, dropped: 7, delivered: 0 },
    });
    t.equal(sightings.lostOnAny(7, "ring", 5000), null, "told once");
    const broken = { ...seven, delivered: 6, cutOff: 4, untilMs: 4500 };
    t.match(sightings.coverage(broken, line, "ring", 6000), {
      ...{ from_ms: 3000, to_ms: 4500, delivered: 1, cut_off: 1 },
    });
  },
);

// ---- what the source counts and does not hand over ------------------------------------------------

/** Counts of one flow, as a source has them. */
class Counted implements PassedOver {
  readonly budgetBytes = 1000;
  lostUs = 0;
  readonly packets = new Float64Array(2);
  readonly bytes = new Float64Array(2);
  readonly marked = new Float64Array(2);
  readonly markedBytes = new Float64Array(2);
  reads = 0;
  forgotten = 0;
  isKnown = true;
  swept: boolean[] = [];

  read(): boolean {
    this.reads++;
    return this.isKnown;
  }
  /** By flow that was forgotten: nothing of it was passed over. */
  whole: boolean[] = [];

  begin(): void {}
  forget(_keys: Int32Array, _k: number, isWhole: boolean): void {
    this.forgotten++;
    this.whole.push(isWhole);
    for (const all of [this.packets, this.bytes, this.marked, this.markedBytes]) all.fill(0);
  }
  ask(): boolean {
    return false;
  }
  withdraw(): void {
    this.forgotten += 0;
  }
  sweep(isFlow: (keys: Int32Array) => boolean): void {
    const [low, high] = [(10 << 24) | 1, (10 << 24) | 2];
    const ports = (40_000 << 16) | 53;
    for (const lane of [0, 1]) {
      const keys = Int32Array.of(0, 0, 0xffff, low, 0, 0, 0xffff, high, ports, 17 | (lane << 8));
      this.swept.push(isFlow(keys));
    }
  }
  more(packets: number, bytes: number): void {
    this.packets[0]! += packets;
    this.bytes[0]! += bytes;
  }
}

function countedLine() {
  const told: [packets: number, bytes: number, final: boolean][] = [];
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 8, slots: 2 };
  const line = new Line({ table, revisions: true, reportIntervalMs: 1000 }, (record, _, final) => {
    // 10.0.0.1 is the low end.
    const low = record.src_ip === "10.0.0.1" ? 0 : 1;
    told.push([record.packets[low]!, record.bytes[low]!, final]);
  });
  const counted = new Counted();
  line.countPassedOver(counted);
  const send = (segment: Uint8Array, protocol: number, timeMs: number) => {
    const frame = ethernet(ipv4({ protocol }, segment));
    frameAt(line, viewOf(frame), 0, frame.length, frame.length, timeMs * 1000, 1, 0);
  };
  return { line, counted, told, send };
}

t.test("a flow of which only its source sees packets is told, and does not end", async (t) => {
  const { line, counted, told, send } = countedLine();
  send(udp(new Uint8Array(500)), 17, 1000);
  line.report(1);
  t.equal(counted.reads, 0, "below the budget nothing can have been kept back");
  send(udp(new Uint8Array(500)), 17, 1100);
  told.length = 0;
  for (let second = 2; second < 200; second += 30) {
    counted.more(10, 5280);
    line.advance(second * 1e6);
    line.report(1);
    line.sweep();
  }
  t.strictSame(told.map((row) => row[2]), new Array(7).fill(false)); // prettier-ignore
  t.strictSame(told.at(-1), [2 + 70, 2 * 528 + 7 * 5280, false]);
  t.strictSame(counted.swept.slice(0, 2), [true, false], "it is known, on its own interface");
  line.advance(182e6 + 61e6);
  t.strictSame(told.at(-1), [72, 38016, true], "a minute behind the last of them it ends");
  t.equal(counted.forgotten, 1);
});

t.test("a flow ends only when its source has nothing new of it either", async (t) => {
  const { line, counted, told, send } = countedLine();
  send(udp(new Uint8Array(1200)), 17, 1000);
  counted.more(5, 500);
  line.advance(100e6); // nobody asked in between
  t.equal(line.table.count, 1);
  line.advance(170e6);
  t.equal(line.table.count, 0);
  t.strictSame(told.at(-1), [6, 1728, true]);
});

t.test("a flow begins from nothing, wherever it is kept", async (t) => {
  const { line, counted, told, send } = countedLine();
  for (const [from, bytes] of [
    [1, 500],
    [2, 900],
  ] as const) {
    send(udp(new Uint8Array(1200), { from }), 17, from * 1000);
    counted.more(5, bytes);
    line.finish();
    t.strictSame(told.at(-1), [1 + 5, 1228 + bytes, true]);
  }
});

t.test("what was kept back before a new connection is the old one's", async (t) => {
  const { line, counted, told, send } = countedLine();
  const segment = (flags: number, isn: number, payload = 0) =>
    tcp({ from: 40_000, to: 80, flags, sequence: isn }, new Uint8Array(payload).fill(65));
  send(segment(2, 100), 6, 1);
  send(segment(16, 101, 1500), 6, 2);
  counted.more(7, 7000);
  counted.marked.set(counted.packets); // the SYN of the second passes the filter
  counted.markedBytes.set(counted.bytes);
  counted.more(2, 2000); // and some of its own, before the line has read the SYN
  send(segment(2, 500_000), 6, 3);
  t.strictSame(told.at(-1), [2 + 7, 40 + 1540 + 7000, true]);
  t.equal(counted.forgotten, 0, "the counts are the next one's");
  // A third, behind a second that stayed below the budget as far as the line saw.
  counted.marked.set(counted.packets);
  counted.markedBytes.set(counted.bytes);
  send(segment(2, 900_000), 6, 4);
  send(segment(16, 900_001, 1500), 6, 5);
  counted.more(4, 4000);
  line.finish();
  const finals = told.filter((row) => row[2]);
  t.strictSame(finals.slice(1), [
    [1, 40, true],
    [2 + 2 + 4, 40 + 1540 + 2000 + 4000, true], // in the end nothing is missing
  ]);
  t.equal(counted.forgotten, 1);
});

t.test("a flow of which nothing was passed over may be forgotten at leisure", async (t) => {
  const { line, counted, send } = countedLine();
  send(udp(new Uint8Array(10)), 17, 0);
  line.finish();
  send(udp(new Uint8Array(1200)), 17, 1); // beyond the budget: there may be more
  line.finish();
  t.strictSame(counted.whole, [true, false]);
});

t.test("what waits to be forgotten is before a flow of the same ends begins", async (t) => {
  const batches: number[] = [];
  const BATCH = 27;
  const calls = {
    addressOf: () => 0n,
    errorName: String,
    close: () => {},
    bpfMake: () => 3,
    bpf: (command: number, attributes: Uint8Array) => {
      if (command === BATCH) batches.push(new DataView(attributes.buffer).getUint32(32, true));
      return 0;
    },
  };
  const cutoff = new FlowCutoff(calls as unknown as SystemCalls, 1024, 1000);
  const keyOf = (port: number) => Int32Array.of(0, 0, 0xffff, 1, 0, 0, 0xffff, 2, port, 6);
  for (const port of [1, 2, 3]) cutoff.forgetSoon(keyOf(port), 0, 7);
  cutoff.begin(keyOf(4), 0);
  t.strictSame(batches, [], "others wait on");
  cutoff.begin(keyOf(2), 0);
  t.strictSame(batches, [3], "all at once");
  cutoff.begin(keyOf(2), 0);
  cutoff.forgetWaiting();
  t.strictSame(batches, [3], "and once");
  for (let port = 0; port < 300; port++) cutoff.forgetSoon(keyOf(port), 0, 7);
  t.strictSame(batches, [3, 128, 128], "and when they are many");
});

t.test("when frames were lost, every flow is asked about", async (t) => {
  const { line, counted, told, send } = countedLine();
  counted.lostUs = 1e18;
  counted.more(3, 300);
  send(udp(new Uint8Array(20)), 17, 1000);
  line.finish();
  t.strictSame(told.at(-1), [4, 348, true]);
  counted.isKnown = false;
  send(udp(new Uint8Array(20)), 17, 2000);
  line.finish();
  t.strictSame(told.at(-1), [1, 48, true]);
});

t.test("of a connection that began after the last loss nothing can be missing", async (t) => {
  const askedOf = (flags: number, timeMs: number) => {
    const { line, counted, send } = countedLine();
    counted.lostUs = 5e6;
    send(tcp({ from: 40_000, to: 443, flags }), 6, timeMs);
    line.finish();
    return counted.reads;
  };
  t.equal(askedOf(SYN, 6000), 0);
  t.ok(askedOf(SYN, 5000) > 0, "its SYN may be the first that came through");
  t.ok(askedOf(ACK, 6000) > 0, "its beginning may be what was lost");
});

t.test("eBPF instructions are laid out as RFC 9669 has them", async (t) => {
  const bytes = new BpfAssembler()
    .move(6, { register: 1 })
    .load(Size.word, 2, 6, 40)
    .label("again")
    .alu(Alu.add, 2, -4)
    .toBigEndian(2, 16)
    .alu(Alu.xor, 2, -1, 32)
    .alu(Alu.or, 2, { register: 1 }, 32)
    .store(Size.double, 10, -8, { register: 2 })
    .store(Size.word, 10, -12, 7)
    .addTo(1, 16, 3)
    .loadMap(1, 9)
    .call(1)
    .jumpIf(Jump.equal, 0, 0, "out")
    .jumpIf(Jump.lessSigned, 1, { register: 2 }, "again")
    .jump("out")
    .move(0, 1)
    .label("out")
    .exit()
    .assemble();
  t.strictSame(Buffer.from(bytes).toString("hex").match(/.{16}/g), [
    "bf16000000000000", // r6 = r1
    "6162280000000000", // r2 = *(u32 *)(r6 + 40)
    "07020000fcffffff", // r2 += -4
    "dc02000010000000", // r2 = be16(r2)
    "a4020000ffffffff", // w2 ^= -1
    "4c12000000000000", // w2 |= w1
    "7b2af8ff00000000", // *(u64 *)(r10 - 8) = r2
    "620af4ff07000000", // *(u32 *)(r10 - 12) = 7
    "db31100000000000", // lock *(u64 *)(r1 + 16) += r3
    "1811000009000000", // r1 = map[9], in two
    "0000000000000000",
    "8500000001000000", // call 1
    "1500030000000000", // if r0 == 0 goto +3
    "cd21f4ff00000000", // if r1 s< r2 goto -12
    "0500010000000000", // goto +1
    "b700000001000000", // r0 = 1
    "9500000000000000", // exit
  ]);
  t.throws(() => new BpfAssembler().jump("nowhere").assemble(), /label nowhere stands nowhere/);
  t.throws(() => new BpfAssembler().label("a").label("a"), /label a stands twice/);
});

// ---- live ---------------------------------------------------------------------------------------

const PAIRS = 16;
const netns = `wprc${process.pid.toString(36)}`;

const skip = whyNotLive();

if (skip === false) {
  makePairs(netns, PAIRS);
}

function noSetpriv(): string | false {
  return spawnSync("setpriv", ["--version"]).status === 0 ? false : "setpriv is missing";
}

const run = (argv: readonly string[]) =>
  spawnSync("ip", ["netns", "exec", netns, ...argv], {
    ...{ encoding: "utf8" as const, timeout: 60_000, killSignal: "SIGKILL" as const },
  });

const CHILD = path.join(import.meta.dirname, "capturing.ts");

/** What `capturing.ts` prints. */
function capture(...args: readonly (string | number)[]) {
  const { stdout, stderr } = run([process.execPath, CHILD, ...args.map(String)]);
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
}

type Count = { name: string; delivered: number; dropped: number; cutOff: number };

for (const tier of ["ring-cutoff", "ring", "libpcap"]) {
  t.test(
    `${tier}: the golden captures, sent over a veth, say what their files say`,
    { skip },
    (t) => {
      const { captures, long, flows, wrong, dropped } = capture(tier, "golden", PAIRS);
      t.ok((long as number) > 8, `${String(long)} connections with a long tail`);
      t.ok((captures as number) > 150, `${String(captures)} captures`);
      t.ok((flows as number) > 150, `${String(flows)} flows`);
      t.strictSame(wrong, []);
      t.equal(dropped, 0);
      t.end();
    },
  );

  t.test(`${tier}: counters are exact over mixed traffic`, { skip }, (t) => {
    const { sent, strays, flows, told, wrong, ...more } = capture(tier, "mixed");
    const { counts, stopped, dropped } = more;
    t.strictSame(told, flows, "each flow, each side");
    t.strictSame(wrong, [], "and the rest of its record as if every frame had been handed over");
    const [of0] = counts as Count[];
    t.equal(of0!.delivered + of0!.cutOff, sent);
    t.equal(of0!.cutOff, tier === "ring-cutoff" ? keptBack(true) : 0);
    t.equal(dropped, 0);
    const { notTransport, notIp, ...others } = stopped as Record<string, number>;
    t.equal((notTransport ?? 0) + (notIp ?? 0), strays);
    t.strictSame(Object.keys(others), ["fragment"]);
    t.end();
  });

  t.test(`${tier}: a veth that is deleted takes nothing with it`, { skip }, (t) => {
    const { sent, came, ended, now, cpuShare } = capture(tier, "deleted");
    t.equal(came, sent);
    t.strictSame(ended, new Array(5).fill({ name: "sb1", delivered: 20 }));
    t.equal((now as Count[]).find((count) => count.name === "sb0")!.delivered, 105);
    t.ok((cpuShare as number) < 0.1, `nothing spins: ${String(cpuShare)} of a core when idle`);
    t.end();
  });

  t.test(`${tier}: frames sent = delivered + cut off + dropped`, { skip }, (t) => {
    for (const ring of [32 << 20, 1 << 20]) {
      const { sent, counts, dropped } = capture(tier, "flood", 100_000, ring);
      const all = (counts as Count[]).map((c) => c.delivered + c.cutOff + c.dropped);
      t.equal(all.reduce((a, b) => a + b, dropped as number), sent); // prettier-ignore
    }
    t.end();
  });
}

t.test("entries of a map go many at a time, also where some are gone", { skip }, async (t) => {
  const calls = new SystemCalls();
  const map = new BpfMap(calls, "wp_test", [4, 8], 1024);
  const removal = new MapRemoval(calls, map, 64);
  const at = (key: number) => map.key.setUint32(0, key, true);
  for (let key = 0; key < 300; key++) {
    at(key);
    if (!map.write()) t.fail(String(key));
  }
  const gone = (key: number) => key % 7 === 0 || key >= 300;
  for (let key = 0; key < 300; key += 7) {
    at(key);
    map.delete();
  }
  for (let key = 0; key < 310; key++) {
    if (key % 2 === 0 && key !== 308) continue;
    at(key);
    removal.add();
  }
  t.equal(removal.count, 156 % 64);
  removal.run();
  t.equal(removal.count, 0);
  const left: number[] = [];
  for (let key = 0; key < 310; key++) {
    at(key);
    if (map.read()) left.push(key);
  }
  const wanted = Array.from({ length: 310 }, (_, key) => key);
  t.strictSame(left, wanted.filter((key) => key % 2 === 0 && !gone(key))); // prettier-ignore
  map.close();
});

t.test("interfaces of one set are told apart, as many as it has room for", { skip }, async (t) => {
  const calls = new SystemCalls();
  const cutoff = new FlowCutoff(calls, 16, 1);
  const { interfaces } = cutoff;
  const [LO, SETS, PLACES] = [1, 2048, 8];
  // bpf_attr of BPF_PROG_TEST_RUN: program(4) | result(4) | frame's length(4) at 8, address at 16 |
  // repeated(4) at 32 | context's length(4) at 40, address at 48. It runs as if on the loopback,
  // and an Ethernet header is taken off before.
  const frame = Buffer.alloc(128);
  frame.set(ethernet(ethernet(ipv4({}, tcp({ flags: ACK }, new Uint8Array(20))))), 0);
  const context = new Uint8Array(new ArrayBuffer(192));
  new DataView(context.buffer).setUint32(40, LO, true); // its interface, in struct __sk_buff
  const bytes = new Uint8Array(frame);
  const attributes = new DataView(new ArrayBuffer(80));
  attributes.setUint32(0, cutoff.programFd, true);
  attributes.setUint32(8, bytes.length, true);
  attributes.setBigUint64(16, calls.addressOf(bytes), true);
  attributes.setUint32(32, 1, true);
  attributes.setUint32(40, context.length, true);
  attributes.setBigUint64(48, calls.addressOf(context), true);
  const passes = () => {
    t.equal(calls.bpf(10, new Uint8Array(attributes.buffer)), 0);
    return attributes.getUint32(4, true) > 0;
  };
  const ETHERNET = 1;
  const others = Array.from({ length: PLACES }, (_, i) => LO + SETS * (i + 1));
  t.notOk(passes(), "nothing is watched");
  for (const index of others) t.ok(interfaces.allow(index, ETHERNET));
  t.notOk(passes(), "others are");
  t.notOk(interfaces.allow(LO, ETHERNET), "no room is left");
  t.notOk(interfaces.read(LO));
  t.ok(interfaces.allow(LO + 1, ETHERNET), "in another set there is");
  interfaces.forbid(others[5]!);
  t.ok(interfaces.allow(LO, ETHERNET));
  t.ok(passes(), "a flow's first payload");
  t.notOk(passes(), "and what follows is cut off");
  const counted = [LO, ...others, LO + 1].map((index) => {
    return interfaces.read(index) ? interfaces.cutOff : null;
  });
  t.strictSame(counted, [1, 0, 0, 0, 0, 0, null, 0, 0, 0]);
  interfaces.forbid(LO);
  t.notOk(passes());
  t.ok(interfaces.allow(LO, ETHERNET));
  t.ok(interfaces.read(LO));
  t.equal(interfaces.cutOff, 0, "it is counted anew");
  cutoff.close();
});

for (const [tier, rate] of [
  ["ring-cutoff", 0.25],
  ["ring-cutoff", 0.75], // a limit that is no positive number of 32 bits
  ["ring", 0.25],
] as const) {
  t.test(`${tier}: all is told of ${rate} of the flows, of others nothing`, { skip }, (t) => {
    const { sent, of0, dropped, told, expected, ...more } = capture(tier, "sampled", rate);
    const { notSampled, leftOut } = more as Record<string, number>;
    const share = Object.keys(expected as object).length / (more["flows"] as number);
    t.ok(Math.abs(share - rate) < 0.1, `${share} of ${String(more["flows"])} flows`);
    t.strictSame(told, expected);
    const { delivered, cutOff } = of0 as Count;
    t.strictSame([delivered + cutOff, dropped], [sent, 0]);
    t.equal(cutOff, leftOut! - notSampled!);
    // What the filter does not look into comes, and is left out here: fragments, most wrappers.
    if (tier === "ring") t.equal(notSampled, leftOut);
    else t.ok(notSampled! > 0 && notSampled! < leftOut! * 0.6, `${notSampled} of ${leftOut} came`);
    t.end();
  });
}

t.test("headers that contradict themselves are counted as they are read", { skip }, (t) => {
  const { sent, of0, dropped, flows, wrong } = capture("ring-cutoff", "spoilt");
  const { delivered, cutOff } = of0 as Count;
  t.strictSame(wrong, []);
  t.ok((flows as number) > 500, `${String(flows)} flows, most of them by accident`);
  t.ok(cutOff > (sent as number) / 5, `${cutOff} kept back`);
  t.equal(delivered + cutOff, sent);
  t.equal(dropped, 0);
  t.end();
});

t.test("a program that is too long for the verifier gives way to a smaller one", { skip }, (t) => {
  const { flows, told, wrong, counts, log } = capture("ring-cutoff", "mixed", 900);
  t.strictSame(told, flows);
  t.strictSame(wrong, []);
  t.equal((counts as Count[])[0]!.cutOff, keptBack(false));
  const said = /^flows in tunnels are handed over whole: eBPF program: E2BIG/;
  t.equal((log as string[]).filter((text) => said.test(text)).length, 1);
  const { error } = capture("ring-cutoff", "refused");
  t.match(error, /^RefusedCall: eBPF program: E2BIG/, "for which the next tier is taken");
  t.end();
});

t.test("of a flow that is read no more comes, of one that is not yet does", { skip }, (t) => {
  const { closed, stale, slow, fast, isAlike } = capture("ring-cutoff", "asked");
  // Of 100 segments and as many acknowledgments 30 each came in time, of the rest only both FIN.
  const packets = [104, 103];
  t.match(closed, { delivered: 4 + 60 + 2, cutOff: 2 * 70 + 1, told: { packets }, asked: 1 });
  // 64 frames of the connection before; then five segments more, for all that was asked for that.
  const delivered = 64 + 4 + 60 + 10 + 2;
  t.match(stale, { delivered, cutOff: 2 * 65 + 1 });
  t.match(slow, { told: { handshake: "complete", accepted: true }, raised: 3, cutOff: 0 });
  t.equal(isAlike, true);
  t.match(fast, { told: { handshake: "incomplete", accepted: null } }, "it came too fast");
  t.ok((fast as Count).cutOff > 0);
  for (const { dropped } of [closed, stale, slow, fast] as Count[]) t.equal(dropped, 0);
  t.end();
});

t.test("rings that share what comes: each flow goes to one, both ways", { skip }, (t) => {
  const { sent, total, dropped, shares, strays, notFlows, ...flows } = capture(
    ...["ring-cutoff", "shared", 3],
  );
  t.strictSame(flows["wrong"], [], "counters are exact, all in one place");
  t.equal(flows["records"], flows["expected"], "and nobody else has heard of it");
  t.equal(flows["refused"], 40, "a router's errors come where the attempt is");
  t.equal(total, sent);
  t.equal(notFlows, strays);
  t.equal(dropped, 0);
  // All wrappers that are not walked have the same ends, and come to one of them.
  for (const share of shares as number[]) t.ok(share > (sent as number) / 12, `${share}`);
  t.end();
});

t.test("ends that connect anew: each connection has its own counters", { skip }, (t) => {
  // Handshake, request, its segments and their acknowledgments, FIN, FIN, ACK: see `bulk`.
  const row = (segments: number) => {
    const [up, down] = [segments + 4, segments + 3];
    return [20_000, up, down, 40 * up + 27, 40 * down + 1000 * segments];
  };
  const wanted = [row(200), row(1), row(300)];
  for (const tier of ["ring", "ring-cutoff"]) {
    const { flows, counts, sent } = capture(tier, "again");
    t.strictSame(flows, wanted, tier);
    const { delivered, cutOff } = counts as Count;
    t.equal(delivered + cutOff, sent);
    // Of 200 and of 300 segments 50 fit the budget, and 49 of their acknowledgments come before.
    t.equal(cutOff, tier === "ring" ? 0 : 150 + 151 + 250 + 251);
  }
  t.end();
});

t.test("flows beyond the cutoff's room are handed over whole, and counted", { skip }, (t) => {
  // 16 connections of 60 segments and 8 places, twice; of the first 16 the line knows nothing.
  // Each packet with payload is refused a place: the request too.
  const refused = 8 * 61;
  const cut = 8 * (10 + 11);
  for (const [how, second, cutOff] of [
    ["unswept", refused * 2, cut],
    ["swept", refused, cut * 2],
  ] as const) {
    const told = capture("ring-cutoff", "full", 8, how);
    t.match(told, { first: refused, second, flows: 16, counters: ["64 63 2587 62520"] }, how);
    const counts = told["counts"] as Count;
    t.equal(counts.cutOff, cutOff);
    t.equal(counts.delivered + counts.cutOff, told["sent"]);
    const said = (told["log"] as string[]).filter((text) => text.startsWith("no room"));
    t.equal(said.length, 1, "said once");
  }
  t.end();
});

t.test(
  "what is refused is said, and the next tier is taken",
  { skip: skip || noSetpriv() },
  (t) => {
    t.match(capture("auto", "opened"), { kind: "ring-cutoff", log: ["capture by ring-cutoff"] });
    const without = (capabilities: string) => {
      const argv = ["setpriv", `--bounding-set=${capabilities}`, `--inh-caps=${capabilities}`];
      return (...args: readonly string[]) => run([...argv, process.execPath, CHILD, ...args]);
    };
    const least = without("-all,+net_raw,+bpf")("auto", "opened");
    t.match(JSON.parse(least.stdout), { kind: "ring-cutoff", log: ["capture by ring-cutoff"] });
    const noBpf = without("-bpf,-sys_admin");
    const { kind, log } = JSON.parse(noBpf("auto", "opened").stdout) as Record<string, unknown>;
    t.equal(kind, "ring");
    t.match(
      (log as string[])[0],
      /^capture by ring-cutoff is refused: .*EPERM: add capability BPF/,
    );
    const asked = noBpf("ring-cutoff", "opened");
    t.equal(asked.status, 1);
    t.match(asked.stderr, /agent: --capture ring-cutoff: eBPF map of \d+ entries: EPERM: add cap/);
    const noRaw = without("-net_raw,-bpf,-sys_admin")("ring", "opened");
    t.match(noRaw.stderr, /--capture ring: AF_PACKET socket: EPERM: add capability NET_RAW/);
    t.end();
  },
);

t.test("an agent that ends by a fault does not hang on its waiting thread", { skip }, (t) => {
  const startMs = Date.now();
  const { status, stderr } = run([process.execPath, CHILD, "ring", "crash"]);
  t.equal(status, 1);
  t.match(stderr, /planted/);
  t.ok(Date.now() - startMs < 10_000);
  t.end();
});

t.test("a ring that contradicts itself is opened anew, and the gap is told", { skip }, (t) => {
  const { whole, ended, untilMs, brokenMs, more, came, again, now, log } = capture(
    "ring",
    "broken",
  );
  const { sent, came: before } = whole as Record<string, number>;
  t.equal(before, sent);
  t.equal(ended, PAIRS, "every watch ended");
  for (const ms of untilMs as number[]) t.ok(ms < (brokenMs as number), "before what was not read");
  t.equal((came as number) - (again as number), more, "and all goes on");
  t.equal((now as Count[]).reduce((sum, count) => sum + count.delivered, 0), more); // prettier-ignore
  t.match((log as string[]).join("\n"), /opened anew: a block of the ring contradicts itself/);
  t.end();
});
