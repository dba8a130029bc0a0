/** Tells what is packed by its first bytes, and what unpacking hands on. */

/** First bytes of gzip members, of zstd, lz4 and skippable frames (RFC 8878 §3.1.2). */
export const Packing = {
  gzip: 0x8b1f, // two bytes
  zstd: 0xfd2fb528,
  lz4: 0x184d2204,
  lz4Legacy: 0x184c2102,
  skippable: 0x184d2a50, // and the 15 behind
} as const;

/** A little-endian number of 32 bits. */
export function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
}

/** Reports whether bytes begin as something packed does. */
export function isPacked(bytes: Uint8Array): boolean {
  if (bytes.length < 4) return false;
  const magic = word(bytes, 0);
  if ((magic & 0xffff) === Packing.gzip) return true;
  const isSkippable = (magic & 0xfffffff0) === Packing.skippable;
  return (
    isSkippable || magic === Packing.zstd || magic === Packing.lz4 || magic === Packing.lz4Legacy
  );
}

/** Pieces of a capture; in the end null, or what was wrong with how it was packed. */
export type Unpacking = AsyncGenerator<Uint8Array, string | null, undefined>;

/** What is wrong where the end comes too early. */
export const CUT_OFF = "it is cut off";
