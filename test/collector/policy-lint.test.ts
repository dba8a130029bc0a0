/**
 * Tests what the linter finds of manifests, networks and zones: for every rule manifests that breach it, with
 * the place that is told, and manifests that do not. Where a rule rests on what a project does, the
 * case names its source.
 */
import t from "tap";
import { ALL_RULES } from "../../collector/policy/lint/families.ts";
import { formatText } from "../../collector/policy/lint/format.ts";
import { LEVELS, levelOf } from "../../collector/policy/lint/rule.ts";
import {
  ISTIO,
  object,
  space,
  pod,
  service,
  pa,
  authz,
  rule,
  netpol,
  admin,
  mode,
  strict,
  meshed,
  of,
  run,
  placesOf,
  check,
  untested,
} from "./linting.ts";

t.test("what is read", async (t) => {
  check(t, "unreadable-document", {
    yes: "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\n",
    at: "kind: NetworkPolicy",
    no: meshed,
  });
  t.equal(run("a: [1\nb: 2\n").findings[0]!.rule.id, "unreadable-document", "broken YAML");
  check(t, "invalid-field", {
    yes: [pa("p", mode("STRONG")), pa("p", mode("1"))],
    at: "mode:",
    no: strict,
  });
  check(t, "invalid-field", {
    yes: netpol("n", "{podSelector: {}, ingress: [{from: [{mode: 1}]}]}"),
    at: "{mode:",
    no: netpol("n", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"),
  });
  const cilium = object("CiliumNetworkPolicy", "cilium.io/v2")("c", "{}");
  const unread = run(object("TrafficPermissions", "auth.consul.hashicorp.com/v2beta1")("p", "{}"));
  t.equal(unread.findings[0]!.rule.id, "unread-policy-kind");
  check(t, "unread-policy-kind", {
    yes: object("TrafficPermissions", "auth.consul.hashicorp.com/v2beta1")("p", "{}"),
    at: "kind: TrafficPermissions",
    no: [netpol("n", "{podSelector: {}}"), object("Secret", "v1")("s", "{}")],
  });
  check(t, "unknown-kind", {
    yes: object("Secret", "v1")("s", "{}") + object("Secret", "v1")("t", "{}"),
    at: "kind: Secret",
    no: [strict, cilium],
  });
  t.match(run(object("Secret", "v1")("s", "{}")).findings[0]!.sentence, /^1 of kind Secret \(v1\)/);
  check(t, "not-a-manifest", { yes: "replicas: 3\n", at: "replicas: 3", no: strict });
  check(t, "duplicate-object", {
    yes: strict + strict,
    at: "name: default",
    no: [strict + pa("other", mode("STRICT")), pod("x") + pod("x", { namespace: "b" })],
  });
});

t.test("suppressions need a reason, and name a rule", async (t) => {
  const ignore = (ids: string, reason: string) =>
    pa("p", mode("DISABLE"), `, annotations: {wireproof.io/ignore: "${ids}"${reason}}`);
  const reason = ", wireproof.io/ignore-reason: 'NET-1, jo'";
  const ok = run(ignore("istio-mtls-permissive, istio-mtls-disabled", reason));
  t.strictSame(
    ok.findings.map((f) => [f.rule.id, f.suppressed]),
    [["istio-mtls-disabled", "NET-1, jo"]],
  );
  t.match(formatText(ok), "0 errors, 0 warnings, 0 notes, 1 suppressed");
  const bare = run(ignore("istio-mtls-disabled", ""));
  t.ok(bare.findings.some((f) => f.rule.id === "istio-mtls-disabled" && f.suppressed === null));
  check(t, "suppression-without-reason", {
    yes: [ignore("istio-mtls-disabled", ""), ignore("x", ", wireproof.io/ignore-reason: ' '")],
    at: "wireproof.io/ignore:",
    no: ignore("istio-mtls-disabled", reason),
  });
  check(t, "suppression-of-unknown-rule", {
    yes: ignore("istio-mtls-off", reason),
    at: "wireproof.io/ignore:",
    no: ignore("istio-mtls-disabled", reason),
  });
  const onTemplate =
    space("a", ISTIO) +
    "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: a}\nspec:\n" +
    "  template:\n    metadata:\n      labels: {sidecar.istio.io/inject: 'false'}\n" +
    "      annotations: {wireproof.io/ignore: mesh-opted-out, wireproof.io/ignore-reason: batch}\n" +
    "    spec: {containers: [{name: c}]}\n";
  const found = run(onTemplate).findings.find((f) => f.rule.id === "mesh-opted-out")!;
  t.equal(found.suppressed, "batch", "a pod template's annotations count, too");
  t.equal(found.field, "spec.template.metadata.labels.sidecar.istio.io/inject");
});

t.test("selectors", async (t) => {
  const labels = "{podSelector: {matchLabels: {app: web}}}";
  const other = "{podSelector: {matchLabels: {app: wbe}}}";
  const subject = (name: string) =>
    admin(
      "p",
      `{priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: ${name}}}}}}`,
    );
  const server = (name: string) =>
    object("Server", "policy.linkerd.io/v1beta3")(
      "s",
      `{podSelector: {matchLabels: {app: ${name}}}, port: 1}`,
    );
  check(t, "selector-matches-nothing", {
    yes: [meshed + netpol("n", other), meshed + server("wbe")],
    at: "podSelector:",
    no: [
      meshed + netpol("n", labels),
      meshed + netpol("n", "{podSelector: {}}"),
      meshed + server("web"),
      netpol("n", other), // no pod at all
      meshed + subject("web"),
      meshed + pa("p", `{${of("web")}}`),
      // an AuthorizationPolicy of the root namespace selects in all of them
      meshed + authz("x", `{${of("web")}}`).replace("namespace: a", "namespace: istio-system"),
    ],
  });
  check(t, "selector-matches-nothing", { yes: meshed + subject("wbe"), at: "subject:", no: [] });
  check(t, "selector-matches-nothing", {
    yes: [meshed + pa("p", `{${of("wbe")}}`), meshed + authz("x", `{${of("wbe")}}`)],
    at: "selector:",
    no: [],
  });
  const byLabel = admin("p", "{priority: 1, subject: {namespaces: {matchLabels: {team: pay}}}}");
  check(t, "selector-matches-nothing", {
    yes: meshed + byLabel,
    at: "subject:",
    no: pod("web") + byLabel, // the namespace's labels are not declared
  });
});

t.test("default-deny", async (t) => {
  const deny = (type: string) => netpol("deny", `{podSelector: {}, policyTypes: [${type}]}`);
  const web = space("a") + pod("web");
  const baseline = object("BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1")(
    "default",
    "{subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
  );
  const one = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}";
  check(t, "network-no-default-deny-ingress", {
    yes: [web, web + deny("Egress"), web + netpol("one", one)],
    at: "name: a",
    no: [web + deny("Ingress"), web + baseline, pod("h", { spec: ", hostNetwork: true" })],
  });
  check(t, "network-no-default-deny-egress", {
    yes: [web, web + deny("Ingress"), web + baseline],
    at: "name: a",
    no: web + deny("Egress"),
  });
  const sentence = (text: string) =>
    run(text).findings.find((f) => f.rule.id === "network-no-default-deny-ingress")!.sentence;
  t.match(sentence(web), /whatever comes reaches a\/web\[Pod\]$/);
  t.match(sentence(web + netpol("one", one)), /each workload is selected by some policy/);
});

t.test("NetworkPolicy", async (t) => {
  const ingress = (from: string, more = "") =>
    pod("web") +
    netpol("n", `{podSelector: {matchLabels: {app: web}}, ingress: [{${from}${more}}]}`);
  const egress = (rules: string) =>
    pod("web") + netpol("n", `{podSelector: {}, policyTypes: [Egress], egress: [${rules}]}`);
  const block = (cidr: string) => `from: [{ipBlock: {cidr: ${cidr}}}]`;
  const ports = "ports: [{port: 80}]";
  check(t, "network-allow-all", {
    yes: [ingress(""), ingress(ports), ingress("from: []")],
    at: "{",
    no: [ingress("from: [{podSelector: {}}]"), ingress(block("0.0.0.0/0")), egress("{}")],
  });
  check(t, "network-allow-all-pods", {
    yes: [
      ingress("from: [{namespaceSelector: {}}]"),
      ingress("from: [{namespaceSelector: {}, podSelector: {}}]"),
    ],
    at: "namespaceSelector:",
    no: [
      ingress("from: [{podSelector: {}}]"),
      ingress("from: [{namespaceSelector: {matchLabels: {team: x}}}]"),
      ingress("from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: x}}}]"),
    ],
  });
  check(t, "network-open-to-world", {
    yes: [
      ingress(block("0.0.0.0/0")),
      ingress(block("'::/0'")),
      ingress(block("128.0.0.0/1")),
      ingress("from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]"),
    ],
    at: "cidr:",
    no: [ingress(block("10.0.0.0/8")), ingress(""), egress("{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}")],
  });
  const exposed = ingress(block("0.0.0.0/0")) + service("web", undefined, ", type: LoadBalancer");
  t.match(
    run(exposed).findings.find((f) => f.rule.id === "network-open-to-world")!.sentence,
    /reach a\/web\[Pod\] on every port; Service a\/web \(LoadBalancer\) leads to a\/web\[Pod\]$/,
  );
  check(t, "network-egress-anywhere", {
    yes: [egress("{}"), egress(`{${ports}}`)],
    at: "{",
    no: [egress("{to: [{podSelector: {}}]}"), ingress("")],
  });
  check(t, "network-egress-anywhere", {
    yes: egress("{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}"),
    at: "cidr:",
    no: egress("{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}"),
  });
  const label = (key: string, value: string) => `{matchLabels: {${key}: ${value}}}`;
  const named = (name: string) => label("kubernetes.io/metadata.name", name);
  check(t, "network-peer-matches-nothing", {
    yes: [
      ingress(`from: [{podSelector: ${label("app", "wbe")}}]`),
      egress(`{to: [{podSelector: ${label("app", "wbe")}}]}`),
    ],
    at: "{podSelector",
    no: [
      ingress(`from: [{podSelector: ${label("app", "web")}}]`),
      ingress(`from: [{namespaceSelector: ${named("a")}}]`),
      ingress(`from: [{namespaceSelector: ${label("team", "x")}}]`), // labels not declared
      ingress(block("192.0.2.0/24")),
      netpol("n", `{podSelector: {}, ingress: [{from: [{podSelector: ${label("app", "x")}}]}]}`),
    ],
  });
  check(t, "network-peer-namespace-unknown", {
    yes: [
      ingress(`from: [{namespaceSelector: ${named("b")}}]`),
      space("a") + ingress(`from: [{namespaceSelector: ${label("team", "x")}}]`),
    ],
    at: "{namespaceSelector",
    no: ingress(`from: [{namespaceSelector: ${named("a")}}]`),
  });
  // A name is looked up on the pods that are reached (API reference, NetworkPolicyPort.port).
  check(t, "network-unknown-port-name", {
    yes: [ingress("ports: [{port: wbe}]"), ingress("ports: [{port: web, protocol: UDP}]")],
    at: "port:",
    no: [ingress("ports: [{port: web}]"), ingress("ports: [{port: 81}]")],
  });
  check(t, "network-unknown-port-name", {
    yes: egress("{to: [{podSelector: {}}], ports: [{port: wbe}]}"),
    at: "port:",
    no: egress("{to: [{podSelector: {}}], ports: [{port: web}]}"),
  });
  // API reference, NetworkPolicySpec.policyTypes
  check(t, "network-policy-types-leave-out-rules", {
    yes: netpol("n", "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}"),
    at: "egress:",
    no: [
      netpol("n", "{podSelector: {}, policyTypes: [Ingress], egress: []}"),
      netpol("n", "{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{}]}"),
      netpol("n", "{podSelector: {}, egress: [{}]}"),
    ],
  });
  check(t, "network-policy-types-absent", {
    yes: netpol("n", "{podSelector: {}, egress: [{}]}"),
    at: "egress:",
    no: [
      netpol("n", "{podSelector: {}, policyTypes: [Egress], egress: [{}]}"),
      netpol("n", "{podSelector: {}, egress: [{}], ingress: [{}]}"),
      netpol("n", "{podSelector: {}}"),
    ],
  });
});

t.test("the cluster's own tiers", async (t) => {
  const two = space("a") + pod("web") + pod("db");
  const policy = (name: string, priority: number, rules: string, subject = "{namespaces: {}}") =>
    admin(name, `{priority: ${priority}, subject: ${subject}, ingress: [${rules}]}`);
  const all = (action: string) => `{action: ${action}, from: [{namespaces: {}}]}`;
  const app = "{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}";
  const some = (action: string, ports = "") =>
    `{action: ${action}, name: some, from: [{pods: ${app}}]${ports}}`;
  const port = (n: number) => `, ports: [{portNumber: {protocol: TCP, port: ${n}}}]`;
  check(t, "admin-rule-shadowed", {
    yes: [
      policy("p", 1, `${all("Deny")}, ${some("Allow")}`),
      policy("p", 1, `${some("Pass", port(1))}, ${some("Allow", port(1))}`),
      policy("p", 1, all("Pass")) + policy("q", 2, some("Allow")),
      policy("p", 1, all("Pass")) + policy("q", 2, some("Allow"), `{pods: ${app}}`),
    ],
    at: "{action:",
    no: [
      policy("p", 1, `${some("Allow")}, ${all("Deny")}`),
      policy("p", 1, `${some("Pass", port(1))}, ${some("Allow", port(2))}`),
      policy("p", 1, `${some("Pass", port(1))}, ${some("Allow")}`),
      policy("p", 2, all("Pass")) + policy("q", 2, some("Allow")), // of one priority
      policy("p", 1, all("Pass"), `{pods: ${app}}`) + policy("q", 2, some("Allow")),
      policy("p", 1, `${all("Deny")}, {action: Allow, from: [{networks: [192.0.2.0/24]}]}`),
    ],
  });
  const cluster = (tier: string, action: string) =>
    object("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2")(
      `c-${action.toLowerCase()}-${tier.toLowerCase()}`,
      `{tier: ${tier}, priority: 1, subject: {namespaces: {}}, ingress: [${all(action)}]}`,
    );
  check(t, "admin-equal-priority", {
    yes: [
      two + policy("p", 1, all("Deny")) + policy("q", 1, some("Allow")),
      two + cluster("Admin", "Deny") + cluster("Admin", "Accept"),
    ],
    at: "{action:",
    no: [
      two + policy("p", 1, all("Deny")) + policy("q", 2, some("Allow")),
      two + policy("p", 1, all("Deny")) + policy("q", 1, some("Deny")),
      two + policy("p", 1, some("Deny", port(1))) + policy("q", 1, some("Allow", port(2))),
      two + cluster("Admin", "Deny") + cluster("Baseline", "Accept"),
      policy("p", 1, all("Deny")) + policy("q", 1, some("Allow")), // no pods
    ],
  });
  const egress = (action: string, range: string) =>
    admin(
      "p",
      `{priority: 1, subject: {namespaces: {}}, egress: [{action: ${action}, to: [{networks: [${range}]}]}]}`,
    );
  check(t, "admin-egress-anywhere", {
    yes: egress("Allow", "0.0.0.0/0"),
    at: "0.0.0.0/0",
    no: [egress("Deny", "0.0.0.0/0"), egress("Pass", "0.0.0.0/0"), egress("Allow", "10.0.0.0/8")],
  });
});

t.test("segmentation", async (t) => {
  const file = (spec: string) =>
    `---\napiVersion: wireproof.io/v1\nkind: Segmentation\nmetadata: {name: s}\nspec:\n${spec}`;
  const deny = "  default: {betweenZones: deny}\n";
  const zones =
    "  zones:\n  - {name: cards, scope: cde, select: {namespaces: [a], labels: {app: card}}}\n" +
    "  - {name: shop, select: {namespaces: [b]}}\n";
  const pods = pod("card") + pod("web", { namespace: "b" });
  const seg = (more: string) => pods + file(zones + deny + more);
  check(t, "segmentation-zone-empty", {
    yes: pods + file("  zones:\n  - {name: z, select: {namespaces: [c]}}\n"),
    at: "select:",
    no: [
      seg(""),
      pods + file("  zones:\n  - {name: z, select: {cidrs: [192.0.2.0/24]}}\n"),
      file("  zones:\n  - {name: z, select: {namespaces: [c]}}\n"),
    ],
  });
  const taken =
    "  zones:\n  - {name: all, select: {namespaces: [a, b]}}\n  - {name: z, select: {namespaces: [a]}}\n";
  t.match(
    run(pods + file(taken)).findings.find((f) => f.rule.id === "segmentation-zone-empty")!.sentence,
    /zone z is left without pods: all takes them before/,
  );
  check(t, "segmentation-workload-outside-zones", {
    yes: seg("") + pod("other"),
    at: "metadata:",
    no: [seg(""), seg("") + pod("other", { namespace: "c" })],
  });
  const actor = (namespace: string) =>
    seg(`  actors:\n  - {name: gw, select: {namespaces: [${namespace}]}}\n`);
  check(t, "segmentation-actor-empty", { yes: actor("c"), at: "select:", no: actor("b") });
  const waiver = (until: string, ends = ", from: shop, to: cards") =>
    seg(`  waivers:\n  - {who: jo, why: W-1, until: "${until}"${ends}}\n`);
  check(t, "segmentation-waiver-expired", {
    yes: [waiver("2026-11-21"), waiver("2026-11-22T11:00:00Z")],
    at: "until:",
    no: [waiver("2026-11-22"), waiver("2027-02-01")], // a date ends with its day
  });
  check(t, "segmentation-waiver-expiring", {
    yes: [waiver("2026-11-22"), waiver("2026-12-20")],
    at: "until:",
    no: [waiver("2026-11-21"), waiver("2027-01-15")],
  });
  const long = { yes: waiver("2028-01-01"), at: "until:", no: waiver("2027-06-01") };
  check(t, "segmentation-waiver-long", long, "pci");
  t.strictSame(
    placesOf(long.yes, "segmentation-waiver-long", 6, null),
    [],
    "off without a profile",
  );
  check(t, "segmentation-waiver-broad", {
    yes: [waiver("2027-02-01", ""), waiver("2027-02-01", ", from: '*', to: '*'")],
    at: "{who:",
    no: waiver("2027-02-01", ", to: cards"),
  });
  const path = (text: string) => seg(`  paths:\n  - {${text}}\n`);
  const into = "from: shop, to: cards";
  check(t, "segmentation-path-unencrypted", {
    yes: [path(`${into}, transport: any`), path(`${into}, transport: plaintext`)],
    at: "transport:",
    no: [
      path(`${into}, transport: mtls`),
      path(`${into}, transport: tls`),
      path("from: cards, to: shop, transport: any"),
      path("from: cards, to: cards, transport: any"),
    ],
  });
  check(t, "segmentation-path-unencrypted", {
    yes: [path(into), path("from: shop, to: '*'")],
    at: "{from:",
    no: path("from: cards, to: shop"),
  });
  check(t, "segmentation-path-no-version", {
    yes: path(`${into}, transport: tls`),
    at: "transport:",
    no: [path(`${into}, transport: tls, minVersion: TLSv1.2`), path(`${into}, transport: any`)],
  });
  check(t, "segmentation-path-weak-version", {
    yes: path(`${into}, transport: tls, minVersion: TLSv1.1`),
    at: "minVersion:",
    no: path(`${into}, transport: tls, minVersion: TLSv1.2`),
  });
  check(t, "segmentation-default-undeclared", {
    yes: file(`${zones}  default: {betweenZones: undeclared}\n`),
    at: "betweenZones:",
    no: seg(""),
  });
  t.equal(
    placesOf(file(zones), "segmentation-default-undeclared", 4, null).length,
    1,
    "undeclared is the default",
  );

  const policy = (port: number, from = "b") =>
    netpol(
      "n",
      "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: " +
        `{kubernetes.io/metadata.name: ${from}}}}], ports: [{port: ${port}}]}]}`,
    );
  check(t, "segmentation-path-dead", {
    yes: [
      path(`${into}, ports: [8443]`) + policy(8080),
      path(`${into}, ports: [8080]`) + policy(8080, "c"),
    ],
    at: "{from:",
    no: [
      path(`${into}, ports: [8080-8090]`) + policy(8080),
      path(into) + policy(8080),
      path(`${into}, ports: [8443]`), // no policy binds the pods
      path(`${into}, ports: [8443]`) + policy(8080) + netpol("bad", "{podSelectr: {}}"),
    ],
  });
  check(t, "segmentation-forbids-allowed", {
    yes: seg("") + policy(8080),
    at: "{from:",
    no: [
      path(`${into}, ports: [8080]`) + policy(8080),
      seg(""), // nothing speaks of it
      pods + file(zones) + policy(8080), // crossings are not denied
    ],
  });
});

t.test("every rule is tested, and said in full", async (t) => {
  t.strictSame(untested(/^(?!(mesh|istio|linkerd|consul)-)/), []);
  t.equal(new Set(ALL_RULES.map(({ id }) => id)).size, ALL_RULES.length, "ids are unique");
  for (const rule of ALL_RULES) {
    t.match(rule.id, /^[a-z]+(-[a-z]+)+$/);
    t.match(rule.why, /\.$/);
    t.notMatch(rule.remedy, /\.$/);
    const levels = [null, "pci", "hipaa", "strict"] as const;
    const weights = levels.map((p) => ["off", ...LEVELS.toReversed()].indexOf(levelOf(rule, p)));
    t.ok(
      weights.every((weight) => weight >= weights[0]!),
      `no profile weakens ${rule.id}`,
    );
  }
});
