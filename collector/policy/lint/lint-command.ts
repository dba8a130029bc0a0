/** Runs `wireproof policy lint` on a folder of manifests. */
import { ConfigError } from "../../../protocol/config-error.ts";
import { readDeclared } from "../manifest/declared.ts";
import { formatJson, formatText } from "./format.ts";
import { lint, reaches } from "./lint.ts";
import { LEVELS, PROFILES } from "./rule.ts";
import { formatSarif } from "./sarif.ts";
import { oneOf, toInventory } from "../answer/policy-command.ts";

export type LintOptions = {
  manifests: string;
  profile?: string;
  format?: string;
  failOn?: string;
  /** RFC 3339; without it `nowMs` counts. */
  at?: string;
};

/** What the command prints, and how it ends: 1 with findings that fail it, 2 with nothing read. */
export function runLint(options: LintOptions, nowMs: number): { out: string; exitCode: number } {
  const profile =
    options.profile === undefined ? null : oneOf("--profile", options.profile, PROFILES);
  const format = oneOf("--format", options.format ?? "text", ["text", "json", "sarif"]);
  const failOn = oneOf("--fail-on", options.failOn ?? "error", LEVELS);
  const atMs = options.at === undefined ? nowMs : parseTime(options.at);
  const origins: NonNullable<Parameters<typeof readDeclared>[1]> = new Map();
  const declared = readDeclared(options.manifests, origins);
  const report = lint(declared, toInventory(declared), origins, profile, atMs);
  const out =
    format === "text"
      ? formatText(report)
      : format === "json"
        ? formatJson(report)
        : formatSarif(report, options.manifests, declared.files);
  const exitCode = declared.objects.length === 0 ? 2 : reaches(report.findings, failOn) ? 1 : 0;
  return { out, exitCode };
}

function parseTime(text: string): number {
  const atMs = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : NaN;
  if (!Number.isNaN(atMs)) return atMs;
  throw new ConfigError("CONFIG_OPTION", `--at ${text}: expected a time such as 2026-11-30`);
}
