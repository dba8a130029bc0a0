/**
 * Adds up what connections say. Law: the tallies of a window's parts add up, in any order, to the
 * tally of the whole; so nothing in it depends on which connection came first.
 */
import type { Holder } from "../attribution/holder.ts";
import type { Expectation } from "../policy/expectation.ts";
import type { Connection } from "./pair.ts";
import type { Say, Unless } from "./say.ts";
import { Targets } from "./targets.ts";
import type { Aspect, Provenance, Reason } from "./verdict.ts";

/** Flows told of an edge: those of the smallest names. */
const FLOWS_TOLD = 10;

/** Connections of an edge that say the same, and what the first of them was held against. */
export type Cell = {
  kind: Say["kind"];
  reason: Reason | null;
  unless: Unless | null;
  count: number;
  first: Moment & { met: Expectation | null };
};

/** Puts connections in an order: that of their start, then of their names. */
type Moment = { startMs: number; flow: string };

export type EdgeTally = {
  id: string;
  /** Of the first connection. */
  first: Moment & Ends;
  port: number;
  proto: string;
  cells: Record<Aspect, Map<string, Cell>>;
  connections: number;
  bytes: number;
  lastMs: number;
  sampling: number;
  /** One of them rests on sizes. */
  inferred: boolean;
  /** Of one of them more than one version of the policy counts. */
  inGrace: boolean;
  findings: Set<string>;
  protocols: Set<string>;
  tlsVersions: Set<string>;
  flows: readonly string[];
};

export type Ends = {
  client: Holder | null;
  server: Holder | null;
  clientName: string;
  serverName: string;
  provenance: { client: Provenance; server: Provenance };
};

/** What one connection says, and the latest of the expectations that it met, if any. */
export type Said = { say: Say; readonly met: Expectation | null };

export class Tally {
  readonly edges = new Map<string, EdgeTally>();
  /** Pods' and workloads' ports that accepted a connection, as `portOf` names them. */
  readonly served = new Set<string>();
  /** Servers' names and ports to which somebody came under a node's address. */
  readonly masked = new Set<string>();
  /** Clients, servers and ports of connections whose other end is not known. */
  readonly unknown = new Set<string>();
  /** Accepted connections that one end saw and the other did not, by who saw them. */
  readonly oneEnded = new Map<string, number>();
  /** By server, the first client in the alphabet that a denial by identity did not stop. */
  readonly slipped = new Map<string, string>();
  /** By client, the first in the alphabet of the servers that took an identity not its own. */
  readonly aliens = new Map<string, string>();
  /** By node, what its agent told of interfaces of pods that run elsewhere. */
  readonly foreign = new Map<string, number>();
  /** What each client tried to reach. */
  readonly targets = new Map<string, Targets>();
  /** The smallest share of flows that any agent read. */
  sampling = 1;

  /** Adds one connection of an edge, with what it says of each aspect. */
  addConnection(
    id: string,
    ends: Ends,
    c: Connection,
    said: Partial<Record<Aspect, Said>>,
    inGrace: boolean,
  ): void {
    const flows = c.sightings.map((s) => s.id).sort();
    const [startMs, flow] = [c.startMs, flows[0]!];
    let edge = this.edges.get(id);
    if (edge === undefined) {
      edge = newEdge(id, c, { startMs, flow, ...ends });
      this.edges.set(id, edge);
    } else if (comesBefore(startMs, flow, edge.first)) edge.first = { startMs, flow, ...ends };
    if (said.path) addSaid(edge.cells.path, said.path, startMs, flow);
    if (said.transport) addSaid(edge.cells.transport, said.transport, startMs, flow);
    edge.connections++;
    edge.bytes += c.bytes;
    edge.lastMs = Math.max(edge.lastMs, c.endMs);
    edge.sampling = Math.min(edge.sampling, c.sampling);
    edge.inferred ||= c.inferred;
    edge.inGrace ||= inGrace;
    for (const finding of c.findings) edge.findings.add(finding);
    if (c.protocol !== null) edge.protocols.add(c.protocol);
    if (c.version !== null) edge.tlsVersions.add(c.version);
    edge.flows = firstOf(edge.flows, flows);
  }

  targetsOf(client: string): Targets {
    const known = this.targets.get(client) ?? new Targets();
    this.targets.set(client, known);
    return known;
  }

  addSlipped(server: string, client: string): void {
    keepFirst(this.slipped, server, client);
  }

  addAlien(client: string, server: string): void {
    keepFirst(this.aliens, client, server);
  }

  addOneEnded(subject: string): void {
    count(this.oneEnded, subject, 1);
  }

  addForeign(node: string): void {
    count(this.foreign, node, 1);
  }

  /** Takes over what `other` holds; it is not to be used any more. */
  merge(other: Tally): void {
    for (const [id, edge] of other.edges) {
      const known = this.edges.get(id);
      if (known) mergeEdge(known, edge);
      else this.edges.set(id, edge);
    }
    for (const name of other.served) this.served.add(name);
    for (const name of other.masked) this.masked.add(name);
    for (const name of other.unknown) this.unknown.add(name);
    for (const [subject, times] of other.oneEnded) count(this.oneEnded, subject, times);
    for (const [node, times] of other.foreign) count(this.foreign, node, times);
    for (const [server, client] of other.slipped) this.addSlipped(server, client);
    for (const [client, server] of other.aliens) this.addAlien(client, server);
    for (const [client, tried] of other.targets) this.targetsOf(client).merge(tried);
    this.sampling = Math.min(this.sampling, other.sampling);
  }
}

function count(map: Map<string, number>, key: string, times: number): void {
  map.set(key, (map.get(key) ?? 0) + times);
}

function keepFirst(map: Map<string, string>, key: string, value: string): void {
  const known = map.get(key);
  if (known === undefined || value < known) map.set(key, value);
}

function newEdge(id: string, c: Connection, first: EdgeTally["first"]): EdgeTally {
  return {
    ...{ id, port: c.port, proto: c.proto, first, inGrace: false, inferred: false },
    cells: { path: new Map(), transport: new Map() },
    ...{ connections: 0, bytes: 0, lastMs: c.endMs, sampling: 1, flows: [] },
    ...{ findings: new Set(), protocols: new Set(), tlsVersions: new Set() },
  };
}

function addSaid(cells: Map<string, Cell>, said: Said, startMs: number, flow: string): void {
  const { say, met } = said;
  const reason = say.kind === "pending" ? null : say.reason;
  const unless = (say.kind === "supports" && say.unless) || null;
  const name = `${say.kind} ${reason}${unless ? ` ${unless.served} ${unless.reason}` : ""}`;
  const cell = cells.get(name);
  if (cell === undefined) {
    cells.set(name, { kind: say.kind, reason, unless, count: 1, first: { startMs, flow, met } });
    return;
  }
  cell.count++;
  if (comesBefore(startMs, flow, cell.first)) cell.first = { startMs, flow, met };
}

function mergeEdge(into: EdgeTally, from: EdgeTally): void {
  if (isBefore(from.first, into.first)) into.first = from.first;
  for (const aspect of ["path", "transport"] as const) {
    const cells = into.cells[aspect];
    for (const [name, cell] of from.cells[aspect]) {
      const known = cells.get(name);
      if (known === undefined) cells.set(name, cell);
      else {
        known.count += cell.count;
        if (isBefore(cell.first, known.first)) known.first = cell.first;
      }
    }
  }
  into.connections += from.connections;
  into.bytes += from.bytes;
  into.lastMs = Math.max(into.lastMs, from.lastMs);
  into.sampling = Math.min(into.sampling, from.sampling);
  into.inferred ||= from.inferred;
  into.inGrace ||= from.inGrace;
  for (const finding of from.findings) into.findings.add(finding);
  for (const protocol of from.protocols) into.protocols.add(protocol);
  for (const version of from.tlsVersions) into.tlsVersions.add(version);
  into.flows = firstOf(into.flows, from.flows);
}

export function isBefore(a: Moment, b: Moment): boolean {
  return comesBefore(a.startMs, a.flow, b);
}

function comesBefore(startMs: number, flow: string, other: Moment): boolean {
  return startMs < other.startMs || (startMs === other.startMs && flow < other.flow);
}

/** The smallest names of both, which are sorted. */
function firstOf(a: readonly string[], b: readonly string[]): readonly string[] {
  if (a.length === FLOWS_TOLD && a.at(-1)! < b[0]!) return a;
  return [...a, ...b].sort().slice(0, FLOWS_TOLD);
}
