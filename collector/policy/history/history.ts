/** Keeps every version of every policy object: the policy in force at an instant is known. */
import type { ClusterObject, ObjectName } from "../../attribution/cluster-object.ts";
import type { Transport } from "../../attribution/holder.ts";
import type { Expectation, Posture } from "../expectation.ts";
import { isDeciding } from "../manifest/known-kinds.ts";
import { Policy, type End, type PolicyOptions } from "../policy.ts";
import { Versions, type Version } from "./versions.ts";

/** How long after a change either version's expectation counts: enforcement follows late. */
export const GRACE_MS = 15_000;

/** Most compiled policies kept at hand. */
const COMPILED_LIMIT = 8;

/** Which versions of the policy a connection met: when it began, and while it lived. */
export type Expected = {
  atStart: readonly [Expectation, ...Expectation[]];
  later: readonly Expectation[];
};

/** When a connection began, and within which time it is looked at, by a clock so far apart. */
export type Lifetime = { atMs: number; fromMs?: number; toMs?: number; apartMs?: number };

type Change = { sinceMs: number; atMs: number };

export class PolicyHistory {
  readonly versions = new Versions();
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
    const version = this.versions.apply(object, nowMs, sinceMs);
    if (version !== null) this.changed(nowMs, sinceMs);
    return version;
  }

  /** Ends the version in force; returns it, or null when there was none. */
  remove(object: ObjectName, nowMs: number, sinceMs = nowMs): Version | null {
    const version = this.versions.remove(object, nowMs);
    if (version !== null) this.changed(nowMs, sinceMs);
    return version;
  }

  /** The policy in force at that instant, compiled once for each stretch without a change. */
  at(ms: number): Policy {
    const since = this.changes.findLast(({ atMs }) => atMs <= ms)?.atMs ?? -Infinity;
    const known = this.compiled.get(since);
    if (known !== undefined) return known;
    const policy = new Policy(this.versions.at(ms), this.options);
    this.compiled.set(since, policy);
    if (this.compiled.size > COMPILED_LIMIT) {
      this.compiled.delete(this.compiled.keys().next().value!);
    }
    return policy;
  }

  /**
   * What is required of a connection: one expectation, or where the policy changed more, the one in
   * force at its start first. Within the grace after a change that is the version before as well,
   * and while nobody could see when it came about, or by another clock, the version after; `later`
   * are those that came into force while it lived.
   */
  expect(
    client: End,
    server: End,
    port: number,
    transport: Transport,
    { atMs, fromMs = atMs, toMs = atMs, apartMs = 0 }: Lifetime,
    wire: Posture | null = null,
  ): Expected {
    const ask = (ms: number) => this.at(ms).expect(client, server, port, transport, atMs, wire);
    const all: [Expectation, ...Expectation[]] = [ask(atMs)];
    const near = this.changes.filter(
      (c) => c.sinceMs - apartMs <= atMs && atMs - c.atMs < this.graceMs + apartMs,
    );
    for (const change of near.toReversed()) {
      // The version before a change held until just before it.
      const other = ask(change.atMs > atMs ? change.atMs : change.atMs - 1e-3);
      if (!all.some((known) => isSame(known, other))) all.push(other);
    }
    const later: Expectation[] = [];
    const livesFrom = Math.max(atMs, fromMs);
    const during = this.changes.filter((c) => c.atMs > livesFrom && c.atMs <= toMs + apartMs);
    for (const ms of [...(livesFrom > atMs ? [livesFrom] : []), ...during.map((c) => c.atMs)]) {
      const other = ask(ms);
      if (![...all, ...later].some((known) => isSame(known, other))) later.push(other);
    }
    return { atStart: all, later };
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
    this.versions.forget(beforeMs);
    this.changes = this.changes.filter(({ atMs }) => atMs > beforeMs);
    this.compiled.clear();
  }
}

/** Two expectations that a verdict cannot tell apart. */
function isSame(a: Expectation, b: Expectation): boolean {
  const text = ({ path, transport }: Expectation) => JSON.stringify([path, transport]);
  return text(a) === text(b);
}
