/** Checks what people read of inspect: lines, their colours, the summary and its shares. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { flowLine, painter, printable } from "../../agent/assess/sentence.ts";
import { Summary } from "../../agent/assess/summary.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { GOLDEN, framesOf, read } from "./captures.ts";

const launcher = path.join(import.meta.dirname, "../../wireproof");
const plain = painter(false);
const flowsOf = async (name: string) => read(await framesOf(path.join(GOLDEN, `${name}.pcap`)));
const said = async (name: string) => {
  const [flow] = await flowsOf(name);
  return flowLine(flow!, 1, plain).replace(/^.*→ \S+\s+/, "");
};

t.test("one sentence a flow: what, and how it ended", async (t) => {
  for (const [name, sentence] of [
    ["mtls12", /^mutual TLS 1\.2 as client\.golden for server\.golden; accepted, closed {2}/],
    ["mtls13", /^mutual TLS 1\.3 \(inferred\) for server\.golden; accepted, closed {2}/],
    ["tls10", /^one-way TLS 1\.0 for server\.golden; accepted, closed/],
    ["tls13", /^one-way TLS 1\.3 \(inferred\) for server\.golden; accepted/],
    ["tls12-ecdsa", /^one-way TLS 1\.2; accepted/],
    [
      "mtls12-missing",
      /; FAILED: the server wants a client certificate, and the client sent none \(client-cert-missing, alert 40\)/,
    ],
    [
      "mtls13-missing",
      /the client had no certificate\) .*; FAILED: probably .*\(client-cert-missing\)/,
    ],
    ["no-common-version", /FAILED: the sides have no TLS version in common \(no-common-version, /],
    ["postgres-tls", /^one-way TLS 1\.3 \(inferred\) inside postgresql; accepted/],
    ["redis", /^plaintext redis; accepted, closed/],
    ["ssh", /^ssh, encrypted; accepted/],
    ["unknown-protocol", /^an unknown protocol; accepted/],
    ["port-closed", /^tcp without payload; refused/],
    ["plaintext-reset", /FAILED: the server refused plaintext \(plaintext-refused\)/],
  ] as const) {
    t.match(await said(name), sentence, name);
  }
});

t.test("who and whom in columns, IPv6 in brackets, wrappers at the end", async (t) => {
  const [flow] = await flowsOf("redis");
  const ends = { src_ip: "10.0.0.1", src_port: 1, dst_ip: "fd00::2", dst_port: 443 };
  const line = flowLine({ ...flow!, ...ends, encap: ["vlan:7", "vxlan:42"] }, 12, plain);
  t.match(
    line,
    /^ {3}12 {2}\d\d:\d\d:\d\d\.\d{3} {2}10\.0\.0\.1:1 {11} → \[fd00::2\]:443 {8} {2}plaintext/,
  );
  t.match(line, / {2}\d+\/\d+ packets via vlan:7 vxlan:42$/);
});

t.test("text from the wire does not reach the terminal as it is", async (t) => {
  const [flow] = await flowsOf("mtls12");
  const sni = "a\u001b[2Jb\u0007\u202ec\r\nd\u009be";
  const line = flowLine({ ...flow!, tls: { ...flow!.tls!, sni } }, 1, plain);
  t.notMatch(line, /[\u0000-\u001f\u007f-\u009f\u202e]/);
  t.match(line, "a\\x1b[2Jb\\x07\\x202ec\\x0d\\x0ad\\x9be");
  t.equal(printable("grüße ✓"), "grüße ✓");
});

t.test("colours: proven green, failed and plaintext red; none without a terminal", async (t) => {
  const paint = painter(true);
  const coloured = async (name: string) => flowLine((await flowsOf(name))[0]!, 1, paint);
  t.match(await coloured("mtls12"), "\u001b[32mmutual TLS 1.2");
  t.match(await coloured("tls12-ecdsa"), "\u001b[33mone-way TLS 1.2");
  t.match(await coloured("redis"), "\u001b[31mplaintext redis");
  t.match(await coloured("mtls12-missing"), /\u001b\[31mone-way.*FAILED/);
  const { stdout } = spawnSync(launcher, ["inspect", path.join(GOLDEN, "redis.pcap")]);
  t.notMatch(stdout.toString(), "\u001b");
});

t.test("the summary counts each flow once, by what was proven", async (t) => {
  const summary = new Summary();
  const names = ["mtls12", "mtls13", "tls13", "tls12-ticket", "redis", "http", "ssh"];
  names.push("mtls13-missing", "unknown-protocol", "port-closed");
  const flows: Flow[] = [];
  for (const name of names) flows.push(...(await flowsOf(name)));
  for (const flow of flows) summary.add(flow);
  const text = summary.text(flows.length, plain);
  // tls12-ticket holds two: one that was made anew, and one that goes on from it.
  t.equal(flows.length, 11);
  t.match(text, /^\n11 flows\n/);
  t.match(text, / 2 {3}18\.2 % {2}mutual TLS, and accepted: certificate read 1, inferred 1\n/);
  t.match(text, / 2 {3}18\.2 % {2}one-way TLS: inferred 1, read 1\n/);
  t.match(text, / 1 {4}9\.1 % {2}TLS, resumed: the client not proven again\n/);
  t.match(text, / 1 {4}9\.1 % {2}TLS, handshake failed\n/);
  t.match(text, / 1 {4}9\.1 % {2}other encryption: ssh 1\n/);
  t.match(text, / 2 {3}18\.2 % {2}plaintext: http 1, redis 1\n/);
  t.match(text, / 1 {4}9\.1 % {2}unknown protocol\n/);
  t.match(text, / 1 {4}9\.1 % {2}no payload: refused 1\n/);
  t.match(text, /\n\nrefused or failed\n.* 1 {4}9\.1 % {2}client-cert-missing: the server wants/);
  const listed = text.split("\n\n")[0]!.split("\n").slice(2);
  const total = listed.reduce((sum, line) => sum + Number(line.slice(0, 7)), 0);
  t.equal(total, 11, "shares of the whole");
  // Accepted or not is said of mutual TLS: without it nothing is called proven.
  const unseen = new Summary();
  unseen.add({ ...flows[0]!, accepted: null });
  t.match(unseen.text(1, plain), /1 flow\n.*mutual TLS, acceptance not seen/);
});
