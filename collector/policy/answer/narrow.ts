/** Takes away from a set of ports what the layers above the network deny. */
import type { ClusterObject } from "../../attribution/cluster-object.ts";
import type { Holder } from "../../attribution/holder.ts";
import type { Mesh } from "../mesh/meshed.ts";
import type { Policy } from "../policy.ts";
import { NOTHING, onePort, TRANSPORTS, union, type PortSet } from "../packet/port-set.ts";

const CUTTING = new Set([
  ...["AuthorizationPolicy", "Segmentation", "Service", "ServiceEntry", "Server"],
  ...["ServiceDefaults", "ProxyDefaults", "Sidecar", "Gateway"],
]);
type Span = readonly [first: number, last: number];
const only = (port: number): Span => [port, port];
/** Ports that mean something in a mesh though no object names them. */
const OWN_PORTS: Readonly<Record<Mesh, readonly Span[]>> = {
  istio: [15020, 15021, 15090].map(only),
  ambient: [15008].map(only),
  // Opaque, ignored, and the proxy's own by charts/linkerd-control-plane/values.yaml.
  linkerd: [25, 587, 3306, 4143, 4190, 4191, 4444, 4567, 4568, 5432, 6379, 9300, 11211].map(only),
  // Public, metrics', probes' and health (consul-k8s connect-inject/constants).
  consul: [
    ...[20200, 21000].map(only),
    ...[20000, 20300, 20400, 20500].map((first): Span => [first, first + 20]),
  ],
};
/** Annotations of pods and namespaces that name ports. */
const NAMING = /^(config\.linkerd\.io|consul\.hashicorp\.com|traffic\.sidecar\.istio\.io)\//;

/**
 * Every port at which a decision may change: all numbers that the deciding objects name, and the
 * ports after them. More than needed, so never too few.
 */
export function listCuts(objects: readonly ClusterObject[]): number[] {
  const cuts = new Set<number>([1]);
  for (const { kind, name, body } of objects) {
    const isSettings = kind === "ConfigMap" && name === "linkerd-config";
    if (!CUTTING.has(kind) && !isSettings) continue;
    const text = JSON.stringify(body[isSettings ? "data" : "spec"] ?? null);
    for (const cut of portsIn(text)) cuts.add(cut);
  }
  return [...cuts].sort((a, b) => a - b);
}

/** Every number in a text that may be a port, and the one after it. */
function portsIn(text: string): number[] {
  return [...text.matchAll(/\d+/g)].flatMap(([digits]) => {
    const port = Number(digits);
    return port >= 1 && port <= 65535 ? [port, port + 1] : [];
  });
}

/** What is left of `ports` when each piece between two cuts is judged by its first port. */
export function narrow(
  policy: Policy,
  cuts: readonly number[],
  client: Holder,
  server: Holder,
  ports: PortSet,
  atMs: number,
): PortSet {
  const { mesh } = policy.meshedOf(server);
  const implied = (mesh === null ? [] : OWN_PORTS[mesh]).flatMap(([first, last]) =>
    Array.from({ length: last - first + 2 }, (_, i) => first + i),
  );
  const own = [client, server].flatMap((end) => [
    ...end.ports.flatMap(({ port }) => [port, port + 1]),
    ...[end.annotations, end.namespaceAnnotations].flatMap((annotations) =>
      Object.entries(annotations).flatMap(([key, text]) => (NAMING.test(key) ? portsIn(text) : [])),
    ),
  ]);
  const all = [...new Set([...cuts, ...own, ...implied])].sort((a, b) => a - b);
  let left = NOTHING;
  for (const transport of TRANSPORTS) {
    for (const [first, last] of ports[transport]) {
      const starts = [first, ...all.filter((cut) => first < cut && cut <= last)];
      for (const [i, start] of starts.entries()) {
        const { path } = policy.expect(client, server, start, transport, atMs);
        const end = (starts[i + 1] ?? last + 1) - 1;
        if (path !== "denied") left = union(left, onePort(transport, start, end));
      }
    }
  }
  return left;
}
