/** Adds to flows what their source counted of them, and did not hand over. */
import type { Reading } from "./assess/reading.ts";
import { Budgets, PACKETS_BEHIND } from "./budgets.ts";
import type { PassedOver } from "./capture/frame-source.ts";
import type { Counters } from "./counters.ts";
import { Packet } from "./decode/packet.ts";
import { Side, keyAt } from "./flow/flow-record.ts";
import type { FlowTable } from "./flow/flow-table.ts";

export class Ledger {
  readonly #table: FlowTable;
  readonly #source: PassedOver;
  readonly #budgets: Budgets;
  /** By flow and side: packets and bytes that were added already. */
  readonly #packets: Float64Array;
  readonly #bytes: Float64Array;
  /** Of the flow that opens next: what its ends had counted before it. */
  readonly #packetsBefore = new Float64Array(2);
  readonly #bytesBefore = new Float64Array(2);
  readonly #packet = new Packet();

  constructor(
    table: FlowTable,
    source: PassedOver,
    counters: Counters,
    packetsBehind = PACKETS_BEHIND,
  ) {
    this.#table = table;
    this.#budgets = new Budgets(table, source, counters, packetsBehind);
    this.#source = source;
    this.#packets = new Float64Array(table.capacity * 2);
    this.#bytes = new Float64Array(table.capacity * 2);
  }

  /** Reports whether anything of the flow may have been passed over. */
  #concerns(flow: number): boolean {
    const table = this.#table;
    const { budgetBytes } = this.#source;
    if (this.#budgets.isClosed(flow)) return true;
    // What was handed over counts with its headers here, so this is more than was spent.
    const most = Math.max(table.bytes(flow * 2), table.bytes(flow * 2 + 1));
    return most >= budgetBytes || this.#mayHaveLost(flow);
  }

  /** Of one whose SYN came after the last loss everything was handed over that should have been. */
  #mayHaveLost(flow: number): boolean {
    const table = this.#table;
    const { lostUs } = this.#source;
    if (lostUs === 0) return false;
    const isNew = (table.sideFlags(flow * 2 + table.client(flow)) & Side.syn) !== 0;
    return !isNew || table.startUs(flow) <= lostUs;
  }

  /** A packet of the flow came; `reading` is what was read of it. */
  weigh(flow: number, reading: Reading | undefined): void {
    this.#budgets.weigh(flow, reading);
  }

  /** The flow makes room untold: its counts are swept, what was asked for it is not. */
  withdraw(flow: number): void {
    this.#budgets.withdraw(flow);
  }

  /** The flow has begun. */
  open(flow: number): void {
    this.#budgets.open(flow);
    this.#source.begin(this.#table.keys, keyAt(flow));
    for (let side = 0; side < 2; side++) {
      const at = flow * 2 + side;
      // Mostly zeros: memory counts from when it is first written to, and few flows need theirs.
      if (this.#packets[at] !== this.#packetsBefore[side]) {
        this.#packets[at] = this.#packetsBefore[side]!;
      }
      if (this.#bytes[at] !== this.#bytesBefore[side]) {
        this.#bytes[at] = this.#bytesBefore[side]!;
      }
      this.#packetsBefore[side] = this.#bytesBefore[side] = 0;
    }
  }

  /** Brings the flow's counters up to date; reports whether there was more. */
  settle(flow: number): boolean {
    const source = this.#source;
    if (!this.#concerns(flow) || !source.read(this.#table.keys, keyAt(flow))) return false;
    return this.#add(flow, source.packets, source.bytes);
  }

  /** As `settle`, of a flow whose ends have just connected anew: what came since is the next's. */
  settleReplaced(flow: number): void {
    this.#budgets.withdraw(flow);
    const source = this.#source;
    if (this.#concerns(flow)) {
      if (!source.read(this.#table.keys, keyAt(flow))) return;
      this.#add(flow, source.marked, source.markedBytes);
    }
    for (let side = 0; side < 2; side++) {
      this.#packetsBefore[side] = this.#packets[flow * 2 + side]!;
      this.#bytesBefore[side] = this.#bytes[flow * 2 + side]!;
    }
  }

  #add(flow: number, packets: Float64Array, bytes: Float64Array): boolean {
    let grew = false;
    for (let side = 0; side < 2; side++) {
      const at = flow * 2 + side;
      const more = packets[side]! - this.#packets[at]!;
      if (more <= 0) continue;
      this.#table.countCutOff(at, more, bytes[side]! - this.#bytes[at]!);
      this.#packets[at] = packets[side]!;
      this.#bytes[at] = bytes[side]!;
      grew = true;
    }
    return grew;
  }

  /** The flow has ended: nothing more is counted for it. Without payload nothing ever was. */
  forget(flow: number): void {
    this.#budgets.withdraw(flow);
    const table = this.#table;
    const flags = table.sideFlags(flow * 2) | table.sideFlags(flow * 2 + 1);
    const before = this.#packets[flow * 2]! + this.#packets[flow * 2 + 1]!;
    const isKnown = (flags & Side.data) !== 0 || before > 0 || this.#mayHaveLost(flow);
    if (isKnown)
      this.#source.forget(table.keys, keyAt(flow), !this.#concerns(flow) && before === 0);
  }

  /** Has the source give up, some at a time, what is no flow of the table. */
  sweep(): void {
    const packet = this.#packet;
    this.#source.sweep((keys) => {
      packet.source0 = keys[0]!;
      packet.source1 = keys[1]!;
      packet.source2 = keys[2]!;
      packet.source3 = keys[3]!;
      packet.destination0 = keys[4]!;
      packet.destination1 = keys[5]!;
      packet.destination2 = keys[6]!;
      packet.destination3 = keys[7]!;
      packet.sourcePort = keys[8]! >>> 16;
      packet.destinationPort = keys[8]! & 0xffff;
      packet.protocol = keys[9]! & 0xff;
      return this.#table.holds(packet, keys[9]! >>> 8);
    });
  }
}
