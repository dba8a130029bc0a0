/** Builds the part that one object had in a decision. */
import type { ClusterObject } from "../../attribution/cluster-object.ts";
import type { HolderObject } from "../../attribution/holder.ts";
import type { Because, PathDecision } from "../expectation.ts";
import { formatPath, type Fault } from "../manifest/problem.ts";

/** What one layer of policy says about a path. */
export type Decision = { path: PathDecision; because: readonly Because[] };

export const UNDECLARED: Decision = { path: "undeclared", because: [] };

export function toBecause(object: HolderObject, rule: string, sentence: string): Because {
  return {
    kind: object.kind,
    namespace: object.namespace,
    name: object.name,
    uid: object.uid,
    resource_version: object.resourceVersion,
    hash: object.hash,
    rule,
    sentence,
  };
}

/** The part of an object that is not valid: what depends on it is undecidable. */
export function toFaultBecause(object: ClusterObject, fault: Fault): Because {
  const path = formatPath(fault.path);
  const sentence = `undecidable: ${formatObject(object)} is not valid: ${path}: ${fault.reason}`;
  return toBecause(object, path, sentence);
}

/** `NetworkPolicy pay/default-deny`; without the namespace where there is none. */
export function formatObject(object: { kind: string; namespace: string; name: string }): string {
  return `${object.kind} ${object.namespace === "" ? "" : `${object.namespace}/`}${object.name}`;
}

/** How grave a decision is when layers, or directions, are combined. */
const ORDER: readonly PathDecision[] = ["denied", "undecidable", "allowed", "undeclared"];

/** The gravest decision, with its reasons first and those of the others behind. */
export function combine(decisions: readonly Decision[]): Decision {
  const sorted = [...decisions].sort((a, b) => ORDER.indexOf(a.path) - ORDER.indexOf(b.path));
  const path = sorted[0]?.path ?? "undeclared";
  return { path, because: sorted.flatMap((decision) => decision.because) };
}

/** Oldest first; a missing time is equal age, then the name decides. */
export function byAge(a: ClusterObject, b: ClusterObject): number {
  const age = a.createdMs !== null && b.createdMs !== null ? a.createdMs - b.createdMs : 0;
  return age || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}
