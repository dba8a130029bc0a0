/** Gives a resumed session of TLS ≤ 1.2 the facts of the handshake that issued it. */
import type { Certificate } from "../tls/certificate.ts";
import { isTls13 } from "../tls/codes.ts";
import { mutualOf } from "../tls/failure.ts";
import type { Handshake } from "../tls/handshake.ts";
import { NO_SESSION } from "../tls/sessions.ts";
import type { Issued, Sessions } from "../tls/sessions.ts";
import type { ResumedFrom } from "../../protocol/flow-record.ts";

/** Names a flow, and what its handshake showed of the client. */
export type Origin = ResumedFrom;

/**
 * Looks up the session that a handshake goes on from, or remembers the one that it issues: once,
 * when both Finished were seen. `nameFlow` is asked only where a session is issued.
 */
export function followSession(
  h: Handshake,
  sessions: Sessions,
  nameFlow: () => Omit<Origin, "mutual">,
): void {
  if (!h.clientFinished || !h.serverFinished || h.serverHello === null) return;
  if (isTls13(h.serverHello.version) || (h.issued.id ?? h.issued.ticket) === null) return;
  if (h.abbreviated) {
    h.resumedFrom ??= sessions.find(h.offered);
    if (h.resumedFrom !== null) sessions.issue(h.issued, h.resumedFrom); // under a new ticket
  } else {
    const { serverChain, clientChain } = h;
    const origin: Origin = { ...nameFlow(), mutual: mutualOf(h) };
    sessions.issue(h.issued, { origin, serverChain, clientChain });
  }
  h.issued = NO_SESSION;
}

/** The certificates of a handshake: its own, or those of the one that it goes on from. */
export function chainsOf(h: Handshake): Pick<Issued, "serverChain" | "clientChain"> {
  const own: readonly Certificate[] | null = h.serverChain ?? h.clientChain;
  return own === null && h.resumedFrom !== null ? h.resumedFrom : h;
}

export function resumedFromOf(h: Handshake): Origin | null {
  return (h.resumedFrom?.origin as Origin | undefined) ?? null;
}
