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

const TUNNEL_UDP = 17;
const segmentOf = (length: number) => new Uint8Array(length).fill(0x41);

/** One end sends: what stands in its packets, and which end that is. */
type Sent = { up: boolean; segment: Bytes; fragmented?: boolean };
type Kind = { name: string; proto: "tcp" | "udp"; is6: boolean; vlan: boolean; wrap: string };

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
function exchange(from: number, to: number, count: number, each: number, cut: boolean): Sent[] {
  return Array.from({ length: count }, (_, i) => {
    const up = i % 3 === 0;
    const ends = up ? { from, to } : { from: to, to: from };
    return { up, segment: udp(segmentOf(each), ends), fragmented: cut };
  });
}

const KINDS: readonly Kind[] = [
  { name: "v4", proto: "tcp", is6: false, vlan: false, wrap: "" },
  { name: "v6", proto: "tcp", is6: true, vlan: false, wrap: "" },
  { name: "tagged", proto: "tcp", is6: false, vlan: true, wrap: "" },
  { name: "tagged v6", proto: "tcp", is6: true, vlan: true, wrap: "" },
  { name: "options", proto: "tcp", is6: false, vlan: false, wrap: "options" },
  { name: "extensions", proto: "tcp", is6: true, vlan: false, wrap: "extension" },
  { name: "vxlan", proto: "tcp", is6: false, vlan: false, wrap: "vxlan" },
  { name: "datagrams", proto: "udp", is6: false, vlan: false, wrap: "" },
  { name: "datagrams v6", proto: "udp", is6: true, vlan: true, wrap: "" },
  { name: "fragments", proto: "udp", is6: false, vlan: false, wrap: "fragments" },
];

/** The frames of one packet, innermost IP packets of `lengths` bytes. */
function framesOf(kind: Kind, sent: Sent, source: string, destination: string, id: number) {
  const ends = { source, destination };
  const protocol = kind.proto === "tcp" ? 6 : 17;
  const whole = (packet: Bytes, type: number): Bytes =>
    kind.vlan ? ethernet(join(tag(7, type), packet), 0x8100) : ethernet(packet, type);
  const { segment } = sent;
  if (kind.is6) {
    const packet =
      kind.wrap === "extension"
        ? ipv6({ ...ends, next: 60 }, join(extension(protocol), segment))
        : ipv6({ ...ends, next: protocol }, segment);
    return [{ frame: whole(packet, 0x86dd), bytes: packet.length }];
  }
  if (kind.wrap === "fragments") {
    const half = 8 * Math.ceil(segment.length / 16);
    return [segment.subarray(0, half), segment.subarray(half)].map((part, i) => {
      const fragment = i === 0 ? 0x2000 : half / 8;
      const packet = ipv4({ ...ends, protocol, fragment }, part);
      packet.set(u16(id), 4);
      return { frame: whole(packet, 0x0800), bytes: packet.length };
    });
  }
  const options = kind.wrap === "options" ? [1, 1, 1, 1] : [];
  const packet = ipv4({ ...ends, protocol, options }, segment);
  if (kind.wrap !== "vxlan") return [{ frame: whole(packet, 0x0800), bytes: packet.length }];
  const header = [8, 0, 0, 0, 0, 0, 42, 0];
  const outer = udp(join(header, ethernet(packet)), { from: 50000, to: 4789 });
  const carrier = { source: "172.16.0.1", destination: "172.16.0.2", protocol: TUNNEL_UDP };
  return [{ frame: ethernet(ipv4(carrier, outer)), bytes: packet.length }];
}

/**
 * What the cutoff keeps back of `mixedTraffic(…, 8, 400_000)`, at 48 KiB for each side. TCP: 50 of
 * 400 segments of 1000 bytes are handed over, and the 49 acknowledgments before the last of them:
 * 701 are kept back, in two bulks of five kinds (not behind IPv6 extensions, not in a tunnel). UDP:
 * 49 of a side's datagrams of 1008 bytes with their headers, of 134 up and 266 down: 302 are kept
 * back, in two bulks of two kinds (no fragments).
 */
export const KEPT_BACK = 10 * 701 + 4 * 302;

/** `perKind` flows of each kind: most short, every fourth a bulk of `bulkBytes`; in any order. */
export function mixedTraffic(seed: number, perKind: number, bulkBytes: number): Mixed {
  const below = random(seed);
  const flows: Mixed["flows"] = {};
  const queues: Bytes[][] = [];
  let id = 1;
  KINDS.forEach((kind, k) => {
    for (let n = 0; n < perKind; n++) {
      const from = 20000 + n;
      const to = kind.proto === "tcp" ? 8000 + k : 9000 + k;
      const isBulk = n % 4 === 3;
      const [client, server] = kind.is6
        ? [`fd00::${k + 1}:1`, `fd00::${k + 1}:2`]
        : [`10.${k}.0.${n % 2 ? 1 : 9}`, `10.${k}.0.2`]; // on either side in the order of ends
      const all =
        kind.proto === "tcp"
          ? connection(from, to, isBulk ? bulkBytes : 1000 + below(3000), 1000)
          : exchange(from, to, isBulk ? bulkBytes / 1000 : 3 + below(9), 1000, true);
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
