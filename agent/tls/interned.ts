/** Keeps one copy of values that say the same: the clients of a node send the same few hellos. */

/** Most values kept; the oldest goes first. */
const LIMIT = 1024;

export class Interned<T extends object> {
  readonly #known = new Map<string, T>();

  /** The value itself, or an equal one that came before. */
  of(value: T): T {
    const key = JSON.stringify(value);
    const known = this.#known.get(key);
    if (known) return known;
    if (this.#known.size >= LIMIT) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(key, value);
    return value;
  }
}

/** The same of texts: those that grow letter by letter would otherwise keep all their parts. */
export class InternedText {
  readonly #known = new Map<string, string>();

  of(text: string): string {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    if (this.#known.size >= LIMIT) this.#known.clear();
    this.#known.set(text, text);
    return text;
  }
}
