/**
 * Compiles 2,000 policies of one family over 5,000 pods, changes one, asks about random pairs, and
 * prints what that takes: `node scripts/bench/policy.ts FAMILY [NAMESPACES]`.
 */
import { toClusterObject, type JsonMap } from "../../collector/attribution/cluster-object.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { PolicyHistory } from "../../collector/policy/history/history.ts";

const PODS = 5000;
const POLICIES = 2000;
const QUESTIONS = 100_000;

let state = 1;
/** A whole number below `n`; the same ones in every run. */
const random = (n: number): number => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  return (state >>> 8) % n;
};
const pick = <T>(...of: readonly T[]): T => of[random(of.length)]!;
const labels = () => (random(3) === 0 ? { tier: `x${random(3)}` } : { app: `a${random(500)}` });
const selector = () => ({ matchLabels: labels() });

type Make = (name: string, namespace: string, spaces: number) => JsonMap;
const object = (apiVersion: string, kind: string, metadata: JsonMap, spec: JsonMap): JsonMap => ({
  ...{ apiVersion, kind, metadata, spec },
});

const FAMILIES: Readonly<Record<string, { pod?: JsonMap; make: Make }>> = {
  NetworkPolicy: {
    make: (name, namespace) => {
      const from = [
        { podSelector: selector(), namespaceSelector: { matchLabels: { team: `t${random(10)}` } } },
        { ipBlock: { cidr: `10.${random(255)}.0.0/16` } },
      ];
      const rule = () => ({ from, ports: [{ port: 8080 }, { port: "http" }] });
      return object(...(["networking.k8s.io/v1", "NetworkPolicy", { name, namespace }] as const), {
        podSelector: selector(),
        ingress: Array.from({ length: 1 + random(4) }, rule),
      });
    },
  },
  AdminNetworkPolicy: {
    make: (name) => {
      const pods = () => ({
        pods: {
          namespaceSelector: { matchLabels: { team: `t${random(10)}` } },
          podSelector: selector(),
        },
      });
      const ingress = [{ action: pick("Allow", "Deny", "Pass"), from: [pods()] }];
      const spec = { priority: random(1000), subject: pods(), ingress };
      return object("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", { name }, spec);
    },
  },
  Istio: {
    pod: { labels: { "sidecar.istio.io/inject": "true" } },
    make: (name, namespace, spaces) => {
      const metadata = { name, namespace };
      if (random(2) === 0) {
        const spec = { selector: selector(), mtls: { mode: pick("STRICT", "PERMISSIVE") } };
        return object("security.istio.io/v1", "PeerAuthentication", metadata, spec);
      }
      const from = [
        { source: { namespaces: [`n${random(spaces)}`] } },
        { source: { principals: ["*/sa/x"] } },
      ];
      const rules = [{ from, to: [{ operation: { ports: ["8080"] } }] }];
      const spec = { selector: selector(), action: pick("ALLOW", "ALLOW", "DENY"), rules };
      return object("security.istio.io/v1", "AuthorizationPolicy", metadata, spec);
    },
  },
  Cilium: {
    make: (name, namespace) => {
      const fromEndpoints = [{ matchLabels: labels() }, { matchLabels: labels() }];
      const toPorts = [{ ports: [{ port: "8080", protocol: "TCP" }] }];
      const key = random(5) === 0 ? "ingressDeny" : "ingress";
      const spec = { endpointSelector: selector(), [key]: [{ fromEndpoints, toPorts }] };
      return object("cilium.io/v2", "CiliumNetworkPolicy", { name, namespace }, spec);
    },
  },
  Calico: {
    make: (name, namespace) => {
      const { app, tier } = labels() as { app?: string; tier?: string };
      const expression = app === undefined ? `tier == "${tier}"` : `app == "${app}"`;
      const source = {
        selector: `tier == "x${random(3)}" && has(app)`,
        nets: [`10.${random(255)}.0.0/16`],
      };
      const rule = () => ({
        action: pick("Allow", "Deny", "Pass"),
        protocol: "TCP",
        source,
        destination: { ports: [8080] },
      });
      const ingress = Array.from({ length: 1 + random(3) }, rule);
      const spec = { order: random(100), selector: expression, types: ["Ingress"], ingress };
      return object("projectcalico.org/v3", "NetworkPolicy", { name, namespace }, spec);
    },
  },
};

const family = process.argv[2] ?? "NetworkPolicy";
const spaces = Number(process.argv[3] ?? 100);
const { pod, make } = FAMILIES[family]!;
const bodies: JsonMap[] = Array.from({ length: spaces }, (_, i) => ({
  ...{ apiVersion: "v1", kind: "Namespace" },
  metadata: { name: `n${i}`, labels: { team: `t${i % 10}` } },
}));
for (let i = 0; i < PODS; i++) {
  const own = { app: `a${i % 500}`, tier: `x${i % 3}`, ...((pod?.["labels"] ?? {}) as JsonMap) };
  bodies.push({
    ...{ apiVersion: "v1", kind: "Pod" },
    metadata: { name: `p${i}`, namespace: `n${i % spaces}`, labels: own },
    spec: { containers: [{ name: "c", ports: [{ containerPort: 8080, name: "http" }] }] },
    status: { podIP: `10.${(i >> 8) & 255}.${i & 255}.1`, phase: "Running" },
  });
}
for (let i = 0; i < POLICIES; i++) bodies.push(make(`o${i}`, `n${random(spaces)}`, spaces));

const objects = bodies.map((body) => toClusterObject(body, null)!);
const inventory = new Inventory();
const history = new PolicyHistory();
for (const found of objects) {
  inventory.apply(found, -Infinity);
  history.apply(found, -Infinity);
}
const timed = (act: () => void): number => {
  const begun = performance.now();
  act();
  return performance.now() - begun;
};
const compileMs = timed(() => history.at(0));
const pods = inventory.pods(0);
const ask = (count: number, atMs: number) => {
  const policy = history.at(atMs);
  const ms = timed(() => {
    for (let i = 0; i < count; i++) {
      policy.expect(pods[random(PODS)]!, pods[random(PODS)]!, 8080, "TCP", atMs);
    }
  });
  return (ms * 1000) / count;
};
const firstUs = ask(10_000, 0);
const lookupUs = ask(QUESTIONS, 0);
const { metadata, ...rest } = bodies.at(-1)!;
const changed = { ...rest, metadata: { ...(metadata as JsonMap), labels: { changed: "yes" } } };
const changeMs = timed(() => {
  history.apply(toClusterObject(changed, null)!, 1000);
  history.at(1000);
});
const rssMib = process.memoryUsage().rss / 2 ** 20;
console.log(JSON.stringify({ family, spaces, compileMs, changeMs, firstUs, lookupUs, rssMib }));
