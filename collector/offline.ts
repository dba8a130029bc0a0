/** Judges the observations of captures against manifests, without agents and collector. */
import { attribute } from "./attribution/attribute.ts";
import { readDeclared } from "./policy/manifest/declared.ts";
import { Policy } from "./policy/policy.ts";
import { toInventory } from "./policy/answer/policy-command.ts";
import { formatProblem } from "./policy/manifest/problem.ts";
import { listDeclaredEdges, NOTHING_DECLARED } from "./verdict/declared-edges.ts";
import { judgeWindow } from "./verdict/window.ts";
import { byGravity } from "./verdict/verdict.ts";
import type { Verdict } from "./verdict/verdict.ts";
import type { Coverage } from "../protocol/coverage.ts";
import type { Observation } from "../protocol/observation.ts";

export type OfflineJudgement = {
  verdicts: Verdict[];
  /** Sentences for stderr: what could not be read of the manifests. */
  warnings: string[];
};

const TOLERANCE = 0.01;

/**
 * Judges the whole time of the captures as one window. The capture itself is the coverage: whoever
 * appears in it counts as watched from its first frame to its last, and nobody else does.
 */
export function judgeOffline(
  manifests: string,
  observations: readonly Observation[],
): OfflineJudgement {
  const declared = readDeclared(manifests);
  const inventory = toInventory(declared);
  const policy = new Policy(declared.objects, { problems: declared.problems });
  const starts = observations.map((o) => Date.parse(o.record.start));
  const ends = observations.map((o) => Date.parse(o.record.end));
  const fromMs = starts.reduce((a, b) => Math.min(a, b), Infinity);
  const toMs = ends.reduce((a, b) => Math.max(a, b), -Infinity) + 1;
  const warnings = declared.problems.map(formatProblem);
  if (observations.length === 0) return { verdicts: [], warnings };
  const seen = new Set(observations.flatMap((o) => [o.record.src_ip, o.record.dst_ip]));
  const coverage: Coverage = {
    interface: "*",
    addresses: [...seen],
    from_ms: fromMs,
    to_ms: toMs,
    source: "file",
    sampling: 1,
    delivered: observations.reduce((n, o) => n + o.record.packets[0] + o.record.packets[1], 0),
    ...{ dropped: 0, cut_off: 0, packets: 0, stopped: {}, discarded: {} },
  };
  const { verdicts } = judgeWindow({
    fromMs,
    toMs,
    clocksApartMs: 0, // one capture, one clock
    sightings: observations.map((observation) => ({
      id: observation.flow,
      node: "",
      attributed: attribute(observation, inventory, 0),
    })),
    coverage: [{ node: "", coverage }],
    pods: inventory.pods(fromMs),
    lives: inventory.podsBetween(fromMs, toMs),
    nodes: [],
    expect: (client, server, port, carrier, { atMs }, wire) => ({
      atStart: [policy.expect(client, server, port, carrier, atMs, wire)],
      later: [],
    }),
    actorOf: (holder) => policy.actorOf(holder)?.name ?? null,
    zonesOf: (holder) => policy.zonesOf(holder).map((zone) => zone.name),
    // Of a capture nothing is expected to have been exercised.
    declared: {
      ...NOTHING_DECLARED,
      undeclared: listDeclaredEdges(inventory.pods(fromMs), (client, server, port, carrier) =>
        policy.expect(client, server, port, carrier, fromMs),
      ).undeclared,
    },
    tolerance: TOLERANCE,
  });
  return { verdicts, warnings };
}

/** One line a verdict, the worst first. */
export function formatVerdictTable(verdicts: readonly Verdict[]): string {
  const rows = verdicts.toSorted(byGravity).map((v) => [v.verdict, v.aspect, v.edge.id, v.reason]);
  const widths = [0, 1, 2].map((i) => Math.max(0, ...rows.map((row) => row[i]!.length)));
  const lines = rows.map((row) =>
    row.map((cell, i) => (i < 3 ? cell.padEnd(widths[i]!) : cell)).join("  "),
  );
  return lines.length === 0 ? "no edges\n" : `${lines.join("\n")}\n`;
}
