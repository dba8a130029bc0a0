/** Finds flows by the ends of a packet: open addressing over fixed arrays, with bounded probes. */
import type { Packet } from "../decode/packet.ts";
import { hashOf, sameKey } from "./flow-key.ts";
import { keyAt } from "./flow-record.ts";

/** Buckets that are looked at for one flow: whoever makes many flows share one evicts them. */
export const PROBES_LIMIT = 128;

export class Buckets {
  readonly #keys: Int32Array;
  /** Two words a bucket, which are looked at together: its flow, or -1, and that flow's hash. */
  readonly #buckets: Int32Array;
  readonly #hash: Int32Array;
  readonly #mask: number;
  readonly #seed: number;

  /** `keys` are the flows' own, by flow; `seed` is for `hashOf`. */
  constructor(flows: number, keys: Int32Array, seed: number) {
    this.#keys = keys;
    this.#hash = new Int32Array(flows);
    const buckets = 1 << (33 - Math.clz32(flows - 1)); // at most half full
    this.#buckets = new Int32Array(buckets * 2).fill(-1);
    this.#mask = buckets - 1;
    this.#seed = seed;
  }

  hashOf(packet: Packet, side: number, meta: number): number {
    return hashOf(packet, side, meta, this.#seed);
  }

  /** The packet's flow, or -1: none is further from its hash than the limit. */
  find(packet: Packet, side: number, meta: number, hash: number): number {
    let bucket = hash & this.#mask;
    for (let probe = 0; probe < PROBES_LIMIT; probe++) {
      const flow = this.#buckets[bucket * 2]!;
      if (flow < 0) return -1;
      const isLike = this.#buckets[bucket * 2 + 1] === hash;
      if (isLike && sameKey(this.#keys, keyAt(flow), packet, side, meta)) return flow;
      bucket = (bucket + 1) & this.#mask;
    }
    return -1;
  }

  /** The bucket for a new flow; -1 where so many share it that one of them must end first. */
  free(hash: number): number {
    let bucket = hash & this.#mask;
    for (let probe = 0; probe < PROBES_LIMIT; probe++) {
      if (this.#buckets[bucket * 2]! < 0) return bucket;
      bucket = (bucket + 1) & this.#mask;
    }
    return -1;
  }

  /** The flow in the bucket so many steps behind a hash's own. */
  near(hash: number, probe: number): number {
    return this.#buckets[((hash + probe) & this.#mask) * 2]!;
  }

  put(bucket: number, flow: number, hash: number): void {
    this.#hash[flow] = hash;
    this.#buckets[bucket * 2] = flow;
    this.#buckets[bucket * 2 + 1] = hash;
  }

  /** Empties the flow's bucket and moves later ones of the same run up (Knuth 6.4, algorithm R). */
  remove(flow: number): void {
    const mask = this.#mask;
    let hole = this.#hash[flow]! & mask;
    while (this.#buckets[hole * 2] !== flow) hole = (hole + 1) & mask;
    let bucket = hole;
    for (;;) {
      bucket = (bucket + 1) & mask;
      const other = this.#buckets[bucket * 2]!;
      if (other < 0) break;
      const hash = this.#buckets[bucket * 2 + 1]!;
      if (((bucket - (hash & mask)) & mask) >= ((bucket - hole) & mask)) {
        this.#buckets[hole * 2] = other;
        this.#buckets[hole * 2 + 1] = hash;
        hole = bucket;
      }
    }
    this.#buckets[hole * 2] = -1;
  }
}
