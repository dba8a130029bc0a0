/** Turns the verdicts of a range into a map: workloads, and the edges between them. */
import type { Verdict, VerdictWord, WorkloadName } from "../verdict/verdict.ts";
import type { MapEdge, MapNode } from "./answers.ts";
import { worstOf } from "./judged.ts";

/** Names a workload on the map, and the subject of a finding: `ns/name[Kind]`. */
export function workloadId({ kind, namespace, name, workloadKind }: WorkloadName): string {
  if (kind === "node") return `node/${name}`;
  if (kind !== "pod") return `${kind}/${name}`;
  return `${namespace}/${name}[${workloadKind}]`;
}

type Growing = {
  first: Verdict;
  words: { transport: VerdictWord[]; path: VerdictWord[] };
  protocols: Set<string>;
  /** By window: both aspects of an edge tell of the same bytes. */
  bytes: Map<string, number>;
};

export function drawMap(verdicts: readonly Verdict[]): { nodes: MapNode[]; edges: MapEdge[] } {
  const nodes = new Map<string, MapNode>();
  const edges = new Map<string, Growing>();
  for (const verdict of verdicts) {
    for (const end of [verdict.edge.client, verdict.edge.server]) {
      const id = workloadId(end);
      if (!nodes.has(id)) nodes.set(id, { id, ...end, zones: [...end.zones] });
    }
    let edge = edges.get(verdict.edge.id);
    if (!edge) {
      const words = { transport: [], path: [] };
      edge = { first: verdict, words, protocols: new Set(), bytes: new Map() };
      edges.set(verdict.edge.id, edge);
    }
    edge.words[verdict.aspect].push(verdict.verdict);
    for (const protocol of verdict.protocols) edge.protocols.add(protocol);
    edge.bytes.set(verdict.from, Math.max(edge.bytes.get(verdict.from) ?? 0, verdict.bytes));
  }
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  return {
    nodes: [...nodes.values()].sort(byId),
    edges: [...edges.values()].map(toMapEdge).sort(byId),
  };
}

function toMapEdge({ first, words, protocols, bytes }: Growing): MapEdge {
  const { id, client, server, port, proto } = first.edge;
  const of = (found: VerdictWord[]) => (found.length === 0 ? null : worstOf(found));
  return {
    ...{ id, client: workloadId(client), server: workloadId(server), port, proto },
    worst: worstOf([...words.transport, ...words.path]),
    aspects: { transport: of(words.transport), path: of(words.path) },
    protocols: [...protocols].sort(),
    bytes: [...bytes.values()].reduce((sum, one) => sum + one, 0),
  };
}
