/**
 * Makes a small cluster of a seed: who runs where, what is declared since when, and what of it is
 * enforced in truth. Nothing here comes from the project's own reading of policy.
 */
import type { JsonMap } from "../../collector/attribution/cluster-object.ts";
import type { Draw } from "./draw.ts";

export type Node = {
  name: string;
  address: string;
  /** Its clock's distance from the world's time, in milliseconds. */
  offsetMs: number;
  /** Spans of the world's time in which its agent watches; none where there is no agent. */
  watched: readonly (readonly [number, number])[];
  /** Of the frames at its interfaces the kernel drops so many. */
  dropShare: number;
  /** Share of flows that its agent reads: the same ones as the agents of other nodes. */
  sampling: number;
  /** Its agent gave up what it had seen in that time, and tells how much that was. */
  gaveUp: readonly [number, number] | null;
  /** Of attempts that nobody answers its agent keeps the first, and counts the others. */
  isFlooded: boolean;
};

/** What answers behind a pod's port. `dying`: it takes connections and closes them wordlessly. */
export type Service = "up" | "closed" | "frozen" | "dying";

export type Pod = {
  name: string;
  app: string;
  namespace: string;
  node: Node;
  address: string;
  bornMs: number;
  /** Infinity while it lives. */
  diedMs: number;
  port: number;
  serves: Service;
  /** Its proxy turns away what is no mutual TLS, when that is declared. */
  meshEnforces: boolean;
  /** What its label says to policies: its app, or for a time another one. */
  roles: readonly Declared<string>[];
  /** It is no pod, but the node itself: its kubelet probes pods. */
  isNode?: boolean;
};

export type Declared<T> = {
  fromMs: number;
  toMs: number;
  value: T;
};

/** `null`: no object speaks of it. */
export type Rules = {
  /** Apps that may reach it; null where no NetworkPolicy selects it. */
  admits: readonly string[] | null;
  mtls: "STRICT" | "PERMISSIVE" | null;
};

export type Cluster = {
  nodes: readonly Node[];
  pods: readonly Pod[];
  /** By app, what is declared of it over time. */
  rules: ReadonlyMap<string, readonly Declared<Rules>[]>;
  /** How the network plugin treats what is denied; `ignores`: it enforces nothing. */
  plugin: "drops" | "resets" | "ignores";
  /** Milliseconds until a change of policy acts. */
  lagMs: number;
  /** Whoever stole this node's certificate makes up what its agent says. */
  stolen: Node | null;
  /** A Service that is led from one app's pods to another's at some time; null where none is. */
  moved: Declared<readonly Pod[]>[] | null;
  /** The plugin rewrites clients' addresses to their nodes' between nodes. */
  masquerades: boolean;
};

export const WINDOW_MS = 60_000;
/** The world's time begins so long before the window that is judged, and ends so long behind it. */
export const BEFORE_MS = 60_000;
export const BEHIND_MS = 30_000;

const APPS = ["web", "cart", "ledger", "billing", "vault"] as const;

export function makeCluster(draw: Draw): Cluster {
  const nodes = Array.from({ length: draw.whole(2, 3) }, (_, i) => makeNode(draw, i));
  const apps = APPS.slice(0, draw.whole(3, 5));
  const pods: Pod[] = [];
  for (const [a, app] of apps.entries()) {
    const count = draw.whole(1, 3);
    for (let i = 0; i < count; i++) pods.push(makePod(draw, app, a, i, draw.pick(nodes)));
  }
  // An address goes to the next pod of its node: of any app, sooner or later.
  for (const dead of pods.filter((pod) => pod.diedMs < Infinity && draw.chance(0.5))) {
    const a = draw.whole(0, apps.length - 1);
    const heir = makePod(draw, apps[a]!, a, 9, dead.node);
    const bornMs = dead.diedMs + draw.between(0, 20_000);
    const name = `${heir.app}-heir-of-${dead.name}`;
    pods.push({ ...heir, name, bornMs, diedMs: Infinity, address: dead.address });
  }
  // A StatefulSet makes a pod anew, under its name; and that on any node.
  for (const dead of pods.filter((pod) => pod.diedMs < Infinity && draw.chance(0.5))) {
    const a = apps.indexOf(dead.app as (typeof APPS)[number]);
    const next = makePod(draw, dead.app, a, 20 + pods.length, draw.pick(nodes));
    const bornMs = dead.diedMs + draw.between(0, 10_000);
    pods.push({ ...next, name: dead.name, bornMs, diedMs: Infinity });
  }
  const rules = new Map(apps.map((app) => [app, makeRules(draw, apps)]));
  return {
    ...{ nodes, pods, rules },
    plugin: draw.pick(["drops", "drops", "resets", "ignores"] as const),
    lagMs: draw.between(0, 5_000),
    masquerades: draw.chance(0.1),
    moved: draw.chance(0.3) ? makeMoved(draw, pods) : null,
    stolen: draw.chance(0.1) ? draw.pick(nodes) : null,
  };
}

/** Of so many apps: all watched, all up, all declared and enforced; nothing changes. */
export function makePerfectCluster(draw: Draw, count: number): Cluster {
  const nodes = Array.from({ length: 6 }, (_, i) => ({
    ...makeNode(draw, i),
    ...{ watched: [ALWAYS], dropShare: 0, sampling: 1, gaveUp: null, isFlooded: false },
  }));
  const apps = Array.from({ length: count }, (_, a) => `app-${a}`);
  const pods = apps.flatMap((app, a) =>
    Array.from({ length: draw.whole(1, 3) }, (_, i) => ({
      ...makePod(draw, app, a, i, draw.pick(nodes)),
      ...{ bornMs: -3_600_000, diedMs: Infinity, serves: "up" as const, meshEnforces: true },
      roles: [{ fromMs: -Infinity, toMs: Infinity, value: app }],
    })),
  );
  const value: Rules = { admits: apps.filter((_, a) => a % 4 > 0), mtls: "STRICT" };
  const rules = new Map(apps.map((app) => [app, [{ fromMs: -Infinity, toMs: Infinity, value }]]));
  const plugin = {
    plugin: "drops",
    lagMs: 0,
    masquerades: false,
    stolen: null,
    moved: null,
  } as const;
  return { nodes, pods, rules, ...plugin };
}

const ALWAYS = [-BEFORE_MS - 60_000, WINDOW_MS + BEHIND_MS] as const;

function makeNode(draw: Draw, i: number): Node {
  const [from, to] = ALWAYS;
  const gapMs = draw.between(0, WINDOW_MS - 10_000);
  const watched = draw.pick([
    ...[[ALWAYS], [ALWAYS], [ALWAYS], [ALWAYS], [ALWAYS]],
    [],
    [[draw.between(-30_000, WINDOW_MS), to] as const],
    [[from, gapMs] as const, [gapMs + draw.between(2_000, 10_000), to] as const],
  ]);
  return {
    ...{ name: `node-${i}`, address: `192.168.0.${i + 1}`, watched },
    offsetMs: draw.chance(0.3) ? Math.round(draw.between(-2_000, 2_000)) : 0,
    dropShare: draw.chance(0.1) ? 0.3 : 0,
    sampling: draw.chance(0.05) ? 0.5 : 1,
    gaveUp: draw.chance(0.05) ? [gapMs, gapMs + 10_000] : null,
    isFlooded: draw.chance(0.05),
  };
}

function makePod(draw: Draw, app: string, a: number, i: number, node: Node): Pod {
  const isYoung = draw.chance(0.1);
  const dies = draw.chance(0.1);
  return {
    ...{ name: `${app}-${i}`, app, namespace: a < 2 ? "shop" : "pay", node, port: 8080 + a },
    address: `10.${node.address.split(".")[3]}.${a}.${i + 1}`,
    bornMs: isYoung ? draw.between(0, WINDOW_MS / 2) : -3_600_000,
    diedMs: dies ? draw.between(WINDOW_MS / 2, WINDOW_MS) : Infinity,
    serves: draw.pick(["up", "up", "up", "up", "up", "up", "closed", "frozen", "dying"] as const),
    meshEnforces: !draw.chance(0.25),
    roles: makeRoles(draw, app),
  };
}

function makeRoles(draw: Draw, app: string): Declared<string>[] {
  if (!draw.chance(0.1)) return [{ fromMs: -Infinity, toMs: Infinity, value: app }];
  const changeMs = Math.round(draw.between(-30_000, WINDOW_MS));
  const [before, after] = draw.pick([
    [app, draw.pick(APPS)],
    [draw.pick(APPS), app],
  ]) as [string, string];
  return [
    { fromMs: -Infinity, toMs: changeMs, value: before },
    { fromMs: changeMs, toMs: Infinity, value: after },
  ];
}

/** Of pods that live all the time. */
function makeMoved(draw: Draw, pods: readonly Pod[]): Declared<readonly Pod[]>[] | null {
  const lasting = pods.filter((pod) => pod.bornMs < -BEFORE_MS && pod.diedMs === Infinity);
  if (lasting.length === 0) return null;
  const [before, after] = [draw.pick(lasting).app, draw.pick(lasting).app];
  const of = (name: string) => lasting.filter(({ app }) => app === name);
  const movesMs = Math.round(draw.between(-30_000, WINDOW_MS));
  return [
    { fromMs: -Infinity, toMs: movesMs, value: of(before) },
    { fromMs: movesMs, toMs: Infinity, value: of(after) },
  ];
}

function makeRules(draw: Draw, apps: readonly string[]): Declared<Rules>[] {
  const one = (): Rules => ({
    admits: draw.chance(0.2) ? null : apps.filter(() => draw.chance(0.5)),
    mtls: draw.pick(["STRICT", "STRICT", "PERMISSIVE", null] as const),
  });
  if (!draw.chance(0.25)) return [{ fromMs: -Infinity, toMs: Infinity, value: one() }];
  const changeMs = Math.round(draw.between(-30_000, WINDOW_MS));
  return [
    { fromMs: -Infinity, toMs: changeMs, value: one() },
    { fromMs: changeMs, toMs: Infinity, value: one() },
  ];
}

/** The rules of an app that were declared at some time within [fromMs, toMs]. */
export function rulesDuring(cluster: Cluster, app: string, fromMs: number, toMs: number): Rules[] {
  const all = cluster.rules.get(app)!;
  return all.filter((r) => r.fromMs <= toMs && fromMs < r.toMs).map((r) => r.value);
}

/** The roles of a pod at some time within [fromMs, toMs]. */
export const rolesDuring = ({ roles }: Pod, fromMs: number, toMs: number): string[] =>
  roles.filter((r) => r.fromMs <= toMs && fromMs < r.toMs).map((r) => r.value);

/** What comes from the pod's own node no NetworkPolicy keeps out. */
export const admits = (rules: Rules, { isNode }: Pod, role: string): boolean | null =>
  rules.admits === null ? null : isNode === true || rules.admits.includes(role);

const uidOf = ({ name, address }: Pick<Pod, "name" | "address">) => `uid-${name}-${address}`;

/** A pod, as its manifest has it. */
export function podObject(pod: Pod, role: string, epochMs: number): JsonMap {
  const { name, namespace, app, node, address, port } = pod;
  return {
    ...{ apiVersion: "v1", kind: "Pod" },
    metadata: {
      ...{ name, namespace, uid: uidOf(pod), labels: { app, role, part: namespace } },
      annotations: { "sidecar.istio.io/status": "{}" },
      ownerReferences: [
        { apiVersion: "apps/v1", kind: "StatefulSet", name: app, controller: true },
      ],
    },
    spec: {
      nodeName: node.name,
      containers: [
        { name: "c", ports: [{ name: "main", containerPort: port }] },
        { name: "istio-proxy" },
      ],
    },
    status: {
      ...{ phase: "Running", podIP: address, podIPs: [{ ip: address }] },
      startTime: new Date(epochMs + pod.bornMs).toISOString(),
    },
  };
}

export const nodeObject = ({ name, address }: Node): JsonMap => ({
  ...{ apiVersion: "v1", kind: "Node", metadata: { name } },
  spec: { podCIDR: `10.${address.split(".")[3]}.0.0/16` },
  status: { addresses: [{ type: "InternalIP", address }] },
});

/** The address of an app's Service, whose port 80 leads to the pods' own. */
export const serviceAddress = (port: number): string => `10.96.0.${port - 8079}`;

export const serviceObject = ({ app, namespace, port }: Pod): JsonMap => ({
  ...{ apiVersion: "v1", kind: "Service", metadata: { name: app, namespace } },
  spec: {
    ...{ clusterIP: serviceAddress(port), selector: { app } },
    ports: [{ port: 80, targetPort: port, protocol: "TCP" }],
  },
});

/** The address of a Service that leads to all pods of a namespace, of whatever app. */
export const sharedAddress = (namespace: string): string =>
  namespace === "shop" ? "10.96.1.1" : "10.96.1.2";

export const sharedObject = (namespace: string): JsonMap => ({
  ...{ apiVersion: "v1", kind: "Service", metadata: { name: "all", namespace } },
  spec: {
    ...{ clusterIP: sharedAddress(namespace), selector: { part: namespace } },
    ports: [{ port: 80, targetPort: "main", protocol: "TCP" }],
  },
});

/** The address of the Service that moves. */
export const MOVED_ADDRESS = "10.96.2.1";

export const MOVED_OBJECT: JsonMap = {
  ...{ apiVersion: "v1", kind: "Service", metadata: { name: "moved", namespace: "shop" } },
  spec: {
    clusterIP: MOVED_ADDRESS,
    ports: [{ port: 80, targetPort: "main", protocol: "TCP" }],
  },
};

/** Where the Service that moves leads. */
export const sliceObject = (pods: readonly Pod[]): JsonMap => ({
  ...{ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", addressType: "IPv4" },
  metadata: {
    ...{ name: "moved-1", namespace: "shop" },
    labels: { "kubernetes.io/service-name": "moved" },
  },
  endpoints: pods.map(({ name, namespace, address }) => ({
    ...{ addresses: [address], conditions: { ready: true } },
    targetRef: { kind: "Pod", name, namespace, uid: uidOf({ name, address }) },
  })),
});

/** What is declared of an app, as objects; none where nothing is. */
export function ruleObjects(app: string, namespace: string, rules: Rules): JsonMap[] {
  const metadata = { name: app, namespace };
  const selected = { matchLabels: { app } };
  const policy = rules.admits && {
    ...{ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata },
    spec: {
      ...{ podSelector: selected, policyTypes: ["Ingress"] },
      ingress: rules.admits.map((from) => ({
        from: [{ namespaceSelector: {}, podSelector: { matchLabels: { role: from } } }],
      })),
    },
  };
  const peer = rules.mtls && {
    ...{ apiVersion: "security.istio.io/v1", kind: "PeerAuthentication", metadata },
    spec: { selector: selected, mtls: { mode: rules.mtls } },
  };
  return [policy, peer].filter((o) => o !== null) as JsonMap[];
}
