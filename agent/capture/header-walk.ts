/**
 * Assembles the part of an eBPF program that walks a frame's headers down to those of the flow that
 * the agent reads in it, as `agent/decode` does.
 *
 * Two levels of IP are walked: a packet, and one in a tunnel of it (VXLAN, VXLAN-GPE, Geneve, GRE,
 * IP in IP, 6in4). A frame that goes on further, is in another wrapper, or whose lengths contradict
 * each other, is handed over. What is walked has no more wrappers than `agent/decode/packet.ts`
 * counts: of either level two tags and an AH, the tunnel, and a tag that the kernel took out.
 */
import { Alu, Jump, Size } from "./bpf-assembler.ts";
import type { BpfAssembler } from "./bpf-assembler.ts";

/** The stack below r10: numbers, the flow's key, headers, entries of maps. */
export const Stack = {
  /** Where the interface's counters are. */
  interface: -8,
  /** Bytes of the innermost IP packet, header and all. */
  ipBytes: -16,
  /** What follows the IP header, then the payload alone, in bytes. */
  rest: -24,
  /** Where in the frame the packet ends that is being walked. */
  end: -32,
  key: -88,
  /** The IP header; addresses of IPv4 stand where IPv6 has them, as ::ffff:a.b.c.d. */
  ip: -136,
  source: -136 + 8,
  destination: -136 + 24,
  /** The transport header, or what comes in its place. */
  transport: -160,
  /** A frame whose TCP header, when nothing unusual precedes, comes to lie at `transport`. */
  frame: -160 - 34,
  entry: -360,
} as const;

/** What frames of an interface begin with; of others nothing is cut off. */
export const InterfaceKind = { ethernet: 0, rawIp: 1, loopback: 2, other: 3 } as const;

/** `struct __sk_buff`: positions of what is read. */
const LENGTH = 0;
const PROTOCOL = 16;
/** Helpers (linux/bpf.h). */
const LOAD_BYTES = 26;
const LOAD_BYTES_RELATIVE = 68;
const FROM_NETWORK_HEADER = 1; // BPF_HDR_START_NET
/** More than stands before a network header. */
const LINK_BYTES = 256;

/** Tags of one Ethernet frame that are stepped over, and extension headers of one IPv6 packet. */
const TAGS_LIMIT = 2;
const EXTENSIONS_LIMIT = 8;
/** Hop-by-hop options, routing, destination options, mobility, HIP, shim6; and fragment. */
const EXTENSIONS = [0, 43, 60, 135, 139, 140];
const FRAGMENT = 44;

const ICMP = 1;
const ICMP6 = 58;
const TCP = 6;
const UDP = 17;
const AH = 51;
const GRE = 47;
/** IPv4 and IPv6 as what IP carries. */
const IP_IN_IP = [4, 41];
const TRANSPARENT_ETHERNET = 0x6558;

/** Destination ports of tunnels that are walked: see `agent/decode/udp-tunnel.ts`. */
const VXLAN = [4789, 8472];
const VXLAN_GPE = 4790;
const GENEVE = 6081;
/** Of those that are handed over: GTP-U, GUE, GRE, MPLS; and L2TP's, which answers come from. */
const UNWALKED = [2152, 6080, 4754, 6635];
const L2TP = 1701;

/** A 16-bit number of the network's as it is loaded on a little-endian machine. */
export const swapped = (n: number): number => ((n & 0xff) << 8) | (n >>> 8);

const { transport: T, ip: IP } = Stack;

export type Walk = {
  b: BpfAssembler;
  /** Looks into tunnels. */
  hasTunnels: boolean;
  /** Ports of VXLAN beside the usual ones. */
  vxlanPorts: readonly number[];
  /** Where positions count from; where from the network header, that is also where frames begin. */
  from: "frame" | "network header";
  /** Where ICMP goes, and ICMP for IPv6. */
  icmp: readonly [string, string];
};

/**
 * From a frame in r6, of an interface of the kind in r7, to label `ends`: r8 is the TCP flags, 0
 * for UDP, r9 the protocol. Jumps to `other` with whatever it does not read; the addresses are then
 * those of the innermost IP packet whose header came.
 */
export function walkHeaders(walk: Walk): void {
  const { b, hasTunnels } = walk;
  b.load(Size.word, 1, 6, LENGTH);
  if (walk.from !== "frame") b.alu(Alu.add, 1, LINK_BYTES);
  b.store(Size.double, 10, Stack.end, { register: 1 });
  b.move(8, 0).load(Size.word, 9, 6, PROTOCOL);
  if (walk.from === "frame") {
    b.jumpIf(Jump.equal, 7, InterfaceKind.rawIp, "type 0");
    readUsual(walk);
  }
  const levels = hasTunnels ? [0, 1] : [0];
  for (const level of levels) {
    const isLast = level === levels.length - 1;
    walkLink(walk, level);
    walkIpv4(walk, level);
    walkIpv6(walk, level);
    walkTransport(walk, level, isLast);
    if (isLast) continue;
    walkGre(walk, level);
    walkUdpTunnels(walk, level);
    // Of an IP packet in another only the version tells what it is.
    b.label(`ip ${level + 1}`);
    loadBytes(walk, T, 1);
    b.load(Size.byte, 1, 10, T).alu(Alu.shiftRight, 1, 4);
    b.jumpIf(Jump.equal, 1, 4, `ipv4 ${level + 1}`).jumpIf(Jump.equal, 1, 6, `ipv6 ${level + 1}`);
    b.jump("other");
  }
  readTcp(walk);
}

/** Copies `length` bytes of the frame at r8 to the stack; one that is too short goes elsewhere. */
export function loadBytes(
  { b, from }: Walk,
  to: number,
  length: number,
  elsewhere = "other",
): void {
  b.move(1, { register: 6 }).move(2, { register: 8 });
  b.move(3, { register: 10 }).alu(Alu.add, 3, to).move(4, length);
  if (from === "frame") b.call(LOAD_BYTES);
  else b.move(5, FROM_NETWORK_HEADER).call(LOAD_BYTES_RELATIVE);
  b.jumpIf(Jump.notEqual, 0, 0, elsewhere);
}

/**
 * Most frames are Ethernet, IPv4 without options, TCP: their headers are loaded in one go. What is
 * anything else, or contradicts itself, is walked from its beginning.
 */
function readUsual(walk: Walk): void {
  const { b } = walk;
  const frame = Stack.frame;
  const packet = frame + 14;
  loadBytes(walk, frame, 54, "walk");
  b.load(Size.half, 1, 10, frame + 12).jumpIf(Jump.notEqual, 1, swapped(0x0800), "walk");
  b.load(Size.byte, 1, 10, packet).jumpIf(Jump.notEqual, 1, 0x45, "walk");
  b.load(Size.byte, 1, 10, packet + 9).jumpIf(Jump.notEqual, 1, TCP, "walk");
  b.load(Size.half, 1, 10, packet + 6).jumpIf(Jump.anyBitOf, 1, swapped(0x3fff), "walk");
  b.load(Size.half, 2, 10, packet + 2).toBigEndian(2, 16);
  b.load(Size.double, 1, 10, Stack.end).alu(Alu.subtract, 1, 14);
  b.jumpIf(Jump.lessSigned, 1, { register: 2 }, "walk");
  b.store(Size.double, 10, Stack.ipBytes, { register: 2 }).alu(Alu.subtract, 2, 20);
  b.load(Size.byte, 1, 10, T + 12)
    .alu(Alu.shiftRight, 1, 4)
    .alu(Alu.shiftLeft, 1, 2);
  b.jumpIf(Jump.less, 1, 20, "walk").jumpIf(Jump.lessSigned, 2, { register: 1 }, "walk");
  b.alu(Alu.subtract, 2, { register: 1 }).store(Size.double, 10, Stack.rest, { register: 2 });
  takeIpv4Addresses(b, packet);
  b.move(9, TCP)
    .load(Size.byte, 8, 10, T + 13)
    .jump("ends")
    .label("walk");
}

/** Steps over the link layer: r8 becomes where the IP header begins. */
function walkLink(walk: Walk, level: number): void {
  const { b } = walk;
  if (level > 0 || walk.from === "frame") {
    b.label(`ethernet ${level}`);
    loadBytes(walk, T, 14);
    b.load(Size.half, 9, 10, T + 12).alu(Alu.add, 8, 14);
  }
  b.label(`type ${level}`); // r9 is the EtherType as loaded
  for (let tags = 0; ; tags++) {
    b.jumpIf(Jump.equal, 9, swapped(0x0800), `ipv4 ${level}`);
    b.jumpIf(Jump.equal, 9, swapped(0x86dd), `ipv6 ${level}`);
    if (tags === TAGS_LIMIT) break;
    const tag = `tag ${level} ${tags}`;
    b.jumpIf(Jump.equal, 9, swapped(0x8100), tag).jumpIf(Jump.equal, 9, swapped(0x88a8), tag);
    b.jumpIf(Jump.notEqual, 9, swapped(0x9100), "other");
    b.label(tag);
    loadBytes(walk, T, 4);
    b.load(Size.half, 9, 10, T + 2).alu(Alu.add, 8, 4);
  }
  b.jump("other");
}

/**
 * r3 is the packet's length as it tells it, 0 for "to the end" (BIG TCP), r1 its header's: notes
 * where it ends, and steps over the header. No comparison may be one whose outcome the verifier
 * foresees: it would follow each way to here by itself, and give up.
 */
function boundPacket(b: BpfAssembler, name: string, least: number): void {
  const [told, bound] = [`${name} told`, `${name} bound`];
  b.load(Size.double, 4, 10, Stack.end).alu(Alu.subtract, 4, { register: 8 });
  b.jumpIf(Jump.notEqual, 3, 0, told);
  b.load(Size.double, 3, 10, Stack.end).alu(Alu.subtract, 3, { register: 8 });
  b.jumpIf(Jump.lessSigned, 3, { register: 1 }, "other").jump(bound);
  b.label(told).alu(Alu.add, 3, least).jumpIf(Jump.lessSigned, 4, { register: 3 }, "other");
  if (least === 0) b.jumpIf(Jump.lessSigned, 3, { register: 1 }, "other");
  b.label(bound).store(Size.double, 10, Stack.ipBytes, { register: 3 });
  b.alu(Alu.add, 3, { register: 8 }).store(Size.double, 10, Stack.end, { register: 3 });
  b.alu(Alu.add, 8, { register: 1 });
}

/** RFC 791 §3.1; fragments are handed over. */
function walkIpv4(walk: Walk, level: number): void {
  const { b } = walk;
  b.label(`ipv4 ${level}`);
  loadBytes(walk, T, 20);
  b.load(Size.byte, 5, 10, T).move(2, { register: 5 }).alu(Alu.shiftRight, 2, 4);
  b.jumpIf(Jump.notEqual, 2, 4, "other");
  b.alu(Alu.and, 5, 15).alu(Alu.shiftLeft, 5, 2).jumpIf(Jump.less, 5, 20, "other");
  takeIpv4Addresses(b, T);
  b.load(Size.half, 2, 10, T + 6).jumpIf(Jump.anyBitOf, 2, swapped(0x3fff), "other");
  b.load(Size.half, 3, 10, T + 2)
    .toBigEndian(3, 16)
    .move(1, { register: 5 });
  boundPacket(b, `ipv4 ${level}`, 0);
  b.load(Size.byte, 9, 10, T + 9).jump(`transport ${level}`);
}

/** Writes those of the header at `header` of the stack to where IPv6 has them. */
export function takeIpv4Addresses(b: BpfAssembler, header: number): void {
  b.load(Size.word, 1, 10, header + 12).load(Size.word, 2, 10, header + 16);
  for (const at of [Stack.source, Stack.destination]) {
    b.store(Size.double, 10, at, 0).store(Size.word, 10, at + 8, swapped(0xffff) << 16);
  }
  b.store(Size.word, 10, Stack.source + 12, { register: 1 });
  b.store(Size.word, 10, Stack.destination + 12, { register: 2 });
}

/** RFC 8200 §3, and extension headers (§4), each of which tells the next one's type and its end. */
function walkIpv6(walk: Walk, level: number): void {
  const { b } = walk;
  b.label(`ipv6 ${level}`);
  loadBytes(walk, IP, 40);
  b.load(Size.byte, 1, 10, IP).alu(Alu.shiftRight, 1, 4).jumpIf(Jump.notEqual, 1, 6, "other");
  b.load(Size.half, 3, 10, IP + 4)
    .toBigEndian(3, 16)
    .move(1, 40);
  boundPacket(b, `ipv6 ${level}`, 40); // what it tells is without the header
  b.load(Size.byte, 9, 10, IP + 6);
  for (let i = 0; i < EXTENSIONS_LIMIT; i++) {
    const [extension, fragment, next] = ["extension", "atomic", "next"].map(
      (name) => `${name} ${level} ${i}`,
    ) as [string, string, string];
    for (const protocol of [TCP, UDP]) b.jumpIf(Jump.equal, 9, protocol, `transport ${level}`);
    for (const type of EXTENSIONS) b.jumpIf(Jump.equal, 9, type, extension);
    b.jumpIf(Jump.equal, 9, FRAGMENT, fragment).jump(`transport ${level}`);
    // The whole of a packet may stand in a fragment header (RFC 6946); other fragments do not.
    b.label(fragment);
    loadBytes(walk, T, 8);
    b.load(Size.half, 1, 10, T + 2).jumpIf(Jump.anyBitOf, 1, swapped(0xfff9), "other");
    b.load(Size.byte, 9, 10, T).alu(Alu.add, 8, 8).jump(next);
    b.label(extension);
    loadBytes(walk, T, 2);
    b.load(Size.byte, 9, 10, T).load(Size.byte, 1, 10, T + 1);
    b.alu(Alu.add, 1, 1).alu(Alu.shiftLeft, 1, 3).alu(Alu.add, 8, { register: 1 }).label(next);
  }
  // One header more is one too many; what it would be is not looked at.
  for (const type of [...EXTENSIONS, FRAGMENT]) b.jumpIf(Jump.equal, 9, type, "other");
}

/** What IP carries, with an Authentication Header (RFC 4302 §2) before it or without. */
function walkTransport(walk: Walk, level: number, isLast: boolean): void {
  const { b } = walk;
  b.label(`transport ${level}`);
  for (const isSigned of [false, true]) {
    b.jumpIf(Jump.equal, 9, TCP, "tcp").jumpIf(Jump.equal, 9, UDP, `udp ${level}`);
    [ICMP, ICMP6].forEach((protocol, i) => {
      if (walk.icmp[i] !== "other") b.jumpIf(Jump.equal, 9, protocol, walk.icmp[i]!);
    });
    if (!isLast) {
      for (const protocol of IP_IN_IP) b.jumpIf(Jump.equal, 9, protocol, `ip ${level + 1}`);
      b.jumpIf(Jump.equal, 9, GRE, `gre ${level}`);
    }
    if (isSigned) break;
    b.jumpIf(Jump.notEqual, 9, AH, "other");
    loadBytes(walk, T, 2);
    b.load(Size.byte, 9, 10, T).load(Size.byte, 1, 10, T + 1);
    b.alu(Alu.add, 1, 2).alu(Alu.shiftLeft, 1, 2).alu(Alu.add, 8, { register: 1 });
  }
  b.jump("other");
  readUdp(walk, level, isLast);
}

/** RFC 9293 §3.1: leaves the payload's length, and in r8 the flags. */
function readTcp(walk: Walk): void {
  const { b } = walk;
  b.label("tcp");
  loadBytes(walk, T, 20);
  b.load(Size.byte, 1, 10, T + 12)
    .alu(Alu.shiftRight, 1, 4)
    .alu(Alu.shiftLeft, 1, 2);
  b.jumpIf(Jump.less, 1, 20, "other");
  b.load(Size.double, 2, 10, Stack.end).alu(Alu.subtract, 2, { register: 8 });
  b.jumpIf(Jump.lessSigned, 2, { register: 1 }, "other").alu(Alu.subtract, 2, { register: 1 });
  b.store(Size.double, 10, Stack.rest, { register: 2 });
  b.load(Size.byte, 8, 10, T + 13).label("ends");
}

/** RFC 768. An empty datagram counts as 8 bytes: an endless row of them ends as well. */
function readUdp(walk: Walk, level: number, isLast: boolean): void {
  const { b } = walk;
  b.label(`udp ${level}`);
  loadBytes(walk, T, 8);
  b.load(Size.double, 2, 10, Stack.end).alu(Alu.subtract, 2, { register: 8 });
  b.move(3, 8).jumpIf(Jump.lessSigned, 2, { register: 3 }, "other");
  b.store(Size.double, 10, Stack.rest, { register: 2 });
  b.load(Size.half, 3, 10, T + 4).toBigEndian(3, 16);
  b.jumpIf(Jump.equal, 3, 0, `udp length ${level}`);
  b.jumpIf(Jump.less, 3, 8, "other"); // a length that contradicts itself
  b.label(`udp length ${level}`).load(Size.half, 1, 10, T + 2);
  const tunnel = isLast ? "other" : `tunnel ${level}`;
  for (const port of [...VXLAN, VXLAN_GPE, GENEVE]) b.jumpIf(Jump.equal, 1, swapped(port), tunnel);
  for (const port of [...UNWALKED, L2TP]) b.jumpIf(Jump.equal, 1, swapped(port), "other");
  for (const port of walk.vxlanPorts) b.jumpIf(Jump.equal, 1, swapped(port), tunnel);
  b.load(Size.half, 1, 10, T).jumpIf(Jump.equal, 1, swapped(L2TP), "other");
  passUnnamed(walk, level);
  b.move(8, 0).jump("ends");
}

/**
 * Tunnels to any port are told by what they carry: `byContent` of `agent/decode/udp-tunnel.ts`.
 * What begins as they do is handed over, to be checked there: with the first word of VXLAN's header
 * and its last byte; with that of L2TPv3, or of GUE; with GRE's flags and type; with an IP packet
 * that tells the datagram's length, by UDP or IP.
 */
function passUnnamed(walk: Walk, level: number): void {
  const { b } = walk;
  const at = T + 8;
  const label = (name: string) => `${name} ${level}`;
  b.alu(Alu.add, 8, 8);
  loadBytes(walk, at, 8, label("unnamed"));
  b.load(Size.word, 1, 10, at).jumpIf(Jump.notEqual, 1, 0x00000008, label("no vxlan"));
  b.load(Size.byte, 1, 10, at + 7)
    .jumpIf(Jump.equal, 1, 0, "other")
    .jump(label("unnamed"));
  b.label(label("no vxlan"));
  for (const second of [3, 4, 41, GRE]) b.jumpIf(Jump.equal, 1, second << 8, "other");
  b.load(Size.half, 1, 10, at);
  b.jumpIf(Jump.anyBitOf, 1, swapped(0x4fff), label("no gre")).load(Size.half, 1, 10, at + 2);
  for (const type of [0x0800, 0x86dd, TRANSPARENT_ETHERNET]) {
    b.jumpIf(Jump.equal, 1, swapped(type), "other");
  }
  b.jump(label("unnamed")).label(label("no gre"));
  b.load(Size.byte, 1, 10, at).alu(Alu.shiftRight, 1, 4);
  b.load(Size.half, 3, 10, at + 2).toBigEndian(3, 16);
  b.jumpIf(Jump.equal, 1, 4, label("told")).jumpIf(Jump.notEqual, 1, 6, label("unnamed"));
  b.load(Size.half, 3, 10, at + 4).toBigEndian(3, 16);
  b.alu(Alu.add, 3, 40).label(label("told")).alu(Alu.add, 3, 8);
  b.load(Size.double, 2, 10, Stack.rest).jumpIf(Jump.equal, 3, { register: 2 }, "other");
  b.load(Size.half, 2, 10, T + 4).toBigEndian(2, 16);
  b.jumpIf(Jump.equal, 3, { register: 2 }, "other").label(label("unnamed"));
}

/** RFC 2784 §2.1, RFC 2890 §2: with checksum, key, sequence number; without routing or PPTP. */
function walkGre(walk: Walk, level: number): void {
  const { b } = walk;
  b.label(`gre ${level}`);
  loadBytes(walk, T, 4);
  b.load(Size.half, 1, 10, T).jumpIf(Jump.anyBitOf, 1, swapped(0x4007), "other");
  b.load(Size.half, 9, 10, T + 2).alu(Alu.add, 8, 4);
  for (const flag of [0x8000, 0x2000, 0x1000]) {
    const [has, hasNot] = [`gre ${level} ${flag}`, `gre ${level} no ${flag}`];
    b.jumpIf(Jump.anyBitOf, 1, swapped(flag), has).jump(hasNot);
    b.label(has).alu(Alu.add, 8, 4).label(hasNot);
  }
  b.jumpIf(Jump.equal, 9, swapped(TRANSPARENT_ETHERNET), `ethernet ${level + 1}`);
  b.jump(`type ${level + 1}`);
}

/**
 * Recognises tunnels over UDP as `udpTunnelOf` of `agent/decode/udp-tunnel.ts` does. r1 is the port
 * as loaded, r2 what follows the IP header, r3 the length that UDP tells, 0 for all of that.
 */
function walkUdpTunnels(walk: Walk, level: number): void {
  const { b } = walk;
  const [isShorter, isWhole] = [`udp ends ${level}`, `udp goes on ${level}`];
  b.label(`tunnel ${level}`).jumpIf(Jump.equal, 3, 0, isWhole);
  b.jumpIf(Jump.less, 3, { register: 2 }, isShorter).jump(isWhole);
  b.label(isShorter).alu(Alu.add, 3, { register: 8 });
  b.store(Size.double, 10, Stack.end, { register: 3 });
  b.label(isWhole).move(9, { register: 1 });
  loadBytes(walk, T, 16);
  b.alu(Alu.add, 8, 16);
  b.load(Size.byte, 1, 10, T + 15).jumpIf(Jump.notEqual, 1, 0, "other");
  b.jumpIf(Jump.equal, 9, swapped(VXLAN_GPE), `gpe ${level}`);
  b.jumpIf(Jump.equal, 9, swapped(GENEVE), `geneve ${level}`);
  walkVxlan(walk, level);
  // VXLAN-GPE: 00VVIPBO | 0(2) | next(1)
  b.label(`gpe ${level}`)
    .load(Size.byte, 1, 10, T + 8)
    .alu(Alu.and, 1, 0xfc);
  b.jumpIf(Jump.notEqual, 1, 0x0c, "other");
  for (const at of [T + 9, T + 10]) {
    b.load(Size.byte, 1, 10, at).jumpIf(Jump.notEqual, 1, 0, "other");
  }
  b.load(Size.byte, 1, 10, T + 11).jumpIf(Jump.equal, 1, 3, `ethernet ${level + 1}`);
  for (const next of [1, 2]) b.jumpIf(Jump.equal, 1, next, `ip ${level + 1}`);
  b.jump("other");
  // Geneve: version and options length | flags | protocol(2)
  b.label(`geneve ${level}`).load(Size.byte, 1, 10, T + 8);
  b.jumpIf(Jump.anyBitOf, 1, 0xc0, "other").alu(Alu.shiftLeft, 1, 2);
  b.alu(Alu.add, 8, { register: 1 }).load(Size.byte, 1, 10, T + 9);
  b.jumpIf(Jump.anyBitOf, 1, 0x3f, "other").load(Size.half, 9, 10, T + 10);
  b.jumpIf(Jump.equal, 9, swapped(TRANSPARENT_ETHERNET), `ethernet ${level + 1}`);
  toTypeThatPodsSend(b, level + 1);
}

/** VXLAN, maybe with a group policy, and the Ethernet frame in it. */
function walkVxlan(walk: Walk, level: number): void {
  const { b } = walk;
  b.load(Size.word, 1, 10, T + 8).jumpIf(Jump.equal, 1, 0x00000008, `vxlan ${level}`);
  b.alu(Alu.and, 1, 0x0000b7ff).jumpIf(Jump.notEqual, 1, 0x00000088, "other");
  b.label(`vxlan ${level}`);
  loadBytes(walk, T, 14);
  b.load(Size.half, 9, 10, T + 12).alu(Alu.add, 8, 14);
  toTypeThatPodsSend(b, level + 1);
}

/** What else it may be is left to `agent/decode`. */
function toTypeThatPodsSend(b: BpfAssembler, level: number): void {
  for (const type of [0x0800, 0x86dd, 0x8100]) {
    b.jumpIf(Jump.equal, 9, swapped(type), `type ${level}`);
  }
  b.jump("other");
}
