/** Makes the certificates of a small set-up: one CA, and a leaf for each agent and collector. */
import { mkdir, open, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import path from "node:path";
import type { X509Certificate, JsonGeneralName } from "@peculiar/x509";
import { ConfigError } from "../protocol/config-error.ts";

const TRUST_DOMAIN_DEFAULT = "wireproof";
const CA_DAYS = 3650;
const LEAF_DAYS = 365;
const DAY_MS = 86_400_000;
/** Certificates begin in the past by this much, for machines whose clocks are behind. */
const SKEW_MS = 300_000;

const KEY = { name: "ECDSA", namedCurve: "P-256" } as const;
const SIGNING = { name: "ECDSA", hash: "SHA-256" } as const;
const TRUST_DOMAIN = /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/;
const NODE = /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/;
/** RFC 5280 §4.2.1.12 */
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

export type IssueOptions = {
  /** The node whose agent it is for; without it, the certificate is the collector's. */
  agent?: string;
  dns?: readonly string[];
  ip?: readonly string[];
  /** May be below zero, which makes an expired certificate. */
  days?: number;
};

/** Makes `ca.pem` and `ca-key.pem` in `directory`; gives their paths. Never replaces a CA. */
export async function initCa(
  directory: string,
  trustDomain = TRUST_DOMAIN_DEFAULT,
): Promise<string[]> {
  if (!TRUST_DOMAIN.test(trustDomain) || trustDomain.length > 255) {
    const told = `pki: trust domain ${trustDomain}: lower case letters, digits, ".", "-" and "_"`;
    throw new ConfigError("CONFIG_PKI_TRUST_DOMAIN", told);
  }
  const x509 = await loadX509();
  const keys = await crypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=Wireproof CA ${trustDomain}`,
    keys,
    signingAlgorithm: SIGNING,
    ...validity(CA_DAYS),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      new x509.SubjectAlternativeNameExtension([{ type: "url", value: `spiffe://${trustDomain}` }]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await mkdir(directory, { recursive: true, mode: 0o700 });
  return writePair(directory, "ca", await keyPem(keys.privateKey), ca.toString("pem"), "wx");
}

/** Signs a leaf with the CA in `directory`; replaces an older one of the same name. */
export async function issue(directory: string, options: IssueOptions): Promise<string[]> {
  const { agent, dns = [], ip = [], days = LEAF_DAYS } = options;
  if (agent !== undefined && (!NODE.test(agent) || agent.length > 253)) {
    throw new ConfigError("CONFIG_PKI_NODE", `pki: ${agent} is no name of a node`);
  }
  if (agent === "ca" || agent === "collector") {
    throw new ConfigError("CONFIG_PKI_NODE", `pki: a node named ${agent} would overwrite a file`);
  }
  const notIp = ip.find((address) => isIP(address) === 0);
  if (notIp !== undefined) throw new ConfigError("CONFIG_PKI_IP", `pki: ${notIp} is no IP address`);
  if (!Number.isFinite(days)) throw new ConfigError("CONFIG_PKI_DAYS", "pki: days: not a number");
  const x509 = await loadX509();
  const ca = new x509.X509Certificate(await readPem(path.join(directory, "ca.pem")));
  const caKey = await importKey(await readPem(path.join(directory, "ca-key.pem")));
  const trustDomain = trustDomainOf(ca.getExtension(x509.SubjectAlternativeNameExtension));
  const name = agent === undefined ? "collector" : agent;
  const id = agent === undefined ? "collector" : `agent/${agent}`;
  const names: JsonGeneralName[] = [
    { type: "url", value: `spiffe://${trustDomain}/${id}` },
    ...dns.map((value) => ({ type: "dns" as const, value })),
    ...ip.map((value) => ({ type: "ip" as const, value })),
  ];
  const keys = await crypto.subtle.generateKey(KEY, true, ["sign", "verify"]);
  const leaf = await x509.X509CertificateGenerator.create({
    subject: `CN=${name.slice(0, 64)}`,
    issuer: ca.subject,
    publicKey: keys.publicKey,
    signingKey: caKey,
    signingAlgorithm: SIGNING,
    ...validity(days, ca),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      // An agent's key must not serve as a collector's.
      new x509.ExtendedKeyUsageExtension([agent === undefined ? SERVER_AUTH : CLIENT_AUTH]),
      new x509.SubjectAlternativeNameExtension(names),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(ca),
    ],
  });
  return writePair(directory, name, await keyPem(keys.privateKey), leaf.toString("pem"), "w");
}

/**
 * `@peculiar/x509` registers its algorithms with tsyringe, which does not load without the Reflect
 * metadata API. Of it, classes without injected arguments need no more than these three functions.
 */
async function loadX509(): Promise<typeof import("@peculiar/x509")> {
  if (!("getMetadata" in Reflect)) {
    const kept = new WeakMap<object, Map<unknown, unknown>>();
    const get = (key: unknown, target: object) => kept.get(target)?.get(key);
    const define = (key: unknown, value: unknown, target: object) => {
      kept.set(target, (kept.get(target) ?? new Map()).set(key, value));
    };
    Object.assign(Reflect, { getMetadata: get, getOwnMetadata: get, defineMetadata: define });
  }
  const x509 = await import("@peculiar/x509");
  x509.cryptoProvider.set(crypto);
  return x509;
}

/** A leaf does not outlive its CA. */
function validity(days: number, ca?: X509Certificate): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  const notAfter = new Date(now + days * DAY_MS);
  const notBefore = new Date(Math.min(now, notAfter.getTime()) - SKEW_MS);
  return { notBefore, notAfter: ca && ca.notAfter < notAfter ? ca.notAfter : notAfter };
}

function trustDomainOf(san: { names: { toJSON(): JsonGeneralName[] } } | null): string {
  const url = san?.names.toJSON().find((name) => name.type === "url")?.value ?? "";
  const found = /^spiffe:\/\/([^/]+)$/.exec(String(url))?.[1];
  if (found !== undefined) return found;
  throw new ConfigError("CONFIG_PKI_CA", "pki: ca.pem names no trust domain (URI spiffe://…)");
}

async function keyPem(key: CryptoKey): Promise<string> {
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", key)).toString("base64");
  const lines = der.match(/.{1,64}/g)!.join("\n");
  return `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----`;
}

async function importKey(pem: string): Promise<CryptoKey> {
  const der = Buffer.from(pem.replace(/-----[^-]+-----/g, ""), "base64");
  try {
    return await crypto.subtle.importKey("pkcs8", der, KEY, false, ["sign"]);
  } catch (error) {
    const told = "pki: ca-key.pem is not an unencrypted ECDSA P-256 key in PKCS #8";
    throw new ConfigError("CONFIG_PKI_CA", told, error);
  }
}

async function readPem(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const code = (error as { code?: string }).code;
    const told = `pki: ${file}: ${code}; "wireproof pki init" makes a CA`;
    throw new ConfigError("CONFIG_PKI_CA", told, error);
  }
}

/** The key first, so that a certificate in place always has its key. */
async function writePair(
  directory: string,
  name: string,
  key: string,
  certificate: string,
  flag: "w" | "wx",
): Promise<string[]> {
  const files = [path.join(directory, `${name}.pem`), path.join(directory, `${name}-key.pem`)];
  const write = async (file: string, text: string, mode: number) => {
    const handle = await open(file, flag, mode);
    try {
      await handle.chmod(mode);
      await handle.writeFile(`${text}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
  };
  try {
    await write(files[1]!, key, 0o600);
    await write(files[0]!, certificate, 0o644);
  } catch (error) {
    const { code } = error as { code?: string };
    const told = code === "EEXIST" ? "is there already, and is not replaced" : code;
    const where = (error as { path?: string }).path ?? directory;
    throw new ConfigError("CONFIG_PKI_WRITE", `pki: ${where} ${told}`, error);
  }
  return files;
}
