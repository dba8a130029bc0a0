/** Joins what was seen between two ends, at uplinks and in tunnels, to what the ends saw. */
import type { Observation } from "../../protocol/observation.ts";
import type { Sighting } from "./pair.ts";

/** Milliseconds by which the clocks of two nodes, or the ends of two flows, may differ. */
const APART_MS = 5_000;
/** Most connections of the same ends that are looked at: whoever repeats them buys no time. */
const LOOKED_AT = 64;

/**
 * The same packets that passed a pod's interface pass the uplink too: there they are no second
 * connection, even under the node's address (masquerading keeps both sequence numbers). What no
 * pod's interface saw becomes a connection of its own, once for all the places where it was seen.
 */
export function joinBetween(groups: Sighting[][], between: readonly Sighting[]): Sighting[][] {
  if (between.length === 0) return groups;
  const joined = [...groups];
  const byName = new Map<string, Sighting[][]>();
  const note = (sighting: Sighting, group: Sighting[]) => {
    for (const name of namesOf(sighting.attributed.observation)) {
      const known = byName.get(name);
      if (known === undefined) byName.set(name, [group]);
      else if (known.at(-1) !== group) known.push(group);
    }
  };
  for (const group of groups) for (const sighting of group) note(sighting, group);
  for (const sighting of between) {
    let group = groupOf(sighting, byName);
    if (group === null) joined.push((group = []));
    group.push(sighting);
    note(sighting, group);
  }
  return joined;
}

/** By both sequence numbers; by both ends, in whichever order, with the client's, and without. */
function namesOf({ isn, record }: Observation): string[] {
  const ends = [`${record.src_ip} ${record.src_port}`, `${record.dst_ip} ${record.dst_port}`];
  const byEnds = `${record.proto} ${ends.sort().join(" ")}`;
  if (isn[0] === null) return [byEnds];
  const byClient = `${byEnds} ${isn[0]}`;
  return isn[1] === null ? [byClient, byEnds] : [isn.join(" "), byClient, byEnds];
}

function groupOf(
  { attributed: { observation } }: Sighting,
  byName: ReadonlyMap<string, Sighting[][]>,
): Sighting[] | null {
  for (const name of namesOf(observation)) {
    const found = byName
      .get(name)
      ?.slice(-LOOKED_AT)
      .find((group) => group.some((s) => isSame(s.attributed.observation, observation)));
    if (found) return found;
  }
  return null;
}

/** Overlap in time, and contradict each other in no sequence number. */
function isSame(a: Observation, b: Observation): boolean {
  const differs = (side: 0 | 1) =>
    a.isn[side] !== null && b.isn[side] !== null && a.isn[side] !== b.isn[side];
  if (differs(0) || differs(1)) return false;
  const isBefore = (x: Observation, y: Observation) =>
    Date.parse(x.record.end) + APART_MS < Date.parse(y.record.start);
  return !isBefore(a, b) && !isBefore(b, a);
}
