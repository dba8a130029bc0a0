/** Keeps inventory and policy as they are declared: from manifests re-read, or a live cluster. */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { keyOf } from "./attribution/cluster-object.ts";
import type { ClusterObject } from "./attribution/cluster-object.ts";
import { Inventory } from "./attribution/inventory.ts";
import { readDeclared } from "./policy/declared.ts";
import { PolicyHistory } from "./policy/history.ts";
import type { Version } from "./policy/history.ts";
import { formatProblem } from "./policy/problem.ts";
import type { Problem } from "./policy/problem.ts";

export type Log = (level: "info" | "warn" | "error", text: string) => void;

/** A change of what is declared, for the evidence log. */
export type Change = { version: Version; removed: boolean };

export class Declaration {
  readonly inventory = new Inventory();
  readonly history: PolicyHistory;
  readonly #problems: Problem[] = [];
  readonly #log: Log;
  /** Objects as they were last read, by key. */
  #held = new Map<string, ClusterObject>();
  #changes: Change[] = [];
  #stamp = "";

  constructor(graceMs: number, log: Log) {
    this.#log = log;
    this.history = new PolicyHistory({ problems: this.#problems }, graceMs);
  }

  /** What cannot be read now. */
  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** Changes since the last call. */
  takeChanges(): Change[] {
    const changes = this.#changes;
    this.#changes = [];
    return changes;
  }

  apply(object: ClusterObject, nowMs: number): void {
    this.inventory.apply(object, nowMs);
    const version = this.history.apply(object, nowMs);
    if (version) this.#changes.push({ version, removed: false });
  }

  remove(kind: string, namespace: string, name: string, nowMs: number): void {
    this.inventory.remove(kind, namespace, name, nowMs);
    const version = this.history.remove(kind, namespace, name, nowMs);
    if (version) this.#changes.push({ version, removed: true });
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
    const found = new Map(declared.objects.map((o) => [keyOf(o.kind, o.namespace, o.name), o]));
    for (const [key, object] of this.#held) {
      if (found.has(key)) continue;
      if (declared.problems.some((problem) => hides(problem, object))) found.set(key, object);
      else this.remove(object.kind, object.namespace, object.name, nowMs);
    }
    for (const [key, object] of found) {
      if (this.#held.get(key)?.hash !== object.hash)
        this.apply(object, isFirst ? -Infinity : nowMs);
    }
    this.#held = found;
    const kinds = declared.unknownKinds.length;
    const others = kinds > 0 ? `, ${kinds} documents of kinds that are not read` : "";
    this.#log("info", `read ${found.size} objects from ${declared.files.length} files${others}`);
  }
}

const NOWHERE = { line: 1, column: 1, kind: null, name: null, namespaces: "all" as const };

/** Reports whether an object that is not found may stand where its file cannot be read. */
function hides({ file, namespaces }: Problem, { source, namespace }: ClusterObject): boolean {
  if (source?.file !== file) return false;
  return namespaces === "all" || namespaces.includes(namespace);
}

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
