/** Reads a configuration file, which is YAML, from disk. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { ConfigError } from "./config-error.ts";
import type { SettingsFile } from "./settings.ts";

/** The file, parsed; null where no file was named. The parser is loaded only when it is needed. */
export function readSettingsFile(path: string | undefined): SettingsFile | null {
  if (path === undefined) return null;
  try {
    const { parse } = createRequire(import.meta.url)("yaml") as typeof import("yaml");
    return { path, read: parse(readFileSync(path, "utf8")) as unknown };
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new ConfigError("CONFIG_FILE", `cannot read ${path}: ${reason}`, error);
  }
}
