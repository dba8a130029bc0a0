/** Names a flow by its two ends, protocol and lane, alike for packets of both sides. */
import type { Packet } from "../decode/packet.ts";

/** int32 words of a key: low end, high end, ports (low << 16 | high), protocol and lane. */
export const KEY = 10;

/** Reports whether the packet's source is the low end of its flow: by address, then by port. */
export function isLowEnd(p: Packet): boolean {
  if (p.source3 !== p.destination3) return p.source3 < p.destination3;
  if (p.source2 !== p.destination2) return p.source2 < p.destination2;
  if (p.source1 !== p.destination1) return p.source1 < p.destination1;
  if (p.source0 !== p.destination0) return p.source0 < p.destination0;
  return p.sourcePort <= p.destinationPort;
}

function portsOf(p: Packet, side: number): number {
  return side === 0
    ? (p.sourcePort << 16) | p.destinationPort
    : (p.destinationPort << 16) | p.sourcePort;
}

/** Both ends' first words are those of IPv4: they tell nothing apart. */
function isIpv4(p: Packet): boolean {
  const first = p.source0 | p.source1 | p.destination0 | p.destination1;
  return (first | (p.source2 ^ 0xffff) | (p.destination2 ^ 0xffff)) === 0;
}

/**
 * Hashes the ends in their canonical order, so alike whichever sent the packet. With a `seed` that
 * strangers do not know they cannot tell which flows share a bucket.
 */
export function hashOf(p: Packet, side: number, meta: number, seed: number): number {
  const isLow = side === 0;
  let h = Math.imul(seed ^ (isLow ? p.source3 : p.destination3), 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ (isLow ? p.destination3 : p.source3), 0x85ebca6b);
  if (!isIpv4(p)) {
    h = Math.imul(h ^ (h >>> 13) ^ (isLow ? p.source0 : p.destination0), 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 16) ^ (isLow ? p.destination0 : p.source0), 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 15) ^ (isLow ? p.source1 : p.destination1), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13) ^ (isLow ? p.destination1 : p.source1), 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 16) ^ (isLow ? p.source2 : p.destination2), 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 15) ^ (isLow ? p.destination2 : p.source2), 0x85ebca6b);
  }
  h = Math.imul(h ^ (h >>> 13) ^ portsOf(p, side), 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16) ^ meta, 0x9e3779b1);
  return (h ^ (h >>> 15)) | 0;
}

export function writeKey(keys: Int32Array, k: number, p: Packet, side: number, meta: number): void {
  const source = side === 0 ? k : k + 4;
  const destination = side === 0 ? k + 4 : k;
  keys[source] = p.source0;
  keys[source + 1] = p.source1;
  keys[source + 2] = p.source2;
  keys[source + 3] = p.source3;
  keys[destination] = p.destination0;
  keys[destination + 1] = p.destination1;
  keys[destination + 2] = p.destination2;
  keys[destination + 3] = p.destination3;
  keys[k + 8] = portsOf(p, side);
  keys[k + 9] = meta;
}

export function sameKey(
  keys: Int32Array,
  k: number,
  p: Packet,
  side: number,
  meta: number,
): boolean {
  const source = side === 0 ? k : k + 4;
  const destination = side === 0 ? k + 4 : k;
  return (
    keys[source + 3] === p.source3 &&
    keys[destination + 3] === p.destination3 &&
    keys[k + 8] === portsOf(p, side) &&
    keys[k + 9] === meta &&
    keys[source + 2] === p.source2 &&
    keys[source + 1] === p.source1 &&
    keys[source] === p.source0 &&
    keys[destination + 2] === p.destination2 &&
    keys[destination + 1] === p.destination1 &&
    keys[destination] === p.destination0
  );
}
