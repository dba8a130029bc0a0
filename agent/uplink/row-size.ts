/** Counts what a row takes in a batch, without writing it. */

/** Of a number, a flag, a null, and of what stands around texts, lists and names. */
const SCALAR = 9;
const AROUND = 5;

/** Of what is frozen: it is the same in many rows. */
const known = new WeakMap<object, number>();

/**
 * Characters and bytes that a value takes as msgpack, with its fields named. UTF-8 makes up to
 * three bytes of a character, and structures that are named once make it less.
 */
export function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length + AROUND;
  if (typeof value !== "object" || value === null) return SCALAR;
  const before = known.get(value);
  if (before !== undefined) return before;
  let size = AROUND;
  if (Array.isArray(value)) {
    for (const item of value) size += sizeOf(item);
  } else {
    for (const name in value) {
      size += name.length + sizeOf((value as Record<string, unknown>)[name]);
    }
  }
  if (Object.isFrozen(value)) known.set(value, size);
  return size;
}
