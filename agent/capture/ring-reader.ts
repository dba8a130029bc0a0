/** Reads frames out of the blocks of a TPACKET_V3 ring, where they lie. */
import { Direction } from "./frame-source.ts";
import type { OnFrame, Watch } from "./frame-source.ts";

/** `struct tpacket_block_desc` (linux/if_packet.h): positions of what is read. */
const BLOCK_STATUS = 8;
const BLOCK_COUNT = 12;
const BLOCK_FIRST = 16;
/**
 * `struct tpacket3_hdr`, then `struct sockaddr_ll` of 20 bytes:
 *
 *      0    next | 4 seconds | 8 nanoseconds | 12 captured | 16 on the wire | 20 status
 *      24   mac(2) | net(2) | 28 rxhash | 32 VLAN tag(4) | 36 its protocol(2) | … | 48
 *      48   family(2) | protocol(2) | 52 interface | 56 hardware type(2) | 58 packet type(1) | …
 */
const FRAME_HEADER = 48 + 20;

/** TP_STATUS_…: the block is the reader's; the frame's VLAN tag, and its protocol, stand apart. */
const STATUS_USER = 1;
const VLAN_VALID = 1 << 4;
const VLAN_TPID_VALID = 1 << 6;
const VLAN_PROTOCOL = 0x8100;
const VLAN_BYTES = 4;
/** PACKET_OUTGOING (linux/if_packet.h). */
const OUTGOING = 4;

/** ARPHRD_… (linux/if_arp.h) of devices whose frames begin with an Ethernet header. */
const ETHERNET = 1;
const LOOPBACK = 772;
/** Of those whose frames begin with the IP header: TUNNEL, TUNNEL6, SIT, IPGRE, NONE. */
const RAW_IP: readonly number[] = [768, 769, 776, 778, 65534];
/** As pcap files number link types. */
const LINK_ETHERNET = 1;
const LINK_RAW = 101;
const LINK_UNREAD = -1;

/** Most blocks read in one go, so that the event loop turns in between. */
const BLOCKS_A_TURN = 16;

export class RingReader {
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #blockBytes: number;
  readonly #blocks: number;
  readonly #watches: ReadonlyMap<number, Watch>;
  readonly #clock: Float64Array;
  readonly #onFrame: OnFrame;
  #next = 0;
  /** The last `read` came to the end of what was ready. */
  isDrained = true;
  /** The interface of the last frame, which is most often that of the next. */
  #index = -1;
  #watch: Watch | undefined;

  /**
   * `view` is the ring, shared with the kernel; frames of interfaces that are not in `watches`, by
   * their index, are passed over.
   */
  constructor(
    view: DataView,
    blockBytes: number,
    watches: ReadonlyMap<number, Watch>,
    clock: Float64Array,
    onFrame: OnFrame,
  ) {
    this.#view = view;
    this.#words = new Int32Array(view.buffer, view.byteOffset, view.byteLength / 4);
    this.#blockBytes = blockBytes;
    this.#blocks = view.byteLength / blockBytes;
    this.#watches = watches;
    this.#clock = clock;
    this.#onFrame = onFrame;
  }

  /**
   * Hands over the frames of the blocks that are ready, some at a time, and gives the blocks back.
   * Returns false when a block contradicts itself: the ring can no longer be read.
   */
  read(): boolean {
    this.#index = -1; // watches may have changed
    this.isDrained = false;
    for (let turn = 0; turn < BLOCKS_A_TURN; turn++) {
      const at = this.#next * this.#blockBytes;
      const status = (at + BLOCK_STATUS) >> 2;
      // What the kernel wrote before it gave the block away is read behind this load.
      if ((Atomics.load(this.#words, status) & STATUS_USER) === 0) {
        this.isDrained = true;
        return true;
      }
      if (!this.#readBlock(at)) return false;
      Atomics.store(this.#words, status, 0);
      this.#next = (this.#next + 1) % this.#blocks;
    }
    return true;
  }

  #readBlock(block: number): boolean {
    const view = this.#view;
    const limit = block + this.#blockBytes;
    let at = block + view.getUint32(block + BLOCK_FIRST, true);
    for (let left = view.getUint32(block + BLOCK_COUNT, true); left > 0; left--) {
      if (at + FRAME_HEADER > limit) return false;
      const next = view.getUint32(at, true);
      const start = at + view.getUint16(at + 24, true);
      if (start + view.getUint32(at + 12, true) > limit) return false;
      if (left > 1 && (next < FRAME_HEADER || at + next > limit)) return false;
      this.#readFrame(at, start);
      at += next;
    }
    return true;
  }

  #readFrame(at: number, start: number): void {
    const view = this.#view;
    const index = view.getInt32(at + 52, true);
    if (index !== this.#index) {
      this.#index = index;
      this.#watch = this.#watches.get(index);
    }
    const watch = this.#watch;
    if (watch === undefined) return;
    const hardware = view.getUint16(at + 56, true);
    const isOut = view.getUint8(at + 58) === OUTGOING;
    if (hardware === LOOPBACK && isOut) return; // the same frame comes again, as one that came in
    const isEthernet = hardware === ETHERNET || hardware === LOOPBACK;
    const status = view.getUint32(at + 20, true);
    let captured = view.getUint32(at + 12, true);
    let wire = view.getUint32(at + 16, true);
    if ((status & VLAN_VALID) !== 0 && isEthernet && captured >= 12) {
      this.#putTagBack(at, start, status);
      start -= VLAN_BYTES;
      captured += VLAN_BYTES;
      wire += VLAN_BYTES;
    }
    const micros = Math.floor(view.getUint32(at + 8, true) / 1000);
    this.#clock[0] = view.getUint32(at + 4, true) * 1e6 + micros;
    watch.delivered++;
    this.#onFrame(
      view,
      start,
      start + captured,
      wire,
      isEthernet ? LINK_ETHERNET : RAW_IP.includes(hardware) ? LINK_RAW : LINK_UNREAD,
      watch.lane,
      isOut ? Direction.outbound : Direction.inbound,
    );
  }

  /**
   * The kernel takes a VLAN tag out of its frame: both addresses move back by its length, to where
   * the ring left room, and it stands behind them again.
   */
  #putTagBack(at: number, start: number, status: number): void {
    const view = this.#view;
    for (let word = 0; word < 12; word += 4) {
      view.setInt32(start - VLAN_BYTES + word, view.getInt32(start + word));
    }
    const hasProtocol = (status & VLAN_TPID_VALID) !== 0;
    const protocol = hasProtocol ? view.getUint16(at + 36, true) : VLAN_PROTOCOL;
    view.setUint16(start + 8, protocol);
    view.setUint16(start + 10, view.getUint32(at + 32, true) & 0xffff);
  }
}
