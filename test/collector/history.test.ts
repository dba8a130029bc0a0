/** Tests which policy was in force at an instant: versions, grace, what the evidence log keeps. */
import t from "tap";
import { parse } from "yaml";
import {
  toClusterObject,
  type ClusterObject,
  type JsonMap,
} from "../../collector/attribution/cluster-object.ts";
import { Declaration } from "../../collector/declaration.ts";
import { PolicyHistory } from "../../collector/policy/history/history.ts";
import { parseVersionEntry, toVersionEntry } from "../../collector/policy/history/version-entry.ts";
import { toWorkloadObjects } from "../../collector/policy/history/workload-object.ts";
import { end, read } from "./manifests.ts";

const netpol = (name: string, spec: string) =>
  `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ` +
  `${name.split("/")[1]}, namespace: ${name.split("/")[0]}}, spec: ${spec}}\n`;
const pod = (name: string) =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name.split("/")[1]}, ` +
  `namespace: ${name.split("/")[0]}}, spec: {containers: []}}\n`;
const version = (text: string): ClusterObject => toClusterObject(parse(text), null)!;

const DECLARED = read(pod("a/y") + pod("b/z"));
const [CLIENT, SERVER] = [end(DECLARED, "b/z"), end(DECLARED, "a/y")];
const DENY = version(netpol("a/p", "{podSelector: {}}"));
const ALLOW = version(netpol("a/p", "{podSelector: {}, ingress: [{}]}"));
const paths = (history: PolicyHistory, atMs: number) =>
  history
    .expect(CLIENT, SERVER, 80, "TCP", { atMs })
    .atStart.map((expectation) => expectation.path);

t.test("the policy at an instant, and the grace after a change", async (t) => {
  const history = new PolicyHistory({}, 15_000);
  t.equal(history.apply(DENY, 100_000)?.firstSeenMs, 100_000);
  t.equal(history.apply(DENY, 101_000), null, "the same content is the same version");
  history.apply(ALLOW, 200_000);
  history.remove(ALLOW, 300_000);
  t.strictSame(paths(history, 99_999), ["undeclared"]);
  t.strictSame(paths(history, 100_000), ["denied", "undeclared"]);
  t.strictSame(paths(history, 114_999), ["denied", "undeclared"]);
  t.strictSame(paths(history, 115_000), ["denied"]);
  t.strictSame(paths(history, 210_000), ["allowed", "denied"]);
  t.strictSame(paths(history, 310_000), ["undeclared", "allowed"]);
  t.equal(history.versions.of(ALLOW).length, 2);
  t.equal(history.versions.at(150_000)[0]?.hash, DENY.hash);
});

t.test("a change that nobody saw come about counts from when it may have", async (t) => {
  const history = new PolicyHistory({}, 15_000);
  history.apply(DENY, -Infinity);
  history.apply(ALLOW, 200_000, 100_000);
  t.strictSame(paths(history, 99_999), ["denied"]);
  t.strictSame(paths(history, 100_000), ["denied", "allowed"], "it may have changed already");
  t.strictSame(paths(history, 199_999), ["denied", "allowed"]);
  t.strictSame(paths(history, 200_000), ["allowed", "denied"]);
  t.strictSame(paths(history, 215_000), ["allowed"]);
});

t.test("kinds of one name in two API groups are two objects", async (t) => {
  const history = new PolicyHistory();
  const of = (apiVersion: string) =>
    version(`{apiVersion: ${apiVersion}, kind: AuthorizationPolicy, metadata: {name: a}}`);
  const [istio, linkerd] = [of("security.istio.io/v1"), of("policy.linkerd.io/v1alpha1")];
  history.apply(istio, 1000);
  history.apply(linkerd, 1000);
  t.equal(history.versions.at(2000).length, 2);
  t.equal(history.apply(of("security.istio.io/v1beta1"), 3000)?.firstSeenMs, 3000);
  t.equal(history.versions.at(4000).length, 2, "another version of the API is the same object");
});

t.test("what declares nothing is no version", async (t) => {
  const history = new PolicyHistory();
  const service = (more: string) =>
    version(`{apiVersion: v1, kind: Service, metadata: {name: s${more}}, spec: {}}`);
  t.ok(history.apply(service(", resourceVersion: '1', generation: 1"), 1000));
  t.equal(history.apply(service(", resourceVersion: '2', generation: 2"), 2000), null);
  t.equal(history.apply(version(pod("a/y")), 3000), null, "pods are ends, not policy");
  const map = (name: string) =>
    version(`{apiVersion: v1, kind: ConfigMap, metadata: {name: ${name}}, data: {a: b}}`);
  t.equal(history.apply(map("app-settings"), 3000), null, "it may hold anything");
  t.ok(history.apply(map("istio"), 3000), "it tells how a mesh is set up");
  t.strictSame(
    history.versions.at(4000).map((object) => object.kind),
    ["Service", "ConfigMap"],
  );
});

t.test("the log's entries give the history back", async (t) => {
  const long = version(
    netpol("a/long", `{podSelector: {matchLabels: {x: "${"y".repeat(50_000)}"}}}`),
  );
  const managed = version(
    "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: m, namespace: a, " +
      "uid: u-1, resourceVersion: '7', generation: 3, managedFields: [" +
      "{manager: helm, time: '2026-01-01T00:00:00Z'}, {manager: jo, time: '2026-02-01T00:00:00Z'}, " +
      "{manager: kubelet, time: '2026-03-01T00:00:00Z', subresource: status}]}, " +
      "spec: {podSelector: {}}, status: {conditions: []}}",
  );
  for (const object of [DENY, long, managed]) {
    const told = { object, sinceMs: 1000, firstSeenMs: 2000, lastSeenMs: Infinity };
    const entry = JSON.parse(JSON.stringify(toVersionEntry(told, false)));
    t.ok(JSON.stringify(entry).length < 65_535, "it fits into an entry");
    const back = parseVersionEntry(entry)!;
    t.equal(back.version.object.hash, object.hash, "the hash is that of what is kept");
    t.match(back, { removed: false, version: { sinceMs: 1000, firstSeenMs: 2000 } });
  }
  const since = { object: managed, sinceMs: -Infinity, firstSeenMs: -Infinity, lastSeenMs: 5000 };
  const entry = toVersionEntry(since, true);
  t.match(entry, { first_seen: null, last_seen: "1970-01-01T00:00:05.000Z", generation: 3 });
  t.match(entry, { changed_by: { who: "jo", at: "2026-02-01T00:00:00Z" }, uid: "u-1" });
  t.notOk("managedFields" in (entry["object"] as { metadata: object }).metadata);
  t.equal(parseVersionEntry({ type: "verdict" }), null);
  t.equal(parseVersionEntry({ type: "policy", object: null, object_gzip: "!" }), null);
});

t.test("a new start goes on with the history of the log", async (t) => {
  const say = () => {};
  const first = new Declaration(15_000, say);
  first.applyFirst(DENY, 1000);
  first.endFirst(1000);
  const log = first.changes.map(({ version, removed }) => ({
    body: toVersionEntry(version, removed),
  }));
  t.equal(log.length, 1);
  first.logged(1);
  t.equal(first.changes.length, 0);

  const same = new Declaration(15_000, say);
  same.restore(log, 100_000);
  same.applyFirst(DENY, 500_000);
  same.endFirst(500_000);
  t.equal(same.changes.length, 0, "nothing changed in the meantime");
  t.strictSame(paths(same.history, 50_000), ["denied"]);

  const other = new Declaration(15_000, say);
  other.restore(log, 100_000);
  other.applyFirst(ALLOW, 500_000);
  other.endFirst(500_000);
  t.strictSame(paths(other.history, 50_000), ["denied"], "as the log has it");
  t.strictSame(paths(other.history, 300_000), ["denied", "allowed"], "down: it may be either");
  t.strictSame(paths(other.history, 600_000), ["allowed"]);

  const gone = new Declaration(15_000, say);
  gone.restore(log, 100_000);
  gone.endFirst(500_000);
  t.strictSame(paths(gone.history, 300_000), ["denied", "undeclared"]);
  t.strictSame(paths(gone.history, 600_000), ["undeclared"]);
  t.match(gone.changes, [{ removed: true }]);
});

t.test("replicas are one sort of pod, whatever a network plugin writes on each", async (t) => {
  const replica = (name: string, annotation: string) =>
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: a, ownerReferences: ` +
    `[{apiVersion: apps/v1, kind: StatefulSet, name: db, controller: true}], ` +
    `annotations: {${annotation}}}, spec: {containers: []}}\n`;
  const sorts = (...texts: string[]) => {
    const names = texts.map((_, i) => `a/db-${i}`);
    const declared = read(texts.join(""));
    return toWorkloadObjects(names.map((name) => end(declared, name))).length;
  };
  const ip = (i: number) => replica(`db-${i}`, `cni.projectcalico.org/podIP: 10.0.0.${i}/32`);
  t.equal(sorts(ip(0), ip(1), ip(2)), 1);
  const inject = (i: number, value: string) =>
    replica(`db-${i}`, `sidecar.istio.io/inject: "${value}"`);
  t.equal(sorts(inject(0, "true"), inject(1, "false")), 2, "what a mesh reads tells them apart");
});

t.test("a kind that cannot be followed makes doubtful what is judged", async (t) => {
  const declaration = new Declaration(15_000, () => {});
  const reason = "failed: 403 Forbidden";
  declaration.setBlind("NetworkPolicy", "networkpolicies", { sinceMs: 1000, reason }, 1000);
  declaration.tellBlind(10_000);
  t.equal(declaration.problems.length, 0, "a break shorter than the grace is none");
  declaration.tellBlind(20_000);
  t.match(declaration.problems, [{ kind: "NetworkPolicy", reason: /403 Forbidden/ }]);
  const [expectation] = declaration.history.expect(CLIENT, SERVER, 80, "TCP", {
    atMs: 20_000,
  }).atStart;
  t.equal(expectation.doubts?.length, 1);
  declaration.setBlind("NetworkPolicy", "networkpolicies", null, 21_000);
  declaration.tellBlind(21_000);
  t.equal(declaration.problems.length, 0);
});

const generation = (object: ClusterObject, count: number, uid = "u-1"): ClusterObject => {
  const metadata = { ...(object.body["metadata"] as JsonMap), generation: count, uid };
  return toClusterObject({ ...object.body, metadata }, null)!;
};

t.test("what changed twice where nobody watched was something that nobody knows", async (t) => {
  const seen = (count: number, sinceMs: number, object = DENY, uid = "u-1") => {
    const history = new PolicyHistory({}, 15_000);
    history.apply(generation(DENY, 1), -Infinity);
    history.apply(generation(object, count, uid), 200_000, sinceMs);
    return history;
  };
  const skipped = seen(3, 100_000);
  t.strictSame(paths(skipped, 99_999), ["denied"]);
  t.strictSame(paths(skipped, 100_000), ["denied", "undecidable"], "the same before and after");
  t.strictSame(paths(skipped, 214_999), ["denied", "undecidable"], "and what it was may act late");
  t.strictSame(paths(skipped, 215_000), ["denied"]);
  t.strictSame(paths(seen(2, 100_000, ALLOW), 150_000), ["denied", "allowed"], "one change");
  t.strictSame(paths(seen(3, 100_000, ALLOW), 150_000), ["denied", "allowed", "undecidable"]);
  t.strictSame(paths(seen(1, 100_000), 150_000), ["denied"], "none");
  t.strictSame(paths(seen(3, 200_000), 150_000), ["denied"], "no break: each change was seen");
  t.strictSame(paths(seen(1, 100_000, DENY, "u-2"), 150_000), ["denied", "undecidable"], "anew");
  const lived = skipped.expect(CLIENT, SERVER, 80, "TCP", { atMs: 50_000, toMs: 120_000 });
  t.equal(lived.atStart.at(-1)!.path, "undecidable", "a connection that lived into that time");

  const elsewhere = read(pod("c/w") + pod("c/v"));
  const [client, server] = [end(elsewhere, "c/w"), end(elsewhere, "c/v")];
  const others = (history: PolicyHistory) =>
    history.expect(client, server, 80, "TCP", { atMs: 150_000 }).atStart.map((e) => e.path);
  t.strictSame(others(skipped), ["undeclared"], "a NetworkPolicy is its namespace's own");
  const mesh = version(
    "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, " +
      "metadata: {name: p, namespace: istio-system}, spec: {}}",
  );
  const wide = new PolicyHistory({}, 15_000);
  wide.apply(generation(mesh, 1), -Infinity);
  wide.apply(generation(mesh, 5), 200_000, 100_000);
  t.strictSame(others(wide), ["undeclared", "undecidable"], "a mesh's may be everybody's");
});

t.test("what came about where nobody watched may have been something else before", async (t) => {
  const history = new PolicyHistory({}, 15_000);
  history.apply(generation(DENY, 4), 200_000, 100_000);
  t.strictSame(paths(history, 150_000), ["undeclared", "denied", "undecidable"]);
  const gone = new PolicyHistory({}, 15_000);
  gone.apply(generation(DENY, 1), -Infinity);
  gone.remove(DENY, 200_000, 100_000);
  gone.apply(generation(DENY, 1, "u-2"), 200_000, 100_000);
  t.strictSame(paths(gone, 150_000), ["denied", "undecidable"], "it was not there for a time");
});

t.test("a new start knows by the log's generations what it missed", async (t) => {
  const first = new Declaration(15_000, () => {});
  first.applyFirst(generation(DENY, 2), 1000);
  first.endFirst(1000);
  const entries = (declaration: Declaration) =>
    declaration.changes.map(({ version, removed }) => ({ body: toVersionEntry(version, removed) }));
  const log = entries(first);
  const again = (count: number) => {
    const declaration = new Declaration(15_000, () => {});
    declaration.restore(log, 100_000);
    declaration.applyFirst(generation(DENY, count), 500_000);
    declaration.endFirst(500_000);
    return declaration;
  };
  t.strictSame(paths(again(2).history, 300_000), ["denied"]);
  t.equal(again(2).changes.length, 0);
  const missed = again(4);
  t.strictSame(paths(missed.history, 300_000), ["denied", "undecidable"]);
  t.strictSame(paths(missed.history, 600_000), ["denied"]);
  const [told] = entries(missed);
  t.match(told?.body, { generation: 4, changed_after: "1970-01-01T00:01:40.000Z" });
  const later = new Declaration(15_000, () => {});
  later.restore([...log, told!], 600_000);
  later.applyFirst(generation(DENY, 4), 900_000);
  later.endFirst(900_000);
  t.strictSame(paths(later.history, 300_000), ["denied", "undecidable"], "the log remembers");
  t.strictSame(paths(later.history, 700_000), ["denied"]);
});

t.test("a time in which a kind was not known stays so when it is known again", async (t) => {
  const declaration = new Declaration(15_000, () => {});
  declaration.applyFirst(DENY, 1000);
  declaration.endFirst(1000);
  const name = "networkpolicies";
  const reason = "failed: 403 Forbidden";
  declaration.setBlind("NetworkPolicy", name, { sinceMs: 100_000, reason }, 100_000);
  declaration.setBlind("NetworkPolicy", name, null, 110_000);
  t.strictSame(paths(declaration.history, 105_000), ["denied"], "shorter than the grace");
  declaration.setBlind("NetworkPolicy", name, { sinceMs: 200_000, reason }, 200_000);
  declaration.setBlind("NetworkPolicy", name, null, 260_000);
  t.strictSame(paths(declaration.history, 199_999), ["denied"]);
  t.strictSame(paths(declaration.history, 230_000), ["denied", "undecidable"]);
  t.strictSame(paths(declaration.history, 275_000), ["denied"]);
});

t.test(
  "what the log has of a kind that may be listed later ends then, if it is gone",
  async (t) => {
    const first = new Declaration(15_000, () => {});
    first.applyFirst(DENY, 1000);
    first.endFirst(1000);
    const log = first.changes.map(({ version, removed }) => ({
      body: toVersionEntry(version, removed),
    }));
    const later = (...listed: ClusterObject[]) => {
      const declaration = new Declaration(15_000, () => {});
      declaration.restore(log, 100_000);
      const trouble = { sinceMs: -Infinity, reason: "failed: 403 Forbidden" };
      declaration.setBlind("NetworkPolicy", "n", trouble, 500_000);
      declaration.endFirst(500_000);
      t.strictSame(paths(declaration.history, 550_000), ["denied"], "as the log has it");
      for (const object of listed) declaration.apply(object, 600_000, -Infinity);
      declaration.setBlind("NetworkPolicy", "n", null, 600_000);
      return paths(declaration.history, 700_000);
    };
    t.strictSame(later(), ["undeclared"]);
    t.strictSame(later(DENY), ["denied"]);
  },
);

t.test("Gateways decide what their listeners take", async (t) => {
  const history = new PolicyHistory();
  for (const group of ["networking.istio.io", "gateway.networking.k8s.io"]) {
    const gateway = version(`{apiVersion: ${group}/v1, kind: Gateway, metadata: {name: g}}`);
    t.ok(history.apply(gateway, 1000), group);
  }
});
