/** Compares bytes where they stand: a view of them would be an allocation. */

/** Reports whether `length` bytes at `at` and at `otherAt` are the same. */
export function sameBytes(
  view: DataView,
  at: number,
  other: DataView,
  otherAt: number,
  length: number,
): boolean {
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    if (view.getInt32(at + i) !== other.getInt32(otherAt + i)) return false;
  }
  for (; i < length; i++) {
    if (view.getUint8(at + i) !== other.getUint8(otherAt + i)) return false;
  }
  return true;
}

/** A copy of `[at, end)`. */
export function copyOf(view: DataView, at: number, end: number): DataView {
  return new DataView(view.buffer.slice(view.byteOffset + at, view.byteOffset + end));
}
