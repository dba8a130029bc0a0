/** Tells of a connection at which ends it was seen, and at which it would have been. */
import type { Holder } from "../attribution/holder.ts";
import type { WindowCoverage } from "./coverage.ts";
import type { Connection } from "./pair.ts";

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
  /** Who must have served somebody else to count as there, as `portOf` names it; null: nobody. */
  servers: string | null;
};

/** Tells of connections where they were seen, and where they would have been. */
export class Sights {
  readonly #coverage: WindowCoverage;
  readonly #tolerance: number;

  constructor(coverage: WindowCoverage, tolerance: number) {
    this.#coverage = coverage;
    this.#tolerance = tolerance;
  }

  of(c: Connection): Matrix {
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
      servers:
        servers.length === 0 ? null : portOf(this.isInferred(c) ? c.serverName : servers[0]!, c),
    };
  }

  /** Behind a Service, seen at the client only, it may be any pod of the workload. */
  isInferred({ serverProvenance }: Connection): boolean {
    return serverProvenance === "inferred";
  }

  #serversOf(c: Connection): readonly Holder[] {
    if (!c.server) return [];
    if (!this.isInferred(c)) return [c.server];
    // Those that died in the window, too; who died before it is not known any more.
    return c.startMs < this.#coverage.fromMs ? [] : this.#coverage.podsOf(c.serverName);
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
}

/** `pay/ledger-0/UID 8443/tcp`: a pod's port, or `pay/ledger[StatefulSet] …`: its workload's. */
export function portOf(of: Holder | string, { port, proto }: Pick<Connection, "port" | "proto">) {
  // Another pod of the name may never have served anybody.
  const name = typeof of === "string" ? of : `${of.namespace}/${of.name}/${of.uid}`;
  return `${name} ${port}/${proto}`;
}

/** One of its ends was watched whole and saw nothing of it: somebody made it up elsewhere. */
export function isMadeUp({ client, server }: Matrix): boolean {
  return client === "absent" || server === "absent";
}
