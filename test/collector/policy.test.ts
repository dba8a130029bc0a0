/** Tests what declared policies require, against small manifests. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { toClusterObject, type ClusterObject } from "../../collector/attribution/cluster-object.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import { judgeWire, Policy } from "../../collector/policy/policy.ts";
import { runAllowed, runExplain } from "../../collector/policy/answer/policy-command.ts";
import {
  EVERYTHING,
  formatPortSet,
  intersect,
  onePort,
  subtract,
  union,
} from "../../collector/policy/packet/port-set.ts";
import { formatProblem } from "../../collector/policy/manifest/problem.ts";
import { end, expectOf, read } from "./manifests.ts";

const pod = (name: string, labels: string, more = "") =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name.split("/")[1]}, ` +
  `namespace: ${name.split("/")[0]}, labels: {${labels}}}, spec: {containers: [{name: c, ` +
  `ports: [{name: web, containerPort: 8080}]}]}${more}}\n`;

const netpol = (name: string, spec: string) =>
  `---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ` +
  `${name.split("/")[1]}, namespace: ${name.split("/")[0]}}, spec: ${spec}}\n`;

const PODS = pod("a/x", "app: x") + pod("a/y", "app: y") + pod("b/z", "app: z");

t.test("port sets", async (t) => {
  const web = union(onePort("TCP", 80, 80), onePort("TCP", 81, 90));
  t.equal(formatPortSet(web), "TCP 80-90");
  t.equal(formatPortSet(union(web, onePort("UDP", 53, 53))), "TCP 80-90,UDP 53");
  t.equal(formatPortSet(subtract(web, onePort("TCP", 85, 85))), "TCP 80-84,86-90");
  t.equal(formatPortSet(intersect(web, onePort("TCP", 1, 80))), "TCP 80");
  t.equal(formatPortSet(union(web, EVERYTHING)), "All Connections");
  t.equal(formatPortSet(subtract(web, EVERYTHING)), "No Connections");
});

t.test("NetworkPolicy: directions, defaults, ports", async (t) => {
  t.equal(expectOf(PODS, "a/x", "a/y", 80).path, "undeclared");
  const deny = netpol("a/deny", "{podSelector: {}}");
  const denied = expectOf(PODS + deny, "a/x", "a/y", 80);
  t.equal(denied.path, "denied");
  t.equal(
    denied.pathBecause[0]!.sentence,
    "denied by NetworkPolicy a/deny: there is no ingress rule",
  );
  t.match(denied.pathBecause[0], {
    hash: /^sha256:[0-9a-f]{64}$/,
    rule: "spec.ingress",
    uid: null,
  });
  t.equal(expectOf(PODS + deny, "a/x", "b/z", 80).path, "undeclared", "egress is not isolated");
  const egress = netpol("a/out", "{podSelector: {}, policyTypes: [Egress]}");
  t.equal(expectOf(PODS + egress, "b/z", "a/y", 80).path, "undeclared", "ingress is not isolated");
  t.equal(expectOf(PODS + egress, "a/x", "b/z", 80).path, "denied");
  const byName = netpol(
    "a/web",
    "{podSelector: {matchLabels: {app: y}}, ingress: [{from: [{podSelector: {matchLabels: " +
      "{app: x}}}], ports: [{port: web}, {port: 9000, endPort: 9005}, {port: 53, protocol: UDP}]}]}",
  );
  const allowed = expectOf(PODS + deny + byName, "a/x", "a/y", 8080);
  t.equal(allowed.path, "allowed");
  t.equal(allowed.pathBecause[0]!.rule, "spec.ingress[0]");
  t.equal(expectOf(PODS + byName, "a/x", "a/y", 80).path, "denied");
  t.equal(expectOf(PODS + byName, "a/x", "a/y", 9005).path, "allowed");
  t.equal(expectOf(PODS + byName, "a/x", "a/y", 9006).path, "denied");
  t.equal(expectOf(PODS + byName, "a/x", "a/y", 53, "UDP").path, "allowed");
  t.equal(expectOf(PODS + byName, "b/z", "a/y", 8080).path, "denied");
  const block = netpol(
    "a/net",
    "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]}",
  );
  t.equal(expectOf(PODS + block, "10.2.0.1", "a/y", 80).path, "allowed");
  t.equal(expectOf(PODS + block, "10.1.0.1", "a/y", 80).path, "denied");
  t.equal(expectOf(PODS + block, "192.0.2.1", "a/y", 80).path, "denied");
  const addressed = pod("a/i", "app: i", ", status: {podIP: 10.3.0.1}");
  t.equal(
    expectOf(PODS + addressed + block, "a/i", "a/y", 80).path,
    "undecidable",
    "whether a range matches a pod is the network plugin's choice",
  );
});

t.test("a broken policy makes what depends on it undecidable, never weaker", async (t) => {
  const broken = netpol(
    "a/broken",
    "{podSelector: {matchExpressions: [{key: app, operator: Is, values: [x]}]}}",
  );
  const declared = read(PODS + broken);
  t.equal(declared.problems.length, 1);
  t.match(formatProblem(declared.problems[0]!), /^a\.yaml:8:\d+: NetworkPolicy broken: spec\.podS/);
  t.strictSame(declared.problems[0]!.namespaces, ["a"]);
  t.equal(expectOf(PODS + broken, "b/z", "a/y", 80).path, "undecidable");
  t.equal(expectOf(PODS + broken, "a/y", "b/z", 80).path, "undecidable");
  t.equal(expectOf(PODS + broken, "b/z", "a/y", 80).doubts?.length, 1);
  for (const spec of [
    "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: 99999}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: 90, endPort: 80}]}]}",
    "{podSelector: {}, policyTypes: [Sideways]}",
    "{podSelecter: {}}",
    "{podSelector: {matchLabels: {app: 1}}}",
  ]) {
    t.equal(read(netpol("a/b", spec)).problems.length, 1, spec);
    t.equal(expectOf(PODS + netpol("a/b", spec), "b/z", "a/y", 80).path, "undecidable", spec);
  }
});

t.test("admin tiers stand before and behind NetworkPolicy", async (t) => {
  const admin = (priority: number, action: string) =>
    `---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: ` +
    `{name: p${priority}}, spec: {priority: ${priority}, subject: {namespaces: {}}, ingress: ` +
    `[{action: ${action}, from: [{namespaces: {}}], ports: [{portNumber: {protocol: TCP, port: 80}}]}]}}\n`;
  const baseline =
    "---\n{apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, " +
    "metadata: {name: default}, spec: {subject: {namespaces: {}}, ingress: [{action: Deny, " +
    "from: [{namespaces: {}}]}]}}\n";
  const open = netpol("a/open", "{podSelector: {}, ingress: [{}]}");
  const deny = netpol("a/deny", "{podSelector: {}}");
  t.equal(expectOf(PODS + admin(1, "Deny") + open, "a/x", "a/y", 80).path, "denied");
  t.equal(expectOf(PODS + admin(1, "Deny") + open, "a/x", "a/y", 81).path, "allowed");
  t.equal(expectOf(PODS + admin(1, "Allow") + deny, "a/x", "a/y", 80).path, "allowed");
  t.equal(
    expectOf(PODS + admin(1, "Pass") + admin(2, "Deny"), "a/x", "a/y", 80).path,
    "undeclared",
  );
  t.equal(expectOf(PODS + admin(2, "Pass") + admin(1, "Deny"), "a/x", "a/y", 80).path, "denied");
  t.equal(expectOf(PODS + baseline, "a/x", "a/y", 81).path, "denied");
  t.equal(expectOf(PODS + baseline + open, "a/x", "a/y", 81).path, "allowed");
  const everywhere = admin(1, "Deny").replace("{namespaces: {}}]", "{pods: {podSelector: {}}}]");
  t.equal(expectOf(PODS + everywhere, "b/z", "a/y", 80).path, "denied", "of any namespace");
  const broken = admin(1, "Deny").replace("namespaces: {}}]", "namespaces: {}, x: 1}]");
  t.equal(expectOf(PODS + broken + open, "a/x", "a/y", 81).path, "undecidable");
  const declared = read(PODS + broken + open);
  const permitted = new Policy(declared.objects).permit(end(declared, "a/x"), end(declared, "a/y"));
  t.equal(formatPortSet(permitted), "No Connections", "it may deny anything");
});

t.test("policies of two network plugins in one folder: the graver decision counts", async (t) => {
  const calico = (action: string) =>
    "---\n{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: c, namespace: a}, " +
    `spec: {types: [Ingress], ingress: [{action: ${action}}]}}\n`;
  const cilium = (rule: string) =>
    "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: c, namespace: a}, " +
    `spec: {endpointSelector: {}, ${rule}}}\n`;
  const all = "ingress: [{fromEntities: [all]}]";
  const none = "ingressDeny: [{fromEntities: [all]}]";
  const path = (text: string) => expectOf(PODS + text, "a/x", "a/y", 80).path;
  t.strictSame([path(calico("Allow")), path(cilium(all))], ["allowed", "allowed"]);
  t.equal(path(calico("Allow") + cilium(all)), "allowed");
  t.equal(path(calico("Allow") + cilium(none)), "denied");
  t.equal(path(calico("Deny") + cilium(all)), "denied");
  const declared = read(PODS + calico("Allow") + cilium(none));
  const permitted = new Policy(declared.objects).permit(end(declared, "a/x"), end(declared, "a/y"));
  t.equal(formatPortSet(permitted), "No Connections");
});

const peerAuthentication = (name: string, spec: string, more = "") =>
  `---\n{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: ` +
  `${name.split("/")[1]}, namespace: ${name.split("/")[0]}${more}}, spec: ${spec}}\n`;

t.test("PeerAuthentication: levels, ages, ports", async (t) => {
  const required = (text: string, port = 80) =>
    expectOf(PODS + text, "b/z", "a/y", port).transport.required;
  const mesh = (mode: string) =>
    peerAuthentication("istio-system/default", `{mtls: {mode: ${mode}}}`);
  const space = (mode: string) => peerAuthentication("a/default", `{mtls: {mode: ${mode}}}`);
  const own = (rest: string) =>
    peerAuthentication("a/own", `{selector: {matchLabels: {app: y}}, ${rest}}`);
  t.equal(required(""), null, "no mesh, nothing declared");
  t.equal(required(mesh("STRICT")), "mtls");
  t.equal(required(mesh("STRICT") + space("PERMISSIVE")), "any");
  t.equal(required(mesh("STRICT") + space("UNSET")), "mtls", "UNSET inherits");
  t.equal(required(space("PERMISSIVE") + own("mtls: {mode: STRICT}")), "mtls");
  t.equal(required(space("STRICT") + own("portLevelMtls: {80: {mode: DISABLE}}")), "any");
  t.equal(required(space("STRICT") + own("portLevelMtls: {80: {mode: DISABLE}}"), 81), "mtls");
  t.equal(required(space("STRICT") + own("portLevelMtls: {80: {mode: UNSET}}")), "mtls");
  const inRoot = peerAuthentication(
    "istio-system/x",
    "{selector: {matchLabels: {app: y}}, mtls: {mode: STRICT}}",
  );
  t.equal(required(inRoot), null, "a selector in the root namespace is passed over");
  const old = peerAuthentication(
    "a/z-old",
    "{mtls: {mode: STRICT}}",
    ', creationTimestamp: "2020-01-01T00:00:00Z"',
  );
  const young = peerAuthentication(
    "a/a-young",
    "{mtls: {mode: PERMISSIVE}}",
    ', creationTimestamp: "2021-01-01T00:00:00Z"',
  );
  t.equal(required(young + old), "mtls", "the oldest counts");
  t.equal(required(peerAuthentication("a/q", "{mtls: {mode: STRIKT}}")), null, "broken: unknown");
  const strict = expectOf(PODS + space("STRICT"), "b/z", "a/y", 80);
  t.strictSame(
    (["plaintext", "tls", "mtls"] as const).map((wire) => judgeWire(strict, wire)),
    [false, false, true],
  );
  t.equal(strict.transportBecause[0]!.rule, "spec.mtls.mode");
  const service =
    "---\n{apiVersion: v1, kind: Service, metadata: {name: y, namespace: a}, spec: {selector: " +
    "{app: y}, ports: [{name: http-web, port: 80, targetPort: web}]}}\n";
  const disabled = expectOf(PODS + service + space("DISABLE"), "b/z", "a/y", 8080);
  t.equal(judgeWire(disabled, "mtls"), false, "Istio's TLS is no HTTP");
  t.equal(judgeWire(disabled, "plaintext"), true);
  t.equal(judgeWire(expectOf(PODS + space("DISABLE"), "b/z", "a/y", 8080), "mtls"), true);
  const outside = pod("a/out", '"sidecar.istio.io/inject": "false"');
  t.equal(expectOf(outside + PODS + space("STRICT"), "b/z", "a/out", 80).transport.required, null);
});

const authorization = (spec: string, space = "a") =>
  `---\n{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: ` +
  `{name: p, namespace: ${space}}, spec: ${spec}}\n`;

t.test(
  "AuthorizationPolicy: judged on TCP, undecidable where the denial is unreadable",
  async (t) => {
    const strict = peerAuthentication("istio-system/default", "{mtls: {mode: STRICT}}");
    const service = (name: string) =>
      `---\n{apiVersion: v1, kind: Service, metadata: {name: y, namespace: a}, spec: {selector: ` +
      `{app: y}, ports: [{name: ${name}, port: 80}]}}\n`;
    const ask = (listener: string, spec: string) =>
      expectOf(PODS + strict + service(listener) + authorization(spec), "b/z", "a/y", 80);
    const fromB = "rules: [{from: [{source: {namespaces: [b]}}]}]";
    t.equal(ask("tcp", `{action: DENY, ${fromB}}`).path, "denied");
    const inBand = ask("http", `{action: DENY, ${fromB}}`);
    t.equal(inBand.path, "undecidable");
    t.match(inBand.pathBecause[0]!.sentence, /^denial-in-band: /);
    t.equal(ask("tcp", `{${fromB}}`).path, "allowed");
    t.equal(ask("tcp", "{}").path, "denied", "ALLOW without rules allows nothing");
    t.equal(ask("tcp", "{rules: [{}]}").path, "allowed");
    t.equal(ask("tcp", '{rules: [{to: [{operation: {ports: ["81"]}}]}]}').path, "denied");
    t.equal(ask("tcp", "{rules: [{to: [{operation: {methods: [GET]}}]}]}").path, "denied");
    t.equal(
      ask("tcp", "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}").path,
      "denied",
      "DENY of a method on TCP denies everything",
    );
    t.equal(ask("http", "{rules: [{to: [{operation: {methods: [GET]}}]}]}").path, "undecidable");
    t.equal(
      ask("tcp", "{rules: [{from: [{source: {principals: [cluster.local/ns/b/sa/default]}}]}]}")
        .path,
      "allowed",
    );
    t.equal(
      ask("tcp", '{action: DENY, rules: [{from: [{source: {notPrincipals: ["*"]}}]}]}').path,
      "allowed",
    );
    t.equal(
      ask("tcp", "{action: CUSTOM, provider: {name: x}, rules: [{}]}").path,
      "undecidable",
      "an authorizer outside decides",
    );
    t.equal(ask("tcp", "{action: AUDIT, rules: [{}]}").path, "undeclared");
  },
);

t.test("manifests: what is broken is told with its place, the rest loads", async (t) => {
  const good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
  const broken = read(
    `${good}---\nkind: NetworkPolicy\nmetadata: {name: x, namespace: pay\n---\n${good}`,
  );
  t.equal(broken.objects.length, 2);
  t.equal(broken.problems.length, 1);
  const double = read(`${good}---\nkind: Pod\nmetadata:\n  name: p\n  namespace: pay\n  name: q\n`);
  t.match(formatProblem(double.problems[0]!), /^a\.yaml:9:3: Pod \w: Map keys must be unique/);
  t.strictSame(double.problems[0]!.namespaces, ["pay"]);
  const bomb = ["a: &a [x]"];
  for (let i = 1; i < 12; i++) {
    const from = String.fromCharCode(96 + i);
    bomb.push(
      `${String.fromCharCode(97 + i)}: &${String.fromCharCode(97 + i)} [${Array(9).fill(`*${from}`).join(", ")}]`,
    );
  }
  t.match(read(`${bomb.join("\n")}\n`).problems[0]?.reason, /alias/);
  const list = read(
    '{"kind":"List","items":[{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}]}',
  );
  t.match(list.objects, [{ kind: "Pod", namespace: "default", name: "p" }]);
  const typed = read("kind: NamespaceList\napiVersion: v1\nitems:\n- metadata: {name: a}\n");
  t.match(typed.objects, [{ kind: "Namespace", namespace: "", name: "a" }]);
  const unknown = read(
    "apiVersion: cilium.io/v2\nkind: CiliumLocalRedirectPolicy\nmetadata: {name: c}\n",
  );
  t.equal(unknown.unknownKinds.length, 1);
  t.match(unknown.problems[0]?.reason, /unproven/, "a policy that is not read is a doubt");
  t.strictSame(read("- 1\n- 2\n").problems[0]?.namespaces, [], "some other file");
  t.equal(read("").problems.length + read("# nothing\n").problems.length, 0);
  for (const text of ["{", "\u0001", "a: b: c", "!!binary x", "*x", "- - -\n -"]) {
    t.doesNotThrow(() => read(text), JSON.stringify(text));
  }
});

t.test("manifests cut, or changed by a byte, anywhere, never throw", async (t) => {
  const whole = PODS + netpol("a/p", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
  let state = 7;
  for (let at = 0; at < whole.length; at += 3) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = String.fromCharCode(32 + ((state >>> 10) % 95));
    for (const text of [whole.slice(0, at), whole.slice(0, at) + other + whole.slice(at + 1)]) {
      const { objects } = read(text);
      new Policy(objects).expect({ external: "192.0.2.1" }, end(read(PODS), "a/x"), 80, "TCP", 0);
    }
  }
  t.pass("nothing was thrown");
});

t.test("the commands read a folder and answer", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const ingress =
    "---\n{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i, namespace: a}, " +
    "spec: {rules: [{http: {paths: [{backend: {service: {name: y, port: {number: 80}}}}]}}]}}\n" +
    "---\n{apiVersion: v1, kind: Service, metadata: {name: y, namespace: a}, " +
    "spec: {selector: {app: y}, ports: [{port: 80, targetPort: web}]}}\n";
  const only = netpol(
    "a/only",
    "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}, " +
      "{namespaceSelector: {}}], ports: [{port: 8080}]}]}",
  );
  writeFileSync(path.join(folder, "all.yaml"), PODS + ingress + only);
  writeFileSync(path.join(folder, "broken.yml"), "a: [");
  writeFileSync(path.join(folder, "notes.txt"), "not read");
  const { out, warnings } = runAllowed({ manifests: folder }, 0);
  t.equal(
    out,
    "0.0.0.0-255.255.255.255[External] => b/z[Pod] : All Connections\n" +
      "b/z[Pod] => 0.0.0.0-255.255.255.255[External] : All Connections\n" +
      "b/z[Pod] => a/x[Pod] : TCP 8080\n" +
      "b/z[Pod] => a/y[Pod] : TCP 8080\n" +
      "{ingress-controller} => a/y[Pod] : TCP 8080\n",
  );
  t.match(warnings[0], /^broken\.yml:1:/);
  t.match(runAllowed({ manifests: folder, format: "dot" }, 0).out, /^digraph allowed \{/);
  const all = runAllowed({ manifests: folder, layer: "all" }, 0);
  t.equal(all.out, out, "no other layer says anything");
  const options = { manifests: folder, from: "b/z", to: "a/y[Pod]", port: "8080" };
  const answer = JSON.parse(runExplain({ ...options, format: "json" }, 0).out);
  t.match(answer, { path: "allowed", transport: { required: null }, wire: null });
  t.match(answer.because[0], { kind: "NetworkPolicy", namespace: "a", name: "only" });
  t.match(runExplain({ ...options, port: "53/udp" }, 0).out, /^path +denied\n/);
  t.throws(() => runExplain({ ...options, from: "b/none" }, 0), { code: "CONFIG_END" });
  t.throws(() => runExplain({ ...options, port: "0" }, 0), { code: "CONFIG_PORT" });
  t.throws(() => runExplain({ ...options, wire: "ssl" }, 0), { code: "CONFIG_OPTION" });
  t.throws(() => runAllowed({ manifests: `${folder}/none` }, 0), { code: "CONFIG_NO_MANIFESTS" });
});

t.test("5000 pods and 2000 policies compile, and answer quickly", async (t) => {
  const inventory = new Inventory();
  const objects: ClusterObject[] = [];
  for (let i = 0; i < 5000; i++) {
    const metadata = { name: `p${i}`, namespace: `n${i % 100}`, labels: { app: `a${i % 500}` } };
    inventory.apply(toClusterObject({ kind: "Pod", metadata, spec: {} }, null)!, -Infinity);
  }
  for (let i = 0; i < 2000; i++) {
    const podSelector = { matchLabels: { app: `a${i % 500}` } };
    const from = [{ namespaceSelector: {}, podSelector: { matchLabels: { app: `a${i % 7}` } } }];
    const spec = { podSelector, ingress: [{ from, ports: [{ port: 80 }] }] };
    const metadata = { name: `np${i}`, namespace: `n${i % 100}` };
    const apiVersion = "networking.k8s.io/v1";
    objects.push(toClusterObject({ apiVersion, kind: "NetworkPolicy", metadata, spec }, null)!);
  }
  const started = performance.now();
  const policy = new Policy(objects);
  const pods = inventory.pods(0);
  const compiled = performance.now() - started;
  let denied = 0;
  for (let i = 0; i < 20_000; i++) {
    const server = pods[(i * 7919) % pods.length]!;
    if (policy.expect(pods[i % pods.length]!, server, 80, "TCP", 0).path === "denied") denied++;
  }
  const asked = performance.now() - started - compiled;
  t.ok(denied > 1000);
  t.comment(
    `compiled in ${compiled.toFixed(0)} ms, ${((asked / 20_000) * 1000).toFixed(1)} us each`,
  );
  t.ok(asked < 10_000);
});
