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

