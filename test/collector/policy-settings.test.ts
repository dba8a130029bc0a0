/**
 * Tests where the settings of meshes and network plugins count. Where they stand: istiod's chart
 * (istio 0000f4b, `configmap.yaml`), linkerd-control-plane (2.18, `config.yaml`), consul-k8s (00446b4,
 * `server-config-configmap.yaml`), Cilium (02515d1, `cilium-configmap.yaml`): each in the namespace
 * of its control plane.
 */
import t from "tap";
import { isDeciding } from "../../collector/policy/manifest/known-kinds.ts";
import { PolicyHistory } from "../../collector/policy/history/history.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { run } from "./linting.ts";
import { end, expectOf, read } from "./manifests.ts";

const map = (name: string, namespace: string, data: Record<string, string>) =>
  `---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: ${name}, namespace: ${namespace}}, ` +
  `data: ${JSON.stringify(data)}}\n`;
const workload = (kind: string, name: string, labels: string, container: string) =>
  `---\n{apiVersion: apps/v1, kind: ${kind}, metadata: {name: ${name}}, spec: {template: ` +
  `{metadata: {labels: {${labels}}}, spec: {containers: [{${container}}]}}}}\n`;
const object = (kind: string, version: string, name: string, spec: string) =>
  `---\n{apiVersion: ${version}, kind: ${kind}, metadata: {name: ${name}, namespace: a}, ` +
  `spec: ${spec}}\n`;
const pod = (name: string, container: string, more = "") =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: a, labels: {app: ${name}}` +
  `${more}}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}${container}]}}\n`;

type Case = {
  title: string;
  home: string;
  /** What stands around: the answer to a connection from `a/x` to `a/y` rests on the settings. */
  around: string;
  settings: (namespace: string) => string;
  /** A ConfigMap of that name whose text is no settings at all. */
  broken: ((namespace: string) => string) | null;
  /** The path without the settings, and with them. */
  paths: [without: string, changed: string];
  /** The control plane's own workload, as its chart makes it. */
  runs: (namespace: string) => string;
  told: RegExp;
};

const inSpace = (text: string, namespace: string) =>
  text.replace("metadata: {name", `metadata: {namespace: ${namespace}, name`);

const CASES: readonly Case[] = [
  {
    title: "Istio",
    home: "istio-system",
    around:
      pod("x", ", {name: istio-proxy}") +
      pod("y", ", {name: istio-proxy}") +
      object(
        ...(["AuthorizationPolicy", "security.istio.io/v1", "p"] as const),
        "{rules: [{from: [{source: {principals: [evil.example/ns/a/sa/default]}}]}]}",
      ) +
      object("PeerAuthentication", "security.istio.io/v1", "s", "{mtls: {mode: STRICT}}") +
      object(
        ...(["Service", "v1", "y"] as const),
        "{selector: {app: y}, ports: [{name: tcp, port: 80}]}",
      ),
    settings: (namespace) => map("istio", namespace, { mesh: "trustDomain: evil.example" }),
    broken: (namespace) => map("istio", namespace, { mesh: "a: [" }),
    paths: ["denied", "allowed"],
    runs: (namespace) =>
      inSpace(workload("Deployment", "istiod", "app: istiod", "name: discovery"), namespace),
    told: /Istio reads its settings .* trustDomain from cluster\.local to evil\.example/,
  },
  {
    title: "Linkerd",
    home: "linkerd",
    around: pod("x", ", {name: linkerd-proxy}") + pod("y", ", {name: linkerd-proxy}"),
    settings: (namespace) =>
      map("linkerd-config", namespace, { values: "proxy: {defaultInboundPolicy: deny}" }),
    broken: (namespace) => map("linkerd-config", namespace, { values: "a: [" }),
    paths: ["undeclared", "undecidable"], // HTTP is answered with 403
    runs: (namespace) =>
      inSpace(
        workload(
          ...(["Deployment", "linkerd-destination", ""] as const),
          `name: policy, args: [--control-plane-namespace=${namespace}]`,
        ),
        namespace,
      ),
    told: /Linkerd reads its settings .* defaultPolicy from all-unauthenticated to deny/,
  },
  {
    title: "Consul",
    home: "consul",
    around: pod("x", ", {name: consul-dataplane}") + pod("y", ", {name: consul-dataplane}"),
    settings: (namespace) =>
      map("consul-server-config", namespace, {
        "server.json": '{"default_intention_policy": "deny"}',
      }),
    broken: null,
    paths: ["undeclared", "denied"],
    runs: (namespace) =>
      inSpace(
        workload("StatefulSet", "consul-server", "app: consul, component: server", "name: consul"),
        namespace,
      ),
    told: /Consul reads its settings .* action from unknown to deny/,
  },
  {
    title: "Cilium",
    home: "kube-system",
    around: pod("x", "") + pod("y", ""),
    settings: (namespace) => map("cilium-config", namespace, { "enable-policy": "always" }),
    broken: null,
    paths: ["undeclared", "denied"],
    runs: (namespace) =>
      inSpace(workload("DaemonSet", "cilium", "k8s-app: cilium", "name: cilium-agent"), namespace),
    told: /Cilium reads its settings .* enforcement from default to always/,
  },
];

for (const { title, home, around, settings, broken, paths, runs, told } of CASES) {
  t.test(`${title}: settings count in the control plane's namespace alone`, async (t) => {
    const ask = (text: string) => expectOf(around + text, "a/x", "a/y", 80);
    const [without, changed] = paths;
    t.equal(ask("").path, without);
    t.equal(ask(settings(home)).path, changed, "in its own namespace");
    t.equal(ask(settings("tenant")).path, without, "a tenant's");
    t.equal(ask(settings("tenant") + settings(home)).path, changed, "beside the mesh's own");
    t.equal(ask(settings("other") + runs("other")).path, changed, "where the control plane is");
    const feigned = settings("tenant") + runs("tenant");
    t.equal(ask(feigned + runs(home)).path, without, "it runs at home");
    t.equal(
      ask(feigned + settings(home).replace("cilium-config", "x") + runs(home)).doubts?.length,
      0,
    );
    const two = ask(feigned + runs("other"));
    t.equal(two.path, without, "two places, and either may be feigned");
    t.match(two.doubts, [{ namespaces: "all", reason: /several namespaces show a control plane/ }]);
    if (broken !== null) {
      t.equal(ask(broken(home)).doubts?.length, 1);
      t.strictSame(ask(broken("tenant")).doubts, [], "what nobody reads puts nothing in doubt");
    }
  });

  t.test(
    `${title}: settings that nobody reads are told, with what they would change`,
    async (t) => {
      const found = (text: string) =>
        run(around + text).findings.filter(({ rule }) => rule.id === "mesh-settings-elsewhere");
      const [finding, ...more] = found(settings("tenant"));
      t.match(finding, { sentence: told, field: "metadata.namespace" });
      t.match(finding!.sentence, `in namespace ${home} alone`);
      t.equal(more.length, 0);
      t.strictSame(found(settings(home)), []);
      t.strictSame(found(settings("other") + runs("other")), []);
    },
  );

  t.test(`${title}: what is judged in a cluster goes by the same rule`, async (t) => {
    const ask = (text: string) => {
      const declared = read(around + text);
      const history = new PolicyHistory();
      for (const one of declared.objects) history.apply(one, -Infinity);
      const [client, server] = [end(declared, "a/x"), end(declared, "a/y")];
      const [expectation] = history.expect(client, server, 80, "TCP", { atMs: 0 }).atStart;
      const policy = new Policy(declared.objects).expect(client, server, 80, "TCP", 0);
      t.strictSame(expectation.path, policy.path);
      return expectation.path;
    };
    t.equal(ask(settings(home)), paths[1]);
    t.equal(ask(settings("tenant")), paths[0]);
    t.equal(ask(settings("other") + runs("other")), paths[1], "workloads show where it is");
    t.ok(read(runs("other")).objects.every(isDeciding));
  });
}

t.test("Istio: its root namespace is where its control plane is", async (t) => {
  const pods = pod("x", ", {name: istio-proxy}") + pod("y", ", {name: istio-proxy}");
  const strict = object(
    "PeerAuthentication",
    "security.istio.io/v1",
    "s",
    "{mtls: {mode: STRICT}}",
  );
  const [istio] = CASES;
  const ask = (text: string) => expectOf(pods + text, "a/x", "a/y", 80).transport.required;
  const inRoot = strict.replace("namespace: a", "namespace: mesh");
  t.equal(ask(inRoot), "any");
  t.equal(ask(inRoot + istio!.runs("mesh")), "mtls");
  const said = map("istio", "istio-system", { mesh: "rootNamespace: mesh" });
  t.equal(ask(inRoot + said), "mtls", "as the settings say");
});
