/** Recognises TLS record headers (RFC 8446 §5.1): type(1) | version(2) | length(2). */

export const RECORD_HEADER = 5;
/** 2^14 and the 2048 that TLS ≤ 1.2 allows for compression and encryption. */
const LENGTH_LIMIT = 16384 + 2048;

/** Reports whether five bytes at `at` can head a record: type, SSLv3 to TLS 1.3, length. */
export function isRecordHeader(view: DataView, at: number): boolean {
  const type = view.getUint8(at);
  const major = view.getUint8(at + 1);
  return (
    type >= 20 &&
    type <= 24 &&
    ((major === 3 && view.getUint8(at + 2) <= 4) || major === 0x7f) &&
    view.getUint16(at + 3) <= LENGTH_LIMIT
  );
}

/** Reports whether the bytes in `[at, end)` may begin a record, as far as they have come. */
export function mayBeRecord(view: DataView, at: number, end: number): boolean {
  if (end - at >= RECORD_HEADER) return isRecordHeader(view, at);
  const type = view.getUint8(at);
  return type >= 20 && type <= 24 && (end - at < 2 || view.getUint8(at + 1) === 3);
}
