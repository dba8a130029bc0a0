/** Finds in a declared object what its pods run: the object is a Pod, or has a template of one. */
import {
  isMap,
  keyOf,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../attribution/cluster-object.ts";
import type { Holder } from "../attribution/holder.ts";
import { KINDS_OF_INVENTORY } from "../attribution/inventory.ts";

/** The specs of declared pods, by the object that a holder was read from. */
export class PodBodies {
  private readonly byKey = new Map<string, ClusterObject>();

  constructor(objects: readonly ClusterObject[]) {
    for (const object of objects) {
      if (!KINDS_OF_INVENTORY.has(object.kind)) continue;
      this.byKey.set(keyOf(object.kind, object.namespace, object.name), object);
    }
  }

  /** Undefined where the object is not declared, or is no pod's. */
  specOf({ object }: Holder): Json | undefined {
    if (object === null) return undefined;
    const found = this.byKey.get(keyOf(object.kind, object.namespace, object.name));
    const spec = valueAt(found?.body, "spec");
    return [
      valueAt(spec, "jobTemplate", "spec", "template", "spec"),
      valueAt(spec, "template", "spec"),
      spec,
    ].find(isMap);
  }
}

/** All containers of a pod's spec, those that run before the others too. */
export function containersOf(spec: Json | undefined): Json[] {
  return [...listAt(spec, "containers"), ...listAt(spec, "initContainers")];
}

/** A container's environment variable; null where it is not set to a text. */
export function readEnv(container: Json | undefined, name: string): string | null {
  const found = listAt(container, "env").find((entry) => textAt(entry, "name") === name);
  return textAt(found, "value");
}

/** What follows `--name` or `--name=` among a container's arguments; null where nothing does. */
export function readArgument(container: Json | undefined, name: string): string | null {
  const words = [...listAt(container, "command"), ...listAt(container, "args")].map(String);
  for (const [i, word] of words.entries()) {
    if (word === name) return words[i + 1] ?? null;
    if (word.startsWith(`${name}=`)) return word.slice(name.length + 1);
  }
  return null;
}
