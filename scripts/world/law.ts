/**
 * The law: what is confirmed or violated is true of the world, a violation that was watched whole
 * at both ends is told, and of what can be decided enough is.
 */
import { attribute } from "../../collector/attribution/attribute.ts";
import { toClusterObject } from "../../collector/attribution/cluster-object.ts";
import type { ClusterObject, JsonMap } from "../../collector/attribution/cluster-object.ts";
import { clocksApart } from "../../collector/attribution/clocks.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { GRACE_MS, PolicyHistory } from "../../collector/policy/history/history.ts";
import { NOTHING_DECLARED } from "../../collector/verdict/declared-edges.ts";
import { expectOf } from "../../collector/verdict/versions.ts";
import { judgeWindow } from "../../collector/verdict/window.ts";
import type { WindowInput } from "../../collector/verdict/window-input.ts";
import type { Aspect, Verdict } from "../../collector/verdict/verdict.ts";
import {
  admits,
  makeCluster,
  makePerfectCluster,
  MOVED_OBJECT,
  nodeObject,
  podObject,
  ruleObjects,
  rolesDuring,
  rulesDuring,
  serviceObject,
  sharedObject,
  sliceObject,
  WINDOW_MS,
} from "./cluster.ts";
import type { Cluster, Pod, Rules } from "./cluster.ts";
import { Draw } from "./draw.ts";
import { isWatchedWhole, tell } from "./sights.ts";
import type { Told } from "./sights.ts";
import { makeTraffic } from "./traffic.ts";
import type { Attempt, Posture } from "./traffic.ts";

export const EPOCH_MS = Date.parse("2026-11-22T01:00:00Z");
/** Sightings of one connection, by clocks that differ, lie so far beyond the window. */
const MARGIN_MS = 5_000;

export type World = { seed: number; cluster: Cluster; attempts: Attempt[]; told: Told };

export function makeWorld(seed: number): World {
  const draw = new Draw(seed);
  const cluster = makeCluster(draw);
  const attempts = makeTraffic(cluster, draw);
  return { seed, cluster, attempts, told: tell(cluster, attempts, draw, EPOCH_MS) };
}

/** A cluster as one would have it, where clients do what is wanted of them, or are kept out. */
export function makePerfectWorld(seed: number, apps: number): World {
  const draw = new Draw(seed);
  const cluster = makePerfectCluster(draw, apps);
  // Its network loses nothing, and a Service is one workload's.
  const attempts = makeTraffic(cluster, draw, 10 * apps, ["mtls"]).filter(
    ({ fate, by }) => fate !== "lost" && by !== "shared",
  );
  return { seed, cluster, attempts, told: tell(cluster, attempts, draw, EPOCH_MS) };
}

const object = (body: JsonMap) => toClusterObject(body, null)!;

/** The window's verdicts, by the real attribution, policy and judge. */
export const judgeWorld = (world: World): Verdict[] => judgeWindow(inputOf(world)).verdicts;

/** What the window is judged from. */
export function inputOf({ cluster, told }: World): WindowInput {
  const inventory = new Inventory();
  const history = new PolicyHistory();
  for (const { object, fromMs, toMs, isReplaced } of changesOf(cluster)) {
    inventory.apply(object, EPOCH_MS + fromMs);
    history.apply(object, EPOCH_MS + fromMs);
    if (toMs === Infinity || isReplaced) continue;
    inventory.remove(object, EPOCH_MS + toMs);
    history.remove(object, EPOCH_MS + toMs);
  }
  const [fromMs, toMs] = [EPOCH_MS, EPOCH_MS + WINDOW_MS];
  const clocksApartMs = clocksApart(cluster.nodes.map((node) => node.offsetMs));
  const sightings = told.observations
    .filter(({ observation: { record } }) => {
      const [start, end] = [Date.parse(record.start), Date.parse(record.end)];
      return start < toMs + clocksApartMs && end >= fromMs - clocksApartMs;
    })
    .map(({ node, observation }) => ({
      id: `${node}/${observation.flow}`,
      node,
      attributed: attribute(observation, inventory, clocksApartMs),
    }));
  return {
    ...{ fromMs, toMs, clocksApartMs, sightings, coverage: told.coverage },
    pods: inventory.pods(toMs - 1),
    lives: inventory.podsBetween(fromMs, toMs),
    nodes: inventory.nodes(toMs - 1),
    expect: expectOf(inventory, history, GRACE_MS),
    zonesOf: () => [],
    declared: NOTHING_DECLARED,
    tolerance: 0.01,
  };
}

/** An object of the cluster, as it was in [fromMs, toMs) of the world's time. */
export type Declared = {
  object: ClusterObject;
  fromMs: number;
  toMs: number;
  /** Then another version of it is there. */
  isReplaced: boolean;
};

/** Everything that the cluster's API tells, in the order of its beginning. */
export function changesOf(cluster: Cluster): Declared[] {
  const byApp = new Map(cluster.pods.map((pod) => [pod.app, pod]));
  const lasting = [
    ...cluster.nodes.map(nodeObject),
    ...[...byApp.values()].map(serviceObject),
    ...["shop", "pay"].map(sharedObject),
    ...(cluster.moved ? [MOVED_OBJECT] : []),
  ].map((body) => ({ object: object(body), ...FOR_EVER }));
  const pods = cluster.pods.flatMap((pod) =>
    pod.roles
      .filter((role) => role.fromMs < pod.diedMs && pod.bornMs < role.toMs)
      .map((role) => ({
        object: object(podObject(pod, role.value, EPOCH_MS)),
        fromMs: Math.max(role.fromMs, pod.bornMs),
        toMs: Math.min(role.toMs, pod.diedMs),
        isReplaced: role.toMs < pod.diedMs,
      })),
  );
  const rules = [...byApp.values()].flatMap(({ app, namespace }) =>
    cluster.rules.get(app)!.flatMap(({ fromMs, toMs, value }) => {
      const next = cluster.rules.get(app)!.find((other) => other.fromMs === toMs);
      const later = next ? ruleObjects(app, namespace, next.value).map(({ kind }) => kind) : [];
      return ruleObjects(app, namespace, value).map((body) => ({
        object: object(body),
        ...{ fromMs: Math.max(fromMs, FOR_EVER.fromMs), toMs },
        isReplaced: later.includes(body["kind"]),
      }));
    }),
  );
  const slices = (cluster.moved ?? []).map(({ fromMs, toMs, value }) => ({
    object: object(sliceObject(value)),
    ...{ fromMs: Math.max(fromMs, FOR_EVER.fromMs), toMs, isReplaced: toMs < Infinity },
  }));
  return [...lasting, ...pods, ...rules, ...slices].sort((a, b) => a.fromMs - b.fromMs);
}
const FOR_EVER = { fromMs: -1e9, toMs: Infinity, isReplaced: false };

/** What is true of an edge in the window, and whether who watches whole can tell. */
export type Truth = {
  attempts: readonly Attempt[];
  /** All that was served fits what is declared, and something was that shows it. */
  holds: Record<Aspect, boolean>;
  /** Something was served that no version of the policy lets, while it lived in the window. */
  broken: Record<Aspect, boolean>;
  /** And by no clock's difference it lived in another window alone. */
  mustBeTold: Record<Aspect, boolean>;
  /** Both ends of all attempts were watched whole. */
  isWatched: boolean;
  /** And so was one end of any pair of pods of the two workloads. */
  isCovered: boolean;
};

export function truthOf(world: World): Map<string, Truth> {
  const byEdge = new Map<string, Attempt[]>();
  for (const attempt of world.attempts) {
    if (!overlaps(attempt, MARGIN_MS)) continue;
    const edge = edgeOf(attempt);
    byEdge.set(edge, [...(byEdge.get(edge) ?? []), attempt]);
  }
  return new Map([...byEdge].map(([edge, of]) => [edge, truth(world.cluster, of)]));
}

/** Reports whether it lived in the window, or so many milliseconds beside it. */
const overlaps = ({ startMs, endMs }: Attempt, marginMs: number) =>
  endMs >= -marginMs && startMs < WINDOW_MS + marginMs;

export function edgeOf({ client, server, port }: Attempt): string {
  const name = ({ namespace, app, isNode }: Attempt["client"]) =>
    isNode ? `${app}[Node]` : `${namespace}/${app}[StatefulSet]`;
  return `${name(client)} -> ${name(server)} : ${port}/tcp`;
}

/** Of the rules that were in force while it lived, and as what they saw the client. */
type Met = { rules: Rules; role: string };
function metDuring(cluster: Cluster, { client, server }: Attempt, from: number, to: number): Met[] {
  const all = rulesDuring(cluster, server.app, from - cluster.lagMs, to);
  const roles = rolesDuring(client, from - cluster.lagMs, to);
  return all.flatMap((rules) => roles.map((role) => ({ rules, role })));
}

const during = (cluster: Cluster, a: Attempt): Met[] => metDuring(cluster, a, a.startMs, a.endMs);

/** One version demands all, of it and as far beside it as the judge's grace and clocks reach. */
function isOfOneVersion(cluster: Cluster, a: Attempt): boolean {
  const fromMs = a.startMs - GRACE_MS - 2 * MARGIN_MS;
  return metDuring(cluster, a, fromMs, a.endMs + 2 * MARGIN_MS).length === 1;
}

const atStart = (cluster: Cluster, a: Attempt): Met[] =>
  metDuring(cluster, a, a.startMs, a.startMs);

/** Nobody else had the pod's address within the time by which clocks may be apart. */
function isAlone({ pods }: Cluster, pod: Attempt["client"], atMs: number): boolean {
  const had = (other: Attempt["client"]) =>
    other.bornMs < atMs + MARGIN_MS && other.diedMs > atMs - MARGIN_MS;
  return !pods.some((other) => other !== pod && other.address === pod.address && had(other));
}

/** What lies at the window's border may count or not, by whose clock it is taken. */
function truth(cluster: Cluster, near: readonly Attempt[]): Truth {
  const inside = near.filter((a) => overlaps(a, -MARGIN_MS));
  const isServed = (a: Attempt) => a.fate === "served";
  const isOpened = (a: Attempt) => isServed(a) || a.fate === "died" || a.fate === "turned-down";
  const isBare = (a: Attempt) => a.posture === "plaintext" || a.posture === "tls";
  const brokenBy = (metBy: (cluster: Cluster, a: Attempt) => Met[]) => ({
    path: (a: Attempt) =>
      isOpened(a) &&
      metBy(cluster, a).every(({ rules, role }) => admits(rules, a.client, role) === false),
    transport: (a: Attempt) =>
      isServed(a) && isBare(a) && metBy(cluster, a).every(({ rules }) => rules.mtls === "STRICT"),
  });
  // What was not let when it began breaks the rule, whatever came into force while it lived.
  const isBroken = brokenBy(atStart);
  const isBrokenAllAlong = brokenBy(during);
  // The mesh's demand is not met by the applications' own certificates, though nobody can tell.
  const isOthers = (a: Attempt) =>
    a.posture === "own" &&
    isServed(a) &&
    during(cluster, a).some(({ rules }) => rules.mtls === "STRICT");
  const isAdmitted = (a: Attempt) =>
    during(cluster, a).some(({ rules, role }) => admits(rules, a.client, role));
  const isShown = {
    path: (a: Attempt) => a.fate === "blocked" || (isServed(a) && isAdmitted(a)),
    transport: (a: Attempt) =>
      a.fate === "turned-down" || (isServed(a) && !isBrokenAllAlong.transport(a) && !isOthers(a)),
  };
  const isSettled = (a: Attempt) =>
    isOfOneVersion(cluster, a) &&
    [a.client, a.server].every((pod) => isAlone(cluster, pod, a.startMs));
  const ofApp = ({ app }: Attempt["client"]) => cluster.pods.filter((pod) => pod.app === app);
  const both = <T>(of: (aspect: Aspect) => T) => ({ path: of("path"), transport: of("transport") });
  return {
    attempts: near,
    holds: both((aspect) => {
      const isFoul = (a: Attempt) =>
        isBrokenAllAlong[aspect](a) || (aspect === "transport" && isOthers(a));
      return near.some(isShown[aspect]) && !inside.some(isFoul);
    }),
    broken: both((aspect) => near.some(isBroken[aspect])),
    mustBeTold: both((aspect) => inside.some((a) => isBrokenAllAlong[aspect](a) && isSettled(a))),
    isWatched: near.every((a) => isWatchedWhole(a.client) && isWatchedWhole(a.server)),
    isCovered: [ofApp(near[0]!.client), ofApp(near[0]!.server)].some((pods) =>
      pods.every(isWatchedWhole),
    ),
  };
}

const LOST = "lost a violation";
export const isLost = ({ what }: Breach): boolean => what === LOST;

export type Breach = { seed: number; edge: string; aspect: Aspect; what: string; verdict: string };

/** How many edges who watches whole could decide, and how many were decided. */
export type Decided = { decidable: number; decided: number };
export type Held = { breaches: Breach[]; decided: Decided };

export function holdToLaw(world: World, verdicts: readonly Verdict[]): Held {
  const breaches: Breach[] = [];
  const decided = { decidable: 0, decided: 0 };
  const truths = truthOf(world);
  const find = (edge: string, aspect: Aspect) =>
    verdicts.find((v) => v.edge.id === edge && v.aspect === aspect);
  for (const v of verdicts) {
    if (isOfLiar(world.cluster, v)) continue;
    const known = truths.get(v.edge.id);
    const fail = (what: string) =>
      breaches.push({
        ...{ seed: world.seed, edge: v.edge.id, aspect: v.aspect, what },
        verdict: `${v.verdict} ${v.reason}`,
      });
    if (v.verdict === "confirmed" && !known?.holds[v.aspect]) fail("confirmed, and not true");
    if (v.verdict === "violated" && !known?.broken[v.aspect]) fail("violated, and not true");
  }
  for (const [edge, known] of truths) {
    for (const aspect of ["path", "transport"] as const) {
      const verdict = find(edge, aspect);
      const told = verdict ? `${verdict.verdict} ${verdict.reason}` : "nothing";
      if (!known.isWatched || world.cluster.masquerades || world.cluster.stolen) continue;
      if (known.mustBeTold[aspect]) {
        if (verdict?.verdict !== "violated") {
          breaches.push({
            seed: world.seed,
            edge,
            aspect,
            what: LOST,
            verdict: told,
          });
        }
      }
      if (!isDecidable(world.cluster, known, aspect)) continue;
      decided.decidable++;
      if (verdict?.verdict === (known.broken[aspect] ? "violated" : "confirmed")) decided.decided++;
    }
  }
  return { breaches, decided };
}

/**
 * Of an edge of the node's own pods whoever has its certificate may say what it likes, where the
 * other end is not watched whole by others. That an attempt was made and came to nothing is the
 * word of the client's end alone, wherever that is.
 */
function isOfLiar({ stolen, pods }: Cluster, { edge, reason }: Verdict): boolean {
  if (stolen === null) return false;
  const ends = [edge.client.name, edge.server.name].map((name) =>
    pods.filter(({ app }) => app === name),
  );
  const isOwn = (pod: Pod) => pod.node === stolen;
  if (!ends.flat().some(isOwn)) return false;
  const isWhole = (of: Pod[]) => of.length > 0 && of.every((p) => !isOwn(p) && isWatchedWhole(p));
  return !ends.some(isWhole) || reason.startsWith("denied-and-");
}

/** What does not tell whether the mesh's demand was met. */
const UNTOLD: ReadonlySet<Posture> = new Set(["resumed", "own"]);

/** One version of the policy, everything served, in postures that tell what they are. */
function isDecidable(cluster: Cluster, { attempts, isCovered }: Truth, aspect: Aspect): boolean {
  if (!isCovered || !attempts.every((a) => overlaps(a, -MARGIN_MS))) return false;
  const isPlain = (a: Attempt) =>
    a.fate === "served" && !UNTOLD.has(a.posture) && isOfOneVersion(cluster, a);
  const speaks = (r: Rules) => (aspect === "path" ? r.admits !== null : r.mtls === "STRICT");
  return attempts.every((a) => isPlain(a) && speaks(during(cluster, a)[0]!.rules));
}

/** A failing seed, for a person: who is there, what is declared, what happened. */
export function storyOf(world: World, breach: Breach): string {
  const { cluster } = world;
  const watched = (pod: Attempt["client"]) => (isWatchedWhole(pod) ? "whole" : "in part");
  const lines = world.attempts
    .filter((a) => edgeOf(a) === breach.edge)
    .map((a) => {
      const at = `${(a.startMs / 1000).toFixed(1)}..${(a.endMs / 1000).toFixed(1)} s`;
      const ends = [a.client, a.server].map((pod) => `${pod.name} (${watched(pod)})`).join(" -> ");
      return `  ${at} ${ends} ${a.posture}: ${a.fate}${a.isReset ? ", reset" : ""}`;
    });
  const app = world.attempts.find((a) => edgeOf(a) === breach.edge)?.server.app;
  const rules = (app ? cluster.rules.get(app)! : []).map(
    ({ fromMs, value }) => `  from ${fromMs / 1000} s: ${JSON.stringify(value)}`,
  );
  return [
    `seed ${breach.seed}: ${breach.edge} ${breach.aspect}: ${breach.verdict}: ${breach.what}`,
    `  plugin ${cluster.plugin}${cluster.masquerades ? ", masquerades" : ""}`,
    ...[...rules, ...lines].slice(0, 8),
  ].join("\n");
}
