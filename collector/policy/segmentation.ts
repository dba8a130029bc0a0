/** Judges pairs of ends by the zones and paths of the segmentation files. */
import { inRange, parseAddress, parseRange } from "../attribution/address.ts";
import { valueAt, type ClusterObject } from "../attribution/cluster-object.ts";
import { formatHolder, type Holder, type Transport } from "../attribution/holder.ts";
import { formatObject, toBecause, toFaultBecause, UNDECLARED, type Decision } from "./because.ts";
import type { Because, Posture } from "./expectation.ts";
import type { Ternary } from "./peer.ts";
import type { Fault } from "./problem.ts";
import type { Segmentation as Spec } from "./segmentation-shape.ts";

export type Zone = { name: string; scope: "cde" | "phi" | "out-of-scope" | null };

export type Actor = { name: string; kind: string | null; to: readonly string[] };

/** What the paths say about transport. */
export type SegmentationTransport = {
  required: Posture | "any" | null;
  minVersion: string | null;
  because: readonly Because[];
};

type Select = Spec["zones"][number]["select"];
type Port = number | string;

/** One file. Several are judged each by itself, and the gravest decision counts. */
type File = { object: ClusterObject; spec: Spec | null; fault: Fault | null };

export const DAY_MS = 86_400_000;

export class Segmentations {
  private readonly files: readonly File[];

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    this.files = objects
      .filter((o) => o.kind === "Segmentation" && o.apiVersion.startsWith("wireproof.io/"))
      .map((object) => {
        const fault = faultsOf(object)[0] ?? null;
        const spec = fault === null ? (valueAt(object.body, "spec") as unknown as Spec) : null;
        return { object, spec, fault };
      });
  }

  /** The zone of an end in each file that gives it one. */
  zonesOf(holder: Holder): Zone[] {
    return this.files.flatMap(({ spec }) => {
      const zone = spec === null ? null : findZone(spec, holder);
      return zone === null ? [] : [{ name: zone.name, scope: zone.scope ?? null }];
    });
  }

  /** The actor that an end is, if any file names it. */
  actorOf(holder: Holder): Actor | null {
    for (const { spec } of this.files) {
      const actor = spec?.actors?.find(({ select }) => isSelected(select, holder));
      if (actor !== undefined) {
        return { name: actor.name, kind: actor.kind ?? null, to: actor.to ?? [] };
      }
    }
    return null;
  }

  decide(
    client: Holder,
    server: Holder,
    transport: Transport,
    port: number,
    atMs: number,
  ): Decision[] {
    return this.files.map((file) => {
      if (file.spec === null) {
        return { path: "undecidable", because: [toFaultBecause(file.object, file.fault!)] };
      }
      return decideOne(file.object, file.spec, client, server, transport, port, atMs);
    });
  }

  /** The strictest requirement of the paths that let this pair pass, or may. */
  transport(
    client: Holder,
    server: Holder,
    transport: Transport,
    port: number,
  ): SegmentationTransport {
    let required: Posture | "any" | null = null;
    let minVersion: string | null = null;
    const because: Because[] = [];
    for (const { object, spec } of this.files) {
      if (spec === null) continue;
      const crossings = listCrossings(spec, client, server);
      for (const [at, path] of (spec.paths ?? []).entries()) {
        const wanted = wantedBy(path);
        const isMeant = crossings.some((crossing) => isOnPath(path, crossing, transport, port));
        if (wanted === null || !isMeant) continue;
        const version = path.minVersion ?? null;
        required = stricter(required, wanted);
        if (minVersion === null || (version !== null && version > minVersion)) minVersion = version;
        const told = [path.transport, version === null ? null : `at least ${version}`];
        const words = told.filter(Boolean).join(", ");
        const ends = `from ${path.from} to ${path.to}`;
        const sentence = `${formatObject(object)} requires ${words} ${ends}`;
        because.push(toBecause(object, `spec.paths[${at}].transport`, sentence));
      }
    }
    return { required, minVersion, because };
  }
}

const STRICTNESS = [null, "any", "plaintext", "tls", "mtls"] as const;

/** The stricter of two requirements: mtls, tls, plaintext, any, none. */
export function stricter(a: Posture | "any" | null, b: Posture | "any" | null) {
  return STRICTNESS.indexOf(a) >= STRICTNESS.indexOf(b) ? a : b;
}

/** Each pair of zones that the ends may be in; null: in none. */
type Crossing = { from: string | null; to: string | null };

function listCrossings(spec: Spec, client: Holder, server: Holder): Crossing[] {
  const from = listZones(spec, client);
  const to = listZones(spec, server);
  return from.flatMap((one) => to.map((other) => ({ from: one, to: other })));
}

/** Decides for each pair of zones that may be meant: one answer alone is the decision. */
function decideOne(
  object: ClusterObject,
  spec: Spec,
  client: Holder,
  server: Holder,
  transport: Transport,
  port: number,
  atMs: number,
): Decision {
  const ends: Ends = { client, server, transport, port, atMs };
  const crossings = listCrossings(spec, client, server);
  const decisions = crossings.map((crossing) => decideCrossing(object, spec, crossing, ends));
  const wanted = crossings.map((crossing) => {
    const paths = (spec.paths ?? []).filter((path) => isOnPath(path, crossing, transport, port));
    return paths.map(wantedBy).reduce(stricter, null);
  });
  const [first] = decisions;
  const isOne = decisions.every(({ path }) => path === first!.path);
  if (isOne && wanted.every((word) => word === wanted[0])) return first!;
  const sentence =
    `undecidable: in which zones of ${formatObject(object)} ${formatHolder(client)} and ` +
    `${formatHolder(server)} are depends on an address that is not known`;
  const because = decisions.flatMap((decision) => decision.because);
  return { path: "undecidable", because: [toBecause(object, "spec.zones", sentence), ...because] };
}

type Ends = { client: Holder; server: Holder; transport: Transport; port: number; atMs: number };

function decideCrossing(
  object: ClusterObject,
  spec: Spec,
  { from, to }: Crossing,
  { client, server, transport, port, atMs }: Ends,
): Decision {
  const say = (path: Decision["path"], rule: string, sentence: string): Decision => ({
    path,
    because: [toBecause(object, rule, sentence)],
  });
  const name = formatObject(object);
  const paths = spec.paths ?? [];
  const at = paths.findIndex((path) => isOnPath(path, { from, to }, transport, port));
  if (at >= 0) {
    const path = paths[at]!;
    const sentence = `allowed by ${name}: path ${at} leads from ${path.from} to ${path.to}`;
    return say("allowed", `spec.paths[${at}]`, sentence);
  }
  if (from === to) return UNDECLARED; // inside one zone, or outside of all
  const told = (end: Holder, zone: string | null) => `${formatHolder(end)} (${zone ?? "no zone"})`;
  const crossing = `${told(client, from)} to ${told(server, to)}`;
  if ((spec.default?.betweenZones ?? "undeclared") === "undeclared") return UNDECLARED;
  const waived = (spec.waivers ?? []).findIndex(
    (waiver) =>
      atMs < endOf(waiver.until) &&
      isEnd(waiver.from, from) &&
      isEnd(waiver.to, to) &&
      hasPort(waiver.ports, transport, port),
  );
  if (waived >= 0) {
    const { who, why, until } = spec.waivers![waived]!;
    const sentence = `let pass by ${name}: ${who} waived ${crossing} until ${until}: ${why}`;
    return say("allowed", `spec.waivers[${waived}]`, sentence);
  }
  const sentence = `denied by ${name}: no path leads from ${crossing} on ${transport} ${port}`;
  return say("denied", "spec.default.betweenZones", sentence);
}

/** A date ends with its day, UTC. */
export function endOf(until: string): number {
  return Date.parse(until) + (until.includes("T") ? 0 : DAY_MS);
}

function isEnd(wanted: string | undefined, zone: string | null): boolean {
  return wanted === undefined || wanted === "*" || wanted === zone;
}

/** The first zone that is certain to select the end. */
export function findZone(spec: Spec, holder: Holder): Spec["zones"][number] | null {
  return spec.zones.find(({ select }) => isSelected(select, holder)) ?? null;
}

/** The zones that an end may be in, each the first that selects it; null: none does. */
function listZones(spec: Spec, holder: Holder): (string | null)[] {
  const may: (string | null)[] = [];
  for (const { name, select } of spec.zones) {
    const answer = selects(select, holder);
    if (answer !== false) may.push(name);
    if (answer === true) return may;
  }
  return [...may, null];
}

type Path = NonNullable<Spec["paths"]>[number];

function isOnPath(path: Path, { from, to }: Crossing, transport: Transport, port: number): boolean {
  return isEnd(path.from, from) && isEnd(path.to, to) && hasPort(path.ports, transport, port);
}

/** A lowest version asks for TLS. */
function wantedBy({ transport, minVersion }: Path): Posture | "any" | null {
  return transport ?? (minVersion === undefined ? null : "tls");
}

/** `8443`, `9000-9010`, `53/udp`; TCP where it does not say. Without a list, every port. */
function hasPort(ports: readonly Port[] | undefined, transport: Transport, port: number): boolean {
  if (ports === undefined) return true;
  return ports.some((entry) => {
    const [range, carrier] = String(entry).split("/");
    const [first, last] = range!.split("-").map(Number);
    if ((carrier ?? "tcp").toUpperCase() !== transport) return false;
    return first! <= port && port <= (last ?? first!);
  });
}

/** Whether a zone, or an actor, is certain to be this end. */
export function isSelected(select: Select, holder: Holder): boolean {
  return selects(select, holder) === true;
}

/** Whether a zone is this end; null where that depends on an address that is not known. */
function selects({ namespaces, labels, cidrs = [] }: Select, holder: Holder): Ternary {
  const isInside = holder.kind !== "external";
  if (isInside && (namespaces !== undefined || labels !== undefined)) {
    const there = namespaces === undefined || namespaces.includes(holder.namespace);
    const carries = Object.entries(labels ?? {}).every(([k, v]) => holder.labels[k] === v);
    if (there && carries) return true;
  }
  if (cidrs.length > 0 && holder.addresses.length === 0) return null;
  return cidrs.some((cidr) => {
    const range = parseRange(cidr);
    if (range === null) return false;
    return holder.addresses.some((text) => {
      const address = parseAddress(text);
      return address !== null && inRange(range, address);
    });
  });
}
