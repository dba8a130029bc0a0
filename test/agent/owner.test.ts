/** Tells which packets at a pod's interface are the pod's, of packets made one by one. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { Direction } from "../../agent/capture/frame-source.ts";
import type { Watch } from "../../agent/capture/frame-source.ts";
import { decodeFrame } from "../../agent/decode/ethernet.ts";
import { Packet, Stop } from "../../agent/decode/packet.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { Owner, Refusal } from "../../agent/owner.ts";
import { Sightings } from "../../agent/sightings.ts";
import type { Observation } from "../../protocol/observation.ts";
import { ACK, SYN, ethernet, ipv4, ipv6, join, tcp, u16, udp, viewOf } from "../frames.ts";
import type { Bytes } from "../frames.ts";
import { atExit, ip, whyNotLive } from "../live.ts";

const POD = "10.0.0.5";
const POD6 = "fd00::5";
const OTHER = "10.0.0.6";
const OTHER6 = "fd00::6";

const watchOf = (...addresses: string[]): Watch => ({
  ...{ name: "veth1", lane: 0, index: 1, kind: "pod", addresses },
  ...{ delivered: 0, dropped: 0, cutOff: 0 },
});

const from = (source: string, destination: string): Bytes =>
  source.includes(":")
    ? ethernet(ipv6({ source, destination }, tcp({})), 0x86dd)
    : ethernet(ipv4({ source, destination }, tcp({})));

/** What becomes of a frame at an interface of these addresses: by way in, out, and not told. */
function refusals(frame: Bytes, addresses: readonly string[] = [POD, POD6]): string {
  const owner = new Owner(watchOf(...addresses));
  const packet = new Packet();
  const stop = decodeFrame(viewOf(frame), 0, frame.length, 1, packet);
  if (stop !== Stop.none) throw new Error(`stopped: ${stop}`);
  const nameOf = (code: number) => Object.entries(Refusal).find(([, n]) => n === code)![0];
  return [Direction.inbound, Direction.outbound, Direction.unknown]
    .map((direction) => nameOf(owner.refuses(packet, direction)))
    .join(" ");
}

t.test("from the pod its own source counts, to the pod its own destination", async (t) => {
  for (const [pod, other] of [
    [POD, OTHER],
    [POD6, OTHER6],
  ] as const) {
    t.equal(refusals(from(pod, other)), "none misdelivered none");
    t.equal(refusals(from(other, pod)), "spoofedSource none none");
    t.equal(refusals(from(pod, pod)), "none none none");
  }
  for (const [one, another] of [
    [OTHER, "192.0.2.1"],
    [OTHER6, "fd00::7"],
  ] as const) {
    t.equal(refusals(from(one, another)), "spoofedSource misdelivered misdelivered");
  }
});

t.test("of a family of which no address is known nothing is refused", async (t) => {
  const none = "none none none";
  t.equal(refusals(from(OTHER, "10.0.0.7"), []), none);
  t.equal(refusals(from(OTHER6, "fd00::7"), [POD]), none);
  t.equal(refusals(from(OTHER, "10.0.0.7"), [POD6]), none);
  t.equal(refusals(from(OTHER, "10.0.0.7"), [POD]), "spoofedSource misdelivered misdelivered");
});

t.test("what has no address of its own yet, or stays on the link, is no spoofing", async (t) => {
  const rows: readonly (readonly [source: string, destination: string, told: string])[] = [
    ["0.0.0.0", "255.255.255.255", "none none none"], // DHCP
    ["169.254.3.4", OTHER, "none misdelivered none"],
    ["fe80::1", "ff02::1", "none none none"], // neighbour discovery
    ["::", "ff02::1:ff00:5", "none none none"], // duplicate address detection
    ["fe80::1", "fe80::2", "none none none"],
    [POD, "224.0.0.251", "none none none"],
    [POD6, "ff02::fb", "none none none"],
    // Multicast of others is let in to the pod, and not out of it.
    [OTHER, "224.0.0.251", "spoofedSource none none"],
    [OTHER6, "ff02::fb", "spoofedSource none none"],
    [OTHER, "255.255.255.255", "spoofedSource none none"],
    // An IPv4 address written as IPv6 is that address.
    ["::ffff:10.0.0.6", OTHER6, "spoofedSource misdelivered misdelivered"],
  ];
  for (const [source, destination, told] of rows) {
    const frame = source.startsWith("::ffff:")
      ? ethernet(ipv6({ source: "::ffff:a00:6", destination }, tcp({})), 0x86dd)
      : from(source, destination);
    t.equal(refusals(frame), told, `${source} > ${destination}`);
  }
});

t.test("an ICMP error is about a packet that went the other way", async (t) => {
  const about = (source: string, destination: string) => {
    const quoted = ipv4({ source, destination, protocol: 17 }, udp(new Uint8Array(8)));
    const icmp = join([3, 3, 0, 0, 0, 0, 0, 0], quoted.subarray(0, 28));
    return ethernet(ipv4({ source: OTHER, destination: OTHER, protocol: 1 }, icmp));
  };
  t.equal(refusals(about(POD, OTHER)), "spoofedSource none none");
  t.equal(refusals(about(OTHER, POD)), "none misdelivered none");
  t.equal(refusals(about(OTHER, "10.0.0.7")), "spoofedSource misdelivered misdelivered");
});

t.test("inside of a tunnel of the pod's anybody's address may stand", async (t) => {
  const inside = (source: string, destination: string) => {
    const vxlan = join([8, 0, 0, 0, 0, 0, 1, 0], from(source, destination));
    const outer = { source: POD, destination: OTHER, protocol: 17 };
    return ethernet(ipv4(outer, udp(vxlan, { to: 4789 })));
  };
  t.equal(refusals(inside(OTHER, "10.0.0.7")), "insideTunnel insideTunnel insideTunnel");
  t.equal(refusals(inside(POD, OTHER)), "none insideTunnel none");
  const tagged = join(ethernet(new Uint8Array(0), 0x8100), u16(7), u16(0x0800));
  const vlan = join(tagged, from(OTHER, "10.0.0.7").subarray(14));
  t.equal(refusals(vlan), "spoofedSource misdelivered misdelivered", "a VLAN has no addresses");
});

/** A line and sightings of one interface. */
function seenAt(watch: Watch) {
  const told: Observation[] = [];
  const sightings = new Sightings("run", (observation) => told.push(observation));
  const table = { ...FLOW_TABLE_DEFAULTS, flows: 64, slots: 16 };
  const line: Line = new Line({ table, revisions: true, reportIntervalMs: 1e9 }, (r, flow, last) =>
    sightings.tell(line, r, flow, last),
  );
  line.know(watch);
  sightings.know(watch, 0);
  const send = (frame: Bytes, direction: number) => {
    line.clock[0] = 1.7e15;
    watch.delivered++;
    line.frame(viewOf(frame), 0, frame.length, frame.length, 1, 0, direction);
  };
  const coverage = () => sightings.coverage(watch, line, "ring", 1000);
  return { line, told, send, coverage };
}

const syn = (source: string, destination: string, flags = SYN) => {
  const ports = source < destination ? { from: 40_000, to: 80 } : { from: 80, to: 40_000 };
  return ethernet(ipv4({ source, destination }, tcp({ ...ports, flags })));
};

t.test("the vantage is told by the way in which the first packet went", async (t) => {
  const rows = [
    [syn(POD, OTHER), Direction.inbound, "client"],
    [syn(OTHER, POD), Direction.outbound, "server"],
    [syn(POD, OTHER, SYN | ACK), Direction.inbound, "server"],
    [syn(OTHER, POD, SYN | ACK), Direction.outbound, "client"],
    // A pod that reaches itself, through a Service: by the same addresses, either end.
    [syn(POD, POD), Direction.inbound, "client"],
    [syn(POD, POD), Direction.outbound, "server"],
    [syn(POD, POD), Direction.unknown, null],
    [syn(POD, OTHER), Direction.unknown, "client"],
  ] as const;
  for (const [frame, direction, vantage] of rows) {
    const { line, told, send } = seenAt(watchOf(POD));
    send(frame, direction);
    line.finish();
    t.strictSame(told.map((o) => o.vantage), [vantage]); // prettier-ignore
  }
  const { line, told, send } = seenAt(watchOf());
  send(syn(POD, OTHER), Direction.inbound);
  line.finish();
  t.equal(told[0]!.vantage, null, "whose interface it is is not known");
});

t.test("what is refused is counted with its interface, and no flow", async (t) => {
  const watch = watchOf(POD);
  const { line, told, send, coverage } = seenAt(watch);
  send(syn(POD, OTHER), Direction.inbound);
  send(syn(OTHER, POD), Direction.inbound);
  send(syn(OTHER, "10.0.0.7"), Direction.inbound);
  send(syn(OTHER, "10.0.0.7"), Direction.outbound);
  send(syn(POD, OTHER), Direction.outbound);
  send(syn(POD, OTHER).subarray(0, 30), Direction.inbound);
  line.finish();
  t.strictSame(told.map((o) => [o.record.src_ip, o.record.packets]), [[POD, [1, 0]]]); // prettier-ignore
  const { delivered, packets, stopped } = coverage();
  t.strictSame([delivered, packets], [6, 1]);
  t.strictSame(stopped, { spoofedSource: 2, misdelivered: 2, truncated: 1 });
  t.equal(line.counters.frames, 6);
  t.strictSame(coverage().stopped, {}, "once");
});

t.test(
  "attempts that are not kept, and what made room, are told with their interface",
  async (t) => {
    const sightings = new Sightings("run", () => {});
    const table = { ...FLOW_TABLE_DEFAULTS, flows: 4, slots: 16 };
    const line: Line = new Line(
      { table, revisions: true, reportIntervalMs: 1e9 },
      (r, flow, last) => sightings.tell(line, r, flow, last),
    );
    const watches = [0, 1, 2].map((lane) => ({ ...watchOf(), lane, name: `veth${lane}` }));
    for (const watch of watches) {
      line.know(watch);
      sightings.know(watch, 0);
    }
    const send = (frame: Bytes, lane: number) => {
      watches[lane]!.delivered++;
      line.frame(viewOf(frame), 0, frame.length, frame.length, 1, lane, Direction.inbound);
    };
    for (let i = 0; i < 10; i++) {
      for (const [lane, source] of [
        [0, POD],
        [1, POD],
        [1, OTHER],
      ] as const) {
        const segment = tcp({ from: 1000 + i, to: 80, flags: SYN });
        send(ethernet(ipv4({ source, destination: "10.9.9.9" }, segment)), lane);
      }
    }
    send(ethernet(new Uint8Array(4)), 2);
    const told = watches.map((watch) => sightings.coverage(watch, line, "ring", 1000));
    const attempts = told.map((row) => Object.fromEntries((row.floods ?? []).map((f) => [f.source, f.attempts]))); // prettier-ignore
    // Of thirty attempts the last four are in the table.
    t.strictSame(attempts, [{ [POD]: 9 }, { [POD]: 9, [OTHER]: 8 }, {}]);
    t.strictSame(told.map((row) => row.discarded), [{ "no-room": 9 }, { "no-room": 17 }, {}]); // prettier-ignore
    t.strictSame(told.map((row) => row.stopped), [{}, {}, { truncated: 1 }]); // prettier-ignore
    t.strictSame(told.map((row) => row.delivered - row.packets), [0, 0, 1]); // prettier-ignore
    t.strictSame(sightings.coverage(watches[1]!, line, "ring", 2000).floods, undefined, "once");
  },
);

t.test("a flow that began before the addresses were known is dropped by then", async (t) => {
  const watch = watchOf();
  const { line, told, send, coverage } = seenAt(watch);
  send(syn(OTHER, "10.0.0.7"), Direction.inbound);
  send(syn(POD, OTHER), Direction.inbound);
  watch.addresses = [POD];
  line.finish();
  t.strictSame(told.map((o) => [o.record.src_ip, o.vantage]), [[POD, "client"]]); // prettier-ignore
  t.strictSame(coverage().discarded, { "not-of-pod": 1 });
});

t.test("fragments of one way are not put together with those of the other", async (t) => {
  const { line, told, send } = seenAt(watchOf(POD));
  const datagram = udp(new Uint8Array(24).fill(0x41), { from: 53, to: 53 });
  const ends = { source: OTHER, destination: POD, protocol: 17 };
  // The first half as if the other had sent it, by the pod; the second as it comes in truth.
  send(ethernet(ipv4({ ...ends, fragment: 0x2000 }, datagram.subarray(0, 16))), Direction.inbound);
  send(ethernet(ipv4({ ...ends, fragment: 2 }, datagram.subarray(16))), Direction.outbound);
  line.finish();
  t.strictSame(told, []);
  t.equal(line.counters.stopped[Stop.fragment], 2);
});

// ---- live ---------------------------------------------------------------------------------------

const node = `wpf${process.pid.toString(36)}`;
const pod = `${node}p`;
const cleanUp = () => [node, pod].forEach((name) => spawnSync("ip", ["netns", "del", name]));
const skip = whyNotLive();
if (skip === false) atExit(cleanUp);

/** A node and a pod, as a routed network plugin lays them. */
function makePod(): void {
  cleanUp();
  for (const name of [node, pod]) {
    ip(`netns add ${name}`);
    const settings = ["net.ipv4.conf.all.rp_filter=0", "net.ipv6.conf.default.disable_ipv6=1"];
    spawnSync("ip", ["netns", "exec", name, "sysctl", "-qw", ...settings]);
    ip(`-n ${name} link set lo up`);
  }
  ip(`-n ${node} link add wp1 type veth peer name eth1 netns ${pod}`);
  ip(`-n ${pod} link set eth1 address 02:00:00:00:00:02 up`);
  ip(`-n ${node} link set wp1 up`);
  ip(`-n ${node} addr add 10.66.0.1/32 dev lo`);
  ip(`-n ${pod} addr add 10.66.0.2/32 dev lo`);
  ip(`-n ${pod} route add 10.66.0.1/32 dev eth1 src 10.66.0.2`);
  ip(`-n ${node} route add 10.66.0.2/32 dev wp1 src 10.66.0.1`);
  ip(`-n ${node} route add 10.77.0.0/24 dev wp1 src 10.66.0.1`);
  ip(`-n ${node} neigh add 10.77.0.9 lladdr 02:00:00:00:00:02 dev wp1`);
}

const REAL = "tcp 10.66.0.2 > 10.66.0.1:9000 client";
for (const tier of ["ring-cutoff", "ring", "libpcap"]) {
  t.test(`${tier}: a pod that forges packets of others makes no flow of theirs`, { skip }, (t) => {
    makePod();
    const child = path.join(import.meta.dirname, "forging.ts");
    const argv = ["netns", "exec", node, process.execPath, child, tier, pod];
    const options = { encoding: "utf8", timeout: 30_000, killSignal: "SIGKILL" } as const;
    const { stdout, stderr } = spawnSync("ip", argv, options);
    if (stdout === "") throw new Error(stderr);
    const said = JSON.parse(stdout) as Record<string, unknown>;
    t.strictSame(said["addresses"], ["10.66.0.2"]);
    const { spoofedSource, misdelivered, insideTunnel } = said["stopped"] as Record<string, number>;
    const refused = [spoofedSource ?? 0, misdelivered ?? 0, insideTunnel ?? 0];
    if (tier === "libpcap") {
      // Which way a frame went is not known: who writes the pod's own address to it may be the pod.
      t.strictSame(said["flows"], ["tcp 10.66.0.2 > 10.66.0.1:8443 client", REAL]);
      t.strictSame(refused, [0, 3, 1]);
    } else {
      t.strictSame(said["flows"], [REAL]);
      t.strictSame(refused, [3, 1, 1]);
    }
    t.end();
  });
}
