/**
 * Tests ClusterNetworkPolicy v1alpha2. The truth of each case stands in network-policy-api:
 * `types` is apis/v1alpha2/clusternetworkpolicy_types.go, `conformance` is conformance/tests.
 */
import t from "tap";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { listAllowed } from "../../collector/policy/answer/allowed.ts";
import { formatPortSet } from "../../collector/policy/packet/port-set.ts";
import { formatProblem } from "../../collector/policy/manifest/problem.ts";
import { findFaults } from "../../collector/policy/manifest/shape.ts";
import type { Transport } from "../../collector/attribution/holder.ts";
import { expectOf, read } from "./manifests.ts";

const HOUSES = ["gryffindor", "slytherin", "hufflepuff", "ravenclaw"];
const pod = (house: string, name: string, ip?: string, more = "") =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: ${house}, labels: ` +
  `{house: ${house}}}, spec: {${more}containers: [{name: c, ports: [{name: web, containerPort: 80}, ` +
  `{name: dns, containerPort: 53, protocol: UDP}]}]}` +
  `${ip === undefined ? "" : `, status: {podIP: ${ip}}`}}\n`;
const CLUSTER = HOUSES.map(
  (house, i) =>
    `---\n{apiVersion: v1, kind: Namespace, metadata: {name: ${house}, labels: {house: ${house}}}}\n` +
    pod(house, "zero", `10.244.${i}.1`) +
    pod(house, "one", `10.244.${i}.2`),
).join("");

const cnp = (tier: string, priority: number, rules: string, name = `p${priority}`) =>
  `---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: ` +
  `{name: ${tier.toLowerCase()}-${name}}, spec: {tier: ${tier}, priority: ${priority}, subject: ` +
  `{namespaces: {matchLabels: {house: gryffindor}}}, ${rules}}}\n`;
const house = (name: string) => `{namespaces: {matchLabels: {house: ${name}}}}`;
const port = (number: number, carrier = "tcp") =>
  `, protocols: [{${carrier}: {destinationPort: {number: ${number}}}}]`;
const from = (action: string, name: string, more = "") =>
  `{action: ${action}, from: [${house(name)}]${more}}`;
const to = (action: string, peer: string, more = "") => `{action: ${action}, to: [${peer}]${more}}`;
const netpol = (spec: string) =>
  "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: np, namespace: " +
  `gryffindor}, spec: ${spec}}\n`;

const ask = (text: string, client: string, server: string, port = 80, transport?: Transport) =>
  expectOf(CLUSTER + text, client, server, port, transport);
const G = "gryffindor/zero";

t.test("the first rule of a policy that matches decides (conformance ingress-tcp)", async (t) => {
  const rules = [
    from("Accept", "ravenclaw"),
    from("Deny", "ravenclaw"),
    from("Deny", "slytherin", port(80)),
    from("Pass", "slytherin", port(80)),
    from("Accept", "hufflepuff", port(80)),
    from("Deny", "hufflepuff"),
  ];
  const policy = cnp("Admin", 3, `ingress: [${rules.join(", ")}]`);
  const decided = ask(policy, "ravenclaw/zero", G);
  t.equal(decided.path, "allowed");
  t.match(decided.pathBecause[0], {
    kind: "ClusterNetworkPolicy",
    namespace: "",
    name: "admin-p3",
    rule: "spec.ingress[0]",
  });
  t.equal(ask(policy, "hufflepuff/zero", G).path, "allowed");
  t.equal(ask(policy, "hufflepuff/one", G, 8080).path, "denied");
  t.equal(ask(policy, "slytherin/zero", G).path, "denied");
  t.equal(ask(policy, "slytherin/one", G, 8080).path, "undeclared", "no rule matches");
  t.equal(ask(policy, G, "slytherin/zero").path, "undeclared", "egress is not affected");
  t.equal(ask(policy, "slytherin/zero", G, 80, "UDP").path, "undeclared");
  const swapped = cnp("Admin", 3, `ingress: [${rules[1]}, ${rules[0]}]`);
  t.equal(ask(swapped, "ravenclaw/zero", G).path, "denied");
});

t.test("Admin, NetworkPolicy, Baseline (conformance integration)", async (t) => {
  const both = (action: string) =>
    `ingress: [${from(action, "slytherin")}], egress: [${to(action, house("slytherin"))}]`;
  const open = netpol(
    "{podSelector: , policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: " +
      "{matchLabels: {house: slytherin}}}]}], egress: [{to: [{namespaceSelector: {matchLabels: " +
      "{house: slytherin}}}]}]}",
  );
  const baseline = cnp("Baseline", 10, both("Deny"));
  for (const [client, server] of [["slytherin/zero", G] as const, [G, "slytherin/zero"] as const]) {
    const path = (policies: string) => ask(policies, client, server).path;
    t.equal(path(cnp("Admin", 10, both("Deny")) + open + baseline), "denied");
    t.equal(path(cnp("Admin", 10, both("Pass")) + open + baseline), "allowed");
    t.equal(path(cnp("Admin", 10, both("Pass")) + baseline), "denied");
    t.equal(path(cnp("Admin", 10, both("Pass"))), "undeclared");
    t.equal(path(baseline), "denied");
    t.equal(path(netpol("{podSelector: {}, policyTypes: [Ingress, Egress]}") + baseline), "denied");
    t.equal(path(cnp("Baseline", 10, both("Accept"))), "allowed");
    t.equal(path(cnp("Baseline", 10, both("Pass"))), "undeclared", "there is no further tier");
    t.equal(
      path(cnp("Admin", 10, both("Accept")) + netpol("{podSelector: {}, egress: []}")),
      "allowed",
      "Accept is final",
    );
  }
});

t.test("priority (conformance priority; types)", async (t) => {
  const deny = cnp("Admin", 50, `ingress: [${from("Deny", "slytherin")}]`);
  const pass = (priority: number) =>
    cnp("Admin", priority, `ingress: [${from("Pass", "slytherin")}]`, "pass");
  const accept = cnp("Baseline", 10, `ingress: [${from("Accept", "slytherin")}]`);
  t.equal(ask(deny + pass(60) + accept, "slytherin/zero", G).path, "denied");
  t.equal(ask(deny + pass(40) + accept, "slytherin/zero", G).path, "allowed");
  const equal = ask(deny + pass(50) + accept, "slytherin/zero", G);
  t.equal(equal.path, "undecidable", "the implementation may apply either");
  t.match(equal.pathBecause[0]!.sentence, /policies of one priority disagree/);
  t.equal(equal.pathBecause.length, 4, "both are named behind it, and where Pass leads");
  const again = cnp("Admin", 50, `ingress: [${from("Deny", "slytherin")}]`, "again");
  t.equal(ask(deny + again, "slytherin/zero", G).path, "denied", "they agree");
  t.equal(ask(deny + pass(50) + accept, "ravenclaw/zero", G).path, "undeclared");
  const older =
    "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: " +
    "{name: anp}, spec: {priority: 45, subject: {namespaces: {}}, ingress: [{action: Allow, from: " +
    "[{namespaces: {}}]}]}}\n";
  t.equal(ask(deny + older, "slytherin/zero", G).path, "allowed", "one tier with the older kind");
  const banp =
    "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, " +
    "metadata: {name: default}, spec: {subject: {namespaces: {}}, ingress: [{action: Deny, from: " +
    "[{namespaces: {}}]}]}}\n";
  t.equal(ask(accept + banp, "slytherin/zero", G).path, "allowed", "it has no priority: the last");
  t.equal(ask(accept + banp, "ravenclaw/zero", G).path, "denied");
});

t.test("networks match pods too (conformance egress-inline-cidr; types)", async (t) => {
  const rules = [
    to("Accept", "{networks: [10.244.3.1/32]}"),
    to("Accept", house("slytherin")),
    to("Deny", '{networks: [0.0.0.0/0, "::/0"]}'),
  ];
  const policy = cnp("Admin", 85, `egress: [${rules.join(", ")}]`);
  t.equal(ask(policy, G, "ravenclaw/zero").path, "allowed", "by its address");
  t.equal(ask(policy, G, "ravenclaw/one").path, "denied");
  t.equal(ask(policy, G, "hufflepuff/zero", 53, "UDP").path, "denied");
  t.equal(ask(policy, G, "slytherin/zero", 9003, "SCTP").path, "allowed");
  t.equal(ask(policy, G, "203.0.113.7").path, "denied");
  const later = pod("hufflepuff", "later");
  t.equal(
    ask(policy + later, G, "hufflepuff/later").path,
    "undecidable",
    "the address of a pod that is not there yet may be the one that is let pass",
  );
  const whole = cnp("Admin", 85, `egress: [${rules[2]}]`);
  t.equal(ask(whole + later, G, "hufflepuff/later").path, "denied", "whatever its address is");
  const plain = netpol(
    "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: " + "0.0.0.0/0}}]}]}",
  );
  t.equal(ask(plain, G, "ravenclaw/zero").path, "undecidable", "NetworkPolicy leaves it open");
});

t.test("ports: numbers, ranges, names (types)", async (t) => {
  const range = ", protocols: [{tcp: {destinationPort: {range: {start: 8000, end: 8080}}}}]";
  const policy = (more: string) => cnp("Admin", 1, `ingress: [${from("Deny", "slytherin", more)}]`);
  const at = (more: string, number: number, carrier: Transport = "TCP") =>
    ask(policy(more), "slytherin/zero", G, number, carrier).path;
  t.equal(at(range, 8000), "denied");
  t.equal(at(range, 8080), "denied");
  t.equal(at(range, 8081), "undeclared");
  t.equal(at(", protocols: [{destinationNamedPort: web}]", 80), "denied");
  t.equal(at(", protocols: [{destinationNamedPort: dns}]", 53, "UDP"), "denied");
  t.equal(at(", protocols: [{destinationNamedPort: dns}]", 53), "undeclared");
  t.equal(at(", protocols: [{destinationNamedPort: none}]", 80), "undeclared");
  t.equal(at(port(9003, "sctp"), 9003, "SCTP"), "denied");
  t.equal(at(`${port(80)}`, 80, "UDP"), "undeclared");
  // Until November 2025 v1alpha2 had the ports of v1alpha1.
  t.equal(at(", ports: [{portNumber: {protocol: TCP, port: 80}}]", 80), "denied");
  t.equal(at(", ports: [{portRange: {protocol: UDP, start: 1, end: 60}}]", 53, "UDP"), "denied");
});

t.test("subject and peers by pods; not those on the node's network (types)", async (t) => {
  const peer = "{pods: {namespaceSelector: {matchLabels: {house: slytherin}}, podSelector: {}}}";
  const policy =
    `---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: ` +
    `{name: pods}, spec: {tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}, ` +
    `podSelector: {matchLabels: {house: gryffindor}}}}, ingress: [{action: Deny, from: [${peer}]}]}}\n`;
  t.equal(ask(policy, "slytherin/zero", G).path, "denied");
  t.equal(ask(policy, "slytherin/zero", "ravenclaw/zero").path, "undeclared");
  t.equal(ask(policy, "203.0.113.7", G).path, "undeclared", "a peer of pods is no address outside");
  const onNode = pod("slytherin", "host", undefined, "hostNetwork: true, nodeName: n, ");
  t.equal(ask(policy + onNode, "slytherin/host", G).path, "undeclared");
  const subject = pod("gryffindor", "host", undefined, "hostNetwork: true, nodeName: n, ");
  t.equal(ask(policy + subject, "slytherin/zero", "gryffindor/host").path, "undeclared");
});

t.test("nodes (conformance node-and-cidr-as-peers)", async (t) => {
  const node =
    "---\n{apiVersion: v1, kind: Node, metadata: {name: n, labels: {os: linux}}, status: " +
    "{addresses: [{type: InternalIP, address: 172.18.0.3}]}}\n";
  const onNode = pod("slytherin", "host", undefined, "hostNetwork: true, nodeName: n, ");
  const rules = [
    to("Accept", "{nodes: {matchLabels: {os: linux}}}", port(36363)),
    to("Deny", '{nodes: {matchLabels: {os: linux}}}, {networks: [0.0.0.0/0, "::/0"]}'),
  ];
  const policy = cnp("Admin", 75, `egress: [${rules.join(", ")}]`);
  t.equal(ask(policy + node + onNode, G, "slytherin/host", 36363).path, "allowed");
  t.equal(ask(policy + node + onNode, G, "slytherin/host", 36364).path, "denied");
  t.equal(
    ask(policy + onNode, G, "slytherin/host", 36363).path,
    "undecidable",
    "its node is not declared",
  );
  const every = cnp("Admin", 75, `egress: [${to("Accept", "{nodes: {}}")}]`);
  t.equal(ask(every + onNode, G, "slytherin/host").path, "allowed", "empty: all nodes");
  const net = cnp("Admin", 75, `egress: [${to("Deny", "{networks: [172.18.0.0/16]}")}]`);
  t.equal(ask(net + node + onNode, G, "slytherin/host").path, "denied", "by the node's address");
});

t.test("domain names are not known from addresses (types)", async (t) => {
  const rules = [
    to("Accept", "{domainNames: ['*.example.com']}"),
    to("Deny", "{networks: [0.0.0.0/0]}"),
  ];
  const policy = cnp("Admin", 1, `egress: [${rules.join(", ")}]`);
  t.equal(ask(policy, G, "203.0.113.7").path, "undecidable");
  t.equal(ask(policy, G, "slytherin/zero").path, "denied", "no pod of the cluster is meant");
});

t.test("wrong fields are told, and weaken nothing", async (t) => {
  const wrong: [string, RegExp][] = [
    [cnp("Admin", 1001, ""), /priority/],
    [cnp("Other", 1, ""), /must be one of Admin, Baseline/],
    [
      cnp("Admin", 1, `ingress: [${from("Allow", "slytherin")}]`),
      /must be one of Accept|wrong type/,
    ],
    [cnp("Admin", 1, "ingress: [{action: Deny, from: []}]"), /ingress/],
    [cnp("Admin", 1, "ingress: [{action: Deny, from: [{}]}]"), /ingress/],
    [cnp("Admin", 1, `ingress: [{action: Deny, from: [{networks: [10.0.0.0/8]}]}]`), /ingress/],
    [cnp("Admin", 1, `ingress: [${from("Deny", "slytherin", ", protocols: [{}]")}]`), /ingress/],
    [cnp("Admin", 1, `egress: [${to("Deny", "{networks: [ten]}")}]`), /address or a range/],
    [
      cnp(
        "Admin",
        1,
        `ingress: [${from("Deny", "slytherin", ", protocols: [{tcp: {destinationPort: {range: {start: 9, end: 8}}}}]")}]`,
      ),
      /must not be below start/,
    ],
  ];
  for (const [text, reason] of wrong) {
    t.match(read(text).problems.map(formatProblem).join("\n"), reason, text);
    t.equal(ask(text, "slytherin/zero", G).path, "undecidable", text);
  }
  const declared = read(cnp("Admin", 1, `ingress: [${from("Deny", "slytherin")}]`));
  t.strictSame([declared.problems, declared.unknownKinds], [[], []], "the kind is read");
});

t.test("policy allowed: what is not certain is left out", async (t) => {
  const allowed = (policies: string) => {
    const declared = read(
      `---\n{apiVersion: v1, kind: Namespace, metadata: {name: gryffindor, labels: {house: ` +
        `gryffindor}}}\n${pod("gryffindor", "zero")}${pod("slytherin", "zero")}${policies}` +
        "---\n{apiVersion: v1, kind: Namespace, metadata: {name: slytherin, labels: {house: " +
        "slytherin}}}\n",
    );
    const inventory = new Inventory();
    for (const object of declared.objects) inventory.apply(object, -Infinity);
    const pairs = listAllowed(declared.objects, inventory, findFaults);
    const found = pairs.find(({ from, to }) => /^slyth/.test(from) && /^gryff/.test(to));
    return found === undefined ? null : formatPortSet(found.ports);
  };
  const deny = cnp("Admin", 1, `ingress: [${from("Deny", "slytherin", port(80))}]`);
  t.equal(allowed(""), "All Connections");
  t.equal(allowed(deny), "SCTP 1-65535,TCP 1-79,81-65535,UDP 1-65535");
  const pass = cnp("Admin", 0, `ingress: [${from("Pass", "slytherin", port(80))}]`);
  t.equal(allowed(deny + pass), "All Connections");
  const accept = cnp("Admin", 1, `ingress: [${from("Accept", "slytherin")}]`, "accept");
  t.equal(
    allowed(deny + accept),
    "SCTP 1-65535,TCP 1-79,81-65535,UDP 1-65535",
    "where two of one priority disagree",
  );
  const closed = netpol("{podSelector: {}}");
  t.equal(allowed(closed), null);
  t.equal(allowed(accept + closed), "All Connections");
  t.equal(allowed(cnp("Baseline", 1, `ingress: [${from("Deny", "slytherin")}]`)), null);
  const near = cnp("Admin", 1, `egress: [${to("Deny", "{networks: [10.0.0.0/8]}")}]`).replace(
    "house: gryffindor",
    "house: slytherin",
  );
  t.equal(allowed(near), null, "an address that is not known may be among those denied");
});
