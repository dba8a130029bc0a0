/** Joins decode, flow and assess: takes frames, gives records of flows. */
import { Reading } from "./assess/reading.ts";
import { settled } from "./assess/settled.ts";
import { endsOf, nameOf, observe } from "./assess/observe.ts";
import { followSession } from "./assess/resumption.ts";
import type { Trace } from "./assess/trace.ts";
import { tellPacket } from "./assess/traced-packet.ts";
import type { PassedOver, Watch } from "./capture/frame-source.ts";
import { Counters } from "./counters.ts";
import { decodeFrame } from "./decode/ethernet.ts";
import { Fragments } from "./decode/fragments.ts";
import { giveUpDatagram } from "./decode/ip.ts";
import { IpProtocol, Packet, Stop } from "./decode/packet.ts";
import { FlowTable, News } from "./flow/flow-table.ts";
import type { FlowTableOptions } from "./flow/flow-table.ts";
import { Floods } from "./flow/floods.ts";
import { Fact, Side, keyAt } from "./flow/flow-record.ts";
import type { Sample } from "./flow/sample.ts";
import { isWhole } from "./flow/whole.ts";
import { TELLING, knownOf } from "./known.ts";
import { Ledger } from "./ledger.ts";
import { Loss, Losses } from "./losses.ts";
import { Owner, Refusal } from "./owner.ts";
import { CLIENT, SERVER } from "./tls/side.ts";
import { isLateHandshake } from "./tls/late-handshake.ts";
import { Sessions } from "./tls/sessions.ts";
import type { Flow } from "../protocol/flow-record.ts";

/**
 * Called with a flow's record: at its end (`final`), and while it lives when its opening was read,
 * when acceptance or refusal became known (soon after: at the next `advance`, unless it is over by
 * then), and at every report. `flow` is its number in the table.
 */
export type OnFlow = (record: Flow, flow: number, final: boolean) => void;

export type LineOptions = {
  table: FlowTableOptions;
  /** Tell flows while they live, and not only at their end. */
  revisions: boolean;
  /** Milliseconds between two tellings of a living flow that had packets. */
  reportIntervalMs: number;
  /** Flows that are read; without one, all are. */
  sample?: Sample | null;
  /** Ports that are looked at as VXLAN's, beside the usual ones. */
  vxlanPorts?: readonly number[];
  /** Listens while the flow of this serial number is read. */
  traced?: { serial: number; trace: Trace };
};

/** Of what is known of a living flow: it is told at the next look. */
const DUE = 128;

/** A clock that is this far behind the latest frame has been set back. */
const CLOCK_STEP_US = 2e6;

/** Most connections over UDP (QUIC, DTLS) that are followed at a time: some KiB each. */
const FOLLOWED_LIMIT = 1024;

/** Frames between two looks for flows that have been idle for too long. */
const EXPIRE_EVERY = 1024;

export class Line {
  readonly table: FlowTable;
  readonly counters = new Counters();
  /** Time of the latest frame, microseconds since the epoch. */
  nowUs = 0;
  /** Time of the frame that is taken by `frame`. */
  readonly clock = new Float64Array(1);

  readonly fragments = new Fragments();
  readonly #packet = new Packet();
  /** By lane: whose interface it is, and what of it is not told by flows. */
  readonly owners: (Owner | undefined)[] = [];
  readonly losses = new Losses();
  readonly #readings: (Reading | undefined)[];
  readonly #sessions = new Sessions();
  /** Attempts that made room for others before they were told. */
  readonly floods = new Floods();
  /** By flow: a number that is never given twice, and how often the flow was told. */
  readonly serial: Float64Array;
  readonly revision: Uint32Array;
  /** What was told of a living flow, or is about to be: bits of `knownOf`, and `DUE`. */
  readonly #told: Uint8Array;
  /** Flows that are to be told at the next `advance`, those whose `DUE` is set. */
  readonly #due: Int32Array;
  #dueCount = 0;
  readonly #toldUs: Float64Array;
  readonly #options: LineOptions;
  readonly #onFlow: OnFlow;
  #untilExpiry = EXPIRE_EVERY;
  #reportCursor = 0;
  readonly #trace: Trace | null;
  /** The flow that is traced while it lives, else -1. */
  #traced = -1;
  /** Flows over UDP whose connection is being followed. */
  #followed = 0;
  /** Of a source that does not hand over every frame. */
  #ledger: Ledger | null = null;

  constructor(options: LineOptions, onFlow: OnFlow) {
    this.#trace = options.traced?.trace ?? null;
    this.#options = options;
    this.#onFlow = onFlow;
    this.#packet.fragments = this.fragments;
    this.#packet.vxlanPorts = options.vxlanPorts ?? [];
    this.table = new FlowTable(options.table);
    this.#readings = new Array<Reading | undefined>(options.table.flows).fill(undefined);
    this.#told = new Uint8Array(options.table.flows);
    this.#due = new Int32Array(options.table.flows);
    this.#toldUs = new Float64Array(options.table.flows);
    this.serial = new Float64Array(options.table.flows);
    this.revision = new Uint32Array(options.table.flows);
  }

  /** Takes note of an interface, before its first frame: what is not its pod's is no flow. */
  know(watch: Watch): void {
    this.owners[watch.lane] = new Owner(watch);
    this.losses.take(watch.lane); // lanes are given again
    this.floods.take(watch.lane);
  }

  /** Counts from now on also what the source does not hand over; see `Budgets` for the other. */
  countPassedOver(source: PassedOver | null, packetsBehind?: number): void {
    this.#ledger = source && new Ledger(this.table, source, this.counters, packetsBehind);
  }

  /** Takes one frame of the time in `clock`; see `OnFrame`. Allocates only to read openings. */
  frame(
    view: DataView,
    at: number,
    end: number,
    wireLength: number,
    linkType: number,
    lane: number,
    direction = 0,
  ): void {
    const timeUs = this.clock[0]!;
    if (timeUs > this.nowUs) this.nowUs = timeUs;
    this.fragments.nowUs = timeUs;
    this.fragments.lane = (lane << 2) | direction; // one way is not put together with the other
    if (this.fragments.inUse > 0) this.#giveUpFragments();
    const stop = decodeFrame(view, at, end, linkType, this.#packet);
    this.counters.wireBytes += wireLength;
    if (stop === Stop.none && this.#options.sample?.leavesOut(this.#packet)) {
      this.counters.notSampled++;
      this.losses.note(lane, Loss.notSampled);
      return;
    }
    const why = stop === Stop.none ? this.#refusal(lane, direction) : stop;
    this.counters.noteStop(why, linkType, this.#packet);
    if (why !== Stop.none) return this.losses.note(lane, why);
    this.table.nowUs = timeUs;
    this.table.direction = direction;
    this.#take(lane);
    if (--this.#untilExpiry <= 0) this.expire(this.nowUs);
  }

  /** Why the packet is no flow's at this interface; 0 where it is one's. */
  #refusal(lane: number, direction: number): number {
    return this.owners[lane]?.refuses(this.#packet, direction) ?? Refusal.none;
  }

  /** Fragments that wait for too long, or for which slots grow short: their flows count them. */
  #giveUpFragments(): void {
    for (;;) {
      const slot = this.fragments.overdue();
      if (slot < 0) return;
      this.#giveUp(slot);
    }
  }

  #giveUp(slot: number): void {
    const { fragments } = this;
    this.table.nowUs = fragments.lastUs[slot]!;
    const lane = fragments.laneOf(slot) >> 2;
    const direction = (this.table.direction = fragments.laneOf(slot) & 3);
    const stop = giveUpDatagram(fragments, slot, this.#packet);
    const isFlows = stop === Stop.none && this.#refusal(lane, direction) === Refusal.none;
    if (!isFlows) fragments.lost += this.#packet.parts;
    else if (!this.#options.sample?.leavesOut(this.#packet)) this.#take(lane);
  }

  /** Counts the packet to its flow, and reads what it brought. */
  #take(lane: number): void {
    const { view } = this.#packet;
    const flow = this.#flowOf(view, lane);
    if (this.#trace !== null) this.#tracePacket(flow, view, this.#trace);
    if (flow < 0) return;
    if (this.table.news !== 0) this.#follow(flow, view);
    else if (this.#packet.payloadLength > 0) this.#noteLateHandshake(flow, view);
    if (this.#ledger !== null) this.#ledger.weigh(flow, this.#readings[flow]);
  }

  /** Tells the trace of a packet of its flow, which this packet may have opened. */
  #tracePacket(flow: number, view: DataView, trace: Trace): void {
    const isNew = flow >= 0 && (this.table.news & News.opened) !== 0;
    if (isNew && this.counters.opened + 1 === this.#options.traced?.serial) this.#traced = flow;
    if (flow >= 0 && flow === this.#traced) tellPacket(this.table, this.#packet, flow, view, trace);
  }

  /** Notes a handshake that the client begins behind application data, in a segment of its own. */
  #noteLateHandshake(flow: number, view: DataView): void {
    if (this.table.side !== this.table.client(flow)) return;
    const tls = this.#readings[flow]?.tls;
    if (!tls?.answered) return;
    const { payloadAt, payloadEnd } = this.#packet;
    if (isLateHandshake(tls, view, payloadAt, payloadEnd)) this.table.note(flow, Fact.renegotiated);
  }

  /** The packet's flow, which has counted it; flows that must make room end first. */
  #flowOf(view: DataView, lane: number): number {
    for (;;) {
      const flow = this.table.take(this.#packet, view, lane);
      if (flow !== -1) return flow;
      const { displaced, makesRoom } = this.table;
      if (makesRoom) this.#noteNoRoom(displaced, "evicted");
      else this.#ledger?.settleReplaced(displaced);
      if (makesRoom && this.#isUntold(displaced)) this.#aggregate(displaced);
      else this.#end(displaced, !makesRoom);
    }
  }

  #noteNoRoom(flow: number, what: "evicted" | "noSlot"): void {
    this.counters[what]++;
    this.losses.note(this.table.laneOf(flow), Loss.noRoom);
  }

  #isUntold(flow: number): boolean {
    const isTold = this.revision[flow]! > 0 || flow === this.#traced;
    return this.#options.revisions && !isTold && this.table.isAttempt(flow);
  }

  /** A flood is told as one: by its source, and how many attempts came from it. */
  #aggregate(flow: number): void {
    const { table } = this;
    const lane = table.laneOf(flow);
    const client = keyAt(flow) + table.client(flow) * 4;
    if (!this.floods.note(table.keys, client, lane)) this.losses.note(lane, Loss.attempts);
    this.#ledger?.withdraw(flow);
    this.#forget(flow);
    this.counters.aggregated++;
    table.release(flow);
  }

  #forget(flow: number): void {
    this.#readings[flow] = undefined;
    this.#told[flow] = 0;
  }

  #follow(flow: number, view: DataView): void {
    const { table } = this;
    const news = table.news;
    if ((news & News.opened) !== 0) {
      this.counters.opened++;
      this.#ledger?.open(flow);
      this.serial[flow] = this.counters.opened;
      this.revision[flow] = 0;
      this.#toldUs[flow] = table.startUs(flow);
    }
    if ((news & News.noSlot) !== 0) this.#noteNoRoom(flow, "noSlot");
    const isTcp = (table.keys[keyAt(flow) + 9]! & 0xff) === IpProtocol.tcp;
    if ((news & News.bytes) !== 0) {
      if (isTcp) this.#readOpening(flow, table.side);
      else this.#readDatagram(flow, view);
    }
    if ((news & (News.fin | News.rst)) !== 0 && isTcp) {
      const reading = this.#readings[flow];
      const role = table.side === table.client(flow) ? CLIENT : SERVER;
      const acked = table.acked(flow * 2 + table.side);
      if ((news & News.fin) !== 0) reading?.close(role, "fin", acked, this.nowUs);
      if ((news & News.rst) !== 0) reading?.close(role, "rst", acked, this.nowUs);
      // What the source keeps back may still be told of.
      if (reading && !this.#ledger && isWhole(table, flow)) this.#finishOpenings(flow, reading);
    }
    if (this.#options.revisions && (news & TELLING) !== 0) this.#tellNews(flow);
  }

  /** Nothing more of either side is wanted. */
  #finishOpenings(flow: number, reading: Reading): void {
    this.table.finishOpening(flow, 0);
    this.table.finishOpening(flow, 1);
    this.#readings[flow] = settled(reading);
  }

  #readingOf(flow: number): Reading {
    const known = this.#readings[flow];
    if (known) return known;
    const midstream = (this.table.flowFlags(flow) & Fact.midstream) !== 0;
    const ports = this.table.keys[keyAt(flow) + 8]!;
    const [low, high] = [ports >>> 16, ports & 0xffff];
    const isLowClient = this.table.client(flow) === 0;
    const trace = flow === this.#traced ? this.#trace : null;
    const sides = isLowClient ? { client: low, server: high } : { client: high, server: low };
    return (this.#readings[flow] = new Reading(midstream, sides, trace, !this.#options.revisions));
  }

  /** Reads what openings hold that grew on a side, and gives back what is no longer needed. */
  #readOpening(flow: number, side: number): void {
    const { table } = this;
    const { openings } = table;
    const reading = this.#readingOf(flow);
    const base = openings.base(table.slot(flow * 2 + side));
    reading.come(this.nowUs);
    const needed = this.#readSide(flow, side, reading, table.ackedHere);
    // An upgrade, or the other side's word, may let bytes that wait be read at last.
    const other = table.slot(flow * 2 + 1 - side);
    if (other >= 0 && needed !== base && openings.have(other) > openings.base(other)) {
      this.#readSide(flow, 1 - side, reading, -1);
    }
    const tls = reading.tls;
    if (tls?.serverFinished) followSession(tls, this.#sessions, () => nameOf(table, flow));
    const isRead = table.sideFlags(flow * 2) & table.sideFlags(flow * 2 + 1) & Side.read;
    const isAnswered = tls?.answered && tls.isRead(CLIENT);
    if (isAnswered || isRead !== 0) this.#finishOpenings(flow, reading);
  }

  /** Where the side's bytes are needed from; negative where none are any more. */
  #readSide(flow: number, side: number, reading: Reading, acked: number): number {
    const { table } = this;
    const { openings } = table;
    const slot = table.slot(flow * 2 + side);
    const base = openings.base(slot);
    const at = openings.viewAt(slot);
    const end = at + openings.have(slot) - base;
    const role = side === table.client(flow) ? CLIENT : SERVER;
    const needed = reading.read(role, openings.view(slot), at, end, base, acked);
    if (needed < 0) table.finishOpening(flow, side);
    else openings.discard(slot, needed);
    return needed;
  }

  #readDatagram(flow: number, view: DataView): void {
    const { table } = this;
    const role = table.side === table.client(flow) ? CLIENT : SERVER;
    const packet = this.#packet;
    const reading = this.#readingOf(flow);
    let wanted = false;
    if (packet.protocol === IpProtocol.esp) reading.protocol = "esp";
    else if (packet.protocol === IpProtocol.udp) {
      const { payloadAt, payloadEnd } = packet;
      const followed = reading.follows;
      const mayFollow = this.#followed < FOLLOWED_LIMIT;
      wanted = reading.readDatagram(role, view, payloadAt, payloadEnd, mayFollow);
      if (!followed && reading.follows) this.#followed++;
      else if (followed && !reading.follows) this.#followed--;
      if (!mayFollow && !followed) this.#noteFull(flow, reading);
    }
    const { tls } = reading;
    if (tls && tls.finishedEnd >= 0 && reading.bytesAtFinish === null) {
      reading.bytesAtFinish = [table.bytes(flow * 2), table.bytes(flow * 2 + 1)];
    }
    if (!wanted) this.#finishDatagrams(flow, reading);
  }

  /** A hello that would be read, if fewer connections were followed. */
  #noteFull(flow: number, reading: Reading): void {
    if (reading.protocol !== "quic" && reading.protocol !== "dtls") return;
    this.table.note(flow, Fact.noSlot);
    this.#noteNoRoom(flow, "noSlot");
  }

  /** No more datagrams of the packet's side are wanted; of neither, when nothing is followed. */
  #finishDatagrams(flow: number, reading: Reading): void {
    const { table } = this;
    table.finishOpening(flow, table.side);
    if (reading.protocol !== null && !reading.follows) {
      table.finishOpening(flow, 1 - table.side);
    }
    if ((table.sideFlags(flow * 2) & table.sideFlags(flow * 2 + 1) & Side.read) === 0) return;
    if (reading.follows) this.#followed--;
    this.#readings[flow] = settled(reading);
  }

  /** Tells a living flow when something that matters to a verdict has just become known. */
  #tellNews(flow: number): void {
    const known = knownOf(this.table, flow, this.#readings[flow]);
    const told = this.#told[flow]!;
    if ((known & ~told) === 0) return;
    this.#told[flow] = told | known | DUE;
    if ((told & DUE) !== 0) return;
    if (this.#dueCount === this.#due.length) this.#tellDue();
    this.#due[this.#dueCount++] = flow;
  }

  /** Tells flows of which something became known, each once, whatever came meanwhile. */
  #tellDue(): void {
    const count = this.#dueCount;
    this.#dueCount = 0;
    for (let i = 0; i < count; i++) {
      const flow = this.#due[i]!;
      // Of one that is over the last word is near.
      if ((this.#told[flow]! & DUE) !== 0 && !this.table.isOver(flow)) this.#tell(flow, false);
    }
  }

  #tell(flow: number, final: boolean, isReplaced = false): void {
    if (!isReplaced) this.#ledger?.settle(flow);
    this.#toldUs[flow] = this.nowUs;
    this.#told[flow]! &= ~DUE;
    this.revision[flow]!++;
    this.#onFlow(observe(this.table, flow, this.#readings[flow], this.nowUs), flow, final);
  }

  /** Ends a flow; `isReplaced` when its ends have connected anew. */
  #end(flow: number, isReplaced = false): void {
    this.#tell(flow, true, isReplaced);
    if (!isReplaced) this.#ledger?.forget(flow);
    if (this.#readings[flow]?.follows) this.#followed--;
    this.#forget(flow);
    if (flow === this.#traced) this.#traced = -1;
    this.counters.ended++;
    this.table.release(flow);
  }

  /** Time went on: tells flows of which there is news, and ends those idle for too long. */
  advance(nowUs: number): void {
    if (nowUs > this.nowUs) this.nowUs = nowUs;
    else if (this.nowUs - nowUs > CLOCK_STEP_US) this.#stepBack(nowUs);
    this.fragments.nowUs = this.nowUs;
    this.#giveUpFragments();
    this.#tellDue();
    this.expire(this.nowUs);
  }

  /** The clock stepped back: ages are kept, so that flows still end when they should. */
  #stepBack(nowUs: number): void {
    const byUs = this.nowUs - nowUs;
    this.nowUs = nowUs;
    this.counters.clockSteps++;
    this.table.stepBack(byUs);
    for (let flow = 0; flow < this.table.capacity; flow++) this.#toldUs[flow]! -= byUs;
  }

  /** What was read of a living flow; undefined where nothing was. */
  reading(flow: number): Reading | undefined {
    return this.#readings[flow];
  }

  /** The side of the flow table that is the flow's client. */
  clientSide(flow: number): number {
    return endsOf(this.table, flow, this.#readings[flow]).clientSide;
  }

  /** Ends the flows that have been idle for too long at `nowUs`. */
  expire(nowUs: number): void {
    this.#untilExpiry = EXPIRE_EVERY;
    for (;;) {
      const flow = this.table.expired(nowUs);
      if (flow < 0) return;
      this.table.nowUs = nowUs;
      if (this.#ledger?.settle(flow)) this.table.renew(flow);
      else this.#end(flow);
    }
  }

  /**
   * Tells living flows again that had packets since `reportIntervalMs` ago; each call looks at a
   * share of the table, so that a whole round takes `calls` calls.
   */
  report(calls: number): void {
    const { capacity, count } = this.table;
    if (count === 0) return;
    const until = Math.min(capacity, this.#reportCursor + Math.ceil(capacity / calls));
    for (let flow = this.#reportCursor; flow < until; flow++) {
      if (!this.table.isOpen(flow)) continue;
      if (this.#ledger?.settle(flow)) {
        this.table.nowUs = this.nowUs;
        this.table.renew(flow);
      }
      const told = this.#toldUs[flow]!;
      const due = this.nowUs - told >= this.#options.reportIntervalMs * 1000;
      if (due && this.table.lastUs(flow) > told) this.#tell(flow, false);
    }
    this.#reportCursor = until >= capacity ? 0 : until;
  }

  /** Reports whether something is about to be told: of a living flow, or that one is over. */
  get hasNews(): boolean {
    return this.#dueCount > 0 || this.table.hasEnded;
  }

  /** Has the source give up, some at a time, what it counted of flows that nobody knows. */
  sweep(): void {
    this.#ledger?.sweep();
  }

  /** Ends flows, as many as are asked for: the capture is over. Reports whether there are more. */
  finish(limit = Infinity): boolean {
    for (let slot; (slot = this.fragments.oldest()) >= 0;) this.#giveUp(slot);
    for (let ended = 0; ended < limit; ended++) {
      const flow = this.table.any();
      if (flow < 0) return false;
      this.#end(flow);
    }
    return this.table.count > 0;
  }
}
