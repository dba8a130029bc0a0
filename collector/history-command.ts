/** Runs `wireproof policy history` and `wireproof policy diff` on evidence, or on git's commits. */
import { ConfigError } from "../protocol/config-error.ts";
import { keyOf, type ClusterObject, type Json } from "./attribution/cluster-object.ts";
import { listEntries } from "./evidence/verify.ts";
import { readDeclared, type Declared } from "./policy/manifest/declared.ts";
import {
  compareEffect,
  compareWorkloads,
  type EdgeChange,
  type Side,
  type Told,
} from "./policy/answer/effect.ts";
import { GitManifests, type Commit } from "./policy/manifest/git-manifests.ts";
import { isDeciding } from "./policy/manifest/known-kinds.ts";
import { Policy } from "./policy/policy.ts";
import { toInventory, type Printed } from "./policy/answer/policy-command.ts";
import { formatProblem, hides } from "./policy/manifest/problem.ts";
import { parseVersionEntry, whoChanged } from "./policy/history/version-entry.ts";

export type HistoryOptions = {
  manifests?: string;
  evidence?: string;
  format: string;
  at?: string;
};

/** One change of one object. `at: null`: it was there when anybody first looked. */
export type Row = {
  at: string | null;
  /** Where nobody saw the change itself: it came about after this. */
  after: string | null;
  change: "added" | "changed" | "removed";
  kind: string;
  namespace: string;
  name: string;
  hash: string;
  uid: string | null;
  resource_version: string | null;
  generation: number | null;
  who: string | null;
  /** What tells it: `entry 12` of the evidence log, or `commit 1a2b3c4 subject`. */
  source: string;
};

/** A source of policy through time. */
type Past = {
  rows: Row[];
  /** What was declared at an instant, and which objects stand for its pods. */
  at: (ms: number) => Declared;
  /** The instant, or the commit, that an argument names. */
  resolve: (text: string) => { told: string; declared: Declared };
};

/** Lists every change of every policy object, or of those whose name has `filter` in it. */
export function runHistory(
  filter: string | undefined,
  options: HistoryOptions,
  nowMs: number,
): Printed {
  const past = open(options, nowMs);
  const isWanted = (object: { kind: string; namespace: string; name: string }) =>
    filter === undefined || `${object.kind}/${object.namespace}/${object.name}`.includes(filter);
  const warnings = noteOf(options);
  if (options.at !== undefined) {
    const { declared, told } = past.resolve(options.at);
    const objects = declared.objects.filter((object) => isDeciding(object) && isWanted(object));
    if (options.format === "json") {
      const rows = objects.map(({ kind, namespace, name, hash }) => {
        return { kind, namespace, name, hash };
      });
      return { out: `${JSON.stringify({ at: told, objects: rows }, null, 2)}\n`, warnings };
    }
    const lines = objects.map((o) => `${o.hash.slice(0, 19)}  ${nameOf(o)}\n`);
    return { out: `in force at ${told}: ${objects.length}\n${lines.join("")}`, warnings };
  }
  const rows = past.rows.filter(isWanted);
  if (options.format === "json") return { out: `${JSON.stringify(rows, null, 2)}\n`, warnings };
  const signs = { added: "+", changed: "~", removed: "-" };
  const lines = rows.map((row) => {
    const when = (row.at ?? "since ever").padEnd(24);
    const after = row.after === null ? "" : ` (after ${row.after})`;
    const who = row.who === null ? "" : `  by ${row.who}`;
    const what = `${signs[row.change]} ${nameOf(row)}`;
    return `${when} ${what}  ${row.hash.slice(0, 19)}${who}  [${row.source}]${after}\n`;
  });
  return { out: lines.join("") || "no change of any policy object\n", warnings };
}

export type DiffOptions = HistoryOptions & { from: string; to: string };

/** Tells which edges are judged otherwise at `to` than at `from`, and which objects changed. */
export function runDiff(options: DiffOptions, nowMs: number): Printed {
  const past = open(options, nowMs);
  const [before, after] = [past.resolve(options.from), past.resolve(options.to)];
  const [from, to] = [toSide(before.declared), toSide(after.declared)];
  const objects = compareObjects(before.declared.objects, after.declared.objects);
  const workloads = compareWorkloads(from, to);
  const effect = compareEffect(from, to, nowMs);
  const problems = [...before.declared.problems, ...after.declared.problems];
  const warnings = [...noteOf(options), ...new Set(problems.map(formatProblem))];
  if (effect.cut > 0) warnings.push(`${effect.cut} pairs of workloads were not compared`);
  if (from.pods.length === 0 || to.pods.length === 0) {
    warnings.push("no workloads are known at one of the two: no edges can be compared");
  }
  if (options.format === "json") {
    const told = { from: before.told, to: after.told, objects, workloads };
    return { out: `${JSON.stringify({ ...told, ...effect }, null, 2)}\n`, warnings };
  }
  const lines = [
    `from ${before.told} to ${after.told}: ${objects.length} policy objects differ, and ` +
      `${effect.changes.length} of ${effect.pairs} pairs are judged otherwise`,
    ...objects.map(({ change, object }) => `  ${change.padEnd(8)} ${object}`),
    ...workloads.come.map((name) => `  new      ${name}`),
    ...workloads.gone.map((name) => `  gone     ${name}`),
    ...formatChanges(effect.changes),
  ];
  return { out: `${lines.join("\n")}\n`, warnings };
}

/** Clients that are named where many see the same change of one server; the others are counted. */
const CLIENTS_TOLD = 3;

/** Changes of one server that are alike, told once. */
function formatChanges(changes: readonly EdgeChange[]): string[] {
  const groups = new Map<string, { told: string[]; clients: string[]; first: EdgeChange }>();
  for (const change of changes) {
    const told = formatChange(change);
    const key = `${change.server} : ${change.ports.join(" ")}\n${told.join("\n")}`;
    const group = groups.get(key) ?? { told, clients: [], first: change };
    groups.set(key, group);
    group.clients.push(change.client);
  }
  return [...groups.values()].flatMap(({ told, clients, first }) => {
    const more = clients.length - CLIENTS_TOLD;
    const names = clients.slice(0, CLIENTS_TOLD).join(", ");
    const who = more > 0 ? `${names} and ${more} more` : names;
    const ports = first.ports.map((port) => (port === "other" ? "other ports" : port)).join(", ");
    const known = new Set(first.from.because.map((b) => `${b.sentence} ${b.hash}`));
    const fresh = first.to.because.filter((b) => !known.has(`${b.sentence} ${b.hash}`));
    const reasons = fresh.length > 0 ? fresh : first.from.because;
    const word = fresh.length > 0 ? "because " : "before  ";
    return [
      `~ ${who} -> ${first.server} : ${ports}`,
      ...told,
      ...reasons.slice(0, 3).map(({ sentence }) => `    ${word}   ${sentence}`),
    ];
  });
}

function formatChange({ from, to }: EdgeChange): string[] {
  const [before, after] = [formatTransport(from), formatTransport(to)];
  return [
    ...(from.path === to.path ? [] : [`    path       ${from.path} -> ${to.path}`]),
    ...(before === after ? [] : [`    transport  ${before} -> ${after}`]),
  ];
}

function formatTransport({ transport }: Told): string {
  const { required, accepts, minVersion, mesh, trustDomain } = transport;
  const version = minVersion ? ` ${minVersion}` : "";
  const whose = mesh === undefined ? "" : ` of ${[mesh, trustDomain].filter(Boolean).join(" ")}`;
  return `${required ?? "-"}${whose}${version} (takes ${accepts.join(" ") || "-"})`;
}

function noteOf({ evidence }: HistoryOptions): string[] {
  if (evidence === undefined) return [];
  return [`${evidence} was read as it stands: wireproof evidence verify tells whether it is whole`];
}

function open(options: HistoryOptions, nowMs: number): Past {
  const { manifests, evidence } = options;
  if ((manifests === undefined) === (evidence === undefined)) {
    const expected = "say either --evidence DIR (a log) or --manifests DIR (in a git repository)";
    throw new ConfigError("CONFIG_OPTION", `policy: ${expected}`);
  }
  return evidence === undefined ? ofGit(manifests!, nowMs) : ofEvidence(evidence, nowMs);
}

/** Policy objects and workloads as the log's entries tell them. */
function ofEvidence(directory: string, nowMs: number): Past {
  const rows: Row[] = [];
  const known = new Map<string, string>();
  /** By key, ascending: from when on an object, or null where there is none. */
  const steps = new Map<string, { fromMs: number; object: ClusterObject | null }[]>();
  for (const { index, text } of listEntries(directory)) {
    if (!/"type":"(policy|workload)"/.test(text)) continue;
    const entry = JSON.parse(text) as Json;
    const told = parseVersionEntry(entry);
    if (told === null) continue;
    const { version, removed, type } = told;
    const { object, firstSeenMs, lastSeenMs, sinceMs } = version;
    const key = `${type} ${keyOf(object)}`;
    const list = steps.get(key) ?? [];
    steps.set(key, list);
    const atMs = removed ? lastSeenMs : firstSeenMs;
    list.push({ fromMs: atMs, object: removed ? null : object });
    if (type === "workload") continue;
    const change = removed ? "removed" : known.has(key) ? "changed" : "added";
    if (removed) known.delete(key);
    else known.set(key, object.hash);
    const changedBy = (entry as { changed_by?: { who?: string } | null }).changed_by;
    const generation = (entry as { generation?: number | null }).generation ?? null;
    rows.push({
      at: Number.isFinite(atMs) ? new Date(atMs).toISOString() : null,
      after: !removed && sinceMs < firstSeenMs ? new Date(sinceMs).toISOString() : null,
      change,
      ...pin(object),
      generation,
      who: removed ? null : (changedBy?.who ?? null),
      source: `entry ${index}`,
    });
  }
  const at = (ms: number): Declared => {
    const objects = [...steps.values()].flatMap((list) => {
      return list.findLast(({ fromMs }) => fromMs <= ms)?.object ?? [];
    });
    return { objects, problems: [], unknownKinds: [], files: [] };
  };
  const resolve = (text: string) => {
    const ms = toInstant(text, nowMs);
    if (ms === null) throw noInstant(text, "a time, such as 2026-11-22T10:00:00Z, 2h or now");
    return { told: new Date(ms).toISOString(), declared: at(ms) };
  };
  return { rows, at, resolve };
}

/** Policy objects as each commit has them, and as they stand in the folder now. */
function ofGit(folder: string, nowMs: number): Past {
  const working = readDeclared(folder);
  const git = GitManifests.open(folder);
  if (git === null) {
    const expected = "its history is that of a git repository, and it is in none";
    throw new ConfigError("CONFIG_GIT", `--manifests ${folder}: ${expected}`);
  }
  const rows: Row[] = [];
  let before = new Map<string, ClusterObject>();
  const step = (declared: Declared, at: string, who: string | null, source: string) => {
    const found = new Map(declared.objects.filter(isDeciding).map((o) => [keyOf(o), o]));
    const add = (change: Row["change"], object: ClusterObject) => {
      const author = who ?? whoChanged(object.body)?.who ?? null;
      const told = { at, after: null, change, ...pin(object), generation: null };
      rows.push({ ...told, who: author, source });
    };
    for (const [key, object] of found) {
      const known = before.get(key);
      if (known === undefined) add("added", object);
      else if (known.hash !== object.hash) add("changed", object);
    }
    for (const [key, object] of before) {
      // What a commit broke may still be declared: it is not told as removed.
      if (!found.has(key) && !declared.problems.some((p) => hides(p, object))) {
        add("removed", object);
      } else if (!found.has(key)) found.set(key, object);
    }
    before = found;
  };
  for (const commit of git.commits()) {
    const source = `commit ${commit.id.slice(0, 7)} ${commit.subject}`;
    step(git.declaredAt(commit.id), instantOf(commit), commit.who, source);
  }
  step(working, new Date(nowMs).toISOString(), null, "not committed");
  const at = (ms: number): Declared => {
    const commit = ms >= nowMs ? null : git.commitAt(ms);
    if (ms >= nowMs) return working;
    return commit === null ? NOTHING : git.declaredAt(commit);
  };
  const resolve = (text: string) => {
    const ms = toInstant(text, nowMs);
    if (ms !== null) return { told: new Date(ms).toISOString(), declared: at(ms) };
    const commit = git.resolve(text);
    if (commit !== null) return { told: commit.slice(0, 12), declared: git.declaredAt(commit) };
    throw noInstant(text, "a time (2026-11-22T10:00:00Z, 2h, now) or a revision (HEAD~1, a tag)");
  };
  return { rows, at, resolve };
}

const NOTHING: Declared = { objects: [], problems: [], unknownKinds: [], files: [] };

const instantOf = ({ atMs }: Commit) => new Date(atMs).toISOString();

const UNITS_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** `now`, `90m` ago, a date, or a time (RFC 3339); null for anything else. */
function toInstant(text: string, nowMs: number): number | null {
  if (text === "now") return nowMs;
  const ago = /^-?(\d{1,6})([smhdw])$/.exec(text);
  if (ago !== null) return nowMs - Number(ago[1]) * UNITS_MS[ago[2]!]!;
  if (!/^\d{4}-\d{2}-\d{2}([T ].*)?$/.test(text)) return null;
  const ms = Date.parse(text.length === 10 ? `${text}T00:00:00Z` : text);
  return Number.isNaN(ms) ? null : ms;
}

function noInstant(text: string, expected: string): ConfigError {
  return new ConfigError("CONFIG_INSTANT", `${text}: expected ${expected}`);
}

function toSide(declared: Declared): Side {
  const { objects, problems } = declared;
  const policy = new Policy(objects, { problems });
  const pods = toInventory(declared).pods(-Infinity);
  return { policy, pods, objects: objects.filter(isDeciding) };
}

function compareObjects(
  from: readonly ClusterObject[],
  to: readonly ClusterObject[],
): { change: Row["change"]; object: string; from: string | null; to: string | null }[] {
  const byKey = (objects: readonly ClusterObject[]) =>
    new Map(objects.filter(isDeciding).map((object) => [keyOf(object), object]));
  const [before, after] = [byKey(from), byKey(to)];
  return [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((key) => {
    const [old, fresh] = [before.get(key), after.get(key)];
    if (old?.hash === fresh?.hash) return [];
    const change = old === undefined ? "added" : fresh === undefined ? "removed" : "changed";
    const object = nameOf((fresh ?? old)!);
    return [{ change, object, from: old?.hash ?? null, to: fresh?.hash ?? null }];
  });
}

function pin(object: ClusterObject) {
  const { kind, namespace, name, hash, uid, resourceVersion } = object;
  return { kind, namespace, name, hash, uid, resource_version: resourceVersion };
}

function nameOf({ kind, namespace, name }: { kind: string; namespace: string; name: string }) {
  return `${kind} ${namespace === "" ? "" : `${namespace}/`}${name}`;
}
