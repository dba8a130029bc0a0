/** Describes what could not be read in the declared policy, and what depends on it. */
import type { ClusterObject } from "../../attribution/cluster-object.ts";

/** One wrong field: where in the object, and why. Numbers index lists. */
export type Fault = { path: readonly (string | number)[]; reason: string };

/** `namespaces`: whose decisions may depend on it; `all` where that cannot be told. */
export type Problem = {
  file: string;
  line: number;
  column: number;
  reason: string;
  /** What the document calls itself, as far as it could be read. */
  kind: string | null;
  name: string | null;
  namespaces: readonly string[] | "all";
  /** A wrong field, a policy of a kind that is not read, or no manifest; else the text itself. */
  about?: "field" | "kind" | "foreign";
};

/** A document that is well-formed but of a kind that no room reads. */
export type UnknownKind = {
  file: string;
  line: number;
  apiVersion: string;
  kind: string;
  name: string;
};

/** `spec.ingress[0].ports[1].port` */
export function formatPath(path: readonly (string | number)[]): string {
  return path
    .map((step, i) => (typeof step === "number" ? `[${step}]` : i === 0 ? step : `.${step}`))
    .join("");
}

/** Reports whether an object that is not found may stand where its file cannot be read. */
export function hides(problem: Problem, { source, namespace }: ClusterObject): boolean {
  const { file, namespaces } = problem;
  if (source?.file !== file) return false;
  return namespaces === "all" || namespaces.includes(namespace);
}

export function formatProblem(problem: Problem): string {
  const { file, line, column, kind, name, reason } = problem;
  const who = kind === null ? "" : `${kind}${name === null ? "" : ` ${name}`}: `;
  return `${file}:${line}:${column}: ${who}${reason}`;
}
