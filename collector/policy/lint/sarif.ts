/** Writes a report of the linter as SARIF 2.1.0, the format of code review (OASIS, 2020). */
import path from "node:path";
import { pathToFileURL } from "node:url";
import { ALL_RULES } from "./families.ts";
import type { Finding } from "./finding.ts";
import type { LintReport } from "./lint.ts";
import { levelOf, type Profile, type Rule } from "./rule.ts";

const SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json";

/** Names of frameworks, for tags. */
const FRAMEWORKS = { pci: "PCI-DSS-4.0.1", hipaa: "45-CFR", nist: "SP-800-53r5" } as const;

/**
 * `manifests` is what the command was given, and `files` what it read there. Files are told from
 * where a repository's top is thought to be (`%SRCROOT%`), if that is a relative path, else from
 * `MANIFESTS`.
 */
export function formatSarif(
  { profile, findings, notMade }: LintReport,
  manifests: string,
  files: readonly string[],
): string {
  const base = toBase(manifests, files);
  const isAbsolute = base.id === "MANIFESTS" && base.folder !== "";
  const run = {
    tool: {
      driver: {
        name: "wireproof policy lint",
        rules: ALL_RULES.map((rule) => toDescriptor(rule, profile)),
      },
    },
    columnKind: "utf16CodeUnits",
    ...(isAbsolute && {
      originalUriBaseIds: { MANIFESTS: { uri: `${pathToFileURL(base.folder).href}/` } },
    }),
    invocations: [
      {
        executionSuccessful: true,
        toolExecutionNotifications: notMade.map(({ rule, reason }) => ({
          level: "note",
          descriptor: { id: "check-not-made" },
          associatedRule: { id: rule.id, index: ALL_RULES.indexOf(rule) },
          message: { text: `${rule.id} was not made: ${reason} among the manifests` },
        })),
      },
    ],
    results: findings.map((finding) => toResult(finding, base)),
  };
  return `${JSON.stringify({ $schema: SCHEMA, version: "2.1.0", runs: [run] }, null, 2)}\n`;
}

type Base = { id: "%SRCROOT%" | "MANIFESTS"; folder: string; prefix: string };

/** Where the files' names begin: a folder, or the folder of the one file. */
function toBase(manifests: string, files: readonly string[]): Base {
  if (manifests === "-") return { id: "MANIFESTS", folder: "", prefix: "" };
  const isFile = files.length === 1 && files[0] === path.basename(manifests);
  const folder = isFile ? path.dirname(manifests) : manifests;
  if (path.isAbsolute(folder)) return { id: "MANIFESTS", folder, prefix: "" };
  return { id: "%SRCROOT%", folder, prefix: path.posix.normalize(folder) };
}

function toDescriptor(rule: Rule, profile: Profile | null) {
  const level = levelOf(rule, profile);
  const tags = Object.entries(rule.controls ?? {}).flatMap(([framework, ids]) =>
    ids.map((id) => `${FRAMEWORKS[framework as keyof typeof FRAMEWORKS]}/${id}`),
  );
  return {
    id: rule.id,
    shortDescription: { text: rule.title },
    fullDescription: { text: rule.why },
    help: { text: `${rule.why} What to do: ${rule.remedy}.` },
    defaultConfiguration: level === "off" ? { enabled: false } : { level },
    properties: { tags: ["security", ...tags] },
  };
}

function toResult(finding: Finding, base: Base) {
  const { rule, level, object, field, sentence, suppressed, fingerprint, line, column } = finding;
  const name =
    object === null ? null : [object.kind, object.namespace, object.name].filter(Boolean).join("/");
  return {
    ruleId: rule.id,
    ruleIndex: ALL_RULES.indexOf(rule),
    level,
    message: { text: `${sentence}. What to do: ${rule.remedy}.` },
    locations: [
      {
        physicalLocation: {
          artifactLocation: { uri: toUri(finding.file, base), uriBaseId: base.id },
          region: { startLine: line, startColumn: column },
        },
        ...(name !== null && {
          logicalLocations: [
            { fullyQualifiedName: field === null ? name : `${name}#${field}`, kind: "object" },
          ],
        }),
      },
    ],
    partialFingerprints: { "wireproof/v1": fingerprint },
    // Empty where nothing is suppressed: "known not to be" (section 3.27.23).
    suppressions:
      suppressed === null
        ? []
        : [{ kind: "inSource", status: "accepted", justification: suppressed }],
  };
}

function toUri(file: string, { prefix }: Base): string {
  const joined = file === "-" ? "stdin" : path.posix.join(prefix, file.replaceAll("\\", "/"));
  return joined.split("/").map(encodeURIComponent).join("/");
}
