/** Tells which ports of which pods an Ingress or an OpenShift Route sends requests to. */
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import {
  namedPort,
  toServiceHolder,
  type Holder,
  type HolderPort,
} from "../../attribution/holder.ts";
import { hasLabels } from "../../attribution/selector.ts";
import { labelsAt } from "../../attribution/cluster-object.ts";
import { NOTHING, onePort, union, type PortSet } from "../packet/port-set.ts";

/** A Service and one of its ports, by number or name; null for all of them. */
type Backend = { namespace: string; service: string; port: number | string | null };

/** Ports of this pod that the backends lead to: TCP, and only those that its manifest names. */
export function backendPorts(
  pod: Holder,
  backends: readonly Backend[],
  services: ReadonlyMap<string, ClusterObject>,
): PortSet {
  let set = NOTHING;
  for (const backend of backends) {
    const service = services.get(`${backend.namespace}/${backend.service}`);
    if (service === undefined || service.namespace !== pod.namespace) continue;
    const selector = valueAt(service.body, "spec", "selector");
    if (!isMap(selector)) continue;
    if (!hasLabels(pod.labels, labelsAt(selector))) continue;
    for (const target of targetsOf(service, backend.port)) {
      const port = typeof target === "number" ? target : namedPort(pod, target, "TCP");
      const isListed = pod.ports.some((p) => p.port === port && p.transport === "TCP");
      if (port !== null && isListed) set = union(set, onePort("TCP", port, port));
    }
  }
  return set;
}

/** Every Service that an Ingress or Route of these names. */
export function listBackends(objects: readonly ClusterObject[]): Backend[] {
  return objects.flatMap((object) => {
    if (object.kind === "Ingress") return ingressBackends(object);
    if (object.kind === "Route") return routeBackends(object);
    return [];
  });
}

function ingressBackends({ namespace, body }: ClusterObject): Backend[] {
  const paths = listAt(body, "spec", "rules").flatMap((rule) => listAt(rule, "http", "paths"));
  const holders: (Json | undefined)[] = [
    valueAt(body, "spec", "defaultBackend"),
    ...paths.map((path) => valueAt(path, "backend")),
  ];
  return holders.flatMap((holder) => {
    const service = textAt(holder, "service", "name");
    if (service === null) return [];
    const number = valueAt(holder, "service", "port", "number");
    const name = textAt(holder, "service", "port", "name");
    return [{ namespace, service, port: name ?? (typeof number === "number" ? number : null) }];
  });
}

function routeBackends({ namespace, body }: ClusterObject): Backend[] {
  const target = valueAt(body, "spec", "port", "targetPort");
  const port = typeof target === "number" || typeof target === "string" ? target : null;
  const to = [valueAt(body, "spec", "to"), ...listAt(body, "spec", "alternateBackends")];
  return to.flatMap((backend) => {
    const service = textAt(backend, "name");
    if (service === null || (textAt(backend, "kind") ?? "Service") !== "Service") return [];
    return [{ namespace, service, port }];
  });
}

/** What the wanted port of a Service leads to on the pod; the first that fits, or all for null. */
function targetsOf(service: ClusterObject, wanted: number | string | null): (number | string)[] {
  const { ports } = toServiceHolder(service, [], { labels: {}, annotations: {} });
  const fits = (p: HolderPort) => p.name === wanted || p.port === wanted || p.target === wanted;
  const chosen = wanted === null ? ports : ports.filter(fits).slice(0, 1);
  return chosen.map((p) => p.target ?? p.port);
}
