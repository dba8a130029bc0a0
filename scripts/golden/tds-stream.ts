/** Puts TLS into TDS packets as SQL Server and its clients do, for constructed captures. */
import { Duplex } from "node:stream";
import type { Socket } from "node:net";

const PRELOGIN = 18;
const HEADER = 8;
const APPLICATION_DATA = 23;

/** A TDS packet: type, end of message, length of all, SPID, number 1, window 0. */
export function tds(type: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const head = Buffer.of(type, 1, 0, 0, 0, 0, 1, 0);
  head.writeUInt16BE(HEADER + body.length, 2);
  return Buffer.concat([head, body]);
}

/**
 * One side's stream of TLS records: those of the handshake ride in PRELOGIN packets of at most
 * `most` bytes, the others stand alone (MS-TDS §2.2.6.5, §3.2.5.1).
 */
export class TdsStream extends Duplex {
  readonly #socket: Socket;
  readonly #most: number;
  #come = Buffer.alloc(0);
  #left = 0;
  #isWrapped = true;

  constructor(socket: Socket, most: number) {
    super();
    this.#socket = socket;
    this.#most = most;
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("end", () => this.push(null));
  }

  #take(bytes: Buffer): void {
    this.#come = Buffer.concat([this.#come, bytes]);
    while (this.#come.length > 0) {
      if (this.#left === 0 && this.#come[0] === PRELOGIN) {
        if (this.#come.length < HEADER) return;
        this.#left = this.#come.readUInt16BE(2) - HEADER;
        this.#come = this.#come.subarray(HEADER);
      }
      const end = this.#left > 0 ? Math.min(this.#left, this.#come.length) : this.#come.length;
      this.push(this.#come.subarray(0, end));
      this.#left = Math.max(0, this.#left - end);
      this.#come = this.#come.subarray(end);
    }
  }

  override _read(): void {
    // What comes is pushed as it comes.
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (bytes[0] === APPLICATION_DATA) this.#isWrapped = false;
    const most = this.#isWrapped ? this.#most - HEADER : bytes.length;
    for (let at = 0; at < bytes.length; at += most) {
      const part = bytes.subarray(at, at + most);
      this.#socket.write(this.#isWrapped ? tds(PRELOGIN, part) : part);
    }
    done();
  }

  override _final(done: () => void): void {
    done();
  }
}
