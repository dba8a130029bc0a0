/**
 * Judges pairs of ends by one tier of the cluster's own policies: AdminNetworkPolicy or
 * BaselineAdminNetworkPolicy (v1alpha1), and ClusterNetworkPolicy (v1alpha2) of that tier.
 */
import { parseRange } from "../attribution/address.ts";
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../attribution/cluster-object.ts";
import { formatHolder, toNodeHolder, type Holder, type Transport } from "../attribution/holder.ts";
import { readSelector, selects, type Selector } from "../attribution/selector.ts";
import { formatObject, toBecause, toFaultBecause, UNDECLARED, type Decision } from "./because.ts";
import type { Because } from "./expectation.ts";
import type { Direction } from "./network-policy.ts";
import {
  hasPort,
  matchesPeers,
  portsOn,
  type Peer,
  type PodsInBlocks,
  type PortRule,
  type Ternary,
} from "./peer.ts";
import { EVERYTHING, intersect, NOTHING, subtract, union, type PortSet } from "./port-set.ts";
import type { Fault } from "./problem.ts";
import { or } from "./ternary.ts";

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
  podsInBlocks: PodsInBlocks;
  fault: Fault | null;
};

/** What one policy says of a connection; null where none of its rules speaks of it. */
type Say = { path: "allowed" | "denied" | "passed" | "undecidable"; because: Because } | null;

/** What a tier lets pass, what it forbids; what is left goes on to the next tier. */
export type Tier = { allowed: PortSet; denied: PortSet };

/** One tier: its policies by priority; in each the first rule that matches decides. */
export class AdminNetworkPolicies {
  private readonly policies: readonly Policy[];
  private readonly selected = new WeakMap<Holder, readonly Policy[][]>();
  /** Nodes by name: a pod on the node's own network is reached by the node's addresses. */
  private readonly nodes: ReadonlyMap<string, ClusterObject>;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    podsInBlocks: PodsInBlocks,
    nodes: readonly ClusterObject[],
  ) {
    this.nodes = new Map(nodes.map((node) => [node.name, node]));
    this.policies = objects
      .map((object) => compile(object, faultsOf(object)[0] ?? null, podsInBlocks))
      .sort((a, b) => a.priority - b.priority || (a.object.name < b.object.name ? -1 : 1));
  }

  /** `undeclared`: the tier passes the connection on. */
  decide(
    direction: Direction,
    pod: Holder,
    other: Holder,
    transport: Transport,
    port: number,
  ): Decision {
    for (const equals of this.selecting(pod)) {
      const says = equals.flatMap((policy) => {
        const say = this.ask(policy, direction, pod, other, transport, port);
        return say === null ? [] : [say];
      });
      const [first] = says;
      if (first === undefined) continue;
      const because = says.map((say) => say.because);
      if (says.some(({ path }) => path !== first.path)) {
        // "the implementation can apply any of the matching policies" of one priority
        const sentence =
          "undecidable: policies of one priority disagree, and any of them may count";
        return { path: "undecidable", because: [{ ...because[0]!, sentence }, ...because] };
      }
      return { path: first.path === "passed" ? "undeclared" : first.path, because };
    }
    return UNDECLARED;
  }

  permit(direction: Direction, pod: Holder, other: Holder): Tier {
    const server = direction === "ingress" ? pod : other;
    let allowed = NOTHING;
    let denied = NOTHING;
    let open = EVERYTHING;
    for (const equals of this.selecting(pod)) {
      let some = { allowed: NOTHING, denied: NOTHING, passed: NOTHING };
      for (const policy of equals) {
        let left = open;
        if (policy.fault !== null) some = { ...some, denied: open }; // it may deny anything
        for (const rule of policy.rules[direction]) {
          const match = this.matches(policy, rule, other);
          // What is not certain is not let pass.
          if (match === false || (match === null && rule.action === "Allow")) continue;
          const here = intersect(left, portsOn(rule.ports, server) ?? EVERYTHING);
          left = subtract(left, here);
          const key = match === null ? "denied" : KEYS[rule.action];
          some = { ...some, [key]: union(some[key], here) };
        }
      }
      denied = union(denied, some.denied);
      const passed = subtract(some.passed, some.denied);
      allowed = union(allowed, subtract(subtract(some.allowed, some.denied), passed));
      open = subtract(subtract(subtract(open, some.allowed), some.denied), some.passed);
    }
    return { allowed, denied };
  }

  private ask(
    policy: Policy,
    direction: Direction,
    pod: Holder,
    other: Holder,
    transport: Transport,
    port: number,
  ): Say {
    const { object, rules, fault } = policy;
    const server = direction === "ingress" ? pod : other;
    if (fault !== null) return { path: "undecidable", because: toFaultBecause(object, fault) };
    for (const [i, rule] of rules[direction].entries()) {
      if (!hasPort(rule.ports, server, transport, port)) continue;
      const match = this.matches(policy, rule, other);
      if (match === false) continue;
      const path = match === null ? "undecidable" : KEYS[rule.action];
      const word = path === "passed" ? "passed on" : path;
      const title = rule.name === null ? "" : ` (${rule.name})`;
      const sentence =
        `${word} by ${formatObject(object)}: ` +
        `${direction} rule ${i}${title} matches ${formatHolder(other)}`;
      return { path, because: toBecause(object, `spec.${direction}[${i}]`, sentence) };
    }
    return null;
  }

  /** A pod on the node's own network is no pod to a rule: it is met by the node's addresses. */
  private matches({ podsInBlocks }: Policy, { peers }: Rule, other: Holder): Ternary {
    if (other.kind !== "pod" || !other.hostNetwork) {
      return matchesPeers(peers, other, "", podsInBlocks);
    }
    const node = other.node === null ? undefined : this.nodes.get(other.node);
    if (node !== undefined) {
      const addresses = listAt(node.body, "status", "addresses").flatMap(
        (address) => textAt(address, "address") ?? [],
      );
      return matchesPeers(peers, toNodeHolder(node, addresses), "", podsInBlocks);
    }
    const onNodes = peers.map(({ nodes }) => (nodes === null ? false : nodes.length === 0 || null));
    return or([...onNodes, matchesPeers(peers, other, "", podsInBlocks)]);
  }

  /** Those that select the pod, together where their priority is equal. */
  private selecting(pod: Holder): readonly Policy[][] {
    if (pod.kind !== "pod" || pod.hostNetwork) return [];
    const known = this.selected.get(pod);
    if (known !== undefined) return known;
    const groups: Policy[][] = [];
    for (const policy of this.policies) {
      const { namespaces, pods } = policy;
      if (!selects(namespaces, pod.namespaceLabels) || !selects(pods, pod.labels)) continue;
      const last = groups.at(-1);
      if (last?.[0]?.priority === policy.priority) last.push(policy);
      else groups.push([policy]);
    }
    this.selected.set(pod, groups);
    return groups;
  }
}

const KEYS = { Allow: "allowed", Deny: "denied", Pass: "passed" } as const;

function compile(object: ClusterObject, fault: Fault | null, inBlocks: PodsInBlocks): Policy {
  const spec = valueAt(object.body, "spec");
  const priority = valueAt(spec, "priority");
  const none = { ingress: [], egress: [] };
  // A BaselineAdminNetworkPolicy has no priority: it comes behind those that have one.
  const isBaseline = object.kind === "BaselineAdminNetworkPolicy";
  const rank = isBaseline ? Infinity : typeof priority === "number" ? priority : 0;
  const podsInBlocks = object.kind === "ClusterNetworkPolicy" ? "match" : inBlocks;
  if (fault !== null) {
    return { object, priority: rank, namespaces: [], pods: [], rules: none, podsInBlocks, fault };
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
    podsInBlocks,
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
  return {
    // Left out beside `podSelector` it is empty, and takes every namespace.
    namespaces:
      namespaces === undefined && pods === undefined ? null : readSelector(namespaces ?? undefined),
    pods: readSelector(valueAt(pods, "podSelector") ?? undefined),
    nodes: nodes === undefined ? null : readSelector(nodes),
    blocks: listAt(value, "networks").map((cidr) => ({
      range: parseRange(String(cidr))!,
      except: [],
    })),
    hasNames: listAt(value, "domainNames").length > 0,
  };
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
