/** Tests what network policies say where the API leaves something open, case by case. */
import t from "tap";
import type { Transport } from "../../collector/attribution/holder.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { toInventory } from "../../collector/policy/policy-command.ts";
import { end, read } from "./manifests.ts";

const pod = (name: string, spec = "", more = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, labels: ` +
    `{app: ${own}}}, spec: {containers: [{name: c}]${spec}}${more}}\n`
  );
};
const at = (address: string) => `, status: {podIPs: [${address}]}`;
const netpol = (spec: string) =>
  "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: a}, " +
  `spec: ${spec}}\n`;
const admin = (name: string, egress: string, priority = 1) =>
  "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: " +
  `{name: ${name}}, spec: {priority: ${priority}, subject: {namespaces: {}}, egress: [${egress}]}}\n`;

/** The path between ends `namespace/name`, nodes (`w1`) or addresses. */
function ask(text: string, from: string, to: string, port = 80, transport: Transport = "TCP") {
  const declared = read(text);
  const nodes = toInventory(declared).nodes(-Infinity);
  const find = (name: string) =>
    name.includes("/")
      ? end(declared, name)
      : (nodes.find((node) => node.name === name) ?? { external: name });
  return new Policy(declared.objects).expect(find(from), find(to), port, transport, 0).path;
}

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

