/** Tells what the listeners of Istio's gateways take: Istio's own Gateway, or Kubernetes'. */
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../../attribution/holder.ts";
import { hasLabels } from "../../../attribution/selector.ts";
import { formatObject, toBecause, UNDECLARED } from "../../decision/because.ts";
import { ANY_TRANSPORT, byMesh, UNKNOWN_TRANSPORT, type MeshSay } from "../mesh-say.ts";
import type { ServiceTargets } from "../service-target.ts";

/** Istio's own gateway charts name their proxy's container so, and run no other beside it. */
const PROXY = "istio-proxy";
const GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name";
const VERSIONS: Readonly<Record<string, string>> = {
  TLSV1_0: "TLSv1.0",
  TLSV1_1: "TLSv1.1",
  TLSV1_2: "TLSv1.2",
  TLSV1_3: "TLSv1.3",
};

/** One server of a gateway: what it says of TLS, and where it says so. */
type Server = { object: ClusterObject; rule: string; mode: string; minVersion: string | null };

export class Gateways {
  private readonly gateways: readonly ClusterObject[];
  private readonly targets: ServiceTargets;

  constructor(objects: readonly ClusterObject[], targets: ServiceTargets) {
    this.targets = targets;
    this.gateways = objects.filter(
      ({ kind, apiVersion }) =>
        kind === "Gateway" &&
        /^(networking\.istio\.io|gateway\.networking\.k8s\.io)\//.test(apiVersion),
    );
  }

  /** Reports whether a pod is a proxy that serves gateways: PeerAuthentication is not for it. */
  isGateway(pod: Holder): boolean {
    if (pod.kind !== "pod") return false;
    if (pod.containers.length > 0 && pod.containers.every((name) => name === PROXY)) return true;
    // Charts are often rendered without the proxy, which the injector puts in (template `gateway`).
    if (pod.annotations["inject.istio.io/templates"]?.split(",").includes("gateway")) return true;
    return GATEWAY_NAME in pod.labels;
  }

  /**
   * What a gateway's listener takes. A port that no declared Gateway names is open to nobody or to
   * what is not declared: nothing is said of it. Gateways that disagree about a port leave it open.
   */
  judge(pod: Holder, port: number, trustDomain: string | null): MeshSay {
    const servers = this.gateways.flatMap((object) => this.serversOf(object, pod, port));
    const says = servers.map((server) => this.toSay(server, pod, trustDomain));
    const [first] = says;
    if (first === undefined) {
      return { decision: UNDECLARED, transport: UNKNOWN_TRANSPORT, transportBecause: [] };
    }
    const transportBecause = says.flatMap((say) => say.transportBecause);
    const isOne = says.every(
      (say) => JSON.stringify(say.transport) === JSON.stringify(first.transport),
    );
    const transport = isOne ? first.transport : UNKNOWN_TRANSPORT;
    const versions = new Set(says.map((say) => say.minVersion));
    const minVersion = versions.size === 1 ? first.minVersion! : null;
    return { decision: UNDECLARED, transport, transportBecause, minVersion };
  }

  private toSay(
    { object, rule, mode, minVersion }: Server,
    pod: Holder,
    trustDomain: string | null,
  ): MeshSay {
    const sentence = `${formatObject(object)}: TLS is ${mode} on this port of ${formatHolder(pod)}`;
    const transportBecause = [toBecause(object, rule, sentence)];
    // With MUTUAL the operator's own CA is asked for.
    const transport =
      mode === "ISTIO_MUTUAL" ? byMesh(toTransport(mode), "istio", trustDomain) : toTransport(mode);
    return { decision: UNDECLARED, transport, transportBecause, minVersion };
  }

  private serversOf(gateway: ClusterObject, pod: Holder, port: number): Server[] {
    const isIstio = gateway.apiVersion.startsWith("networking.istio.io/");
    if (isIstio ? !isSelected(gateway, pod) : !isOf(gateway, pod)) return [];
    const field = isIstio ? "servers" : "listeners";
    return listAt(gateway.body, "spec", field).flatMap((server, at) => {
      const number = isIstio ? valueAt(server, "port", "number") : valueAt(server, "port");
      if (typeof number !== "number") return [];
      // The number is the Service's; where no Service has it, the proxy listens there itself.
      const offer = this.targets.offersOf(pod).find((known) => known.port === number);
      if ((offer?.target ?? number) !== port) return [];
      const mode = isIstio ? modeOfServer(server) : modeOfListener(server, gateway, number);
      const version = textAt(server, "tls", "minProtocolVersion") ?? "";
      const minVersion = VERSIONS[version] ?? null;
      return [{ object: gateway, rule: `spec.${field}[${at}].tls`, mode, minVersion }];
    });
  }
}

/** `selector` finds pods in every namespace (unless istiod is told to stay in the Gateway's). */
function isSelected({ body }: ClusterObject, pod: Holder): boolean {
  return hasLabels(pod.labels, labelsAt(body, "spec", "selector"));
}

function isOf({ namespace, name }: ClusterObject, pod: Holder): boolean {
  return pod.namespace === namespace && pod.labels[GATEWAY_NAME] === name;
}

function modeOfServer(server: Json): string {
  if (textAt(server, "tls", "httpsRedirect") !== null) return "none";
  const mode = textAt(server, "tls", "mode");
  if (mode !== null) return mode;
  return /^(HTTPS|TLS)$/i.test(textAt(server, "port", "protocol") ?? "")
    ? "PASSTHROUGH" // the first value of the enumeration
    : "none";
}

/**
 * A waypoint's listener is HBONE. Whom a listener asks for a certificate stands with it, or since
 * Gateway API 1.4 with the whole Gateway (`spec.tls.frontend`), by port or for all of them.
 */
function modeOfListener(listener: Json, { body }: ClusterObject, port: number): string {
  const protocol = textAt(listener, "protocol");
  if (protocol === "HBONE") return "ISTIO_MUTUAL";
  if (protocol !== "HTTPS" && protocol !== "TLS") return "none";
  if (textAt(listener, "tls", "mode") === "Passthrough") return "PASSTHROUGH";
  const option = textAt(listener, "tls", "options", "gateway.istio.io/tls-terminate-mode");
  if (option === "MUTUAL" || option === "ISTIO_MUTUAL") return option;
  const frontend = valueAt(body, "spec", "tls", "frontend");
  const ofPort = listAt(frontend, "perPort").find((one) => valueAt(one, "port") === port);
  const validation =
    valueAt(listener, "tls", "frontendValidation") ??
    (ofPort === undefined
      ? valueAt(frontend, "default", "validation")
      : valueAt(ofPort, "tls", "validation"));
  if (!isMap(validation)) return "SIMPLE";
  return textAt(validation, "mode") === "AllowInsecureFallback" ? "OPTIONAL_MUTUAL" : "MUTUAL";
}

/** What a listener with this mode does (istio.io/api networking/v1 ServerTLSSettings.TLSmode). */
export function toTransport(mode: string): MeshSay["transport"] {
  switch (mode) {
    case "SIMPLE": // no certificate is asked for: no handshake is mutual
      return { required: "tls", accepts: ["tls"], refuses: ["plaintext", "mtls"] };
    case "MUTUAL":
    case "ISTIO_MUTUAL":
      return { required: "mtls", accepts: ["mtls"], refuses: ["plaintext", "tls"] };
    case "OPTIONAL_MUTUAL":
      return { required: "tls", accepts: ["tls", "mtls"], refuses: ["plaintext"] };
    case "PASSTHROUGH":
    case "AUTO_PASSTHROUGH":
      // By name only: what is behind it decides whom it takes.
      return { required: "tls", accepts: [], refuses: ["plaintext"] };
    case "none":
      return ANY_TRANSPORT;
    default:
      return UNKNOWN_TRANSPORT;
  }
}
