/** Knows which pod, node or Service held an address at which time. */
import {
  inRange,
  parseAddress,
  parseRange,
  toCanonicalAddress,
  type AddressRange,
} from "./address.ts";
import {
  groupKind,
  keyOf,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type ObjectName,
} from "./cluster-object.ts";
import {
  namespaceText,
  toExternal,
  toNodeHolder,
  toPodHolder,
  toServiceHolder,
  workloadOf,
  type Holder,
} from "./holder.ts";
import { Timeline } from "./timeline.ts";
import type { Binding } from "./timeline.ts";
import { templatePods, WORKLOAD_KINDS } from "./workload.ts";

/** Why an address has no holder at a time. */
export type LookUpReason = "ambiguous" | "not-held-then" | "pod-network" | "not-an-address";

export type LookUp = {
  holder: Holder | null;
  reason: LookUpReason | null;
  /** The interval in which the binding held; null for what is outside, and where there is none. */
  fromMs: number | null;
  toMs: number | null;
};

/** Kinds that the inventory reads, with their API group; the others are passed over. */
export const KINDS_OF_INVENTORY: ReadonlySet<string> = new Set([
  ...["Namespace.", "Node.", "Pod.", "Service.", "EndpointSlice.discovery.k8s.io"],
  ...WORKLOAD_KINDS,
]);

const NOBODY = { holder: null, fromMs: null, toMs: null };

export class Inventory {
  /** Every object of the kinds above, as it was last applied. */
  private readonly objects = new Map<string, ClusterObject>();
  /** The same, by kind and namespace. */
  private readonly groups = new Map<string, Map<string, ClusterObject>>();
  /** Ranges that the nodes give to pods; null when a node changed since. */
  private podRanges: AddressRange[] | null = null;
  /** By key of the object; a holder differs when anything about it differs. */
  private readonly holders = new Map<string, Timeline<Holder>>();
  /** Keys of the objects that hold, or held, an address. */
  private readonly byAddress = new Map<string, Set<string>>();

  /**
   * Takes an object as it is from `nowMs` on; -Infinity for manifests, which hold at any time. A
   * pod seen for the first time holds its addresses since its start, if it tells that.
   */
  apply(object: ClusterObject, nowMs: number): void {
    if (!KINDS_OF_INVENTORY.has(groupKind(object))) return;
    const key = keyOf(object);
    const before = this.objects.get(key);
    if (before !== undefined && before.uid !== object.uid) this.end(key, nowMs);
    this.objects.set(key, object);
    this.groupOf(object.kind, object.namespace).set(key, object);
    if (object.kind === "Node") this.podRanges = null;
    if (object.kind === "Namespace") this.renewNamespace(object.name, nowMs);
    else this.renew(key, object, nowMs);
  }

  remove(object: ObjectName, nowMs: number): void {
    const { kind, namespace, name } = object;
    const key = keyOf(object);
    if (!this.objects.delete(key)) return;
    this.groupOf(kind, namespace).delete(key);
    if (kind === "Node") this.podRanges = null;
    if (kind === "Namespace") this.renewNamespace(name, nowMs);
    else this.end(key, nowMs);
  }

  /** Who had the address then; null when that cannot be told, see `lookUp` for the reason. */
  whoHad(address: string, atMs: number): Holder | null {
    return this.lookUp(address, atMs).holder;
  }

  /**
   * Who had the address at `atMs` by a clock that may be `apartMs` off: where more than one may be
   * meant, nobody is.
   */
  lookUp(address: string, atMs: number, apartMs = 0): LookUp {
    const text = toCanonicalAddress(address);
    if (text === null) return { ...NOBODY, reason: "not-an-address" };
    const keys = this.byAddress.get(text);
    const found: LookUp[] = [];
    for (const key of keys ?? []) {
      const all = this.holders.get(key)?.bindings.filter((b) => b.value.addresses.includes(text));
      const holds = (b: Binding<Holder>, byMs: number) =>
        b.fromMs <= atMs + byMs && atMs - byMs < b.toMs;
      const binding = all?.find((b) => holds(b, 0)) ?? all?.find((b) => holds(b, apartMs));
      if (binding === undefined) continue;
      const { value: holder, fromMs, toMs } = binding;
      found.push({ holder, reason: null, fromMs, toMs });
    }
    if (found.length === 1) return found[0]!;
    if (found.length > 1) return { ...NOBODY, reason: "ambiguous" };
    if (keys !== undefined) return { ...NOBODY, reason: "not-held-then" };
    if (this.isPodNetwork(text)) return { ...NOBODY, reason: "pod-network" };
    return { holder: toExternal(text), reason: null, fromMs: null, toMs: null };
  }

  /** Every pod at that time; a workload that has no pods yet is there as its template says. */
  pods(atMs: number): Holder[] {
    const pods = this.holdersOf("Pod", atMs);
    return [...pods, ...templatePods(this.objects.values(), pods, (name) => this.space(name))];
  }

  /** Pods that had an address at some time within [fromMs, toMs), and how long of it. */
  podsBetween(fromMs: number, toMs: number): Binding<Holder>[] {
    return [...this.holders]
      .filter(([key]) => key.startsWith("Pod./"))
      .flatMap(([, { bindings }]) => bindings)
      .filter((b) => b.fromMs < toMs && fromMs < b.toMs && b.value.addresses.length > 0);
  }

  nodes(atMs: number): Holder[] {
    return this.holdersOf("Node", atMs);
  }

  services(atMs: number): Holder[] {
    return this.holdersOf("Service", atMs);
  }

  /** Objects of a kind and namespace as they are now; none for what is cluster-scoped. */
  current(kind: string, namespace = ""): Iterable<ClusterObject> {
    return this.groupOf(kind, namespace).values();
  }

  /** An object of a kind of Kubernetes' core, as it is now. */
  get(kind: string, namespace: string, name: string): ClusterObject | null {
    return this.objects.get(keyOf({ apiVersion: "v1", kind, namespace, name })) ?? null;
  }

  /** Forgets bindings that ended before; call it with the age of the oldest window still judged. */
  forget(beforeMs: number): void {
    for (const [key, timeline] of this.holders) {
      if (!timeline.forget(beforeMs)) continue;
      this.holders.delete(key);
    }
    for (const [address, keys] of this.byAddress) {
      for (const key of keys) {
        const bindings = this.holders.get(key)?.bindings ?? [];
        if (!bindings.some((b) => b.value.addresses.includes(address))) keys.delete(key);
      }
      if (keys.size === 0) this.byAddress.delete(address);
    }
  }

  private groupOf(kind: string, namespace: string): Map<string, ClusterObject> {
    const name = `${kind}/${namespace}`;
    const group = this.groups.get(name) ?? new Map<string, ClusterObject>();
    this.groups.set(name, group);
    return group;
  }

  private space(name: string) {
    return namespaceText(name, this.get("Namespace", "", name));
  }

  private holdersOf(kind: string, atMs: number): Holder[] {
    const found: Holder[] = [];
    for (const [key, timeline] of this.holders) {
      if (!key.startsWith(`${kind}./`)) continue;
      const holder = timeline.at(atMs);
      if (holder !== null) found.push(holder);
    }
    return found;
  }

  private renewNamespace(name: string, nowMs: number): void {
    for (const [key, object] of this.objects) {
      if (object.namespace === name) this.renew(key, object, nowMs);
    }
  }

  private renew(key: string, object: ClusterObject, nowMs: number): void {
    const holder = this.toHolder(object, nowMs);
    if (holder === null) return this.end(key, nowMs);
    const timeline = this.holders.get(key) ?? new Timeline<Holder>();
    this.holders.set(key, timeline);
    const current = timeline.current;
    if (current !== null && isSame(current.value, holder)) return;
    const fresh = timeline.bindings.length === 0;
    timeline.open(holder, fresh ? startOf(object, nowMs) : nowMs);
    for (const address of holder.addresses) this.claim(address, key, nowMs);
  }

  /** Whoever had the address before does not have it any more: a pod's end is told late. */
  private claim(address: string, key: string, nowMs: number): void {
    const keys = this.byAddress.get(address) ?? new Set<string>();
    this.byAddress.set(address, keys);
    for (const other of keys) {
      if (other === key || nowMs === -Infinity || !other.startsWith("Pod./")) continue;
      const timeline = this.holders.get(other);
      if (timeline?.current?.value.addresses.includes(address)) timeline.close(nowMs);
    }
    keys.add(key);
  }

  private end(key: string, nowMs: number): void {
    this.holders.get(key)?.close(nowMs);
  }

  /** Null when it holds nothing: a finished pod, a template. */
  private toHolder(object: ClusterObject, nowMs: number): Holder | null {
    const space = this.space(object.namespace);
    switch (object.kind) {
      case "Node":
        return toNodeHolder(object, addressesAt(object, "address", "status", "addresses"));
      case "Service":
        return toServiceHolder(object, serviceAddresses(object), space);
      case "Pod": {
        const phase = textAt(object.body, "status", "phase");
        const finished = phase === "Succeeded" || phase === "Failed";
        // Among manifests it stands for its workload, which will run again.
        if (finished && nowMs !== -Infinity) return null;
        const shared = valueAt(object.body, "spec", "hostNetwork") === true;
        const addresses = shared || finished ? [] : podAddresses(object);
        const spec = valueAt(object.body, "spec");
        return toPodHolder(object, object, spec, addresses, workloadOf(object), space);
      }
      default:
        return null;
    }
  }

  /** An address that a node may give to pods is not outside, even when no pod is known to it. */
  private isPodNetwork(text: string): boolean {
    const address = parseAddress(text)!;
    this.podRanges ??= [...this.current("Node")].flatMap(({ body }) =>
      [...listAt(body, "spec", "podCIDRs"), valueAt(body, "spec", "podCIDR")].flatMap((range) =>
        typeof range === "string" ? (parseRange(range) ?? []) : [],
      ),
    );
    return this.podRanges.some((range) => inRange(range, address));
  }
}

/** Versions of the object that differ in nothing a holder tells are one binding. */
function isSame(a: Holder, b: Holder): boolean {
  const text = (holder: Holder) => JSON.stringify({ ...holder, object: null });
  return text(a) === text(b);
}

/** When the object's addresses became its own, as far as it tells. */
function startOf(object: ClusterObject, nowMs: number): number {
  if (nowMs === -Infinity) return -Infinity;
  const started = Date.parse(textAt(object.body, "status", "startTime") ?? "");
  const fromMs = Number.isNaN(started) ? object.createdMs : started;
  return Math.min(nowMs, fromMs ?? nowMs);
}

function addressesAt(object: ClusterObject, field: string, ...path: string[]): string[] {
  const found = listAt(object.body, ...path).flatMap((entry) => {
    const text = textAt(entry, field);
    const address = text === null ? null : toCanonicalAddress(text);
    return address === null ? [] : [address];
  });
  return [...new Set(found)];
}

function podAddresses(pod: ClusterObject): string[] {
  const single = toCanonicalAddress(textAt(pod.body, "status", "podIP") ?? "");
  const all = addressesAt(pod, "ip", "status", "podIPs");
  return single === null || all.includes(single) ? all : [single, ...all];
}

function serviceAddresses(service: ClusterObject): string[] {
  const texts = [
    valueAt(service.body, "spec", "clusterIP"),
    ...listAt(service.body, "spec", "clusterIPs"),
    ...listAt(service.body, "spec", "externalIPs"),
    ...listAt(service.body, "status", "loadBalancer", "ingress").map((e) => valueAt(e, "ip")),
  ];
  const found = texts.flatMap((text) => {
    const address = typeof text === "string" ? toCanonicalAddress(text) : null; // not `None`
    return address === null ? [] : [address];
  });
  return [...new Set(found)];
}
