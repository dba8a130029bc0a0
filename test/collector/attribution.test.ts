/** Tests who held an address when, what an observation is attributed to, and the cluster's watch. */
import http from "node:http";
import t from "tap";
import {
  formatAddress,
  inRange,
  parseAddress,
  parseRange,
} from "../../collector/attribution/address.ts";
import { attribute } from "../../collector/attribution/attribute.ts";
import { Cluster } from "../../collector/attribution/cluster.ts";
import {
  hashObject,
  toClusterObject,
  type ClusterObject,
  type JsonMap,
} from "../../collector/attribution/cluster-object.ts";
import { formatHolder } from "../../collector/attribution/holder.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { readSelector, selects } from "../../collector/attribution/selector.ts";
import type { Observation } from "../../protocol/observation.ts";
import { listenOnLoopback } from "./served-api.ts";

function object(body: JsonMap): ClusterObject {
  return toClusterObject(body, null)!;
}

function pod(name: string, ip: string | null, more: Record<string, unknown> = {}): ClusterObject {
  const { namespace = "web", labels = {}, spec = {}, uid = `uid-${name}`, owner, ...status } = more;
  const ownerReferences = owner ? [{ kind: "ReplicaSet", name: owner, controller: true }] : [];
  return object({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels, uid, ownerReferences },
    spec,
    status: { ...(ip === null ? {} : { podIP: ip, podIPs: [{ ip }] }), ...status },
  } as unknown as JsonMap);
}

t.test("addresses are read, compared and spelled as RFC 5952 says", async (t) => {
  for (const [text, canonical] of [
    ["10.0.0.1", "10.0.0.1"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["::", "::"],
    ["1::", "1::"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
  ] as const) {
    t.equal(formatAddress(parseAddress(text)!), canonical, text);
  }
  const wrong = ["", "1.2.3", "1.2.3.256", "01.2.3.4", "1:2", ":::", "1::2::3", "g::", "1.2.3.4:5"];
  for (const text of wrong) t.equal(parseAddress(text), null, text);
  const range = parseRange("10.1.0.0/16")!;
  t.ok(inRange(range, parseAddress("10.1.255.255")!));
  t.notOk(inRange(range, parseAddress("10.2.0.0")!));
  t.notOk(inRange(range, parseAddress("::a01:1")!));
  for (const text of ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8/8", "x/8"]) {
    t.equal(parseRange(text), null, text);
  }
});

t.test("selectors match as the API says, with labels that are missing", async (t) => {
  const match = (operator: string, values: string[], labels: Record<string, string>) =>
    selects(readSelector({ matchExpressions: [{ key: "k", operator, values }] }), labels);
  t.equal(match("In", ["a"], { k: "a" }), true);
  t.equal(match("In", ["a"], {}), false);
  t.equal(match("NotIn", ["a"], {}), true);
  t.equal(match("NotIn", ["a"], { k: "a" }), false);
  t.equal(match("Exists", [], { k: "" }), true);
  t.equal(match("DoesNotExist", [], { k: "" }), false);
  t.equal(selects(readSelector({}), {}), true);
  t.throws(() => match("Is", [], {}));
});

t.test("the hash leaves out status and managed fields, and nothing else", async (t) => {
  const body = { kind: "Pod", metadata: { name: "a", labels: { x: "1" } }, spec: { b: 1, a: 2 } };
  const noisy = { ...body, status: { phase: "Running" } };
  const managed = { ...noisy, metadata: { labels: { x: "1" }, name: "a", managedFields: [{}] } };
  t.equal(hashObject(noisy as JsonMap), hashObject(body));
  t.equal(hashObject(managed as unknown as JsonMap), hashObject(body));
  t.not(hashObject({ ...body, spec: { b: 1, a: 3 } }), hashObject(body));
});

t.test("a reused address goes to the pod that had it at that time", async (t) => {
  const inventory = new Inventory();
  inventory.apply(pod("a", "10.0.0.1", { owner: "api-5d" }), 1000);
  inventory.remove(pod("a", ""), 2000);
  inventory.apply(pod("b", "10.0.0.1"), 3000);
  t.equal(inventory.whoHad("10.0.0.1", 999), null, "before it was seen");
  t.equal(formatHolder(inventory.whoHad("10.0.0.1", 1000)!), "web/api-5d[ReplicaSet]");
  t.equal(inventory.lookUp("10.0.0.1", 2000).reason, "not-held-then");
  t.equal(inventory.whoHad("10.0.0.1", 3000)?.name, "b");
  t.strictSame(
    inventory.pods(1500).map((p) => p.name),
    ["a"],
  );
  inventory.forget(2500);
  t.equal(inventory.whoHad("10.0.0.1", 1500), null, "forgotten");
  t.equal(inventory.whoHad("10.0.0.1", 5000)?.name, "b");
});

t.test("a pod whose end is told late loses its address when another gets it", async (t) => {
  const inventory = new Inventory();
  inventory.apply(pod("a", "10.0.0.1"), 1000);
  inventory.apply(pod("b", "10.0.0.1"), 2000);
  t.equal(inventory.whoHad("10.0.0.1", 1999)?.name, "a");
  t.equal(inventory.whoHad("10.0.0.1", 2000)?.name, "b");
  inventory.remove(pod("a", ""), 2500);
  t.equal(inventory.whoHad("10.0.0.1", 2600)?.name, "b");
});

t.test("what cannot be told is null, with the reason", async (t) => {
  const inventory = new Inventory();
  inventory.apply(pod("a", "10.0.0.1"), -Infinity);
  inventory.apply(pod("b", "10.0.0.1"), -Infinity);
  const node = { kind: "Node", metadata: { name: "n1" }, spec: { podCIDRs: ["10.0.0.0/16"] } };
  inventory.apply(object({ ...node, status: { addresses: [{ address: "192.0.2.1" }] } }), 0);
  t.equal(inventory.lookUp("10.0.0.1", 5).reason, "ambiguous");
  t.equal(inventory.lookUp("10.0.3.3", 5).reason, "pod-network");
  t.equal(inventory.lookUp("nobody", 5).reason, "not-an-address");
  t.equal(inventory.whoHad("198.51.100.7", 5)?.kind, "external");
  t.equal(inventory.whoHad("192.0.2.1", 5)?.kind, "node");
});

t.test("pods on the node's network, finished pods, relabelled pods, new namespaces", async (t) => {
  const inventory = new Inventory();
  inventory.apply(pod("host", "192.0.2.1", { spec: { hostNetwork: true } }), 0);
  inventory.apply(pod("job", "10.0.0.9"), 0);
  inventory.apply(pod("job", "10.0.0.9", { phase: "Succeeded" }), 100);
  t.equal(inventory.whoHad("192.0.2.1", 1)?.kind, "external", "the pod does not hold it");
  t.equal(inventory.whoHad("10.0.0.9", 99)?.name, "job");
  t.equal(inventory.whoHad("10.0.0.9", 100), null);
  inventory.apply(pod("a", "10.0.0.1", { labels: { v: "1" } }), 0);
  inventory.apply(pod("a", "10.0.0.1", { labels: { v: "2" } }), 50);
  t.equal(inventory.whoHad("10.0.0.1", 49)?.labels["v"], "1");
  t.equal(inventory.whoHad("10.0.0.1", 50)?.labels["v"], "2");
  const space = { kind: "Namespace", metadata: { name: "web", labels: { zone: "card" } } };
  inventory.apply(object(space), 70);
  t.equal(inventory.whoHad("10.0.0.1", 69)?.namespaceLabels["zone"], undefined);
  t.equal(inventory.whoHad("10.0.0.1", 70)?.namespaceLabels["zone"], "card");
  inventory.apply(pod("a", "10.0.0.1", { labels: { v: "2" }, uid: "another" }), 80);
  t.equal(inventory.whoHad("10.0.0.1", 80)?.uid, "another");
});

t.test("a workload without pods stands for them; one with pods does not", async (t) => {
  const deployment = (name: string) =>
    object({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace: "web" },
      spec: { template: { metadata: { labels: { app: name } }, spec: { containers: [] } } },
    });
  const inventory = new Inventory();
  inventory.apply(deployment("api"), -Infinity);
  inventory.apply(deployment("cart"), -Infinity);
  inventory.apply(pod("api-5d-x", null, { owner: "api-5d" }), -Infinity);
  t.strictSame(inventory.pods(0).map(formatHolder).sort(), [
    "web/api-5d[ReplicaSet]",
    "web/cart[Deployment]",
  ]);
});

t.test("random lives of pods agree with the obvious slow version", async (t) => {
  const wrong: string[] = [];
  for (let seed = 1; seed <= 20; seed++) {
    let state = seed;
    const random = (n: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % n;
    };
    const inventory = new Inventory();
    const holds: { name: string; ip: string; from: number; to: number }[] = [];
    for (let now = 1; now < 150; now++) {
      const name = `p${random(6)}`;
      const open = holds.find((h) => h.name === name && h.to === Infinity);
      if (open !== undefined) {
        open.to = now;
        inventory.remove(pod(name, ""), now);
        continue;
      }
      const ip = `10.0.0.${random(3)}`;
      // The address passes to the newest: exactly what a container network does.
      for (const h of holds) if (h.ip === ip && h.to === Infinity) h.to = now;
      holds.push({ name, ip, from: now, to: Infinity });
      inventory.remove(pod(name, ""), now);
      inventory.apply(pod(name, ip, { uid: `${name}-${now}` }), now);
    }
    for (let at = 0; at < 160; at++) {
      for (let i = 0; i < 3; i++) {
        const ip = `10.0.0.${i}`;
        const want = holds.find((h) => h.ip === ip && h.from <= at && at < h.to)?.name ?? null;
        const got = inventory.lookUp(ip, at);
        const name = got.holder?.kind === "pod" ? got.holder.name : null;
        if (name !== want) wrong.push(`seed ${seed}: ${ip} at ${at}: ${name}, not ${want}`);
      }
    }
  }
  t.strictSame(wrong, []);
});

function observation(src: string, dst: string, port: number, san: string[] = []): Observation {
  const tls = san.length === 0 ? null : { client_certificate: { san }, server_cert: null };
  const record = {
    start: "2026-01-01T00:00:10.000000Z",
    proto: "tcp",
    src_ip: src,
    dst_ip: dst,
    dst_port: port,
    tls,
  };
  return { flow: "1", revision: 1, record } as unknown as Observation;
}

t.test("an observation is attributed by address, certificate and Service", async (t) => {
  const inventory = new Inventory();
  const spec = {
    serviceAccountName: "api",
    containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }] }],
  };
  inventory.apply(pod("front", "10.0.0.1", { owner: "front-1" }), -Infinity);
  inventory.apply(
    pod("api-a", "10.0.0.2", { owner: "api-1", labels: { app: "api" }, spec }),
    -Infinity,
  );
  inventory.apply(
    pod("api-b", "10.0.0.3", { owner: "api-1", labels: { app: "api" }, spec }),
    -Infinity,
  );
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "api", namespace: "web" },
    spec: {
      clusterIP: "10.96.0.1",
      selector: { app: "api" },
      ports: [{ port: 80, targetPort: "http" }],
    },
  };
  inventory.apply(object(service), -Infinity);

  const direct = attribute(observation("10.0.0.1", "10.0.0.2", 8080), inventory);
  t.equal(formatHolder(direct.server.holder!), "web/api-1[ReplicaSet]");
  t.equal(direct.server.provenance, "address");
  t.equal(direct.serverPort, 8080);

  const through = attribute(observation("10.0.0.1", "10.96.0.1", 80), inventory);
  t.equal(through.server.provenance, "inferred");
  t.equal(formatHolder(through.server.holder!), "web/api-1[ReplicaSet]");
  t.equal(through.serverPort, 8080);
  t.equal(through.service?.name, "api");
  t.equal(attribute(observation("10.0.0.1", "10.96.0.1", 81), inventory).server.holder, null);

  inventory.apply(
    pod("other", "10.0.0.4", { owner: "other-1", labels: { app: "api" } }),
    -Infinity,
  );
  const several = attribute(observation("10.0.0.1", "10.96.0.1", 80), inventory);
  t.equal(several.server.holder, null, "backends of two workloads: not attributable");
  t.match(several.reasons[0], /several workloads/);

  const name = "spiffe://cluster.local/ns/web/sa/api";
  const proven = attribute(observation("10.0.0.2", "10.0.0.1", 80, [name]), inventory);
  t.equal(proven.client.provenance, "certificate");
  const lying = attribute(observation("10.0.0.1", "10.0.0.2", 80, [name]), inventory);
  t.strictSame(
    [lying.client.holder?.name, lying.client.provenance, lying.client.isOther],
    ["front", "address", true],
    "the certificate contradicts the address, by which it goes",
  );
  t.equal(lying.client.spiffe, name);
  t.equal(
    attribute(observation("198.51.100.1", "10.0.0.2", 80), inventory).client.holder?.kind,
    "external",
  );
});

/** Serves one kind of one API, badly when told to. */
class FakeApi {
  readonly store = new Map<string, JsonMap>();
  version = 1;
  lists = 0;
  watches: http.ServerResponse[] = [];
  server = http.createServer((request, response) => this.answer(request, response));
  /** A kind of which only a newer version is served, one in its second group, one forbidden. */
  readonly others: Record<string, unknown> = {
    "/apis/y.io": { versions: [{ version: "v2" }], preferredVersion: { version: "v2" } },
    "/apis/y.io/v2": { resources: [{ name: "news", kind: "New" }] },
    "/apis/y.io/v2/news": {
      metadata: { resourceVersion: "1" },
      items: [{ metadata: { name: "newer" }, status: { podIP: "v2" } }],
    },
    "/apis/b.io": { versions: [{ version: "v1" }], preferredVersion: { version: "v1" } },
    "/apis/b.io/v1": { resources: [{ name: "olds", kind: "Old" }] },
    "/apis/b.io/v1/olds": { metadata: { resourceVersion: "1" }, items: [] },
    "/apis/z.io": "forbidden",
  };
  /** How the next watch is answered. */
  next: "ok" | "gone" | "500" = "ok";

  answer(request: http.IncomingMessage, response: http.ServerResponse): void {
    const url = new URL(request.url!, "http://x");
    const other = this.others[url.pathname];
    if (other !== undefined) {
      response.writeHead(other === "forbidden" ? 403 : 200).flushHeaders();
      if (url.searchParams.get("watch") !== "true") response.end(JSON.stringify(other));
      return;
    }
    if (url.pathname !== "/api/v1/pods") {
      response.statusCode = 404;
      response.end("{}");
      return;
    }
    if (url.searchParams.get("watch") !== "true") {
      this.lists++;
      const all = [...this.store.values()];
      const at = Number(url.searchParams.get("continue") ?? 0);
      const more = at + 2 < all.length ? { continue: String(at + 2) } : {};
      const metadata = { resourceVersion: String(this.version), ...more };
      response.end(JSON.stringify({ metadata, items: all.slice(at, at + 2) }));
      return;
    }
    if (this.next === "500") {
      this.next = "ok";
      response.statusCode = 500;
      response.end();
      return;
    }
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    if (this.next === "gone") {
      this.next = "ok";
      const status = { kind: "Status", code: 410, message: "too old resource version" };
      response.end(`${JSON.stringify({ type: "ERROR", object: status })}\n`);
      return;
    }
    this.watches.push(response);
  }

  set(name: string, ip: string, tell = true): void {
    const type = this.store.has(name) ? "MODIFIED" : "ADDED";
    const metadata = { name, namespace: "web", uid: name, resourceVersion: String(++this.version) };
    const body = { metadata, spec: {}, status: { podIP: ip } };
    this.store.set(name, body);
    if (tell) this.send({ type, object: body });
  }

  unset(name: string, tell = true): void {
    const body = this.store.get(name)!;
    this.store.delete(name);
    this.version++;
    if (tell) this.send({ type: "DELETED", object: body });
  }

  send(event: unknown): void {
    for (const watch of this.watches) watch.write(`${JSON.stringify(event)}\n`);
  }

  cut(): void {
    for (const watch of this.watches.splice(0)) watch.socket?.destroy();
  }
}

t.test("the cluster's state survives whatever breaks, and equals a fresh list", async (t) => {
  const api = new FakeApi();
  const kubeConfig = await listenOnLoopback(api.server);
  const known = new Map<string, string>();
  const lines: string[] = [];
  const blind: string[] = [];
  const cluster = new Cluster(
    kubeConfig,
    {
      applied: (o) => known.set(o.name, String((o.body["status"] as { podIP?: string }).podIP)),
      removed: ({ name }) => known.delete(name),
      log: (line) => lines.push(line),
      blind: (_kind, name, trouble) => blind.push(`${name}: ${trouble?.reason ?? "known"}`),
    },
    {
      resources: [
        { groups: [""], version: "v1", plural: "pods", kind: "Pod" },
        { groups: ["x.io"], version: "v1", plural: "things", kind: "Thing" },
        { groups: ["y.io"], version: "v1", plural: "news", kind: "New" },
        { groups: ["a.io", "b.io"], version: "v1", plural: "olds", kind: "Old" },
        { groups: ["z.io"], version: "v1", plural: "secrets", kind: "Secret" },
      ],
      firstDelayMs: 5,
      lastDelayMs: 20,
      silenceMs: 5000,
    },
  );
  const settled = async (what: string) => {
    const want = () =>
      [...api.store].map(([n, b]) => `${n}=${(b["status"] as { podIP: string }).podIP}`);
    const got = () => [...known].map(([n, ip]) => `${n}=${ip}`);
    for (let i = 0; i < 400; i++) {
      const same = JSON.stringify([...want(), "newer=v2"].sort()) === JSON.stringify(got().sort());
      if (same && cluster.isSynced && api.watches.length > 0) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    t.strictSame(got().sort(), [...want(), "newer=v2"].sort(), what);
  };
  for (let i = 0; i < 5; i++) api.set(`p${i}`, `10.0.0.${i}`, false);
  cluster.start();
  await settled("a list of several pages");
  api.set("p5", "10.0.0.5");
  api.set("p0", "10.0.1.0");
  api.unset("p1");
  await settled("events");

  api.cut();
  api.set("p6", "10.0.0.6", false);
  api.unset("p2", false);
  await settled("a broken socket, and what happened meanwhile");

  api.next = "gone";
  api.unset("p3", false);
  api.cut();
  await settled("410 Gone");

  api.send({ type: "BOOKMARK", object: { metadata: { resourceVersion: String(api.version) } } });
  api.set("p7", "10.0.0.7");
  await settled("a bookmark");

  for (const garbage of ["{not json", '{"type":"ADDED"}', "[]", '{"type":"DANCE","object":{}}']) {
    api.watches.at(-1)!.write(`${garbage}\n`);
    api.watches.length = 0;
    api.set(`after-${garbage.length}`, "10.0.2.2", false);
    await settled(`garbage: ${garbage}`);
  }

  api.next = "500";
  api.cut();
  api.set("p8", "10.0.0.8", false);
  await settled("an internal error");

  for (const watch of api.watches.splice(0)) watch.end();
  await settled("an orderly end");
  t.ok(lines.some((line) => line.endsWith("things.x.io: not served")));
  t.ok(lines.includes("cluster: olds.a.io: watching"), "by the group that serves it");
  t.ok(blind.includes("secrets.z.io: failed: 403 Forbidden"), "what is forbidden is told");
  t.ok(blind.some((line) => line.startsWith("pods: watch broke")));
  t.ok(blind.includes("pods: known"));
  t.ok(lines.length < 40, "a line for each change of state, not for each attempt");
  await cluster.stop();
  api.cut();
  api.server.closeAllConnections();
  api.server.close();
});
