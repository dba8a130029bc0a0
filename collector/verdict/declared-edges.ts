/** Lists the edges that policy declares and that demand encryption, seen or not. */
import { formatHolder } from "../attribution/holder.ts";
import type { Holder, Transport } from "../attribution/holder.ts";
import type { Expectation } from "../policy/expectation.ts";

export type DeclaredEdge = {
  /** As `Edge.id`. */
  id: string;
  client: Holder;
  server: Holder;
  port: number;
  carrier: Transport;
  expectation: Expectation;
};

export type DeclaredEdges = {
  edges: readonly DeclaredEdge[];
  /** Edges, or pairs that were not asked about, beyond the limits. */
  cut: number;
  /** Namespaces to whose servers nothing declares a path from anybody, where all was asked. */
  undeclared: ReadonlySet<string>;
};

export const NOTHING_DECLARED: DeclaredEdges = { edges: [], cut: 0, undeclared: new Set() };

/** Most edges kept, and most pairs of workloads asked about. */
const EDGES_LIMIT = 5_000;
const PAIRS_LIMIT = 500_000;

type Expect = (client: Holder, server: Holder, port: number, carrier: Transport) => Expectation;

/** Asks about each pair of workloads and each port that a server's manifest names. */
export function listDeclaredEdges(pods: readonly Holder[], expect: Expect): DeclaredEdges {
  const workloads = new Map<string, Holder>();
  for (const pod of pods) workloads.set(formatHolder(pod), pod);
  const edges: DeclaredEdge[] = [];
  const spaces = new Set<string>();
  const declared = new Set<string>();
  let cut = 0;
  let asked = 0;
  for (const [serverName, server] of workloads) {
    for (const { port, transport: carrier } of server.ports) {
      for (const [clientName, client] of workloads) {
        if (clientName === serverName) continue;
        if (asked++ >= PAIRS_LIMIT) {
          cut++;
          continue;
        }
        const expectation = expect(client, server, port, carrier);
        spaces.add(server.namespace);
        if (expectation.path !== "undeclared") declared.add(server.namespace);
        const { required } = expectation.transport;
        const isDeclared = expectation.path === "allowed" && expectation.pathBecause.length > 0;
        if (!isDeclared || (required !== "mtls" && required !== "tls")) continue;
        if (edges.length >= EDGES_LIMIT) {
          cut++;
          continue;
        }
        const id = `${clientName} -> ${serverName} : ${port}/${carrier.toLowerCase()}`;
        edges.push({ id, client, server, port, carrier, expectation });
      }
    }
  }
  const undeclared = new Set(asked > PAIRS_LIMIT ? [] : spaces);
  for (const space of declared) undeclared.delete(space);
  return { edges, cut, undeclared };
}
