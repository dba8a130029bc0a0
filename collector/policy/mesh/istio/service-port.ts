/** Tells which protocol Istio takes a pod's port to speak, by its Services and ServiceEntries. */
import {
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { hasLabels } from "../../../attribution/selector.ts";
import { or, type Ternary } from "../../decision/ternary.ts";
import type { ServiceTargets } from "../service-target.ts";

/**
 * `unknown`: no Service has the port, or none says; Istio then looks at the bytes. `undecidable`:
 * a Service that may have the port cannot be told from one that has not.
 */
export type ListenerProtocol = "http" | "tcp" | "unknown" | "undecidable";

const HTTP = new Set(["http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c", "h2c"]);
const TCP = new Set(["tcp", "tls", "https", "mongo", "redis", "mysql", "mongodb"]);

export class ServicePorts {
  private readonly targets: ServiceTargets;
  private readonly entries: ReadonlyMap<string, ClusterObject[]>;

  constructor(objects: readonly ClusterObject[], targets: ServiceTargets) {
    this.targets = targets;
    const found = objects.filter(({ kind }) => kind === "ServiceEntry");
    this.entries = Map.groupBy(found, ({ namespace }) => namespace);
  }

  /** Of Services that disagree the oldest counts, and which that is manifests seldom tell. */
  protocolOf(pod: Holder, port: number): ListenerProtocol {
    const found = this.protocolsOf(pod, port);
    if (found.has("undecidable") || (found.size > 1 && found.has("http"))) return "undecidable";
    return found.size === 1 ? [...found][0]! : "unknown";
  }

  /** Reports whether a Service, or a ServiceEntry, leads to the port. */
  isKnown(pod: Holder, port: number): boolean {
    return this.protocolsOf(pod, port).size > 0;
  }

  private protocolsOf(pod: Holder, port: number): Set<ListenerProtocol> {
    const found = new Set<ListenerProtocol>();
    for (const { name, appProtocol } of this.targets.offersAt(pod, port)) {
      found.add(toListener(appProtocol ?? name ?? ""));
    }
    for (const entry of this.entries.get(pod.namespace) ?? []) {
      const protocol = ofEntry(entry, pod, port);
      if (protocol !== null) found.add(protocol);
    }
    return found;
  }
}

function ofEntry(entry: ClusterObject, pod: Holder, port: number): ListenerProtocol | null {
  const selector = labelsAt(entry.body, "spec", "workloadSelector", "labels");
  const isSelected = or([
    Object.keys(selector).length > 0 && hasLabels(pod.labels, selector),
    ...listAt(entry.body, "spec", "endpoints").map((endpoint) => isEndpoint(endpoint, pod)),
  ]);
  if (isSelected === false) return null;
  for (const entryPort of listAt(entry.body, "spec", "ports")) {
    const number = valueAt(entryPort, "targetPort") ?? valueAt(entryPort, "number");
    if (number !== port) continue;
    const listener = toListener(textAt(entryPort, "protocol") ?? "");
    if (isSelected === true) return listener;
    return listener === "http" ? "undecidable" : "unknown"; // only HTTP is taken otherwise
  }
  return null;
}

/** Null for an endpoint by its address, where the pod's is not known. */
function isEndpoint(endpoint: Json, pod: Holder): Ternary {
  const address = textAt(endpoint, "address");
  if (address === null || pod.addresses.length > 0) return pod.addresses.includes(address ?? "");
  return hasLabels(pod.labels, labelsAt(endpoint, "labels")) ? null : false;
}

/** `http-web`, `grpc`: the protocol is what stands before the first dash. */
export function toListener(text: string): ListenerProtocol {
  const lower = text.toLowerCase();
  const word = lower.startsWith("grpc-web") ? "grpc-web" : lower.split("-")[0]!;
  if (HTTP.has(lower) || HTTP.has(word)) return "http";
  return TCP.has(word) ? "tcp" : "unknown";
}
