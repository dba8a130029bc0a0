/** Writes a report of the linter as text for people, and as JSON. */
import { countFindings, type LintReport } from "./lint.ts";
import type { Finding } from "./finding.ts";

/** By file, a line for each finding; what to do stands behind the first of each rule. */
export function formatText({ profile, findings, notMade }: LintReport): string {
  const lines: string[] = [];
  const told = new Set<string>();
  let file: string | null = null;
  for (const finding of findings) {
    if (finding.suppressed !== null) continue;
    if (file !== null && file !== finding.file) lines.push("");
    file = finding.file;
    lines.push(formatFinding(finding));
    if (!told.has(finding.rule.id)) lines.push(`    do: ${finding.rule.remedy}`);
    told.add(finding.rule.id);
  }
  if (lines.length > 0) lines.push("");
  for (const reason of new Set(notMade.map((one) => one.reason))) {
    const ids = notMade.filter((one) => one.reason === reason).map(({ rule }) => `    ${rule.id}`);
    lines.push(`${reason} among the manifests: these checks were not made`, ...ids, "");
  }
  const { error, warning, note, suppressed } = countFindings(findings);
  const counts = [count(error, "error"), count(warning, "warning"), count(note, "note")];
  const under = profile === null ? "" : ` (profile ${profile})`;
  lines.push(`${counts.join(", ")}, ${suppressed} suppressed${under}`);
  return `${lines.join("\n")}\n`;
}

function count(number: number, word: string): string {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

/** `network-policies.yaml:12:3 warning network-allow-all …` */
function formatFinding({ file, line, column, level, rule, sentence }: Finding): string {
  return `${file}:${line}:${column} ${level} ${rule.id} ${sentence}`;
}

/** One object; suppressed findings are there, with their reasons. */
export function formatJson({ profile, findings, notMade }: LintReport): string {
  const report = {
    profile,
    counts: countFindings(findings),
    findings: findings.map(({ rule, ...rest }) => ({
      rule: rule.id,
      ...rest,
      why: rule.why,
      remedy: rule.remedy,
      controls: rule.controls ?? {},
    })),
    not_made: notMade.map(({ rule, reason }) => ({ rule: rule.id, reason })),
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}
