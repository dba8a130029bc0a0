/**
 * Checks rows against their JSON Schema, as far as the rows' schema goes: the library that declares
 * it would take 10 MiB on every node for that.
 */

export type Check = (value: unknown) => boolean;

type Schema = { readonly [keyword: string]: unknown };

/** Keywords that are checked where their type is. */
const KNOWN: ReadonlySet<string> = new Set([
  ...["type", "anyOf", "const", "enum", "required", "properties", "patternProperties"],
  ...["maxProperties", "items", "additionalItems", "minItems", "maxItems"],
  ...["minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum"],
]);

/** Throws where the schema says what is not known here. */
export function checkOf(schema: Schema): Check {
  const unknown = Object.keys(schema).find((keyword) => !KNOWN.has(keyword));
  if (unknown !== undefined) throw new Error(`row schema: ${unknown} is not known`);
  if (schema["anyOf"]) return anyOf((schema["anyOf"] as Schema[]).map(checkOf));
  if ("const" in schema) return (value) => value === schema["const"];
  if (schema["enum"]) {
    const values = new Set<unknown>(schema["enum"] as unknown[]);
    return (value) => values.has(value);
  }
  switch (schema["type"]) {
    case "null":
      return (value) => value === null;
    case "boolean":
      return (value) => typeof value === "boolean";
    case "string":
      return text(limit(schema, "minLength", 0), limit(schema, "maxLength", Infinity));
    case "integer":
      return number(schema, Number.isInteger);
    case "number":
      return number(schema, Number.isFinite);
    case "array":
      return list(schema);
    case "object":
      return object(schema);
    default:
      throw new Error(`row schema: type ${String(schema["type"])} is not known`);
  }
}

const limit = (schema: Schema, keyword: string, otherwise: number): number =>
  (schema[keyword] as number | undefined) ?? otherwise;

const anyOf =
  (checks: readonly Check[]): Check =>
  (value) => {
    for (const check of checks) if (check(value)) return true;
    return false;
  };

/** Lengths are counted in code points, of which a UTF-16 unit is at least half. */
function text(least: number, most: number): Check {
  return (value) => {
    if (typeof value !== "string") return false;
    const { length } = value;
    if (length >= least * 2 && length <= most) return true;
    if (length < least || length > most * 2) return false;
    const points = [...value].length;
    return points >= least && points <= most;
  };
}

function number(schema: Schema, isNumber: (value: unknown) => boolean): Check {
  const least = limit(schema, "minimum", -Infinity);
  const most = limit(schema, "maximum", Infinity);
  const above = limit(schema, "exclusiveMinimum", -Infinity);
  return (value) => {
    const n = value as number;
    return isNumber(value) && n >= least && n <= most && n > above;
  };
}

function list(schema: Schema): Check {
  const { items } = schema;
  const least = limit(schema, "minItems", 0);
  if (Array.isArray(items)) {
    const checks = (items as Schema[]).map(checkOf);
    if (schema["additionalItems"] !== false) throw new Error("row schema: an open tuple");
    return (value) =>
      Array.isArray(value) &&
      value.length >= least &&
      value.length <= checks.length &&
      value.every((item, i) => checks[i]!(item));
  }
  const check = checkOf(items as Schema);
  const most = limit(schema, "maxItems", Infinity);
  return (value) =>
    Array.isArray(value) && value.length >= least && value.length <= most && value.every(check);
}

function object(schema: Schema): Check {
  const required = (schema["required"] ?? []) as string[];
  const properties = Object.entries((schema["properties"] ?? {}) as Record<string, Schema>);
  const fields = properties.map(([name, one]) => ({ name, check: checkOf(one) }));
  const patterns = Object.entries((schema["patternProperties"] ?? {}) as Record<string, Schema>);
  if (patterns.some(([pattern]) => pattern !== "^.*$")) throw new Error("row schema: a pattern");
  const others = patterns.map(([, one]) => checkOf(one));
  const most = limit(schema, "maxProperties", Infinity);
  // What is frozen is the same in many rows.
  const passed = new WeakSet<object>();
  return (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
    if (passed.has(value)) return true;
    const map = value as Record<string, unknown>;
    for (const name of required) if (!(name in map)) return false;
    for (const { name, check } of fields) if (name in map && !check(map[name])) return false;
    if (others.length > 0 || most < Infinity) {
      const entries = Object.values(map);
      if (entries.length > most) return false;
      if (!entries.every((entry) => others.every((check) => check(entry)))) return false;
    }
    if (Object.isFrozen(value)) passed.add(value);
    return true;
  };
}
