/** Judges pairs of ends by Cilium's policies, together with Kubernetes' own. */
import type { ClusterObject } from "../../../attribution/cluster-object.ts";
import {
  formatHolder,
  hasOwnNetwork,
  type Holder,
  type Transport,
} from "../../../attribution/holder.ts";
import { formatObject, toBecause, toFaultBecause, type Decision } from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import type { Connection, Direction, Permit } from "../network-policy.ts";
import { EVERYTHING, intersect, NOTHING, subtract, union } from "../port-set.ts";
import type { PortSet } from "../port-set.ts";
import type { Fault } from "../../manifest/problem.ts";
import { CILIUM, containerOf, settingsOf } from "../../manifest/control-plane.ts";
import { readCidrGroups } from "./cidr-group.ts";
import { Identities, type Identity } from "./identity.ts";
import { matchesLabels } from "./label-selector.ts";
import { matchPeers, type PeerContext, type PeerMatch } from "./peer.ts";
import { portsOf, speaksOf, type Condition, type PortClause } from "./port-clause.ts";
import { compile, type Rule, type Section } from "./rule.ts";
import { readSettings, type CiliumSettings } from "./settings.ts";

/** A section whose selector selects an end, or (not `certain`) may. */
type Selected = { section: Section; certain: boolean };

/** What one rule says of a connection, in the words of all reasons for it. */
type Hit = { section: Section; rule: Rule; ternary: true | null; at: string; why: string };

type Hits = {
  denies: Hit[];
  allows: Hit[];
  /** Rules that let pass only what a proxy reads, and that yield to those in `allows`. */
  proxied: Hit[];
  /** Conditions that no other rule takes away. */
  hidden: Hit[];
  broken: Section[];
  isolating: Selected[];
};

/** `chosen`: what a rule lets pass, so that no tier behind has a say in it. */
type Chosen = Permit & { chosen: PortSet };

const EVERY_PORT: readonly [null] = [null];
const KINDS = new Set(["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]);

/** Reports whether anything declared shows that Cilium is the cluster's network plugin. */
export function hasCilium(objects: readonly ClusterObject[]): boolean {
  const isOf = ({ apiVersion }: ClusterObject) => apiVersion.startsWith("cilium.io/");
  return (
    objects.some((object) => isOf(object) || containerOf(CILIUM, object) !== null) ||
    settingsOf(CILIUM, objects) !== null
  );
}

export class CiliumPolicies {
  private readonly context: PeerContext;
  private readonly settings: CiliumSettings;
  private readonly sections: ReadonlyMap<string, Section[]>;
  private readonly selected = new WeakMap<Holder, Record<Direction, readonly Selected[]>>();
  private readonly isEmpty: boolean;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    const ofKind = (...kinds: string[]) => objects.filter(({ kind }) => kinds.includes(kind));
    this.settings = readSettings(objects);
    this.context = {
      settings: this.settings,
      identities: new Identities(this.settings, ofKind("Node")),
      groups: readCidrGroups(objects, faultsOf),
      services: ofKind("Service"),
      slices: ofKind("EndpointSlice", "Endpoints"),
    };
    const sections = objects
      .filter((o) => KINDS.has(o.kind) && o.apiVersion.startsWith("cilium.io/"))
      .flatMap((object) => compile(object, faultsOf(object), this.context));
    this.sections = Map.groupBy(sections, ({ object }) => object.namespace);
    const { enforcement, audits } = this.settings;
    this.isEmpty = this.sections.size === 0 && enforcement === "default" && !audits;
  }

  /**
   * Judges a connection of which NetworkPolicies say `kubernetes`. Cilium keeps both in one table:
   * each may isolate, each may allow, and what Cilium's policies deny nothing allows
   * (repository.go, Documentation/security/policy/deny.rst).
   */
  decide(connection: Connection, kubernetes: Decision): Decision {
    if (this.isEmpty) return kubernetes;
    const { direction, pod: subject, other } = connection;
    const sections = this.selecting(subject)[direction];
    const isAlways = this.settings.enforcement === "always" && hasOwnNetwork(subject);
    const decisions =
      sections.length === 0 && !isAlways
        ? [kubernetes]
        : this.context.identities.of(subject, other).map((identity) =>
            // What stays on one node's own network meets no policy.
            identity.kind === "host" && !hasOwnNetwork(subject)
              ? kubernetes
              : this.decideOne(sections, identity, connection, kubernetes),
          );
    return this.enforced(agree(decisions));
  }

  /**
   * What a node's own traffic to a pod on it comes to: allowed, but for what a rule denies
   * (repository.go: the rule that lets localhost in stands behind all others).
   */
  decideLocal(node: Holder, pod: Holder, transport: Transport, port: number): Decision {
    const nothing: Decision = { path: "undeclared", because: [] };
    const ingress = { direction: "ingress", pod, other: node, transport, port } as const;
    const decision = this.decide(ingress, nothing);
    return decision.path === "allowed" ? nothing : decision;
  }

  /** All that the policies let pass in one direction; what is not certain is not let pass. */
  permit(direction: Direction, subject: Holder, other: Holder, kubernetes: Permit): Chosen {
    const told = { ...kubernetes, chosen: kubernetes.selected ? kubernetes.ports : NOTHING };
    const sections = this.isEmpty ? [] : this.selecting(subject)[direction];
    const isAlways = this.settings.enforcement === "always" && hasOwnNetwork(subject);
    if (sections.length === 0 && !isAlways) return told;
    const selected =
      kubernetes.selected || isAlways || sections.some(({ section }) => section.isolates);
    if (sections.some(({ section }) => section.fault !== null)) {
      return { selected: true, ports: NOTHING, chosen: NOTHING };
    }
    const server = direction === "ingress" ? subject : other;
    const found = this.context.identities
      .of(subject, other)
      .map((identity) => this.permitOne(sections, identity, server, told));
    const chosen = found.map((one) => subtract(one.chosen, one.taken)).reduce(intersect);
    if (selected) return { selected, ports: chosen, chosen };
    const closed = found.map((one) => union(one.taken, subtract(one.proxied, one.chosen)));
    return { selected, ports: subtract(EVERYTHING, closed.reduce(union)), chosen };
  }

  /** What rules let pass, what they may take away, and what a proxy lets pass in part. */
  private permitOne(
    sections: readonly Selected[],
    identity: Identity,
    server: Holder,
    kubernetes: Chosen,
  ): Record<"chosen" | "taken" | "proxied", PortSet> {
    let { chosen } = kubernetes;
    let taken = NOTHING;
    let proxied = NOTHING;
    for (const { section, certain } of sections) {
      for (const rule of section.rules) {
        const { ternary } = matchPeers(rule.peers, identity, this.context);
        if (ternary === false) continue;
        const isSure = certain && ternary === true;
        for (const clause of rule.ports ?? EVERY_PORT) {
          const ports = clause === null ? EVERYTHING : portsOf(clause, server);
          const conditions = conditionsOf(rule, clause?.conditions);
          if (rule.isDeny || conditions.some(({ yields }) => !yields)) taken = union(taken, ports);
          else if (conditions.length > 0) proxied = union(proxied, ports);
          else if (isSure) chosen = union(chosen, ports);
        }
      }
    }
    if (this.isLetIn(identity, server)) chosen = union(chosen, subtract(EVERYTHING, proxied));
    return { chosen, taken, proxied };
  }

  private decideOne(
    sections: readonly Selected[],
    identity: Identity,
    connection: Connection,
    kubernetes: Decision,
  ): Decision {
    const { direction, pod: subject, other } = connection;
    const hits = this.collect(sections, identity, connection);
    const { denies, allows, proxied, hidden, broken, isolating } = hits;
    const denial = denies.find(({ ternary }) => ternary === true);
    if (denial !== undefined) return say("denied", [this.tell(denial, other, "denied")]);

    const doubts = [
      ...[...denies, ...hidden].map((hit) => this.tell(hit, other, "undecidable")),
      ...broken.map(({ object, fault }) => toFaultBecause(object, fault!)),
    ];
    const sure = allows.filter(({ ternary }) => ternary === true);
    const isLocal = direction === "ingress" && this.isLetIn(identity, subject);
    // Where nothing isolates, some versions let all requests pass (l4.go ensureWildcard), others
    // only those that a rule names (intro.rst): that is not known here.
    const rest = proxied.map((hit) => this.tell(hit, other, "undecidable"));
    if (sure.length > 0 || kubernetes.path === "allowed") {
      if (doubts.length > 0) return say("undecidable", doubts);
      if (sure.length === 0) return kubernetes;
      // Of further rules that allow, those that ask for something are told too.
      const told = sure.filter(({ rule }, i) => i === 0 || rule.authentication !== null);
      return say(
        "allowed",
        told.map((hit) => this.tell(hit, other, "allowed")),
      );
    }
    // The rule that lets the own node in stands behind the others, and takes no condition away.
    if (isLocal && doubts.length + rest.length === 0) {
      return say("allowed", [tellLocal(sections[0]?.section.object, this.settings, other)]);
    }
    if (isLocal) return say("undecidable", [...rest, ...doubts]);

    const isolated =
      kubernetes.path === "denied" ||
      isolating.some(({ certain }) => certain) ||
      (this.settings.enforcement === "always" && hasOwnNetwork(subject));
    const mayBeIsolated = isolated || isolating.length > 0 || kubernetes.path === "undecidable";
    const unsure = mayBeIsolated ? allows.map((hit) => this.tell(hit, other, "undecidable")) : [];
    const told = kubernetes.path === "undecidable" ? kubernetes.because : [];
    // A denial that is not certain makes no odds where the path is closed without it.
    const own = isolated ? doubts.filter((_, i) => i >= denies.length) : doubts;
    const reasons = [...rest, ...own, ...unsure, ...told];
    if (reasons.length > 0) return say("undecidable", reasons);
    if (isolated) return say("denied", this.tellIsolation(isolating, connection, kubernetes));
    if (!mayBeIsolated) return kubernetes;
    return say(
      "undecidable",
      isolating.map(({ section }) => tellSelection(section, subject)),
    );
  }

  private collect(sections: readonly Selected[], identity: Identity, connection: Connection): Hits {
    const hits: Hits = {
      ...{ denies: [], allows: [], proxied: [], hidden: [], broken: [] },
      isolating: sections.filter(({ section }) => section.isolates),
    };
    const { direction, pod: subject, other, transport, port } = connection;
    const server = direction === "ingress" ? subject : other;
    for (const selected of sections) {
      if (selected.section.fault !== null) hits.broken.push(selected.section);
      for (const rule of selected.section.rules) {
        if (port < rule.span[0] || rule.span[1] < port) continue;
        let match: PeerMatch | null = null;
        for (const clause of rule.ports ?? EVERY_PORT) {
          if (clause !== null && !speaksOf(clause, server, transport, port)) continue;
          match ??= matchPeers(rule.peers, identity, this.context);
          if (match.ternary === false) break;
          note(hits, selected, rule, clause, match, subject);
        }
      }
    }
    return hits;
  }

  private tell(hit: Hit, other: Holder, path: "allowed" | "denied" | "undecidable"): Because {
    const { section, rule, ternary, at, why } = hit;
    const place = at === "" ? rule.at : `${rule.at}.${at}`;
    const name = formatObject(section.object);
    const holder = formatHolder(other);
    if (path === "undecidable") {
      const sentence = why.startsWith("denial-in-band")
        ? `${why}: ${place} of ${name} matches ${holder}`
        : `undecidable: ${place} of ${name} ${ternary === true ? "matches" : "may match"} ` +
          `${holder}: ${why}`;
      return toBecause(section.object, place, sentence);
    }
    const proof =
      rule.authentication === "required" && path === "allowed"
        ? ", once Cilium has authenticated both (authentication.mode required)"
        : "";
    const sentence = `${path} by ${name}: ${place} matches ${holder}${proof}`;
    return toBecause(section.object, place, sentence);
  }

  private tellIsolation(
    isolating: readonly Selected[],
    { other, transport, port }: Connection,
    kubernetes: Decision,
  ): Because[] {
    const own = isolating.map(({ section: { object, at, rules, direction } }) => {
      const allowing = rules.some(({ isDeny }) => !isDeny);
      const what = allowing
        ? `no ${direction} rule matches ${formatHolder(other)} on ${transport} ${port}`
        : `there is no ${direction} rule that allows`;
      return toBecause(object, at, `denied by ${formatObject(object)}: ${what}`);
    });
    const always = this.settings.enforcement === "always" ? this.tellSetting("denied") : [];
    const told = kubernetes.path === "denied" ? kubernetes.because : [];
    return own.length + told.length > 0 ? [...own, ...told] : always;
  }

  /** What the agent's settings make of a decision: with some, nothing denied is dropped. */
  private enforced(decision: Decision): Decision {
    const { enforcement, audits } = this.settings;
    const isPlain = enforcement === "default" || enforcement === "always";
    if ((isPlain && !audits) || decision.path !== "denied") return decision;
    return say("undecidable", [...this.tellSetting("undecidable"), ...decision.because]);
  }

  private tellSetting(word: "denied" | "undecidable"): Because[] {
    const { object, audits } = this.settings;
    if (object === null) return [];
    const field = audits ? "data.policy-audit-mode" : "data.enable-policy";
    const value = object.body["data"] as Record<string, string>;
    const key = field.slice("data.".length);
    return [
      toBecause(
        object,
        field,
        `${word}: ${formatObject(object)} has ${key}: ${value[key]}, for whatever policies say`,
      ),
    ];
  }

  private selecting(subject: Holder): Readonly<Record<Direction, readonly Selected[]>> {
    const known = this.selected.get(subject);
    if (known !== undefined) return known;
    const found = this.select(subject);
    const of = (direction: Direction) =>
      found.filter(({ section }) => section.direction === direction);
    const selected = { ingress: of("ingress"), egress: of("egress") };
    this.selected.set(subject, selected);
    return selected;
  }

  private select(subject: Holder): Selected[] {
    const { identities } = this.context;
    const identity = identities.asSubject(subject);
    if (identity === null) return [];
    const onNode = identity.kind === "host";
    // Policies for nodes are kept only where the host firewall is on (repository.go).
    if (onNode && this.settings.hostFirewall === false) return [];
    const near = onNode ? [] : (this.sections.get(subject.namespace) ?? []);
    return [...near, ...(this.sections.get("") ?? [])].flatMap((section) => {
      if (section.onNodes !== onNode) return [];
      const applies = matchesLabels(section.applies, identity, identities);
      if (applies === false) return [];
      const isKept = !onNode || this.settings.hostFirewall === true;
      return [{ section, certain: applies === true && isKept }];
    });
  }

  /** Whether a pod lets in an end because it is the node that the pod runs on. */
  private isLetIn(from: Identity, pod: Holder): boolean {
    return from.kind === "host" && hasOwnNetwork(pod) && this.settings.allowsLocalhost;
  }
}

/** A mode of authentication that always fails is a condition that no one meets. */
function conditionsOf(rule: Rule, conditions: readonly Condition[] = []): readonly Condition[] {
  if (rule.authentication !== "test-always-fail") return conditions;
  const why = "its authentication is set to fail";
  return [{ at: "authentication.mode", why, yields: false }, ...conditions];
}

function say(path: Decision["path"], because: readonly Because[]): Decision {
  return { path, because };
}

/** What all say; where they differ, it is not known which of them counts. */
function agree(decisions: readonly Decision[]): Decision {
  const [first] = decisions;
  if (first === undefined) return say("undeclared", []);
  if (decisions.every(({ path }) => path === first.path)) return first;
  const told = decisions.flatMap(({ because }) => because);
  const deciding = told[0];
  if (deciding === undefined) return say("undecidable", []);
  const sentence = "undecidable: whether it is the pod's own node, or on it, is not declared";
  return say("undecidable", [{ ...deciding, sentence }, ...told]);
}

/** Puts one clause of a rule that matches, or may, where it belongs. */
function note(
  hits: Hits,
  { section, certain }: Selected,
  rule: Rule,
  clause: PortClause | null,
  match: PeerMatch,
  subject: Holder,
): void {
  const ternary = certain && match.ternary === true ? true : null;
  const why = certain ? match.why : whyUncertain(section, subject);
  const hit: Hit = { section, rule, ternary, at: match.at ?? clause?.at ?? "", why };
  const conditions = conditionsOf(rule, clause?.conditions);
  if (rule.isDeny) hits.denies.push(hit);
  else if (conditions.length === 0) hits.allows.push(hit);
  for (const condition of rule.isDeny ? [] : conditions) {
    const at = clause === null ? condition.at : `${clause.at}.${condition.at}`;
    const list = condition.yields ? hits.proxied : hits.hidden;
    list.push({ ...hit, at, why: ternary === null ? why : condition.why });
  }
}

function whyUncertain({ onNodes }: Section, subject: Holder): string {
  return onNodes
    ? "nothing tells that the host firewall is on (enable-host-firewall)"
    : `whether it selects ${formatHolder(subject)} is not known`;
}

function tellSelection(section: Section, subject: Holder): Because {
  const { object, at } = section;
  const why = whyUncertain(section, subject);
  return toBecause(object, at, `undecidable: ${formatObject(object)} may isolate: ${why}`);
}

function tellLocal(
  object: ClusterObject | undefined,
  settings: CiliumSettings,
  other: Holder,
): Because {
  const deciding = object ?? settings.object!;
  const sentence =
    `allowed: ${formatHolder(other)} is the pod's own node, or on it, ` +
    "which Cilium lets in (allow-localhost)";
  return toBecause(deciding, "allow-localhost", sentence);
}
