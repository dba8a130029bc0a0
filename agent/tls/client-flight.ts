/**
 * Infers from the sizes of a TLS 1.3 client's encrypted records whether it presented a certificate.
 *
 * Behind the ServerHello a client sends, encrypted, in this order (RFC 8446 §4.4):
 *
 *     EndOfEarlyData      only where the server accepted early data: 4 bytes
 *     EncryptedExtensions only with application settings (draft-vvv-tls-alps): 10 bytes when empty
 *     Certificate         only when the server asked: 8 bytes empty, else 13 and the certificate
 *     CertificateVerify   only with a certificate: 8 bytes and the signature
 *     Finished            4 bytes and the hash: 36 (SHA-256) or 52 (SHA-384)
 *
 * Each record adds 1 byte of content type and 16 of tag; its length field says so in clear. Most
 * stacks send one record per message, some the whole flight in one record; Java pads each record
 * by 16. Handshake and application data use different keys, so they never share a record.
 */

/** Content type and AEAD tag (RFC 8446 §5.2). */
const OVERHEAD = 17;
/** AEAD tag: what is left of a padded record's length beside its whole blocks. */
const TAG = 16;
/** Smallest block to which a stack was seen to pad its records (OpenSSL's record_padding). */
const PADDING_BLOCK = 64;
/** Java's SunJSSE pads each handshake record by 16 bytes (measured). */
export const JAVA_PADDING = 16;
const EMPTY_CERTIFICATE = 8;
/** EncryptedExtensions with one empty extension: 4 + 2 + 4, as Chromium sends it. */
const EMPTY_SETTINGS = 10;
/** No certificate with its framing was smaller; measured: 310 alone, 424 in a joined flight. */
export const PRESENTED_MINIMUM = 200;
/** A raw public key of Ed25519 (44 bytes) with its framing (RFC 7250): 13 more, in a record. */
const RAW_KEY_MINIMUM = 44 + 13 + OVERHEAD;
/** CertificateVerify: from Ed25519 (64 bytes) to ML-DSA-87 (4627), framed. */
const VERIFY_MINIMUM = 8 + 64 + OVERHEAD;
const VERIFY_MAXIMUM = 8 + 4627 + OVERHEAD + JAVA_PADDING;
/** A chain beyond 16 KiB goes on in so many further records. */
const CHAIN_RECORDS = 4;
const ALERT = 2 + OVERHEAD;

export type ClientFlight = {
  /**
   * `certificate`: it begins with a Certificate, and may be whole or broken off behind it.
   * `alert`: the client refused the server's flight instead of answering it.
   * `padded`: whole blocks of padding hide what the sizes would tell.
   */
  kind:
    | "none"
    | "declined"
    | "presented"
    | "certificate"
    | "alert"
    | "padded"
    | "unclear"
    | "incomplete";
  /** Records of the flight; the Finished is the last of them. 0 where it is not known. */
  records: number;
};

/** What was negotiated that changes the flight, beside the hash. */
export type FlightOffers = { earlyData: boolean; settings: boolean; psk: boolean };

/** Reports whether a record has the size of an alert: bare, or as Java pads it. */
export function isAlertSized(length: number): boolean {
  return length === ALERT || length === ALERT + JAVA_PADDING;
}

/** The record of a Finished alone, by the length of the suite's hash in bytes. */
export function finishedLength(hashBytes: number): number {
  return 4 + hashBytes + OVERHEAD;
}

/** Reports whether a record may have been padded to whole blocks (RFC 8446 §5.4). */
export function mayBePadded(length: number): boolean {
  return (length - TAG) % PADDING_BLOCK === 0;
}

const INCOMPLETE: ClientFlight = { kind: "incomplete", records: 0 };
const UNCLEAR: ClientFlight = { kind: "unclear", records: 0 };
const ALERTED: ClientFlight = { kind: "alert", records: 0 };

/**
 * Reads the client's first encrypted records, by the length fields of those of type 23 that it sent
 * when it had the ServerHello. `hashBytes` is 32 or 48, by the cipher suite. Behind a PSK nobody
 * asks for a certificate (RFC 8446 §4.3.2), and early data may still come before the Finished.
 */
export function readClientFlight(
  lengths: readonly number[],
  hashBytes: number,
  offers: FlightOffers,
): ClientFlight {
  const first = lengths[0];
  if (first === undefined) return INCOMPLETE;
  if (lengths.every(mayBePadded)) return { kind: "padded", records: 0 };
  const finished = finishedLength(hashBytes);
  const isFinished = (n: number | undefined) => n === finished || n === finished + JAVA_PADDING;
  if (offers.psk) {
    const last = offers.earlyData ? lengths.findIndex(isFinished) : isFinished(first) ? 0 : -1;
    if (last >= 0) return { kind: "none", records: last + 1 };
    if (isAlertSized(first) && lengths.length === 1) return ALERTED;
    return offers.earlyData ? INCOMPLETE : UNCLEAR;
  }
  const settings = offers.settings ? EMPTY_SETTINGS : 0;
  if (isFinished(first) || first === finished + settings) return { kind: "none", records: 1 };
  const declined = first - finished - EMPTY_CERTIFICATE;
  if (declined === 0 || declined === settings || declined === JAVA_PADDING) {
    return { kind: "declined", records: 1 };
  }
  const empty = EMPTY_CERTIFICATE + OVERHEAD;
  if (first === empty || first === empty + JAVA_PADDING) {
    const next = lengths[1];
    if (next === undefined) return INCOMPLETE;
    if (isFinished(next)) return { kind: "declined", records: 2 };
    return isAlertSized(next) ? ALERTED : UNCLEAR;
  }
  if (isAlertSized(first)) return lengths.length === 1 ? ALERTED : UNCLEAR;
  const verified = verifiedRecords(lengths, isFinished);
  if (verified > 0) return { kind: "presented", records: verified };
  const next = lengths[1];
  if (first <= PRESENTED_MINIMUM) {
    // A raw public key is as small as that: only its CertificateVerify and Finished show it.
    const mayFollow = lengths.length < 3 && (next === undefined || isVerify(next));
    return first >= RAW_KEY_MINIMUM && mayFollow ? INCOMPLETE : UNCLEAR;
  }
  // Early data that was refused has no end, and may look like a joined flight.
  if (offers.earlyData) return lengths.length <= CHAIN_RECORDS ? INCOMPLETE : UNCLEAR;
  const isAlone = next === undefined || (isAlertSized(next) && lengths.length === 2);
  return { kind: isAlone ? "certificate" : "presented", records: 1 };
}

const isVerify = (n: number) => n >= VERIFY_MINIMUM && n <= VERIFY_MAXIMUM;

/** Records of a Certificate, its CertificateVerify and Finished, each in its own; 0 if not so. */
function verifiedRecords(
  lengths: readonly number[],
  isFinished: (n: number | undefined) => boolean,
): number {
  if (lengths[0]! < RAW_KEY_MINIMUM) return 0;
  const most = lengths[0]! > PRESENTED_MINIMUM ? CHAIN_RECORDS : 1;
  for (let i = 1; i < lengths.length && i <= most; i++) {
    if (isVerify(lengths[i]!) && isFinished(lengths[i + 1])) return i + 2;
  }
  return 0;
}
