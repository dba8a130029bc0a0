/**
 * Tests what Linkerd's policies require. Each case names where its truth stands: `index` is
 * linkerd2 policy-controller/k8s/index/src/inbound (index.rs and its tests), `admission` is
 * policy-controller/runtime/src/admission.rs, `proxy` is linkerd2-proxy linkerd/app/inbound/src,
 * `chart` is charts/linkerd-control-plane/values.yaml.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { parsePorts } from "../../collector/policy/mesh/linkerd/settings.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { runAllowed, runExplain } from "../../collector/policy/answer/policy-command.ts";
import { formatProblem } from "../../collector/policy/manifest/problem.ts";
import { end, expectOf, inBand, read, wire } from "./manifests.ts";

type Options = { annotations?: string; labels?: string; spec?: string; ip?: string };

const pod = (name: string, { annotations = "", labels = "", spec = "", ip }: Options = {}) =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name.split("/")[1]}, ` +
  `namespace: ${name.split("/")[0]}, labels: {app: ${name.split("/")[1]}${labels}}, annotations: ` +
  `{linkerd.io/inject: enabled${annotations}}}, spec: {serviceAccountName: ` +
  `${name.split("/")[1]}, containers: [{name: c, ports: [{name: web, containerPort: 8080}]` +
  `${spec}}]}${ip === undefined ? "" : `, status: {podIP: ${ip}}`}}\n`;

const object = (kind: string, name: string, spec: string, more = "") =>
  `---\n{apiVersion: policy.linkerd.io/v1alpha1, kind: ${kind}, metadata: {name: ` +
  `${name.split("/")[1]}, namespace: ${name.split("/")[0]}${more}}, spec: ${spec}}\n`;

/** `a/srv`: selects a/y on its named port. */
const server = (spec = "", name = "a/srv", more = "") =>
  object("Server", name, `{podSelector: {matchLabels: {app: y}}, port: web${spec}}`, more);

const policy = (refs: string, target = "{group: policy.linkerd.io, kind: Server, name: srv}") =>
  object(
    "AuthorizationPolicy",
    "a/authz",
    `{targetRef: ${target}, requiredAuthenticationRefs: [${refs}]}`,
  );
const MESH_REF = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: mesh}";
const NET_REF = "{group: policy.linkerd.io, kind: NetworkAuthentication, name: net}";
const mesh = (spec: string) => object("MeshTLSAuthentication", "a/mesh", spec);
const net = (networks: string) =>
  object("NetworkAuthentication", "a/net", `{networks: [${networks}]}`);

const UNMESHED =
  "---\n{apiVersion: v1, kind: Pod, metadata: {name: u, namespace: a, annotations: " +
  "{linkerd.io/inject: disabled}}, spec: {containers: [{name: c}]}}\n";
const PODS = pod("a/x") + pod("a/y") + pod("b/z") + UNMESHED;
const CONFIG = (values: string, namespace = "linkerd") =>
  `---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: linkerd-config, namespace: ${namespace}}\n` +
  `data:\n  values: |\n    ${values.replaceAll("\n", "\n    ")}\n`;

/** charts/linkerd-control-plane/templates/destination.yaml (2.18), as far as it shows where it is. */
const DESTINATION = (namespace: string) =>
  "---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: linkerd-destination, namespace: " +
  `${namespace}}, spec: {template: {spec: {containers: [{name: policy, args: ` +
  `[--control-plane-namespace=${namespace}]}]}}}}\n`;

const ask = (text: string, from: string, to = "a/y", port = 8080) => expectOf(text, from, to, port);

t.test("default policies (index defaults.rs, tests/annotation.rs)", async (t) => {
  const annotated = (value: string, more = "") =>
    pod("a/x", { ip: "10.0.0.1" }) +
    UNMESHED +
    pod("a/y", { annotations: `, config.linkerd.io/default-inbound-policy: ${value}${more}` });
  const open = ask(PODS, "a/x");
  t.equal(open.path, "undeclared", "nothing but Linkerd's own default");
  t.equal(wire(open), "any +++");
  t.equal(ask(annotated("all-unauthenticated"), "a/u").path, "allowed");
  t.equal(wire(ask(annotated("all-unauthenticated"), "a/u")), "any +++");
  t.equal(ask(annotated("audit"), "192.0.2.1").path, "allowed", "audit lets through, and logs");
  const strict = ask(annotated("all-authenticated"), "a/x");
  t.equal(strict.path, "allowed");
  t.equal(wire(strict), "mtls --+");
  t.match(strict.transportBecause[0]!.rule, /default-inbound-policy/);
  t.ok(inBand(ask(annotated("all-authenticated"), "a/u")), "HTTP is answered with 403");
  t.equal(ask(annotated("cluster-authenticated"), "a/x").path, "allowed");
  t.equal(wire(ask(annotated("cluster-authenticated"), "a/x")), "mtls --+");
  t.equal(ask(annotated("cluster-unauthenticated"), "10.9.0.1").path, "allowed");
  t.equal(wire(ask(annotated("cluster-unauthenticated"), "10.9.0.1")), "any +++");
  const outside = ask(annotated("cluster-unauthenticated"), "192.0.2.1");
  t.ok(inBand(outside));
  t.equal(wire(outside), "null --?", "inside of mutual TLS the answer cannot be read");
  const denied = ask(annotated("deny"), "a/x");
  t.ok(inBand(denied));
  t.equal(wire(denied), "null --?");
  const opaque = annotated("deny", ', config.linkerd.io/opaque-ports: "8080"');
  t.equal(ask(opaque, "a/x").path, "denied", "an opaque port closes the connection");
  t.equal(wire(ask(opaque, "a/x")), "null ---");
  t.match(ask(opaque, "a/x").pathBecause[0]!.sentence, /^denied: .*deny, and it authorizes nobody/);
  // The control plane falls back to the cluster's default; what was meant is not known.
  const bogus = ask(annotated("bogus"), "a/x");
  t.equal(bogus.path, "undecidable");
  t.equal(wire(bogus), "null ???");
});

t.test("where the default policy comes from (proxy-injector webhook, chart)", async (t) => {
  const strict = "config.linkerd.io/default-inbound-policy: all-authenticated";
  const space = `---\n{apiVersion: v1, kind: Namespace, metadata: {name: a, annotations: {${strict}}}}\n`;
  t.equal(wire(ask(PODS + space, "a/x")), "mtls --+", "a pod inherits its namespace's");
  const running = pod("a/y").replace("name: c,", "name: linkerd-proxy,");
  t.equal(
    wire(ask(pod("a/x") + running + space, "a/x")),
    "any +++",
    "a pod that runs already keeps what it was made with",
  );
  const own = pod("a/y", { annotations: ", config.linkerd.io/default-inbound-policy: deny" });
  t.equal(wire(ask(pod("a/x") + own + space, "a/x")), "null --?", "the pod's own comes first");
  const config = CONFIG("proxy:\n  defaultInboundPolicy: all-authenticated");
  const wide = ask(PODS + config, "a/x");
  t.equal(wire(wide), "mtls --+");
  t.match(wide.transportBecause[0], { kind: "ConfigMap", name: "linkerd-config" });
  t.equal(wire(ask(pod("a/x") + pod("a/y") + CONFIG("a: ["), "a/x")), "null ???", "unreadable");
  const flags =
    "---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: linkerd-destination, namespace: " +
    "linkerd}, spec: {template: {spec: {containers: [{name: policy, args: " +
    "[--control-plane-namespace=linkerd, --default-policy=deny]}]}}}}\n";
  t.equal(wire(ask(PODS + config + flags, "a/x")), "null --?", "the flags are what runs");
  const env = pod("a/y").replace(
    "name: c,",
    "name: linkerd-proxy, env: [{name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY, value: deny}],",
  );
  t.equal(wire(ask(pod("a/x") + env, "a/x")), "null --?", "what the injector wrote");
});

t.test("proxy-require-identity-inbound-ports (index tests/annotation.rs)", async (t) => {
  const named = "config.linkerd.io/proxy-require-identity-inbound-ports";
  const required = (policyName: string, ports: string) =>
    pod("a/x") +
    UNMESHED +
    pod("a/y", {
      annotations: `, config.linkerd.io/default-inbound-policy: ${policyName}, ${named}: "${ports}"`,
    });
  t.equal(wire(ask(required("all-unauthenticated", "8080"), "a/x")), "mtls --+");
  t.equal(wire(ask(required("all-unauthenticated", "80,9000-9001"), "a/x")), "any +++");
  t.equal(wire(ask(required("cluster-unauthenticated", "8000-8100"), "a/x")), "mtls --+");
  t.equal(wire(ask(required("audit", "8080"), "a/x")), "any +++", "audit is not upgraded");
  t.equal(wire(ask(required("deny", "8080"), "a/x")), "null --?");
  t.equal(wire(ask(required("all-unauthenticated", "web"), "a/x")), "null ???", "no ports");
  t.equal(wire(ask(required("all-authenticated", "web"), "a/x")), "mtls --+", "no matter");
});

t.test("port lists (index ports.rs)", async (t) => {
  t.strictSame(parsePorts(""), []);
  t.strictSame(parsePorts("1"), [[1, 1]]);
  t.strictSame(parsePorts("4,1-2"), [
    [4, 4],
    [1, 2],
  ]);
  for (const wrong of ["0", "2-1", "2-", "65537", "web"]) t.equal(parsePorts(wrong), null, wrong);
});

t.test("a Server denies what nothing authorizes (index, tests/server.rs)", async (t) => {
  const closed = ask(PODS + server(), "a/x");
  t.ok(inBand(closed));
  t.match(closed.pathBecause[0], { kind: "Server", namespace: "a", name: "srv" });
  t.equal(ask(PODS + server(", proxyProtocol: opaque"), "a/x").path, "denied");
  t.equal(ask(PODS + server(", proxyProtocol: TLS"), "a/x").path, "denied");
  for (const protocol of ["HTTP/1", "HTTP/2", "gRPC", "unknown"]) {
    t.ok(inBand(ask(PODS + server(`, proxyProtocol: ${protocol}`), "a/x")), protocol);
  }
  t.equal(ask(PODS + server(), "a/x", "a/y", 9090).path, "undeclared", "another port");
  t.equal(ask(PODS + server(), "b/z", "a/x").path, "undeclared", "another pod");
  const access = ask(PODS + server(", accessPolicy: all-authenticated"), "b/z");
  t.equal(access.path, "allowed");
  t.equal(access.pathBecause[0]!.rule, "spec.accessPolicy");
  t.equal(wire(access), "mtls --+");
  t.equal(wire(ask(PODS + server(", accessPolicy: audit"), "a/u")), "any +++");
  const numbered = object("Server", "a/srv", "{podSelector: {}, port: 8080, proxyProtocol: TLS}");
  t.equal(ask(PODS + numbered, "b/z").path, "denied", "an empty selector takes every pod");
  const other = object("Server", "b/srv", "{podSelector: {}, port: 8080, proxyProtocol: TLS}");
  t.equal(ask(PODS + other, "b/z").path, "undeclared", "a Server is its own namespace's");
  const external = object("Server", "a/e", "{externalWorkloadSelector: {}, port: 8080}");
  t.equal(ask(PODS + external, "b/z").path, "undeclared");
});

t.test("of several Servers the oldest, then the first by name (index.rs)", async (t) => {
  const at = (day: number) => `, creationTimestamp: "2026-01-0${day}T00:00:00Z"`;
  const open = ", accessPolicy: all-unauthenticated";
  const shut = ", proxyProtocol: opaque";
  t.equal(
    ask(PODS + server(open, "a/z", at(1)) + server(shut, "a/b", at(2)), "a/x").path,
    "allowed",
  );
  t.equal(
    ask(PODS + server(open, "a/z", at(2)) + server(shut, "a/b", at(1)), "a/x").path,
    "denied",
  );
  t.equal(ask(PODS + server(open, "a/z") + server(shut, "a/b"), "a/x").path, "denied", "by name");
});

t.test("AuthorizationPolicy and its authentications (index policy_client_authz)", async (t) => {
  const srv = server(", proxyProtocol: opaque");
  const all = mesh('{identities: ["*"]}');
  t.equal(ask(PODS + srv + policy(MESH_REF) + all, "b/z").path, "allowed", "any meshed client");
  t.equal(ask(PODS + srv + policy(MESH_REF) + all, "a/u").path, "denied", "no identity");
  t.equal(wire(ask(PODS + srv + policy(MESH_REF) + all, "b/z")), "mtls --+");
  const exact = mesh("{identities: [z.b.serviceaccount.identity.linkerd.cluster.local]}");
  t.equal(ask(PODS + srv + policy(MESH_REF) + exact, "b/z").path, "allowed");
  t.equal(ask(PODS + srv + policy(MESH_REF) + exact, "a/x").path, "denied");
  const suffix = mesh('{identities: ["*.b.serviceaccount.identity.linkerd.cluster.local"]}');
  t.equal(ask(PODS + srv + policy(MESH_REF) + suffix, "b/z").path, "allowed");
  t.equal(ask(PODS + srv + policy(MESH_REF) + suffix, "a/x").path, "denied");
  const spiffe = mesh('{identities: ["spiffe://cluster.local/z"]}');
  t.equal(ask(PODS + srv + policy(MESH_REF) + spiffe, "b/z").path, "denied");
  const stars = mesh('{identities: ["*.*.serviceaccount.identity.linkerd.cluster.local"]}');
  const known = CONFIG("identityTrustDomain: cluster.local");
  t.equal(
    ask(PODS + srv + policy(MESH_REF) + stars + known, "b/z").path,
    "denied",
    "the second star is a letter (core identity_match.rs)",
  );
  const account = mesh("{identityRefs: [{kind: ServiceAccount, name: z, namespace: b}]}");
  t.equal(ask(PODS + srv + policy(MESH_REF) + account, "b/z").path, "allowed");
  t.equal(ask(PODS + srv + policy(MESH_REF) + account, "a/x").path, "denied");
  const space = mesh("{identityRefs: [{kind: Namespace, name: b}]}");
  t.equal(ask(PODS + srv + policy(MESH_REF) + space, "b/z").path, "allowed");
  t.equal(ask(PODS + srv + policy(MESH_REF) + space, "a/x").path, "denied");
  const direct = policy("{kind: ServiceAccount, name: x}");
  t.equal(ask(PODS + srv + direct, "a/x").path, "allowed", "of the policy's own namespace");
  t.equal(ask(PODS + srv + direct, "b/z").path, "denied");
  const everybody = ask(PODS + srv + policy(""), "192.0.2.1");
  t.equal(everybody.path, "allowed", "no reference asks for nothing");
  t.equal(wire(everybody), "any +++");
  const byNamespace = policy("", "{kind: Namespace, name: a}");
  t.equal(ask(PODS + srv + byNamespace, "192.0.2.1").path, "allowed");
  const another = policy("", "{group: policy.linkerd.io, kind: Server, name: other}");
  t.equal(ask(PODS + srv + another, "192.0.2.1").path, "denied");
});

t.test("a policy with a dangling reference is passed over (index.rs)", async (t) => {
  const dangling = ask(PODS + server(", proxyProtocol: opaque") + policy(MESH_REF), "b/z");
  t.equal(dangling.path, "denied");
  t.match(dangling.pathBecause.at(-1)!.sentence, /passed over: there is no MeshTLSAuth.* a\/mesh/);
});

t.test("networks and identities hold together (index.rs)", async (t) => {
  const srv = server(", proxyProtocol: opaque");
  const near = net("{cidr: 10.1.0.0/16, except: [10.1.9.0/24]}");
  const both = srv + policy(`${MESH_REF}, ${NET_REF}`) + mesh('{identities: ["*"]}') + near;
  const from = (ip: string) => ask(pod("a/x", { ip }) + pod("a/y") + both, "a/x").path;
  t.equal(from("10.1.0.4"), "allowed");
  t.equal(from("10.1.9.4"), "denied", "except");
  t.equal(from("10.2.0.4"), "denied");
  t.equal(ask(PODS + both, "a/x").path, "undecidable", "a pod whose address is not known");
  const only = srv + policy(NET_REF) + near;
  t.equal(ask(PODS + only, "10.1.0.4").path, "allowed");
  t.equal(wire(ask(PODS + only, "10.1.0.4")), "any +++");
  t.equal(ask(PODS + only, "10.2.0.4").path, "denied");
  t.equal(wire(ask(PODS + only, "10.2.0.4")), "null ---");
  const single = srv + policy(NET_REF) + net("{cidr: 10.1.0.4}");
  t.equal(ask(PODS + single, "10.1.0.4").path, "allowed", "an address is a range of one");
  const whole = srv + policy(NET_REF) + net('{cidr: 0.0.0.0/0}, {cidr: "::/0"}');
  t.equal(ask(PODS + whole, "a/x").path, "allowed", "whatever its address is");
});

t.test("ServerAuthorization (index server_authorization.rs)", async (t) => {
  const saz = (client: string, of = "{name: srv}") =>
    object("ServerAuthorization", "a/saz", `{server: ${of}, client: ${client}}`);
  const srv = server(", proxyProtocol: opaque", "a/srv", ", labels: {tier: back}");
  const ANY = 'networks: [{cidr: 0.0.0.0/0}, {cidr: "::/0"}]';
  t.equal(ask(PODS + srv + saz(`{unauthenticated: true, ${ANY}}`), "192.0.2.1").path, "allowed");
  t.equal(
    ask(PODS + srv + saz("{unauthenticated: true}"), "192.0.2.1").path,
    "denied",
    "without networks: the cluster's own (policy-controller/grpc/src/inbound.rs)",
  );
  t.equal(ask(PODS + srv + saz("{unauthenticated: true}"), "a/u").path, "allowed");
  const tls = saz("{meshTLS: {unauthenticatedTLS: true}}");
  t.equal(ask(PODS + srv + tls, "a/x").path, "allowed");
  t.equal(wire(ask(PODS + srv + tls, "a/x")), "tls -?+", "the mesh's TLS, with a name or not");
  const ids = saz('{meshTLS: {identities: ["*.b.serviceaccount.identity.linkerd.cluster.local"]}}');
  t.equal(ask(PODS + srv + ids, "b/z").path, "allowed");
  t.equal(ask(PODS + srv + ids, "a/x").path, "denied");
  const accounts = saz("{meshTLS: {serviceAccounts: [{name: x}, {name: z, namespace: b}]}}");
  t.equal(ask(PODS + srv + accounts, "a/x").path, "allowed");
  t.equal(ask(PODS + srv + accounts, "b/z").path, "allowed");
  t.equal(ask(PODS + srv + accounts, "a/u").path, "denied");
  const open = `{unauthenticated: true, ${ANY}}`;
  const labelled = saz(open, "{selector: {matchLabels: {tier: back}}}");
  t.equal(ask(PODS + srv + labelled, "a/u").path, "allowed", "by the Server's labels");
  const others = saz(open, "{selector: {matchLabels: {tier: front}}}");
  t.equal(ask(PODS + srv + others, "a/u").path, "denied");
});

t.test("identities follow the control plane's namespace and trust domain", async (t) => {
  const srv = server(", proxyProtocol: opaque") + policy(MESH_REF);
  const east = mesh("{identities: [z.b.serviceaccount.identity.l5d.east.example]}");
  const config = CONFIG("identityTrustDomain: east.example", "l5d") + DESTINATION("l5d");
  t.equal(ask(PODS + srv + east + config, "b/z").path, "allowed");
  t.equal(
    ask(PODS + srv + east, "b/z").path,
    "undecidable",
    "the same account, in a domain that nothing declares",
  );
  t.equal(ask(PODS + srv + east, "a/x").path, "denied", "another account in any domain");
  const flags = CONFIG("clusterDomain: east.example", "l5d") + DESTINATION("l5d");
  t.equal(ask(PODS + srv + east + flags, "b/z").path, "allowed", "by default the cluster's");
});

t.test("routes: what they authorize stands inside the requests (index http_routes)", async (t) => {
  const route =
    "---\n{apiVersion: policy.linkerd.io/v1beta3, kind: HTTPRoute, metadata: {name: r, namespace: a}" +
    ", spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: srv}]}}\n";
  const target = "{group: policy.linkerd.io, kind: HTTPRoute, name: r}";
  const on = policy("{kind: ServiceAccount, name: z, namespace: b}", target);
  const asked = ask(PODS + server() + route + on, "b/z");
  t.equal(asked.path, "undecidable");
  t.match(asked.pathBecause[0]!.sentence, /lets b\/z.* use a route/);
  t.equal(wire(asked), "mtls --?");
  t.ok(inBand(ask(PODS + server() + route + on, "a/x")), "no route lets it in");
  t.ok(inBand(ask(PODS + server() + on, "b/z")), "a route that is not bound counts for nothing");
  const whole = server(", accessPolicy: all-authenticated");
  t.equal(ask(PODS + whole + route + on, "a/x").path, "allowed", "what holds for all routes");
  const gateway = route.replace("policy.linkerd.io/v1beta3", "gateway.networking.k8s.io/v1");
  t.ok(inBand(ask(PODS + server() + gateway + on, "b/z")), "a route of another group");
});

t.test(
  "the kubelet's probes are let in by their paths (index default_inbound_http_routes)",
  async (t) => {
    const node = "---\n{apiVersion: v1, kind: Node, metadata: {name: n}}\n";
    const probed = pod("a/y", { spec: ", readinessProbe: {httpGet: {path: /ready, port: web}}" });
    const from = (text: string) => {
      const declared = read(text);
      const client = {
        ...end(declared, "a/y"),
        ...{
          kind: "node" as const,
          name: "n",
          namespace: "",
          workload: null,
          addresses: ["10.0.0.9"],
        },
      };
      return new Policy(declared.objects).expect(client, end(declared, "a/y"), 8080, "TCP", 0);
    };
    const probe = from(node + probed + server());
    t.equal(probe.path, "allowed");
    t.match(probe.pathBecause[0]!.sentence, /a probe of port 8080 that the manifest/);
    t.equal(wire(probe), "any +-?");
    t.ok(inBand(from(node + pod("a/y") + server())), "no probe is declared");
    t.ok(inBand(ask(probed + pod("a/x") + server(), "a/x")), "pods send no probes");
    t.equal(ask(probed + server(), "192.0.2.1").path, "undecidable", "perhaps a node's address");
    t.equal(wire(ask(probed + server(), "192.0.2.1")), "null ?-?");
    const config = CONFIG('policyController:\n  probeNetworks: ["192.168.0.0/16"]');
    t.ok(inBand(from(node + probed + server() + config)), "not from the networks of probes");
    const route =
      "---\n{apiVersion: policy.linkerd.io/v1beta3, kind: HTTPRoute, metadata: {name: r, namespace: a}" +
      ", spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: srv}]}}\n";
    t.ok(inBand(from(node + probed + server() + route)), "routes of its own take their place");
    t.equal(from(node + probed + server(", proxyProtocol: opaque")).path, "denied", "no HTTP");
  },
);

t.test("ports and networks that are kept from the proxy (chart, proxy-init)", async (t) => {
  const skip = (annotations: string) => pod("a/x") + UNMESHED + pod("a/y", { annotations });
  const strict = ", config.linkerd.io/default-inbound-policy: deny";
  const skipped = ask(skip(`${strict}, config.linkerd.io/skip-inbound-ports: "8000-8100"`), "a/u");
  t.equal(skipped.path, "undeclared");
  t.equal(wire(skipped), "any +++");
  t.match(skipped.transportBecause[0], {
    kind: "Pod",
    rule: "annotation config.linkerd.io/skip-inbound-ports",
  });
  t.equal(wire(ask(skip(strict), "a/u", "a/y", 4567)), "any +++", "Galera's, by the chart");
  t.equal(wire(ask(skip(strict), "a/u", "a/y", 4191)), "null --?", "metrics are under policy");
  t.equal(ask(skip(strict), "a/u", "a/y", 4190).path, "undecidable");
  const wrong = ask(skip(`${strict}, config.linkerd.io/skip-inbound-ports: web`), "a/u");
  t.equal(wire(wrong), "null ???");
  const nets = skip(`${strict}, config.linkerd.io/skip-subnets: 192.0.2.0/24`);
  t.equal(wire(ask(nets, "192.0.2.1")), "any +++");
  t.equal(wire(ask(nets, "198.51.100.1")), "null --?");
  t.equal(wire(ask(nets, "a/x")), "null ???", "an address that is not known");
  const init = pod("a/y", { annotations: strict }).replace(
    "containers: [",
    "initContainers: [{name: linkerd-init, args: [--inbound-ports-to-ignore, '4190,4191,8080']}], " +
      "containers: [",
  );
  t.equal(wire(ask(init + UNMESHED, "a/u")), "any +++", "what the packet filter was told");
});

t.test("a client that skips its proxy proves nothing (chart skip-outbound-ports)", async (t) => {
  const srv = server(", proxyProtocol: opaque") + policy(MESH_REF) + mesh('{identities: ["*"]}');
  const from = (ports: string) =>
    pod("a/x", { annotations: `, config.linkerd.io/skip-outbound-ports: "${ports}"` });
  const service =
    "---\n{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: " +
    "{selector: {app: y}, ports: [{port: 80, targetPort: web}]}}\n";
  t.equal(ask(from("8080") + pod("a/y") + srv, "a/x").path, "denied");
  t.equal(ask(from("9090") + pod("a/y") + srv, "a/x").path, "allowed");
  t.equal(
    ask(from("80") + pod("a/y") + service + srv, "a/x").path,
    "undecidable",
    "by the Service it skips, by the pod's address it does not",
  );
});

t.test("the proxy's own port takes identities only (proxy direct.rs)", async (t) => {
  const strict = PODS + server(", proxyProtocol: opaque, accessPolicy: all-authenticated");
  const tunnel = ask(strict, "a/x", "a/y", 4143);
  t.equal(tunnel.path, "allowed", "the one port that is declared says so");
  t.equal(wire(tunnel), "mtls --+");
  t.equal(ask(strict, "a/u", "a/y", 4143).path, "denied");
  const two = strict + object("Server", "a/two", "{podSelector: {}, port: 9000}");
  t.equal(ask(two, "a/x", "a/y", 4143).path, "undecidable", "its ports disagree");
  const moved =
    pod("a/x") + pod("a/y", { annotations: ", config.linkerd.io/inbound-port: '5143'" });
  t.equal(wire(ask(moved, "a/x", "a/y", 5143)), "mtls --+");
});

t.test("which port meshed clients dial (blog 2.18; linkerd2 5d0275e)", async (t) => {
  const told = (values: string) =>
    ask(PODS + CONFIG(values), "a/x")
      .transportBecause.map((b) => b.sentence)
      .join("\n");
  t.match(told("proxy:\n  outboundTransportMode: transport-header"), /the proxy's port 4143/);
  t.match(told("proxy:\n  outboundTransportMode: transparent"), /on that port itself/);
  t.match(told("linkerdVersion: stable-2.14.10"), /on that port itself \(transparent\)/);
  t.notMatch(
    ask(PODS, "a/x")
      .transportBecause.map((b) => b.sentence)
      .join(),
    /meshed clients/,
  );
});

t.test("who is meshed (linkerd.io/inject)", async (t) => {
  const plain = (name: string, annotations = "") =>
    pod(name).replace("linkerd.io/inject: enabled", annotations);
  const space = (value: string) =>
    `---\n{apiVersion: v1, kind: Namespace, metadata: {name: a, annotations: {linkerd.io/inject: ` +
    `${value}}}}\n`;
  const srv = server(", proxyProtocol: opaque, accessPolicy: all-authenticated");
  t.equal(wire(ask(plain("a/y") + space("ingress"), "192.0.2.1")), "any +++");
  t.equal(wire(ask(plain("a/y"), "192.0.2.1")), "null ???", "nothing shows a mesh");
  t.equal(wire(ask(plain("a/y") + srv, "192.0.2.1")), "mtls --+", "a Server selects it");
  t.equal(wire(ask(plain("a/y") + srv + space("disabled"), "192.0.2.1")), "null ???");
  t.equal(ask(plain("a/x") + pod("a/y") + srv, "a/x").path, "undecidable", "perhaps meshed");
});

t.test("wrong fields are told, and weaken nothing (admission)", async (t) => {
  const wrong: [string, string][] = [
    [server(", portt: 1"), "spec: unknown field portt"],
    [object("Server", "a/srv", "{port: 80}"), "needs podSelector or externalWorkloadSelector"],
    [server(", accessPolicy: open"), "must be one of all-authenticated|wrong type"],
    [server(", proxyProtocol: HTTP"), "wrong type, or one that is not allowed"],
    [policy(`${MESH_REF}, {kind: ServiceAccount, name: x}`), "only one MeshTLSAuthentication"],
    [policy(`${NET_REF}, ${NET_REF}`), "only one NetworkAuthentication"],
    [policy("{kind: Secret, name: x}"), "no authentication of Linkerd's"],
    [policy("", "{kind: Namespace, name: b}"), "must be the policy's own namespace"],
    [policy("", "{kind: Service, name: b}"), "is no target of Linkerd's"],
    [mesh("{}"), "needs identities or identityRefs"],
    [mesh("{identityRefs: [{kind: Pod, name: b}]}"), "must be a ServiceAccount or a Namespace"],
    [net(""), "needs an entry"],
    [net("{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}"), "inside cidr"],
    [net("{cidr: ten}"), "must be an address range"],
  ];
  for (const [text, reason] of wrong) {
    const { problems } = read(text);
    t.match(problems.map(formatProblem).join("\n"), new RegExp(reason), reason);
  }
  const saz = (client: string) =>
    object("ServerAuthorization", "a/saz", `{server: {name: srv}, client: ${client}}`);
  for (const client of [
    "{}",
    "{unauthenticated: true, meshTLS: {unauthenticatedTLS: true}}",
    "{meshTLS: {}}",
    "{meshTLS: {unauthenticatedTLS: true, identities: [a]}}",
  ]) {
    t.equal(read(saz(client)).problems.length, 1, client);
    const srv = server(", proxyProtocol: opaque");
    t.equal(ask(PODS + srv + saz(client), "b/z").path, "undecidable", "it may let anybody in");
  }
  const broken = server(", accessPolicy: open");
  const open = server(", accessPolicy: all-unauthenticated", "a/zzz");
  t.equal(ask(PODS + broken + open, "b/z").path, "undecidable", "the one that speaks for the port");
  t.equal(ask(PODS + broken + open, "b/z", "a/x").path, "undeclared", "it selects other pods");
  const bad = policy(MESH_REF) + mesh("{identities: [a], more: 1}");
  t.equal(ask(PODS + server(", proxyProtocol: opaque") + bad, "b/z").path, "undecidable");
  t.equal(
    ask(PODS + server(", accessPolicy: all-unauthenticated") + bad, "b/z").path,
    "allowed",
    "authorizations are a union",
  );
  t.equal(read(PODS + server() + mesh("{identities: [a]}")).unknownKinds.length, 0);
  const egress = object("EgressNetwork", "a/e", "{trafficPolicy: Deny}");
  t.match(read(egress).problems[0]?.reason, /not read/, "a kind that is still not read");
});

t.test("policy explain and policy allowed use it", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const bare = (text: string) => text.replaceAll("linkerd.io/inject: enabled", "");
  const open = ", proxyProtocol: opaque, accessPolicy: all-authenticated";
  writeFileSync(path.join(folder, "all.yaml"), bare(pod("a/x") + pod("a/y")) + server(open));
  const options = { manifests: folder, from: "a/x", to: "a/y", port: "8080", format: "json" };
  const linkerd = { ...options, mesh: "linkerd" as const };
  const answer = JSON.parse(runExplain({ ...linkerd, wire: "plaintext" }, 0).out);
  // Plaintext shows no identity, and is not of those that are authenticated.
  t.match(answer, { path: "denied", transport: { required: "mtls" }, wire: "refused" });
  t.match(answer.because[0], { kind: "Server", name: "srv" });
  const shown = JSON.parse(runExplain({ ...linkerd, wire: "mtls" }, 0).out);
  t.match(shown, { path: "allowed", wire: "accepted" });
  t.match(shown.because[0], { kind: "Server", name: "srv", rule: "spec.accessPolicy" });
  t.match(JSON.parse(runExplain({ ...options, mesh: "none" }, 0).out), {
    path: "undeclared",
    transport: { required: null },
  });
  const closed = server(", proxyProtocol: opaque");
  writeFileSync(path.join(folder, "all.yaml"), pod("a/x") + pod("a/y") + closed);
  t.equal(
    runAllowed({ manifests: folder, layer: "all" }, 0).out.match(/^a\/x.* => a\/y.*$/m)?.[0],
    "a/x[Pod] => a/y[Pod] : SCTP 1-65535,TCP 1-4142,4144-8079,8081-65535,UDP 1-65535",
    "nor by the proxy's own port, behind which 8080 is all there is",
  );
});

t.test("manifests cut, or changed by a byte, anywhere, never throw", async (t) => {
  const WHOLE =
    server(", accessPolicy: deny") +
    policy(`${MESH_REF}, ${NET_REF}`) +
    mesh('{identities: ["*"], identityRefs: [{kind: Namespace, name: b}]}') +
    net("{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}") +
    CONFIG("proxy:\n  ports: {inbound: 4143}");
  let state = 11;
  for (let at = 0; at < WHOLE.length; at += 5) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = String.fromCharCode(32 + ((state >>> 10) % 95));
    for (const text of [WHOLE.slice(0, at), WHOLE.slice(0, at) + other + WHOLE.slice(at + 1)]) {
      const policy = new Policy(read(text).objects, { mesh: "linkerd" });
      const declared = read(PODS);
      policy.expect(end(declared, "a/x"), end(declared, "a/y"), 8080, "TCP", 0);
    }
  }
  t.pass("nothing was thrown");
});
