/** Checks what is read of certificates, whole and cut, against what `openssl x509` says of them. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import type { t as Tap } from "tap";
import { readCertificate } from "../../agent/tls/certificate.ts";
import { u16, viewOf } from "../frames.ts";

const folder = mkdtempSync(path.join(tmpdir(), "wireproof-certificate-"));
t.teardown(() => rmSync(folder, { recursive: true }));
const at = (name: string) => path.join(folder, name);

function openssl(...argv: string[]): string {
  const { status, stdout, stderr } = spawnSync("openssl", argv, { encoding: "utf8" });
  if (status !== 0) throw new Error(`openssl ${argv.join(" ")}: ${stderr}`);
  return stdout;
}

type Key = { name: string; options: string[]; told: string; signature: string };
const rsa = (algorithm: string, bits: number) => [
  ...["-algorithm", algorithm, "-pkeyopt", `rsa_keygen_bits:${bits}`],
];
const ec = (curve: string) => ["-algorithm", "EC", "-pkeyopt", `ec_paramgen_curve:${curve}`];
const ECDSA = "ecdsa-with-SHA256";

/** Kinds of keys, as OpenSSL makes them, and as they are told. */
const KEYS: readonly Key[] = [
  ...["P-256", "P-384", "P-521", "brainpoolP384r1", "secp256k1"].map((name): Key => ({
    name,
    options: ec(name),
    told: `EC ${name}`,
    signature: ECDSA,
  })),
  {
    ...{ name: "explicit", options: [...ec("P-256"), "-pkeyopt", "ec_param_enc:explicit"] },
    ...{ told: "EC explicit 256", signature: ECDSA },
  },
  ...[2048, 1031].map((bits): Key => ({
    ...{ name: `rsa-${bits}`, options: rsa("RSA", bits), told: `RSA ${bits}` },
    signature: "sha256WithRSAEncryption",
  })),
  {
    ...{ name: "pss", options: rsa("RSA-PSS", 2048), told: "RSA-PSS 2048" },
    signature: "RSASSA-PSS",
  },
  { name: "ed25519", options: ["-algorithm", "ED25519"], told: "Ed25519", signature: "Ed25519" },
  { name: "ed448", options: ["-algorithm", "ED448"], told: "Ed448", signature: "Ed448" },
];

type Request = {
  /** Lines of a configuration's distinguished_name section. */
  subject?: string[];
  /** Kinds of strings that OpenSSL may take (ASN1_STRING_set_default_mask_asc). */
  mask?: string;
  extensions?: string[];
  serial?: string;
  key?: string;
  issuer?: string;
};

/** Makes a certificate, signed by its own key or by that of `issuer`. */
function make(name: string, request: Request = {}): Uint8Array<ArrayBuffer> {
  const { subject = [`CN=${name}`], mask = "utf8only", extensions = [], serial = "1" } = request;
  const config = [
    ...["[req]", "prompt=no", "utf8=yes", `string_mask=${mask}`, "distinguished_name=dn"],
    ...["x509_extensions=v3"],
    ...["[dn]", ...subject, "[v3]", ...extensions],
  ];
  writeFileSync(at("openssl.cnf"), `${config.join("\n")}\n`);
  const key = at(request.key ?? "P-256");
  const by = request.issuer;
  openssl(
    ...["req", "-x509", "-new", "-config", at("openssl.cnf"), "-key", key, "-set_serial", serial],
    ...["-days", "9", "-multivalue-rdn", "-out", at(`${name}.pem`)],
    ...(by === undefined ? [] : ["-CA", at(`${by}.pem`), "-CAkey", key]),
  );
  openssl("x509", "-in", at(`${name}.pem`), "-outform", "DER", "-out", at(`${name}.der`));
  return Uint8Array.from(readFileSync(at(`${name}.der`)));
}

/** Values of one relative name in one order: RFC 4514 leaves it open, OpenSSL turns it round. */
const ordered = (name: string) =>
  name
    .split(/(?<!\\),/)
    .map((rdn) =>
      rdn
        .split(/(?<!\\)\+/)
        .sort()
        .join("+"),
    )
    .join(",");

/** Checks what is read of a certificate against OpenSSL; returns the reading. */
function judge(
  t: { strictSame: typeof Tap.strictSame },
  name: string,
  der: Uint8Array<ArrayBuffer>,
) {
  const read = readCertificate(viewOf(der), 0, der.length)!;
  const told = openssl(
    ...["x509", "-inform", "DER", "-in", at(`${name}.der`), "-noout", "-subject", "-issuer"],
    ...["-serial", "-dates", "-dateopt", "iso_8601", "-fingerprint", "-sha256"],
    ...["-nameopt", "RFC2253,-esc_msb,utf8"],
  );
  const lines = told
    .replaceAll("\\\n", "")
    .split("\n")
    .filter((line) => line.includes("="));
  const by = new Map(lines.map((l) => [l.split("=")[0]!, l.slice(l.indexOf("=") + 1)]));
  const text = openssl("x509", "-inform", "DER", "-in", at(`${name}.der`), "-noout", "-text");
  const ca = /CA:(TRUE|FALSE)/.exec(text)?.[1];
  t.strictSame(
    {
      subject: ordered(read.subject),
      issuer: ordered(read.issuer),
      serial: read.serial,
      from: read.notBefore,
      to: read.notAfter,
      fingerprint: read.fingerprint,
      ca: read.isCa,
    },
    {
      subject: ordered(by.get("subject")!),
      issuer: ordered(by.get("issuer")!),
      serial: by.get("serial")!.toLowerCase(),
      from: by.get("notBefore")!.replace(" ", "T"),
      to: by.get("notAfter")!.replace(" ", "T"),
      fingerprint: `sha256:${by.get("sha256 Fingerprint")!.replaceAll(":", "").toLowerCase()}`,
      ca: ca === "TRUE",
    },
    name,
  );
  return { read, text };
}

for (const { name, options, told, signature } of KEYS) {
  t.test(`key and signature: ${name}`, async (t) => {
    openssl("genpkey", ...options, "-out", at(name));
    const { read, text } = judge(t, name, make(name, { key: name }));
    t.strictSame([read.key, read.signature, read.selfSigned], [told, signature, true]);
    const said = /Signature Algorithm: (\S+)/.exec(text)![1]!;
    t.equal(said.replace("rsassaPss", "RSASSA-PSS").toLowerCase(), signature.toLowerCase());
    const bits = /Public-Key: \((\d+) bit\)/.exec(text)?.[1];
    if (bits !== undefined) t.ok(told.includes(bits) || told === "EC secp256k1", `${bits} bits`);
  });
}

const NAMES: readonly [string, Request][] = [
  ["utf8", { subject: ["C=DE", "L=München", "O=ООО Ромашка", "CN=日本"] }],
  ["bmp", { mask: "MASK:0x802", subject: ["C=DE", "O=ООО Ромашка", "CN=日本"] }],
  ["universal", { mask: "MASK:0x100", subject: ["O=Ω 😀", "CN=日本"] }],
  ["teletex", { mask: "MASK:0x4", subject: ["O=Müller & Söhne", "CN=ß"] }],
  ["several", { subject: ["CN=a", "+OU=b", "+O=c", "L=d"] }],
  [
    "escaped",
    { subject: ["1.OU=\\#hash", '2.OU=" lead, tail "', 'CN=a+b,c;d<e>f\\"g\\\\h=i', "L=\\ x"] },
  ],
  ["unnamed", { subject: ["CN=x", "0.1.3.6.1.4.1.55555.1.2=of a kind without a name"] }],
  ["many", { subject: ["DC=example", "UID=u", "emailAddress=a@b.example", "serialNumber=7"] }],
  [
    "others",
    { subject: ["title=t", "SN=s", "GN=g", "initials=i", "pseudonym=p", "street=st", "name=n"] },
  ],
];

t.test("names of every kind of string, as RFC 4514 writes them", async (t) => {
  for (const [name, request] of NAMES) judge(t, name, make(name, request));
  const { read } = judge(t, "unnamed", make("unnamed", NAMES.find(([n]) => n === "unnamed")![1]));
  t.match(read.subject, /^1\.3\.6\.1\.4\.1\.55555\.1\.2=#0C18[0-9A-F]{48},CN=x$/);
});

t.test("serial numbers: zero, negative, long", async (t) => {
  const long = `0x${"f1".repeat(40)}`;
  for (const serial of ["0", "127", "128", "-1", "-128", "-129", "-0x8000", "0x00ff00", long]) {
    judge(t, "serial", make("serial", { serial }));
  }
});

t.test("alternative names: IPv6 as RFC 5952 §4 writes it, URIs, DNS names", async (t) => {
  const names: readonly [string, string][] = [
    ["IP:2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["IP:::1", "::1"],
    ["IP:::", "::"],
    ["IP:2001:db8::", "2001:db8::"],
    ["IP:2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["IP:1:0:0:10:0:0:0:a0", "1:0:0:10::a0"],
    ["IP:10.1.2.3", "10.1.2.3"],
    ["URI:spiffe://td.example/ns/a/sa/b", "spiffe://td.example/ns/a/sa/b"],
    ["DNS:*.a.example", "*.a.example"],
    ["email:a@b.example", "a@b.example"],
  ];
  const extension = `subjectAltName=${names.map(([name]) => name).join(",")}`;
  const { read } = judge(t, "san", make("san", { extensions: [extension] }));
  t.strictSame(
    read.san,
    names.map(([, told]) => told),
  );
});

t.test("self-signed by the names' bytes, CA by its constraints", async (t) => {
  const ca = { extensions: ["basicConstraints=critical,CA:TRUE,pathlen:1"] };
  const root = judge(t, "root", make("root", ca)).read;
  t.strictSame([root.selfSigned, root.isCa], [true, true]);
  const none = { extensions: ["basicConstraints=CA:FALSE"] };
  const leaf = judge(t, "leaf", make("leaf", { ...none, issuer: "root" })).read;
  t.strictSame([leaf.selfSigned, leaf.isCa, leaf.issuer], [false, false, root.subject]);
  // The same text in another kind of string is another name.
  const twin = { subject: ["CN=root"], mask: "MASK:0x2", issuer: "root" };
  const other = judge(t, "twin", make("twin", twin)).read;
  t.strictSame([other.selfSigned, other.subject === other.issuer], [false, true]);
});

/** `told`: its key, its signature, its alternative names. */
type Made = { name: string; key: string[]; subject: string; extensions: string[]; told: string };

const MADE: readonly Made[] = [
  {
    name: "spiffe on P-256",
    key: ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    subject: "/O=cluster.local",
    extensions: ["subjectAltName=URI:spiffe://cluster.local/ns/pay/sa/ledger"],
    told: "EC P-256, ecdsa-with-SHA256, spiffe://cluster.local/ns/pay/sa/ledger",
  },
  {
    name: "names of all kinds on P-384",
    key: ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    subject:
      '/C=DE/ST=Bayern/L=München/O=A, B \\+ "C"/OU= spaced /CN=#hash;<x>/UID=u1/DC=example' +
      "/emailAddress=a@b.example",
    extensions: [
      "subjectAltName=DNS:a.example,DNS:*.b.example,IP:10.1.2.3,IP:fd00::17,email:a@b.example",
    ],
    told: "EC P-384, ecdsa-with-SHA256, a.example *.b.example 10.1.2.3 " + "fd00::17 a@b.example",
  },
  {
    name: "RSA 2048, no alternative name, a name of several values",
    key: ["rsa:2048"],
    subject: "/CN=two+OU=values/O=x",
    extensions: ["basicConstraints=critical,CA:FALSE"],
    told: "RSA 2048, sha256WithRSAEncryption, ",
  },
  {
    name: "RSA 3072",
    key: ["rsa:3072"],
    subject: "/CN=ca",
    extensions: ["basicConstraints=critical,CA:TRUE"],
    told: "RSA 3072, sha256WithRSAEncryption, ",
  },
  {
    name: "Ed25519",
    key: ["ed25519"],
    subject: "/CN=ed",
    extensions: ["subjectAltName=DNS:ed.example"],
    told: "Ed25519, Ed25519, ed.example",
  },
];

for (const { name, key, subject, extensions, told } of MADE) {
  t.test(`cut at each length: ${name}`, async (t) => {
    openssl(
      ...["req", "-x509", "-newkey", ...key, "-noenc", "-days", "20000", "-utf8", "-batch"],
      ...["-multivalue-rdn", "-subj", subject, "-keyout", "/dev/null", "-outform", "DER"],
      ...[...extensions.flatMap((e) => ["-addext", e]), "-out", at("cut.der")],
    );
    const der = Uint8Array.from(readFileSync(at("cut.der")));
    const { read } = judge(t, "cut", der);
    t.match(read.notAfter, /^20[6-9]/, "beyond 2050");
    t.equal(`${read.key}, ${read.signature}, ${read.san.join(" ")}`, told);
    t.equal(read.isCa, subject === "/CN=ca" || !extensions[0]!.startsWith("basic"));
    t.ok(read.selfSigned);
    const view = viewOf(der);
    for (let cut = 0; cut < der.length; cut++) {
      if (readCertificate(view, 0, cut) !== null) t.fail(`cut at ${cut}`);
      // The outer lengths agree with the cut: null, or what stood before it.
      if (cut < 12) continue;
      const lying = Uint8Array.from(der.subarray(0, cut));
      lying.set([0x82, ...u16(cut - 4)], 1);
      lying.set([0x82, ...u16(cut - 8)], 5);
      const told = readCertificate(viewOf(lying), 0, cut);
      if (told && told.subject !== read.subject) t.fail(`cut at ${cut} tells another subject`);
    }
  });
}
