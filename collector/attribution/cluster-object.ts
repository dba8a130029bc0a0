/** Turns the JSON of a Kubernetes object into one that is pinned: named, versioned, hashed. */
import { createHash } from "node:crypto";

export type Json = null | boolean | number | string | readonly Json[] | JsonMap;
export type JsonMap = { readonly [key: string]: Json | undefined };
export type Labels = Readonly<Record<string, string>>;

/** Where an object was declared; null for one that came from the cluster's API. */
export type Source = { file: string; line: number };

export type ClusterObject = {
  apiVersion: string;
  kind: string;
  /** Empty for a cluster-scoped object. */
  namespace: string;
  name: string;
  uid: string | null;
  resourceVersion: string | null;
  /** Milliseconds since the epoch; null where the manifest does not say. */
  createdMs: number | null;
  labels: Labels;
  annotations: Labels;
  /** `sha256:` and hex, over the canonical JSON without `status` and the server's bookkeeping. */
  hash: string;
  source: Source | null;
  body: JsonMap;
};

/** Kinds without a namespace, among those that Wireproof reads. */
const CLUSTER_SCOPED = new Set([
  ...["Namespace", "Node", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"],
  ...["ClusterNetworkPolicy", "GlobalNetworkPolicy", "CiliumClusterwideNetworkPolicy"],
  ...["CiliumCIDRGroup", "CiliumNode", "CiliumClusterwideEnvoyConfig"],
  ...["Tier", "GlobalNetworkSet", "Segmentation", "IPPool", "PersistentVolume"],
  ...["HostEndpoint", "Profile", "StagedGlobalNetworkPolicy", "FelixConfiguration"],
  ...["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "StorageClass"],
]);

export function isMap(value: unknown): value is JsonMap {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value at a path of map keys, or undefined where the path leaves the maps. */
export function valueAt(value: Json | undefined, ...path: readonly string[]): Json | undefined {
  let here = value;
  for (const key of path) {
    if (!isMap(here) || !Object.hasOwn(here, key)) return undefined;
    here = here[key];
  }
  return here;
}

export function textAt(value: Json | undefined, ...path: readonly string[]): string | null {
  const found = valueAt(value, ...path);
  return typeof found === "string" && found !== "" ? found : null;
}

export function listAt(value: Json | undefined, ...path: readonly string[]): readonly Json[] {
  const found = valueAt(value, ...path);
  return Array.isArray(found) ? found : [];
}

/** A map of strings, as labels are; scalars that YAML read as numbers or booleans are spelled. */
export function labelsAt(value: Json | undefined, ...path: readonly string[]): Labels {
  const found = valueAt(value, ...path);
  if (!isMap(found)) return {};
  const labels: Record<string, string> = {};
  for (const [key, text] of Object.entries(found)) {
    if (typeof text === "string" || typeof text === "number" || typeof text === "boolean") {
      labels[key] = String(text);
    }
  }
  return labels;
}

/** JSON with sorted keys, without spaces or undefined (RFC 8785 for what Kubernetes holds). */
export function toCanonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toCanonicalJson).join(",")}]`;
  if (!isMap(value)) return JSON.stringify(value ?? null);
  const keys = Object.keys(value).filter((key) => value[key] !== undefined);
  const fields = keys.sort().map((key) => `${JSON.stringify(key)}:${toCanonicalJson(value[key])}`);
  return `{${fields.join(",")}}`;
}

/** What the API server notes about writes: it changes with `status`, and declares nothing. */
const BOOKKEEPING = new Set(["managedFields", "resourceVersion", "generation", "selfLink"]);

/** What somebody declared: the object without its status and the server's bookkeeping. */
export function declaredPart(body: JsonMap): JsonMap {
  const { status: _status, ...rest } = body;
  const { metadata } = rest;
  if (!isMap(metadata)) return rest;
  const kept = Object.entries(metadata).filter(([key]) => !BOOKKEEPING.has(key));
  return { ...rest, metadata: Object.fromEntries(kept) };
}

export function hashObject(body: JsonMap): string {
  const json = toCanonicalJson(declaredPart(body));
  return `sha256:${createHash("sha256").update(json).digest("hex")}`;
}

/**
 * Pins one object. Null when it is no Kubernetes object: `kind` or `metadata.name` is missing (a
 * `generateName` stands in for a name). A namespaced object without a namespace is in `default`.
 */
export function toClusterObject(body: unknown, source: Source | null): ClusterObject | null {
  if (!isMap(body)) return null;
  const kind = textAt(body, "kind");
  const name = textAt(body, "metadata", "name") ?? textAt(body, "metadata", "generateName");
  if (kind === null || name === null) return null;
  const created = Date.parse(textAt(body, "metadata", "creationTimestamp") ?? "");
  const scoped = CLUSTER_SCOPED.has(kind);
  return {
    apiVersion: textAt(body, "apiVersion") ?? "",
    kind,
    namespace: scoped ? "" : (textAt(body, "metadata", "namespace") ?? "default"),
    name,
    uid: textAt(body, "metadata", "uid"),
    resourceVersion: textAt(body, "metadata", "resourceVersion"),
    createdMs: Number.isNaN(created) ? null : created,
    labels: labelsAt(body, "metadata", "labels"),
    annotations: labelsAt(body, "metadata", "annotations"),
    hash: hashObject(body),
    source,
    body,
  };
}

/** `NetworkPolicy.networking.k8s.io`: the kind, and the group of its API version. */
export function groupKind({ apiVersion, kind }: { apiVersion: string; kind: string }): string {
  const group = apiVersion.includes("/") ? apiVersion.split("/")[0] : "";
  return `${kind}.${group}`;
}

/** What an object is called within the cluster, in whichever version of its API. */
export type ObjectName = Pick<ClusterObject, "apiVersion" | "kind" | "namespace" | "name">;

/** `NetworkPolicy.networking.k8s.io/pay/default-deny` */
export function keyOf(object: ObjectName): string {
  return `${groupKind(object)}/${object.namespace}/${object.name}`;
}
