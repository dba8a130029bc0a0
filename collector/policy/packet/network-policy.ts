/** Judges pairs of ends by Kubernetes NetworkPolicy (networking.k8s.io/v1). */
import {
  listAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import {
  formatHolder,
  hasOwnNetwork,
  type Holder,
  type Transport,
} from "../../attribution/holder.ts";
import { readSelector, selects, type Selector } from "../../attribution/selector.ts";
import {
  formatObject,
  toBecause,
  toFaultBecause,
  UNDECLARED,
  type Decision,
} from "../decision/because.ts";
import {
  hasPort,
  matchesPeers,
  portsOn,
  readPeers,
  readPorts,
  type InBlocks,
  type Peer,
  type PortRule,
} from "./peer.ts";
import type { Ternary } from "../decision/ternary.ts";
import { EVERYTHING, NOTHING, union, type PortSet } from "./port-set.ts";
import type { Fault } from "../manifest/problem.ts";

export type Direction = "ingress" | "egress";

/**
 * A connection as one of its ends meets it: ingress of `pod` from `other`, or egress of `pod` to
 * `other`. The port is the server's: the pod's for ingress, the other end's for egress.
 */
export type Connection = {
  direction: Direction;
  pod: Holder;
  other: Holder;
  transport: Transport;
  port: number;
};

type Rule = { peers: readonly Peer[] | null; ports: readonly PortRule[] | null };

/** One policy for one direction. A broken one may select anything, and allow anything. */
type Policy = {
  object: ClusterObject;
  applies: Selector;
  rules: readonly Rule[];
  fault: Fault | null;
};

/** What a pair of ends may use by all NetworkPolicies; `selected` when any isolates the pod. */
export type Permit = { selected: boolean; ports: PortSet };

/** Whether a rule speaks of this connection. */
type Match = { ternary: Ternary; rule: number };

export class NetworkPolicies {
  private readonly byNamespace: Record<Direction, ReadonlyMap<string, Policy[]>>;
  private readonly selected: Record<Direction, WeakMap<Holder, readonly Policy[]>> = {
    ingress: new WeakMap(),
    egress: new WeakMap(),
  };
  private readonly inBlocks: InBlocks;

  /** `faultsOf` tells what is wrong with an object; a wrong one is kept, as one that may do all. */
  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    inBlocks: InBlocks,
  ) {
    this.inBlocks = inBlocks;
    const both = objects.map((object) => compileBoth(object, faultsOf(object)[0] ?? null));
    const group = (direction: Direction) => {
      const policies = both.flatMap((policy) => policy[direction] ?? []);
      return Map.groupBy(policies, ({ object }) => object.namespace);
    };
    this.byNamespace = { ingress: group("ingress"), egress: group("egress") };
  }

  decide(connection: Connection): Decision {
    const { direction, pod, other, transport, port } = connection;
    const policies = this.selecting(direction, pod);
    if (policies.length === 0) return UNDECLARED;
    const node = mayBeOwnNode(pod, other);
    const unsure: { policy: Policy; match: Match }[] = [];
    for (const policy of policies) {
      const match = this.match(policy, connection);
      if (match.ternary === true) {
        const name = formatObject(policy.object);
        const what = `${direction} rule ${match.rule} matches ${formatHolder(other)}`;
        const rule = `spec.${direction}[${match.rule}]`;
        const allowed = toBecause(policy.object, rule, `allowed by ${name}: ${what}`);
        // A broken policy that would isolate the pod cannot take this away: rules are a union.
        return { path: "allowed", because: [allowed] };
      }
      if (match.ternary === null) unsure.push({ policy, match });
    }
    if (node !== null) {
      const because = policies.map(({ object }) =>
        toBecause(object, `spec.${direction}`, `undecidable: ${formatHolder(other)} ${node}`),
      );
      return { path: "undecidable", because };
    }
    if (unsure.length > 0) {
      const because = unsure.map(({ policy, match }) => toUnsure(policy, match, direction, other));
      return { path: "undecidable", because };
    }
    const because = policies.map(({ object, rules }) => {
      const what = rules.length === 0 ? `there is no ${direction} rule` : `no ${direction} rule`;
      const sentence =
        `denied by ${formatObject(object)}: ${what}` +
        (rules.length === 0 ? "" : ` matches ${formatHolder(other)} on ${transport} ${port}`);
      return toBecause(object, `spec.${direction}`, sentence);
    });
    return { path: "denied", because };
  }

  /** All that the policies let pass in one direction; what is not certain is not let pass. */
  permit(direction: Direction, pod: Holder, other: Holder): Permit {
    const policies = this.selecting(direction, pod);
    if (policies.length === 0) return { selected: false, ports: EVERYTHING };
    const server = direction === "ingress" ? pod : other;
    let ports = NOTHING;
    for (const { object, rules } of policies) {
      for (const rule of rules) {
        const match = matchesPeers(rule.peers, other, object.namespace, this.inBlocks);
        if (match === true) ports = union(ports, portsOn(rule.ports, server) ?? EVERYTHING);
      }
    }
    return { selected: true, ports };
  }

  /** Pods on the node's own network are not subject to NetworkPolicy. */
  private selecting(direction: Direction, pod: Holder): readonly Policy[] {
    if (!hasOwnNetwork(pod)) return [];
    const known = this.selected[direction].get(pod);
    if (known !== undefined) return known;
    const candidates = this.byNamespace[direction].get(pod.namespace) ?? [];
    const found = candidates.filter((policy) => selects(policy.applies, pod.labels));
    this.selected[direction].set(pod, found);
    return found;
  }

  private match(policy: Policy, { direction, pod, other, transport, port }: Connection): Match {
    if (policy.fault !== null) return { ternary: null, rule: -1 };
    const server = direction === "ingress" ? pod : other;
    let unsure: Match = { ternary: false, rule: -1 };
    for (const [i, rule] of policy.rules.entries()) {
      if (!hasPort(rule.ports, server, transport, port)) continue;
      const own = policy.object.namespace;
      const ternary = matchesPeers(rule.peers, other, own, this.inBlocks);
      if (ternary === true) return { ternary, rule: i };
      if (ternary === null) unsure = { ternary, rule: i };
    }
    return unsure;
  }
}

/**
 * Why it is not certain that policies bind `other`; null where it is. "Traffic to and from the node
 * where a Pod is running is always allowed" (the documentation's page on Network Policies), whereas
 * the API says so of traffic from it alone. A pod on the node's network may be taken for the node.
 */
function mayBeOwnNode(pod: Holder, other: Holder): string | null {
  if (other.kind !== "node" && !(other.kind === "pod" && other.hostNetwork)) return null;
  if (pod.node !== null && other.node !== null && pod.node !== other.node) return null;
  const may = pod.node === null || other.node === null ? "may run" : "runs";
  if (other.kind === "pod") return `${may} on the pod's node, which plugins may let pass`;
  return `${may === "runs" ? "is" : "may be"} the pod's node, which plugins may let pass`;
}

function toUnsure(policy: Policy, match: Match, direction: Direction, other: Holder) {
  const { object, fault } = policy;
  if (fault !== null) return toFaultBecause(object, fault);
  const rule = `spec.${direction}[${match.rule}]`;
  const sentence =
    `undecidable: whether ${rule} of ${formatObject(object)} matches ${formatHolder(other)} ` +
    "depends on its address, or on the network plugin";
  return toBecause(object, rule, sentence);
}

function broken(object: ClusterObject, fault: Fault): Policy {
  return { object, applies: [], rules: [], fault };
}

type Compiled = Readonly<Record<Direction, Policy | null>>;
/** Objects never change; each is compiled once for all versions of the policy that it is in. */
const compiled = new WeakMap<ClusterObject, Compiled>();

function compileBoth(object: ClusterObject, fault: Fault | null): Compiled {
  const known = compiled.get(object);
  if (known !== undefined) return known;
  const of = (direction: Direction) =>
    fault === null ? compile(object, direction) : broken(object, fault);
  const both = { ingress: of("ingress"), egress: of("egress") };
  compiled.set(object, both);
  return both;
}

/** Null when the policy says nothing about this direction. */
function compile(object: ClusterObject, direction: Direction): Policy | null {
  const spec = valueAt(object.body, "spec");
  const types = valueAt(spec, "policyTypes");
  const named = Array.isArray(types) && types.length > 0 ? types : null;
  const word = direction === "ingress" ? "Ingress" : "Egress";
  // Without policyTypes: always ingress; egress when there is an egress rule (defaults.go).
  const stated = direction === "ingress" || listAt(spec, "egress").length > 0;
  if (named === null ? !stated : !named.includes(word)) return null;
  const peers = direction === "ingress" ? "from" : "to";
  const rules = listAt(spec, direction).map((rule: Json) => ({
    peers: readPeers(valueAt(rule, peers)),
    ports: readPorts(valueAt(rule, "ports")),
  }));
  return {
    object,
    applies: readSelector(valueAt(spec, "podSelector") ?? undefined),
    rules,
    fault: null,
  };
}
