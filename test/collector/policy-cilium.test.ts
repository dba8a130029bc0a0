/**
 * Tests what Cilium's policies allow and deny. Each case names where its truth stands, in Cilium
 * 1.20: `l3`, `l4`, `l7`, `deny`, `intro`, `host`, `k8s` are pages of Documentation/security/policy;
 * `rule`, `repository`, `l4.go`, `selector` are files of pkg/policy with their tests, `validation` is
 * pkg/policy/api/rule_validation.go, `parserules` pkg/policy/utils, `utils`
 * pkg/k8s/apis/cilium.io/utils, `service` pkg/policy/k8s/service.go, `filter` pkg/labelsfilter.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { toExternal, type Transport } from "../../collector/attribution/holder.ts";
import { isRelevant } from "../../collector/policy/packet/cilium/identity.ts";
import type { PathDecision } from "../../collector/policy/expectation.ts";
import { NetworkLayer } from "../../collector/policy/packet/network-layer.ts";
import { holds } from "../../collector/policy/packet/port-set.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { runAllowed } from "../../collector/policy/answer/policy-command.ts";
import { formatProblem } from "../../collector/policy/manifest/problem.ts";
import { end, expectOf, inBand, read } from "./manifests.ts";

const pod = (name: string, labels: string, spec = "", status = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, ` +
    `labels: {${labels}}}, spec: {containers: [{name: c, ports: [{name: web, containerPort: ` +
    `8080}, {name: dns, containerPort: 53, protocol: UDP}]}]${spec}}, status: {${status}}}\n`
  );
};
const node = (name: string, address: string, labels = "") =>
  `---\n{apiVersion: v1, kind: Node, metadata: {name: ${name}, labels: {${labels}}}, status: ` +
  `{addresses: [{type: InternalIP, address: ${address}}]}}\n`;

/** Two namespaces, two nodes; `host` and `far` are on the network of n1 and n2. */
const PODS = [
  "---\n{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: red}}}\n",
  "---\n{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {team: blue}}}\n",
  pod("a/web", "role: frontend, env: prod", ", nodeName: n1, serviceAccountName: luke"),
  pod("a/db", "role: backend", ", nodeName: n1", "podIP: 10.0.1.9, podIPs: [{ip: 10.0.1.9}]"),
  pod("b/web", "role: frontend", ", nodeName: n2"),
  pod("a/host", "app: agent", ", nodeName: n1, hostNetwork: true", "podIP: 192.168.0.1"),
  pod("a/far", "app: agent", ", nodeName: n2, hostNetwork: true", "podIP: 192.168.0.2"),
  node("n1", "192.168.0.1", "type: worker"),
  node("n2", "192.168.0.2", "type: control"),
].join("");

const policy = (spec: string, name = "p", namespace = "a") =>
  `---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}, ` +
  `namespace: ${namespace}}, spec: ${spec}}\n`;
const wide = (spec: string, name = "w") =>
  "---\n{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: " +
  `{name: ${name}}, spec: ${spec}}\n`;
/** A policy for `a/db`. */
const forDb = (sections: string, name = "p") =>
  policy(`{endpointSelector: {matchLabels: {role: backend}}, ${sections}}`, name);
/** A policy for `a/web`. */
const forWeb = (sections: string) =>
  policy(`{endpointSelector: {matchLabels: {role: frontend}}, ${sections}}`);
const kubernetes = (spec: string) =>
  "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: np, namespace: " +
  `a}, spec: ${spec}}\n`;
const settings = (data: string) =>
  "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: cilium-config, namespace: " +
  `kube-system}, data: {${data}}}\n`;
const group = (name: string, cidrs: string, labels = "") =>
  `---\n{apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {name: ${name}, labels: ` +
  `{${labels}}}, spec: {externalCIDRs: [${cidrs}]}}\n`;
const service = (name: string, spec: string, labels = "") =>
  `---\n{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: a, labels: ` +
  `{${labels}}}, spec: ${spec}}\n`;
const slice = (namespace: string, of: string, addresses: string) =>
  `---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: ${of}-x, ` +
  `namespace: ${namespace}, labels: {kubernetes.io/service-name: ${of}}}, addressType: IPv4, ` +
  `endpoints: [{addresses: [${addresses}]}]}\n`;

const ask = (text: string, from: string, to = "a/db", port = 80, transport?: Transport) =>
  expectOf(PODS + text, from, to, port, transport);

type Case = [from: string, path: PathDecision, why: string, to?: string, port?: number];

/** One policy, and what it comes to for each pair. */
function check(t: Tap, text: string, cases: readonly Case[]): void {
  for (const [from, expected, why, to, port] of cases) {
    const found = ask(text, from, to, port);
    t.equal(found.path, expected, `${why}: ${from} → ${to ?? "a/db"}:${port ?? 80}`);
  }
}
type Tap = { equal: (found: unknown, wanted: unknown, message: string) => boolean };

t.test("endpoints (l3: Endpoints based)", async (t) => {
  const simple = forDb("ingress: [{fromEndpoints: [{matchLabels: {role: frontend}}]}]");
  check(t, simple, [
    ["a/web", "allowed", "l3 simple ingress allow"],
    ["b/web", "denied", "k8s: a selector without a namespace is for the policy's own"],
    ["1.2.3.4", "denied", "l3: not selected"],
    ["a/db", "undeclared", "a pod reaches itself", "a/db"],
    ["b/web", "undeclared", "no rule selects it", "a/web"],
  ]);
  t.match(ask(simple, "a/web").pathBecause[0], {
    kind: "CiliumNetworkPolicy",
    namespace: "a",
    name: "p",
    rule: "spec.ingress[0].fromEndpoints[0]",
    sentence:
      "allowed by CiliumNetworkPolicy a/p: spec.ingress[0].fromEndpoints[0] matches a/web[Pod]",
  });
  t.match(ask(simple, "b/web").pathBecause[0], {
    rule: "spec.ingress",
    sentence: "denied by CiliumNetworkPolicy a/p: no ingress rule matches b/web[Pod] on TCP 80",
  });
  check(t, forDb("ingress: [{fromEndpoints: [{}]}]"), [
    ["a/web", "allowed", "l3 ingress allow all endpoints"],
    ["b/web", "denied", "utils getEndpointSelector: own namespace"],
    ["1.2.3.4", "denied", "an empty selector is for endpoints of the namespace"],
    ["a/far", "denied", "a pod on the node's network is a node"],
  ]);
  check(t, forWeb("egress: [{toEndpoints: [{matchLabels: {role: backend}}]}]"), [
    ["a/web", "allowed", "l3 simple egress allow"],
    ["a/web", "denied", "l3: only to the backend", "b/web"],
    ["a/web", "denied", "l3: and not outside", "1.2.3.4"],
  ]);
  const both =
    forDb("ingress: [{fromEndpoints: [{}]}]", "in") + forWeb("egress: [{toEndpoints: [{}]}]");
  t.equal(ask(both, "a/web").path, "allowed", "l3: policy on both sides");
  t.equal(ask(both, "a/web", "b/web").path, "denied", "l3: policy on both sides");
});

t.test("default deny (intro: Endpoint default policy; repository TestDefaultAllow)", async (t) => {
  t.equal(ask(forDb("ingress: [{}]"), "a/web").path, "denied", "l3 egress-default-deny, mirrored");
  t.equal(ask(forDb("ingress: [{}]"), "a/db", "a/web").path, "undeclared", "per direction");
  const none = "egress: [{toEndpoints: [{}]}], ingress: []";
  t.equal(ask(forDb(none), "a/web").path, "undeclared", "repository: an empty list is as none");
  t.equal(ask(forDb(`${none}, ingressDeny: []`), "a/web").path, "undeclared", "the same");
  const deny = "ingressDeny: [{fromEndpoints: [{matchLabels: {role: other}}]}]";
  t.equal(ask(forDb(deny), "a/web").path, "denied", "deny: a rule that denies isolates as well");
  t.match(ask(forDb(deny), "a/web").pathBecause[0]!.sentence, /no ingress rule that allows/);
  const open = "enableDefaultDeny: {ingress: false}";
  t.equal(ask(forDb(`ingress: [{}], ${open}`), "a/web").path, "undeclared", "intro");
  const some = forDb(`ingress: [{fromEndpoints: [{matchLabels: {role: frontend}}]}], ${open}`);
  t.equal(ask(some, "a/web").path, "allowed", "intro: its rules still count");
  t.equal(ask(some, "b/web").path, "undeclared", "intro: and it isolates nothing");
  const shut = `${some}${forDb("ingress: [{}]", "q")}`;
  t.equal(ask(shut, "b/web").path, "denied", "TestDefaultAllow: any that isolates isolates");
  t.equal(ask(shut, "a/web").path, "allowed", "TestDefaultAllow: what it allows stays allowed");
  const denying = forDb(`ingressDeny: [{fromEntities: [world]}], ${open}`);
  t.equal(ask(denying, "1.2.3.4").path, "denied", "repository: what is denied stays denied");
  t.equal(ask(denying, "b/web").path, "undeclared", "repository: all else passes");
  const off = settings("enable-non-default-deny-policies: 'false'");
  t.equal(ask(some + off, "b/web").path, "denied", "validation: the flag takes the field away");
});

t.test("lists that are empty (parserules TestMergeEndpointSelectors)", async (t) => {
  const on80 = "toPorts: [{ports: [{port: '80'}]}]";
  const cases: [string, PathDecision, string][] = [
    [`{${on80}}`, "allowed", "no peers and ports: everybody"],
    [`{fromEndpoints: [], ${on80}}`, "denied", "an empty list selects nobody"],
    [`{fromCIDR: [], ${on80}}`, "denied", "the same for ranges"],
    [`{fromEntities: [], ${on80}}`, "denied", "the same for entities"],
    ["{fromEndpoints: [{}], toPorts: [{}]}", "denied", "rule mergeL4Filter: no port is named"],
    ["{fromEndpoints: [{}], toPorts: []}", "allowed", "rule mergeL4Filter: L3 only"],
    ["{fromEndpoints: [{}], icmps: [{fields: [{type: 8}]}]}", "denied", "l4: ICMP only"],
    ["{icmps: [{fields: [{type: 8, family: IPv4}]}]}", "denied", "rule TestICMPPolicy"],
  ];
  for (const [rule, expected, why] of cases) {
    t.equal(ask(forDb(`ingress: [${rule}]`), "a/web").path, expected, why);
  }
});

t.test("namespaces and labels (k8s: Namespaces; utils Test_ParseToCiliumRule)", async (t) => {
  const from = (selector: string) => forDb(`ingress: [{fromEndpoints: [${selector}]}]`);
  const matching = (labels: string) => from(`{matchLabels: {${labels}}}`);
  for (const prefix of ["k8s:", "any:", ""]) {
    const text = matching(`'${prefix}io.kubernetes.pod.namespace': b`);
    t.equal(ask(text, "b/web").path, "allowed", `k8s: across namespaces, ${prefix}`);
    t.equal(ask(text, "a/web").path, "denied", `k8s: and no longer its own, ${prefix}`);
  }
  const any = from(
    "{matchExpressions: [{key: k8s:io.kubernetes.pod.namespace, operator: Exists}]}",
  );
  t.equal(ask(any, "b/web").path, "allowed", "k8s: any namespace with Exists");
  const team = matching("io.cilium.k8s.namespace.labels.team: blue");
  t.equal(ask(team, "b/web").path, "allowed", "k8s example namespace-labels-policy");
  t.equal(ask(team, "a/web").path, "denied", "k8s example namespace-labels-policy");
  const named = "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: b";
  t.equal(ask(matching(named), "b/web").path, "allowed", "the name of a namespace is a label");
  const account = matching("io.cilium.k8s.policy.serviceaccount: luke");
  t.equal(ask(account, "a/web").path, "allowed", "k8s: ServiceAccounts");
  t.equal(ask(matching("'k8s:role': frontend"), "a/web").path, "allowed", "labels.go: source k8s");
  t.equal(
    ask(matching("'cni:role': frontend"), "a/web").path,
    "denied",
    "labels.go: another source",
  );
  const or =
    "{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: In, values: [b]}]}, " +
    "{matchExpressions: [{key: 'k8s:env', operator: In, values: [prod]}]}";
  t.equal(ask(from(or), "b/web").path, "allowed", "k8s example or-statement");
  t.equal(ask(from(or), "a/web").path, "allowed", "k8s example or-statement");
  const not = "{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}";
  t.equal(ask(from(not), "a/web").path, "denied", "NotIn");
  t.equal(ask(from(not), "a/db", "a/web").path, "undeclared", "it selects the backend alone");
  const cluster = matching("io.cilium.k8s.policy.cluster: east, role: frontend");
  t.equal(ask(cluster, "a/web").path, "undecidable", "nothing names the cluster");
  t.equal(
    ask(cluster + settings("cluster-name: east"), "a/web").path,
    "allowed",
    "k8s: Multi-Cluster",
  );
  t.equal(
    ask(cluster + settings("cluster-name: west"), "a/web").path,
    "denied",
    "k8s: Multi-Cluster",
  );
  const foreign = (key: string) =>
    policy(`{endpointSelector: {matchLabels: {'${key}': b}}, ingress: [{}]}`);
  const namespace = "io.kubernetes.pod.namespace";
  t.equal(ask(foreign(`k8s:${namespace}`), "a/web", "b/web").path, "undeclared", "k8s: not there");
  t.equal(ask(foreign(`k8s:${namespace}`), "a/web").path, "denied", "utils: its own stands in");
  t.equal(ask(foreign(namespace), "a/web").path, "undeclared", "utils: no pod is in both");
  const own = matching("role: frontend");
  const choosing = settings("labels: 'k8s:app'");
  t.equal(ask(own + choosing, "a/web").path, "undecidable", "filter: which labels count is chosen");
  const kept: [string, boolean][] = [
    ["app.kubernetes.io/name", true],
    ["pod-template-hash", false],
    ["statefulset.kubernetes.io/pod-name", false],
    ["io.kubernetes.pod.namespace", true],
    ["io.kubernetes.pod.name", false],
    ["kubernetes.io/metadata.name", false],
    ["io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", true],
    ["failure-domain.beta.kubernetes.io/zone", false],
    ["node-role.kubernetes.io/control-plane", true],
  ];
  for (const [key, wanted] of kept) t.equal(isRelevant(key), wanted, `filter: ${key}`);
});

t.test("deny before allow (deny: the table)", async (t) => {
  const from = "fromEndpoints: [{matchLabels: {role: frontend}}]";
  const port = (number: number) => `toPorts: [{ports: [{port: '${number}', protocol: TCP}]}]`;
  const allow = `ingress: [{${from}}, {${port(80)}}, {${port(81)}}]`;
  const columns: [string, PathDecision, PathDecision][] = [
    [allow, "allowed", "allowed"],
    [`${allow}, ingressDeny: [{${port(80)}}]`, "denied", "allowed"],
    [`${allow}, ingressDeny: [{${from}}]`, "denied", "denied"],
    [`${allow}, ingressDeny: [{${from}}, {${port(80)}}]`, "denied", "denied"],
    [`ingressDeny: [{${port(80)}}]`, "denied", "denied"],
  ];
  for (const [i, [sections, on80, on81]] of columns.entries()) {
    t.equal(ask(forDb(sections), "a/web", "a/db", 80).path, on80, `deny: column ${i + 1}, :80`);
    t.equal(ask(forDb(sections), "a/web", "a/db", 81).path, on81, `deny: column ${i + 1}, :81`);
  }
  const because = ask(forDb(columns[2]![0]), "a/web").pathBecause[0]!;
  t.equal(because.rule, "spec.ingressDeny[0].fromEndpoints[0]");
  const egress = forWeb(
    "egress: [{toEntities: [all]}], egressDeny: [{toEndpoints: [{matchLabels: {role: backend}}]}]",
  );
  t.equal(ask(egress, "a/web").path, "denied", "l3 example egress-deny");
  t.equal(ask(egress, "a/web", "b/web").path, "allowed", "l3 example egress-deny");
  const lockdown = wide(
    "{endpointSelector: {}, ingressDeny: [{fromEntities: [world]}], ingress: [{fromEntities: [all]}]}",
  );
  check(t, lockdown, [
    ["1.2.3.4", "denied", "deny example from_world_deny"],
    ["b/web", "allowed", "deny example from_world_deny"],
    ["n2", "allowed", "deny example from_world_deny"],
  ]);
});

t.test("entities (l3: Entities based; entity.go)", async (t) => {
  const from = (names: string) => forDb(`ingress: [{fromEntities: [${names}]}]`);
  const api = slice("default", "kubernetes", "192.168.0.2, 203.0.113.7");
  const rows: [string, Record<string, PathDecision>][] = [
    ["all", { "a/web": "allowed", "1.2.3.4": "allowed", n2: "allowed" }],
    ["none", { "a/web": "denied", "1.2.3.4": "denied", n2: "denied" }],
    ["world", { "a/web": "denied", "1.2.3.4": "allowed", n2: "denied", "2001:db8::1": "allowed" }],
    ["cluster", { "b/web": "allowed", "1.2.3.4": "denied", n2: "allowed", "a/far": "allowed" }],
    ["cluster-mesh", { "b/web": "allowed", "1.2.3.4": "denied" }],
    ["host", { "a/web": "denied", n2: "denied", "a/far": "denied", "a/host": "allowed" }],
    ["remote-node", { "a/web": "denied", n2: "allowed", "a/far": "allowed", "1.2.3.4": "denied" }],
    ["kube-apiserver", { "a/web": "denied", n2: "allowed", "203.0.113.7": "allowed" }],
    ["kube-apiserver", { "1.2.3.4": "denied", "a/far": "allowed" }],
    ["health", { "a/web": "denied", n2: "denied", "1.2.3.4": "denied" }],
    ["'host', 'remote-node'", { n2: "allowed", "a/far": "allowed", "a/web": "denied" }],
  ];
  for (const [names, row] of rows) {
    for (const [peer, expected] of Object.entries(row)) {
      t.equal(ask(from(names) + api, peer).path, expected, `l3: ${names}, ${peer}`);
    }
  }
  t.equal(ask(from("kube-apiserver"), "1.2.3.4").path, "undecidable", "its addresses are unknown");
  t.match(
    ask(from("cluster"), "1.2.3.4").pathBecause[0]!.sentence,
    /Endpoints default\/kubernetes/,
  );
  const stacks = settings("enable-ipv4: 'true', enable-ipv6: 'true'");
  t.equal(ask(from("world-ipv4"), "1.2.3.4").path, "undecidable", "cidr.go: only in dual stack");
  t.equal(ask(from("world-ipv4") + stacks, "1.2.3.4").path, "allowed", "cidr.go getWorldLabel");
  t.equal(ask(from("world-ipv4") + stacks, "2001:db8::1").path, "denied", "cidr.go getWorldLabel");
  const reserved = forDb(
    "ingress: [{fromEndpoints: [{matchLabels: {'reserved:remote-node': ''}}]}]",
  );
  t.equal(ask(reserved, "n2").path, "allowed", "utils: reserved labels have no namespace");
  t.equal(ask(reserved, "a/web").path, "denied", "utils: reserved labels have no namespace");
});

t.test("the pod's own node (repository: localhost; intro)", async (t) => {
  const shut = forDb("ingress: [{}]");
  t.equal(ask(shut, "n1").path, "undeclared", "a node reaches its own pods");
  t.equal(ask(shut, "a/host").path, "allowed", "l3: so do pods on its network");
  t.match(ask(shut, "a/host").pathBecause[0]!.sentence, /allow-localhost/);
  t.equal(ask(shut, "n2").path, "denied", "another node does not");
  t.equal(ask(shut + settings("allow-localhost: policy"), "n1").path, "denied", "l3 note");
  const deny = forDb("ingressDeny: [{fromEntities: [host]}]");
  t.equal(ask(deny, "n1").path, "denied", "repository: the rule for localhost stands last");
  const out = forDb("egress: [{}]");
  t.equal(ask(out, "a/db", "n1").path, "denied", "repository: ingress alone");
  const lost = pod("a/lost", "role: backend");
  t.equal(ask(shut + lost, "n2", "a/lost").path, "undecidable", "which node it is on is not known");
  const nodes = forDb("ingress: [{fromEntities: [host, remote-node]}]");
  t.equal(ask(nodes + lost, "n2", "a/lost").path, "allowed", "whichever it is");
});

t.test("ranges (l3: IP/CIDR based; selector CIDRSelector.Matches)", async (t) => {
  const rule = policy(
    "{endpointSelector: {matchLabels: {role: frontend}}, egress: [{toCIDR: [20.1.1.1/32]}, " +
      "{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.96.0.0/12]}]}]}",
  );
  check(t, rule, [
    ["a/web", "allowed", "l3 example cidr", "20.1.1.1"],
    ["a/web", "denied", "l3 example cidr", "20.1.1.2"],
    ["a/web", "allowed", "l3 example cidr", "10.1.2.3"],
    ["a/web", "denied", "l3 example cidr: except", "10.100.0.1"],
    ["a/web", "denied", "l3: ranges select no pod, whatever its address", "a/db"],
  ]);
  const all = forDb("ingress: [{fromCIDR: [0.0.0.0/0]}]");
  check(t, all, [
    ["1.2.3.4", "allowed", "l3: as the world"],
    ["a/web", "denied", "l3: and no pod"],
    ["n2", "denied", "l3: nor a node, by default"],
    ["2001:db8::1", "denied", "cidr.go: of one family"],
  ]);
  const mode = settings("policy-cidr-match-mode: nodes");
  t.equal(ask(all + mode, "n2").path, "allowed", "l3: policy-cidr-match-mode");
  const pods = settings("policy-cidr-match-mode: 'pods,nodes'");
  const out = forWeb("egress: [{toCIDR: [10.0.1.0/24]}]");
  t.equal(ask(out + pods, "a/web").path, "allowed", "l3: policy-cidr-match-mode");
  const deny = forDb("ingress: [{fromEntities: [world]}], ingressDeny: [{fromCIDR: [1.2.3.0/24]}]");
  t.equal(
    ask(deny, "1.2.3.4").path,
    "denied",
    "repository TestWildcardCIDRRulesEgressDeny, mirrored",
  );
  t.equal(ask(deny, "1.2.4.4").path, "allowed", "the rest of the world");
  const named = forDb("ingress: [{fromCIDRSet: [{cidrGroupRef: vpn, except: [9.0.0.9/32]}]}]");
  const vpn = group("vpn", "9.0.0.0/24, 8.8.8.8/32", "kind: vpn");
  t.equal(ask(named + vpn, "9.0.0.1").path, "allowed", "selector newCIDRRuleSelector: by name");
  t.equal(ask(named + vpn, "9.0.0.9").path, "denied", "except counts for groups too");
  t.equal(ask(named + vpn, "7.7.7.7").path, "denied", "in no group");
  t.equal(ask(named, "9.0.0.1").path, "undecidable", "the group is not declared");
  t.equal(ask(named, "a/web").path, "denied", "a group holds no pod");
  const chosen = forDb(
    "ingress: [{fromCIDRSet: [{cidrGroupSelector: {matchLabels: {kind: vpn}}}]}]",
  );
  t.equal(ask(chosen + vpn, "8.8.8.8").path, "allowed", "cidr.go: by label");
  t.equal(ask(chosen + vpn, "7.7.7.7").path, "denied", "cidr.go: by label");
});

t.test("ports (l4: Limit ingress/egress ports; l4.go)", async (t) => {
  const from = "fromEndpoints: [{matchLabels: {role: frontend}}]";
  const on = (ports: string, peers = from) =>
    forDb(`ingress: [{${peers}, toPorts: [{ports: [${ports}]}]}]`);
  const rows: [string, number, Transport, PathDecision, string][] = [
    ["{port: '80', protocol: TCP}", 80, "TCP", "allowed", "l4 example l3_l4_combined"],
    ["{port: '80', protocol: TCP}", 81, "TCP", "denied", "l4 example l3_l4_combined"],
    ["{port: '80', protocol: TCP}", 80, "UDP", "denied", "another protocol"],
    ["{port: '80'}", 80, "UDP", "allowed", "api/l4.go: left out is ANY"],
    ["{port: '80', protocol: ANY}", 80, "SCTP", "allowed", "rule mergeL4Filter: ANY has SCTP"],
    ["{port: '80', endPort: 444, protocol: TCP}", 444, "TCP", "allowed", "l4 example port range"],
    ["{port: '80', endPort: 444, protocol: TCP}", 445, "TCP", "denied", "l4 example port range"],
    ["{port: '80', endPort: 70, protocol: TCP}", 75, "TCP", "denied", "keysForRange: no range"],
    ["{port: '0', protocol: TCP}", 9999, "TCP", "allowed", "WithPort: 0 is every port"],
    ["{port: '0', protocol: TCP}", 9999, "UDP", "denied", "of the one protocol"],
    ["{port: web, protocol: TCP}", 8080, "TCP", "allowed", "toMapState: the pod's own name"],
    ["{port: WEB}", 8080, "TCP", "allowed", "validation: names in small letters"],
    ["{port: web, protocol: UDP}", 8080, "UDP", "denied", "a name is of one protocol"],
    ["{port: nowhere}", 8080, "TCP", "denied", "toMapState: undefined"],
    ["{protocol: VRRP}", 80, "TCP", "denied", "a protocol without ports"],
  ];
  for (const [ports, port, transport, expected, why] of rows) {
    const found = ask(on(ports), "a/web", "a/db", port, transport).path;
    t.equal(found, expected, `${why}: ${ports} ${transport} ${port}`);
  }
  t.equal(ask(on("{port: '80'}"), "b/web").path, "denied", "l4: peers and ports together");
  const named = forWeb("egress: [{toPorts: [{ports: [{port: dns, protocol: UDP}]}]}]");
  t.equal(ask(named, "a/web", "a/db", 53, "UDP").path, "allowed", "l4.go: the other pod's name");
  t.equal(ask(named, "a/web", "1.2.3.4", 53, "UDP").path, "denied", "l4.go: nobody names it");
});

t.test("what a proxy decides (l7; l4: SNI)", async (t) => {
  const port = "ports: [{port: '80', protocol: TCP}]";
  const http = `{toPorts: [{${port}, rules: {http: [{method: GET, path: /public}]}}]}`;
  const found = ask(forDb(`ingress: [${http}]`), "a/web");
  t.ok(inBand(found), "l7: an HTTP 403 is sent back");
  t.equal(found.pathBecause[0]!.rule, "spec.ingress[0].toPorts[0].rules.http");
  t.equal(ask(forDb(`ingress: [${http}]`), "a/web", "a/db", 81).path, "denied", "l7: other ports");
  const plain = `{toPorts: [{${port}}]}`;
  t.equal(ask(forDb(`ingress: [${http}, ${plain}]`), "a/web").path, "allowed", "l7: no effect");
  const shut = `ingress: [${http}], ingressDeny: [${plain}]`;
  t.equal(ask(forDb(shut), "a/web").path, "denied", "deny: before layer 7");
  const egress = (more: string, ports = port) =>
    forWeb(`egress: [{toPorts: [{${ports}, ${more}}]}]`);
  const dns = "ports: [{port: '53', protocol: ANY}]";
  const query = (rule: string) =>
    ask(egress(`rules: {dns: [${rule}]}`, dns), "a/web", "a/db", 53, "UDP");
  t.ok(inBand(query("{matchName: cilium.io}")), "l7: DNS REFUSED");
  t.equal(query("{matchPattern: '*'}").path, "allowed", "l7: `*` alone matches all names");
  const kafka = egress("rules: {kafka: [{topic: x}]}");
  t.ok(inBand(ask(kafka, "a/web")), "Cilium 1.18: Kafka");
  const sni = egress("serverNames: [one.one.one.one]");
  t.equal(ask(sni, "a/web").path, "undecidable", "l4: limited to server names");
  t.match(ask(sni, "a/web").pathBecause[0]!.sentence, /serverNames .* server names passes/);
  const both = forWeb(`egress: [{toPorts: [{${port}, serverNames: [x.io]}]}, {toEndpoints: [{}]}]`);
  t.equal(ask(both, "a/web").path, "undecidable", "rule mergePortProto: SNI is merged");
  for (const more of ["terminatingTLS", "originatingTLS"]) {
    t.equal(ask(egress(`${more}: {secret: {name: x}}`), "a/web").path, "undecidable", more);
  }
  const listener = egress("listener: {name: l, envoyConfig: {name: e}}");
  t.equal(ask(listener, "a/web").path, "undecidable", "a listener of Envoy's");
  const auth = (mode: string) =>
    ask(forDb(`ingress: [{fromEndpoints: [{}], authentication: {mode: ${mode}}}]`), "a/web");
  t.equal(auth("required").path, "allowed", "api/rule.go: mutual authentication");
  t.match(auth("required").pathBecause[0]!.sentence, /authenticated both/);
  t.equal(auth("disabled").path, "allowed", "api/rule.go: always succeeds");
  t.equal(auth("test-always-fail").path, "undecidable", "api/rule.go: a test");
});

t.test("Services, names and groups (l3: Services based, DNS based; service)", async (t) => {
  const to = (services: string) => forWeb(`egress: [{toServices: [${services}]}]`);
  const named = to("{k8sService: {serviceName: db, namespace: a}}");
  const backend = service("db", "{selector: {role: backend}}", "env: staging");
  t.equal(ask(named + backend, "a/web").path, "allowed", "l3: its selector is an endpoint's");
  t.equal(ask(named + backend, "a/web", "b/web").path, "denied", "l3: no other");
  t.equal(ask(named + backend, "a/web", "1.2.3.4").path, "denied", "l3: nor the outside");
  t.equal(ask(named, "a/web").path, "undecidable", "the Service is not declared");
  const labelled = to(
    "{k8sServiceSelector: {selector: {matchLabels: {env: staging}}, namespace: a}}",
  );
  t.equal(ask(labelled + backend, "a/web").path, "allowed", "l3 example service: by label");
  const elsewhere = labelled.replace("namespace: a}}", "namespace: b}}");
  t.equal(ask(elsewhere + backend, "a/web").path, "undecidable", "service: of that namespace");
  const bare = service("db", "{ports: [{port: 80}]}");
  const behind = slice("a", "db", "198.51.100.1, 10.0.1.9");
  t.equal(ask(named + bare + behind, "a/web", "198.51.100.1").path, "allowed", "l3: as ranges");
  t.equal(ask(named + bare + behind, "a/web", "198.51.100.2").path, "denied", "l3: as ranges");
  t.equal(ask(named + bare + behind, "a/web").path, "denied", "l3: that select no pod");
  t.equal(ask(named + bare, "a/web", "198.51.100.1").path, "undecidable", "none is declared");

  const fqdn = forWeb("egress: [{toFQDNs: [{matchName: my-remote-service.com}]}]");
  t.equal(ask(fqdn, "a/web", "198.51.100.1").path, "undecidable", "l3 example fqdn");
  t.match(ask(fqdn, "a/web", "198.51.100.1").pathBecause[0], {
    rule: "spec.egress[0].toFQDNs[0]",
    sentence: /which addresses DNS gives for my-remote-service.com is not declared/,
  });
  t.equal(ask(fqdn, "a/web").path, "denied", "egress.go: no address of the cluster");
  t.equal(ask(fqdn, "a/web", "n2").path, "denied", "ipcache resolveLabels: nor a node");
  const cloud = forWeb("egress: [{toGroups: [{aws: {securityGroupsIds: [sg-1]}}]}]");
  t.equal(ask(cloud, "a/web", "198.51.100.1").path, "undecidable", "groups.go");
  t.equal(ask(cloud, "a/web").path, "denied", "groups.go: as ranges");
});

t.test("nodes (l3: Node based; host)", async (t) => {
  const from = forDb("ingress: [{fromNodes: [{matchLabels: {type: control}}]}]");
  const flag = settings("enable-node-selector-labels: 'true'");
  t.equal(ask(from, "n2").path, "undecidable", "l3: takes effect with the flag only");
  t.equal(ask(from + flag, "n2").path, "allowed", "l3 example customnodes");
  t.equal(ask(from + flag, "a/far").path, "allowed", "its pods on the node's network");
  t.equal(ask(from.replace("control", "x") + flag, "n2").path, "denied", "l3 example customnodes");
  t.equal(ask(from + flag, "a/web").path, "denied", "utils: `reserved:remote-node` is asked for");
  const lockdown = wide(
    "{nodeSelector: {matchLabels: {type: worker}}, ingress: [{fromEntities: [remote-node, " +
      "health]}, {toPorts: [{ports: [{port: '22', protocol: TCP}]}]}]}",
  );
  const on = lockdown + settings("enable-host-firewall: 'true'");
  check(t, on, [
    ["1.2.3.4", "allowed", "host example lock-down-ingress", "n1", 22],
    ["1.2.3.4", "denied", "host example lock-down-ingress", "n1", 80],
    ["n2", "allowed", "host example lock-down-ingress", "n1", 80],
    ["b/web", "denied", "host: a pod is neither", "n1", 80],
    ["1.2.3.4", "denied", "host: pods on the node's network too", "a/host", 80],
    ["1.2.3.4", "undeclared", "host: other nodes are not selected", "n2", 80],
    ["1.2.3.4", "undeclared", "host: nor are pods", "a/db", 80],
  ]);
  const off = settings("enable-host-firewall: 'false'");
  t.equal(ask(lockdown + off, "1.2.3.4", "n1").path, "undeclared", "repository: not enforced");
  const unknown = ask(lockdown, "1.2.3.4", "n1");
  t.equal(unknown.path, "undecidable", "nothing tells that the host firewall is on");
  t.match(unknown.pathBecause[0]!.sentence, /enable-host-firewall/);
});

t.test("policies of the whole cluster, and specs (k8s: Clusterwide Policies)", async (t) => {
  const scope = wide(
    "{endpointSelector: {matchLabels: {role: backend}}, ingress: [{fromEndpoints: " +
      "[{matchLabels: {role: frontend}}]}]}",
  );
  check(t, scope, [
    ["a/web", "allowed", "k8s example clusterscope-policy"],
    ["b/web", "allowed", "k8s example clusterscope-policy: from any namespace"],
    ["n2", "denied", "no node is an endpoint"],
  ]);
  const any = wide("{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}");
  check(t, any, [
    ["b/web", "allowed", "k8s example wildcard-from-endpoints"],
    ["1.2.3.4", "denied", "utils: it must have a namespace"],
    ["n2", "denied", "utils: it must have a namespace"],
  ]);
  const specs =
    "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: s, namespace: a}, " +
    "spec: {endpointSelector: {}, ingress: [{}]}, specs: [{endpointSelector: {}, egress: [{}]}, " +
    "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {env: prod}}]}], egress: " +
    "[{toEndpoints: [{}]}]}]}\n";
  t.equal(ask(specs, "a/web").path, "allowed", "cnp_types.go ParseRules: all apply");
  t.ok(ask(specs, "a/web").pathBecause.some(({ rule }) => rule.startsWith("specs[1].ingress[0]")));
  t.equal(ask(specs, "b/web").path, "denied", "spec isolates");
  t.equal(ask(specs, "a/db", "1.2.3.4").path, "denied", "and so does specs[0]");
});

t.test("together with other policies (deny; k8s page Network Policy)", async (t) => {
  const all = "podSelector: {}, policyTypes: [Ingress]";
  const front = "{podSelector: {matchLabels: {role: frontend}}}";
  const shut = kubernetes(`{${all}}`);
  const open = kubernetes(`{${all}, ingress: [{from: [${front}]}]}`);
  const allow = forDb("ingress: [{fromEndpoints: [{matchLabels: {role: frontend}}]}]");
  const others = forDb("ingress: [{fromEndpoints: [{matchLabels: {role: other}}]}]");
  t.equal(ask(shut + allow, "a/web").path, "allowed", "either allows");
  t.equal(ask(open + others, "a/web").path, "allowed", "either allows");
  t.equal(ask(open + others, "b/web").path, "denied", "neither does");
  const kinds = new Set(ask(shut + others, "a/web").pathBecause.map(({ kind }) => kind));
  t.strictSame([...kinds].sort(), ["CiliumNetworkPolicy", "NetworkPolicy"], "both are told");
  const deny = forDb("ingressDeny: [{fromEndpoints: [{}]}], enableDefaultDeny: {ingress: false}");
  t.equal(ask(open + deny, "a/web").path, "denied", "deny: over NetworkPolicy too");
  t.equal(ask(shut + deny, "b/web").path, "denied", "NetworkPolicy isolates");
  const port = "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: /x}]}}]";
  t.equal(ask(open + forDb(`ingress: [{${port}}]`), "a/web").path, "allowed", "l7: no effect");
  t.ok(inBand(ask(shut + forDb(`ingress: [{${port}}]`), "a/web")));
  const admin = (action: string) =>
    "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: " +
    "{name: anp}, spec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: " +
    `${action}, from: [{namespaces: {}}]}]}}\n`;
  t.equal(ask(admin("Deny") + allow, "a/web").path, "denied", "policy page: the admin tier first");
  t.equal(ask(admin("Allow") + deny, "a/web").path, "allowed", "policy page: the admin tier first");
  t.equal(ask(admin("Pass") + deny, "a/web").path, "denied", "and then Cilium's");
});

t.test("settings under which nothing is dropped (intro: Policy Enforcement Modes)", async (t) => {
  const shut = forDb("ingress: [{}]");
  const mode = (text: string) => settings(`enable-policy: ${text}`);
  const never = ask(shut + mode("never"), "a/web");
  t.equal(never.path, "undecidable");
  t.match(never.pathBecause[0], { kind: "ConfigMap", rule: "data.enable-policy" });
  const audit = settings("policy-audit-mode: 'true'");
  t.equal(ask(shut + audit, "a/web").path, "undecidable", "audit mode");
  t.equal(ask(shut + mode("default"), "a/web").path, "denied");
  t.equal(ask(mode("always"), "a/web").path, "denied", "no rule selects it");
  t.match(ask(mode("always"), "a/web").pathBecause[0], {
    kind: "ConfigMap",
    name: "cilium-config",
  });
  t.equal(ask(mode("always"), "1.2.3.4", "n1").path, "undeclared", "a node is no endpoint of it");
});

t.test("a policy that is not valid is told, and never weaker (validation)", async (t) => {
  const faults: [string, RegExp][] = [
    [
      "endpointSelector: {}, ingres: [{}]",
      /^a.yaml:2:\d+: CiliumNetworkPolicy p: spec: unknown field ingres$/,
    ],
    ["endpointSelector: {}", /spec: needs an entry in ingress/],
    ["endpointSelector: {}, ingress: []", /an empty list is none/],
    ["ingress: [{}]", /spec: needs endpointSelector or nodeSelector, and not both/],
    ["endpointSelector: {}, nodeSelector: {}, ingress: [{}]", /and not both/],
    ["nodeSelector: {}, ingress: [{}]", /nodeSelector: is for a CiliumClusterwide/],
    [
      "endpointSelector: {}, ingress: [{fromEntities: [moon]}]",
      /fromEntities\[0\]: must be one of/,
    ],
    ["endpointSelector: {}, ingress: [{fromCIDR: [10.0.0.0/33]}]", /fromCIDR\[0\]: must be/],
    ["endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 10.0.0.1}]}]", /cidr: must be/],
    [
      "endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}]",
      /except\[0\]: must lie within cidr/,
    ],
    ["endpointSelector: {}, ingress: [{fromCIDRSet: [{}]}]", /needs one of cidr, cidrGroupRef/],
    [
      "endpointSelector: {}, ingress: [{fromEndpoints: [{}], fromEntities: [all]}]",
      /only one kind of peer is taken: fromEndpoints, fromEntities/,
    ],
    [
      "endpointSelector: {}, ingress: [{fromRequires: [{}]}]",
      /fromRequires: went with Cilium 1.19/,
    ],
    [
      "endpointSelector: {matchExpressions: [{key: a, operator: Like}]}, ingress: [{}]",
      /operator: must be one of In, NotIn/,
    ],
    [
      "endpointSelector: {matchExpressions: [{key: a, operator: In}]}, ingress: [{}]",
      /values: operator In needs values/,
    ],
    ["endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: 80}]}]}]", /port: /],
    [
      "endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '70000'}]}]}]",
      /port's number or/,
    ],
    [
      "endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '80', protocol: ICP}]}]}]",
      /one of/,
    ],
    [
      "endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '80', protocol: UDP}], rules: " +
        "{http: [{}]}}]}]",
      /protocol: rules of HTTP and its kin need TCP/,
    ],
    [
      "endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '53'}], rules: {dns: [{}]}}]}]",
      /dns: is for egress only/,
    ],
    [
      "endpointSelector: {}, ingress: [{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: " +
        "'80'}]}]}]",
      /icmps: must not stand beside toPorts/,
    ],
    [
      "endpointSelector: {}, ingressDeny: [{toPorts: [{rules: {http: [{}]}}]}]",
      /unknown field rules/,
    ],
  ];
  for (const [spec, wanted] of faults) {
    const declared = read(
      `# one\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: a}, spec: {${spec}}}\n`,
    );
    t.match(declared.problems.map(formatProblem).join("\n"), wanted, spec);
    t.equal(ask(policy(`{${spec}}`), "a/web").path, "undecidable", `never weaker: ${spec}`);
  }
  const broken = forDb("ingress: [{fromEntities: [moon]}]", "broken");
  const found = ask(broken, "a/web").pathBecause[0]!;
  t.match(
    found.sentence,
    /^undecidable: CiliumNetworkPolicy a\/broken is not valid: spec.ingress\[0\]/,
  );
  t.equal(ask(broken, "b/web", "a/web").path, "undeclared", "its selector is sure");
  const newer = policy(
    "{endpointSelector: {matchLabels: {role: backend}}, tier: 1, ingress: [{}]}",
  );
  t.equal(ask(newer, "b/web", "a/web").path, "undecidable", "a newer field may select otherwise");
  t.equal(ask(newer, "a/web", "b/web").path, "undecidable", "and a/web may not be let out");
  t.equal(ask(newer, "n2", "b/web").path, "undeclared", "another namespace is not its own");
  const allow = forDb("ingress: [{fromEndpoints: [{}]}]");
  t.equal(ask(broken + allow, "a/web").path, "undecidable", "it may deny what others allow");
  const deny = forDb("ingressDeny: [{fromEndpoints: [{}]}]");
  t.equal(ask(broken + deny, "a/web").path, "denied", "it cannot allow what others deny");
  const groups = "ingress: [{fromCIDRSet: [{cidrGroupRef: vpn}]}]";
  const bad = forDb(groups) + group("vpn", "9.0.0.0/24, nonsense");
  t.equal(ask(bad, "9.0.0.1").path, "undecidable", "the group is not valid");
  t.match(read(bad).problems.map(formatProblem)[0], /CiliumCIDRGroup vpn: spec.externalCIDRs\[1\]/);
});

t.test("kinds of cilium.io that are not read (known-kinds)", async (t) => {
  const kind = (name: string) =>
    read(`{apiVersion: cilium.io/v2, kind: ${name}, metadata: {name: x}}\n`);
  for (const name of ["CiliumEnvoyConfig", "CiliumLocalRedirectPolicy", "CiliumSomethingNew"]) {
    t.match(kind(name).problems[0]?.reason, /unproven/, `${name} may decide`);
  }
  for (const name of ["CiliumEndpoint", "CiliumIdentity", "CiliumNode", "CiliumBGPPeerConfig"]) {
    t.equal(kind(name).problems.length, 0, `${name} decides nothing`);
    t.equal(kind(name).unknownKinds.length, 1, `${name} is told`);
  }
  t.equal(read(group("vpn", "9.0.0.0/24")).unknownKinds.length, 0);
});

t.test("`policy allowed` prints what is certain", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "cilium-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const allowed = (text: string, to = "a/db[Pod]") => {
    const three = pod("a/web", "role: frontend") + pod("a/db", "role: backend");
    writeFileSync(path.join(folder, "a.yaml"), three + pod("b/web", "role: other") + text);
    const lines = runAllowed({ manifests: folder }, 0).out.split("\n");
    return lines.filter((line) => line.includes(`=> ${to}`));
  };
  const on = (port: string) => `toPorts: [{ports: [{port: '${port}', protocol: TCP}]}]`;
  const http = `toPorts: [{ports: [{port: '82', protocol: TCP}], rules: {http: [{path: /}]}}]`;
  const from = "fromEndpoints: [{matchLabels: {role: frontend}}]";
  const rules = `ingress: [{${from}, ${on("80")}}, {${from}, ${on("81")}}, {${from}, ${http}}]`;
  t.strictSame(allowed(forDb(rules)), ["a/web[Pod] => a/db[Pod] : TCP 80-81"]);
  t.strictSame(
    allowed(forDb(`${rules}, ingressDeny: [{${on("81")}}]`)),
    ["a/web[Pod] => a/db[Pod] : TCP 80"],
    "what is denied is taken away",
  );
  const np = kubernetes(
    "{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 90}], from: [{podSelector: {}}]}]}",
  );
  t.strictSame(allowed(forDb(rules) + np), ["a/web[Pod] => a/db[Pod] : TCP 80-81,90"], "union");
  t.strictSame(allowed(forDb("ingress: [{fromEntities: [moon]}]")), [], "nothing is certain");
  const open = forDb(`ingressDeny: [{${from}, ${on("22")}}], enableDefaultDeny: {ingress: false}`);
  t.match(allowed(open), [
    /^0\.0\.0\.0/,
    "a/web[Pod] => a/db[Pod] : SCTP 1-65535,TCP 1-21,23-65535,UDP 1-65535",
    "b/web[Pod] => a/db[Pod] : All Connections",
  ]);
  const range = forWeb("egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.96.0.0/12]}]}]");
  const out = runOut(allowed, range);
  t.strictSame(out, ["10.0.0.0-10.95.255.255", "10.112.0.0-10.255.255.255"], "cut at the ranges");
  const vpn = forDb("ingress: [{fromCIDRSet: [{cidrGroupRef: vpn}]}]") + group("vpn", "9.0.0.0/24");
  t.strictSame(allowed(vpn), ["9.0.0.0-9.0.0.255[External] => a/db[Pod] : All Connections"]);
});

/** The pieces of the outside that `a/web` may speak to. */
function runOut(allowed: (text: string, to: string) => string[], text: string): string[] {
  return allowed(text, "")
    .filter((line) => line.startsWith("a/web[Pod] =>") && line.includes("[External]"))
    .map((line) => line.replace(/^.*=> (.*)\[External\].*$/, "$1"));
}

t.test("what may be used is what is decided, port by port (seed 7)", async (t) => {
  let seed = 7;
  const pick = <T>(items: readonly T[]): T => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return items[(seed >> 8) % items.length]!;
  };
  const selectors = ["{}", "{matchLabels: {role: frontend}}", "{matchLabels: {role: backend}}"];
  const peers = (side: string) =>
    pick([
      ...selectors.map((one) => `${side}Endpoints: [${one}]`),
      ...["all", "world", "cluster", "none"].map((one) => `${side}Entities: [${one}]`),
      `${side}Endpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': b}}]`,
      `${side}CIDR: [1.2.0.0/16]`,
      `${side}Endpoints: []`,
      "",
    ]);
  const port = () =>
    pick([
      "{port: '80', protocol: TCP}",
      "{port: '79', endPort: 82}",
      "{port: web}",
      "{port: '0'}",
    ]);
  const http = "{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: /}]}}";
  const ports = (isDeny: boolean) => {
    const clause = pick([`{ports: [${port()}]}`, isDeny ? "{ports: [{port: '81'}]}" : http]);
    return pick(["", `toPorts: [${clause}]`]);
  };
  const entries = (side: string, isDeny: boolean) =>
    Array.from({ length: pick([1, 2]) }, () => {
      const fields = [peers(side), ports(isDeny)].filter((text) => text !== "");
      return `{${fields.join(", ")}}`;
    }).join(", ");
  const random = (i: number) => {
    const direction = pick(["ingress", "egress"]);
    const side = direction === "ingress" ? "from" : "to";
    const isDeny = pick([false, false, true]);
    const open = pick(["", "", `, enableDefaultDeny: {${direction}: false}`]);
    const list = `${direction}${isDeny ? "Deny" : ""}: [${entries(side, isDeny)}]`;
    const make = pick([policy, wide]);
    return make(`{endpointSelector: ${pick(selectors)}, ${list}${open}}`, `r${i}`);
  };
  const plain = ["[Ingress], ingress: [{ports: [{port: 80}]}]", "[Ingress]", "[Egress]"];
  const base =
    "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, " +
    "metadata: {name: default}, spec: {subject: {namespaces: {}}, ingress: [{action: Deny, from: " +
    "[{namespaces: {}}], ports: [{portNumber: {port: 80, protocol: TCP}}]}]}}\n";
  const counts: Record<string, number> = {};
  let differing = 0;
  for (let round = 0; round < 120; round++) {
    const some = Array.from({ length: pick([1, 2, 3, 4]) }, (_, i) => random(i)).join("");
    const np = pick(["", "", kubernetes(`{podSelector: {}, policyTypes: ${pick(plain)}}`), base]);
    const declared = read(PODS + some + np);
    t.strictSame(declared.problems, [], some);
    const layer = new NetworkLayer(declared.objects, () => [], "never");
    const ends = ["a/web", "a/db", "b/web"].map((name) => end(declared, name));
    for (const [from, to] of ends.flatMap((one) =>
      [...ends, toExternal("1.2.3.4")].map((two) => [one, two] as const),
    )) {
      if (from === to) continue;
      for (const [client, server] of [
        [from, to],
        [to, from],
      ] as const) {
        const permitted = layer.permit(client, server);
        for (const number of [78, 79, 80, 81, 8080]) {
          for (const transport of ["TCP", "UDP"] as const) {
            const { path: decided } = layer.decide(client, server, transport, number);
            counts[decided] = (counts[decided] ?? 0) + 1;
            const passes = decided === "allowed" || decided === "undeclared";
            if (holds(permitted, transport, number) !== passes) differing++;
          }
        }
      }
    }
  }
  t.equal(differing, 0);
  for (const decided of ["allowed", "denied", "undeclared", "undecidable"]) {
    t.ok((counts[decided] ?? 0) > 200, `${decided}: ${counts[decided]}`);
  }
});

t.test("strangers' input never throws, and look-ups are quick", async (t) => {
  const junk = ["null", "1", "x", "[]", "[null]", "{}", "{a: 1}", "[{}]", "[[1]]", "true", "'$:'"];
  const fields = [
    ...["endpointSelector", "nodeSelector", "ingress", "ingressDeny", "egress", "egressDeny"],
    ...["enableDefaultDeny", "labels", "log", "description"],
  ];
  for (const field of fields) {
    for (const value of junk) {
      const sections = { endpointSelector: "{}", egress: "[{}]", [field]: value };
      const spec = Object.entries(sections).map(([key, text]) => `${key}: ${text}`);
      for (const one of [policy(`{${spec.join(", ")}}`), wide(`{${field}: ${value}}`)]) {
        t.doesNotThrow(() => ask(one, "a/web"), one);
      }
    }
  }
  for (const inner of ["fromEndpoints", "fromCIDRSet", "toPorts", "icmps", "authentication"]) {
    for (const value of junk) {
      const one = forDb(`ingress: [{${inner}: ${value}}]`);
      t.doesNotThrow(() => ask(one, "a/web"), one);
    }
  }
  for (const value of junk) {
    const one = policy("{endpointSelector: {}, ingress: [{}]}").replace(
      /}\n$/,
      `, specs: ${value}}\n`,
    );
    t.doesNotThrow(() => ask(one, "a/web"), one);
  }
  const many = Array.from({ length: 300 }, (_, i) =>
    forDb(
      `ingress: [{fromEndpoints: [{matchLabels: {n: x${i}}}], toPorts: [{ports: [{port: '${i + 1}'}]}]}]`,
      `p${i}`,
    ),
  ).join("");
  const declared = read(PODS + many);
  const [web, db] = [end(declared, "a/web"), end(declared, "a/db")];
  const compiled = new Policy(declared.objects);
  t.equal(compiled.expect(web, db, 80, "TCP", 0).path, "denied");
  const before = performance.now();
  for (let i = 0; i < 100; i++) compiled.expect(web, db, 400, "TCP", 0);
  const each = ((performance.now() - before) / 100) * 1000;
  t.ok(each < 2000, `${each.toFixed(0)} µs where 300 policies select the pod`);
});
