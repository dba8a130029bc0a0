/** Checks which rules of the cluster's own tiers can never count, or contradict each other. */
import {
  isMap,
  listAt,
  textAt,
  toCanonicalJson,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { readSelector, selects } from "../../attribution/selector.ts";
import { formatObject } from "../decision/because.ts";
import type { Direction } from "../packet/network-policy.ts";
import type { Step } from "../manifest/place.ts";
import { CONFIGURATION, BOUNDARY, type Rule } from "./rule.ts";
import { isWholeRange } from "./network-policy.ts";
import { numbered, type Scope } from "./scope.ts";
import { adminPolicies, isSubject, tierOf } from "./selection.ts";

export const ADMIN_POLICY = {
  shadowed: {
    id: "admin-rule-shadowed",
    title: "a rule that an earlier one takes everything from",
    why: "The first rule that matches decides: this one never does.",
    remedy: "put the narrower rule first, or drop this one",
    level: "warning",
    controls: CONFIGURATION,
  },
  conflict: {
    id: "admin-equal-priority",
    title: "policies of one priority that disagree",
    why: "Any of them may count: what holds is left to the network plugin.",
    remedy: "give them different priorities",
    level: "error",
    controls: CONFIGURATION,
    needsPods: true,
  },
  openToWorld: {
    id: "admin-egress-anywhere",
    title: "an admin rule that lets pods reach every address",
    why: "No NetworkPolicy can take back what the admin tier lets pass.",
    remedy: "Pass it on to NetworkPolicy, or name the ranges",
    level: "warning",
    pci: "error",
    controls: BOUNDARY,
  },
} as const satisfies Record<string, Rule>;

const RULES = ADMIN_POLICY;

type AdminRule = {
  policy: ClusterObject;
  direction: Direction;
  at: number;
  action: string;
  peers: readonly Json[];
  /** Null for every port. */
  ports: readonly Json[] | null;
  /** Peers and ports as canonical JSON, to be told apart. */
  texts: { peers: readonly string[]; ports: ReadonlySet<string> };
};

/** Rules of one tier and direction that are held against each other; of more nothing is said. */
const RULES_LIMIT = 2000;

export function checkAdminPolicies(scope: Scope): void {
  const tiers = new Map<string, ClusterObject[]>();
  for (const policy of adminPolicies(scope)) {
    const tier = tierOf(policy);
    if (tier !== null) tiers.set(tier, [...(tiers.get(tier) ?? []), policy]);
  }
  for (const policies of tiers.values()) {
    const ranked = policies.sort((a, b) => priorityOf(a) - priorityOf(b));
    for (const direction of ["ingress", "egress"] as const) {
      const rules = ranked.map((policy) => rulesOf(policy, direction));
      for (const rule of rules.flat()) tellWorld(scope, rule);
      if (rules.flat().length > RULES_LIMIT) {
        const reason = `more than ${RULES_LIMIT} rules of one tier`;
        scope.skip(RULES.shadowed, reason);
        scope.skip(RULES.conflict, reason);
        continue;
      }
      checkShadowed(scope, rules.flat());
      checkConflicts(scope, rules);
    }
  }
}

/** A BaselineAdminNetworkPolicy comes behind all that have a priority. */
function priorityOf({ kind, body }: ClusterObject): number {
  const priority = valueAt(body, "spec", "priority");
  if (kind === "BaselineAdminNetworkPolicy") return Infinity;
  return typeof priority === "number" ? priority : 0;
}

function rulesOf(policy: ClusterObject, direction: Direction): AdminRule[] {
  return numbered(listAt(policy.body, "spec", direction)).map(([at, rule]) => {
    const ports = [...listAt(rule, "ports"), ...listAt(rule, "protocols")];
    const peers = listAt(rule, direction === "ingress" ? "from" : "to");
    return {
      ...{ policy, direction, at },
      action: textAt(rule, "action") === "Accept" ? "Allow" : (textAt(rule, "action") ?? ""),
      peers,
      ports: ports.length === 0 ? null : ports,
      texts: {
        peers: peers.map(toCanonicalJson),
        ports: new Set(ports.map(toCanonicalJson)),
      },
    };
  });
}

function formatRule({ policy, direction, at, action }: AdminRule): string {
  return `${direction} rule ${at} of ${formatObject(policy)} (${action})`;
}

function checkShadowed(scope: Scope, rules: readonly AdminRule[]): void {
  for (const [i, rule] of rules.entries()) {
    const by = rules.slice(0, i).find((earlier) => takes(earlier, rule));
    if (by === undefined) continue;
    const sentence = `${formatRule(rule)} never counts: ${formatRule(by)} takes all of it before`;
    scope.report(RULES.shadowed, rule.policy, pathOf(rule), sentence);
  }
}

function pathOf({ direction, at }: AdminRule): Step[] {
  return ["spec", direction, at];
}

function tellWorld(scope: Scope, rule: AdminRule): void {
  if (rule.direction !== "egress" || rule.action !== "Allow" || tierOf(rule.policy) !== "Admin") {
    return;
  }
  for (const [i, peer] of numbered(rule.peers)) {
    const at = listAt(peer, "networks").findIndex((range) => isWholeRange(String(range)));
    if (at < 0) continue;
    const path = [...pathOf(rule), "to", i, "networks", at];
    scope.report(RULES.openToWorld, rule.policy, path, `${formatRule(rule)} takes every address`);
  }
}

/** Reports whether whatever matches `rule` matches `earlier`: only what is plain to see. */
function takes(earlier: AdminRule, rule: AdminRule): boolean {
  if (earlier.policy !== rule.policy) {
    // Those of one priority may count in any order.
    if (priorityOf(earlier.policy) >= priorityOf(rule.policy)) return false;
    const subject = (policy: ClusterObject) => valueAt(policy.body, "spec", "subject");
    if (!isWider(subject(earlier.policy), subject(rule.policy))) return false;
  }
  const hasPorts =
    earlier.ports === null ||
    (rule.ports !== null && [...rule.texts.ports].every((port) => earlier.texts.ports.has(port)));
  return (
    hasPorts &&
    rule.peers.every((peer, i) => {
      if (earlier.texts.peers.includes(rule.texts.peers[i]!)) return true;
      return earlier.peers.some((other) => isWider(other, peer));
    })
  );
}

/** Whether one subject or peer takes all pods that the other takes: it is the same, or has all. */
function isWider(wide: Json | undefined, narrow: Json | undefined): boolean {
  if (toCanonicalJson(wide ?? {}) === toCanonicalJson(narrow ?? {})) return true;
  if (!isMap(narrow) || !("namespaces" in narrow || "pods" in narrow)) return false;
  const isAll = (selector: Json | undefined) =>
    isMap(selector) && readSelector(selector).length === 0;
  if (isAll(valueAt(wide, "namespaces"))) return true;
  const pods = valueAt(wide, "pods");
  return (
    isMap(pods) &&
    isAll(valueAt(pods, "namespaceSelector")) &&
    readSelector(valueAt(pods, "podSelector") ?? undefined).length === 0
  );
}

function checkConflicts(scope: Scope, policies: readonly (readonly AdminRule[])[]): void {
  const marks = new Map<AdminRule, bigint>();
  for (const [i, rules] of policies.entries()) {
    for (const others of policies.slice(0, i)) {
      const [first, second] = [rules[0]?.policy, others[0]?.policy];
      if (first === undefined || second === undefined) continue;
      if (priorityOf(first) !== priorityOf(second)) continue;
      const pod = scope.pods.find((one) =>
        [first, second].every(
          ({ body }) => isSubject(scope, valueAt(body, "spec", "subject"), one) === true,
        ),
      );
      const clash = pod === undefined ? null : findClash(scope, rules, others, marks);
      if (pod === undefined || clash === null) continue;
      const sentence =
        `${formatRule(clash.rule)} and ${formatRule(clash.other)} have one priority, and both ` +
        `speak of ${formatHolder(pod)} and ${clash.who}`;
      scope.report(RULES.conflict, first, pathOf(clash.rule), sentence);
    }
  }
}

/** The first two rules of different actions that both speak of one other end. */
function findClash(
  scope: Scope,
  rules: readonly AdminRule[],
  others: readonly AdminRule[],
  marks: Map<AdminRule, bigint>,
): { rule: AdminRule; other: AdminRule; who: string } | null {
  /** A bit for each pod that a rule speaks of. */
  const marksOf = (rule: AdminRule): bigint => {
    const known = marks.get(rule);
    if (known !== undefined) return known;
    const bits = scope.pods.map((pod) => (isPeer(scope, rule, pod) ? "1" : "0"));
    const made = BigInt(`0b0${bits.join("")}`);
    marks.set(rule, made);
    return made;
  };
  for (const rule of rules) {
    for (const other of others) {
      if (rule.action === other.action || !mayMeet(rule.ports, other.ports)) continue;
      if ((marksOf(rule) & marksOf(other)) === 0n) continue;
      const who = scope.pods.find((pod) => isPeer(scope, rule, pod) && isPeer(scope, other, pod));
      if (who !== undefined) return { rule, other, who: formatHolder(who) };
    }
  }
  return null;
}

function isPeer(scope: Scope, { peers }: AdminRule, pod: Holder): boolean {
  return peers.some((peer) => {
    const pods = valueAt(peer, "pods");
    const namespaces = valueAt(pods, "namespaceSelector") ?? valueAt(peer, "namespaces");
    if (namespaces === undefined || pod.hostNetwork) return false;
    return (
      scope.isIn(readSelector(namespaces ?? undefined), pod) === true &&
      selects(readSelector(valueAt(pods, "podSelector") ?? undefined), pod.labels)
    );
  });
}

/** Two rules for different single ports never meet; of names and ranges nothing is said. */
function mayMeet(a: readonly Json[] | null, b: readonly Json[] | null): boolean {
  if (a === null || b === null) return true;
  return a.some((one) =>
    b.some((other) => {
      const [first, second] = [singlePort(one), singlePort(other)];
      return first === null || second === null || first === second;
    }),
  );
}

/** `TCP 80`; null for a range or a name. */
function singlePort(entry: Json): string | null {
  const number = valueAt(entry, "portNumber");
  if (isMap(number)) return `${textAt(number, "protocol") ?? "TCP"} ${String(number["port"])}`;
  for (const carrier of ["tcp", "udp", "sctp"]) {
    const found = valueAt(entry, carrier, "destinationPort", "number");
    if (found !== undefined) return `${carrier.toUpperCase()} ${String(found)}`;
  }
  return null;
}
