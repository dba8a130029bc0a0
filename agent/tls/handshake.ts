/** Follows the TLS records of both sides of one connection and gathers what was said in clear. */
import { Cursor } from "../read/cursor.ts";
import { isEmptyChain, readChain } from "./certificate.ts";
import type { Certificate } from "./certificate.ts";
import { CIPHER_SUITES } from "./cipher-suites.ts";
import type { ClientFlight } from "./client-flight.ts";
import { knownClientHello, readSsl2ClientHello } from "./client-hello.ts";
import type { ClientHello } from "./client-hello.ts";
import { Alert, ContentType, HandshakeType, isTls13 } from "./codes.ts";
import { CONTROL_BYTES, Hidden } from "./hidden.ts";
import { Letters } from "./letters.ts";
import { RECORD_HEADER, isRecordHeader } from "./record.ts";
import { knownServerHello, readServerKeyExchange } from "./server-hello.ts";
import type { ServerHello } from "./server-hello.ts";
import { NO_SESSION, noteSession } from "./sessions.ts";
import type { Issued, SessionNames } from "./sessions.ts";
import { CLIENT, SERVER, Side } from "./side.ts";
import { Ssl2, isSsl2Answer } from "./ssl2.ts";
import type { AlertSeen, CloseSeen, TlsTrace, Transport } from "./trace.ts";

/** Longest handshake message that is put together from several records. */
const MESSAGE_LIMIT = 256 * 1024;
/** Records of a side after its hello beyond which acceptance is no longer waited for. */
const RECORDS_LIMIT = 512;
const HISTORY_LIMIT = 60;

const NO_CLOSES: readonly CloseSeen[] = [];
/** Shared by all that are settled, and never written to. */
const NEITHER: boolean[] = [false, false];
/** Stands for the sides of a handshake of which nothing more is read. */
const SETTLED: readonly Side[] = [new Side(), new Side()];

/**
 * What both sides of one connection said in TLS. Fed with bytes in order by `read`, or by the
 * `take…` methods where datagrams carry the messages, and with the connection's ends by `close`;
 * holds facts only, `failure.ts` judges them.
 */
export class Handshake {
  readonly transport: Transport;
  clientHello: ClientHello | null = null;
  /** The one after a HelloRetryRequest, else null. */
  secondHello: ClientHello | null = null;
  serverHello: ServerHello | null = null;
  retried = false;
  ssl2Hello = false;
  /** The server answered in SSL 2.0. */
  ssl2: Ssl2 | null = null;
  group: number | null = null;
  /** Bits of the prime of DHE, and the scheme by which the server signed; TLS ≤ 1.2 and 1.2. */
  primeBits: number | null = null;
  signature: number | null = null;
  /** Null: no Certificate message seen. Empty: an empty one. TLS ≤ 1.2 only. */
  serverChain: readonly Certificate[] | null = null;
  clientChain: readonly Certificate[] | null = null;
  /** Whether that message held any, readable or not. Null: none seen. */
  clientShowed: boolean | null = null;
  /** The server asked for a certificate, in clear. */
  asked = false;
  serverHelloDone = false;
  clientKeyExchange = false;
  /** The server changed its cipher before the client did: an abbreviated handshake. */
  abbreviated = false;
  clientFinished = false;
  serverFinished = false;
  /** TLS ≤ 1.2: the session that the client offers, and the one that the server issues. */
  offered: SessionNames = NO_SESSION;
  issued: SessionNames = NO_SESSION;
  /** TLS ≤ 1.2: what the handshake showed from which the session goes on, where that was seen. */
  resumedFrom: Issued | null = null;
  /** TLS ≤ 1.2: both sides went on with handshake messages behind their Finished, encrypted. */
  renegotiated = false;
  /** TLS 1.3: how the client answered, and where that begins in its stream. */
  flight: ClientFlight = { kind: "incomplete", records: 0 };
  flightStart = -1;
  /** Offset in the client's stream behind its Finished; -1 where it was not seen. */
  finishedEnd = -1;
  alert: AlertSeen | null = null;
  /** An alert that no longer stands in clear: TLS ≤ 1.2. */
  encryptedAlert: boolean[] = [false, false];
  closes: readonly CloseSeen[] = NO_CLOSES;
  /** TLS 1.3: what has an alert's size came first behind the ServerHello. */
  refusedAtHello = false;
  /** TLS 1.3: what has an alert's size came first behind the client's Finished, then an end. */
  refusedByAlert = false;
  /** TLS 1.3: the server's records are padded to whole blocks: an alert looks like all else. */
  serverPads = false;
  /** TLS 1.3: behind the client's Finished nothing came for longer than a refusal takes. */
  waited = false;
  /** TLS 1.3: what had an alert's size behind it refused nothing, for the server stayed. */
  wasTaken = false;
  /** TLS 1.3: a record is an answer, or a KeyUpdate, or a request for a certificate after all. */
  mayAnswer: "update" | "request" | null = null;
  /** TLS 1.3: offset in the client's stream from which on it may show a certificate late, or -1. */
  lateFrom = -1;
  /** TLS 1.3: behind its Finished the client sent data; nothing but what may be alerts. */
  clientSpoke = false;
  clientLeft = false;
  /** The server's other records behind the client's Finished: tickets, answers. */
  recordsBehindFinished = 0;
  /** Reached when the server answered the client with application data. */
  answered = false;
  /** A bound of ours was reached: what stands behind it is not read. */
  isBounded = false;
  /** Bytes that are no records, or messages that contradict themselves; by side. */
  malformed: boolean[] = [false, false];

  #sides: readonly Side[] = [new Side(), new Side()];
  /** Bytes of the server's application data, in TLS ≤ 1.2; how far the client's stream was read. */
  #said = 0;
  #clientRead = 0;
  /** Over TCP, until the server answered: records of type 23, as of TLS 1.3. */
  #hidden: Hidden | null = null;
  #letters = Letters.none;
  readonly #trace: TlsTrace | null;
  /** The client's records are read on where it may yet show a certificate. */
  readonly #isPatient: boolean;

  constructor(transport: Transport = "t", trace: TlsTrace | null = null, isPatient = false) {
    this.transport = transport;
    this.#trace = trace;
    this.#isPatient = isPatient;
  }

  /** Nothing more can be learned from bytes of this side. */
  isRead(side: number): boolean {
    if (this.answered && side === CLIENT && this.#isPatient && this.lateFrom >= 0) return false;
    if (this.answered || this.malformed[side]! || this.ssl2?.isRead(side)) return true;
    if (this.#sides[side]!.records > RECORDS_LIMIT) this.isBounded = true;
    return this.isBounded;
  }

  /**
   * No more records come: their places in the streams are given up. Reports whether it may become
   * one with all that are like it (`alike.ts`): it is over, and nobody listens.
   */
  settle(): boolean {
    this.#sides = SETTLED;
    this.offered = this.issued = NO_SESSION;
    if (!this.malformed.includes(true)) this.malformed = NEITHER;
    if (!this.encryptedAlert.includes(true)) this.encryptedAlert = NEITHER;
    return this.isOver && this.#trace === null;
  }

  /** Settled, and accepted over TCP without a fault: it never changes, however the flow ends. */
  get isOver(): boolean {
    if (this.#sides !== SETTLED || this.transport !== "t" || this.serverHello === null)
      return false;
    const hasEnd = this.alert !== null || this.closes.length > 0;
    if (!this.answered || hasEnd || this.ssl2 !== null || this.renegotiated) return false;
    if (this.malformed.includes(true) || this.encryptedAlert.includes(true)) return false;
    if (this.lateFrom >= 0) return false; // the end of the flow tells
    if (!isTls13(this.serverHello.version)) return this.clientFinished && this.serverFinished;
    return this.finishedEnd >= 0 && this.flight.kind !== "alert";
  }

  note(letter: string, side: number): void {
    if (this.history.length >= HISTORY_LIMIT) return;
    // Over datagrams anything may be sent again.
    const repeats = letter === "p" || letter === "t" || this.transport !== "t";
    if (repeats && this.#letters.endsWith(letter, side === CLIENT)) return;
    this.#letters = this.#letters.and(letter, side === CLIENT);
  }

  /** What was noted, in order: a letter each, a capital where the client sent it. */
  get history(): string {
    return this.#letters.text;
  }

  /** One side ended the connection; only the first of each side and kind counts. */
  close(close: CloseSeen): void {
    if (this.isOver) return;
    if (this.closes.some((c) => c.side === close.side && c.kind === close.kind)) return;
    this.closes = [...this.closes, close];
    this.#hidden?.close(close);
  }

  /** Nobody said anything for so many milliseconds, until now. */
  pause(quietMs: number): void {
    this.#hidden?.pause(quietMs);
  }

  /**
   * Reads the records in `[at, end)`, whose first byte stands at `offset` of the side's stream.
   * `acked` is how far the segment acknowledged the other side, -1 where that is not known.
   * Returns the offset up to which bytes are not needed any more; it may lie beyond what came.
   */
  read(
    side: number,
    view: DataView,
    at: number,
    end: number,
    offset: number,
    acked: number,
  ): number {
    const own = this.#sides[side]!;
    if (side === SERVER && own.records === 0 && !this.ssl2 && isSsl2Answer(view, at, end)) {
      this.ssl2 = new Ssl2(this, this.#trace);
    }
    const isSsl2 = this.ssl2 && (side === SERVER || own.hellos > 0);
    if (isSsl2) return this.ssl2!.read(side, view, at, end, offset);
    while (!this.isRead(side)) {
      if (side === CLIENT && own.hellos === 0 && own.records === 0 && end - at >= 3) {
        const length = this.#readSsl2Hello(view, at, end);
        if (length === 0) return offset;
        if (length > 0) {
          this.#trace?.record(side, 0, view.getUint16(at + 3), length, offset, true);
          return this.read(side, view, at + length, end, offset + length, acked);
        }
      }
      if (end - at < RECORD_HEADER) return offset;
      if (!isRecordHeader(view, at)) {
        // The answer to an SSLv2-style hello tells what this is, and has not come.
        if (side === CLIENT && this.ssl2Hello && !this.serverHello) return offset;
        this.malformed[side] = true;
        return offset;
      }
      const type = view.getUint8(at);
      const length = view.getUint16(at + 3);
      const behind = at + RECORD_HEADER + length;
      const inClear = this.#isClear(own, type, length);
      if (inClear && behind > end) return offset;
      this.#trace?.record(side, type, view.getUint16(at + 1), length, offset, inClear);
      offset += RECORD_HEADER + length;
      if (side === CLIENT) this.#clientRead = offset;
      own.records++;
      const isFlight = side === CLIENT && this.serverHello !== null && this.flightStart < 0;
      if (isFlight) this.flightStart = offset - RECORD_HEADER - length;
      if (inClear) this.#takeClear(own, side, type, view, at + RECORD_HEADER, behind);
      else this.takeEncrypted(side, type, length, offset, acked);
      if (behind > end) return offset;
      at = behind;
    }
    return offset;
  }

  /** Length of an SSLv2-style hello at `at`, 0 while it is incomplete, -1 when it is none. */
  #readSsl2Hello(view: DataView, at: number, end: number): number {
    const head = view.getUint16(at);
    if ((head & 0x8000) === 0 || view.getUint8(at + 2) !== 1) return -1;
    const length = head & 0x7fff;
    if (end - at < 2 + length) return 0;
    const hello = readSsl2ClientHello(new Cursor(view, at + 3, at + 2 + length));
    if (!hello) return -1;
    this.clientHello = hello;
    this.ssl2Hello = true;
    this.#sides[CLIENT]!.hellos++;
    this.#sides[CLIENT]!.records++;
    this.note("c", CLIENT);
    return 2 + length;
  }

  get #is13(): boolean {
    return this.serverHello !== null && isTls13(this.serverHello.version);
  }

  /** Reports whether a record's body can be read. */
  #isClear(own: Side, type: number, length: number): boolean {
    switch (type) {
      case ContentType.changeCipherSpec:
        return true;
      case ContentType.handshake:
        return !own.changedCipher || this.#is13;
      case ContentType.alert:
        return length === 2; // an encrypted alert is longer by its MAC
      default:
        return false;
    }
  }

  #takeClear(own: Side, side: number, type: number, view: DataView, at: number, end: number): void {
    if (type === ContentType.changeCipherSpec) this.changeCipher(side);
    else if (type === ContentType.alert) {
      this.takeAlert(side, view.getUint8(at), view.getUint8(at + 1));
    } else this.#takeMessages(own, side, view, at, end);
  }

  /** The side's next records are protected by what was negotiated. */
  changeCipher(side: number): void {
    if (this.#is13 || this.retried) return; // compatibility only (RFC 8446 §D.4)
    const own = this.#sides[side]!;
    if (own.changedCipher) return;
    own.changedCipher = true;
    if (side === SERVER && !this.#sides[CLIENT]!.changedCipher && !this.serverHelloDone) {
      this.abbreviated = this.serverHello !== null;
    }
    this.note("g", side);
  }

  /** An alert in clear. */
  takeAlert(side: number, level: number, code: number): void {
    this.note("l", side);
    this.#trace?.alert(side, level, code);
    // The other side's end of the stream, read as a message that is too short: no cause of its own.
    const isEcho = code === Alert.decodeError && this.closes.some((c) => c.side !== side);
    if (isEcho) return;
    // A warning does not end a handshake; close_notify says only that a side leaves.
    const counts = code !== 0 && (level === 2 || this.alert === null);
    if (counts && (this.alert === null || this.alert.level === 1)) {
      this.alert = { side, level, code };
    }
  }

  /** TLS 1.3 over datagrams: both sides went on to application data behind their Finished. */
  finish(): void {
    this.finishedEnd = 0;
  }

  /** Splits a record's payload into handshake messages, which may span records (RFC 8446 §5.1). */
  #takeMessages(own: Side, side: number, view: DataView, at: number, end: number): void {
    if (own.partial) {
      const wanted = own.partial.length - own.partialLength;
      const took = Math.min(wanted, end - at);
      const source = new Uint8Array(view.buffer, view.byteOffset + at, took);
      own.partial.set(source, own.partialLength);
      own.partialLength += took;
      if (own.partialLength < own.partial.length) return;
      const whole = own.partial;
      own.partial = null;
      if (whole.length === 4) {
        // Only the header was split: now the message's length is known.
        const length = new DataView(whole.buffer).getUint32(0) & 0xffffff;
        if (length > 0) this.#keepPartial(own, whole, length);
        else this.takeMessage(side, new DataView(whole.buffer), 0, 4);
      } else this.takeMessage(side, new DataView(whole.buffer), 0, whole.length);
      if (end > at + took) this.#takeMessages(own, side, view, at + took, end);
      return;
    }
    while (at < end) {
      const left = end - at;
      const length = left < 4 ? 0 : view.getUint32(at) & 0xffffff;
      if (left < 4 || length + 4 > left) {
        const bytes = new Uint8Array(view.buffer, view.byteOffset + at, left);
        if (left < 4) {
          own.partial = new Uint8Array(4);
          own.partial.set(bytes);
          own.partialLength = left;
        } else this.#keepPartial(own, bytes, length);
        return;
      }
      this.takeMessage(side, view, at, at + 4 + length);
      at += 4 + length;
    }
  }

  #keepPartial(own: Side, bytes: Uint8Array, length: number): void {
    if (length > MESSAGE_LIMIT) {
      this.isBounded = true;
      return;
    }
    own.partial = new Uint8Array(4 + length);
    own.partial.set(bytes);
    own.partialLength = bytes.length;
  }

  /** Reads one whole handshake message, header included. */
  takeMessage(side: number, view: DataView, at: number, end: number): void {
    const type = view.getUint8(at);
    const c = new Cursor(view, at + 4, end);
    this.#trace?.message(side, view, at, end);
    if (!this.#is13 && this.transport !== "q") noteSession(this, side, view, at, end);
    if (side === CLIENT) this.#takeClientMessage(type, c);
    else this.#takeServerMessage(type, c);
  }

  #takeClientMessage(type: number, c: Cursor): void {
    switch (type) {
      case HandshakeType.clientHello: {
        const hello = knownClientHello(c);
        if (!hello) {
          this.malformed[CLIENT] = true;
          return;
        }
        this.#sides[CLIENT]!.hellos++;
        this.note("c", CLIENT);
        if (!this.clientHello) this.clientHello = hello;
        else if (this.retried && !this.secondHello) {
          this.secondHello = hello;
          this.#hidden?.restart();
        }
        return;
      }
      case HandshakeType.certificate:
        this.note("x", CLIENT);
        this.clientShowed = !isEmptyChain(c);
        this.clientChain = readChain(c);
        return;
      case HandshakeType.clientKeyExchange:
        this.note("k", CLIENT);
        this.clientKeyExchange = true;
        return;
      case HandshakeType.certificateVerify:
        this.note("v", CLIENT);
        return;
    }
  }

  #takeServerMessage(type: number, c: Cursor): void {
    switch (type) {
      case HandshakeType.serverHello: {
        const hello = knownServerHello(c);
        if (!hello) {
          this.malformed[SERVER] = true;
          return;
        }
        if (hello.isHelloRetryRequest) {
          this.note("j", SERVER);
          this.retried = true;
          this.group = hello.group;
          return;
        }
        this.note("s", SERVER);
        this.serverHello ??= hello;
        if (hello.group !== null) this.group = hello.group;
        if (isTls13(hello.version)) this.#hidden?.judge();
        else this.#hidden = null;
        return;
      }
      case HandshakeType.certificate:
        this.note("x", SERVER);
        this.serverChain = readChain(c);
        return;
      case HandshakeType.serverKeyExchange: {
        this.note("k", SERVER);
        const { cipherSuite = -1, version = 0 } = this.serverHello ?? {};
        const read = readServerKeyExchange(c, CIPHER_SUITES.get(cipherSuite) ?? "", version);
        this.group = read?.group ?? null;
        this.primeBits = read?.primeBits ?? null;
        this.signature = read?.signature ?? null;
        return;
      }
      case HandshakeType.certificateRequest:
        this.note("q", SERVER);
        this.asked = true;
        return;
      case HandshakeType.serverHelloDone:
        this.note("d", SERVER);
        this.serverHelloDone = true;
        return;
      case HandshakeType.newSessionTicket:
        this.note("t", SERVER);
        return;
    }
  }

  /** Takes an encrypted record: its type, its length, and where it ends in the stream. */
  takeEncrypted(
    side: number,
    type: number,
    length: number,
    recordEnd: number,
    acked: number,
  ): void {
    const own = this.#sides[side]!;
    if (type === ContentType.handshake) {
      own.encryptedHandshakes++;
      this.note("e", side);
      if (side === CLIENT) {
        this.clientFinished = true;
        if (this.finishedEnd < 0) this.finishedEnd = recordEnd;
      } else this.serverFinished = true;
      // One side alone may say more before its Finished (NPN), or ask in vain.
      const isAgain = this.transport === "t" && this.#sides.every((s) => s.encryptedHandshakes > 1);
      if (isAgain) this.renegotiated = true;
      return;
    }
    if (type === ContentType.alert) {
      this.encryptedAlert[side] = true;
      this.note("l", side);
      return;
    }
    if (type !== ContentType.applicationData) return;
    own.applicationRecords++;
    this.note("p", side);
    if (this.#is13 || this.serverHello === null) this.#takeHidden(side, length, recordEnd, acked);
    else if (side === SERVER && this.finishedEnd >= 0) this.#takeAnswer(length, acked);
  }

  /** TLS 1.3, or before it is known: sizes and order are all that is left to see. */
  #takeHidden(side: number, length: number, recordEnd: number, acked: number): void {
    if (this.transport !== "t") return;
    this.#hidden ??= new Hidden(this, this.#trace);
    if (side === CLIENT) this.#hidden.takeClient(length, recordEnd, acked);
    else this.#hidden.takeServer(length, acked, this.#clientRead);
    if (this.isRead(CLIENT)) this.#hidden = null; // a flow that lives on keeps little
  }

  /** TLS ≤ 1.2: application data of the server's behind the client's Finished. */
  #takeAnswer(length: number, acked: number): void {
    if (acked >= 0 && acked < this.finishedEnd) {
      this.#trace?.answer("early", length, acked, this.finishedEnd);
      return;
    }
    const isControl = this.serverHello!.alpn === "h2" && (this.#said += length) <= CONTROL_BYTES;
    const isHeard = acked >= 0 || this.#sides[CLIENT]!.applicationRecords > 0;
    const kind = isControl ? "control" : isHeard ? "answer" : "ticket";
    this.#trace?.answer(kind, length, acked, this.finishedEnd);
    this.recordsBehindFinished++;
    this.answered = kind === "answer";
  }
}
