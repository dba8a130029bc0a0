/** Describes who holds an address: a pod, a node, a Service, or somebody outside the cluster. */
import { parseAddress, type Address } from "./address.ts";
import {
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
  type Labels,
} from "./cluster-object.ts";

export type Transport = "TCP" | "UDP" | "SCTP";

/** `kind` has its API group behind it where it is none of Kubernetes': `Rollout.argoproj.io`. */
export type Workload = { kind: string; namespace: string; name: string };

/** A port that a pod's manifest names, or one that a Service offers. */
export type HolderPort = {
  name: string | null;
  port: number;
  transport: Transport;
  /** Service only: number or name on the pod. */
  target: number | string | null;
  /** Service only. */
  appProtocol: string | null;
};

/** Immutable: a pod whose labels change is another holder from then on. */
export type Holder = {
  kind: "pod" | "node" | "service" | "external";
  /** Empty for nodes and for what is outside. */
  namespace: string;
  /** Pod, node or Service; for `external`, the address. */
  name: string;
  /** All addresses, canonical; empty where the manifest shows none. */
  addresses: readonly string[];
  /** One ownerReference up; a pod without owner is its own. Null for what runs no workload. */
  owner: Workload | null;
  /** The root of its owners, as far as that is known: the Deployment, not the ReplicaSet. */
  workload: Workload | null;
  serviceAccount: string | null;
  node: string | null;
  hostNetwork: boolean;
  labels: Labels;
  annotations: Labels;
  namespaceLabels: Labels;
  namespaceAnnotations: Labels;
  /** Containers' names, init containers that keep running beside the others too. */
  containers: readonly string[];
  ports: readonly HolderPort[];
  /** Of a pod, as its manifest or its template has it, or of a Service; null for all else. */
  spec: Json;
  uid: string | null;
  /** The object that says all this, at the version that opened the binding; null for outside. */
  object: HolderObject | null;
};

export type HolderObject = Pick<
  ClusterObject,
  "kind" | "namespace" | "name" | "uid" | "resourceVersion" | "hash"
>;

export type NamespaceText = { labels: Labels; annotations: Labels };

const NOTHING: Labels = {};

export function toExternal(address: string): Holder {
  return {
    kind: "external",
    namespace: "",
    name: address,
    addresses: [address],
    owner: null,
    workload: null,
    serviceAccount: null,
    node: null,
    hostNetwork: false,
    labels: NOTHING,
    annotations: NOTHING,
    namespaceLabels: NOTHING,
    namespaceAnnotations: NOTHING,
    containers: [],
    ports: [],
    spec: null,
    uid: null,
    object: null,
  };
}

function pin({ kind, namespace, name, uid, resourceVersion, hash }: ClusterObject): HolderObject {
  return { kind, namespace, name, uid, resourceVersion, hash };
}

export function toNodeHolder(node: ClusterObject, addresses: readonly string[]): Holder {
  return {
    ...toExternal(node.name),
    kind: "node",
    addresses,
    node: node.name,
    labels: node.labels,
    annotations: node.annotations,
    uid: node.uid,
    object: pin(node),
  };
}

export function toServiceHolder(
  service: ClusterObject,
  addresses: readonly string[],
  space: NamespaceText,
): Holder {
  return {
    ...toExternal(service.name),
    kind: "service",
    namespace: service.namespace,
    addresses,
    labels: service.labels,
    annotations: service.annotations,
    namespaceLabels: space.labels,
    namespaceAnnotations: space.annotations,
    ports: listAt(service.body, "spec", "ports").flatMap(readServicePort),
    spec: valueAt(service.body, "spec") ?? null,
    uid: service.uid,
    object: pin(service),
  };
}

/** `pod` and `spec` are the object's own, or those of its template. */
export function toPodHolder(
  object: ClusterObject,
  pod: { name: string; labels: Labels; annotations: Labels },
  spec: Json | undefined,
  addresses: readonly string[],
  { owner, root }: { owner: Workload; root: Workload },
  space: NamespaceText,
): Holder {
  const sidecars = listAt(spec, "initContainers").filter(
    (container) => textAt(container, "restartPolicy") === "Always",
  );
  const running = [...listAt(spec, "containers"), ...sidecars];
  return {
    ...toExternal(pod.name),
    kind: "pod",
    namespace: object.namespace,
    addresses,
    owner,
    workload: root,
    serviceAccount:
      textAt(spec, "serviceAccountName") ?? textAt(spec, "serviceAccount") ?? "default",
    node: textAt(spec, "nodeName"),
    hostNetwork: valueAt(spec, "hostNetwork") === true,
    labels: pod.labels,
    annotations: pod.annotations,
    namespaceLabels: space.labels,
    namespaceAnnotations: space.annotations,
    containers: running.map((container) => textAt(container, "name") ?? ""),
    ports: running.flatMap((container) => listAt(container, "ports").flatMap(readContainerPort)),
    spec: spec ?? null,
    uid: object.uid,
    object: pin(object),
  };
}

function readTransport(value: Json | undefined): Transport {
  const text = textAt(value, "protocol");
  return text === "UDP" || text === "SCTP" ? text : "TCP";
}

function readContainerPort(value: Json): HolderPort[] {
  const port = valueAt(value, "containerPort");
  if (typeof port !== "number") return [];
  const transport = readTransport(value);
  return [{ name: textAt(value, "name"), port, transport, target: null, appProtocol: null }];
}

function readServicePort(value: Json): HolderPort[] {
  const port = valueAt(value, "port");
  if (typeof port !== "number") return [];
  const target = valueAt(value, "targetPort");
  return [
    {
      name: textAt(value, "name"),
      port,
      transport: readTransport(value),
      target: typeof target === "number" || typeof target === "string" ? target : port,
      appProtocol: textAt(value, "appProtocol"),
    },
  ];
}

/** The API server gives each Namespace its name as a label; manifests often leave it out. */
export function namespaceText(name: string, object: ClusterObject | null): NamespaceText {
  return {
    labels: { ...(object?.labels ?? {}), "kubernetes.io/metadata.name": name },
    annotations: object === null ? {} : labelsAt(object.body, "metadata", "annotations"),
  };
}

/** The number that a port named so has on this pod, for this transport; null where it has none. */
export function namedPort(holder: Holder, name: string, transport: Transport): number | null {
  const found = holder.ports.find((p) => p.name === name && p.transport === transport);
  return found?.port ?? null;
}

/** Reports whether a holder is a pod that is not on its node's network. */
export function hasOwnNetwork(holder: Holder): boolean {
  return holder.kind === "pod" && !holder.hostNetwork;
}

const parsed = new WeakMap<Holder, readonly Address[]>();

/** The addresses of a holder as numbers; a text that is no address is left out. */
export function addressesOf(holder: Holder): readonly Address[] {
  const known = parsed.get(holder);
  if (known !== undefined) return known;
  const addresses = holder.addresses.flatMap((text) => parseAddress(text) ?? []);
  parsed.set(holder, addresses);
  return addresses;
}

/** `pay/frontend[Deployment]`, `node-1[Node]`, `192.0.2.1[External]`. */
export function formatHolder(holder: Holder): string {
  const { workload } = holder;
  if (workload !== null) return `${workload.namespace}/${workload.name}[${workload.kind}]`;
  if (holder.kind === "service") return `${holder.namespace}/${holder.name}[Service]`;
  return `${holder.name}[${holder.kind === "node" ? "Node" : "External"}]`;
}
