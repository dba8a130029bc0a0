/** Turns a JSON object into the bytes of an entry: canonical, as RFC 8785 (JCS) has it. */

export type Json =
  null | boolean | number | string | readonly Json[] | { readonly [k: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** One line without its newline: keys sorted, no space. Throws on what JSON cannot hold. */
export function encodeEntry(entry: JsonObject): Uint8Array {
  return Buffer.from(canonical(entry));
}

/** Null unless the bytes are one canonical JSON object. */
export function parseEntry(bytes: Uint8Array): JsonObject | null {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const value = JSON.parse(text) as Json;
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject && canonical(value) === text ? (value as JsonObject) : null;
  } catch {
    return null;
  }
}

/** JSON.stringify spells numbers and strings as the RFC wants them; only keys need an order. */
function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonical(item)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)); // UTF-16 units
    return `{${fields.map(([k, v]) => `${JSON.stringify(k)}:${canonical(v as Json)}`).join(",")}}`;
  }
  const isJson = value === null || typeof value === "boolean" || Number.isFinite(value);
  if (isJson || (typeof value === "string" && value.isWellFormed())) return JSON.stringify(value);
  throw new TypeError(`an entry cannot hold ${String(value)}`);
}
