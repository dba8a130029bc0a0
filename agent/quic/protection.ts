/** Opens QUIC Initial packets, with the keys that anyone derives from a connection id. */
import { createCipheriv, createDecipheriv, createHmac } from "node:crypto";
import type { LongHeader } from "./header.ts";
import type { QuicVersion } from "./version.ts";

const TAG_BYTES = 16;
const SAMPLE_BYTES = 16;
/** The sample begins four bytes behind the packet number's start (RFC 9001 §5.4.2). */
const SAMPLE_AT = 4;

/** Keys of one direction (RFC 9001 §5.1). */
export type PacketKeys = { key: Uint8Array; iv: Uint8Array; headerKey: Uint8Array };

/** Keys of both directions: those of the client's packets, and those of the server's. */
export type InitialKeys = readonly [client: PacketKeys, server: PacketKeys];

const hmac = (key: Uint8Array, bytes: Uint8Array): Uint8Array =>
  createHmac("sha256", key).update(bytes).digest();

/**
 * HKDF-Expand-Label (RFC 8446 §7.1) with an empty context, for at most one block of SHA-256:
 *
 *     length(2) | length of label(1) | "tls13 " label | 0 | block number 1
 */
function expandLabel(secret: Uint8Array, label: string, length: number): Uint8Array {
  const full = Buffer.from(`tls13 ${label}`, "latin1");
  const info = Buffer.concat([Buffer.from([0, length, full.length]), full, Buffer.from([0, 1])]);
  return hmac(secret, info).subarray(0, length);
}

/** Derives the Initial keys from the client's destination connection id (RFC 9001 §5.2). */
export function deriveInitialKeys(version: QuicVersion, connectionId: Uint8Array): InitialKeys {
  const initial = hmac(Buffer.from(version.salt, "hex"), connectionId);
  const keysOf = (side: string): PacketKeys => {
    const secret = expandLabel(initial, `${side} in`, 32);
    return {
      key: expandLabel(secret, `${version.label} key`, 16),
      iv: expandLabel(secret, `${version.label} iv`, 12),
      headerKey: expandLabel(secret, `${version.label} hp`, 16),
    };
  };
  return [keysOf("client"), keysOf("server")];
}

/**
 * Opens the Initial packet of `header` (RFC 9001 §5.3, §5.4): takes off the header protection, and
 * decrypts. Returns a copy of its frames, or null where the keys are not this packet's.
 */
export function openInitial(
  view: DataView,
  header: LongHeader,
  keys: PacketKeys,
): Uint8Array<ArrayBuffer> | null {
  const { at, numberAt, end } = header;
  if (end - numberAt < SAMPLE_AT + SAMPLE_BYTES) return null;
  const source = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const sample = source.subarray(numberAt + SAMPLE_AT, numberAt + SAMPLE_AT + SAMPLE_BYTES);
  const mask = createCipheriv("aes-128-ecb", keys.headerKey, null).update(sample);
  const first = source[at]! ^ (mask[0]! & 0x0f);
  const numberLength = (first & 3) + 1;
  const clear = source.slice(at, numberAt + numberLength);
  clear[0] = first;
  const nonce = Uint8Array.from(keys.iv);
  for (let i = 0; i < numberLength; i++) {
    const byte = source[numberAt + i]! ^ mask[1 + i]!;
    clear[numberAt - at + i] = byte;
    // A full packet number has the same last bytes as the truncated one: Initials are few.
    nonce[12 - numberLength + i]! ^= byte;
  }
  const tagAt = end - TAG_BYTES;
  const decipher = createDecipheriv("aes-128-gcm", keys.key, nonce);
  decipher.setAAD(clear);
  decipher.setAuthTag(source.subarray(tagAt, end));
  const frames = Uint8Array.from(decipher.update(source.subarray(numberAt + numberLength, tagAt)));
  try {
    decipher.final();
  } catch {
    return null; // the tag does not fit: other keys, or other bytes
  }
  return frames;
}
