/** Reads YAML that stands as text within an object: a mesh's settings in a ConfigMap. */
import { parseDocument } from "yaml";
import type { Json } from "../../attribution/cluster-object.ts";

/** Undefined where it cannot be read: bad YAML, or aliases that would expand without bound. */
export function readYaml(text: string): Json | undefined {
  const document = parseDocument(text);
  if (document.errors.length > 0) return undefined;
  try {
    return document.toJS({ maxAliasCount: 100 }) as Json;
  } catch {
    return undefined;
  }
}
