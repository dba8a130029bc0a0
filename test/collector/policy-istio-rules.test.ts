/**
 * Tests what Istio's control plane makes of rules: `model` is pilot/pkg/security/authz/model/
 * model.go, `builder` is authz/builder/builder.go, `ambient` is pilot/pkg/serviceregistry/ambient/
 * authorization.go, `rbac` is ztunnel's src/rbac.rs.
 */
import t from "tap";
import { expectOf, inBand, wire } from "./manifests.ts";

const pod = (name: string, labels: string, containers = "{name: c}") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, labels: ` +
    `{${labels}}}, spec: {containers: [${containers}], serviceAccountName: ${own}}}\n`
  );
};
const SIDECAR = "{name: c}, {name: istio-proxy}";
const TUNNEL = "istio.io/dataplane-mode: ambient";
const object = (kind: string, name: string, spec: string, more = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: security.istio.io/v1, kind: ${kind}, metadata: {name: ${own}, namespace: ` +
    `${namespace}${more}}, spec: ${spec}}\n`
  );
};
const rules = (spec: string, space = "a", more = "") =>
  object("AuthorizationPolicy", `${space}/p`, spec, more);
const service = (port: string, more = "", name = "srv", selector = "app: srv") =>
  `---\n{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: a}, spec: ` +
  `{selector: {${selector}}, ports: [{name: ${port}, port: 80}]${more}}}\n`;
const TCP = service("tcp");

/** From `b/cli`, with a sidecar, to `a/srv`, with one too. */
const SIDECARS = pod("a/srv", "app: srv", SIDECAR) + pod("b/cli", "app: cli", SIDECAR);
const TUNNELS = pod("a/srv", `app: srv, ${TUNNEL}`) + pod("b/cli", TUNNEL);

const ask = (text: string, port = 80, from = "b/cli") => expectOf(text, from, "a/srv", port);

t.test("rules as Envoy gets them", async (t) => {
  const path = (spec: string, space = "a", more = "") =>
    ask(SIDECARS + TCP + rules(spec, space, more)).path;
  const either = "{rules: [{to: [{operation: {methods: [GET]}}, {operation: {ports: ['80']}}]}]}";
  t.equal(path(either), "denied", "model: one field of HTTP, and the whole ALLOW rule is left out");
  t.equal(path("{rules: [null]}"), "denied", "builder: skipped nil rule");
  const account = "{rules: [{from: [{source: {serviceAccounts: [cli]}}]}]}";
  t.equal(path(account, "istio-system"), "denied", "of the policy's namespace");
  t.equal(path(account.replace("[cli]", "[b/cli]"), "istio-system"), "allowed");
  const custom =
    "{action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {ports: ['81']}}]}]}";
  t.equal(path(custom), "allowed", "a policy is there, and its rule does not match");
  const handed = rules(custom.replace("81", "80")).replace("name: p", "name: q");
  const outside = rules("{}") + handed;
  t.equal(ask(SIDECARS + TCP + outside).path, "denied", "ALLOW denies, whatever CUSTOM says");
  for (const word of ["true", "1", "T", "True"]) {
    const dry = `, annotations: {istio.io/dry-run: '${word}'}`;
    t.equal(path("{}", "a", dry), "undeclared", `builder, ParseBool: ${word}`);
  }
  t.equal(path("{}", "a", ", annotations: {istio.io/dry-run: 'yes'}"), "denied");
  const unmarked = pod("a/srv", "app: srv") + pod("b/cli", "app: cli", SIDECAR);
  const dry = rules("{}", "a", ", annotations: {istio.io/dry-run: 'true'}");
  t.equal(wire(ask(unmarked + dry)), "any +++", "a dry run selects the pod: it is meshed");
});

t.test("what showed no identity is held against rules as such", async (t) => {
  const path = (spec: string, shown: "plaintext" | "tls" | "mtls" | null, ends = SIDECARS) =>
    expectOf(ends + TCP + rules(spec), "b/cli", "a/srv", 80, "TCP", shown).path;
  const from = (source: string, action = "ALLOW") =>
    `{action: ${action}, rules: [{from: [{source: {${source}}}]}]}`;
  const NAMED = ["principals: [cluster.local/ns/b/sa/cli]", "namespaces: [b]"];
  for (const source of [...NAMED, "serviceAccounts: [b/cli]", "principals: ['*']"]) {
    for (const shown of ["plaintext", "tls"] as const) {
      t.equal(path(from(source), shown), "denied", `${source}, ${shown}: an empty identity`);
      t.equal(path(from(source, "DENY"), shown), "allowed", "and so a denial does not match");
      t.equal(path(from(`not${source[0]!.toUpperCase()}${source.slice(1)}`), shown), "allowed");
    }
    t.equal(path(from(source), "mtls"), "allowed");
    t.equal(path(from(source, "DENY"), "mtls"), "denied");
  }
  t.equal(path(from(NAMED[0]!), "plaintext", TUNNELS), "denied", "ztunnel, outside of its tunnel");
  t.equal(
    path(from("ipBlocks: [10.0.0.0/8]"), "plaintext"),
    path(from("ipBlocks: [10.0.0.0/8]"), null),
  );
});

t.test("rules as ztunnel gets them", async (t) => {
  const path = (spec: string, from = "192.0.2.1") => ask(TUNNELS + rules(spec), 80, from).path;
  const deny = (rule: string) => `{action: DENY, rules: [${rule}]}`;
  t.equal(path(deny("{to: [{operation: {methods: [GET]}}]}")), "allowed", "rbac: empty, skipped");
  t.equal(path(deny("{to: [{operation: {methods: [GET], ports: ['80']}}]}")), "denied");
  const mixed =
    "{from: [{source: {ipBlocks: [192.0.2.1]}}], when: [{key: remote.ip, values: ['::']}]}";
  t.equal(path(deny(mixed)), "allowed", "ambient: an empty clause");
  t.equal(path(`{rules: [{to: [{operation: {hosts: [x], ports: ['80']}}]}]}`), "denied", "ambient");
  t.equal(path(`{rules: [{when: [{key: source.serviceAccount, notValues: [x]}]}]}`), "denied");
  t.equal(path(deny("{}")), "denied", "what comes without a tunnel is closed where one can see it");
  t.ok(inBand(ask(TUNNELS + rules(deny("{}")))), "what comes in the tunnel is not");
  t.equal(path("{action: CUSTOM, provider: {name: x}, rules: [{}]}"), "undeclared");
});

t.test("a client shows its identity where its proxy knows the server by a Service", async (t) => {
  const allow = rules("{rules: [{from: [{source: {namespaces: [b]}}]}]}");
  t.equal(ask(SIDECARS + TCP + allow).path, "allowed", "auto mutual TLS");
  t.equal(ask(SIDECARS + allow).path, "undecidable", "straight to the pod");
  t.equal(ask(SIDECARS + service("tcp", ", clusterIP: None") + allow).path, "undecidable");
  const strict = object("PeerAuthentication", "istio-system/s", "{mtls: {mode: STRICT}}");
  const other = allow.replace("namespaces: [b]", "namespaces: [c]");
  t.equal(ask(SIDECARS + other + strict + TCP).path, "denied");
  const tunnel = pod("a/srv", "app: srv", SIDECAR) + pod("b/cli", TUNNEL);
  t.equal(ask(tunnel + TCP + allow).path, "undecidable", "HBONE to a sidecar, or plaintext");
  const disable = object("PeerAuthentication", "a/d", "{mtls: {mode: DISABLE}}");
  t.equal(ask(TUNNELS + disable + allow).path, "allowed", "the tunnel is always there");
  const both =
    "{action: DENY, rules: [{from: [{source: {namespaces: [b]}}]}, " +
    "{from: [{source: {notPrincipals: ['*']}}]}]}";
  t.equal(ask(tunnel + TCP + rules(both)).path, "denied", "whichever it is");
});

t.test("of Services that disagree the oldest counts, which is not known here", async (t) => {
  const disable = object("PeerAuthentication", "a/d", "{mtls: {mode: DISABLE}}");
  t.equal(wire(ask(SIDECARS + disable + service("http"))), "any +?-");
  const two = service("http") + service("tcp", "", "other");
  t.equal(wire(ask(SIDECARS + disable + two)), "any +??");
  const empty = service("http", "", "srv", "");
  t.equal(wire(ask(SIDECARS + disable + empty)), "any +++", "no selector selects no pod");
});

t.test("ambient: ports and wider policies, of which istiod makes nothing", async (t) => {
  const peer = (name: string, spec: string) => object("PeerAuthentication", name, `{${spec}}`);
  const mesh = peer("istio-system/mesh", "mtls: {mode: STRICT}");
  const own = (spec: string) => peer("a/own", `selector: {matchLabels: {app: srv}}, ${spec}`);
  const at = (text: string, port = 80) => wire(ask(TUNNELS + text, port));
  const permissive = own("portLevelMtls: {80: {mode: PERMISSIVE}}");
  t.equal(at(mesh + permissive, 81), "mtls --+");
  const unset = peer("a/space", "mtls: {mode: UNSET}");
  t.equal(
    at(mesh + unset + permissive, 81),
    "mtls ??+",
    "convertPeerAuthentication takes the namespace's UNSET for open, and the static policy is gone",
  );
  t.equal(at(mesh + unset + permissive), "any +++");
  const unselecting = peer("a/space", "selector: {matchLabels: {}}, mtls: {mode: UNSET}");
  t.equal(at(mesh + unselecting + permissive, 81), "mtls --+", "it looks at policies without one");
  const strict = own("mtls: {mode: PERMISSIVE}, portLevelMtls: {80: {mode: STRICT}}");
  t.equal(at(mesh + strict), "mtls ??+", "left to the parent, which the workload overrides");
  t.equal(at(strict), "mtls --+");
});
