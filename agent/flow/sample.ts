/**
 * Chooses the flows of a sample: the same ones on every node that has the same key, in both
 * directions, whatever interface they pass.
 *
 * A flow has two ends, each of five 32-bit words: the address as IPv6 has it, first word first
 * (IPv4 as ::ffff:a.b.c.d), and the port (0 where there is none). With H(seed, words…) being
 * MurmurHash3_x86_32 (Austin Appleby, smhasher) over the words as little-endian bytes, and k0, k1
 * the key:
 *
 *      both  = H(k0, end of the one side) + H(k0, end of the other)     modulo 2^32
 *      drawn = H(k1, both, IP protocol)
 *      taken = drawn < rate · 2^32
 *
 * The sum is what makes both directions alike; the second round spreads it evenly. It takes nothing
 * but multiplications, exclusive ors and shifts of 32 bits, so that the filter in the kernel does
 * the same (`agent/capture/sample-program.ts`). Who does not know the key cannot choose ports that
 * are left out; for one who sees which flows are told it is no secret that would withstand
 * analysis.
 *
 * A fragment goes with its datagram, and an ICMP error with the packet that it quotes. Behind a
 * Service's translation a flow has other ends, and is chosen anew.
 */
import type { Packet } from "../decode/packet.ts";

/** MurmurHash3_x86_32: takes one more word in. */
function mix(h: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  h ^= k;
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

/** MurmurHash3_x86_32: ends the hash of so many bytes. */
function finish(h: number, lengthBytes: number): number {
  h ^= lengthBytes;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** H(seed, words…), an int32. */
export function hashWords(seed: number, words: readonly number[]): number {
  return finish(words.reduce(mix, seed), words.length * 4);
}

export class Sample {
  /** Share of flows that are taken, above 0 and below 1. */
  readonly rate: number;
  readonly keys: readonly [k0: number, k1: number];
  /** rate · 2^32, from 1 to 2^32 − 1. */
  readonly limit: number;
  /** The same less 2^31: what is compared are signed numbers, which need no doubles. */
  readonly #signedLimit: number;

  constructor(rate: number, keys: readonly [k0: number, k1: number]) {
    this.rate = rate;
    this.keys = keys;
    this.limit = Math.min(Math.max(1, Math.round(rate * 2 ** 32)), 2 ** 32 - 1);
    this.#signedLimit = this.limit - 2 ** 31;
  }

  /** Reports whether the packet's flow is none of the sample's. */
  leavesOut(p: Packet): boolean {
    const [k0, k1] = this.keys;
    let one = mix(mix(k0, p.source0), p.source1);
    one = finish(mix(mix(mix(one, p.source2), p.source3), p.sourcePort), 20);
    let other = mix(mix(k0, p.destination0), p.destination1);
    other = finish(mix(mix(mix(other, p.destination2), p.destination3), p.destinationPort), 20);
    const drawn = finish(mix(mix(k1, (one + other) | 0), p.protocol), 8);
    return (drawn ^ 0x80000000) >= this.#signedLimit;
  }
}
