/** Matches the ends of a connection against the peers and ports that a network rule names. */
import { parseRange } from "../../attribution/address.ts";
import { listAt, textAt, valueAt, type Json } from "../../attribution/cluster-object.ts";
import { hasOwnNetwork, namedPort, type Holder, type Transport } from "../../attribution/holder.ts";
import { readSelector, selects, type Selector } from "../../attribution/selector.ts";
import { isInBlocks, type Block } from "../decision/block.ts";
import { NOTHING, onePort, union, type PortSet } from "./port-set.ts";
import type { Ternary } from "../decision/ternary.ts";

/**
 * Whether an address range matches a pod whose address lies in it. NetworkPolicy leaves that to the
 * network plugin ("should be cluster-external IPs"): Calico matches, Cilium does not. The policies
 * of the cluster do not: "cluster-internal traffic will be checked as well" (`match`).
 * `outside`: pods stand without their addresses, and in no range, whatever names it.
 */
export type PodsInBlocks = "outside" | "never" | "undecidable" | "match";

/**
 * What a plugin makes of ranges in which lie addresses of the cluster's own: of pods, and of nodes
 * with the pods on their network. Calico goes by the address (conversion.go makes `nets` of them),
 * Cilium by who holds it: its ranges are for what is outside, unless `policy-cidr-match-mode` says
 * otherwise (docs.cilium.io, security/policy/layer3: "if the remote peer is not an endpoint";
 * types/selector.go CIDRSelector.Matches).
 */
export type InBlocks = { pods: PodsInBlocks; nodes: "never" | "undecidable" | "match" };

export const BY_ADDRESS: InBlocks = { pods: "match", nodes: "match" };

export type Peer = {
  /** Own namespace of the policy, or those with these labels; null for a peer that is no pod. */
  namespaces: Selector | "own" | null;
  pods: Selector;
  /** What a selection of pods says of one on its node's network: NetworkPolicy leaves it open. */
  hostPods: false | null;
  nodes: Selector | null;
  blocks: readonly Block[];
  /** Names that resolve to addresses nobody declared, perhaps to those of pods too. */
  names: "none" | "outside" | "any";
};

/** Null first and last: every port. A name counts on the server's pod only. */
export type PortRule = {
  transport: Transport;
  first: number | null;
  last: number | null;
  name: string | null;
  /** AdminNetworkPolicy: a name stands for whatever protocol the pod's port has. */
  anyTransport: boolean;
};

/** Reads `from` or `to` of a NetworkPolicy; null where it is empty, which is everybody. */
export function readPeers(value: Json | undefined): Peer[] | null {
  if (!Array.isArray(value) || value.length === 0) return null;
  return (value as Json[]).map((peer) => {
    const pods = valueAt(peer, "podSelector") ?? undefined;
    const namespaces = valueAt(peer, "namespaceSelector") ?? undefined;
    const block = valueAt(peer, "ipBlock") ?? undefined;
    return {
      namespaces:
        namespaces !== undefined ? readSelector(namespaces) : pods !== undefined ? "own" : null,
      pods: readSelector(pods),
      // "the network plugin can distinguish hostNetwork pod traffic", or it cannot (documentation)
      hostPods: null,
      nodes: null,
      blocks: block === undefined ? [] : [readBlock(block)],
      names: "none",
    };
  });
}

function readBlock(value: Json): Block {
  return {
    range: parseRange(textAt(value, "cidr") ?? "")!,
    except: listAt(value, "except").map((entry) => parseRange(String(entry))!),
  };
}

/** Reads `ports` of a NetworkPolicy; null where it is empty, which is every port. */
export function readPorts(value: Json | undefined): PortRule[] | null {
  if (!Array.isArray(value) || value.length === 0) return null;
  return (value as Json[]).map((rule) => {
    const port = valueAt(rule, "port") ?? null;
    const end = valueAt(rule, "endPort") ?? null;
    const first = typeof port === "number" ? port : null;
    return {
      transport: (textAt(rule, "protocol") ?? "TCP") as Transport,
      first,
      last: typeof end === "number" ? end : first,
      name: typeof port === "string" ? port : null,
      anyTransport: false,
    };
  });
}

/** The ports of this server that a rule speaks of. */
export function portsOn(rules: readonly PortRule[] | null, server: Holder): PortSet | null {
  if (rules === null) return null;
  let set = NOTHING;
  for (const { transport, first, last, name, anyTransport } of rules) {
    const carriers: Transport[] = anyTransport ? ["SCTP", "TCP", "UDP"] : [transport];
    for (const carrier of carriers) {
      if (name === null) set = union(set, onePort(carrier, first ?? 1, last ?? 65535));
      else {
        const port = namedPort(server, name, carrier);
        if (port !== null) set = union(set, onePort(carrier, port, port));
      }
    }
  }
  return set;
}

/** Reports whether the rules speak of this port of the server. */
export function hasPort(
  rules: readonly PortRule[] | null,
  server: Holder,
  carrier: Transport,
  port: number,
): boolean {
  if (rules === null) return true;
  for (const { transport, first, last, name, anyTransport } of rules) {
    if (transport !== carrier && !anyTransport) continue;
    if (name !== null) {
      if (namedPort(server, name, carrier) === port) return true;
    } else if ((first ?? 1) <= port && port <= (last ?? 65535)) return true;
  }
  return false;
}

/** Reports whether one of the peers is the holder; a policy's own namespace is `own`. */
export function matchesPeers(
  peers: readonly Peer[] | null,
  holder: Holder,
  own: string,
  inBlocks: InBlocks,
): Ternary {
  if (peers === null) return true;
  let result: Ternary = false;
  for (const peer of peers) {
    const match = matchesPeer(peer, holder, own, inBlocks);
    if (match === true) return true;
    if (match === null) result = null;
  }
  return result;
}

function matchesPeer(peer: Peer, holder: Holder, own: string, inBlocks: InBlocks): Ternary {
  const inside = hasOwnNetwork(holder);
  if (holder.kind === "pod" && peer.namespaces !== null) {
    const there =
      peer.namespaces === "own"
        ? holder.namespace === own
        : selects(peer.namespaces, holder.namespaceLabels);
    if (there && selects(peer.pods, holder.labels)) return inside ? true : peer.hostPods;
  }
  if (peer.nodes !== null && holder.kind === "node" && selects(peer.nodes, holder.labels)) {
    return true;
  }
  let result: Ternary = false;
  if (peer.blocks.length > 0) {
    const isOfCluster = holder.kind === "pod" || holder.kind === "node";
    const meaning = !isOfCluster ? "match" : inside ? inBlocks.pods : inBlocks.nodes;
    if (meaning === "match") result = isInBlocks(peer.blocks, holder);
    // An address that is not known may lie within.
    else if (meaning === "undecidable" && isInBlocks(peer.blocks, holder) !== false) result = null;
  }
  if (result !== false || peer.names === "none") return result;
  return inside && peer.names === "outside" ? false : null;
}
