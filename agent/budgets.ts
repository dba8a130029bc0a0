/**
 * Asks the source for more of a flow whose TLS handshake is under way, and for no more of one whose
 * openings have been read. Plaintext is read for less than any budget.
 *
 *      what comes       |- the source's budget -|- doubled -|- … -|  `RAISES_LIMIT` times
 *      asked for more             ^ half of it        ^ half of that
 *
 * What comes between that a budget is spent and that it is raised is a gap, as it is with none.
 */
import type { Reading } from "./assess/reading.ts";
import type { PassedOver } from "./capture/frame-source.ts";
import type { Counters } from "./counters.ts";
import { IpProtocol } from "./decode/packet.ts";
import { Fact, Side, keyAt } from "./flow/flow-record.ts";
import type { FlowTable } from "./flow/flow-table.ts";

/** Most doublings of a side's budget: 48 KiB become 768. */
const RAISES_LIMIT = 4;
const RAISES_BEHIND_FINISHED = 2;
/** Packets behind the openings after which nothing more is wanted: most flows end before. */
export const PACKETS_BEHIND = 32;
/** Instead of a count of packets: nothing more comes. */
const CLOSED = 255;

export class Budgets {
  readonly #table: FlowTable;
  readonly #source: PassedOver;
  readonly #counters: Counters;
  readonly #packetsBehind: number;
  /** By flow and side: doublings. */
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

  /** A packet of the flow came, from `table.side`; `reading` is what was read of it. */
  weigh(flow: number, reading: Reading | undefined): void {
    const table = this.#table;
    const at = flow * 2 + table.side;
    if ((table.sideFlags(at) & Side.read) === 0) {
      if (table.bytes(at) * 2 >= this.#budgetOf(at)) this.#raise(flow, at, reading);
    } else if ((table.sideFlags(at ^ 1) & Side.read) !== 0 && this.#waits(flow)) {
      if (++this.#behind[flow]! === this.#packetsBehind) this.#close(flow);
    }
  }

  #waits(flow: number): boolean {
    return this.#behind[flow]! < this.#packetsBehind;
  }

  #budgetOf(at: number): number {
    return this.#source.budgetBytes * (1 << this.#raises[at]!);
  }

  #raise(flow: number, at: number, reading: Reading | undefined): void {
    const table = this.#table;
    const limit = raisesFor(reading, (at & 1) !== table.client(flow));
    if (this.#raises[at]! >= limit || !this.#isCounted(flow)) return;
    do this.#raises[at]!++;
    while (this.#raises[at]! < limit && table.bytes(at) * 2 >= this.#budgetOf(at));
    if (this.#raises[at] === limit) this.#counters.budgetsSpent++;
    if (this.#ask(flow, this.#budgetOf(flow * 2), this.#budgetOf(flow * 2 + 1))) {
      this.#counters.budgetsRaised++;
    } else this.#counters.budgetsRefused++;
  }

  /** What a record tells beside the openings is who spoke, and who answered: that must be known. */
  #close(flow: number): void {
    const table = this.#table;
    this.#behind[flow] = 0; // to be asked again
    const [low, high] = [table.sideFlags(flow * 2), table.sideFlags(flow * 2 + 1)];
    const served = table.client(flow) === 0 ? high : low;
    const isMidstream = (table.flowFlags(flow) & Fact.midstream) !== 0; // who serves is not known
    if ((low & high & Side.data) === 0 || (served & Side.answered) === 0) return;
    if ((isMidstream && (low & high & Side.answered) === 0) || !this.#isCounted(flow)) return;
    this.#behind[flow] = CLOSED;
    if (this.#ask(flow, 0, 0)) this.#counters.budgetsClosed++;
    else this.#counters.budgetsRefused++;
  }

  /** Of other protocols every packet comes. */
  #isCounted(flow: number): boolean {
    const protocol = this.#table.keys[keyAt(flow) + 9]! & 0xff;
    return protocol === IpProtocol.tcp || protocol === IpProtocol.udp;
  }

  #ask(flow: number, low: number, high: number): boolean {
    const table = this.#table;
    const isn = (at: number) => ((table.sideFlags(at) & Side.syn) === 0 ? 0 : table.isn(at));
    return this.#source.ask(
      table.keys,
      keyAt(flow),
      [low, high],
      [isn(flow * 2), isn(flow * 2 + 1)],
    );
  }

  /** The flow has ended: what was asked for it is not meant for the next of its ends. */
  withdraw(flow: number): void {
    const asked = this.#raises[flow * 2]! | this.#raises[flow * 2 + 1]!;
    if (asked !== 0 || this.isClosed(flow)) this.#source.withdraw(this.#table.keys, keyAt(flow));
  }
}

/**
 * Doublings that the reading of a side is worth: until the server has answered. TLS that was joined
 * late is never read to its end. Behind its Finished a client may send without end.
 */
function raisesFor(reading: Reading | undefined, isServer: boolean): number {
  const tls = reading?.tls ?? null;
  if (tls === null || (tls.clientHello ?? tls.serverHello) === null || tls.answered) return 0;
  return isServer || tls.finishedEnd < 0 ? RAISES_LIMIT : RAISES_BEHIND_FINISHED;
}
