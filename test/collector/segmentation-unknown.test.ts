/** Tests what segmentation files say of ends whose zone is not known, and of paths that overlap. */
import t from "tap";
import { Policy } from "../../collector/policy/policy.ts";
import { end, read } from "./manifests.ts";

const pod = (name: string, more = "") => {
  const [namespace, own] = name.split("/");
  return (
    `---\n{apiVersion: v1, kind: Pod, metadata: {name: ${own}, namespace: ${namespace}, labels: ` +
    `{app: ${own}}}, spec: {containers: [{name: c}]}${more}}\n`
  );
};
const file = (rest: string) =>
  "---\n{apiVersion: wireproof.io/v1, kind: Segmentation, metadata: {name: s}, spec: {zones: [" +
  "{name: cards, select: {labels: {app: cards}}}, {name: bank, select: {cidrs: [10.9.0.0/16]}}], " +
  `default: {betweenZones: deny}, ${rest}}}\n`;
const PODS = pod("a/cards") + pod("b/shop") + pod("b/far", ", status: {podIP: 10.0.0.1}");

function ask(text: string, from: string, to: string) {
  const declared = read(text);
  const policy = new Policy(declared.objects);
  return policy.expect(end(declared, from), end(declared, to), 80, "TCP", 0);
}

t.test("an address that is not known may be in a zone's range", async (t) => {
  const toCards = file("paths: [{from: bank, to: cards}]");
  t.equal(ask(PODS + toCards, "b/far", "a/cards").path, "denied");
  t.equal(ask(PODS + toCards, "b/shop", "a/cards").path, "undecidable", "it may be the bank");
  const anyone = file('paths: [{from: "*", to: cards}]');
  t.equal(ask(PODS + anyone, "b/shop", "a/cards").path, "allowed", "in whichever zone");
  t.equal(ask(PODS + file("paths: []"), "b/shop", "a/cards").path, "denied", "likewise");
});

t.test("of the paths that lead from end to end the strictest transport is asked for", async (t) => {
  const paths = (...list: string[]) => file(`paths: [${list.join(", ")}]`);
  const any = '{from: "*", to: cards, transport: any}';
  const mtls = '{from: "*", to: cards, ports: [80], transport: mtls}';
  const version = '{from: "*", to: cards, minVersion: TLSv1.3}';
  const transport = (text: string) => ask(PODS + text, "b/far", "a/cards").transport;
  t.equal(transport(paths(any)).required, "any");
  t.equal(transport(paths(any, mtls)).required, "mtls", "not the first alone");
  t.equal(transport(paths(any, version)).required, "tls");
  t.equal(transport(paths(mtls, version)).minVersion, "TLSv1.3");
  const bank = paths("{from: bank, to: cards, transport: mtls}", any);
  t.equal(ask(PODS + bank, "b/shop", "a/cards").path, "undecidable", "what it needs is not known");
  t.equal(ask(PODS + bank, "b/shop", "a/cards").transport.required, "mtls");
});

t.test("an actor may be an end whose address is not known; and it may lead anywhere", async (t) => {
  const hoop = (to: string) =>
    file(`actors: [{name: hoop, select: {cidrs: [10.8.0.0/16]}, to: [${to}], only: true}]`);
  t.equal(ask(PODS + hoop("cards"), "b/far", "a/cards").path, "denied");
  t.equal(ask(PODS + hoop("cards"), "b/shop", "a/cards").path, "undecidable");
  t.equal(ask(PODS + hoop("cards"), "a/cards", "b/far").path, "denied", "by the default");
  t.equal(ask(PODS + hoop("'*'"), "b/far", "b/far").path, "denied", "any end, in a zone or not");
});
