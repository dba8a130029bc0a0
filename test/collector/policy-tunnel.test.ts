/**
 * Tests which port of a server the network is asked about where a mesh carries the connection:
 * `ambient` is istio.io, ambient/usage/networkpolicy; `opaque` is linkerd.io 2.18,
 * common-errors/network-policy and features/protocol-detection; `consul` is consul-k8s,
 * control-plane/connect-inject/constants.
 */
import t from "tap";
import type { Posture } from "../../collector/policy/expectation.ts";
import { run } from "./linting.ts";
import { expectOf } from "./manifests.ts";

const object = (kind: string, version: string, name: string, spec: string, space = "a") =>
  `---\n{apiVersion: ${version}, kind: ${kind}, metadata: {name: ${name}, namespace: ${space}}, ` +
  `spec: ${spec}}\n`;
const pod = (name: string, more = "", containers = "") =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: a, labels: {app: ${name}` +
  `${more}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}${containers}]}, ` +
  `status: {podIP: 10.0.0.${name.length}}}\n`;
const ambient = (name: string, label = "") =>
  pod(name, `, istio.io/dataplane-mode: ambient${label}}`);
const sidecar = (name: string) => pod(name, "}", ", {name: istio-proxy}");
const outside = (name: string) => pod(name, "}");
const linkerd = (name: string, opaque = "") =>
  pod(
    name,
    `}, annotations: {config.linkerd.io/opaque-ports: "${opaque}"}`,
    ", {name: linkerd-proxy}",
  );
const consul = (name: string, annotations = "") =>
  pod(name, `}, annotations: {${annotations}}`, ", {name: consul-dataplane}");
const SERVICE = object(
  "Service",
  "v1",
  "server",
  "{selector: {app: server}, ports: [{port: 8080}]}",
);

/** Only these ports of `server` are let in, by each kind of policy that can say so. */
const OPEN: Readonly<Record<string, (...ports: number[]) => string>> = {
  NetworkPolicy: (...ports) =>
    object(
      ...(["NetworkPolicy", "networking.k8s.io/v1", "p"] as const),
      `{podSelector: {matchLabels: {app: server}}, ingress: [{ports: [${list(ports, "port")}]}]}`,
    ),
  AdminNetworkPolicy: (...ports) =>
    object(
      ...(["AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1", "p"] as const),
      "{priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: " +
        "server}}}}, ingress: [{action: Allow, from: [{namespaces: {}}], ports: " +
        `[${ports.map((port) => `{portNumber: {protocol: TCP, port: ${port}}}`)}]}, ` +
        "{action: Deny, from: [{namespaces: {}}]}]}",
    ),
  BaselineAdminNetworkPolicy: (...ports) =>
    object(
      ...(["BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1", "default"] as const),
      "{subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: server}}}}, " +
        "ingress: [{action: Allow, from: [{namespaces: {}}], ports: " +
        `[${ports.map((port) => `{portNumber: {protocol: TCP, port: ${port}}}`)}]}, ` +
        "{action: Deny, from: [{namespaces: {}}]}]}",
    ),
  ClusterNetworkPolicy: (...ports) =>
    object(
      ...(["ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2", "p"] as const),
      "{tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: " +
        "{matchLabels: {app: server}}}}, ingress: [{action: Accept, from: [{namespaces: {}}], " +
        `protocols: [${ports.map((port) => `{tcp: {destinationPort: {number: ${port}}}}`)}]}, ` +
        "{action: Deny, from: [{namespaces: {}}]}]}",
    ),
  CiliumNetworkPolicy: (...ports) =>
    object(
      ...(["CiliumNetworkPolicy", "cilium.io/v2", "p"] as const),
      "{endpointSelector: {matchLabels: {app: server}}, ingress: [{fromEntities: [cluster], " +
        `toPorts: [{ports: [${ports.map((port) => `{port: "${port}", protocol: TCP}`)}]}]}]}`,
    ),
  GlobalNetworkPolicy: (...ports) =>
    object(
      ...(["GlobalNetworkPolicy", "projectcalico.org/v3", "p"] as const),
      `{selector: "app == 'server'", types: [Ingress], ingress: [{action: Allow, protocol: TCP, ` +
        `destination: {ports: [${ports.join(", ")}]}}]}`,
    ),
};
const list = (ports: readonly number[], key: string) =>
  ports.map((port) => `{${key}: ${port}}`).join(", ");

const ask = (text: string, wire: Posture | null = null, port = 8080) =>
  expectOf(text, "a/client", "a/server", port, "TCP", wire);
const path = (...args: Parameters<typeof ask>) => ask(...args).path;

for (const [kind, open] of Object.entries(OPEN)) {
  t.test(`${kind} is asked about the port that the mesh uses`, async (t) => {
    const pods = ambient("client") + ambient("server") + SERVICE;
    const shut = ask(pods + open(8080));
    t.equal(shut.path, "undecidable", "the program's port alone: HBONE is denied (ambient)");
    t.match(
      shut.pathBecause[0]!.sentence,
      /HBONE, ambient's tunnel, brings it to port 15008 .* denied .* port 8080 itself is allowed/,
    );
    t.equal(path(pods + open(8080, 15008)), "allowed", "as istio.io has it");
    t.equal(path(pods + open(15008)), "undecidable", "HBONE alone: what goes past it is denied");
    t.equal(path(pods + open(9090)), "denied", "neither");
    t.equal(path(pods + open(8080), "plaintext"), "allowed", "on the wire: nothing carries it");
    t.equal(path(pods + open(15008), "tls"), "denied");
    t.equal(path(pods + open(15008), null, 15008), "allowed", "the tunnel itself");
    t.equal(path(pods + open(8080), null, 15008), "denied");

    const opaque = linkerd("client") + linkerd("server", "8080") + SERVICE;
    const told = ask(opaque + open(8080));
    t.equal(told.path, "undecidable", "opaque");
    t.match(told.pathBecause[0]!.sentence, /Linkerd's client proxy brings it to port 4143/);
    t.equal(path(opaque + open(8080, 4143)), "allowed");
    t.equal(path(opaque + open(9090)), "denied");
    const detected = linkerd("client") + linkerd("server", "9000") + SERVICE;
    t.equal(path(detected + open(8080)), "allowed", "not opaque");

    const mesh = consul("client") + consul("server") + SERVICE;
    t.equal(path(mesh + open(8080)), "undecidable", "consul");
    t.match(ask(mesh + open(8080)).pathBecause[0]!.sentence, /Consul's client proxy .* port 20000/);
    t.equal(path(mesh + open(8080, 20000)), "allowed");
  });
}

const NP = OPEN["NetworkPolicy"]!;

t.test("egress rules see the mesh's port, too", async (t) => {
  const egress = (...ports: number[]) =>
    object(
      ...(["NetworkPolicy", "networking.k8s.io/v1", "e"] as const),
      "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{ports: " +
        `[${list(ports, "port")}]}]}`,
    );
  const pods = ambient("client") + ambient("server");
  t.equal(path(pods + egress(8080)), "undecidable");
  t.equal(path(pods + egress(8080, 15008)), "allowed");
});

t.test("ambient: who is carried, and who is not", async (t) => {
  const of = (client: string, server: string, more = "") => path(client + server + NP(8080) + more);
  const none = object("Namespace", "v1", "a", "{}").replace(", namespace: a", "");
  const plain = pod("client", ", istio.io/dataplane-mode: none}");
  t.equal(of(plain, ambient("server"), none), "allowed", "a client outside of the mesh");
  t.equal(of(sidecar("client"), sidecar("server")), "allowed", "sidecars stay on the port");
  t.equal(of(sidecar("client"), ambient("server"), SERVICE), "undecidable", "sidecars know HBONE");
  t.equal(of(ambient("client"), sidecar("server")), "undecidable", "sidecars take it, or not");
  const disabled = object(
    ...(["PeerAuthentication", "security.istio.io/v1", "d"] as const),
    "{mtls: {mode: DISABLE}}",
  );
  t.equal(of(ambient("client"), sidecar("server"), disabled), "allowed");
  t.equal(
    path(`${outside("client")}${ambient("server")}${NP(15008)}`),
    "undecidable",
    "nothing shows whether the client is in the mesh",
  );
  t.equal(
    expectOf(ambient("server") + NP(15008), "192.0.2.1", "a/server", 8080).path,
    "denied",
    "what is outside has no ztunnel",
  );
});

t.test("Linkerd: opaque by a Server, by its chart's mode, by its own port", async (t) => {
  const pods = linkerd("client") + linkerd("server");
  const server = (protocol: string) =>
    object(
      ...(["Server", "policy.linkerd.io/v1beta3", "s"] as const),
      `{podSelector: {}, port: 8080, proxyProtocol: ${protocol}, accessPolicy: all-unauthenticated}`,
    );
  t.equal(path(pods + NP(8080) + server("opaque")), "undecidable");
  t.equal(path(pods + NP(8080) + server("HTTP/1")), "allowed");
  const mode = (name: string) =>
    "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: linkerd-config, namespace: linkerd}, " +
    `data: {values: "proxy: {outboundTransportMode: ${name}}"}}\n`;
  t.equal(path(pods + NP(8080) + mode("transport-header")), "undecidable", "2.18: any port");
  t.equal(path(pods + NP(8080, 4143) + mode("transport-header")), "allowed");
  t.equal(path(pods + NP(8080) + mode("transparent")), "allowed");
  const moved = linkerd("server", '8080", config.linkerd.io/inbound-port: "5143');
  t.equal(path(linkerd("client") + moved + NP(8080, 4143)), "undecidable");
  t.equal(path(linkerd("client") + moved + NP(8080, 5143)), "allowed");
  const skipped = linkerd("server", '8080", config.linkerd.io/skip-inbound-ports: "8080');
  t.equal(path(linkerd("client") + skipped + NP(8080)), "allowed", "kept from the proxy");
  const past = linkerd("client", '", config.linkerd.io/skip-outbound-ports: "8080');
  t.equal(path(past + linkerd("server", "8080") + NP(8080)), "allowed", "kept from the client's");
  const unmeshed = pod("client", "}, annotations: {linkerd.io/inject: disabled}");
  t.equal(path(unmeshed + linkerd("server", "8080") + NP(8080)), "allowed");
});

t.test("Consul: a pod with two services has two listeners", async (t) => {
  const two =
    "consul.hashicorp.com/connect-service: 'x,y', consul.hashicorp.com/connect-service-port: " +
    "'9090,8080'";
  const pods = consul("client") + consul("server", two);
  t.equal(path(pods + NP(8080, 20001)), "allowed", "the second's");
  t.equal(path(pods + NP(8080, 20000)), "undecidable");
  const unmeshed = pod("client", "}, annotations: {consul.hashicorp.com/connect-inject: 'false'}");
  t.equal(path(unmeshed + consul("server") + NP(8080)), "allowed", "no proxy carries it");
});

t.test("lint: what 15008 and 4143 mean for a rule, both ways", async (t) => {
  const found = (text: string, id: string) =>
    run(text).findings.filter(({ rule }) => rule.id === id);
  for (const [kind, open] of Object.entries(OPEN)) {
    const pods = ambient("client") + ambient("server") + SERVICE;
    const [closed, ...more] = found(pods + open(8080), "mesh-tunnel-port-closed");
    t.match(closed, { object: { kind, name: /^(p|default)$/ } }, kind);
    t.match(closed?.sentence, /port 8080 of a\/server\[Pod\] is open .* port 15008: denied by/);
    t.strictSame(more, []);
    t.strictSame(found(pods + open(8080, 15008), "mesh-tunnel-port-closed"), []);
    const [opens] = found(pods + open(8080, 15008), "mesh-tunnel-port-opens-all");
    t.match(opens, { object: { kind } }, kind);
    t.match(opens?.sentence, /port 15008 brings it to every port of a\/server/);
    t.strictSame(found(pods + open(8080), "mesh-tunnel-port-opens-all"), []);
    const [all] = found(pods + open(15008), "mesh-tunnel-port-opens-all");
    t.match(all?.sentence, /port 8080, which is denied/);
  }
  const opaque = linkerd("client") + linkerd("server", "8080");
  t.match(found(opaque + NP(8080), "mesh-tunnel-port-closed")[0]!.sentence, /port 4143/);
  t.match(found(opaque + NP(4143), "mesh-tunnel-port-opens-all")[0]!.sentence, /port 4143/);
  t.strictSame(
    found(linkerd("client") + linkerd("server") + NP(8080), "mesh-tunnel-port-closed"),
    [],
  );
  const mesh = consul("client") + consul("server");
  t.match(found(mesh + NP(8080), "mesh-tunnel-port-closed")[0]!.sentence, /port 20000/);
  const whole = NP().replace("ports: []", "");
  t.strictSame(found(ambient("server") + whole, "mesh-tunnel-port-opens-all"), [], "all are open");
});
