/** Judges one connection against what is declared about its path. */
import type { RefusalName } from "../../protocol/flow-record.ts";
import type { Expectation } from "../policy/expectation.ts";
import type { Matrix } from "./matrix.ts";
import type { Connection } from "./pair.ts";
import type { Reason } from "./verdict.ts";
import { contradicts, PENDING, silent, supports, unreadable } from "./say.ts";
import type { Say } from "./say.ts";

/** Kinds that the kernel enforces before a connection is established. */
const PACKET_LAYER: ReadonlySet<string> = new Set([
  ...["NetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"],
  ...["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "GlobalNetworkPolicy"],
]);

/**
 * Answers for a server that it never saw the attempt of. That a net, a host or a port cannot be
 * reached is no policy's word: port unreachable is kube-proxy's for a Service without endpoints.
 */
const SAYS_PROHIBITED: ReadonlySet<RefusalName> = new Set([
  ...(["rst", "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited"] as const),
  "icmp-policy-failed",
]);

/** What the client sent so often in vain did not go astray. */
const SENT_FROM = 3;

export function sayOfPath(c: Connection, expectation: Expectation, matrix: Matrix): Say {
  switch (expectation.path) {
    case "allowed":
      return sayOfAllowed(c);
    case "denied":
      return sayOfDenied(c, expectation, matrix);
    case "undeclared":
      if (isTooYoung(c)) return PENDING;
      return { kind: "unexpected", reason: "nothing-declared" };
    case "undecidable":
      return unreadable(undecidableReason(expectation));
  }
}

/** One acceptance shows that the path is open; that others failed is not the path's fault. */
function sayOfAllowed(c: Connection): Say {
  if (c.accepted === true && c.rolesKnown) return supports("allowed-and-used");
  return c.final || c.accepted !== null ? silent("allowed-and-refused") : PENDING;
}

function sayOfDenied(c: Connection, expectation: Expectation, matrix: Matrix): Say {
  // The deciding object stands first; those behind it may well allow the path.
  const isPacketLayer = PACKET_LAYER.has(expectation.pathBecause[0]?.kind ?? "");
  if ((c.accepted === true && !c.disagree) || (c.established && isPacketLayer)) {
    return contradicts("denied-and-accepted");
  }
  if (c.disagree) return unreadable("sightings-disagree");
  if (c.established) {
    // A server that nobody saw alive may have died, whoever it would have let in.
    if (isTurnedDown(c)) return ifServed("denied-and-refused", matrix, "not-answered");
    return c.final ? unreadable("not-answered") : PENDING;
  }
  if (c.oneSided && !c.refused) return unreadable("one-sided");
  if (isTooYoung(c)) return PENDING;
  return isPacketLayer ? sayOfStopped(c, matrix) : unreadable("not-answered");
}

/**
 * An attempt that came to nothing proves a policy of the packet layer only where it never came to
 * the server, which was there for others: else whoever answered, or did not, may be the server.
 */
function sayOfStopped(c: Connection, matrix: Matrix): Say {
  if (matrix.server === "seen") return unreadable("reached-the-server");
  if (matrix.server === "absent" && matrix.client === "seen") {
    // The network loses a packet now and then.
    if (!c.refused && c.sent < SENT_FROM) return unreadable("server-silent");
    if (c.refused && !(c.refusedBy !== null && SAYS_PROHIBITED.has(c.refusedBy))) {
      return unreadable("unreachable");
    }
    return ifServed(
      c.refused ? "denied-and-refused" : "denied-and-dropped",
      matrix,
      "served-nobody",
    );
  }
  if (matrix.clientMisses) return unreadable("one-direction");
  return unreadable(c.refused || matrix.serverHides ? "server-unseen" : "server-silent");
}

/** A proof where the same servers and port served somebody else in the window. */
function ifServed(proof: Reason, { servers }: Matrix, reason: Reason): Say {
  if (servers === null) return unreadable(reason);
  return supports(proof, { served: servers, reason });
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
function undecidableReason(expectation: Expectation): Reason {
  const inBand = expectation.pathBecause.some((b) => /denial-in-band|inside/.test(b.sentence));
  return inBand ? "denial-in-band" : "rule-not-observable";
}
