/** Describes who listens while a handshake is read, to explain it; ordinary reading has nobody. */
import type { ClientFlight, FlightOffers } from "./client-flight.ts";

/** What a server's record behind the client's Finished was taken for. */
export type AnswerKind =
  | "early" // sent before the server had the client's Finished
  | "alert" // has an alert's size
  | "ticket" // may be a session ticket: no answer
  | "control" // may be a KeyUpdate, a late request, or what HTTP/2 says of itself: no answer yet
  | "answer"; // application data in answer to the client

export type TlsTrace = {
  /** A record whose header stands at `offset` of the side's stream; type 0 is an SSLv2 hello. */
  record(
    side: number,
    type: number,
    version: number,
    length: number,
    offset: number,
    inClear: boolean,
  ): void;
  /** A whole handshake message in `[at, end)`, header included; bytes are borrowed. */
  message(side: number, view: DataView, at: number, end: number): void;
  alert(side: number, level: number, code: number): void;
  /** The client's encrypted records so far, and what their sizes tell. */
  flight(
    lengths: readonly number[],
    hashBytes: number,
    offers: FlightOffers,
    flight: ClientFlight,
  ): void;
  /** A server's record behind the client's Finished, which ended at `finishedEnd`. */
  answer(kind: AnswerKind, length: number, acked: number, finishedEnd: number): void;
};

export type AlertSeen = { side: number; level: number; code: number };
/**
 * An end of the connection: by TCP, or by an error that QUIC tells. `acked` is how far into the
 * other side's stream it acknowledged, `waitedMs` for how long no payload had come.
 */
export type CloseSeen = {
  side: number;
  kind: "fin" | "rst" | "error";
  acked: number;
  waitedMs: number;
};

/** What carries the handshake, in the letters of JA4: TCP, QUIC, or datagrams of DTLS. */
export type Transport = "t" | "q" | "d";
