/** Finds a setting's value: flag, then environment, then configuration file, then default. */
import { ConfigError } from "./config-error.ts";

/** `name <value>` as a flag shows it, what it is, and its default; null where there is none. */
export type SettingRow = readonly [flag: string, what: string, fallback: string | null];

/** Flags as commander hands them over, in camel case. */
export type Flags = Readonly<Record<string, string | undefined>>;

/** A configuration file, parsed. */
export type SettingsFile = { path: string; read: unknown };

export type ToldSetting = {
  name: string;
  value: string | null;
  source: "flag" | "environment" | "file" | "default" | "unset";
};

const nameOf = (row: SettingRow) => row[0].split(" ")[0]!;

export class Settings {
  readonly #room: string;
  readonly #rows: readonly SettingRow[];
  readonly #flags: Flags;
  readonly #environment: Flags;
  readonly #file: ReadonlyMap<string, string>;

  /** `room` is `agent` or `collector`; the environment has `WIREPROOF_ROOM_NAME`. */
  constructor(
    room: string,
    rows: readonly SettingRow[],
    flags: Flags,
    environment: Flags,
    file: SettingsFile | null,
  ) {
    this.#room = room;
    this.#rows = rows;
    this.#flags = flags;
    this.#environment = environment;
    this.#file = file ? this.#partOf(file) : new Map();
  }

  /** The room's part of a file: `agent:` or `collector:`, with settings by name. */
  #partOf({ path, read }: SettingsFile): Map<string, string> {
    const part = (read as Record<string, unknown> | null)?.[this.#room] ?? {};
    const known = new Set(this.#rows.map(nameOf));
    const values = new Map<string, string>();
    for (const [name, value] of Object.entries(part as object)) {
      if (!known.has(name)) {
        const all = [...known].join(", ");
        const told = `${path}: ${this.#room}.${name} is no setting; there are ${all}`;
        throw new ConfigError("CONFIG_UNKNOWN_KEY", told);
      }
      values.set(name, String(value));
    }
    return values;
  }

  tell(name: string): ToldSetting {
    const row = this.#rows.find((r) => nameOf(r) === name)!;
    const flag = this.#flags[name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())];
    if (flag !== undefined) return { name, value: flag, source: "flag" };
    const variable = `WIREPROOF_${this.#room}_${name}`.replaceAll("-", "_").toUpperCase();
    const set = this.#environment[variable];
    if (set !== undefined) return { name, value: set, source: "environment" };
    const written = this.#file.get(name);
    if (written !== undefined) return { name, value: written, source: "file" };
    return { name, value: row[2], source: row[2] === null ? "unset" : "default" };
  }

  all(): ToldSetting[] {
    return this.#rows.map((row) => this.tell(nameOf(row)));
  }

  get(name: string): string | null {
    return this.tell(name).value;
  }

  need(name: string): string {
    const value = this.get(name);
    if (value !== null && value !== "") return value;
    throw new ConfigError("CONFIG_MISSING", `${this.#room}: --${name} is missing`);
  }

  number(name: string, least: number, most = Infinity): number {
    const value = Number(this.need(name));
    if (Number.isFinite(value) && value >= least && value <= most) return value;
    const range = most === Infinity ? `${least} or more` : `from ${least} to ${most}`;
    const told = `${this.#room}: --${name} must be a number, ${range}`;
    throw new ConfigError("CONFIG_NUMBER", told);
  }

  /** `host:port`; an IPv6 host may stand in brackets. */
  address(name: string): { host: string; port: number } {
    const value = this.need(name);
    const at = value.lastIndexOf(":");
    const port = Number(value.slice(at + 1));
    if (at >= 0 && Number.isInteger(port) && port >= 0 && port <= 65535) {
      return { host: value.slice(0, at).replace(/^\[|\]$/g, ""), port };
    }
    const told = `${this.#room}: --${name} must be host:port, not ${value}`;
    throw new ConfigError("CONFIG_ADDRESS", told);
  }
}
