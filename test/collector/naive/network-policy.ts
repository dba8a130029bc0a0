/**
 * Judges NetworkPolicy as its API describes it (k8s.io/api networking/v1/types.go; "docs" is
 * Kubernetes' page "Network Policies"), word by word, without any index.
 */
import type { Cluster, NaiveEnd, Question } from "./cluster.ts";
import { drawSpace, SPACES } from "./cluster.ts";
import type { Random } from "./random.ts";
import {
  anyOf,
  allOf,
  byAddress,
  drawSelector,
  inRange,
  matches,
  type Known,
  type Selector,
} from "./selector.ts";

/** What a tier does with a connection; `none`: it says nothing, and the next one is asked. */
export type Outcome = "allowed" | "denied" | "none" | "pass";
/** All that may be, as far as is known. */
export type Outcomes = ReadonlySet<Outcome>;
export type Direction = "ingress" | "egress";

type Peer = {
  podSelector?: Selector | null;
  namespaceSelector?: Selector | null;
  ipBlock?: { cidr: string; except?: string[] | null } | null;
};
type Port = { protocol?: string | null; port?: number | string | null; endPort?: number | null };
type Rule = { from?: Peer[] | null; to?: Peer[] | null; ports?: Port[] | null };
export type NetworkPolicyBody = {
  kind: "NetworkPolicy";
  metadata: { name: string; namespace: string };
  spec: {
    podSelector?: Selector | null;
    policyTypes?: string[] | null;
    ingress?: Rule[] | null;
    egress?: Rule[] | null;
    /** A field that the API does not know: the policy may say anything. */
    unheardOf?: true;
  };
};

/** The end that a direction's policies select, and the other one. */
export function sidesOf(direction: Direction, { client, server }: Question): [NaiveEnd, NaiveEnd] {
  return direction === "ingress" ? [server, client] : [client, server];
}

/**
 * "If this field is not specified, it will default based on the existence of ingress or egress
 * rules; policies that contain an egress section are assumed to affect egress, and all policies
 * are assumed to affect ingress." The API server fills the default in (networking/v1/defaults.go):
 * an empty list is not specified, and only an egress section with a rule in it counts.
 */
function isOfType({ spec }: NetworkPolicyBody, direction: Direction): boolean {
  if (spec.policyTypes && spec.policyTypes.length > 0) {
    return spec.policyTypes.includes(direction === "ingress" ? "Ingress" : "Egress");
  }
  return direction === "ingress" || (spec.egress ?? []).length > 0;
}

function isPeer(
  peer: Peer,
  space: string,
  other: NaiveEnd,
  podsInBlocks: Cluster["podsInBlocks"],
): Known {
  if (peer.ipBlock) {
    const { cidr, except } = peer.ipBlock;
    const isIn = (address: string) =>
      inRange(address, cidr) && !(except ?? []).some((range) => inRange(address, range));
    const answer = byAddress(other.addresses, isIn);
    // Docs: blocks "should be cluster-external IPs, since Pod IPs are ephemeral": whether one
    // takes the address of a pod, or of a node, is the network plugin's choice (Cilium goes by who
    // holds it). That it takes no other is sure.
    if (other.kind === "external" || podsInBlocks === "match" || answer === false) return answer;
    const hasOwnAddress = other.kind === "pod" && !other.hostNetwork;
    return hasOwnAddress && podsInBlocks === "never" ? false : null;
  }
  if (other.kind !== "pod") return false;
  const isThere = peer.namespaceSelector
    ? matches(peer.namespaceSelector, other.spaceLabels)
    : other.namespace === space;
  if (!isThere || !matches(peer.podSelector ?? {}, other.labels)) return false;
  // Docs, "NetworkPolicy and hostNetwork pods": the plugin either tells their traffic from the
  // node's, and selects them as others, or it does not.
  return other.hostNetwork ? null : true;
}

/** "Each item in this list is combined using a logical OR." */
function isPort(rule: Port, { server, port, transport }: Question): boolean {
  // "If not specified, this field defaults to TCP."
  if ((rule.protocol ?? "TCP") !== transport) return false;
  // "If this field is not provided, this matches all port names and numbers."
  if (rule.port === undefined || rule.port === null) return true;
  if (typeof rule.port === "string") {
    return server.ports.some(
      (own) => own.name === rule.port && own.transport === transport && own.port === port,
    );
  }
  return rule.port <= port && port <= (rule.endPort ?? rule.port);
}

function isRule(
  rule: Rule,
  direction: Direction,
  space: string,
  question: Question,
  podsInBlocks: Cluster["podsInBlocks"],
): Known {
  const peers = (direction === "ingress" ? rule.from : rule.to) ?? [];
  const ports = rule.ports ?? [];
  const [, other] = sidesOf(direction, question);
  return allOf([
    // "If this field is empty or missing, this rule matches all", for peers and for ports.
    peers.length === 0 || anyOf(peers.map((peer) => isPeer(peer, space, other, podsInBlocks))),
    ports.length === 0 || ports.some((port) => isPort(port, question)),
  ]);
}

/** The NetworkPolicy tier in one direction; `none` where no policy selects the pod. */
export function judgeNetworkPolicies(
  policies: readonly NetworkPolicyBody[],
  direction: Direction,
  question: Question,
  podsInBlocks: Cluster["podsInBlocks"],
): Outcomes {
  const [self, other] = sidesOf(direction, question);
  if (self.kind !== "pod") return new Set(["none"]);
  // Docs: what policies that select host-networked pods do "is undefined", and most plugins
  // ignore them. The design page counts these pods as out of scope, and so the path as undeclared.
  if (self.hostNetwork) return new Set(["none"]);
  const near = policies.filter(({ metadata }) => metadata.namespace === self.namespace);
  const mayBeAnything = near.some(({ spec }) => spec.unheardOf);
  const selecting = near.filter(
    (policy) =>
      !policy.spec.unheardOf &&
      matches(policy.spec.podSelector ?? {}, self.labels) &&
      isOfType(policy, direction),
  );
  if (selecting.length === 0 && !mayBeAnything) return new Set(["none"]);
  const isAllowed = anyOf([
    // "combined additively": one that cannot be read may add to what is allowed, never take away.
    mayBeAnything ? null : false,
    // Docs: "traffic to and from the node where a Pod is running is always allowed". The API grants
    // it to traffic *from* the node alone (see judgeNetwork): to the node it is open.
    mayBeOwnNode(self, other) ? null : false,
    ...selecting.flatMap((policy) =>
      (policy.spec[direction] ?? []).map((rule) =>
        isRule(rule, direction, policy.metadata.namespace, question, podsInBlocks),
      ),
    ),
  ]);
  if (isAllowed === null) return new Set(["allowed", "denied"]);
  return new Set([isAllowed ? "allowed" : "denied"]);
}

/**
 * Whether the other end may be the node that the pod runs on, as far as manifests place them; or a
 * host-networked pod there, whose traffic "is treated the same as all other traffic to/from the
 * node IP" by plugins that cannot tell it apart, and as a pod's by those that can.
 */
function mayBeOwnNode(pod: NaiveEnd, other: NaiveEnd): boolean {
  if (other.kind !== "node" && !other.hostNetwork) return false;
  return pod.node === null || other.node === null || pod.node === other.node;
}

const BLOCKS = ["10.0.0.0/8", "10.0.0.0/15", "10.1.0.0/16", "192.0.2.0/24", "0.0.0.0/0", "::/0"];
const INNER: Record<string, string[]> = {
  "10.0.0.0/8": ["10.1.0.0/16", "10.0.1.0/24", "10.2.0.1/32"],
  "10.0.0.0/15": ["10.1.1.0/24", "10.0.0.0/24"],
  "10.1.0.0/16": ["10.1.0.0/24"],
  "192.0.2.0/24": ["192.0.2.4/30", "192.0.2.1/32"],
  "0.0.0.0/0": ["10.0.0.0/8", "192.0.2.5/32"],
  "::/0": ["2001:db8::/32", "fd00::/8"],
};

function drawBlock(random: Random) {
  const cidr = random.pick(...BLOCKS);
  const except = () => random.list(0, 2, () => random.pick(...INNER[cidr]!));
  return { cidr, ...random.optional("except", except) };
}

function drawPeer(random: Random): Peer {
  const podSelector = drawSelector(random);
  const namespaceSelector = random.once(4)
    ? { matchLabels: { "kubernetes.io/metadata.name": random.pick(...SPACES) } }
    : drawSelector(random);
  return random.pick<() => Peer>(
    () => ({ podSelector }),
    () => ({ namespaceSelector }),
    () => ({ podSelector, namespaceSelector }),
    () => ({ ipBlock: drawBlock(random) }),
    () => ({ ipBlock: drawBlock(random) }),
  )();
}

function drawPort(random: Random): Port {
  const protocol = random.optional("protocol", () => random.pick("TCP", "UDP", "SCTP"));
  if (random.once(5)) return protocol;
  if (random.once(4)) return { ...protocol, port: random.pick("web", "dns", "none") };
  const port = random.pick(80, 80, 81, 81, 15_008);
  return { ...protocol, port, ...random.maybe(3, "endPort", () => port + random.below(3)) };
}

function drawRules(random: Random, peers: "from" | "to"): Rule[] {
  return random.list(0, 2, () => ({
    ...random.optional(peers, () => random.list(0, 2, () => drawPeer(random))),
    ...random.optional("ports", () => random.list(0, 2, () => drawPort(random))),
  }));
}

export function drawNetworkPolicy(random: Random, name: string): NetworkPolicyBody {
  const types = () => random.pick(["Ingress"], ["Egress"], ["Ingress", "Egress"], []);
  const body = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy" as const,
    metadata: { name, namespace: drawSpace(random) },
    spec: {
      ...(random.once(6) ? {} : { podSelector: random.once(3) ? {} : drawSelector(random) }),
      ...random.optional("policyTypes", types),
      ...random.optional("ingress", () => drawRules(random, "from")),
      ...random.optional("egress", () => drawRules(random, "to")),
      ...random.maybe(25, "unheardOf", () => true as const),
    },
  };
  return body;
}
