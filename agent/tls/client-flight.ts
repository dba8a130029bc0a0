/**
 * Infers from the sizes of a TLS 1.3 client's encrypted records whether it presented a certificate.
 *
 * Behind the ServerHello a client sends, encrypted, in this order (RFC 8446 §4.4):
 *
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
/** Java's SunJSSE pads each handshake record by 16 bytes (measured). */
const JAVA_PADDING = 16;
const EMPTY_CERTIFICATE = 8;
/** EncryptedExtensions with one empty extension: 4 + 2 + 4, as Chromium sends it. */
const EMPTY_SETTINGS = 10;
/** No certificate with its framing was smaller; measured: 310 alone, 441 in a joined flight. */
export const PRESENTED_MINIMUM = 200;
/** CertificateVerify: from Ed25519 (64 bytes) to ML-DSA-87 (4627), framed. */
const VERIFY_MINIMUM = 8 + 64 + OVERHEAD;
const VERIFY_MAXIMUM = 8 + 4627 + OVERHEAD + JAVA_PADDING;
const ALERT = 2 + OVERHEAD;
const END_OF_EARLY_DATA = 4 + OVERHEAD;

export type ClientFlight = {
  /** `alert`: the client refused the server's flight instead of answering it. */
  kind: "none" | "declined" | "presented" | "alert" | "unclear" | "incomplete";
  /** Records of the flight; the Finished is the last of them. 0 where it is not known. */
  records: number;
};

/** What the client's hello offered that changes its flight. */
export type FlightOffers = { earlyData: boolean; settings: boolean };

/** Reports whether a record has the size of an alert: bare, or as Java pads it. */
export function isAlertSized(length: number): boolean {
  return length === ALERT || length === ALERT + JAVA_PADDING;
}

/**
 * Reads the client's first encrypted records, by the length fields of those of type 23 behind the
 * ServerHello. `hashBytes` is 32 or 48, by the cipher suite. Where the hello offered early data,
 * the records before the EndOfEarlyData are passed over; without one the flight is unclear.
 */
export function readClientFlight(
  lengths: readonly number[],
  hashBytes: number,
  offers: FlightOffers,
): ClientFlight {
  let first = 0;
  if (offers.earlyData) {
    const end = lengths.indexOf(END_OF_EARLY_DATA);
    if (end < 0) return { kind: "unclear", records: 0 };
    first = end + 1;
  }
  const length = lengths[first];
  if (length === undefined) return { kind: "incomplete", records: 0 };
  const finished = 4 + hashBytes + OVERHEAD;
  const isFinished = (n: number | undefined) => n === finished || n === finished + JAVA_PADDING;
  const settings = offers.settings ? EMPTY_SETTINGS : 0;
  if (isFinished(length)) return { kind: "none", records: first + 1 };
  if (length === finished + settings) return { kind: "none", records: first + 1 };
  const isDeclined = length === finished + EMPTY_CERTIFICATE;
  if (isDeclined || length === finished + EMPTY_CERTIFICATE + settings) {
    return { kind: "declined", records: first + 1 };
  }
  const empty = EMPTY_CERTIFICATE + OVERHEAD;
  if (length === empty || length === empty + JAVA_PADDING) {
    const next = lengths[first + 1];
    if (next === undefined) return { kind: "incomplete", records: 0 };
    if (isFinished(next)) return { kind: "declined", records: first + 2 };
    if (isAlertSized(next)) return { kind: "alert", records: 0 };
    return { kind: "unclear", records: 0 };
  }
  if (isAlertSized(length) && lengths.length === first + 1) return { kind: "alert", records: 0 };
  if (length <= PRESENTED_MINIMUM) return { kind: "unclear", records: 0 };
  return { kind: "presented", records: first + presentedRecords(lengths, first, isFinished) };
}

/** Records of a flight that begins with a certificate: one, or up to the Finished. */
function presentedRecords(
  lengths: readonly number[],
  first: number,
  isFinished: (n: number | undefined) => boolean,
): number {
  // A certificate chain beyond 16 KiB goes on in further records before the verify.
  for (let i = first + 1; i < lengths.length && i <= first + 4; i++) {
    const isVerify = lengths[i]! >= VERIFY_MINIMUM && lengths[i]! <= VERIFY_MAXIMUM;
    if (isVerify && isFinished(lengths[i + 1])) return i + 2 - first;
  }
  return 1;
}
