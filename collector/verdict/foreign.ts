/** Keeps apart what an agent says of pods that are not on its node: it cannot have seen them. */
import type { Holder } from "../attribution/holder.ts";
import type { Sighting } from "../attribution/attribute.ts";

/** Runs elsewhere, as far as known: a capture without agents names no node. */
export function isElsewhere(holder: Holder, node: string): boolean {
  return node !== "" && holder.node !== null && holder.node !== node;
}

/**
 * Reports whether a node's agent tells what could not pass there. At a pod's interface that is
 * whatever is not that pod's; at an uplink or in a tunnel, what has no end at the node: whoever
 * stole its certificate could tell anything of anybody.
 */
export function isForeign({ node, attributed }: Sighting): boolean {
  const { vantage } = attributed.observation;
  const ends = [attributed.client.holder, attributed.server.holder];
  const own = vantage === "client" ? ends[0] : vantage === "server" ? ends[1] : null;
  if (own) return isElsewhere(own, node);
  const known = ends.filter((end) => end !== null && end !== undefined && end.node !== null);
  return known.length > 0 && known.every((end) => isElsewhere(end!, node));
}
