/**
 * Lays out what is known of flows, one record each, in memory that is taken once: a packet touches
 * two lines of a processor's cache, and not one in each of a dozen arrays.
 *
 *      byte    0  key: ends, ports, protocol and lane (`flow-key.ts`)
 *             40  flags of the flow | its client's side | SYNs | refusal, direction, basis
 *             44  flags of the sides, low and high | number of its wrappers (2)
 *             48  latest packet | earliest packet (8 each, microseconds since the epoch)
 *             64  packets, low and high | bytes, low and high (8 each)
 *             96  first | acknowledged | sent | slot, low and high (4 each)
 */
import { Basis } from "./roles.ts";

/** Of one flow: bytes, and words of 4, 2 and 8 bytes. */
const BYTES = 128;
const WORDS = BYTES / 4;
const HALVES = BYTES / 2;
const DOUBLES = BYTES / 8;

/** Places in a record, in units of the array that they are read by; `+ side` where sides differ. */
export const FLAGS = 40;
export const CLIENT = 41;
export const SYNS = 42;
export const BASIS = 43;
export const SIDE_FLAGS = 44;
export const WRAPPERS = 23;
export const LAST_US = 6;
export const START_US = 7;
export const PACKETS = 8;
export const OCTETS = 10;
export const FIRST = 24;
export const ACKED = 26;
export const SENT = 28;
export const SLOT = 30;

/** What a side did so far, as bits of `sideFlags`. */
export const Side = {
  syn: 1,
  fin: 2,
  rst: 4,
  /** Payload seen. */
  data: 8,
  /** `first` holds the sequence number of stream offset 0. */
  based: 16,
  /** The opening is read, or given up: no more bytes are kept. */
  read: 32,
  /** Payload came that acknowledges payload of the other side. */
  answered: 64,
  cutOff: 128, // packets were counted by the source, and not handed over
} as const;

/** Flow-wide facts, as bits of `flowFlags`. */
export const Fact = {
  midstream: 1, // the first packet was no SYN
  established: 2,
  disagreed: 4,
  noSlot: 8,
  snapped: 16, // a payload was captured in part only
  fromHigh: 32, // the high end sent the first packet
  renegotiated: 64, // TLS ≤ 1.2: the client began a handshake behind application data
} as const;

/** What refused a flow where no ICMP error did, whose kinds are those of `Unreachable`. */
export const BY_RST = 15;

/** Where a flow's record, and its key, begin among the words; and among the others. */
export const keyAt = (flow: number): number => flow * WORDS;
export const byteAt = (flow: number): number => flow * BYTES;
export const halfAt = (flow: number): number => flow * HALVES;
export const doubleAt = (flow: number): number => flow * DOUBLES;

/** Records of so many flows. `at` is a side of a flow: flow * 2, and 1 more for the high end. */
export class FlowRecords {
  /** Most flows at a time. */
  readonly capacity: number;
  /** Words of 4, 1, 2 and 8 bytes over the same memory; keys of flows stand at `keyAt`. */
  readonly keys: Int32Array;
  protected readonly octets: Uint8Array;
  protected readonly halves: Uint16Array;
  protected readonly doubles: Float64Array;

  constructor(flows: number) {
    const memory = new ArrayBuffer(flows * BYTES);
    this.capacity = flows;
    this.keys = new Int32Array(memory);
    this.octets = new Uint8Array(memory);
    this.halves = new Uint16Array(memory);
    this.doubles = new Float64Array(memory);
  }

  /** The interface, as its key has it. */
  laneOf(flow: number): number {
    return this.keys[keyAt(flow) + 9]! >>> 8;
  }

  /** Bits of `Fact`. */
  flowFlags(flow: number): number {
    return this.octets[byteAt(flow) + FLAGS]!;
  }

  /** Adds to `flowFlags`. */
  note(flow: number, fact: number): void {
    this.octets[byteAt(flow) + FLAGS]! |= fact;
  }

  /** Side that is the client: who sent the SYN, else by ports, else the first sender. */
  client(flow: number): number {
    return this.octets[byteAt(flow) + CLIENT]!;
  }

  /** What it is named by: one of `Basis`. */
  basis(flow: number): number {
    return this.octets[byteAt(flow) + BASIS]! & 3;
  }

  /** Which way the first packet crossed the interface, as its source numbers that. */
  firstDirection(flow: number): number {
    return (this.octets[byteAt(flow) + BASIS]! >> 2) & 3;
  }

  /** What answered its first packets instead of the server: `Unreachable` or `BY_RST`; else 0. */
  refusedBy(flow: number): number {
    return this.octets[byteAt(flow) + BASIS]! >> 4;
  }

  protected setRefusedBy(flow: number, by: number): void {
    const at = byteAt(flow) + BASIS;
    this.octets[at] = (this.octets[at]! & 15) | (by << 4);
  }

  protected nameClient(flow: number, side: number, basis: number): void {
    const at = byteAt(flow);
    this.octets[at + CLIENT] = side;
    this.octets[at + BASIS] = (this.octets[at + BASIS]! & ~3) | basis;
  }

  /** Where both sides send a SYN of their own (RFC 9293 §3.5, figure 7) neither is the client. */
  protected nameBySyn(flow: number, side: number, isAnswer: boolean): void {
    const isNamed = this.basis(flow) === Basis.flags;
    if (!isAnswer && isNamed && this.client(flow) !== side) {
      this.nameClient(flow, this.client(flow), Basis.firstSeen);
    } else this.nameClient(flow, isAnswer ? 1 - side : side, Basis.flags);
  }

  synCount(flow: number): number {
    return this.octets[byteAt(flow) + SYNS]!;
  }

  /** A number of `wrappers`: of the flow's first packet. */
  encap(flow: number): number {
    return this.halves[halfAt(flow) + WRAPPERS]!;
  }

  /** Microseconds since the epoch. */
  startUs(flow: number): number {
    return this.doubles[doubleAt(flow) + START_US]!;
  }

  lastUs(flow: number): number {
    return this.doubles[doubleAt(flow) + LAST_US]!;
  }

  packets(at: number): number {
    return this.doubles[doubleAt(at >> 1) + PACKETS + (at & 1)]!;
  }

  /** Of IP packets, headers and all. */
  bytes(at: number): number {
    return this.doubles[doubleAt(at >> 1) + OCTETS + (at & 1)]!;
  }

  /** Bits of `Side`. */
  sideFlags(at: number): number {
    return this.octets[byteAt(at >> 1) + SIDE_FLAGS + (at & 1)]!;
  }

  /** Sequence number of stream offset 0. */
  first(at: number): number {
    return this.keys[keyAt(at >> 1) + FIRST + (at & 1)]!;
  }

  /** Initial sequence number of a side whose SYN was seen, at flow * 2 + side; else no number. */
  isn(at: number): number {
    return (this.first(at) - 1) | 0;
  }

  /** Highest stream offset of the other side that this side acknowledged. */
  acked(at: number): number {
    return this.keys[keyAt(at >> 1) + ACKED + (at & 1)]!;
  }

  /** Stream offset behind this side's last payload byte or FIN, as far as seen. */
  sent(at: number): number {
    return this.keys[keyAt(at >> 1) + SENT + (at & 1)]!;
  }

  /** Of its opening, or -1. */
  slot(at: number): number {
    return this.keys[keyAt(at >> 1) + SLOT + (at & 1)]!;
  }

  /** Adds what the source counted of a side, and did not hand over. */
  countCutOff(at: number, packets: number, bytes: number): void {
    const d = doubleAt(at >> 1) + (at & 1);
    this.doubles[d + PACKETS]! += packets;
    this.doubles[d + OCTETS]! += bytes;
    this.octets[byteAt(at >> 1) + SIDE_FLAGS + (at & 1)]! |= Side.cutOff;
  }

  /** Reports whether the number is a flow in use. */
  isOpen(flow: number): boolean {
    return this.packets(flow * 2) + this.packets(flow * 2 + 1) > 0;
  }

  /** The clock was set back: ages are kept. */
  stepBack(byUs: number): void {
    for (let flow = 0; flow < this.capacity; flow++) {
      this.doubles[doubleAt(flow) + LAST_US]! -= byUs;
    }
  }
}
