/** Combines answers of which some are not known: unknown spreads, and never defaults. */

/** Null: depends on what is not known. */
export type Ternary = boolean | null;

/** False where any is; else unknown where any is. */
export function and(values: Iterable<Ternary>): Ternary {
  let result: Ternary = true;
  for (const value of values) {
    if (value === false) return false;
    if (value === null) result = null;
  }
  return result;
}

/** True where any is; else unknown where any is. */
export function or(values: Iterable<Ternary>): Ternary {
  let result: Ternary = false;
  for (const value of values) {
    if (value === true) return true;
    if (value === null) result = null;
  }
  return result;
}

export function not(value: Ternary): Ternary {
  return value === null ? null : !value;
}
