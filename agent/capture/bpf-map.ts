/** Makes maps that an eBPF program in the kernel shares with us, and reads and writes them. */
import { readFileSync } from "node:fs";
import { RefusedCall } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";

/** Commands of bpf(2), and flags (linux/bpf.h). */
const MAP_CREATE = 0;
const MAP_LOOKUP = 1;
const MAP_UPDATE = 2;
const MAP_DELETE = 3;
const MAP_LOOKUP_BATCH = 24;
const MAP_DELETE_BATCH = 27;
const NO_PREALLOC = 1;
/** A hash map's entries are allocated as they are made; all of an array's are from the start. */
const TYPES = {
  hash: { type: 1, flags: NO_PREALLOC, isOfEach: false },
  array: { type: 2, flags: 0, isOfEach: false },
  "array of each processor": { type: 6, flags: 0, isOfEach: true },
} as const;
const ENOENT = 2;

/** What to add when bpf(2) is refused. */
export function bpfNeeds(code: string): string {
  if (code === "EPERM") {
    return (
      "add capability BPF to the container (Linux 5.8 or newer; before 5.11 the limit of locked " +
      "memory must hold the maps)"
    );
  }
  return code === "ENOSYS" ? "this kernel is built without bpf(2)" : "";
}

/** The bytes of a view that never move, with their address in front of them for bpf(2). */
export const fixedBytes = (length: number) => new Uint8Array(new ArrayBuffer(length));

/** Processors that the machine may come to have: for each the kernel keeps a value of its own. */
const POSSIBLE = "/sys/devices/system/cpu/possible";

/** Throws `RefusedCall`. */
function possibleProcessors(): number {
  const attempt = `number of processors in ${POSSIBLE}`;
  let text = "";
  try {
    text = readFileSync(POSSIBLE, "latin1");
  } catch (error) {
    throw new RefusedCall(attempt, (error as NodeJS.ErrnoException).code ?? "EIO", "", error);
  }
  const last = /(\d+)\s*$/.exec(text)?.[1]; // as in "0-63": they are counted from 0
  if (last === undefined) throw new RefusedCall(attempt, "EINVAL", `it says ${text.trim()}`);
  return Number(last) + 1;
}

/** A map of keys and values of fixed length; the caller knows what they mean. */
export class BpfMap {
  readonly fd: number;
  /** The key and the value of the next call, and of the last that found one. */
  readonly key: DataView<ArrayBuffer>;
  readonly value: DataView<ArrayBuffer>;
  readonly #calls: SystemCalls;
  readonly #one: Uint8Array<ArrayBuffer>;
  readonly #keyAlone: Uint8Array<ArrayBuffer>;

  /**
   * Throws `RefusedCall`. Where each processor has a value of its own, of a multiple of 8 bytes,
   * `value` is all of them in a row.
   */
  constructor(
    calls: SystemCalls,
    name: string,
    [keyBytes, valueBytes]: readonly [number, number],
    entries: number,
    kind: keyof typeof TYPES = "hash",
  ) {
    this.#calls = calls;
    const { type, flags, isOfEach } = TYPES[kind];
    const key = fixedBytes(keyBytes);
    const value = fixedBytes(valueBytes * (isOfEach ? possibleProcessors() : 1));
    this.key = new DataView(key.buffer);
    this.value = new DataView(value.buffer);
    // bpf_attr of MAP_CREATE: type | key | value | entries | flags, then the name at 28
    const make = fixedBytes(48);
    const numbers = Uint32Array.of(type, keyBytes, valueBytes, entries, flags);
    make.set(new Uint8Array(numbers.buffer));
    make.set(new TextEncoder().encode(name), 28);
    this.fd = calls.bpfMake(MAP_CREATE, make);
    if (this.fd < 0) {
      const code = calls.errorName(-this.fd);
      throw new RefusedCall(`eBPF map of ${entries} entries`, code, bpfNeeds(code));
    }
    // bpf_attr of one element: fd(4) | padding | key | value | flags
    this.#one = fixedBytes(32);
    const one = new DataView(this.#one.buffer);
    one.setUint32(0, this.fd, true);
    one.setBigUint64(8, calls.addressOf(key), true);
    this.#keyAlone = this.#one.slice(); // what follows the key must be 0 where it means nothing
    one.setBigUint64(16, calls.addressOf(value), true);
  }

  /** Reads the value of `key`; reports whether there is one. */
  read(): boolean {
    return this.#calls.bpf(MAP_LOOKUP, this.#one) === 0;
  }

  /** Makes or replaces the entry of `key`; reports whether it could. */
  write(): boolean {
    return this.#calls.bpf(MAP_UPDATE, this.#one) === 0;
  }

  /** Removes the entry of `key`; reports whether there was one. */
  delete(): boolean {
    return this.#calls.bpf(MAP_DELETE, this.#keyAlone) === 0;
  }

  close(): void {
    this.#calls.close(this.fd);
  }
}

/** A counter of 64 bits, of which a double holds 53. */
export function readCount(value: DataView, at: number): number {
  return value.getUint32(at, true) + value.getUint32(at + 4, true) * 2 ** 32;
}

/** Removes entries of a map, many with each call. */
export class MapRemoval {
  readonly #map: BpfMap;
  readonly #calls: SystemCalls;
  readonly #keys: Uint8Array<ArrayBuffer>;
  readonly #keyBytes: number;
  readonly #limit: number;
  readonly #attributes = new DataView(new ArrayBuffer(56));
  /** Keys that wait for `run`. */
  count = 0;

  constructor(calls: SystemCalls, map: BpfMap, limit: number) {
    this.#calls = calls;
    this.#map = map;
    this.#limit = limit;
    this.#keyBytes = map.key.byteLength;
    this.#keys = fixedBytes(this.#keyBytes * limit);
    this.#attributes.setUint32(36, map.fd, true); // as in `MapWalk`
  }

  /** Takes the map's `key` in. */
  add(): void {
    this.#keys.set(new Uint8Array(this.#map.key.buffer), this.count * this.#keyBytes);
    if (++this.count === this.#limit) this.run();
  }

  run(): void {
    const attributes = this.#attributes;
    const base = this.#calls.addressOf(this.#keys);
    for (let from = 0; from < this.count;) {
      attributes.setBigUint64(16, base + BigInt(from * this.#keyBytes), true);
      attributes.setUint32(32, this.count - from, true);
      const result = this.#calls.bpf(MAP_DELETE_BATCH, new Uint8Array(attributes.buffer));
      if (result === 0) break;
      // It stops at a key that has no entry; kernels before 5.6 have no such call.
      if (result === -ENOENT) from += attributes.getUint32(32, true) + 1;
      else this.#removeOne(from++);
    }
    this.count = 0;
  }

  #removeOne(i: number): void {
    const at = i * this.#keyBytes;
    new Uint8Array(this.#map.key.buffer).set(this.#keys.subarray(at, at + this.#keyBytes));
    this.#map.delete();
  }
}

/** Walks a map a part at a time, so that no single step takes long. */
export class MapWalk {
  readonly keys: Uint8Array<ArrayBuffer>;
  readonly #values: Uint8Array<ArrayBuffer>;
  readonly #calls: SystemCalls;
  readonly #attributes: DataView<ArrayBuffer>;
  /** Where the next part begins, in the kernel's words; a hash map's is one number. */
  readonly #place = fixedBytes(64);
  readonly #limit: number;
  #isUnderway = false;

  constructor(calls: SystemCalls, map: BpfMap, limit: number) {
    this.#calls = calls;
    this.#limit = limit;
    this.keys = fixedBytes(map.key.byteLength * limit);
    this.#values = fixedBytes(map.value.byteLength * limit);
    // bpf_attr of a batch: from | until | keys | values | count(4) | fd(4) | flags(8) | flags(8)
    this.#attributes = new DataView(new ArrayBuffer(56));
    const place = calls.addressOf(this.#place);
    this.#attributes.setBigUint64(8, place, true);
    this.#attributes.setBigUint64(16, calls.addressOf(this.keys), true);
    this.#attributes.setBigUint64(24, calls.addressOf(this.#values), true);
    this.#attributes.setUint32(36, map.fd, true);
  }

  /**
   * Puts the next keys into `keys`; returns how many. `isOver` tells that a round has ended, and
   * the next begins anew. Kernels before 5.6 have no such call: then a round is always empty.
   */
  next(): { count: number; isOver: boolean } {
    const attributes = this.#attributes;
    const place = this.#isUnderway ? this.#calls.addressOf(this.#place) : 0n;
    attributes.setBigUint64(0, place, true);
    attributes.setUint32(32, this.#limit, true);
    const result = this.#calls.bpf(MAP_LOOKUP_BATCH, new Uint8Array(attributes.buffer));
    this.#isUnderway = result === 0;
    const isRead = result === 0 || result === -ENOENT; // the latter: these were the last
    return { count: isRead ? attributes.getUint32(32, true) : 0, isOver: !this.#isUnderway };
  }
}
