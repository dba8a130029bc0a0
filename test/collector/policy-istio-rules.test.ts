/**
 * Tests what Istio's control plane makes of rules: `model` is pilot/pkg/security/authz/model/
 * model.go, `builder` is authz/builder/builder.go, `ambient` is pilot/pkg/serviceregistry/ambient/
 * authorization.go, `rbac` is ztunnel's src/rbac.rs.
 */
import t from "tap";
import { Policy } from "../../collector/policy/policy.ts";
import { end, inBand, read, wire } from "./manifests.ts";

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

const ask = (text: string, port = 80, from = "b/cli") => {
  const declared = read(text);
  const client = from.includes("/") ? end(declared, from) : { external: from };
  return new Policy(declared.objects).expect(client, end(declared, "a/srv"), port, "TCP", 0);
};

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
