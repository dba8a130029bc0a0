/** Reads a ServerHello, or the HelloRetryRequest that looks like one. */
import type { Cursor } from "../read/cursor.ts";
import { readAlpn } from "./client-hello.ts";
import { Extension, Version } from "./codes.ts";
import { KnownMessages } from "./known-messages.ts";

export type ServerHello = {
  /** The negotiated version: supported_versions where present, else the legacy field. */
  version: number;
  legacyVersion: number;
  cipherSuite: number;
  extensions: readonly number[];
  /** Visible up to TLS 1.2 only. */
  alpn: string | null;
  /** Selected group; TLS 1.3. */
  group: number | null;
  selectsPsk: boolean;
  isHelloRetryRequest: boolean;
  sessionIdLength: number;
  /** Length of the connection id that the server wants to be sent (RFC 9146 §3). */
  connectionId: number | null;
};

/** A HelloRetryRequest's random: SHA-256 of its name (RFC 8446 §4.1.3); the first two words. */
const RETRY_RANDOM_0 = 0xcf21ad74;
const RETRY_RANDOM_1 = 0xe59a6111;

/** Reads the body of a ServerHello (RFC 8446 §4.1.3) up to the cursor's end; null where it lies. */
export function readServerHello(c: Cursor): ServerHello | null {
  const legacyVersion = c.uint16();
  const random0 = c.uint32();
  const random1 = c.uint32();
  c.skip(24);
  // Drafts of TLS 1.3 before -22 had neither session id nor compression here.
  const isOldDraft = legacyVersion >> 8 === 0x7f;
  const sessionIdLength = isOldDraft ? 0 : c.uint8();
  c.skip(sessionIdLength);
  const cipherSuite = c.uint16();
  if (!isOldDraft) c.skip(1); // legacy_compression_method
  if (!c.ok) return null;
  const extensions: number[] = [];
  let version = legacyVersion;
  let alpn: string | null = null;
  let group: number | null = null;
  let connectionId: number | null = null;
  const outer = c.enter(c.more ? c.uint16() : 0);
  while (c.more) {
    const type = c.uint16();
    const extension = c.enter(c.uint16());
    extensions.push(type);
    switch (type) {
      case Extension.supportedVersions:
        version = c.uint16();
        break;
      case Extension.alpn:
        alpn = readAlpn(c)[0] ?? null;
        break;
      case Extension.keyShare:
        group = c.uint16(); // the key itself follows, and is not needed
        break;
      case Extension.connectionId:
        connectionId = c.uint8();
        break;
    }
    c.leave(extension);
  }
  c.leave(outer);
  if (!c.ok) return null;
  return {
    version,
    legacyVersion,
    cipherSuite,
    extensions,
    alpn,
    group,
    selectsPsk: extensions.includes(Extension.preSharedKey),
    isHelloRetryRequest: random0 === RETRY_RANDOM_0 && random1 === RETRY_RANDOM_1,
    sessionIdLength,
    connectionId,
  };
}

const known = new KnownMessages(readServerHello);

/** As `readServerHello`; those that say the same are one object. */
export function knownServerHello(c: Cursor): ServerHello | null {
  return known.read(c);
}

/** What a ServerKeyExchange says of the exchange and of its signature; null where it does not. */
export type ServerKeyExchange = {
  /** The named group of ECDHE. */
  group: number | null;
  /** Bits of the prime of DHE. */
  primeBits: number | null;
  /** SignatureScheme by which the server signed; TLS 1.2 only. */
  signature: number | null;
};

/**
 * Reads the body of a ServerKeyExchange (RFC 5246 §7.4.3, RFC 8422 §5.4, RFC 4279 §3, RFC 5489 §2):
 *
 *     psk_identity_hint<2>, with _PSK | curve_type 3, group(2), point<1>   ECDHE
 *                                     | p<2>, g<2>, Ys<2>                 DHE
 *     SignatureScheme(2), TLS 1.2 | signature<2>                          neither _PSK nor _anon
 */
export function readServerKeyExchange(
  c: Cursor,
  suite: string,
  version: number,
): ServerKeyExchange | null {
  const kind = /^TLS_(ECDHE|ECDH|DHE|DH)_(PSK|anon|RSA|ECDSA|DSS)_/.exec(suite);
  if (!kind) return null;
  const [, exchange = "", signer = ""] = kind;
  const isEphemeral = exchange.endsWith("E") || signer === "anon";
  if (!isEphemeral) return null; // static (EC)DH keys stand in the certificate
  const read: ServerKeyExchange = { group: null, primeBits: null, signature: null };
  if (signer === "PSK") c.skip(c.uint16());
  if (exchange.startsWith("EC")) {
    if (c.uint8() !== 3) return null; // explicit curves: forbidden since RFC 8422
    const group = c.uint16();
    c.skip(c.uint8());
    if (!c.ok) return null;
    read.group = group;
  } else {
    const length = c.uint16();
    const prime = c.bytes(length);
    c.skip(c.uint16());
    c.skip(c.uint16());
    if (!c.ok) return null;
    read.primeBits = bitsOf(prime);
  }
  if (version === Version.tls12 && signer !== "PSK" && signer !== "anon") {
    const scheme = c.uint16();
    if (c.ok) read.signature = scheme;
  }
  return read;
}

/** Bits of a big-endian number. */
function bitsOf(bytes: Uint8Array): number {
  let first = 0;
  while (first < bytes.length && bytes[first] === 0) first++;
  if (first === bytes.length) return 0;
  return (bytes.length - first) * 8 - (Math.clz32(bytes[first]!) - 24);
}
