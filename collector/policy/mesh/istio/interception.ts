/** Tells which connections never reach Istio's proxy of a pod, though the pod is in the mesh. */
import { formatHolder, type Holder } from "../../../attribution/holder.ts";
import { toBecause, UNDECLARED } from "../../decision/because.ts";
import { ANY_TRANSPORT, toUnknown, type MeshSay } from "../mesh-say.ts";

const TRAFFIC = "traffic.sidecar.istio.io/";
/** The proxy's own: metrics, health, Envoy's metrics (cni/pkg/plugin/sidecar_redirect.go). */
const OWN_PORTS: ReadonlySet<number> = new Set([15020, 15021, 15090]);
/** Where Istio's CNI lets the kubelet's probes come from (cni/pkg/nodeagent/options.go). */
const PROBES_FROM: ReadonlySet<string> = new Set([
  "169.254.7.127",
  "fd16:9254:7127:1337:ffff:ffff:ffff:ffff",
]);
/** Ambient's tunnel: HTTP CONNECT inside mutual TLS. */
export const HBONE_PORT = 15008;

/** What holds for a connection that a sidecar does not get; null where it gets it. */
export function judgePassedBy(server: Holder, port: number): MeshSay | null {
  const annotation = (name: string) => server.annotations[TRAFFIC + name];
  const mode = server.annotations["sidecar.istio.io/interceptionMode"];
  if (OWN_PORTS.has(port)) {
    return passedBy(server, "ports of istio-proxy", `port ${port} is the proxy's own`);
  }
  if (mode === "NONE") {
    const rule = "annotation sidecar.istio.io/interceptionMode";
    const sentence = `undecidable: nothing is redirected to the proxy of ${formatHolder(server)}`;
    return server.object === null ? null : toUnknown([toBecause(server.object, rule, sentence)]);
  }
  const included = annotation("includeInboundPorts");
  if (included !== undefined && !isAmong(included, port)) {
    const what = `port ${port} is not among those that the proxy gets`;
    return passedBy(server, `annotation ${TRAFFIC}includeInboundPorts`, what);
  }
  if (isAmong(annotation("excludeInboundPorts") ?? "", port)) {
    const what = `port ${port} is kept from the proxy`;
    return passedBy(server, `annotation ${TRAFFIC}excludeInboundPorts`, what);
  }
  return null;
}

/** What holds for the kubelet's probes in ambient; null for any other client. */
export function judgeProbe(client: Holder, server: Holder): MeshSay | null {
  if (client.kind !== "external" || !PROBES_FROM.has(client.name)) return null;
  const what = `${client.name} is where Istio's CNI makes the kubelet's probes come from`;
  return passedBy(server, "HOST_PROBE_SNAT_IP", what);
}

/** Reports whether the client's proxy does not get connections to one of these ports. */
export function leavesOut(client: Holder, ports: readonly number[]): boolean {
  const excluded = client.annotations[`${TRAFFIC}excludeOutboundPorts`] ?? "";
  const included = client.annotations[`${TRAFFIC}includeOutboundPorts`];
  return (
    ports.some((port) => isAmong(excluded, port)) ||
    (included !== undefined && !ports.some((port) => isAmong(included, port)))
  );
}

/** Reports whether annotations keep some addresses from the client's proxy: which, is not read. */
export function mayLeaveOut(client: Holder): boolean {
  const [excluded, included] = ["excludeOutboundIPRanges", "includeOutboundIPRanges"].map(
    (name) => client.annotations[TRAFFIC + name],
  );
  return (excluded ?? "") !== "" || (included ?? "*") !== "*";
}

function passedBy(server: Holder, rule: string, what: string): MeshSay {
  const sentence = `${formatHolder(server)}: ${what}: the program decides`;
  const because = server.object === null ? [] : [toBecause(server.object, rule, sentence)];
  return { decision: UNDECLARED, transport: ANY_TRANSPORT, transportBecause: because };
}

/** `80,443`, or `*` for every port. */
function isAmong(list: string, port: number): boolean {
  return list.split(",").some((entry) => entry.trim() === "*" || entry.trim() === String(port));
}
