/**
 * Checks wrappers: the flow that was put in comes out, cut and mutated too, tshark sees the same,
 * what only looks like a tunnel is none, and what is not read is told.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Registry } from "prom-client";
import t from "tap";
import { LinkType, decodeFrame } from "../../agent/decode/ethernet.ts";
import { ENCAP_LIMIT, Packet, STOP_NAMES, Stop } from "../../agent/decode/packet.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { agentMetrics } from "../../agent/metrics.ts";
import { unreadByName } from "../../agent/unread.ts";
import type { Uplink } from "../../agent/uplink/uplink.ts";
import { parseVxlanPorts } from "../../agent/vxlan-ports.ts";
import { formatAddress } from "../../protocol/address.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { ACK, SYN, ethernet, frameAt, ipv4, ipv6, join, latin1, random, tcp } from "../frames.ts";
import { u16, u32, udp, viewOf } from "../frames.ts";
import type { Bytes } from "../frames.ts";
import { OTHER_PORT, VXLAN, VXLAN_PORTS, WRAPPINGS, over, v4 } from "./wrapping.ts";

const folder = mkdtempSync(path.join(tmpdir(), "wireproof-wrappers-"));
t.teardown(() => rmSync(folder, { recursive: true }));
const launcher = path.join(import.meta.dirname, "../../wireproof");

const packet = new Packet();
packet.vxlanPorts = VXLAN_PORTS;

/** Decodes a frame that stands between other bytes, as it does in a ring. */
function decode(frame: Uint8Array, around = 0xa5): Stop {
  const ring = new Uint8Array(frame.length + 128).fill(around);
  ring.set(frame, 64);
  return decodeFrame(viewOf(ring), 64, 64 + frame.length, LinkType.ethernet, packet);
}

const addressAt = (p: Packet, end: "source" | "destination") =>
  formatAddress(p[`${end}0`], p[`${end}1`], p[`${end}2`], p[`${end}3`]);
/** The flow that a decoded packet is of, and the payload's length. */
const flowOf = (p: Packet) =>
  [
    ...[p.protocol, addressAt(p, "source"), p.sourcePort],
    ...[addressAt(p, "destination"), p.destinationPort, p.payloadLength],
  ].join(" ");

const HELLO = latin1("hello, world");
const SEGMENT = tcp({ from: 40_000, to: 443, flags: ACK, sequence: 7 }, HELLO);
const DATAGRAM = udp(HELLO, { from: 40_001, to: 53 });
const INNER: readonly [name: string, packet: Bytes, type: number, flow: string][] = [
  ["tcp", ipv4({}, SEGMENT), 0x0800, "6 10.0.0.1 40000 10.0.0.2 443 12"],
  ["tcp, v6", ipv6({}, SEGMENT), 0x86dd, "6 fd00::1 40000 fd00::2 443 12"],
  ["udp", ipv4({ protocol: 17 }, DATAGRAM), 0x0800, "17 10.0.0.1 40001 10.0.0.2 53 12"],
  ["udp, v6", ipv6({ next: 17 }, DATAGRAM), 0x86dd, "17 fd00::1 40001 fd00::2 53 12"],
  // A segment as short as they get: of a frame padded in Ethernet the lengths differ.
  ["syn", ipv4({}, tcp({ to: 443, flags: SYN })), 0x0800, "6 10.0.0.1 40000 10.0.0.2 443 0"],
];

for (const [name, { carry }] of Object.entries(WRAPPINGS)) {
  t.test(`${name}: the flow inside, whole and cut at every byte`, async (t) => {
    for (const [what, inner, type, flow] of INNER) {
      const frame = carry(inner, type);
      t.equal(STOP_NAMES[decode(frame)], "none", what);
      t.equal(flowOf(packet), flow, what);
      for (let cut = 0; cut < frame.length; cut++) {
        const stop = decode(frame.subarray(0, cut));
        // What is told by what it carries is, once that is cut off, a datagram or no transport.
        const isKnown = stop === Stop.truncated || stop === Stop.notTransport;
        const fits = packet.payloadEnd - 64 <= cut && packet.payloadAt <= packet.payloadEnd;
        if (stop === Stop.none ? !fits : !isKnown) t.fail(`${what} at ${cut}: ${STOP_NAMES[stop]}`);
      }
    }
  });
}

t.test("a capture that is cut to its headers says the same flows", async (t) => {
  const snapped = Object.entries(WRAPPINGS).filter(([, { carry }]) => {
    const whole = carry(ipv4({}, tcp({ to: 443 }, new Uint8Array(1000))), 0x0800);
    return decode(whole.subarray(0, whole.length - 1000)) !== Stop.none || packet.protocol !== 6;
  });
  t.strictSame(snapped, []);
});

/** Reads frames as a capture of them, and tells its records. */
function recordsOf(frames: readonly Bytes[]): { records: Flow[]; line: Line } {
  const records: Flow[] = [];
  const line = new Line(
    {
      table: { ...FLOW_TABLE_DEFAULTS, flows: 256, slots: 64 },
      ...{ revisions: false, reportIntervalMs: 1e9, vxlanPorts: VXLAN_PORTS },
    },
    (record) => records.push(record),
  );
  frames.forEach((frame, i) =>
    frameAt(line, viewOf(frame), 0, frame.length, frame.length, 1.7e15 + i, 1, 0),
  );
  line.finish();
  return { records, line };
}

t.test("records name the wrappers, outermost first", async (t) => {
  const wrappings = Object.values(WRAPPINGS);
  const frames = wrappings.map(({ carry }, i) =>
    carry(ipv4({}, tcp({ from: 20_000 + i, to: 443, flags: SYN })), 0x0800),
  );
  const { records } = recordsOf(frames);
  t.strictSame(
    records.toSorted((a, b) => a.src_port - b.src_port).map(({ encap }) => encap),
    wrappings.map(({ told }) => told),
  );
});

t.test("wrappers in wrappers, a hundred deep and two thousand: bounded, and told", async (t) => {
  for (const [name, { carry }] of Object.entries(WRAPPINGS)) {
    for (const deep of [ENCAP_LIMIT + 1, 100]) {
      let frame = ethernet(INNER[0]![1]);
      for (let i = 0; i < deep; i++) {
        frame = carry(over(4789, VXLAN, frame), 0x0800);
      }
      const stop = STOP_NAMES[decode(frame)];
      if (stop !== "tooDeep") t.fail(`${name}, ${deep} deep: ${stop}`);
    }
  }
  const mpls = (n: number) =>
    ethernet(join(...new Array<number[]>(n).fill([0, 6, 0x40, 64])), 0x8847);
  const shims = {
    labels: mpls(2000),
    tags: ethernet(join(...new Array<number[]>(2000).fill([0, 3, 0, 0, 0x89, 0x26])), 0x8926),
    metadata: ethernet(
      join(...new Array<number[]>(2000).fill([1, 1, 0, 1, 0, 9, 0x89, 9])),
      0x8909,
    ),
    nsh: ethernet(
      join(...new Array<number[]>(2000).fill([0x0f, 0xc2, 2, 4, 0, 0, 7, 255])),
      0x894f,
    ),
  };
  for (const [name, frame] of Object.entries(shims)) {
    t.equal(STOP_NAMES[decode(frame)], "tooDeep", name);
  }
  t.ok(Object.keys(WRAPPINGS).length > 30, "of each kind there is one");
});

/** Everything that a decode leaves behind, when it says that it may be trusted. */
const snapshot = (stop: Stop) => (stop === Stop.none ? JSON.stringify(packet) : stop);

t.test("mutated, cut, with lengths that lie: nothing thrown or read past the end", async (t) => {
  const seed = 20261130;
  const below = random(seed);
  const pool = Object.values(WRAPPINGS).flatMap(({ carry }) =>
    INNER.map(([, inner, type]) => carry(inner, type)),
  );
  const counted = new Array<number>(STOP_NAMES.length).fill(0);
  for (let i = 0; i < 100_000; i++) {
    const whole = pool[below(pool.length)]!;
    const cut = below(3) === 0 ? below(whole.length + 1) : whole.length;
    const frame = Uint8Array.from(whole.subarray(0, cut));
    for (let n = below(4); n > 0 && frame.length > 12; n--) {
      const at = 12 + below(frame.length - 12);
      frame[at] = [0, 255, below(256), frame[at]! ^ (1 << below(8))][below(4)]!;
    }
    const first = snapshot(decode(frame, 0x00));
    const stop = decode(frame, 0xff);
    counted[stop]!++;
    const fits = packet.payloadEnd - 64 <= frame.length && packet.payloadAt <= packet.payloadEnd;
    if (first !== snapshot(stop) || (stop === Stop.none && !fits)) {
      t.fail(`seed ${seed}, round ${i}: ${Buffer.from(frame).toString("hex")}`);
      return;
    }
  }
  t.ok(counted[Stop.none]! > 30_000 && counted[Stop.malformed]! > 0, counted.join(" "));
});

// ---- by content -----------------------------------------------------------------------------------

/** One byte changed: position behind the UDP header, and what is put there. */
const patched = (frame: Bytes, at: number, value: number): Bytes => {
  const copy = frame.slice();
  copy[14 + 20 + 8 + at] = value;
  return copy;
};

t.test("what only looks like a tunnel is a datagram like any other", async (t) => {
  const inner = ipv4({}, SEGMENT);
  const inner6 = ipv6({}, SEGMENT);
  const frame = ethernet(inner);
  const vxlan = ethernet(over(OTHER_PORT, VXLAN, frame));
  const fou = ethernet(over(OTHER_PORT, [], inner));
  const fou6 = ethernet(over(OTHER_PORT, [], inner6));
  const greOf = (flags: number, packet: Bytes) =>
    ethernet(over(OTHER_PORT, [...u16(flags), ...u16(0x0800)], packet));
  const rows: [string, Bytes][] = [
    ["vxlan: another flag", patched(vxlan, 0, 0x0c)],
    ["vxlan: a reserved byte", patched(vxlan, 2, 1)],
    ["vxlan: the last reserved byte", patched(vxlan, 7, 1)],
    ["vxlan: an EtherType of no IP", patched(vxlan, 8 + 12, 0x88)],
    ["vxlan: IPv6 by the EtherType alone", join(vxlan.subarray(0, 62), [0x86, 0xdd], inner)],
    ["vxlan: an IP version", patched(vxlan, 8 + 14, 0x65)],
    ["vxlan: a header of 16 bytes", patched(vxlan, 8 + 14, 0x44)],
    ["vxlan: a length of one more", patched(vxlan, 8 + 17, inner.length + 1)],
    ["vxlan: a length of one less", patched(vxlan, 8 + 17, inner.length - 1)],
    ["fou: a length of one more", patched(fou, 3, inner.length + 1)],
    ["fou: a length of one less", patched(fou, 3, inner.length - 1)],
    ["fou: a fragment", patched(fou, 6, 0x20)],
    ["fou: no time to live", patched(fou, 8, 0)],
    ["fou: OSPF", patched(fou, 9, 89)],
    ["fou: TCP's offset", patched(fou, 20 + 12, 0x40)],
    ["fou: TCP's offset beyond", patched(fou, 20 + 12, 0xf0)],
    ["fou: TCP's reserved bits", patched(fou, 20 + 12, 0x58)],
    ["fou: an urgent pointer without URG", patched(fou, 20 + 19, 1)],
    ["fou6: a length of one more", patched(fou6, 5, SEGMENT.length + 1)],
    ["fou6: from all nodes", patched(fou6, 8, 0xff)],
    ["fou6: an extension header", patched(fou6, 6, 60)],
    ["fou6: TCP's offset", patched(fou6, 40 + 12, 0x40)],
    ["gre: routing", greOf(0x4000, inner)],
    ["gre: version 1", greOf(1, inner)],
    ["gre: recursion", greOf(0x0100, inner)],
    ["gre: IPv6 in what says IPv4", greOf(0, inner6)],
    ["gre: a length of one less", greOf(0, inner.subarray(0, inner.length - 1) as Bytes)],
    ["gue to another port: a flag", ethernet(over(OTHER_PORT, [0, 4, 0, 1], inner))],
    ["gue to another port: a field", ethernet(over(OTHER_PORT, [1, 4, 0, 0, 0, 0, 0, 0], inner))],
    ["gue to another port: one more", ethernet(over(OTHER_PORT, [0, 4, 0, 0], join(inner, [0])))],
    [
      "gue to another port: gre with routing",
      ethernet(over(OTHER_PORT, [0, 47, 0, 0], join(u16(0x4000), u16(0x0800), inner))),
    ],
    ["l2tp to another port: reserved", ethernet(over(OTHER_PORT, [0, 3, 0, 1, 0, 0, 0, 9], frame))],
    ["l2tp to another port: noise", ethernet(over(OTHER_PORT, [0, 3, 0, 0, 0, 0, 0, 9], HELLO))],
    ["gue: control", ethernet(over(6080, [0x20, 4, 0, 0], inner))],
    ["gue: a length of one less", ethernet(over(6080, [0, 4, 0, 0], join(inner, [0])))],
    ["gue: fields past the end", ethernet(over(6080, [31, 4, 0, 0], inner))],
    ["mpls: no bottom", ethernet(over(6635, [0, 6, 0x40, 64], inner))],
    ["mpls: a length of one less", ethernet(over(6635, [0, 6, 0x41, 64], join(inner, [0])))],
    ["l2tp: control", ethernet(over(1701, [0xc8, 3, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0], HELLO))],
    ["l2tp: session 0", ethernet(over(1701, [0, 3, 0, 0, 0, 0, 0, 0], frame))],
    ["l2tp: a cookie of 16", ethernet(over(1701, [0, 3, ...new Array(22).fill(7)], frame))],
    ["l2tp of PPP: control", ethernet(over(1701, [0xc8, 2, 0, 12, 0, 1, 0, 2, 0, 0, 0, 0], HELLO))],
    ["l2tp of PPP: LCP", ethernet(over(1701, [0, 2, 0, 1, 0, 2, 0xff, 3, 0xc0, 0x21], HELLO))],
    ["l2tp of PPP: an offset beyond", ethernet(over(1701, [2, 2, 0, 1, 0, 2, 255, 0], HELLO))],
    ["gre over udp: HELLO", ethernet(over(4754, [], HELLO))],
  ];
  for (const frame of [vxlan, fou, fou6, greOf(0, inner)]) {
    t.equal(decode(frame), Stop.none);
    t.equal(packet.encapCount, 1, "as it is, it is one");
  }
  for (const [name, frame] of rows) {
    t.equal(STOP_NAMES[decode(frame)], "none", name);
    t.match(flowOf(packet), /^17 172\.16\.0\.1 \d+ 172\.16\.0\.2 \d+ /, name);
    t.equal(packet.encapCount, 0, name);
  }
});

t.test("random datagrams are never tunnels, however they begin", async (t) => {
  const below = random(20261201);
  const heads = [
    [8, 0, 0, 0, 0, 0, 1, 0],
    [0x45, 0],
    [0x45, 0, 0, 72],
    [0x60, 0, 0, 0],
  ];
  heads.push(
    [0x60, 0, 0, 0, 0, 32],
    [0, 0, 8, 0],
    [0, 0, 0x65, 0x58],
    [0, 3, 0, 0],
    [1, 4, 0, 0],
    [0, 4, 0, 0],
  );
  const ports = [OTHER_PORT, 443, 1701, 6080, 4754, 6635];
  let found = 0;
  for (let i = 0; i < 60_000; i++) {
    const noise = Uint8Array.from({ length: 72 }, () => below(256));
    noise.set(below(4) === 0 ? [] : heads[below(heads.length)]!);
    const port = ports[below(ports.length)]!;
    // What to these ports begins like this is a tunnel: GRE by its header, IP in GUE by its length.
    if (port === 4754 && (noise[0]! & 0x4f) === 0 && noise[1] === 0) continue;
    if (port === 6080 && (noise[3] === 72 || noise[5] === 32)) continue;
    const stop = decode(ethernet(over(port, [], noise)));
    if (stop !== Stop.none || packet.encapCount > 0) found++;
  }
  t.equal(found, 0);
});

t.test("ARP in VXLAN to another port is no datagram, and frames may be padded", async (t) => {
  const arp = join(u16(1), u16(0x0800), [6, 4], u16(1), new Uint8Array(20));
  const padding = new Uint8Array(18);
  const frame = ethernet(over(OTHER_PORT, VXLAN, ethernet(join(arp, padding), 0x0806)));
  t.equal(STOP_NAMES[decode(frame)], "notIp");
  const short = ipv4({}, tcp({ to: 443, flags: SYN }));
  const padded = join(ethernet(short), new Uint8Array(6));
  t.equal(decode(ethernet(over(OTHER_PORT, VXLAN, padded))), Stop.none);
  t.equal(flowOf(packet), "6 10.0.0.1 40000 10.0.0.2 443 0");
});

// ---- a foreign judge --------------------------------------------------------------------------------

const pcapOf = (frames: readonly Bytes[]) => {
  const little = (n: number) => u32(n).toReversed();
  const records = frames.map((frame, i) => {
    const length = little(frame.length);
    return join(little(1_700_000_000), little(i), length, length, frame);
  });
  return join(little(0xa1b2c3d4), [2, 0, 4, 0], ...[0, 0, 65535, 1].map(little), ...records);
};

const tshark = spawnSync("tshark", ["--version"]).status === 0 ? false : "tshark is missing";

t.test("tshark finds the same flow in each wrapper that it knows", { skip: tshark }, async (t) => {
  const file = path.join(folder, "wrappers.pcap");
  const known = Object.entries(WRAPPINGS).filter(([, { shark }]) => shark !== null);
  t.ok(known.length > 25);
  const fields = ["ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"].flatMap((f) => ["-e", f]);
  const asVxlan = [OTHER_PORT, ...VXLAN_PORTS].flatMap((p) => ["-d", `udp.port==${p},vxlan`]);
  const argv = ["-r", file, "-T", "fields", "-E", "occurrence=l", ...asVxlan, ...fields];
  for (const [told, wrappings] of Map.groupBy(known, ([, { shark }]) => shark?.join(" ") ?? "")) {
    const frames = wrappings.map(([, { carry }], i) =>
      carry(ipv4({}, tcp({ from: 20_000 + i, to: 443, flags: SYN }, HELLO)), 0x0800),
    );
    writeFileSync(file, pcapOf(frames));
    const more = wrappings[0]![1].shark ?? [];
    const { stdout } = spawnSync("tshark", [...argv, ...more], { encoding: "utf8" });
    const seen = stdout.trimEnd().split("\n");
    t.equal(seen.length, wrappings.length, told);
    wrappings.forEach(([name], i) => {
      t.equal(decode(frames[i]!), Stop.none);
      const [, source, from, destination, to] = flowOf(packet).split(" ");
      t.equal(seen[i], [source, from, destination, to].join("\t"), name);
    });
  }
});

// ---- what is not read -------------------------------------------------------------------------------

const ARP = ethernet(new Uint8Array(46), 0x0806);
const ECHO = ethernet(ipv4({ protocol: 1 }, join([8, 0, 0, 0, 0, 1, 0, 1], HELLO)));
const LLDP = ethernet(new Uint8Array(46), 0x88cc);
const OSPF = ethernet(ipv4({ protocol: 89 }, HELLO));
const SPANNING_TREE = ethernet(join([0x42, 0x42, 3], new Uint8Array(43)), 38);
const LCP = ethernet(join([0x11, 0], u16(9), u16(4), u16(0xc021)), 0x8864);
const unknownType = (n: number) => ethernet(new Uint8Array(46), 0x7000 + n);

t.test("what is not read is counted by what it is, in a table of bounded size", async (t) => {
  const { line } = recordsOf([
    ...[ARP, ARP, ECHO, LLDP, OSPF, SPANNING_TREE, LCP],
    ethernet(ipv4({ protocol: 115 }, join([0, 0, 0, 9], HELLO))),
    ethernet(join([2, 1, 0, 1, 0, 10, 8, 0], ipv4({}, SEGMENT)), 0x8909),
    ethernet(join([0x2f, 0xc2, 2, 1, 0, 0, 7, 255], ipv4({}, SEGMENT)), 0x894f),
    ethernet(v4(47, join([0, 0, 0x88, 0xcc], HELLO))),
  ]);
  t.strictSame(unreadByName(line.counters), {
    "EtherType 0x0806 (ARP)": 2,
    "IP protocol 1 (ICMP)": 1,
    "EtherType 0x88cc (LLDP)": 2,
    "IP protocol 89 (OSPF)": 1,
    "LLC 0x4242 (spanning tree)": 1,
    "PPP protocol 0xc021 (LCP)": 1,
    "IP protocol 115 (L2TP)": 1,
    "EtherType 0x8909 (Cisco metadata)": 1,
    "EtherType 0x894f (NSH)": 1,
  });
  const many = recordsOf(Array.from({ length: 500 }, (_, i) => unknownType(i))).line.counters;
  t.equal(many.unread.size, 64);
  t.equal(many.unreadOthers, 500 - 64);
  t.equal(many.stoppedByName()["notIp"], 500);
});

t.test("metrics tell it", async (t) => {
  const { line } = recordsOf([LLDP, LLDP, OSPF]);
  const watching = {
    ...{ line, sightings: { sampling: 1, oneWay: () => [] } },
    capture: { kind: "ring", watches: () => [], droppedOnAny: () => 0, refused: () => 0 },
  } as unknown as Parameters<typeof agentMetrics>[0];
  const uplink = { counters: { discarded: {} }, connected: false } as unknown as Uplink;
  const registry: Registry = agentMetrics(watching, uplink);
  const text = await registry.getSingleMetricAsString("wireproof_agent_frames_unread_total");
  t.match(text, 'wireproof_agent_frames_unread_total{kind="EtherType 0x88cc (LLDP)"} 2');
  t.match(text, 'wireproof_agent_frames_unread_total{kind="IP protocol 89 (OSPF)"} 1');
});

/** Runs the command on a capture of these frames; stderr by line. */
function inspect(frames: readonly Bytes[], ...argv: string[]) {
  const file = path.join(folder, "a.pcap");
  writeFileSync(file, pcapOf(frames));
  const ran = spawnSync(launcher, ["inspect", file, ...argv], { encoding: "utf8" });
  return { ...ran, stderr: ran.stderr.split("\n").slice(0, -1) };
}

t.test("inspect tells it on stderr, in every format", async (t) => {
  const flow = ethernet(ipv4({}, tcp({ to: 443, flags: SYN })));
  const some = [flow, ARP, ARP, ECHO, LLDP, LLDP, LLDP, OSPF, SPANNING_TREE];
  const lines = [
    "wireproof: a.pcap: 3 frames are not read: EtherType 0x88cc (LLDP)",
    "wireproof: a.pcap: 1 frame is not read: IP protocol 89 (OSPF)",
  ];
  t.strictSame(inspect(some, "--format", "jsonl").stderr, lines);
  const usual = "wireproof: a.pcap: frames that carried no flow: 2 ARP, 1 ICMP, 1 spanning tree";
  t.strictSame(inspect(some).stderr, [...lines, usual]);
  t.strictSame(inspect([flow, ARP, ECHO], "--format", "jsonl").stderr, [], "nothing to say");
  const cut = flow.subarray(0, 40) as Bytes;
  const tooDeep = ethernet(join(...new Array<number[]>(20).fill([0, 6, 0x40, 64])), 0x8847);
  t.strictSame(inspect([flow, cut, tooDeep, cut], "--format", "jsonl").stderr, [
    "wireproof: a.pcap: 2 frames are not read: a header was not captured whole (truncated)",
    "wireproof: a.pcap: 1 frame is not read: more than 8 wrappers (tooDeep)",
  ]);
  const many = Array.from({ length: 100 }, (_, i) => unknownType(i));
  const told = inspect([flow, ...many, unknownType(0)], "--format", "jsonl").stderr;
  t.equal(told.length, 17, "one line a kind, up to a limit");
  t.equal(told[0], "wireproof: a.pcap: 36 frames are not read: other kinds");
  t.equal(told[1], "wireproof: a.pcap: 2 frames are not read: EtherType 0x7000");
  const counts = told.map((line) => Number(/(\d+) frame/.exec(line)![1]));
  t.equal(counts.reduce((a, b) => a + b), 101); // prettier-ignore
});

t.test("--vxlan-port names ports; a mistake is one sentence", async (t) => {
  const policy = WRAPPINGS["vxlan to a port that is named, with a policy"]!;
  const frame = policy.carry(ipv4({}, tcp({ to: 443, flags: SYN })), 0x0800);
  const encapOf = (...argv: string[]) => {
    const { stdout } = inspect([frame], "--format", "jsonl", ...argv);
    return (JSON.parse(stdout) as Flow).encap;
  };
  t.strictSame(encapOf(), [], "a policy makes it too unlike VXLAN to be told by content");
  t.strictSame(encapOf("--vxlan-port", `1, ${VXLAN_PORTS[0]}`), ["vxlan:43"]);
  const steps = inspect([frame], "--explain", "1", "--vxlan-port", String(VXLAN_PORTS[0]));
  t.match(steps.stdout, /10\.0\.0\.1:40000/);
  const told = "inspect: --vxlan-port must be up to 8 ports from 1 to 65535, by commas";
  for (const wrong of ["0", "65536", "http", "1,,2", "1.5", "", "1,2,3,4,5,6,7,8,9"]) {
    const message = `${told}, not ${wrong}`;
    t.throws(() => parseVxlanPorts(wrong, "inspect"), { code: "CONFIG_VXLAN_PORT", message });
  }
  const { status, stderr, stdout } = inspect([frame], "--vxlan-port", "http");
  t.strictSame([status, stdout, stderr], [2, "", [`wireproof: ${told}, not http`]]);
  const env = { ...process.env, WIREPROOF_AGENT_VXLAN_PORT: "65330" };
  const shown = spawnSync(launcher, ["config", "show"], { encoding: "utf8", env }).stdout;
  t.match(shown, /agent\.vxlan-port +65330 +\(environment\)/);
  const files = ["collector", "key", "cert", "ca"].flatMap((name) => [`--${name}`, "x"]);
  const agent = spawnSync(launcher, ["agent", ...files, "--vxlan-port", "x"], { encoding: "utf8" });
  t.equal(agent.status, 2);
  t.match(agent.stderr, /^wireproof: agent: --vxlan-port must be up to 8 ports .*, not x\n$/);
});
