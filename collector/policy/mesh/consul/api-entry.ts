/**
 * Reads configuration entries as Consul's own HTTP API gives and takes them
 * (`GET /v1/config/service-intentions`, `consul config write`), and intentions one by one as
 * `GET /v1/connect/intentions` lists them. They become the objects that Kubernetes holds.
 */
import { isMap, textAt, type Json, type JsonMap } from "../../../attribution/cluster-object.ts";

const KINDS: Readonly<Record<string, string>> = {
  "service-intentions": "ServiceIntentions",
  "service-defaults": "ServiceDefaults",
  "proxy-defaults": "ProxyDefaults",
  mesh: "Mesh",
  "exported-services": "ExportedServices",
};

/** Fields that Consul makes itself, or that name the entry and not what it says. */
const OWN = new Set([
  ...["kind", "name", "namespace", "partition", "meta", "hash", "createIndex", "modifyIndex"],
  ...["precedence", "type", "legacyId", "legacyMeta", "legacyCreateTime", "legacyUpdateTime"],
]);

type Step = string | number;

/** The object, and where each field of it stood. */
export type ApiEntry = { body: JsonMap; toSource: (path: readonly Step[]) => Step[] };

/** Null for what is no entry of Consul's API. */
export function readApiEntry(body: Json): ApiEntry | null {
  if (!isMap(body) || "apiVersion" in body) return null;
  const single = readListed(body);
  if (single !== null) return { body: single, toSource: () => [] };
  const kind = KINDS[textOf(body, "kind") ?? ""];
  if (kind === undefined) return null;
  const name = textOf(body, "name");
  const namespace = textOf(body, "namespace");
  const rest = renamed(body);
  const destination = { destination: { name: name ?? "", ...(namespace && { namespace }) } };
  const spec = kind === "ServiceIntentions" ? { ...destination, ...rest } : rest;
  const isNamed = kind === "ServiceDefaults" || kind === "ServiceIntentions";
  const own = name ?? (kind === "ProxyDefaults" ? "global" : isNamed ? null : kind.toLowerCase());
  return {
    body: toObject(kind, own, namespace, spec),
    toSource: (path) => toSource(body, path),
  };
}

function toObject(
  kind: string,
  name: string | null,
  namespace: string | null,
  spec: Json,
): JsonMap {
  const metadata = { ...(name !== null && { name }), ...(namespace && { namespace }) };
  return { apiVersion: "consul.hashicorp.com/v1alpha1", kind, metadata, spec };
}

/** One of the intentions that `/v1/connect/intentions` lists: a source and a destination. */
function readListed(body: JsonMap): JsonMap | null {
  const source = textAt(body, "SourceName");
  const name = textAt(body, "DestinationName");
  if (source === null || name === null || textAt(body, "Kind") !== null) return null;
  const namespace = (text: string | null) => (text === null ? {} : { namespace: text });
  const field = (key: string, as: string) =>
    textAt(body, key) === null ? {} : { [as]: textAt(body, key)! };
  const permissions = body["Permissions"];
  const jwt = body["JWT"];
  return toObject("ServiceIntentions", `${source}-to-${name}`, null, {
    destination: { name, ...namespace(textAt(body, "DestinationNS")) },
    sources: [
      {
        name: source,
        ...namespace(textAt(body, "SourceNS")),
        ...field("SourcePeer", "peer"),
        ...field("SourceSamenessGroup", "samenessGroup"),
        ...field("Action", "action"),
        ...(permissions ? { permissions: renamedIn(permissions) } : {}),
      },
    ],
    ...(jwt ? { jwt: renamedIn(jwt) } : {}),
  });
}

/** `TLSMinVersion`, `tls_min_version` and `tlsMinVersion` are one: the last. */
function toCamel(key: string): string {
  const parts = key.split("_").filter((part) => part !== "");
  const joined =
    parts.length < 2
      ? key
      : parts.map((p, i) => (i === 0 ? p : p[0]!.toUpperCase() + p.slice(1))).join("");
  if (/^[A-Z]+$/.test(joined)) return joined.toLowerCase();
  const lead = /^([A-Z]+)([A-Z][a-z])/.exec(joined)?.[1];
  if (lead !== undefined) return lead.toLowerCase() + joined.slice(lead.length);
  return joined.slice(0, 1).toLowerCase() + joined.slice(1);
}

const SPELLED: Readonly<Record<string, string>> = {
  mutualTlsMode: "mutualTLSMode",
  allowEnablingPermissiveMutualTls: "allowEnablingPermissiveMutualTLS",
  externalSni: "externalSNI",
  legacyID: "legacyId",
  ecdhcurves: "ecdhCurves",
  ECDHCurves: "ecdhCurves",
};

function nameOf(key: string): string {
  const camel = toCamel(key);
  return SPELLED[key] ?? SPELLED[camel] ?? camel;
}

/** Without what Consul makes itself; `name` of a source stays, as does what a list holds. */
function renamed(body: JsonMap): JsonMap {
  const kept = Object.entries(body).filter(([key]) => !OWN.has(nameOf(key)));
  return Object.fromEntries(
    kept.map(([key, value]) => [
      nameOf(key),
      // `Config` is Envoy's: its keys are not Consul's to spell.
      nameOf(key) === "config" ? value : renamedIn(value ?? null),
    ]),
  );
}

function renamedIn(value: Json): Json {
  if (Array.isArray(value)) return (value as Json[]).map(renamedIn);
  if (!isMap(value)) return value;
  const made = new Set([...OWN].filter((key) => !NAMING.has(key)));
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !made.has(nameOf(key)))
      .map(([key, inner]) => [nameOf(key), renamedIn(inner ?? null)]),
  );
}

/** What names something inside of an entry, too. */
const NAMING = new Set(["name", "namespace", "partition"]);

function textOf(body: JsonMap, name: string): string | null {
  const key = Object.keys(body).find((k) => nameOf(k) === name);
  return key === undefined ? null : textAt(body, key);
}

/** The steps in the entry as it was written, for a path in the object that it became. */
function toSource(body: JsonMap, path: readonly Step[]): Step[] {
  const steps: Step[] = [];
  let here: Json | undefined = body;
  for (const step of path) {
    if (steps.length === 0 && (step === "spec" || step === "destination")) continue;
    if (typeof step === "number") {
      here = Array.isArray(here) ? (here as Json[])[step] : undefined;
      steps.push(step);
      continue;
    }
    const map: JsonMap = isMap(here) ? here : {};
    const key = Object.keys(map).find((k) => nameOf(k) === step);
    if (key === undefined) break;
    here = map[key];
    steps.push(key);
  }
  return steps;
}
