/** Loads the flow cutoff into the kernel, and reads what it counted of interfaces and flows. */
import { BpfMap, MapRemoval, MapWalk, readCount } from "./bpf-map.ts";
import { loadProgram } from "./bpf-program.ts";
import {
  END_BYTES,
  FLOW_KEY_BYTES,
  FLOW_VALUE_BYTES,
  FlowKey,
  FlowValue,
  WISH_BYTES,
  Wish,
  assembleCutoff,
} from "./cutoff-program.ts";
import type { CutoffProgram } from "./cutoff-program.ts";
import { InterfaceTable } from "./interface-table.ts";
import { SNAP_BYTES } from "./frame-source.ts";
import type { Draw } from "./sample-program.ts";
import { RefusedCall } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";

/** Payload of each side of a flow that is handed over: whole TLS flights, and what comes before. */
export const BUDGET_BYTES = 48 << 10;
/** Whole frames of what is handed over, whatever offload made of them. */
const WHOLE_FRAME = 0x7fffffff;
/** Keys read at a time when the map is walked. */
const WALK_KEYS = 512;
/** Flows forgotten with one call. */
const REMOVED_AT_ONCE = 128;
/** Bits by which flows that wait to be forgotten are told from most others. */
const MARKS = 4096;

/** What the program is told of flows. */
type Reads = Pick<CutoffProgram, "budget" | "sample" | "vxlanPorts">;

export class FlowCutoff {
  readonly programFd: number;
  readonly interfaces: InterfaceTable;
  /** Why flows in tunnels are handed over whole; null where they are counted as others are. */
  withoutTunnels: string | null = null;
  readonly #calls: SystemCalls;
  readonly #flows: BpfMap;
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

  /** Throws `RefusedCall`. `flows` is the room for flows, in entries of some 260 bytes. */
  constructor(
    calls: SystemCalls,
    flows: number,
    budget: number,
    sample: Draw | null = null,
    vxlanPorts: readonly number[] = [],
  ) {
    this.#calls = calls;
    const open: { close: () => void }[] = [];
    try {
      const map = (name: string, value: number) => {
        const made = new BpfMap(calls, name, [FLOW_KEY_BYTES, value], flows);
        open.push(made);
        return made;
      };
      this.#flows = map("wp_flows", FLOW_VALUE_BYTES);
      this.#wishes = map("wp_wishes", WISH_BYTES);
      this.interfaces = new InterfaceTable(calls);
      open.push(this.interfaces);
      this.#walk = new MapWalk(calls, this.#flows, WALK_KEYS);
      this.#removal = new MapRemoval(calls, this.#flows, REMOVED_AT_ONCE);
      this.programFd = this.#loadBest({ budget, sample, vxlanPorts });
    } catch (error) {
      for (const made of open) made.close();
      throw error;
    }
  }

  /** A verifier that finds the program too long may still take the one that leaves tunnels out. */
  #loadBest(reads: Reads): number {
    try {
      return this.#load(reads, true);
    } catch (error) {
      if (!(error instanceof RefusedCall) || error.code === "EPERM") throw error;
      const fd = this.#load(reads, false);
      this.withoutTunnels = error.message;
      return fd;
    }
  }

  #load(reads: Reads, hasTunnels: boolean): number {
    const program = assembleCutoff({
      ...{ ...reads, snap: WHOLE_FRAME, otherSnap: SNAP_BYTES },
      ...{ flows: this.#flows.fd, wishes: this.#wishes.fd, interfaces: this.interfaces.maps },
      hasTunnels,
    });
    return loadProgram(this.#calls, "wp_cutoff", program);
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
    for (const map of [this.#flows, this.#wishes, this.interfaces]) map.close();
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
