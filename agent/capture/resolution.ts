/** Turns timestamps of any resolution into microseconds since the epoch, by whole numbers alone. */

/** What one unit of a timestamp is; only one of the three says so. */
export type Resolution = {
  /** Microseconds of a unit, where they are whole; else 0. */
  micros: number;
  /** Of decimal units that are finer: what their number is divided by, one after the other. */
  divisors: readonly number[];
  /** Of binary ones that are finer: 2^-bits seconds; else 0. */
  bits: number;
};

const WORD = 2 ** 32;

/** Reads if_tsresol (draft-ietf-opsawg-pcapng §4.2): 10^-n seconds, or 2^-n with its high bit. */
export function readResolution(code: number): Resolution {
  const n = code & 0x7f;
  if ((code & 0x80) !== 0) {
    if (n > 6) return { micros: 0, divisors: [], bits: n };
    return { micros: 1e6 / 2 ** n, divisors: [], bits: 0 };
  }
  if (n <= 6) return { micros: 10 ** (6 - n), divisors: [], bits: 0 };
  const divisors: number[] = [];
  for (let left = n - 6; left > 0; left -= 6) divisors.push(10 ** Math.min(left, 6));
  return { micros: 0, divisors, bits: 0 };
}

/**
 * Microseconds of a timestamp of 64 bits, in two words; a part of one is cut off. Each product and
 * quotient stays below 2^53, where doubles are whole and `Math.floor(a / b)` is exact.
 */
export function toMicroseconds(high: number, low: number, resolution: Resolution): number {
  const { micros, divisors, bits } = resolution;
  if (micros > 0) return (high * WORD + low) * micros;
  if (bits > 0) return fromBinary(high, low, bits);
  for (let i = 0; i < divisors.length; i++) {
    const by = divisors[i]!; // 10^6 at most: 20 bits beside a word
    const whole = Math.floor(high / by);
    low = Math.floor(((high - whole * by) * WORD + low) / by);
    high = whole;
  }
  return high * WORD + low;
}

/** The seconds apart, so that 10^6 times the rest of them fits: each word of it by itself. */
function fromBinary(high: number, low: number, bits: number): number {
  if (bits <= 32) {
    const second = 2 ** bits;
    const seconds = high * (WORD / second) + Math.floor(low / second);
    return seconds * 1e6 + Math.floor(((low % second) * 1e6) / second);
  }
  const second = 2 ** (bits - 32);
  const carried = Math.floor((low * 1e6) / WORD);
  const rest = Math.floor(((high % second) * 1e6 + carried) / second);
  return Math.floor(high / second) * 1e6 + rest;
}
