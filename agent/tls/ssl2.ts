/**
 * Reads what a server says that answers in SSL 2.0 (Hickman, "The SSL Protocol", 1995), and counts
 * what both sides say behind that: all of it but the client's key is encrypted.
 *
 *     record   1 length(15) | body       or       0 escape length(14) | padding | body
 *     body     4 hit | certificate type | version(2) | certificate, specs, connection id lengths(2)
 *
 * The client's key and Finished, the server's Verify and Finished follow; data comes behind them.
 */
import { Cursor } from "../read/cursor.ts";
import { readCertificate } from "./certificate.ts";
import { Version } from "./codes.ts";
import type { ServerHello } from "./server-hello.ts";
import { CLIENT, SERVER } from "./side.ts";
import type { TlsTrace } from "./trace.ts";

const Message = { clientMasterKey: 2, serverHello: 4 } as const;
/** Records of a side that are counted; beyond them nothing more is learned. */
const RECORDS_LIMIT = 64;
/** Verify, a request for a certificate, and Finished: more than that of the server's is data. */
const SERVER_RECORDS = 3;

/** What is told of the conversation: the fields of `Handshake` that it fills. */
export type Ssl2Facts = {
  serverHello: ServerHello | null;
  serverChain: readonly NonNullable<ReturnType<typeof readCertificate>>[] | null;
  abbreviated: boolean;
  clientKeyExchange: boolean;
  clientFinished: boolean;
  serverFinished: boolean;
  finishedEnd: number;
  answered: boolean;
  malformed: boolean[];
  note(letter: string, side: number): void;
};

/** Reports whether a server's first bytes may begin an SSL 2.0 SERVER-HELLO. */
export function isSsl2Answer(view: DataView, at: number, end: number): boolean {
  if (end - at < 3 || (view.getUint8(at) & 0x80) === 0) return false;
  return view.getUint8(at + 2) === Message.serverHello;
}

export class Ssl2 {
  readonly #facts: Ssl2Facts;
  readonly #trace: TlsTrace | null;
  /** Records of each side behind the hellos. */
  readonly #records = [0, 0];

  constructor(facts: Ssl2Facts, trace: TlsTrace | null) {
    this.#facts = facts;
    this.#trace = trace;
  }

  isRead(side: number): boolean {
    return this.#records[side]! >= RECORDS_LIMIT;
  }

  /** Like `Handshake.read`. */
  read(side: number, view: DataView, at: number, end: number, offset: number): number {
    const facts = this.#facts;
    while (end - at >= 3 && !this.isRead(side) && !facts.malformed[side]!) {
      const isShort = (view.getUint8(at) & 0x80) !== 0;
      const header = isShort ? 2 : 3;
      const length = view.getUint16(at) & (isShort ? 0x7fff : 0x3fff);
      const behind = at + header + length;
      if (length === 0) facts.malformed[side] = true;
      else if (side === SERVER && !facts.serverHello) {
        if (behind > end) return offset;
        this.#trace?.record(side, 0, Version.ssl2, behind - at, offset, true);
        this.#takeHello(new Cursor(view, at + header + 1, behind));
      } else this.#count(side, view.getUint8(at + header), offset + header + length);
      offset += header + length;
      if (behind > end) return offset;
      at = behind;
    }
    return offset;
  }

  /** SERVER-HELLO behind its message type. */
  #takeHello(c: Cursor): void {
    const facts = this.#facts;
    facts.abbreviated = c.uint8() !== 0;
    c.skip(1); // certificate type: X.509 is the only one
    const version = c.uint16();
    const certificateLength = c.uint16();
    c.skip(4);
    const at = c.at;
    c.skip(certificateLength);
    if (!c.ok || version !== Version.ssl2) {
      facts.malformed[SERVER] = true;
      return;
    }
    facts.note("s", SERVER);
    facts.serverHello = {
      version,
      legacyVersion: version,
      cipherSuite: -1, // the client chooses, of three bytes each
      extensions: [],
      alpn: null,
      group: null,
      selectsPsk: false,
      isHelloRetryRequest: false,
      sessionIdLength: 0,
      connectionId: null,
    };
    if (certificateLength === 0) return;
    const certificate = readCertificate(c.view, at, at + certificateLength);
    facts.serverChain = certificate ? [certificate] : [];
    facts.note("x", SERVER);
  }

  #count(side: number, type: number, recordEnd: number): void {
    const facts = this.#facts;
    const records = ++this.#records[side]!;
    const isKey = side === CLIENT && records === 1 && !facts.abbreviated;
    facts.note(isKey ? "k" : "e", side);
    if (isKey) facts.clientKeyExchange = type === Message.clientMasterKey;
    const finished = facts.abbreviated ? 1 : 2;
    if (side === CLIENT && records === finished) {
      facts.clientFinished = true;
      facts.finishedEnd = recordEnd;
    }
    if (side === SERVER && records === 2) facts.serverFinished = true;
    const clientSpoke = this.#records[CLIENT]! > finished;
    if (side === SERVER && records > SERVER_RECORDS && clientSpoke) facts.answered = true;
  }
}
