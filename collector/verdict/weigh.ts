/** Weighs what connections say into one word: contradictions first, then doubt. */
import type { Cell } from "./tally.ts";
import type { Say } from "./say.ts";
import type { Reason, Verdict, VerdictWord } from "./verdict.ts";

export type Weighed = { verdict: VerdictWord; reason: Reason; counts: Verdict["counts"] };

export const NO_COUNTS = {
  supporting: 0,
  contradicting: 0,
  unreadable: 0,
  pending: 0,
  undemanded: 0,
};

/** What depends on what no passive observer can see (policy.md §7). */
const UNDECIDABLE: ReadonlySet<Reason | null> = new Set([
  ...(["denial-in-band", "rule-not-observable"] as const),
]);

const WEAKEST = ["plaintext-allowed", "tls-undemanded", "mtls-undemanded"] as const;

/**
 * One contradiction makes `violated`; what was not readable weighs as unobserved against the
 * tolerance (product.md, honesty rule 1). Null where no connection says anything.
 */
export function weigh(cells: readonly Cell[], tolerance: number): Weighed | null {
  const count = (kind: Say["kind"]) =>
    cells.reduce((sum, cell) => (cell.kind === kind ? sum + cell.count : sum), 0);
  const counts = {
    supporting: count("supports"),
    contradicting: count("contradicts"),
    unreadable: count("unreadable"),
    pending: count("pending"),
    undemanded: count("undemanded"),
  };
  const found = (verdict: VerdictWord, reason: Reason): Weighed => ({ verdict, reason, counts });
  const contradiction = mostOf(cells, "contradicts");
  if (contradiction) return found("violated", contradiction);
  if (cells.length > 0 && cells.every(({ reason }) => UNDECIDABLE.has(reason))) {
    return { ...found("undecidable", mostOf(cells, "unreadable")!), counts: NO_COUNTS };
  }
  const strange = mostOf(cells, "unexpected");
  if (strange) return found("unexpected", strange);
  const proof = mostOf(cells, "supports");
  if (proof) {
    const share = counts.unreadable / (counts.unreadable + counts.supporting);
    return share > tolerance ? found("unproven", "partly-unreadable") : found("confirmed", proof);
  }
  // Of what anything meets, the weakest that was seen is what a stricter rule would break.
  const isMet = (reason: Reason) => cells.some((cell) => cell.reason === reason);
  const met = WEAKEST.find(isMet) ?? mostOf(cells, "undemanded");
  if (met) return found("nothing-demanded", met);
  const doubt = mostOf(cells, "unreadable");
  if (doubt) return found("unproven", doubt);
  if (counts.pending > 0) return found("unproven", "not-answered");
  const silence = mostOf(cells, "silent");
  return silence
    ? { ...found("unproven", silence), counts: { ...NO_COUNTS, unreadable: count("silent") } }
    : null;
}

/** The reason given most often among one kind; the earlier in the alphabet where two tie. */
function mostOf(cells: readonly Cell[], kind: Say["kind"]): Reason | null {
  const counts = new Map<Reason, number>();
  for (const { kind: own, reason, count } of cells) {
    if (own === kind && reason !== null) counts.set(reason, (counts.get(reason) ?? 0) + count);
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return sorted[0]?.[0] ?? null;
}
