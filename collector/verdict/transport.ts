/** Judges one connection against what is declared about transport. */
import type { Expectation } from "../policy/expectation.ts";
import { holdAgainst } from "./crypto.ts";
import type { Connection } from "./pair.ts";
import { contradicts, PENDING, silent, supports, undemanded, unreadable } from "./say.ts";
import type { Say } from "./say.ts";

const VERSIONS = ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

/** What the connection says; of a version that demands nothing, whatever is sent is nothing. */
export function sayOfTransport(c: Connection, { transport }: Expectation): Say {
  const { required } = transport;
  if (required === null) return silent();
  if (c.oneSided) return unreadable("one-sided");
  if (c.disagree) return unreadable("sightings-disagree");
  if (!c.established) return silent(); // never reached the server's transport
  if (c.accepted === true) return sayOfAccepted(c, transport);
  if (c.accepted === false) return sayOfRefused(c, required);
  if (c.midstream && c.posture !== "none") return unreadable("joined-midstream");
  if (!c.final) return PENDING;
  return c.posture === "none" ? silent() : unreadable("not-answered");
}

function sayOfAccepted(c: Connection, transport: Expectation["transport"]): Say {
  const { minVersion, crypto } = transport;
  if (c.midstream && c.posture === "unknown") return unreadable("joined-midstream");
  if (c.posture === "unknown" && c.version === null) return unreadable("mutual-unknown");
  const isTls = c.posture !== "plaintext" && c.posture !== "none";
  const isDemanded = transport.required === "mtls" || transport.required === "tls";
  if (isTls && isDemanded && NO_ENCRYPTION.test(c.tls?.cipher_suite ?? "")) {
    return contradicts("suite-not-encrypting");
  }
  if (isTls && minVersion && c.version && isOlder(c.version, minVersion)) {
    return contradicts("version-too-low");
  }
  const say = sayOfRequired(c, transport, isTls);
  if (!isTls || !crypto || c.tls === null || say.kind === "contradicts") return say;
  const held = holdAgainst(crypto, c.tls);
  if (held === "misses") return contradicts("crypto-misses-profile");
  return held === "meets" || say.kind !== "supports" ? say : unreadable("crypto-not-seen");
}

function sayOfRequired(c: Connection, transport: Expectation["transport"], isTls: boolean): Say {
  const { required, minVersion, crypto } = transport;
  switch (required) {
    case "mtls":
      if (c.posture === "mtls") return sayOfMutual(c, transport);
      if (c.posture === "tls") return contradicts("one-way-tls");
      if (c.posture === "plaintext") return contradicts("plaintext-accepted");
      return unreadable(c.posture === "resumed" ? "session-resumed" : "mutual-unknown");
    case "tls":
      return isTls ? supports("tls-observed") : contradicts("plaintext-accepted");
    default:
      if (!isTls) return undemanded("plaintext-allowed");
      if (minVersion || crypto) return supports("tls-observed");
      return undemanded(c.posture === "mtls" ? "mtls-undemanded" : "tls-undemanded");
  }
}

/** A mesh's own demand is met by its own identities; another's mutual TLS is none of its. */
function sayOfMutual(c: Connection, transport: Expectation["transport"]): Say {
  const { mesh, trustDomain } = transport;
  if (isAlien(c, transport)) {
    return mesh && trustDomain ? contradicts("foreign-identity") : unreadable("identity-doubtful");
  }
  if (mesh && !c.tls?.mesh?.startsWith(mesh)) return unreadable("mesh-unseen");
  return supports(c.inferred ? "mtls-inferred" : "mtls-observed");
}

/** Shows an identity that is not its own, or none of those that the mesh declares. */
export function isAlien(c: Connection, { mesh, trustDomain }: Expectation["transport"]): boolean {
  if (c.posture !== "mtls" || c.accepted !== true) return false;
  const { isOther, isSelfSigned, trustDomains } = c.identity;
  return isOther || (mesh !== undefined && isSelfSigned) || isOfAnother(trustDomains, trustDomain);
}

const isOfAnother = (domains: readonly string[], own: string | null | undefined): boolean =>
  typeof own === "string" && domains.some((domain) => domain !== own);

/** Suites that do not encrypt, or do not authenticate the server (RFC 5246 §A.5, RFC 9150). */
const NO_ENCRYPTION = /_WITH_NULL_|_anon_|^TLS_SHA(256|384)_SHA(256|384)$/;

/**
 * A refusal by the server of what is forbidden proves enforcement; of what is allowed, it proves
 * nothing. The client's own refusal says nothing about it either.
 */
function sayOfRefused(c: Connection, required: Expectation["transport"]["required"]): Say {
  const isEncrypted = required === "mtls" || required === "tls";
  // A server that died, or reads and closes, shows the same.
  if (c.failureLikely) return unreadable("refusal-likely");
  switch (c.failure) {
    case "plaintext-refused":
    case "plaintext-to-tls":
      return isEncrypted ? supports("plaintext-refused") : unreadable("not-answered");
    case "client-cert-missing":
      return required === "mtls" ? supports("client-cert-missing") : unreadable("handshake-failed");
    case "client-cert-refused":
    case "client-cert-untrusted":
    case "client-cert-expired":
    case "client-cert-bad":
      return required === "mtls" ? supports("client-cert-refused") : unreadable("handshake-failed");
    case "server-cert-expired":
      return unreadable("server-cert-expired");
    case "server-cert-refused":
    case "server-cert-untrusted":
    case "server-cert-name":
    case "server-cert-bad":
      return unreadable("server-cert-refused");
    default:
      return unreadable("handshake-failed");
  }
}

function isOlder(version: string, minimum: string): boolean {
  // DTLS 1.0 is TLS 1.1 over datagrams (RFC 4347 §1); from 1.2 on the numbers agree.
  const asTls = version === "DTLSv1.0" ? "TLSv1.1" : version.replace(/^D/, "");
  const at = VERSIONS.indexOf(asTls);
  return at >= 0 && at < VERSIONS.indexOf(minimum);
}
