/** Checks where an Istio AuthorizationPolicy lets in more, or does less, than it seems to. */
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { hasLabels } from "../../attribution/selector.ts";
import { formatObject } from "../decision/because.ts";
import { isDryRun } from "../mesh/istio/authorization-policy.ts";
import { OF_TCP, OF_TUNNEL, TCP_KEYS, TUNNEL_KEYS } from "../mesh/istio/source-match.ts";
import type { Step } from "../manifest/place.ts";
import { ACCESS, CONFIGURATION, IDENTITY, type Rule } from "./rule.ts";
import { nameWorkloads, numbered, type Scope } from "./scope.ts";

const graver = { pci: "error", hipaa: "error" } as const;

export const ISTIO_AUTHORIZATION = {
  allowAll: {
    id: "istio-authz-allow-all",
    title: "an ALLOW rule that matches everything",
    why: "An empty rule lets in every caller, with an identity or without.",
    remedy: "name who may call, and on which ports",
    level: "warning",
    ...graver,
    controls: ACCESS,
  },
  anyClient: {
    id: "istio-authz-any-client",
    title: "an ALLOW rule that names no source",
    why: "Whoever reaches the workload may call, as long as the rest of the rule matches.",
    remedy: "add a `from` with the callers' principals",
    level: "warning",
    pci: "error",
    controls: ACCESS,
  },
  anyPrincipal: {
    id: "istio-authz-any-principal",
    title: "an ALLOW rule that takes any identity",
    why: "Every workload of the mesh, and of trusted meshes, may call.",
    remedy: "name the principals, or the namespaces, that may call",
    level: "warning",
    controls: IDENTITY,
  },
  deniesAll: {
    id: "istio-authz-denies-all",
    title: "an ALLOW policy without rules",
    why: "It matches nothing, and so denies all that no other ALLOW policy lets in.",
    remedy: "keep it where that is meant",
    level: "note",
    strict: "note",
    controls: ACCESS,
  },
  negatedIdentity: {
    id: "istio-authz-negated-identity",
    title: "an ALLOW rule by who the caller is not",
    why: "notPrincipals and its kin let in everybody else, those without any identity too.",
    remedy: "name who may call, or turn the rule into a DENY policy",
    level: "warning",
    ...graver,
    controls: IDENTITY,
  },
  identityBypass: {
    id: "istio-authz-identity-bypass",
    title: "a DENY rule by identity where plaintext is taken",
    why: "A caller in plaintext has no identity: what names identities does not match it.",
    remedy: "declare STRICT mutual TLS for the workloads, or deny by notPrincipals",
    level: "warning",
    ...graver,
    controls: IDENTITY,
    needsPods: true,
  },
  identityOptional: {
    id: "istio-authz-identity-optional",
    title: "an ALLOW rule by identity where plaintext is taken",
    why: "Callers in plaintext are refused by this rule, but the port is open to them.",
    remedy: "declare STRICT mutual TLS for the workloads",
    level: "note",
    controls: IDENTITY,
    needsPods: true,
  },
  httpLost: {
    id: "istio-authz-http-field-lost",
    title: "a field of HTTP where only TCP is seen",
    why: "An ALLOW rule with it never matches; a DENY rule loses the field, and denies more.",
    remedy: "name ports and principals alone, or have HTTP read: by the Service's port, a waypoint",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
  ambientNoEffect: {
    id: "istio-authz-ambient-no-effect",
    title: "a policy that ambient does not apply",
    why: "ztunnel knows no HTTP, no CUSTOM and no AUDIT: what rests on them alone denies nothing.",
    remedy: "bind the policy to a waypoint by targetRefs",
    level: "error",
    controls: ACCESS,
    needsPods: true,
  },
  dryRun: {
    id: "istio-authz-dry-run",
    title: "a policy in dry-run",
    why: "It is logged, and never decides.",
    remedy: "drop the annotation istio.io/dry-run once the log is as expected",
    level: "warning",
    controls: CONFIGURATION,
  },
} as const satisfies Record<string, Rule>;

const RULES = ISTIO_AUTHORIZATION;

/** Fields of a source that name an identity, without `not`. */
const IDENTITIES = new Set(["principals", "namespaces", "serviceAccounts"]);
const IDENTITY_KEYS = new Set(["source.principal", "source.namespace", "source.serviceAccount"]);
type Field = {
  path: Step[];
  /** Without `not`. */
  name: string;
  isNegated: boolean;
  values: readonly Json[];
  isCondition: boolean;
};

export function checkIstioAuthorization(scope: Scope): void {
  for (const policy of scope.ofKind("AuthorizationPolicy", "security.istio.io/")) {
    const name = formatObject(policy);
    if (isDryRun(policy)) {
      const path = ["metadata", "annotations", "istio.io/dry-run"];
      scope.report(RULES.dryRun, policy, path, `${name} is in dry-run: it never decides`);
      continue;
    }
    const action = textAt(policy.body, "spec", "action") ?? "ALLOW";
    const rules = numbered(listAt(policy.body, "spec", "rules"));
    if (action === "ALLOW" && rules.length === 0) {
      const sentence = `${name} allows nothing: all that no other ALLOW policy lets in is denied`;
      scope.report(RULES.deniesAll, policy, ["spec"], sentence);
    }
    const pods = selectedBy(scope, policy);
    for (const [i, rule] of rules) {
      if (action === "ALLOW") checkAllow(scope, policy, i, rule);
      if (action === "ALLOW" || action === "DENY") {
        checkIdentity(scope, policy, action, i, rule, pods);
        checkHttp(scope, policy, action, i, rule, pods);
      }
    }
    checkAmbient(scope, policy, action, pods);
  }
}

/** Of waypoints and gateways (targetRefs) nothing is known here. */
export function selectedBy(scope: Scope, { body, namespace }: ClusterObject): Holder[] {
  const spec = valueAt(body, "spec");
  if (listAt(spec, "targetRefs").length > 0 || valueAt(spec, "targetRef") !== undefined) return [];
  const labels = labelsAt(spec, "selector", "matchLabels");
  const isWide = namespace === scope.meshConfig.rootNamespace;
  const pods = isWide ? scope.pods : scope.podsIn(namespace);
  return pods.filter((pod) => hasLabels(pod.labels, labels));
}

/** Every field of a rule that says something: an empty list does not. */
function fieldsOf(rule: Json, at: readonly Step[]): Field[] {
  const ends = (list: string, end: string) =>
    numbered(listAt(rule, list)).flatMap(([i, entry]) => {
      const fields = valueAt(entry, end);
      return Object.entries(isMap(fields) ? fields : {}).map(([key, values]) => ({
        path: [...at, list, i, end, key],
        ...toName(key),
        values: Array.isArray(values) ? (values as Json[]) : [],
        isCondition: false,
      }));
    });
  const when = numbered(listAt(rule, "when")).flatMap(([i, condition]) =>
    ["values", "notValues"].map((key) => ({
      path: [...at, "when", i, key],
      name: textAt(condition, "key") ?? "",
      isNegated: key === "notValues",
      values: listAt(condition, key),
      isCondition: true,
    })),
  );
  return [...ends("from", "source"), ...ends("to", "operation"), ...when].filter(
    ({ values }) => values.length > 0,
  );
}

function toName(key: string): { name: string; isNegated: boolean } {
  const isNegated = /^not[A-Z]/.test(key);
  return { name: isNegated ? key[3]!.toLowerCase() + key.slice(4) : key, isNegated };
}

function isIdentity({ name, isCondition }: Field): boolean {
  return isCondition ? IDENTITY_KEYS.has(name) : IDENTITIES.has(name);
}

/** `*`, or a pattern that leaves the namespace open. */
function isAnybody(value: Json): boolean {
  const text = String(value).replace(/^spiffe:\/\//, "");
  return text === "*" || /^[^/]+\/(ns\/)?\*$/.test(text);
}

function checkAllow(scope: Scope, policy: ClusterObject, i: number, rule: Json): void {
  const name = formatObject(policy);
  const at = ["spec", "rules", i];
  const fields = fieldsOf(rule, at);
  if (fields.length === 0) {
    scope.report(RULES.allowAll, policy, at, `${name}: rule ${i} lets in everybody`);
    return;
  }
  const ofSource = (f: Field) =>
    f.isCondition ? /^(source|remote|request\.auth)\./.test(f.name) : f.path[3] === "from";
  const isWorld = (f: Field) =>
    /^(ipBlocks|remoteIpBlocks|source\.ip|remote\.ip)$/.test(f.name) &&
    f.values.some((value) => /^(0\.0\.0\.0|::)\/0$/.test(String(value)));
  const sources = fields.filter((field) => ofSource(field) && !isWorld(field));
  if (sources.length === 0) {
    const sentence = `${name}: rule ${i} names no source: whoever reaches the workload may call`;
    scope.report(RULES.anyClient, policy, fields.find(isWorld)?.path ?? at, sentence);
  }
  for (const field of sources.filter(isIdentity)) {
    const shown = String(field.path[field.path.length - 1]);
    if (field.isNegated) {
      const who = `all but those that ${shown} names, and callers without any identity`;
      const sentence = `${name}: rule ${i} lets in ${who}`;
      scope.report(RULES.negatedIdentity, policy, field.path, sentence);
    } else if (field.values.some(isAnybody)) {
      const what = field.values.find(isAnybody);
      const sentence = `${name}: rule ${i} takes every identity of the mesh: ${String(what)}`;
      scope.report(RULES.anyPrincipal, policy, field.path, sentence);
    }
  }
}

/** Pods in the mesh that take plaintext on some port. */
function openPods(scope: Scope, pods: readonly Holder[]): Holder[] {
  return pods.filter((pod) => {
    const { mesh } = scope.policy.meshedOf(pod);
    if (mesh !== "istio" && mesh !== "ambient") return false;
    const ports = pod.ports.filter((p) => p.transport === "TCP").map((p) => p.port);
    return (ports.length > 0 ? ports : [0]).some((port) => {
      const { mode } = scope.modeOf(pod, port);
      return mode === "PERMISSIVE" || mode === "DISABLE";
    });
  });
}

function checkIdentity(
  scope: Scope,
  policy: ClusterObject,
  action: "ALLOW" | "DENY",
  i: number,
  rule: Json,
  pods: readonly Holder[],
): void {
  const field = fieldsOf(rule, ["spec", "rules", i]).find((f) => isIdentity(f) && !f.isNegated);
  if (field === undefined) return;
  const open = openPods(scope, pods);
  if (open.length === 0) return;
  const where = `callers in plaintext have none, and reach ${nameWorkloads(open)}`;
  const what =
    action === "DENY"
      ? "they are not denied by it"
      : "this rule never matches them, but others may";
  const found = action === "DENY" ? RULES.identityBypass : RULES.identityOptional;
  const sentence = `${formatObject(policy)}: rule ${i} goes by identity, ${where}: ${what}`;
  scope.report(found, policy, field.path, sentence);
}

function checkHttp(
  scope: Scope,
  policy: ClusterObject,
  action: "ALLOW" | "DENY",
  i: number,
  rule: Json,
  pods: readonly Holder[],
): void {
  const fields = fieldsOf(rule, ["spec", "rules", i]);
  const isLost = (field: Field, mesh: "istio" | "ambient") =>
    mesh === "istio"
      ? !(field.isCondition ? TCP_KEYS.test(field.name) : OF_TCP.has(field.name))
      : !(field.isCondition ? TUNNEL_KEYS.test(field.name) : OF_TUNNEL.has(field.name));
  const meshOf = (pod: Holder) => scope.policy.meshedOf(pod).mesh;
  const ambient = pods.filter((pod) => meshOf(pod) === "ambient");
  const inTunnel = fields.find((field) => isLost(field, "ambient"));
  if (ambient.length > 0 && inTunnel !== undefined) {
    const isAll = fields.every((field) => isLost(field, "ambient"));
    const name = formatObject(policy);
    const who = nameWorkloads(ambient);
    if (action === "DENY" && isAll) {
      const why = `which ztunnel does not read for ${who}`;
      const sentence = `${name}: rule ${i} names HTTP alone, ${why}: it denies nothing`;
      scope.report(RULES.ambientNoEffect, policy, inTunnel.path, sentence);
    } else {
      const what = action === "ALLOW" ? "the rule never matches" : "the rule denies more";
      const shown = String(inTunnel.path.at(-1));
      const sentence = `${name}: ztunnel does not read ${shown} for ${who}: ${what}`;
      scope.report(RULES.httpLost, policy, inTunnel.path, sentence);
    }
  }
  const lost = fields.find((field) => isLost(field, "istio"));
  if (lost === undefined) return;
  const named = fields.filter((f) => f.name === "ports" && !f.isNegated).flatMap((f) => f.values);
  for (const pod of pods) {
    if (meshOf(pod) !== "istio") continue;
    const port = pod.ports.find(
      (p) =>
        p.transport === "TCP" &&
        (named.length === 0 || named.some((value) => String(value) === String(p.port))) &&
        scope.protocolOf(pod, p.port) === "tcp",
    );
    if (port === undefined) continue;
    const what = action === "ALLOW" ? "the rule never matches there" : "the rule denies more there";
    const sentence =
      `${formatObject(policy)}: port ${port.port} of ${formatHolder(pod)} is read as TCP, ` +
      `where ${String(lost.path.at(-1))} does not count: ${what}`;
    scope.report(RULES.httpLost, policy, lost.path, sentence);
    return;
  }
}

/** convertAuthorizationPolicy of ambient/authorization.go takes ALLOW and DENY alone. */
function checkAmbient(
  scope: Scope,
  policy: ClusterObject,
  action: string,
  pods: readonly Holder[],
): void {
  if (action === "ALLOW" || action === "DENY") return;
  const ambient = pods.filter((pod) => scope.policy.meshedOf(pod).mesh === "ambient");
  if (ambient.length === 0) return;
  const what = `it does nothing for ${nameWorkloads(ambient)}`;
  const sentence = `${formatObject(policy)}: ztunnel knows no ${action}: ${what}`;
  scope.report(RULES.ambientNoEffect, policy, ["spec", "action"], sentence);
}
