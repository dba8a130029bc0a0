/** Recognises ESP in UDP by two datagrams of one side: one security association, one step on. */

/** SPIs below are reserved; 0 is the mark of IKE on the same port (RFC 4303 §2.1, RFC 3948 §2). */
const SPI_MINIMUM = 256;
/** Packets that may be missing between two that are seen. */
const STEP_LIMIT = 64;

/**
 * Reports whether ESP headers (RFC 4303 §2: SPI, sequence number; int32) follow one another. One
 * header alone is eight bytes of anything; that the first word stays and the second counts is not.
 */
export function espAdvances(
  spiBefore: number,
  sequenceBefore: number,
  spi: number,
  sequence: number,
): boolean {
  if (spi !== spiBefore || spi >>> 0 < SPI_MINIMUM) return false;
  const step = (sequence - sequenceBefore) | 0;
  return step > 0 && step <= STEP_LIMIT;
}
