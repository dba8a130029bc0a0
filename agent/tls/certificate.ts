/** Reads an X.509 certificate (RFC 5280 §4.1) from its DER bytes into the facts that are told. */
import { createHash } from "node:crypto";
import type { Cursor } from "../read/cursor.ts";
import { copyOf, sameBytes } from "../read/same-bytes.ts";
import { Der, Tag, hex, inside, pass, readOid } from "./der.ts";

export type Certificate = {
  /** RFC 4514 strings, most specific name first. */
  subject: string;
  issuer: string;
  /** DNS names, addresses and URIs, each as text: `spiffe://…`. */
  san: readonly string[];
  /** Hexadecimal, lower case, without leading zero bytes; behind `-` where it is negative. */
  serial: string;
  /** RFC 3339; null where the field is not a time. */
  notBefore: string | null;
  notAfter: string | null;
  /** `EC P-256`, `RSA 2048`, `RSA-PSS 2048`, `Ed25519`; an unknown algorithm by its OID. */
  key: string | null;
  signature: string | null;
  /** `sha256:` and hexadecimal, over the whole DER. */
  fingerprint: string;
  /** Issuer and subject are the same bytes; that its own key signed it is not verified. */
  selfSigned: boolean;
  /** BasicConstraints say cA (RFC 5280 §4.2.1.9). */
  isCa: boolean;
};

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
  ["2.5.4.13", "description"],
  ["2.5.4.15", "businessCategory"],
  ["2.5.4.17", "postalCode"],
  ["2.5.4.41", "name"],
  ["2.5.4.42", "GN"],
  ["2.5.4.43", "initials"],
  ["2.5.4.44", "generationQualifier"],
  ["2.5.4.46", "dnQualifier"],
  ["2.5.4.65", "pseudonym"],
  ["2.5.4.97", "organizationIdentifier"],
  ["0.9.2342.19200300.100.1.1", "UID"],
  ["0.9.2342.19200300.100.1.25", "DC"],
  ["1.2.840.113549.1.9.1", "emailAddress"],
  ["1.2.840.113549.1.9.2", "unstructuredName"],
  ["1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"],
  ["1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"],
  ["1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"],
]);

const CURVES: ReadonlyMap<string, string> = new Map([
  ["1.2.840.10045.3.1.7", "P-256"],
  ["1.3.132.0.33", "P-224"],
  ["1.3.132.0.34", "P-384"],
  ["1.3.132.0.35", "P-521"],
  ["1.3.132.0.10", "secp256k1"],
  ["1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"], // RFC 5639 §4.1
  ["1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"],
  ["1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"],
]);

const KEYS: ReadonlyMap<string, string> = new Map([
  ["1.3.101.112", "Ed25519"],
  ["1.3.101.113", "Ed448"],
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
  ["1.2.840.10040.4.3", "dsa-with-SHA1"],
  ["2.16.840.1.101.3.4.3.1", "dsa-with-SHA224"], // RFC 5758 §3.1
  ["2.16.840.1.101.3.4.3.2", "dsa-with-SHA256"],
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
const RSA_PSS = "1.2.840.113549.1.1.10";
const DSA = "1.2.840.10040.4.1";
const EC = "1.2.840.10045.2.1";
const SUBJECT_ALT_NAME = "2.5.29.17";
const BASIC_CONSTRAINTS = "2.5.29.19";
/** Most names kept of one certificate, and most characters of one name. */
const NAMES_LIMIT = 100;
const NAME_LENGTH_LIMIT = 1024;

/** Bytes of a serial number that are kept; RFC 5280 §4.1.2.2 allows 20. */
const SERIAL_LIMIT = 64;

/** INTEGER (two's complement, X.690 §8.3) as hexadecimal without the sign's zero byte. */
function readSerial(d: Der): string {
  const bytes = d.bytes(Math.min(d.left, SERIAL_LIMIT));
  const isNegative = (bytes[0] ?? 0) >= 0x80;
  if (isNegative) {
    let carry = 1;
    for (let i = bytes.length - 1; i >= 0; i--) {
      const sum = (bytes[i]! ^ 0xff) + carry;
      bytes[i] = sum;
      carry = sum >> 8;
    }
  }
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0) from++;
  return `${isNegative ? "-" : ""}${hex(bytes.subarray(from))}`;
}

const utf8 = new TextDecoder("utf-8");
const utf16be = new TextDecoder("utf-16be");

/** Tags of text of one byte a character: Numeric to Visible and General (X.680 §41). */
const isNarrow = (tag: number) => (tag >= 0x12 && tag <= 0x16) || (tag >= 0x19 && tag <= 0x1b);

/** DirectoryString or another text; null where the value is none. */
function readText(d: Der, tag: number): string | null {
  const length = Math.min(d.left, NAME_LENGTH_LIMIT);
  switch (tag) {
    case Tag.utf8String:
      return utf8.decode(d.bytes(length));
    case Tag.bmpString:
      return utf16be.decode(d.bytes(length));
    case Tag.universalString: {
      let text = "";
      for (let n = length; n >= 4; n -= 4) {
        const point = d.uint32();
        text += point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd";
      }
      return text;
    }
    default:
      return isNarrow(tag) ? d.latin1(length) : null;
  }
}

/**
 * The value behind its type; a type without a name has its value as hexadecimal DER, as has a value
 * that is no text (RFC 4514 §2.4).
 */
function readValue(d: Der, oid: string): string {
  const from = d.at;
  const tag = d.open();
  const outer = d.outer;
  const text = ATTRIBUTE_NAMES.has(oid) ? readText(d, tag) : null;
  d.leave(outer);
  if (text !== null || !d.ok) return escapeValue(text ?? "");
  const end = Math.min(d.at, from + NAME_LENGTH_LIMIT);
  const der = new Uint8Array(d.view.buffer, d.view.byteOffset + from, end - from);
  return `#${hex(der).toUpperCase()}`;
}

/** Escapes an attribute value (RFC 4514 §2.4). */
function escapeValue(value: string): string {
  return value
    .replace(/[",+;<>\\]/g, "\\$&")
    .replace(/^[ #]|(?<=.) $/g, "\\$&")
    .replace(/[\u0000-\u001f\u007f]/g, (c) => `\\${hex(Uint8Array.of(c.charCodeAt(0)))}`);
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
              const value = readValue(pair, oid);
              if (pair.ok) parts.push(`${ATTRIBUTE_NAMES.get(oid) ?? oid}=${value}`);
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

/** Bits of the INTEGER that stands next; 0 where none does. */
function readBits(d: Der): number {
  const bytes = inside(d, Tag.integer, (n) => n.bytes(n.left), new Uint8Array(0));
  const start = bytes[0] === 0 ? 1 : 0;
  const top = bytes[start] ?? 0;
  return (bytes.length - start) * 8 - (top > 0 ? Math.clz32(top) - 24 : 0);
}

/** SubjectPublicKeyInfo (RFC 5280 §4.1.2.7): the kind and size of the key. */
function readKey(d: Der): string | null {
  let oid = "";
  let curve = "";
  let primeBits = 0;
  inside(
    d,
    Tag.sequence,
    (algorithm) => {
      oid = inside(algorithm, Tag.oid, readOid, "");
      if (!algorithm.more) return;
      const isNamed = algorithm.view.getUint8(algorithm.at) === Tag.oid;
      if (oid === EC && isNamed) curve = inside(algorithm, Tag.oid, readOid, "");
      // Dss-Parms begins with the prime (RFC 3279 §2.3.2).
      if (oid === DSA) primeBits = inside(algorithm, Tag.sequence, readBits, 0);
    },
    undefined,
  );
  if (!d.ok) return null;
  switch (oid) {
    case EC:
      if (curve !== "") return `EC ${CURVES.get(curve) ?? curve}`;
      // A curve given by its parameters, which RFC 5480 §2.1.1 forbids: a point is 04 x y.
      return `EC explicit ${inside(d, Tag.bitString, (bits) => Math.max(0, bits.left - 2) * 4, 0)}`;
    case DSA:
      return `DSA ${primeBits}`;
    case RSA:
    case RSA_PSS: {
      const readModulus = (bits: Der) => {
        bits.skip(1); // unused bits
        return inside(bits, Tag.sequence, readBits, 0);
      };
      const size = inside(d, Tag.bitString, readModulus, 0);
      return d.ok ? `${oid === RSA ? "RSA" : "RSA-PSS"} ${size}` : null;
    }
    default:
      return KEYS.get(oid) ?? oid;
  }
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

/** IPv6 in the form of RFC 5952: the longest run of zeros, the first of equal ones, is `::`. */
function addressText(bytes: Uint8Array): string {
  if (bytes.length !== 16) return bytes.join(".");
  const groups = (hex(bytes).match(/.{4}/g) ?? []).map((group) => parseInt(group, 16));
  const text = groups.map((group) => group.toString(16)).join(":");
  const runs = text.match(/\b0(:0)+\b/g) ?? [];
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return text;
  return text.replace(new RegExp(`(^|:)${longest}(:|$)`), "::");
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
  const issuerAt = d.at;
  const issuer = inside(d, Tag.sequence, readName, "");
  const issuerEnd = d.at;
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
  const subjectAt = d.at;
  const subject = inside(d, Tag.sequence, readName, "");
  const subjectEnd = d.at;
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
    selfSigned:
      issuerEnd - issuerAt === subjectEnd - subjectAt &&
      sameBytes(view, issuerAt, view, subjectAt, subjectEnd - subjectAt),
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
/** Longer ones are parsed each time: strangers would fill the memory with them. */
const KEPT_BYTES = 8192;

/** Keeps certificates by their bytes, so that each is parsed once. */
class CertificateCache {
  /** By length and the end of the signature; two that share them displace each other. */
  readonly #known = new Map<number, { der: DataView; certificate: Certificate | null }>();

  read(view: DataView, at: number, end: number): Certificate | null {
    const length = end - at;
    const key = length < 4 ? length : Math.imul(view.getInt32(end - 4), 0x9e3779b1) ^ length;
    const known = this.#known.get(key);
    const isSame = known?.der.byteLength === length && sameBytes(view, at, known.der, 0, length);
    if (isSame) return known.certificate;
    const certificate = readCertificate(view, at, end);
    if (length > KEPT_BYTES) return certificate;
    if (this.#known.size >= CACHE_LIMIT) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(key, { der: copyOf(view, at, end), certificate });
    return certificate;
  }
}

const certificates = new CertificateCache();

/** Reports whether a Certificate message at the cursor, which stays there, holds none at all. */
export function isEmptyChain({ view, at, end }: Cursor): boolean {
  return end - at >= 3 && (view.getUint16(at) | view.getUint8(at + 2)) === 0;
}

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
