/** Tests how a live cluster is followed: versions and plurals, rights, kinds that are not read. */
import t, { type Test } from "tap";
import { Cluster, type ClusterOptions } from "../../collector/attribution/cluster.ts";
import { compareVersions } from "../../collector/attribution/discovery.ts";
import { RESOURCES, type Resource } from "../../collector/attribution/resource.ts";
import { Declaration } from "../../collector/declaration.ts";
import {
  isKnownKind,
  isUnreadPolicy,
  UNREAD_GROUPS,
} from "../../collector/policy/manifest/known-kinds.ts";
import { ServedApi } from "./served-api.ts";

type Told = {
  cluster: Cluster;
  /** `v1beta1/Server a` */
  objects: string[];
  lines: string[];
  blind: { name: string; sinceMs: number | null; reason: string | null }[];
};

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Follows an API until the test is over. */
async function follow(t: Test, api: ServedApi, options: ClusterOptions): Promise<Told> {
  const told: Omit<Told, "cluster"> = { objects: [], lines: [], blind: [] };
  const events = {
    applied: ({ apiVersion, kind, name }: { apiVersion: string; kind: string; name: string }) =>
      void told.objects.push(`${apiVersion}/${kind} ${name}`),
    removed: () => {},
    log: (line: string) => void told.lines.push(line),
    blind: (_kind: string, name: string, trouble: { sinceMs: number; reason: string } | null) =>
      void told.blind.push({
        name,
        sinceMs: trouble?.sinceMs ?? null,
        reason: trouble?.reason ?? null,
      }),
  };
  const quick = { firstDelayMs: 10, lastDelayMs: 40 };
  const cluster = new Cluster(await api.listen(), events, { ...quick, ...options });
  t.teardown(async () => {
    const stopped = cluster.stop();
    api.close();
    await stopped;
  });
  cluster.start();
  return { cluster, ...told };
}

const ours = (kind: string, group: string): Resource =>
  RESOURCES.find((one) => one.kind === kind && one.groups.includes(group))!;
const named = (name: string) => ({ metadata: { name, namespace: "a", resourceVersion: "1" } });

t.test("versions are in Kubernetes' own order", async (t) => {
  // The example of the Kubernetes documentation (CustomResourceDefinition Versioning).
  const sorted = [
    ...["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2"],
    ...["foo1", "foo10"],
  ];
  for (let turn = 0; turn < sorted.length; turn++) {
    const turned = [...sorted.slice(turn), ...sorted.slice(0, turn)];
    t.strictSame(turned.sort(compareVersions), sorted);
  }
});

t.test("a kind is read in a version that serves it, whatever else its group lists", async (t) => {
  const api = new ServedApi();
  // Istio 1.21: PeerAuthentication in v1beta1 alone, AuthorizationPolicy in v1 as well.
  api.serve("security.istio.io/v1", "AuthorizationPolicy", "authorizationpolicies", named("ap"));
  api.serve("security.istio.io/v1beta1", "AuthorizationPolicy", "authorizationpolicies");
  api.serve("security.istio.io/v1beta1", "PeerAuthentication", "peerauthentications", named("pa"));
  // Linkerd 2.14: Server in v1beta1 alone, HTTPRoute in v1beta3 too.
  api.serve("policy.linkerd.io/v1beta3", "HTTPRoute", "httproutes", named("route"));
  api.serve("policy.linkerd.io/v1alpha1", "Server", "servers", named("server"));
  api.serve("policy.linkerd.io/v1beta1", "Server", "servers");
  // Gateway API 1.0: GRPCRoute in v1alpha2, HTTPRoute and Gateway in v1.
  api.serve("gateway.networking.k8s.io/v1", "Gateway", "gateways", named("gw"));
  api.serve("gateway.networking.k8s.io/v1alpha2", "GRPCRoute", "grpcroutes", named("grpc"));
  const resources = [
    ours("AuthorizationPolicy", "security.istio.io"),
    ours("PeerAuthentication", "security.istio.io"),
    ours("Server", "policy.linkerd.io"),
    ours("GRPCRoute", "gateway.networking.k8s.io"),
    ours("Gateway", "gateway.networking.k8s.io"),
  ];
  const told = await follow(t, api, { resources });
  await until(() => told.cluster.isSynced && told.objects.length === 5);
  t.strictSame(told.objects.toSorted(), [
    "gateway.networking.k8s.io/v1/Gateway gw",
    "gateway.networking.k8s.io/v1alpha2/GRPCRoute grpc",
    "policy.linkerd.io/v1beta1/Server server",
    "security.istio.io/v1/AuthorizationPolicy ap",
    "security.istio.io/v1beta1/PeerAuthentication pa",
  ]);
  t.strictSame(
    told.lines.filter((line) => !line.endsWith(": watching")),
    [],
  );
  for (const path of ["/apis/security.istio.io", "/apis/gateway.networking.k8s.io/v1"]) {
    t.equal(api.count(path), 1, `${path} is asked for once, by all of its kinds`);
  }
});

t.test("plurals are what the API says", async (t) => {
  const api = new ServedApi();
  // A CRD may choose any word; ours is what a ClusterRole would name.
  api.serve("networking.istio.io/v1", "Gateway", "doors", named("gw"));
  const told = await follow(t, api, { resources: [ours("Gateway", "networking.istio.io")] });
  await until(() => told.objects.length > 0);
  t.strictSame(told.objects, ["networking.istio.io/v1/Gateway gw"]);
  t.strictSame(told.lines, ["cluster: gateways.networking.istio.io: watching"]);
});

t.test("a kind that comes later, or in another version, is found", async (t) => {
  const api = new ServedApi();
  const told = await follow(t, api, {
    resources: [ours("Server", "policy.linkerd.io"), ours("HTTPRoute", "policy.linkerd.io")],
  });
  await until(() => told.cluster.isSynced);
  t.strictSame(told.objects, []);
  t.ok(
    told.blind.every(({ reason }) => reason === null),
    "what is not served is nothing",
  );
  api.refused.set("*.policy.linkerd.io", 503);
  api.serve("policy.linkerd.io/v1beta1", "Server", "servers", named("server"));
  await until(() => told.blind.some(({ reason }) => reason?.includes("503") === true));
  api.refused.clear();
  await until(() => told.objects.length > 0);
  t.strictSame(told.objects, ["policy.linkerd.io/v1beta1/Server server"], "asked afresh");
  api.kinds.splice(0);
  api.serve("policy.linkerd.io/v1beta3", "Server", "servers");
  api.items.set("servers.policy.linkerd.io", [named("newer")]);
  api.cut();
  await until(() => told.objects.length > 1);
  t.strictSame(told.objects[1], "policy.linkerd.io/v1beta3/Server newer");
});

t.test("what was never listed is not known since ever, and at once", async (t) => {
  const api = new ServedApi();
  api.serve("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies");
  api.refused.set("networkpolicies.networking.k8s.io", 403);
  const resources = [ours("NetworkPolicy", "networking.k8s.io")];
  const told = await follow(t, api, { resources });
  await until(() => told.blind.length > 0);
  t.match(told.blind[0], { sinceMs: -Infinity, reason: "failed: 403 Forbidden" });
  t.ok(told.cluster.isSynced, "to wait for it would judge nothing at all");
  const declaration = new Declaration(15_000, () => {});
  const { sinceMs, reason } = told.blind[0]!;
  declaration.setBlind("NetworkPolicy", "n", { sinceMs: sinceMs!, reason: reason! }, 1000);
  declaration.tellBlind(1000);
  t.match(declaration.problems, [{ reason: /^n is not known: failed: 403/ }]);
  api.refused.clear();
  await until(() => told.blind.length > 1);
  t.match(told.blind[1], { reason: null });
  const beforeMs = Date.now();
  api.refused.set("networkpolicies.networking.k8s.io", 403);
  api.cut();
  await until(() => told.blind.some((b) => b.reason?.includes("403") && b.sinceMs! > 0));
  t.ok(told.blind.at(-1)!.sinceMs! >= beforeMs, "and later since it was last known");
});

t.test("rights that come late are met quickly", async (t) => {
  const api = new ServedApi();
  const path = "/api/v1/pods";
  api.serve("v1", "Pod", "pods", named("a"));
  const options = { resources: [ours("Pod", "")], firstDelayMs: 10, lastDelayMs: 60_000 };
  const told = await follow(t, api, options);
  await until(() => told.objects.length === 1);
  api.refused.set("pods.", 403);
  api.cut();
  await until(() => api.count(path) >= 5);
  t.ok(api.count(path) >= 5, "four answers of 403 after a good list, far within the last delay");
  api.refused.clear();
  await until(() => told.lines.at(-1) === "cluster: pods: watching");
  t.equal(told.lines.at(-1), "cluster: pods: watching");
});

const unread = {
  groups: UNREAD_GROUPS,
  decides: (kind: string) => isUnreadPolicy(kind) && !isKnownKind(kind),
};

t.test(
  "objects of kinds that may decide and are not read are told while there are any",
  async (t) => {
    const api = new ServedApi();
    api.serve("cilium.io/v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", named("read"));
    api.serve("cilium.io/v2", "CiliumEndpoint", "ciliumendpoints", named("state"));
    api.serve("cilium.io/v2", "CiliumEgressGatewayPolicy", "ciliumegressgatewaypolicies");
    api.serve(
      "cilium.io/v2alpha1",
      "CiliumNodeConfig",
      "ciliumnodeconfigs",
      named("a"),
      named("b"),
    );
    api.serve("projectcalico.org/v3", "AuthorizationReview", "authorizationreviews");
    api.refused.set("authorizationreviews.projectcalico.org", 405);
    api.serve("projectcalico.org/v3", "NewPolicy", "newpolicies");
    api.refused.set("newpolicies.projectcalico.org", 403);
    const told = await follow(t, api, { resources: [], unread });
    t.notOk(told.cluster.isSynced, "nothing is judged before the first look");
    await until(() => told.cluster.isSynced);
    const troubles = () => {
      const last = new Map(told.blind.map(({ name, reason }) => [name, reason]));
      return [...last].filter(([, reason]) => reason !== null).map(([name]) => name);
    };
    const [configs, news] = ["ciliumnodeconfigs.cilium.io", "newpolicies.projectcalico.org"];
    t.strictSame(troubles(), [configs, news]);
    t.match(
      told.blind.find(({ name }) => name === configs),
      { sinceMs: -Infinity },
    );
    t.equal(
      api.count("/apis/cilium.io/v2/ciliumendpoints"),
      0,
      "what decides nothing is not asked",
    );

    const egress = "ciliumegressgatewaypolicies.cilium.io";
    const beforeMs = Date.now();
    api.items.set(egress, [named("late")]);
    await until(() => troubles().includes(egress));
    const found = told.blind.findLast(({ name }) => name === egress)!;
    t.ok(found.sinceMs! > 0 && found.sinceMs! <= Date.now(), "since it was last known to be none");
    t.ok(found.sinceMs! >= beforeMs - 1000);
    api.items.set(egress, []);
    api.kinds.splice(
      0,
      api.kinds.length,
      ...api.kinds.filter((k) => k.kind !== "CiliumNodeConfig"),
    );
    await until(() => !troubles().includes(egress) && !troubles().includes(configs));
    t.strictSame(troubles(), [news]);

    api.refused.set("*.policy.linkerd.io", 403);
    await until(() => troubles().includes("*.policy.linkerd.io"));
    t.ok(troubles().includes("*.policy.linkerd.io"));
    api.refused.delete("*.policy.linkerd.io");
    await until(() => !troubles().includes("*.policy.linkerd.io"));

    api.refused.set("*.cilium.io", 500);
    await until(() => troubles().includes("*.cilium.io"));
    t.ok(troubles().includes("*.cilium.io"), "which kinds there are is not known");
    api.refused.delete("*.cilium.io");
    await until(() => !troubles().includes("*.cilium.io"));
    t.strictSame(troubles(), [news]);
  },
);

t.test("what may decide and is not read makes doubtful at once", async (t) => {
  const declaration = new Declaration(15_000, () => {});
  const reason = "there are some, and they are not read";
  const name = "ciliumnodeconfigs.cilium.io";
  declaration.setBlind("CiliumNodeConfig", name, { sinceMs: -Infinity, reason }, 1000);
  declaration.tellBlind(1000);
  t.match(declaration.problems, [{ kind: "CiliumNodeConfig", namespaces: "all" }]);
});
