/** Follows one DTLS association: its records, and the handshake messages in their parts. */
import { Assembly } from "../read/assembly.ts";
import { ContentType, HandshakeType, isTls13 } from "./codes.ts";
import { isAlertSized } from "./client-flight.ts";
import { Handshake } from "./handshake.ts";
import { CLIENT, SERVER } from "./side.ts";
import type { TlsTrace } from "./trace.ts";

/** type(1) | version(2) | epoch(2) | sequence number(6) | length(2) (RFC 6347 §4.1) */
const RECORD_HEADER = 13;
/** type(1) | length(3) | message_seq(2) | fragment_offset(3) | fragment_length(3) (§4.2.2) */
const MESSAGE_HEADER = 12;
/** Longest message that is put together, and most messages of a side that wait at a time. */
const MESSAGE_LIMIT = 64 * 1024;
const WAITING_LIMIT = 8;
/** Most records of one datagram: the shortest have a byte of payload. */
const RECORDS_LIMIT = 64;

/** Content types of DTLS alone: a record with a connection id, and the ACK of DTLS 1.3. */
const CONNECTION_ID_RECORD = 25; // RFC 9146 §4
/** Epochs of DTLS 1.3 by their two last bits (RFC 9147 §4, §6.1): handshake 2, application 3. */
const EPOCH_APPLICATION = 3;

/** A message that is not whole yet, or whose turn has not come. */
type Waiting = { type: number; length: number; body: Assembly };

class Side {
  readonly waiting = new Map<number, Waiting>();
  /** The message_seq that is handed on next. */
  next = 0;
  greeted = false;
  /** Records under the negotiated keys that carry an epoch of their own (DTLS ≤ 1.2). */
  protectedRecords = 0;
  /** DTLS 1.3: an application-data record that is no alert was sent. */
  wentOn = false;
  /** Length of the connection ids in the records that this side sends (RFC 9146 §3). */
  connectionId = 0;
}

/** Who must have sent a handshake message: only clients say hello, only servers answer it. */
const SENDERS: ReadonlyMap<number, number> = new Map([
  [HandshakeType.clientHello, CLIENT],
  [HandshakeType.clientKeyExchange, CLIENT],
  [HandshakeType.serverHello, SERVER],
  [HandshakeType.helloVerifyRequest, SERVER],
  [HandshakeType.serverKeyExchange, SERVER],
  [HandshakeType.certificateRequest, SERVER],
  [HandshakeType.serverHelloDone, SERVER],
]);

/**
 * A reading of the two senders' datagrams, in the order in which they came; messages come in any
 * order and in any parts (RFC 6347 §4.2.3). Which sender (0 or 1) is the client shows by the first
 * message that only one of them can send.
 */
export class DtlsAssociation {
  readonly handshake: Handshake;
  /** The sender that is the client; -1 while that is not known. */
  client = -1;
  /** By sender. */
  readonly #sides: readonly Side[] = [new Side(), new Side()];

  constructor(trace: TlsTrace | null) {
    this.handshake = new Handshake("d", trace);
  }

  /** Nothing more is to be learned. */
  get isRead(): boolean {
    const h = this.handshake;
    const is13 = h.serverHello !== null && isTls13(h.serverHello.version);
    return h.answered || h.malformed.includes(true) || (is13 && h.finishedEnd >= 0);
  }

  /** Reads one datagram: records one behind the other, which never span datagrams. */
  read(sender: number, view: DataView, at: number, end: number): void {
    at += preambleLength(view, at, end);
    for (let i = 0; i < RECORDS_LIMIT && at < end && !this.isRead; i++) {
      const first = view.getUint8(at);
      if (first >> 5 === 1) {
        this.#takeUnified(sender, first, view, at, end);
        return;
      }
      const idLength = first === CONNECTION_ID_RECORD ? this.#sides[sender]!.connectionId : 0;
      const header = RECORD_HEADER + idLength;
      if (end - at < header || !isVersion(view.getUint16(at + 1))) return;
      const length = view.getUint16(at + header - 2);
      const bodyAt = at + header;
      at = bodyAt + length;
      if (at > end) return;
      const epoch = view.getUint16(bodyAt - header + 3);
      if (epoch === 0) this.#takeClear(sender, first, view, bodyAt, at);
      else this.#takeProtected(sender, first, length);
    }
  }

  #roleOf(sender: number): number {
    return this.client < 0 || sender === this.client ? CLIENT : SERVER;
  }

  #takeClear(sender: number, type: number, view: DataView, at: number, end: number): void {
    switch (type) {
      case ContentType.handshake:
        this.#takeFragments(sender, view, at, end);
        return;
      case ContentType.changeCipherSpec:
        if (this.client >= 0) this.handshake.changeCipher(this.#roleOf(sender));
        return;
      case ContentType.alert:
        if (end - at !== 2 || this.client < 0) return;
        this.handshake.takeAlert(this.#roleOf(sender), view.getUint8(at), view.getUint8(at + 1));
        return;
    }
  }

  /** DTLS ≤ 1.2 behind a change of cipher: only the type and the length are in clear. */
  #takeProtected(sender: number, type: number, length: number): void {
    if (this.client < 0) return;
    const own = this.#sides[sender]!;
    own.protectedRecords++;
    let told = type;
    if (type === CONNECTION_ID_RECORD) {
      // The true type is inside; the first message behind the change of cipher is the Finished.
      told = own.protectedRecords === 1 ? ContentType.handshake : ContentType.applicationData;
    }
    this.handshake.takeEncrypted(this.#roleOf(sender), told, length, 0, -1);
  }

  /**
   * A record of DTLS 1.3 (RFC 9147 §4): 001CSLEE, where C tells a connection id, S two bytes of
   * sequence number, L a length; EE are the epoch's last bits.
   */
  #takeUnified(sender: number, first: number, view: DataView, at: number, end: number): void {
    if (this.client < 0 || this.handshake.serverHello === null) return;
    const own = this.#sides[sender]!;
    const role = this.#roleOf(sender);
    for (let i = 0; i < RECORDS_LIMIT && at < end && first >> 5 === 1; i++) {
      const idLength = (first & 0x10) !== 0 ? own.connectionId : 0;
      const lengthAt = at + 1 + idLength + ((first & 0x08) !== 0 ? 2 : 1);
      const hasLength = (first & 0x04) !== 0;
      if (end - lengthAt < 2) return;
      const length = hasLength ? view.getUint16(lengthAt) : end - lengthAt;
      at = lengthAt + (hasLength ? 2 : 0) + length;
      if (at > end) return;
      const isApplication = (first & 3) === EPOCH_APPLICATION;
      this.handshake.note(isApplication ? "p" : "e", role);
      if (isApplication && !isAlertSized(length)) own.wentOn = true;
      if (at < end) first = view.getUint8(at);
    }
    if (this.#sides.every((side) => side.wentOn)) this.handshake.finish();
  }

  /** The handshake messages, or parts of them, in one record. */
  #takeFragments(sender: number, view: DataView, at: number, end: number): void {
    while (end - at >= MESSAGE_HEADER) {
      const type = view.getUint8(at);
      const length = view.getUint32(at) & 0xffffff;
      const sequence = view.getUint16(at + 4);
      const offset = view.getUint32(at + 5) & 0xffffff;
      const partLength = view.getUint32(at + 8) & 0xffffff;
      const bodyAt = at + MESSAGE_HEADER;
      at = bodyAt + partLength;
      if (at > end || offset + partLength > length || length > MESSAGE_LIMIT) return;
      this.#meet(sender, type);
      const own = this.#sides[sender]!;
      const waiting = this.#waitingOf(own, type, length, sequence);
      if (!waiting) continue;
      waiting.body.put(offset, view, bodyAt, at);
      // The first hello that is whole counts whatever its number: one before it may be lost, and
      // servers that kept no state number anew.
      const isWhole = waiting.body.have === length;
      if (isWhole && !own.greeted && isHello(type)) own.next = sequence;
      this.#handOn(sender, own);
    }
  }

  /** Learns from a message's type who is the client. */
  #meet(sender: number, type: number): void {
    if (this.client >= 0) return;
    const role = SENDERS.get(type);
    if (role !== undefined) this.client = role === CLIENT ? sender : 1 - sender;
  }

  /** The message that a part belongs to; null for repetitions, and when too many wait. */
  #waitingOf(own: Side, type: number, length: number, sequence: number): Waiting | null {
    const known = own.waiting.get(sequence);
    if (known) return known.type === type && known.length === length ? known : null;
    const mayGreet = !own.greeted && isHello(type);
    if (sequence < own.next && !mayGreet) return null;
    if (own.waiting.size >= WAITING_LIMIT) return null;
    const waiting = { type, length, body: new Assembly(length) };
    own.waiting.set(sequence, waiting);
    return waiting;
  }

  /** Hands on the messages that are whole, in the order of their numbers. */
  #handOn(sender: number, own: Side): void {
    for (;;) {
      const waiting = own.waiting.get(own.next);
      if (!waiting || waiting.body.have < waiting.length) return;
      for (const sequence of own.waiting.keys()) {
        if (sequence <= own.next) own.waiting.delete(sequence);
      }
      own.next++;
      this.#takeMessage(sender, own, waiting);
    }
  }

  /** Hands one message on in the form of TLS: type(1) | length(3) | body. */
  #takeMessage(sender: number, own: Side, { type, length, body }: Waiting): void {
    const h = this.handshake;
    const role = this.#roleOf(sender);
    if (type === HandshakeType.helloVerifyRequest) {
      h.note("j", role);
      return;
    }
    if (isHello(type)) own.greeted = true;
    const message = new Uint8Array(4 + length);
    new DataView(message.buffer).setUint32(0, (type << 24) | length);
    message.set(new Uint8Array(body.view.buffer, 0, length), 4);
    h.takeMessage(role, new DataView(message.buffer), 0, message.length);
    // Each side names the id that it wants to be sent, so it stands in the other's records.
    const hello = role === CLIENT ? h.clientHello : h.serverHello;
    if (hello?.connectionId != null) this.#sides[1 - sender]!.connectionId = hello.connectionId;
  }
}

/** Four bytes that CAPWAP puts before each datagram of DTLS (RFC 5415 §4.2), or none. */
function preambleLength(view: DataView, at: number, end: number): number {
  return end - at > 4 && view.getUint32(at) === 0x01000000 ? 4 : 0;
}

function isHello(type: number): boolean {
  return type === HandshakeType.clientHello || type === HandshakeType.serverHello;
}

/** DTLS 1.0 and 1.2 (which 1.3 sends too), and what OpenSSL sent before there was a standard. */
function isVersion(version: number): boolean {
  return version === 0xfeff || version === 0xfefd || version === 0x0100;
}
