/** Describes what one connection says about what is expected of it. */
import type { Reason } from "./verdict.ts";

export type Say =
  | { kind: "supports"; reason: Reason; unless?: Unless }
  | { kind: "contradicts" | "unreadable" | "unexpected" | "undemanded"; reason: Reason }
  /** Still under way: it counts when more of it is known. */
  | { kind: "pending" }
  /** Says nothing that weighs; the reason is told where no other connection does. */
  | { kind: "silent"; reason: Reason | null };

/** A proof that counts only where others were served: else it is unreadable for that reason. */
export type Unless = { served: string; reason: Reason };

export const supports = (reason: Reason, unless?: Unless): Say =>
  unless === undefined ? { kind: "supports", reason } : { kind: "supports", reason, unless };
export const contradicts = (reason: Reason): Say => ({ kind: "contradicts", reason });
export const unreadable = (reason: Reason): Say => ({ kind: "unreadable", reason });
export const undemanded = (reason: Reason): Say => ({ kind: "undemanded", reason });
export const PENDING: Say = { kind: "pending" };
export const silent = (reason: Reason | null = null): Say => ({ kind: "silent", reason });

/** What a say is worth where something that it rests on is not known, for this reason. */
export function doubted(say: Say, reason: Reason): Say {
  if (say.kind === "silent" && say.reason !== null) return silent(reason);
  return say.kind === "pending" || say.kind === "silent" || say.kind === "unreadable"
    ? say
    : unreadable(reason);
}

/** What all versions of a policy agree on; else it is no proof, and no contradiction. */
export function agreed(says: readonly Say[], reason: Reason): Say {
  const [first] = says;
  const other = says.find((say) => say.kind !== first!.kind);
  if (other === undefined) return first!;
  // One demands what was seen, another nothing: both are met, and less is claimed.
  const isMet = says.every(({ kind }) => kind === "supports" || kind === "undemanded");
  if (isMet) return says.find(({ kind }) => kind === "undemanded")!;
  const pending = says.find((say) => say.kind === "pending");
  return pending ?? doubted(first!.kind === "silent" ? other : first!, reason);
}
