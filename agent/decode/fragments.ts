/**
 * Puts fragments of IP datagrams together, in slots of fixed size (RFC 791 §3.2, RFC 8200 §4.5).
 *
 * A slot holds one datagram: its payload at its place, and which blocks of 8 bytes have come. Bytes
 * that came first win. Slots are allocated as they are first needed, and used again; nothing is
 * allocated per packet.
 */
/** Datagrams that may be put together at a time. */
export const FRAGMENT_SLOTS = 64;
/**
 * Slots that stay free. A datagram that is whole is read after its slot was released, and may hold
 * fragments itself, once per wrapper: those take other slots, released longest ago first.
 */
const SPARE = 10;
/** Longest payload of an IP packet. */
const PAYLOAD_LIMIT = 65535;
const BLOCK = 8;
/** After this long a receiver gives up (RFC 8200 §4.5: 60 s; Linux: 30 s), in microseconds. */
const PATIENCE_US = 30e6;

/** Words of a key: source(4), destination(4), identification, protocol and lane. */
const KEY = 10;
const ENCAP_WORDS = 8;

/** What `take` says. Numbers from 0 on are slots that are whole. */
export const Fragment = { kept: -1, refused: -2 } as const;

/** What names a fragment's datagram, of the packet that it came in (`packet.ts`). */
type Outer = {
  source0: number;
  source1: number;
  source2: number;
  source3: number;
  destination0: number;
  destination1: number;
  destination2: number;
  destination3: number;
  readonly protocol: number;
  readonly ipLength: number;
  encapCount: number;
  readonly encap: Int32Array;
};

export class Fragments {
  /** Set before each frame: its time (microseconds since the epoch) and its interface. */
  nowUs = 0;
  lane = 0;
  /** Slots in use. */
  inUse = 0;
  /** Fragments that differed from what came before, or overlapped in IPv6. */
  disagreed = 0;
  /** Fragments given up whose datagram's beginning never came, or names no flow. */
  lost = 0;

  readonly #keys = new Int32Array(FRAGMENT_SLOTS * KEY);
  readonly #used = new Uint8Array(FRAGMENT_SLOTS);
  readonly #firstUs = new Float64Array(FRAGMENT_SLOTS);
  /** Of all slots in use. */
  #oldestUs = 0;
  readonly lastUs = new Float64Array(FRAGMENT_SLOTS);
  /** By slot: fragments that came, and their IP lengths in bytes. */
  readonly count = new Int32Array(FRAGMENT_SLOTS);
  readonly ipLength = new Int32Array(FRAGMENT_SLOTS);
  /** Payload's length; -1 until the last fragment came. */
  readonly #total = new Int32Array(FRAGMENT_SLOTS);
  readonly #blocks = new Int32Array(FRAGMENT_SLOTS);
  /** Protocol of what is carried: IPv6 tells it in each fragment, the first counts. */
  readonly protocol = new Int32Array(FRAGMENT_SLOTS);
  readonly hasDisagreed = new Uint8Array(FRAGMENT_SLOTS);
  /** IPv6: fragments overlapped, so receivers drop the datagram (RFC 5722 §4). */
  readonly isSpoilt = new Uint8Array(FRAGMENT_SLOTS);
  readonly #encapCount = new Uint8Array(FRAGMENT_SLOTS);
  readonly #encap = new Int32Array(FRAGMENT_SLOTS * ENCAP_WORDS);
  /** When the slot was last released, in releases. */
  readonly #releasedAt = new Int32Array(FRAGMENT_SLOTS);
  #releases = 0;
  readonly #views: DataView<ArrayBuffer>[] = [];
  /** One byte per block: 1 when it has come. */
  readonly #come: Uint8Array<ArrayBuffer>[] = [];

  /** The slot's payload, from position 0 on. */
  view(slot: number): DataView<ArrayBuffer> {
    return this.#views[slot]!;
  }

  /**
   * Takes a fragment of the packet whose addresses `packet` holds: `[at, end)` of `view`, captured
   * of `length` bytes on the wire, stand at `offset` of the payload; `more` follow, or none.
   */
  take(
    packet: Outer,
    identification: number,
    isIpv6: boolean,
    view: DataView,
    at: number,
    end: number,
    offset: number,
    length: number,
    more: boolean,
  ): number {
    const behind = offset + length;
    if (length <= 0 || behind > PAYLOAD_LIMIT || (more && length % BLOCK !== 0)) {
      return Fragment.refused;
    }
    // IPv6 leaves the protocol out of the key: only the first fragment's counts.
    const meta = (isIpv6 ? 256 : packet.protocol) | (this.lane << 9);
    let slot = this.#find(packet, identification, meta);
    if (slot < 0) slot = this.#claim(packet, identification, meta);
    if (slot < 0) return Fragment.refused;
    this.lastUs[slot] = this.nowUs;
    this.count[slot]!++;
    this.ipLength[slot]! += packet.ipLength;
    if (offset === 0) this.protocol[slot] = packet.protocol;
    const total = this.#total[slot]!;
    const contradicts = total >= 0 && (behind > total || (!more && behind !== total));
    if (contradicts) this.#disagree(slot);
    else {
      if (!more) this.#total[slot] = behind;
      this.#copy(slot, view, at, Math.min(end, at + length), offset, !more, isIpv6);
    }
    const whole = this.#total[slot]!;
    const isWhole = whole >= 0 && this.#blocks[slot] === Math.ceil(whole / BLOCK);
    return isWhole && this.isSpoilt[slot] === 0 ? slot : Fragment.kept;
  }

  #disagree(slot: number): void {
    this.hasDisagreed[slot] = 1;
    this.disagreed++;
  }

  /** Copies the blocks that have not come, and compares the others. */
  #copy(
    slot: number,
    view: DataView,
    at: number,
    end: number,
    offset: number,
    isLast: boolean,
    isIpv6: boolean,
  ): void {
    const target = this.#views[slot]!;
    const come = this.#come[slot]!;
    let differs = false;
    let repeats = 0;
    let fresh = 0;
    for (let block = offset / BLOCK; at < end; block++) {
      const stop = Math.min(end, at + BLOCK);
      if (stop - at < BLOCK && !isLast) break; // cut off by a snap
      const to = block * BLOCK - at;
      if (come[block] === 1) {
        repeats++;
        for (let i = at; i < stop; i++) differs ||= target.getUint8(to + i) !== view.getUint8(i);
      } else {
        for (let i = at; i < stop; i++) target.setUint8(to + i, view.getUint8(i));
        come[block] = 1;
        fresh++;
      }
      at = stop;
    }
    this.#blocks[slot]! += fresh;
    // An exact repetition is lawful; any other overlap is an attack (RFC 5722 §3).
    const overlaps = isIpv6 && repeats > 0 && fresh > 0;
    if (isIpv6 && (differs || overlaps)) this.isSpoilt[slot] = 1;
    if (differs || overlaps) this.#disagree(slot);
  }

  #find(packet: Outer, identification: number, meta: number): number {
    if (this.inUse === 0) return -1;
    for (let slot = 0; slot < FRAGMENT_SLOTS; slot++) {
      const k = slot * KEY;
      const keys = this.#keys;
      if (
        this.#used[slot] === 1 &&
        keys[k + 8] === identification &&
        keys[k + 9] === meta &&
        keys[k + 3] === packet.source3 &&
        keys[k + 7] === packet.destination3 &&
        keys[k] === packet.source0 &&
        keys[k + 1] === packet.source1 &&
        keys[k + 2] === packet.source2 &&
        keys[k + 4] === packet.destination0 &&
        keys[k + 5] === packet.destination1 &&
        keys[k + 6] === packet.destination2
      ) {
        return slot;
      }
    }
    return -1;
  }

  /** The slot that was released longest ago, made ready for the packet's datagram. */
  #claim(packet: Outer, identification: number, meta: number): number {
    let slot = -1;
    for (let i = 0; i < FRAGMENT_SLOTS; i++) {
      if (this.#used[i] === 1) continue;
      if (slot < 0 || this.#releasedAt[i]! < this.#releasedAt[slot]!) slot = i;
    }
    if (slot < 0) return -1;
    while (this.#views.length <= slot) {
      this.#views.push(new DataView(new ArrayBuffer(PAYLOAD_LIMIT + 1)));
      this.#come.push(new Uint8Array((PAYLOAD_LIMIT + 1) / BLOCK));
    }
    this.#come[slot]!.fill(0);
    this.#used[slot] = 1;
    if (this.inUse++ === 0) this.#oldestUs = this.nowUs;
    const k = slot * KEY;
    this.#keys[k] = packet.source0;
    this.#keys[k + 1] = packet.source1;
    this.#keys[k + 2] = packet.source2;
    this.#keys[k + 3] = packet.source3;
    this.#keys[k + 4] = packet.destination0;
    this.#keys[k + 5] = packet.destination1;
    this.#keys[k + 6] = packet.destination2;
    this.#keys[k + 7] = packet.destination3;
    this.#keys[k + 8] = identification;
    this.#keys[k + 9] = meta;
    this.#firstUs[slot] = this.nowUs;
    this.count[slot] = this.ipLength[slot] = this.#blocks[slot] = 0;
    this.#total[slot] = -1;
    this.protocol[slot] = packet.protocol;
    this.hasDisagreed[slot] = this.isSpoilt[slot] = 0;
    this.#encapCount[slot] = packet.encapCount;
    for (let i = 0; i < packet.encapCount; i++) {
      this.#encap[slot * ENCAP_WORDS + i] = packet.encap[i]!;
    }
    return slot;
  }

  /**
   * A datagram to be given up at `nowUs`, or -1: the oldest one, when it has waited for too long,
   * or when slots grow short. `release` it then.
   */
  overdue(): number {
    if (this.inUse === 0) return -1;
    const isShort = this.inUse > FRAGMENT_SLOTS - SPARE;
    return isShort || this.nowUs - this.#oldestUs > PATIENCE_US ? this.oldest() : -1;
  }

  /** The datagram whose first fragment came before all others', or -1. */
  oldest(): number {
    if (this.inUse === 0) return -1;
    let oldest = -1;
    for (let slot = 0; slot < FRAGMENT_SLOTS; slot++) {
      if (this.#used[slot] === 0) continue;
      if (oldest < 0 || this.#firstUs[slot]! < this.#firstUs[oldest]!) oldest = slot;
    }
    return oldest;
  }

  /** The datagram is read or given up; its bytes stay until other slots have run out. */
  release(slot: number): void {
    this.#used[slot] = 0;
    this.inUse--;
    this.#releasedAt[slot] = ++this.#releases;
    const oldest = this.oldest();
    if (oldest >= 0) this.#oldestUs = this.#firstUs[oldest]!;
  }

  /** Bytes of the payload's beginning that came without a gap; 0 where the beginning is missing. */
  beginning(slot: number): number {
    const come = this.#come[slot]!;
    let block = 0;
    while (come[block] === 1) block++;
    const total = this.#total[slot]!;
    return total >= 0 ? Math.min(total, block * BLOCK) : block * BLOCK;
  }

  /** Gives the slot's addresses and wrappers back to `packet`. */
  restore(slot: number, packet: Outer): void {
    const k = slot * KEY;
    const keys = this.#keys;
    packet.source0 = keys[k]!;
    packet.source1 = keys[k + 1]!;
    packet.source2 = keys[k + 2]!;
    packet.source3 = keys[k + 3]!;
    packet.destination0 = keys[k + 4]!;
    packet.destination1 = keys[k + 5]!;
    packet.destination2 = keys[k + 6]!;
    packet.destination3 = keys[k + 7]!;
    packet.encapCount = this.#encapCount[slot]!;
    for (let i = 0; i < packet.encapCount; i++) {
      packet.encap[i] = this.#encap[slot * ENCAP_WORDS + i]!;
    }
  }

  isIpv6(slot: number): boolean {
    return (this.#keys[slot * KEY + 9]! & 256) !== 0;
  }

  /** The lane of the slot's fragments. */
  laneOf(slot: number): number {
    return this.#keys[slot * KEY + 9]! >>> 9;
  }
}
