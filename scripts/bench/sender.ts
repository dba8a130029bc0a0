/** Sends frames as they are through one interface, many with each system call. */
import { readFileSync } from "node:fs";
import koffi from "koffi";
import { AF_PACKET, SOCK_RAW, SystemCalls } from "../../agent/capture/system-calls.ts";

const SOL_PACKET = 263;
const PACKET_QDISC_BYPASS = 20;
/** struct mmsghdr: a struct msghdr of 56 bytes (iovec at 16, its count at 24) | length sent(4). */
const MESSAGE_BYTES = 64;
const IOVEC_BYTES = 16;

const sendmmsg = koffi
  .load(null)
  .func("int sendmmsg(int fd, void *messages, uint32_t count, int flags)") as (
  fd: number,
  messages: bigint,
  count: number,
  flags: number,
) => number;

export class FrameSender {
  readonly #calls = new SystemCalls();
  readonly #fd: number;
  readonly #messages: Uint8Array<ArrayBuffer>;
  readonly #at: bigint;
  /** Own copies of the frames, one behind the other; kept alive for the kernel. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly count: number;

  constructor(device: string, frames: readonly Uint8Array[]) {
    const calls = this.#calls;
    this.#fd = calls.socket(AF_PACKET, SOCK_RAW, 0, "sender");
    const bypass = new Uint8Array(Int32Array.of(1).buffer);
    calls.setOption(this.#fd, SOL_PACKET, PACKET_QDISC_BYPASS, bypass, "sender");
    const address = new DataView(new ArrayBuffer(20)); // struct sockaddr_ll
    address.setUint16(0, AF_PACKET, true);
    address.setInt32(4, Number(readFileSync(`/sys/class/net/${device}/ifindex`, "utf8")), true);
    calls.bind(this.#fd, new Uint8Array(address.buffer), "sender");
    this.count = frames.length;
    const total = frames.reduce((sum, frame) => sum + frame.length, 0);
    this.bytes = new Uint8Array(new ArrayBuffer(Math.max(1, total)));
    const iovecs = frames.length * MESSAGE_BYTES;
    this.#messages = new Uint8Array(new ArrayBuffer(iovecs + frames.length * IOVEC_BYTES + 1));
    this.#at = calls.addressOf(this.#messages);
    const base = calls.addressOf(this.bytes);
    const view = new DataView(this.#messages.buffer);
    let at = 0;
    frames.forEach((frame, i) => {
      this.bytes.set(frame, at);
      const iovec = iovecs + i * IOVEC_BYTES;
      view.setBigUint64(iovec, base + BigInt(at), true);
      view.setBigUint64(iovec + 8, BigInt(frame.length), true);
      view.setBigUint64(i * MESSAGE_BYTES + 16, this.#at + BigInt(iovec), true);
      view.setBigUint64(i * MESSAGE_BYTES + 24, 1n, true);
      at += frame.length;
    });
  }

  /** Sends frames `[from, to)`; returns how many the kernel took. */
  send(from = 0, to = this.count): number {
    let sent = from;
    while (sent < to) {
      const messages = this.#at + BigInt(sent * MESSAGE_BYTES);
      const took = sendmmsg(this.#fd, messages, to - sent, 0);
      if (took > 0) sent += took;
      else if (koffi.errno() !== koffi.os.errno.ENOBUFS) {
        throw new Error(`sendmmsg: ${this.#calls.errorName(koffi.errno())}`);
      }
    }
    return sent - from;
  }

  close(): void {
    this.#calls.close(this.#fd);
  }
}
