/** Judges pairs of ends by the zones and paths of the segmentation files. */
import { inRange, parseRange } from "../../attribution/address.ts";
import { valueAt, type ClusterObject } from "../../attribution/cluster-object.ts";
import {
  addressesOf,
  formatHolder,
  type Holder,
  type Transport,
} from "../../attribution/holder.ts";
import { hasLabels } from "../../attribution/selector.ts";
import {
  formatObject,
  toBecause,
  toFaultBecause,
  UNDECLARED,
  type Decision,
} from "../decision/because.ts";
import type { Because, Posture } from "../expectation.ts";
import type { Ternary } from "../decision/ternary.ts";
import type { CryptoProfile } from "../../../protocol/crypto-profile.ts";
import type { Fault } from "../manifest/problem.ts";
import type { Segmentation as Spec } from "./shape.ts";

export type Zone = { name: string; scope: "cde" | "phi" | "out-of-scope" | null };

export type Actor = { name: string; kind: string | null; to: readonly string[] };

/** What the paths say about transport. */
export type SegmentationTransport = {
  required: Posture | "any" | null;
  minVersion: string | null;
  crypto: readonly CryptoProfile[];
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
    const crypto = new Set<CryptoProfile>();
    for (const { object, spec } of this.files) {
      if (spec === null) continue;
      const crossings = listCrossings(spec, client, server);
      for (const [at, path] of (spec.paths ?? []).entries()) {
        const wanted = wantedBy(path);
        const isMeant = crossings.some((crossing) => isOnPath(path, crossing, transport, port));
        if (wanted === null || !isMeant) continue;
        const version = path.minVersion ?? null;
        const profiles = path.crypto ?? [];
        for (const profile of profiles) crypto.add(profile as CryptoProfile);
        required = stricter(required, wanted);
        if (minVersion === null || (version !== null && version > minVersion)) minVersion = version;
        const least = version === null ? null : `at least ${version}`;
        const words = [path.transport, least, ...profiles].filter(Boolean).join(", ");
        const ends = `from ${path.from} to ${path.to}`;
        const sentence = `${formatObject(object)} requires ${words} ${ends}`;
        because.push(toBecause(object, `spec.paths[${at}].transport`, sentence));
      }
    }
    return { required, minVersion, crypto: [...crypto].sort(), because };
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
  const decisions = crossings.flatMap((crossing) => decideCrossing(object, spec, crossing, ends));
  const wanted = crossings.map((crossing) => {
    const paths = (spec.paths ?? []).filter((path) => isOnPath(path, crossing, transport, port));
    return paths.map(wantedBy).reduce(stricter, null);
  });
  const [first] = decisions;
  const isOne = decisions.every(({ path }) => path === first!.path);
  if (isOne && wanted.every((word) => word === wanted[0])) return first!;
  const sentence =
    `undecidable: who ${formatHolder(client)} and ${formatHolder(server)} are in ` +
    `${formatObject(object)} depends on an address that is not known`;
  const because = decisions.flatMap((decision) => decision.because);
  return { path: "undecidable", because: [toBecause(object, "spec.zones", sentence), ...because] };
}

type Ends = { client: Holder; server: Holder; transport: Transport; port: number; atMs: number };

/** More than one decision where it is not known whether the client is an actor. */
function decideCrossing(
  object: ClusterObject,
  spec: Spec,
  crossing: Crossing,
  ends: Ends,
): Decision[] {
  const { transport, port } = ends;
  const at = (spec.paths ?? []).findIndex((path) => isOnPath(path, crossing, transport, port));
  if (at >= 0) {
    const { from, to } = spec.paths![at]!;
    const sentence = `allowed by ${formatObject(object)}: path ${at} leads from ${from} to ${to}`;
    return [{ path: "allowed", because: [toBecause(object, `spec.paths[${at}]`, sentence)] }];
  }
  const says = decideByActor(object, spec, crossing.to, ends);
  const denied = says.find(({ path }) => path === "denied") ?? null;
  const others = says.filter(({ path }) => path === "allowed");
  if (others.length > 0 && denied === null) return others;
  return [...others, decideBetween(object, spec, crossing, ends, denied)];
}

/** Where neither a path nor an actor leads; `denied` by an actor that alone does. */
function decideBetween(
  object: ClusterObject,
  spec: Spec,
  { from, to }: Crossing,
  { client, server, transport, port, atMs }: Ends,
  denied: Decision | null,
): Decision {
  const say = (path: Decision["path"], rule: string, sentence: string): Decision => ({
    path,
    because: [toBecause(object, rule, sentence)],
  });
  const name = formatObject(object);
  if (from === to && (from !== null || denied === null)) return UNDECLARED; // or outside of all
  const told = (end: Holder, zone: string | null) => `${formatHolder(end)} (${zone ?? "no zone"})`;
  const crossing = `${told(client, from)} to ${told(server, to)}`;
  const isOpen = (spec.default?.betweenZones ?? "undeclared") === "undeclared";
  if (denied === null && isOpen) return UNDECLARED;
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
  if (denied !== null) return denied;
  const sentence = `denied by ${name}: no path leads from ${crossing} on ${transport} ${port}`;
  return say("denied", "spec.default.betweenZones", sentence);
}

/**
 * Actors that alone lead to the zone on this port: they may, and whoever else comes may not. None
 * where there are none; both answers where it is not known whether the client is one of them.
 */
function decideByActor(
  object: ClusterObject,
  spec: Spec,
  to: string | null,
  { client, transport, port }: Ends,
): Decision[] {
  const leading = (spec.actors ?? [])
    .map((actor, at) => ({ actor, at, isClient: selects(actor.select, client) }))
    .filter(({ actor }) => actor.only === true && (actor.to ?? []).some((zone) => isEnd(zone, to)))
    .filter(({ actor }) => hasPort(actor.ports, transport, port));
  const [first] = leading;
  if (first === undefined) return [];
  const name = formatObject(object);
  const own =
    leading.find(({ isClient }) => isClient === true) ??
    leading.find(({ isClient }) => isClient === null);
  const decisions: Decision[] = [];
  if (own !== undefined) {
    const who = `${formatHolder(client)} is ${own.actor.name}`;
    const sentence = `allowed by ${name}: ${who}, which leads to ${to}`;
    const because = [toBecause(object, `spec.actors[${own.at}]`, sentence)];
    decisions.push({ path: "allowed", because });
    if (own.isClient === true) return decisions;
  }
  const names = leading.map(({ actor }) => actor.name).join(", ");
  const what = `access to ${to} on ${transport} ${port}`;
  const sentence = `denied by ${name}: ${what} goes through ${names} only`;
  const because = [toBecause(object, `spec.actors[${first.at}]`, sentence)];
  return [...decisions, { path: "denied", because }];
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

/** A lowest version, or a profile of cryptography, asks for TLS. */
function wantedBy({ transport, minVersion, crypto = [] }: Path): Posture | "any" | null {
  return transport ?? (minVersion === undefined && crypto.length === 0 ? null : "tls");
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
function selects(select: Select, holder: Holder): Ternary {
  const { namespaces, labels, cidrs = [], nodes } = select;
  if (nodes === true && holder.kind === "node") return true;
  const isInside = holder.kind === "pod" || holder.kind === "service";
  if (isInside && (namespaces !== undefined || labels !== undefined)) {
    const there = namespaces === undefined || namespaces.includes(holder.namespace);
    const carries = hasLabels(holder.labels, labels ?? {});
    if (there && carries) return true;
  }
  if (cidrs.length > 0 && holder.addresses.length === 0) return null;
  return cidrs.some((cidr) => {
    const range = parseRange(cidr);
    if (range === null) return false;
    return addressesOf(holder).some((address) => inRange(range, address));
  });
}
