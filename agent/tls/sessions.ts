/**
 * Remembers which handshakes of TLS ≤ 1.2 issued which sessions: the id (RFC 5246 §7.3) or the
 * ticket (RFC 5077 §3.3) stands in clear where it is issued, and again where it is used. Who
 * completes an abbreviated handshake holds the secrets of the one before: what that one showed is
 * so here, too. In TLS 1.3 tickets are encrypted, and a PSK's identity names nothing that was seen
 * (RFC 8446 §4.6.1).
 */
import { hash } from "node:crypto";
import { latin1Of } from "../read/text.ts";
import type { Certificate } from "./certificate.ts";
import { Extension, HandshakeType } from "./codes.ts";

/** Sessions that are remembered; the oldest goes first. */
const SESSIONS_LIMIT = 8192;
/** Behind type, length and version of a hello: its random. */
const SESSION_ID_AT = 4 + 2 + 32;

/** What a full handshake showed; `origin` names its flow, and is told as it is. */
export type Issued<Origin = unknown> = {
  origin: Origin;
  serverChain: readonly Certificate[] | null;
  clientChain: readonly Certificate[] | null;
};

/** The names by which a session is known: of its id, and of its ticket. */
export type SessionNames = { id: string | null; ticket: string | null };
export const NO_SESSION: SessionNames = Object.freeze({ id: null, ticket: null });

export class Sessions {
  /**
   * Null where two handshakes that showed different things issued what should be random: somebody
   * repeats what he saw. One handshake may be seen at two interfaces.
   */
  readonly #issued = new Map<string, Issued | null>();

  issue({ id, ticket }: SessionNames, issued: Issued): void {
    for (const name of [id, ticket]) {
      if (name === null) continue;
      const before = this.#issued.get(name);
      this.#issued.delete(name);
      const isFirst = before === undefined;
      this.#issued.set(name, isFirst ? issued : before && showsTheSame(before, issued));
      if (this.#issued.size <= SESSIONS_LIMIT) continue;
      for (const oldest of this.#issued.keys()) {
        this.#issued.delete(oldest);
        break;
      }
    }
  }

  /** Who issued the session; a ticket counts before an id, which may be made up beside it. */
  find({ id, ticket }: SessionNames): Issued | null {
    const name = ticket ?? id;
    return name === null ? null : (this.#issued.get(name) ?? null);
  }
}

/** The first, where both showed the same certificates. */
function showsTheSame(a: Issued, b: Issued): Issued | null {
  const leaves = ({ serverChain, clientChain }: Issued) =>
    `${serverChain?.[0]?.fingerprint} ${clientChain?.[0]?.fingerprint} ${clientChain?.length}`;
  return leaves(a) === leaves(b) ? a : null;
}

const digest = (bytes: Uint8Array) => hash("sha256", bytes, "base64");
const bytesOf = (view: DataView, at: number, length: number) =>
  new Uint8Array(view.buffer, view.byteOffset + at, length);

/** The fields of `Handshake` that are filled. */
export type SessionFacts = { offered: SessionNames; issued: SessionNames };

/**
 * Notes which session a whole message in `[at, end)`, header included, offers or issues: of TLS
 * ≤ 1.2, and of hellos that may become it. `side` is 0 for the client's.
 */
export function noteSession(
  facts: SessionFacts,
  side: number,
  view: DataView,
  at: number,
  end: number,
): void {
  const type = view.getUint8(at);
  if (type === HandshakeType.clientHello && side === 0) {
    facts.offered = { id: sessionIdOf(view, at, end), ticket: offeredTicketOf(view, at, end) };
  } else if (type === HandshakeType.serverHello && side === 1) {
    facts.issued = { id: sessionIdOf(view, at, end), ticket: null };
  } else if (type === HandshakeType.newSessionTicket && side === 1) {
    facts.issued = { ...facts.issued, ticket: issuedTicketOf(view, at, end) };
  }
}

/** The session id of a hello in `[at, end)`, its header included; null where it has none. */
function sessionIdOf(view: DataView, at: number, end: number): string | null {
  const from = at + SESSION_ID_AT;
  if (from >= end) return null;
  const length = view.getUint8(from);
  if (length === 0 || from + 1 + length > end) return null;
  return latin1Of(view, from + 1, from + 1 + length);
}

/** The ticket in a ClientHello's session_ticket extension, by its digest. */
function offeredTicketOf(view: DataView, at: number, end: number): string | null {
  let from = at + SESSION_ID_AT;
  if (from + 1 > end) return null;
  from += 1 + view.getUint8(from);
  if (from + 2 > end) return null;
  from += 2 + view.getUint16(from); // cipher suites
  if (from + 1 > end) return null;
  from += 1 + view.getUint8(from) + 2; // compression methods, length of the extensions
  while (from + 4 <= end) {
    const length = view.getUint16(from + 2);
    const isWhole = length > 0 && from + 4 + length <= end;
    if (view.getUint16(from) === Extension.sessionTicket) {
      return isWhole ? digest(bytesOf(view, from + 4, length)) : null;
    }
    from += 4 + length;
  }
  return null;
}

/** The ticket in a NewSessionTicket (RFC 5077 §3.3): lifetime(4), length(2), ticket. */
function issuedTicketOf(view: DataView, at: number, end: number): string | null {
  if (at + 10 > end) return null;
  const length = view.getUint16(at + 8);
  if (length === 0 || at + 10 + length > end) return null;
  return digest(bytesOf(view, at + 10, length));
}
