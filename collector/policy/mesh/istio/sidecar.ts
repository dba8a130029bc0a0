/** Finds the inbound listeners that an Istio Sidecar sets for a pod. */
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { hasLabels } from "../../../attribution/selector.ts";
import { byAge } from "../../decision/because.ts";

/** One listener of `ingress`, or `listener: null` for a port that the Sidecar leaves out. */
export type Ingress = {
  object: ClusterObject;
  listener: { at: number; protocol: string; tlsMode: string | null } | null;
};

export class Sidecars {
  private readonly byNamespace: ReadonlyMap<string, ClusterObject[]>;
  private readonly rootNamespace: string;

  constructor(objects: readonly ClusterObject[], rootNamespace: string) {
    this.rootNamespace = rootNamespace;
    const found = objects.filter(
      (o) => o.kind === "Sidecar" && o.apiVersion.startsWith("networking.istio.io/"),
    );
    this.byNamespace = Map.groupBy(found.sort(byAge), ({ namespace }) => namespace);
  }

  /**
   * What the pod's Sidecar says of a port; null where none of them sets inbound listeners. One that
   * selects the pod counts before its namespace's, and that before the root namespace's
   * (pilot/pkg/model/push_context.go, getSidecarScope).
   */
  ingressOf(pod: Holder, port: number): Ingress | null {
    const object = this.sidecarOf(pod);
    if (object === null) return null;
    const listeners = listAt(object.body, "spec", "ingress");
    if (listeners.length === 0) return null;
    const at = listeners.findIndex((listener) => valueAt(listener, "port", "number") === port);
    if (at < 0) return { object, listener: null };
    const protocol = textAt(listeners[at], "port", "protocol") ?? "";
    const tls = valueAt(listeners[at], "tls");
    const tlsMode = isMap(tls) ? (textAt(tls, "mode") ?? "PASSTHROUGH") : null;
    return { object, listener: { at, protocol, tlsMode } };
  }

  private sidecarOf(pod: Holder): ClusterObject | null {
    const own = this.byNamespace.get(pod.namespace) ?? [];
    const isWide = (object: ClusterObject) => Object.keys(selectorOf(object)).length === 0;
    const selecting = own.find(
      (object) => !isWide(object) && hasLabels(pod.labels, selectorOf(object)),
    );
    const root = this.byNamespace.get(this.rootNamespace) ?? [];
    return selecting ?? own.find(isWide) ?? root.find(isWide) ?? null;
  }
}

const selectorOf = ({ body }: { body: Json }) =>
  labelsAt(body, "spec", "workloadSelector", "labels");
