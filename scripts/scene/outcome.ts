/** Holds a window's verdicts against the scene's own expectation. */
import type { FindingsAnswer, VerdictsAnswer } from "../../collector/api/answers.ts";
import { byGravity } from "../../collector/verdict/verdict.ts";
import type { Verdict } from "../../collector/verdict/verdict.ts";
import type { Case } from "./expectation.ts";

export type CaseResult = {
  case: Case;
  ok: boolean;
  /** What was seen of it: the verdict and reason, or what is missing. */
  seen: string;
};

export type Outcome = {
  from: string;
  to: string;
  verdicts: Verdict[];
  results: CaseResult[];
  leftOut: readonly Case[];
  asDeclared: number;
};

/** A node has no namespace. */
const nameOf = ({ kind, namespace, name }: Verdict["edge"]["client"]) =>
  kind === "node" ? name : `${namespace}/${name}`;

export function checkCases(
  cases: readonly Case[],
  leftOut: readonly Case[],
  told: VerdictsAnswer,
  findings: FindingsAnswer,
): Outcome {
  const verdicts = told.verdicts.map(({ verdict }) => verdict as Verdict);
  const results = cases.map((c): CaseResult => {
    const edges = verdicts.filter(
      (v) =>
        nameOf(v.edge.client) === (c.seen_as ?? c.client) &&
        nameOf(v.edge.server) === c.server &&
        v.edge.port === c.port &&
        v.edge.proto === c.proto,
    );
    const found = edges.find((v) => v.aspect === c.aspect);
    const codes = new Set([
      ...edges.flatMap((v) => v.findings),
      ...findings.findings.map((f) => f.finding.code),
    ]);
    const verdictOk =
      c.verdict === null || (found?.verdict === c.verdict && found.reason === c.reason);
    const findingOk = c.finding === null || codes.has(c.finding);
    const verdict = found ? `${found.verdict} ${found.reason}` : c.verdict ? "no verdict" : "";
    const finding = c.finding === null ? "" : `finding ${c.finding}${findingOk ? "" : " missing"}`;
    const seen = [verdict, finding].filter(Boolean).join(", ");
    return { case: c, ok: verdictOk && findingOk, seen };
  });
  return {
    from: told.from!,
    to: told.to!,
    verdicts,
    results,
    leftOut,
    asDeclared: results.filter((r) => r.ok).length,
  };
}

export function formatCase({ case: c, ok, seen }: CaseResult): string {
  const declared = [c.verdict && `${c.verdict} ${c.reason}`, c.finding && `finding ${c.finding}`];
  const wanted = ok ? "" : `  (declared: ${declared.filter(Boolean).join(", ")})`;
  return `${ok ? "ok    " : "MISSED"}  ${c.title}: ${seen}${wanted}`;
}

/** The verdicts of exercised edges, the worst first, one line each. */
export function formatVerdicts(outcome: Outcome): string {
  const rows = outcome.verdicts
    .filter((v) => v.firstSeen !== null)
    .sort(byGravity)
    .map((v) => {
      const client = nameOf(v.edge.client);
      const server = nameOf(v.edge.server);
      const edge = `${client} -> ${server}:${v.edge.port}/${v.edge.proto}`;
      return [v.verdict, v.aspect, edge, v.reason];
    });
  const quiet = outcome.verdicts.length - rows.length;
  const table = [["VERDICT", "ASPECT", "EDGE", "REASON"], ...rows];
  const widths = [0, 1, 2].map((i) => Math.max(...table.map((row) => row[i]!.length)));
  const lines = table.map((row) =>
    row.map((cell, i) => (i < 3 ? cell.padEnd(widths[i]!) : cell)).join("  "),
  );
  const head = `window ${outcome.from} to ${outcome.to}`;
  return `\n${head}\n${lines.join("\n")}\n(and ${quiet} declared edges without traffic)\n`;
}
