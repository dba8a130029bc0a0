/** Reads the datagrams of one flow over UDP: tells its protocol, follows QUIC and DTLS. */
import type { Recognition } from "../identify/recognition.ts";
import { speakerOf } from "../identify/speaker.ts";
import { QuicConnection } from "../quic/connection.ts";
import { DtlsAssociation } from "../tls/dtls.ts";
import type { Handshake } from "../tls/handshake.ts";
import type { ProtocolName } from "../../protocol/flow-record.ts";
import type { Trace } from "./trace.ts";

/** Most datagrams, and bytes of them, that are read of a side. */
const DATAGRAMS_LIMIT = 32;
const BYTES_LIMIT = 64 * 1024;

/**
 * The reading of one flow's datagrams. A sender is 0 or 1: who was taken for the client is 0.
 * Datagrams are handed over while `read` says that more are wanted of that sender.
 */
export class DatagramReading {
  protocol: ProtocolName | null = null;
  /** A connection that is being followed; null again when it is read. */
  #following: QuicConnection | DtlsAssociation | null = null;
  /** What the connection said in TLS; null until a hello was read. */
  tls: Handshake | null = null;
  /** The sender that content shows to be the client; -1 while it does not. */
  client = -1;
  readonly #counts = [0, 0];
  readonly #bytes = [0, 0];
  readonly #recognition: Recognition;
  readonly #trace: Trace | null;

  constructor(recognition: Recognition, trace: Trace | null) {
    this.#recognition = recognition;
    this.#trace = trace;
  }

  /** A connection is being followed: it holds memory until it is read. */
  get follows(): boolean {
    return this.#following !== null;
  }

  /**
   * Reads one datagram, and reports whether the sender's next one is wanted. `mayFollow` is false
   * when too many connections are followed already; the protocol is told all the same.
   */
  read(sender: number, view: DataView, at: number, end: number, mayFollow: boolean): boolean {
    this.#counts[sender]!++;
    this.#bytes[sender]! += end - at;
    if (this.protocol === null) this.#identify(sender, view, at, end, mayFollow);
    const following = this.#following;
    if (following) {
      following.read(sender, view, at, end);
      this.client = following.client;
      const { handshake } = following;
      if (handshake.clientHello || handshake.serverHello) this.tls = handshake;
      if (following.isRead) this.#following = null;
    }
    const isOver = this.#counts[sender]! >= DATAGRAMS_LIMIT || this.#bytes[sender]! >= BYTES_LIMIT;
    return !isOver && (this.protocol === null || this.follows);
  }

  #identify(sender: number, view: DataView, at: number, end: number, mayFollow: boolean): void {
    const signature = this.#recognition.lookAtDatagram(sender, view, at, end);
    if (!signature) return;
    this.#trace?.matched(sender, signature, end - at);
    this.protocol = signature.protocol;
    const speaker = speakerOf(signature, view, at, end);
    if (speaker !== "either") this.client = speaker === "client" ? sender : 1 - sender;
    if (!mayFollow) return;
    if (this.protocol === "quic") this.#following = new QuicConnection(this.#trace);
    else if (this.protocol === "dtls") this.#following = new DtlsAssociation(this.#trace);
    // What was read of other datagrams before does not count.
    this.#counts.fill(0);
    this.#bytes.fill(0);
  }

  /** Gives up what is being followed: its flow has ended, or its datagrams come no more. */
  settle(): void {
    this.#following = null;
  }
}
