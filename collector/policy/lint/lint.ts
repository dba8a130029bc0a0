/** Checks declared policy by every rule, and tells what was found, and what could not be judged. */
import type { ClusterObject } from "../../attribution/cluster-object.ts";
import type { Inventory } from "../../attribution/inventory.ts";
import type { Declared } from "../manifest/declared.ts";
import { Places, type Origin } from "../manifest/place.ts";
import { ALL_RULES, FAMILIES } from "./families.ts";
import { toFindings, type Finding } from "./finding.ts";
import { LEVELS, levelOf, type Level, type Profile, type Rule } from "./rule.ts";
import { Scope } from "./scope.ts";

export type LintReport = {
  profile: Profile | null;
  findings: readonly Finding[];
  /** Checks that were left out, and why. */
  notMade: readonly { rule: Rule; reason: string }[];
};

/** `origins` tells where objects stand; `atMs` is when waivers are held against their end. */
export function lint(
  declared: Declared,
  inventory: Inventory,
  origins: ReadonlyMap<ClusterObject, Origin>,
  profile: Profile | null,
  atMs: number,
): LintReport {
  const scope = new Scope(declared, inventory, atMs);
  for (const { check } of FAMILIES) check(scope);
  if (scope.pods.length === 0) {
    for (const rule of ALL_RULES) if (rule.needsPods) scope.skip(rule, "no pod or workload");
  }
  return {
    profile,
    findings: toFindings(scope.found, new Places(origins), profile),
    notMade: [...scope.skipped].flatMap(([rule, reason]) =>
      levelOf(rule, profile) === "off" ? [] : [{ rule, reason }],
    ),
  };
}

export type Counts = Readonly<Record<Level, number>> & { suppressed: number };

export function countFindings(findings: readonly Finding[]): Counts {
  const counts = { error: 0, warning: 0, note: 0, suppressed: 0 };
  for (const { level, suppressed } of findings)
    counts[suppressed === null ? level : "suppressed"]++;
  return counts;
}

/** Reports whether any finding that counts is of this level, or graver. */
export function reaches(findings: readonly Finding[], level: Level): boolean {
  const grave = LEVELS.slice(0, LEVELS.indexOf(level) + 1);
  return findings.some((one) => one.suppressed === null && grave.includes(one.level));
}
