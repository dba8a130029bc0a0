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
  const { connections, foreign } = readWindow(input);
  return weighWindow(input, [tallyPart(input, connections), foreign]);
}

/** The connections that lived in the window, and what agents told that they cannot have seen. */
export function readWindow(input: WindowInput): { connections: Connection[]; foreign: Tally } {
  const { sightings, clocksApartMs, fromMs, toMs } = input;
  const foreign = new Tally();
  const own = sightings.filter((sighting) => {
    if (!isForeign(sighting)) return true;
    // What passes an uplink on its way between others is no pod's.
    if (sighting.attributed.observation.vantage !== null) foreign.addForeign(sighting.node);
    return false;
  });
  const all = pairSightings(own, clocksApartMs);
  return { connections: all.filter((c) => c.startMs < toMs && c.endMs >= fromMs), foreign };
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
