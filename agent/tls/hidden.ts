/**
 * Follows what TLS 1.3 leaves to be seen behind the ServerHello: sizes of records, their order, and
 * how far the segments that carried them acknowledge the other side.
 *
 *     client   flight … Finished | data …                       its sizes: `client-flight.ts`
 *     server   flight … Finished | burst of tickets | answer …  only what is no ticket, no alert
 *                                                                and acknowledges data is an answer
 *
 * Tickets may come at any time behind the client's Finished (RFC 8446 §4.6.1), and have any size:
 * they hold what the client's certificate was. They come first, and where there are several in
 * records of their own, those are of one size, or of one block of a cipher more.
 */
import { CIPHER_SUITES } from "./cipher-suites.ts";
import type { ClientHello } from "./client-hello.ts";
import {
  JAVA_PADDING,
  finishedLength,
  isAlertSized,
  mayBePadded,
  readClientFlight,
} from "./client-flight.ts";
import type { ClientFlight } from "./client-flight.ts";
import { Extension } from "./codes.ts";
import type { ServerHello } from "./server-hello.ts";
import type { AnswerKind, CloseSeen, TlsTrace } from "./trace.ts";

/** Encrypted lengths of the client that are kept: early data, then its flight. */
const LENGTHS_LIMIT = 64;
/** Those of the server's flight. */
const FLIGHT_LIMIT = 16;
/**
 * The smallest ticket in a record: 17 of the record, 18 of the message's fields (RFC 8446 §4.6.1),
 * 16 of an identifier. Measured: 74 (OpenSSL, stateful), 98 (rustls, one ticket).
 */
const TICKET_MINIMUM = 51;
/**
 * To a client that offers no psk_key_exchange_modes none should be sent (RFC 8446 §4.2.9). Those
 * who do so all the same send 209 bytes and more (measured: OpenSSL 3.0, GnuTLS 3.7, wolfSSL 5.5),
 * or 74 where OpenSSL keeps its sessions itself.
 */
const UNASKED_TICKET_MINIMUM = 200;
const UNASKED_STATEFUL = 74;
/** Tickets of one handshake differ by a block of the cipher, if they differ (measured, OpenSSL). */
const TICKET_BLOCK = 16;
/** The smallest request for a certificate later (RFC 8446 §4.3.2): one signature scheme in it. */
const REQUEST_MINIMUM = 4 + 1 + 2 + 8 + 17;
/** Nobody sends so many tickets in records of their own: data in full records looks like that. */
const BURST_LIMIT = 16;
/** Content type and tag around the 5 bytes of a KeyUpdate (RFC 8446 §4.6.3). */
const KEY_UPDATE = 22;
/** A record of a joined flight is larger than any message before the Certificate. */
const JOINED_MINIMUM = 200;
/**
 * Milliseconds within which a server refuses a flight: later it closes for other reasons. Measured:
 * 230 at most (a Java machine that was just started), 300 for one that waited for nothing.
 */
export const PROMPT_MS = 250;

/** What is told of the exchange: the fields of `Handshake` that are filled. */
export type HiddenFacts = {
  readonly clientHello: ClientHello | null;
  readonly secondHello: ClientHello | null;
  readonly serverHello: ServerHello | null;
  readonly closes: readonly CloseSeen[];
  flight: ClientFlight;
  flightStart: number;
  finishedEnd: number;
  answered: boolean;
  refusedAtHello: boolean;
  refusedByAlert: boolean;
  recordsBehindFinished: number;
  serverPads: boolean;
  wasTaken: boolean;
  mayAnswer: boolean;
  lateFrom: number;
  clientSpoke: boolean;
  clientLeft: boolean;
};

export class Hidden {
  readonly #facts: HiddenFacts;
  readonly #trace: TlsTrace | null;
  /** Lengths of the client's records, and where they end in its stream. */
  #lengths: number[] = [];
  #ends: number[] = [];
  #clientRecords = 0;
  #clientEnd = 0;
  /** Lengths of the server's first records. */
  readonly #served: number[] = [];
  /**
   * Records beyond the server's flight that came before the client's Finished was acknowledged, and
   * the length that all of them have, -1 where they differ.
   */
  #early = 0;
  #earlyLength = 0;
  /** A segment acknowledged the client's Finished; one, what the client said behind it. */
  #isBehind = false;
  #isSpokenTo = false;
  /** Where the client's first record ends that it sent when its Finished was acknowledged. */
  #nextEnd = Infinity;
  /** The length of the first record that may hold tickets. */
  #burst = 0;
  #burstRecords = 0;
  /** Behind the burst came what may be an answer, or a padded alert, or a late request. */
  #isPending = false;
  /** Behind its Finished the client sent what may be another one: it showed a certificate late. */
  #mayHaveShown = false;
  #mayUpdateKeys = false;
  /** Alert-sized records that came first behind the Finished, and may refuse the flight. */
  #alerts = 0;
  #isRefusing = false;

  constructor(facts: HiddenFacts, trace: TlsTrace | null) {
    this.#facts = facts;
    this.#trace = trace;
  }

  /** A second hello follows: what came before it was early data. */
  restart(): void {
    this.#lengths = [];
    this.#ends = [];
  }

  /** Nobody said anything for so many milliseconds, until now. */
  pause(quietMs: number): void {
    if (quietMs < PROMPT_MS) return;
    // Who refuses a flight leaves at once.
    this.#isRefusing = false;
    if (this.#facts.finishedEnd >= 0) this.#facts.wasTaken = true;
  }

  /** A record of type 23 of the client's, which ends at `end`; see `Handshake.read` for `acked`. */
  takeClient(length: number, end: number, acked: number): void {
    const facts = this.#facts;
    this.#clientRecords++;
    this.#clientEnd = end;
    if (facts.answered) {
      const isShown = this.#isFinished(length) || this.#clientRecords > LENGTHS_LIMIT;
      facts.lateFrom = isShown ? -1 : end;
      return;
    }
    // What acknowledges nothing of the server's was sent before its hello: early data.
    if (acked === 0 && this.#offersEarlyData) return;
    if (this.#isBehind && !isAlertSized(length)) this.#nextEnd = Math.min(this.#nextEnd, end);
    if (this.#lengths.length >= LENGTHS_LIMIT) return;
    this.#lengths.push(length);
    this.#ends.push(end);
    if (facts.serverHello !== null) this.judge();
  }

  get #offersEarlyData(): boolean {
    const { clientHello, secondHello } = this.#facts;
    return secondHello === null && (clientHello?.offersEarlyData ?? false);
  }

  get #hashBytes(): number {
    const suite = CIPHER_SUITES.get(this.#facts.serverHello!.cipherSuite) ?? "";
    return suite.endsWith("SHA384") ? 48 : 32;
  }

  /** Judges the client's flight anew, from what has come of it. */
  judge(): void {
    const facts = this.#facts;
    const hello = facts.secondHello ?? facts.clientHello;
    const offers = {
      earlyData: this.#offersEarlyData,
      settings: hello?.offersSettings ?? false,
      psk: facts.serverHello!.selectsPsk,
    };
    const wasTaken = facts.flight.kind === "presented";
    const flight = readClientFlight(this.#lengths, this.#hashBytes, offers);
    // The server went on behind it: then it was whole.
    const isTaken = wasTaken && flight.kind === "certificate";
    facts.flight = isTaken ? { ...flight, kind: "presented" } : flight;
    this.#trace?.flight(this.#lengths, this.#hashBytes, offers, facts.flight);
    if (this.#lengths.length > 0) facts.flightStart = this.#ends[0]! - this.#lengths[0]! - 5;
    if (flight.records > 0) this.#finish(this.#ends[flight.records - 1]!);
    else if (flight.kind !== "padded" || facts.finishedEnd < 0) facts.finishedEnd = -1;
    else this.#finish(facts.finishedEnd);
  }

  /** The client's Finished ends there: what it said behind it. */
  #finish(end: number): void {
    const facts = this.#facts;
    facts.finishedEnd = end;
    const later = this.#lengths.slice(this.#ends.indexOf(end) + 1);
    this.#mayHaveShown = later.some((n) => this.#isFinished(n));
    this.#mayUpdateKeys = later.includes(KEY_UPDATE);
    facts.clientSpoke =
      later.some((n) => !this.#mayAlert(n)) || this.#clientRecords > LENGTHS_LIMIT;
    facts.clientLeft = later.length > 0 && !facts.clientSpoke;
  }

  /**
   * Where padding hides the client's Finished: it has come when the server goes on behind its own,
   * with what is no alert, and has all that the client said.
   */
  #endsPadded(length: number, acked: number): boolean {
    const { flight, finishedEnd, serverPads } = this.#facts;
    if (flight.kind !== "padded" || finishedEnd >= 0 || serverPads || this.#early > 0) return false;
    return length >= TICKET_MINIMUM && acked >= this.#ends.at(-1)! && this.#isServed;
  }

  /** The server's own Finished stands in a record before its last one. */
  get #isServed(): boolean {
    return this.#served.slice(0, -1).some((n) => this.#isFinished(n));
  }

  /** Reports whether a record has the size of a Finished alone: bare, or as Java pads it. */
  #isFinished(length: number): boolean {
    const finished = finishedLength(this.#hashBytes);
    return length === finished || length === finished + JAVA_PADDING;
  }

  /** Reports whether a record of the client's behind its flight may be an alert. */
  #mayAlert(length: number): boolean {
    if (!isAlertSized(length)) return false;
    const last = this.#lengths[this.#facts.flight.records - 1];
    // Only who padded its Finished by 16 pads an alert so; of a joined flight it is not known.
    return length < JAVA_PADDING + 19 || last !== finishedLength(this.#hashBytes);
  }

  /** A record of type 23 of the server's. */
  takeServer(length: number, acked: number): void {
    const facts = this.#facts;
    this.#notePadding(length);
    if (facts.serverHello === null) return;
    if (this.#endsPadded(length, acked)) this.#finish(this.#ends.at(-1)!);
    if (facts.finishedEnd < 0) {
      this.#noteEarly(length);
      // EncryptedExtensions is larger, even empty: 4 + 2 + 17 (RFC 8446 §4.3.1).
      const isFirst = this.#served.length === 1 && this.#lengths.length === 0;
      if (isFirst && isAlertSized(length)) facts.refusedAtHello = true;
      return;
    }
    const kind = this.#weigh(length, acked);
    this.#trace?.answer(kind, length, acked, facts.finishedEnd);
    if (kind === "early") {
      this.#noteEarly(length);
      return;
    }
    this.#acknowledge();
    if (kind === "alert" && facts.recordsBehindFinished === 0) {
      this.#alerts++;
      // Java says that it was cancelled before it closes in peace; of two to who has spoken, the
      // first may be an answer of two bytes.
      const isPeace = this.#alerts > 1 && (length !== 19 || this.#isSpokenTo);
      if (isPeace && length !== 19) facts.wasTaken = true;
      const clientStays = !facts.clientLeft && !facts.closes.some((c) => c.side === 0);
      this.#isRefusing = clientStays && !isPeace && !facts.wasTaken;
      return;
    }
    this.#isRefusing = false;
    if (kind === "alert") return;
    facts.recordsBehindFinished++;
    facts.answered = kind === "answer";
    if (!this.#isAskable || this.#mayHaveShown) return;
    facts.mayAnswer = this.#isPending;
    facts.lateFrom = this.#clientEnd;
  }

  /** The server took what it has of the client's flight, or refused it: that was all of it. */
  #acknowledge(): void {
    const { flight, clientLeft } = this.#facts;
    if (flight.kind === "certificate" && !clientLeft) {
      this.#facts.flight = { ...flight, kind: "presented" };
    }
  }

  /** One side ended the connection. */
  close(close: CloseSeen): void {
    this.pause(close.waitedMs);
    const facts = this.#facts;
    if (this.#isRefusing) facts.refusedByAlert = true;
    const isFirst = facts.closes.length === 1;
    if (isFirst && close.side === 1 && close.acked >= facts.finishedEnd) this.#acknowledge();
  }

  #notePadding(length: number): void {
    const { serverPads } = this.#facts;
    const isFirst = this.#served.length === 0;
    this.#facts.serverPads = (isFirst || serverPads) && mayBePadded(length);
    if (this.#served.length < FLIGHT_LIMIT) this.#served.push(length);
  }

  /** Counts what comes beyond the server's own Finished: half-RTT data, or a ticket. */
  #noteEarly(length: number): void {
    if (!this.#isServed || length < TICKET_MINIMUM) return;
    if (this.#early++ === 0) this.#earlyLength = length;
    else if (length !== this.#earlyLength) this.#earlyLength = -1;
  }

  /**
   * Where they asked for no certificate Go and GnuTLS send their tickets behind their flights,
   * which are of single messages: one record, or two of one size. What comes next is no ticket.
   */
  get #hasEarlyTicket(): boolean {
    // To early data a server may answer there.
    const isTicket = this.#earlyLength > 0 && this.#early <= 2 && !this.#offersEarlyData;
    return isTicket && this.#facts.flight.kind === "none" && this.#served[0]! < JOINED_MINIMUM;
  }

  #weigh(length: number, acked: number): AnswerKind {
    const { finishedEnd, serverPads } = this.#facts;
    if (acked >= 0 && acked < finishedEnd) return "early";
    this.#isBehind = true;
    // A server that speaks before it has the Finished may go on for a while without having it.
    const isNext = this.#early === 0 || this.#hasEarlyTicket || acked >= this.#nextEnd;
    // What filled a gap acknowledges more than it carried: then what the client had said counts.
    const isBeyond = acked < 0 || acked > finishedEnd;
    this.#isSpokenTo ||= isBeyond && this.#facts.clientSpoke && isNext;
    if (!serverPads && this.#mayRefuse(length)) return "alert";
    if (this.#mayBeTicket(length) || !this.#isSpokenTo) return "ticket";
    if (length === KEY_UPDATE && this.#mayUpdateKeys) return "ticket"; // it was asked for
    // A padded record may be an alert, which ends the stream; a late request waits for the client.
    const isDoubtful = serverPads || (this.#isAskable && length >= REQUEST_MINIMUM);
    const isAnswered = !isDoubtful || this.#isPending;
    this.#isPending = true;
    return isAnswered ? "answer" : "ticket";
  }

  /** Reports whether a record of the server's may be an alert. */
  #mayRefuse(length: number): boolean {
    if (!isAlertSized(length)) return false;
    return length < JAVA_PADDING + 19 || !this.#served.includes(finishedLength(this.#hashBytes));
  }

  /** Reports whether a record may hold tickets: the first burst, whose records are of one size. */
  #mayBeTicket(length: number): boolean {
    if (length < TICKET_MINIMUM || this.#isPending) return false;
    if (this.#burst === 0 && (this.#hasEarlyTicket || this.#isUnasked(length))) return false;
    if (this.#burst === 0) this.#burst = length;
    if (this.#burstRecords++ >= BURST_LIMIT) return false;
    const difference = Math.abs(length - this.#burst);
    return difference === 0 || difference === TICKET_BLOCK;
  }

  /** The client wants no tickets, and nobody sends one of that size to such a client. */
  #isUnasked(length: number): boolean {
    if (this.#offers(Extension.pskKeyExchangeModes)) return false;
    return length < UNASKED_TICKET_MINIMUM && length !== UNASKED_STATEFUL;
  }

  /** The client showed no certificate yet, and lets itself be asked for one later. */
  get #isAskable(): boolean {
    return this.#facts.flight.kind === "none" && this.#offers(Extension.postHandshakeAuth);
  }

  /** An extension of the client's hello; where none was seen it may have offered any. */
  #offers(extension: number): boolean {
    return this.#facts.clientHello?.extensions.includes(extension) ?? true;
  }
}
