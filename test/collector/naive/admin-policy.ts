/**
 * Judges AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy sentence by
 * sentence: network-policy-api, apis/v1alpha1/*_types.go and apis/v1alpha2/
 * clusternetworkpolicy_types.go.
 */
import type { NaiveEnd, Question } from "./cluster.ts";
import { sidesOf, type Direction, type Outcome, type Outcomes } from "./network-policy.ts";
import type { Random } from "./random.ts";
import {
  allOf,
  anyOf,
  byAddress,
  drawSelector,
  inRange,
  matches,
  type Known,
  type Selector,
} from "./selector.ts";

type Pods = { namespaceSelector?: Selector; podSelector?: Selector };
type Subject = { namespaces?: Selector; pods?: Pods };
type Peer = Subject & { nodes?: Selector; networks?: string[]; domainNames?: string[] };
type Port = {
  portNumber?: { protocol?: string; port: number };
  portRange?: { protocol?: string; start: number; end: number };
  namedPort?: string;
};
type PortMatch = { destinationPort: { number?: number; range?: { start: number; end: number } } };
type Protocol = {
  tcp?: PortMatch;
  udp?: PortMatch;
  sctp?: PortMatch;
  destinationNamedPort?: string;
};
type Rule = {
  action: string;
  from?: Peer[];
  to?: Peer[];
  ports?: Port[] | null;
  protocols?: Protocol[];
};
const ADMIN_KINDS = [
  ...(["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"] as const),
];
export type AdminPolicyBody = {
  kind: (typeof ADMIN_KINDS)[number];
  metadata: { name: string };
  spec: {
    tier?: "Admin" | "Baseline";
    priority?: number;
    subject: Subject;
    ingress?: Rule[] | null;
    egress?: Rule[] | null;
    /** A field that the API does not know: the policy may do anything, at its priority. */
    unheardOf?: true;
  };
};

export function isAdminPolicy(body: { kind: string }): body is AdminPolicyBody {
  return (ADMIN_KINDS as readonly string[]).includes(body.kind);
}

/** "Note that host-networked pods are not included", in a subject and in a peer alike. */
function isAmong({ namespaces, pods }: Subject, end: NaiveEnd): boolean {
  if (end.kind !== "pod" || end.hostNetwork) return false;
  if (namespaces) return matches(namespaces, end.spaceLabels);
  return (
    matches(pods?.namespaceSelector ?? {}, end.spaceLabels) &&
    matches(pods?.podSelector ?? {}, end.labels)
  );
}

function isPeer(peer: Peer, other: NaiveEnd, nodes: ReadonlyMap<string, NaiveEnd>): Known {
  if (peer.namespaces || peer.pods) return isAmong(peer, other);
  if (peer.nodes) {
    if (other.kind === "node") return matches(peer.nodes, other.labels);
    // It selects "the nodeIPs", which are also those of its host-networked pods (NPEP-126).
    if (!other.hostNetwork) return false;
    const node = other.node === null ? undefined : nodes.get(other.node);
    if (node !== undefined) return matches(peer.nodes, node.labels);
    return takesAll(peer.nodes) ? true : null; // "if present but empty, it selects all Nodes"
  }
  if (peer.networks) {
    const isIn = (address: string) => peer.networks!.some((cidr) => inRange(address, cidr));
    // "cluster-internal traffic will be checked against the rule as well"
    const node = other.hostNetwork && other.node !== null ? nodes.get(other.node) : undefined;
    const { addresses } = node ?? other;
    return byAddress(addresses.length > 0 ? addresses : ANYWHERE, isIn);
  }
  // To which addresses names resolve is not declared. To those of pods only the names do that the
  // cluster makes: "pod-ip-address.my-namespace.pod.cluster.local", and headless Services'.
  const isPod = other.kind === "pod" && !other.hostNetwork;
  return isPod && !peer.domainNames?.some((name) => name.endsWith("cluster.local")) ? false : null;
}

function takesAll({ matchLabels, matchExpressions }: Selector): boolean {
  return Object.keys(matchLabels ?? {}).length + (matchExpressions ?? []).length === 0;
}

/** Addresses of every sort that ranges here tell apart, for an end whose own is not known. */
const ANYWHERE = [
  ...["10.0.0.9", "10.1.0.9", "10.2.0.1", "192.0.2.9", "8.8.8.8", "2001:db8::9", "fd00::9"],
];

function isPort(rule: Port, { server, port, transport }: Question): boolean {
  // "If not specified, this field defaults to TCP."
  const { portNumber, portRange, namedPort } = rule;
  if (portNumber) return portNumber.port === port && (portNumber.protocol ?? "TCP") === transport;
  if (portRange) {
    const { start, end, protocol = "TCP" } = portRange;
    return start <= port && port <= end && protocol === transport;
  }
  return isNamed(namedPort!, { server, port, transport });
}

/** "selects a destination port on a pod based on the ContainerPort name" */
function isNamed(name: string, question: Pick<Question, "server" | "port" | "transport">): boolean {
  const { server, port, transport } = question;
  return server.ports.some(
    (own) => own.name === name && own.port === port && own.transport === transport,
  );
}

function isProtocol(rule: Protocol, question: Question): boolean {
  if (rule.destinationNamedPort) return isNamed(rule.destinationNamedPort, question);
  const match = { TCP: rule.tcp, UDP: rule.udp, SCTP: rule.sctp }[question.transport];
  if (match === undefined) return false;
  const { number, range } = match.destinationPort;
  if (range) return range.start <= question.port && question.port <= range.end;
  return number === question.port;
}

function isRule(
  rule: Rule,
  direction: Direction,
  question: Question,
  nodes: ReadonlyMap<string, NaiveEnd>,
): Known {
  const [, other] = sidesOf(direction, question);
  const peers = (direction === "ingress" ? rule.from : rule.to) ?? [];
  return allOf([
    anyOf(peers.map((peer) => isPeer(peer, other, nodes))),
    // "If Ports is not set then the rule does not filter traffic via port."
    !rule.ports || rule.ports.some((port) => isPort(port, question)),
    !rule.protocols || rule.protocols.some((protocol) => isProtocol(protocol, question)),
  ]);
}

const ACTIONS: Record<string, Outcome> = {
  Allow: "allowed",
  Accept: "allowed",
  Deny: "denied",
  Pass: "pass",
};

/** What one policy may do: its first rule that matches acts, in the order as written. */
function judgeOne(
  { spec }: AdminPolicyBody,
  direction: Direction,
  question: Question,
  nodes: ReadonlyMap<string, NaiveEnd>,
): Outcomes {
  const [self] = sidesOf(direction, question);
  if (spec.unheardOf && self.kind === "pod" && !self.hostNetwork) {
    return new Set(["none", "pass", "allowed", "denied"]);
  }
  if (!isAmong(spec.subject, self)) return new Set(["none"]);
  const outcomes = new Set<Outcome>();
  for (const rule of spec[direction] ?? []) {
    const isMatch = isRule(rule, direction, question, nodes);
    if (isMatch !== false) outcomes.add(ACTIONS[rule.action]!);
    if (isMatch === true) return outcomes;
  }
  return outcomes.add("none");
}

/** One tier: lower priority values first; `none` where no rule acts, `pass` where one passes. */
export function judgeTier(
  policies: readonly AdminPolicyBody[],
  tier: "Admin" | "Baseline",
  direction: Direction,
  question: Question,
  nodes: ReadonlyMap<string, NaiveEnd>,
): Outcomes {
  const mine = policies.filter(
    ({ kind, spec }) => (kind === "ClusterNetworkPolicy" ? spec.tier : KIND_TIERS[kind]) === tier,
  );
  const outcomes = new Set<Outcome>();
  const priorities = [...new Set(mine.map(({ spec }) => spec.priority ?? 0))];
  for (const priority of priorities.sort((a, b) => a - b)) {
    const equals = mine.filter(({ spec }) => (spec.priority ?? 0) === priority);
    const each = equals.map((policy) => judgeOne(policy, direction, question, nodes));
    // "If two (or more) policies with the same priority could both match a connection, then the
    // implementation can apply any of the matching policies."
    for (const one of each)
      for (const outcome of one) if (outcome !== "none") outcomes.add(outcome);
    if (!each.every((one) => one.has("none"))) return outcomes;
  }
  return outcomes.add("none");
}

const KIND_TIERS = {
  AdminNetworkPolicy: "Admin",
  BaselineAdminNetworkPolicy: "Baseline",
  ClusterNetworkPolicy: null,
} as const;

function drawSubject(random: Random): Subject {
  if (random.once(4)) return { namespaces: {} };
  if (random.once(2)) return { namespaces: drawSelector(random) };
  const namespaceSelector = random.once(2) ? {} : drawSelector(random);
  return { pods: { namespaceSelector, podSelector: drawSelector(random) } };
}

const NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "0.0.0.0/0", "::/0", "10.2.0.1/32"];

function drawPeer(random: Random, direction: Direction, withAll: boolean): Peer {
  if (direction === "ingress" || !withAll || random.once(2)) return drawSubject(random);
  return random.pick<() => Peer>(
    () => ({ nodes: drawSelector(random) }),
    () => ({ networks: random.list(1, 2, () => random.pick(...NETWORKS)) }),
    () => ({ networks: random.list(1, 2, () => random.pick(...NETWORKS)) }),
    () => ({ domainNames: [random.pick("kubernetes.io", "*.n1.pod.cluster.local")] }),
  )();
}

function drawPort(random: Random, withNames: boolean): Port {
  const protocol = random.maybe(2, "protocol", () => random.pick("TCP", "UDP", "SCTP"));
  const port = random.pick(80, 80, 81, 81, 15_008);
  if (withNames && random.once(4)) return { namedPort: random.pick("web", "dns") };
  return random.once(2)
    ? { portNumber: { ...protocol, port } }
    : { portRange: { ...protocol, start: port, end: port + 1 + random.below(2) } };
}

function drawProtocol(random: Random, withNames: boolean): Protocol {
  if (withNames && random.once(4)) return { destinationNamedPort: random.pick("web", "dns") };
  const start = random.pick(80, 81);
  const destinationPort = random.once(2)
    ? { number: start }
    : { range: { start, end: start + 1 + random.below(2) } };
  return { [random.pick("tcp", "udp", "sctp")]: { destinationPort } };
}

function drawRules(random: Random, direction: Direction, kind: string): Rule[] {
  const isCluster = kind === "ClusterNetworkPolicy";
  const actions = isCluster ? ["Accept", "Deny", "Pass"] : ["Allow", "Deny", "Pass"];
  if (kind === "BaselineAdminNetworkPolicy") actions.pop();
  return random.list(0, 3, () => {
    const action = random.pick(...actions);
    // Names of ports do not stand beside networks and nodes (a rule of the API's validation).
    const withNames = random.once(2);
    const peers = random.list(1, 2, () => drawPeer(random, direction, !withNames));
    if (action !== actions[0] || kind === "BaselineAdminNetworkPolicy") {
      // "DomainNames is only supported for ALLOW rules."
      for (const peer of peers) {
        if (peer.domainNames === undefined) continue;
        delete peer.domainNames;
        peer.networks = ["0.0.0.0/0"];
      }
    }
    const ports = isCluster
      ? random.maybe(2, "protocols", () => random.list(1, 2, () => drawProtocol(random, withNames)))
      : random.maybe(2, "ports", () => random.list(1, 2, () => drawPort(random, withNames)));
    return { action, [direction === "ingress" ? "from" : "to"]: peers, ...ports };
  });
}

export function drawAdminPolicy(
  random: Random,
  name: string,
  kind: AdminPolicyBody["kind"],
): AdminPolicyBody {
  const isCluster = kind === "ClusterNetworkPolicy";
  const v1 = isCluster ? "v1alpha2" : "v1alpha1";
  const priority = random.pick(0, 1, 1, 2, 1000);
  return {
    ...{ apiVersion: `policy.networking.k8s.io/${v1}` },
    kind,
    // There is one baseline policy at most, and that is its name (validated).
    metadata: { name: kind === "BaselineAdminNetworkPolicy" ? "default" : name },
    spec: {
      ...(isCluster ? { tier: random.pick("Admin", "Baseline") } : {}),
      ...(kind === "BaselineAdminNetworkPolicy" ? {} : { priority }),
      subject: drawSubject(random),
      ...random.optional("ingress", () => drawRules(random, "ingress", kind)),
      ...random.optional("egress", () => drawRules(random, "egress", kind)),
      ...random.maybe(25, "unheardOf", () => true as const),
    },
  };
}
