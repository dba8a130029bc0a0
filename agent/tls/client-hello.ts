/** Reads a ClientHello into the facts that a verifier and a fingerprint need. */
import type { Cursor } from "../read/cursor.ts";
import { Extension, isDtlsVersion, isGrease } from "./codes.ts";
import { KnownMessages } from "./known-messages.ts";

/** application_settings, as Chromium numbered it first and since 2023. */
const SETTINGS = [17513, 17613];

/** Lists keep the wire's order, GREASE included; an absent extension is null. */
export type ClientHello = {
  legacyVersion: number;
  sessionIdLength: number;
  cipherSuites: readonly number[];
  /** Extension types in the order of the wire. */
  extensions: readonly number[];
  serverName: string | null;
  /** Null where the extension is absent, not empty. */
  alpn: readonly string[] | null;
  versions: readonly number[] | null;
  groups: readonly number[];
  pointFormats: readonly number[];
  signatureAlgorithms: readonly number[];
  keyShares: readonly number[];
  /** A non-empty SessionTicket (RFC 5077 §3.2), or a pre_shared_key (RFC 8446 §4.2.11). */
  offersTicket: boolean;
  offersPsk: boolean;
  offersEarlyData: boolean;
  /** Application settings (draft-vvv-tls-alps): the client may send EncryptedExtensions. */
  offersSettings: boolean;
  encryptedClientHello: boolean;
  /** Length of the connection id that the client wants to be sent (RFC 9146 §3). */
  connectionId: number | null;
};

/** Reports whether a hello offers an extension; one that was not seen may have offered any. */
export function mayOffer(hello: ClientHello | null, extension: number): boolean {
  return hello?.extensions.includes(extension) ?? true;
}

/** Reports whether a client lets itself be asked for a certificate later (RFC 8446 §4.6.2). */
export function mayBeAskedLater(hello: ClientHello | null): boolean {
  return mayOffer(hello, Extension.postHandshakeAuth);
}

/** Reads `count` bytes as a list of uint16. */
export function readUint16List(c: Cursor, length: number): number[] {
  const outer = c.enter(length);
  const list: number[] = [];
  while (c.more) list.push(c.uint16());
  c.leave(outer);
  return list;
}

/** ProtocolNameList (RFC 7301 §3.1). */
export function readAlpn(c: Cursor): string[] {
  const outer = c.enter(c.uint16());
  const names: string[] = [];
  while (c.more) names.push(c.latin1(c.uint8()));
  c.leave(outer);
  return names;
}

/** ServerNameList (RFC 6066 §3): the first host_name; null where there is none. */
function readServerName(c: Cursor): string | null {
  let name: string | null = null;
  const outer = c.enter(c.uint16());
  while (c.more) {
    const type = c.uint8();
    const text = c.latin1(c.uint16());
    if (type === 0 && name === null && c.ok) name = text;
  }
  c.leave(outer);
  return name;
}

/** Groups of KeyShareClientHello (RFC 8446 §4.2.8), without the keys. */
function readKeyShares(c: Cursor): number[] {
  const outer = c.enter(c.uint16());
  const groups: number[] = [];
  while (c.more) {
    groups.push(c.uint16());
    c.skip(c.uint16());
  }
  c.leave(outer);
  return groups;
}

/**
 * Reads the body of a ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2) up to the cursor's end;
 * that of DTLS has a cookie behind the session id (RFC 6347 §4.2.1).
 * Null where lengths contradict each other. A hello that ends before its extensions is lawful: it
 * is older than they are.
 */
export function readClientHello(c: Cursor): ClientHello | null {
  const legacyVersion = c.uint16();
  c.skip(32); // random
  const sessionIdLength = c.uint8();
  c.skip(sessionIdLength);
  if (isDtlsVersion(legacyVersion)) c.skip(c.uint8());
  const cipherSuites = readUint16List(c, c.uint16());
  c.skip(c.uint8()); // legacy_compression_methods
  if (!c.ok) return null;
  const extensions: number[] = [];
  let serverName: string | null = null;
  let alpn: string[] | null = null;
  let versions: number[] | null = null;
  let groups: number[] = [];
  let pointFormats: number[] = [];
  let signatureAlgorithms: number[] = [];
  let keyShares: number[] = [];
  let offersTicket = false;
  let connectionId: number | null = null;
  const outer = c.enter(c.more ? c.uint16() : 0);
  while (c.more) {
    const type = c.uint16();
    const length = c.uint16();
    const extension = c.enter(length);
    extensions.push(type);
    if (length > 0) {
      switch (type) {
        case Extension.serverName:
          serverName ??= readServerName(c);
          break;
        case Extension.supportedGroups:
          groups = readUint16List(c, c.uint16());
          break;
        case Extension.ecPointFormats:
          pointFormats = [...c.bytes(c.uint8())];
          break;
        case Extension.signatureAlgorithms:
          signatureAlgorithms = readUint16List(c, c.uint16());
          break;
        case Extension.alpn:
          alpn = readAlpn(c);
          break;
        case Extension.sessionTicket:
          offersTicket = true;
          break;
        case Extension.supportedVersions:
          versions = readUint16List(c, c.uint8());
          break;
        case Extension.keyShare:
          keyShares = readKeyShares(c);
          break;
        case Extension.connectionId:
          connectionId = c.uint8();
          break;
      }
    }
    c.leave(extension);
  }
  c.leave(outer);
  if (!c.ok) return null;
  return {
    legacyVersion,
    sessionIdLength,
    cipherSuites,
    extensions,
    serverName: serverName === "" ? null : serverName,
    alpn,
    versions,
    groups,
    pointFormats,
    signatureAlgorithms,
    keyShares,
    offersTicket,
    offersPsk: extensions.includes(Extension.preSharedKey),
    offersEarlyData: extensions.includes(Extension.earlyData),
    offersSettings: SETTINGS.some((type) => extensions.includes(type)),
    encryptedClientHello: extensions.includes(Extension.encryptedClientHello),
    connectionId,
  };
}

const known = new KnownMessages(readClientHello);

/** As `readClientHello`; those that say the same are one object. */
export function knownClientHello(c: Cursor): ClientHello | null {
  return known.read(c);
}

/** The highest version offered, GREASE apart; those of DTLS count down. */
export function highestVersion(hello: ClientHello): number {
  const offered = (hello.versions ?? []).filter((v) => !isGrease(v));
  if (isDtlsVersion(hello.legacyVersion)) {
    const datagrams = offered.filter(isDtlsVersion);
    return datagrams.length > 0 ? Math.min(...datagrams) : hello.legacyVersion;
  }
  return offered.length > 0 ? Math.max(...offered) : hello.legacyVersion;
}

/**
 * Reads the body of an SSLv2-style CLIENT-HELLO (RFC 6101 Appendix E.2) behind its message type:
 *
 *     version(2) | cipher specs length(2) | session id length(2) | challenge length(2) | …
 *
 * A cipher spec is three bytes; those that begin with 0 are of SSLv3 and later.
 */
export function readSsl2ClientHello(c: Cursor): ClientHello | null {
  const legacyVersion = c.uint16();
  const specsLength = c.uint16();
  const sessionIdLength = c.uint16();
  const challengeLength = c.uint16();
  if (specsLength % 3 !== 0) return null;
  const cipherSuites: number[] = [];
  for (let i = 0; i < specsLength && c.ok; i += 3) {
    const spec = c.uint24();
    if (spec <= 0xffff) cipherSuites.push(spec);
  }
  c.skip(sessionIdLength);
  c.skip(challengeLength);
  if (!c.ok) return null;
  return {
    legacyVersion,
    sessionIdLength,
    cipherSuites,
    extensions: [],
    serverName: null,
    alpn: null,
    versions: null,
    groups: [],
    pointFormats: [],
    signatureAlgorithms: [],
    keyShares: [],
    offersTicket: false,
    offersPsk: false,
    offersEarlyData: false,
    offersSettings: false,
    encryptedClientHello: false,
    connectionId: null,
  };
}
