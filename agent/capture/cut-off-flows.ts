/** Tells what the flow cutoff counted of flows, which are known by their interface's lane. */
import type { FlowCutoff } from "./flow-cutoff.ts";
import type { PassedOver, Watch } from "./frame-source.ts";

const NOTHING = new Float64Array(2);
/** Most parts of a walk through all flows that one sweep takes. */
const PARTS_A_SWEEP = 8;

export class CutOffFlows implements PassedOver {
  readonly budgetBytes: number;
  lostUs = 0;
  #cutoff: FlowCutoff | null = null;
  readonly #watches: ReadonlyMap<number, Watch>;
  /** Interfaces by lane, also of those that are gone: their flows are still to be told. */
  readonly #indexes: number[] = [];
  /** Flows that nobody knew in the last round of the sweep, and in this one. */
  #unknown = new Set<string>();
  #unknownNow = new Set<string>();

  constructor(budgetBytes: number, watches: ReadonlyMap<number, Watch>) {
    this.budgetBytes = budgetBytes;
    this.#watches = watches;
  }

  /** Reads from this cutoff from now on; its interfaces get new lanes. */
  use(cutoff: FlowCutoff | null): void {
    this.#cutoff = cutoff;
    this.#indexes.fill(0);
  }

  know(lane: number, index: number): void {
    this.#indexes[lane] = index;
  }

  get packets(): Float64Array {
    return this.#cutoff?.packets ?? NOTHING;
  }

  get bytes(): Float64Array {
    return this.#cutoff?.bytes ?? NOTHING;
  }

  get marked(): Float64Array {
    return this.#cutoff?.marked ?? NOTHING;
  }

  get markedBytes(): Float64Array {
    return this.#cutoff?.markedBytes ?? NOTHING;
  }

  #indexOf(keys: Int32Array, k: number): number {
    return this.#indexes[keys[k + 9]! >>> 8] ?? 0;
  }

  read(keys: Int32Array, k: number): boolean {
    const index = this.#indexOf(keys, k);
    return index !== 0 && this.#cutoff !== null && this.#cutoff.readFlow(keys, k, index);
  }

  begin(keys: Int32Array, k: number): void {
    this.#cutoff?.begin(keys, k);
  }

  forget(keys: Int32Array, k: number, isWhole: boolean): void {
    const index = this.#indexOf(keys, k);
    if (index === 0) return;
    if (isWhole) this.#cutoff?.forgetSoon(keys, k, index);
    else this.#cutoff?.forgetFlow(keys, k, index);
  }

  ask(keys: Int32Array, k: number, bytes: readonly number[], isn: readonly number[]): boolean {
    const index = this.#indexOf(keys, k);
    return index !== 0 && this.#cutoff !== null && this.#cutoff.ask(keys, k, index, bytes, isn);
  }

  withdraw(keys: Int32Array, k: number): void {
    const index = this.#indexOf(keys, k);
    if (index !== 0) this.#cutoff?.withdraw(keys, k, index);
  }

  /**
   * A flow that is not known may be about to be: its first frames are still in the ring. It is
   * given up when it is unknown in two rounds, of which the second begins where the first ended.
   */
  sweep(isFlow: (keys: Int32Array) => boolean): void {
    const cutoff = this.#cutoff;
    if (cutoff === null) return;
    cutoff.forgetWaiting();
    let isOver = false;
    for (let part = 0; part < PARTS_A_SWEEP && !isOver; part++) {
      isOver = this.#sweepPart(cutoff, isFlow);
    }
    if (!isOver) return;
    this.#unknown = this.#unknownNow;
    this.#unknownNow = new Set();
  }

  #sweepPart(cutoff: FlowCutoff, isFlow: (keys: Int32Array) => boolean): boolean {
    return cutoff.walk((keys, protocol, index) => {
      const watch = this.#watches.get(index);
      if (watch === undefined) {
        keys[9] = protocol;
        return cutoff.forgetFlow(keys, 0, index);
      }
      keys[9] = protocol | (watch.lane << 8);
      if (isFlow(keys)) return;
      const name = `${index} ${keys.join(" ")}`;
      if (this.#unknown.has(name)) cutoff.forgetFlow(keys, 0, index);
      else this.#unknownNow.add(name);
    });
  }
}
