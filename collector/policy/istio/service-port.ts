/** Tells which protocol Istio takes a pod's port to speak: by Service, ServiceEntry or Sidecar. */
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import { namedPort, toServiceHolder, type Holder } from "../../attribution/holder.ts";
import { readLabelMap, selects } from "../../attribution/selector.ts";

/** `unknown`: no Service has the port, or none says; Istio then looks at the bytes. */
export type ListenerProtocol = "http" | "tcp" | "unknown";

const HTTP = new Set(["http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c", "h2c"]);
const TCP = new Set(["tcp", "tls", "https", "mongo", "redis", "mysql", "mongodb"]);

export class ServicePorts {
  private readonly byNamespace = new Map<string, ClusterObject[]>();

  constructor(objects: readonly ClusterObject[]) {
    for (const object of objects) {
      if (object.kind !== "Service" && object.kind !== "ServiceEntry") continue;
      const known = this.byNamespace.get(object.namespace);
      if (known === undefined) this.byNamespace.set(object.namespace, [object]);
      else known.push(object);
    }
  }

  /** Services that disagree leave it unknown. */
  protocolOf(pod: Holder, port: number): ListenerProtocol {
    const found = new Set<ListenerProtocol>();
    for (const object of this.byNamespace.get(pod.namespace) ?? []) {
      const protocol =
        object.kind === "Service" ? ofService(object, pod, port) : ofEntry(object, pod, port);
      if (protocol !== null) found.add(protocol);
    }
    return found.size === 1 ? [...found][0]! : "unknown";
  }
}

function ofService(service: ClusterObject, pod: Holder, port: number): ListenerProtocol | null {
  const selector = valueAt(service.body, "spec", "selector");
  if (!isMap(selector) || !selects(readLabelMap(labelsAt(selector)), pod.labels)) return null;
  const { ports } = toServiceHolder(service, [], { labels: {}, annotations: {} });
  for (const { target, transport, name, appProtocol } of ports) {
    if (transport !== "TCP") continue;
    const number = typeof target === "string" ? namedPort(pod, target, "TCP") : target;
    if (number === port) return toListener(appProtocol ?? name ?? "");
  }
  return null;
}

function ofEntry(entry: ClusterObject, pod: Holder, port: number): ListenerProtocol | null {
  const selector = labelsAt(entry.body, "spec", "workloadSelector", "labels");
  const isSelected =
    (Object.keys(selector).length > 0 && selects(readLabelMap(selector), pod.labels)) ||
    listAt(entry.body, "spec", "endpoints").some((endpoint) => isEndpoint(endpoint, pod));
  if (!isSelected) return null;
  for (const entryPort of listAt(entry.body, "spec", "ports")) {
    const number = valueAt(entryPort, "targetPort") ?? valueAt(entryPort, "number");
    if (number === port) return toListener((textAt(entryPort, "protocol") ?? "").toLowerCase());
  }
  return null;
}

function isEndpoint(endpoint: Json, pod: Holder): boolean {
  const address = textAt(endpoint, "address");
  return address !== null && pod.addresses.includes(address);
}

/** `http-web`, `grpc`: the protocol is what stands before the first dash. */
function toListener(text: string): ListenerProtocol {
  const lower = text.toLowerCase();
  const word = lower.startsWith("grpc-web") ? "grpc-web" : lower.split("-")[0]!;
  if (HTTP.has(lower) || HTTP.has(word)) return "http";
  return TCP.has(word) ? "tcp" : "unknown";
}
