/**
 * Writes rows for a batch, and checks them against their JSON Schema while it does, as far as the
 * rows' schema goes: the library that declares it would take 10 MiB on every node for that.
 */
import { NAMED_EACH_TIME } from "./message-pack.ts";
import type { MessagePack, Shape, ShapeSet } from "./message-pack.ts";

/** Writes a value; false where it is none of the schema's, or `to.isFull`. */
export type Write = (to: MessagePack, value: unknown) => boolean;

type Schema = { readonly [keyword: string]: unknown };

/** Keywords that are checked where their type is. */
const KNOWN: ReadonlySet<string> = new Set([
  ...["type", "anyOf", "const", "enum", "required", "properties", "patternProperties"],
  ...["maxProperties", "items", "additionalItems", "minItems", "maxItems"],
  ...["minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum"],
]);

/** Numbers the shapes that may stand in one message; the last number is for all that are left. */
export class Shapes {
  #next = 0;

  of(names: readonly string[]): Shape {
    const id = this.#next < NAMED_EACH_TIME ? this.#next++ : NAMED_EACH_TIME;
    return { id, names };
  }
}

/** Throws where the schema says what is not known here. */
export function writerOf(schema: Schema, shapes: Shapes): Write {
  const unknown = Object.keys(schema).find((keyword) => !KNOWN.has(keyword));
  if (unknown !== undefined) throw new Error(`row schema: ${unknown} is not known`);
  if (schema["anyOf"]) return anyOf(schema["anyOf"] as Schema[], shapes);
  if ("const" in schema) return oneOf([schema["const"]]);
  if (schema["enum"]) return oneOf(schema["enum"] as unknown[]);
  switch (schema["type"]) {
    case "null":
      return oneOf([null]);
    case "boolean":
      return (to, value) => typeof value === "boolean" && to.flag(value);
    case "string":
      return text(limit(schema, "minLength", 0), limit(schema, "maxLength", Infinity));
    case "integer":
      return number(schema, Number.isInteger);
    case "number":
      return number(schema, Number.isFinite);
    case "array":
      return list(schema, shapes);
    case "object":
      return schema["patternProperties"] ? map(schema, shapes) : object(schema, shapes);
    default:
      throw new Error(`row schema: type ${String(schema["type"])} is not known`);
  }
}

const limit = (schema: Schema, keyword: string, otherwise: number): number =>
  (schema[keyword] as number | undefined) ?? otherwise;

function scalar(to: MessagePack, value: unknown): boolean {
  if (value === null) return to.nothing();
  if (typeof value === "string") return to.text(value);
  return typeof value === "number" ? to.number(value) : to.flag(value as boolean);
}

function oneOf(all: readonly unknown[]): Write {
  const values = new Set(all);
  return (to, value) => values.has(value) && scalar(to, value);
}

/** Fixed values are looked up; of the others the first that fits is taken. */
function anyOf(schemas: readonly Schema[], shapes: Shapes): Write {
  const isFixed = (one: Schema) => "const" in one || one["type"] === "null";
  const fixed = new Set<unknown>(schemas.filter(isFixed).map((one) => one["const"] ?? null));
  const others = schemas.filter((one) => !isFixed(one)).map((one) => writerOf(one, shapes));
  return (to, value) => {
    if (fixed.has(value)) return scalar(to, value);
    const { at } = to;
    for (const write of others) {
      if (write(to, value)) return true;
      if (to.isFull) return false;
      to.rollBack(at);
    }
    return false;
  };
}

/** Lengths are counted in code points, of which a UTF-16 unit is at least half. */
function text(least: number, most: number): Write {
  return (to, value) => {
    if (typeof value !== "string") return false;
    const { length } = value;
    if (length < least * 2 || length > most) {
      if (length < least || length > most * 2) return false;
      const points = [...value].length;
      if (points < least || points > most) return false;
    }
    return to.text(value);
  };
}

function number(schema: Schema, isNumber: (value: unknown) => boolean): Write {
  const least = limit(schema, "minimum", -Infinity);
  const most = limit(schema, "maximum", Infinity);
  const above = limit(schema, "exclusiveMinimum", -Infinity);
  return (to, value) => {
    const n = value as number;
    return isNumber(value) && n >= least && n <= most && n > above && to.number(n);
  };
}

function list(schema: Schema, shapes: Shapes): Write {
  const { items } = schema;
  const least = limit(schema, "minItems", 0);
  const isTuple = Array.isArray(items);
  if (isTuple && schema["additionalItems"] !== false) throw new Error("row schema: an open tuple");
  const writes = (isTuple ? (items as Schema[]) : [items as Schema]).map((one) =>
    writerOf(one, shapes),
  );
  const most = isTuple ? writes.length : limit(schema, "maxItems", Infinity);
  return (to, value) => {
    if (!Array.isArray(value) || value.length < least || value.length > most) return false;
    if (!to.list(value.length)) return false;
    for (let i = 0; i < value.length; i++) {
      if (!writes[isTuple ? i : 0]!(to, value[i])) return false;
    }
    return true;
  };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Any names, and values of one kind. */
function map(schema: Schema, shapes: Shapes): Write {
  const patterns = Object.entries(schema["patternProperties"] as Record<string, Schema>);
  const [pattern] = patterns;
  const isPlain = patterns.length === 1 && pattern![0] === "^.*$" && !schema["properties"];
  if (!isPlain) throw new Error("row schema: a pattern");
  const write = writerOf(pattern![1], shapes);
  const most = limit(schema, "maxProperties", Infinity);
  return (to, value) => {
    if (!isObject(value)) return false;
    const names = Object.keys(value);
    if (names.length > most || !to.object({ id: NAMED_EACH_TIME, names })) return false;
    for (const name of names) if (!write(to, value[name])) return false;
    return true;
  };
}

/** Fields that are missing make another shape of it. What is frozen is the same in many rows. */
function object(schema: Schema, shapes: Shapes): Write {
  const required = new Set((schema["required"] ?? []) as string[]);
  const properties = Object.entries((schema["properties"] ?? {}) as Record<string, Schema>);
  const fields = properties.map(([name, one]) => {
    return { name, write: writerOf(one, shapes), isRequired: required.has(name) };
  });
  const optional = fields.flatMap(({ name, isRequired }) => (isRequired ? [] : [name]));
  const byMissing = new Map<number, Shape>();
  const shapeOf = (value: Record<string, unknown>): Shape => {
    let missing = 0;
    for (let i = 0; i < optional.length; i++) {
      if (value[optional[i]!] === undefined) missing |= 1 << i;
    }
    const known = byMissing.get(missing);
    if (known) return known;
    const left = new Set(optional.filter((_, i) => (missing & (1 << i)) !== 0));
    const shape = shapes.of(fields.flatMap(({ name }) => (left.has(name) ? [] : [name])));
    byMissing.set(missing, shape);
    return shape;
  };
  const writes: Write = (to, value) => {
    if (!isObject(value) || !to.object(shapeOf(value))) return false;
    for (const { name, write, isRequired } of fields) {
      const one = value[name];
      if ((isRequired || one !== undefined) && !write(to, one)) return false;
    }
    return true;
  };
  return once(writes);
}

/** Bytes that were written of an object, and the shapes in them. */
type Written = { bytes: Uint8Array; shapes: ShapeSet };

/** Keeps what was written of objects that are frozen. */
function once(write: Write): Write {
  const known = new WeakMap<object, Written>();
  return (to, value) => {
    if (!isObject(value)) return false;
    const before = known.get(value);
    if (before && to.hasNamed(before.shapes)) return to.again(before.bytes, before.shapes);
    if (before || !Object.isFrozen(value)) return write(to, value);
    const { at, used, namings } = to;
    const { low, high } = used;
    used.low = used.high = 0;
    const isWritten = write(to, value);
    // Names would stand in every copy.
    const isPure = isWritten && to.namings === namings;
    if (isPure)
      known.set(value, { bytes: Uint8Array.from(to.written.subarray(at)), shapes: { ...used } });
    used.low |= low;
    used.high |= high;
    return isWritten;
  };
}
