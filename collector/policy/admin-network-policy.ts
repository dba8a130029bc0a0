/** Judges pairs of ends by AdminNetworkPolicy or BaselineAdminNetworkPolicy (v1alpha1). */
import { parseRange } from "../attribution/address.ts";
import {
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../attribution/cluster-object.ts";
import { formatHolder, type Holder, type Transport } from "../attribution/holder.ts";
import { readSelector, selects, type Selector } from "../attribution/selector.ts";
import { formatObject, toBecause, toFaultBecause, UNDECLARED, type Decision } from "./because.ts";
import type { Direction } from "./network-policy.ts";
import { matchesPeers, portsOn, type Peer, type PodsInBlocks, type PortRule } from "./peer.ts";
import {
  EVERYTHING,
  holds,
  intersect,
  NOTHING,
  subtract,
  union,
  type PortSet,
} from "./port-set.ts";
import type { Fault } from "./problem.ts";

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

/** What a tier lets pass, what it forbids; what is left goes on to the next tier. */
export type Tier = { allowed: PortSet; denied: PortSet };

/** One tier: its policies by priority; the first rule that matches decides. */
export class AdminNetworkPolicies {
  private readonly policies: readonly Policy[];
  private readonly podsInBlocks: PodsInBlocks;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    podsInBlocks: PodsInBlocks,
  ) {
    this.podsInBlocks = podsInBlocks;
    this.policies = objects
      .map((object) => compile(object, faultsOf(object)[0] ?? null))
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
    const server = direction === "ingress" ? pod : other;
    for (const { object, rules, fault } of this.selecting(pod)) {
      if (fault !== null) {
        return { path: "undecidable", because: [toFaultBecause(object, fault)] };
      }
      for (const [i, rule] of rules[direction].entries()) {
        const ports = portsOn(rule.ports, server);
        if (ports !== null && !holds(ports, transport, port)) continue;
        const match = matchesPeers(rule.peers, other, "", this.podsInBlocks);
        if (match === false) continue;
        const words = { Allow: "allowed", Deny: "denied", Pass: "passed on" } as const;
        const word = match === null ? "undecidable" : words[rule.action];
        const title = rule.name === null ? "" : ` (${rule.name})`;
        const sentence =
          `${word} by ${formatObject(object)}: ` +
          `${direction} rule ${i}${title} matches ${formatHolder(other)}`;
        const because = [toBecause(object, `spec.${direction}[${i}]`, sentence)];
        if (match === null) return { path: "undecidable", because };
        if (rule.action === "Pass") return { path: "undeclared", because };
        return { path: rule.action === "Allow" ? "allowed" : "denied", because };
      }
    }
    return UNDECLARED;
  }

  permit(direction: Direction, pod: Holder, other: Holder): Tier {
    const server = direction === "ingress" ? pod : other;
    let allowed = NOTHING;
    let denied = NOTHING;
    let open = EVERYTHING;
    for (const { rules } of this.selecting(pod)) {
      for (const rule of rules[direction]) {
        if (matchesPeers(rule.peers, other, "", this.podsInBlocks) !== true) continue;
        const here = intersect(open, portsOn(rule.ports, server) ?? EVERYTHING);
        open = subtract(open, here);
        if (rule.action === "Allow") allowed = union(allowed, here);
        if (rule.action === "Deny") denied = union(denied, here);
      }
    }
    return { allowed, denied };
  }

  private selecting(pod: Holder): readonly Policy[] {
    if (pod.kind !== "pod" || pod.hostNetwork) return [];
    return this.policies.filter(
      ({ namespaces, pods }) =>
        selects(namespaces, pod.namespaceLabels) && selects(pods, pod.labels),
    );
  }
}

function compile(object: ClusterObject, fault: Fault | null): Policy {
  const spec = valueAt(object.body, "spec");
  const priority = valueAt(spec, "priority");
  const none = { ingress: [], egress: [] };
  const rank = typeof priority === "number" ? priority : 0;
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
  const ports = valueAt(value, "ports");
  return {
    action: textAt(value, "action") as Action,
    name: textAt(value, "name"),
    peers: listAt(value, peers).map(readPeer),
    ports: Array.isArray(ports) && ports.length > 0 ? (ports as Json[]).map(readPort) : null,
  };
}

function readPeer(value: Json): Peer {
  const pods = valueAt(value, "pods");
  const namespaces = valueAt(pods, "namespaceSelector") ?? valueAt(value, "namespaces");
  const nodes = valueAt(value, "nodes");
  return {
    namespaces: namespaces === undefined ? null : readSelector(namespaces ?? undefined),
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
