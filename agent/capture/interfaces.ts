/** Decides which of the node's interfaces are watched, and what each of them is. */
import type { WatchKind } from "../../protocol/watch-kind.ts";
import type { Link } from "./rtnetlink.ts";

/** What is to be watched: interfaces by their whole names, or by what they are. */
export type Wanted = { pattern: RegExp | null; kinds: readonly WatchKind[] };

/** The words of `--watch`. */
export const WATCH_WORDS: ReadonlyMap<string, WatchKind> = new Map([
  ["pods", "pod"],
  ["uplinks", "uplink"],
  ["tunnels", "tunnel"],
  ["host", "host"],
]);

/** ARPHRD_… of linux/if_arp.h. */
const ETHERNET = 1;
const LOOPBACK = 772;

/** Kinds of devices that come in pairs, one end for a pod. */
const PAIRS: ReadonlySet<string> = new Set(["veth", "netkit"]);

/** Kinds that wrap or encrypt what is sent through them, as the kernel's drivers are called. */
const TUNNELS: ReadonlySet<string> = new Set([
  ...["vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan", "bareudp"],
  ...["ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm", "wireguard", "ovpn", "amt", "gtp"],
]);

/** Several uplinks as one. */
const BONDS: ReadonlySet<string> = new Set(["bond", "team"]);

/**
 * Lead into a namespace as a pod's do, and there is no pod: Cilium's probes of its own health. What
 * else is no pod's, such as cilium_host, bpfout.cali or vethwe-bridge, has both ends on the node.
 */
const NO_PODS: ReadonlySet<string> = new Set(["lxc_health", "cilium_health"]);

/**
 * What an interface is, by what the kernel says of it; null for bridges, dummies (kube-ipvs0,
 * nodelocaldns), ports of a bond, and whatever else only repeats what others carry. Names do not
 * count, since each network plugin, and each of its versions, has its own: cali…, lxc…, azv…,
 * gke…, eni…, veth….
 */
export function kindOf(link: Link): WatchKind | null {
  const { name, hardware, kind } = link;
  if (hardware === LOOPBACK) return "host";
  if (kind === null) return hardware === ETHERNET && !isPartOfUplink(link) ? "uplink" : null;
  if (PAIRS.has(kind)) return link.leadsOut && !NO_PODS.has(name) ? "pod" : null;
  if (TUNNELS.has(kind)) return "tunnel";
  if (kind === "tun") return hardware === ETHERNET ? null : "tunnel"; // a tap is a machine's
  return BONDS.has(kind) ? "uplink" : null;
}

/** A port of a bond, or a virtual card's fast half; a bridge's port stands for itself. */
function isPartOfUplink({ master, masterKind }: Link): boolean {
  return master !== 0 && (masterKind === null || BONDS.has(masterKind));
}

/** As what an interface is to be watched; null where it is not. */
export function watchAs(link: Link, { pattern, kinds }: Wanted): WatchKind | null {
  const kind = kindOf(link);
  if (pattern === null) {
    // What is down, as tunl0 and sit0 are by default, will be told of when it comes up.
    return kind !== null && kinds.includes(kind) && (kind === "pod" || link.isUp) ? kind : null;
  }
  if (!pattern.test(link.name)) return null;
  return kind ?? (isBehindHost(link) ? "pod" : "other");
}

/** One end of a pair, or a machine's: where the operator names it, somebody is behind it. */
function isBehindHost({ kind }: Link): boolean {
  return kind !== null && (PAIRS.has(kind) || kind === "tun");
}

/**
 * Behind an uplink or a tunnel, a route to a single address names another node or a gateway, and no
 * pod.
 */
export function mayHavePod(kind: WatchKind): boolean {
  return kind === "pod" || kind === "other";
}
