/**
 * Tests Istio's rules for transport, from its own simulations and sources: `simulation` is
 * pilot/pkg/networking/core/*_simulation_test.go, `reachability` is
 * tests/integration/security/reachability_test.go.
 */
import t from "tap";
import { PolicyHistory } from "../../collector/policy/history/history.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { end, expectOf, inBand, read, wire } from "./manifests.ts";

const pod = (name: string, labels = "app: foo", more = "", spec = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, ` +
    `labels: {${labels}}${more}}, spec: {containers: [{name: a, ports: [{containerPort: 8080, ` +
    `name: http-web}]}${spec}]}, status: {podIP: 10.0.0.${own!.length}}}\n`
  );
};
const SIDECAR = ", {name: istio-proxy}";
const PODS = pod("default/srv", "app: foo", "", SIDECAR) + pod("other/cli", "", "", SIDECAR);

const object = (kind: string, group: string, name: string, spec: string) => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: ${group}/v1, kind: ${kind}, metadata: {name: ${own}, ` +
    `namespace: ${namespace}}, spec: ${spec}}\n`
  );
};
const security = "security.istio.io";
const networking = "networking.istio.io";
const FOO = "selector: {matchLabels: {app: foo}}";
const peerAuth = (mode: string, ports = "") =>
  object(
    ...(["PeerAuthentication", security, "default/pa"] as const),
    `{${FOO}${mode === "" ? "" : `, mtls: {mode: ${mode}}`}` +
      `${ports === "" ? "" : `, portLevelMtls: {${ports}}`}}`,
  );
const meshWide = (mode: string) =>
  object("PeerAuthentication", security, "istio-system/wide", `{mtls: {mode: ${mode}}}`);
const rule = (name: string, host: string, more: string) =>
  object("DestinationRule", networking, name, `{host: ${host}, ${more}}`);
const SERVICE =
  "---\n{apiVersion: v1, kind: Service, metadata: {name: srv, namespace: default}, spec: " +
  "{selector: {app: foo}, ports: [{name: http-web, port: 80, targetPort: 8080}]}}\n";

const ask = (text: string, port: number, from = "other/cli", to = "default/srv") =>
  expectOf(text, from, to, port);

t.test("Sidecar: its listeners are the ports that Istio knows", async (t) => {
  const sidecar = (ingress: string) =>
    object(
      "Sidecar",
      networking,
      "default/sc",
      `{workloadSelector: {labels: {app: foo}}, ingress: [${ingress}]}`,
    );
  const listener = (number: number, protocol: string, tls = "") =>
    `{port: {number: ${number}, protocol: ${protocol}, name: x}, defaultEndpoint: "x"${tls}}`;
  const disabled = peerAuth("STRICT", "9080: {mode: DISABLE}");
  const at = (text: string, port = 9080) => wire(ask(PODS + text, port));

  t.equal(at(disabled), "any +++", "simulation: a port that is passed through takes anything");
  t.equal(at(disabled + sidecar(listener(9080, "HTTP"))), "any +?-", "mesh TLS is no HTTP");
  t.equal(at(disabled + sidecar(listener(9080, "TCP"))), "any +++");
  t.equal(at(disabled + sidecar(listener(9080, "TCP")), 8080), "mtls --+");
  const service = SERVICE.replace("8080", "9080");
  t.equal(at(disabled + service), "any +?-", "the Service says that it is HTTP");
  t.equal(
    at(disabled + service + sidecar(listener(7000, "TCP"))),
    "any +++",
    "simulation, partial: no listener, though the Service has the port",
  );

  const simple = sidecar(listener(9080, "HTTPS", ", tls: {mode: SIMPLE}"));
  t.equal(at(disabled + simple), "tls -+-", "TestInboundSidecarTLSModes, simple, disabled");
  const mutual = sidecar(listener(9080, "TLS", ", tls: {mode: MUTUAL}"));
  t.equal(at(disabled + mutual), "mtls --+", "TestInboundSidecarTLSModes, mutual, disabled");
  const strict = peerAuth("STRICT", "9080: {mode: STRICT}");
  t.equal(at(strict + simple), "mtls --+", "TestInboundSidecarTLSModes, strict: not its own TLS");
  const permissive = peerAuth("STRICT", "9080: {mode: PERMISSIVE}");
  t.equal(at(permissive + simple), "any +++", "permissive: not its own TLS either");
});

t.test("a ServiceEntry's endpoint by address is told only from known addresses", async (t) => {
  const entry = object(
    ...(["ServiceEntry", networking, "default/se"] as const),
    "{hosts: [a.b], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.0.0.3}], " +
      "ports: [{name: http, number: 8000, protocol: HTTP}]}",
  );
  const disable = peerAuth("DISABLE");
  t.equal(wire(ask(PODS + disable + entry, 8000)), "any +?-", "simulation: protocol error");
  const unknown = PODS.replaceAll(/, status: \{podIP: [\d.]+\}/g, "");
  t.equal(wire(ask(unknown + disable + entry, 8000)), "any +??", "it may be that address");
  t.equal(wire(ask(PODS.replaceAll("10.0.0.3", "10.9.9.9") + disable + entry, 8000)), "any +++");
});

t.test("gateways: their listeners count, and PeerAuthentication does not", async (t) => {
  const gateway =
    "---\n{apiVersion: v1, kind: Pod, metadata: {name: gw, namespace: edge, labels: " +
    "{istio: gateway}}, spec: {containers: [{name: istio-proxy}]}}\n" +
    "---\n{apiVersion: v1, kind: Service, metadata: {name: gw, namespace: edge}, spec: {selector: " +
    "{istio: gateway}, ports: [{name: https, port: 443, targetPort: 8443}]}}\n";
  const servers = (list: string) =>
    object("Gateway", networking, "edge/gw", `{selector: {istio: gateway}, servers: [${list}]}`);
  const server = (number: number, protocol: string, tls: string) =>
    `{port: {number: ${number}, name: x, protocol: ${protocol}}, hosts: ["*"]${tls}}`;
  const at = (list: string, port: number, more = "") =>
    wire(
      ask(PODS + gateway + meshWide("STRICT") + servers(list) + more, port, "other/cli", "edge/gw"),
    );
  const simple = server(443, "HTTPS", ", tls: {mode: SIMPLE, minProtocolVersion: TLSV1_2}");
  t.equal(at(simple, 8443), "tls -+-", "the Service's port leads to the container's");
  t.equal(at(simple, 443), "null ???", "no listener is there");
  t.equal(
    at(server(9443, "TLS", ", tls: {mode: MUTUAL}"), 9443),
    "mtls --+",
    "no Service: as it is",
  );
  t.equal(at(server(443, "TLS", ", tls: {mode: PASSTHROUGH}"), 8443), "tls -??");
  t.equal(at(server(443, "TLS", ", tls: {mode: OPTIONAL_MUTUAL}"), 8443), "tls -++");
  t.equal(at(server(80, "HTTP", ""), 80), "any +++");
  t.equal(at(server(80, "HTTP", ", tls: {httpsRedirect: true}"), 80), "any +++");
  t.equal(
    at(`${simple}, ${server(443, "HTTPS", ", tls: {mode: MUTUAL}")}`, 8443),
    "null ???",
    "by the name that is asked for",
  );
  t.equal(at("", 15021), "null ???", "STRICT in the mesh is not for gateways");
  const version = ask(PODS + gateway + servers(simple), 8443, "other/cli", "edge/gw");
  t.equal(version.transport.minVersion, "TLSv1.2");

  const kubernetes =
    "---\n{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: k, namespace: " +
    "edge}, spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {mode: Terminate}}, " +
    "{name: b, port: 444, protocol: TLS, tls: {mode: Passthrough}}, {name: c, port: 80, protocol: " +
    "HTTP}, {name: d, port: 445, protocol: HTTPS, tls: {options: " +
    "{gateway.istio.io/tls-terminate-mode: MUTUAL}}}]}}\n" +
    pod("edge/k8s", "gateway.networking.k8s.io/gateway-name: k", "", SIDECAR);
  const ports = [443, 444, 80, 445].map((port) =>
    wire(ask(PODS + kubernetes, port, "other/cli", "edge/k8s")),
  );
  t.strictSame(ports, ["tls -+-", "tls -??", "any +++", "mtls --+"]);
  // Gateway API 1.4, GatewayTLSConfig.
  const frontend =
    "tls: {frontend: {default: {validation: {caCertificateRefs: []}}, perPort: [{port: 444, tls: " +
    "{validation: {mode: AllowInsecureFallback}}}, {port: 445, tls: {}}]}}";
  const listen = [443, 444, 445].map((port) => `{name: n${port}, port: ${port}, protocol: HTTPS}`);
  const whole = kubernetes.replace(/listeners: .*\n/, `${frontend}, listeners: [${listen}]}}\n`);
  const asked = [443, 444, 445].map((port) =>
    wire(ask(PODS + whole, port, "other/cli", "edge/k8s")),
  );
  t.strictSame(asked, ["mtls --+", "tls -++", "tls -+-"]);
  const waypoint = kubernetes.replace(
    /listeners: .*\n/,
    "listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}\n",
  );
  t.equal(wire(ask(PODS + waypoint, 15008, "other/cli", "edge/k8s")), "mtls --+");
});

t.test("what clients send is told where a proxy surely sends it", async (t) => {
  const plain = "---\n{apiVersion: v1, kind: Pod, metadata: {name: prom, namespace: other}, spec: ";
  const bare = `${plain}{containers: [{name: c, ports: [{containerPort: 8080}]}]}}\n`;
  const strict = PODS + SERVICE + bare + meshWide("STRICT");
  t.equal(ask(strict, 8080).sends, "mtls");
  t.equal(ask(strict, 8080, "other/prom").sends, null, "a policy alone gives no pod a proxy");
  t.equal(ask(strict.replace(SERVICE, ""), 8080).sends, null, "straight to a pod nothing is added");

  const unmeshed =
    bare.replace("namespace: other", "namespace: bare, labels: {app: bare}") +
    SERVICE.replace("srv, namespace: default", "srv, namespace: bare").replace("foo", "bare");
  const sent = (mode: string) =>
    rule("other/r", "srv.bare.svc.cluster.local", `trafficPolicy: {tls: {mode: ${mode}}}`);
  const to = (more: string) => ask(PODS + unmeshed + more, 8080, "other/cli", "bare/prom");
  t.equal(to("").sends, null);
  t.equal(to(sent("DISABLE")).sends, "plaintext");
  t.equal(to(sent("SIMPLE")).sends, "tls");
  t.equal(to(sent("ISTIO_MUTUAL")).sends, "mtls");
  t.match(to(sent("ISTIO_MUTUAL")).transportBecause[0], {
    kind: "DestinationRule",
    sentence: /^fails: .* bare\/prom\[Pod\] has no proxy to take it/,
  });
  const elsewhere = sent("ISTIO_MUTUAL").replace("namespace: other", "namespace: third");
  t.equal(to(elsewhere).sends, null, "a rule of a namespace where no client looks");
});

t.test("gateways decide in a cluster as they do in a folder", async (t) => {
  const modes = { SIMPLE: "tls -+-", MUTUAL: "mtls --+", PASSTHROUGH: "tls -??" };
  for (const [mode, taken] of Object.entries(modes)) {
    const text =
      "---\n{apiVersion: v1, kind: Pod, metadata: {name: gw, namespace: edge, labels: {istio: " +
      "ingressgateway}}, spec: {containers: [{name: istio-proxy, ports: [{containerPort: 8443}]}]}}" +
      "\n---\n{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: edge}, spec: {containers: " +
      "[{name: app}]}}\n" +
      object(
        ...(["Gateway", networking, "edge/g"] as const),
        "{selector: {istio: ingressgateway}, servers: [{port: {number: 8443, name: https, " +
          `protocol: HTTPS}, hosts: ["*"], tls: {mode: ${mode}}}]}`,
      );
    const declared = read(text);
    t.strictSame(declared.unknownKinds, []);
    const history = new PolicyHistory();
    for (const one of declared.objects) history.apply(one, -Infinity);
    const [client, server] = [end(declared, "edge/c"), end(declared, "edge/gw")];
    const [expectation] = history.expect(client, server, 8443, "TCP", { atMs: 0 }).atStart;
    t.equal(wire(expectation), taken, mode);
  }
});

t.test("what clients send: auto mutual TLS, and DestinationRules", async (t) => {
  const sends = (text: string, from = "other/cli") => ask(PODS + SERVICE + text, 8080, from).sends;
  const host = "srv.default.svc.cluster.local";
  const tls = (mode: string) => `trafficPolicy: {tls: {mode: ${mode}}}`;
  t.equal(sends(meshWide("STRICT")), "mtls", "reachability: global automtls strict");
  t.equal(sends(meshWide("DISABLE")), "plaintext", "reachability: global automtls disable");
  t.equal(sends(peerAuth("STRICT", "8080: {mode: DISABLE}")), "plaintext", "mtls port override");
  const wide = (mode: string) => rule("istio-system/wide", '"*.local"', tls(mode));
  t.equal(
    sends(meshWide("PERMISSIVE") + wide("DISABLE")),
    "plaintext",
    "global plaintext to mtls permissive",
  );
  t.equal(sends(meshWide("PERMISSIVE") + wide("ISTIO_MUTUAL")), "mtls", "global mtls permissive");
  t.equal(sends(wide("SIMPLE")), "tls");
  const near = rule("other/near", host, tls("DISABLE"));
  t.equal(sends(wide("ISTIO_MUTUAL") + near), "plaintext", "the client's namespace comes first");
  t.equal(
    sends(rule("default/far", "srv", tls("DISABLE")) + wide("ISTIO_MUTUAL")),
    "plaintext",
    "a short name is in the rule's namespace",
  );
  t.equal(
    sends(rule("default/own", "srv", `exportTo: ["."], ${tls("DISABLE")}`)),
    "mtls",
    "not exported to the client",
  );
  const ports =
    "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}";
  t.equal(
    sends(rule("default/ports", "srv", ports)),
    "plaintext",
    "the Service's port counts before all",
  );
  const subset = `subsets: [{name: v1, labels: {app: foo}, ${tls("DISABLE")}}]`;
  t.equal(
    sends(rule("default/sub", "srv", `${subset}, ${tls("ISTIO_MUTUAL")}`)),
    null,
    "which subset is the route's choice",
  );
  const other = `subsets: [{name: v1, labels: {app: bar}, ${tls("DISABLE")}}]`;
  t.equal(
    sends(rule("default/sub", "srv", `${other}, ${tls("ISTIO_MUTUAL")}`)),
    "mtls",
    "a subset without this pod",
  );
  const config = (text: string) =>
    `---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: "${text}"}}\n`;
  t.equal(
    sends(config("enableAutoMtls: false")),
    "plaintext",
    "without auto mutual TLS the mesh adds none by itself",
  );
  t.equal(sends(pod("other/naked", "sidecar.istio.io/inject: 'false'"), "other/naked"), null);
});

t.test("settings that cannot be read are not the defaults", async (t) => {
  const config = (text: string) =>
    "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, " +
    `data: {mesh: ${JSON.stringify(text)}}}\n`;
  t.strictSame(ask(PODS + config("rootNamespace: x"), 8080).doubts, []);
  for (const broken of ["a: [", "- a list", `a: &a [1]\nb: [${"*a, ".repeat(500)}]`]) {
    const { doubts } = ask(PODS + config(broken), 8080);
    t.match(doubts, [{ kind: "ConfigMap", reason: /^data\.mesh: /, namespaces: "all" }]);
  }
  const told = read(config("a: ["));
  t.match(told.problems, [{ kind: "ConfigMap", name: "istio" }], "told with file and line");
});

t.test("an identity is known where the client surely sends one", async (t) => {
  const allow = object(
    ...(["AuthorizationPolicy", security, "default/allow"] as const),
    `{${FOO}, rules: [{from: [{source: {namespaces: [other]}}]}]}`,
  );
  const service = SERVICE.replace("http-web", "tcp-x");
  const path = (text: string) => ask(PODS + service + allow + text, 8080);
  t.equal(path("").path, "allowed", "auto mutual TLS");
  const tls = (mode: string) => rule("default/d", "srv", `trafficPolicy: {tls: {mode: ${mode}}}`);
  t.equal(path(tls("DISABLE")).path, "denied", "plaintext has no identity");
  t.equal(path(tls("ISTIO_MUTUAL")).path, "allowed");
  t.equal(path(tls("MUTUAL")).path, "undecidable", "a certificate of its own");
  t.equal(
    path(meshWide("STRICT") + tls("DISABLE")).path,
    "allowed",
    "whoever is in has an identity",
  );
  const http = ask(PODS + SERVICE + allow + tls("DISABLE"), 8080);
  t.ok(inBand(http), "an HTTP listener answers 403");
});

t.test("ambient: an exception by DISABLE alone does not undo an inherited STRICT", async (t) => {
  const pods =
    pod("default/srv", "app: foo, istio.io/dataplane-mode: ambient") + pod("other/cli", "");
  const at = (text: string, port: number) => wire(ask(pods + text, port));
  const strict = meshWide("STRICT");
  t.equal(at(strict + peerAuth("", "8080: {mode: DISABLE}"), 8080), "mtls --+");
  t.equal(
    at(strict + peerAuth("", "8080: {mode: DISABLE}, 9090: {mode: PERMISSIVE}"), 8080),
    "any +++",
  );
  t.equal(at(strict + peerAuth("", "8080: {mode: PERMISSIVE}"), 8080), "any +++");
  t.equal(at(peerAuth("STRICT", "8080: {mode: DISABLE}"), 8080), "any +++");
  t.equal(
    at(strict + peerAuth("PERMISSIVE", "8080: {mode: STRICT}"), 8080),
    "mtls ??+",
    "the port is left to the mesh's STRICT, which does not count (convertPeerAuthentication)",
  );
  t.equal(at(strict + peerAuth("PERMISSIVE", "8080: {mode: STRICT}"), 9090), "any +++");
});

t.test("what the proxy does not get is the program's, and known exceptions are told", async (t) => {
  const annotated = (text: string) =>
    pod("default/srv", "app: foo", `, annotations: {${text}}`, SIDECAR) +
    pod("other/cli", "", "", SIDECAR) +
    meshWide("STRICT");
  const at = (text: string, port: number) => wire(ask(annotated(text), port));
  const traffic = "traffic.sidecar.istio.io";
  for (const port of [15020, 15021, 15090]) t.equal(at("", port), "any +++", "the proxy's own");
  t.equal(at("", 8080), "mtls --+");
  t.equal(at(`${traffic}/excludeInboundPorts: "80, 8080"`, 8080), "any +++");
  t.equal(at(`${traffic}/excludeInboundPorts: "80, 8080"`, 8081), "mtls --+");
  t.equal(at(`${traffic}/includeInboundPorts: "8081"`, 8080), "any +++");
  t.equal(at(`${traffic}/includeInboundPorts: "8081"`, 8081), "mtls --+");
  t.equal(at(`${traffic}/includeInboundPorts: "*"`, 8080), "mtls --+");
  t.equal(at(`${traffic}/includeInboundPorts: ""`, 8080), "any +++");
  t.equal(at("sidecar.istio.io/interceptionMode: NONE", 8080), "null ???");
  const { transportBecause } = ask(annotated(`${traffic}/excludeInboundPorts: "8080"`), 8080);
  t.equal(transportBecause[0]?.rule, `annotation ${traffic}/excludeInboundPorts`);
  const denied = object(
    ...(["AuthorizationPolicy", security, "default/none"] as const),
    `{${FOO}}`,
  );
  const open = ask(annotated(`${traffic}/excludeInboundPorts: "8080"`) + denied, 8080);
  t.equal(open.path, "undeclared", "nor is it authorized there");

  const out = (text: string) =>
    ask(
      pod("default/srv", "app: foo", "", SIDECAR) +
        pod("other/cli", "", `, annotations: {${text}}`, SIDECAR) +
        SERVICE +
        meshWide("PERMISSIVE"),
      8080,
    ).sends;
  t.equal(out(""), "mtls");
  t.equal(out(`${traffic}/excludeOutboundPorts: "80"`), null, "the Service's port");
  t.equal(out(`${traffic}/includeOutboundPorts: "443"`), null);
  t.equal(out(`${traffic}/excludeOutboundIPRanges: 10.0.0.0/8`), null);
  const headless = SERVICE.replace("{selector", "{clusterIP: None, selector");
  t.equal(ask(PODS + headless, 8080).sends, null, "headless: by version");
});

t.test("ambient: the tunnel, the kubelet's probes, waypoints", async (t) => {
  const AMBIENT = "istio.io/dataplane-mode: ambient";
  const pods = pod("default/srv", `app: foo, ${AMBIENT}`) + pod("other/cli", AMBIENT);
  const strict = meshWide("STRICT");
  t.equal(wire(ask(pods + peerAuth("DISABLE"), 15008)), "mtls --+", "HBONE whatever is declared");
  const rules = (list: string) =>
    object(...(["AuthorizationPolicy", security, "default/a"] as const), `{${FOO}, ${list}}`);
  const from = "from: [{source: {namespaces: [other]}}]";
  t.equal(ask(pods + rules(`rules: [{${from}}]`), 15008).path, "allowed");
  const ported = rules(`rules: [{${from}, to: [{operation: {ports: ["8080"]}}]}]`);
  t.equal(ask(pods + ported, 15008).path, "undecidable", "the port is inside the tunnel");
  t.equal(ask(pods + ported, 8080).path, "allowed");
  const declared = read(pods + strict + rules("rules: []"));
  const policy = new Policy(declared.objects);
  const probe = policy.expect(
    { external: "169.254.7.127" },
    end(declared, "default/srv"),
    8080,
    "TCP",
    0,
  );
  t.strictSame([wire(probe), probe.path], ["any +++", "undeclared"]);
  t.match(probe.transportBecause[0]?.sentence, /kubelet's probes/);
  const other = policy.expect(
    { external: "1.2.3.4" },
    end(declared, "default/srv"),
    8080,
    "TCP",
    0,
  );
  t.equal(wire(other), "mtls --+");
  const labelled = pods.replace("{app: foo", "{istio.io/use-waypoint: w, app: foo");
  const only = rules(`rules: [{${from}}]`);
  t.equal(ask(labelled + only, 8080).path, "undecidable", "the waypoint's identity comes in");
  t.equal(ask(labelled.replace(": w,", ": none,") + only, 8080).path, "allowed");
});
