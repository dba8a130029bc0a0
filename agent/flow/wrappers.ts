/** Keeps one copy of the wrappers that packets came in: tunnels and tags are few, flows many. */
import { ENCAP_LIMIT } from "../decode/packet.ts";
import type { Packet } from "../decode/packet.ts";

/** Most combinations kept; flows of others are told without. */
const LIMIT = 4096;

export class Wrappers {
  readonly #known: Int32Array[] = [new Int32Array(0)];

  /** The number of the packet's wrappers. */
  of(packet: Packet): number {
    if (packet.encapCount === 0) return 0;
    for (let i = 1; i < this.#known.length; i++) {
      const wrappers = this.#known[i]!;
      if (wrappers.length !== packet.encapCount) continue;
      let j = 0;
      while (j < wrappers.length && wrappers[j] === packet.encap[j]) j++;
      if (j === wrappers.length) return i;
    }
    if (this.#known.length === LIMIT) return 0;
    return this.#known.push(packet.encap.slice(0, Math.min(packet.encapCount, ENCAP_LIMIT))) - 1;
  }

  /** Words of `Packet.encap`, the outermost first. */
  at(number: number): Int32Array {
    return this.#known[number]!;
  }
}
