/** Loads the flow cutoff into the kernel, and reads what it counted of interfaces and flows. */
import { BpfMap, MapRemoval, MapWalk, possibleProcessors } from "./bpf-map.ts";
import { loadProgram } from "./bpf-program.ts";
import {
  END_BYTES,
  FLOW_KEY_BYTES,
  FLOW_VALUE_BYTES,
  FlowKey,
  FlowValue,
  INTERFACE_VALUE_BYTES,
  InterfaceValue,
  WISH_BYTES,
  Wish,
  assembleCutoff,
} from "./cutoff-program.ts";
import { InterfaceKind } from "./header-walk.ts";
import { SNAP_BYTES } from "./frame-source.ts";
import type { Draw } from "./sample-program.ts";
import { RefusedCall } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";

/** Payload of each side of a flow that is handed over: whole TLS flights, and what comes before. */
export const BUDGET_BYTES = 48 << 10;
/** Whole frames of what is handed over, whatever offload made of them. */
const WHOLE_FRAME = 0x7fffffff;
/** Most interfaces under watch. */
const INTERFACES_LIMIT = 16_384;
/** Keys read at a time when the map is walked. */
const WALK_KEYS = 512;
/** Flows forgotten with one call. */
const REMOVED_AT_ONCE = 128;
/** Bits by which flows that wait to be forgotten are told from most others. */
const MARKS = 4096;

/** ARPHRD_…: Ethernet, loopback, and those whose frames begin with the IP header. */
const KINDS: ReadonlyMap<number, number> = new Map([
  [1, InterfaceKind.ethernet],
  [772, InterfaceKind.loopback],
  ...[768, 769, 776, 778, 65534].map((type) => [type, InterfaceKind.rawIp] as const),
]);

export class FlowCutoff {
  readonly programFd: number;
  /** Why flows in tunnels are handed over whole; null where they are counted as others are. */
  withoutTunnels: string | null = null;
  readonly #calls: SystemCalls;
  readonly #flows: BpfMap;
  readonly #interfaces: BpfMap;
  readonly #wishes: BpfMap;
  readonly #walk: MapWalk;
  readonly #removal: MapRemoval;
  /** By hash of the key: such a flow waits to be forgotten. */
  readonly #marks = new Uint8Array(MARKS);
  /** Of the last flow that was read, by side: packets and bytes, now and at its last SYN. */
  readonly packets = new Float64Array(2);
  readonly bytes = new Float64Array(2);
  readonly marked = new Float64Array(2);
  readonly markedBytes = new Float64Array(2);
  /** Of the last interface that was read: frames cut off, and passed for want of room. */
  cutOff = 0;
  refused = 0;

  readonly #sample: Draw | null;

  /** Throws `RefusedCall`. `flows` is the room for flows, in entries of some 260 bytes. */
  constructor(calls: SystemCalls, flows: number, budget: number, sample: Draw | null = null) {
    this.#calls = calls;
    this.#sample = sample;
    const open: { close: () => void }[] = [];
    try {
      const map = (name: string, key: number, value: number, entries: number, processors = 0) => {
        const made = new BpfMap(calls, name, [key, value], entries, processors);
        open.push(made);
        return made;
      };
      this.#flows = map("wp_flows", FLOW_KEY_BYTES, FLOW_VALUE_BYTES, flows);
      const processors = possibleProcessors();
      this.#interfaces = map(
        "wp_interfaces",
        4,
        INTERFACE_VALUE_BYTES,
        INTERFACES_LIMIT,
        processors,
      );
      this.#wishes = map("wp_wishes", FLOW_KEY_BYTES, WISH_BYTES, flows);
      this.#walk = new MapWalk(calls, this.#flows, WALK_KEYS);
      this.#removal = new MapRemoval(calls, this.#flows, REMOVED_AT_ONCE);
      this.programFd = this.#loadBest(budget);
    } catch (error) {
      for (const made of open) made.close();
      throw error;
    }
  }

  /** A verifier that finds the program too long may still take the one that leaves tunnels out. */
  #loadBest(budget: number): number {
    try {
      return this.#load(budget, true);
    } catch (error) {
      if (!(error instanceof RefusedCall) || error.code === "EPERM") throw error;
      const fd = this.#load(budget, false);
      this.withoutTunnels = error.message;
      return fd;
    }
  }

  #load(budget: number, hasTunnels: boolean): number {
    const program = assembleCutoff({
      ...{ budget, snap: WHOLE_FRAME, otherSnap: SNAP_BYTES },
      ...{ flows: this.#flows.fd, wishes: this.#wishes.fd, interfaces: this.#interfaces.fd },
      ...{ hasTunnels, sample: this.#sample },
    });
    return loadProgram(this.#calls, "wp_cutoff", program);
  }

  /** Lets frames of an interface pass, if there is room; `hardware` is its type (ARPHRD_…). */
  allow(index: number, hardware: number): boolean {
    const { key, value } = this.#interfaces;
    key.setUint32(0, index, true);
    new Uint8Array(value.buffer).fill(0);
    const kind = KINDS.get(hardware) ?? InterfaceKind.other;
    for (let at = 0; at < value.byteLength; at += INTERFACE_VALUE_BYTES) {
      value.setUint32(at + InterfaceValue.kind, kind, true);
    }
    return this.#interfaces.write();
  }

  forbid(index: number): void {
    this.#interfaces.key.setUint32(0, index, true);
    this.#interfaces.delete();
  }

  /** Reads an interface's counters into `cutOff`, `refused`. */
  readInterface(index: number): boolean {
    const { key, value } = this.#interfaces;
    key.setUint32(0, index, true);
    if (!this.#interfaces.read()) return false;
    this.cutOff = 0;
    this.refused = 0;
    for (let at = 0; at < value.byteLength; at += INTERFACE_VALUE_BYTES) {
      this.cutOff += readCount(value, at + InterfaceValue.cutOff);
      this.refused += readCount(value, at + InterfaceValue.refused);
    }
    return true;
  }

  /**
   * Reads a flow's counters into `packets` and the like; false where nothing is known of it. Its
   * key stands at `k` of `keys` as `agent/flow/flow-key.ts` writes it, but for the lane: `index` is
   * the interface's.
   */
  readFlow(keys: Int32Array, k: number, index: number): boolean {
    writeKey(this.#flows.key, keys, k, index);
    if (!this.#flows.read()) return false;
    const { value } = this.#flows;
    for (let side = 0; side < 2; side++) {
      const end = side * END_BYTES;
      this.packets[side] = readCount(value, end + FlowValue.packets);
      this.bytes[side] = readCount(value, end + FlowValue.bytes);
      this.marked[side] = readCount(value, end + FlowValue.marked);
      this.markedBytes[side] = readCount(value, end + FlowValue.markedBytes);
    }
    return true;
  }

  /** Makes room: the flow is over. */
  forgetFlow(keys: Int32Array, k: number, index: number): void {
    writeKey(this.#flows.key, keys, k, index);
    this.#flows.delete();
  }

  /** As `forgetFlow`, of a flow of which nothing was kept back: soon, with others. */
  forgetSoon(keys: Int32Array, k: number, index: number): void {
    writeKey(this.#flows.key, keys, k, index);
    this.#marks[markOf(keys, k)] = 1;
    this.#removal.add();
    if (this.#removal.count === 0) this.#marks.fill(0);
  }

  /** What waits to be forgotten is. */
  forgetWaiting(): void {
    if (this.#removal.count === 0) return;
    this.#removal.run();
    this.#marks.fill(0);
  }

  /** A flow begins: what will be counted of it must not be forgotten with an earlier one. */
  begin(keys: Int32Array, k: number): void {
    if (this.#marks[markOf(keys, k)] !== 0) this.forgetWaiting();
  }

  /** As `PassedOver.ask` of frame-source.ts; `index` is the interface's. */
  ask(
    keys: Int32Array,
    k: number,
    index: number,
    bytes: readonly number[],
    isn: readonly number[],
  ): boolean {
    const { key, value } = this.#wishes;
    writeKey(key, keys, k, index);
    for (let side = 0; side < 2; side++) {
      value.setUint32(Wish.budget + side * 8, bytes[side]!, true);
      value.setInt32(Wish.isn + side * 8, isn[side]!); // as it stands in the packet
    }
    return this.#wishes.write();
  }

  withdraw(keys: Int32Array, k: number, index: number): void {
    writeKey(this.#wishes.key, keys, k, index);
    this.#wishes.delete();
  }

  /**
   * Reads the next flows of a walk through all: calls `onFlow` with each one's key, as it stands in
   * the flow table but for the lane, and its interface. Returns true at the end of a round.
   */
  walk(onFlow: (keys: Int32Array, protocol: number, index: number) => void): boolean {
    const { count, isOver } = this.#walk.next();
    const view = new DataView(this.#walk.keys.buffer);
    const words = new Int32Array(10);
    for (let i = 0; i < count; i++) {
      const at = i * FLOW_KEY_BYTES;
      for (let word = 0; word < 9; word++) words[word] = view.getInt32(at + word * 4);
      const protocol = view.getUint32(at + FlowKey.protocol, true);
      onFlow(words, protocol, view.getUint32(at + FlowKey.index, true));
    }
    return isOver;
  }

  close(): void {
    this.#calls.close(this.programFd);
    for (const map of [this.#flows, this.#wishes, this.#interfaces]) map.close();
  }
}

function markOf(keys: Int32Array, k: number): number {
  let hash = keys[k + 9]!;
  for (let word = 0; word < 9; word++) hash = Math.imul(hash ^ keys[k + word]!, 0x9e3779b1);
  return (hash ^ (hash >>> 16)) & (MARKS - 1);
}

/** Writes a flow's key of the maps from that of the flow table. */
function writeKey(key: DataView, keys: Int32Array, k: number, index: number): void {
  for (let word = 0; word < 9; word++) key.setInt32(word * 4, keys[k + word]!);
  key.setUint32(FlowKey.index, index, true);
  key.setUint32(FlowKey.protocol, keys[k + 9]! & 0xff, true);
}

/** A counter of 64 bits, of which a double holds 53. */
function readCount(value: DataView, at: number): number {
  return value.getUint32(at, true) + value.getUint32(at + 4, true) * 2 ** 32;
}
