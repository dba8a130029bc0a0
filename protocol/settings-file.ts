/** Reads a configuration file from disk. */
import { readFileSync } from "node:fs";
import { ConfigError } from "./config-error.ts";

/** The file's text under its path; null where no file was named. */
export function readSettingsFile(path: string | undefined): { path: string; text: string } | null {
  if (path === undefined) return null;
  try {
    return { path, text: readFileSync(path, "utf8") };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new ConfigError("CONFIG_FILE", `cannot read ${path}: ${code}`, error);
  }
}
