/** Finds the Server that speaks for a pod's port (`reindex_servers` of inbound/index.rs). */
import { textAt, valueAt, type ClusterObject } from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { readSelector, selects, type Selector } from "../../../attribution/selector.ts";
import { byAge } from "../../decision/because.ts";
import type { Fault } from "../../manifest/problem.ts";

/** How the proxy reads what comes in; null where it cannot be told. */
export type ProxyProtocol = "detect" | "http1" | "http2" | "opaque" | "tls" | null;

export type Server = {
  object: ClusterObject;
  /** Null for one that selects no pods. */
  selector: Selector | null;
  port: number | string;
  protocol: ProxyProtocol;
  accessPolicy: string | null;
  fault: Fault | null;
};

const PROTOCOLS: Readonly<Record<string, ProxyProtocol>> = {
  unknown: "detect",
  "HTTP/1": "http1",
  "HTTP/2": "http2",
  gRPC: "http2",
  opaque: "opaque",
  TLS: "tls",
};

export class Servers {
  private readonly byNamespace: ReadonlyMap<string, Server[]>;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    const found = objects.filter(
      (o) => o.kind === "Server" && o.apiVersion.startsWith("policy.linkerd.io/"),
    );
    const servers = found.sort(byAge).map((o) => compile(o, faultsOf(o)[0] ?? null));
    this.byNamespace = Map.groupBy(servers, ({ object }) => object.namespace);
  }

  /** Servers that select the pod, the oldest first; one that is not valid may select any. */
  selecting(pod: Holder): Server[] {
    if (pod.kind !== "pod") return [];
    const own = this.byNamespace.get(pod.namespace) ?? [];
    return own.filter(({ selector }) => selector !== null && selects(selector, pod.labels));
  }

  /** The oldest that selects the pod and the port; a Server that is not valid may be any's. */
  at(pod: Holder, port: number): Server | null {
    return this.selecting(pod).find((server) => hasPort(server, pod, port)) ?? null;
  }
}

function hasPort(server: Server, pod: Holder, port: number): boolean {
  const [, field] = server.fault?.path ?? [];
  if (server.fault !== null && (field === undefined || field === "port")) return true;
  if (typeof server.port === "number") return server.port === port;
  // One name may stand for a port in each container.
  return pod.ports.some((p) => p.name === server.port && p.transport === "TCP" && p.port === port);
}

function compile(object: ClusterObject, fault: Fault | null): Server {
  const spec = valueAt(object.body, "spec");
  const port = valueAt(spec, "port");
  const pods = valueAt(spec, "podSelector");
  const isBlind =
    fault !== null && (fault.path[1] === undefined || fault.path[1] === "podSelector");
  return {
    object,
    selector: isBlind ? [] : pods === undefined || pods === null ? null : readSelector(pods),
    port: typeof port === "number" || typeof port === "string" ? port : "",
    protocol: PROTOCOLS[textAt(spec, "proxyProtocol") ?? "unknown"] ?? null,
    accessPolicy: textAt(spec, "accessPolicy"),
    fault,
  };
}
