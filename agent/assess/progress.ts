/** Keeps what the reading of one flow needs while bytes of its sides are still read. */
import { Match } from "../identify/match.ts";
import { Recognition } from "../identify/recognition.ts";
import type { Ports } from "../identify/recognition.ts";
import { isTlsClientHello, isTlsMidstream } from "../identify/tls-record.ts";
import type { Opened } from "../identify/upgrade.ts";
import { CLIENT } from "../tls/side.ts";
import type { TdsUnwrap } from "./tds-unwrap.ts";

/** How far the reading of both sides has come; by role throughout. */
export class Progress {
  readonly recognition: Recognition;
  readonly #midstream: boolean;
  readonly opened: (Opened | null)[] = [null, null];
  /** Stream offsets at which what the sides say begins: behind a PROXY header, or in a tunnel. */
  readonly start = [0, 0];
  /** Stream offsets at which TLS begins; -1 while that is not known. */
  tlsFrom = [-1, -1];
  /** The server's last plaintext may come after the client's hello did. */
  serverMayTalk = false;
  /** How much of each side has come in order. */
  readonly come = [0, 0];
  /** Unknown bytes up to here begin no hello. */
  readonly held = [0, 0];
  /** How much of a conversation was listened to, and how many messages that was. */
  readonly heard = [0, 0];
  readonly messages = [0, 0];
  /** What HTTP carries is told, or is nothing of its own. */
  isCarriedTold = false;
  /** Of TDS, whose packets carry TLS. */
  tds: TdsUnwrap | null = null;

  constructor(midstream: boolean, ports: Ports) {
    this.#midstream = midstream;
    this.recognition = new Recognition(midstream, ports);
  }

  /** A side begins anew at this stream offset: what it said before led there. */
  beginAt(role: number, offset: number): void {
    this.start[role] = this.held[role] = this.heard[role] = offset;
    this.messages[role] = 0;
    this.opened[role] = null;
    this.recognition.again(role);
    this.isCarriedTold = false;
    this.tds = null;
  }

  /**
   * Where a later segment begins with a hello, or mid-stream with records, as far as `match` asks;
   * -1 where none does.
   */
  laterHello(
    role: number,
    view: DataView,
    at: number,
    end: number,
    base: number,
    match: Match,
  ): number {
    const { held, start, come } = this;
    const from = Math.max(base, held[role]!);
    if (from === start[role]! || from >= come[role]!) return -1;
    const position = at + from - base;
    if (role === CLIENT && isTlsClientHello(view, position, end) === match) return from;
    return this.#midstream && isTlsMidstream(view, position, end) === match ? from : -1;
  }

  /**
   * Unknown bytes are passed over, segment by segment: a hello may begin a later one. Keeps the
   * first bytes of a segment that may grow into a hello, and returns from where on bytes are kept.
   */
  hold(role: number, view: DataView, at: number, end: number, base: number): number {
    const { held, come } = this;
    const grows = this.laterHello(role, view, at, end, base, Match.more);
    held[role] = grows >= 0 ? grows : come[role]!;
    return held[role]!;
  }
}
