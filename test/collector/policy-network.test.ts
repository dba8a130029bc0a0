/** Tests what network policies say where the API leaves something open, case by case. */
import t from "tap";
import type { Transport } from "../../collector/attribution/holder.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { formatPortSet } from "../../collector/policy/packet/port-set.ts";
import { end, expectOf, read } from "./manifests.ts";

const pod = (name: string, spec = "", more = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, labels: ` +
    `{app: ${own}}}, spec: {containers: [{name: c}]${spec}}${more}}\n`
  );
};
const at = (address: string) => `, status: {podIPs: [${address}]}`;
const netpol = (spec: string) =>
  "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: " +
  `{name: p, namespace: a}, spec: ${spec}}\n`;
const admin = (name: string, egress: string, priority = 1) =>
  "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: " +
  `{name: ${name}}, spec: {priority: ${priority}, subject: {namespaces: {}}, ` +
  `egress: [${egress}]}}\n`;

const ask = (text: string, from: string, to: string, port = 80, transport?: Transport) =>
  expectOf(text, from, to, port, transport).path;

t.test("an empty egress list is no egress rule (networking/v1/defaults.go)", async (t) => {
  const pods = pod("a/x") + pod("b/y");
  t.equal(ask(pods + netpol("{podSelector: {}, egress: []}"), "a/x", "b/y"), "undeclared");
  t.equal(ask(pods + netpol("{egress: [], policyTypes: []}"), "a/x", "b/y"), "undeclared");
  const stated = "{egress: [], policyTypes: [Egress]}";
  t.equal(ask(pods + netpol(stated), "a/x", "b/y"), "denied");
  t.equal(ask(pods + netpol("{egress: [{ports: [{port: 1}]}]}"), "a/x", "b/y"), "denied");
});

t.test("a pod's own node is let in, and nobody knows which it is without its name", async (t) => {
  const nodes = ["w1", "w2"]
    .map((name) => `---\n{apiVersion: v1, kind: Node, metadata: {name: ${name}}}\n`)
    .join("");
  const placed = nodes + pod("a/x", ", nodeName: w1") + netpol("{policyTypes: [Ingress, Egress]}");
  t.equal(ask(placed, "w1", "a/x"), "undeclared");
  t.equal(ask(placed, "w2", "a/x"), "denied");
  t.equal(ask(placed, "a/x", "w2"), "denied");
  t.equal(ask(placed, "a/x", "w1"), "undecidable", "the API grants traffic from the node alone");
  const anywhere = nodes + pod("a/x") + netpol("{}");
  t.equal(ask(anywhere, "w1", "a/x"), "undecidable");
  t.equal(ask(anywhere + netpol("{ingress: [{}]}"), "w1", "a/x"), "allowed");
  const host = pod("b/host", ", hostNetwork: true, nodeName: w1");
  t.equal(ask(placed + host, "b/host", "a/x"), "undecidable", "some plugins take it for its node");
  t.equal(ask(placed + host.replace("w1", "w2"), "b/host", "a/x"), "denied");
});

t.test("whether a selector takes a pod on its node's network is the plugin's choice", async (t) => {
  const pods = pod("a/x", ", nodeName: w1") + pod("b/host", ", hostNetwork: true, nodeName: w2");
  const from = (labels: string) =>
    netpol(`{ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: ${labels}}}]}]}`);
  t.equal(ask(pods + from("{app: host}"), "b/host", "a/x"), "undecidable");
  t.equal(ask(pods + from("{app: other}"), "b/host", "a/x"), "denied");
});

t.test("a range may take a pod of which one address, or none, is known", async (t) => {
  const block = netpol("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}");
  const dual = pod("b/dual", "", at("{ip: 10.0.0.1}, {ip: 'fd00::1'}"));
  t.equal(ask(pod("a/x") + dual + block, "b/dual", "a/x"), "undecidable");
  t.equal(ask(pod("a/x") + pod("b/new") + block, "b/new", "a/x"), "undecidable");
  const far = pod("b/far", "", at("{ip: 11.0.0.1}"));
  t.equal(ask(pod("a/x") + far + block, "b/far", "a/x"), "denied");
});

t.test("AdminNetworkPolicy: networks take pods; of names those the cluster makes", async (t) => {
  const pods = pod("a/x") + pod("b/y", "", at("{ip: 10.0.0.1}"));
  const to = (action: string, peer: string) => `{action: ${action}, to: [${peer}]}`;
  const deny = to("Deny", "{networks: [0.0.0.0/0]}");
  t.equal(ask(pods + admin("p", deny), "a/x", "b/y"), "denied", "also pod-to-pod (types)");
  const named = (name: string) => admin("p", `${to("Allow", `{domainNames: [${name}]}`)}, ${deny}`);
  t.equal(ask(pods + named("kubernetes.io"), "a/x", "b/y"), "denied");
  t.equal(ask(pods + named("'*.b.pod.cluster.local'"), "a/x", "b/y"), "undecidable", "NPEP-133");
  t.equal(ask(pods + named("kubernetes.io"), "a/x", "192.0.2.1"), "undecidable");
});

t.test("what is not known does not matter where every way ends alike", async (t) => {
  const pods = pod("a/x") + pod("b/new");
  const some = (action: string) => `{action: ${action}, to: [{networks: [10.0.0.0/8]}]}`;
  const all = (action: string) => `{action: ${action}, to: [{namespaces: {}}]}`;
  const path = (text: string) => ask(pods + text, "a/x", "b/new");
  t.equal(path(admin("p", `${some("Deny")}, ${all("Deny")}`)), "denied");
  t.equal(path(admin("p", `${some("Allow")}, ${all("Deny")}`)), "undecidable");
  t.equal(path(admin("p", some("Pass"))), "undeclared", "passed on or not");
  t.equal(path(admin("p", some("Pass")) + admin("q", all("Deny"), 2)), "undecidable");
  const closed = netpol("{policyTypes: [Egress]}");
  t.equal(path(admin("p", some("Deny")) + closed), "denied", "by the one or by the other");
  t.equal(path(admin("p", some("Allow")) + closed), "undecidable");
  const permit = (text: string) => {
    const declared = read(pods + text);
    const ends = [end(declared, "a/x"), end(declared, "b/new")] as const;
    return formatPortSet(new Policy(declared.objects).permit(...ends));
  };
  t.equal(permit(admin("p", some("Pass"))), "All Connections");
  t.equal(permit(admin("p", some("Allow")) + closed), "No Connections");
  t.equal(permit(admin("p", `${some("Pass")}, ${all("Allow")}`) + closed), "No Connections");
  t.equal(permit(admin("p", `${some("Allow")}, ${all("Deny")}`)), "No Connections");
});

t.test("a pod that reaches itself is bound by no policy, in what is listed too", async (t) => {
  const declared = read(pod("a/x", "", at("{ip: 10.0.0.1}")) + netpol("{}"));
  const own = end(declared, "a/x");
  const policy = new Policy(declared.objects);
  t.equal(policy.expect(own, own, 80, "TCP", 0).path, "undeclared");
  t.equal(formatPortSet(policy.permit(own, own)), "All Connections");
});
