/** Tells of a connection at which ends it was seen, and at which it would have been. */
import { formatHolder } from "../attribution/holder.ts";
import type { Holder } from "../attribution/holder.ts";
import type { WindowCoverage } from "./coverage.ts";
import type { Connection } from "./pair.ts";
import type { Edge } from "./verdict.ts";

/** `absent`: watched whole all the time, and not seen. `unwatched`: not seen, and may have been. */
export type Sight = "seen" | "absent" | "unwatched";

/** What is known of a connection beside what it says itself. */
export type Matrix = {
  client: Sight;
  server: Sight;
  /** Of what reached the server's interface a part is not read: a sample, or one direction. */
  serverHides: boolean;
  /** An answer may have come to the client past its interface, the one place that was watched. */
  clientMisses: boolean;
  /** Another connection was accepted by the same server and port in the window. */
  servedOthers: boolean;
};

/** Sees the connections of a window together. */
export class Sights {
  readonly #coverage: WindowCoverage;
  readonly #pods: readonly Holder[];
  readonly #tolerance: number;
  readonly #matrices = new Map<Connection, Matrix>();
  /** Pods and ports that accepted a connection. */
  readonly #served = new Set<string>();
  /** Servers' names and ports to which somebody came under a node's address. */
  readonly #masked = new Set<string>();
  /** Clients, servers and ports of connections whose other end is not known. */
  readonly #unknown = new Set<string>();

  constructor(
    connections: readonly Connection[],
    coverage: WindowCoverage,
    pods: readonly Holder[],
    tolerance: number,
  ) {
    this.#coverage = coverage;
    this.#pods = pods;
    this.#tolerance = tolerance;
    for (const c of connections) {
      const port = `${c.port}/${c.proto}`;
      if (c.clientIsNode) this.#masked.add(`${c.serverName} ${port}`);
      if (c.client === null && c.server !== null) this.#unknown.add(`> ${c.serverName} ${port}`);
      if (c.server === null) this.#unknown.add(`${c.client ? c.clientName : ""} > ${port}`);
      const [pod, ...others] = this.#serversOf(c);
      if (c.accepted === true && c.rolesKnown && pod && others.length === 0)
        this.#served.add(portOf(pod, c));
    }
  }

  of(c: Connection): Matrix {
    const known = this.#matrices.get(c);
    if (known) return known;
    const matrix = this.#tell(c);
    this.#matrices.set(c, matrix);
    return matrix;
  }

  #tell(c: Connection): Matrix {
    const servers = this.#serversOf(c);
    const hides = (pod: Holder) => {
      const { sampling, oneDirection } = this.#coverage.ofPod(pod);
      return sampling < 1 || oneDirection;
    };
    return {
      client: this.#sight(c, c.atClient, c.client === null ? [] : [c.client]),
      server: this.#sight(c, c.atServer, servers),
      serverHides: servers.some(hides),
      clientMisses: !c.atServer && c.client !== null && this.#coverage.ofPod(c.client).oneDirection,
      servedOthers: servers.length > 0 && servers.every((p) => this.#served.has(portOf(p, c))),
    };
  }

  /** Reports whether one of the edge may have come to its server under a node's address. */
  hidesClients(server: Holder | null, { port, proto }: Edge): boolean {
    return server !== null && this.#masked.has(`${formatHolder(server)} ${port}/${proto}`);
  }

  /** Reports whether a connection of which an end is not known may be one of the edge. */
  mayHold({ port, proto }: Edge, client: Holder | null, server: Holder | null): boolean {
    if (client === null || server === null || this.#unknown.size === 0) return false;
    const to = `${port}/${proto}`;
    const names = [
      `> ${formatHolder(server)} ${to}`,
      `${formatHolder(client)} > ${to}`,
      ` > ${to}`,
    ];
    return names.some((name) => this.#unknown.has(name));
  }

  #sight(c: Connection, isSeen: boolean, pods: readonly Holder[]): Sight {
    if (isSeen) return "seen";
    // Joined midway it has no name by which its sightings would be known as one.
    if (c.midstream) return "unwatched";
    const { apartMs } = this.#coverage;
    const [from, to] = [c.startMs - apartMs, c.endMs + apartMs];
    const isWhole = (pod: Holder) => this.#coverage.isWhole(pod, from, to, this.#tolerance);
    return pods.length > 0 && pods.every(isWhole) ? "absent" : "unwatched";
  }

  /** Behind a Service, seen at the client only, it may be any pod of the workload. */
  #serversOf(c: Connection): readonly Holder[] {
    if (!c.server) return [];
    if (c.serverProvenance !== "inferred") return [c.server];
    return this.#pods.filter((pod) => formatHolder(pod) === c.serverName);
  }
}

function portOf(pod: Holder, { port, proto }: Connection): string {
  return `${pod.namespace}/${pod.name} ${port}/${proto}`;
}

/** Seen at one end, while the other was watched whole and saw nothing: somebody made it up. */
export function isOneEndOnly({ client, server }: Matrix): boolean {
  return (client === "seen" && server === "absent") || (client === "absent" && server === "seen");
}
