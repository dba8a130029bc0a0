/** Reads the peers of a Cilium rule, and tells whether one of them is the other end. */
import { parseRange, type Address, type AddressRange } from "../../../attribution/address.ts";
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import { selects, readSelector } from "../../../attribution/selector.ts";
import { isInBlocks, type Block } from "../../decision/block.ts";
import { and, not, or, type Ternary } from "../../decision/ternary.ts";
import { matchesGroups, toBlocks, type CidrGroup } from "./cidr-group.ts";
import type { Identities, Identity } from "./identity.ts";
import {
  inNamespace,
  matchesLabels,
  readEndpointSelector,
  readLabelSelector,
  type LabelSelector,
} from "./label-selector.ts";
import { addressesOf, type CiliumSettings } from "./settings.ts";

/** What peers are read and matched with. */
export type PeerContext = {
  settings: CiliumSettings;
  identities: Identities;
  groups: readonly CidrGroup[];
  services: readonly ClusterObject[];
  /** EndpointSlices and Endpoints. */
  slices: readonly ClusterObject[];
};

/** `at`: the field, as `fromEndpoints[0]`. */
export type Peer = { at: string } & (
  | { kind: "labels" | "nodes"; selector: LabelSelector }
  | { kind: "entity"; name: string }
  | { kind: "blocks"; blocks: readonly Block[] }
  | { kind: "groups"; selector: LabelSelector; except: readonly AddressRange[] }
  /** Some addresses outside that nothing declares. */
  | { kind: "outside"; why: string }
  | { kind: "service"; selectors: readonly LabelSelector[]; blocks: readonly Block[] }
  | { kind: "unknown"; why: string }
);

/** `all`: the rule names no peer, and so speaks of every one. */
export type Peers = readonly Peer[] | "all";

/**
 * Reads the peers of a rule; null where it can have none: a list of peers that is there and empty
 * selects nobody, and a rule without peers and ports says nothing (utils/parserules.go
 * mergeEndpointSelectors, rule.go mergeL4Filter).
 */
export function readPeers(
  rule: Json,
  side: "from" | "to",
  namespace: string,
  isDeny: boolean,
  context: PeerContext,
): Peers | null {
  const shutting = ["Endpoints", "Nodes", "Entities", "CIDR", "CIDRSet"];
  const isEmpty = (name: string) => {
    const found = valueAt(rule, side + name);
    return Array.isArray(found) && found.length === 0;
  };
  if (shutting.some(isEmpty)) return null;
  const each = <T extends object>(name: string, read: (value: Json) => T) =>
    listAt(rule, side + name).map((value, i) => ({ at: `${side}${name}[${i}]`, ...read(value) }));
  const peers: Peer[] = [
    ...each("Endpoints", (value) => ({
      kind: "labels" as const,
      selector: readEndpointSelector(value, namespace),
    })),
    ...each("Nodes", (value) => ({ kind: "nodes" as const, selector: readLabelSelector(value) })),
    ...each("Entities", (value) => ({ kind: "entity" as const, name: String(value) })),
    ...each("CIDR", (value) => ({
      kind: "blocks" as const,
      blocks: toBlocks([parseRange(String(value))!]),
    })),
    ...each("CIDRSet", (value) => readCidrRule(value, context.groups)),
    ...each("Groups", () => ({
      kind: "outside" as const,
      why: "which addresses a cloud's group has is not declared",
    })),
    ...each("FQDNs", (value) => ({
      kind: "outside" as const,
      why:
        "which addresses DNS gives for " +
        `${textAt(value, "matchName") ?? textAt(value, "matchPattern")} is not declared`,
    })),
    ...each("Services", (value) => readService(value, isDeny, context)),
  ];
  if (peers.length > 0) return peers;
  return listAt(rule, "toPorts").length + listAt(rule, "icmps").length > 0 ? "all" : null;
}

function readCidrRule(value: Json, groups: readonly CidrGroup[]) {
  const except = listAt(value, "except").map((hole) => parseRange(String(hole))!);
  const name = textAt(value, "cidrGroupRef");
  const chosen = valueAt(value, "cidrGroupSelector");
  if (isMap(chosen)) {
    const selector = readLabelSelector(chosen, "cidrgroup");
    return { kind: "groups" as const, selector, except };
  }
  if (name === null) {
    const range = parseRange(textAt(value, "cidr") ?? "")!;
    return { kind: "blocks" as const, blocks: toBlocks([range], except) };
  }
  const group = groups.find((one) => one.name === name);
  if (group?.ranges) return { kind: "blocks" as const, blocks: toBlocks(group.ranges, except) };
  const is = group === undefined ? "is not declared" : "is not valid";
  return { kind: "outside" as const, why: `CiliumCIDRGroup ${name} ${is}` };
}

/**
 * A Service with a selector stands for the pods that it selects; one without for the addresses of
 * its endpoints (policy/k8s/service.go processRule, which passes over rules that deny).
 */
function readService(value: Json, isDeny: boolean, context: PeerContext) {
  const { services, slices } = context;
  const named = valueAt(value, "k8sService");
  const chosen = valueAt(value, "k8sServiceSelector");
  const wanted = textAt(isMap(chosen) ? chosen : named, "namespace");
  const labels = readSelector(valueAt(chosen, "selector") ?? undefined);
  const found = services.filter((service) => {
    if (wanted !== null && service.namespace !== wanted) return false;
    if (isMap(chosen)) return selects(labels, service.labels);
    return service.name === textAt(named, "serviceName");
  });
  if (isDeny || found.length === 0) {
    const name = textAt(named, "serviceName") ?? "with such labels";
    const why = isDeny
      ? "Cilium resolves no Service in a rule that denies"
      : `no Service ${name} is declared`;
    return { kind: "unknown" as const, why };
  }
  const selectors: LabelSelector[] = [];
  const blocks: Block[] = [];
  for (const service of found) {
    const selector = labelsAt(service.body, "spec", "selector");
    if (Object.keys(selector).length > 0) {
      const own = readLabelSelector({ matchLabels: selector }, "k8s");
      selectors.push(inNamespace(own, service.namespace));
      continue;
    }
    const behind = slices.filter((slice) => isOf(slice, service));
    if (behind.length === 0) {
      const why = `the endpoints of Service ${service.namespace}/${service.name} are not declared`;
      return { kind: "outside" as const, why };
    }
    blocks.push(...behind.flatMap(({ body }) => toBlocks(addressesOf(body).map(toRange))));
  }
  return { kind: "service" as const, selectors, blocks };
}

function isOf({ kind, namespace, name, body }: ClusterObject, service: ClusterObject): boolean {
  if (namespace !== service.namespace) return false;
  if (kind === "Endpoints") return name === service.name;
  return textAt(body, "metadata", "labels", "kubernetes.io/service-name") === service.name;
}

function toRange({ family, value }: Address): AddressRange {
  return { family, first: value, last: value };
}

/** Whether a peer is the other end, and why that cannot be told where it cannot. */
export type PeerMatch = { ternary: Ternary; at: string | null; why: string };

const SURE = "";

/** Whether one of the peers is the other end. */
export function matchPeers(peers: Peers, identity: Identity, context: PeerContext): PeerMatch {
  if (peers === "all") return { ternary: true, at: null, why: SURE };
  let unsure: PeerMatch = { ternary: false, at: null, why: SURE };
  for (const peer of peers) {
    const ternary = matchPeer(peer, identity, context);
    if (ternary === true) return { ternary, at: peer.at, why: SURE };
    if (ternary === null && unsure.ternary === false) {
      unsure = { ternary, at: peer.at, why: whyUnsure(peer, identity) };
    }
  }
  return unsure;
}

function matchPeer(peer: Peer, identity: Identity, context: PeerContext): Ternary {
  const { identities, settings, groups } = context;
  const { kind, holder } = identity;
  const isOutside = kind === "world";
  switch (peer.kind) {
    case "labels":
      return matchesLabels(peer.selector, identity, identities);
    case "nodes":
      // A rule of nodes asks for `reserved:remote-node` too, which the pod's own does not have.
      if (kind !== "remote-node") return kind === "unknown" ? null : false;
      return settings.nodeLabels === true
        ? matchesLabels(peer.selector, identity, identities)
        : null;
    case "entity":
      return isEntity(peer.name, identity, settings);
    case "blocks":
      return isAddressed(identity, settings, () => isInBlocks(peer.blocks, holder));
    case "groups":
      return isAddressed(identity, settings, () =>
        and([
          matchesGroups(peer.selector, groups, holder),
          not(peer.except.length === 0 ? false : isInBlocks(toBlocks(peer.except), holder)),
        ]),
      );
    case "outside":
      return isAddressed(identity, settings, () => null);
    case "service":
      return or([
        ...peer.selectors.map((selector) => matchesLabels(selector, identity, identities)),
        isOutside ? isInBlocks(peer.blocks, holder) : false,
      ]);
    case "unknown":
      return null;
  }
}

/**
 * Ranges match what is outside; pods and nodes only where `policy-cidr-match-mode` says so
 * (types/selector.go CIDRSelector.Matches).
 */
function isAddressed(
  { kind }: Identity,
  settings: CiliumSettings,
  isWithin: () => Ternary,
): Ternary {
  switch (kind) {
    case "world":
      return isWithin();
    case "pod":
      return settings.cidrMatchesPods ? isWithin() : false;
    case "host":
    case "remote-node":
      return settings.cidrMatchesNodes ? isWithin() : false;
    case "unknown":
      return null;
  }
}

/** Documentation/security/policy/layer3.rst, "Entities based"; pkg/policy/api/entity.go. */
function isEntity(name: string, identity: Identity, settings: CiliumSettings): Ternary {
  const { kind, holder, isApiServer } = identity;
  if (name === "all") return true;
  if (kind === "unknown") return name === "none" ? false : null;
  switch (name) {
    case "host":
    case "remote-node":
      return kind === name;
    case "kube-apiserver":
      return isApiServer;
    case "cluster":
    case "cluster-mesh":
      return kind === "world" ? isApiServer : true;
    case "world":
      return kind === "world";
    case "world-ipv4":
    case "world-ipv6": {
      // In a cluster of one family no end has these.
      const isFamily = holder.addresses[0]?.includes(":") === (name === "world-ipv6");
      return kind === "world" && isFamily ? settings.dualStack : false;
    }
    default:
      // `init`, `health`, `ingress`, `unmanaged`: no pod, node or address outside is known as one.
      return false;
  }
}

function whyUnsure(peer: Peer, { kind, isApiServer }: Identity): string {
  if (peer.kind === "outside" || peer.kind === "unknown") return peer.why;
  const ofApiServer = peer.kind === "entity" && peer.name !== "world-ipv4" && isApiServer === null;
  if (ofApiServer && peer.name !== "world-ipv6") {
    return "no Endpoints default/kubernetes tell whether it is the API server";
  }
  if (peer.kind === "nodes") {
    return "nothing tells that nodes are known by their labels (enable-node-selector-labels)";
  }
  if (peer.kind === "entity") return "nothing tells which families of addresses are in use";
  if (peer.kind === "groups") return "which CiliumCIDRGroups there are is not declared";
  if (kind === "world") return "nothing tells which families of addresses are in use";
  return kind === "pod" || kind === "unknown"
    ? "ConfigMap cilium-config would tell which labels count, and the cluster's name"
    : "which of its labels count, or which address it uses, is not declared";
}
