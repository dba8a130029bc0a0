/** Compiles declared objects into what they require of an edge. */
import type { ClusterObject } from "../attribution/cluster-object.ts";
import {
  formatHolder,
  toExternal,
  type Holder,
  type Transport as Carrier,
} from "../attribution/holder.ts";
import { combine, toBecause, type Decision } from "./decision/because.ts";
import type { Because, Expectation, Posture } from "./expectation.ts";
import { ConsulPolicies } from "./mesh/consul/consul.ts";
import { IstioPolicies, type IstioMesh } from "./mesh/istio/istio.ts";
import { LinkerdPolicies } from "./mesh/linkerd/linkerd.ts";
import { HBONE_PORT } from "./mesh/istio/interception.ts";
import { UNKNOWN_TRANSPORT, type Carried, type MeshSay } from "./mesh/mesh-say.ts";
import { readMeshed, type Mesh, type Meshed } from "./mesh/meshed.ts";
import { NetworkLayer } from "./packet/network-layer.ts";
import type { PodsInBlocks } from "./packet/peer.ts";
import type { Ternary } from "./decision/ternary.ts";
import type { PortSet } from "./packet/port-set.ts";
import { doubtfulPlanes, PLANES, settingsOf } from "./manifest/control-plane.ts";
import { formatPath, type Fault, type Problem } from "./manifest/problem.ts";
import { Segmentations, stricter, type Actor, type Zone } from "./segmentation/segmentation.ts";
import { findFaults } from "./manifest/shape.ts";

export type PolicyOptions = {
  /** What could not be read beside the objects; told as doubts of the edges it may concern. */
  problems?: readonly Problem[];
  /** Every pod is in this mesh, whatever its manifest shows; null judges by the manifest. */
  mesh?: Mesh | "none" | null;
  podsInBlocks?: PodsInBlocks;
};

/** An end: who it is, or an address outside. */
export type End = Holder | { external: string };

export class Policy {
  readonly problems: readonly Problem[];
  /** A mesh whose settings cannot be read may be set up in any way. */
  private readonly settingsProblems: readonly Problem[];
  private readonly network: NetworkLayer;
  private readonly istio: IstioPolicies;
  private readonly linkerd: LinkerdPolicies;
  private readonly consul: ConsulPolicies;
  private readonly segmentations: Segmentations;
  private readonly mesh: Mesh | "none" | null;
  private readonly meshed = new WeakMap<Holder, Meshed>();

  constructor(objects: readonly ClusterObject[], options: PolicyOptions = {}) {
    this.problems = options.problems ?? [];
    this.settingsProblems = findSettingsProblems(objects);
    this.mesh = options.mesh ?? null;
    this.network = new NetworkLayer(objects, findFaults, options.podsInBlocks ?? "undecidable");
    this.istio = new IstioPolicies(objects, findFaults);
    this.linkerd = new LinkerdPolicies(objects, findFaults);
    this.consul = new ConsulPolicies(objects, findFaults);
    this.segmentations = new Segmentations(objects, findFaults);
  }

  /**
   * What is required of a connection that starts at `atMs`. `port` is the container's, after
   * Service translation. A Service as server is undecidable: resolve it first. `wire` is what the
   * connection showed, null where that is not known: without mutual TLS it showed no identity, and
   * rules that go by identity match it as such (Istio bulletin 2021-004).
   */
  expect(
    from: End,
    to: End,
    port: number,
    carrier: Carrier,
    atMs: number,
    wire: Posture | null = null,
  ): Expectation {
    const client = "external" in from ? toExternal(from.external) : from;
    const server = "external" in to ? toExternal(to.external) : to;
    const say = carrier === "TCP" ? this.sayOfMesh(client, server, port, wire) : null;
    const decision = combine([
      this.overNetwork(client, server, carrier, port, say?.carried ?? null),
      ...(say === null ? [] : [say.decision]),
      ...this.segmentations.decide(client, server, carrier, port, atMs),
    ]);
    const transport = this.transport(client, server, port, carrier, say);
    return {
      path: server.kind === "service" ? "undecidable" : decision.path,
      ...transport,
      pathBecause: decision.because,
      doubts: this.doubtsOf(client, server),
    };
  }

  /**
   * What the network says of the port, and of those to which the client's mesh may bring the
   * connection in its stead. Who asks about a port does not tell whether the mesh carries what goes
   * there: where they differ it is undecidable, until the wire shows that nothing carries it.
   */
  private overNetwork(
    client: Holder,
    server: Holder,
    carrier: Carrier,
    port: number,
    carried: Carried | null,
  ): Decision {
    const own = this.network.decide(client, server, carrier, port);
    if (carried === null || server.object === null) return own;
    const others = carried.ports
      .filter((other) => other !== port)
      .map((other) => ({ other, decision: this.network.decide(client, server, carrier, other) }));
    const differing = others.filter(({ decision }) => isClosed(decision) !== isClosed(own));
    if (differing.length === 0) return own;
    const told = differing.map(({ other, decision }) => {
      const sentence =
        `undecidable: ${carried.by} brings it to port ${other} of ${formatHolder(server)}, which ` +
        `is ${decision.path} by the network; port ${port} itself is ${own.path}`;
      return toBecause(server.object!, `port ${other}`, sentence);
    });
    const reasons = [...differing.map(({ decision }) => decision), own];
    const because = [...told, ...combine(reasons).because];
    return { path: "undecidable", because };
  }

  /** Ports to which the client's mesh may bring a TCP connection in the stead of this one. */
  carriedOn(client: Holder, server: Holder, port: number): readonly number[] {
    return this.sayOfMesh(client, server, port, null)?.carried?.ports ?? [];
  }

  /** The port on which the server's mesh takes connections to any other; null where it has none. */
  tunnelPortOf(server: Holder): number | null {
    const { mesh } = this.meshedOf(server);
    if (mesh === "linkerd") return this.linkerd.tunnelPortOf(server);
    return mesh === "ambient" ? HBONE_PORT : null;
  }

  /** All that the NetworkPolicy family lets a pair use, as far as it is certain. */
  permit(client: Holder, server: Holder): PortSet {
    return this.network.permit(client, server);
  }

  zonesOf(holder: Holder): Zone[] {
    return this.segmentations.zonesOf(holder);
  }

  actorOf(holder: Holder): Actor | null {
    return this.segmentations.actorOf(holder);
  }

  /** Whether a workload counts as meshed, and why. */
  meshedOf(holder: Holder): Meshed {
    const known = this.meshed.get(holder);
    if (known !== undefined) return known;
    const meshed = this.judgeMeshed(holder);
    this.meshed.set(holder, meshed);
    return meshed;
  }

  private judgeMeshed(holder: Holder): Meshed {
    if (this.mesh !== null && holder.kind === "pod") {
      const mesh = this.mesh === "none" ? null : this.mesh;
      return { mesh, certain: true, sentence: `the mesh is given as ${this.mesh}` };
    }
    const shown = readMeshed(holder);
    if (shown.certain) return shown;
    for (const [mesh, name, policies] of this.selectors) {
      if (!policies.isSelected(holder)) continue;
      const sentence = `a policy of ${name} selects it, and nothing says that it is not meshed`;
      return { mesh, certain: false, sentence };
    }
    return shown;
  }

  /** Whose policies show by selecting a pod that it is meshed. */
  private get selectors(): [Mesh, string, { isSelected(pod: Holder): boolean }][] {
    return [
      ["istio", "Istio", this.istio],
      ["linkerd", "Linkerd", this.linkerd],
      ["consul", "Consul", this.consul],
    ];
  }

  /** What the mesh of the server says; null where it is in none. */
  private sayOfMesh(
    client: Holder,
    server: Holder,
    port: number,
    wire: Posture | null,
  ): MeshSay | null {
    const { mesh } = this.meshedOf(server);
    if (mesh === null) return null;
    const shown = wire === null ? null : wire === "mtls";
    if (mesh === "istio" || mesh === "ambient") {
      return this.istio.judge(client, this.istioMeshOf(client), server, mesh, port, shown);
    }
    const isMeshed = shown === false ? false : this.isIn(client, mesh);
    return this[mesh].judge(client, isMeshed, server, port);
  }

  /** Which of Istio's an end is in, null for neither; undefined where nothing shows it. */
  private istioMeshOf(holder: Holder): IstioMesh | null | undefined {
    const { mesh, certain } = this.meshedOf(holder);
    if (mesh === "istio" || mesh === "ambient") return mesh;
    return mesh === null && holder.kind === "pod" && !certain ? undefined : null;
  }

  /** Whether an end is in the mesh; null where nothing shows it. */
  private isIn(holder: Holder, mesh: Mesh): Ternary {
    const found = this.meshedOf(holder);
    if (found.mesh === mesh) return true;
    return found.mesh === null && holder.kind === "pod" && !found.certain ? null : false;
  }

  private transport(
    client: Holder,
    server: Holder,
    port: number,
    carrier: Carrier,
    say: MeshSay | null,
  ): Pick<Expectation, "transport" | "transportBecause" | "sends"> {
    const transport = say?.transport ?? UNKNOWN_TRANSPORT;
    const meshed = toMeshBecause(server, this.meshedOf(server));
    const outside = say === null && carrier === "TCP" ? this.sends(client, server, port) : null;
    const told = say?.transportBecause ?? outside?.transportBecause ?? [];
    const because = [...told, ...meshed];
    const zoned = this.segmentations.transport(client, server, carrier, port);
    const required = stricter(transport.required, zoned.required);
    return {
      transport: {
        ...{ ...transport, required, minVersion: newer(zoned.minVersion, say?.minVersion) },
        ...(zoned.crypto.length > 0 ? { crypto: zoned.crypto } : {}),
      },
      transportBecause:
        required === transport.required && required !== zoned.required
          ? [...because, ...zoned.because]
          : [...zoned.because, ...because],
      // A client that only a policy shows to be meshed may run without a proxy.
      sends: outside?.sends ?? (this.meshedOf(client).certain ? (say?.sends ?? null) : null),
    };
  }

  /** What a sidecar is told to send to a pod that has no proxy; null where nothing tells it. */
  sends(client: Holder, server: Holder, port: number) {
    const { mesh, certain } = this.meshedOf(client);
    const isOutside = server.kind === "pod" && this.meshedOf(server).mesh === null;
    if (mesh !== "istio" || !certain || !isOutside) return null;
    return this.istio.sendsOutside(client, server, port);
  }

  private doubtsOf(client: Holder, server: Holder): Problem[] {
    return [...this.problems, ...this.settingsProblems].filter(
      ({ namespaces }) =>
        namespaces === "all" ||
        namespaces.includes(client.namespace) ||
        namespaces.includes(server.namespace),
    );
  }
}

/** Whether a decision may keep a connection from coming about, and how surely. */
function isClosed({ path }: Decision): Ternary {
  return path === "denied" ? true : path === "undecidable" ? null : false;
}

function findSettingsProblems(objects: readonly ClusterObject[]): Problem[] {
  const settings = PLANES.flatMap((plane) => settingsOf(plane, objects) ?? []);
  const faults = settings.flatMap((object) => findFaults(object).map((f) => toProblem(object, f)));
  const doubts = doubtfulPlanes(objects).map(({ title }): Problem => {
    const reason = `several namespaces show a control plane of ${title}: whose settings hold`;
    const where = { file: "cluster", line: 1, column: 1 };
    return { ...where, kind: "ConfigMap", name: null, namespaces: "all", reason };
  });
  return [...faults, ...doubts];
}

function toProblem({ kind, name, source }: ClusterObject, fault: Fault): Problem {
  const where = { file: source?.file ?? "cluster", line: source?.line ?? 1, column: 1 };
  const reason = `${formatPath(fault.path)}: ${fault.reason}`;
  return { ...where, kind, name, namespaces: "all", reason };
}

/** What the server does with a posture on the wire; null where it cannot be told. */
export function judgeWire({ transport }: Expectation, wire: Posture): boolean | null {
  if (transport.accepts.includes(wire)) return true;
  return transport.refuses.includes(wire) ? false : null;
}

/** The newer of two TLS versions, each perhaps null. */
function newer(a: string | null, b: string | null | undefined): string | null {
  if (a === null || !b) return a ?? b ?? null;
  return a > b ? a : b; // `TLSv1.2` < `TLSv1.3`
}

function toMeshBecause(server: Holder, meshed: Meshed): Because[] {
  if (server.object === null) return [];
  const is = meshed.mesh === null ? "is not meshed" : `is meshed (${meshed.mesh})`;
  const sentence = `${formatHolder(server)} ${is}: ${meshed.sentence}`;
  return [toBecause(server.object, "metadata, spec", sentence)];
}
