/** Reads from a proven client certificate which node its agent speaks for. */

/** What of a certificate is asked for: `X509Certificate` of node:crypto has it. */
export type NamedCertificate = { subjectAltName: string | undefined };

const SEGMENT = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?";

/**
 * The node of `spiffe://<trust domain>/agent/<node>`, or null. As SPIFFE's X.509-SVID §2 wants it,
 * the certificate must hold exactly one URI name.
 *
 * Node writes alternative names as `URI:…, DNS:…`, and quotes one that holds a comma or a quote, so
 * a hostile name cannot pose as two; no quoted name can match here.
 */
export function nodeOf(certificate: NamedCertificate, trustDomain: string): string | null {
  const names = (certificate.subjectAltName ?? "").split(", ");
  const uris = names.filter((name) => name.startsWith("URI:"));
  if (uris.length !== 1) return null;
  const prefix = `URI:spiffe://${trustDomain}/agent/`;
  if (!uris[0]!.startsWith(prefix)) return null;
  const node = uris[0]!.slice(prefix.length);
  return node.length <= 253 && new RegExp(`^${SEGMENT}$`).test(node) ? node : null;
}

/** Words for the codes with which OpenSSL or Node refuse a client certificate. */
const REASONS: Readonly<Record<string, string>> = {
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: "no-certificate",
  UNABLE_TO_GET_ISSUER_CERT: "other-ca",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "other-ca",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "other-ca",
  SELF_SIGNED_CERT_IN_CHAIN: "other-ca",
  DEPTH_ZERO_SELF_SIGNED_CERT: "other-ca",
  CERT_SIGNATURE_FAILURE: "other-ca",
  CERT_HAS_EXPIRED: "expired",
  CERT_NOT_YET_VALID: "not-yet-valid",
  INVALID_PURPOSE: "wrong-purpose",
  CERT_REVOKED: "revoked",
};

/** Names why a handshake failed: the code of the certificate's refusal first, else the error's. */
export function handshakeReason(refusal: unknown, code: unknown): string {
  for (const told of [refusal, code]) {
    if (typeof told === "string" && told in REASONS) return REASONS[told]!;
  }
  return "tls-error";
}
