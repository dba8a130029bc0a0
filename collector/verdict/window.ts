/**
 * Judges one window, in a line: sightings are paired into connections, each is held against what
 * was expected of it, what they say is added up by edge, and the sums are weighed.
 */
import { coverageOf } from "./coverage.ts";
import { EdgeJudge } from "./edge-verdict.ts";
import { isForeign } from "./foreign.ts";
import { Hearing } from "./hearing.ts";
import { Sights } from "./matrix.ts";
import { pairSightings } from "./pair.ts";
import type { Connection } from "./pair.ts";
import { Tally } from "./tally.ts";
import type { ClusterFinding, NodeCoverage, Verdict } from "./verdict.ts";
import { findInWindow } from "./window-findings.ts";
import type { WindowInput } from "./window-input.ts";

export type WindowJudgement = {
  verdicts: Verdict[];
  findings: ClusterFinding[];
  nodes: NodeCoverage[];
  /** Declared edges that were left out beyond the limits of `listDeclaredEdges`. */
  unexercisedCut: number;
};

export function judgeWindow(input: WindowInput): WindowJudgement {
  return weighWindow(input, [tallyPart(input, connectionsOf(input))]);
}

/** The connections that lived in the window, as agents saw them that could have. */
export function connectionsOf(input: WindowInput): Connection[] {
  const { sightings, clocksApartMs, fromMs, toMs } = input;
  const own = sightings.filter((sighting) => !isForeign(sighting));
  const all = pairSightings(own, clocksApartMs);
  return all.filter((c) => c.startMs < toMs && c.endMs >= fromMs);
}

/** What some of a window's connections say. */
export function tallyPart(input: WindowInput, connections: readonly Connection[]): Tally {
  const hearing = new Hearing(input, new Sights(coverageOf(input), input.tolerance));
  for (const connection of connections) hearing.add(connection);
  return hearing.tally;
}

/** Weighs what all parts of a window say together; the tallies are used up. */
export function weighWindow(input: WindowInput, tallies: readonly Tally[]): WindowJudgement {
  const tally = new Tally();
  for (const part of tallies) tally.merge(part);
  const coverage = coverageOf(input);
  const judge = new EdgeJudge(input, tally, coverage);
  const edges = [...tally.edges.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const nodes = input.nodes.map((n) => coverage.ofNode(n.name, input.pods));
  return {
    verdicts: [...edges.flatMap((edge) => judge.judge(edge)), ...judge.unexercised()],
    findings: findInWindow(tally, nodes, input),
    nodes,
    unexercisedCut: input.declared.cut,
  };
}
