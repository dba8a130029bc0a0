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
import { mayBeAskedLater, mayOffer } from "./client-hello.ts";
import type { ClientHello } from "./client-hello.ts";
import {
  BARE_ALERT,
  JAVA_PADDING,
  RECORD_OVERHEAD,
  commonBlock,
  finishedLength,
  isAlertSized,
  isPadding,
  readClientFlight,
} from "./client-flight.ts";
import type { ClientFlight } from "./client-flight.ts";
import { Extension } from "./codes.ts";
import type { ServerHello } from "./server-hello.ts";
import { TICKET_MINIMUM, Tickets } from "./tickets.ts";
import type { AnswerKind, CloseSeen, TlsTrace } from "./trace.ts";

/** Encrypted lengths of the client that are kept: early data, then its flight. */
const LENGTHS_LIMIT = 64;
/** Those of the server's flight. */
const FLIGHT_LIMIT = 16;
/**
 * To a client that offers no psk_key_exchange_modes none should be sent (RFC 8446 §4.2.9). Those
 * who do so all the same send 209 bytes and more (measured: OpenSSL 3.0, GnuTLS 3.7, wolfSSL 5.5),
 * or 74 and 82 where OpenSSL keeps its sessions itself, without and with early data.
 */
const UNASKED_TICKET_MINIMUM = 200;
const UNASKED_STATEFUL: ReadonlySet<number> = new Set([74, 82]);
/** The smallest request for a certificate later (RFC 8446 §4.3.2): one signature scheme in it. */
const REQUEST_MINIMUM = 4 + 1 + 2 + 8 + 17;
/** Requests that name no authority lie between (measured: 94 and 98, OpenSSL). */
const REQUEST_USUAL = { from: 60, to: 140 } as const;
/** Content type and tag around the 5 bytes of a KeyUpdate (RFC 8446 §4.6.3). */
const KEY_UPDATE = 22;
/**
 * What a server of HTTP/2 says of itself and of the connection, in bytes, before and instead of an
 * answer: SETTINGS of all six, its acknowledgment, WINDOW_UPDATE, PING, RST_STREAM, and GOAWAY
 * without words of its own (RFC 9113 §6): 114. Measured: 62 (nginx 1.22), 60 (haproxy 2.6), 55
 * (ztunnel).
 */
export const CONTROL_BYTES = 115;
/** TLS_AES_128_CCM_8_SHA256, whose tag is 8 bytes shorter than all others' (RFC 6655 §6.1). */
const CCM_8 = 0x1305;
/** What a client says at least that is asked for its certificate later, in a record or three. */
const LATE_MINIMUM = 8 + 36 + 17;
/** A record of a joined flight is larger than any message before the Certificate. */
const JOINED_MINIMUM = 200;
/**
 * Milliseconds within which a server that closes refuses a flight: later it may have other reasons.
 * Measured: 230 at most (a Java machine that was just started), 300 for who waited for nothing.
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
  waited: boolean;
  wasTaken: boolean;
  mayAnswer: "update" | "request" | null;
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
  /** Bytes of the suite's hash, once it is known. */
  #hash = 0;
  /** Where the Finished ends that padding hides; -1 where that is not known. */
  #paddedEnd = -1;
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
  #tickets = new Tickets();
  /** What all records of the server's have in common as a block of padding. */
  #block = 0;
  /** Bytes of what may be answers. */
  #said = 0;
  /** Behind the burst came what may be an answer, a padded alert, a KeyUpdate, a late request. */
  #isPending = false;
  /** The client said something since. */
  #isReplied = false;
  /** Behind its Finished the client sent what may be another one: it showed a certificate late. */
  #mayHaveShown = false;
  #mayUpdateKeys = false;
  /** Alert-sized records that came first behind the Finished, and may refuse the flight. */
  #alerts = 0;
  #isRefusing = false;
  #isAcknowledged = false;

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
    const facts = this.#facts;
    if (quietMs < PROMPT_MS || facts.finishedEnd < 0) return;
    facts.waited = true;
    // Who refuses a flight leaves at once: what came was no alert.
    this.#isRefusing = false;
    if (this.#alerts > 0) facts.wasTaken = true;
  }

  /** A record's length as if its tag were that of all other suites. */
  #evened(length: number): number {
    return this.#facts.serverHello?.cipherSuite === CCM_8 ? length + 8 : length;
  }

  /** A record of type 23 of the client's, which ends at `end`; see `Handshake.read` for `acked`. */
  takeClient(told: number, end: number, acked: number): void {
    const facts = this.#facts;
    const length = this.#evened(told);
    this.#clientRecords++;
    this.#clientEnd = end;
    this.#isReplied = true;
    // To who may have shown a certificate by now, tickets may come anew.
    if (this.#isPending && this.#isAskable && length >= LATE_MINIMUM) {
      this.#tickets = new Tickets();
      this.#isPending = false;
    }
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
    if (this.#hash > 0) return this.#hash;
    const suite = CIPHER_SUITES.get(this.#facts.serverHello!.cipherSuite) ?? "";
    return (this.#hash = suite.endsWith("SHA384") ? 48 : 32);
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
    const flight = readClientFlight(this.#lengths, this.#hashBytes, offers);
    // The server went on behind it: then it was whole. One record alone may be padded.
    const isWhole =
      flight.kind === "certificate" && this.#isAcknowledged && this.#lengths.length > 1;
    facts.flight = isWhole ? { ...flight, kind: "presented" } : flight;
    this.#trace?.flight(this.#lengths, this.#hashBytes, offers, facts.flight);
    if (this.#lengths.length > 0) facts.flightStart = this.#ends[0]! - this.#lengths[0]! - 5;
    const last = flight.kind === "padded" ? this.#paddedEnd : this.#ends[flight.records - 1];
    if (last !== undefined && last >= 0) this.#finish(last);
    else facts.finishedEnd = -1;
  }

  /** The client's Finished ends there: what it said behind it. */
  #finish(end: number): void {
    const facts = this.#facts;
    facts.finishedEnd = end;
    this.#mayHaveShown = this.#mayUpdateKeys = false;
    facts.clientSpoke = this.#clientRecords > LENGTHS_LIMIT;
    const later = this.#ends.indexOf(end) + 1;
    for (let i = later; i < this.#lengths.length; i++) {
      const length = this.#lengths[i]!;
      this.#mayHaveShown ||= this.#isFinished(length);
      this.#mayUpdateKeys ||= length === KEY_UPDATE || length === KEY_UPDATE + JAVA_PADDING;
      facts.clientSpoke ||= !this.#mayAlert(length);
    }
    facts.clientLeft = later < this.#lengths.length && !facts.clientSpoke;
  }

  /**
   * Where padding hides, or may hide, the client's Finished: it has come when the server goes on
   * behind its own, with what is no alert, and has all that the client said.
   */
  #noteEnd(length: number, acked: number): void {
    const { flight, serverPads } = this.#facts;
    const mayPad = flight.kind === "padded" || flight.kind === "certificate";
    if (!mayPad || this.#paddedEnd >= 0 || serverPads || this.#early > 0) return;
    const end = this.#ends[this.#ends.length - 1]!;
    if (length < TICKET_MINIMUM || acked < end || !this.#isServed) return;
    this.#paddedEnd = end;
    if (flight.kind === "padded") this.#finish(end);
  }

  /** The server's own Finished stands in a record before its last one. */
  get #isServed(): boolean {
    for (let i = 0; i < this.#served.length - 1; i++) {
      if (this.#isFinished(this.#served[i]!)) return true;
    }
    return false;
  }

  get #paddedFinished(): number {
    return finishedLength(this.#hashBytes) + JAVA_PADDING;
  }

  /** Reports whether a record has the size of a Finished alone: bare, or as Java pads it. */
  #isFinished(length: number): boolean {
    return length === finishedLength(this.#hashBytes) || length === this.#paddedFinished;
  }

  /** Reports whether a record of the client's behind its flight may be an alert. */
  #mayAlert(length: number): boolean {
    if (!isAlertSized(length)) return false;
    const last = this.#lengths[this.#facts.flight.records - 1];
    // Only who padded its Finished by 16 pads an alert so; of a joined flight it is not known.
    return length === BARE_ALERT || last !== finishedLength(this.#hashBytes);
  }

  /** A record of type 23 of the server's; of the client so much was read by then. */
  takeServer(told: number, acked: number, clientRead: number): void {
    const facts = this.#facts;
    if (facts.serverHello === null) return;
    const length = this.#evened(told);
    this.#notePadding(length);
    this.#noteEnd(length, acked);
    if (facts.finishedEnd < 0) {
      // Captured before what it acknowledges: it may well stand behind the Finished.
      if (acked <= clientRead) this.#noteEarly(length);
      // EncryptedExtensions is larger than an alert, even empty: 4 + 2 + 17 (RFC 8446 §4.3.1);
      // where it has the size of a padded one, more follows.
      const isAlone = this.#served.length === 1 && this.#lengths.length === 0;
      facts.refusedAtHello = isAlone && isAlertSized(length);
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
      const isPeace = this.#alerts > 1 && (length !== BARE_ALERT || this.#isSpokenTo);
      if (isPeace && length !== BARE_ALERT) facts.wasTaken = true;
      const clientStays = !facts.clientLeft && !facts.closes.some((c) => c.side === 0);
      // What Java pads so is an alert only of who was seen to pad; else it may be an answer.
      const isSure = length === BARE_ALERT || this.#served.includes(this.#paddedFinished);
      if (!isSure) facts.waited = true;
      this.#isRefusing = clientStays && !isPeace && !facts.waited;
      return;
    }
    this.#isRefusing = false;
    if (kind === "alert") {
      // Who asks for a certificate waits for it: what came before a close was an answer.
      facts.answered = this.#isPending && !this.#isReplied && this.#isAskable;
      return;
    }
    facts.recordsBehindFinished++;
    facts.answered = kind === "answer";
    if (this.#isAskable && !this.#mayHaveShown) facts.lateFrom = this.#clientEnd;
  }

  /** The server took what it has of the client's flight, or refused it: that was all of it. */
  #acknowledge(): void {
    this.#isAcknowledged ||= !this.#facts.clientLeft;
    if (this.#facts.flight.kind === "certificate") this.judge();
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
    this.#block = commonBlock(this.#block, length);
    this.#facts.serverPads = isPadding(this.#block);
    if (this.#facts.finishedEnd < 0) {
      this.#tickets.learn(this.#served[this.#served.length - 1] ?? 0, length);
    }
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
    // To early data a server may answer there. Go's is of 139 to 163 bytes (measured, 1.19 to
    // 1.26), and larger where it resumes the session of a client that showed a certificate.
    const most = this.#facts.serverHello!.selectsPsk ? Infinity : 180;
    const isGo = this.#early === 1 && this.#earlyLength >= 130 && this.#earlyLength <= most;
    const isPair = this.#early === 2 && this.#earlyLength > 0;
    const isTicket = (isGo || isPair) && !this.#offersEarlyData;
    return isTicket && this.#facts.flight.kind === "none" && this.#served[0]! < JOINED_MINIMUM;
  }

  #weigh(length: number, acked: number): AnswerKind {
    const { finishedEnd, serverPads } = this.#facts;
    if (acked >= 0 && acked < finishedEnd) return "early";
    this.#isBehind = true;
    // A server that speaks before it has the Finished may go on for a while without having it.
    const isAnswered = acked < 0 ? this.#nextEnd < Infinity : acked >= this.#nextEnd;
    const isNext = this.#early === 0 || this.#hasEarlyTicket || isAnswered;
    // What filled a gap acknowledges more than it carried: then what the client had said counts.
    const isBeyond = acked < 0 || acked > finishedEnd;
    this.#isSpokenTo ||= isBeyond && this.#facts.clientSpoke && isNext;
    if (!serverPads && this.#mayRefuse(length)) return "alert";
    if (this.#mayBeTicket(length) || !this.#isSpokenTo) return "ticket";
    this.#said += length - RECORD_OVERHEAD;
    if (this.#said <= CONTROL_BYTES && this.#mayBeHttp2) return "control";
    const isRequest = this.#isAskable && length >= REQUEST_MINIMUM;
    // Who showed a certificate late is sent tickets anew.
    if (isRequest && this.#mayHaveShown) return "control";
    // A padded record may be an alert, which ends the stream; a late request waits for the client.
    const isPadded = length === KEY_UPDATE + JAVA_PADDING;
    if (isPadded && !this.#served.includes(finishedLength(this.#hashBytes))) return "control";
    const isUpdate = length === KEY_UPDATE;
    const isDoubtful = serverPads || isUpdate || isRequest;
    if (!isDoubtful || (this.#isPending && !(isUpdate && this.#mayUpdateKeys))) return "answer";
    this.#isPending = true;
    this.#isReplied = false;
    this.#facts.mayAnswer = serverPads ? null : this.#orAnswer(length, isUpdate);
    return "control";
  }

  /** What the record is if it is no answer; the end of the flow may tell. Null: it cannot. */
  #orAnswer(length: number, isUpdate: boolean): HiddenFacts["mayAnswer"] {
    if (isUpdate) return this.#mayUpdateKeys ? null : "update";
    // Who has shown a certificate is not asked again.
    const isUsual = length >= REQUEST_USUAL.from && length <= REQUEST_USUAL.to;
    return isUsual && this.#facts.flight.kind !== "presented" ? null : "request";
  }

  /** Reports whether a record of the server's may be an alert. */
  #mayRefuse(length: number): boolean {
    if (!isAlertSized(length)) return false;
    return length === BARE_ALERT || !this.#served.includes(finishedLength(this.#hashBytes));
  }

  /** Reports whether a record may hold tickets. */
  #mayBeTicket(length: number): boolean {
    if (this.#isPending) return false;
    const isUnasked = this.#hasEarlyTicket || this.#isUnasked(length);
    return !(isUnasked && !this.#tickets.hasBegun) && this.#tickets.take(length);
  }

  /**
   * Reports whether the server may have chosen HTTP/2: its EncryptedExtensions, where they stand in
   * a record of their own, then have room for 9 bytes of ALPN (RFC 7301 §3.1) behind their 6, and
   * for whole extensions beside it: what was offered of 4, 5 and 6 bytes, or a list of groups.
   */
  get #mayBeHttp2(): boolean {
    const { clientHello } = this.#facts;
    if (clientHello !== null && !clientHello.alpn?.includes("h2")) return false;
    const first = this.#served[0]!;
    if (first >= JOINED_MINIMUM || this.#facts.serverPads) return true;
    const rest = first - RECORD_OVERHEAD - 6 - 9;
    if (rest === 5) return this.#offers(Extension.maxFragmentLength);
    if (rest === 6) return this.#offers(Extension.recordSizeLimit);
    return rest === 0 || rest === 4 || rest >= 8;
  }

  /** The client wants no tickets, and nobody sends one of that size to such a client. */
  #isUnasked(length: number): boolean {
    if (this.#offers(Extension.pskKeyExchangeModes)) return false;
    return length < UNASKED_TICKET_MINIMUM && !UNASKED_STATEFUL.has(length);
  }

  get #isAskable(): boolean {
    return mayBeAskedLater(this.#facts.clientHello);
  }

  #offers(extension: number): boolean {
    return mayOffer(this.#facts.clientHello, extension);
  }
}
