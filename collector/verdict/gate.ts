/** Says what may prove or contradict, and why not: of single connections, and of whole edges. */
import type { Expectation } from "../policy/expectation.ts";
import type { WorkloadWatched } from "./coverage.ts";
import { isMadeUp } from "./matrix.ts";
import type { Matrix } from "./matrix.ts";
import type { Connection } from "./pair.ts";
import { doubted } from "./say.ts";
import type { Say } from "./say.ts";
import type { Reason } from "./verdict.ts";

type Rule = {
  reason: Reason;
  /** What it takes back: only a proof, or a contradiction as well. */
  takes: "proofs" | "all";
  when: (c: Connection, matrix: Matrix, expectation: Expectation) => boolean;
};

/** The first that holds is told. */
const RULES: readonly Rule[] = [
  { reason: "roles-unknown", takes: "all", when: (c) => !c.rolesKnown },
  { reason: "client-is-node", takes: "all", when: (c) => c.clientIsNode },
  { reason: "not-attributable", takes: "all", when: (c) => c.isNear },
  // An attempt that came to nothing is no forgery for that: a policy may have stopped it.
  { reason: "one-end-only", takes: "all", when: (c, m) => c.established && isMadeUp(m) },
  { reason: "one-sided", takes: "all", when: (c) => !c.clientSpoke },
  { reason: "sightings-disagree", takes: "proofs", when: (c) => c.disagree },
  { reason: "policy-incomplete", takes: "all", when: (_c, _m, e) => (e.doubts ?? []).length > 0 },
];

/** What is left of a say, held against one version of the policy. */
export function pass(say: Say, c: Connection, matrix: Matrix, expectation: Expectation): Say {
  const isProof = say.kind === "supports" || say.kind === "undemanded";
  const stops = ({ takes, when }: Rule) =>
    (takes === "all" || isProof) && when(c, matrix, expectation);
  const rule = RULES.find(stops);
  return rule ? doubted(say, rule.reason) : say;
}

/** `hidesClients`: some came under a node's address, and may be of any edge to that server. */
export type WatchedEnd = WorkloadWatched & { hidesClients: boolean };

/** What a proof of an edge rests on beside its connections. */
export type Ground = {
  ends: readonly [WatchedEnd, WatchedEnd];
  /** A connection of which an end could not be attributed may be the edge's. */
  isMixedUp: boolean;
  /** Attempts of the client, at either end, that nobody kept. */
  attempts: number;
  /** Connections that support the expectation. */
  supporting: number;
  /** Upper bound of the rate of contradictions, were they a sample. */
  bound: number;
};

/** Why the connections of an edge prove nothing though they agree; null where they prove. */
export function edgeDoubt(ground: Ground, tolerance: number): Reason | null {
  if (ground.isMixedUp) return "not-attributable";
  // Whatever passes between them passes both ends: one that was watched whole is enough.
  const [best, other] = ground.ends.toSorted((a, b) => b.least - a.least);
  const missed = missedAt(best!, ground, tolerance);
  return missed && missedAt(other!, ground, tolerance) ? missed : null;
}

/** Why what passes an end of an edge may not have been seen there; null where it was. */
function missedAt(end: WatchedEnd, ground: Ground, tolerance: number): Reason | null {
  const { delivered, dropped, unread } = end;
  const frames = Math.max(1, delivered + dropped);
  const lost = end.lost + ground.attempts;
  if (end.oneDirection) return "one-direction";
  if (end.hidesClients) return "client-is-node";
  if (dropped / frames > tolerance) return "capture-drops";
  if ((dropped + unread) / frames > tolerance) return "frames-unread";
  // Each of them may have been the edge's.
  if (lost > tolerance * (lost + ground.supporting)) return "observations-lost";
  if (Math.round(end.least * 1000) / 1000 < 1 - tolerance) return "partly-watched";
  return end.sampling < 1 && ground.bound > tolerance ? "sampling-bound" : null;
}
