/** Reads the scene's own expectation file: which verdict each seeded case must come out with. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import type { VerdictWord } from "../../collector/verdict/verdict.ts";

export type Case = {
  id: string;
  title: string;
  /** `namespace/name` of a workload. */
  client: string;
  /** The node as which the client is seen, where only that is known; else null. */
  seen_as: string | null;
  /** Null, as is `port`, where the case is about the client alone. */
  server: string | null;
  /** The container's port. */
  port: number | null;
  proto: "tcp" | "udp";
  aspect: "transport" | "path" | null;
  /** Null where only a finding is asked for. */
  verdict: VerdictWord | null;
  /** A stable code, of `reasons` in the same file; null with the verdict. */
  reason: string | null;
  /** A code of `protocol/finding.ts`. */
  finding: string | null;
  /** Left out of a replay: only a running kernel shows it. */
  needs_live: boolean;
  /** What is really seen on the wire. */
  note: string;
};

export type SceneExpectation = {
  /** What each reason asserts. */
  reasons: Record<string, string>;
  cases: Case[];
};

type Written = Pick<Case, "id" | "title" | "client" | "note"> & Partial<Case>;

/** What a case that leaves them out means. */
const LEFT_OUT = {
  ...{ server: null, port: null, proto: "tcp", aspect: null, verdict: null, reason: null },
  ...{ finding: null, needs_live: false, seen_as: null },
} satisfies Partial<Case> as Omit<Case, "id" | "title" | "client" | "note">;

/** The file, with what it leaves out filled in. */
export function readExpectation(
  file: string = path.join(import.meta.dirname, "expectation.yaml"),
): SceneExpectation {
  const read = parse(readFileSync(file, "utf8")) as {
    reasons: Record<string, string>;
    cases: Written[];
  };
  return { reasons: read.reasons, cases: read.cases.map((one) => ({ ...LEFT_OUT, ...one })) };
}
