/** Tells which ports of Services lead to a pod's ports. */
import { isMap, labelsAt, valueAt, type ClusterObject } from "../../attribution/cluster-object.ts";
import { namedPort, toServiceHolder, type Holder } from "../../attribution/holder.ts";
import { hasLabels } from "../../attribution/selector.ts";

/** A TCP port of a Service, and the container port of one pod that it leads to. */
export type Offer = {
  service: ClusterObject;
  port: number;
  target: number;
  /** Name and `appProtocol` of the Service's port. */
  name: string | null;
  appProtocol: string | null;
};

export class ServiceTargets {
  private readonly byNamespace: ReadonlyMap<string, ClusterObject[]>;
  private readonly offers = new WeakMap<Holder, readonly Offer[]>();

  constructor(objects: readonly ClusterObject[]) {
    const services = objects.filter((o) => o.kind === "Service" && o.apiVersion === "v1");
    this.byNamespace = Map.groupBy(services, ({ namespace }) => namespace);
  }

  /** Services that select the pod. */
  selecting(pod: Holder): ClusterObject[] {
    return (this.byNamespace.get(pod.namespace) ?? []).filter((service) => {
      const selector = valueAt(service.body, "spec", "selector");
      // An empty selector is none: the Service has the endpoints that somebody else gives it.
      if (!isMap(selector) || Object.keys(selector).length === 0) return false;
      return hasLabels(pod.labels, labelsAt(selector));
    });
  }

  /** All that Services offer of the pod. */
  offersOf(pod: Holder): readonly Offer[] {
    const known = this.offers.get(pod);
    if (known !== undefined) return known;
    const found = this.selecting(pod).flatMap((service) => offersBy(service, pod));
    this.offers.set(pod, found);
    return found;
  }

  /** All that leads to this port of the pod. */
  offersAt(pod: Holder, port: number): Offer[] {
    return this.offersOf(pod).filter(({ target }) => target === port);
  }

  /** The TCP ports of Services that lead to this port of the pod. */
  portsTo(pod: Holder, port: number): number[] {
    return this.offersAt(pod, port).map((offer) => offer.port);
  }
}

function offersBy(service: ClusterObject, pod: Holder): Offer[] {
  const { ports } = toServiceHolder(service, [], { labels: {}, annotations: {} });
  return ports.flatMap(({ port, target, transport, name, appProtocol }) => {
    const number = typeof target === "string" ? namedPort(pod, target, "TCP") : target;
    if (transport !== "TCP" || number === null) return [];
    return [{ service, port, target: number, name, appProtocol }];
  });
}
