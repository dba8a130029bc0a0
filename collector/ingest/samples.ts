/** Groups the agents that are connected by which flows they read, and says so where they differ. */
import type { SampleTold } from "../../protocol/uplink.ts";

/** Agents that read the same flows; `key` is a fingerprint, null where all flows are read. */
export type SampleGroup = { rate: number; key: string | null; nodes: string[] };

/** Nodes of one group that are named in a line of the log. */
const NAMES_LIMIT = 8;

/** The largest share first; who did not tell which flows it reads is in none. */
export function groupSamples(
  agents: Iterable<{ node: string; sample: SampleTold | null }>,
): SampleGroup[] {
  const groups = new Map<string, SampleGroup>();
  for (const { node, sample } of agents) {
    if (sample === null) continue;
    const { rate, key = null } = sample;
    const group = groups.get(`${rate} ${key}`) ?? { rate, key, nodes: [] };
    groups.set(`${rate} ${key}`, group);
    group.nodes.push(node);
  }
  for (const { nodes } of groups.values()) nodes.sort();
  return [...groups.values()].sort(
    (a, b) => b.rate - a.rate || (a.key ?? "").localeCompare(b.key ?? ""),
  );
}

/** Tells in a line what differs. */
export function describeSamples(groups: readonly SampleGroup[]): string {
  const told = groups.map(({ rate, key, nodes }) => {
    const share = `${Number(rate.toPrecision(3))}${key === null ? "" : ` by key ${key}`}`;
    const more = nodes.length > NAMES_LIMIT ? ` and ${nodes.length - NAMES_LIMIT} more` : "";
    return `${share}: ${nodes.slice(0, NAMES_LIMIT).join(", ")}${more}`;
  });
  return (
    "agents read different flows, so that of a connection one end alone may be seen: " +
    `${told.join("; ")} (shares of all flows); ` +
    "give all of them the same --sampling and --sampling-key"
  );
}
