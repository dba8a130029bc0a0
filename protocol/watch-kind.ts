/** Names what an interface under watch is to the cluster. */

/**
 * `pod`: the host's side of a pod's. `uplink`: leads out of the node. `tunnel`: shows what goes to
 * other nodes without its wrapper, before it is encrypted. `host`: the loopback, over which the
 * node's own processes talk to each other. `other`: named by the operator, and none of these.
 */
export const WATCH_KINDS = ["pod", "uplink", "tunnel", "host", "other"] as const;
export type WatchKind = (typeof WATCH_KINDS)[number];
