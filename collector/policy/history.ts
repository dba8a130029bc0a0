/** Keeps every version of every policy object: the policy in force at an instant is known. */
import { keyOf, type ClusterObject } from "../attribution/cluster-object.ts";
import type { Transport } from "../attribution/holder.ts";
import type { Expectation } from "./expectation.ts";
import { Policy, type End, type PolicyOptions } from "./policy.ts";

/** How long after a change either version's expectation counts: enforcement follows late. */
export const GRACE_MS = 15_000;

/** Most versions kept of one object, and most compiled policies kept at hand. */
export const VERSIONS_LIMIT = 1000;
const COMPILED_LIMIT = 8;

/** One version of an object, in force in [firstSeenMs, lastSeenMs). */
export type Version = {
  object: ClusterObject;
  firstSeenMs: number;
  /** Infinity while it is in force. */
  lastSeenMs: number;
};

export class PolicyHistory {
  /** By kind, namespace and name; ascending, not overlapping. */
  private readonly versions = new Map<string, Version[]>();
  private readonly compiled = new Map<number, Policy>();
  private readonly options: PolicyOptions;
  private readonly graceMs: number;
  /** Instants at which anything changed, ascending. */
  private changes: number[] = [];

  constructor(options: PolicyOptions = {}, graceMs = GRACE_MS) {
    this.options = options;
    this.graceMs = graceMs;
  }

  /**
   * Takes an object as it is from `nowMs` on; -Infinity for manifests. A version with the same
   * content is the same version. Returns it when it is new, else null: it is then to be logged.
   */
  apply(object: ClusterObject, nowMs: number): Version | null {
    const key = keyOf(object.kind, object.namespace, object.name);
    const known = this.versions.get(key) ?? [];
    this.versions.set(key, known);
    const last = known.at(-1);
    if (last?.lastSeenMs === Infinity) {
      if (last.object.hash === object.hash && last.object.uid === object.uid) return null;
      last.lastSeenMs = nowMs;
    }
    const version = { object, firstSeenMs: nowMs, lastSeenMs: Infinity };
    known.push(version);
    if (known.length > VERSIONS_LIMIT) known.shift();
    this.changed(nowMs);
    return version;
  }

  /** Ends the version in force; returns it, or null when there was none. */
  remove(kind: string, namespace: string, name: string, nowMs: number): Version | null {
    const last = this.versions.get(keyOf(kind, namespace, name))?.at(-1);
    if (last === undefined || last.lastSeenMs !== Infinity) return null;
    last.lastSeenMs = nowMs;
    this.changed(nowMs);
    return last;
  }

  versionsOf(kind: string, namespace: string, name: string): readonly Version[] {
    return this.versions.get(keyOf(kind, namespace, name)) ?? [];
  }

  /** The objects in force at that instant. */
  objectsAt(ms: number): ClusterObject[] {
    const found: ClusterObject[] = [];
    for (const versions of this.versions.values()) {
      const version = versions.find((v) => v.firstSeenMs <= ms && ms < v.lastSeenMs);
      if (version !== undefined) found.push(version.object);
    }
    return found;
  }

  /** The policy in force at that instant, compiled once for each stretch without a change. */
  at(ms: number): Policy {
    const since = this.changes.findLast((change) => change <= ms) ?? -Infinity;
    const known = this.compiled.get(since);
    if (known !== undefined) return known;
    const policy = new Policy(this.objectsAt(ms), this.options);
    this.compiled.set(since, policy);
    if (this.compiled.size > COMPILED_LIMIT) {
      this.compiled.delete(this.compiled.keys().next().value!);
    }
    return policy;
  }

  /**
   * What is required of a connection that starts at `atMs`: one expectation, or within the grace
   * after a change those of the versions before as well, the newest first. Any of them counts.
   */
  expect(
    client: End,
    server: End,
    port: number,
    transport: Transport,
    atMs: number,
  ): [Expectation, ...Expectation[]] {
    const ask = (ms: number) => this.at(ms).expect(client, server, port, transport, atMs);
    const all: [Expectation, ...Expectation[]] = [ask(atMs)];
    const recent = this.changes.filter((ms) => ms <= atMs && atMs - ms < this.graceMs);
    for (const change of recent.toReversed()) {
      // The version before a change held until just before it.
      const before = ask(change === -Infinity ? change : change - 1e-3);
      if (!all.some((other) => isSame(other, before))) all.push(before);
    }
    return all;
  }

  private changed(nowMs: number): void {
    if (this.changes.at(-1) !== nowMs) this.changes.push(nowMs);
    this.changes.sort((a, b) => a - b);
    for (const since of [...this.compiled.keys()]) {
      if (since >= nowMs) this.compiled.delete(since);
    }
    // What was compiled for the open stretch before now ends at this change, and stays right.
  }

  /** Drops versions that ended before; what is judged later than that stays answerable. */
  forget(beforeMs: number): void {
    for (const [key, versions] of this.versions) {
      const kept = versions.filter((v) => v.lastSeenMs > beforeMs);
      if (kept.length === 0) this.versions.delete(key);
      else this.versions.set(key, kept);
    }
    this.changes = this.changes.filter((ms) => ms > beforeMs);
    this.compiled.clear();
  }
}

/** Two expectations that a verdict cannot tell apart. */
function isSame(a: Expectation, b: Expectation): boolean {
  const text = ({ path, transport }: Expectation) => JSON.stringify([path, transport]);
  return text(a) === text(b);
}
