/** Tests what a segmentation file requires of edges: zones, paths, actors, waivers, transport. */
import { readFileSync } from "node:fs";
import path from "node:path";
import t from "tap";
import { Policy } from "../../collector/policy/policy.ts";
import { formatProblem } from "../../collector/policy/manifest/problem.ts";
import { formatSegmentationSchema } from "../../collector/policy/segmentation/shape.ts";
import { end, expectOf, read } from "./manifests.ts";

const pod = (name: string, labels: string, more = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, ` +
    `labels: {${labels}}}, spec: {containers: [{name: c}]}${more}}\n`
  );
};
const PODS = pod("a/x", "app: x") + pod("a/y", "app: y") + pod("b/z", "app: z");

t.test("a segmentation file gives zones, paths, waivers and transport", async (t) => {
  const zones = (rest: string) =>
    "---\n{apiVersion: wireproof.io/v1, kind: Segmentation, metadata: {name: s}, spec: {zones: " +
    "[{name: cards, scope: cde, select: {namespaces: [a], labels: {app: y}}}, {name: shop, " +
    `select: {namespaces: [b]}}, {name: bank, select: {cidrs: [198.51.100.0/24]}}], ${rest}}}\n`;
  const deny = "default: {betweenZones: deny}";
  t.equal(expectOf(PODS + zones(deny), "b/z", "a/y", 80).path, "denied");
  t.equal(
    expectOf(PODS + zones(deny), "a/x", "a/y", 80).path,
    "denied",
    "from outside of all zones",
  );
  t.equal(expectOf(PODS + zones("paths: []"), "b/z", "a/y", 80).path, "undeclared");
  const paths = 'paths: [{from: shop, to: cards, ports: [80, "90-95/udp"], transport: mtls}]';
  const allowed = expectOf(PODS + zones(`${paths}, ${deny}`), "b/z", "a/y", 80);
  t.equal(allowed.path, "allowed");
  t.equal(allowed.transport.required, "mtls");
  t.equal(expectOf(PODS + zones(`${paths}, ${deny}`), "b/z", "a/y", 81).path, "denied");
  t.equal(expectOf(PODS + zones(`${paths}, ${deny}`), "b/z", "a/y", 95, "UDP").path, "allowed");
  const waiver = "waivers: [{who: jo, why: T-1, until: 1970-01-01, to: cards}]";
  const declared = read(PODS + zones(`${deny}, ${waiver}`));
  const policy = new Policy(declared.objects);
  const at = (atMs: number) =>
    policy.expect(end(declared, "b/z"), end(declared, "a/y"), 80, "TCP", atMs).path;
  t.equal(at(86_399_999), "allowed", "a date ends with its day");
  t.equal(at(86_400_000), "denied");
  t.strictSame(policy.zonesOf(end(declared, "a/y")), [{ name: "cards", scope: "cde" }]);
  const wrong = read(`${zones("paths: [{from: nowhere, to: cards}]")}`);
  t.match(formatProblem(wrong.problems[0]!), /spec\.paths\[0\]\.from: there is no zone nowhere/);
  t.match(
    formatProblem(read(zones("path: []")).problems[0]!),
    /a\.yaml:2:\d+: Segmentation s: spec: unknown field path/,
  );
});

t.test("access to a zone goes through its actor alone, where the file says so", async (t) => {
  const pods =
    pod("a/db", "app: y") +
    pod("a/peer", "app: y") +
    pod("b/app", "app: app") +
    pod("c/hoop", "app: hoop") +
    pod("d/dev", "app: dev");
  const file = (rest: string) =>
    "---\n{apiVersion: wireproof.io/v1, kind: Segmentation, metadata: {name: s}, spec: {zones: " +
    "[{name: data, select: {namespaces: [a]}}, {name: apps, select: {namespaces: [b]}}], " +
    "paths: [{from: apps, to: data, ports: [5432], transport: tls}], " +
    `actors: [{name: hoop, kind: access-gateway, select: {namespaces: [c]}, to: [data], ports: [22, 5432]${rest}}]}}\n`;
  const path = (from: string, port = 5432, more = ", only: true") =>
    expectOf(pods + file(more), from, "a/db", port).path;
  t.equal(path("c/hoop"), "allowed");
  t.equal(path("d/dev"), "denied", "a direct path");
  t.equal(path("192.0.2.7"), "denied", "from outside as well");
  t.equal(path("b/app"), "allowed", "a declared path stands before actors");
  t.equal(path("b/app", 22), "denied", "but not on a port that it does not name");
  t.equal(path("a/peer"), "undeclared", "inside the zone");
  t.equal(path("d/dev", 8080), "undeclared", "another port");
  t.equal(path("d/dev", 5432, ""), "undeclared", "an actor that is only named");
  t.equal(path("c/hoop", 5432, ""), "undeclared");
  const waiver = file(", only: true").replace(
    "}]}}",
    "}], waivers: [{who: jo, why: T-1, until: 2100-01-01, to: data}]}}",
  );
  t.equal(expectOf(pods + waiver, "d/dev", "a/db", 22).path, "allowed", "waived");
  const { pathBecause } = expectOf(pods + file(", only: true"), "d/dev", "a/db", 22);
  t.match(pathBecause[0], {
    kind: "Segmentation",
    rule: "spec.actors[0]",
    sentence: /through hoop only$/,
  });
  const declared = read(pods + file(", only: true"));
  t.equal(new Policy(declared.objects).actorOf(end(declared, "c/hoop"))?.name, "hoop");
  const aimless = file(", only: true").replace("to: [data], ports: [22", "ports: [22");
  t.match(formatProblem(read(aimless).problems[0]!), /actors\[0\]\.only: needs zones in `to`/);
});

t.test("nodes are an end that can be named", async (t) => {
  const file =
    "---\n{apiVersion: v1, kind: Node, metadata: {name: n1}}\n" +
    "---\n{apiVersion: wireproof.io/v1, kind: Segmentation, metadata: {name: s}, spec: {zones: " +
    "[{name: nodes, select: {nodes: true}}, {name: cards, select: {namespaces: [a]}}], paths: " +
    "[{from: nodes, to: cards, ports: [8080]}], default: {betweenZones: deny}}}\n";
  const declared = read(PODS + file);
  const policy = new Policy(declared.objects);
  const node = { ...end(declared, "a/x"), kind: "node" as const, workload: null, namespace: "" };
  const path = (port: number) => policy.expect(node, end(declared, "a/y"), port, "TCP", 0).path;
  t.strictSame([path(8080), path(8081)], ["allowed", "denied"]);
});

t.test("a path asks for profiles of cryptography, and those of all files count", async (t) => {
  const file = (name: string, crypto: string) =>
    `---\n{apiVersion: wireproof.io/v1, kind: Segmentation, metadata: {name: ${name}}, spec: {zones: ` +
    `[{name: all, select: {namespaces: [a, b]}}], paths: [{from: all, to: all, crypto: ${crypto}}]}}\n`;
  const { transport, transportBecause } = expectOf(
    PODS + file("s", "[sp800-52r2]") + file("t", "[cnsa2, sp800-52r2]"),
    "b/z",
    "a/y",
    80,
  );
  t.strictSame(transport.crypto, ["cnsa2", "sp800-52r2"]);
  t.equal(transport.required, "tls", "cryptography is asked for");
  t.match(transportBecause[0]?.sentence, /requires sp800-52r2 from all to all/);
  t.match(read(file("s", "[rot13]")).problems[0]?.reason, /spec\.paths\[0\]\.crypto/);
});

/** Cards in a zone, and two whose zone is not known: of `far` at least the address is. */
const CARDS =
  pod("a/cards", "app: cards") +
  pod("b/shop", "app: shop") +
  pod("b/far", "app: far", ", status: {podIP: 10.0.0.1}");
const file = (rest: string) =>
  "---\n{apiVersion: wireproof.io/v1, kind: Segmentation, metadata: {name: s}, spec: {zones: [" +
  "{name: cards, select: {labels: {app: cards}}}, {name: bank, select: {cidrs: [10.9.0.0/16]}}], " +
  `default: {betweenZones: deny}, ${rest}}}\n`;
const ask = (text: string, from: string, to: string) => expectOf(CARDS + text, from, to, 80);

t.test("an address that is not known may be in a zone's range", async (t) => {
  const toCards = file("paths: [{from: bank, to: cards}]");
  t.equal(ask(toCards, "b/far", "a/cards").path, "denied");
  t.equal(ask(toCards, "b/shop", "a/cards").path, "undecidable", "it may be the bank");
  const anyone = file('paths: [{from: "*", to: cards}]');
  t.equal(ask(anyone, "b/shop", "a/cards").path, "allowed", "in whichever zone");
  t.equal(ask(file("paths: []"), "b/shop", "a/cards").path, "denied", "likewise");
});

t.test("of the paths that lead from end to end the strictest transport is asked for", async (t) => {
  const paths = (...list: string[]) => file(`paths: [${list.join(", ")}]`);
  const any = '{from: "*", to: cards, transport: any}';
  const mtls = '{from: "*", to: cards, ports: [80], transport: mtls}';
  const version = '{from: "*", to: cards, minVersion: TLSv1.3}';
  const transport = (text: string) => ask(text, "b/far", "a/cards").transport;
  t.equal(transport(paths(any)).required, "any");
  t.equal(transport(paths(any, mtls)).required, "mtls", "not the first alone");
  t.equal(transport(paths(any, version)).required, "tls");
  t.equal(transport(paths(mtls, version)).minVersion, "TLSv1.3");
  const bank = paths("{from: bank, to: cards, transport: mtls}", any);
  t.equal(ask(bank, "b/shop", "a/cards").path, "undecidable", "what it needs is not known");
  t.equal(ask(bank, "b/shop", "a/cards").transport.required, "mtls");
});

t.test("an actor may be an end whose address is not known; and it may lead anywhere", async (t) => {
  const hoop = (to: string) =>
    file(`actors: [{name: hoop, select: {cidrs: [10.8.0.0/16]}, to: [${to}], only: true}]`);
  t.equal(ask(hoop("cards"), "b/far", "a/cards").path, "denied");
  t.equal(ask(hoop("cards"), "b/shop", "a/cards").path, "undecidable");
  t.equal(ask(hoop("cards"), "a/cards", "b/far").path, "denied", "by the default");
  t.equal(ask(hoop("'*'"), "b/far", "b/far").path, "denied", "any end, in a zone or not");
});

t.test("the JSON Schema is what the shape says", async (t) => {
  const file = path.resolve(
    import.meta.dirname,
    "../../collector/policy/segmentation/segmentation.schema.json",
  );
  const same = readFileSync(file, "utf8") === formatSegmentationSchema();
  t.ok(same, "run `node scripts/segmentation-schema.ts` after a change");
  const schema = JSON.parse(formatSegmentationSchema());
  t.equal(schema.properties.spec.additionalProperties, false);
  t.strictSame(schema.properties.spec.required, ["zones"]);
});
