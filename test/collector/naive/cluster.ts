/** Draws small clusters, and tells of each end what the slow evaluators may know of it. */
import {
  toClusterObject,
  type ClusterObject,
  type JsonMap,
} from "../../../collector/attribution/cluster-object.ts";
import type { Holder, Transport } from "../../../collector/attribution/holder.ts";
import { Inventory } from "../../../collector/attribution/inventory.ts";
import type { PodsInBlocks } from "../../../collector/policy/packet/peer.ts";
import type { Random } from "./random.ts";
import { drawLabels, type Labels } from "./selector.ts";

export type NaivePort = { name: string; port: number; transport: Transport };

/** What manifests say of an end; the same things that the fast evaluator reads from `holder`. */
export type NaiveEnd = {
  kind: "pod" | "node" | "external";
  name: string;
  namespace: string;
  labels: Labels;
  spaceLabels: Labels;
  /** Empty where none is known. */
  addresses: readonly string[];
  ports: readonly NaivePort[];
  hostNetwork: boolean;
  /** The node that a pod runs on, a node's own name; null where that is not known. */
  node: string | null;
  serviceAccount: string;
  /** What the pod's manifest shows; null where it shows nothing. */
  mesh: "istio" | "ambient" | "none" | null;
  holder: Holder;
};

export type Cluster = {
  ends: readonly NaiveEnd[];
  nodes: ReadonlyMap<string, NaiveEnd>;
  /** What is no policy, and yet read with them: Nodes and Services. */
  objects: readonly ClusterObject[];
  services: readonly NaiveService[];
  /** Whether the network plugin lets the ranges of NetworkPolicy match pods: told, or not. */
  podsInBlocks: PodsInBlocks;
};

export type NaiveService = {
  namespace: string;
  name: string;
  selector: Labels;
  isHeadless: boolean;
  ports: readonly { name: string; port: number; target: number | string }[];
};

export const SPACES = ["n1", "n2", "n3", "root"] as const;
/** A namespace to put a policy into: the last ones are in every cluster. */
export function drawSpace(random: Random): string {
  return random.pick("n1", "n2", "n3", "n3", "root", "root");
}

export const OUTSIDE = ["192.0.2.5", "198.51.100.7", "2001:db8::5"] as const;
const NODES = ["w1", "w2", "w3"] as const;

export function toObject(body: object): ClusterObject {
  return toClusterObject(body as JsonMap, null)!;
}

type Drawn = Omit<NaiveEnd, "holder">;

function drawPod(random: Random, i: number, spaces: ReadonlyMap<string, Labels>, meshed: boolean) {
  const namespace = random.pick(...spaces.keys());
  const hostNetwork = random.once(9);
  const address = random.once(4) ? [] : [`10.${random.below(2)}.${random.below(2)}.${10 + i}`];
  const second = random.once(8) ? [`fd00::${random.below(2)}:${i + 1}`] : [];
  const transport = random.pick<Transport>("TCP", "TCP", "UDP", "SCTP");
  const ports: NaivePort[] = [{ name: "web", port: random.pick(80, 81), transport }];
  if (random.once(3)) {
    const other = transport === "UDP" ? "TCP" : "UDP";
    ports.push({ name: random.pick("web", "dns"), port: random.pick(80, 82), transport: other });
  }
  const mesh = meshed
    ? random.pick("istio", "istio", "istio", "ambient", "ambient", "none", null)
    : null;
  const pod: Drawn = {
    kind: "pod",
    name: `p${i}`,
    namespace,
    labels: {
      ...drawLabels(random),
      ...(mesh === "ambient" ? { "istio.io/dataplane-mode": "ambient" } : {}),
      ...(mesh === "none" ? { "sidecar.istio.io/inject": "false" } : {}),
    },
    spaceLabels: spaces.get(namespace)!,
    addresses: hostNetwork ? [] : [...address, ...(address.length > 0 ? second : [])],
    ports,
    hostNetwork,
    node: random.once(3) ? null : random.pick(...NODES),
    serviceAccount: random.pick("default", "s1", "s2"),
    // Istio's injector passes over pods of the node's network, and so does its CNI plugin.
    mesh: hostNetwork ? "none" : mesh,
  };
  return { pod, body: toPodBody(pod, mesh === "istio", random) };
}

function toPodBody(pod: Drawn, sidecar: boolean, random: Random): object {
  const [first, ...rest] = pod.ports.map(({ name, port, transport }) => ({
    name,
    containerPort: port,
    ...(transport === "TCP" && random.once(2) ? {} : { protocol: transport }),
  }));
  const containers = [
    { name: "c", ports: [first] },
    { name: "d", ports: rest },
    ...(sidecar ? [{ name: "istio-proxy" }] : []),
  ];
  const podIPs = pod.addresses.map((ip) => ({ ip }));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: pod.name, namespace: pod.namespace, labels: pod.labels },
    spec: {
      containers,
      ...(pod.hostNetwork ? { hostNetwork: true } : {}),
      ...(pod.node === null ? {} : { nodeName: pod.node }),
      ...(pod.serviceAccount === "default" ? {} : { serviceAccountName: pod.serviceAccount }),
    },
    ...(podIPs.length > 0 ? { status: { podIP: pod.addresses[0], podIPs } } : {}),
  };
}

function drawNode(random: Random, i: number): Drawn {
  const address = random.once(5) ? [] : [`10.2.0.${1 + i}`];
  const second = random.once(5) ? [`192.0.2.${1 + i}`] : [];
  return {
    kind: "node",
    name: NODES[i]!,
    namespace: "",
    labels: drawLabels(random),
    spaceLabels: {},
    addresses: [...address, ...(address.length > 0 ? second : [])],
    ports: [],
    hostNetwork: false,
    node: NODES[i]!,
    serviceAccount: "",
    mesh: "none",
  };
}

function toExternalEnd(address: string): Drawn {
  return {
    kind: "external",
    name: address,
    namespace: "",
    labels: {},
    spaceLabels: {},
    addresses: [address],
    ports: [],
    hostNetwork: false,
    node: null,
    serviceAccount: "",
    mesh: "none",
  };
}

function drawService(random: Random, i: number, namespace: string): NaiveService {
  const names = random.once(2) ? ["tcp-a", "tcp-b"] : ["http-a", "grpc", "https", "x", "tcp-c"];
  return {
    namespace,
    name: `s${i}`,
    selector: random.once(8) ? {} : { [random.pick("a", "b", "c")]: random.pick("1", "2") },
    isHeadless: random.once(8),
    ports: random.list(1, 2, (at) => ({
      name: names[random.below(names.length)]!,
      port: 8080 + at,
      target: random.pick<number | string>(80, 81, "web"),
    })),
  };
}

/** 2-4 namespaces, 3-8 pods, nodes, ends outside; Services and proxies where it is `meshed`. */
export function drawCluster(random: Random, meshed: boolean): Cluster {
  const inventory = new Inventory();
  const apply = (body: object) => inventory.apply(toObject(body), -Infinity);
  const spaces = new Map<string, Labels>();
  for (const name of SPACES.slice(random.below(3))) {
    const labels = drawLabels(random);
    // The API server gives this one to each; manifests leave it out.
    spaces.set(name, { ...labels, "kubernetes.io/metadata.name": name });
    apply({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
  }
  const drawn: Drawn[] = [];
  const count = 3 + random.below(6);
  for (let i = 0; i < count; i++) {
    const { pod, body } = drawPod(random, i, spaces, meshed);
    drawn.push(pod);
    apply(body);
  }
  const objects: ClusterObject[] = [];
  for (const node of random.list(0, 2, (i) => drawNode(random, i))) {
    drawn.push(node);
    const object = toObject({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: node.name, labels: node.labels },
      status: { addresses: node.addresses.map((address) => ({ type: "InternalIP", address })) },
    });
    inventory.apply(object, -Infinity);
    objects.push(object);
  }
  drawn.push(...random.list(1, 2, (i) => toExternalEnd(OUTSIDE[i + random.below(2)]!)));
  const holders = new Map<string, Holder>();
  for (const holder of [...inventory.pods(0), ...inventory.nodes(0)]) {
    holders.set(`${holder.kind}/${holder.name}`, holder);
  }
  const services = meshed
    ? random.list(1, 4, (i) => drawService(random, i, random.pick(...spaces.keys())))
    : [];
  for (const { namespace, name, selector, isHeadless, ports } of services) {
    const targeted = ports.map(({ target, ...port }) => ({ ...port, targetPort: target }));
    objects.push(
      toObject({
        apiVersion: "v1",
        kind: "Service",
        metadata: { name, namespace },
        spec: { ...(isHeadless ? { clusterIP: "None" } : {}), selector, ports: targeted },
      }),
    );
  }
  const ends = drawn.map((end) => ({
    ...end,
    holder: holders.get(`${end.kind}/${end.name}`) ?? inventory.whoHad(end.name, 0)!,
  }));
  const nodes = new Map(ends.filter(({ kind }) => kind === "node").map((end) => [end.name, end]));
  const podsInBlocks = random.pick<PodsInBlocks>("undecidable", "undecidable", "never", "match");
  return { ends, nodes, services, objects, podsInBlocks };
}

export type Question = { client: NaiveEnd; server: NaiveEnd; port: number; transport: Transport };

export function drawQuestion(random: Random, { ends }: Cluster): Question {
  const pods = ends.filter(({ kind }) => kind === "pod");
  const draw = () => (random.once(3) ? random.pick(...ends) : random.pick(...pods));
  return {
    client: draw(),
    server: draw(),
    port: random.pick(80, 80, 81, 81, 82, 90),
    transport: random.pick<Transport>("TCP", "TCP", "TCP", "TCP", "UDP", "SCTP"),
  };
}

export function formatQuestion({ client, server, port, transport }: Question): string {
  const [from, to] = [client, server].map(({ namespace, name }) => `${namespace}/${name}`);
  return `${from} -> ${to} ${transport} ${port}`;
}
