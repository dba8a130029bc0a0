/** Follows one QUIC connection: opens its Initial packets, and hands TLS what they carry. */
import { Assembly } from "../read/assembly.ts";
import { Cursor } from "../read/cursor.ts";
import { Handshake } from "../tls/handshake.ts";
import { CLIENT, SERVER } from "../tls/side.ts";
import type { TlsTrace } from "../tls/trace.ts";
import { readLongHeader, readVarint } from "./header.ts";
import type { LongHeader } from "./header.ts";
import { deriveInitialKeys, openInitial } from "./protection.ts";
import type { InitialKeys } from "./protection.ts";
import { PacketType, otherVersionOf } from "./version.ts";
import type { QuicVersion } from "./version.ts";

/** Most bytes of a side's CRYPTO stream that are kept: post-quantum hellos take some 4 KiB. */
const CRYPTO_LIMIT = 64 * 1024;
/** Most packets of one datagram, and most times that keys are derived for one connection. */
const PACKETS_LIMIT = 16;
const DERIVE_LIMIT = 12;

/** Frame types of Initial packets (RFC 9000 §12.4). */
const Frame = {
  padding: 0x00,
  ping: 0x01,
  ack: 0x02,
  ackEcn: 0x03,
  close: 0x1c,
  closeApplication: 0x1d,
} as const;

/** Transport errors 0x0100 to 0x01ff carry a TLS alert (RFC 9001 §4.8). */
const CRYPTO_ERROR = 0x0100;

/** Keys that were tried, with what they were derived from. */
type Derived = { versionNumber: number; connectionId: Uint8Array; keys: InitialKeys };

/** One side's messages, and which kinds of packets it was seen to send. */
class Side {
  crypto = new Assembly(CRYPTO_LIMIT);
  /** Where in the CRYPTO stream the next message begins. */
  messageAt = 0;
  handshakePackets = false;
  shortPackets = false;
}

/**
 * A reading of the two senders' datagrams, in the order in which they came. Which of them (0 or 1)
 * is the client shows when the first Initial opens: its keys come from the client's choice.
 */
export class QuicConnection {
  readonly handshake: Handshake;
  /** The sender that is the client; -1 while that is not known. */
  client = -1;
  /** By sender. */
  readonly #sides: readonly Side[] = [new Side(), new Side()];
  #derived: Derived | null = null;
  #derivations = 0;

  constructor(trace: TlsTrace | null) {
    this.handshake = new Handshake("q", trace);
  }

  /** Nothing more is to be learned: both sides have gone on to 1-RTT packets. */
  get isRead(): boolean {
    return this.handshake.finishedEnd >= 0 || this.handshake.malformed.includes(true);
  }

  /** Reads one datagram: packets one behind the other (RFC 9000 §12.2). */
  read(sender: number, view: DataView, at: number, end: number): void {
    for (let i = 0; i < PACKETS_LIMIT && at < end && !this.isRead; i++) {
      if ((view.getUint8(at) & 0x80) === 0) {
        this.#takeShort(sender, view.getUint8(at), i > 0);
        return;
      }
      const header = readLongHeader(view, at, end);
      if (!header) return;
      this.#takeLong(sender, view, header);
      at = header.end;
    }
  }

  #roleOf(sender: number): number {
    return sender === this.client ? CLIENT : SERVER;
  }

  /** Notes an event, once the roles are known. */
  #note(letter: string, sender: number): void {
    if (this.client >= 0) this.handshake.note(letter, this.#roleOf(sender));
  }

  /** Behind other packets a byte without the fixed bit is padding, not a packet. */
  #takeShort(sender: number, first: number, isBehind: boolean): void {
    if (isBehind && (first & 0x40) === 0) return;
    if (this.handshake.serverHello === null) return; // strays of another connection
    if (!this.#sides[sender]!.shortPackets) this.#note("p", sender);
    this.#sides[sender]!.shortPackets = true;
    const client = this.#sides[this.client]!;
    const server = this.#sides[1 - this.client]!;
    // A client that sends 1-RTT packets has sent its Finished (RFC 9001 §5.7).
    if (client.shortPackets && server.shortPackets && server.handshakePackets) {
      this.handshake.finish();
    }
  }

  #takeLong(sender: number, view: DataView, header: LongHeader): void {
    if (header.version === null) {
      if (header.versionNumber === 0) this.#note("n", sender); // Version Negotiation
      return;
    }
    switch (header.type) {
      case PacketType.initial: {
        const frames = this.#open(sender, view, header);
        if (!frames) return;
        const c = new Cursor(new DataView(frames.buffer), 0, frames.length);
        this.#takeFrames(sender, c, header.version.cryptoFrame);
        return;
      }
      case PacketType.handshake:
        if (!this.#sides[sender]!.handshakePackets) this.#note("e", sender);
        this.#sides[sender]!.handshakePackets = true;
        return;
      case PacketType.retry:
        this.#note("j", sender);
        return;
    }
  }

  /**
   * Opens an Initial with the keys at hand, or with keys of its own connection id: those of a
   * client's first packet, and of the one behind a Retry or a Version Negotiation. A server that
   * chose another version uses that one's keys for the same id (RFC 9369 §4.1).
   */
  #open(sender: number, view: DataView, header: LongHeader): Uint8Array<ArrayBuffer> | null {
    const { versionNumber } = header;
    const known = this.#derived;
    if (known) {
      const same = known.versionNumber === versionNumber;
      const keys = same ? known.keys : this.#derive(header, known.connectionId);
      const frames = keys && openInitial(view, header, keys[this.#roleOf(sender)]!);
      if (frames && !same) this.#derived = { ...known, versionNumber, keys };
      if (frames) return frames;
      if (sender !== this.client) return null;
    }
    const idAt = view.byteOffset + header.destinationAt;
    const connectionId = new Uint8Array(view.buffer, idAt, header.destinationLength).slice();
    if (known && sameBytes(known.connectionId, connectionId)) return null;
    let keys = this.#derive(header, connectionId);
    let frames = keys && openInitial(view, header, keys[CLIENT]);
    const other = otherVersionOf(versionNumber);
    if (!frames && other) {
      keys = this.#derive(header, connectionId, other);
      frames = keys && openInitial(view, header, keys[CLIENT]);
    }
    if (!keys || !frames) return null;
    this.#derived = { versionNumber, connectionId, keys };
    this.client = sender;
    // What came before was another attempt, and its hello may differ.
    if (!this.handshake.clientHello) this.#sides[sender]!.crypto = new Assembly(CRYPTO_LIMIT);
    return frames;
  }

  #derive(
    header: LongHeader,
    connectionId: Uint8Array,
    version: QuicVersion = header.version!,
  ): InitialKeys | null {
    if (this.#derivations >= DERIVE_LIMIT) return null;
    this.#derivations++;
    return deriveInitialKeys(version, connectionId);
  }

  #takeFrames(sender: number, c: Cursor, cryptoFrame: number): void {
    while (c.more) {
      const type = readVarint(c);
      switch (type) {
        case Frame.padding:
        case Frame.ping:
          break;
        case Frame.ack:
        case Frame.ackEcn:
          skipAck(c, type === Frame.ackEcn);
          break;
        case cryptoFrame: {
          const offset = readVarint(c);
          const length = readVarint(c);
          const at = c.at;
          c.skip(length);
          if (c.ok) this.#takeCrypto(sender, offset, c.view, at, at + length);
          break;
        }
        case Frame.close:
        case Frame.closeApplication:
          this.#takeClose(sender, readVarint(c), c);
          return;
        default:
          return; // no other frame belongs into an Initial packet
      }
    }
  }

  /** Hands on the messages that are whole now: hellos, also a second one behind a retry. */
  #takeCrypto(sender: number, offset: number, view: DataView, at: number, end: number): void {
    const own = this.#sides[sender]!;
    own.crypto.put(offset, view, at, end);
    for (;;) {
      const { have, view: bytes } = own.crypto;
      if (have - own.messageAt < 4) return;
      const length = bytes.getUint32(own.messageAt) & 0xffffff;
      if (have - own.messageAt - 4 < length) return;
      const from = own.messageAt;
      own.messageAt += 4 + length;
      this.handshake.takeMessage(this.#roleOf(sender), bytes, from, own.messageAt);
    }
  }

  /** CONNECTION_CLOSE (RFC 9000 §19.19): an alert of TLS, or another reason to leave. */
  #takeClose(sender: number, error: number, c: Cursor): void {
    if (!c.ok) return;
    const side = this.#roleOf(sender);
    if (error >= CRYPTO_ERROR && error < CRYPTO_ERROR + 256) {
      this.handshake.takeAlert(side, 2, error - CRYPTO_ERROR);
    } else {
      this.handshake.note("l", side);
      this.handshake.close({ side, kind: "error", acked: 0, waitedMs: 0 });
    }
  }
}

/** Passes over an ACK frame's fields behind its type (RFC 9000 §19.3). */
function skipAck(c: Cursor, hasEcn: boolean): void {
  readVarint(c); // largest acknowledged
  readVarint(c); // delay
  const ranges = readVarint(c);
  readVarint(c); // first range
  for (let i = 0; i < ranges && c.more; i++) {
    readVarint(c);
    readVarint(c);
  }
  for (let i = 0; hasEcn && i < 3; i++) readVarint(c);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
