/** Lays out Calico's policies, and Kubernetes' among them, in their tiers and order. */
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import type { AdminNetworkPolicies } from "../admin-network-policy.ts";
import type { Decision } from "../../decision/because.ts";
import type { Connection, Direction, NetworkPolicies } from "../network-policy.ts";
import type { Ternary } from "../../decision/ternary.ts";
import { NOTHING, type PortSet } from "../port-set.ts";
import type { Fault } from "../../manifest/problem.ts";
import { NAMESPACE, OF_ACCOUNT, OF_NAMESPACE, SERVICE_ACCOUNT } from "./endpoint.ts";
import { nameOf } from "./metadata.ts";
import { read, readRule, type Rule } from "./rule.ts";
import { ALL, allOf, replace, withPrefix, type Selector } from "./selector.ts";
import { isOfCalico } from "./shape.ts";

/** A broken policy may pick any end, and do anything. */
export type Policy = {
  object: ClusterObject;
  tier: string;
  order: number;
  subject: Selector;
  applies: Readonly<Record<Direction, Ternary>>;
  rules: Readonly<Record<Direction, readonly Rule[]>>;
  /** Host endpoints alone; null for one that endpoints of pods have too. */
  host: "only" | "forwarded" | null;
  fault: Fault | null;
};

/** Policies of Kubernetes, which stand in a tier together. */
export type Stage = {
  /** What it denies is what none of its rules allows; a later policy of the tier may allow it. */
  isOpen: boolean;
  decide(connection: Connection): Decision;
  permit(
    direction: Direction,
    pod: Holder,
    other: Holder,
  ): { selected: boolean; allowed: PortSet; denied: PortSet };
};

/** `passes`: what no policy of it takes goes on to the next tier; null where that is not known. */
export type Tier = {
  name: string;
  order: number;
  passes: Ternary;
  items: readonly (Policy | Stage)[];
};

/** `unplaced`: tiers of which nobody knows when they come. */
export type Layout = { tiers: readonly Tier[]; unplaced: readonly Tier[] };

export type Kubernetes = {
  admin: AdminNetworkPolicies;
  baseline: AdminNetworkPolicies;
  /** Judges by some of the NetworkPolicies of Kubernetes. */
  policies: (objects: readonly ClusterObject[]) => NetworkPolicies;
};

/** Every NetworkPolicy of Kubernetes has it (conversion.go K8sNetworkPolicyToCalico). */
const ORDER_OF_KUBERNETES = 1000;

/**
 * Tiers that are there though none declares them (clientv3/client.go EnsureInitialized, tier.go).
 * The two last are those of AdminNetworkPolicy before ClusterNetworkPolicy came.
 */
const BUILT_IN: readonly (readonly [name: string, order: number, passes: boolean])[] = [
  ["kube-admin", 1_000, true],
  ["default", 1_000_000, false],
  ["kube-baseline", 10_000_000, true],
  ["adminnetworkpolicy", 1_000, true],
  ["baselineadminnetworkpolicy", 10_000_000, true],
];

/** Reports whether an object is one that Calico decides by. */
export function isCalicoPolicy(object: ClusterObject): boolean {
  return isOfCalico(object, "NetworkPolicy") || isOfCalico(object, "GlobalNetworkPolicy");
}

export function layOut(
  objects: readonly ClusterObject[],
  policies: readonly Policy[],
  faultsOf: (object: ClusterObject) => readonly Fault[],
  kubernetes: Kubernetes,
): Layout {
  const known = new Map<string, Omit<Tier, "items">>(
    BUILT_IN.map(([name, order, passes]) => [name, { name, order, passes }]),
  );
  for (const object of objects) {
    if (!isOfCalico(object, "Tier")) continue;
    if (faultsOf(object).length > 0) known.delete(object.name);
    else {
      const spec = valueAt(object.body, "spec");
      const passes = textAt(spec, "defaultAction") === "Pass";
      known.set(object.name, { name: object.name, order: orderOf(spec), passes });
    }
  }
  const stages = new Map<string, Stage[]>();
  const theirs = objects.filter((o) => o.apiVersion.startsWith("policy.networking.k8s.io/"));
  for (const [old, name, other, judge] of [
    ["AdminNetworkPolicy", "kube-admin", "Baseline", kubernetes.admin],
    ["BaselineAdminNetworkPolicy", "kube-baseline", "Admin", kubernetes.baseline],
  ] as const) {
    const isNew = theirs.some(
      (o) => o.kind === "ClusterNetworkPolicy" && textAt(o.body, "spec", "tier") !== other,
    );
    if (!isNew && !theirs.some((o) => o.kind === old)) continue;
    stages.set(isNew ? name : old.toLowerCase(), [toAdminStage(judge)]);
  }
  const byTier = Map.groupBy(
    policies.filter(({ host }) => host !== "only"),
    ({ tier }) => tier,
  );
  const tiers: Tier[] = [];
  const unplaced: Tier[] = [];
  for (const name of new Set([...byTier.keys(), ...stages.keys(), "default"])) {
    const tier = known.get(name);
    const own = (byTier.get(name) ?? []).sort(byOrder);
    const stage = stages.get(name) ?? [];
    const isDefault = name === "default";
    const items = isDefault ? withKubernetes(own, objects, kubernetes) : own;
    if (tier === undefined) {
      unplaced.push({ name, order: Infinity, passes: null, items: [...stage, ...items] });
    } else if (stage.length > 0 && own.length > 0) {
      // Both have their places among one another, by priority: which comes first is not read.
      tiers.push({ ...tier, items: stage });
      unplaced.push({ ...tier, items: own });
    } else tiers.push({ ...tier, items: [...stage, ...items] });
  }
  return { tiers: tiers.sort(byTierOrder), unplaced };
}

/** Felix's TierLess (felix/calc/policy_sorter.go): by order, none being last, then by name. */
function byTierOrder(a: Tier, b: Tier): number {
  return a.order === b.order ? (a.name < b.name ? -1 : 1) : a.order - b.order;
}

/** PolKVLess of the same: by order, none being last, then by name, namespace and kind. */
function byOrder(a: Policy, b: Policy): number {
  return a.order === b.order ? (keyOf(a.object) < keyOf(b.object) ? -1 : 1) : a.order - b.order;
}

function keyOf(object: ClusterObject): string {
  const kind = isOfCalico(object) ? object.kind : "KubernetesNetworkPolicy";
  return `${nameOf(object)}/${object.namespace}/${kind}`;
}

/** The default tier: the NetworkPolicies of Kubernetes stand at their order, between Calico's. */
function withKubernetes(
  own: readonly Policy[],
  objects: readonly ClusterObject[],
  { policies }: Kubernetes,
): (Policy | Stage)[] {
  const theirs = objects
    .filter((o) => o.kind === "NetworkPolicy" && o.apiVersion.startsWith("networking.k8s.io/"))
    .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const items: (Policy | Stage)[] = [];
  let next = 0;
  /** All of them up to the first that does not come before this policy. */
  const take = (before: Policy | null) => {
    const from = next;
    while (next < theirs.length && (before === null || keyOf(theirs[next]!) < keyOf(before.object)))
      next++;
    if (next > from) items.push(toStage(policies(theirs.slice(from, next))));
  };
  for (const policy of own) {
    if (policy.order === ORDER_OF_KUBERNETES) take(policy);
    else if (policy.order > ORDER_OF_KUBERNETES) take(null);
    items.push(policy);
  }
  take(null);
  return items;
}

function toStage(judge: NetworkPolicies): Stage {
  return {
    isOpen: true,
    decide: (connection) => judge.decide(connection),
    permit: (...ends) => {
      const { selected, ports } = judge.permit(...ends);
      return { selected, allowed: selected ? ports : NOTHING, denied: NOTHING };
    },
  };
}

function toAdminStage(judge: AdminNetworkPolicies): Stage {
  return {
    isOpen: false,
    decide: (connection) => judge.decide(connection),
    permit: (...ends) => ({ selected: false, ...judge.permit(...ends) }),
  };
}

/** Objects never change; each is compiled once for all versions of the policy that it is in. */
const compiled = new WeakMap<ClusterObject, Policy>();

export function compilePolicy(object: ClusterObject, fault: Fault | null): Policy {
  const known = compiled.get(object) ?? compile(object, fault);
  compiled.set(object, known);
  return known;
}

function compile(object: ClusterObject, fault: Fault | null): Policy {
  const spec = valueAt(object.body, "spec");
  const tier = valueAt(spec, "tier") ?? "default";
  const { namespace } = object;
  const place = {
    object,
    tier: typeof tier === "string" ? tier || "default" : "",
    order: fault !== null && !hasOrder(spec) ? -Infinity : orderOf(spec),
  };
  const own: Selector | null =
    namespace === "" ? null : { op: "==", key: NAMESPACE, value: namespace };
  if (fault !== null) {
    const applies = { ingress: null, egress: null };
    const rules = { ingress: [], egress: [] };
    return { ...place, subject: own ?? ALL, applies, rules, host: null, fault };
  }
  const isForHosts = ["doNotTrack", "preDNAT"].some((field) => valueAt(spec, field) === true);
  const isForwarded = valueAt(spec, "applyOnForward") === true;
  const rulesOf = (direction: Direction) =>
    listAt(spec, direction).map((rule) => readRule(rule, namespace));
  return {
    ...place,
    subject: readSubject(spec, own),
    applies: { ingress: applies(object, "ingress"), egress: applies(object, "egress") },
    rules: { ingress: rulesOf("ingress"), egress: rulesOf("egress") },
    host: isForHosts ? "only" : isForwarded ? "forwarded" : null,
    fault: null,
  };
}

/** Whether the order is one, or is left out. */
function hasOrder(spec: Json | undefined): boolean {
  const order = valueAt(spec, "order");
  return isMap(spec) && (order === undefined || order === null || typeof order === "number");
}

function orderOf(spec: Json | undefined): number {
  const order = valueAt(spec, "order");
  return typeof order === "number" ? order : Infinity;
}

/**
 * Whom a policy picks: by its selector, its namespace or namespaceSelector, and its
 * serviceAccountSelector (networkpolicyprocessor.go, globalnetworkpolicyprocessor.go). Beside
 * either of the latter, `all()` of a global policy means what has a namespace, or an account.
 */
function readSubject(spec: Json | undefined, own: Selector | null): Selector {
  let subject = allOf(read(spec, "selector"), own);
  const add = (field: string, prefix: string, all: string) => {
    const found = read(spec, field);
    if (found === null) return;
    subject = allOf(subject, withPrefix(found, prefix))!;
    if (own === null) subject = replace(subject, "all", { op: "has", key: all });
  };
  add("namespaceSelector", OF_NAMESPACE, NAMESPACE);
  add("serviceAccountSelector", OF_ACCOUNT, SERVICE_ACCOUNT);
  return subject ?? ALL;
}

/**
 * Whether a policy speaks of a direction. Without `types` the API puts them in by the rules that
 * are there (api/pkg/defaults/networkpolicy.go); its later form asks whether the lists are
 * (networkpolicy.mutatingadmissionpolicy.yaml). Nobody puts them into an object of the storage's
 * own group, and Felix takes none for both (policy_sorter.go ExtractPolicyMetadata).
 */
function applies(object: ClusterObject, direction: Direction): Ternary {
  const spec = valueAt(object.body, "spec");
  const types = listAt(spec, "types");
  if (types.length > 0) return types.includes(direction === "ingress" ? "Ingress" : "Egress");
  if (object.apiVersion.startsWith("crd.")) return true;
  const byRules = isDefault(direction, (name) => listAt(spec, name).length > 0);
  const byLists = isDefault(direction, (name) => Array.isArray(valueAt(spec, name)));
  return byRules === byLists ? byRules : null;
}

function isDefault(direction: Direction, has: (name: Direction) => boolean): boolean {
  return direction === "egress" ? has("egress") : has("ingress") || !has("egress");
}
