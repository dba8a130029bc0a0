/** Judges one connection against what is declared about its path. */
import type { Expectation } from "../policy/expectation.ts";
import { isOneEndOnly } from "./matrix.ts";
import type { Matrix } from "./matrix.ts";
import type { Connection } from "./pair.ts";
import type { Reason } from "./verdict.ts";
import { contradicts, supports, unreadable } from "./weigh.ts";
import type { Say } from "./weigh.ts";

/** Kinds that the kernel enforces before a connection is established. */
const PACKET_LAYER: ReadonlySet<string> = new Set([
  ...["NetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"],
  ...["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "GlobalNetworkPolicy"],
]);

export function sayOfPath(c: Connection, expectation: Expectation, matrix: Matrix): Say {
  switch (expectation.path) {
    case "allowed":
      return sayOfAllowed(c, matrix);
    case "denied":
      return sayOfDenied(c, expectation, matrix);
    case "undeclared":
      if (isTooYoung(c)) return { kind: "pending" };
      return { kind: "unexpected", reason: "nothing-declared" };
    case "undecidable":
      return unreadable(undecidableReason(expectation));
  }
}

/** One acceptance shows that the path is open; that others failed is not the path's fault. */
function sayOfAllowed(c: Connection, matrix: Matrix): Say {
  if (c.accepted === true && c.rolesKnown) {
    if (isOneEndOnly(matrix)) return unreadable("one-end-only");
    return c.disagree ? unreadable("sightings-disagree") : supports("allowed-and-used");
  }
  return c.final || c.accepted !== null ? { kind: "silent" } : { kind: "pending" };
}

function sayOfDenied(c: Connection, expectation: Expectation, matrix: Matrix): Say {
  // The deciding object stands first; those behind it may well allow the path.
  const isPacketLayer = PACKET_LAYER.has(expectation.pathBecause[0]?.kind ?? "");
  if (c.accepted === true || (c.established && isPacketLayer)) {
    return isOneEndOnly(matrix) ? unreadable("one-end-only") : contradicts("denied-and-accepted");
  }
  if (c.established) {
    // A server that nobody saw alive may have died, whoever it would have let in.
    if (isTurnedDown(c) && matrix.servedOthers) return supports("denied-and-refused");
    return c.final ? unreadable("not-answered") : { kind: "pending" };
  }
  if (c.oneSided && !c.refused) return c.final ? unreadable("one-sided") : { kind: "pending" };
  if (isTooYoung(c)) return { kind: "pending" };
  return isPacketLayer ? sayOfStopped(c, matrix) : unreadable("not-answered");
}

/**
 * An attempt that came to nothing proves a policy of the packet layer only where it never came to
 * the server, which was there for others: else whoever answered, or did not, may be the server.
 */
function sayOfStopped(c: Connection, matrix: Matrix): Say {
  if (matrix.server === "seen") return unreadable("reached-the-server");
  if (matrix.server === "absent" && matrix.client === "seen") {
    if (!matrix.servedOthers) return unreadable("served-nobody");
    return supports(c.refused ? "denied-and-refused" : "denied-and-dropped");
  }
  if (matrix.servedOthers && matrix.clientMisses) return unreadable("one-direction");
  return unreadable(c.refused || matrix.serverHides ? "server-unseen" : "server-silent");
}

/** The server refused what the client showed or said; that it went away refuses nothing. */
function isTurnedDown(c: Connection): boolean {
  const wentAway = c.failure === "server-aborted" || c.failure === "reset";
  return c.accepted === false && c.failureSide === "server" && !wentAway && !c.failureLikely;
}

/** A SYN, or a datagram, that may still be answered. */
function isTooYoung(c: Connection): boolean {
  return !c.established && !c.refused && !c.unanswered && !c.final;
}

/** Why a path cannot be decided by a passive observer (product.md, policy.md §7). */
export function undecidableReason(expectation: Expectation): Reason {
  const inBand = expectation.pathBecause.some((b) => /denial-in-band|inside/.test(b.sentence));
  return inBand ? "denial-in-band" : "rule-not-observable";
}
