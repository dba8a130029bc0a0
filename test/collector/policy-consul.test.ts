/**
 * Tests what Consul's intentions and proxies require. Each case names where its truth stands:
 * `intentions` is consul agent/structs/config_entry_intentions.go, `rbac` is agent/xds/rbac.go and
 * its comment, `webhook` and `endpoints` are consul-k8s control-plane/connect-inject, `types` is
 * control-plane/api/v1alpha1, `docs` the page on intentions.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { precedenceOf } from "../../collector/policy/mesh/consul/intentions.ts";
import { Policy } from "../../collector/policy/policy.ts";
import { runAllowed, runExplain } from "../../collector/policy/answer/policy-command.ts";
import { formatProblem } from "../../collector/policy/manifest/problem.ts";
import { end, expectOf, inBand, read, wire } from "./manifests.ts";

const INJECT = "consul.hashicorp.com/connect-inject: 'true'";
const pod = (name: string, annotations = "", more = "", inject = INJECT) =>
  `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${name}, namespace: a, labels: {app: ${name}}, ` +
  `annotations: {${inject}${annotations}}}, spec: {containers: [{name: c, ports: [{name: web, ` +
  `containerPort: 8080}]${more}}]}}\n`;
const service = (name: string) =>
  `---\n{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: a}, spec: {selector: ` +
  `{app: ${name}}, ports: [{port: 80, targetPort: web}]}}\n`;
const PODS =
  ["web", "api", "db"].map((name) => pod(name) + service(name)).join("") +
  pod("u", "", "", "consul.hashicorp.com/connect-inject: 'false'");

const crd = (kind: string, name: string, spec: string) =>
  `---\n{apiVersion: consul.hashicorp.com/v1alpha1, kind: ${kind}, metadata: {name: ${name}, ` +
  `namespace: a}, spec: ${spec}}\n`;
const intentions = (destination: string, sources: string, more = "", name = "i") =>
  crd(
    "ServiceIntentions",
    name,
    `{destination: {name: ${destination}}, sources: [${sources}]${more}}`,
  );
const source = (name: string, action: string, more = "") =>
  `{name: ${name}, action: ${action}${more}}`;
const HTTP = crd("ServiceDefaults", "db", "{protocol: http}");

/** The servers' settings as Helm writes them. */
const servers = (files: Record<string, string>) =>
  "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: consul-server-config, namespace: consul}\n" +
  `data: ${JSON.stringify({ "server.json": "{}", ...files })}\n`;
const acl = (policy: string) =>
  servers({ "acl-config.json": `{"acl": {"enabled": true, "default_policy": "${policy}"}}` });

const ask = (text: string, from: string, to = "db", port = 8080) =>
  expectOf(text, /^\d/.test(from) ? from : `a/${from}`, `a/${to}`, port);

t.test("the table of precedence (intentions computeIntentionPrecedence; docs)", async (t) => {
  const [exact, names, all] = [
    { name: "s", namespace: "n" },
    { name: "*", namespace: "n" },
    { name: "*", namespace: "*" },
  ];
  t.strictSame(
    [exact, names, all].map((to) => [exact, names, all].map((from) => precedenceOf(to, from))),
    [
      [9, 8, 7],
      [6, 5, 4],
      [3, 2, 1],
    ],
  );
});

t.test("the most exact intention decides alone (docs: precedence and match order)", async (t) => {
  const text = (nine: string, eight: string, six: string, five: string) =>
    PODS +
    intentions("db", [source("web", nine), source("'*'", eight)].join(", ")) +
    intentions("'*'", [source("web", six), source("'*'", five)].join(", "), "", "wide");
  t.equal(ask(text("allow", "deny", "deny", "deny"), "web").path, "allowed", "9");
  t.equal(ask(text("deny", "allow", "allow", "allow"), "web").path, "denied", "9");
  t.equal(ask(text("deny", "allow", "deny", "deny"), "api").path, "allowed", "8");
  t.equal(ask(text("allow", "deny", "allow", "allow"), "api").path, "denied", "8");
  t.equal(ask(text("deny", "deny", "allow", "deny"), "web", "api").path, "allowed", "6");
  t.equal(ask(text("deny", "deny", "deny", "allow"), "web", "api").path, "denied", "6");
  t.equal(ask(text("deny", "deny", "deny", "allow"), "db", "api").path, "allowed", "5");
  t.equal(ask(text("deny", "deny", "deny", "deny"), "db", "api").path, "denied", "5");
  const because = ask(text("allow", "deny", "deny", "deny"), "web").pathBecause[0]!;
  t.match(because, {
    kind: "ServiceIntentions",
    namespace: "a",
    name: "i",
    rule: "spec.sources[0].action",
    sentence: "allowed by ServiceIntentions a/i: spec.sources[0] is the first that matches",
  });
});

t.test("what holds without an intention (helm server-config; docs)", async (t) => {
  const some = PODS + intentions("db", source("web", "allow"));
  t.equal(ask(some, "api").path, "undecidable", "nothing declares the servers' default");
  t.match(ask(some, "api").pathBecause[0]!.sentence, /no intention speaks of the two/);
  t.equal(ask(some, "web", "api").path, "undeclared", "no intention is for the service");
  t.equal(ask(some + acl("deny"), "api").path, "denied");
  t.match(ask(some + acl("deny"), "api").pathBecause[0], {
    kind: "ConfigMap",
    rule: "acl.default_policy",
  });
  t.equal(ask(some + acl("deny"), "web").path, "allowed");
  t.equal(ask(PODS + acl("deny"), "web").path, "denied");
  t.equal(ask(some + acl("allow"), "api").path, "allowed");
  t.equal(ask(PODS + acl("allow"), "api").path, "undeclared");
  t.equal(ask(some + servers({}), "api").path, "allowed", "access lists are off");
  const intention = servers({ "x.json": '{"default_intention_policy": "deny"}' });
  t.equal(ask(some + intention, "api").path, "denied", "it comes before the access lists");
  t.equal(ask(some + servers({ "z.json": "{" }), "api").path, "undecidable", "cannot be read");
});

t.test("a denial of HTTP is answered inside (rbac makeRBACHTTPFilter)", async (t) => {
  const deny = PODS + intentions("db", source("web", "deny"));
  t.equal(ask(deny, "web").path, "denied", "tcp is what Consul takes by itself");
  t.ok(inBand(ask(deny + HTTP, "web")));
  t.ok(inBand(ask(deny + HTTP.replace("http", "grpc"), "web")));
  t.equal(ask(deny + HTTP.replace("http}", "tcp}"), "web").path, "denied");
  const global = crd("ProxyDefaults", "global", "{config: {protocol: http2}}");
  t.ok(inBand(ask(deny + global, "web")), "for every proxy");
  t.equal(ask(deny + global + HTTP.replace("http}", "tcp}"), "web").path, "denied", "its own");
  t.equal(ask(PODS + HTTP + intentions("db", source("web", "allow")), "web").path, "allowed");
});

t.test("permissions and tokens (rbac removePermissionPrecedence)", async (t) => {
  const l7 = (...actions: string[]) =>
    PODS +
    intentions(
      "db",
      `{name: web, permissions: [${actions
        .map((action, i) => `{action: ${action}, http: {pathPrefix: /${i}}}`)
        .join(", ")}]}`,
    );
  t.equal(ask(l7("allow", "deny") + HTTP, "web").path, "undecidable");
  t.equal(ask(l7("allow") + HTTP + acl("deny"), "web").path, "undecidable");
  t.ok(inBand(ask(l7("deny", "deny") + HTTP + acl("deny"), "web")), "all come to the default");
  t.equal(ask(l7("allow") + HTTP + acl("allow"), "web").path, "allowed");
  t.equal(ask(l7("allow"), "web").path, "undecidable", "the protocol is not declared");
  const tcp = HTTP.replace("http}", "tcp}");
  t.equal(ask(l7("allow") + tcp, "web").path, "denied", "treated as a denial");
  const jwt = ", jwt: {providers: [{name: okta}]}";
  t.equal(
    ask(PODS + HTTP + intentions("db", source("web", "allow"), jwt), "web").path,
    "undecidable",
  );
  t.ok(inBand(ask(PODS + HTTP + intentions("db", source("web", "deny"), jwt), "web")));
});

t.test("sources elsewhere (intentions: peer, partition, sameness group)", async (t) => {
  const only = (more: string) =>
    PODS + acl("deny") + intentions("db", source("web", "allow", `, ${more}`));
  t.equal(ask(only("peer: east"), "web").path, "denied", "another cluster's web");
  t.equal(ask(only("partition: other"), "web").path, "denied");
  t.equal(ask(only("partition: default"), "web").path, "allowed");
  t.equal(ask(only("samenessGroup: g"), "web").path, "undecidable");
  const gateway = pod("gw", ", consul.hashicorp.com/gateway-kind: mesh-gateway", "", "x: y");
  t.equal(ask(only("peer: east") + gateway, "gw").path, "undecidable", "it hands on identities");
  t.equal(ask(only("peer: east") + gateway, "web", "gw").path, "undecidable");
});

t.test("which service a pod is (endpoints serviceName)", async (t) => {
  const allow = acl("deny") + intentions("db", source("front", "allow"));
  const named = (annotations: string) => PODS + pod("x", annotations) + service("x") + allow;
  t.equal(ask(named(""), "x").path, "denied", "by its Service: x");
  t.equal(ask(named(", consul.hashicorp.com/connect-service: front"), "x").path, "allowed");
  t.equal(ask(named(", consul.hashicorp.com/kubernetes-service: front"), "x").path, "allowed");
  const bare = PODS + pod("y") + allow;
  t.equal(ask(bare, "y").path, "undecidable", "no Service selects it");
  t.equal(ask(bare + intentions("db", source("'*'", "allow"), "", "all"), "y").path, "allowed");
  const two = named(", consul.hashicorp.com/connect-service: 'front,back'");
  t.equal(ask(two, "x").path, "undecidable", "one of two");
  const ports =
    PODS +
    acl("deny") +
    pod(
      "m",
      ", consul.hashicorp.com/connect-service: 'm-web,m-admin'" +
        ", consul.hashicorp.com/connect-service-port: '8080,9090'",
    ) +
    intentions("m-admin", source("web", "allow"));
  t.equal(ask(ports, "web", "m", 9090).path, "allowed");
  t.equal(ask(ports, "web", "m", 8080).path, "denied");
  t.equal(ask(ports, "web", "m", 20001).path, "allowed", "each has a public port of its own");
  t.equal(ask(ports, "web", "m", 20000).path, "denied");
});

t.test("namespaces of Consul Enterprise (intentions)", async (t) => {
  const named = (to: string, from: string) =>
    PODS +
    acl("deny") +
    crd(
      "ServiceIntentions",
      "i",
      `{destination: {name: db, namespace: ${to}}, sources: [{name: web, namespace: ${from}, ` +
        "action: allow}]}",
    );
  t.equal(ask(named("default", "default"), "web").path, "allowed", "there are none in use");
  t.equal(ask(named("a", "a"), "web").path, "allowed", "mirrored from Kubernetes");
  t.equal(ask(named("a", "b"), "web").path, "undecidable", "mirroring is not declared");
  const own = (text: string) =>
    text.replaceAll(INJECT, `${INJECT}, consul.hashicorp.com/consul-namespace: a`);
  t.equal(ask(own(named("a", "b")), "web").path, "denied", "told by the webhook");
  t.equal(
    ask(own(named("a", "'*'").replace("[{name: web, name", "[{name: '*', name")), "web").path,
    "allowed",
  );
});

t.test("mutual TLS: strict, permissive (types MutualTLSMode; docs)", async (t) => {
  const strict = ask(PODS + intentions("db", source("web", "allow")), "web");
  t.equal(wire(strict), "mtls --+");
  t.match(strict.transportBecause[0]!.sentence, /takes mutual TLS with an identity/);
  const permissive = crd("ServiceDefaults", "db", "{mutualTLSMode: permissive}");
  const consent = crd("Mesh", "mesh", "{allowEnablingPermissiveMutualTLS: true}");
  const open = ask(PODS + permissive + consent + acl("deny"), "u");
  t.equal(wire(open), "any +++");
  t.equal(open.path, "undeclared", "intentions are not enforced for what is no mutual TLS");
  t.equal(ask(PODS + permissive + consent + acl("deny"), "web").path, "denied", "by its proxy");
  t.equal(wire(ask(PODS + permissive + consent, "u", "db", 20000)), "mtls --+", "public port");
  t.equal(wire(ask(PODS + permissive + consent, "u", "db", 9999)), "mtls --+", "no service's port");
  t.equal(wire(ask(PODS + permissive, "u")), "null ??+", "Mesh does not allow it to be written");
  const wide = crd("ProxyDefaults", "global", "{mutualTLSMode: permissive}");
  t.equal(wire(ask(PODS + wide + consent, "u", "api")), "any +++");
  const own = crd("ServiceDefaults", "db", "{mutualTLSMode: strict}");
  t.equal(wire(ask(PODS + wide + consent + own, "u")), "mtls --+", "the service's own first");
  const tls = crd("Mesh", "mesh", "{tls: {incoming: {tlsMinVersion: TLSv1_3}}}");
  t.equal(ask(PODS + tls, "web").transport.minVersion, "TLSv1.3");
});

t.test("clients without an identity (listener: client certificate required)", async (t) => {
  const some = PODS + intentions("db", source("'*'", "allow"));
  t.equal(ask(some, "u").path, "denied", "`*` is every service, and it is none");
  t.equal(wire(ask(some, "u")), "mtls --+");
  t.equal(ask(some, "203.0.113.9").path, "denied");
  t.equal(ask(PODS, "u").path, "undeclared");
  const perhaps = pod("p", "", "", "x: y") + service("p");
  t.equal(ask(some + perhaps, "p").path, "undecidable", "perhaps meshed");
  const excluded = pod(
    "e",
    ", consul.hashicorp.com/transparent-proxy-exclude-outbound-ports: '8080,80'",
  );
  t.equal(ask(some + excluded + service("e"), "e").path, "denied", "it goes past its proxy");
});

t.test("ports that do not go to the proxy (webhook redirect_traffic.go)", async (t) => {
  const db = (annotations: string, more = "") =>
    pod("web") + service("web") + service("db") + pod("db", annotations, more) + acl("deny");
  const key = "consul.hashicorp.com/transparent-proxy";
  const excluded = db(`, ${key}-exclude-inbound-ports: '9000,8080'`);
  t.equal(wire(ask(excluded, "web")), "any +++");
  t.equal(ask(excluded, "web").path, "undeclared");
  t.match(ask(excluded, "web").transportBecause[0]!.rule, /exclude-inbound-ports/);
  t.equal(wire(ask(db(`, ${key}-exclude-inbound-ports: x`), "web")), "null ???");
  const direct = db(`, ${key}: 'false'`);
  t.equal(wire(ask(direct, "web")), "any +++", "nothing turns its port to the proxy");
  t.equal(wire(ask(direct, "web", "db", 20000)), "mtls --+");
  t.equal(ask(direct, "web", "db", 20000).path, "denied");
  t.equal(wire(ask(db(`, ${key}: maybe`), "web")), "null ???");
  const probes = ", livenessProbe: {httpGet: {port: 8080}}, readinessProbe: {httpGet: {port: 1}}";
  t.equal(wire(ask(db("", probes), "web", "db", 20300)), "any +++", "the kubelet's, turned there");
  t.equal(wire(ask(db("", probes), "web", "db", 20400)), "any +++");
  t.equal(wire(ask(db("", probes), "web", "db", 20500)), "mtls --+");
  t.equal(
    wire(ask(db(`, ${key}-overwrite-probes: 'false'`, probes), "web", "db", 20300)),
    "mtls --+",
  );
  t.equal(
    wire(ask(db(", consul.hashicorp.com/enable-metrics: 'true'"), "web", "db", 20200)),
    "any +++",
  );
  t.equal(
    wire(ask(db(", consul.hashicorp.com/enable-metrics: 'false'"), "web", "db", 20200)),
    "mtls --+",
  );
  t.equal(wire(ask(db(""), "web", "db", 20200)), "null ???", "Helm's own setting is not declared");
  const cni = db(
    `, consul.hashicorp.com/redirect-traffic-config: '{"ExcludeInboundPorts": ["7000"]}'`,
  );
  t.equal(wire(ask(cni, "web", "db", 7000)), "any +++");
  const expose = crd(
    "ServiceDefaults",
    "db",
    "{expose: {paths: [{listenerPort: 21500, path: /h}]}}",
  );
  t.equal(wire(ask(db("") + expose, "web", "db", 21500)), "any +--");
  t.equal(ask(db("") + expose, "web", "db", 21500).path, "undeclared");
});

t.test("entries of Consul's own HTTP API (api: config, connect/intentions)", async (t) => {
  const entry = {
    ...{ Kind: "service-intentions", Name: "db", CreateIndex: 4, ModifyIndex: 9, Hash: 1 },
    Meta: { "external-source": "kubernetes" },
    Sources: [
      { Name: "web", Action: "allow", Precedence: 9, Type: "consul" },
      {
        Name: "api",
        Precedence: 9,
        Type: "consul",
        Permissions: [
          {
            Action: "allow",
            HTTP: { PathPrefix: "/v1", Methods: ["GET"], Header: [{ Name: "x", Present: true }] },
          },
        ],
      },
      { Name: "*", Action: "deny", Precedence: 8, Type: "consul" },
    ],
  };
  const http = { Kind: "service-defaults", Name: "db", Protocol: "tcp", MutualTLSMode: "strict" };
  const from = (files: unknown[], client: string) => {
    const declared = read(PODS);
    for (const file of files) {
      const other = read(JSON.stringify(file), "consul.json");
      t.strictSame(other.problems.map(formatProblem), []);
      t.strictSame(other.unknownKinds, []);
      declared.objects.push(...other.objects);
    }
    const policy = new Policy(declared.objects);
    return policy.expect(end(declared, `a/${client}`), end(declared, "a/db"), 8080, "TCP", 0);
  };
  t.equal(from([entry], "web").path, "allowed");
  t.equal(from([entry], "db").path, "denied");
  t.equal(from([entry], "api").path, "undecidable");
  t.equal(from([[entry, http]], "api").path, "denied", "a list of entries; its protocol is tcp");
  const snake = {
    kind: "service-intentions",
    name: "db",
    sources: [{ name: "web", action: "deny" }],
  };
  t.equal(from([snake], "web").path, "denied", "as `consul config write` takes it");
  const listed = [
    ...[{ ID: "1", SourceNS: "default", SourceName: "web", DestinationNS: "default" }].map((i) => ({
      ...i,
      DestinationName: "db",
      SourceType: "consul",
      Action: "allow",
      Precedence: 9,
    })),
    {
      SourceNS: "default",
      SourceName: "*",
      DestinationNS: "default",
      DestinationName: "db",
      Action: "deny",
    },
  ];
  t.equal(from([listed], "web").path, "allowed", "one by one");
  t.equal(from([listed], "api").path, "denied");
  const permissive = [
    {
      Kind: "mesh",
      AllowEnablingPermissiveMutualTLS: true,
      TLS: { Incoming: { TLSMinVersion: "TLSv1_2" } },
    },
    {
      Kind: "proxy-defaults",
      Name: "global",
      MutualTLSMode: "permissive",
      Config: { protocol: "http" },
    },
  ];
  t.equal(wire(from([permissive], "u")), "any +++");
  const wrong = read(
    '{\n "Kind": "service-intentions",\n "Name": "db",\n "Sources": [\n' +
      '  {"Name": "web", "Action": "allow"},\n  {"Name": "api", "Action": "perhaps"}]\n}\n',
    "c.json",
  );
  t.match(wrong.problems.map(formatProblem), [
    /^c\.json:6:\d+: ServiceIntentions db: spec\.sources\[1\]\.action: /,
  ]);
});

t.test("wrong fields are told, and weaken nothing (intentions Validate)", async (t) => {
  const permissions = "permissions: [{action: allow, http: {pathExact: /a}}]";
  const wrong: [string, RegExp][] = [
    [intentions("db", ""), /fewer than 1 items|must not have/],
    [intentions("db", "{action: allow}"), /sources/],
    [intentions("db", "{name: web}"), /needs an action or permissions/],
    [intentions("db", source("web", "permit")), /action/],
    [
      intentions("db", source("web", "allow", `, ${permissions}`)),
      /must not stand beside permissions/,
    ],
    [intentions("'*'", `{name: web, ${permissions}}`), /need a destination without \*/],
    [intentions("'d*'", source("web", "allow")), /must be \* or hold no \*/],
    [intentions("db", source("'w*'", "allow")), /must be \* or hold no \*/],
    [intentions("db", source("web", "allow", ", namespace: '*'")), /must be \* in every namespace/],
    [intentions("db", source("web", "allow", ", peer: p, partition: q")), /takes only one of/],
    [
      intentions("db", [source("web", "allow"), source("web", "deny")].join(", ")),
      /more than once/,
    ],
    [intentions("db", source("web", "allow", ", prot: x")), /unknown field prot/],
  ];
  for (const [text, reason] of wrong) {
    t.match(read(text).problems.map(formatProblem).join("\n"), reason, text);
    const open = intentions("db", source("web", "allow"), "", "other");
    t.equal(ask(PODS + text + open, "web").path, "undecidable", text);
  }
  const twice =
    intentions("db", source("web", "allow")) + intentions("db", source("web", "deny"), "", "j");
  const two = ask(PODS + twice, "web");
  t.equal(two.path, "undecidable");
  t.match(two.pathBecause[0]!.sentence, /two intentions for the same services disagree/);
  const broken = crd("ServiceDefaults", "db", "{protocol: http, mutualTLSMode: loose}");
  t.equal(wire(ask(PODS + broken + intentions("db", source("web", "deny")), "web")), "null ??+");
  const exported = crd(
    "ExportedServices",
    "default",
    "{services: [{name: db, consumers: [{peer: e}]}]}",
  );
  t.strictSame([read(exported).problems, read(exported).unknownKinds], [[], []]);
  const v2 =
    "---\n{apiVersion: auth.consul.hashicorp.com/v2beta1, kind: TrafficPermissions, " +
    "metadata: {name: x}, spec: {}}\n";
  t.match(read(v2).problems[0]?.reason, /not read/);
});

t.test("who is meshed; policy explain and policy allowed use it", async (t) => {
  const shown = (annotation: string) =>
    wire(ask(pod("db", "", "", annotation) + service("db"), "203.0.113.9"));
  t.equal(shown("consul.hashicorp.com/connect-inject-status: injected"), "mtls --+");
  t.equal(shown("x: y"), "null ???");
  const named =
    pod("db", "", "", "x: y") + service("db") + intentions("db", source("web", "allow"));
  t.equal(wire(ask(named, "203.0.113.9")), "mtls --+", "an intention names its service");
  const wide =
    pod("db", "", "", "x: y") + service("db") + intentions("'*'", source("web", "allow"));
  t.equal(wire(ask(wide, "203.0.113.9")), "null ???", "`*` shows nothing of a pod");
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const bare = (name: string) => pod(name, "", "", "x: y") + service(name);
  writeFileSync(
    path.join(folder, "all.yaml"),
    bare("web") + bare("db") + intentions("'*'", source("web", "deny")),
  );
  const options = { manifests: folder, from: "a/web", to: "a/db", port: "8080", format: "json" };
  const answer = JSON.parse(runExplain({ ...options, mesh: "consul", wire: "tls" }, 0).out);
  t.match(answer, { path: "denied", transport: { required: "mtls" }, wire: "refused" });
  const mutual = JSON.parse(runExplain({ ...options, mesh: "consul", wire: "mtls" }, 0).out);
  t.match(mutual, { path: "denied", wire: "accepted" });
  t.match(mutual.because[0], { kind: "ServiceIntentions", rule: "spec.sources[0].action" });
  t.equal(JSON.parse(runExplain(options, 0).out).path, "undeclared");
  writeFileSync(path.join(folder, "all.yaml"), PODS + intentions("db", source("web", "deny")));
  t.equal(
    runAllowed({ manifests: folder, layer: "all" }, 0).out.match(/^a\/web.* => a\/db.*$/m)?.[0],
    "a/web[Pod] => a/db[Pod] : SCTP 1-65535,TCP 20200,UDP 1-65535",
    "TCP 20200 is left where nothing tells whether it is the metrics' port",
  );
});

t.test("manifests cut, or changed by a byte, anywhere, never throw", async (t) => {
  const WHOLE =
    intentions("db", source("web", "allow", ", peer: p")) +
    HTTP +
    acl("deny") +
    crd("Mesh", "mesh", "{tls: {incoming: {tlsMinVersion: TLSv1_2}}}") +
    '---\n{"Kind": "service-intentions", "Name": "db", "Sources": [{"Name": "*", "Action": "deny"}]}';
  let state = 11;
  for (let at = 0; at < WHOLE.length; at += 5) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = String.fromCharCode(32 + ((state >>> 10) % 95));
    for (const text of [WHOLE.slice(0, at), WHOLE.slice(0, at) + other + WHOLE.slice(at + 1)]) {
      const policy = new Policy(read(text).objects, { mesh: "consul" });
      const declared = read(PODS);
      policy.expect(end(declared, "a/web"), end(declared, "a/db"), 8080, "TCP", 0);
    }
  }
  t.pass("nothing was thrown");
});
