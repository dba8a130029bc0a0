/**
 * Turns packets into flows: finds or opens the flow of a packet, counts it, follows its TCP state,
 * and keeps its openings. Allocates nothing per packet.
 *
 * A flow is a number, an index into every array here, from `take` until `release`. Its two ends are
 * kept in a canonical order, low end first; a packet's side is 0 when the low end sent it, else 1.
 */
import { IpProtocol, Tcp, Unreachable } from "../decode/packet.ts";
import type { Packet } from "../decode/packet.ts";
import { Ages } from "./ages.ts";
import { Buckets, PROBES_LIMIT } from "./buckets.ts";
import { Closings, PROMPT_US } from "./closings.ts";
import { isLowEnd, writeKey } from "./flow-key.ts";
import { ACKED, BASIS, BY_RST, FIRST, FLAGS, LAST_US, OCTETS, PACKETS } from "./flow-record.ts";
import { SENT, SIDE_FLAGS, SLOT, START_US, SYNS, WRAPPERS } from "./flow-record.ts";
import { Fact, FlowRecords, Side, byteAt, doubleAt, halfAt, keyAt } from "./flow-record.ts";
import { Openings } from "./opening.ts";
import { Basis, answersSyn, serverByPorts } from "./roles.ts";
import { Wrappers } from "./wrappers.ts";

/** What one packet brought, as bits of `FlowTable.news`. */
export const News = {
  opened: 1, // the flow is new
  bytes: 2, // an opening has new bytes in order
  established: 4, // the server answered the SYN
  fin: 8, // this side's first FIN
  rst: 16, // this side's first RST
  refused: 32, // the SYN was answered by RST or ICMP
  disagreed: 64, // a segment disagreed with bytes that came before
  noSlot: 128, // no slot was free for this side's opening
  unanswered: 512, // the SYN was retransmitted twice
  answered: 256, // this side's first payload that acknowledges payload of the other
} as const;

/** What may move a flow to another list. */
const MOVES = News.established | News.fin | News.rst | News.refused;

/** A flow grows young once in a tick: the order of ages is right but for so many microseconds. */
export const TICK_US = 500_000;

/** Lists of flows by age; eviction takes from them in this order. */
const List = { attempt: 0, ended: 1, datagram: 2, living: 3 } as const;
const LISTS = 4;

export type FlowTableOptions = {
  /** Most flows at a time. */
  flows: number;
  /** Most openings at a time; a flow that is being read holds up to two. */
  slots: number;
  /** Seconds without a packet after which a flow ends, per kind. */
  attemptSeconds: number;
  endedSeconds: number;
  datagramSeconds: number;
  livingSeconds: number;
  /** Any int32 that strangers do not know; without one, captures are read alike everywhere. */
  hashSeed?: number;
};

export const FLOW_TABLE_DEFAULTS: FlowTableOptions = {
  flows: 131072,
  slots: 4096,
  attemptSeconds: 35, // beyond the 30 s after which an attempt is unanswered
  endedSeconds: 5,
  datagramSeconds: 60,
  livingSeconds: 3600,
};

export class FlowTable extends FlowRecords {
  readonly openings: Openings;
  /** Flows in use. */
  count = 0;

  /**
   * When the packet to `take` was captured, microseconds since the epoch. A field and no parameter:
   * a double that is handed to a function is born anew on the heap for each call (measured by
   * `test/agent/without-garbage.ts`).
   */
  nowUs = 0;
  /** Which way it crossed the interface, as its source numbers that: 0 to 3. */
  direction = 0;
  /** Set by each `take`: bits of `News`, and the side that sent the packet. */
  news = 0;
  side = 0;
  /** Set with `News.bytes`: as `acked`, of that segment; -1 after reordering. */
  ackedHere = -1;
  /** Set when `take` returned -1: end this flow, `release` it, and take the packet again. */
  displaced = -1;
  /** The displaced flow makes room for another; else its own ends connect anew. */
  makesRoom = false;

  readonly wrappers = new Wrappers();
  readonly closings: Closings;
  readonly #buckets: Buckets;
  readonly #ages: Ages;
  readonly #idleUs: Float64Array;
  /** When the tick began. */
  #tickUs = 0;
  /** Flows not in use, a stack of `capacity - count`. */
  readonly #free: Int32Array;

  constructor(options: FlowTableOptions) {
    super(options.flows);
    const n = options.flows;
    this.openings = new Openings(options.slots);
    this.closings = new Closings(n);
    this.#buckets = new Buckets(n, this.keys, options.hashSeed ?? 0);
    this.#ages = new Ages(n, LISTS);
    this.#free = new Int32Array(n);
    for (let i = 0; i < n; i++) this.#free[i] = n - 1 - i;
    this.#idleUs = new Float64Array(LISTS);
    this.#idleUs[List.attempt] = options.attemptSeconds * 1e6;
    this.#idleUs[List.ended] = options.endedSeconds * 1e6;
    this.#idleUs[List.datagram] = options.datagramSeconds * 1e6;
    this.#idleUs[List.living] = options.livingSeconds * 1e6;
  }

  /**
   * Counts one packet to its flow and returns the flow; -1 when another flow must end first:
   * the table is full, or the packet opens a new connection between the same ends; see `displaced`.
   * `view` is what the packet's positions are in; `lane` (0..65535) keeps interfaces apart.
   */
  take(packet: Packet, view: DataView, lane: number): number {
    this.news = 0;
    this.displaced = -1;
    this.makesRoom = false;
    const side = isLowEnd(packet) ? 0 : 1;
    this.side = side;
    const meta = packet.protocol | (lane << 8);
    const hash = this.#buckets.hashOf(packet, side, meta);
    let flow = this.#buckets.find(packet, side, meta, hash);
    if (packet.unreachable !== Unreachable.none) {
      return flow < 0 ? -2 : this.#takeError(flow, side, packet);
    }
    if (flow >= 0 && packet.protocol === IpProtocol.tcp && this.#opensAnew(flow, side, packet)) {
      this.displaced = flow;
      return -1;
    }
    if (flow < 0) {
      flow = this.#open(packet, side, meta, hash);
      if (flow < 0) return -1;
    }
    const d = doubleAt(flow) + side;
    this.doubles[d + PACKETS]! += packet.parts;
    this.doubles[d + OCTETS]! += packet.ipLength;
    if (packet.disagreed === 1) this.note(flow, Fact.disagreed);
    if (packet.protocol === IpProtocol.tcp) this.#followTcp(flow, side, packet, view);
    else this.#followUdp(flow, side, packet);
    this.renew(flow);
    return flow;
  }

  /** Reports whether a packet starts a new connection between ends that had one before. */
  #opensAnew(flow: number, side: number, packet: Packet): boolean {
    if ((packet.flags & Tcp.syn) === 0) return false;
    const flags = this.sideFlags(flow * 2 + side);
    const other = this.sideFlags(flow * 2 + 1 - side);
    const isAnswer = (packet.flags & Tcp.ack) !== 0;
    const isOver = ((flags | other) & Side.rst) !== 0 || (flags & other & Side.fin) !== 0;
    const isClient = this.client(flow) === side;
    if ((flags & Side.syn) !== 0) {
      // A client does not turn into a server midway, whatever it sends (RFC 9293 §3.10.7.4).
      if (isAnswer && isClient && !isOver) return false;
      return this.isn(flow * 2 + side) !== packet.sequence;
    }
    const joined = (other & Side.syn) === 0; // mid-stream
    if (!isAnswer) return joined;
    return isOver || (joined && isClient); // what was read was taken for a client's
  }

  #followTcp(flow: number, side: number, packet: Packet, view: DataView): void {
    const { keys, octets } = this;
    const w = keyAt(flow);
    const sideFlags = byteAt(flow) + SIDE_FLAGS;
    const peer = 1 - side;
    const flags = packet.flags;
    let first = packet.sequence;
    if ((flags & Tcp.syn) !== 0) {
      first = (first + 1) | 0;
      if ((octets[sideFlags + side]! & Side.syn) === 0) {
        keys[w + FIRST + side] = first;
        octets[sideFlags + side]! |= Side.syn | Side.based;
        this.nameBySyn(flow, side, (flags & Tcp.ack) !== 0);
      }
      if ((flags & Tcp.ack) === 0 && this.synCount(flow) < 255) {
        if (++octets[byteAt(flow) + SYNS]! === 3) this.news |= News.unanswered;
      }
    } else if ((octets[sideFlags + side]! & Side.based) === 0 && (flags & Tcp.rst) === 0) {
      keys[w + FIRST + side] = first;
      octets[sideFlags + side]! |= Side.based;
    }
    let ackedOffset = -1;
    if ((flags & Tcp.ack) !== 0) {
      const isReset = (flags & Tcp.rst) !== 0;
      if (!isReset && (octets[sideFlags + peer]! & Side.based) === 0) {
        keys[w + FIRST + peer] = packet.acknowledgment;
        octets[sideFlags + peer]! |= Side.based;
      }
      const had = (packet.acknowledgment - keys[w + FIRST + peer]!) | 0;
      ackedOffset = isReset ? -1 : had;
      const most = isReset ? keys[w + SENT + peer]! : had; // a RST is believed so far
      if (had <= most && had > keys[w + ACKED + side]!) keys[w + ACKED + side] = had;
    }
    this.#establish(flow, peer, flags);
    const offset = (first - keys[w + FIRST + side]!) | 0;
    const isData = packet.payloadLength > 0 && (flags & Tcp.rst) === 0;
    if (isData) this.#takePayload(flow, side, packet, view, offset, ackedOffset);
    if ((flags & Tcp.fin) !== 0 && (octets[sideFlags + side]! & Side.fin) === 0) {
      octets[sideFlags + side]! |= Side.fin;
      this.news |= News.fin;
      this.#noteEnd(flow, side, false, octets[sideFlags + peer]!);
    }
    if ((flags & Tcp.rst) !== 0) this.#reset(flow, side, answersSyn(packet));
  }

  /** A flow is established when its server answered, or when it was joined mid-stream. */
  #establish(flow: number, peer: number, flags: number): void {
    const facts = this.flowFlags(flow);
    if ((facts & Fact.established) !== 0 || (flags & Tcp.rst) !== 0) return;
    const isAnswer = (flags & Tcp.syn) !== 0 && (flags & Tcp.ack) !== 0;
    const isSynOnly = (flags & Tcp.syn) !== 0 && !isAnswer;
    const bothSpoke = this.doubles[doubleAt(flow) + PACKETS + peer]! > 0 && !isSynOnly;
    const joined = (facts & Fact.midstream) !== 0 && !isSynOnly;
    if (isAnswer || bothSpoke || joined) this.#noteEstablished(flow);
  }

  /** An ICMP error that came before was soft: the client tried on, and had an answer (RFC 5461). */
  #noteEstablished(flow: number): void {
    if (this.refusedBy(flow) !== BY_RST) this.setRefusedBy(flow, Unreachable.none);
    this.note(flow, Fact.established);
    this.news |= News.established;
  }

  #takePayload(
    flow: number,
    side: number,
    packet: Packet,
    view: DataView,
    offset: number,
    ackedOffset: number,
  ): void {
    const { keys, octets } = this;
    const w = keyAt(flow) + side;
    const sideFlags = byteAt(flow) + SIDE_FLAGS;
    const wireEnd = (offset + packet.payloadLength) | 0;
    if (wireEnd <= 0) return; // a keep-alive probe, or bytes from before the flow was joined
    let flags = octets[sideFlags + side]! | Side.data;
    const answers = ackedOffset > 0 && (octets[sideFlags + 1 - side]! & Side.data) !== 0;
    if (answers && (flags & Side.answered) === 0) {
      flags |= Side.answered;
      this.news |= News.answered;
    }
    octets[sideFlags + side] = flags;
    const inOrder = offset <= keys[w + SENT]!;
    const isNew = wireEnd > keys[w + SENT]!;
    if (isNew) keys[w + SENT] = wireEnd;
    const isSnapped = packet.payloadEnd - packet.payloadAt < packet.payloadLength;
    if (isSnapped) this.note(flow, Fact.snapped);
    if ((flags & Side.read) !== 0) return;
    let slot = keys[w + SLOT]!;
    if (slot < 0) {
      slot = this.openings.claim();
      if (slot < 0) {
        octets[sideFlags + side]! |= Side.read;
        this.note(flow, Fact.noSlot);
        this.news |= News.noSlot;
        return;
      }
      keys[w + SLOT] = slot;
    }
    const openings = this.openings;
    const before = openings.have(slot);
    const grew = openings.put(slot, offset, view, packet.payloadAt, packet.payloadEnd);
    if (openings.disagreed) {
      this.note(flow, Fact.disagreed);
      this.news |= News.disagreed;
    }
    if (!grew) return;
    this.news |= News.bytes;
    // A segment that filled a gap acknowledges more than those it lets through: say nothing then.
    const filledGap = !inOrder || !isNew || openings.have(slot) > wireEnd || offset > before;
    this.ackedHere = filledGap ? -1 : Math.max(0, ackedOffset);
  }

  #noteEnd(flow: number, side: number, isReset: boolean, other: number): void {
    const isLate = this.nowUs > this.lastUs(flow) + PROMPT_US;
    this.closings.note(flow, side, isReset, (other & Side.data) !== 0, isLate);
  }

  /** `isAnswer`: of a SYN, be it seen or not. */
  #reset(flow: number, side: number, isAnswer: boolean): void {
    const flags = byteAt(flow) + SIDE_FLAGS;
    const peer = 1 - side;
    const other = this.octets[flags + peer]!;
    if ((this.octets[flags + side]! & Side.rst) === 0) {
      this.octets[flags + side]! |= Side.rst;
      this.news |= News.rst;
      this.#noteEnd(flow, side, true, other);
    }
    const established = (this.flowFlags(flow) & Fact.established) !== 0;
    const names = isAnswer && this.basis(flow) !== Basis.flags;
    if (!established && ((other & Side.syn) !== 0 || names)) {
      if (names) this.nameClient(flow, peer, Basis.flags);
      this.setRefusedBy(flow, BY_RST);
      this.news |= News.refused;
    }
  }

  /** UDP: a datagram's payload is an opening only while nothing of the side was read. */
  #followUdp(flow: number, side: number, packet: Packet): void {
    const { doubles, octets } = this;
    const packets = doubleAt(flow) + PACKETS;
    const sideFlags = byteAt(flow) + SIDE_FLAGS;
    const peer = 1 - side;
    if (doubles[packets + side] === packet.parts && doubles[packets + peer]! > 0) {
      this.#noteEstablished(flow);
    }
    if (packet.payloadLength === 0) return;
    const flags = octets[sideFlags + side]! | Side.data;
    if ((flags & Side.read) === 0) this.news |= News.bytes;
    octets[sideFlags + side] = flags;
    const answers = (octets[sideFlags + peer]! & Side.data) !== 0;
    if (answers && (flags & Side.answered) === 0) {
      octets[sideFlags + side] = flags | Side.answered;
      this.news |= News.answered;
    }
  }

  /**
   * An ICMP error quoted a packet of `side`, which did not arrive. It refuses what nobody has yet
   * answered, and nothing else (RFC 5927 §5.2). Of two that differ neither is the reason.
   */
  #takeError(flow: number, side: number, packet: Packet): number {
    const before = this.refusedBy(flow);
    const isAnswered = (this.flowFlags(flow) & Fact.established) !== 0 || before === BY_RST;
    if (isAnswered || !this.#quotesAttempt(flow, side, packet)) return flow;
    const kind = packet.unreachable;
    const isSame = before === Unreachable.none || before === kind;
    this.setRefusedBy(flow, isSame ? kind : Unreachable.other);
    this.news |= News.refused;
    this.side = 1 - side;
    this.renew(flow);
    return flow;
  }

  /**
   * Reports whether an ICMP error quotes what opens the flow. Of TCP that is a SYN, known by its
   * sequence number: who did not see it cannot write one (RFC 5927 §4.1). Datagrams have nothing
   * of the kind; but who refuses the server's has not refused the client.
   */
  #quotesAttempt(flow: number, side: number, packet: Packet): boolean {
    if (packet.protocol !== IpProtocol.tcp) return this.client(flow) === side;
    const at = flow * 2 + side;
    return (this.sideFlags(at) & Side.syn) !== 0 && this.isn(at) === packet.sequence;
  }

  /** No more bytes of this side are kept; its slot is returned. */
  finishOpening(flow: number, side: number): void {
    this.octets[byteAt(flow) + SIDE_FLAGS + side]! |= Side.read;
    const w = keyAt(flow) + SLOT + side;
    const slot = this.keys[w]!;
    if (slot < 0) return;
    this.openings.release(slot);
    this.keys[w] = -1;
  }

  /** Something of the flow came at `nowUs`, be it counted elsewhere; `news` tells of it. */
  renew(flow: number): void {
    const at = doubleAt(flow) + LAST_US;
    const last = this.doubles[at]!;
    if (this.nowUs > last) this.doubles[at] = this.nowUs;
    else if (this.nowUs < this.startUs(flow)) this.doubles[doubleAt(flow) + START_US] = this.nowUs;
    if (this.nowUs >= this.#tickUs + TICK_US) this.#tickUs = this.nowUs;
    if (last >= this.#tickUs && (this.news & MOVES) === 0) return;
    const list = this.#listOf(flow);
    if (last < this.#tickUs || !this.#ages.isIn(flow, list)) this.#ages.renew(flow, list);
  }

  /** Reports whether the flow of such a packet is in the table. */
  holds(packet: Packet, lane: number): boolean {
    const [side, meta] = [isLowEnd(packet) ? 0 : 1, packet.protocol | (lane << 8)];
    const hash = this.#buckets.hashOf(packet, side, meta);
    return this.#buckets.find(packet, side, meta, hash) >= 0;
  }

  /** The flow that has been idle for too long at `nowUs`, or -1. End and `release` it. */
  expired(nowUs: number): number {
    for (let list = 0; list < LISTS; list++) {
      const flow = this.#ages.oldest(list);
      if (flow >= 0 && nowUs - this.lastUs(flow) > this.#idleUs[list]!) return flow;
    }
    return -1;
  }

  /** Some flow's connection has ended, or was refused. */
  get hasEnded(): boolean {
    return this.#ages.oldest(List.ended) >= 0;
  }

  /** Any flow that is still in use, or -1: for the end of a capture. */
  any(): number {
    for (let list = 0; list < LISTS; list++) {
      const flow = this.#ages.oldest(list);
      if (flow >= 0) return flow;
    }
    return -1;
  }

  /** Reports whether nobody has answered the flow's SYN yet. */
  isAttempt(flow: number): boolean {
    const isSyn = (this.sideFlags(flow * 2 + this.client(flow)) & Side.syn) !== 0;
    return isSyn && this.#listOf(flow) === List.attempt;
  }

  /** Reports whether its connection has ended, or was refused. */
  isOver(flow: number): boolean {
    return this.#listOf(flow) === List.ended;
  }

  /** Takes the flow out of the table; its number will be used again. */
  release(flow: number): void {
    this.finishOpening(flow, 0);
    this.finishOpening(flow, 1);
    this.#ages.remove(flow);
    this.#buckets.remove(flow);
    this.count--;
    const packets = doubleAt(flow) + PACKETS;
    this.doubles[packets] = this.doubles[packets + 1] = 0;
    this.#free[this.capacity - this.count - 1] = flow;
  }

  #open(packet: Packet, side: number, meta: number, hash: number): number {
    if (this.count === this.capacity) {
      this.makesRoom = true;
      this.displaced = this.any(); // attempts first, then what has ended, then the longest idle
      return -1;
    }
    const bucket = this.#buckets.free(hash);
    if (bucket < 0) {
      this.makesRoom = true;
      this.displaced = this.#weakestNear(hash);
      return -1;
    }
    const flow = this.#free[this.capacity - this.count - 1]!;
    this.count++;
    const { keys, octets, doubles } = this;
    const [w, o, d] = [keyAt(flow), byteAt(flow), doubleAt(flow)];
    writeKey(keys, w, packet, side, meta);
    doubles[d + START_US] = doubles[d + LAST_US] = this.nowUs;
    const isTcp = packet.protocol === IpProtocol.tcp;
    const isSyn = isTcp && (packet.flags & Tcp.syn) !== 0;
    octets[o + FLAGS] = (isTcp && !isSyn ? Fact.midstream : 0) | (side === 1 ? Fact.fromHigh : 0);
    octets[o + SYNS] = 0;
    octets[o + BASIS] = this.direction << 2;
    this.#guessClient(flow, side, isTcp);
    this.closings.clear(flow);
    this.halves[halfAt(flow) + WRAPPERS] = this.wrappers.of(packet);
    for (let at = 0; at < 2; at++) {
      doubles[d + PACKETS + at] = doubles[d + OCTETS + at] = 0;
      octets[o + SIDE_FLAGS + at] = 0;
      keys[w + FIRST + at] = keys[w + ACKED + at] = keys[w + SENT + at] = 0;
      keys[w + SLOT + at] = -1;
    }
    this.#buckets.put(bucket, flow, hash);
    this.#ages.append(flow, isTcp ? List.attempt : List.datagram);
    this.news = News.opened;
    return flow;
  }

  /** By ports, else who sent the first packet. */
  #guessClient(flow: number, first: number, isTcp: boolean): void {
    const ports = this.keys[keyAt(flow) + 8]!;
    const server = serverByPorts(ports >>> 16, ports & 0xffff, isTcp);
    if (server < 0) this.nameClient(flow, first, Basis.firstSeen);
    else this.nameClient(flow, 1 - server, Basis.ports);
  }

  /** Of the flows in the buckets from this hash on: attempts first, as `any` has it. */
  #weakestNear(hash: number): number {
    let weakest = -1;
    let least: number = LISTS;
    for (let probe = 0; probe < PROBES_LIMIT; probe++) {
      const flow = this.#buckets.near(hash, probe);
      const list = this.#listOf(flow);
      if (list >= least) continue;
      least = list;
      weakest = flow;
    }
    return weakest;
  }

  #listOf(flow: number): number {
    if ((this.keys[keyAt(flow) + 9]! & 0xff) !== IpProtocol.tcp) return List.datagram;
    const low = this.octets[byteAt(flow) + SIDE_FLAGS]!;
    const high = this.octets[byteAt(flow) + SIDE_FLAGS + 1]!;
    if (((low | high) & Side.rst) !== 0 || (low & high & Side.fin) !== 0) return List.ended;
    if (this.refusedBy(flow) !== 0) return List.ended;
    return (this.flowFlags(flow) & Fact.established) !== 0 ? List.living : List.attempt;
  }
}
