/**
 * Tells the cutoff's program which interfaces it lets through, and reads what it counts of each.
 *
 * The program asks for every frame, also of interfaces that nobody watches, so that it goes without
 * a hash map: an interface stands in the set of its index modulo `SETS`, as one of some that are
 * read with one cache line. Each processor counts for itself.
 */
import { BpfMap, readCount } from "./bpf-map.ts";
import { Alu, Jump, MapCall, Size } from "./bpf-assembler.ts";
import type { BpfAssembler } from "./bpf-assembler.ts";
import { InterfaceKind } from "./header-walk.ts";
import { Lanes } from "./lanes.ts";
import type { SystemCalls } from "./system-calls.ts";

/** Interfaces of a set: index(4), 0 where there is none | counters' number(2) | kind(2) of each. */
const SET_PLACES = 8;
const Place = { index: 0, counters: 4, kind: 6, bytes: 8 } as const;
/** Devices are numbered one after the other: sets fill evenly, or every second one does. */
const SETS = 2048;

/** Counters of an interface: frames that were not handed over; frames that found no room. */
export const InterfaceCount = { cutOff: 0, refused: 8 } as const;
const COUNT_BYTES = 16;
/** Most interfaces under watch. */
const COUNTERS = 4096;

/** `struct __sk_buff`: the interface. */
const INDEX = 40;

/** ARPHRD_…: Ethernet, loopback, and those whose frames begin with the IP header. */
const KINDS: ReadonlyMap<number, number> = new Map([
  [1, InterfaceKind.ethernet],
  [772, InterfaceKind.loopback],
  ...[768, 769, 776, 778, 65534].map((type) => [type, InterfaceKind.rawIp] as const),
]);

/** File descriptors of the maps. */
export type InterfaceMaps = { sets: number; counters: number };

/**
 * From a frame's context in r6: writes its interface's index to `at` of the stack (4 bytes; 4 more
 * are spoilt), leaves the address of its counters in r0, its kind in r7. Jumps to `elsewhere` with
 * frames of interfaces that are not watched.
 */
export function findInterface(
  b: BpfAssembler,
  { sets, counters }: InterfaceMaps,
  at: number,
  elsewhere: string,
): void {
  const number = at + 4;
  b.load(Size.word, 7, 6, INDEX).store(Size.word, 10, at, { register: 7 });
  b.move(1, { register: 7 }).alu(Alu.and, 1, SETS - 1);
  b.store(Size.word, 10, number, { register: 1 });
  const lookUp = (map: number) => {
    b.callMap(MapCall.lookUp, map, number);
    b.jumpIf(Jump.equal, 0, 0, elsewhere); // never: all entries of an array are there
  };
  lookUp(sets);
  for (let place = 0; place < SET_PLACES; place++) {
    b.load(Size.word, 1, 0, place * Place.bytes + Place.index);
    b.jumpIf(Jump.equal, 1, { register: 7 }, `place ${place}`);
  }
  b.jump(elsewhere);
  for (let place = 0; place < SET_PLACES; place++) {
    const base = place * Place.bytes;
    b.label(`place ${place}`).load(Size.half, 1, 0, base + Place.counters);
    b.load(Size.half, 7, 0, base + Place.kind).jump("interface");
  }
  b.label("interface").store(Size.word, 10, number, { register: 1 });
  lookUp(counters);
}

export class InterfaceTable {
  readonly #sets: BpfMap;
  readonly #counters: BpfMap;
  /** By interface: its counters' number. */
  readonly #numbers = new Map<number, number>();
  readonly #free = new Lanes(COUNTERS);
  /** Of the last interface that was read: frames cut off, and passed for want of room. */
  cutOff = 0;
  refused = 0;

  /** Throws `RefusedCall`. */
  constructor(calls: SystemCalls) {
    this.#sets = new BpfMap(calls, "wp_interfaces", [4, SET_PLACES * Place.bytes], SETS, "array");
    try {
      const each = "array of each processor";
      this.#counters = new BpfMap(calls, "wp_counters", [4, COUNT_BYTES], COUNTERS, each);
    } catch (error) {
      this.#sets.close();
      throw error;
    }
  }

  get maps(): InterfaceMaps {
    return { sets: this.#sets.fd, counters: this.#counters.fd };
  }

  /** Lets frames of an interface pass, if there is room; `hardware` is its type (ARPHRD_…). */
  allow(index: number, hardware: number): boolean {
    if (this.#numbers.size === COUNTERS) return false;
    const at = this.#placeOf(index, 0);
    if (at < 0) return false;
    const number = this.#free.take();
    this.#counters.key.setUint32(0, number, true);
    new Uint8Array(this.#counters.value.buffer).fill(0);
    const { value } = this.#sets;
    value.setUint32(at + Place.index, index, true);
    value.setUint16(at + Place.counters, number, true);
    value.setUint16(at + Place.kind, KINDS.get(hardware) ?? InterfaceKind.other, true);
    if (!this.#counters.write() || !this.#sets.write()) {
      this.#free.free(number);
      return false;
    }
    this.#numbers.set(index, number);
    return true;
  }

  forbid(index: number): void {
    const number = this.#numbers.get(index);
    if (number === undefined) return;
    const at = this.#placeOf(index, index);
    this.#sets.value.setUint32(at + Place.index, 0, true);
    this.#sets.write();
    this.#numbers.delete(index);
    this.#free.free(number);
  }

  /** Reads an interface's counters into `cutOff`, `refused`; reports whether it is watched. */
  read(index: number): boolean {
    const number = this.#numbers.get(index);
    if (number === undefined) return false;
    const { key, value } = this.#counters;
    key.setUint32(0, number, true);
    if (!this.#counters.read()) return false;
    this.cutOff = 0;
    this.refused = 0;
    for (let at = 0; at < value.byteLength; at += COUNT_BYTES) {
      this.cutOff += readCount(value, at + InterfaceCount.cutOff);
      this.refused += readCount(value, at + InterfaceCount.refused);
    }
    return true;
  }

  /** Reads an interface's set; returns where in its value `wanted` stands, 0 for a free place. */
  #placeOf(index: number, wanted: number): number {
    const { key, value } = this.#sets;
    key.setUint32(0, index % SETS, true);
    if (!this.#sets.read()) return -1;
    for (let at = 0; at < value.byteLength; at += Place.bytes) {
      if (value.getUint32(at + Place.index, true) === wanted) return at;
    }
    return -1;
  }

  close(): void {
    this.#sets.close();
    this.#counters.close();
  }
}
