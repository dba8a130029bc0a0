/** Describes what the API answers, as far as the page reads it. */
import type { Flow } from "../../protocol/flow-record.ts";
import type { Severity } from "../../protocol/finding.ts";
import type { ClusterFinding, Edge, NodeCoverage } from "../verdict/verdict.ts";
import type { Verdict, VerdictWord, WorkloadName } from "../verdict/verdict.ts";

export type Counts = Record<VerdictWord, number>;
export type VerdictEntry = { verdict: Verdict; entry: number | null };
type Range = { from: string | null; to: string | null; truncated: boolean };

export type VerdictsAnswer = Range & { counts: Counts; verdicts: VerdictEntry[] };
export type WindowSummary = {
  from: string;
  to: string;
  edges: number;
  counts: Counts;
  truncated: boolean;
};
export type WindowsAnswer = { windows: WindowSummary[] };

export type MapNode = { id: string } & WorkloadName;
export type MapEdge = {
  id: string;
  client: string;
  server: string;
  port: number;
  proto: string;
  worst: VerdictWord;
  aspects: { transport: VerdictWord | null; path: VerdictWord | null };
  protocols: string[];
  bytes: number;
};
export type MapAnswer = Range & { nodes: MapNode[]; edges: MapEdge[] };

export type PastVerdict = Pick<Verdict, "from" | "to" | "aspect" | "verdict"> & {
  reason: string;
  entry: number | null;
};
export type SampleFlow = { id: string; record: Flow | null };
export type FindingEntry = { finding: ClusterFinding; entry: number | null };
export type EdgeAnswer = {
  edge: Edge;
  latest: VerdictEntry[];
  history: PastVerdict[];
  flows: SampleFlow[];
  findings: FindingEntry[];
};

export type CoverageAnswer = Range & {
  nodes: { coverage: NodeCoverage; entry: number | null }[];
  samples: { rate: number; key: string | null; nodes: string[] }[];
};
export type ToldFinding = FindingEntry & { severity: Severity | null; meaning: string | null };
export type FindingsAnswer = Range & { findings: ToldFinding[] };
export type ProofAnswer = { index: number; entry: string; proof: string };
