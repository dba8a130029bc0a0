/** Tests live capture, each tier by itself, in network namespaces; and the ring's reader by bytes. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { Direction } from "../../agent/capture/frame-source.ts";
import type { Watch } from "../../agent/capture/frame-source.ts";
import { interfaceFilter } from "../../agent/capture/interface-filter.ts";
import { RingReader } from "../../agent/capture/ring-reader.ts";
import { Line } from "../../agent/line.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Sightings } from "../../agent/sightings.ts";
import { ethernet, hex, ipv4, tcp } from "../frames.ts";

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
  ...{ index, lane, name: `i${index}`, addresses: [], delivered: 0, dropped: 0, cutOff: 0 },
});

/** What a reader hands over of the ring, a line a frame. */
function readerOf(ring: ArrayBuffer, ...watches: readonly Watch[]) {
  const told: string[] = [];
  const map = new Map(watches.map((w) => [w.index, w]));
  const reader = new RingReader(
    ring,
    BLOCK,
    map,
    (view, at, end, wire, timeUs, link, lane, way) => {
      const bytes = Buffer.from(view.buffer, at, end - at).toString("hex");
      told.push([bytes, wire, timeUs, link, lane, way].join(" "));
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
    line.frame(new DataView(frame.buffer), 0, frame.length, frame.length, 1, 1, 0);
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

// ---- live ---------------------------------------------------------------------------------------

const PAIRS = 16;
const netns = `wprc${process.pid.toString(36)}`;
const ip = (args: string) => {
  const { status, stderr } = spawnSync("ip", args.split(" "), { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args}: ${stderr}`);
};
const cleanUp = () => void spawnSync("ip", ["netns", "del", netns]);

function whyNotLive(): string | false {
  if (process.getuid?.() !== 0) return "not root: network namespaces cannot be made";
  const probe = spawnSync("unshare", ["--net", "true"]);
  if (probe.status !== 0) return "network namespaces cannot be made here";
  return spawnSync("ip", ["-V"]).status === 0 ? false : "iproute2 is missing";
}
const skip = whyNotLive();

if (skip === false) {
  process.once("exit", cleanUp); // also after a failure
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => process.exit(1));
  ip(`netns add ${netns}`);
  const quiet = ["all", "default"].map((name) => `net.ipv6.conf.${name}.disable_ipv6=1`);
  spawnSync("ip", ["netns", "exec", netns, "sysctl", "-qw", ...quiet]);
  for (let i = 0; i < PAIRS; i++) {
    // The longest frames of the captures were recorded with segmentation offload.
    ip(`-n ${netns} link add sa${i} mtu 65535 type veth peer name sb${i} mtu 65535`);
    for (const name of [`sa${i}`, `sb${i}`]) ip(`-n ${netns} link set ${name} up`);
  }
}

const CHILD = path.join(import.meta.dirname, "capturing.ts");

/** What `capturing.ts` prints. */
function capture(...args: readonly (string | number)[]) {
  const argv = ["netns", "exec", netns, process.execPath, CHILD, ...args.map(String)];
  const { stdout, stderr } = spawnSync("ip", argv, { encoding: "utf8", timeout: 60_000 });
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
}

type Count = { name: string; delivered: number; dropped: number; cutOff: number };

for (const tier of ["ring", "libpcap"]) {
  t.test(
    `${tier}: the golden captures, sent over a veth, say what their files say`,
    { skip },
    (t) => {
      const { captures, flows, wrong, dropped } = capture(tier, "golden", PAIRS);
      t.ok((captures as number) > 150, `${String(captures)} captures`);
      t.ok((flows as number) > 150, `${String(flows)} flows`);
      t.strictSame(wrong, []);
      t.equal(dropped, 0);
      t.end();
    },
  );

  t.test(`${tier}: counters are exact over mixed traffic`, { skip }, (t) => {
    const { sent, strays, flows, told, counts, stopped, dropped } = capture(tier, "mixed");
    t.strictSame(told, flows, "each flow, each side");
    const [of0] = counts as Count[];
    t.equal(of0!.delivered + of0!.cutOff, sent);
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

t.test("the waiting thread ends by a fault: no frame is lost", { skip }, (t) => {
  const { sent, came, dropped, faults, log } = capture("ring", "worker");
  t.equal(came, sent);
  t.equal(dropped, 0);
  t.ok((faults as number) >= 2, `${String(faults)} faults`);
  t.match((log as string[]).join("\n"), /the capture's thread ended: planted; it is started anew/);
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
