/** Knows where each Service led at which time, by its EndpointSlices. */
import { toCanonicalAddress } from "./address.ts";
import { keyOf, listAt, textAt, valueAt, type ClusterObject, type Json } from "./cluster-object.ts";
import { Timeline } from "./timeline.ts";

export type Endpoint = {
  address: string;
  /** The pod that it stands for, if it tells one, by the key of its object. */
  pod: { key: string; uid: string | null } | null;
};

type Slice = { service: string; endpoints: readonly Endpoint[] };

export class Endpoints {
  /** By key of the slice. */
  private readonly slices = new Map<string, Timeline<Slice>>();
  /** Keys of the slices that are, or were, a Service's. */
  private readonly byService = new Map<string, Set<string>>();

  /** Takes a slice as it is from `fromMs` on. */
  apply(object: ClusterObject, fromMs: number): void {
    const key = keyOf(object);
    const name = object.labels["kubernetes.io/service-name"];
    if (name === undefined) return this.remove(key, fromMs);
    const service = `${object.namespace}/${name}`;
    const slice = { service, endpoints: listAt(object.body, "endpoints").flatMap(readEndpoint) };
    const timeline = this.slices.get(key) ?? new Timeline<Slice>();
    this.slices.set(key, timeline);
    const keys = this.byService.get(service) ?? new Set<string>();
    this.byService.set(service, keys.add(key));
    const { current } = timeline;
    if (JSON.stringify(current?.value) !== JSON.stringify(slice)) timeline.open(slice, fromMs);
  }

  remove(key: string, nowMs: number): void {
    this.slices.get(key)?.close(nowMs);
  }

  isKnown(key: string): boolean {
    return this.slices.has(key);
  }

  /**
   * Where it led at some time within [fromMs, toMs], as far as that is known; null for a Service of
   * which no slice is known at any time.
   */
  of(namespace: string, name: string, fromMs: number, toMs: number): Endpoint[] | null {
    const service = `${namespace}/${name}`;
    const keys = this.byService.get(service);
    if (keys === undefined) return null;
    return [...keys].flatMap((key) =>
      (this.slices.get(key)?.bindings ?? [])
        .filter((b) => b.value.service === service && b.fromMs <= toMs && fromMs < b.toMs)
        .flatMap((b) => b.value.endpoints),
    );
  }

  forget(beforeMs: number): void {
    for (const [key, timeline] of this.slices) {
      if (timeline.forget(beforeMs)) this.slices.delete(key);
    }
    for (const [service, keys] of this.byService) {
      for (const key of keys) if (!this.slices.has(key)) keys.delete(key);
      if (keys.size === 0) this.byService.delete(service);
    }
  }
}

/**
 * One that may be sent to: ready, or serving while it terminates (kube-proxy sends there where none
 * is ready, KEP-1669). A condition that is missing is none but for `ready`, which then is true.
 */
function readEndpoint(body: Json): Endpoint[] {
  const is = (condition: string) => valueAt(body, "conditions", condition);
  const isDraining = is("serving") === true && is("terminating") === true;
  if (is("ready") === false && !isDraining) return [];
  const [kind, name] = [textAt(body, "targetRef", "kind"), textAt(body, "targetRef", "name")];
  const namespace = textAt(body, "targetRef", "namespace") ?? "";
  const key = name === null ? "" : keyOf({ apiVersion: "v1", kind: "Pod", namespace, name });
  const isPod = name !== null && kind === "Pod";
  const pod = isPod ? { key, uid: textAt(body, "targetRef", "uid") } : null;
  return listAt(body, "addresses").flatMap((text) => {
    const address = toCanonicalAddress(String(text));
    return address === null ? [] : [{ address, pod }];
  });
}
