/** Keeps the versions of named objects: which of them were in force at an instant. */
import { keyOf, type ClusterObject, type ObjectName } from "../../attribution/cluster-object.ts";

/** One version of an object, in force in [firstSeenMs, lastSeenMs). */
export type Version = {
  object: ClusterObject;
  /** It came about after this: earlier than `firstSeenMs` where the cluster could not be seen. */
  sinceMs: number;
  firstSeenMs: number;
  /** Infinity while it is in force. */
  lastSeenMs: number;
};

/** Most versions kept of one object; the evidence log has them all. */
const VERSIONS_LIMIT = 1000;

export class Versions {
  /** By group, kind, namespace and name; ascending, not overlapping. */
  private readonly byKey = new Map<string, Version[]>();

  /**
   * Takes an object as it is from `nowMs` on, and after `sinceMs`. Returns its version when it is
   * new; null for the content, and the object, that is there already.
   */
  apply(object: ClusterObject, nowMs: number, sinceMs: number): Version | null {
    const key = keyOf(object);
    const known = this.byKey.get(key) ?? [];
    this.byKey.set(key, known);
    const last = known.at(-1);
    if (last?.lastSeenMs === Infinity) {
      if (last.object.hash === object.hash && last.object.uid === object.uid) return null;
      last.lastSeenMs = nowMs;
    }
    const version = { object, sinceMs, firstSeenMs: nowMs, lastSeenMs: Infinity };
    known.push(version);
    if (known.length > VERSIONS_LIMIT) known.shift();
    return version;
  }

  /** Ends the version in force; returns it, or null when there was none. */
  remove(object: ObjectName, nowMs: number): Version | null {
    const last = this.byKey.get(keyOf(object))?.at(-1);
    if (last === undefined || last.lastSeenMs !== Infinity) return null;
    last.lastSeenMs = nowMs;
    return last;
  }

  of(object: ObjectName): readonly Version[] {
    return this.byKey.get(keyOf(object)) ?? [];
  }

  /** Every version that is kept. */
  all(): Version[] {
    return [...this.byKey.values()].flat();
  }

  /** The objects in force at that instant. */
  at(ms: number): ClusterObject[] {
    const found: ClusterObject[] = [];
    for (const versions of this.byKey.values()) {
      const version = versions.find((v) => v.firstSeenMs <= ms && ms < v.lastSeenMs);
      if (version !== undefined) found.push(version.object);
    }
    return found;
  }

  /** Keys and versions of what is in force now. */
  *inForce(): Generator<[string, Version]> {
    for (const [key, versions] of this.byKey) {
      const last = versions.at(-1);
      if (last?.lastSeenMs === Infinity) yield [key, last];
    }
  }

  /** Drops versions that ended before. */
  forget(beforeMs: number): void {
    for (const [key, versions] of this.byKey) {
      const kept = versions.filter((v) => v.lastSeenMs > beforeMs);
      if (kept.length === 0) this.byKey.delete(key);
      else this.byKey.set(key, kept);
    }
  }
}
