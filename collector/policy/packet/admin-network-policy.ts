/**
 * Judges pairs of ends by one tier of the cluster's own policies: AdminNetworkPolicy or
 * BaselineAdminNetworkPolicy (v1alpha1), and ClusterNetworkPolicy (v1alpha2) of that tier.
 */
import { parseRange } from "../../attribution/address.ts";
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
  type Labels,
} from "../../attribution/cluster-object.ts";
import {
  formatHolder,
  hasOwnNetwork,
  toNodeHolder,
  type Holder,
  type Transport,
} from "../../attribution/holder.ts";
import { readSelector, selects, type Selector } from "../../attribution/selector.ts";
import { formatObject, toBecause, toFaultBecause, type Decision } from "../decision/because.ts";
import type { Because, PathDecision } from "../expectation.ts";
import type { Connection, Direction } from "./network-policy.ts";
import {
  BY_ADDRESS,
  hasPort,
  matchesPeers,
  portsOn,
  type Peer,
  type PodsInBlocks,
  type PortRule,
} from "./peer.ts";
import { or, type Ternary } from "../decision/ternary.ts";
import { EVERYTHING, intersect, NOTHING, subtract, union, type PortSet } from "./port-set.ts";
import type { Fault } from "../manifest/problem.ts";

type Action = "Allow" | "Deny" | "Pass";
type Rule = {
  action: Action;
  name: string | null;
  peers: readonly Peer[];
  ports: readonly PortRule[] | null;
};
type Policy = {
  object: ClusterObject;
  priority: number;
  namespaces: Selector;
  pods: Selector;
  rules: Readonly<Record<Direction, readonly Rule[]>>;
  fault: Fault | null;
};

/** What one rule says of a connection, if it speaks of it; `undeclared` passes it on. */
type Say = { path: PathDecision; isSure: boolean; because: Because };

/** Where a connection may end; `undeclared` is the next tier. */
export type Ways = { paths: Set<PathDecision>; because: Because[] };

/** What a tier lets pass, what it forbids; what is left goes on to the next tier. */
export type Tier = { allowed: PortSet; denied: PortSet };

/** One tier: its policies by priority; in each the first rule that matches decides. */
export class AdminNetworkPolicies {
  private readonly policies: readonly Policy[];
  private readonly selected = new WeakMap<Holder, readonly Policy[][]>();
  /** Those that select a namespace, by its labels as JSON. */
  private readonly near = new Map<string, readonly Policy[]>();
  private readonly podsInBlocks: PodsInBlocks;
  /** Nodes by name: a pod on the node's own network is reached by the node's addresses. */
  private readonly nodes: ReadonlyMap<string, ClusterObject>;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    nodes: readonly ClusterObject[],
    podsInBlocks: PodsInBlocks,
  ) {
    this.podsInBlocks = podsInBlocks;
    this.nodes = new Map(nodes.map((node) => [node.name, node]));
    this.policies = objects
      .map((object) => compile(object, faultsOf(object)[0] ?? null))
      .sort((a, b) => a.priority - b.priority || (a.object.name < b.object.name ? -1 : 1));
  }

  /** `undeclared`: the tier passes the connection on. */
  decide(connection: Connection): Decision {
    return toDecision(this.follow(connection));
  }

  /** Every way that a connection may take through the tier, by all that is not known. */
  follow(connection: Connection): Ways {
    const ways: Ways = { paths: new Set(), because: [] };
    for (const equals of this.selecting(connection.pod)) {
      const says = equals.map((policy) => this.ask(policy, connection));
      const sure = says.flatMap((list) => list.filter(({ isSure }) => isSure));
      const all = says.flat();
      if (sure.some(({ path }) => path !== sure[0]!.path)) {
        // "the implementation can apply any of the matching policies" of one priority
        const sentence =
          "undecidable: policies of one priority disagree, and any of them may count";
        ways.because.push({ ...sure[0]!.because, sentence });
      }
      for (const { path, because } of all) {
        ways.paths.add(path);
        ways.because.push(because);
      }
      if (sure.length > 0) return ways;
    }
    ways.paths.add("undeclared");
    return ways;
  }

  /** What is not certain is not let pass: all that may be denied counts as denied. */
  permit(direction: Direction, pod: Holder, other: Holder): Tier {
    const server = direction === "ingress" ? pod : other;
    let denied = NOTHING;
    let passed = NOTHING;
    /** What no policy so far is certain to speak of. */
    let open = EVERYTHING;
    for (const equals of this.selecting(pod)) {
      let rest = open;
      for (const policy of equals) {
        let left = open;
        if (policy.fault !== null) denied = union(denied, open); // it may deny anything
        for (const rule of policy.rules[direction]) {
          const match = this.matches(policy, rule, other);
          if (match === false) continue;
          const here = intersect(left, portsOn(rule.ports, server) ?? EVERYTHING);
          if (rule.action === "Deny") denied = union(denied, here);
          if (rule.action === "Pass") passed = union(passed, here);
          if (match === true) left = subtract(left, here);
        }
        rest = intersect(rest, left);
      }
      open = rest;
    }
    return { allowed: subtract(subtract(subtract(EVERYTHING, open), passed), denied), denied };
  }

  /** The rules of one policy that may speak of the connection: up to one that is certain to. */
  private ask(policy: Policy, { direction, pod, other, transport, port }: Connection): Say[] {
    const { object, rules, fault } = policy;
    const server = direction === "ingress" ? pod : other;
    if (fault !== null) {
      return [{ path: "undecidable", isSure: true, because: toFaultBecause(object, fault) }];
    }
    const says: Say[] = [];
    for (const [i, rule] of rules[direction].entries()) {
      if (!hasPort(rule.ports, server, transport, port)) continue;
      const match = this.matches(policy, rule, other);
      if (match === false) continue;
      const isSure = match === true;
      const title = rule.name === null ? "" : ` (${rule.name})`;
      const sentence =
        `${isSure ? DONE[rule.action] : "undecidable"} by ${formatObject(object)}: ` +
        `${direction} rule ${i}${title} matches ${formatHolder(other)}`;
      const because = toBecause(object, `spec.${direction}[${i}]`, sentence);
      says.push({ path: PATHS[rule.action], isSure, because });
      if (isSure) break;
    }
    return says;
  }

  /** A pod on the node's own network is no pod to a rule: it is met by the node's addresses. */
  private matches({ object }: Policy, { peers }: Rule, other: Holder): Ternary {
    if (other.kind !== "pod" || !other.hostNetwork) {
      // "cluster-internal traffic will be checked against the rule as well", of both versions.
      const isOut = this.podsInBlocks === "outside" && object.kind !== "ClusterNetworkPolicy";
      return matchesPeers(peers, other, "", isOut ? { ...BY_ADDRESS, pods: "never" } : BY_ADDRESS);
    }
    const node = other.node === null ? undefined : this.nodes.get(other.node);
    if (node !== undefined) {
      const addresses = listAt(node.body, "status", "addresses").flatMap(
        (address) => textAt(address, "address") ?? [],
      );
      return matchesPeers(peers, toNodeHolder(node, addresses), "", BY_ADDRESS);
    }
    const onNodes = peers.map(({ nodes }) => (nodes === null ? false : nodes.length === 0 || null));
    return or([...onNodes, matchesPeers(peers, other, "", BY_ADDRESS)]);
  }

  /** Those that select the pod, together where their priority is equal. */
  private selecting(pod: Holder): readonly Policy[][] {
    if (!hasOwnNetwork(pod)) return [];
    const known = this.selected.get(pod);
    if (known !== undefined) return known;
    const groups: Policy[][] = [];
    for (const policy of this.selectingNamespace(pod.namespaceLabels)) {
      if (!selects(policy.pods, pod.labels)) continue;
      const last = groups.at(-1);
      if (last?.[0]?.priority === policy.priority) last.push(policy);
      else groups.push([policy]);
    }
    this.selected.set(pod, groups);
    return groups;
  }

  private selectingNamespace(labels: Labels): readonly Policy[] {
    const key = JSON.stringify(labels);
    const found =
      this.near.get(key) ?? this.policies.filter(({ namespaces }) => selects(namespaces, labels));
    this.near.set(key, found);
    return found;
  }
}

/** One way out alone is the decision; more, and nobody knows which. */
export function toDecision({ paths, because }: Ways): Decision {
  const [path] = paths;
  return { path: paths.size > 1 ? "undecidable" : path!, because };
}

const PATHS = { Allow: "allowed", Deny: "denied", Pass: "undeclared" } as const;
const DONE = { Allow: "allowed", Deny: "denied", Pass: "passed on" } as const;

function compile(object: ClusterObject, fault: Fault | null): Policy {
  const spec = valueAt(object.body, "spec");
  const priority = valueAt(spec, "priority");
  const none = { ingress: [], egress: [] };
  // A BaselineAdminNetworkPolicy has no priority: it comes behind those that have one.
  const isBaseline = object.kind === "BaselineAdminNetworkPolicy";
  const rank = isBaseline ? Infinity : typeof priority === "number" ? priority : 0;
  if (fault !== null) {
    return { object, priority: rank, namespaces: [], pods: [], rules: none, fault };
  }
  const subject = valueAt(spec, "subject");
  const pods = valueAt(subject, "pods");
  return {
    object,
    priority: rank,
    namespaces: readSelector(
      valueAt(pods, "namespaceSelector") ?? valueAt(subject, "namespaces") ?? undefined,
    ),
    pods: readSelector(valueAt(pods, "podSelector") ?? undefined),
    rules: {
      ingress: listAt(spec, "ingress").map((rule) => readRule(rule, "from")),
      egress: listAt(spec, "egress").map((rule) => readRule(rule, "to")),
    },
    fault: null,
  };
}

function readRule(value: Json, peers: string): Rule {
  const action = textAt(value, "action");
  return {
    action: action === "Accept" ? "Allow" : (action as Action),
    name: textAt(value, "name"),
    peers: listAt(value, peers).map(readPeer),
    ports: readPorts(value),
  };
}

/** `protocols` of a ClusterNetworkPolicy, `ports` of the others; null for every port. */
function readPorts(rule: Json): PortRule[] | null {
  const protocols = listAt(rule, "protocols");
  const ports = listAt(rule, "ports");
  if (protocols.length + ports.length === 0) return null;
  return [...protocols.map(readProtocol), ...ports.map(readPort)];
}

function readProtocol(value: Json): PortRule {
  const name = textAt(value, "destinationNamedPort");
  const carrier = (["tcp", "udp", "sctp"] as const).find((key) => isMap(valueAt(value, key)));
  const port = valueAt(value, carrier ?? "", "destinationPort");
  const first = valueAt(port, "number") ?? valueAt(port, "range", "start");
  const last = valueAt(port, "number") ?? valueAt(port, "range", "end");
  return {
    transport: (carrier ?? "tcp").toUpperCase() as Transport,
    first: typeof first === "number" ? first : null,
    last: typeof last === "number" ? last : null,
    name,
    anyTransport: name !== null,
  };
}

function readPeer(value: Json): Peer {
  const pods = valueAt(value, "pods");
  const namespaces = valueAt(pods, "namespaceSelector") ?? valueAt(value, "namespaces");
  const nodes = valueAt(value, "nodes");
  const names = listAt(value, "domainNames");
  return {
    // Left out beside `podSelector` it is empty, and takes every namespace.
    namespaces:
      namespaces === undefined && pods === undefined ? null : readSelector(namespaces ?? undefined),
    pods: readSelector(valueAt(pods, "podSelector") ?? undefined),
    hostPods: false, // "host-networked pods are not included in this type of peer"
    nodes: nodes === undefined ? null : readSelector(nodes),
    blocks: listAt(value, "networks").map((cidr) => ({
      range: parseRange(String(cidr))!,
      except: [],
    })),
    names: names.some(mayBePod) ? "any" : names.length > 0 ? "outside" : "none",
  };
}

/**
 * Whether a name may be a record that the cluster's DNS makes for pods: "selecting Pods using their
 * generated DNS record" and headless Services are supported (NPEP-133).
 */
function mayBePod(name: Json): boolean {
  return /(^|\.)(pod|svc)\.|(^|\.)local\.?$/.test(String(name));
}

function readPort(value: Json): PortRule {
  const single = valueAt(value, "portNumber");
  const range = valueAt(value, "portRange");
  const name = textAt(value, "namedPort");
  const transport = (textAt(single ?? range, "protocol") ?? "TCP") as Transport;
  const first = valueAt(single, "port") ?? valueAt(range, "start");
  const last = valueAt(single, "port") ?? valueAt(range, "end");
  return {
    transport,
    first: typeof first === "number" ? first : null,
    last: typeof last === "number" ? last : null,
    name,
    anyTransport: name !== null,
  };
}
