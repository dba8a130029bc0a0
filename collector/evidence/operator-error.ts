/** Carries one mistake of the operator's; its own class, so that this room runs without others. */
export class OperatorError extends Error {
  readonly code: `CONFIG_${string}`;

  constructor(code: `CONFIG_${string}`, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "OperatorError";
    this.code = code;
  }
}
