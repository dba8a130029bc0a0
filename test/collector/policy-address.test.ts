/**
 * Asks every door the same questions about addresses that pods and nodes hold, by each plugin's
 * meaning of ranges. Truth: "Pod IPs" in `ipBlock` are left to the plugin (kubernetes.io,
 * concepts/services-networking/network-policies); Calico makes `nets` of them, which match whatever
 * has the address (conversion.go k8sPeerToCalicoFields); Cilium's ranges are for
 * neither pods nor nodes, unless `policy-cidr-match-mode` says so (docs.cilium.io,
 * security/policy/layer3, "if the remote peer is not an endpoint"; types/selector.go); the cluster's tiers check "cluster-internal traffic" too
 * (network-policy-api, api-overview).
 */
import t from "tap";
import type { Holder } from "../../collector/attribution/holder.ts";
import { explain } from "../../collector/policy/answer/explain.ts";
import { compareEffect } from "../../collector/policy/answer/effect.ts";
import { toInventory } from "../../collector/policy/answer/policy-command.ts";
import type { PathDecision } from "../../collector/policy/expectation.ts";
import { PolicyHistory } from "../../collector/policy/history/history.ts";
import { Scope } from "../../collector/policy/lint/scope.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { end, read } from "./manifests.ts";

const pod = (name: string, ip: string | null, more = "") =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: x, labels: {app: ${name}}}` +
  `, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80}]}]${more}}` +
  `${ip === null ? "" : `, status: {podIP: ${ip}}`}}\n`;
const node = (name: string, ip: string) =>
  `---\n{apiVersion: v1, kind: Node, metadata: {name: ${name}}, status: {addresses: ` +
  `[{type: InternalIP, address: ${ip}}]}}\n`;
const CLUSTER =
  pod("a", "10.0.1.1") +
  pod("in", "10.0.1.2") +
  pod("hole", "10.0.9.2") +
  pod("out", "10.7.0.1") +
  pod("new", null) +
  node("n1", "10.0.200.1") +
  node("n2", "10.0.200.2");

const netpol = (spec: string) =>
  "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, " +
  `spec: {podSelector: {matchLabels: {app: a}}, ${spec}}}\n`;
const BLOCK = "{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.9.0/24]}}";
const EGRESS = netpol(`policyTypes: [Egress], egress: [{to: [${BLOCK}]}]`);
const INGRESS = netpol(`policyTypes: [Ingress], ingress: [{from: [${BLOCK}]}]`);
const CALICO =
  "---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: other}, " +
  "spec: {order: 2000, selector: \"app == 'zzz'\", types: [Ingress], ingress: [{action: Allow}]}}\n";
const CILIUM =
  "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: other, namespace: " +
  "x}, spec: {endpointSelector: {matchLabels: {app: zzz}}, ingress: [{}]}}\n";
const mode = (text: string) =>
  "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: cilium-config, namespace: kube-system}, " +
  `data: {policy-cidr-match-mode: "${text}"}}\n`;
const NETS =
  "---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: g}, spec: " +
  "{selector: \"app == 'a'\", types: [Egress], egress: [{action: Allow, destination: {nets: " +
  "[10.0.0.0/16], notNets: [10.0.9.0/24]}}]}}\n";
const CIDR =
  "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: c, namespace: x}, " +
  "spec: {endpointSelector: {matchLabels: {app: a}}, egress: [{toCIDRSet: [{cidr: 10.0.0.0/16, " +
  "except: [10.0.9.0/24]}]}]}}\n";
const ADMIN =
  "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: " +
  "n}, spec: {priority: 1, subject: {namespaces: {}}, egress: [{action: Allow, to: [{networks: " +
  "[10.0.0.0/21]}]}, {action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}]}}\n";

type Row = Record<"in" | "hole" | "out" | "new" | "n2" | "192.0.2.1" | "10.0.77.7", PathDecision>;
/** In the order of `Row`: pods within, in a hole, outside, without an address; a node; the world. */
const row = (...paths: PathDecision[]): Row => {
  const [inside, hole, out, fresh, far, world, near] = paths;
  const ends = { in: inside!, hole: hole!, out: out!, new: fresh!, n2: far! };
  return { ...ends, "192.0.2.1": world!, "10.0.77.7": near! };
};
const [A, D, U] = ["allowed", "denied", "undecidable"] as const;

const TABLE: readonly [title: string, policies: string, to: Row, from: Row | null][] = [
  ["no plugin shows", EGRESS, row(U, D, D, U, U, D, A), row(U, D, D, U, U, D, A)],
  ["Calico's policies", EGRESS + CALICO, row(A, D, D, U, A, D, A), row(A, D, D, U, A, D, A)],
  ["Cilium's policies", EGRESS + CILIUM, row(D, D, D, D, D, D, A), row(D, D, D, D, D, D, A)],
  ["Cilium's settings", EGRESS + mode(""), row(D, D, D, D, D, D, A), row(D, D, D, D, D, D, A)],
  ["… for pods", EGRESS + mode("pods"), row(A, D, D, U, D, D, A), row(A, D, D, U, D, D, A)],
  ["… for nodes", EGRESS + mode("nodes"), row(D, D, D, D, A, D, A), row(D, D, D, D, A, D, A)],
  ["both plugins", EGRESS + CALICO + CILIUM, row(U, D, D, U, U, D, A), null],
  ["Calico's nets", NETS, row(A, D, D, U, A, D, A), null],
  ["Cilium's CIDRs", CIDR, row(D, D, D, D, D, D, A), null],
  ["the cluster's tiers", ADMIN, row(A, D, D, U, D, D, D), null],
];

/** One question, at every door that has a name for its ends. */
function askAll(text: string, from: string, to: string): Record<string, PathDecision> {
  const declared = read(text);
  const inventory = toInventory(declared);
  const find = (name: string): Holder | { external: string } => {
    const known = inventory.nodes(-Infinity).find((one) => one.name === name);
    if (known !== undefined) return known;
    return /^\d/.test(name) ? { external: name } : end(declared, `x/${name}`);
  };
  const [client, server] = [find(from), find(to)];
  const said: Record<string, PathDecision> = {};
  const port = [80, "TCP"] as const;
  said["judge"] = new Policy(declared.objects).expect(client, server, ...port, 0).path;
  const history = new PolicyHistory();
  for (const object of declared.objects) history.apply(object, -Infinity);
  said["history"] = history.expect(client, server, ...port, { atMs: 0 }).atStart[0].path;
  const { policy } = new Scope(declared, inventory, 0);
  said["lint"] = policy.expect(client, server, ...port, 0).path;

  const asked = { port: 80, transport: "TCP", wire: null, mesh: null } as const;
  const tell = (names: { from: string; to: string }) =>
    explain({ ...names, ...asked }, declared.objects, inventory, [], 0).path;
  const nameOf = (name: string) => (/^\d/.test(name) ? `external:${name}` : `x/${name}`);
  const addressOf = (one: Holder | { external: string }) =>
    "external" in one ? one.external : one.addresses[0];
  const isNode = [from, to].includes("n2");
  if (!isNode) said["explain"] = tell({ from: nameOf(from), to: nameOf(to) });
  const [source, target] = [addressOf(client), addressOf(server)];
  if (source !== undefined && target !== undefined) {
    const names = { from: `external:${source}`, to: `external:${target}` };
    said["explain by address"] = tell(names);
  }
  if (!isNode && [from, to].every((name) => !/^\d/.test(name))) said["diff"] = diff(text, from, to);
  return said;
}

/** What a change from no policy at all to these comes to. */
function diff(text: string, from: string, to: string): PathDecision {
  const [before, after] = [read(CLUSTER), read(text)].map((declared) => ({
    policy: new Policy(declared.objects),
    pods: toInventory(declared).pods(-Infinity),
    objects: declared.objects.filter(({ kind }) => kind !== "Pod"),
  }));
  const { changes } = compareEffect(before!, after!, 0);
  const found = changes.find(
    ({ client, server, ports }) =>
      client === `x/${from}[Pod]` && server === `x/${to}[Pod]` && ports.includes("80/tcp"),
  );
  return found?.to.path ?? "undeclared";
}

for (const [title, policies, to, from] of TABLE) {
  t.test(`${title}: every door says the same`, async (t) => {
    const check = (text: string, client: string, server: string, wanted: PathDecision) => {
      const said = askAll(CLUSTER + text, client, server);
      const all = Object.fromEntries(Object.keys(said).map((door) => [door, wanted]));
      t.strictSame(said, all, `${client} to ${server}`);
      t.ok(Object.keys(said).length >= 4);
    };
    for (const [other, wanted] of Object.entries(to)) check(policies, "a", other, wanted);
    for (const [other, wanted] of Object.entries(from ?? {})) {
      check(policies.replace(EGRESS, INGRESS), other, "a", wanted);
    }
  });
}

t.test("an address that one pod has is that pod, in a range of its own too", async (t) => {
  const one = netpol("policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.1.2/32}}]}]");
  t.strictSame(new Set(Object.values(askAll(CLUSTER + one, "a", "in"))), new Set([U]));
  const [before, after] = [read(CLUSTER), read(CLUSTER + one)].map((declared) => ({
    policy: new Policy(declared.objects),
    pods: toInventory(declared).pods(-Infinity),
    objects: declared.objects,
  }));
  const servers = compareEffect(before!, after!, 0).changes.map(({ server }) => server);
  t.notOk(servers.includes("10.0.1.2-10.0.1.2[External]"), "it is no address outside");
  t.ok(servers.includes("10.0.1.3-255.255.255.255[External]"));
});

t.test("a diff goes by the range, and not by the address of the moment", async (t) => {
  const side = (text: string) => {
    const declared = read(text);
    const pods = toInventory(declared).pods(-Infinity);
    return { policy: new Policy(declared.objects), pods, objects: declared.objects };
  };
  const policies = EGRESS + CALICO;
  const moved = (ip: string) => CLUSTER.replace("10.0.1.2", ip) + policies;
  const edges = (ip: string) =>
    compareEffect(side(moved("10.0.1.2")), side(moved(ip)), 0).changes.map((one) => one.server);
  t.strictSame(edges("10.0.1.77"), [], "within the same range");
  t.strictSame(edges("10.0.9.77"), ["x/in[Pod]"], "in its hole");
});

t.test("explain: addresses of nobody in particular", async (t) => {
  const declared = read(CLUSTER + pod("twin", "10.0.1.2") + EGRESS);
  const ask = (to: string) => {
    const question = {
      from: "x/a",
      to,
      port: 80,
      transport: "TCP",
      wire: null,
      mesh: null,
    } as const;
    return explain(question, declared.objects, toInventory(declared), [], 0).path;
  };
  t.throws(() => ask("external:10.0.1.2"), { code: "CONFIG_END", message: /more than one/ });
  t.equal(ask("external:10.7.0.1"), D);
  t.equal(ask("external:10.0.77.7"), A);
});
