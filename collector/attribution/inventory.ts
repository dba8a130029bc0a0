/** Knows which pod, node or Service held an address at which time. */
import {
  inRange,
  isPrivate,
  parseAddress,
  parseRange,
  toCanonicalAddress,
  type Address,
  type AddressRange,
} from "./address.ts";
import { Endpoints, type Endpoint } from "./endpoints.ts";
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
  type Holder,
  type Workload,
} from "./holder.ts";
import { isPassing, ownerOf, rootOf, selfOf } from "./owner.ts";
import { Timeline } from "./timeline.ts";
import type { Binding } from "./timeline.ts";
import { templatePods, WORKLOAD_KINDS } from "./workload.ts";

/** Why an address has no holder at a time. */
export type LookUpReason =
  | "ambiguous"
  | "not-held-then"
  | "pod-network"
  | "service-network"
  | "private"
  | "not-listed"
  | "not-an-address";

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

/** What the API server is called at an address that is no node's. */
const API_SERVER = "default/kubernetes";

/** Who holds an address that is not outside: while one of these is not known, nothing is. */
const HOLDING_KINDS: ReadonlySet<string> = new Set(["Node", "Pod", "Service"]);

/** Whoever translates a Service's address follows late, and leads to its backends of before. */
export const LED_LATE_MS = 15_000;

const NOBODY = { holder: null, fromMs: null, toMs: null };

export class Inventory {
  /** Every object of the kinds above, as it was last applied. */
  private readonly objects = new Map<string, ClusterObject>();
  /** The same, by kind and namespace. */
  private readonly groups = new Map<string, Map<string, ClusterObject>>();
  private readonly endpoints = new Endpoints();
  /** Ranges that the nodes give to pods; null when a node changed since. */
  private podRanges: AddressRange[] | null = null;
  /** Of each family, from the lowest to the highest address that a Service was ever given. */
  private readonly serviceRanges = new Map<4 | 6, AddressRange>();
  /** Since when a kind that holds addresses is not known. */
  private readonly blindSince = new Map<string, number>();
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
    if (object.kind === "EndpointSlice") {
      const fromMs = this.endpoints.isKnown(key) ? nowMs : startOf(object, nowMs);
      return this.endpoints.apply(object, fromMs);
    }
    const before = this.objects.get(key);
    if (before !== undefined && before.uid !== object.uid) this.end(key, nowMs);
    this.objects.set(key, object);
    this.groupOf(object.kind, object.namespace).set(key, object);
    if (object.kind === "Node") this.podRanges = null;
    if (object.kind === "Service") this.widen(object);
    if (object.kind === "Namespace") this.renewNamespace(object.name, nowMs);
    else this.renew(key, object, nowMs);
    if (isPassing(object)) this.renewPodsOf(selfOf(object), nowMs);
  }

  remove(object: ObjectName, nowMs: number): void {
    const { kind, namespace, name } = object;
    const key = keyOf(object);
    if (kind === "EndpointSlice") return this.endpoints.remove(key, nowMs);
    if (!this.objects.delete(key)) return;
    this.groupOf(kind, namespace).delete(key);
    if (kind === "Node") this.podRanges = null;
    if (kind === "Namespace") this.renewNamespace(name, nowMs);
    else this.end(key, nowMs);
  }

  /** Takes that since then it is not known what there is of a kind, or that it is known again. */
  setBlind(kind: string, sinceMs: number | null): void {
    if (sinceMs === null) this.blindSince.delete(kind);
    else if (HOLDING_KINDS.has(kind)) this.blindSince.set(kind, sinceMs);
  }

  /** Who had the address then; null when that cannot be told, see `lookUp` for the reason. */
  whoHad(address: string, atMs: number): Holder | null {
    return this.lookUp(address, atMs).holder;
  }

  /**
   * Who had the address at `atMs` by a clock that may be `apartMs` off: where more than one may be
   * meant, nobody is. A Service may be given any address: of one that somebody else has, too, it
   * counts where it is `meant`.
   */
  lookUp(
    address: string,
    atMs: number,
    apartMs = 0,
    meant: (service: Holder) => boolean = () => true,
  ): LookUp {
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
    const isMeant = ({ holder }: LookUp) => holder!.kind !== "service" || meant(holder!);
    const [only, ...others] = found.length > 1 ? found.filter(isMeant) : found;
    if (others.length > 0) return { ...NOBODY, reason: "ambiguous" };
    if (only !== undefined) return only;
    if (keys !== undefined) return { ...NOBODY, reason: "not-held-then" };
    const outside = { reason: null, fromMs: null, toMs: null };
    if (this.isApiServer(text, atMs, apartMs)) {
      return { holder: { ...toExternal(text), name: API_SERVER }, ...outside };
    }
    const reason = this.whyInside(parseAddress(text)!, atMs + apartMs);
    return reason === null ? { holder: toExternal(text), ...outside } : { ...NOBODY, reason };
  }

  /**
   * Whom a Service led to then, by a clock that may be so far off: null for one without slices, and
   * for each endpoint of which it is not known who it was.
   */
  backendsOf(service: Holder, atMs: number, apartMs: number): (Holder | null)[] | null {
    const { namespace, name } = service;
    const fromMs = atMs - apartMs - LED_LATE_MS;
    const led = this.endpoints.of(namespace, name, fromMs, atMs + apartMs);
    return led?.map((endpoint) => this.whoWas(endpoint, fromMs, atMs, apartMs)) ?? null;
  }

  private whoWas(
    { address, pod }: Endpoint,
    fromMs: number,
    atMs: number,
    apartMs: number,
  ): Holder | null {
    const held = () => this.lookUp(address, atMs, apartMs, () => false).holder;
    if (pod === null) return held();
    // Whoever may write slices may name any pod: it is one that has the address.
    const isIt = ({ value }: Binding<Holder>) =>
      (pod.uid === null || value.uid === pod.uid) &&
      (value.addresses.includes(address) ||
        (value.hostNetwork && held()?.kind === "node" && held()!.name === value.node));
    const near = this.holders
      .get(pod.key)
      ?.bindings.filter((b) => isIt(b) && b.fromMs <= atMs + apartMs && fromMs < b.toMs);
    return near?.findLast((b) => b.fromMs <= atMs)?.value ?? near?.[0]?.value ?? null;
  }

  /** A pod as it was at any time within [fromMs, toMs], while it had its address. */
  versionsOf(holder: Holder, fromMs: number, toMs: number): Holder[] {
    const { object } = holder;
    if (object?.kind !== "Pod") return [holder];
    const { kind, namespace, name, uid } = object;
    const key = keyOf({ apiVersion: "v1", kind, namespace, name });
    const near = (this.holders.get(key)?.bindings ?? [])
      .filter(({ value: v }) => v !== holder && v.uid === uid && v.addresses.length > 0)
      .filter((b) => b.fromMs <= toMs && fromMs < b.toMs);
    return [holder, ...near.map(({ value }) => value)];
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
    this.endpoints.forget(beforeMs);
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

  /** Pods that an owner between them and their workload was not yet known to. */
  private renewPodsOf(owner: Workload, nowMs: number): void {
    for (const [key, pod] of this.groupOf("Pod", owner.namespace)) {
      const { kind, name } = ownerOf(pod);
      if (kind === owner.kind && name === owner.name) this.renew(key, pod, nowMs);
    }
  }

  /** What is declared of what stands between a pod and its workload. */
  private findOwner({ kind, namespace, name }: Workload): ClusterObject | null {
    const apiVersion = kind === "Job" ? "batch/v1" : "apps/v1";
    return this.objects.get(keyOf({ apiVersion, kind, namespace, name })) ?? null;
  }

  private renew(key: string, object: ClusterObject, nowMs: number): void {
    const holder = this.toHolder(object, nowMs);
    if (holder === null) return this.end(key, nowMs);
    const timeline = this.holders.get(key) ?? new Timeline<Holder>();
    this.holders.set(key, timeline);
    const current = timeline.current;
    if (current !== null && isSame(current.value, holder)) return;
    // The same one anew, or otherwise, is so from now on; another one of that name since it began.
    const isNew = timeline.bindings.at(-1)?.value.uid !== holder.uid || holder.uid === null;
    const fromMs = current === null && isNew ? startOf(object, nowMs) : nowMs;
    timeline.open(holder, fromMs);
    for (const address of holder.addresses) this.claim(address, key, fromMs, nowMs);
  }

  /**
   * Which pod had the address before does not have it any more: a pod's end is told late. A Service
   * may be given anybody's address, and takes it from nobody.
   */
  private claim(address: string, key: string, fromMs: number, nowMs: number): void {
    const keys = this.byAddress.get(address) ?? new Set<string>();
    this.byAddress.set(address, keys);
    for (const other of key.startsWith("Pod./") ? keys : []) {
      if (other === key || nowMs === -Infinity || !other.startsWith("Pod./")) continue;
      const timeline = this.holders.get(other);
      const held = timeline?.current;
      // Who began later may be the one that has it: then nobody is known to.
      if (!held?.value.addresses.includes(address) || held.fromMs > fromMs) continue;
      timeline!.close(nowMs);
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
        const root = rootOf(object, (owner) => this.findOwner(owner));
        return toPodHolder(
          object,
          object,
          spec,
          addresses,
          { owner: ownerOf(object), root },
          space,
        );
      }
      default:
        return null;
    }
  }

  /** Why an address that nobody held may be somebody's in the cluster; null where it is not. */
  private whyInside(address: Address, untilMs: number): LookUpReason | null {
    this.podRanges ??= [...this.current("Node")].flatMap(({ body }) =>
      [...listAt(body, "spec", "podCIDRs"), valueAt(body, "spec", "podCIDR")].flatMap((range) =>
        typeof range === "string" ? (parseRange(range) ?? []) : [],
      ),
    );
    if (this.podRanges.some((range) => inRange(range, address))) return "pod-network";
    const services = this.serviceRanges.get(address.family);
    if (services !== undefined && inRange(services, address)) return "service-network";
    if (isPrivate(address)) return "private";
    const isBlind = [...this.blindSince.values()].some((sinceMs) => sinceMs <= untilMs);
    return isBlind ? "not-listed" : null;
  }

  /** Reports whether it is one of the API server's, which no node or pod of the cluster holds. */
  private isApiServer(text: string, atMs: number, apartMs: number): boolean {
    const found = this.endpoints.of("default", "kubernetes", atMs - apartMs, atMs + apartMs);
    return found?.some(({ address }) => address === text) === true;
  }

  private widen(service: ClusterObject): void {
    const { body } = service;
    for (const text of [
      valueAt(body, "spec", "clusterIP"),
      ...listAt(body, "spec", "clusterIPs"),
    ]) {
      const address = typeof text === "string" ? parseAddress(text) : null; // not `None`
      if (address === null) continue;
      const { family, value } = address;
      const { first, last } = this.serviceRanges.get(family) ?? { first: value, last: value };
      this.serviceRanges.set(family, {
        family,
        first: value < first ? value : first,
        last: value > last ? value : last,
      });
    }
  }
}

/** Versions of the object that differ in nothing a holder tells are one binding. */
function isSame(a: Holder, b: Holder): boolean {
  const text = (holder: Holder) => JSON.stringify({ ...holder, object: null });
  return text(a) === text(b);
}

/**
 * Since when it has been as it is, as far as it tells: a pod has its addresses since it started,
 * where a Service leads since it was last written, a node is what it is since it was made.
 */
function startOf(object: ClusterObject, nowMs: number): number {
  if (nowMs === -Infinity) return -Infinity;
  const { kind, body, createdMs } = object;
  const leads = kind === "Service" || kind === "EndpointSlice";
  const written = leads ? listAt(body, "metadata", "managedFields") : [];
  const times = [textAt(body, "status", "startTime"), ...written.map((w) => textAt(w, "time"))]
    .map((text) => Date.parse(text ?? ""))
    .filter((ms) => !Number.isNaN(ms));
  return Math.min(nowMs, times.length > 0 ? Math.max(...times) : (createdMs ?? nowMs));
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
