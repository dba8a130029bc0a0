/** Tells where a value differs from the shape that it must have, and how. */
import type { TSchema } from "typebox";
import { Value } from "typebox/value";
import { valueAt, type Json } from "../../attribution/cluster-object.ts";
import type { Fault } from "./problem.ts";

/** The innermost faults only; `at` is the value's own place in its object. */
export function findSchemaFaults(schema: TSchema, value: Json, at: Fault["path"]): Fault[] {
  const faults = new Map<string, Fault>();
  for (const error of Value.Errors(schema, value)) {
    const path = [...at, ...toSteps(error.instancePath, value)];
    const { params, keyword } = error as { params: object; keyword: string };
    if (keyword === "boolean") continue; // told again, with its name, as additionalProperties
    faults.set(path.join("/"), { path, reason: toReason(keyword, params, error.message) });
  }
  return [...faults.values()].filter(
    (fault) => ![...faults.keys()].some((key) => key.startsWith(`${fault.path.join("/")}/`)),
  );
}

function toReason(keyword: string, params: object, message: string): string {
  const { additionalProperties: extra, allowedValues: allowed } = params as {
    additionalProperties?: string[];
    allowedValues?: string[];
  };
  if (keyword === "additionalProperties" && extra) return `unknown field ${extra.join(", ")}`;
  if (keyword === "enum" && allowed) return `must be one of ${allowed.join(", ")}`;
  if (keyword === "anyOf") return "has a value of the wrong type, or one that is not allowed";
  return message;
}

/** A JSON pointer as steps; a step into a list is a number. */
function toSteps(pointer: string, root: Json): (string | number)[] {
  let here: Json | undefined = root;
  return pointer
    .split("/")
    .slice(1)
    .map((raw) => {
      const step = raw.replaceAll("~1", "/").replaceAll("~0", "~");
      const inList = Array.isArray(here);
      here = inList ? (here as Json[])[Number(step)] : valueAt(here, step);
      return inList ? Number(step) : step;
    });
}
