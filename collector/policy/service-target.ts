/** Tells which ports of Services lead to a pod's port. */
import { isMap, labelsAt, valueAt, type ClusterObject } from "../attribution/cluster-object.ts";
import { namedPort, toServiceHolder, type Holder } from "../attribution/holder.ts";
import { readLabelMap, selects } from "../attribution/selector.ts";

export class ServiceTargets {
  private readonly byNamespace = new Map<string, ClusterObject[]>();

  constructor(objects: readonly ClusterObject[]) {
    for (const object of objects) {
      if (object.kind !== "Service" || object.apiVersion !== "v1") continue;
      const known = this.byNamespace.get(object.namespace);
      if (known === undefined) this.byNamespace.set(object.namespace, [object]);
      else known.push(object);
    }
  }

  /** Services that select the pod. */
  selecting(pod: Holder): ClusterObject[] {
    return (this.byNamespace.get(pod.namespace) ?? []).filter((service) => {
      const selector = valueAt(service.body, "spec", "selector");
      return isMap(selector) && selects(readLabelMap(labelsAt(selector)), pod.labels);
    });
  }

  /** The TCP ports of Services that lead to this port of the pod. */
  portsTo(pod: Holder, port: number): number[] {
    return this.pairsOf(pod).flatMap(([offered, number]) => (number === port ? [offered] : []));
  }

  /** The pod's ports that this port of its Services leads to. */
  numbersOf(pod: Holder, port: number): number[] {
    return this.pairsOf(pod).flatMap(([offered, number]) => (offered === port ? [number] : []));
  }

  /** TCP ports of Services, each with the pod's port behind it. */
  private pairsOf(pod: Holder): [offered: number, number: number][] {
    return this.selecting(pod).flatMap((service) =>
      toServiceHolder(service, [], { labels: {}, annotations: {} }).ports.flatMap(
        ({ transport, port, target }): [number, number][] => {
          if (transport !== "TCP") return [];
          const number = typeof target === "string" ? namedPort(pod, target, "TCP") : target;
          return number === null ? [] : [[port, number]];
        },
      ),
    );
  }
}
