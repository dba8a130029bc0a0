/** Describes what each route answers, once for the code and for openapi.json. */
import Type from "typebox";
import { Flow } from "../../protocol/flow-record.ts";
import type { ClusterFinding, NodeCoverage, Verdict } from "../verdict/verdict.ts";
import { VERDICTS } from "../verdict/verdict.ts";

const oneOf = <T extends readonly string[]>(names: T) =>
  Type.Unsafe<T[number]>(Type.Enum([...names]));
const nullable = <T extends Type.TSchema>(type: T) => Type.Union([type, Type.Null()]);
const text = Type.String();
const texts = Type.Array(Type.String());
const number = Type.Number();
const count = Type.Integer({ minimum: 0 });
const share = Type.Number({ minimum: 0, maximum: 1 });
const time = Type.String({ format: "date-time" });
const entry = Type.Union([Type.Integer({ minimum: 0 }), Type.Null()], {
  description: "Index in the evidence log; null while it is not in there.",
});

const Workload = Type.Object({
  kind: oneOf(["pod", "node", "external", "unknown"] as const),
  namespace: text,
  name: text,
  workloadKind: text,
  zones: texts,
  actor: Type.Optional(text),
});

const EdgeShape = Type.Object({
  id: text,
  client: Workload,
  server: Workload,
  port: Type.Integer({ minimum: 0, maximum: 65535 }),
  proto: text,
});

const BecauseShape = Type.Object({
  kind: text,
  namespace: text,
  name: text,
  uid: nullable(text),
  resource_version: nullable(text),
  hash: text,
  rule: text,
  sentence: text,
});

const provenance = nullable(oneOf(["certificate", "address", "inferred"] as const));

const verdictShape = Type.Object({
  schema: Type.Literal("wireproof.verdict/1"),
  from: time,
  to: time,
  edge: EdgeShape,
  aspect: oneOf(["transport", "path"] as const),
  verdict: oneOf(VERDICTS),
  reason: Type.Unsafe<Verdict["reason"]>(text),
  sentence: text,
  inferred: Type.Boolean(),
  counts: Type.Object({
    supporting: count,
    contradicting: count,
    unreadable: count,
    pending: count,
    undemanded: count,
  }),
  bound: nullable(share),
  required: nullable(text),
  path: text,
  because: Type.Array(BecauseShape),
  coverage: Type.Object({
    client: share,
    server: share,
    delivered: count,
    dropped: count,
    sampling: share,
  }),
  provenance: Type.Object({ client: provenance, server: provenance }),
  findings: texts,
  protocols: texts,
  tlsVersions: texts,
  bytes: count,
  firstSeen: nullable(time),
  lastSeen: nullable(time),
  flows: texts,
  inGrace: Type.Boolean(),
});

const findingShape = Type.Object({
  code: text,
  from: time,
  to: time,
  subject: text,
  sentence: text,
});

const coverageShape = Type.Object({
  node: text,
  agent: Type.Boolean(),
  pods: count,
  podSecondsWatched: number,
  podSeconds: number,
  interfaces: count,
  delivered: count,
  dropped: count,
  oneDirection: Type.Optional(count),
});

// Does not compile when a shape and the type that it stands for part ways.
type Agrees<_Shape extends Whole, Whole> = Whole;
const JudgedVerdict = Type.Unsafe<Agrees<Type.Static<typeof verdictShape>, Verdict>>(verdictShape);
const Finding = Type.Unsafe<Agrees<Type.Static<typeof findingShape>, ClusterFinding>>(findingShape);
const Node = Type.Unsafe<Agrees<Type.Static<typeof coverageShape>, NodeCoverage>>(coverageShape);

const Counts = Type.Object(
  {
    confirmed: count,
    violated: count,
    unproven: count,
    undecidable: count,
    unexpected: count,
    "nothing-demanded": count,
  },
  { description: "Verdicts by word. Only confirmed ones count as success." },
);
export type Counts = Type.Static<typeof Counts>;

const VerdictEntry = Type.Object({ verdict: JudgedVerdict, entry });
export type VerdictEntry = Type.Static<typeof VerdictEntry>;
const FindingEntry = Type.Object({ finding: Finding, entry });
export type FindingEntry = Type.Static<typeof FindingEntry>;
const CoverageEntry = Type.Object({ coverage: Node, entry });
export type CoverageEntry = Type.Static<typeof CoverageEntry>;

const truncated = Type.Boolean({
  description: "There is more: what is told is of the first rows alone. Narrow the question.",
});

/** What every answer about a time begins with; null when nothing was judged yet. */
const range = {
  from: nullable(time),
  to: nullable(time),
  truncated,
};

export const VerdictsAnswer = Type.Object({
  ...range,
  counts: Counts,
  verdicts: Type.Array(VerdictEntry),
});
export type VerdictsAnswer = Type.Static<typeof VerdictsAnswer>;

const WindowSummary = Type.Object({
  ...{ from: time, to: time, edges: count, counts: Counts, truncated },
});
export type WindowSummary = Type.Static<typeof WindowSummary>;
export const WindowsAnswer = Type.Object({ windows: Type.Array(WindowSummary) });
export type WindowsAnswer = Type.Static<typeof WindowsAnswer>;

const MapNode = Type.Object({ id: text, ...Workload.properties });
export type MapNode = Type.Static<typeof MapNode>;
const MapEdge = Type.Object({
  id: text,
  client: Type.String({ description: "Id of a node." }),
  server: Type.String({ description: "Id of a node." }),
  port: Type.Integer({ minimum: 0, maximum: 65535 }),
  proto: text,
  worst: oneOf(VERDICTS),
  aspects: Type.Object({
    transport: nullable(oneOf(VERDICTS)),
    path: nullable(oneOf(VERDICTS)),
  }),
  protocols: texts,
  bytes: count,
});
export type MapEdge = Type.Static<typeof MapEdge>;
export const MapAnswer = Type.Object({
  ...range,
  nodes: Type.Array(MapNode),
  edges: Type.Array(MapEdge),
});
export type MapAnswer = Type.Static<typeof MapAnswer>;

const SampleFlow = Type.Object({
  id: Type.String({ description: "node/flow" }),
  record: Type.Union([Flow, Type.Null()], {
    description: "wireproof.flow/1; null when the flow's record has expired.",
  }),
});
export type SampleFlow = Type.Static<typeof SampleFlow>;

const PastVerdict = Type.Object({
  from: time,
  to: time,
  aspect: oneOf(["transport", "path"] as const),
  verdict: oneOf(VERDICTS),
  reason: text,
  entry,
});

export const EdgeAnswer = Type.Object({
  edge: EdgeShape,
  latest: Type.Array(VerdictEntry, { description: "Newest verdict of each aspect." }),
  history: Type.Array(PastVerdict, { description: "Newest first." }),
  flows: Type.Array(SampleFlow),
  findings: Type.Array(FindingEntry, {
    description: "About either end, in the last of the windows.",
  }),
});
export type EdgeAnswer = Type.Static<typeof EdgeAnswer>;

const SampleGroup = Type.Object({
  rate: share,
  key: nullable(text),
  nodes: texts,
});
export type SampleGroup = Type.Static<typeof SampleGroup>;
export const CoverageAnswer = Type.Object({
  ...range,
  nodes: Type.Array(CoverageEntry),
  samples: Type.Array(SampleGroup, {
    description:
      "Agents that are connected now, by the share of flows that they read and a fingerprint of " +
      "the key that draws them. More than one: of a connection one end alone may be seen.",
  }),
});
export type CoverageAnswer = Type.Static<typeof CoverageAnswer>;

const ToldFinding = Type.Object({
  ...FindingEntry.properties,
  severity: nullable(oneOf(["info", "low", "medium", "high", "critical"] as const)),
  meaning: nullable(text),
});
export const FindingsAnswer = Type.Object({ ...range, findings: Type.Array(ToldFinding) });
export type FindingsAnswer = Type.Static<typeof FindingsAnswer>;

export const ProofAnswer = Type.Object({
  index: Type.Integer({ minimum: 0 }),
  entry: Type.String({ description: "The entry's bytes as text: one canonical JSON object." }),
  proof: Type.String({ description: "c2sp.org/tlog-proof@v1" }),
});
export type ProofAnswer = Type.Static<typeof ProofAnswer>;

export const HealthAnswer = Type.Object({ status: Type.Literal("ok") });
export const ErrorAnswer = Type.Object({ error: text });
