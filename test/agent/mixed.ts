/** Makes traffic of many kinds whose flows are counted as it is made: a plain model to compare. */
import {
  ACK,
  FIN,
  SYN,
  ethernet,
  extension,
  ipv4,
  ipv6,
  join,
  latin1,
  random,
  tag,
  tcp,
  u16,
  udp,
} from "../frames.ts";
import type { Bytes } from "../frames.ts";
import { VXLAN, WRAPPINGS, over, v4, v6 } from "./wrapping.ts";

/** By end of the flow, `address:port`: packets, and bytes of their IP packets. */
export type Counted = Record<string, [packets: number, bytes: number]>;
export type Mixed = {
  frames: Bytes[];
  /** By both ends, sorted, with the protocol before them. */
  flows: Record<string, Counted>;
  /** Frames that belong to no flow. */
  strays: number;
};

export const flowName = (proto: string, ends: readonly string[]): string =>
  [proto, ...ends.toSorted()].join(" ");

const segmentOf = (length: number) => new Uint8Array(length).fill(0x41);

/** One end sends: what stands in its packets, and which end that is. */
type Sent = { up: boolean; segment: Bytes };
type Kind = {
  proto: "tcp" | "udp";
  is6: boolean;
  /** Puts an IP packet of this EtherType into a frame. */
  carry: (packet: Bytes, type: number) => Bytes;
  /** Headers between that of IP and the segment, by type. */
  chain?: readonly number[];
  options?: readonly number[];
  fragmented?: "all" | "answers";
  /** The cutoff does not look so far, or does when it looks into tunnels. */
  looks?: "never" | "into tunnels";
};

/** A TCP connection whose server sends `size` bytes in segments that are each acknowledged. */
function connection(from: number, to: number, size: number, each: number, isn = 0): Sent[] {
  const up = (flags: number, at: number, seen: number, payload?: Bytes): Sent => {
    const fields = {
      from,
      to,
      flags,
      sequence: isn + 1000 + at,
      acknowledgment: isn + 5000 + seen,
    };
    return { up: true, segment: tcp(fields, payload) };
  };
  const down = (flags: number, at: number, seen: number, payload?: Bytes): Sent => {
    const fields = {
      from: to,
      to: from,
      flags,
      sequence: isn + 5000 + at,
      acknowledgment: isn + 1000 + seen,
    };
    return { up: false, segment: tcp(fields, payload) };
  };
  const request = latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const asked = 1 + request.length;
  const sent = [up(SYN, 0, 0), down(SYN | ACK, 0, 1), up(ACK, 1, 1), up(ACK, 1, 1, request)];
  let at = 1;
  for (; at <= size; at += each) {
    sent.push(down(ACK, at, asked, segmentOf(each)), up(ACK, asked, at + each));
  }
  sent.push(down(FIN | ACK, at, asked), up(FIN | ACK, asked, at + 1), down(ACK, at + 1, asked + 1));
  return sent;
}

/** The frames of one connection over IPv4 from a port, in segments of 1000 bytes. */
export function bulk(from: number, size: number, isn: number): Bytes[] {
  const [client, server] = ["10.200.0.1", "10.200.0.2"];
  return connection(from, 8000, size, 1000, isn).map(({ up, segment }) => {
    const [source, destination] = up ? [client, server] : [server, client];
    return ethernet(ipv4({ source: source!, destination: destination! }, segment));
  });
}

/** Datagrams both ways. */
function exchange(from: number, to: number, count: number, each: number): Sent[] {
  return Array.from({ length: count }, (_, i) => {
    const up = i % 3 === 0;
    const ends = up ? { from, to } : { from: to, to: from };
    return { up, segment: udp(segmentOf(each), ends) };
  });
}

const GENEVE_OPTIONS = [0, 3, 0, 1, 1, 2, 3, 4, 0, 3, 0, 0];

const plain = (packet: Bytes, type: number) => ethernet(packet, type);
const tagged = (packet: Bytes, type: number) => ethernet(join(tag(7, type), packet), 0x8100);
const twice = (packet: Bytes, type: number) =>
  ethernet(join(tag(9, 0x8100), tag(7, type), packet), 0x88a8);
const vxlan = (packet: Bytes, type: number) => ethernet(over(4789, VXLAN, ethernet(packet, type)));
const gre = (packet: Bytes, type: number) => ethernet(v4(47, join([0, 0], u16(type), packet)));

/** Hop-by-hop options, routing, an atomic fragment, destination options, and as many as there are. */
const CHAIN = [0, 43, 44, 60];
const LONGEST = [0, 60, 43, 135, 139, 140, 60, 60];

const KINDS: Readonly<Record<string, Kind>> = {
  v4: { proto: "tcp", is6: false, carry: plain },
  v6: { proto: "tcp", is6: true, carry: plain },
  tagged: { proto: "tcp", is6: false, carry: tagged },
  "tagged v6": { proto: "tcp", is6: true, carry: tagged },
  "tagged twice": { proto: "tcp", is6: false, carry: twice },
  options: { proto: "tcp", is6: false, carry: plain, options: [1, 1, 1, 1] },
  extensions: { proto: "tcp", is6: true, carry: plain, chain: CHAIN },
  "eight extensions": { proto: "tcp", is6: true, carry: twice, chain: LONGEST },
  "nine extensions": {
    ...{ proto: "tcp", is6: true, carry: plain, chain: [...LONGEST, 60], looks: "never" },
  },
  signed: { proto: "tcp", is6: false, carry: plain, chain: [51] },
  "signed v6": { proto: "udp", is6: true, carry: plain, chain: [0, 51] },
  datagrams: { proto: "udp", is6: false, carry: plain },
  "datagrams v6": { proto: "udp", is6: true, carry: tagged },
  fragments: { proto: "udp", is6: false, carry: plain, fragmented: "all", looks: "never" },
  "answers in fragments": { proto: "udp", is6: false, carry: plain, fragmented: "answers" },
  vxlan: { proto: "tcp", is6: false, looks: "into tunnels", carry: vxlan },
  "vxlan of datagrams": {
    proto: "udp",
    is6: true,
    looks: "into tunnels",
    carry: vxlan,
    chain: [60],
  },
  "vxlan with a policy, tagged in and out, signed": {
    ...{ proto: "tcp", is6: false, looks: "into tunnels", chain: [51] },
    carry: (packet, type) => {
      const head = [0x88, 0x08, 0, 5, 0, 0, 43, 0];
      return twice(over(8472, head, tagged(packet, type)), 0x0800);
    },
  },
  "vxlan over v6, ending with UDP": {
    ...{ proto: "tcp", is6: false, looks: "into tunnels" },
    carry: (packet, type) => {
      const inner = join(VXLAN, ethernet(packet, type));
      const datagram = join(udp(inner, { to: 4789 }), new Uint8Array(6)); // of nobody
      return ethernet(v6(60, join(extension(17, 8), datagram)), 0x86dd);
    },
  },
  "gpe of IP": {
    ...{ proto: "tcp", is6: true, looks: "into tunnels" },
    carry: (packet) => ethernet(over(4790, [0x0c, 0, 0, 2, 0, 0, 44, 0], packet)),
  },
  "gpe of Ethernet": {
    ...{ proto: "tcp", is6: false, looks: "into tunnels" },
    carry: (packet, type) =>
      ethernet(over(4790, [0x0c, 0, 0, 3, 0, 0, 44, 0], twice(packet, type))),
  },
  geneve: {
    ...{ proto: "tcp", is6: false, looks: "into tunnels" },
    carry: (packet, type) =>
      ethernet(
        over(6081, [3, 0, 0x65, 0x58, 0, 0, 45, 0, ...GENEVE_OPTIONS], ethernet(packet, type)),
      ),
  },
  "geneve of IP": {
    ...{ proto: "udp", is6: true, looks: "into tunnels" },
    carry: (packet, type) => ethernet(over(6081, [0, 0x40, ...u16(type), 0, 0, 45, 0], packet)),
  },
  gre: { proto: "tcp", is6: true, looks: "into tunnels", carry: gre },
  "gre of Ethernet, with all that it may have": {
    ...{ proto: "tcp", is6: false, looks: "into tunnels" },
    carry: (packet, type) =>
      ethernet(
        v6(
          47,
          join([0xb0, 0, 0x65, 0x58, ...new Array<number>(12).fill(1)], ethernet(packet, type)),
        ),
        0x86dd,
      ),
  },
  ipip: {
    proto: "tcp",
    is6: false,
    looks: "into tunnels",
    carry: (packet) => ethernet(v4(4, packet)),
  },
  "6in4, signed": {
    ...{ proto: "tcp", is6: true, looks: "into tunnels" },
    carry: (packet) => ethernet(v4(51, join(authenticated(41), packet))),
  },
  "6in6": {
    proto: "udp",
    is6: true,
    looks: "into tunnels",
    carry: (packet) => ethernet(v6(41, packet), 0x86dd),
  },
  "now in a tunnel, now bare": {
    ...{ proto: "tcp", is6: false, looks: "into tunnels" },
    carry: (packet, type) => (packet.length > 100 ? vxlan : plain)(packet, type),
  },
  "tunnel in a tunnel": {
    ...{ proto: "tcp", is6: false, looks: "never" },
    carry: (packet, type) => gre(over(4789, VXLAN, ethernet(packet, type)), 0x0800),
  },
  gtp: {
    ...{ proto: "tcp", is6: false, looks: "never" },
    carry: (packet) => ethernet(over(2152, [0x30, 255, ...u16(packet.length), 0, 0, 0, 1], packet)),
  },
  ...Object.fromEntries(
    Object.entries(WRAPPINGS)
      .filter(([name]) => !/ a cookie of [04]/.test(name)) // the filter does not look so far
      .map(([name, { carry, isWalked }], i): [string, Kind] => {
        const looks = isWalked ? "into tunnels" : "never";
        return [name, { proto: i % 3 === 0 ? "udp" : "tcp", is6: i % 2 === 0, looks, carry }];
      }),
  ),
};

/** An Authentication Header (RFC 4302 §2) with a check value of 12 bytes. */
function authenticated(next: number): number[] {
  return [next, 4, ...new Array<number>(22).fill(0)];
}

/** Headers of these types one behind the other, the last of which announces `protocol`. */
function chained(types: readonly number[], protocol: number): Bytes {
  return join(
    ...types.map((type, i) => {
      const next = types[i + 1] ?? protocol;
      if (type === 51) return authenticated(next);
      return extension(next, type === 44 ? 0 : (i % 3) * 8); // a fragment header is all 0 as well
    }),
  );
}

/** The frames of one packet, and the bytes of the IP packets that are counted. */
function framesOf(kind: Kind, sent: Sent, source: string, destination: string, id: number) {
  const transport = kind.proto === "tcp" ? 6 : 17;
  const chain = kind.chain ?? [];
  const protocol = chain[0] ?? transport;
  const segment = join(chained(chain, transport), sent.segment);
  if (kind.is6) {
    const packet = ipv6({ source, destination, next: protocol }, segment);
    return [{ frame: kind.carry(packet, 0x86dd), bytes: packet.length }];
  }
  const fields = { source, destination, protocol, options: kind.options ?? [] };
  const isCut = kind.fragmented === "all" || (kind.fragmented === "answers" && !sent.up);
  const half = isCut ? 8 * Math.ceil(segment.length / 16) : segment.length;
  return [segment.subarray(0, half), segment.subarray(half)].flatMap((part, i) => {
    if (part.length === 0) return [];
    const fragment = isCut ? (i === 0 ? 0x2000 : half / 8) : 0;
    const packet = ipv4({ ...fields, fragment }, part);
    packet.set(u16(id), 4);
    return { frame: kind.carry(packet, 0x0800), bytes: packet.length };
  });
}

/**
 * What the cutoff keeps back of `mixedTraffic(…, 8, 200_000)`, at 48 KiB for each side, of two bulks
 * of each kind. TCP: 50 of 200 segments of 1000 bytes are handed over, and the 49 acknowledgments
 * before the last of them. UDP: 49 of a side's datagrams of 1008 bytes with their headers, of 67 up
 * and 133 down, but fragments never.
 */
export const keptBack = (hasTunnels: boolean): number =>
  Object.values(KINDS)
    .filter(({ looks }) => looks === undefined || (hasTunnels && looks === "into tunnels"))
    .reduce((sum, { proto, fragmented }) => {
      const datagrams = 18 + (fragmented ? 0 : 84);
      return sum + 2 * (proto === "tcp" ? 150 + 151 : datagrams);
    }, 0);

/** `perKind` flows of each kind: most short, every fourth a bulk of `bulkBytes`; in any order. */
export function mixedTraffic(seed: number, perKind: number, bulkBytes: number): Mixed {
  const below = random(seed);
  const flows: Mixed["flows"] = {};
  const queues: Bytes[][] = [];
  let id = 1;
  Object.values(KINDS).forEach((kind, k) => {
    for (let n = 0; n < perKind; n++) {
      const from = 20000 + n;
      const to = kind.proto === "tcp" ? 8000 + k : 9000 + k;
      const isBulk = n % 4 === 3;
      const [client, server] = kind.is6
        ? [`fd00::${k + 16}:1`, `fd00::${k + 16}:2`]
        : [`10.${k}.0.${n % 2 ? 1 : 9}`, `10.${k}.0.2`]; // on either side in the order of ends
      const all =
        kind.proto === "tcp"
          ? connection(from, to, isBulk ? bulkBytes : 1000 + below(3000), 1000)
          : exchange(from, to, isBulk ? bulkBytes / 1000 : 3 + below(9), 1000);
      const ends = [`${client}:${from}`, `${server}:${to}`];
      const counted: Counted = { [ends[0]!]: [0, 0], [ends[1]!]: [0, 0] };
      flows[flowName(kind.proto, ends)] = counted;
      const queue: Bytes[] = [];
      for (const sent of all) {
        const [source, destination] = sent.up ? [client, server] : [server, client];
        for (const { frame, bytes } of framesOf(kind, sent, source!, destination!, id++ & 0xffff)) {
          queue.push(frame);
          const count = counted[ends[sent.up ? 0 : 1]!]!;
          count[0]++;
          count[1] += bytes;
        }
      }
      queues.push(queue);
    }
  });
  // Fragments of one datagram follow each other: what else comes between them is all the same.
  let strays = 0;
  const frames: Bytes[] = [];
  const places = queues.map(() => 0);
  const alive = queues.map((_, i) => i);
  while (alive.length > 0) {
    const pick = below(alive.length);
    const flow = alive[pick]!;
    frames.push(queues[flow]![places[flow]!++]!);
    if (places[flow] === queues[flow]!.length) alive.splice(pick, 1);
    if (below(20) > 0) continue;
    strays++;
    const echo = ipv4({ protocol: 1 }, join([8, 0, 0, 0, 0, 1, 0, 1], latin1("ping")));
    frames.push(below(2) === 0 ? ethernet(echo) : ethernet(new Uint8Array(46), 0x0806));
  }
  return { frames, flows, strays };
}

/** The frames with some of their bytes changed, or cut short, so that headers contradict themselves. */
export function spoilt(frames: readonly Bytes[], seed: number): Bytes[] {
  const below = random(seed);
  return frames.map((frame) => {
    const changed = frame.slice();
    const kind = below(8);
    if (kind === 0) return changed.subarray(0, 60 + below(frame.length)) as Bytes;
    if (kind > 2) return changed;
    for (let n = 1 + below(2); n > 0; n--) {
      const at = 12 + below(Math.min(frame.length, 140) - 12);
      changed[at] = below(3) === 0 ? below(256) : changed[at]! ^ (1 << below(8));
    }
    return changed;
  });
}

/** Attempts that are answered by a router, which is neither of their ends; and that many frames. */
export function unreachable(count: number): Bytes[] {
  return Array.from({ length: count }, (_, i) => i).flatMap((i) => {
    const is6 = i % 2 === 1;
    const segment = tcp({ from: 30_000, to: 80, flags: SYN });
    if (is6) {
      const [source, destination] = [`fd77::${i}`, "fd78::1"];
      const asks = ipv6({ source, destination }, segment);
      const says = join([1, 0, 0, 0, 0, 0, 0, 0], asks);
      const error = ipv6({ source: "fd99::1", destination: source, next: 58 }, says);
      return [ethernet(asks, 0x86dd), ethernet(error, 0x86dd)];
    }
    const [source, destination] = [`10.177.0.${i}`, "10.178.0.1"];
    const asks = ipv4({ source, destination }, segment);
    const says = join([3, 1, 0, 0, 0, 0, 0, 0], asks);
    const error = ipv4({ source: "10.199.0.1", destination: source, protocol: 1 }, says);
    return [ethernet(asks), ethernet(error)];
  });
}
