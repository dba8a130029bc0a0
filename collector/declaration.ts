/** Keeps inventory and policy as they are declared: from manifests re-read, or a live cluster. */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { keyOf } from "./attribution/cluster-object.ts";
import { gistOf } from "./declared-journal.ts";
import type { DeclaredJournal } from "./declared-journal.ts";
import type { ClusterObject, Json, ObjectName } from "./attribution/cluster-object.ts";
import type { Trouble } from "./attribution/cluster.ts";
import type { Holder } from "./attribution/holder.ts";
import { Inventory } from "./attribution/inventory.ts";
import { readDeclared } from "./policy/manifest/declared.ts";
import { PolicyHistory } from "./policy/history/history.ts";
import type { EntryType } from "./policy/history/version-entry.ts";
import { Versions } from "./policy/history/versions.ts";
import type { Version } from "./policy/history/versions.ts";
import { toWorkloadObjects } from "./policy/history/workload-object.ts";
import { parseVersionEntry } from "./policy/history/version-entry.ts";
import { formatProblem, hides } from "./policy/manifest/problem.ts";
import type { Problem } from "./policy/manifest/problem.ts";

export type Log = (level: "info" | "warn" | "error", text: string) => void;

/** A change of what is declared, for the evidence log. */
export type Change = { version: Version; removed: boolean; type: EntryType };

export class Declaration {
  readonly inventory = new Inventory();
  readonly history: PolicyHistory;
  /** Sorts of pods, as they were when windows were judged. */
  readonly workloads = new Versions();
  readonly #problems: Problem[] = [];
  readonly #log: Log;
  /** Objects as they were last read, by key. */
  #held = new Map<string, ClusterObject>();
  readonly #changes: Change[] = [];
  /** Keys of the first whole list; null once it has ended. */
  #first: Set<string> | null = new Set();
  /** When the evidence log was last written; -Infinity where there was none. */
  #knownMs = -Infinity;
  /** Resources that cannot be followed, by name; how many of the problems they are. */
  readonly #blind = new Map<string, Trouble & { kind: string }>();
  #blindTold = 0;
  /** Keys of what the log has of resources that could not be listed yet. */
  readonly #unlisted = new Map<string, ClusterObject>();
  /** Within it after a change both versions of what changed count. */
  readonly graceMs: number;
  readonly #journal: DeclaredJournal | null;
  /** What came about since is known up to when the journal was last written. */
  #isJournaled = false;
  /** Keys of what the journal has of the inventory, until the first whole list has ended. */
  readonly #journaled = new Map<string, ClusterObject>();
  #stamp = "";

  /** Without a journal nothing outlives the process but what the evidence log has. */
  constructor(graceMs: number, log: Log, journal: DeclaredJournal | null = null) {
    this.#journal = journal;
    this.#log = log;
    this.graceMs = graceMs;
    this.history = new PolicyHistory({ problems: this.#problems }, graceMs);
  }

  /** What cannot be read now. */
  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** Changes that are not in the evidence log yet. */
  get changes(): readonly Change[] {
    return this.#changes;
  }

  /** The first of the changes, so many, are in the evidence log. */
  logged(count: number): void {
    this.#changes.splice(0, count);
  }

  /**
   * Takes the history as the evidence log has it, before anything is read: of what differs from it
   * then, nobody knows more than that it changed after `knownMs`, when the log was last written.
   */
  restore(entries: Iterable<{ body: unknown }>, knownMs: number): void {
    for (const { body } of entries) {
      const told = parseVersionEntry(body as Json);
      if (told === null) continue;
      const { object, firstSeenMs, sinceMs, lastSeenMs } = told.version;
      if (told.type === "workload") {
        if (told.removed) this.workloads.remove(object, lastSeenMs);
        else this.workloads.apply(object, firstSeenMs, sinceMs);
      } else if (told.removed) this.history.remove(object, lastSeenMs, sinceMs);
      else this.history.apply(object, firstSeenMs, sinceMs);
      this.#knownMs = knownMs;
    }
    this.#replay();
  }

  /** Takes what the journal has: of policy, what the evidence log has not yet. */
  #replay(): void {
    if (this.#journal === null) return;
    for (const { object, atMs, sinceMs, removed } of this.#journal.noted()) {
      const latest = this.history.versions.of(object).at(-1);
      // The log's times are whole milliseconds.
      const isLogged = latest !== undefined && latest.firstSeenMs >= Math.floor(atMs);
      if (removed) {
        this.inventory.remove(object, atMs);
        this.#journaled.delete(keyOf(object));
        if (!isLogged) this.#noteRemoved(this.history.remove(object, atMs, sinceMs));
        continue;
      }
      this.inventory.apply(object, atMs);
      this.#journaled.set(keyOf(object), object);
      // Of the very first list nobody knows since when: it holds since ever, as it did then.
      const fromMs = sinceMs === -Infinity ? -Infinity : atMs;
      if (!isLogged) this.#note(this.history.apply(object, fromMs, sinceMs));
    }
    this.#isJournaled = this.#journal.knownMs !== -Infinity;
    this.#knownMs = Math.max(this.#knownMs, this.#journal.knownMs);
  }

  /**
   * Takes an object of the first whole list: nobody saw when it came to be there. `heldMs`: by then
   * it held what it tells, and before that since it began; -Infinity for manifests.
   */
  applyFirst(object: ClusterObject, nowMs: number, heldMs = -Infinity): void {
    const key = keyOf(object);
    const before = this.#journaled.get(key);
    const isRestored = this.#knownMs !== -Infinity;
    const fromMs = this.#isJournaled ? nowMs : heldMs;
    // It became another unseen: until when it was as before is not known.
    if (before && this.#journal?.differs(object)) this.inventory.remove(before, this.#knownMs);
    this.inventory.apply(object, fromMs);
    this.#first?.add(key);
    this.#journal?.apply(object, fromMs, this.#knownMs);
    this.#note(this.history.apply(object, isRestored ? nowMs : -Infinity, this.#knownMs));
  }

  /** Takes that the first list was whole: what the log has beyond it went in the meantime. */
  endFirst(nowMs: number): void {
    const first = this.#first;
    if (first === null) return;
    this.#first = null;
    for (const [key, { object }] of [...this.history.versions.inForce()]) {
      if (first.has(key)) continue;
      if (this.#isBlind(object.kind)) this.#unlisted.set(key, object);
      else this.remove(object, nowMs, this.#knownMs);
    }
    for (const [key, object] of this.#journaled) {
      if (first.has(key) || this.#isBlind(object.kind)) continue;
      this.inventory.remove(object, this.#knownMs);
      this.#journal?.remove(object, this.#knownMs, this.#knownMs);
    }
    this.#journaled.clear();
  }

  #isBlind(kind: string): boolean {
    return [...this.#blind.values()].some((trouble) => trouble.kind === kind);
  }

  /** Takes what came about after `sinceMs`, and at `nowMs` at the latest. */
  apply(object: ClusterObject, nowMs: number, sinceMs = nowMs): void {
    this.#unlisted.delete(keyOf(object));
    this.inventory.apply(object, nowMs);
    this.#journal?.apply(object, nowMs, sinceMs);
    this.#note(this.history.apply(object, nowMs, sinceMs));
  }

  remove(object: ObjectName, nowMs: number, sinceMs = nowMs): void {
    this.inventory.remove(object, nowMs);
    this.#journal?.remove(object, nowMs, sinceMs);
    this.#noteRemoved(this.history.remove(object, nowMs, sinceMs));
  }

  /** Takes which sorts of pods there are at an instant: what decisions on them rest on. */
  noteWorkloads(pods: Iterable<Holder>, nowMs: number): void {
    const present = new Set<string>();
    for (const object of toWorkloadObjects(pods)) {
      present.add(keyOf(object));
      this.#note(this.workloads.apply(object, nowMs, nowMs), "workload");
    }
    for (const [key, { object }] of [...this.workloads.inForce()]) {
      if (present.has(key)) continue;
      const version = this.workloads.remove(object, nowMs);
      if (version) this.#changes.push({ version, removed: true, type: "workload" });
    }
  }

  #noteRemoved(version: Version | null): void {
    if (version) this.#changes.push({ version, removed: true, type: "policy" });
  }

  #note(version: Version | null, type: EntryType = "policy"): void {
    if (version) this.#changes.push({ version, removed: false, type });
  }

  /**
   * Takes that the cluster cannot be followed for one resource, or can again (null). What was not
   * known for longer than the grace stays so for that time, whenever that is judged.
   */
  setBlind(kind: string, name: string, trouble: Trouble | null, nowMs: number): void {
    this.inventory.setBlind(kind, trouble?.sinceMs ?? null);
    if (trouble !== null) {
      this.#blind.set(name, { kind, ...trouble });
      return;
    }
    const before = this.#blind.get(name);
    if (before === undefined) return;
    this.#blind.delete(name);
    const { sinceMs } = before;
    if (nowMs - sinceMs >= this.graceMs) {
      this.history.forgo({ sinceMs, atMs: nowMs, namespaces: "all" });
    }
    if (this.#isBlind(kind)) return;
    for (const [key, object] of this.#unlisted) {
      if (object.kind !== kind) continue;
      this.#unlisted.delete(key);
      this.remove(object, nowMs, this.#knownMs);
    }
  }

  /** Makes problems of what has not been known for longer than the grace: call before judging. */
  tellBlind(nowMs: number): void {
    const long = [...this.#blind].filter(([, { sinceMs }]) => nowMs - sinceMs >= this.graceMs);
    if (long.length === 0 && this.#blindTold === 0) return;
    const problems = long.map(([name, { kind, sinceMs, reason }]) => {
      const since = sinceMs === -Infinity ? "" : ` since ${new Date(sinceMs).toISOString()}`;
      const told = `${name} is not known${since}: ${reason}`;
      return { ...NOWHERE, file: "cluster", kind: kind || null, reason: told };
    });
    this.#problems.splice(this.#problems.length - this.#blindTold, this.#blindTold, ...problems);
    this.#blindTold = problems.length;
  }

  /**
   * Reads the manifests when anything in them has changed since the last time. The first reading
   * holds since ever. What cannot be read later keeps what was read before, and is told as a
   * problem: whatever may depend on it is unproven until it can be read again.
   */
  readManifests(from: string, nowMs: number): void {
    const isFirst = this.#stamp === "";
    const stamp = stampOf(from);
    if (!isFirst && stamp === this.#stamp) return;
    let declared;
    try {
      declared = readDeclared(from);
    } catch (error) {
      if (isFirst) throw error;
      const reason = (error as Error).message;
      this.#log("error", reason);
      this.#problems.splice(0, Infinity, { ...NOWHERE, file: from, reason });
      this.#stamp = stamp;
      return;
    }
    this.#stamp = stamp;
    this.#problems.splice(0, Infinity, ...declared.problems);
    for (const problem of declared.problems) this.#log("warn", formatProblem(problem));
    const found = new Map(declared.objects.map((o) => [keyOf(o), o]));
    for (const [key, object] of this.#held) {
      if (found.has(key)) continue;
      if (declared.problems.some((problem) => hides(problem, object))) found.set(key, object);
      else this.remove(object, nowMs);
    }
    for (const [key, object] of found) {
      if (isFirst) this.applyFirst(object, nowMs);
      else {
        const before = this.#held.get(key);
        if (!before || gistOf(before) !== gistOf(object)) this.apply(object, nowMs);
      }
    }
    this.endFirst(nowMs);
    this.#held = found;
    const kinds = declared.unknownKinds.length;
    const others = kinds > 0 ? `, ${kinds} documents of kinds that are not read` : "";
    this.#log("info", `read ${found.size} objects from ${declared.files.length} files${others}`);
  }
}

const NOWHERE = { line: 1, column: 1, kind: null, name: null, namespaces: "all" as const };

/** Names, sizes and times of all files below: what changes when a file does. */
function stampOf(from: string): string {
  if (from === "-") return "stdin";
  const parts: string[] = [];
  const visit = (file: string) => {
    try {
      const stat = statSync(file);
      if (!stat.isDirectory()) parts.push(`${file} ${stat.size} ${stat.mtimeMs}`);
      else for (const name of readdirSync(file).sort()) visit(path.join(file, name));
    } catch (error) {
      parts.push(`${file} ${(error as NodeJS.ErrnoException).code}`);
    }
  };
  visit(from);
  return parts.join("\n");
}
