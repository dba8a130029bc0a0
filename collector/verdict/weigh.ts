/** Weighs what single connections say into one word: contradictions first, then doubt. */
import type { Reason, VerdictWord } from "./verdict.ts";

/** What one connection says about an expectation. */
export type Say =
  | { kind: "supports" | "contradicts" | "unreadable" | "unexpected"; reason: Reason }
  /** Still under way: it counts when more of it is known. */
  | { kind: "pending" }
  /** Says nothing about this aspect. */
  | { kind: "silent" };

export const supports = (reason: Reason): Say => ({ kind: "supports", reason });
export const contradicts = (reason: Reason): Say => ({ kind: "contradicts", reason });
export const unreadable = (reason: Reason): Say => ({ kind: "unreadable", reason });

/** What a say is worth where something that it rests on is not known, for this reason. */
export function doubted(say: Say, reason: Reason): Say {
  const isTold = say.kind === "supports" || say.kind === "contradicts" || say.kind === "unexpected";
  return isTold ? unreadable(reason) : say;
}

export type Weighed = {
  verdict: VerdictWord;
  reason: Reason;
  counts: { supporting: number; contradicting: number; unreadable: number; pending: number };
};

/**
 * One contradiction makes `violated`; what was not readable weighs as unobserved against the
 * tolerance (product.md, honesty rule 1).
 */
export function weigh(says: readonly Say[], tolerance: number): Weighed {
  const count = (kind: Say["kind"]) => says.filter((s) => s.kind === kind).length;
  const counts = {
    supporting: count("supports"),
    contradicting: count("contradicts"),
    unreadable: count("unreadable"),
    pending: count("pending"),
  };
  const found = (verdict: VerdictWord, reason: Reason): Weighed => ({ verdict, reason, counts });
  if (counts.contradicting > 0) return found("violated", mostOf(says, "contradicts")!);
  const strange = mostOf(says, "unexpected");
  if (strange) return found("unexpected", strange);
  if (counts.supporting > 0) {
    const share = counts.unreadable / (counts.unreadable + counts.supporting);
    if (share > tolerance) return found("unproven", "partly-unreadable");
    return found("confirmed", mostOf(says, "supports")!);
  }
  return found("unproven", mostOf(says, "unreadable") ?? "not-answered");
}

/** The reason given most often among one kind; the earlier in the alphabet where two tie. */
function mostOf(says: readonly Say[], kind: Say["kind"]): Reason | null {
  const counts = new Map<Reason, number>();
  for (const say of says) {
    if (say.kind === kind && "reason" in say) {
      counts.set(say.reason, (counts.get(say.reason) ?? 0) + 1);
    }
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return sorted[0]?.[0] ?? null;
}
