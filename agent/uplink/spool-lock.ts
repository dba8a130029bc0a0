/** Keeps a spool to one process. */
import fs from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { ConfigError } from "../../protocol/config-error.ts";

/** The kernel lets the lock go when the process ends, however it ends. */
export function takeLock(directory: string): DatabaseSync {
  let lock: DatabaseSync | undefined;
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    lock = new DatabaseSync(path.join(directory, "lock"));
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    return lock;
  } catch (error) {
    lock?.close();
    const text = (error as Error).message;
    const held = /locked/.test(text);
    const told = held ? "another agent uses it" : `cannot be opened: ${text}`;
    const code = held ? "CONFIG_SPOOL_IN_USE" : "CONFIG_SPOOL";
    throw new ConfigError(code, `spool: ${directory}: ${told}`, error);
  }
}
