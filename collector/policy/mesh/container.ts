/** Reads what the containers of a pod's spec were told: arguments and environment. */
import { listAt, textAt, type Json } from "../../attribution/cluster-object.ts";

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
