/** Reads manifests from disk into pinned objects; what cannot be read is told, the rest loads. */
import { globSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { isCollection, LineCounter, parseAllDocuments, visit, type Document } from "yaml";
import { ConfigError } from "../../../protocol/config-error.ts";
import {
  groupKind,
  isMap,
  listAt,
  textAt,
  toClusterObject,
  type ClusterObject,
  type Json,
  type JsonMap,
} from "../../attribution/cluster-object.ts";
import { readApiEntry } from "../mesh/consul/api-entry.ts";
import { isKnownKind, isUnreadPolicy } from "./known-kinds.ts";
import { offsetOf, rangeOf, type Origin, type Place, type Step } from "./place.ts";
import { formatPath, type Problem, type UnknownKind } from "./problem.ts";
import { findFaults } from "./shape.ts";

export type Declared = {
  objects: ClusterObject[];
  problems: Problem[];
  unknownKinds: UnknownKind[];
  /** Names of the files that were read, as they are told. */
  files: string[];
  /** Where each object was read from; kept only for those who bring the map. */
  origins?: Map<ClusterObject, Origin>;
};

/** Largest manifest that is read, in bytes. */
export const FILE_BYTES_LIMIT = 256 << 20;
/** Most times that YAML aliases may be expanded in one document (the "billion laughs"). */
const ALIASES_LIMIT = 1000;

/** Reports whether a file is read as a manifest, by its name. */
export function isManifest(file: string): boolean {
  return /\.(ya?ml|json)$/i.test(file);
}

/** The document that is being read. */
type Reading = {
  file: string;
  text: string;
  document: number;
  locate: (steps: readonly Step[]) => Place;
};

/**
 * Reads a folder with all that is below it, one file, or standard input (`-`). Throws a
 * ConfigError only where nothing at all can be read: no such path, or no manifest in it.
 */
export function readDeclared(from: string, origins?: Map<ClusterObject, Origin>): Declared {
  const declared: Declared = {
    ...{ objects: [], problems: [], unknownKinds: [], files: [] },
    ...(origins && { origins }),
  };
  for (const { name, file } of listFiles(from)) {
    declared.files.push(name);
    try {
      parseManifests(readText(file), name, declared);
    } catch (error) {
      const reason = `cannot be read: ${(error as Error).message}`;
      declared.problems.push({ ...NOWHERE, file: name, reason });
    }
  }
  if (declared.objects.length === 0 && declared.problems.length === 0) {
    const expected = "expected .yaml, .yml or .json files with Kubernetes objects";
    throw new ConfigError("CONFIG_NO_MANIFESTS", `manifests: nothing in ${from}: ${expected}`);
  }
  return declared;
}

const NOWHERE = { line: 1, column: 1, kind: null, name: null, namespaces: "all" as const };

function listFiles(from: string): { name: string; file: string | 0 }[] {
  if (from === "-") return [{ name: "-", file: 0 }];
  const stat = statSync(from, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new ConfigError("CONFIG_NO_MANIFESTS", `manifests: there is no ${from}`);
  }
  if (!stat.isDirectory()) return [{ name: path.basename(from), file: from }];
  return globSync("**/*", { cwd: from, withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && isManifest(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .map((file) => ({ name: path.relative(from, file), file }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function readText(file: string | 0): string {
  if (file !== 0 && statSync(file).size > FILE_BYTES_LIMIT) {
    throw new Error(`it is larger than ${FILE_BYTES_LIMIT} bytes`);
  }
  return readFileSync(file, "utf8").replace(/^\uFEFF/, "");
}

/** Reads one file's text, YAML or JSON, into `declared`. Never throws for bad text. */
export function parseManifests(text: string, file: string, declared: Declared): void {
  const json = /^\s*[{[]/.test(text) ? parseJson(text) : null;
  if (json !== null) {
    // Positions in JSON are worth a second reading only where something is wrong.
    const probe: Declared = { objects: [], problems: [], unknownKinds: [], files: [] };
    if (declared.origins !== undefined) probe.origins = new Map();
    const locate = () => ({ line: 1, column: 1 });
    readObject(json, [], { file, text, document: 0, locate }, probe);
    if (probe.problems.length === 0 && text.length > 1 << 20) {
      declared.objects.push(...probe.objects);
      declared.unknownKinds.push(...probe.unknownKinds);
      for (const [object, origin] of probe.origins ?? []) declared.origins?.set(object, origin);
      return;
    }
  }
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true });
  if (!Array.isArray(documents)) return; // no document at all
  for (const [i, document] of documents.entries()) {
    const locate = (steps: readonly Step[]) => {
      const place = lines.linePos(offsetOf(document, steps));
      return { line: Math.max(place.line, 1), column: Math.max(place.col, 1) };
    };
    readDocument(document, { file, text, document: i, locate }, lines, declared);
  }
}

function parseJson(text: string): Json | null {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return null;
  }
}

function readDocument(
  document: Document,
  reading: Reading,
  lines: LineCounter,
  to: Declared,
): void {
  const { file, locate } = reading;
  const odd = oddKeyOf(document);
  if (odd !== null) {
    const place = lines.linePos(odd);
    const reason = "a key must be a plain name, not a map or a list";
    to.problems.push({ file, line: place.line, column: place.col, ...nameOf(null), reason });
    return;
  }
  let body: Json = null;
  try {
    body = document.toJS({ maxAliasCount: ALIASES_LIMIT }) as Json;
  } catch (error) {
    to.problems.push({ file, ...locate([]), ...nameOf(null), reason: (error as Error).message });
    return;
  }
  const [error] = document.errors;
  if (error !== undefined) {
    const place = lines.linePos(error.pos[0]);
    const reason = error.message.split("\n")[0]!.replace(/ at line \d+, column \d+:?$/, "");
    to.problems.push({ file, line: place.line, column: place.col, ...nameOf(body), reason });
    return;
  }
  if (body === null || body === undefined) return; // a comment between two `---`
  readObject(body, [], reading, to);
}

/** Where a mapping has a map or a list for a key, as YAML allows and no manifest does; or null. */
function oddKeyOf(document: Document): number | null {
  let at: number | null = null;
  visit(document, {
    Pair: (_, pair) => {
      if (!isCollection(pair.key)) return undefined;
      at = rangeOf(pair.key) ?? 0;
      return visit.BREAK;
    },
  });
  return at;
}

/** Reads one object, or each item of a list of them. */
function readObject(body: Json, at: readonly Step[], reading: Reading, to: Declared): void {
  const { file, locate } = reading;
  const kind = textAt(body, "kind");
  const items = isMap(body) && Array.isArray(body["items"]) ? listAt(body, "items") : null;
  if (items !== null && (kind === null || kind.endsWith("List"))) {
    const itemKind = kind === null || kind === "List" ? null : kind.slice(0, -4);
    const version = textAt(body, "apiVersion");
    items.forEach((item, i) => {
      // `NamespaceList` leaves out what its items are.
      const whole: Json =
        isMap(item) && itemKind !== null
          ? { apiVersion: version ?? undefined, kind: itemKind, ...item }
          : item;
      readObject(whole, [...at, "items", i], reading, to);
    });
    return;
  }
  if (Array.isArray(body) && body.length > 0 && body.every((item) => readApiEntry(item))) {
    body.forEach((item, i) => readObject(item as Json, [...at, i], reading, to));
    return;
  }
  const place = locate(at);
  const entry = readApiEntry(body);
  const object = toClusterObject(entry?.body ?? body, { file, line: place.line });
  if (object === null) {
    if (kind === null && textAt(body, "apiVersion") === null) {
      // Some other file: no decision depends on it.
      const reason = "is no Kubernetes object";
      to.problems.push({
        file,
        ...place,
        kind,
        name: null,
        namespaces: [],
        reason,
        about: "foreign",
      });
    } else {
      const reason = "kind or metadata.name is missing";
      to.problems.push({ file, ...place, ...nameOf(body), reason });
    }
    return;
  }
  if (!isKnownKind(groupKind(object))) {
    const { apiVersion, name } = object;
    to.unknownKinds.push({ file, line: place.line, apiVersion, kind: object.kind, name });
    if (isUnreadPolicy(groupKind(object))) {
      const reason = "is a policy of a kind that is not read: what depends on it is unproven";
      to.problems.push({ file, ...place, ...nameOf(object.body), reason, about: "kind" });
    }
  }
  for (const fault of findFaults(object)) {
    const reason = `${formatPath(fault.path)}: ${fault.reason}`;
    const where = locate([...at, ...(entry?.toSource(fault.path) ?? fault.path)]);
    to.problems.push({ file, ...where, ...nameOf(object.body), reason, about: "field" });
  }
  const { text, document } = reading;
  to.origins?.set(object, { text, document, at, toSource: entry?.toSource ?? null });
  to.objects.push(object);
}

/** What a document calls itself, and so whose decisions may depend on it. */
function nameOf(body: Json): Pick<Problem, "kind" | "name" | "namespaces"> {
  const kind = textAt(body, "kind");
  const name = textAt(body, "metadata", "name");
  const object = isMap(body) ? toClusterObject(body as JsonMap, null) : null;
  // Settings are the whole mesh's: the policy itself makes them a doubt of all that rests on them.
  if (kind === "ConfigMap") return { kind, name, namespaces: [] };
  const namespaces = object === null || object.namespace === "" ? ("all" as const) : null;
  return { kind, name, namespaces: namespaces ?? [object!.namespace] };
}
