/** Spells histories, each once: what was noted leads from one to the next, as in a tree. */

/** Most histories of a tree; then another begins, and this one goes with the last that uses it. */
const LIMIT = 1024;

let count = 0;

export class Letters {
  /** Before anything was noted. */
  static none = new Letters("", "", false);

  readonly text: string;
  readonly #letter: string;
  readonly #isClient: boolean;
  readonly #byClient = new Map<string, Letters>();
  readonly #byServer = new Map<string, Letters>();

  private constructor(text: string, letter: string, isClient: boolean) {
    this.text = text;
    this.#letter = letter;
    this.#isClient = isClient;
  }

  /** With one letter more: a capital where the client sent it. */
  and(letter: string, isClient: boolean): Letters {
    const after = isClient ? this.#byClient : this.#byServer;
    const known = after.get(letter);
    if (known !== undefined) return known;
    const cased = isClient ? letter.toUpperCase() : letter.toLowerCase();
    const next = new Letters(this.text + cased, letter, isClient);
    after.set(letter, next);
    if (++count >= LIMIT) {
      count = 0;
      Letters.none = new Letters("", "", false);
    }
    return next;
  }

  endsWith(letter: string, isClient: boolean): boolean {
    return this.#letter === letter && this.#isClient === isClient;
  }
}
