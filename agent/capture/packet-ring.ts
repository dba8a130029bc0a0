/** Opens an AF_PACKET socket on all interfaces with a TPACKET_V3 ring in memory of our own. */
import { interfaceFilter } from "./interface-filter.ts";
import { AF_PACKET, SOCK_RAW, SOL_SOCKET } from "./system-calls.ts";
import type { Mapped, SystemCalls } from "./system-calls.ts";

/** Of linux/if_packet.h, asm/socket.h, linux/if_ether.h. */
const SOL_PACKET = 263;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_VERSION = 10;
const PACKET_RESERVE = 12;
const PACKET_FANOUT = 18;
const PACKET_FANOUT_DATA = 22;
const TPACKET_V3 = 2;
/** Of a group: an eBPF program deals frames out; its number is the kernel's choice. */
const FANOUT_EBPF = 7;
const FANOUT_NEW_NUMBER = 0x2000;
const SO_ATTACH_FILTER = 26;
const SO_ATTACH_BPF = 50;
const ETH_P_ALL = 3;

/** Bytes of a block: several frames of the largest offload size, and pages that are easily had. */
export const BLOCK_BYTES = 512 << 10;
/** Only a bound for the kernel's arithmetic: version 3 packs frames of any length. */
const FRAME_BYTES = 2048;
/** Milliseconds after which the kernel hands over a block that is not full. */
const BLOCK_TIMEOUT_MS = 50;
/** Room before each frame, where its VLAN tag is put back. */
const RESERVED_BYTES = 4;

/** Bytes of a ring for which about so many were asked. */
export function ringBytes(asked: number): number {
  return BLOCK_BYTES * Math.max(2, Math.floor(asked / BLOCK_BYTES));
}

const int32 = (...values: number[]) => new Uint8Array(Int32Array.from(values).buffer);

export class PacketRing {
  readonly fd: number;
  readonly #calls: SystemCalls;
  readonly #memory: Mapped;
  /** Frames that the kernel dropped for want of room. */
  dropped = 0;

  /** Throws `RefusedCall`; nothing is received until `bind`. */
  constructor(calls: SystemCalls, bytes: number) {
    this.#calls = calls;
    this.fd = calls.socket(AF_PACKET, SOCK_RAW, 0, "AF_PACKET socket");
    try {
      const set = (name: number, what: string, ...values: number[]) =>
        calls.setOption(this.fd, SOL_PACKET, name, int32(...values), `packet ring: ${what}`);
      set(PACKET_VERSION, "version 3", TPACKET_V3);
      set(PACKET_RESERVE, "room for VLAN tags", RESERVED_BYTES);
      const length = ringBytes(bytes);
      const blocks = length / BLOCK_BYTES;
      const frames = length / FRAME_BYTES;
      const what = `${length} bytes in blocks of ${BLOCK_BYTES}`;
      // struct tpacket_req3: …, timeout, bytes of private area, features
      const timeout = BLOCK_TIMEOUT_MS;
      set(PACKET_RX_RING, what, BLOCK_BYTES, blocks, FRAME_BYTES, frames, timeout, 0, 0);
      this.#memory = calls.map(this.fd, length, "packet ring: mmap");
    } catch (error) {
      calls.close(this.fd);
      throw error;
    }
  }

  /** The ring's memory, until `close`. */
  get view(): DataView {
    return this.#memory.view;
  }

  /** Lets pass the frames of these interfaces, cut to `snap` bytes. */
  filterInterfaces(indexes: readonly number[], snap: number): void {
    const program = interfaceFilter(indexes, snap);
    // struct sock_fprog: length in instructions(2) | padding | pointer
    const descriptor = new DataView(new ArrayBuffer(16));
    descriptor.setUint16(0, program.length / 8, true);
    descriptor.setBigUint64(8, this.#calls.addressOf(program), true);
    const value = new Uint8Array(descriptor.buffer);
    this.#calls.setOption(this.fd, SOL_SOCKET, SO_ATTACH_FILTER, value, "packet ring: filter");
  }

  /** Lets an eBPF program decide what passes. */
  filterBy(programFd: number): void {
    const attempt = "packet ring: eBPF filter";
    this.#calls.setOption(this.fd, SOL_SOCKET, SO_ATTACH_BPF, int32(programFd), attempt);
  }

  /** Begins to receive, on all interfaces; the filter is in place by then. */
  bind(): void {
    const address = new DataView(new ArrayBuffer(20)); // struct sockaddr_ll
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, ETH_P_ALL);
    this.#calls.bind(this.fd, new Uint8Array(address.buffer), "packet ring: bind");
  }

  /**
   * Shares frames, from now on, with the other sockets of a group, dealt out by an eBPF program;
   * null makes a new one. Returns the group's number.
   */
  join(group: number | null, programFd: number): number {
    const attempt = "packet ring: fanout";
    const how = group === null ? FANOUT_EBPF | FANOUT_NEW_NUMBER : FANOUT_EBPF;
    const value = int32((how << 16) | (group ?? 0));
    this.#calls.setOption(this.fd, SOL_PACKET, PACKET_FANOUT, value, attempt);
    const program = int32(programFd);
    this.#calls.setOption(this.fd, SOL_PACKET, PACKET_FANOUT_DATA, program, attempt);
    this.#calls.getOption(this.fd, SOL_PACKET, PACKET_FANOUT, value, attempt);
    return new DataView(value.buffer).getUint16(0, true);
  }

  /** Brings `dropped` up to date; the kernel's counters begin anew with each call. */
  count(): void {
    const stats = new Uint8Array(12); // struct tpacket_stats_v3: packets, drops, freezes
    this.#calls.getOption(this.fd, SOL_PACKET, PACKET_STATISTICS, stats, "packet ring: statistics");
    const view = new DataView(stats.buffer);
    this.dropped += view.getUint32(4, true);
  }

  close(): void {
    this.#calls.unmap(this.#memory);
    this.#calls.close(this.fd);
  }
}
