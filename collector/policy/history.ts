/** Keeps every version of every policy object: the policy in force at an instant is known. */
import { keyOf, type ClusterObject, type ObjectName } from "../attribution/cluster-object.ts";
import type { Transport } from "../attribution/holder.ts";
import type { Expectation } from "./expectation.ts";
import { isDeciding } from "./known-kinds.ts";
import { Policy, type End, type PolicyOptions } from "./policy.ts";

/** How long after a change either version's expectation counts: enforcement follows late. */
export const GRACE_MS = 15_000;

/** Most versions kept of one object, and most compiled policies kept at hand. */
export const VERSIONS_LIMIT = 1000;
const COMPILED_LIMIT = 8;

/** One version of an object, in force in [firstSeenMs, lastSeenMs). */
export type Version = {
  object: ClusterObject;
  /** It came about after this: earlier than `firstSeenMs` where the cluster could not be seen. */
  sinceMs: number;
  firstSeenMs: number;
  /** Infinity while it is in force. */
  lastSeenMs: number;
};

type Change = { sinceMs: number; atMs: number };

export class PolicyHistory {
  /** By kind, namespace and name; ascending, not overlapping. */
  private readonly versions = new Map<string, Version[]>();
  private readonly compiled = new Map<number, Policy>();
  private readonly options: PolicyOptions;
  private readonly graceMs: number;
  /** Instants by which anything had changed, ascending, each with the instant after which. */
  private changes: Change[] = [];

  constructor(options: PolicyOptions = {}, graceMs = GRACE_MS) {
    this.options = options;
    this.graceMs = graceMs;
  }

  /**
   * Takes an object as it is from `nowMs` on; -Infinity for manifests. A version with the same
   * content is the same version. Returns it when it is new, else null: it is then to be logged.
   * Pods and the like are no policy: they come with each question, as its ends.
   */
  apply(object: ClusterObject, nowMs: number, sinceMs = nowMs): Version | null {
    if (!isDeciding(object)) return null;
    const key = keyOf(object);
    const known = this.versions.get(key) ?? [];
    this.versions.set(key, known);
    const last = known.at(-1);
    if (last?.lastSeenMs === Infinity) {
      if (last.object.hash === object.hash && last.object.uid === object.uid) return null;
      last.lastSeenMs = nowMs;
    }
    const version = { object, sinceMs, firstSeenMs: nowMs, lastSeenMs: Infinity };
    known.push(version);
    if (known.length > VERSIONS_LIMIT) known.shift();
    this.changed(nowMs, sinceMs);
    return version;
  }

  /** Ends the version in force; returns it, or null when there was none. */
  remove(object: ObjectName, nowMs: number, sinceMs = nowMs): Version | null {
    const last = this.versions.get(keyOf(object))?.at(-1);
    if (last === undefined || last.lastSeenMs !== Infinity) return null;
    last.lastSeenMs = nowMs;
    this.changed(nowMs, sinceMs);
    return last;
  }

  /** Keys and versions of what is in force now. */
  *inForce(): Generator<[string, Version]> {
    for (const [key, versions] of this.versions) {
      const last = versions.at(-1);
      if (last?.lastSeenMs === Infinity) yield [key, last];
    }
  }

  versionsOf(object: ObjectName): readonly Version[] {
    return this.versions.get(keyOf(object)) ?? [];
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
    const since = this.changes.findLast(({ atMs }) => atMs <= ms)?.atMs ?? -Infinity;
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
   * What is required of a connection that starts at `atMs`: one expectation, or near a change
   * more, the one in force first. Any of them counts. Within the grace after a change that is the
   * version before, and while nobody could see when it came about, the version after as well.
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
    const near = this.changes.filter((c) => c.sinceMs <= atMs && atMs - c.atMs < this.graceMs);
    for (const change of near.toReversed()) {
      // The version before a change held until just before it.
      const other = ask(change.atMs > atMs ? change.atMs : change.atMs - 1e-3);
      if (!all.some((known) => isSame(known, other))) all.push(other);
    }
    return all;
  }

  private changed(nowMs: number, sinceMs: number): void {
    const last = this.changes.at(-1);
    if (last?.atMs === nowMs) last.sinceMs = Math.min(last.sinceMs, sinceMs);
    else this.changes.push({ atMs: nowMs, sinceMs });
    if (last !== undefined && last.atMs > nowMs) this.changes.sort((a, b) => a.atMs - b.atMs);
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
    this.changes = this.changes.filter(({ atMs }) => atMs > beforeMs);
    this.compiled.clear();
  }
}

/** Two expectations that a verdict cannot tell apart. */
function isSame(a: Expectation, b: Expectation): boolean {
  const text = ({ path, transport }: Expectation) => JSON.stringify([path, transport]);
  return text(a) === text(b);
}
