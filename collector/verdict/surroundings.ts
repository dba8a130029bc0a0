/** Tells what is known of a server's port apart from the one connection that is judged. */
import { formatHolder } from "../attribution/holder.ts";
import type { Holder } from "../attribution/holder.ts";
import type { WindowCoverage } from "./coverage.ts";
import type { Connection } from "./pair.ts";
import type { Surroundings } from "./path.ts";

/** Of all connections in a window. */
export class Neighbourhood {
  readonly #coverage: WindowCoverage;
  readonly #pods: readonly Holder[];
  readonly #tolerance: number;
  /** Pods and ports that accepted a connection. */
  readonly #served = new Set<string>();

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
      const [pod, ...others] = this.#serversOf(c);
      if (c.accepted === true && c.rolesKnown && pod && others.length === 0)
        this.#served.add(portOf(pod, c));
    }
  }

  around(c: Connection): Surroundings {
    const servers = this.#serversOf(c);
    const sees = (pod: Holder) => this.#coverage.isWhole(pod, c.startMs, c.endMs, this.#tolerance);
    const hides = (pod: Holder) => {
      const { sampling, oneDirection } = this.#coverage.ofPod(pod);
      return sampling < 1 || oneDirection;
    };
    return {
      serverHides: servers.some(hides),
      clientMisses: !c.atServer && c.client !== null && this.#coverage.ofPod(c.client).oneDirection,
      serverWatched: servers.length > 0 && servers.every(sees),
      servedOthers: servers.length > 0 && servers.every((p) => this.#served.has(portOf(p, c))),
    };
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
