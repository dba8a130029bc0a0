/**
 * Judges pairs of ends by Calico's tiers: the policies of each in their order, those of Kubernetes
 * among them, and the profiles at the end (felix/rules/endpoints.go endpointIptablesChain).
 */
import { isMap, listAt, textAt, type ClusterObject } from "../../../attribution/cluster-object.ts";
import { formatHolder, hasOwnNetwork, type Holder } from "../../../attribution/holder.ts";
import {
  combine,
  formatObject,
  toBecause,
  toFaultBecause,
  UNDECLARED,
  type Decision,
} from "../../decision/because.ts";
import type { Because, PathDecision } from "../../expectation.ts";
import type { Connection, Direction } from "../network-policy.ts";
import { and, or, type Ternary } from "../../decision/ternary.ts";
import {
  EVERYTHING,
  intersect,
  isNothing,
  NOTHING,
  subtract,
  union,
  type PortSet,
} from "../port-set.ts";
import type { Fault } from "../../manifest/problem.ts";
import { Endpoints } from "./endpoint.ts";
import { HostEndpoints } from "./host-endpoint.ts";
import { Nets, type Family } from "./nets.ts";
import { unknownOf, type Rule } from "./rule.ts";
import { only, Rules } from "./rule-match.ts";
import { evaluate } from "./selector.ts";
import { isOfCalico } from "./shape.ts";
import {
  compilePolicy,
  isCalicoPolicy,
  layOut,
  type Kubernetes,
  type Layout,
  type Policy,
  type Stage,
  type Tier,
} from "./tier.ts";

/** A policy that may pick a pod in one direction: certainly, or perhaps. */
type Pick = { policy: Policy; isCertain: boolean };
type PodTier = { tier: Tier; items: readonly (Pick | Stage)[] };
type PodLayout = { tiers: readonly PodTier[]; unplaced: readonly PodTier[] };

/** A connection, with the families of addresses that it may use. */
type Asked = Connection & { families: readonly Family[] };

/** Where a connection may end, by all that is not known on its way through the tiers. */
type Outcome = {
  paths: Set<PathDecision>;
  /** The decisions that ended it. */
  ends: Because[];
  /** What is not known. */
  doubts: Because[];
  /** The rules that sent it on to the next tier. */
  passes: Because[];
};

/** Reports whether Calico is to be judged at all. */
export function hasCalico(objects: readonly ClusterObject[]): boolean {
  return objects.some((object) => isCalicoPolicy(object) || isOfCalico(object, "HostEndpoint"));
}

export class CalicoPolicies {
  private readonly layout: Layout;
  private readonly endpoints: Endpoints;
  private readonly rules: Rules;
  private readonly hosts: HostEndpoints;
  /** Profiles of namespaces that do not let everything pass, by name. */
  private readonly profiles: ReadonlyMap<string, ClusterObject>;
  private readonly picked: Record<Direction, WeakMap<Holder, PodLayout>> = {
    ingress: new WeakMap(),
    egress: new WeakMap(),
  };
  /** By namespace, the tiers with those policies alone that are for it, or for all. */
  private readonly near = new Map<string, Layout>();

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    kubernetes: Kubernetes,
  ) {
    const policies = objects
      .filter(isCalicoPolicy)
      .map((object) => compilePolicy(object, faultsOf(object)[0] ?? null));
    this.layout = layOut(objects, policies, faultsOf, kubernetes);
    this.endpoints = new Endpoints(objects, faultsOf, new Nets(objects, faultsOf));
    this.rules = new Rules(objects, this.endpoints);
    this.hosts = new HostEndpoints(objects, policies);
    this.profiles = new Map(
      objects
        .filter((object) => isOfCalico(object, "Profile") && !isOpenProfile(object))
        .map((object) => [object.name, object]),
    );
  }

  /** Judges one direction, by Calico and by Kubernetes; ports are the server's. */
  decide(connection: Connection): Decision {
    const { direction, pod, other } = connection;
    if (!hasOwnNetwork(pod)) return this.hosts.decide(pod);
    const asked = { ...connection, families: this.endpoints.nets.familiesOf(pod, other) };
    const { tiers, unplaced } = this.layoutOf(direction, pod);
    const outcome = this.follow(tiers, asked);
    for (const tier of unplaced) this.fold(outcome, tier, asked);
    return combine([toDecision(outcome), this.hosts.decideForwarded(pod, other)]);
  }

  /** All that is let pass in one direction; what is not certain is not let pass. */
  permit(direction: Direction, pod: Holder, other: Holder): PortSet {
    const isOpen = hasOwnNetwork(pod)
      ? this.hosts.decideForwarded(pod, other) === UNDECLARED
      : this.hosts.decide(pod) === UNDECLARED;
    if (!isOpen) return NOTHING;
    if (!hasOwnNetwork(pod)) return EVERYTHING;
    const { tiers, unplaced } = this.layoutOf(direction, pod);
    return [tiers, ...unplaced.map((tier) => [tier])].reduce(
      (ports, some) => subtract(ports, this.forbid(some, direction, pod, other)),
      EVERYTHING,
    );
  }

  /** The tiers, with those policies alone that may pick the pod in this direction. */
  private layoutOf(direction: Direction, pod: Holder): PodLayout {
    const known = this.picked[direction].get(pod);
    if (known !== undefined) return known;
    const lookup = this.endpoints.labelsOf(pod);
    const pick = (tier: Tier): PodTier[] => {
      const items = tier.items.flatMap((item): (Pick | Stage)[] => {
        if ("decide" in item) return [item];
        if (item.applies[direction] === false) return [];
        const picks = and([item.applies[direction], evaluate(item.subject, lookup)]);
        return picks === false ? [] : [{ policy: item, isCertain: picks === true }];
      });
      return items.length === 0 ? [] : [{ tier, items }];
    };
    const { tiers, unplaced } = this.layoutIn(pod.namespace);
    const found = { tiers: tiers.flatMap(pick), unplaced: unplaced.flatMap(pick) };
    this.picked[direction].set(pod, found);
    return found;
  }

  private layoutIn(namespace: string): Layout {
    const known = this.near.get(namespace);
    if (known !== undefined) return known;
    const isNear = (item: Policy | Stage) =>
      "decide" in item || item.object.namespace === "" || item.object.namespace === namespace;
    const narrow = (tier: Tier) => ({ ...tier, items: tier.items.filter(isNear) });
    const { tiers, unplaced } = this.layout;
    const found = { tiers: tiers.map(narrow), unplaced: unplaced.map(narrow) };
    this.near.set(namespace, found);
    return found;
  }

  /** Leads a connection through tiers, one behind the other, along every way that it may take. */
  private follow(tiers: readonly PodTier[], asked: Asked): Outcome {
    const outcome: Outcome = { paths: new Set(), ends: [], doubts: [], passes: [] };
    for (const tier of tiers) {
      if (!this.followTier(tier, asked, outcome)) return outcome;
    }
    const { pod, direction } = asked;
    const profile = this.profiles.get(`kns.${pod.namespace}`);
    outcome.paths.add(profile === undefined ? "undeclared" : "undecidable");
    if (profile !== undefined) {
      const sentence = `undecidable: ${formatObject(profile)} has rules of its own`;
      outcome.doubts.push(toBecause(profile, `spec.${direction}`, sentence));
    }
    return outcome;
  }

  /** Adds what one tier says; reports whether the connection may go on to the next. */
  private followTier({ tier, items }: PodTier, asked: Asked, outcome: Outcome): boolean {
    const { paths, ends, doubts } = outcome;
    let isSelected: Ternary = false;
    let goesOn = false;
    /** Told only where they decide. */
    const idle: (() => readonly Because[])[] = [];
    for (const item of items) {
      if ("decide" in item) {
        const said = item.decide(asked);
        if (said.path === "undeclared") continue;
        if (item.isOpen && said.path !== "allowed") {
          isSelected = true;
          if (said.path === "denied") idle.push(() => said.because);
          else {
            paths.add("allowed");
            doubts.push(...said.because);
          }
          continue;
        }
        paths.add(said.path);
        (said.path === "undecidable" ? doubts : ends).push(...said.because);
        return goesOn;
      }
      const { policy, isCertain } = item;
      if (policy.fault !== null) {
        paths.add("undecidable");
        doubts.push(toFaultBecause(policy.object, policy.fault));
        return false;
      }
      const said = this.ask(item, asked, outcome);
      if (said === "ends") return goesOn;
      if (said === "passes") return true;
      goesOn ||= said === "may pass";
      isSelected = or([isSelected, isCertain || null]);
      idle.push(() => [toIdle(policy, isCertain, tier, asked)]);
    }
    if (isSelected === false || tier.passes === true) return true;
    paths.add("denied");
    const isSure = isSelected === true && tier.passes === false;
    (isSure ? ends : doubts).push(...idle.flatMap((tell) => tell()));
    return goesOn || !isSure;
  }

  /** Goes through the rules of one policy. */
  private ask(
    { policy, isCertain }: Pick,
    { direction, pod, other, transport, port, families }: Asked,
    { paths, ends, doubts, passes }: Outcome,
  ): "ends" | "passes" | "may pass" | "goes on" {
    const [client, server] = direction === "ingress" ? [other, pod] : [pod, other];
    let mayPass = false;
    const rules = policy.rules[direction];
    for (let i = 0; i < rules.length; i++) {
      const rule = rules[i]!;
      if (rule.action === "Log") continue;
      const taken = this.rules.takes(rule, server, transport, port);
      if (taken === false) continue;
      const match = this.rules.match(rule, client, server, families);
      if (match === false) continue;
      const isSure = isCertain && taken === true && match === true;
      const because = toRuleBecause(policy, rule, i, direction, other, isSure);
      if (rule.action === "Pass") {
        mayPass = true;
        (isSure ? passes : doubts).push(because);
        if (isSure) return "passes";
      } else {
        paths.add(rule.action === "Allow" ? "allowed" : "denied");
        (isSure ? ends : doubts).push(because);
        if (isSure) return mayPass ? "passes" : "ends";
      }
    }
    return mayPass ? "may pass" : "goes on";
  }

  /** A tier of which nobody knows when it comes may come before all others, or behind them. */
  private fold(outcome: Outcome, tier: PodTier, asked: Asked): void {
    const alone = this.follow([tier], asked);
    const [path] = outcome.paths;
    const isSame = [...alone.paths].every((p) => p === "undeclared" || p === path);
    if (isSame && outcome.paths.size === 1) return;
    outcome.paths.add("undecidable");
    const [first] = tier.items;
    const object = first !== undefined && "policy" in first ? first.policy.object : null;
    if (object === null) outcome.doubts.unshift(...alone.doubts, ...alone.ends);
    else {
      const sentence =
        `undecidable: ${formatPolicy(object)} is in tier ${tier.tier.name}, ` +
        "and when that comes is not declared";
      outcome.doubts.unshift(toBecause(object, "spec.tier", sentence), ...alone.doubts);
    }
  }

  /** The ports that tiers, one behind the other, deny or may deny. */
  private forbid(
    tiers: readonly PodTier[],
    direction: Direction,
    pod: Holder,
    other: Holder,
  ): PortSet {
    const [client, server] = direction === "ingress" ? [other, pod] : [pod, other];
    const families = this.endpoints.nets.familiesOf(client, server);
    let forbidden = NOTHING;
    let open = EVERYTHING;
    for (const { tier, items } of tiers) {
      let here = open;
      let isSelected = false;
      open = NOTHING;
      for (const item of items) {
        if ("decide" in item) {
          const { selected, allowed, denied } = item.permit(direction, pod, other);
          isSelected ||= item.isOpen && selected;
          forbidden = union(forbidden, intersect(here, denied));
          here = subtract(subtract(here, allowed), denied);
          continue;
        }
        const { policy, isCertain } = item;
        if (policy.fault !== null) forbidden = union(forbidden, here);
        isSelected = true; // perhaps, which is enough to deny
        for (const rule of policy.rules[direction]) {
          if (rule.action === "Log") continue;
          const ternary = this.rules.match(rule, client, server, families);
          if (ternary === false) continue;
          const ports = this.rules.portsOn(rule, server);
          const some = intersect(here, ports ?? only(EVERYTHING, rule.transports));
          if (rule.action === "Deny") forbidden = union(forbidden, some);
          if (rule.action === "Pass") open = union(open, some);
          if (isCertain && ternary === true && ports !== null) here = subtract(here, some);
        }
      }
      if (isSelected && tier.passes !== true) forbidden = union(forbidden, here);
      else open = union(open, here);
      if (isNothing(open)) return forbidden;
    }
    return this.profiles.has(`kns.${pod.namespace}`) ? union(forbidden, open) : forbidden;
  }
}

/** One way out alone is the decision; more, and nobody knows which. */
function toDecision({ paths, ends, doubts, passes }: Outcome): Decision {
  const [path] = paths;
  if (paths.size > 1 || path === undefined || path === "undecidable") {
    return { path: "undecidable", because: [...doubts, ...ends, ...passes] };
  }
  if (path === "undeclared") return { path, because: passes };
  return { path, because: [...(ends.length > 0 ? ends : doubts), ...passes] };
}

/** Both groups and Kubernetes have a kind of this name. */
function formatPolicy(object: ClusterObject): string {
  return `Calico's ${formatObject(object)}`;
}

const DONE = { Allow: "allowed", Deny: "denied", Pass: "passed on", Log: "logged" } as const;

function toRuleBecause(
  { object }: Policy,
  rule: Rule,
  i: number,
  direction: Direction,
  other: Holder,
  isSure: boolean,
): Because {
  const at = `spec.${direction}[${i}]`;
  const name = formatPolicy(object);
  const what = `${direction} rule ${i} matches ${formatHolder(other)}`;
  if (isSure) return toBecause(object, at, `${DONE[rule.action]} by ${name}: ${what}`);
  const inBand = rule.hasHttp ? "denial-in-band: " : "undecidable: ";
  const sentence =
    `${inBand}whether ${at} of ${name} matches ${formatHolder(other)} ` +
    `depends on ${unknownOf(rule)}`;
  return toBecause(object, at, sentence);
}

/** A policy that picks the pod and has no rule for the connection. */
function toIdle(policy: Policy, isCertain: boolean, tier: Tier, c: Connection): Because {
  const { object, rules } = policy;
  const at = `spec.${c.direction}`;
  const name = formatPolicy(object);
  if (!isCertain) {
    const sentence = `undecidable: whether ${name} selects ${formatHolder(c.pod)} is not known`;
    return toBecause(object, at, sentence);
  }
  const what =
    rules[c.direction].length === 0
      ? `there is no ${c.direction} rule`
      : `no ${c.direction} rule matches ${formatHolder(c.other)} on ${c.transport} ${c.port}`;
  const sentence = `denied by ${name}: ${what}, and tier ${tier.name} ends with Deny`;
  return toBecause(object, at, sentence);
}

/** The profile that Calico makes of a Namespace lets everything pass (conversion.go). */
function isOpenProfile({ body }: ClusterObject): boolean {
  return ["ingress", "egress"].every((direction) => {
    const rules = listAt(body, "spec", direction);
    const [rule] = rules;
    const isPlain = Object.entries(isMap(rule) ? rule : {}).every(
      ([key, value]) => key === "action" || (isMap(value) && Object.keys(value).length === 0),
    );
    return rules.length === 1 && textAt(rule, "action") === "Allow" && isPlain;
  });
}
