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
import { formatObject } from "../because.ts";
import type { Direction } from "../network-policy.ts";
import type { Step } from "../place.ts";
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
};

export function checkAdminPolicies(scope: Scope): void {
  const tiers = new Map<string, ClusterObject[]>();
  for (const policy of adminPolicies(scope)) {
    const tier = tierOf(policy);
    if (tier !== null) tiers.set(tier, [...(tiers.get(tier) ?? []), policy]);
  }
  for (const policies of tiers.values()) {
    const ranked = policies.sort((a, b) => priorityOf(a) - priorityOf(b));
    for (const direction of ["ingress", "egress"] as const) {
      checkShadowed(scope, ranked, direction);
      checkConflicts(scope, ranked, direction);
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
    return {
      ...{ policy, direction, at },
      action: textAt(rule, "action") === "Accept" ? "Allow" : (textAt(rule, "action") ?? ""),
      peers: listAt(rule, direction === "ingress" ? "from" : "to"),
      ports: ports.length === 0 ? null : ports,
    };
  });
}

function formatRule({ policy, direction, at, action }: AdminRule): string {
  return `${direction} rule ${at} of ${formatObject(policy)} (${action})`;
}

function checkShadowed(scope: Scope, ranked: readonly ClusterObject[], direction: Direction): void {
  const before: AdminRule[] = [];
  for (const policy of ranked) {
    for (const rule of rulesOf(policy, direction)) {
      tellWorld(scope, rule);
      const by = before.find((earlier) => takes(earlier, rule));
      before.push(rule);
      if (by === undefined) continue;
      const sentence = `${formatRule(rule)} never counts: ${formatRule(by)} takes all of it before`;
      scope.report(RULES.shadowed, policy, pathOf(rule), sentence);
    }
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
  const same = (a: Json, b: Json) => toCanonicalJson(a) === toCanonicalJson(b);
  const hasPorts =
    earlier.ports === null ||
    (rule.ports !== null &&
      rule.ports.every((port) => earlier.ports!.some((other) => same(other, port))));
  return (
    hasPorts &&
    rule.peers.every((peer) =>
      earlier.peers.some((other) => same(other, peer) || isWider(other, peer)),
    )
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

function checkConflicts(
  scope: Scope,
  ranked: readonly ClusterObject[],
  direction: Direction,
): void {
  for (const [i, policy] of ranked.entries()) {
    for (const other of ranked.slice(0, i)) {
      if (priorityOf(other) !== priorityOf(policy)) continue;
      const pod = scope.pods.find((one) =>
        [policy, other].every(
          (o) => isSubject(scope, valueAt(o.body, "spec", "subject"), one) === true,
        ),
      );
      const clash = pod === undefined ? null : findClash(scope, policy, other, direction);
      if (pod === undefined || clash === null) continue;
      const sentence =
        `${formatRule(clash.rule)} and ${formatRule(clash.other)} have one priority, and both ` +
        `speak of ${formatHolder(pod)} and ${clash.who}`;
      scope.report(RULES.conflict, policy, pathOf(clash.rule), sentence);
    }
  }
}

/** The first two rules of different actions that both speak of one other end. */
function findClash(
  scope: Scope,
  policy: ClusterObject,
  against: ClusterObject,
  direction: Direction,
): { rule: AdminRule; other: AdminRule; who: string } | null {
  for (const rule of rulesOf(policy, direction)) {
    for (const other of rulesOf(against, direction)) {
      if (rule.action === other.action || !mayMeet(rule.ports, other.ports)) continue;
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
