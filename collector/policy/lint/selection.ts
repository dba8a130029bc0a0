/** Checks which selectors of policies match no pod that is declared. */
import {
  labelsAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import type { Holder } from "../../attribution/holder.ts";
import { hasLabels, readSelector, selects } from "../../attribution/selector.ts";
import { formatObject } from "../decision/because.ts";
import { and, type Ternary } from "../decision/ternary.ts";
import { CONFIGURATION, type Rule } from "./rule.ts";
import type { Scope } from "./scope.ts";

export const SELECTION = {
  nothing: {
    id: "selector-matches-nothing",
    title: "a policy that selects no pod",
    why: "It secures nothing: a label may be misspelt, or the workload renamed.",
    remedy: "correct the selector, or drop the policy",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

export function checkSelection(scope: Scope): void {
  const tell = (policy: ClusterObject, path: string[], where: string) => {
    const sentence = `${formatObject(policy)} selects no declared pod ${where}`;
    scope.report(SELECTION.nothing, policy, path, sentence);
  };
  const here = (policy: ClusterObject, selector: Json | undefined, path: string[]) => {
    const requirements = readSelector(selector ?? undefined);
    // An empty selector takes what will come.
    if (requirements.length === 0) return;
    const pods = scope.podsIn(policy.namespace);
    if (pods.some((pod) => selects(requirements, pod.labels))) return;
    tell(policy, path, `of namespace ${policy.namespace}`);
  };
  for (const policy of scope.ofKind("NetworkPolicy", "networking.k8s.io/")) {
    here(policy, valueAt(policy.body, "spec", "podSelector"), ["spec", "podSelector"]);
  }
  for (const server of scope.ofKind("Server", "policy.linkerd.io/")) {
    here(server, valueAt(server.body, "spec", "podSelector"), ["spec", "podSelector"]);
  }
  const { rootNamespace } = scope.meshConfig;
  for (const kind of ["PeerAuthentication", "AuthorizationPolicy"]) {
    for (const policy of scope.ofKind(kind, "security.istio.io/")) {
      const labels = labelsAt(policy.body, "spec", "selector", "matchLabels");
      const isRoot = policy.namespace === rootNamespace;
      if (Object.keys(labels).length === 0 || (isRoot && kind === "PeerAuthentication")) continue;
      const pods = isRoot ? scope.pods : scope.podsIn(policy.namespace);
      if (pods.some((pod) => hasLabels(pod.labels, labels))) continue;
      const where = isRoot ? "of the mesh" : `of namespace ${policy.namespace}`;
      tell(policy, ["spec", "selector"], where);
    }
  }
  for (const policy of adminPolicies(scope)) {
    const subject = valueAt(policy.body, "spec", "subject");
    if (scope.pods.every((pod) => isSubject(scope, subject, pod) === false)) {
      tell(policy, ["spec", "subject"], "of the cluster");
    }
  }
}

const ADMIN = ["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"];

/** Valid policies of the cluster's own tiers. */
export function adminPolicies(scope: Scope): ClusterObject[] {
  return ADMIN.flatMap((kind) => scope.ofKind(kind, "policy.networking.k8s.io/"));
}

/** The tier of a policy; null for a ClusterNetworkPolicy that names none. */
export function tierOf({ kind, body }: ClusterObject): "Admin" | "Baseline" | null {
  if (kind === "AdminNetworkPolicy") return "Admin";
  if (kind === "BaselineAdminNetworkPolicy") return "Baseline";
  const tier = textAt(body, "spec", "tier");
  return tier === "Admin" || tier === "Baseline" ? tier : null;
}

/** Whether the subject of a policy of the cluster's own tiers takes the pod. */
export function isSubject(scope: Scope, subject: Json | undefined, pod: Holder): Ternary {
  if (pod.hostNetwork) return false;
  const pods = valueAt(subject, "pods");
  const namespaces = valueAt(pods, "namespaceSelector") ?? valueAt(subject, "namespaces");
  const selector = readSelector(valueAt(pods, "podSelector") ?? undefined);
  return and([
    selects(selector, pod.labels),
    scope.isIn(readSelector(namespaces ?? undefined), pod),
  ]);
}
