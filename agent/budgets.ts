/**
 * Asks the source for more of a flow whose openings are still being read, and for no more of one
 * whose openings have been.
 *
 *      what comes       |- the source's budget -|- doubled -|- … -|  `RAISES_LIMIT` times
 *      asked for more             ^ half of it        ^ half of that
 *
 * What comes between that a budget is spent and that it is raised is a gap, as it is with none.
 */
import type { PassedOver } from "./capture/frame-source.ts";
import type { Counters } from "./counters.ts";
import { IpProtocol } from "./decode/packet.ts";
import { KEY } from "./flow/flow-key.ts";
import { Fact, Side } from "./flow/flow-table.ts";
import type { FlowTable } from "./flow/flow-table.ts";

/** Most doublings of a side's budget: 48 KiB become 768. */
const RAISES_LIMIT = 4;
/** Packets behind the openings after which nothing more is wanted: most flows end before. */
export const PACKETS_BEHIND = 8;
/** Instead of a count of packets: nothing more comes. */
const CLOSED = 255;

export class Budgets {
  readonly #table: FlowTable;
  readonly #source: PassedOver;
  readonly #counters: Counters;
  readonly #packetsBehind: number;
  /** By flow and side: doublings, one more when that was not enough. */
  readonly #raises: Uint8Array;
  /** By flow: packets behind its openings. */
  readonly #behind: Uint8Array;

  /** More than `packetsBehind` are never waited for, 254 at most; with 0 nothing is ever closed. */
  constructor(table: FlowTable, source: PassedOver, counters: Counters, packetsBehind: number) {
    this.#table = table;
    this.#source = source;
    this.#counters = counters;
    this.#packetsBehind = packetsBehind;
    this.#raises = new Uint8Array(table.capacity * 2);
    this.#behind = new Uint8Array(table.capacity);
  }

  /** The flow has begun. */
  open(flow: number): void {
    this.#raises[flow * 2] = this.#raises[flow * 2 + 1] = this.#behind[flow] = 0;
  }

  /** Reports whether the source was asked for no more of the flow. */
  isClosed(flow: number): boolean {
    return this.#behind[flow] === CLOSED;
  }

  /** A packet of the flow came, from `table.side`. */
  weigh(flow: number): void {
    const { sideFlags, bytes, side } = this.#table;
    const at = flow * 2 + side;
    if ((sideFlags[at]! & Side.read) === 0) {
      if (bytes[at]! * 2 >= this.#budgetOf(at)) this.#raise(flow, at);
    } else if (
      (sideFlags[at ^ 1]! & Side.read) !== 0 &&
      this.#behind[flow]! < this.#packetsBehind
    ) {
      if (++this.#behind[flow]! === this.#packetsBehind) this.#close(flow);
    }
  }

  #budgetOf(at: number): number {
    return this.#source.budgetBytes * (1 << Math.min(RAISES_LIMIT, this.#raises[at]!));
  }

  #raise(flow: number, at: number): void {
    const { bytes } = this.#table;
    const before = this.#raises[at]!;
    if (before > RAISES_LIMIT || !this.#isCounted(flow)) return;
    while (this.#raises[at]! <= RAISES_LIMIT && bytes[at]! * 2 >= this.#budgetOf(at)) {
      this.#raises[at]!++;
    }
    if (this.#raises[at]! > RAISES_LIMIT) this.#counters.budgetsSpent++;
    if (before === RAISES_LIMIT) return;
    if (this.#ask(flow, this.#budgetOf(flow * 2), this.#budgetOf(flow * 2 + 1))) {
      this.#counters.budgetsRaised++;
    } else this.#counters.budgetsRefused++;
  }

  /** What a record tells beside the openings is who spoke, and who answered: that must be known. */
  #close(flow: number): void {
    const { sideFlags, flowFlags, client } = this.#table;
    this.#behind[flow] = 0; // to be asked again
    const [low, high] = [sideFlags[flow * 2]!, sideFlags[flow * 2 + 1]!];
    const served = client[flow] === 0 ? high : low;
    const isMidstream = (flowFlags[flow]! & Fact.midstream) !== 0; // who serves is not known
    if ((low & high & Side.data) === 0 || (served & Side.answered) === 0) return;
    if ((isMidstream && (low & high & Side.answered) === 0) || !this.#isCounted(flow)) return;
    this.#behind[flow] = CLOSED;
    if (this.#ask(flow, 0, 0)) this.#counters.budgetsClosed++;
    else this.#counters.budgetsRefused++;
  }

  /** Of other protocols every packet comes. */
  #isCounted(flow: number): boolean {
    const protocol = this.#table.keys[flow * KEY + 9]! & 0xff;
    return protocol === IpProtocol.tcp || protocol === IpProtocol.udp;
  }

  #ask(flow: number, low: number, high: number): boolean {
    const { keys, sideFlags } = this.#table;
    const isn = (at: number) => ((sideFlags[at]! & Side.syn) === 0 ? 0 : this.#table.isn(at));
    return this.#source.ask(keys, flow * KEY, [low, high], [isn(flow * 2), isn(flow * 2 + 1)]);
  }

  /** The flow has ended: what was asked for it is not meant for the next of its ends. */
  withdraw(flow: number): void {
    const asked = this.#raises[flow * 2]! | this.#raises[flow * 2 + 1]!;
    if (asked !== 0 || this.isClosed(flow)) this.#source.withdraw(this.#table.keys, flow * KEY);
  }
}
