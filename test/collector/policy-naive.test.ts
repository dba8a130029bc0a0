/** Compares what policies require, on random clusters, with slow evaluators of the specifications. */
import t from "tap";
import type { ClusterObject } from "../../collector/attribution/cluster-object.ts";
import { judgeWire, Policy } from "../../collector/policy/policy.ts";
import { holds } from "../../collector/policy/packet/port-set.ts";
import { findFaults } from "../../collector/policy/manifest/shape.ts";
import { drawAdminPolicy } from "./naive/admin-policy.ts";
import { drawAuthorizationPolicy } from "./naive/authorization-policy.ts";
import {
  drawCluster,
  drawQuestion,
  formatQuestion,
  toObject,
  type Cluster,
  type Question,
} from "./naive/cluster.ts";
import { HBONE, judgeIstio, mayComeByHbone, type Mesh } from "./naive/istio-mesh.ts";
import { drawNetworkPolicy } from "./naive/network-policy.ts";
import { gravest, judgeNetwork, type Path } from "./naive/network-tiers.ts";
import { drawPeerAuthentication } from "./naive/peer-authentication.ts";
import { Random } from "./naive/random.ts";
import {
  drawSegmentation,
  isSegmentation,
  judgeSegmentation,
  strictest,
  TIMES_MS,
} from "./naive/segmentation.ts";
import type { Known } from "./naive/selector.ts";

/** `NAIVE_SEEDS=1000000 NAIVE_FROM=100000` goes on where the usual run ends. */
const SEEDS = Number(process.env["NAIVE_SEEDS"] ?? 100_000);
const FROM = Number(process.env["NAIVE_FROM"] ?? 0);
/** Policies are drawn for so many clusters at a time, each of which has some of them. */
const CLUSTERS_OF_SET = 10;

type Body = { kind: string; metadata: { name: string }; spec: object };
type Declared = { body: Body; object: ClusterObject };

/** The policies that a few clusters share, and how Istio is set up in them. */
type PolicySet = { policies: readonly Declared[]; mesh: Mesh; settings: ClusterObject };

const FAMILIES = {
  network: ["NetworkPolicy"],
  v1alpha1: ["NetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"],
  v1alpha2: ["NetworkPolicy", "ClusterNetworkPolicy"],
  zones: ["Segmentation"],
  istio: ["PeerAuthentication", "AuthorizationPolicy"],
  mixed: [
    ...["NetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy", "Segmentation"],
    ...["PeerAuthentication", "AuthorizationPolicy"],
  ],
} as const;
type Family = keyof typeof FAMILIES;
const NAMES = Object.keys(FAMILIES) as Family[];
/** Who takes turns: Istio's rules have the most to differ in. */
const TURNS: readonly Family[] = [...NAMES, "istio"];

/** Istio's own defaults in the first; a root namespace with pods in the others. */
const MESHES: readonly Mesh[] = [
  { root: "istio-system", trustDomain: "cluster.local" },
  { root: "root", trustDomain: "cluster.local" },
  { root: "root", trustDomain: "other.domain" },
];

function drawBody(random: Random, kind: string, name: string, hasTimes: boolean): Body {
  switch (kind) {
    case "NetworkPolicy":
      return drawNetworkPolicy(random, name);
    case "AdminNetworkPolicy":
    case "BaselineAdminNetworkPolicy":
    case "ClusterNetworkPolicy":
      return drawAdminPolicy(random, name, kind);
    case "PeerAuthentication":
      return drawPeerAuthentication(random, name, hasTimes);
    case "AuthorizationPolicy":
      return drawAuthorizationPolicy(random, name);
    default:
      return drawSegmentation(random, name);
  }
}

function drawPolicies(random: Random, family: Family): PolicySet {
  const hasTimes = !random.once(3);
  const policies: Declared[] = [];
  const most = family === "zones" ? 3 : 8;
  for (let i = 0; i < most; i++) {
    const kind = random.pick(...FAMILIES[family]);
    const body = drawBody(random, kind, `p${i}`, hasTimes);
    // There is one of the name `default` at most.
    if (policies.some((p) => p.body.metadata.name === body.metadata.name)) continue;
    policies.push({ body, object: toObject(body) });
  }
  const mesh = random.pick(...MESHES);
  const settings = toObject({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "istio", namespace: "istio-system" },
    data: { mesh: `rootNamespace: ${mesh.root}\ntrustDomain: ${mesh.trustDomain}\n` },
  });
  return { policies, mesh, settings };
}

const mark = (known: Known) => (known === null ? "?" : known ? "+" : "-");

type Case = { cluster: Cluster; question: Question; mesh: Mesh; atMs: number };

const doorOf = (path: Path) =>
  path === "denied" ? "shut" : path === "undecidable" ? "unknown" : "open";

/** `path required ptm permit`, by the slow evaluators. */
function judgeSlowly(bodies: readonly Body[], { cluster, question, mesh, atMs }: Case): string {
  const network = judgeNetwork(bodies, question, cluster);
  const inTunnel = judgeNetwork(bodies, { ...question, port: HBONE }, cluster);
  // Which of the two it is depends on proxies: where one is shut, or may be, and the other is not
  // so, nothing is known.
  const isTunnelled = mayComeByHbone(bodies, question, mesh);
  const doors = new Set(
    [network, ...(isTunnelled ? [inTunnel] : [])].map(({ path }) => doorOf(path)),
  );
  const istio = judgeIstio(bodies, question, cluster, mesh);
  const zones = bodies
    .filter(isSegmentation)
    .map((body) => judgeSegmentation(body, question, atMs));
  const path = gravest([
    doors.size > 1 ? "undecidable" : network.path,
    ...(istio === null ? [] : [istio.path]),
    ...zones.map((zone) => zone.path),
  ]);
  const required = strictest([istio?.required ?? null, ...zones.map((zone) => zone.required)]);
  const { plaintext = null, tls = null, mtls = null } = istio?.wire ?? {};
  const wire = [plaintext, tls, mtls].map(mark).join("");
  return `${path} ${required} ${wire} ${mark(network.isPermitted)}`;
}

function judgeFast(policy: Policy, { question, atMs }: Case): string {
  const { client, server, port, transport } = question;
  const said = policy.expect(client.holder, server.holder, port, transport, atMs);
  const wire = (["plaintext", "tls", "mtls"] as const).map((p) => mark(judgeWire(said, p)));
  const permit = holds(policy.permit(client.holder, server.holder), transport, port);
  return `${said.path} ${said.transport.required} ${wire.join("")} ${mark(permit)}`;
}

function toPolicy(policies: readonly Declared[], cluster: Cluster, settings: ClusterObject) {
  const objects = [...policies.map(({ object }) => object), ...cluster.objects, settings];
  return new Policy(objects, { podsInBlocks: cluster.podsInBlocks });
}

/** Drops policies, one at a time, while the two still differ; tells what is left. */
function shrink(policies: readonly Declared[], settings: ClusterObject, one: Case): string {
  const differ = (some: readonly Declared[]) =>
    judgeSlowly(
      some.map(({ body }) => body),
      one,
    ) !== judgeFast(toPolicy(some, one.cluster, settings), one);
  let left = policies;
  for (let i = 0; i < left.length;) {
    const fewer = left.toSpliced(i, 1);
    if (differ(fewer)) left = fewer;
    else i++;
  }
  const { client, server } = one.question;
  const told = [client, server].map(({ holder: _, ...end }) => JSON.stringify(end));
  return [
    `${formatQuestion(one.question)} at ${one.atMs}, ${JSON.stringify(one.mesh)}, ` +
      `podsInBlocks ${one.cluster.podsInBlocks}`,
    `slow: ${judgeSlowly(
      left.map(({ body }) => body),
      one,
    )}`,
    `fast: ${judgeFast(toPolicy(left, one.cluster, settings), one)}`,
    ...told,
    ...one.cluster.services.map((service) => JSON.stringify(service)),
    ...left.map(({ body }) => JSON.stringify(body)),
  ].join("\n  ");
}

t.test(`${SEEDS} random clusters and policies agree with the slow evaluators`, async (t) => {
  const wrong: string[] = [];
  const answers = new Map<string, number>();
  let asked = 0;
  let set = drawPolicies(new Random(-1), "network");
  const started = process.cpuUsage();
  for (let seed = FROM; seed < FROM + SEEDS; seed++) {
    const family = TURNS[Math.floor(seed / CLUSTERS_OF_SET) % TURNS.length]!;
    if (seed % CLUSTERS_OF_SET === 0 || seed === FROM) {
      const start = seed - (seed % CLUSTERS_OF_SET);
      set = drawPolicies(new Random(2 * start + 1), family);
    }
    const random = new Random(2 * seed);
    const cluster = drawCluster(random, family === "istio" || family === "mixed");
    // 0-6 of them: most of the sets are larger than that.
    const policies = set.policies.filter(() => random.once(2)).slice(0, 6);
    const bodies = policies.map(({ body }) => body);
    const policy = toPolicy(policies, cluster, set.settings);
    const count = 3 + random.below(4);
    for (let i = 0; i < count; i++) {
      const question = drawQuestion(random, cluster);
      const one = { cluster, question, mesh: set.mesh, atMs: random.pick(...TIMES_MS) };
      const [slow, fast] = [judgeSlowly(bodies, one), judgeFast(policy, one)];
      asked++;
      const key = `${family} ${slow.split(" ")[0]}`;
      answers.set(key, (answers.get(key) ?? 0) + 1);
      if (slow !== fast && wrong.length < 5) {
        wrong.push(`seed ${seed}: ${shrink(policies, set.settings, one)}`);
      }
    }
  }
  const { user, system } = process.cpuUsage(started);
  t.comment(`${asked} questions in ${((user + system) / 1e6).toFixed(1)} s of CPU`);
  t.strictSame(wrong, []);
  // Each answer is given often enough by each family to be a test of it.
  const rare = NAMES.flatMap((family) =>
    ["allowed", "denied", "undeclared", "undecidable"]
      .map((path) => `${family} ${path}`)
      .filter((key) => (answers.get(key) ?? 0) < SEEDS / 1000),
  );
  t.strictSame(rare, []);
});

t.test("what is drawn is valid, unless it is meant not to be", async (t) => {
  const faults: string[] = [];
  for (let seed = 0; seed < 300; seed++) {
    const { policies } = drawPolicies(new Random(seed), NAMES[seed % NAMES.length]!);
    for (const { body, object } of policies) {
      const found = findFaults(object);
      if (found.length > 0 !== "unheardOf" in body.spec) faults.push(JSON.stringify([body, found]));
    }
  }
  t.strictSame(faults, []);
});
