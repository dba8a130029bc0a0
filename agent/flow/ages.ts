/** Orders flows by their last packet, in one list per kind: the oldest is the next to go. */
export class Ages {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #list: Uint8Array;
  readonly #oldest: Int32Array;
  readonly #youngest: Int32Array;

  constructor(flows: number, lists: number) {
    this.#next = new Int32Array(flows);
    this.#previous = new Int32Array(flows);
    this.#list = new Uint8Array(flows);
    this.#oldest = new Int32Array(lists).fill(-1);
    this.#youngest = new Int32Array(lists).fill(-1);
  }

  /** The flow of the list that has been quiet for the longest, or -1. */
  oldest(list: number): number {
    return this.#oldest[list]!;
  }

  /** Puts a flow that is in no list at the young end of one. */
  append(flow: number, list: number): void {
    const youngest = this.#youngest[list]!;
    this.#previous[flow] = youngest;
    this.#next[flow] = -1;
    this.#list[flow] = list;
    if (youngest >= 0) this.#next[youngest] = flow;
    else this.#oldest[list] = flow;
    this.#youngest[list] = flow;
  }

  isIn(flow: number, list: number): boolean {
    return this.#list[flow] === list;
  }

  /** Moves a flow to the young end of the given list. */
  renew(flow: number, list: number): void {
    if (this.#youngest[list] === flow) return;
    this.remove(flow);
    this.append(flow, list);
  }

  remove(flow: number): void {
    const list = this.#list[flow]!;
    const previous = this.#previous[flow]!;
    const next = this.#next[flow]!;
    if (previous >= 0) this.#next[previous] = next;
    else this.#oldest[list] = next;
    if (next >= 0) this.#previous[next] = previous;
    else this.#youngest[list] = previous;
  }
}
