/** Tests that a pod whose labels change is held against policy as it is, and as it was. */
import t from "tap";
import { toClusterObject } from "../../collector/attribution/cluster-object.ts";
import type { JsonMap } from "../../collector/attribution/cluster-object.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { PolicyHistory } from "../../collector/policy/history/history.ts";
import { expectOf } from "../../collector/verdict/versions.ts";

const GRACE_MS = 15_000;
const APART_MS = 1_000;

const object = (body: JsonMap) => toClusterObject(body, null)!;
const pod = (name: string, ip: string, role: string, uid = name) =>
  object({
    ...{ apiVersion: "v1", kind: "Pod", spec: { containers: [{ name: "c" }] } },
    metadata: { name, namespace: "shop", uid, labels: { app: name, role } },
    status: { podIP: ip },
  });
const policy = object({
  ...{ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" },
  metadata: { name: "ledger", namespace: "shop" },
  spec: {
    podSelector: { matchLabels: { app: "ledger" } },
    ingress: [{ from: [{ podSelector: { matchLabels: { role: "admitted" } } }] }],
  },
});

t.test("within the grace after its labels changed both versions of a pod count", async (t) => {
  const inventory = new Inventory();
  const history = new PolicyHistory({}, GRACE_MS);
  history.apply(policy, -Infinity);
  inventory.apply(pod("ledger", "10.0.0.2", "none"), -600_000);
  inventory.apply(pod("web", "10.0.0.1", "admitted"), -600_000);
  inventory.apply(pod("web", "10.0.0.1", "none"), 20_000);
  const server = inventory.whoHad("10.0.0.2", 0)!;
  const expect = expectOf(inventory, history, GRACE_MS);
  const paths = (atMs: number, toMs = atMs) => {
    const client = inventory.whoHad("10.0.0.1", atMs)!;
    const life = { atMs, fromMs: 0, toMs, apartMs: APART_MS };
    const { atStart, later } = expect(client, server, 80, "TCP", life, null);
    return [atStart.map(({ path }) => path), later.map(({ path }) => path)];
  };
  t.strictSame(paths(18_999), [["allowed"], []]);
  t.strictSame(paths(19_000), [["allowed", "denied"], []], "by another clock it was changed");
  t.strictSame(paths(20_000), [["denied", "allowed"], []]);
  t.strictSame(paths(35_999), [["denied", "allowed"], []]);
  t.strictSame(paths(36_000), [["denied"], []]);
  t.strictSame(paths(5_000, 30_000), [["allowed"], ["denied"]], "it changed meanwhile");
  t.strictSame(paths(5_000, 18_000), [["allowed"], []]);
  // Another pod of the name is not the same one.
  inventory.apply(pod("web", "10.0.0.1", "admitted", "web-anew"), 100_000);
  t.strictSame(paths(101_000), [["allowed"], []]);
});
