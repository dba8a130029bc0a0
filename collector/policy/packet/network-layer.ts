/**
 * Judges pairs of ends by the NetworkPolicy family: admin tier, NetworkPolicy with Cilium's
 * policies, baseline tier; where Calico's policies are declared, by its tiers, of which these are
 * some.
 */
import { textAt, type ClusterObject } from "../../attribution/cluster-object.ts";
import { hasOwnNetwork, type Holder, type Transport } from "../../attribution/holder.ts";
import { AdminNetworkPolicies, toDecision, type Ways } from "./admin-network-policy.ts";
import { combine, UNDECLARED, type Decision } from "../decision/because.ts";
import { CalicoPolicies, hasCalico } from "./calico/calico.ts";
import { CiliumPolicies, hasCilium } from "./cilium/cilium.ts";
import { readSettings } from "./cilium/settings.ts";
import { NetworkPolicies, type Connection, type Direction } from "./network-policy.ts";
import { BY_ADDRESS, type InBlocks, type PodsInBlocks } from "./peer.ts";
import { EVERYTHING, intersect, subtract, union, type PortSet } from "./port-set.ts";
import type { Fault } from "../manifest/problem.ts";

export class NetworkLayer {
  private readonly admin: AdminNetworkPolicies;
  private readonly policies: NetworkPolicies;
  private readonly cilium: CiliumPolicies;
  private readonly baseline: AdminNetworkPolicies;
  /** Null where nothing of Calico's is declared. */
  private readonly calico: CalicoPolicies | null;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    podsInBlocks: PodsInBlocks,
  ) {
    const isCalico = hasCalico(objects);
    const inBlocks = readInBlocks(objects, isCalico, podsInBlocks);
    const group = (kind: string, version: string) =>
      objects.filter((o) => o.kind === kind && o.apiVersion.startsWith(version));
    const nodes = objects.filter((o) => o.kind === "Node" && o.apiVersion === "v1");
    const tier = (kind: string, name: string) => {
      const version = "policy.networking.k8s.io/";
      const cluster = group("ClusterNetworkPolicy", version).filter((object) => {
        const found = textAt(object.body, "spec", "tier");
        // One that names no tier may be of either.
        return found === name || (found !== "Admin" && found !== "Baseline");
      });
      const policies = [...group(kind, version), ...cluster];
      return new AdminNetworkPolicies(policies, faultsOf, nodes, podsInBlocks);
    };
    this.admin = tier("AdminNetworkPolicy", "Admin");
    const policies = (some: readonly ClusterObject[]) =>
      new NetworkPolicies(some, faultsOf, inBlocks);
    this.policies = policies(group("NetworkPolicy", "networking.k8s.io/"));
    this.cilium = new CiliumPolicies(objects, faultsOf);
    this.baseline = tier("BaselineAdminNetworkPolicy", "Baseline");
    const { admin, baseline } = this;
    this.calico = isCalico
      ? new CalicoPolicies(objects, faultsOf, { admin, baseline, policies })
      : null;
  }

  /** A connection needs the client's egress and the server's ingress; replies are implied. */
  decide(client: Holder, server: Holder, transport: Transport, port: number): Decision {
    if (isExempt(client, server)) {
      // Cilium alone may deny what comes from the pod's own node.
      if (client.kind !== "node" || !hasOwnNetwork(server)) return UNDECLARED;
      return this.cilium.decideLocal(client, server, transport, port);
    }
    return combine([
      this.decideOne({ direction: "egress", pod: client, other: server, transport, port }),
      this.decideOne({ direction: "ingress", pod: server, other: client, transport, port }),
    ]);
  }

  /** All that a pair may use, as far as it is certain. */
  permit(client: Holder, server: Holder): PortSet {
    if (isExempt(client, server)) {
      return client.kind === "pod"
        ? EVERYTHING
        : this.cilium.permit("ingress", server, client, NO_POLICY).ports;
    }
    return intersect(
      this.permitOne("egress", client, server),
      this.permitOne("ingress", server, client),
    );
  }

  private decideOne(connection: Connection): Decision {
    if (this.calico !== null) {
      const decided = this.calico.decide(connection);
      // Both in one folder: which plugin runs is not known, and the graver one counts.
      const also = this.cilium.decide(connection, UNDECLARED);
      return also.path === "undeclared" ? decided : combine([decided, also]);
    }
    const admin = this.admin.follow(connection);
    if (!admin.paths.has("undeclared")) return toDecision(admin);
    const kubernetes = this.policies.decide(connection);
    const decided = this.cilium.decide(connection, kubernetes);
    if (decided.path !== "undeclared") {
      return toDecision(follows(admin, { ...decided, paths: new Set([decided.path]) }));
    }
    return toDecision(follows(admin, this.baseline.follow(connection)));
  }

  private permitOne(direction: Direction, pod: Holder, other: Holder): PortSet {
    if (this.calico !== null) {
      const also = this.cilium.permit(direction, pod, other, NO_POLICY);
      return intersect(this.calico.permit(direction, pod, other), also.ports);
    }
    const admin = this.admin.permit(direction, pod, other);
    const kubernetes = this.policies.permit(direction, pod, other);
    const permit = this.cilium.permit(direction, pod, other, kubernetes);
    let rest = permit.ports;
    if (!permit.selected) {
      const { denied } = this.baseline.permit(direction, pod, other);
      rest = union(permit.chosen, subtract(rest, denied));
    }
    return union(admin.allowed, subtract(rest, admin.denied));
  }
}

/** `given` is what holds whichever plugin runs; undecidable where the plugin is to tell. */
function readInBlocks(
  objects: readonly ClusterObject[],
  isCalico: boolean,
  given: PodsInBlocks,
): InBlocks {
  if (given === "match" || given === "outside") return { ...BY_ADDRESS, pods: given };
  const isCilium = hasCilium(objects);
  const unknown = { pods: given, nodes: "undecidable" } as const;
  if (given === "never" || isCalico === isCilium) return unknown;
  // A range becomes Calico's `nets` (conversion.go k8sPeerToCalicoFields).
  if (isCalico) return BY_ADDRESS;
  const { cidrMatchesPods, cidrMatchesNodes } = readSettings(objects);
  const meaning = (matches: boolean) => (matches ? "match" : "never");
  return { pods: meaning(cidrMatchesPods), nodes: meaning(cidrMatchesNodes) };
}

const NO_POLICY = { selected: false, ports: EVERYTHING };

/** The ways through a tier, and those through the next for what it passes on. */
function follows(first: Ways, next: Pick<Ways, "paths"> & Pick<Decision, "because">): Ways {
  if (first.paths.size === 1) return { paths: next.paths, because: [...next.because] };
  const ends = [...first.paths].filter((path) => path !== "undeclared");
  const because = [...first.because, ...next.because];
  return { paths: new Set([...ends, ...next.paths]), because };
}

/** A node reaches the pods that run on it, and a pod itself, whatever is declared. */
function isExempt(client: Holder, server: Holder): boolean {
  if (client.kind === "pod" && server.kind === "pod" && client.addresses.length > 0) {
    return client.name === server.name && client.namespace === server.namespace;
  }
  return client.kind === "node" && client.node !== null && client.node === server.node;
}
