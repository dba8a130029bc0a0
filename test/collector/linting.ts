/** Runs the linter on small manifests for its tests, and holds what it finds against its place. */
import type { Test } from "tap";
import type { ClusterObject } from "../../collector/attribution/cluster-object.ts";
import { parseManifests, type Declared } from "../../collector/policy/manifest/declared.ts";
import { ALL_RULES } from "../../collector/policy/lint/families.ts";
import { lint, type LintReport } from "../../collector/policy/lint/lint.ts";
import type { Profile } from "../../collector/policy/lint/rule.ts";
import type { Origin } from "../../collector/policy/manifest/place.ts";
import { toInventory } from "../../collector/policy/answer/policy-command.ts";

export const NOW_MS = Date.parse("2026-11-22T12:00:00Z");

export function run(text: string, profile: Profile | null = null): LintReport {
  const origins = new Map<ClusterObject, Origin>();
  const declared: Declared = {
    ...{ objects: [], problems: [], unknownKinds: [], files: [] },
    origins,
  };
  parseManifests(text, "a.yaml", declared);
  return lint(declared, toInventory(declared), origins, profile, NOW_MS);
}

/** The text at the place of each finding of a rule, cut to the length of what is expected. */
export function placesOf(
  text: string,
  rule: string,
  length: number,
  profile: Profile | null,
): string[] {
  const lines = text.split("\n");
  return run(text, profile)
    .findings.filter((finding) => finding.rule.id === rule)
    .map(({ line, column }) => lines[line - 1]!.slice(column - 1).slice(0, length));
}

const tested = new Set<string>();

/** `at` is what stands at the place that is told. */
export function check(
  t: Test,
  rule: string,
  { yes, at, no }: { yes: string | string[]; at: string; no: string | string[] },
  profile: Profile | null = null,
): void {
  tested.add(rule);
  for (const text of [yes].flat()) {
    const places = placesOf(text, rule, at.length, profile);
    t.ok(places.length > 0 && places.every((place) => place === at), rule, {
      places,
      wanted: at,
      text,
    });
  }
  for (const text of [no].flat()) {
    t.strictSame(placesOf(text, rule, 60, profile), [], `not ${rule}`);
  }
}

/** Ids of rules that no case was for. */
export function untested(ids: RegExp): string[] {
  return ALL_RULES.map(({ id }) => id).filter((id) => ids.test(id) && !tested.has(id));
}

export const object =
  (kind: string, apiVersion: string) =>
  (name: string, spec: string, meta = "") =>
    `---\napiVersion: ${apiVersion}\nkind: ${kind}\n` +
    `metadata: {name: ${name}, namespace: a${meta}}\nspec: ${spec}\n`;
export const space = (name: string, labels = "", annotations = "") =>
  `---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${name}\n  labels: {${labels}}\n` +
  `  annotations: {${annotations}}\n`;
export const ISTIO = "istio-injection: enabled";
export const AMBIENT = "istio.io/dataplane-mode: ambient";
export const LINKERD = "linkerd.io/inject: enabled";
export const CONSUL = "consul.hashicorp.com/connect-inject: 'true'";

/** A pod of namespace `a` whose container has port 8080, named `web`. */
export const pod = (
  name: string,
  {
    labels = "",
    annotations = "",
    spec = "",
    namespace = "a",
    ports = "[{name: web, containerPort: 8080}]",
  }: Partial<Record<"labels" | "annotations" | "spec" | "namespace" | "ports", string>> = {},
) =>
  `---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\n  namespace: ${namespace}\n` +
  `  labels: {app: ${name}${labels}}\n  annotations: {${annotations}}\n` +
  `spec: {containers: [{name: c, ports: ${ports}}]${spec}}\n`;
export const service = (
  name: string,
  port = "{name: http, port: 80, targetPort: 8080}",
  more = "",
) => object("Service", "v1")(name, `{selector: {app: ${name}}, ports: [${port}]${more}}`);

export const pa = object("PeerAuthentication", "security.istio.io/v1");
export const authz = object("AuthorizationPolicy", "security.istio.io/v1");
export const rule = object("DestinationRule", "networking.istio.io/v1");
export const netpol = object("NetworkPolicy", "networking.k8s.io/v1");
export const admin = object("AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1");
export const mode = (value: string) => `{mtls: {mode: ${value}}}`;
export const strict = pa("default", mode("STRICT"));
export const meshed = space("a", ISTIO) + pod("web");
export const of = (name: string) => `selector: {matchLabels: {app: ${name}}}`;
