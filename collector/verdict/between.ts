/** Joins what was seen at other places, or under another address, to what the ends saw. */
import type { Observation } from "../../protocol/observation.ts";
import type { Sighting } from "../attribution/attribute.ts";
import { formatHolder } from "../attribution/holder.ts";

/** Most connections of the same ends that are looked at: whoever repeats them buys no time. */
const LOOKED_AT = 64;

/**
 * The same packets that passed a pod's interface pass the uplink too: there they are no second
 * connection, even under the node's address (masquerading keeps both sequence numbers). What no
 * pod's interface saw becomes a connection of its own, once for all the places where it was seen.
 */
export function joinBetween(
  groups: Sighting[][],
  between: readonly Sighting[],
  apartMs: number,
): Sighting[][] {
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
    let group = groupOf(sighting, byName, apartMs);
    if (group === null) joined.push((group = []));
    group.push(sighting);
    note(sighting, group);
  }
  return joined;
}

/**
 * Where the network plugin puts a node's address in the client's place, the server's end shows
 * another client, and the same sequence numbers: of the client while nobody answered, of both then.
 */
export function joinMasked(groups: Sighting[][], apartMs: number): Sighting[][] {
  const byServer = new Map<string, Sighting[][]>();
  const masked: Sighting[][] = [];
  const rest: Sighting[][] = [];
  for (const group of groups) {
    const { observation, client, server } = group[0]!.attributed;
    const isAtServer = group.every((s) => s.attributed.observation.vantage === "server");
    if (isAtServer && client.holder?.kind === "node" && observation.isn[0] !== null) {
      masked.push(group);
      continue;
    }
    rest.push(group);
    if (group.every((s) => s.attributed.observation.vantage === "client") && server.holder) {
      const name = `${observation.isn[0]} ${formatHolder(server.holder)}`;
      byServer.set(name, [...(byServer.get(name) ?? []), group]);
    }
  }
  for (const group of masked) {
    const { observation, server } = group[0]!.attributed;
    const name = server.holder && `${observation.isn[0]} ${formatHolder(server.holder)}`;
    const found = byServer
      .get(name ?? "")
      ?.slice(-LOOKED_AT)
      .filter((g) => isOf(g, observation, apartMs));
    // Where several have the client's number, the server's tells which of them was answered.
    const exact = found?.filter((g) => g[0]!.attributed.observation.isn[1] === observation.isn[1]);
    const [only, ...others] = exact?.length === 1 ? exact : (found ?? []);
    if (only !== undefined && others.length === 0) only.push(...group);
    else rest.push(group);
  }
  return rest;
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
  apartMs: number,
): Sighting[] | null {
  for (const name of namesOf(observation)) {
    const found = byName
      .get(name)
      ?.slice(-LOOKED_AT)
      .find((group) => isOf(group, observation, apartMs));
    if (found) return found;
  }
  return null;
}

/**
 * Overlaps one of the group in time, and contradicts none: what was joined midway may be either of
 * two connections, which it does not make one.
 */
function isOf(group: readonly Sighting[], observation: Observation, apartMs: number): boolean {
  if (differs(numbersOf(group), observation)) return false;
  // The latest are the likeliest: they stand last.
  return (
    group.findLast(({ attributed }) => overlaps(attributed.observation, observation, apartMs)) !==
    undefined
  );
}

type Numbers = Pick<Observation, "isn">;

/** What is known of a group's numbers, by so many of its sightings: a group only grows. */
const numbered = new WeakMap<readonly Sighting[], { isn: Observation["isn"]; count: number }>();

function numbersOf(group: readonly Sighting[]): Numbers {
  const known = numbered.get(group) ?? { isn: [null, null], count: 0 };
  for (; known.count < group.length; known.count++) {
    const { isn } = group[known.count]!.attributed.observation;
    known.isn = [both(known.isn[0], isn[0]), both(known.isn[1], isn[1])];
  }
  numbered.set(group, known);
  return known;
}

/** The number of both; no number at all, which differs from each, where they say two. */
function both(a: number | null, b: number | null): number | null {
  if (a === null || b === null || a === b) return a ?? b;
  return NaN;
}

/** Reports whether two say different sequence numbers of a side. */
export function differs({ isn: a }: Numbers, { isn: b }: Numbers): boolean {
  return ([0, 1] as const).some((i) => a[i] !== null && b[i] !== null && a[i] !== b[i]);
}

/** Reports whether they lived at one time, by clocks so far apart. */
function overlaps(a: Observation, b: Observation, apartMs: number): boolean {
  const isBefore = (x: Observation, y: Observation) =>
    Date.parse(x.record.end) + apartMs < Date.parse(y.record.start);
  return !isBefore(a, b) && !isBefore(b, a);
}
