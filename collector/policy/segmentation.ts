/** Judges pairs of ends by the zones and paths of the segmentation files. */
import { inRange, parseAddress, parseRange } from "../attribution/address.ts";
import { valueAt, type ClusterObject } from "../attribution/cluster-object.ts";
import { formatHolder, type Holder, type Transport } from "../attribution/holder.ts";
import { formatObject, toBecause, toFaultBecause, UNDECLARED, type Decision } from "./because.ts";
import type { Because, Posture } from "./expectation.ts";
import type { CryptoProfile } from "../../protocol/crypto-profile.ts";
import type { Fault } from "./problem.ts";
import type { Segmentation as Spec } from "./segmentation-shape.ts";

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

  /** The strictest requirement of the paths that let this pair pass. */
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
      const found = findPath(spec, client, server, transport, port);
      if (found === null) continue;
      const wanted = found.path.transport ?? null;
      const version = found.path.minVersion ?? null;
      const profiles = found.path.crypto ?? [];
      if (wanted === null && version === null && profiles.length === 0) continue;
      for (const profile of profiles) crypto.add(profile as CryptoProfile);
      required = stricter(required, wanted ?? "tls");
      if (minVersion === null || (version !== null && version > minVersion)) minVersion = version;
      const words = [wanted, version === null ? null : `at least ${version}`, ...profiles].filter(
        Boolean,
      );
      const { from, to } = found.path;
      const sentence = `${formatObject(object)} requires ${words.join(", ")} from ${from} to ${to}`;
      because.push(toBecause(object, `spec.paths[${found.at}].transport`, sentence));
    }
    return { required, minVersion, crypto: [...crypto].sort(), because };
  }
}

const STRICTNESS = [null, "any", "plaintext", "tls", "mtls"] as const;

/** The stricter of two requirements: mtls, tls, plaintext, any, none. */
export function stricter(a: Posture | "any" | null, b: Posture | "any" | null) {
  return STRICTNESS.indexOf(a) >= STRICTNESS.indexOf(b) ? a : b;
}

function decideOne(
  object: ClusterObject,
  spec: Spec,
  client: Holder,
  server: Holder,
  transport: Transport,
  port: number,
  atMs: number,
): Decision {
  const from = findZone(spec, client)?.name ?? null;
  const to = findZone(spec, server)?.name ?? null;
  const say = (path: Decision["path"], rule: string, sentence: string): Decision => ({
    path,
    because: [toBecause(object, rule, sentence)],
  });
  const name = formatObject(object);
  const found = findPath(spec, client, server, transport, port);
  if (found !== null) {
    const { from, to } = found.path;
    const sentence = `allowed by ${name}: path ${found.at} leads from ${from} to ${to}`;
    return say("allowed", `spec.paths[${found.at}]`, sentence);
  }
  const actor = decideByActor(object, spec, client, to, transport, port);
  if (actor !== null && actor.path === "allowed") return actor;
  if (from !== null && from === to) return UNDECLARED; // inside one zone
  if (actor === null && from === to) return UNDECLARED; // outside of all
  const told = (end: Holder, zone: string | null) => `${formatHolder(end)} (${zone ?? "no zone"})`;
  const crossing = `${told(client, from)} to ${told(server, to)}`;
  const isOpen = (spec.default?.betweenZones ?? "undeclared") === "undeclared";
  if (actor === null && isOpen) return UNDECLARED;
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
  if (actor !== null) return actor;
  const sentence = `denied by ${name}: no path leads from ${crossing} on ${transport} ${port}`;
  return say("denied", "spec.default.betweenZones", sentence);
}

/** An actor that alone leads to the zone on this port: it may, and whoever else comes may not. */
function decideByActor(
  object: ClusterObject,
  spec: Spec,
  client: Holder,
  to: string | null,
  transport: Transport,
  port: number,
): Decision | null {
  const leading = (spec.actors ?? [])
    .map((actor, at) => ({ actor, at }))
    .filter(({ actor }) => actor.only === true && (actor.to ?? []).includes(to ?? ""))
    .filter(({ actor }) => hasPort(actor.ports, transport, port));
  const [first] = leading;
  if (first === undefined) return null;
  const own = leading.find(({ actor }) => isSelected(actor.select, client));
  const name = formatObject(object);
  const { actor, at } = own ?? first;
  const names = leading.map((other) => other.actor.name).join(", ");
  const sentence =
    own === undefined
      ? `denied by ${name}: access to ${to} on ${transport} ${port} goes through ${names} only`
      : `allowed by ${name}: ${formatHolder(client)} is ${actor.name}, which leads to ${to}`;
  const because = [toBecause(object, `spec.actors[${at}]`, sentence)];
  return { path: own === undefined ? "denied" : "allowed", because };
}

/** A date ends with its day, UTC. */
export function endOf(until: string): number {
  return Date.parse(until) + (until.includes("T") ? 0 : DAY_MS);
}

function isEnd(wanted: string | undefined, zone: string | null): boolean {
  return wanted === undefined || wanted === "*" || wanted === zone;
}

/** The first zone that selects the end. */
export function findZone(spec: Spec, holder: Holder): Spec["zones"][number] | null {
  return spec.zones.find(({ select }) => isSelected(select, holder)) ?? null;
}

function findPath(
  spec: Spec,
  client: Holder,
  server: Holder,
  transport: Transport,
  port: number,
): { path: NonNullable<Spec["paths"]>[number]; at: number } | null {
  const from = findZone(spec, client)?.name ?? null;
  const to = findZone(spec, server)?.name ?? null;
  const at = (spec.paths ?? []).findIndex(
    (path) => isEnd(path.from, from) && isEnd(path.to, to) && hasPort(path.ports, transport, port),
  );
  return at < 0 ? null : { path: spec.paths![at]!, at };
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

/** Whether a zone, or an actor, is this end. */
export function isSelected(select: Select, holder: Holder): boolean {
  const { namespaces, labels, cidrs, nodes } = select;
  if (nodes === true && holder.kind === "node") return true;
  const isInside = holder.kind === "pod" || holder.kind === "service";
  if (isInside && (namespaces !== undefined || labels !== undefined)) {
    const there = namespaces === undefined || namespaces.includes(holder.namespace);
    const carries = Object.entries(labels ?? {}).every(([k, v]) => holder.labels[k] === v);
    if (there && carries) return true;
  }
  return (cidrs ?? []).some((cidr) => {
    const range = parseRange(cidr);
    if (range === null) return false;
    return holder.addresses.some((text) => {
      const address = parseAddress(text);
      return address !== null && inRange(range, address);
    });
  });
}
