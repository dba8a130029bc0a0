/** Judges connections to Istio's pods: sidecars, ambient, gateways (Istio 1.2x). */
import { textAt, type ClusterObject } from "../../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../../attribution/holder.ts";
import { formatObject, toBecause, type Decision } from "../../decision/because.ts";
import type { Because, Posture } from "../../expectation.ts";
import { byMesh, UNKNOWN_TRANSPORT, type MeshSay, type Transport } from "../mesh-say.ts";
import type { Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";
import { ServiceTargets } from "../service-target.ts";
import { AuthorizationPolicies } from "./authorization-policy.ts";
import { DestinationRules, type ClientRule } from "./destination-rule.ts";
import { Gateways, toTransport as toListenerTransport } from "./gateway.ts";
import { HBONE_PORT, judgePassedBy, judgeProbe, leavesOut, mayLeaveOut } from "./interception.ts";
import { readMeshConfig, type MeshConfig } from "./mesh-config.ts";
import { PeerAuthentications, toTransport, type Effective } from "./peer-authentication.ts";
import { ServicePorts, toListener, type ListenerProtocol } from "./service-port.ts";
import { Sidecars, type Ingress } from "./sidecar.ts";

export type IstioMesh = "istio" | "ambient";

export class IstioPolicies {
  private readonly config: MeshConfig;
  private readonly peerAuthentications: PeerAuthentications;
  private readonly authorizations: AuthorizationPolicies;
  private readonly targets: ServiceTargets;
  private readonly services: ServicePorts;
  private readonly sidecars: Sidecars;
  private readonly gateways: Gateways;
  private readonly destinationRules: DestinationRules;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    this.config = readMeshConfig(objects);
    const { rootNamespace } = this.config;
    this.peerAuthentications = new PeerAuthentications(objects, faultsOf, rootNamespace);
    this.authorizations = new AuthorizationPolicies(objects, faultsOf, rootNamespace);
    const targets = new ServiceTargets(objects);
    this.targets = targets;
    this.services = new ServicePorts(objects, targets);
    this.sidecars = new Sidecars(objects, rootNamespace);
    this.gateways = new Gateways(objects, targets);
    this.destinationRules = new DestinationRules(objects, targets, rootNamespace);
  }

  /** Reports whether any object selects the pod. */
  isSelected(pod: Holder): boolean {
    return this.peerAuthentications.isSelected(pod) || this.authorizations.isSelected(pod);
  }

  /**
   * What the server's proxy does with a TCP connection from `client`, whose own mesh is `from`:
   * null where it is in none of Istio's, undefined where nothing shows it.
   */
  judge(
    client: Holder,
    from: IstioMesh | null | undefined,
    server: Holder,
    mesh: IstioMesh,
    port: number,
    shown: Ternary = null,
  ): MeshSay {
    if (mesh === "istio" && this.gateways.isGateway(server)) {
      const say = this.gateways.judge(server, port, this.config.declaredTrustDomain);
      // What a gateway decides it decides by HTTP, or by the name that TLS asks for.
      const decision = this.decide(client, [false], server, mesh, port, "unknown");
      return { ...say, decision };
    }
    const passed = mesh === "istio" ? judgePassedBy(server, port) : judgeProbe(client, server);
    if (passed !== null) return passed;
    if (mesh === "ambient" && port === HBONE_PORT) return this.judgeTunnel(client, from, server);
    const effective = this.peerAuthentications.effective(server, port, mesh);
    const ingress = mesh === "istio" ? this.sidecars.ingressOf(server, port) : null;
    const listener = this.protocolOf(server, port, ingress);
    const rule = from === "istio" ? this.ruleFor(client, server, port) : null;
    const isOut = from === "istio" && this.isLeftOut(client, server, port);
    const isThrough = mesh === "ambient" && this.isBehindWaypoint(client, server, port);
    const isByName = this.isByName(client, server, port);
    const isSent = isByName && this.services.isKnown(server, port);
    const declared = () => identitiesOf(isOut ? null : from, mesh, effective, rule, isSent);
    const identities = isThrough ? [null] : shown === null ? declared() : [shown];
    const decision = this.decide(client, identities, server, mesh, port, listener);
    // ztunnel tunnels to its like however the pod is called; Envoy needs a Service to know it by.
    const isTold = from === "ambient" && mesh === "ambient" ? isByName : isSent;
    const sends = isTold ? sentBy(from, mesh, effective, rule) : null;
    const isOutside = shown === false || isOut || !mayTunnel(from, mesh, effective);
    const carried = isOutside ? null : { ports: [HBONE_PORT], by: "HBONE, ambient's tunnel," };
    const because = [...effective.because, ...(rule?.because ?? [])];
    if (effective.mode === null) {
      return { decision, transport: UNKNOWN_TRANSPORT, transportBecause: because, sends, carried };
    }
    const tls = ingress?.listener?.tlsMode ?? null;
    if (ingress !== null && tls !== null && effective.mode === "DISABLE") {
      // Under any other mode the mesh's own TLS counts (core/listener_inbound.go).
      const told = toOwnTls(ingress, tls, server);
      const transport = toListenerTransport(tls);
      return { decision, transport, transportBecause: [told, ...because], sends, carried };
    }
    const transport = this.byIstio(
      toTransport(effective.mode, mesh, listener, effective.isEnforced),
    );
    return { decision, transport, transportBecause: because, sends, carried };
  }

  /**
   * What a sidecar is told to send to a server that is in no mesh, by a DestinationRule; null where
   * none speaks of it.
   */
  sendsOutside(
    client: Holder,
    server: Holder,
    port: number,
  ): Required<Pick<MeshSay, "sends" | "transportBecause">> | null {
    const rule = this.destinationRules.modeFor(client, server, port);
    if (rule === null || rule.mode === null || this.isLeftOut(client, server, port)) return null;
    const isHopeless = rule.mode === "ISTIO_MUTUAL";
    const name = formatHolder(server);
    const transportBecause = rule.because.map((because) =>
      isHopeless
        ? {
            ...because,
            sentence: `fails: ${because.sentence}, and ${name} has no proxy to take it`,
          }
        : because,
    );
    return { sends: SENT[rule.mode], transportBecause };
  }

  private byIstio(transport: Transport): Transport {
    return byMesh(transport, "istio", this.config.declaredTrustDomain);
  }

  /** HBONE is mutual TLS whatever is declared; the port that it leads to is inside. */
  private judgeTunnel(client: Holder, from: IstioMesh | null | undefined, server: Holder): MeshSay {
    const identities = [from === undefined ? null : from !== null];
    const decision = this.decide(client, identities, server, "ambient", HBONE_PORT, "tcp");
    const sentence = `${formatHolder(server)}: port ${HBONE_PORT} is ztunnel's, and takes HBONE`;
    const { object } = server;
    const told = object === null ? [] : [toBecause(object, "port of ztunnel", sentence)];
    const transport = this.byIstio({
      required: "mtls",
      accepts: ["mtls"],
      refuses: ["plaintext", "tls"],
    });
    return { decision, transport, transportBecause: told, sends: from ? "mtls" : null };
  }

  /**
   * Whether the client's proxy knows the server by a Service with an address of its own. Without
   * one (headless, or straight to the pod) it hands on what the program sends, or not, by version.
   */
  private isByName(client: Holder, server: Holder, port: number): boolean {
    const offers = this.targets.offersAt(server, port);
    if (offers.some(({ service }) => textAt(service.body, "spec", "clusterIP") === "None")) {
      return false;
    }
    return !mayLeaveOut(client) && !this.isLeftOut(client, server, port);
  }

  /** What comes through a waypoint has the waypoint's identity, and is decided there by HTTP. */
  private isBehindWaypoint(client: Holder, server: Holder, port: number): boolean {
    if (this.gateways.isGateway(client)) return false;
    const label = "istio.io/use-waypoint";
    const offers = this.targets.offersAt(server, port);
    const labels = [server.labels, ...offers.map((o) => o.service.labels), server.namespaceLabels];
    const told = labels.map((found) => found[label]).find((name) => name !== undefined);
    return told !== undefined && told !== "none";
  }

  private isLeftOut(client: Holder, server: Holder, port: number): boolean {
    return leavesOut(client, [port, ...this.targets.portsTo(server, port)]);
  }

  private decide(
    client: Holder,
    identities: readonly Ternary[],
    server: Holder,
    mesh: IstioMesh,
    port: number,
    listener: ListenerProtocol,
  ): Decision {
    const { trustDomain } = this.config;
    const isTunnel = mesh === "ambient" && port === HBONE_PORT;
    const connection = { client, server, port, listener, trustDomain, isTunnel };
    return this.authorizations.decide(connection, identities, mesh);
  }

  /** A Sidecar's listeners stand for the Services' ports; what it leaves out is passed through. */
  private protocolOf(server: Holder, port: number, ingress: Ingress | null): ListenerProtocol {
    if (ingress === null) return this.services.protocolOf(server, port);
    return ingress.listener === null ? "unknown" : toListener(ingress.listener.protocol);
  }

  /** What the client's proxy is told to send; MeshConfig's default where no rule says it. */
  private ruleFor(client: Holder, server: Holder, port: number): ClientRule | null {
    const rule = this.destinationRules.modeFor(client, server, port);
    if (rule !== null || this.config.autoMtls) return rule;
    return { mode: "DISABLE", because: [] };
  }
}

const EITHER: readonly Ternary[] = [true, false];

/**
 * Whether the server will have read the client's own identity: true, false, or both where either
 * may be; null for one that may be another's. `isSent`: the client's proxy knows the server by a
 * Service; straight to the pod it adds nothing of its own.
 */
function identitiesOf(
  from: IstioMesh | null | undefined,
  mesh: IstioMesh,
  effective: Effective,
  rule: ClientRule | null,
  isSent: boolean,
): readonly Ternary[] {
  if (from === null) return [false];
  if (mesh === "istio" && effective.mode === "DISABLE") return [false];
  // Else it was not let in.
  if (effective.mode === "STRICT" && effective.isEnforced) return [true];
  if (from === undefined || effective.mode === null) return EITHER;
  if (mesh === "ambient") return from === "ambient" || isSent ? [true] : EITHER;
  if (from === "ambient") return EITHER; // HBONE, where the sidecar is set up to take it
  if (rule === null) return isSent ? [true] : EITHER;
  if (rule.mode === "ISTIO_MUTUAL") return [true];
  // With a certificate of its own, or by a subset that is not known, it may be anyone.
  return rule.mode === "DISABLE" || rule.mode === "SIMPLE" ? [false] : [null];
}

function toOwnTls({ object, listener }: Ingress, mode: string, server: Holder): Because {
  const rule = `spec.ingress[${listener!.at}].tls.mode`;
  const sentence = `${formatObject(object)}: ${formatHolder(server)} ends TLS itself: ${mode}`;
  return toBecause(object, rule, sentence);
}

/**
 * Whether ztunnel or Envoy may wrap the connection into HBONE, and so bring it to port 15008:
 * between ambient pods always ("will tunnel traffic between your pods over port 15008"), from and
 * to sidecars where they are set up for it (istio.io, ambient/usage/networkpolicy).
 */
function mayTunnel(
  from: IstioMesh | null | undefined,
  mesh: IstioMesh,
  { mode }: Effective,
): boolean {
  return mesh === "ambient" ? from !== null : from === "ambient" && mode !== "DISABLE";
}

/** What a client's proxy sends by a DestinationRule. */
const SENT = { ISTIO_MUTUAL: "mtls", MUTUAL: "mtls", SIMPLE: "tls", DISABLE: "plaintext" } as const;

/**
 * What a client's proxy sends when it is asked by the Service's name; null where unknown.
 * `plaintext`: the mesh adds no TLS to what the program sends.
 */
function sentBy(
  from: IstioMesh | null | undefined,
  mesh: IstioMesh,
  effective: Effective,
  rule: ClientRule | null,
): Posture | null {
  if (from === undefined || from === null) return null;
  if (mesh === "ambient") return "mtls"; // HBONE, from sidecars too
  if (from === "ambient") return effective.mode === "DISABLE" ? "plaintext" : null;
  if (rule !== null) return rule.mode === null ? null : SENT[rule.mode];
  if (effective.mode === null) return null;
  return effective.mode === "DISABLE" ? "plaintext" : "mtls";
}
