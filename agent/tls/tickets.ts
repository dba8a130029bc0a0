/**
 * Tells records that may hold session tickets of TLS 1.3 (RFC 8446 §4.6.1): the first burst behind
 * the handshake, of messages of one size. What is larger than a record goes on in further ones.
 */

import { isFull } from "./client-flight.ts";

/**
 * The smallest ticket in a record: 17 of the record, 18 of the message's fields (RFC 8446 §4.6.1),
 * 16 of an identifier. Measured: 74 (OpenSSL, stateful), 98 (rustls, one ticket).
 */
export const TICKET_MINIMUM = 51;
/** Tickets of one handshake differ by a block of the cipher, if they differ (measured, OpenSSL). */
const TICKET_BLOCK = 16;
/** Nobody sends so many tickets in records of their own: data in full records looks like that. */
const BURST_LIMIT = 6;
/** Bytes of a ticket in several records; its length field ends at 65,535. */
const PARTS_LIMIT = 80_000;
/** A full record: 16,384 bytes, content type and tag (RFC 8446 §5.2). */
const FULL_RECORD = 16384 + 17;

export class Tickets {
  /** Length of the first message that may be one, of records so far, and of their count. */
  #burst = 0;
  #part = 0;
  #messages = 0;
  /** What the server puts into a record at most, as far as its flight shows it. */
  #fragment = FULL_RECORD;

  /** A record of the server's flight, behind another one: full ones show how it cuts messages. */
  learn(before: number, length: number): void {
    if (isFull(length) || (length > 500 && length === before)) this.#fragment = length;
  }

  get hasBegun(): boolean {
    return this.#burst > 0 || this.#part > 0;
  }

  /** Reports whether a record may belong to the burst. */
  take(length: number): boolean {
    if (length < TICKET_MINIMUM && this.#part === 0) return false;
    if (length === this.#fragment) {
      this.#part += length;
      return this.#messages < BURST_LIMIT && this.#part < PARTS_LIMIT;
    }
    const whole = this.#part + length;
    this.#part = 0;
    if (this.#burst === 0) this.#burst = whole;
    if (this.#messages++ >= BURST_LIMIT) return false;
    const difference = Math.abs(whole - this.#burst);
    return difference === 0 || difference === TICKET_BLOCK;
  }
}
