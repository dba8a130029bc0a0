/** Carries one mistake of the operator's, told in one sentence; the command exits with 2. */
export class ConfigError extends Error {
  /** Stable: `CONFIG_` and what is wrong, in capitals. */
  readonly code: `CONFIG_${string}`;

  constructor(code: `CONFIG_${string}`, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "ConfigError";
    this.code = code;
  }
}
