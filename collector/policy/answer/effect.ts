/** Compares two policies by what they require of each edge: a change in effect, not in text. */
import { listAt, type ClusterObject, type Json } from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder, type Transport } from "../../attribution/holder.ts";
import { toPieces } from "./address-piece.ts";
import { cutAddresses } from "../packet/address-cut.ts";
import type { Because, Expectation } from "../expectation.ts";
import { onePerSort, sortOfReplica } from "../manifest/pod-sort.ts";
import type { Policy } from "../policy.ts";

/** Policy and workloads of one instant. */
export type Side = { policy: Policy; pods: readonly Holder[]; objects: readonly ClusterObject[] };

/** What is required of an edge; pods of one workload that differ leave it undecidable. */
export type Told = {
  path: Expectation["path"];
  transport: Expectation["transport"];
  because: readonly Because[];
};

/** `ports`: `8443/tcp`, and `other` for a port that nothing names. */
export type EdgeChange = { client: string; server: string; ports: string[]; from: Told; to: Told };

export type Effect = {
  changes: EdgeChange[];
  /** Pairs of ends that were compared, and those beyond the limit that were not. */
  pairs: number;
  cut: number;
};

const PAIRS_LIMIT = 1_000_000;
/** Stands for every port that neither a manifest nor a policy names. */
const OTHER_PORT = 50_505;

type End = { name: string; from: readonly Holder[]; to: readonly Holder[] };
type Port = { name: string; port: number; transport: Transport };

/** Compares every pair of workloads that both sides have, and the outside, at `atMs`. */
export function compareEffect(from: Side, to: Side, atMs: number): Effect {
  const objects = [...from.objects, ...to.objects];
  const all = [...from.pods, ...to.pods];
  const ends = commonEnds(from.pods, to.pods, toPieces(objects, all));
  const held = new Set(all.flatMap((pod) => pod.addresses));
  const outside = (direction: "ingress" | "egress"): End[] =>
    cutAddresses(objects, direction)
      // A range of one address that a pod has is that pod.
      .filter(({ name, holder }) => !isOne(name, holder) || !held.has(holder.name))
      .map(({ name, holder }) => ({ name, from: [holder], to: [holder] }));
  const named = portsNamed(objects);
  const pairs: [End, End][] = [];
  for (const client of [...ends, ...outside("ingress")]) {
    for (const server of ends) if (client.name !== server.name) pairs.push([client, server]);
  }
  for (const client of ends) for (const server of outside("egress")) pairs.push([client, server]);
  const changes = pairs.slice(0, PAIRS_LIMIT).flatMap(([client, server]) => {
    const found: EdgeChange[] = [];
    for (const port of portsOf(server, named)) {
      const before = tell(from.policy, client.from, server.from, port, atMs);
      const after = tell(to.policy, client.to, server.to, port, atMs);
      if (gistOf(before) === gistOf(after)) continue;
      const gist = `${gistOf(before)} ${gistOf(after)}`;
      const same = found.find((change) => `${gistOf(change.from)} ${gistOf(change.to)}` === gist);
      if (same !== undefined) same.ports.push(port.name);
      else {
        const names = { client: client.name, server: server.name };
        found.push({ ...names, ports: [port.name], from: before, to: after });
      }
    }
    return found;
  });
  const asked = Math.min(pairs.length, PAIRS_LIMIT);
  return { changes, pairs: asked, cut: pairs.length - asked };
}

/** Names of the workloads that only the first, and only the second has. */
export function compareWorkloads(from: Side, to: Side): { gone: string[]; come: string[] } {
  const before = new Set(from.pods.map(formatHolder));
  const after = new Set(to.pods.map(formatHolder));
  return {
    gone: [...before].filter((name) => !after.has(name)).sort(),
    come: [...after].filter((name) => !before.has(name)).sort(),
  };
}

/** `192.0.2.1-192.0.2.1[External]`. */
function isOne(name: string, { name: address }: Holder): boolean {
  return name.startsWith(`${address}-${address}[`);
}

type Place = (addresses: readonly string[]) => string[];

function commonEnds(from: readonly Holder[], to: readonly Holder[], place: Place): End[] {
  const [before, after] = [sortsOf(from, place), sortsOf(to, place)];
  return [...before]
    .filter(([name]) => after.has(name))
    .map(([name, holders]) => ({ name, from: holders, to: after.get(name)! }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** By workload, one pod of each sort, with the piece in the place of its address of the moment. */
function sortsOf(pods: readonly Holder[], place: Place): Map<string, Holder[]> {
  const plain = pods.map((pod) => ({ ...pod, addresses: place(pod.addresses) }));
  return Map.groupBy(onePerSort(plain, sortOfReplica), formatHolder);
}

function portsOf(server: End, named: readonly number[]): Port[] {
  const ports = new Map<string, Port>();
  const add = (port: number, transport: Transport, name?: string) => {
    const own = name ?? `${port}/${transport.toLowerCase()}`;
    ports.set(own, { name: own, port, transport });
  };
  for (const holder of [...server.from, ...server.to]) {
    for (const { port, transport } of holder.ports) add(port, transport);
  }
  if (ports.size === 0) for (const port of named) add(port, "TCP");
  add(OTHER_PORT, "TCP", "other");
  return [...ports.values()];
}

/** Numbers that policies give to ports, the first hundred. */
function portsNamed(objects: readonly ClusterObject[]): number[] {
  const found = new Set<number>();
  const visit = (value: Json | undefined, depth: number) => {
    if (depth > 12 || found.size >= 100 || typeof value !== "object" || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      const isPort = typeof inner === "number" && /^(port|number|start|portNumber)$/.test(key);
      if (isPort && inner >= 1 && inner <= 65535) found.add(inner);
      else visit(inner as Json, depth + 1);
    }
  };
  for (const { body } of objects) {
    for (const direction of ["ingress", "egress"]) {
      for (const rule of listAt(body, "spec", direction)) visit(rule, 0);
    }
  }
  return [...found].sort((a, b) => a - b);
}

function tell(
  policy: Policy,
  clients: readonly Holder[],
  servers: readonly Holder[],
  { port, transport }: Port,
  atMs: number,
): Told {
  const all = clients.flatMap((client) =>
    servers.map((server) => policy.expect(client, server, port, transport, atMs)),
  );
  const told = all.map(({ path, transport, pathBecause, transportBecause }) => {
    return { path, transport, because: [...pathBecause, ...transportBecause] };
  });
  const [first] = told;
  if (told.every((other) => gistOf(other) === gistOf(first!))) return first!;
  const because = told.flatMap((other) => other.because);
  const undecided = { required: null, accepts: [], refuses: [] };
  return { path: "undecidable", transport: undecided, because };
}

function gistOf({ path, transport }: Told): string {
  const { required, accepts, refuses, minVersion, crypto, mesh, trustDomain } = transport;
  const whose = [mesh ?? null, trustDomain ?? null];
  return JSON.stringify([
    path,
    required,
    accepts,
    refuses,
    minVersion ?? null,
    crypto ?? [],
    whose,
  ]);
}
