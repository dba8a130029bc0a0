/** Gathers all that is known of one edge, down to the entries of the evidence log. */
import type { Store } from "../store/store.ts";
import type { EdgeAnswer, SampleFlow, VerdictEntry } from "./answers.ts";
import { ASPECTS } from "./question.ts";
import type { Judged } from "./judged.ts";
import { workloadId } from "./service-map.ts";

/** Sample flows whose records are looked up. */
const FLOWS_LIMIT = 24;

/** Null when the edge was not judged in the last `windows` windows before `toMs`. */
export function gatherEdge(
  store: Store,
  judged: Judged,
  id: string,
  windows: number,
  toMs?: number,
): EdgeAnswer | null {
  const newest = judged.newest();
  if (newest === null) return null;
  const lengthMs = newest.toMs - newest.fromMs;
  const endMs = toMs ?? newest.toMs;
  const range = { fromMs: endMs - windows * lengthMs, toMs: endMs };
  const past = judged.verdicts(range, id).verdicts.reverse();
  const latest = ASPECTS.flatMap((a) => past.find(({ verdict }) => verdict.aspect === a) ?? []);
  const edge = latest[0]?.verdict.edge;
  if (edge === undefined) return null;
  const { client, server, port, proto } = edge;
  const ends = [client, server].map((end) => ({ ...end, zones: [...end.zones] }));
  const subjects = new Set([id, workloadId(client), workloadId(server)]);
  return {
    edge: { id, client: ends[0]!, server: ends[1]!, port, proto },
    latest,
    history: past.map(({ verdict: v, entry }) => ({
      ...{ from: v.from, to: v.to, aspect: v.aspect, verdict: v.verdict, reason: v.reason, entry },
    })),
    flows: sampleFlows(store, latest),
    findings: judged
      .findings({ fromMs: endMs - lengthMs, toMs: endMs })
      .findings.filter((f) => subjects.has(f.finding.subject)),
  };
}

/** The records of the flows that the verdicts name. */
function sampleFlows(store: Store, latest: readonly VerdictEntry[]): SampleFlow[] {
  const named = new Set(latest.flatMap(({ verdict }) => verdict.flows));
  return [...named].slice(0, FLOWS_LIMIT).map((name) => {
    const slash = name.indexOf("/");
    const found = store.observation(name.slice(0, slash), name.slice(slash + 1));
    return { id: name, record: found ? found.observation.record : null };
  });
}
