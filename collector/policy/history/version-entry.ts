/**
 * Spells one version of an object as the evidence log keeps it, and reads it back.
 *
 *     { "type": "policy", "removed": false, "kind": …, "namespace": …, "name": …, "uid": …,
 *       "resource_version": …, "generation": 3, "hash": "sha256:…",
 *       "first_seen": "2026-11-22T01:02:03.000Z",  // null: nobody knows since when it was there
 *       "changed_after": null,                     // where nobody saw the change: after this
 *       "last_seen": null,                         // of a removal: until then it was in force
 *       "changed_by": { "who": "kubectl-apply", "at": "…" },  // by managedFields; null
 *       "object": { … } }                          // what `hash` was computed of
 *
 * An object that is too long for an entry stands in `object_gzip`, as base64 of its canonical JSON.
 * `removed` ends the version before; a further version of the same name ends it as well.
 */
import { gunzipSync, gzipSync } from "node:zlib";
import {
  declaredPart,
  isMap,
  listAt,
  textAt,
  toCanonicalJson,
  toClusterObject,
  valueAt,
  type Json,
  type JsonMap,
} from "../../attribution/cluster-object.ts";
import type { Version } from "./versions.ts";

/** Longest object that is spelled out, in characters; an entry holds 65,535 bytes (C2SP). */
const OBJECT_LIMIT = 40_000;
const GZIP_LIMIT = 60_000;
/** Largest object that is unpacked, in bytes: three times what etcd takes. */
const UNPACKED_LIMIT = 5 << 20;

/** `workload`: a sort of pod that decisions rest on, as `workload-object.ts` makes it. */
export type EntryType = "policy" | "workload";

export function toVersionEntry(
  version: Version,
  removed: boolean,
  type: EntryType = "policy",
): JsonMap {
  const { object, sinceMs, firstSeenMs, lastSeenMs } = version;
  const told = (ms: number) => (Number.isFinite(ms) ? new Date(ms).toISOString() : null);
  const declared = declaredPart(object.body);
  const text = toCanonicalJson(declared);
  const packed = text.length <= OBJECT_LIMIT ? null : gzipSync(text).toString("base64");
  const generation = valueAt(object.body, "metadata", "generation");
  return {
    type,
    removed,
    kind: object.kind,
    namespace: object.namespace,
    name: object.name,
    uid: object.uid,
    resource_version: object.resourceVersion,
    generation: typeof generation === "number" ? generation : null,
    hash: object.hash,
    first_seen: told(firstSeenMs),
    changed_after: sinceMs < firstSeenMs ? told(sinceMs) : null,
    last_seen: told(lastSeenMs),
    changed_by: whoChanged(object.body),
    object: packed === null ? (JSON.parse(text) as Json) : null,
    ...(packed === null || packed.length > GZIP_LIMIT ? {} : { object_gzip: packed }),
  };
}

/** Null for an entry of another kind, and where the object itself could not be kept. */
export function parseVersionEntry(
  entry: Json,
): { version: Version; removed: boolean; type: EntryType } | null {
  const type = textAt(entry, "type");
  if (type !== "policy" && type !== "workload") return null;
  const packed = textAt(entry, "object_gzip");
  const body = packed === null ? valueAt(entry, "object") : unpack(packed);
  const pinned = toClusterObject(withGeneration(body, valueAt(entry, "generation")), null);
  if (pinned === null) return null;
  const resourceVersion = textAt(entry, "resource_version");
  const object = { ...pinned, uid: textAt(entry, "uid"), resourceVersion };
  const at = (field: string, otherwise: number) => {
    const ms = Date.parse(textAt(entry, field) ?? "");
    return Number.isNaN(ms) ? otherwise : ms;
  };
  const firstSeenMs = at("first_seen", -Infinity);
  const sinceMs = at("changed_after", firstSeenMs);
  const version = { object, sinceMs, firstSeenMs, lastSeenMs: at("last_seen", Infinity) };
  return { version, removed: valueAt(entry, "removed") === true, type };
}

/** The API server's count of changes is told beside the object: it declares nothing. */
function withGeneration(body: Json | undefined, generation: Json | undefined): Json | undefined {
  const metadata = valueAt(body, "metadata");
  if (!isMap(body) || !isMap(metadata) || typeof generation !== "number") return body;
  return { ...body, metadata: { ...metadata, generation } };
}

function unpack(text: string): Json {
  try {
    const limit = { maxOutputLength: UNPACKED_LIMIT };
    return JSON.parse(gunzipSync(Buffer.from(text, "base64"), limit).toString()) as Json;
  } catch {
    return null;
  }
}

/** The last writer that `managedFields` names, writers of the status left out; null for none. */
export function whoChanged(body: JsonMap): { who: string; at: string | null } | null {
  let last: { who: string; at: string | null } | null = null;
  for (const entry of listAt(body, "metadata", "managedFields")) {
    const who = textAt(entry, "manager");
    if (!isMap(entry) || who === null || textAt(entry, "subresource") !== null) continue;
    const at = textAt(entry, "time");
    if (last === null || (at ?? "") >= (last.at ?? "")) last = { who, at };
  }
  return last;
}
