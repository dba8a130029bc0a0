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
export const RECORD_OVERHEAD = 17;
/** AEAD tag: what is left of a padded record's length beside its whole blocks. */
const TAG = 16;
/** Blocks to which records may be padded: above what sizes have in common by chance alone. */
const PADDING_MINIMUM = 17;
/** Java's SunJSSE pads each handshake record by 16 bytes (measured). */
export const JAVA_PADDING = 16;
const EMPTY_CERTIFICATE = 8;
/** EncryptedExtensions with one empty extension: 4 + 2 + 4, as Chromium sends it. */
const EMPTY_SETTINGS = 10;
/** No certificate with its framing was smaller; measured: 310 alone, 424 in a joined flight. */
export const PRESENTED_MINIMUM = 200;
/** A raw public key of Ed25519 (44 bytes) with its framing (RFC 7250): 13 more, in a record. */
const RAW_KEY_MINIMUM = 44 + 13 + RECORD_OVERHEAD;
/** CertificateVerify: from Ed25519 (64 bytes) to ML-DSA-87 (4627), framed. */
const VERIFY_MINIMUM = 8 + 64 + RECORD_OVERHEAD;
const VERIFY_MAXIMUM = 8 + 4627 + RECORD_OVERHEAD + JAVA_PADDING;
/** A chain goes on in so many further records, where they are full. */
const CHAIN_RECORDS = 48;
/** An alert that is not padded. */
export const BARE_ALERT = 2 + RECORD_OVERHEAD;

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
  return length === BARE_ALERT || length === BARE_ALERT + JAVA_PADDING;
}

/** The record of a Finished alone, by the length of the suite's hash in bytes. */
export function finishedLength(hashBytes: number): number {
  return 4 + hashBytes + RECORD_OVERHEAD;
}

/** Reports whether a record is full: of 16 KiB, or of a size that RFC 6066 §4 lets ask for. */
export function isFull(length: number): boolean {
  return length > 500 && Number.isInteger(Math.log2(length - RECORD_OVERHEAD));
}

/** The largest block that both records may be padded to (RFC 8446 §5.4); 0 stands for any. */
export function commonBlock(block: number, length: number): number {
  let common = block;
  for (let rest = Math.abs(length - TAG); rest > 0;) {
    const left = common % rest;
    common = rest;
    rest = left;
  }
  return common;
}

/** Reports whether a block that all records of a side have in common hides their sizes. */
export function isPadding(block: number): boolean {
  return block >= PADDING_MINIMUM;
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
  const finished = finishedLength(hashBytes);
  const isFinished = (n: number | undefined) => n === finished || n === finished + JAVA_PADDING;
  if (offers.psk) {
    const last = offers.earlyData ? lengths.findIndex(isFinished) : isFinished(first) ? 0 : -1;
    if (last >= 0) return { kind: "none", records: last + 1 };
    if (isAlertSized(first) && lengths.length === 1) return ALERTED;
    return offers.earlyData ? INCOMPLETE : UNCLEAR;
  }
  if (offers.earlyData) return readBehindRefused(lengths, isFinished);
  const settings = offers.settings ? EMPTY_SETTINGS : 0;
  if (isFinished(first) || first === finished + settings) return { kind: "none", records: 1 };
  const declined = first - finished - EMPTY_CERTIFICATE;
  if (declined === 0 || declined === settings || declined === JAVA_PADDING) {
    return { kind: "declined", records: 1 };
  }
  const empty = EMPTY_CERTIFICATE + RECORD_OVERHEAD;
  if (first === empty || first === empty + JAVA_PADDING) {
    const next = lengths[1];
    if (next === undefined) return INCOMPLETE;
    if (isFinished(next)) return { kind: "declined", records: 2 };
    return isAlertSized(next) ? ALERTED : UNCLEAR;
  }
  if (isAlertSized(first)) return lengths.length === 1 ? ALERTED : UNCLEAR;
  const verified = verifiedRecords(lengths, 0, isFinished);
  if (verified > 0) return { kind: "presented", records: verified };
  const block = lengths.reduce(commonBlock, 0);
  if (lengths.length > 1 && isPadding(block)) return { kind: "padded", records: 0 };
  const next = lengths[1];
  if (first <= PRESENTED_MINIMUM) {
    // A raw public key is as small as that: only its CertificateVerify and Finished show it.
    const mayFollow = lengths.length < 3 && (next === undefined || isVerify(next));
    return first >= RAW_KEY_MINIMUM && mayFollow ? INCOMPLETE : UNCLEAR;
  }
  const isAlone = next === undefined || (isAlertSized(next) && lengths.length === 2);
  return { kind: isAlone ? "certificate" : "presented", records: 1 };
}

/**
 * Early data that was refused has no end, and its records may have any size: then a certificate is
 * shown by its CertificateVerify and Finished, and none by a Finished in front of nothing like one.
 */
function readBehindRefused(
  lengths: readonly number[],
  isFinished: (n: number | undefined) => boolean,
): ClientFlight {
  for (let from = 0; from < lengths.length; from++) {
    const verified = verifiedRecords(lengths, from, isFinished);
    if (verified > 0) return { kind: "presented", records: from + verified };
  }
  const mayShow = lengths.some((n) => n > PRESENTED_MINIMUM && !isFinished(n));
  const isAlone = isFinished(lengths[0]);
  return isAlone && !mayShow ? { kind: "none", records: 1 } : INCOMPLETE;
}

const isVerify = (n: number) => n >= VERIFY_MINIMUM && n <= VERIFY_MAXIMUM;

/** Records of a Certificate, its CertificateVerify and Finished, each in its own; 0 if not so. */
function verifiedRecords(
  lengths: readonly number[],
  from: number,
  isFinished: (n: number | undefined) => boolean,
): number {
  const first = lengths[from]!;
  if (first < RAW_KEY_MINIMUM) return 0;
  let last = from;
  while (last - from < CHAIN_RECORDS && lengths[last + 1] === first) last++;
  // A certificate that fills its record, or several, may end in one that is smaller.
  const isCut = last > from || isFull(first);
  for (let i = last + 1; i <= last + (isCut ? 2 : 1) && i < lengths.length; i++) {
    if (isVerify(lengths[i]!) && isFinished(lengths[i + 1])) return i + 2 - from;
  }
  return 0;
}
