/**
 * Checks meshes: constructed hellos with the names that the projects' own sources build, and
 * certificates that OpenSSL makes for them; hostile names besides.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import { conclude } from "../../agent/assess/conclude.ts";
import { flowLine, painter } from "../../agent/assess/sentence.ts";
import { readMeshName, readSpiffeId } from "../../agent/tls/mesh-name.ts";
import type { Flow, Tls } from "../../protocol/flow-record.ts";
import { Reading } from "../../agent/assess/reading.ts";
import { join, latin1, random, u16, u24, viewOf } from "../frames.ts";
import { read } from "./captures.ts";
import { hello, record, talk } from "./talk.ts";

const extension = (type: number, body: Uint8Array) => join(u16(type), u16(body.length), body);
const sized = (body: Uint8Array) => join(u16(body.length), body);
const FRESH = join(u16(0x0303), new Uint8Array(32), [0]);

function clientHello(sni: string | null, alpn: readonly string[]): Uint8Array {
  const extensions = join(
    sni === null ? [] : extension(0, sized(join([0], sized(latin1(sni))))),
    alpn.length === 0
      ? []
      : extension(16, sized(join(...alpn.map((name) => join([name.length], latin1(name)))))),
  );
  return record(22, hello(1, join(FRESH, u16(2), u16(0x1301), [1, 0], sized(extensions))));
}
/** Of TLS 1.2, or with supported_versions of 1.3 (RFC 8446 §4.2.1). */
const serverHello = (is13: boolean) => {
  const extensions = is13 ? sized(extension(43, Uint8Array.from(u16(0x0304)))) : [];
  return record(22, hello(2, join(FRESH, u16(is13 ? 0x1301 : 0xc02f), [0], extensions)));
};
const certificateMessage = (der: Uint8Array) => {
  const entry = join(u24(der.length), der);
  return record(22, hello(11, join(u24(entry.length), entry)));
};

type Asked = { sni?: string; alpn?: string[]; port?: number; is13?: boolean; cert?: Uint8Array };
function flowOf({ sni, alpn = [], port = 7000, is13 = true, cert }: Asked): Flow {
  const answer = cert ? join(serverHello(false), certificateMessage(cert)) : serverHello(is13);
  const frames = talk(
    [
      [">", clientHello(sni ?? null, alpn)],
      ["<", answer],
    ],
    true,
    port,
  );
  return read(frames)[0]!;
}

const NONE = {
  service: null,
  namespace: null,
  subset: null,
  port: null,
  identity: null,
  trust_domain: null,
};
const UUID = "5c0ba4ea-2bb1-4ac1-9b0a-1f6c1d3f0c55";
const LINKERD = "web.shop.serviceaccount.identity.linkerd.cluster.local";
const REVIEWS = { service: "reviews", namespace: "default", port: 9080 };
const WEB = { service: "web", namespace: "shop", trust_domain: `${UUID}.consul` };

const NAMES: readonly [string, Tls["mesh"], Partial<typeof NONE | object>][] = [
  // istio pilot/pkg/model, BuildDNSSrvSubsetKey and BuildSubsetKey
  ["outbound_.9080_._.reviews.default.svc.cluster.local", "istio", REVIEWS],
  ["outbound_.9080_.v1_.reviews.default.svc.cluster.local", "istio", { ...REVIEWS, subset: "v1" }],
  ["outbound|9080|v1|reviews.default.svc.cluster.local", "istio", { ...REVIEWS, subset: "v1" }],
  ["outbound|9080||reviews.default.svc.clusterset.local", "istio", REVIEWS],
  ["outbound_.443_._.api.example.com", "istio", { service: "api.example.com", port: 443 }],
  ["inbound_.9080_._.reviews.default.svc.cluster.local", "istio", REVIEWS],
  ["inbound|9080||", "istio", { port: 9080 }],
  // linkerd2 controller/k8s, ServiceAccountIdentity
  [LINKERD, "linkerd", { namespace: "shop", identity: LINKERD, trust_domain: "cluster.local" }],
  // consul agent/connect/sni.go
  [`web.shop.dc1.internal.${UUID}.consul`, "consul", WEB],
  [`v2.web.shop.dc1.internal.${UUID}.consul`, "consul", { ...WEB, subset: "v2" }],
  [`web.shop.part.dc1.internal-v1.${UUID}.consul`, "consul", WEB],
  [`v2.web.shop.part.dc1.internal-v1.${UUID}.consul`, "consul", { ...WEB, subset: "v2" }],
  [`web.shop.part.peer.external.${UUID}.consul`, "consul", WEB],
  [`dc1.internal.${UUID}.consul`, "consul", { trust_domain: `${UUID}.consul` }],
  [
    `geo.default.dc1.query.${UUID}.consul`,
    "consul",
    { ...WEB, service: "geo", namespace: "default" },
  ],
];

for (const [sni, mesh, told] of NAMES) {
  t.test(`the SNI ${sni} is of ${mesh}`, async (t) => {
    const flow = flowOf({ sni });
    t.equal(flow.tls?.mesh, mesh);
    t.strictSame(flow.tls?.mesh_target, { ...NONE, ...told });
    for (let cut = 0; cut < sni.length; cut++) readMeshName(sni.slice(0, cut));
  });
}

t.test("names that only look alike are of no mesh", async (t) => {
  const others = [
    ...["outbound.example", "outbound_.x_._.host", "outbound_.99999_._.host", "outbound_.80_._."],
    ...["outbound|80|a.b", "xoutbound_.80_._.host", "outbound_.80_._.host_.more", "inbound"],
    ...["serviceaccount.identity.linkerd.cluster.local", ".shop.serviceaccount.identity.l.d"],
    ...["web.shop.serviceaccount.identity.linkerd", "web.shop.serviceaccounts.identity.l.d"],
    ...[`internal.${UUID}.consul`, `a.b.c.d.e.internal.${UUID}.consul`, "web.service.consul"],
    ...[`web..dc1.internal.${UUID}.consul`, "web.shop.dc1.internal.example.consul"],
    ...[`outbound_.80_._.${"a".repeat(600)}`, `${"a.".repeat(400)}internal.${UUID}.consul`],
  ];
  for (const sni of others) {
    t.equal(readMeshName(sni), null, sni);
    const { tls } = flowOf({ sni });
    t.strictSame([tls?.mesh, tls?.mesh_target], [null, null], sni);
  }
});

t.test("by ALPN without a name of the server's; never by port alone", async (t) => {
  const told = (asked: Asked) => {
    const { tls } = flowOf(asked);
    t.equal(tls?.mesh_target, null);
    return tls?.mesh;
  };
  t.equal(told({ alpn: ["istio-peer-exchange", "istio"] }), "istio");
  t.equal(told({ alpn: ["istio-h2", "istio", "h2"], sni: "reviews" }), "istio");
  t.equal(told({ alpn: ["transport.l5d.io/v1"] }), "linkerd");
  t.equal(told({ alpn: ["h2"], port: 15008 }), "istio-ambient");
  t.equal(told({ alpn: ["h2"], port: 15009 }), null);
  t.equal(told({ alpn: ["h2", "http/1.1"], port: 15008 }), null);
  t.equal(told({ alpn: ["h2"], port: 15008, sni: "a.example" }), null);
  t.equal(told({ alpn: ["h2"], port: 15008, is13: false }), null);
  for (const port of [15008, 15006, 4143, 20000]) t.equal(told({ port }), null, `port ${port}`);
});

const folder = mkdtempSync(path.join(tmpdir(), "wireproof-mesh-"));
t.teardown(() => rmSync(folder, { recursive: true }));
function certificateOf(uri: string): Uint8Array {
  const file = path.join(folder, "one.der");
  const { status, stderr } = spawnSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"],
    ...["-subj", "/", "-addext", `subjectAltName=URI:${uri}`, "-keyout", "/dev/null"],
    ...["-outform", "DER", "-out", file],
  ]);
  if (status !== 0) throw new Error(stderr.toString());
  return Uint8Array.from(readFileSync(file));
}

t.test("a server's SPIFFE id fills what its name in the SNI leaves open", async (t) => {
  const identity = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
  const cert = certificateOf(identity);
  const proven = { identity, trust_domain: "cluster.local" };
  const sni = "outbound_.9080_.v1_.reviews.default.svc.cluster.local";
  const named = flowOf({ sni, alpn: ["istio"], cert }).tls;
  t.strictSame(named?.mesh_target, { ...NONE, ...REVIEWS, subset: "v1", ...proven });
  const unnamed = flowOf({ alpn: ["istio"], cert }).tls;
  t.strictSame(unnamed?.mesh_target, { ...NONE, namespace: "default", ...proven });
  // The same form is SPIRE's: alone it tells no mesh, in HBONE down to TLS 1.2 it does.
  t.equal(flowOf({ cert }).tls?.mesh, null);
  t.equal(flowOf({ cert, alpn: ["h2"], port: 15008 }).tls?.mesh, "istio-ambient");
  const id = `spiffe://${UUID}.consul/ap/part/ns/shop/dc/dc1/svc/web`;
  const consul = flowOf({ cert: certificateOf(id) }).tls;
  t.strictSame([consul?.mesh, consul?.mesh_target], ["consul", { ...NONE, ...WEB, identity: id }]);
});

t.test("SPIFFE ids: the projects' forms, and what is none", async (t) => {
  const istio = readSpiffeId("spiffe://td/ns/n/sa/s");
  t.match(istio, { form: "istio", target: { namespace: "n", trustDomain: "td", service: null } });
  const consul = readSpiffeId("spiffe://td/ns/n%20m/dc/d/svc/s%zz");
  t.match(consul, { form: "consul", target: { namespace: "n m", service: "s%zz" } });
  for (const uri of [
    ...["", "spiffe://", "spiffe:///ns/n/sa/s", "spiffe://td", "spiffe://td/ns//sa/s", "https://a"],
    ...["spiffe://td/ns/n/sa/s/x", "spiffe://td/ap/p/ns/n/sa/s", "spiffe://td/ns/n/dc/d"],
    ...["spiffe://td/ap/", "spiffe://td/ap", `spiffe://td/ns/${"n".repeat(3000)}/sa/s`],
  ]) {
    t.equal(readSpiffeId(uri), null, uri.slice(0, 60));
  }
});

t.test("names from strangers: nothing thrown, and work by their length alone", async (t) => {
  const below = random(20270114);
  const parts = ["outbound", "inbound", "_.", "|", ".", "9080", "_", "svc", "identity", UUID];
  parts.push("serviceaccount", "consul", "internal", "-v1", "spiffe://", "/ns/", "/sa/", "%", "\0");
  let told = 0;
  for (let i = 0; i < 50_000; i++) {
    let name = "";
    for (let n = below(40); n > 0; n--) name += parts[below(parts.length)]!;
    if (readMeshName(name) || readSpiffeId(name)) told++;
  }
  t.ok(told < 50_000, `${told} were names`);
});

t.test("people read whom the mesh was asked for", async (t) => {
  const flow = flowOf({ sni: NAMES[1]![0], alpn: ["istio"] });
  const line = (of: Flow) => flowLine(of, 1, painter(false));
  t.match(line(flow), / for reviews\.default \(subset v1, port 9080\) in istio; /);
  t.match(line(flowOf({ sni: LINKERD })), / for web\.shop\.serviceaccount\..* in linkerd; /);
  t.match(line(flowOf({ sni: "a.example", alpn: ["istio"] })), / for a\.example in istio; /);
  t.match(
    line(flowOf({ sni: "inbound|9080||" })),
    / for an unnamed service \(port 9080\) in istio/,
  );
  const reading = new Reading(false, { client: 40000, server: 7000 });
  const bytes = clientHello(NAMES[1]![0], ["istio"]);
  reading.read(0, viewOf(bytes), 0, bytes.length, 0, -1);
  const concluded = (of: Flow) => conclude(of, reading).find((c) => c.field === "tls.mesh");
  t.match(concluded(flow), {
    value: "istio",
    why: /^ALPN istio, SNI outbound_.*: service reviews, namespace default, subset v1, port 9080$/,
  });
  t.match(
    concluded(flowOf({ alpn: ["istio"] }))?.why,
    /^ALPN istio, no SNI: no name of the server/,
  );
  t.equal(concluded(flowOf({ sni: "a.example" })), undefined);
});
