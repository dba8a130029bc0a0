/** Tests what a pod's workload is called: the root of its owners, as far as anything tells it. */
import t from "tap";
import { toClusterObject, type JsonMap } from "../../collector/attribution/cluster-object.ts";
import { formatHolder } from "../../collector/attribution/holder.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { listAllowed } from "../../collector/policy/answer/allowed.ts";
import { explain } from "../../collector/policy/answer/explain.ts";
import { toWorkloadObjects } from "../../collector/policy/history/workload-object.ts";

const object = (body: JsonMap) => toClusterObject(body, null)!;

/** `apps/v1 ReplicaSet web-1` */
function refer(owner: string): JsonMap[] {
  const [apiVersion, kind, name] = owner.split(" ") as [string, string, string];
  return [{ apiVersion, kind, name, controller: true }];
}

type Made = { labels?: Record<string, string>; created?: string };

function podOf(owner: string, { labels = {}, created }: Made = {}, name = "p"): JsonMap {
  const metadata = { name, namespace: "web", labels, ownerReferences: refer(owner) };
  const time = created === undefined ? {} : { creationTimestamp: created };
  return { apiVersion: "v1", kind: "Pod", metadata: { ...metadata, ...time }, spec: {} };
}

function nameIn(...bodies: JsonMap[]): string[] {
  const inventory = new Inventory();
  for (const body of bodies) inventory.apply(object(body), -Infinity);
  return inventory.pods(0).map(formatHolder);
}

const HASH = "6f7c8d9b55";
/** 1 December 2026, 02:00, in minutes and in seconds since the epoch. */
const [AT, MINUTES, SECONDS] = ["2026-12-01T02:00:00Z", "29934840", "1796090400"];

t.test("a pod is named by the root of its owners", async (t) => {
  t.equal(Date.parse(AT), Number(MINUTES) * 60_000);
  t.equal(Date.parse(AT), Number(SECONDS) * 1000);
  const deployed = { labels: { "pod-template-hash": HASH } };
  const rolled = { labels: { "rollouts-pod-template-hash": HASH } };
  const cases: [string, Made, string][] = [
    [`apps/v1 ReplicaSet api-${HASH}`, deployed, "api[Deployment]"],
    [`apps/v1 ReplicaSet api-${HASH}`, rolled, "api[Rollout.argoproj.io]"],
    // Nothing but the name says so: then it is what it says it is.
    [`apps/v1 ReplicaSet api-${HASH}`, {}, `api-${HASH}[ReplicaSet]`],
    ["apps/v1 ReplicaSet by-hand", deployed, "by-hand[ReplicaSet]"],
    [`apps/v1 ReplicaSet -${HASH}`, deployed, `-${HASH}[ReplicaSet]`],
    ["apps/v1 ReplicaSet api-undefined", {}, "api-undefined[ReplicaSet]"],
    ["apps/v1 StatefulSet db", {}, "db[StatefulSet]"],
    ["apps/v1 DaemonSet agent", { labels: { "pod-template-hash": HASH } }, "agent[DaemonSet]"],
    [`batch/v1 Job backup-${MINUTES}`, { created: AT }, "backup[CronJob]"],
    [`batch/v1 Job backup-${SECONDS}`, { created: AT }, "backup[CronJob]"],
    [`batch/v1 Job backup-${MINUTES}`, { created: "2026-12-03T02:00:00Z" }, "backup[CronJob]"],
    // A date by hand is no minute of its own time; nor is one without a time to hold it against.
    ["batch/v1 Job backup-20261201", { created: AT }, "backup-20261201[Job]"],
    [`batch/v1 Job backup-${MINUTES}`, {}, `backup-${MINUTES}[Job]`],
    [
      `batch/v1 Job backup-${MINUTES}`,
      { created: "2026-11-30T02:00:00Z" },
      `backup-${MINUTES}[Job]`,
    ],
    ["batch/v1 Job import-2", { created: AT }, "import-2[Job]"],
    ["argoproj.io/v1alpha1 Workflow nightly", {}, "nightly[Workflow.argoproj.io]"],
    ["v1 ReplicationController old", {}, "old[ReplicationController]"],
    ["v1 Node n1", {}, "p[Pod]"],
  ];
  for (const [owner, made, want] of cases) {
    t.strictSame(nameIn(podOf(owner, made)), [`web/${want}`], `${owner} ${JSON.stringify(made)}`);
  }
});

t.test("kinds of one name in two API groups do not merge", async (t) => {
  const names = nameIn(
    podOf("argoproj.io/v1alpha1 Rollout api", {}, "a"),
    podOf("example.org/v1 Rollout api", {}, "b"),
  );
  t.strictSame(names, ["web/api[Rollout.argoproj.io]", "web/api[Rollout.example.org]"]);
});

t.test("a declared owner decides, whenever it comes", async (t) => {
  const owned = (kind: string, name: string, owner: string | null): JsonMap => ({
    apiVersion: kind === "Job" ? "batch/v1" : "apps/v1",
    kind,
    metadata: {
      ...{ name, namespace: "web" },
      ...(owner === null ? {} : { ownerReferences: refer(owner) }),
    },
  });
  const pod = podOf("apps/v1 ReplicaSet odd", { labels: { "pod-template-hash": HASH } });
  const set = owned("ReplicaSet", "odd", "apps/v1 Deployment api");
  t.strictSame(nameIn(set, pod), ["web/api[Deployment]"]);
  t.strictSame(nameIn(pod, set), ["web/api[Deployment]"]);
  const alone = owned("ReplicaSet", `api-${HASH}`, null);
  const looks = podOf(`apps/v1 ReplicaSet api-${HASH}`, { labels: { "pod-template-hash": HASH } });
  t.strictSame(nameIn(looks, alone), [`web/api-${HASH}[ReplicaSet]`], "it has no owner");
  const job = podOf("batch/v1 Job by-hand", { created: AT });
  t.strictSame(nameIn(job, owned("Job", "by-hand", "batch/v1 CronJob backup")), [
    "web/backup[CronJob]",
  ]);
});

t.test("a rollout changes no name, and the log's sorts of pods keep it", async (t) => {
  const inventory = new Inventory();
  for (const [i, hash] of [HASH, "55b9d8c7f6"].entries()) {
    const made = { labels: { app: "api", "pod-template-hash": hash } };
    inventory.apply(object(podOf(`apps/v1 ReplicaSet api-${hash}`, made, `p${i}`)), i);
  }
  const rolled = podOf(`apps/v1 ReplicaSet r-${HASH}`, {
    labels: { "rollouts-pod-template-hash": HASH },
  });
  inventory.apply(object(rolled), 1);
  const names = ["web/api[Deployment]", "web/api[Deployment]", "web/r[Rollout.argoproj.io]"];
  const pods = inventory.pods(5);
  t.strictSame(pods.map(formatHolder), names);
  const sorts = toWorkloadObjects(pods);
  t.strictSame(
    nameIn(...sorts.map(({ body }) => body)),
    ["web/api[Deployment]", "web/r[Rollout.argoproj.io]"],
    "what the log keeps gives the same names back",
  );
});

t.test(
  "policy is asked by any of a pod's names, and told one owner up where tools do",
  async (t) => {
    const hashed = { labels: { "rollouts-pod-template-hash": HASH } };
    const pods = [
      object(podOf(`apps/v1 ReplicaSet api-${HASH}`, hashed, "api-1")),
      object(podOf("apps/v1 StatefulSet db", {}, "db-0")),
    ];
    const inventory = new Inventory();
    for (const pod of pods) inventory.apply(pod, -Infinity);
    for (const from of [
      ...["web/api", "web/api[Rollout]", "web/api[Rollout.argoproj.io]", "web/api-1[Pod]"],
      `web/api-${HASH}[ReplicaSet]`,
    ]) {
      const question = { from, to: "web/db", port: 80, transport: "TCP" as const };
      const asked = { ...question, wire: null, mesh: null };
      t.equal(explain(asked, pods, inventory, [], 0).path, "undeclared", from);
    }
    const pairs = listAllowed(pods, inventory, () => []);
    const ends = new Set(pairs.flatMap(({ from, to }) => [from, to]));
    t.strictSame([...ends].filter((name) => name.startsWith("web/")).sort(), [
      `web/api-${HASH}[ReplicaSet]`,
      "web/db[StatefulSet]",
    ]);
  },
);
