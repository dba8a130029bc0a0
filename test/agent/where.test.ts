/** Checks the filter of inspect --where: what it matches, what it refuses, and in which words. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { WHERE_FIELDS, parseWhere } from "../../agent/assess/where.ts";
import { parseNetwork } from "../../protocol/address.ts";
import { FLOW_SCHEMA } from "../../protocol/flow-schema.ts";
import type { FlowRecord } from "../../protocol/flow-record.ts";
import { GOLDEN, framesOf, read } from "./captures.ts";

const launcher = path.join(import.meta.dirname, "../../wireproof");
const golden = (name: string) => path.join(GOLDEN, `${name}.pcap`);

/** A mutual TLS 1.2 flow from 127.0.0.1, and a plaintext one without any `tls`. */
const [mutual, plain] = await Promise.all(
  ["mtls12", "redis"].map(async (name): Promise<FlowRecord> => {
    const [flow] = read(await framesOf(golden(name)));
    return { schema: FLOW_SCHEMA, file: `${name}.pcap`, ...flow! };
  }),
);

t.test("what holds of a mutual TLS 1.2 flow, and of a plaintext one", async (t) => {
  for (const [expression, ofMutual, ofPlain] of [
    ["tls", true, false],
    ["not tls", false, true],
    ["tls.mutual == yes", true, false],
    ['tls.mutual == "yes"', true, false],
    ["tls.mutual != yes", false, true], // not seen is not yes
    ["tls.mutual == null", false, true],
    ["tls.mutual in (no, inferred-no)", false, false],
    ["protocol in (tls, redis)", true, true],
    ["encryption == plaintext", false, true],
    ["failure", false, false],
    ["failure == null", true, true],
    ["accepted", true, true],
    ["midstream", false, false],
    ["accepted == true and midstream == false", true, true],
    ["tls.version < TLSv1.3", true, false],
    ["tls.version >= TLSv1.3", false, false], // null is in no order
    ["tls.sni ~ GOLDEN", true, false],
    ["tls.sni !~ golden", false, true],
    ["tls.sni ~ /^server\\.[a-z]+$/", true, false],
    ["tls.sni ~ /^golden/", false, false],
    ["tls.server_cert.key == 'RSA 2048'", true, false],
    ["tls.client_cert_subject ~ 'payments\\\\, north'", true, false], // escaped as RFC 4514 does
    ["src_ip == 127.0.0.1", true, true],
    ["src_ip in 127.0.0.0/8", true, true],
    ["src_ip in (10.0.0.0/8, ::/0)", false, false],
    ["dst_port == 6061", true, false],
    ["dst_port in (6061, 6311)", true, true],
    ["dst_port > 6061 and dst_port <= 6311", false, true],
    ["packets.0 >= 1", true, true],
    ["packets == 8", true, false], // either side's
    ["notes == not-tls", false, true],
    ["file ~ redis", false, true],
    // and binds closer than or; not binds closest.
    ["tls or tls and failure", true, false],
    ["(tls or tls) and failure", false, false],
    ["not tls and not failure", false, true],
    ["not (tls or failure)", false, true],
    ["not not tls", true, false],
  ] as const) {
    const { matches } = parseWhere(expression);
    t.strictSame([matches(mutual!), matches(plain!)], [ofMutual, ofPlain], expression);
  }
});

t.test("what is wrong is told with its column, and the nearest name", async (t) => {
  for (const [expression, column, told] of [
    ["", 1, "there is no expression"],
    ["tls.mutal == no", 1, "there is no field tls.mutal; did you mean tls.mutual?"],
    ["failure and mutual == no", 13, "there is no field mutual; did you mean tls.mutual?"],
    ["zzzzzzzzzzzz", 1, "there is no field zzzzzzzzzzzz"],
    ["encryption == plaintxt", 15, "encryption is never plaintxt; did you mean plaintext?"],
    ["dst_port == https", 13, "dst_port is a number"],
    ["dst_port ~ 44", 12, "dst_port is no text: ~ looks for a part of a text"],
    ["accepted == yes", 13, "accepted is true, false or null"],
    ["accepted > true", 10, "accepted has no order: it takes ==, !=, or stands alone"],
    ["failure == silent", 12, "failure holds fields: compare one of them, as failure.code"],
    ["dst_port = 443", 10, "one = says nothing; a comparison is =="],
    ["tls && failure", 5, "& says nothing; the words are and, or, not"],
    ["!tls", 1, "! says nothing; the words are and, or, not"],
    ["(tls or failure", 1, "this ( is not closed"],
    ["tls)", 4, "this ) closes nothing"],
    ["tls failure", 5, "failure: expected and, or, or the end"],
    ["tls and", 8, "a field is expected behind this"],
    ["tls ==", 7, "a value is expected here"],
    ['tls.sni == "open', 12, 'this " is not closed'],
    ["tls.sni ~ /(/", 11, "/(/ is no regular expression"],
    ["src_ip in 10.0.0.0/33", 11, "10.0.0.0/33 is no network; write 10.0.0.0/8 or 2001:db8::/32"],
    ["== 3", 1, "a field is expected, not =="],
    ["tls.sni == [x", 12, "[ says nothing here; quote text that holds it"],
  ] as const) {
    const wanted = { code: "CONFIG_WHERE", message: `--where, column ${column}: ${told}` };
    t.throws(() => parseWhere(expression), wanted, expression);
  }
});

t.test("every field of a record can be asked for", async (t) => {
  const paths = (value: object, before: string): string[] =>
    Object.entries(value).flatMap(([name, inner]: [string, unknown]) => {
      const at = `${before}${name}`;
      const isFields = inner !== null && typeof inner === "object" && !Array.isArray(inner);
      return isFields ? [at, ...paths(inner, `${at}.`)] : [at];
    });
  const missing = paths(mutual!, "").filter((at) => !WHERE_FIELDS.has(at));
  t.strictSame(missing, ["schema"]);
});

t.test("networks", async (t) => {
  const inside = (network: string, address: string) => parseNetwork(network)?.(address) ?? null;
  t.equal(inside("10.1.2.0/23", "10.1.3.255"), true);
  t.equal(inside("10.1.2.0/23", "10.1.4.0"), false);
  t.equal(inside("0.0.0.0/0", "2001:db8::1"), false, "IPv6 is no IPv4");
  t.equal(inside("2001:db8::/33", "2001:db8:7fff::1"), true);
  t.equal(inside("2001:db8::/33", "2001:db8:8000::1"), false);
  t.equal(inside("fd00::1/128", "fd00:0:0::1"), true);
  for (const no of ["10.0.0/8", "10.0.0.256/8", "::1/129", "1::2::3/8", "10.0.0.0/x", "::g/8"]) {
    t.equal(parseNetwork(no), null, no);
  }
});

t.test("the command: records that match alone, numbers that stay, exit code 2", async (t) => {
  const run = (...argv: string[]) => {
    const { status, stdout, stderr } = spawnSync(launcher, ["inspect", ...argv]);
    return { status, out: stdout.toString(), err: stderr.toString() };
  };
  const files = ["redis", "mtls12", "port-closed"].map(golden);
  const asked = run("--where", "tls.mutual == yes", "--format", "jsonl", ...files);
  t.equal(asked.status, 0);
  const records = asked.out.trim().split("\n");
  t.equal(records.length, 1);
  t.match(JSON.parse(records[0]!), { file: "mtls12.pcap" });
  const text = run("--where", "failure or state == refused", ...files);
  t.match(text.out, /^ {4}3 {2}.*refused.*\n\n1 of 3 flows match\n/);
  const wrong = run("--where", "tls.mutal == yes", ...files);
  t.strictSame([wrong.status, wrong.out], [2, ""]);
  t.equal(
    wrong.err,
    "wireproof: --where, column 1: there is no field tls.mutal; did you mean tls.mutual?\n",
  );
});
