/** Reads the manifests into the plan of nodes, pods and Services that the network follows. */
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { parseAllDocuments } from "yaml";

export const MANIFESTS = path.join(import.meta.dirname, "manifests");

type Labels = Record<string, string>;
type Meta = {
  name: string;
  namespace?: string;
  labels?: Labels;
  annotations?: Labels;
  ownerReferences?: { kind: string; name: string }[];
};
type Peer = {
  namespaceSelector?: { matchLabels?: Labels };
  podSelector?: { matchLabels?: Labels };
};
/** Only the fields that the plan reads. */
export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: Meta;
  spec?: {
    podCIDR?: string;
    nodeName?: string;
    clusterIP?: string;
    containers?: { name: string; ports?: { containerPort: number }[] }[];
    ports?: { protocol: string; port: number; targetPort: number }[];
    selector?: Labels;
    podSelector?: { matchLabels?: Labels };
    ingress?: { from?: Peer[]; ports?: { protocol: string; port: number }[] }[];
  };
  status?: {
    podIP?: string;
    hostIP?: string;
    addresses?: { type: string; address: string }[];
  };
};

export type PodPlan = {
  namespace: string;
  /** Name of the Pod object. */
  pod: string;
  /** `namespace/name` of the top owner: the Deployment, StatefulSet, or the bare Pod. */
  workload: string;
  address: string;
  node: string;
  /** Host-side end of its veth. */
  interface: string;
  labels: Labels;
  ports: number[];
  /** What of it leaves its node does so under the node's address. */
  masqueraded: boolean;
};

export type NodePlan = {
  name: string;
  address: string;
  podCidr: string;
  /** Whether the agent's DaemonSet selects it. */
  agent: boolean;
  pods: PodPlan[];
};

export type ServicePlan = {
  name: string;
  clusterIp: string;
  protocol: "tcp" | "udp";
  port: number;
  endpoint: string;
  targetPort: number;
};

/** How network plugins turn an attempt down: the nft statement, by the annotation's value. */
const TURNED_DOWN = {
  drop: "drop",
  prohibit: "reject with icmp admin-prohibited",
  reset: "reject with tcp reset",
} as const;

/** What the network turns down: to `address:port`, from everybody but `allowed`. */
export type Enforcement = {
  node: string;
  address: string;
  port: number;
  allowed: string[];
  statement: (typeof TURNED_DOWN)[keyof typeof TURNED_DOWN];
};

export type Plan = {
  nodes: NodePlan[];
  pods: PodPlan[];
  services: ServicePlan[];
  enforced: Enforcement[];
};

/** Every object of every file in the folder, in the order of file names. */
export function readManifests(folder: string = MANIFESTS): Manifest[] {
  const files = readdirSync(folder).filter((file) => file.endsWith(".yaml"));
  return files.sort().flatMap((file) =>
    parseAllDocuments(readFileSync(path.join(folder, file), "utf8")).map((document) => {
      if (document.errors[0]) throw new Error(`${file}: ${document.errors[0].message}`);
      return document.toJS() as Manifest;
    }),
  );
}

/** Reports whether every label asked for is there; no selector matches all. */
function matches(labels: Labels, asked: Labels | undefined): boolean {
  return Object.entries(asked ?? {}).every(([name, value]) => labels[name] === value);
}

/** Follows ownerReferences up to the object that nobody owns. */
function topOwner(manifests: Manifest[], of: Manifest): Manifest {
  const owner = of.metadata.ownerReferences?.[0];
  if (!owner) return of;
  const found = manifests.find(
    (m) =>
      m.kind === owner.kind &&
      m.metadata.name === owner.name &&
      m.metadata.namespace === of.metadata.namespace,
  );
  if (!found) throw new Error(`${of.metadata.name}: its ${owner.kind} ${owner.name} is missing`);
  return topOwner(manifests, found);
}

function planPods(manifests: Manifest[]): PodPlan[] {
  return manifests
    .filter((m) => m.kind === "Pod")
    .map((m) => {
      const namespace = m.metadata.namespace!;
      const owner = topOwner(manifests, m).metadata.name;
      return {
        namespace,
        pod: m.metadata.name,
        workload: `${namespace}/${owner}`,
        address: m.status!.podIP!,
        node: m.spec!.nodeName!,
        interface: `wp${owner}`.slice(0, 15),
        labels: m.metadata.labels ?? {},
        ports: (m.spec!.containers ?? []).flatMap((c) =>
          (c.ports ?? []).map((port) => port.containerPort),
        ),
        masqueraded: m.metadata.annotations?.["scene.wireproof.io/masqueraded"] === "true",
      };
    });
}

function planServices(manifests: Manifest[], pods: PodPlan[]): ServicePlan[] {
  const withAddress = manifests.filter(
    (m) => m.kind === "Service" && m.spec?.clusterIP !== undefined && m.spec.clusterIP !== "None",
  );
  return withAddress.flatMap((service) => {
    const pod = pods.find(
      (p) =>
        p.namespace === service.metadata.namespace && matches(p.labels, service.spec!.selector),
    );
    if (!pod) throw new Error(`Service ${service.metadata.name} selects no pod`);
    return service.spec!.ports!.map((port) => ({
      name: `${service.metadata.namespace}/${service.metadata.name}`,
      clusterIp: service.spec!.clusterIP!,
      protocol: port.protocol === "UDP" ? ("udp" as const) : ("tcp" as const),
      port: port.port,
      endpoint: pod.address,
      targetPort: port.targetPort,
    }));
  });
}

/** The NetworkPolicies that this network really enforces, by their annotation. */
function planEnforcement(manifests: Manifest[], pods: PodPlan[]): Enforcement[] {
  const labelsOf = (namespace: string) =>
    manifests.find((m) => m.kind === "Namespace" && m.metadata.name === namespace)?.metadata
      .labels ?? {};
  return manifests.flatMap((policy) => {
    const how = policy.metadata.annotations?.["scene.wireproof.io/enforced"];
    if (policy.kind !== "NetworkPolicy" || how === undefined) return [];
    const statement = TURNED_DOWN[how as keyof typeof TURNED_DOWN];
    if (!statement) throw new Error(`NetworkPolicy ${policy.metadata.name}: enforced: ${how}`);
    const own = policy.metadata.namespace!;
    const admits = (peer: Peer, pod: PodPlan) =>
      matches(pod.labels, peer.podSelector?.matchLabels) &&
      (peer.namespaceSelector
        ? matches(labelsOf(pod.namespace), peer.namespaceSelector.matchLabels)
        : pod.namespace === own);
    const servers = pods.filter(
      (pod) => pod.namespace === own && matches(pod.labels, policy.spec!.podSelector?.matchLabels),
    );
    return servers.flatMap((server) =>
      policy.spec!.ingress!.flatMap((rule) =>
        rule.ports!.map(({ port }) => ({
          node: server.node,
          address: server.address,
          port,
          allowed: pods
            .filter((pod) => rule.from!.some((peer) => admits(peer, pod)))
            .map((pod) => pod.address),
          statement,
        })),
      ),
    );
  });
}

/** The plan: the only place from which the scene takes an address. */
export function readPlan(manifests: Manifest[] = readManifests()): Plan {
  const pods = planPods(manifests);
  const nodes = manifests
    .filter((m) => m.kind === "Node")
    .map((m) => ({
      name: m.metadata.name,
      address: m.status!.addresses!.find((a) => a.type === "InternalIP")!.address,
      podCidr: m.spec!.podCIDR!,
      agent: m.metadata.labels?.["wireproof.io/agent"] === "true",
      pods: pods.filter((pod) => pod.node === m.metadata.name),
    }));
  return {
    nodes,
    pods,
    services: planServices(manifests, pods),
    enforced: planEnforcement(manifests, pods),
  };
}

/** The address under which a case's client is seen by its server. */
export function addressSeen(
  plan: Plan,
  { client, seen_as }: { client: string; seen_as: string | null },
): string {
  const node = plan.nodes.find(({ name }) => name === seen_as);
  if (seen_as !== null && !node) throw new Error(`no node ${seen_as} in the manifests`);
  return node?.address ?? podOf(plan, client).address;
}

/** The pod of a workload; each workload of the scene has exactly one. */
export function podOf(plan: Plan, workload: string): PodPlan {
  const pod = plan.pods.find((p) => p.workload === workload);
  if (!pod) throw new Error(`no pod of ${workload} in the manifests`);
  return pod;
}
