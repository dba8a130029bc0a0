/** Keeps what held when: values of one key in intervals [fromMs, toMs) that do not overlap. */

export type Binding<T> = {
  value: T;
  fromMs: number;
  /** Infinity while it holds. */
  toMs: number;
};

/** Most ended bindings kept for one key; the oldest go first. */
const BINDINGS_LIMIT = 64;

/** Invariant: bindings[i].toMs <= bindings[i + 1].fromMs; at most the last one is open. */
export class Timeline<T> {
  readonly bindings: Binding<T>[] = [];

  /** The value that holds now. */
  get current(): Binding<T> | null {
    const last = this.bindings.at(-1);
    return last !== undefined && last.toMs === Infinity ? last : null;
  }

  /** Ends what holds; the value holds from then on. A start before the last end is moved to it. */
  open(value: T, fromMs: number): void {
    this.close(fromMs);
    const last = this.bindings.at(-1);
    this.bindings.push({
      value,
      fromMs: Math.max(fromMs, last?.toMs ?? -Infinity),
      toMs: Infinity,
    });
    if (this.bindings.length > BINDINGS_LIMIT) this.bindings.shift();
  }

  close(atMs: number): void {
    const last = this.current;
    if (last === null) return;
    if (atMs <= last.fromMs) this.bindings.pop();
    else last.toMs = atMs;
  }

  at(ms: number): T | null {
    for (let i = this.bindings.length - 1; i >= 0; i--) {
      const binding = this.bindings[i]!;
      if (binding.fromMs <= ms) return ms < binding.toMs ? binding.value : null;
    }
    return null;
  }

  /** Drops what ended before; returns whether nothing is left. */
  forget(beforeMs: number): boolean {
    while (this.bindings.length > 0 && this.bindings[0]!.toMs <= beforeMs) this.bindings.shift();
    return this.bindings.length === 0;
  }
}
