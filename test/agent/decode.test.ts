/** Checks decode: each kind of header, cut at every byte, and with lengths that lie. */
import t from "tap";
import { LinkType, decodeFrame } from "../../agent/decode/ethernet.ts";
import { ENCAP_LIMIT, Encap, Packet, STOP_NAMES, Stop } from "../../agent/decode/packet.ts";
import { Unreachable } from "../../agent/decode/packet.ts";
import { formatAddress, formatTime } from "../../protocol/address.ts";
import { ACK, SYN, ethernet, extension, ipv4, ipv6, join, latin1 } from "../frames.ts";
import { hex, random, tag, tcp, u16, u32, udp, viewOf } from "../frames.ts";

const packet = new Packet();
const HELLO = latin1("hello, world");

/** Decodes a frame that stands between other bytes, as it does in a ring. */
function decode(frame: Uint8Array, linkType: number = LinkType.ethernet, around = 0xa5): Stop {
  const ring = new Uint8Array(frame.length + 128).fill(around);
  ring.set(frame, 64);
  return decodeFrame(viewOf(ring), 64, 64 + frame.length, linkType, packet);
}

const unreachableName = () =>
  Object.entries(Unreachable).find(([, kind]) => kind === packet.unreachable)![0];

/** What a decoded packet says, in one line. */
function said(frame: Uint8Array): string {
  const p = packet;
  const source = formatAddress(p.source0, p.source1, p.source2, p.source3);
  const destination = formatAddress(
    ...([p.destination0, p.destination1, p.destination2, p.destination3] as const),
  );
  const names = Object.entries(Encap);
  const via = [...p.encap.slice(0, p.encapCount)].map((word) => {
    const name = names.find(([, kind]) => kind === word >>> 24)![0];
    return ` ${name}:${word & 0xffffff}`;
  });
  const kind = p.unreachable === 0 ? "" : `${unreachableName()} `;
  const payload = `${p.payloadAt - 64}..${p.payloadEnd - 64}/${p.payloadLength}`;
  const place = p.payloadEnd - 64 <= frame.length ? payload : "beyond the frame";
  return `${kind}${p.protocol} ${source}:${p.sourcePort} > ${destination}:${p.destinationPort} ${place}${via.join("")}`;
}

type Vector = {
  name: string;
  frame: Uint8Array;
  linkType?: number;
  /** Bytes of headers: every cut before is `truncated`, every other is decoded. */
  headers: number;
  said: string;
};

const SEGMENT = tcp({ flags: ACK, sequence: 7, acknowledgment: 9 }, HELLO);
const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
const V4 = "10.0.0.1:40000 > 10.0.0.2";
const V6 = "fd00::1:40000 > fd00::2";
const inIpv4 = ipv4({}, SEGMENT);
const gre = (flags: number, type: number, words: number) =>
  join(u16(flags), u16(type), new Array<number>(words * 4).fill(0));

const VECTORS: readonly Vector[] = [
  { name: "tcp", frame: ethernet(inIpv4), headers: 54, said: `6 ${V4}:443 54..66/12` },
  {
    name: "tcp with options",
    frame: ethernet(ipv4({}, tcp({ options: TIMESTAMPS }, HELLO))),
    headers: 54, // a snap inside the options loses no fact that is kept
    said: `6 ${V4}:443 66..78/12`,
  },
  {
    name: "ipv4 options",
    frame: ethernet(ipv4({ options: [148, 4, 0, 0] }, SEGMENT)),
    headers: 58,
    said: `6 ${V4}:443 58..70/12`,
  },
  {
    name: "first fragment",
    frame: ethernet(ipv4({ fragment: 0x2000 }, SEGMENT)),
    headers: 54,
    said: `6 ${V4}:443 54..66/12`,
  },
  {
    name: "big tcp, ipv4 total length 0",
    frame: ethernet(ipv4({ length: 0 }, SEGMENT)),
    headers: 54,
    said: `6 ${V4}:443 54..66/12`,
  },
  {
    name: "ethernet padding behind a short packet",
    frame: join(ethernet(ipv4({}, tcp({ flags: ACK }))), [0, 0, 0, 0, 0, 0]),
    headers: 54,
    said: `6 ${V4}:443 54..54/0`,
  },
  {
    name: "udp",
    frame: ethernet(ipv4({ protocol: 17 }, udp(HELLO))),
    headers: 42,
    said: `17 ${V4}:53 42..54/12`,
  },
  {
    name: "esp: no ports",
    frame: ethernet(ipv4({ protocol: 50 }, join(u32(0x1234), u32(1), HELLO))),
    headers: 42,
    said: "50 10.0.0.1:0 > 10.0.0.2:0 42..54/12",
  },
  {
    name: "sctp",
    frame: ethernet(ipv4({ protocol: 132 }, join(u16(40000), u16(5060), u32(0), u32(0), HELLO))),
    headers: 46,
    said: `132 ${V4}:5060 46..58/12`,
  },
  {
    name: "udp whose length is below the packet's",
    frame: ethernet(ipv4({ protocol: 17 }, udp(HELLO, { length: 13 }))),
    headers: 42,
    said: `17 ${V4}:53 42..47/5`,
  },
  {
    name: "udp jumbogram, length 0",
    frame: ethernet(ipv4({ protocol: 17 }, udp(HELLO, { length: 0 }))),
    headers: 42,
    said: `17 ${V4}:53 42..54/12`,
  },
  {
    name: "ipv6",
    frame: ethernet(ipv6({}, SEGMENT), 0x86dd),
    headers: 74,
    said: `6 ${V6}:443 74..86/12`,
  },
  {
    name: "ipv6 big tcp, payload length 0",
    frame: ethernet(ipv6({ length: 0 }, SEGMENT), 0x86dd),
    headers: 74,
    said: `6 ${V6}:443 74..86/12`,
  },
  {
    name: "ipv6 extension headers: hop-by-hop, destination, routing, first fragment",
    frame: ethernet(
      ipv6(
        { next: 0 },
        join(extension(60), extension(43, 8), extension(44, 16), extension(6), SEGMENT),
      ),
      0x86dd,
    ),
    headers: 74 + 8 + 16 + 24 + 8,
    said: `6 ${V6}:443 130..142/12`,
  },
  {
    name: "ipv6 authentication header",
    frame: ethernet(ipv6({ next: 51 }, join([6, 4], new Array(22).fill(1), SEGMENT)), 0x86dd),
    headers: 98,
    said: `6 ${V6}:443 98..110/12 ah:0`,
  },
  {
    name: "vlan",
    frame: ethernet(join(tag(0xe007, 0x0800), inIpv4), 0x8100),
    headers: 58,
    said: `6 ${V4}:443 58..70/12 vlan:7`,
  },
  {
    name: "vlan in qinq",
    frame: ethernet(join(tag(42, 0x8100), tag(7, 0x0800), inIpv4), 0x88a8),
    headers: 62,
    said: `6 ${V4}:443 62..74/12 qinq:42 vlan:7`,
  },
  {
    name: "mpls, two labels",
    frame: ethernet(join(u32((16 << 12) | 64), u32((17 << 12) | 256 | 64), inIpv4), 0x8847),
    headers: 62,
    said: `6 ${V4}:443 62..74/12 mpls:16 mpls:17`,
  },
  {
    name: "pppoe",
    frame: ethernet(join([0x11, 0], u16(9), u16(54), u16(0x21), inIpv4), 0x8864),
    headers: 62,
    said: `6 ${V4}:443 62..74/12 pppoe:9`,
  },
  {
    name: "ipip",
    frame: ethernet(ipv4({ protocol: 4, source: "1.1.1.1" }, inIpv4)),
    headers: 74,
    said: `6 ${V4}:443 74..86/12 ipip:0`,
  },
  {
    name: "6in4",
    frame: ethernet(ipv4({ protocol: 41 }, ipv6({}, SEGMENT))),
    headers: 94,
    said: `6 ${V6}:443 94..106/12 sixInFour:0`,
  },
  {
    name: "gre with checksum, key and sequence",
    frame: ethernet(ipv4({ protocol: 47 }, join(gre(0xb000, 0x0800, 3), inIpv4))),
    headers: 90,
    said: `6 ${V4}:443 90..102/12 gre:0`,
  },
  {
    name: "erspan II",
    frame: ethernet(
      ipv4({ protocol: 47 }, join(gre(0x1000, 0x88be, 1), new Array(8).fill(0), ethernet(inIpv4))),
    ),
    headers: 14 + 20 + 8 + 8 + 54,
    said: `6 ${V4}:443 104..116/12 erspan:0`,
  },
  {
    name: "erspan III with a subheader",
    frame: ethernet(
      ipv4(
        { protocol: 47 },
        join(
          gre(0x1000, 0x22eb, 1),
          new Array(11).fill(0),
          [1],
          new Array(8).fill(0),
          ethernet(inIpv4),
        ),
      ),
    ),
    headers: 14 + 20 + 8 + 20 + 54,
    said: `6 ${V4}:443 116..128/12 erspan:0`,
  },
  {
    name: "gre with source routes, and ethernet inside",
    frame: ethernet(
      ipv4(
        { protocol: 47 },
        join(gre(0x4000, 0x6558, 1), [8, 0, 0, 4, 1, 2, 3, 4], [0, 0, 0, 0], ethernet(inIpv4)),
      ),
    ),
    headers: 14 + 20 + 8 + 12 + 54,
    said: `6 ${V4}:443 108..120/12 gre:0`,
  },
  {
    name: "pptp",
    frame: ethernet(
      ipv4(
        { protocol: 47 },
        join(
          u16(0x3081),
          u16(0x880b),
          u16(56),
          u16(9),
          u32(1),
          u32(2),
          u16(0xff03),
          [0x21],
          inIpv4,
        ),
      ),
    ),
    headers: 14 + 20 + 16 + 3 + 40,
    said: `6 ${V4}:443 93..105/12 gre:0`,
  },
  {
    name: "mpls pseudowire",
    frame: ethernet(join(u32((17 << 12) | 256 | 64), [0, 0, 0, 0], ethernet(inIpv4)), 0x8847),
    headers: 14 + 8 + 54,
    said: `6 ${V4}:443 76..88/12 mpls:17`,
  },
  {
    name: "ppp",
    frame: join(u16(0xff03), u16(0x0021), inIpv4),
    linkType: LinkType.ppp,
    headers: 44,
    said: `6 ${V4}:443 44..56/12`,
  },
  {
    name: "linux cooked",
    frame: join([0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0], u16(0x0800), inIpv4),
    linkType: LinkType.linuxSll,
    headers: 56,
    said: `6 ${V4}:443 56..68/12`,
  },
  {
    name: "linux cooked 2",
    frame: join(u16(0x0800), new Array(18).fill(0), inIpv4),
    linkType: LinkType.linuxSll2,
    headers: 60,
    said: `6 ${V4}:443 60..72/12`,
  },
  {
    name: "bsd loopback",
    frame: join([2, 0, 0, 0], inIpv4),
    linkType: LinkType.null,
    headers: 44,
    said: `6 ${V4}:443 44..56/12`,
  },
  ...[LinkType.raw, LinkType.rawBsd, LinkType.rawOpenBsd, LinkType.ipv4].map((linkType) => ({
    name: `raw ${linkType}`,
    frame: inIpv4,
    linkType,
    headers: 40,
    said: `6 ${V4}:443 40..52/12`,
  })),
  {
    name: "raw ipv6",
    frame: ipv6({}, SEGMENT),
    linkType: LinkType.ipv6,
    headers: 60,
    said: `6 ${V6}:443 60..72/12`,
  },
  {
    name: "icmp port unreachable about udp",
    frame: ethernet(
      ipv4(
        { protocol: 1, source: "10.0.0.2", destination: "10.0.0.1" },
        join([3, 3, 0, 0, 0, 0, 0, 0], ipv4({ protocol: 17 }, udp(HELLO)).subarray(0, 28)),
      ),
    ),
    headers: 14 + 20 + 8 + 28,
    said: `port 17 ${V4}:53 70..70/0`,
  },
  {
    name: "icmp6 administratively prohibited about tcp",
    frame: ethernet(
      ipv6(
        { next: 58, source: "fd00::9", destination: "fd00::1" },
        join([1, 1, 0, 0, 0, 0, 0, 0], ipv6({}, tcp({ flags: SYN }))),
      ),
      0x86dd,
    ),
    headers: 14 + 40 + 8 + 40 + 8,
    said: `adminProhibited 6 ${V6}:443 122..122/0`,
  },
];

for (const { name, frame, linkType, headers, said: expected } of VECTORS) {
  t.test(`${name}: decoded whole, and cut at every byte`, async (t) => {
    t.equal(STOP_NAMES[decode(frame, linkType)], "none");
    t.equal(said(frame), expected);
    const wrong: string[] = [];
    for (let cut = 0; cut < frame.length; cut++) {
      const stop = decode(frame.subarray(0, cut), linkType);
      const wanted = cut < headers ? Stop.truncated : Stop.none;
      if (stop !== wanted) wrong.push(`cut at ${cut}: ${STOP_NAMES[stop]}`);
      if (stop !== Stop.none) continue;
      const inside = packet.payloadAt - 64 <= cut && packet.payloadEnd - 64 <= cut;
      if (!inside || packet.payloadAt > packet.payloadEnd) wrong.push(`cut at ${cut}: runs past`);
    }
    t.strictSame(wrong, []);
  });
}

const vxlan = (id: number, inner: Uint8Array, flags = 0x08) =>
  join([flags, 0, 0, 0], u32(id << 8), inner);
const geneve = (id: number, type: number, options: number[], inner: Uint8Array) =>
  join([options.length / 4, 0], u16(type), u32(id << 8), options, inner);

t.test("tunnels over udp: the innermost flow, and the wrappers' identifiers", async (t) => {
  const over = (to: number, payload: Uint8Array) =>
    ethernet(ipv4({ protocol: 17, source: "192.0.2.1" }, udp(payload, { to })));
  const inner = ethernet(inIpv4);
  const tunneled = `6 ${V4}:443 104..116/12 vxlan:42`;
  const gtp = (flags: number, payload: Uint8Array) =>
    join([flags, 255], u16(payload.length), u32(7), payload);
  const rows: [string, Uint8Array, string][] = [
    ["vxlan", over(4789, vxlan(42, inner)), `6 ${V4}:443 104..116/12 vxlan:42`],
    ["vxlan, linux port", over(8472, vxlan(7, inner)), `6 ${V4}:443 104..116/12 vxlan:7`],
    ["geneve", over(6081, geneve(9, 0x6558, [], inner)), `6 ${V4}:443 104..116/12 geneve:9`],
    [
      "geneve with options, ip inside",
      over(6081, geneve(1, 0x0800, [1, 2, 0, 1, 0, 0, 0, 0], inIpv4)),
      `6 ${V4}:443 98..110/12 geneve:1`,
    ],
    [
      "vxlan in vxlan",
      over(4789, vxlan(1, over(4789, vxlan(2, inner)))),
      `6 ${V4}:443 154..166/12 vxlan:1 vxlan:2`,
    ],
    ["vxlan with a group policy", over(4789, join([0x88, 8, 0, 5], u32(42 << 8), inner)), tunneled],
    ["vxlan-gpe, ethernet", over(4790, join([0x0c, 0, 0, 3], u32(42 << 8), inner)), tunneled],
    [
      "vxlan-gpe, ip",
      over(4790, join([0x0c, 0, 0, 1], u32(42 << 8), inIpv4)),
      `6 ${V4}:443 90..102/12 vxlan:42`,
    ],
    ["gtp-u", over(2152, gtp(0x30, inIpv4)), `6 ${V4}:443 90..102/12 gtp:0`],
    [
      "gtp-u with a sequence number",
      over(2152, gtp(0x32, join([0, 1, 0, 0], inIpv4))),
      `6 ${V4}:443 94..106/12 gtp:0`,
    ],
    [
      "gtp-u with a PDU session container",
      over(2152, gtp(0x34, join([0, 0, 0, 0x85], [1, 0x10, 9, 0], inIpv4))),
      `6 ${V4}:443 98..110/12 gtp:0`,
    ],
    [
      "a gtp-u header that lies about its length",
      over(2152, join([0x30, 255], u16(900), u32(7), inIpv4)),
      "17 192.0.2.1:40000 > 10.0.0.2:2152 42..102/60",
    ],
    [
      "a gtp-u echo",
      over(2152, join([0x32, 1], u16(4), u32(0), [0, 1, 0, 0])),
      "17 192.0.2.1:40000 > 10.0.0.2:2152 42..54/12",
    ],
    // The port alone makes no tunnel.
    [
      "other bytes to vxlan's port",
      over(4789, vxlan(42, inner, 0)),
      "17 192.0.2.1:40000 > 10.0.0.2:4789 42..116/74",
    ],
    ["dns to geneve's port", over(6081, HELLO), "17 192.0.2.1:40000 > 10.0.0.2:6081 42..54/12"],
  ];
  for (const [name, frame, told] of rows) {
    t.equal(decode(frame), Stop.none, name);
    t.equal(said(frame), told, name);
    for (let end = 0; end < frame.length; end++) {
      const stop = decode(frame.subarray(0, end));
      const known = stop === Stop.none || stop === Stop.truncated;
      if (!known) t.fail(`${name} cut at ${end}: ${STOP_NAMES[stop]}`);
    }
  }
  const arp = over(4789, vxlan(42, ethernet(HELLO, 0x0806)));
  t.equal(decode(arp), Stop.notIp, "arp inside carries no flow");
});

t.test("an IEEE 802.3 frame with a SNAP header", async (t) => {
  const snap = (type: number) => join([0xaa, 0xaa, 3, 0, 0, 0], u16(type), inIpv4);
  t.equal(decode(ethernet(snap(0x0800), 8 + inIpv4.length)), Stop.none);
  t.equal(packet.payloadAt - 64, 62);
  t.equal(decode(ethernet(snap(38), 8 + inIpv4.length)), Stop.notIp);
  t.equal(decode(ethernet(join([0x42, 0x42, 3], inIpv4), 38)), Stop.notIp, "spanning tree");
});

t.test("a cut that the IP length agrees with stops for a reason, too", async (t) => {
  const segment = tcp({ options: TIMESTAMPS }, HELLO);
  for (let length = 0; length < segment.length; length++) {
    const stop = decode(ethernet(ipv4({}, segment.subarray(0, length))));
    // Below 20 the header is cut; below 32 its offset field reaches past the packet.
    const wanted = length < 20 ? Stop.truncated : length < 32 ? Stop.malformed : Stop.none;
    if (stop !== wanted) t.equal(STOP_NAMES[stop], STOP_NAMES[wanted], `${length} bytes`);
  }
  t.equal(decode(ethernet(ipv4({ length: 20 + 32 + 5 }, segment))), Stop.none);
  t.equal(packet.payloadLength, 5, "the IP length bounds the payload");
});

/** One-liners: a frame, and where it must end. */
const STOPS: readonly [string, keyof typeof Stop, Uint8Array, number?][] = [
  ["arp", "notIp", ethernet(new Uint8Array(46), 0x0806)],
  ["an 802.3 length frame", "notIp", ethernet(new Uint8Array(46), 46)],
  ["pppoe LCP", "notIp", ethernet(join([0x11, 0], u16(9), u16(4), u16(0xc021)), 0x8864)],
  ["a link layer that is not read", "linkType", inIpv4, 127],
  ["icmp echo", "notTransport", ethernet(ipv4({ protocol: 1 }, hex("0800 0000 0001 0001")))],
  ["ospf", "notTransport", ethernet(ipv4({ protocol: 89 }, HELLO))],
  ["pptp's gre", "notTransport", ethernet(ipv4({ protocol: 47 }, gre(0x3001, 0x880b, 3)))],
  ["ipv6 without next header", "notTransport", ethernet(ipv6({ next: 59 }, HELLO), 0x86dd)],
  ["ipv4 header length 16", "malformed", ethernet(patch(inIpv4, 0, 0x44))],
  ["ipv4 total length 19", "malformed", ethernet(ipv4({ length: 19 }, SEGMENT))],
  ["ipv4 header past its total length", "malformed", ethernet(patch(inIpv4, 0, 0x4f, 3, 40))],
  ["tcp offset 4", "malformed", ethernet(ipv4({}, patch(SEGMENT, 12, 0x40)))],
  ["tcp offset past the packet", "malformed", ethernet(ipv4({}, patch(SEGMENT, 12, 0xf0)))],
  ["udp length 7", "malformed", ethernet(ipv4({ protocol: 17 }, udp(HELLO, { length: 7 })))],
  ["raw ip of version 5", "malformed", patch(inIpv4, 0, 0x55), LinkType.raw],
  ["a second fragment", "fragment", ethernet(ipv4({ fragment: 1 }, SEGMENT))],
  [
    "a second fragment of ipv6",
    "fragment",
    ethernet(ipv6({ next: 44 }, join([6, 0, 0, 8, 0, 0, 0, 0], SEGMENT)), 0x86dd),
  ],
  [
    "eleven ipv6 extension headers",
    "malformed",
    ethernet(ipv6({ next: 60 }, join(...new Array(10).fill(extension(60)), SEGMENT)), 0x86dd),
  ],
  [
    "an ipv6 extension header past the packet",
    "truncated",
    ethernet(ipv6({ next: 60 }, join([6, 255, 0, 0, 0, 0, 0, 0], SEGMENT)), 0x86dd),
  ],
  [
    "an authentication header past the packet",
    "truncated",
    ethernet(ipv4({ protocol: 51 }, join([6, 255], new Array(10).fill(0), SEGMENT))),
  ],
  ["icmp: fragmentation needed is no refusal", "notTransport", icmpAbout(inIpv4, 3, 4)],
  ["icmp: time exceeded is no refusal", "notTransport", icmpAbout(inIpv4, 11, 0)],
  ["icmp about a later fragment", "fragment", icmpAbout(ipv4({ fragment: 1 }, SEGMENT), 3, 1)],
  ["icmp about what is no ip", "malformed", icmpAbout(patch(inIpv4, 0, 0x15), 3, 1)],
  ["icmp about a header of 16 bytes", "malformed", icmpAbout(patch(inIpv4, 0, 0x44), 3, 1)],
  ["icmp about icmp", "notTransport", icmpAbout(ipv4({ protocol: 1 }, HELLO), 3, 1)],
];

/** A copy with bytes replaced: position, value, position, value … */
function patch(bytes: Uint8Array, ...changes: number[]): Uint8Array<ArrayBuffer> {
  const copy = Uint8Array.from(bytes);
  for (let i = 0; i < changes.length; i += 2) copy[changes[i]!] = changes[i + 1]!;
  return copy;
}

function icmpAbout(quoted: Uint8Array, type: number, code: number): Uint8Array {
  return ethernet(ipv4({ protocol: 1 }, join([type, code, 0, 0, 0, 0, 0, 0], quoted)));
}

/** By code, from 0. IPv4: RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1; IPv6: RFC 4443 §3.1. */
const CODES4 =
  "net host protocol port none other net host other netProhibited hostProhibited net host " +
  "adminProhibited other other other";
const CODES6 =
  "net adminProhibited other host port policyFailed rejectRoute other other other other";

t.test("icmp errors: what every code says, and who says it", async (t) => {
  const sender = () => {
    const { errorSource0, errorSource1, errorSource2, errorSource3 } = packet;
    return formatAddress(errorSource0, errorSource1, errorSource2, errorSource3);
  };
  for (const [code, name] of [...CODES4.split(" "), "other"].entries()) {
    const quote = ipv4({}, tcp({ flags: SYN })).subarray(0, 28);
    const message = join([3, code === 17 ? 255 : code, 0, 0, 0, 0, 0, 0], quote);
    const stop = decode(ethernet(ipv4({ protocol: 1, source: "192.0.2.1" }, message)));
    t.equal(STOP_NAMES[stop], name === "none" ? "notTransport" : "none", `IPv4, ${code}`);
    t.equal(unreachableName(), name);
    if (name !== "none") t.equal(sender(), "192.0.2.1");
  }
  for (const [code, name] of CODES6.split(" ").entries()) {
    const message = join([1, code, 0, 0, 0, 0, 0, 0], ipv6({}, tcp({ flags: SYN })));
    const frame = ethernet(ipv6({ next: 58, source: "2001:db8::1" }, message), 0x86dd);
    t.equal(STOP_NAMES[decode(frame)], "none", `IPv6, ${code}`);
    t.strictSame([unreachableName(), sender()], [name, "2001:db8::1"]);
  }
  // "Packet too big" (RFC 4443 §3.2) refuses nothing, nor does an echo; and what comes behind an
  // error is none.
  const tooBig = join([2, 0, 0, 0, 0, 0, 5, 0], ipv6({}, tcp({ flags: SYN })));
  t.equal(decode(ethernet(ipv6({ next: 58 }, tooBig), 0x86dd)), Stop.notTransport);
  t.equal(decode(ethernet(inIpv4)), Stop.none);
  t.equal(unreachableName(), "none");
});

t.test("what carries no flow stops for the reason that names it", async (t) => {
  for (const [name, stop, frame, linkType] of STOPS) {
    t.equal(STOP_NAMES[decode(frame, linkType)], stop, name);
  }
});

/** A frame within so many VLAN tags. */
function tags(count: number): Uint8Array {
  const last = count - 1;
  const list = Array.from({ length: count }, (_, i) => tag(i + 1, i === last ? 0x0800 : 0x8100));
  return ethernet(join(...list, inIpv4), 0x8100);
}

t.test("wrappers are counted up to their limit, and never recursed into beyond it", async (t) => {
  t.equal(decode(tags(ENCAP_LIMIT)), Stop.none);
  t.equal(packet.encapCount, ENCAP_LIMIT);
  t.equal(STOP_NAMES[decode(tags(ENCAP_LIMIT + 1))], "tooDeep");
  let nested: Uint8Array = inIpv4;
  for (let i = 0; i < 2000; i++) nested = ipv4({ protocol: 4, length: 0 }, nested);
  t.equal(STOP_NAMES[decode(ethernet(nested))], "tooDeep", "two thousand tunnels");
});

/** Everything that a decode leaves behind, when it says that it may be trusted. */
const snapshot = (stop: Stop) => (stop === Stop.none ? JSON.stringify(packet) : stop);

t.test("mutated frames: one stop each, nothing thrown, nothing read past the end", async (t) => {
  const seed = 20261122;
  const below = random(seed);
  const counted = new Array<number>(STOP_NAMES.length).fill(0);
  const links = [...Object.values(LinkType), 127];
  const pool = [...VECTORS, { frame: tags(ENCAP_LIMIT + 1), linkType: LinkType.ethernet }];
  const rounds = 60_000;
  for (let i = 0; i < rounds; i++) {
    const vector = pool[below(pool.length)]!;
    const frame = Uint8Array.from(vector.frame.subarray(0, below(vector.frame.length + 1)));
    for (let n = below(4); n > 0 && frame.length > 0; n--) frame[below(frame.length)] = below(256);
    const linkType = below(4) === 0 ? links[below(links.length)]! : vector.linkType;
    const stop = decode(frame, linkType, 0x00);
    const first = snapshot(stop);
    counted[stop]!++;
    const again = snapshot(decode(frame, linkType, 0xff));
    const fits = packet.payloadEnd - 64 <= frame.length && packet.payloadAt <= packet.payloadEnd;
    if (first !== again || (stop === Stop.none && !fits)) {
      t.fail(`seed ${seed}, round ${i}: ${Buffer.from(frame).toString("hex")}`);
      return;
    }
  }
  t.equal(
    counted.reduce((a, b) => a + b),
    rounds,
  );
  t.ok(
    counted.every((n) => n > 0),
    `every stop was met: ${counted.join(" ")}`,
  );
});

t.test("times are RFC 3339 to the microsecond, whatever a capture claims", (t) => {
  const vectors: readonly [number, string][] = [
    [0, "1970-01-01T00:00:00.000000Z"],
    [1_795_373_782_000_009, "2026-11-22T18:56:22.000009Z"],
    [1_795_373_782_123_456, "2026-11-22T18:56:22.123456Z"],
    [-1, "1969-12-31T23:59:59.999999Z"],
    [NaN, "0001-01-01T00:00:00.000000Z"],
    [2 ** 64, "0001-01-01T00:00:00.000000Z"],
  ];
  for (const [us, text] of vectors) t.equal(formatTime(us), text);
  // Beyond 2^53 the fraction is rounded: still a time, in the right second or the one beside it.
  const below = random(7);
  for (let i = 0; i < 10_000; i++) {
    const us = (below(2 ** 31) / 2 ** 31) * 2.5e17;
    const text = formatTime(us);
    const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(text);
    if (!isTime || Math.abs(Date.parse(text) - us / 1000) > 1000) t.fail(`${us}: ${text}`);
  }
  t.end();
});
