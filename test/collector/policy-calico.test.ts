/**
 * Tests what Calico's policies require. Each case names where its truth stands: `parser` is
 * libcalico-go/lib/selector with its tests, `rules` and `globalnetworkpolicyprocessor` are
 * libcalico-go/lib/backend/syncersv1/updateprocessors, `policy_sorter`, `policy_resolver` and
 * `rule_scanner` felix/calc, `endpoints` and `policy` felix/rules, `conversion`
 * libcalico-go/lib/backend/k8s/conversion, `api` the text of api/pkg/apis/projectcalico/v3,
 * `validator` its checks, `docs` the pages on policy.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import {
  evaluate,
  isFault,
  parseSelector,
  SELECTOR_DEPTH_LIMIT,
  SELECTOR_LENGTH_LIMIT,
} from "../../collector/policy/packet/calico/selector.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { runAllowed, runExplain } from "../../collector/policy/answer/policy-command.ts";
import { formatPortSet } from "../../collector/policy/packet/port-set.ts";
import { formatProblem } from "../../collector/policy/manifest/problem.ts";
import type { Transport } from "../../collector/attribution/holder.ts";
import { end, expectOf, inBand, read } from "./manifests.ts";

const space = (name: string, team: string) =>
  `---\n{apiVersion: v1, kind: Namespace, metadata: {name: ${name}, labels: {team: ${team}}}}\n`;
const account = (name: string, labels: string) =>
  `---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: ${name}, namespace: b, labels: ` +
  `{${labels}}}}\n`;
const pod = (name: string, ip: string, more = "", labels = "") => {
  const [namespace, own] = name.split("/");
  const status = ip === "" ? "{}" : `{podIPs: [${ip.split(" ").map((a) => `{ip: '${a}'}`)}]}`;
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, labels: ` +
    `{app: ${own}${labels}}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: sql, ` +
    `containerPort: 5432}]}]${more}}, status: ${status}}\n`
  );
};
const CLUSTER =
  space("a", "red") +
  space("b", "blue") +
  account("robot", "role: batch") +
  pod("a/web", "10.1.0.1", "", ", zone: front, 'projectcalico.org/namespace': b, pcns.team: blue") +
  pod("a/db", "10.1.0.2") +
  pod("b/api", "10.1.1.1", ", serviceAccountName: robot") +
  pod("b/two", "10.1.1.2 fd00::2") +
  pod("b/lost", "") +
  pod("a/host", "10.0.0.1", ", hostNetwork: true") +
  "---\n{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: " +
  "InternalIP, address: 10.0.0.1}]}}\n";

const V3 = "projectcalico.org/v3";
const V1 = "crd.projectcalico.org/v1";
const object = (kind: string, name: string, spec: string, namespace = "", version = V3) =>
  `---\n{apiVersion: ${version}, kind: ${kind}, metadata: {name: ${name}` +
  `${namespace === "" ? "" : `, namespace: ${namespace}`}}, spec: {${spec}}}\n`;
const np = (name: string, spec: string, namespace = "a", version = V3) =>
  object("NetworkPolicy", name, spec, namespace, version);
const gnp = (name: string, spec: string, version = V3) =>
  object("GlobalNetworkPolicy", name, spec, "", version);
const tier = (name: string, order: string, action = "") =>
  object("Tier", name, `${order}${action && `, defaultAction: ${action}`}`);
const labelled = (kind: string, name: string, labels: string, spec: string, namespace = "") =>
  object(kind, name, spec, namespace).replace("metadata: {", `metadata: {labels: {${labels}}, `);
const knp = (name: string, spec: string) =>
  `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ${name}, ` +
  `namespace: a}, spec: {${spec}}}\n`;
const cnp = (name: string, spec: string) =>
  `---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: ` +
  `{name: ${name}}, spec: {subject: {namespaces: {}}, ${spec}}}\n`;

const ask = (text: string, from: string, to = "a/db", port = 80, transport?: Transport) =>
  expectOf(CLUSTER + text, from, to, port, transport);

const say = (text: string, from: string, to?: string, port?: number, transport?: Transport) =>
  ask(text, from, to, port, transport).path;

function permit(text: string, from: string, to = "a/db"): string {
  const declared = read(CLUSTER + text);
  const policy = new Policy(declared.objects);
  return formatPortSet(policy.permit(end(declared, from), end(declared, to)));
}

/** Of the sources web, api, two and 192.0.2.1, those that an ingress rule of a/db lets in. */
function admitted(source: string, global = false, more = ""): string {
  const spec = `ingress: [{action: Allow, source: {${source}}}]`;
  const text = (global ? gnp("p", `selector: app == 'db', ${spec}`) : np("p", spec)) + more;
  return ["a/web", "b/api", "b/two", "192.0.2.1"]
    .map((name) => [name, say(text, name)] as const)
    .filter(([, path]) => path !== "denied")
    .map(([name, path]) => `${name}${path === "allowed" ? "" : `?${path}`}`)
    .join(" ");
}

t.test("selectors (parser: ast.go, parser_test.go)", async (t) => {
  const check = (selector: string, labels: Record<string, string>, expected: boolean | null) => {
    const found = parseSelector(selector);
    if (isFault(found)) return t.fail(`${selector}: ${found.reason}`);
    const lookup = (key: string) => (labels[key] === "?" ? null : labels[key]);
    t.equal(evaluate(found, lookup), expected, `${selector} on ${JSON.stringify(labels)}`);
  };
  const x = { k: "cat", l: "dog" };
  check("k == 'cat'", x, true);
  check('k == "dog"', x, false);
  check("m == 'cat'", x, false);
  check("k != 'dog'", x, true);
  check("m != 'dog'", x, true); // "also matches if label is not present"
  check("k in {'dog', \"cat\"}", x, true);
  check("k in {}", x, false);
  check("k in {'cat',}", x, true);
  check("k not in {'cat'}", x, false);
  check("m notin {'cat'}", x, true);
  check("k contains 'a'", x, true);
  check("m contains 'a'", x, false);
  check("k starts with 'ca'", x, true);
  check("k startswith 'at'", x, false);
  check("k ends with 'at'", x, true);
  check("k endswith 'ca'", x, false);
  check("has(k)", x, true);
  check("!has( m )", x, true);
  check("! !!has(k)", x, false);
  check("!k == 'cat' && has(l)", x, false); // `!` binds closer
  check("has(m) && has(k) || has(l)", x, true); // `&&` binds closer than `||`
  check("has(m) && (has(k) || has(l))", x, false);
  check("!(has(m) || k == 'dog')", x, true);
  check("", x, true);
  check(" \t", x, true);
  check("all()", {}, true);
  check("k=='cat'&&l!='cat'", x, true); // no spaces needed
  check('k == "it\'s"', { k: "it's" }, true); // no escapes, but either quote
  check("has == 'x' && in in {'y'}", { has: "x", in: "y" }, true); // words that are labels
  check("a.b/c-d_e == ''", { "a.b/c-d_e": "" }, true);
  check("k == 'cat' || m == 'x'", { k: "?", m: "x" }, true); // unknown spreads, not further
  check("k != 'cat'", { k: "?" }, null);
  check("!has(k)", { k: "?" }, null);

  const bad: [string, number][] = [
    ...([
      ["k == l", 5],
      ["'x' == k", 0],
      ["k", 1],
      ["k l", 2],
      ["!", 1],
    ] as [string, number][]),
    ...([
      ["k = 'x'", 2],
      ["k == 'x' &", 9],
      ["k == 'x' |", 9],
    ] as [string, number][]),
    ...([
      ["k in 'x'", 5],
      ["k in {'x'", 9],
      ["k == 'x", 5],
    ] as [string, number][]),
    ...([
      ["(", 1],
      ["(has(k)", 7],
      [")", 0],
      ["()", 1],
      ["%", 0],
    ] as [string, number][]),
    ...([
      ["has(k) &&", 9],
      ["has()", 0],
      ["all(x)", 0],
      ["has(k) has(l)", 7],
    ] as [string, number][]),
    ["has(k)\n&& has(l)", 6], // only blanks and tabs stand between
    ["k insane", 2],
  ];
  for (const [selector, at] of bad) {
    const found = parseSelector(selector);
    t.equal(isFault(found) && found.at, at, `${JSON.stringify(selector)} is wrong at ${at}`);
  }
  const deep = (n: number) => isFault(parseSelector(`${"(".repeat(n)}has(k)${")".repeat(n)}`));
  t.equal(deep(SELECTOR_DEPTH_LIMIT), false);
  t.equal(deep(SELECTOR_DEPTH_LIMIT + 1), true, "parentheses are bounded");
  t.equal(isFault(parseSelector(`has(${"k".repeat(513)})`)), true, "MaxLabelLength is 512");
  t.equal(isFault(parseSelector(" ".repeat(SELECTOR_LENGTH_LIMIT + 1))), true);
});

t.test("types, and what is left over (api; defaults/networkpolicy.go)", async (t) => {
  t.equal(say("", "a/web"), "undeclared", "no policy: the namespace's profile allows");
  const rule = "[{action: Allow}]";
  t.equal(say(np("p", ""), "a/web"), "denied", "neither list: Ingress, and nothing is allowed");
  t.equal(say(np("p", ""), "a/db", "b/api"), "undeclared", "neither list: egress is left alone");
  t.equal(say(np("p", `ingress: ${rule}`), "a/web"), "allowed", "ingress rules: Ingress");
  t.equal(say(np("p", `ingress: ${rule}`), "a/db", "b/api"), "undeclared", "and not Egress");
  t.equal(say(np("p", `egress: ${rule}`), "a/db", "b/api"), "allowed", "egress rules: Egress");
  t.equal(say(np("p", `egress: ${rule}`), "b/api"), "undeclared", "and not Ingress");
  t.equal(say(np("p", "types: [Egress]"), "a/db", "b/api"), "denied", "types as they stand");
  t.equal(say(np("p", "types: [Egress]"), "b/api"), "undeclared");
  t.equal(say(np("p", "egress: []"), "b/api"), "undecidable", "an empty list: releases differ");
  const stored = np("default.p", `ingress: ${rule}`, "a", V1);
  t.equal(say(stored, "b/api"), "allowed", "the storage's group is the same");
  t.equal(say(stored, "a/db", "b/api"), "denied", "no types there: both (policy_sorter)");
  t.equal(say(np("p", "", "b"), "a/web"), "undeclared", "a policy is of its namespace");
  t.equal(say(gnp("p", "selector: app == 'db'"), "a/web"), "denied", "a global one of all");
  t.equal(say(gnp("p", "selector: app == 'db'"), "a/db", "b/api"), "undeclared");
  for (const kind of ["StagedNetworkPolicy", "StagedKubernetesNetworkPolicy"]) {
    const declared = read(CLUSTER + object(kind, "p", "", "a"));
    t.strictSame(declared.problems, [], `${kind} never decides, and is known`);
  }
  t.equal(say(object("StagedGlobalNetworkPolicy", "p", "") + np("q", `ingress: ${rule}`), "a/web"), "allowed"); // prettier-ignore
});

t.test("rules in their order, and their actions (endpoints; docs)", async (t) => {
  const both = (first: string, second: string) =>
    say(np("p", `ingress: [{action: ${first}}, {action: ${second}}]`), "a/web");
  t.equal(both("Allow", "Deny"), "allowed", "the first that matches decides");
  t.equal(both("Deny", "Allow"), "denied");
  t.equal(both("Log", "Allow"), "allowed", "Log goes on");
  t.equal(both("Log", "Log"), "denied", "Log decides nothing");
  t.equal(both("Pass", "Deny"), "undeclared", "Pass leaves the last tier for the profile");
  const ordered = (a: string, b: string) =>
    say(np("x", `${a}, ingress: [{action: Allow}]`) + np("y", `${b}, ingress: [{action: Deny}]`), "a/web"); // prettier-ignore
  t.equal(ordered("order: 10", "order: 20"), "allowed", "by order");
  t.equal(ordered("order: 20.5", "order: 20"), "denied");
  t.equal(ordered("order: 1e9", "types: [Ingress]"), "allowed", "none is last");
  t.equal(ordered("types: [Ingress]", "order: 5"), "denied");
  t.equal(ordered("order: 5", "order: 5"), "allowed", "equal: by name (policy_sorter)");
  const stored = (annotation: string) =>
    say(
      np("default.y", "order: 5, types: [Ingress], ingress: [{action: Allow}]", "a", V1).replace("name:", `annotations: {projectcalico.org/metadata: '${annotation}'}, name:`) + // prettier-ignore
        np("x", "order: 5, ingress: [{action: Deny}]"),
      "192.0.2.1",
    );
  t.equal(stored('{"name": "y"}'), "denied", "the name that the API server stored (resources.go)");
  t.equal(stored('{"name": "a"}'), "allowed");
  t.equal(stored("{}"), "denied", "default. is no part of the name (determinePolicyName)");
  t.equal(stored("{"), "undecidable", "one that cannot be read");
  const because = ask(np("p", "ingress: [{action: Log}, {action: Deny}]"), "a/web").pathBecause;
  t.match(because[0], {
    kind: "NetworkPolicy",
    namespace: "a",
    name: "p",
    rule: "spec.ingress[1]",
  });
  t.equal(
    because[0]!.sentence,
    "denied by Calico's NetworkPolicy a/p: ingress rule 1 matches a/web[Pod]",
  );
  const [idle] = ask(np("p", "ingress: [{action: Allow, protocol: UDP}]"), "a/web").pathBecause;
  t.match(idle!.sentence, "no ingress rule matches a/web[Pod] on TCP 80");
  t.match(idle!.sentence, "tier default ends with Deny");
});

t.test("tiers (policy_sorter TierLess; endpoints)", async (t) => {
  const allow = (name: string, tierName: string, more = "") =>
    gnp(name, `tier: ${tierName}, ${more}ingress: [{action: Allow}]`);
  const deny = (name: string, tierName: string) =>
    gnp(name, `tier: ${tierName}, ingress: [{action: Deny}]`);
  const pass = (name: string, tierName: string) =>
    gnp(name, `tier: ${tierName}, ingress: [{action: Pass}]`);
  const two = tier("one", "order: 100") + tier("two", "order: 200");
  t.equal(say(two + allow("a", "one") + deny("b", "two"), "a/web"), "allowed", "by order");
  t.equal(say(two + deny("a", "one") + allow("b", "two"), "a/web"), "denied");
  t.equal(say(two + pass("a", "one") + deny("b", "two"), "a/web"), "denied", "Pass: the next");
  t.equal(say(two + pass("a", "one") + deny("z", "one") + allow("b", "two"), "a/web"), "allowed", "Pass skips the rest of its tier"); // prettier-ignore
  const quiet = gnp("a", "tier: one, ingress: [{action: Allow, protocol: UDP}]");
  t.equal(say(two + quiet + allow("b", "two"), "a/web"), "denied", "no rule matched: Deny");
  const soft = tier("one", "order: 100", "Pass") + tier("two", "order: 200", "Deny");
  t.equal(say(soft + quiet + allow("b", "two"), "a/web"), "allowed", "a tier that ends with Pass");
  t.equal(say(soft + quiet, "a/web"), "undeclared", "and then the profile");
  const other = gnp("a", "tier: one, selector: app == 'x', ingress: [{action: Deny}]");
  t.equal(say(two + other + allow("b", "two"), "a/web"), "allowed", "a tier that picks nobody is not there"); // prettier-ignore
  const outward = gnp("a", "tier: one, egress: [{action: Deny}]");
  t.equal(say(two + outward + allow("b", "two"), "192.0.2.1"), "allowed", "nor in the other direction"); // prettier-ignore
  const unset = tier("aaa", "") + tier("zzz", "order: 5000000");
  t.equal(
    say(unset + allow("a", "zzz") + deny("b", "aaa"), "a/web"),
    "allowed",
    "no order is last",
  );
  const same = tier("bbb", "order: 7") + tier("ccc", "order: 7");
  t.equal(say(same + deny("x", "ccc") + allow("y", "bbb"), "a/web"), "allowed", "equal: by name");
  t.equal(say(tier("one", "order: 1e5") + allow("a", "one") + deny("b", "default"), "a/web"), "allowed", "default is at 1,000,000"); // prettier-ignore
  t.equal(say(tier("one", "order: 1e7") + allow("a", "one") + deny("b", "default"), "a/web"), "denied"); // prettier-ignore

  t.equal(say(allow("a", "gone") + deny("b", "default"), "a/web"), "undecidable", "a tier not declared has no place"); // prettier-ignore
  t.equal(say(deny("a", "gone") + deny("b", "default"), "a/web"), "denied", "unless all agree");
  t.equal(say(pass("a", "gone") + allow("b", "default"), "a/web"), "allowed", "or it passes");
  const open = tier("default", "order: 1000000", "Pass") + quiet.replace("one", "default");
  t.equal(say(open, "a/web"), "undecidable", "default must end with Deny (tier.go)");
  const shut = tier("default", "order: 1000000", "Deny") + quiet.replace("one", "default");
  t.equal(say(shut, "a/web"), "denied");
  t.equal(say(tier("x", "order: 1, defaultAction: Allow") + deny("a", "x") + allow("b", "default"), "a/web"), "undecidable", "a broken Tier likewise"); // prettier-ignore
});

t.test("the policies of Kubernetes stand among them (conversion)", async (t) => {
  const open = knp("k", "podSelector: {}, ingress: [{}]");
  const shut = knp("k", "podSelector: {}");
  const at = (order: number | null, action: string) =>
    np("m", `${order === null ? "" : `order: ${order}, `}ingress: [{action: ${action}}]`);
  t.equal(say(open + at(999, "Deny"), "a/web"), "denied", "order 1000 comes after 999");
  t.equal(say(open + at(1001, "Deny"), "a/web"), "allowed", "and before 1001");
  t.equal(say(open + at(null, "Deny"), "a/web"), "allowed");
  t.equal(say(shut + at(1001, "Allow"), "a/web"), "allowed", "none of its rules: the tier goes on");
  t.equal(say(shut, "a/web"), "denied");
  t.equal(say(shut + gnp("g", "selector: app == 'x'"), "a/web"), "denied", "at the end of default");
  t.equal(say(open + at(1000, "Deny"), "a/web"), "allowed", "at 1000 the name decides: k, m");
  t.equal(say(open.replace("name: k", "name: z") + at(1000, "Deny"), "a/web"), "denied", "m, z");
  t.equal(say(shut + at(5, "Pass"), "a/web"), "undeclared", "Pass in default skips them");
  const early = tier("t", "order: 5") + gnp("g", "tier: t, ingress: [{action: Allow}]");
  t.equal(say(early + shut, "a/web"), "allowed", "an earlier tier has allowed");

  const admin = (action: string) =>
    cnp("c", `tier: Admin, priority: 5, ingress: [{action: ${action}, from: [{namespaces: {}}]}]`);
  const base = (action: string) =>
    cnp("d", `tier: Baseline, priority: 5, ingress: [{action: ${action}, from: [{namespaces: {}}]}]`); // prettier-ignore
  t.equal(say(admin("Deny") + early, "a/web"), "allowed", "kube-admin is at 1000, behind 5");
  const late = early.replace("order: 5", "order: 1500");
  t.equal(say(admin("Deny") + late, "a/web"), "denied", "and before 1500");
  t.equal(say(admin("Pass") + late, "a/web"), "allowed", "Pass goes on");
  t.equal(say(base("Deny") + early, "a/web"), "allowed", "kube-baseline is last");
  t.equal(say(base("Deny") + at(5, "Pass"), "a/web"), "denied", "after a Pass of default");
  t.equal(say(base("Accept") + at(5, "Pass"), "a/web"), "allowed");
  t.equal(say(base("Deny") + at(5, "Allow"), "a/web"), "allowed");
  const inside = gnp("g", "tier: kube-admin, ingress: [{action: Allow}]");
  t.equal(say(admin("Deny") + inside, "a/web"), "undecidable", "priorities inside it are not read");
  t.equal(say(admin("Accept") + inside, "a/web"), "allowed");
  const block = knp("k", "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.1.0/24}}]}]");
  t.equal(say(block + gnp("g", "selector: app == 'x'"), "b/api"), "allowed", "ipBlock is nets");
});

t.test("protocols and ports (api; policy; rule_scanner)", async (t) => {
  const rule = (more: string) => np("p", `ingress: [{action: Allow, ${more}}]`);
  const rows: [rule: string, port: number, transport: Transport, expected: string, fact: string][] =
    [
      ["protocol: TCP", 80, "TCP", "allowed", "a name"],
      ["protocol: tcp", 80, "TCP", "allowed", "in any case (ToV1)"],
      ["protocol: 6", 80, "TCP", "allowed", "its number"],
      ["protocol: 132", 80, "SCTP", "allowed", "SCTP is 132"],
      ["protocol: UDP", 80, "TCP", "denied", "another"],
      ["protocol: ICMP", 80, "TCP", "denied", "ICMP has no ports"],
      ["notProtocol: UDP", 80, "TCP", "allowed", "the negated form"],
      ["notProtocol: 6", 80, "TCP", "denied", ""],
      ["protocol: TCP, destination: {ports: [80]}", 80, "TCP", "allowed", "a number"],
      ["protocol: TCP, destination: {ports: ['80']}", 80, "TCP", "allowed", "as a text"],
      ["protocol: TCP, destination: {ports: [81, '70:80']}", 80, "TCP", "allowed", "a range"],
      ["protocol: TCP, destination: {ports: ['70:79']}", 80, "TCP", "denied", ""],
      ["protocol: TCP, destination: {ports: [sql]}", 5432, "TCP", "allowed", "a name of the pod's"],
      ["protocol: TCP, destination: {ports: [sql]}", 80, "TCP", "denied", ""],
      ["protocol: UDP, destination: {ports: [sql]}", 5432, "UDP", "denied", "of its protocol"],
      ["destination: {ports: [sql]}", 5432, "TCP", "allowed", "of any, where the rule has none"],
      ["protocol: TCP, destination: {ports: [sql, 80]}", 80, "TCP", "allowed", "either"],
      ["protocol: TCP, destination: {notPorts: [sql]}", 5432, "TCP", "denied", "but that"],
      ["protocol: TCP, destination: {notPorts: [sql]}", 80, "TCP", "allowed", ""],
      ["protocol: TCP, destination: {ports: ['1:100'], notPorts: [80]}", 80, "TCP", "denied", ""],
      ["protocol: TCP, source: {ports: [1024]}", 80, "TCP", "undecidable", "the client's port"],
      ["protocol: TCP, source: {ports: ['0:65535']}", 80, "TCP", "allowed", "any of them"],
      ["ipVersion: 4", 80, "TCP", "allowed", "the addresses tell"],
      ["ipVersion: 6", 80, "TCP", "denied", ""],
    ];
  for (const [text, port, transport, expected, fact] of rows) {
    t.equal(say(rule(text), "a/web", "a/db", port, transport), expected, `${fact}: ${text}`);
  }
  const out = np("p", "egress: [{action: Allow, protocol: TCP, destination: {ports: [sql]}}]");
  t.equal(say(out, "a/web", "b/api", 5432), "allowed", "a name is the destination pod's");
  t.equal(say(out, "a/web", "192.0.2.1", 5432), "denied", "what is no endpoint has no names");
  const web = np("p", "ingress: [{action: Allow, protocol: TCP, http: {methods: [GET]}}]");
  t.ok(inBand(ask(web, "a/web")), "HTTP is answered in band");
  t.equal(say(web, "a/web", "a/db", 80, "UDP"), "denied", "but the packet's part is certain");
});

t.test("selectors of a rule's end (rules getEndpointSelector)", async (t) => {
  t.equal(admitted(""), "a/web b/api b/two 192.0.2.1", "no end: anybody, from outside too");
  t.equal(admitted("selector: has(app)"), "a/web", "a namespaced policy: its own namespace");
  t.equal(admitted("selector: all()"), "a/web");
  t.equal(admitted("selector: has(app)", true), "a/web b/api b/two", "a global one: every one");
  t.equal(admitted("namespaceSelector: team == 'blue'"), "b/api b/two", "by the labels of one");
  t.equal(admitted("namespaceSelector: all()"), "a/web b/api b/two", "all() is any namespace");
  t.equal(admitted("namespaceSelector: global()"), "", "global() is none");
  t.equal(admitted("namespaceSelector: projectcalico.org/name == 'b'"), "b/api b/two", "its name");
  t.equal(
    admitted("namespaceSelector: team == 'blue', selector: app == 'api'"),
    "b/api",
    "both must hold",
  );
  t.equal(admitted("notSelector: app == 'web'"), "", "a notSelector alone is of the namespace too");
  t.equal(admitted("notSelector: app == 'x'"), "a/web");
  t.equal(admitted("notSelector: app == 'web'", true), "b/api b/two 192.0.2.1", "global: all but");
  t.equal(admitted("selector: has(app), notSelector: app == 'web'", true), "b/api b/two");
  t.equal(admitted("selector: '!has(zone)'", true), "b/api b/two", "known endpoints alone");
  t.equal(admitted("serviceAccounts: {names: [robot]}"), "", "accounts of the namespace");
  t.equal(admitted("serviceAccounts: {names: [robot]}", true), "b/api");
  t.equal(
    admitted("serviceAccounts: {names: [robot]}, namespaceSelector: team == 'blue'"),
    "b/api",
  );
  t.equal(
    admitted("serviceAccounts: {selector: role == 'batch'}", true),
    "a/web?undecidable b/api b/two?undecidable",
    "labels of an account that is not declared are not known",
  );
  t.equal(admitted("serviceAccounts: {names: [robot, x], selector: role == 'y'}", true), "");
  t.equal(admitted("selector: projectcalico.org/namespace == 'a'", true), "a/web", "never its own");
  t.equal(admitted("selector: pcns.team == 'red'", true), "a/web", "nor those of a namespace");
  t.equal(admitted("selector: projectcalico.org/orchestrator == 'k8s'", true), "a/web b/api b/two");
  t.equal(admitted("selector: projectcalico.org/serviceaccount == 'default'", true), "a/web b/two");
  t.equal(say(np("p", "ingress: [{action: Allow, source: {selector: has(app)}}]"), "a/host"), "denied", "a pod on the node's network is no endpoint"); // prettier-ignore
});

t.test("whom a policy picks (globalnetworkpolicyprocessor, networkpolicyprocessor)", async (t) => {
  const picks = (spec: string) =>
    ["a/db", "b/api", "b/two"].filter((to) => say(gnp("p", spec), "192.0.2.1", to) === "denied");
  t.strictSame(picks(""), ["a/db", "b/api", "b/two"], "no selector: all");
  t.strictSame(picks("namespaceSelector: team == 'blue'"), ["b/api", "b/two"]);
  t.strictSame(picks("namespaceSelector: team == 'blue', selector: app == 'api'"), ["b/api"]);
  t.strictSame(picks("namespaceSelector: all()"), ["a/db", "b/api", "b/two"]);
  t.strictSame(picks("namespaceSelector: '!has(team)'"), []);
  t.strictSame(picks("serviceAccountSelector: projectcalico.org/name == 'robot'"), ["b/api"]);
  const account = np("p", "serviceAccountSelector: role == 'batch'", "b");
  t.equal(say(account, "192.0.2.1", "b/api"), "denied");
  t.equal(say(account, "192.0.2.1", "b/two"), "undecidable", "its account is not declared");
  t.equal(say(gnp("p", ""), "192.0.2.1", "a/host"), "undeclared", "the node's network: no pod");
});

t.test("nets, of pods too (policy FilterRuleToIPVersion)", async (t) => {
  t.equal(admitted("nets: [10.1.1.0/24]"), "b/api b/two", "db has IPv4 alone, so two uses that");
  t.equal(admitted("nets: [10.1.1.2, 'fd00::/8']"), "b/two", "ranges of both families");
  const four = np("p", "ingress: [{action: Allow, ipVersion: 4}]", "b");
  t.equal(say(four, "b/lost", "b/two"), "undecidable", "of two families, nobody knows which");
  t.equal(admitted("nets: [192.0.2.1]"), "192.0.2.1", "a single address");
  t.equal(admitted("nets: [0.0.0.0/0]"), "a/web b/api b/two 192.0.2.1", "all of the family");
  t.equal(admitted("nets: ['::/0']"), "", "none of the other");
  t.equal(admitted("notNets: [10.1.0.0/16]"), "192.0.2.1");
  t.equal(admitted("notNets: ['fd00::/8']"), "", "ranges of the other family: no rule for this");
  t.equal(admitted("nets: [10.0.0.0/8], notNets: [10.1.1.0/24]"), "a/web");
  t.equal(admitted("nets: [10.1.0.0/16], selector: has(zone)"), "a/web", "all of an end must hold");
  const out = (net: string) => np("p", `egress: [{action: Allow, destination: {nets: [${net}]}}]`);
  t.equal(say(out("10.1.1.0/24"), "a/web", "b/lost"), "undecidable", "an address not known");
  t.equal(say(out("169.254.169.254/32"), "a/web", "b/lost"), "denied", "no pod is link-local");
  t.equal(say(out("0.0.0.0/0"), "a/web", "b/lost"), "allowed", "web is IPv4, so the other too");
  const pool = object("IPPool", "default-pool", "cidr: 10.1.0.0/16, blockSize: 26");
  t.equal(say(out("10.0.0.0/8") + pool, "a/web", "b/lost"), "allowed", "pods are of the pools");
  t.equal(say(out("172.16.0.0/12") + pool, "a/web", "b/lost"), "denied");
  t.equal(say(out("10.1.1.0/24") + pool, "a/web", "b/lost"), "undecidable");
});

t.test("network sets, services, domains (named_port_index.go, serviceindex.go)", async (t) => {
  const global = labelled("GlobalNetworkSet", "s", "kind: bad", "nets: [192.0.2.0/24]");
  const local = labelled("NetworkSet", "s", "kind: bad", "nets: [192.0.2.0/24, 10.1.1.1]", "b");
  t.equal(admitted("selector: kind == 'bad'", true, global), "192.0.2.1", "by its addresses");
  t.equal(admitted("selector: kind == 'bad'", true, local), "b/api 192.0.2.1", "of pods as well");
  t.equal(admitted("selector: kind == 'bad'", false, global), "", "not from a namespace");
  t.equal(
    admitted("selector: kind == 'bad', namespaceSelector: global()", false, global),
    "192.0.2.1",
    "global() is for these (api)",
  );
  t.equal(admitted("selector: kind == 'bad', namespaceSelector: global()", false, local), "");
  t.equal(
    admitted("selector: kind == 'bad', namespaceSelector: team == 'blue'", false, local),
    "b/api 192.0.2.1",
    "a NetworkSet has the labels of its namespace",
  );
  t.equal(admitted("selector: all()", true, global), "a/web b/api b/two 192.0.2.1");
  t.equal(admitted("notSelector: kind == 'bad'", true, global), "a/web b/api b/two");
  const stored = object("GlobalNetworkSet", "s", "nets: [192.0.2.0/24]", "", V1).replace(
    "metadata: {",
    'metadata: {annotations: {projectcalico.org/metadata: \'{"labels": {"kind": "bad"}}\'}, ',
  );
  t.equal(admitted("selector: kind == 'bad'", true, stored), "192.0.2.1", "stored labels");
  const broken = labelled("GlobalNetworkSet", "s", "kind: bad", "nets: [192.0.2.0/99]");
  t.match(admitted("selector: kind == 'bad'", true, broken), "192.0.2.1?undecidable");
  const domains = labelled("GlobalNetworkSet", "s", "kind: bad", "allowedEgressDomains: [x.org]");
  t.equal(admitted("selector: kind == 'bad'", true, domains), "192.0.2.1?undecidable");

  const service = (spec: string) =>
    `---\n{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b}, spec: {${spec}}}\n`;
  const made = service("selector: {app: api}, ports: [{port: 1, targetPort: sql}]");
  const out = (more = ", namespace: b") =>
    np("p", `egress: [{action: Allow, destination: {services: {name: s${more}}}}]`);
  t.equal(say(out() + made, "a/web", "b/api", 5432), "allowed", "an endpoint's own port");
  t.equal(say(out() + made, "a/web", "b/api", 1), "denied", "not the Service's");
  t.equal(say(out() + made, "a/web", "b/api", 5432, "UDP"), "denied", "of its protocol");
  t.equal(say(out() + made, "a/web", "b/two", 5432), "denied", "no endpoint");
  t.equal(say(out(), "a/web", "b/api", 5432), "undecidable", "a Service that is not declared");
  t.equal(say(out() + service("ports: []"), "a/web", "b/api"), "undecidable", "made by others");
  const own = np("p", "egress: [{action: Allow, destination: {services: {name: s}}}]", "b") + made;
  t.equal(say(own, "b/two", "b/api", 5432), "undecidable", "no namespace: the text and the source differ"); // prettier-ignore
  t.equal(admitted("services: {name: s, namespace: b}", false, made), "b/api", "as a source");
  const domain = np("p", "egress: [{action: Allow, destination: {domains: ['*.org']}}]");
  t.equal(say(domain, "a/web", "192.0.2.1"), "undecidable", "names resolve to nobody knows what");
});

t.test("what is not known spreads, and no further", async (t) => {
  const unsure = (action: string) => `{action: ${action}, source: {nets: [10.1.1.0/24]}}`;
  const path = (...rules: string[]) => say(np("p", `ingress: [${rules}]`), "b/lost");
  t.equal(path(unsure("Allow")), "undecidable");
  t.equal(path(unsure("Allow"), "{action: Allow}"), "allowed", "either way");
  t.equal(path(unsure("Deny"), "{action: Allow}"), "undecidable");
  t.equal(path(unsure("Deny")), "denied", "either way");
  t.equal(path("{action: Deny}", unsure("Allow")), "denied", "decided before");
  const two = tier("one", "order: 1") + np("p", `tier: one, ingress: [${unsure("Pass")}]`);
  t.equal(say(two, "b/lost"), "undecidable", "the next tier, or a Deny");
  t.equal(say(two + np("q", "ingress: [{action: Deny}]"), "b/lost"), "denied", "both deny");
  t.equal(say(two + np("q", "ingress: [{action: Allow}]"), "b/lost"), "undecidable");
  const [because] = ask(
    np("p", `ingress: [${unsure("Deny")}, {action: Allow}]`),
    "b/lost",
  ).pathBecause;
  t.match(because, { rule: "spec.ingress[0]", name: "p" });
  t.match(because!.sentence, /^undecidable: .* depends on an address that is not known$/);
});

t.test("host endpoints are not judged (endpoints; docs)", async (t) => {
  const host = labelled("HostEndpoint", "h", "at: edge", "node: n1, expectedIPs: [10.0.0.1]");
  t.equal(say(host, "a/web", "a/host"), "undecidable", "a node that is one");
  t.equal(say(host.replace("node: n1", "node: n2"), "a/web", "a/host"), "undeclared", "another");
  t.equal(say(host, "192.0.2.1", "a/web"), "undeclared", "no policy for what it forwards");
  const forward = (more: string) =>
    gnp("g", `selector: at == 'edge', ${more}, ingress: [{action: Allow}]`);
  t.equal(say(host + forward("applyOnForward: true"), "192.0.2.1", "a/web"), "undecidable");
  t.equal(say(host + forward("applyOnForward: true"), "b/api", "a/web"), "undeclared", "on n1");
  t.equal(say(host + forward("order: 1"), "192.0.2.1", "a/web"), "undeclared");
  for (const kind of ["doNotTrack", "preDNAT"]) {
    const spec = `${kind}: true, applyOnForward: true, ingress: [{action: Deny}]`;
    t.equal(say(gnp("g", spec), "192.0.2.1", "a/web"), "undeclared", `${kind}: no pod has it`);
  }
  const both = gnp("g", "applyOnForward: true, ingress: [{action: Deny}]");
  t.equal(say(both, "192.0.2.1", "a/web"), "denied", "applyOnForward counts for pods too");
  const rule = np("p", "ingress: [{action: Allow, source: {selector: at == 'edge', namespaceSelector: global()}}]"); // prettier-ignore
  t.equal(say(rule + host, "a/host"), "undecidable", "it is let in, and judged where it starts");
  t.equal(say(rule + host, "10.0.0.1"), "allowed", "a host endpoint is met by its address");
  t.equal(say(rule, "a/host"), "denied");
  const made = "autoCreate: Enabled";
  const controllers = object("KubeControllersConfiguration", "default", `controllers: {node: {hostEndpoint: {${made}}}}`); // prettier-ignore
  t.equal(say(rule + controllers, "a/host"), "undecidable", "those that Calico makes of nodes");
  const profile = (rules: string) => object("Profile", "kns.a", `ingress: ${rules}, egress: [{action: Allow, source: {}}]`); // prettier-ignore
  const pick = gnp("g", "selector: app == 'x'");
  t.equal(say(pick + profile("[{action: Allow}]"), "a/web"), "undeclared", "as Calico makes it");
  t.equal(
    say(pick + profile("[{action: Deny}]"), "a/web"),
    "undecidable",
    "a profile of one's own",
  );
});

t.test("what is wrong is told, and weakens nothing (validator)", async (t) => {
  const faults: [spec: string, told: RegExp][] = [
    [
      "selector: 'app = x'",
      /spec\.selector: needs an operator behind the label \(at character 5\)/,
    ],
    ["selector: global()", /spec\.selector: global\(\) stands alone/],
    ["order: first", /spec\.order/],
    ["types: [Ingress, Ingress]", /spec\.types/],
    ["ingress: [{action: allow}]", /spec\.ingress\[0\]\.action: must be one of Allow, Deny/],
    ["ingress: [{}]", /spec\.ingress\[0\]/],
    ["ingress: [{action: Allow, from: []}]", /unknown field from/],
    ["ingress: [{action: Allow, protocol: TPC}]", /\[0\]\.protocol: must be TCP/],
    ["ingress: [{action: Allow, protocol: 0}]", /\[0\]\.protocol/],
    ["ingress: [{action: Allow, destination: {ports: [80]}}]", /ports\[0\]: needs protocol/],
    ["ingress: [{action: Allow, protocol: ICMP, source: {ports: [a]}}]", /needs protocol TCP/],
    ["ingress: [{action: Allow, protocol: TCP, source: {ports: ['9:1']}}]", /must be a port/],
    ["ingress: [{action: Allow, protocol: TCP, source: {ports: [65536]}}]", /source\.ports/],
    ["ingress: [{action: Allow, source: {nets: [10.0.0.0/33]}}]", /nets\[0\]: must be an address/],
    ["ingress: [{action: Allow, source: {namespaceSelector: 'has(x) || global()'}}]", /global\(\)/],
    [
      "ingress: [{action: Allow, source: {serviceAccounts: {selector: '('}}}]",
      /Accounts\.selector/,
    ],
    ["ingress: [{action: Deny, http: {methods: [GET]}}]", /http: must stand in an Allow rule/],
    ["ingress: [{action: Allow, icmp: {type: 8}}]", /icmp: needs protocol ICMP/],
    [
      "ingress: [{action: Allow, destination: {services: {name: s}}}]",
      /must not stand in the dest/,
    ],
    ["ingress: [{action: Allow, source: {services: {name: s}, nets: [::1]}}]", /beside services/],
    ["newField: 1", /unknown field newField/],
  ];
  for (const [spec, told] of faults) {
    const declared = read(np("p", spec), "c.yaml");
    t.match(declared.problems.map(formatProblem).join(), told, spec);
    t.match(formatProblem(declared.problems[0]!), /^c\.yaml:2:\d+: NetworkPolicy p: spec/);
    t.equal(say(np("p", spec), "a/web"), "undecidable", `${spec}: it may have denied`);
    t.equal(permit(np("p", spec), "a/web"), "No Connections");
  }
  const lines = `apiVersion: ${V3}\nkind: Tier\nmetadata: {name: x}\nspec:\n  order: 1\n  odd: 2\n`;
  t.match(
    formatProblem(read(lines, "t.yaml").problems[0]!),
    /^t\.yaml:\d+:\d+: Tier x: spec: unkn/,
  );
  const early = np("z", "order: 1, ingress: [{action: Allow}]") + np("p", "order: 2, odd: 1");
  t.equal(say(early, "192.0.2.1"), "allowed", "one behind what decided changes nothing");
  t.equal(
    say(early.replace("order: 2", "order: x"), "192.0.2.1"),
    "undecidable",
    "nobody knows where",
  );
  t.equal(say(np("p", "odd: 1", "b"), "a/web"), "undeclared", "of another namespace");
  t.equal(say(gnp("p", "selector: app == 'x', odd: 1"), "a/web"), "undecidable", "a global one");
  const unread = read(object("EgressGatewayPolicy", "p", ""));
  t.match(formatProblem(unread.problems[0]!), /a kind that is not read/);
});

t.test("all that a pair may use", async (t) => {
  const rule = (more: string) => `{action: Allow, protocol: TCP, destination: {${more}}}`;
  t.equal(permit("", "a/web"), "All Connections");
  t.equal(permit(np("p", ""), "a/web"), "No Connections");
  t.equal(permit(np("p", `ingress: [${rule("ports: [80, '8000:8080', sql]")}]`), "a/web"), "TCP 80,5432,8000-8080"); // prettier-ignore
  const pass =
    tier("one", "order: 1") +
    gnp("a", "tier: one, ingress: [{action: Pass, protocol: TCP}, {action: Deny, protocol: UDP}]") +
    np("b", `ingress: [${rule("ports: [80]")}, {action: Pass, protocol: TCP, destination: {ports: [90]}}]`); // prettier-ignore
  t.equal(permit(pass, "a/web"), "TCP 80,90", "a passed port is not denied");
  const order =
    np("a", `order: 1, ingress: [{action: Deny, protocol: TCP, destination: {ports: ['1:99']}}]`) +
    knp("k", "podSelector: {}, ingress: [{ports: [{port: 80, endPort: 120}]}]") +
    np("b", `order: 2000, ingress: [${rule("ports: [50, 200]")}]`);
  t.equal(permit(order, "a/web"), "TCP 100-120,200", "before, between and behind Kubernetes'");
  t.equal(permit(np("p", "ingress: [{action: Deny, source: {nets: [10.1.1.0/24]}}, {action: Allow}]"), "b/lost"), "No Connections", "not certain"); // prettier-ignore
  t.equal(permit(gnp("p", "tier: gone, ingress: [{action: Allow}]"), "a/web"), "All Connections");
  t.equal(permit(gnp("p", "tier: gone"), "a/web"), "No Connections");
});

t.test("the commands read both groups", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-calico-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const policies =
    np("default.db", "types: [Ingress], ingress: [{action: Allow, source: {selector: zone == 'front'}}]", "a", V1) + // prettier-ignore
    gnp(
      "meta",
      "types: [Egress], egress: [{action: Deny, destination: {nets: [169.254.169.254/32]}}, {action: Deny, destination: {selector: kind == 'bad'}}, {action: Allow}]",
    ) + // prettier-ignore
    labelled("GlobalNetworkSet", "s", "kind: bad", "nets: [192.0.2.0/24]") +
    object("IPPool", "pool", "cidr: 10.1.0.0/16") +
    object("FelixConfiguration", "default", "bpfEnabled: false");
  const file = path.join(folder, "a.yaml");
  writeFileSync(file, CLUSTER + policies.replace("types: [Ingress]", "selector: app == 'db', types: [Ingress]")); // prettier-ignore
  const { out, warnings } = runAllowed({ manifests: folder }, 0);
  t.strictSame(warnings, [], "every kind is known");
  const of = (from: string) => out.split("\n").filter((line) => line.startsWith(`${from} => `));
  const all = (to: string) => `b/api[Pod] => ${to} : All Connections`;
  t.strictSame(
    of("b/api[Pod]"),
    [
      all("0.0.0.0-169.254.169.253[External]"),
      all("169.254.169.255-192.0.1.255[External]"),
      all("192.0.3.0-255.255.255.255[External]"),
      ...["a/host[Pod]", "a/web[Pod]", "b/lost[Pod]", "b/two[Pod]"].map(all),
    ],
    "not to the net, the set, nor a/db; pods are in the pool",
  );
  t.ok(of("a/web[Pod]").includes("a/web[Pod] => a/db[Pod] : All Connections"));
  const asked = { manifests: folder, from: "b/api", to: "a/db", port: "80" };
  const answer = runExplain(asked, 0).out;
  t.match(answer, /^path +denied$/m);
  t.match(
    answer,
    /denied by Calico's NetworkPolicy a\/default\.db: no ingress rule matches b\/api/,
  );
});

t.test("strangers' input never throws", async (t) => {
  const odd = ["null", "7", "'x'", "[]", "{}", "[null]", "[[]]", "[7]", "true", "{a: {}}", "'('"];
  const fields = ["tier", "order", "types", "selector", "ingress", "egress", "nets", "node"];
  const inside = ["action: Allow, source", "action: Allow, http", "action", "protocol"];
  const deeper = ["nets", "selector", "services", "serviceAccounts", "ports", "domains"];
  let count = 0;
  const cluster = read(CLUSTER);
  const ends = ["a/web", "a/host", "b/lost"].map((name) => end(cluster, name));
  const survive = (text: string) => {
    count++;
    const policy = new Policy([...cluster.objects, ...read(text).objects]);
    for (const from of [...ends, { external: "192.0.2.1" }]) {
      policy.expect(from, ends[0]!, 80, "TCP", 0);
    }
    policy.permit(ends[0]!, ends[2]!);
  };
  const kinds = ["GlobalNetworkPolicy", "Tier", "NetworkSet", "HostEndpoint", "IPPool", "Profile"];
  const anchor = np("p", "ingress: [{action: Allow, source: {selector: all()}}]");
  for (const value of odd) {
    for (const kind of [...kinds, "KubeControllersConfiguration"]) {
      const whole = object(kind, "x", "").replace("spec: {}", `spec: ${value}`);
      survive(anchor + whole);
      if (kind !== "GlobalNetworkPolicy") continue;
      for (const field of fields) survive(anchor + object(kind, "x", `${field}: ${value}`));
    }
    for (const field of inside) survive(np("p", `ingress: [{${field}: ${value}}]`));
    for (const field of deeper) {
      survive(np("p", `egress: [{action: Allow, destination: {${field}: ${value}}}]`));
    }
  }
  t.equal(count, odd.length * (7 + fields.length + inside.length + deeper.length));
});
