/** Judges one connection against what is declared about its path. */
import type { Expectation } from "../policy/expectation.ts";
import type { Connection } from "./pair.ts";
import type { Reason } from "./verdict.ts";
import { contradicts, supports, unreadable } from "./weigh.ts";
import type { Say } from "./weigh.ts";

/** What is known of the server's port apart from this connection. */
export type Surroundings = {
  /** All that reached the server's veth while the connection was tried would have been seen. */
  serverWatched: boolean;
  /** Of what reached the server's veth a part is not read: of a sample, or of one direction. */
  serverHides: boolean;
  /** An answer may have come to the client past its interface, the one place that was watched. */
  clientMisses: boolean;
  /** Another connection was accepted by the same server and port in the window. */
  servedOthers: boolean;
};

/** Kinds that the kernel enforces before a connection is established. */
const PACKET_LAYER: ReadonlySet<string> = new Set([
  ...["NetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"],
  ...["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "GlobalNetworkPolicy"],
]);

export function sayOfPath(c: Connection, expectation: Expectation, around: Surroundings): Say {
  switch (expectation.path) {
    case "allowed":
      return sayOfAllowed(c);
    case "denied":
      return sayOfDenied(c, expectation, around);
    case "undeclared":
      if (isTooYoung(c)) return { kind: "pending" };
      return { kind: "unexpected", reason: "nothing-declared" };
    case "undecidable":
      return { kind: "silent" };
  }
}

/** One acceptance shows that the path is open; that others failed is not the path's fault. */
function sayOfAllowed(c: Connection): Say {
  if (c.accepted === true && c.rolesKnown) {
    return c.disagree ? unreadable("sightings-disagree") : supports("allowed-and-used");
  }
  return c.final || c.accepted !== null ? { kind: "silent" } : { kind: "pending" };
}

function sayOfDenied(c: Connection, expectation: Expectation, around: Surroundings): Say {
  if (c.accepted === true) return contradicts("denied-and-accepted");
  // The deciding object stands first; those behind it may well allow the path.
  const isPacketLayer = PACKET_LAYER.has(expectation.pathBecause[0]?.kind ?? "");
  if (c.established) {
    if (isPacketLayer) return contradicts("denied-and-accepted");
    if (isTurnedDown(c)) return supports("denied-and-refused");
    return c.final ? unreadable("not-answered") : { kind: "pending" };
  }
  if (c.refused) {
    // Past the packet layer it is the pod's own kernel that answers for a port without a listener.
    if (isPacketLayer && c.atServer) return unreadable("reached-the-server");
    if (isPacketLayer && around.serverHides) return unreadable("server-unseen");
    return supports("denied-and-refused");
  }
  if (c.oneSided) return c.final ? unreadable("one-sided") : { kind: "pending" };
  if (isTooYoung(c)) return { kind: "pending" };
  if (c.atClient && !c.atServer && around.serverWatched) return supports("denied-and-dropped");
  if (around.servedOthers && around.clientMisses) return unreadable("one-direction");
  if (around.servedOthers) return supports("denied-and-unanswered");
  return unreadable("server-silent");
}

/** The server refused what the client showed or said; that it went away refuses nothing. */
function isTurnedDown(c: Connection): boolean {
  const wentAway = c.failure === "server-aborted" || c.failure === "reset";
  return c.accepted === false && c.failureSide === "server" && !wentAway;
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
