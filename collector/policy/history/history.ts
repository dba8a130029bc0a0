/** Keeps every version of every policy object: the policy in force at an instant is known. */
import { groupKind, keyOf, valueAt } from "../../attribution/cluster-object.ts";
import type { ClusterObject, ObjectName } from "../../attribution/cluster-object.ts";
import type { Transport } from "../../attribution/holder.ts";
import type { Expectation, Posture } from "../expectation.ts";
import { CONFINED_KINDS, isDeciding } from "../manifest/known-kinds.ts";
import { Policy, type End, type PolicyOptions } from "../policy.ts";
import { Versions, type Version } from "./versions.ts";

/** How long after a change either version's expectation counts: enforcement follows late. */
export const GRACE_MS = 15_000;

/** Most compiled policies kept at hand. */
const COMPILED_LIMIT = 8;

/** Most times kept in which something was not known; beyond that the oldest are taken for one. */
const UNKNOWNS_LIMIT = 256;

/** Which versions of the policy a connection met: when it began, and while it lived. */
export type Expected = {
  atStart: readonly [Expectation, ...Expectation[]];
  later: readonly Expectation[];
};

/** When a connection began, and within which time it is looked at, by a clock so far apart. */
export type Lifetime = { atMs: number; fromMs?: number; toMs?: number; apartMs?: number };

type Change = { sinceMs: number; atMs: number };

/** A time in which something was declared that nobody saw, and for whom it may have counted. */
type Unknown = Change & { namespaces: readonly string[] | "all" };

/** What a version requires of which the content is not known. */
const UNSEEN: Expectation = {
  path: "undecidable",
  transport: { required: null, accepts: [], refuses: [] },
  pathBecause: [],
  transportBecause: [],
};

/** How an object was last seen: an API server counts its generations, one for each change. */
type Sighting = { uid: string | null; generation: number };

export class PolicyHistory {
  readonly versions = new Versions();
  private readonly compiled = new Map<number, Policy>();
  private readonly options: PolicyOptions;
  private readonly graceMs: number;
  /** Instants by which anything had changed, ascending, each with the instant after which. */
  private changes: Change[] = [];
  private unknowns: Unknown[] = [];
  /** By the key of the object; of those that tell a generation. */
  private readonly sightings = new Map<string, Sighting>();

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
    if (this.hasMissed(object, nowMs, sinceMs)) {
      const namespaces = CONFINED_KINDS.has(groupKind(object)) ? [object.namespace] : "all";
      this.forgo({ sinceMs, atMs: nowMs, namespaces });
      // With the same content it is another version all the same: so the log tells of it.
      this.versions.remove(object, nowMs);
    }
    const version = this.versions.apply(object, nowMs, sinceMs);
    if (version !== null) this.changed(nowMs, sinceMs);
    return version;
  }

  /** Takes that for a time it was not known what is declared: nothing is proven or broken then. */
  forgo(unknown: Unknown): void {
    this.unknowns.push(unknown);
    if (this.unknowns.length > UNKNOWNS_LIMIT) this.merge();
  }

  /** Two in one: the oldest ones, and all between them. */
  private merge(): void {
    const [a, b] = this.unknowns.splice(0, 2) as [Unknown, Unknown];
    const sinceMs = Math.min(a.sinceMs, b.sinceMs);
    this.unknowns.unshift({ sinceMs, atMs: Math.max(a.atMs, b.atMs), namespaces: "all" });
  }

  /**
   * Whether an object was something else since it was last seen, and before what it is now: where
   * nobody watched, its generation has moved by more than one, or it was made anew.
   */
  private hasMissed(object: ClusterObject, nowMs: number, sinceMs: number): boolean {
    const generation = valueAt(object.body, "metadata", "generation");
    if (typeof generation !== "number") return false;
    const { uid } = object;
    const key = keyOf(object);
    const before = this.sightings.get(key);
    this.sightings.set(key, { uid, generation });
    if (sinceMs >= nowMs) return false;
    if (before === undefined) return generation > 1;
    return before.uid !== uid || generation > before.generation + 1;
  }

  /** Ends the version in force; returns it, or null when there was none. */
  remove(object: ObjectName, nowMs: number, sinceMs = nowMs): Version | null {
    // Where nobody saw it go, it may have been made anew since.
    if (sinceMs >= nowMs) this.sightings.delete(keyOf(object));
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
   * and while nobody could see when it came about, or by another clock, the version after. Where
   * nobody saw what was declared there is one more, which leaves all open. `later` are those that
   * came into force while it lived.
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
    const lastMs = Math.max(atMs, fromMs, toMs) + apartMs;
    const isUnseen = this.unknowns.some(
      ({ sinceMs, atMs: endMs, namespaces }) =>
        sinceMs <= lastMs &&
        atMs - endMs < this.graceMs + apartMs &&
        (namespaces === "all" || [client, server].some((end) => isOf(end, namespaces))),
    );
    if (isUnseen) all.push(UNSEEN);
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
    this.unknowns = this.unknowns.filter(({ atMs }) => atMs > beforeMs);
    const kept = new Set(this.versions.all().map(({ object }) => keyOf(object)));
    for (const key of this.sightings.keys()) if (!kept.has(key)) this.sightings.delete(key);
    this.compiled.clear();
  }
}

function isOf(end: End, namespaces: readonly string[]): boolean {
  return "namespace" in end && namespaces.includes(end.namespace);
}

/** Two expectations that a verdict cannot tell apart. */
export function isSame(a: Expectation, b: Expectation): boolean {
  const text = ({ path, transport }: Expectation) => JSON.stringify([path, transport]);
  return text(a) === text(b);
}
