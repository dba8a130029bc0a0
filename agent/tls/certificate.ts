/** Reads an X.509 certificate (RFC 5280 §4.1) from its DER bytes into the facts that are told. */
import { createHash } from "node:crypto";
import { Cursor } from "../read/cursor.ts";

export type Certificate = {
  /** RFC 4514 strings, most specific name first. */
  subject: string;
  issuer: string;
  /** DNS names, addresses and URIs, each as text: `spiffe://…`. */
  san: readonly string[];
  /** Hexadecimal, lower case, without leading zero bytes. */
  serial: string;
  /** RFC 3339; null where the field is not a time. */
  notBefore: string | null;
  notAfter: string | null;
  /** `EC P-256`, `RSA 2048`, `Ed25519`; an unknown algorithm by its OID. */
  key: string | null;
  signature: string | null;
  /** `sha256:` and hexadecimal, over the whole DER. */
  fingerprint: string;
  selfSigned: boolean;
  isCa: boolean;
};

/** Universal tags, with their constructed bit (X.690 §8.1.2). */
const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

const ATTRIBUTE_NAMES: ReadonlyMap<string, string> = new Map([
  ["2.5.4.3", "CN"],
  ["2.5.4.4", "SN"],
  ["2.5.4.5", "serialNumber"],
  ["2.5.4.6", "C"],
  ["2.5.4.7", "L"],
  ["2.5.4.8", "ST"],
  ["2.5.4.9", "street"],
  ["2.5.4.10", "O"],
  ["2.5.4.11", "OU"],
  ["2.5.4.12", "title"],
  ["2.5.4.17", "postalCode"],
  ["2.5.4.42", "GN"],
  ["0.9.2342.19200300.100.1.1", "UID"],
  ["0.9.2342.19200300.100.1.25", "DC"],
  ["1.2.840.113549.1.9.1", "emailAddress"],
]);

const CURVES: ReadonlyMap<string, string> = new Map([
  ["1.2.840.10045.3.1.7", "P-256"],
  ["1.3.132.0.33", "P-224"],
  ["1.3.132.0.34", "P-384"],
  ["1.3.132.0.35", "P-521"],
  ["1.3.132.0.10", "secp256k1"],
]);

const KEYS: ReadonlyMap<string, string> = new Map([
  ["1.3.101.112", "Ed25519"],
  ["1.3.101.113", "Ed448"],
  ["1.2.840.10040.4.1", "DSA"],
  ["2.16.840.1.101.3.4.3.17", "ML-DSA-44"], // RFC 9881 §2
  ["2.16.840.1.101.3.4.3.18", "ML-DSA-65"],
  ["2.16.840.1.101.3.4.3.19", "ML-DSA-87"],
]);

const SIGNATURES: ReadonlyMap<string, string> = new Map([
  ["1.2.840.113549.1.1.4", "md5WithRSAEncryption"],
  ["1.2.840.113549.1.1.5", "sha1WithRSAEncryption"],
  ["1.2.840.113549.1.1.10", "RSASSA-PSS"],
  ["1.2.840.113549.1.1.11", "sha256WithRSAEncryption"],
  ["1.2.840.113549.1.1.12", "sha384WithRSAEncryption"],
  ["1.2.840.113549.1.1.13", "sha512WithRSAEncryption"],
  ["1.2.840.113549.1.1.14", "sha224WithRSAEncryption"],
  ["1.2.840.10045.4.1", "ecdsa-with-SHA1"],
  ["1.2.840.10045.4.3.1", "ecdsa-with-SHA224"],
  ["1.2.840.10045.4.3.2", "ecdsa-with-SHA256"],
  ["1.2.840.10045.4.3.3", "ecdsa-with-SHA384"],
  ["1.2.840.10045.4.3.4", "ecdsa-with-SHA512"],
  ["1.3.101.112", "Ed25519"],
  ["1.3.101.113", "Ed448"],
  ["2.16.840.1.101.3.4.3.17", "ML-DSA-44"], // RFC 9881 §2
  ["2.16.840.1.101.3.4.3.18", "ML-DSA-65"],
  ["2.16.840.1.101.3.4.3.19", "ML-DSA-87"],
]);

const RSA = "1.2.840.113549.1.1.1";
const EC = "1.2.840.10045.2.1";
const SUBJECT_ALT_NAME = "2.5.29.17";
const BASIC_CONSTRAINTS = "2.5.29.19";
/** Most names kept of one certificate, and most characters of one name. */
const NAMES_LIMIT = 100;
const NAME_LENGTH_LIMIT = 1024;

/** Reads a tag and its length and narrows to the value; returns the tag, and -1 on failure. */
class Der extends Cursor {
  outer = 0;

  /** Enters the next value; `leave(der.outer)` must be saved by the caller first. */
  open(): number {
    const tag = this.uint8();
    let length = this.uint8();
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3) this.fail();
      length = 0;
      for (let i = 0; i < count; i++) length = (length << 8) | this.uint8();
    }
    this.outer = this.enter(length);
    return this.ok ? tag : -1;
  }
}

/** Runs `read` inside the next value when it has the tag; the cursor then stands behind it. */
function inside<T>(d: Der, tag: number, read: (d: Der) => T, otherwise: T): T {
  const found = d.open();
  const outer = d.outer;
  if (found !== tag) d.fail();
  const value = d.ok ? read(d) : otherwise;
  d.leave(outer);
  return value;
}

/** Passes over one value of any tag. */
function pass(d: Der): void {
  d.open();
  d.leave(d.outer);
}

/** Object identifier in dots (X.690 §8.19). */
function readOid(d: Der): string {
  let value = 0;
  let text = "";
  while (d.more) {
    const byte = d.uint8();
    value = value * 128 + (byte & 0x7f);
    if ((byte & 0x80) !== 0) continue;
    if (text === "") {
      const first = Math.min(2, Math.floor(value / 40));
      text = `${first}.${value - first * 40}`;
    } else text += `.${value}`;
    value = 0;
    if (text.length > 200) d.fail();
  }
  return text;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** INTEGER as hexadecimal without the sign's zero byte. */
function readSerial(d: Der): string {
  const bytes = d.bytes(Math.min(d.left, 64));
  return hex(bytes[0] === 0 && bytes.length > 1 ? bytes.subarray(1) : bytes);
}

const utf8 = new TextDecoder("utf-8");
const utf16be = new TextDecoder("utf-16be");

function readText(d: Der, tag: number): string {
  const bytes = d.bytes(Math.min(d.left, NAME_LENGTH_LIMIT));
  return tag === Tag.bmpString ? utf16be.decode(bytes) : utf8.decode(bytes);
}

/** Escapes an attribute value (RFC 4514 §2.4). */
function escapeValue(value: string): string {
  return value
    .replace(/[",+;<>\\]/g, "\\$&")
    .replace(/^[ #]|(?<=.) $/g, "\\$&")
    .replace(/[\u0000-\u001f]/g, (c) => `\\${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** Name (RFC 5280 §4.1.2.4) as RFC 4514 writes it: the last relative name first. */
function readName(d: Der): string {
  const names: string[] = [];
  while (d.more && names.length < NAMES_LIMIT) {
    const parts: string[] = [];
    inside(
      d,
      Tag.set,
      (set) => {
        while (set.more && parts.length < NAMES_LIMIT) {
          inside(
            set,
            Tag.sequence,
            (pair) => {
              const oid = inside(pair, Tag.oid, readOid, "");
              const tag = pair.open();
              const outer = pair.outer;
              const value = readText(pair, tag);
              pair.leave(outer);
              if (pair.ok) parts.push(`${ATTRIBUTE_NAMES.get(oid) ?? oid}=${escapeValue(value)}`);
            },
            undefined,
          );
        }
      },
      undefined,
    );
    names.push(parts.join("+"));
  }
  return names.reverse().join(",");
}

/** UTCTime or GeneralizedTime (RFC 5280 §4.1.2.5) as RFC 3339. */
function readTime(d: Der): string | null {
  const tag = d.open();
  const outer = d.outer;
  const text = d.latin1(Math.min(d.left, 32));
  d.leave(outer);
  const m = /^(\d{2}|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?(?:\.\d+)?Z$/.exec(text);
  if (!m) return null;
  let year = Number(m[1]);
  if (tag === Tag.utcTime) year += year < 50 ? 2000 : 1900;
  const date = `${String(year).padStart(4, "0")}-${m[2]}-${m[3]}`;
  return `${date}T${m[4]}:${m[5]}:${m[6] ?? "00"}Z`;
}

/** SubjectPublicKeyInfo (RFC 5280 §4.1.2.7): the kind and size of the key. */
function readKey(d: Der): string | null {
  let oid = "";
  let curve = "";
  inside(
    d,
    Tag.sequence,
    (algorithm) => {
      oid = inside(algorithm, Tag.oid, readOid, "");
      if (oid === EC && algorithm.more) curve = inside(algorithm, Tag.oid, readOid, "");
    },
    undefined,
  );
  if (!d.ok) return null;
  if (oid === EC) return `EC ${CURVES.get(curve) ?? curve}`;
  if (oid !== RSA) return KEYS.get(oid) ?? oid;
  return inside(
    d,
    Tag.bitString,
    (bits) => {
      bits.skip(1); // unused bits
      return inside(
        bits,
        Tag.sequence,
        (key) => {
          const modulus = inside(key, Tag.integer, (n) => n.bytes(n.left), new Uint8Array(0));
          const start = modulus[0] === 0 ? 1 : 0;
          const top = modulus[start] ?? 0;
          return `RSA ${(modulus.length - start) * 8 - (top > 0 ? Math.clz32(top) - 24 : 0)}`;
        },
        null,
      );
    },
    null,
  );
}

/** GeneralNames (RFC 5280 §4.2.1.6): those that name a host, an address or a workload. */
function readAltNames(d: Der): string[] {
  const names: string[] = [];
  inside(
    d,
    Tag.sequence,
    (list) => {
      while (list.more && names.length < NAMES_LIMIT) {
        const tag = list.open();
        const outer = list.outer;
        if (tag === 0x81 || tag === 0x82 || tag === 0x86) {
          names.push(list.latin1(Math.min(list.left, NAME_LENGTH_LIMIT)));
        } else if (tag === 0x87) names.push(addressText(list.bytes(Math.min(list.left, 16))));
        list.leave(outer);
      }
    },
    undefined,
  );
  return names;
}

function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  return (hex(bytes).match(/.{4}/g) ?? []).join(":");
}

/**
 * Reads the certificate in `[at, end)`. Null where the DER contradicts itself before the subject;
 * what stands behind a later fault is left out.
 */
export function readCertificate(view: DataView, at: number, end: number): Certificate | null {
  const der = new Uint8Array(view.buffer, view.byteOffset + at, end - at);
  const fingerprint = `sha256:${createHash("sha256").update(der).digest("hex")}`;
  const d = new Der(view, at, end);
  if (d.open() !== Tag.sequence) return null;
  if (d.open() !== Tag.sequence) return null; // tbsCertificate
  if (d.more && view.getUint8(d.at) === 0xa0) pass(d); // version
  const serial = inside(d, Tag.integer, readSerial, "");
  const signatureOid = inside(d, Tag.sequence, (s) => inside(s, Tag.oid, readOid, ""), "");
  const issuer = inside(d, Tag.sequence, readName, "");
  let notBefore: string | null = null;
  let notAfter: string | null = null;
  inside(
    d,
    Tag.sequence,
    (validity) => {
      notBefore = readTime(validity);
      notAfter = readTime(validity);
    },
    undefined,
  );
  const subject = inside(d, Tag.sequence, readName, "");
  if (!d.ok) return null;
  const key = inside(d, Tag.sequence, readKey, null);
  let san: string[] = [];
  let isCa = false;
  while (d.more) {
    const tag = d.open();
    const outer = d.outer;
    if (tag === 0xa3) {
      inside(
        d,
        Tag.sequence,
        (extensions) => {
          while (extensions.more) {
            inside(
              extensions,
              Tag.sequence,
              (e) => {
                const oid = inside(e, Tag.oid, readOid, "");
                if (e.more && view.getUint8(e.at) === Tag.boolean) pass(e); // critical
                if (oid !== SUBJECT_ALT_NAME && oid !== BASIC_CONSTRAINTS) return;
                inside(
                  e,
                  Tag.octetString,
                  (value) => {
                    if (oid === SUBJECT_ALT_NAME) san = readAltNames(value);
                    else isCa = readIsCa(value);
                  },
                  undefined,
                );
              },
              undefined,
            );
          }
        },
        undefined,
      );
    }
    d.leave(outer);
  }
  return {
    subject,
    issuer,
    san,
    serial,
    notBefore,
    notAfter,
    key,
    signature: SIGNATURES.get(signatureOid) ?? (signatureOid || null),
    fingerprint,
    selfSigned: subject === issuer,
    isCa,
  };
}

/** BasicConstraints (RFC 5280 §4.2.1.9): cA is FALSE by default. */
function readIsCa(d: Der): boolean {
  return inside(
    d,
    Tag.sequence,
    (s) =>
      s.more && s.view.getUint8(s.at) === Tag.boolean
        ? inside(s, Tag.boolean, (b) => b.uint8() !== 0, false)
        : false,
    false,
  );
}

/** Most certificates kept parsed; the same few come again and again on a node. */
const CACHE_LIMIT = 512;

/** Keeps certificates by their bytes' digest, so that each is parsed once. */
export class CertificateCache {
  readonly #known = new Map<string, Certificate | null>();

  read(view: DataView, at: number, end: number): Certificate | null {
    const der = new Uint8Array(view.buffer, view.byteOffset + at, end - at);
    const digest = createHash("sha1").update(der).digest("base64");
    const known = this.#known.get(digest);
    if (known !== undefined) return known;
    const certificate = readCertificate(view, at, end);
    if (this.#known.size >= CACHE_LIMIT) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(digest, certificate);
    return certificate;
  }
}

const certificates = new CertificateCache();

/** Certificate message of TLS ≤ 1.2 (RFC 5246 §7.4.2): the readable ones of its list. */
export function readChain(c: Cursor): Certificate[] {
  const chain: Certificate[] = [];
  const outer = c.enter(c.uint24());
  while (c.more && chain.length < 16) {
    const length = c.uint24();
    const at = c.at;
    c.skip(length);
    if (!c.ok) break;
    const certificate = certificates.read(c.view, at, at + length);
    if (certificate) chain.push(certificate);
  }
  c.leave(outer);
  return chain;
}
