/** Names the numbers of TLS: versions, record and handshake types, groups, extensions, alerts. */
import { SIGNATURE_SCHEMES } from "./registry.ts";

/** ContentType (RFC 8446 §5.1). */
export const ContentType = {
  changeCipherSpec: 20,
  alert: 21,
  handshake: 22,
  applicationData: 23,
  heartbeat: 24,
} as const;

/** HandshakeType (RFC 8446 §4, RFC 5246 §7.4). */
export const HandshakeType = {
  helloRequest: 0,
  clientHello: 1,
  serverHello: 2,
  helloVerifyRequest: 3, // RFC 6347 §4.2.1
  newSessionTicket: 4,
  certificate: 11,
  serverKeyExchange: 12,
  certificateRequest: 13,
  serverHelloDone: 14,
  certificateVerify: 15,
  clientKeyExchange: 16,
  finished: 20,
  certificateStatus: 22,
} as const;

/** ExtensionType (RFC 8446 §4.2 and the IANA registry). */
export const Extension = {
  serverName: 0,
  maxFragmentLength: 1, // RFC 6066 §4
  supportedGroups: 10,
  ecPointFormats: 11,
  signatureAlgorithms: 13,
  alpn: 16,
  extendedMasterSecret: 23,
  recordSizeLimit: 28, // RFC 8449 §4
  sessionTicket: 35,
  preSharedKey: 41,
  earlyData: 42,
  supportedVersions: 43,
  pskKeyExchangeModes: 45,
  postHandshakeAuth: 49, // RFC 8446 §4.2.6
  keyShare: 51,
  connectionId: 54, // RFC 9146 §3
  encryptedClientHello: 0xfe0d,
} as const;

/** Protocol versions as they stand on the wire, in the order of age; those of DTLS count down. */
export const Version = {
  ssl2: 0x0002,
  ssl3: 0x0300,
  tls10: 0x0301,
  tls11: 0x0302,
  tls12: 0x0303,
  tls13: 0x0304,
  dtlsOld: 0x0100, // OpenSSL's before RFC 4347; AnyConnect kept it
  dtls10: 0xfeff,
  dtls12: 0xfefd,
  dtls13: 0xfefc,
} as const;

export const VERSION_NAMES: ReadonlyMap<number, string> = new Map([
  [Version.ssl2, "SSLv2"],
  [Version.ssl3, "SSLv3"],
  [Version.tls10, "TLSv1.0"],
  [Version.tls11, "TLSv1.1"],
  [Version.tls12, "TLSv1.2"],
  [Version.tls13, "TLSv1.3"],
  [Version.dtlsOld, "DTLSv1.0"],
  [Version.dtls10, "DTLSv1.0"],
  [Version.dtls12, "DTLSv1.2"],
  [Version.dtls13, "DTLSv1.3"],
]);

/** The version's name; drafts of TLS 1.3 (0x7fNN, and Facebook's 0xfb1a) count as TLSv1.3. */
export function versionName(version: number): string | null {
  if (version >> 8 === 0x7f || version >> 8 === 0xfb) return "TLSv1.3";
  return VERSION_NAMES.get(version) ?? null;
}

/** Reports whether the version is TLS 1.3, one of its drafts, or DTLS 1.3. */
export function isTls13(version: number): boolean {
  const isFinal = version === Version.tls13 || version === Version.dtls13;
  return isFinal || version >> 8 === 0x7f || version >> 8 === 0xfb;
}

/** Reports whether the version is one of DTLS: their hellos have a cookie. */
export function isDtlsVersion(version: number): boolean {
  return version >> 8 === 0xfe || version === Version.dtlsOld;
}

/** Reports whether a code point is one of GREASE's (RFC 8701 §2): 0x0a0a, 0x1a1a, … 0xfafa. */
export function isGrease(code: number): boolean {
  return (code & 0x0f0f) === 0x0a0a && code >> 8 === (code & 0xff);
}

/** HashAlgorithm and SignatureAlgorithm of TLS 1.2 (RFC 5246 §7.4.1.4.1), by their numbers. */
const HASHES = ["none", "md5", "sha1", "sha224", "sha256", "sha384", "sha512"];
const SIGNERS = ["anonymous", "rsa_pkcs1", "dsa", "ecdsa"];

/** A SignatureScheme's name; pairs of TLS 1.2 that are no scheme are named alike: `dsa_sha256`. */
export function signatureName(code: number): string {
  const name = SIGNATURE_SCHEMES.get(code);
  if (name !== undefined) return name;
  const hash = HASHES[code >> 8];
  const signer = SIGNERS[code & 0xff];
  const isPair = hash !== undefined && signer !== undefined && code >> 8 > 0;
  return isPair ? `${signer}_${hash}` : `0x${code.toString(16).padStart(4, "0")}`;
}

/** AlertDescription (RFC 8446 §6, RFC 5246 §7.2, RFC 6066, RFC 7301); those that are told apart. */
export const Alert = {
  closeNotify: 0,
  unexpectedMessage: 10,
  badRecordMac: 20,
  recordOverflow: 22,
  handshakeFailure: 40,
  noCertificate: 41,
  badCertificate: 42,
  unsupportedCertificate: 43,
  certificateRevoked: 44,
  certificateExpired: 45,
  certificateUnknown: 46,
  illegalParameter: 47,
  unknownCa: 48,
  accessDenied: 49,
  decodeError: 50,
  decryptError: 51,
  protocolVersion: 70,
  insufficientSecurity: 71,
  internalError: 80,
  inappropriateFallback: 86,
  userCanceled: 90,
  missingExtension: 109,
  unrecognizedName: 112,
  certificateRequired: 116,
  noApplicationProtocol: 120,
} as const;
