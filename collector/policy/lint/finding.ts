/** Turns what the checks found into findings: placed, weighed, named the same at every run. */
import { createHash } from "node:crypto";
import { formatPath } from "../manifest/problem.ts";
import type { Places } from "../manifest/place.ts";
import { IGNORE, readIgnored, REASON } from "./manifest.ts";
import { LEVELS, levelOf, type Level, type Profile, type Rule } from "./rule.ts";
import type { Found } from "./scope.ts";

export type Finding = {
  rule: Rule;
  level: Level;
  /** Null for text that could not be read as one. */
  object: { kind: string; namespace: string; name: string } | null;
  file: string;
  /** From 1. */
  line: number;
  column: number;
  /** `spec.mtls.mode`; null where the finding is of no field. */
  field: string | null;
  sentence: string;
  /** Why it is ignored; null where it counts. */
  suppressed: string | null;
  /** Hex; the same for the same finding wherever it moves in its file. */
  fingerprint: string;
};

/** By file, line, column, gravest first; rules that the profile switches off are left out. */
export function toFindings(
  found: readonly Found[],
  places: Places,
  profile: Profile | null,
): Finding[] {
  const counts = new Map<string, number>();
  return found
    .flatMap((one) => {
      const level = levelOf(one.rule, profile);
      return level === "off" ? [] : [toFinding(one, level, places, counts)];
    })
    .sort(
      (a, b) =>
        compare(a.file, b.file) ||
        a.line - b.line ||
        a.column - b.column ||
        LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) ||
        compare(a.rule.id, b.rule.id) ||
        compare(a.sentence, b.sentence),
    );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function toFinding(
  { rule, object, path, sentence, problem, annotations }: Found,
  level: Level,
  places: Places,
  counts: Map<string, number>,
): Finding {
  const file = problem?.file ?? object?.source?.file ?? "-";
  const place = problem ?? (object === null ? { line: 1, column: 1 } : places.of(object, path));
  const field = path.length === 0 ? null : formatPath(path);
  const who = object === null ? null : [object.kind, object.namespace, object.name];
  // A document without a name goes by what is wrong with it.
  const key = JSON.stringify([rule.id, file, who ?? sentence, field]);
  const count = counts.get(key) ?? 0;
  counts.set(key, count + 1);
  const own = object?.annotations ?? {};
  return {
    ...{ rule, level, file, field, sentence },
    object:
      object === null
        ? null
        : { kind: object.kind, namespace: object.namespace, name: object.name },
    line: place.line,
    column: place.column,
    suppressed: readSuppression(rule, own) ?? readSuppression(rule, annotations),
    fingerprint: createHash("sha256").update(`${key} ${count}`).digest("hex").slice(0, 32),
  };
}

/** The reason for which a rule is ignored; null where it is not, or no reason is given. */
function readSuppression(rule: Rule, annotations: Found["annotations"]): string | null {
  const reason = (annotations[REASON] ?? "").trim();
  const isNamed = readIgnored(annotations[IGNORE] ?? "").includes(rule.id);
  return isNamed && reason !== "" ? reason : null;
}
