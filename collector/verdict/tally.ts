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
export type Said = { say: Say; met: Expectation | null };

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
  /** What each client tried to reach. */
  readonly targets = new Map<string, Targets>();
  /** The smallest share of flows that any agent read. */
  sampling = 1;

  addEdge(edge: EdgeTally): void {
    const known = this.edges.get(edge.id);
    if (known) mergeEdge(known, edge);
    else this.edges.set(edge.id, edge);
  }

  targetsOf(client: string): Targets {
    const known = this.targets.get(client) ?? new Targets();
    this.targets.set(client, known);
    return known;
  }

  addSlipped(server: string, client: string): void {
    const known = this.slipped.get(server);
    if (known === undefined || client < known) this.slipped.set(server, client);
  }

  addOneEnded(subject: string, count: number): void {
    this.oneEnded.set(subject, (this.oneEnded.get(subject) ?? 0) + count);
  }

  /** Takes over what `other` holds; it is not to be used any more. */
  merge(other: Tally): void {
    for (const edge of other.edges.values()) this.addEdge(edge);
    for (const name of other.served) this.served.add(name);
    for (const name of other.masked) this.masked.add(name);
    for (const name of other.unknown) this.unknown.add(name);
    for (const [subject, count] of other.oneEnded) this.addOneEnded(subject, count);
    for (const [server, client] of other.slipped) this.addSlipped(server, client);
    for (const [client, tried] of other.targets) this.targetsOf(client).merge(tried);
    this.sampling = Math.min(this.sampling, other.sampling);
  }
}

/** The edge of one connection, with what it says of both aspects. */
export function edgeOf(
  id: string,
  ends: Ends,
  c: Connection,
  said: Record<Aspect, Said | null>,
  inGrace: boolean,
): EdgeTally {
  const flows = c.sightings.map((s) => s.id).sort();
  const first = { startMs: c.startMs, flow: flows[0]! };
  return {
    ...{ id, port: c.port, proto: c.proto, inGrace, inferred: c.inferred },
    first: { ...first, ...ends },
    cells: { path: cellsOf(said.path, first), transport: cellsOf(said.transport, first) },
    ...{ connections: 1, bytes: c.bytes, lastMs: c.endMs, sampling: c.sampling },
    findings: new Set(c.findings),
    protocols: new Set(c.protocol === null ? [] : [c.protocol]),
    tlsVersions: new Set(c.version === null ? [] : [c.version]),
    flows: flows.slice(0, FLOWS_TOLD),
  };
}

function cellsOf(said: Said | null, first: Moment): Map<string, Cell> {
  if (said === null) return new Map();
  const { say, met } = said;
  const reason = say.kind === "pending" ? null : say.reason;
  const unless = (say.kind === "supports" && say.unless) || null;
  const name = [say.kind, reason, unless?.served, unless?.reason].join(" ");
  return new Map([[name, { kind: say.kind, reason, unless, count: 1, first: { ...first, met } }]]);
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
  return a.startMs < b.startMs || (a.startMs === b.startMs && a.flow < b.flow);
}

/** The smallest names of both, which are sorted. */
function firstOf(a: readonly string[], b: readonly string[]): readonly string[] {
  if (a.length === FLOWS_TOLD && a.at(-1)! < b[0]!) return a;
  return [...a, ...b].sort().slice(0, FLOWS_TOLD);
}
