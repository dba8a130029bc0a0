/** Tests whom a Service led to at which time, and which addresses are nobody's outside. */
import t from "tap";
import { attribute } from "../../collector/attribution/attribute.ts";
import { toClusterObject, type JsonMap } from "../../collector/attribution/cluster-object.ts";
import { formatHolder } from "../../collector/attribution/holder.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { Declaration } from "../../collector/declaration.ts";
import type { Observation } from "../../protocol/observation.ts";

const object = (body: JsonMap) => toClusterObject(body, null)!;
const timeOf = (ms: number) => new Date(ms).toISOString();

function pod(name: string, ip: string, startMs = 0, spec: JsonMap = {}): JsonMap {
  const app = name.replace(/-.*/, "");
  return {
    ...{ apiVersion: "v1", kind: "Pod", spec },
    metadata: {
      ...{ name, namespace: "web", uid: `uid-${name}`, labels: { app } },
      ownerReferences: [
        { apiVersion: "apps/v1", kind: "StatefulSet", name: app, controller: true },
      ],
    },
    status: { podIP: ip, podIPs: [{ ip }], startTime: timeOf(startMs) },
  };
}

const node = (name: string, address: string): JsonMap => ({
  ...{ apiVersion: "v1", kind: "Node" },
  metadata: { name, creationTimestamp: timeOf(0) },
  spec: { podCIDRs: ["10.1.0.0/16"] },
  status: { addresses: [{ type: "InternalIP", address }] },
});

const service = (
  name: string,
  clusterIP: string,
  selector: JsonMap,
  namespace = "web",
): JsonMap => ({
  ...{ apiVersion: "v1", kind: "Service" },
  metadata: { name, namespace, creationTimestamp: timeOf(0) },
  spec: { clusterIP, selector, ports: [{ port: 80, targetPort: 8080 }] },
});

type Conditions = { ready?: boolean; serving?: boolean; terminating?: boolean };

/** `pod` is named by its endpoint, but where it is null. */
function endpoint(address: string, pod: string | null, conditions: Conditions = { ready: true }) {
  const targetRef = { kind: "Pod", namespace: "web", name: pod, uid: `uid-${pod}` };
  return { addresses: [address], conditions, ...(pod === null ? {} : { targetRef }) };
}

const slice = (of: string, endpoints: readonly JsonMap[], more: JsonMap = {}): JsonMap => ({
  ...{ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", endpoints },
  metadata: {
    ...{ name: `${of}-1`, namespace: "web", labels: { "kubernetes.io/service-name": of } },
    ...more,
  },
});

const CLIENT = "10.1.0.1";

function serverOf(inventory: Inventory, dst: string, atMs: number, apartMs = 0, port = 80) {
  const record = {
    ...{ start: timeOf(atMs), proto: "tcp", src_ip: CLIENT, dst_ip: dst, dst_port: port },
    tls: null,
  };
  const observation = { flow: "1", revision: 1, record } as unknown as Observation;
  const { server, serverPort, reasons } = attribute(observation, inventory, apartMs);
  const name = server.holder === null ? null : formatHolder(server.holder);
  return { name, port: serverPort, why: reasons.join("; ") };
}

function make(...bodies: JsonMap[]): Inventory {
  const inventory = new Inventory();
  for (const body of bodies) inventory.apply(object(body), 1000);
  return inventory;
}

const BLUE = pod("blue-0", "10.1.0.2");
const GREEN = pod("green-0", "10.1.0.3");
const VIP = "10.96.0.10";

t.test("a Service leads to the endpoints that it had at that time", async (t) => {
  const inventory = make(BLUE, GREEN, service("api", VIP, { tier: "api" }));
  inventory.apply(object(slice("api", [endpoint("10.1.0.2", "blue-0")])), 1000);
  inventory.apply(object(slice("api", [endpoint("10.1.0.3", "green-0")])), 60_000);
  inventory.remove(object(slice("api", [])), 120_000);
  inventory.apply(object(slice("api", [endpoint("10.1.0.2", "blue-0")])), 180_000);
  t.match(serverOf(inventory, VIP, 59_999), { name: "web/blue[StatefulSet]", port: 8080 });
  // Whoever translates its address follows within 15 s.
  t.match(serverOf(inventory, VIP, 60_000), { name: null, why: /several workloads/ });
  t.match(serverOf(inventory, VIP, 74_999), { name: null, why: /several workloads/ });
  t.match(serverOf(inventory, VIP, 75_000), { name: "web/green[StatefulSet]", port: 8080 });
  t.match(serverOf(inventory, VIP, 134_999), { name: "web/green[StatefulSet]" });
  t.match(serverOf(inventory, VIP, 135_000), { name: null, why: /no known backend/ });
  t.match(serverOf(inventory, VIP, 180_000), { name: "web/blue[StatefulSet]" });
  t.match(serverOf(inventory, VIP, 61_000, 5_000), { name: null, why: /several workloads/ });
  inventory.forget(150_000);
  t.match(serverOf(inventory, VIP, 200_000), { name: "web/blue[StatefulSet]" });
  t.not(serverOf(inventory, VIP, 61_000).name, "web/green[StatefulSet]", "forgotten");
});

t.test("whoever writes a slice may name any pod, and any address", async (t) => {
  const named = (address: string, pod: string) => {
    const inventory = make(BLUE, GREEN, service("api", VIP, {}));
    inventory.apply(object(slice("api", [endpoint(address, pod)])), 1000);
    return serverOf(inventory, VIP, 2000);
  };
  t.match(named("10.1.0.2", "blue-0"), { name: "web/blue[StatefulSet]" });
  t.match(named("10.1.0.3", "blue-0"), { name: null, why: /not known who it was/ });
});

t.test("a Service that is given a pod's address takes nothing from the pod", async (t) => {
  const claim = service("claim", VIP, {});
  const body = { ...claim, spec: { ...(claim["spec"] as JsonMap), externalIPs: ["10.1.0.2"] } };
  const inventory = make(BLUE, GREEN, body);
  inventory.apply(object(slice("claim", [endpoint("10.1.0.3", "green-0")])), 1000);
  const { ports } = body.spec as { ports?: { port: number }[] };
  const taken = ports![0]!.port;
  // What comes from it is the pod's; so is what goes to a port that the Service does not offer.
  t.equal(inventory.lookUp("10.1.0.2", 2000).reason, "ambiguous");
  t.equal(inventory.lookUp("10.1.0.2", 2000, 0, () => false).holder?.name, "blue-0");
  t.match(serverOf(inventory, "10.1.0.2", 2000, 0, taken + 1), { name: "web/blue[StatefulSet]" });
  t.match(serverOf(inventory, "10.1.0.2", 2000, 0, taken), { name: null, why: /several held/ });
});

t.test("a Service without slices leads by the selector that it had at that time", async (t) => {
  const inventory = make(BLUE, GREEN, service("api", VIP, { app: "blue" }));
  inventory.apply(object(service("api", VIP, { app: "green" })), 60_000);
  t.match(serverOf(inventory, VIP, 59_999), { name: "web/blue[StatefulSet]" });
  t.match(serverOf(inventory, VIP, 60_000), { name: "web/green[StatefulSet]" });
});

t.test("endpoints that may be sent to count, and no others", async (t) => {
  const cases: [Conditions, boolean][] = [
    [{ ready: true, serving: true, terminating: false }, true],
    [{}, true],
    [{ ready: false, serving: true, terminating: true }, true],
    [{ ready: false, serving: false, terminating: true }, false],
    [{ ready: false, serving: false, terminating: false }, false],
    [{ ready: false }, false],
  ];
  for (const [conditions, isSentTo] of cases) {
    const inventory = make(BLUE, GREEN, service("api", VIP, {}));
    const endpoints = [endpoint("10.1.0.2", "blue-0"), endpoint("10.1.0.3", "green-0", conditions)];
    inventory.apply(object(slice("api", endpoints)), 1000);
    const want = isSentTo ? null : "web/blue[StatefulSet]";
    t.equal(serverOf(inventory, VIP, 2000).name, want, JSON.stringify(conditions));
  }
});

t.test("a backend that is not known leaves open who served", async (t) => {
  const inventory = make(BLUE, service("api", VIP, {}));
  const known = endpoint("10.1.0.2", "blue-0");
  inventory.apply(object(slice("api", [known, endpoint("10.1.0.9", "gone-0")])), 1000);
  t.match(serverOf(inventory, VIP, 2000), { name: null, why: /not known who it was/ });
  inventory.apply(object(slice("api", [known, endpoint("10.1.0.9", null)])), 3000);
  t.match(serverOf(inventory, VIP, 4000), { name: null, why: /not known who it was/ });
  const other = { ...endpoint("10.1.0.2", "blue-0"), targetRef: { kind: "Pod", namespace: "web" } };
  const reborn = { ...other, targetRef: { ...other.targetRef, name: "blue-0", uid: "another" } };
  inventory.apply(object(slice("api", [reborn])), 5000);
  t.match(serverOf(inventory, VIP, 6000), { name: null }, "another pod had that name");
});

t.test("the API server, and endpoints on the nodes' network, are named", async (t) => {
  const proxy = pod("proxy-0", "192.0.2.1", 0, { hostNetwork: true, nodeName: "n1" });
  const inventory = make(
    ...[node("n1", "192.0.2.1"), node("n2", "192.0.2.2"), proxy],
    service("proxy", VIP, {}),
    service("kubernetes", "10.96.0.1", {}, "default"),
  );
  inventory.apply(object(slice("proxy", [endpoint("192.0.2.2", "proxy-0")])), 1000);
  t.match(serverOf(inventory, VIP, 2000), { name: null }, "it is not on that node");
  inventory.apply(object(slice("proxy", [endpoint("192.0.2.1", "proxy-0")])), 1000);
  t.match(serverOf(inventory, VIP, 20_000), { name: "web/proxy[StatefulSet]" });
  const servers = (...addresses: string[]) =>
    object(slice("kubernetes", [{ addresses }], { name: "kubernetes", namespace: "default" }));
  inventory.apply(servers("192.0.2.1", "192.0.2.2"), 1000);
  t.match(serverOf(inventory, "10.96.0.1", 2000), {
    ...{ name: "default/kubernetes[Service]", port: 8080 },
  });
  t.match(serverOf(inventory, "192.0.2.2", 2000, 0, 6443), { name: "n2[Node]", port: 6443 });
  inventory.apply(servers("10.200.0.1", "203.0.113.9"), 3000);
  const named = { name: "default/kubernetes[External]", port: 6443 };
  t.match(serverOf(inventory, "10.200.0.1", 4000, 0, 6443), named, "managed by somebody else");
  t.match(serverOf(inventory, "203.0.113.9", 4000, 0, 6443), named);
  t.match(serverOf(inventory, "203.0.113.9", 2000, 0, 6443), { name: "203.0.113.9[External]" });
});

t.test("a private address that nobody is known to have held is nobody's", async (t) => {
  const inventory = make(node("n1", "192.0.2.1"), BLUE);
  for (const ip of ["203.0.114.1", "203.0.114.9"]) {
    inventory.apply(object(service(`s${ip}`, ip, {})), 1000);
  }
  const reasonOf = (address: string) => {
    const { holder, reason } = inventory.lookUp(address, 2000);
    return holder === null ? reason : formatHolder(holder);
  };
  for (const address of [
    ...["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1"],
    ...["100.64.0.0", "100.127.255.255", "fc00::1", "fdff::1"],
  ]) {
    t.equal(reasonOf(address), "private", address);
  }
  for (const address of [
    ...["9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255"],
    ...["192.169.0.0", "100.63.255.255", "100.128.0.0", "fbff::1", "fe00::1", "2001:db8::1"],
  ]) {
    t.equal(reasonOf(address), `${address}[External]`);
  }
  t.equal(reasonOf("10.1.3.3"), "pod-network");
  t.equal(reasonOf("203.0.114.5"), "service-network");
  t.equal(reasonOf("203.0.114.10"), "203.0.114.10[External]");
  t.match(serverOf(inventory, "10.9.9.9", 2000), { name: null, why: /a private one/ });
});

t.test("while nodes, pods or Services cannot be listed, nothing is outside", async (t) => {
  for (const kind of ["Pod", "Node", "Service"]) {
    const declaration = new Declaration(15_000, () => {});
    const { inventory } = declaration;
    const told = (atMs: number) => inventory.lookUp("203.0.113.9", atMs).reason;
    declaration.setBlind(kind, kind, { sinceMs: -Infinity, reason: "failed: 403" }, 1000);
    t.equal(told(500), "not-listed", kind);
    declaration.setBlind(kind, kind, null, 2000);
    t.equal(told(500), null);
    declaration.setBlind(kind, kind, { sinceMs: 60_000, reason: "watch broke" }, 60_000);
    t.equal(told(59_999), null, "it was known then");
    t.equal(told(60_000), "not-listed");
  }
  const declaration = new Declaration(15_000, () => {});
  declaration.setBlind("NetworkPolicy", "n", { sinceMs: -Infinity, reason: "failed: 403" }, 1000);
  t.equal(declaration.inventory.lookUp("203.0.113.9", 500).reason, null, "it holds no address");
});

t.test("what the first list of a cluster holds, it has held since it began", async (t) => {
  const declaration = new Declaration(15_000, () => {});
  const { inventory } = declaration;
  const nowMs = 600_000;
  const managedFields = [
    { manager: "kube-controller-manager", time: timeOf(400_000) },
    { manager: "kubectl", time: timeOf(300_000) },
  ];
  for (const body of [
    ...[pod("blue-0", "10.1.0.2", 100_000), pod("green-0", "10.1.0.3", 100_000)],
    service("api", VIP, { app: "green" }),
    slice("api", [endpoint("10.1.0.2", "blue-0")], { managedFields }),
    { ...pod("done-0", "10.1.0.7"), status: { podIP: "10.1.0.7", phase: "Succeeded" } },
  ]) {
    declaration.applyFirst(object(body), nowMs, nowMs);
  }
  declaration.endFirst(nowMs);
  t.equal(inventory.lookUp("10.1.0.2", 99_999).reason, "not-held-then", "it had not started");
  t.equal(inventory.whoHad("10.1.0.2", 100_000)?.name, "blue-0");
  t.equal(inventory.whoHad("10.1.0.7", nowMs), null, "a pod that is over holds nothing");
  t.match(serverOf(inventory, VIP, 400_000), { name: "web/blue[StatefulSet]" });
  const before = serverOf(inventory, VIP, 399_999);
  t.match(before, { name: null, why: /no known backend/ }, "what the slice held then is not known");
});

t.test("of two pods that say they have an address, who began later keeps it", async (t) => {
  const first = make(pod("a-0", "10.1.0.5", 100), pod("b-0", "10.1.0.5", 500));
  t.equal(first.whoHad("10.1.0.5", 1500)?.name, "b-0");
  const second = make(pod("b-0", "10.1.0.5", 500), pod("a-0", "10.1.0.5", 100));
  t.equal(second.lookUp("10.1.0.5", 1500).reason, "ambiguous", "or nobody is known to");
  second.remove(object(pod("a-0", "10.1.0.5")), 2000);
  t.equal(second.whoHad("10.1.0.5", 2000)?.name, "b-0");
});
