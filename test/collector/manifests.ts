/** Reads small manifests for the tests of policy. */
import type { Holder } from "../../collector/attribution/holder.ts";
import { parseManifests, type Declared } from "../../collector/policy/declared.ts";
import { toInventory } from "../../collector/policy/policy-command.ts";

export function read(text: string, file = "a.yaml"): Declared {
  const declared: Declared = { objects: [], problems: [], unknownKinds: [], files: [] };
  parseManifests(text, file, declared);
  return declared;
}

/** The pod `namespace/name`; throws where the manifests have none. */
export function end(declared: Declared, name: string): Holder {
  const found = toInventory(declared)
    .pods(-Infinity)
    .find((pod) => `${pod.namespace}/${pod.name}` === name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
}
