/**
 * Signs and opens checkpoints: C2SP signed-note and tlog-checkpoint, with Ed25519 keys.
 *
 *     wireproof.example/cluster-a                           origin, also the key's name
 *     3                                                     size of the tree
 *     oyRRL8zsVzkSqC8BNeQW7wUH6BQwx3ZNgxQ8YhuM6cc=          its root hash
 *                                                           (a blank line ends the text)
 *     — wireproof.example/cluster-a kAwoDnG…                base64 of key id (4) and signature (64)
 */
import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { HASH_LENGTH } from "./merkle.ts";

export type Checkpoint = { origin: string; size: number; root: Uint8Array };
export type Signer = { name: string; keyId: Buffer; key: KeyObject };
export type Verifier = { name: string; keyId: Buffer; key: KeyObject };

const ED25519 = 0x01; // signature type, signed-note §Signatures
const KEY_ID_LENGTH = 4;
const KEY_LENGTH = 32;
const SIGNATURE_LENGTH = 64;
/** Far above any checkpoint; what is longer is not read. */
const NOTE_LENGTH_LIMIT = 64 << 10;

/** A key name: not empty, without spaces, "+" or control characters. */
export function isKeyName(name: string): boolean {
  return /^[^\s+\p{C}]+$/u.test(name);
}

/** Formats both halves of a key as Go's `note` does; the seed is 32 random bytes. */
export function formatKeys(name: string, seed: Uint8Array): { signer: string; verifier: string } {
  const jwk = createPublicKey(privateKey(seed)).export({ format: "jwk" });
  const point = Buffer.from(jwk.x!, "base64url");
  const id = keyIdOf(name, point).toString("hex");
  const typed = (bytes: Uint8Array) =>
    Buffer.concat([Uint8Array.of(ED25519), bytes]).toString("base64");
  return {
    signer: `PRIVATE+KEY+${name}+${id}+${typed(seed)}`,
    verifier: `${name}+${id}+${typed(point)}`,
  };
}

/** Null when the text is no Ed25519 signer key. */
export function parseSigner(text: string): Signer | null {
  const trimmed = text.trim();
  if (!trimmed.startsWith("PRIVATE+KEY+")) return null;
  const parts = splitKey(trimmed.slice("PRIVATE+KEY+".length));
  if (parts === null) return null;
  const key = privateKey(parts.bytes);
  const point = Buffer.from(createPublicKey(key).export({ format: "jwk" }).x!, "base64url");
  const keyId = keyIdOf(parts.name, point);
  return keyId.toString("hex") === parts.id ? { name: parts.name, keyId, key } : null;
}

/** Null when the text is no Ed25519 verifier key. */
export function parseVerifier(text: string): Verifier | null {
  const parts = splitKey(text.trim());
  if (parts === null) return null;
  const keyId = keyIdOf(parts.name, parts.bytes);
  if (keyId.toString("hex") !== parts.id) return null;
  const x = parts.bytes.toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  return { name: parts.name, keyId, key };
}

export function verifierOf(signer: Signer): Verifier {
  return { ...signer, key: createPublicKey(signer.key) };
}

export function signCheckpoint(size: number, root: Uint8Array, signer: Signer): string {
  const text = `${signer.name}\n${size}\n${Buffer.from(root).toString("base64")}\n`;
  const signature = sign(null, Buffer.from(text), signer.key);
  const line = Buffer.concat([signer.keyId, signature]).toString("base64");
  return `${text}\n— ${signer.name} ${line}\n`;
}

/** What opening a checkpoint found; `problem` is a clause that a person reads. */
export type Opened = { checkpoint: Checkpoint; problem: null } | { problem: string };

/**
 * Reads a checkpoint whose signature by `verifier` is good; signatures by others are passed over.
 * With null for the verifier, nothing is checked but the form.
 */
export function openCheckpoint(bytes: Uint8Array, verifier: Verifier | null): Opened {
  if (bytes.length > NOTE_LENGTH_LIMIT) return { problem: "it is too long for a checkpoint" };
  let note: string;
  try {
    note = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { problem: "it is not UTF-8" };
  }
  const split = note.lastIndexOf("\n\n");
  const text = note.slice(0, split + 1);
  const signatures = note.slice(split + 2).split("\n");
  const isNote = split >= 0 && signatures.pop() === "" && signatures.length > 0;
  if (!isNote) return { problem: "it is not a signed note" };
  let found = false;
  for (const line of signatures) {
    const parts = /^— (\S+) (\S+)$/.exec(line);
    const bytes = parts && strictBase64(parts[2]!);
    if (!bytes || bytes.length <= KEY_ID_LENGTH) return { problem: "it is not a signed note" };
    if (verifier === null || parts[1] !== verifier.name) continue;
    if (!bytes.subarray(0, KEY_ID_LENGTH).equals(verifier.keyId)) continue;
    const signature = bytes.subarray(KEY_ID_LENGTH);
    const good =
      signature.length === SIGNATURE_LENGTH &&
      verify(null, Buffer.from(text), verifier.key, signature);
    if (!good) return { problem: `its signature by ${verifier.name} is wrong` };
    found = true;
  }
  if (verifier && !found) {
    return { problem: `no signature on it is by the key given (${verifier.name})` };
  }
  const checkpoint = parseCheckpoint(text);
  if (checkpoint === null) return { problem: "what is signed is not a checkpoint" };
  if (verifier && checkpoint.origin !== verifier.name) {
    return { problem: `it belongs to another log (${checkpoint.origin})` };
  }
  return { checkpoint, problem: null };
}

/** The three lines of a checkpoint, and extension lines that are not read; null otherwise. */
function parseCheckpoint(text: string): Checkpoint | null {
  const [origin, size, root, ...rest] = text.split("\n");
  if (!origin || size === undefined || root === undefined || rest.pop() !== "") return null;
  if (!/^(0|[1-9][0-9]*)$/.test(size) || !Number.isSafeInteger(Number(size))) return null;
  const hash = strictBase64(root);
  if (hash?.length !== HASH_LENGTH || rest.includes("")) return null;
  return { origin, size: Number(size), root: hash };
}

function splitKey(text: string): { name: string; id: string; bytes: Buffer } | null {
  const parts = /^([^+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(text);
  const bytes = parts && strictBase64(parts[3]!);
  if (!bytes || bytes.length !== 1 + KEY_LENGTH || bytes[0] !== ED25519) return null;
  return isKeyName(parts[1]!) ? { name: parts[1]!, id: parts[2]!, bytes: bytes.subarray(1) } : null;
}

/** SHA-256(name || "\n" || 0x01 || public key), first four bytes. */
function keyIdOf(name: string, point: Uint8Array): Buffer {
  const hash = createHash("sha256").update(`${name}\n`).update(Uint8Array.of(ED25519));
  return hash.update(point).digest().subarray(0, KEY_ID_LENGTH);
}

function privateKey(seed: Uint8Array): KeyObject {
  // PKCS #8 of an Ed25519 seed, RFC 8410 §7.
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

/** Null for text that another base64 text decodes to as well. */
function strictBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : null;
}
