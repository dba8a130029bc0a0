/**
 * Tests what the linter finds of meshes: for every rule manifests that breach it, with
 * the place that is told, and manifests that do not. Where a rule rests on what a project does, the
 * case names its source.
 */
import t from "tap";
import {
  ISTIO,
  AMBIENT,
  LINKERD,
  CONSUL,
  object,
  space,
  pod,
  service,
  pa,
  authz,
  rule,
  mode,
  netpol,
  strict,
  meshed,
  of,
  run,
  placesOf,
  check,
  untested,
} from "./linting.ts";

t.test("workloads and ports outside of the mesh", async (t) => {
  const traffic = "traffic.sidecar.istio.io/";
  const istio = (annotations: string) => space("a", ISTIO) + pod("web", { annotations });
  const linkerd = (annotations: string) => space("a", "", LINKERD) + pod("web", { annotations });
  const consul = (annotations: string) => pod("web", { annotations: `${CONSUL}, ${annotations}` });
  check(t, "mesh-inbound-port-excluded", {
    yes: [
      istio(`${traffic}excludeInboundPorts: '9090'`),
      istio(`${traffic}includeInboundPorts: '8080'`),
      istio(`${traffic}includeInboundPorts: ''`),
    ],
    at: "traffic.",
    no: [
      istio(`${traffic}excludeInboundPorts: ''`),
      istio(`${traffic}includeInboundPorts: '*'`),
      pod("web", { annotations: `${traffic}excludeInboundPorts: '9090'` }), // not meshed
    ],
  });
  check(t, "mesh-inbound-port-excluded", {
    yes: [
      linkerd("config.linkerd.io/skip-inbound-ports: '9090'"),
      space("a", "", `${LINKERD}, config.linkerd.io/skip-inbound-ports: '9090'`) + pod("web"),
    ],
    at: "config.linkerd.io/skip-inbound-ports",
    no: linkerd("config.linkerd.io/skip-inbound-ports: ''"),
  });
  check(t, "mesh-inbound-port-excluded", {
    yes: [
      consul("consul.hashicorp.com/transparent-proxy-exclude-inbound-ports: '9090'"),
      consul("consul.hashicorp.com/transparent-proxy: 'false'"),
    ],
    at: "consul.hashicorp.com/transparent-proxy",
    no: consul("consul.hashicorp.com/transparent-proxy: 'true'"),
  });
  check(t, "mesh-inbound-port-excluded", {
    yes: istio("sidecar.istio.io/interceptionMode: NONE"),
    at: "sidecar.istio.io/interceptionMode",
    no: istio("sidecar.istio.io/interceptionMode: TPROXY"),
  });
  check(t, "mesh-outbound-excluded", {
    yes: [
      istio(`${traffic}excludeOutboundPorts: '443'`),
      istio(`${traffic}excludeOutboundIPRanges: 10.0.0.0/8`),
    ],
    at: traffic,
    no: [istio(`${traffic}includeOutboundIPRanges: '*'`), istio("")],
  });
  check(t, "mesh-outbound-excluded", {
    yes: linkerd("config.linkerd.io/skip-outbound-ports: '443'"),
    at: "config.linkerd.io/skip-outbound-ports",
    no: consul("config.linkerd.io/skip-outbound-ports: '443'"),
  });
  check(t, "mesh-outbound-excluded", {
    yes: consul("consul.hashicorp.com/transparent-proxy-exclude-outbound-cidrs: 10.0.0.0/8"),
    at: "consul.hashicorp.com/transparent-proxy-exclude-outbound-cidrs",
    no: [],
  });
  check(t, "mesh-opaque-port", {
    yes: linkerd("config.linkerd.io/opaque-ports: '5432'"),
    at: "config.linkerd.io/opaque-ports",
    no: linkerd(""),
  });
  const settings = (namespace: string) =>
    `---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: ${namespace}}\n` +
    "data: {mesh: 'trustDomain: x'}\n";
  const tunnelled = space("a", AMBIENT) + pod("web");
  const only = (ports: string) => netpol("p", `{podSelector: {}, ingress: [{ports: [${ports}]}]}`);
  check(t, "mesh-tunnel-port-closed", {
    yes: tunnelled + pod("x") + only("{port: 8080}"), // istio.io, ambient/usage/networkpolicy
    at: "ingress:",
    no: [tunnelled + pod("x") + only("{port: 8080}, {port: 15008}"), tunnelled + only("")],
  });
  check(t, "mesh-tunnel-port-opens-all", {
    yes: tunnelled + pod("x") + only("{port: 15008}"),
    at: "{ports:",
    no: [tunnelled + pod("x") + only("{port: 8080}"), tunnelled + pod("x") + only("")],
  });
  check(t, "mesh-settings-elsewhere", {
    yes: settings("a"),
    at: "namespace: a",
    no: settings("istio-system"),
  });
  check(t, "mesh-opted-out", {
    yes: [
      space("a", ISTIO) + pod("web", { labels: ", sidecar.istio.io/inject: 'false'" }),
      space("a", ISTIO) + pod("web", { annotations: "sidecar.istio.io/inject: 'false'" }),
    ],
    at: "sidecar.istio.io/inject",
    no: [
      meshed,
      space("a") + pod("web", { labels: ", sidecar.istio.io/inject: 'false'" }),
      space("a", ISTIO) + pod("web", { spec: ", hostNetwork: true" }),
    ],
  });
  check(t, "mesh-opted-out", {
    yes: space("a", "", LINKERD) + pod("web", { annotations: "linkerd.io/inject: disabled" }),
    at: "linkerd.io/inject",
    no: [],
  });
  check(t, "mesh-opted-out", {
    yes: space("a", AMBIENT) + pod("web", { labels: ", istio.io/dataplane-mode: none" }),
    at: "istio.io/dataplane-mode",
    no: [],
  });
  check(t, "mesh-host-network", {
    yes: space("a", ISTIO) + pod("web", { spec: ", hostNetwork: true" }),
    at: "hostNetwork:",
    no: [meshed, space("a") + pod("web", { spec: ", hostNetwork: true" })],
  });
  const running = (containers: string) =>
    space("a", ISTIO) +
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: a}\n" +
    `spec: {containers: [${containers}]}\nstatus: {phase: Running}\n`;
  check(t, "mesh-sidecar-missing", {
    yes: running("{name: c}"),
    at: "containers:",
    no: [
      running("{name: c}, {name: istio-proxy}"),
      meshed, // as declared: the injector is yet to come
      running("{name: c}").replace(ISTIO, AMBIENT),
    ],
  });
});

t.test("Istio: PeerAuthentication", async (t) => {
  const narrow = (name: string, app: string, more: string) => pa(name, `{${of(app)}${more}}`);
  const ports = (port: number, value: string) => `, portLevelMtls: {${port}: {mode: ${value}}}`;
  const strictly = ", mtls: {mode: STRICT}";
  check(t, "istio-mtls-permissive", {
    yes: [
      pa("default", mode("PERMISSIVE")),
      narrow("p", "web", ", mtls: {mode: PERMISSIVE}"),
      narrow("p", "web", `${strictly}${ports(8080, "PERMISSIVE")}`),
    ],
    at: "mode: PERMISSIVE",
    no: [strict, pa("default", "{}"), pa("default", mode("UNSET"))],
  });
  check(t, "istio-mtls-disabled", {
    yes: [pa("default", mode("DISABLE")), narrow("p", "web", ports(8080, "DISABLE"))],
    at: "mode: DISABLE",
    no: strict,
  });
  const system = "namespace: istio-system";
  const meshWide = (value: string) => pa("m", mode(value)).replace("namespace: a", system);
  check(t, "istio-mtls-undeclared", {
    yes: [meshed, meshed + pa("p", mode("UNSET")), space("a", AMBIENT), space("a", ISTIO)],
    at: "name: a",
    no: [
      meshed + strict,
      meshed + pa("p", mode("PERMISSIVE")), // told as that
      meshed + meshWide("STRICT"),
      space("a") + pod("web"),
      meshed + narrow("p", "web", strictly),
      pod("gw", { labels: ", sidecar.istio.io/inject: 'true'" }).replace(
        "{name: c,",
        "{name: istio-proxy,",
      ),
    ],
  });
  const bare = pod("web", { labels: ", sidecar.istio.io/inject: 'true'" });
  check(t, "istio-mtls-undeclared", { yes: bare, at: "metadata:", no: bare + strict });
  // "oldest" by creationTimestamp (istio authentication.go)
  const dated = (name: string, day: number) =>
    pa(name, mode("STRICT"), `, creationTimestamp: "2026-01-0${day}T00:00:00Z"`);
  const shadow = run(dated("young", 2) + dated("old", 1)).findings;
  t.match(
    shadow[0]!.sentence,
    "PeerAuthentication a/young is passed over in namespace a: PeerAuthentication a/old is older",
  );
  check(t, "istio-peerauthentication-shadowed", {
    yes: [
      dated("young", 2) + dated("old", 1),
      narrow("y", "web", strictly) + narrow("x", "web", strictly),
      pod("web", { labels: ", tier: t" }) +
        narrow("y", "web", strictly) +
        pa("x", "{selector: {matchLabels: {tier: t}}}"),
    ],
    at: "name: y",
    no: [
      strict + narrow("x", "web", strictly),
      narrow("y", "web", strictly) + narrow("x", "db", strictly),
      meshWide("STRICT") + strict,
    ],
  });
  const inRoot = narrow("p", "web", strictly).replace("namespace: a", system);
  check(t, "istio-selector-in-root-namespace", {
    yes: inRoot,
    at: "selector:",
    no: [meshWide("STRICT"), narrow("p", "web", strictly)],
  });
  // ValidatePeerAuthentication: "mesh/namespace ... cannot have port level mTLS"
  check(t, "istio-port-mtls-without-selector", {
    yes: pa("p", "{portLevelMtls: {8080: {mode: STRICT}}}"),
    at: "portLevelMtls:",
    no: narrow("p", "web", ports(8080, "STRICT")),
  });
  check(t, "istio-port-mtls-service-port", {
    yes: meshed + service("web") + narrow("p", "web", ports(80, "STRICT")),
    at: "80:",
    no: [
      meshed + service("web") + narrow("p", "web", ports(8080, "STRICT")),
      meshed + narrow("p", "web", ports(80, "STRICT")), // unknown, and no Service's
    ],
  });
  check(t, "istio-port-mtls-unknown-port", {
    yes: meshed + narrow("p", "web", ports(9999, "STRICT")),
    at: "9999:",
    no: [
      meshed + narrow("p", "web", ports(8080, "STRICT")),
      pod("web", { ports: "[]" }) + narrow("p", "web", ports(9999, "STRICT")), // none is declared
      meshed +
        service("web", "{port: 80, targetPort: 9999}") +
        narrow("p", "web", ports(9999, "STRICT")),
    ],
  });
});

t.test("Istio: DestinationRule", async (t) => {
  const off = (host: string, value: string) =>
    rule("d", `{host: ${host}, trafficPolicy: {tls: {mode: ${value}}}}`);
  const web = meshed + service("web");
  const fqdn = "web.a.svc.cluster.local";
  const port =
    "{host: web, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}";
  const subset =
    "{host: web, subsets: [{name: v, labels: {app: web}, trafficPolicy: {tls: {mode: DISABLE}}}]}";
  check(t, "istio-destinationrule-breaks-strict", {
    yes: [
      web + strict + off("web", "DISABLE"),
      web + strict + off(fqdn, "SIMPLE"),
      web + strict + off("'*.local'", "DISABLE"),
      web + strict + off("'*'", "DISABLE"),
      web + strict + rule("d", port),
      web + strict + rule("d", subset),
    ],
    at: "mode:",
    no: [
      web + strict + off("web", "ISTIO_MUTUAL"),
      web + strict + off("web.a", "DISABLE"), // with a dot it is a whole name: no Service's
      web + strict + off("other.a.svc.cluster.local", "DISABLE"),
      web + strict + off("bank.example.com", "SIMPLE"),
      web + strict + rule("d", port.replace("80", "81")),
      web + strict + rule("d", subset.replace("app: web", "app: db")),
      web + off("web", "DISABLE"), // not STRICT: the next rule
    ],
  });
  check(t, "istio-destinationrule-no-mtls", {
    yes: web + rule("d", "{host: web, trafficPolicy: {tls: {sni: x}}}"), // DISABLE without a mode
    at: "tls:",
    no: [],
  });
  check(t, "istio-destinationrule-no-mtls", {
    yes: [web + off("web", "DISABLE"), web + off(fqdn, "MUTUAL")],
    at: "mode:",
    no: [
      web + off("web", "ISTIO_MUTUAL"),
      pod("web") + service("web") + off("web", "DISABLE"), // not in the mesh
      web + strict + off("web", "DISABLE"),
    ],
  });
  const bare =
    space("b") + pod("db", { namespace: "b" }) + service("db").replace("space: a", "space: b");
  const nearer = rule("e", "{host: db.b.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}");
  check(t, "istio-destinationrule-no-proxy", {
    // Which rule a client takes: istio.io, concepts/traffic-management; push_context.go.
    yes: [
      web + bare + off("'*'", "ISTIO_MUTUAL"),
      web + bare + off("'*'", "ISTIO_MUTUAL") + nearer.replace("space: a", "space: c"),
    ],
    at: "mode:",
    no: [
      web + bare + off("'*'", "ISTIO_MUTUAL") + nearer,
      web + bare + off("'*'", "DISABLE"),
      web + off("'*'", "ISTIO_MUTUAL"), // in the mesh
    ],
  });
});

t.test("Istio: AuthorizationPolicy", async (t) => {
  const allow = (rules: string, more = "") => authz("x", `{rules: [${rules}]${more}}`);
  const deny = (rules: string) => authz("x", `{action: DENY, rules: [${rules}]}`);
  const from = (source: string) => `{from: [{source: {${source}}}]}`;
  const to = (operation: string) => `{to: [{operation: {${operation}}}]}`;
  const principal = from("principals: [cluster.local/ns/a/sa/b]");
  check(t, "istio-authz-allow-all", {
    yes: [allow("{}"), allow("{to: [{operation: {ports: []}}]}")],
    at: "{",
    no: [allow(principal), allow(to("ports: ['80']")), deny("{}"), authz("x", "{}")],
  });
  check(t, "istio-authz-any-client", {
    yes: [allow(to("ports: ['80']")), allow("{when: [{key: destination.port, values: ['1']}]}")],
    at: "{",
    no: [allow(principal), allow("{when: [{key: source.principal, values: [x]}]}"), allow("{}")],
  });
  check(t, "istio-authz-any-client", {
    yes: allow(from("ipBlocks: [0.0.0.0/0]")),
    at: "ipBlocks:",
    no: allow(from("ipBlocks: [10.0.0.0/8]")),
  });
  check(t, "istio-authz-any-principal", {
    yes: [
      allow(from("principals: ['*']")),
      allow(from("principals: ['cluster.local/*']")),
      allow(from("principals: ['cluster.local/ns/*']")),
    ],
    at: "principals:",
    no: [
      allow(from("principals: ['cluster.local/ns/a/*']")),
      allow(principal),
      deny(from("principals: ['*']")),
    ],
  });
  check(t, "istio-authz-denies-all", {
    yes: [authz("x", "{}"), authz("x", `{${of("web")}, action: ALLOW}`)],
    at: "spec:",
    no: [allow("{}"), authz("x", "{action: DENY}")],
  });
  check(t, "istio-authz-negated-identity", {
    yes: allow(from("notPrincipals: [cluster.local/ns/b/sa/c]")),
    at: "notPrincipals:",
    no: [deny(from("notPrincipals: ['*']")), allow(principal)],
  });
  check(t, "istio-authz-identity-bypass", {
    yes: [meshed + deny(from("principals: [x]")), meshed + deny(from("principals: ['*']"))],
    at: "principals:",
    no: [
      meshed + strict + deny(from("principals: [x]")),
      meshed + deny(from("notPrincipals: ['*']")),
      meshed + allow(principal),
      pod("web") + space("a", "istio-injection: disabled") + deny(from("principals: [x]")),
    ],
  });
  check(t, "istio-authz-identity-optional", {
    yes: meshed + allow(principal),
    at: "principals:",
    no: [meshed + strict + allow(principal), allow(principal), meshed + allow("{}")],
  });
  // istio pilot/pkg/security/authz/model/generator.go: forTCP
  const tcp = service("web", "{name: tcp-web, port: 80, targetPort: 8080}");
  const get = to("methods: [GET]");
  check(t, "istio-authz-http-field-lost", {
    yes: [
      meshed + tcp + allow(get),
      meshed + tcp + deny(get),
      meshed + tcp + allow(to("methods: [GET], ports: ['8080']")),
    ],
    at: "methods:",
    no: [
      meshed + service("web") + allow(get), // read as HTTP
      meshed + allow(get), // found out by the bytes
      meshed + tcp + allow(to("methods: [GET], ports: ['81']")),
      meshed + tcp + allow(principal),
      meshed + tcp + allow("{when: [{key: connection.sni, values: [x]}]}"),
      meshed + tcp + allow(get, ", targetRefs: [{kind: Gateway, name: w}]"),
    ],
  });
  // istio ambient/authorization.go: handleRule, convertAuthorizationPolicy
  const ambient = space("a", AMBIENT) + pod("web");
  check(t, "istio-authz-http-field-lost", {
    yes: [
      ambient + allow(get),
      ambient + deny("{from: [{source: {principals: [x]}}], to: [{operation: {methods: [GET]}}]}"),
    ],
    at: "methods:",
    no: [ambient + deny(get), ambient + allow(to("ports: ['80']"))],
  });
  check(t, "istio-authz-ambient-no-effect", {
    yes: ambient + deny(get),
    at: "methods:",
    no: [
      ambient + deny(to("ports: ['80']")),
      meshed + deny(get),
      ambient + authz("x", "{action: DENY, targetRefs: [{kind: Service, name: w}], rules: [{}]}"),
    ],
  });
  check(t, "istio-authz-ambient-no-effect", {
    yes: [
      ambient + authz("x", "{action: CUSTOM, provider: {name: p}, rules: [{}]}"),
      ambient + authz("x", "{action: AUDIT, rules: [{}]}"),
    ],
    at: "action:",
    no: meshed + authz("x", "{action: AUDIT, rules: [{}]}"),
  });
  check(t, "istio-authz-dry-run", {
    yes: authz("x", "{action: DENY, rules: [{}]}", ", annotations: {istio.io/dry-run: 'true'}"),
    at: "istio.io/dry-run",
    no: authz("x", "{action: DENY, rules: [{}]}", ", annotations: {istio.io/dry-run: 'false'}"),
  });
});

t.test("Linkerd", async (t) => {
  const kind = (name: string) => object(name, "policy.linkerd.io/v1beta3");
  const server = (name: string, more = "", meta = "") =>
    kind("Server")(name, `{podSelector: {matchLabels: {app: web}}, port: 8080${more}}`, meta);
  const policy = (refs: string, target = "{group: policy.linkerd.io, kind: Server, name: s}") =>
    kind("AuthorizationPolicy")(
      "p",
      `{targetRef: ${target}, requiredAuthenticationRefs: [${refs}]}`,
    );
  const ref = (to: string, name: string) =>
    `{group: policy.linkerd.io, kind: ${to}, name: ${name}}`;
  const tls = (identity: string) =>
    kind("MeshTLSAuthentication")("m", `{identities: [${identity}]}`);
  const network = (cidr: string) =>
    kind("NetworkAuthentication")("n", `{networks: [{cidr: ${cidr}}]}`);
  const clients = (client: string, name = "s") =>
    kind("ServerAuthorization")("p", `{server: {name: ${name}}, client: ${client}}`);
  const key = "config.linkerd.io/default-inbound-policy";
  const inSpace = (policy: string) => space("a", "", `${LINKERD}, ${key}: ${policy}`);
  check(t, "linkerd-default-unauthenticated", {
    yes: [inSpace("all-unauthenticated"), inSpace("cluster-unauthenticated"), inSpace("audit")],
    at: key,
    no: [inSpace("all-authenticated"), inSpace("deny"), space("a")],
  });
  check(t, "linkerd-default-unauthenticated", {
    yes: space("a", "", LINKERD) + pod("web"), // charts/linkerd-control-plane/values.yaml
    at: "annotations:",
    no: inSpace("deny") + pod("web"),
  });
  const config = (policy: string) =>
    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: linkerd-config, namespace: linkerd}\n" +
    `data:\n  values: "proxy: {defaultInboundPolicy: ${policy}}"\n`;
  check(t, "linkerd-default-unauthenticated", {
    yes: config("all-unauthenticated"),
    at: "values:",
    no: config("all-authenticated"),
  });
  check(t, "linkerd-access-policy-unauthenticated", {
    yes: [server("s", ", accessPolicy: all-unauthenticated"), server("s", ", accessPolicy: audit")],
    at: "accessPolicy:",
    no: [server("s"), server("s", ", accessPolicy: all-authenticated")],
  });
  check(t, "linkerd-server-denies-all", {
    yes: [
      server("s"),
      server("s", ", accessPolicy: deny"),
      server("s") + clients("{unauthenticated: true}", "x"),
    ],
    at: "spec:",
    no: [
      server("s") + policy(ref("MeshTLSAuthentication", "m")) + tls("'*'"),
      server("s", ", accessPolicy: all-authenticated"),
      server("s") + clients("{meshTLS: {identities: ['*']}}"),
    ],
  });
  // index.rs: what an authentication is not found for is passed over
  check(t, "linkerd-dangling-reference", {
    yes: [
      server("s") + policy(ref("MeshTLSAuthentication", "m")),
      server("s") + policy(ref("NetworkAuthentication", "n")) + tls("x"),
      policy(ref("MeshTLSAuthentication", "m")) + tls("x"),
      clients("{unauthenticated: true}"),
    ],
    at: "name:",
    no: [
      server("s") + policy(ref("MeshTLSAuthentication", "m")) + tls("x"),
      policy(ref("MeshTLSAuthentication", "m"), "{kind: Namespace, name: a}") + tls("x"),
      server("s") + policy("{kind: ServiceAccount, name: b}"),
      server("s") + clients("{unauthenticated: true}"),
    ],
  });
  // reindex_servers of index.rs: the oldest, then the name
  const dated = (name: string, day: number) =>
    server(name, "", `, creationTimestamp: "2026-01-0${day}T00:00:00Z"`);
  const web = pod("web");
  const named = kind("Server")("y", "{podSelector: {}, port: web}");
  check(t, "linkerd-server-shadowed", {
    yes: [web + dated("y", 2) + dated("z", 1), web + server("x") + named],
    at: "name: y",
    no: [web + server("x"), web + server("x") + server("y").replace("8080", "8081")],
  });
  check(t, "linkerd-any-identity", {
    yes: [tls("'*'"), clients("{meshTLS: {identities: ['*']}}")],
    at: "'*'",
    no: [tls("'*.a.serviceaccount.identity.linkerd.cluster.local'"), tls("x")],
  });
  check(t, "linkerd-unauthenticated-client", {
    yes: [
      server("s") + policy(""),
      server("s") + policy(ref("NetworkAuthentication", "n")) + network("0.0.0.0/0"),
    ],
    at: "requiredAuthenticationRefs:",
    no: [
      server("s") +
        policy([ref("NetworkAuthentication", "n"), ref("MeshTLSAuthentication", "m")].join()) +
        (network("0.0.0.0/0") + tls("x")),
      clients("{meshTLS: {identities: [x]}}"),
    ],
  });
  check(t, "linkerd-unauthenticated-client", {
    yes: [clients("{unauthenticated: true}"), clients("{meshTLS: {unauthenticatedTLS: true}}")],
    at: "unauthenticated",
    no: [],
  });
});

t.test("Consul", async (t) => {
  const crd = (kind: string, name: string, spec: string) =>
    object(kind, "consul.hashicorp.com/v1alpha1")(name, spec);
  const intention = (source: string, action: string, to = "db") =>
    crd(
      "ServiceIntentions",
      "i",
      `{destination: {name: ${to}}, sources: [{name: ${source}, action: ${action}}]}`,
    );
  check(t, "consul-wildcard-allow", {
    yes: [intention("'*'", "allow"), intention("'*'", "allow", "'*'")],
    at: "action: allow",
    no: [intention("'*'", "deny"), intention("web", "allow")],
  });
  const entry = JSON.stringify(
    { Kind: "service-intentions", Name: "db", Sources: [{ Name: "*", Action: "allow" }] },
    null,
    1,
  );
  t.strictSame(placesOf(entry, "consul-wildcard-allow", 8, null), ['"Action"'], "the API's entry");
  check(t, "consul-mtls-permissive", {
    yes: [
      crd("ServiceDefaults", "db", "{mutualTLSMode: permissive}"),
      crd("ProxyDefaults", "global", "{mutualTLSMode: permissive}"),
    ],
    at: "mutualTLSMode:",
    no: [
      crd("ServiceDefaults", "db", "{mutualTLSMode: strict}"),
      crd("ServiceDefaults", "db", "{}"),
    ],
  });
  check(t, "consul-permissive-allowed", {
    yes: crd("Mesh", "mesh", "{allowEnablingPermissiveMutualTLS: true}"),
    at: "allowEnablingPermissiveMutualTLS:",
    no: crd("Mesh", "mesh", "{allowEnablingPermissiveMutualTLS: false}"),
  });
  const servers = (json: string) =>
    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: consul-server-config, namespace: consul}\n" +
    `data:\n  server.json: '{}'\n  x.json: '${json}'\n`;
  check(t, "consul-default-allow", {
    yes: [
      servers('{"default_intention_policy": "allow"}'),
      servers('{"acl": {"enabled": true, "default_policy": "allow"}}'),
    ],
    at: "x.json:",
    no: [
      servers('{"default_intention_policy": "deny"}'),
      servers('{"acl": {"enabled": true, "default_policy": "deny"}}'),
      intention("web", "allow"), // nothing declares it
    ],
  });
  const incoming = (version: string) =>
    crd("Mesh", "mesh", `{tls: {incoming: {tlsMinVersion: ${version}}}}`);
  check(t, "consul-weak-tls-version", {
    yes: [incoming("TLSv1_0"), incoming("TLSv1_1")],
    at: "tlsMinVersion:",
    no: [incoming("TLSv1_2"), incoming("TLS_AUTO")],
  });
  check(t, "consul-exposed-path", {
    yes: crd(
      "ServiceDefaults",
      "db",
      "{expose: {paths: [{path: /m, listenerPort: 1, localPathPort: 2}]}}",
    ),
    at: "{path: /m",
    no: crd("ServiceDefaults", "db", "{expose: {checks: true}}"),
  });
});

t.test("every rule is tested", async (t) => {
  t.strictSame(untested(/^(mesh|istio|linkerd|consul)-/), []);
});
