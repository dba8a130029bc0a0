/**
 * Tests whose mutual TLS is demanded: the mesh's own, with certificates of its CA, or somebody
 * else's. istio.io, reference/config/security/peer_authentication, and networking/gateway for the
 * modes of listeners; linkerd.io 2.18, features/server-policy; consul: connect/security.
 */
import t from "tap";
import { parse } from "yaml";
import { toClusterObject } from "../../collector/attribution/cluster-object.ts";
import { compareEffect } from "../../collector/policy/answer/effect.ts";
import { toInventory } from "../../collector/policy/answer/policy-command.ts";
import { PolicyHistory } from "../../collector/policy/history/history.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { end, expectOf, read } from "./manifests.ts";

const object = (kind: string, version: string, name: string, spec: string, space = "a") =>
  `---\n{apiVersion: ${version}, kind: ${kind}, metadata: {name: ${name}, namespace: ${space}}, ` +
  `spec: ${spec}}\n`;
const map = (name: string, namespace: string, key: string, text: string) =>
  `---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: ${name}, namespace: ${namespace}}, ` +
  `data: {${key}: ${JSON.stringify(text)}}}\n`;
const pods = (containers: string, meta = "") =>
  ["x", "y"]
    .map(
      (name) =>
        `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: a, labels: {app: ` +
        `${name}${meta}}}, spec: {containers: [{name: c, ports: [{containerPort: 80}]}` +
        `${containers}]}}\n`,
    )
    .join("");

const SIDECARS = pods(", {name: istio-proxy}");
const AMBIENT = pods("", ", istio.io/dataplane-mode: ambient");
const LINKERD = pods(", {name: linkerd-proxy}");
const CONSUL = pods(", {name: consul-dataplane}");
const peerAuth = (mode: string, ports = "") =>
  object(
    ...(["PeerAuthentication", "security.istio.io/v1", "p"] as const),
    `{selector: {matchLabels: {app: y}}, mtls: {mode: ${mode}}${ports}}`,
  );
const istio = (text: string) => map("istio", "istio-system", "mesh", text);
const linkerd = (text: string) => map("linkerd-config", "linkerd", "values", text);
const server = (policy: string) =>
  object(
    ...(["Server", "policy.linkerd.io/v1beta3", "s"] as const),
    `{podSelector: {}, port: 80, accessPolicy: ${policy}}`,
  );
const gateway = (mode: string) =>
  SIDECARS.replaceAll("{name: c, ports: [{containerPort: 80}]}, ", "") +
  object(
    ...(["Gateway", "networking.istio.io/v1", "g"] as const),
    "{selector: {app: y}, servers: [{port: {number: 80, name: t, protocol: TLS}, hosts: ['*'], " +
      `tls: {mode: ${mode}}}]}`,
  );
const segmentation = (transport: string) =>
  "---\n{apiVersion: wireproof.io/v1, kind: Segmentation, metadata: {name: z}, spec: {zones: " +
  "[{name: q, select: {namespaces: [a]}}], paths: [{from: q, to: q, transport: " +
  `${transport}}]}}\n`;

type Whose = { required: string | null; mesh?: string; trustDomain?: string | null };
const mtls = (mesh: string, trustDomain: string | null): Whose => {
  return { required: "mtls", mesh, trustDomain };
};

const CASES: readonly [title: string, text: string, wanted: Whose, port?: number][] = [
  ["sidecars, STRICT", SIDECARS + peerAuth("STRICT"), mtls("istio", null)],
  [
    "… with settings",
    SIDECARS + peerAuth("STRICT") + istio("enableAutoMtls: true"),
    mtls("istio", "cluster.local"),
  ],
  [
    "… with a trust domain",
    SIDECARS + peerAuth("STRICT") + istio("trustDomain: east.example"),
    mtls("istio", "east.example"),
  ],
  [
    "… whose settings cannot be read",
    SIDECARS + peerAuth("STRICT") + istio("a: ["),
    mtls("istio", null),
  ],
  ["PERMISSIVE", SIDECARS + peerAuth("PERMISSIVE") + istio("a: b"), { required: "any" }],
  [
    "PERMISSIVE on the port",
    SIDECARS + peerAuth("STRICT", ", portLevelMtls: {80: {mode: PERMISSIVE}}"),
    { required: "any" },
  ],
  ["ambient, STRICT", AMBIENT + peerAuth("STRICT") + istio("a: b"), mtls("istio", "cluster.local")],
  ["HBONE itself", AMBIENT, mtls("istio", null), 15008],
  ["a gateway's MUTUAL: the operator's own CA", gateway("MUTUAL"), { required: "mtls" }],
  ["a gateway's ISTIO_MUTUAL", gateway("ISTIO_MUTUAL"), mtls("istio", null)],
  ["a gateway's SIMPLE", gateway("SIMPLE"), { required: "tls" }],
  ["Linkerd, authenticated", LINKERD + server("all-authenticated"), mtls("linkerd", null)],
  [
    "… with a trust domain",
    LINKERD + server("all-authenticated") + linkerd("identityTrustDomain: west.example"),
    mtls("linkerd", "west.example"),
  ],
  [
    "… with the cluster's domain",
    LINKERD + server("all-authenticated") + linkerd("clusterDomain: west.example"),
    mtls("linkerd", "west.example"),
  ],
  ["Linkerd, anybody", LINKERD + server("all-unauthenticated"), { required: "any" }],
  ["Linkerd's own port", LINKERD, mtls("linkerd", null), 4143],
  ["Consul", CONSUL, mtls("consul", null)],
  ["Consul's public listener", CONSUL, mtls("consul", null), 20000],
  ["a segmentation file", pods("") + segmentation("mtls"), { required: "mtls" }],
  ["… over PERMISSIVE", SIDECARS + segmentation("mtls"), { required: "mtls" }],
  ["… beside STRICT", SIDECARS + segmentation("mtls") + peerAuth("STRICT"), mtls("istio", null)],
];

for (const [title, text, wanted, port = 80] of CASES) {
  t.test(title, async (t) => {
    const { required, mesh, trustDomain } = expectOf(text, "a/x", "a/y", port).transport;
    t.strictSame(
      { required, mesh, trustDomain },
      { mesh: undefined, trustDomain: undefined, ...wanted },
    );
  });
}

t.test("who demands it is a difference to history, and to a diff", async (t) => {
  const declared = read(SIDECARS + peerAuth("STRICT"));
  const history = new PolicyHistory({}, 15_000);
  for (const one of declared.objects) history.apply(one, -Infinity);
  const settings = toClusterObject(parse(istio("trustDomain: east.example")), null)!;
  history.apply(settings, 100_000);
  const [client, target] = [end(declared, "a/x"), end(declared, "a/y")];
  const { atStart } = history.expect(client, target, 80, "TCP", { atMs: 101_000 });
  t.strictSame(
    atStart.map(({ transport }) => transport.trustDomain),
    ["east.example", null],
    "within the grace both count",
  );

  const side = (text: string) => {
    const found = read(text);
    const pods = toInventory(found).pods(-Infinity);
    return { policy: new Policy(found.objects), pods, objects: found.objects };
  };
  const strict = SIDECARS + peerAuth("STRICT");
  const { changes } = compareEffect(
    side(strict),
    side(strict + istio("trustDomain: b.example")),
    0,
  );
  t.match(changes[0], { from: { transport: { trustDomain: null } } });
  t.match(changes[0], { to: { transport: { mesh: "istio", trustDomain: "b.example" } } });
});
