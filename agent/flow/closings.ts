/** Remembers in which order the sides of flows ended their connections. */

/** One end of a connection, by its side: 0 is none. */
const IS_NOTED = 4;
const IS_RESET = 2;
/** The other side had spoken by then. */
const IS_ANSWER = 8;
/** Nothing had come for a while: it ends for another reason than what came last. */
const IS_LATE = 16;
const BITS = 5;

/** Microseconds within which a server turns down what it was sent; see `tls/hidden.ts`. */
export const PROMPT_US = 250_000;

/** Each side's first FIN and first RST, four at most: five bits each, the first one lowest. */
export class Closings {
  readonly #ends: Uint32Array;

  constructor(flows: number) {
    this.#ends = new Uint32Array(flows);
  }

  /** Called once for each side and kind. */
  note(flow: number, side: number, isReset: boolean, isAnswer: boolean, isLate: boolean): void {
    const known = this.#ends[flow]!;
    const shift = Math.ceil((32 - Math.clz32(known)) / BITS) * BITS;
    const how = (isReset ? IS_RESET : 0) | (isAnswer ? IS_ANSWER : 0) | (isLate ? IS_LATE : 0);
    this.#ends[flow] = known | ((IS_NOTED | how | side) << shift);
  }

  clear(flow: number): void {
    this.#ends[flow] = 0;
  }

  /** The side that ended the connection first, or -1 while neither has. */
  firstSide(flow: number): number {
    const ends = this.#ends[flow]!;
    return ends === 0 ? -1 : ends & 1;
  }

  /** Reports whether the first to end the connection reset it. */
  beginsByReset(flow: number): boolean {
    return (this.#ends[flow]! & IS_RESET) !== 0;
  }

  /** Reports whether the other side had spoken before the first one ended the connection. */
  beginsByAnswer(flow: number): boolean {
    return (this.#ends[flow]! & IS_ANSWER) !== 0;
  }

  /** Reports whether the first to end the connection waited before it did. */
  beginsLate(flow: number): boolean {
    return (this.#ends[flow]! & IS_LATE) !== 0;
  }

  /** Reports whether a side ended the connection by FIN first, and by RST next. */
  beginsByBoth(flow: number, side: number): boolean {
    const ends = this.#ends[flow]!;
    const [first, second] = [ends & (IS_NOTED | IS_RESET | 1), (ends >>> BITS) & 7];
    return first === (IS_NOTED | side) && second === (IS_NOTED | IS_RESET | side);
  }

  /** A letter each, in order: F and R of the client, f and r of the server. */
  letters(flow: number, client: number): string {
    let text = "";
    for (let ends = this.#ends[flow]!; ends !== 0; ends >>>= BITS) {
      const letter = (ends & IS_RESET) === 0 ? "f" : "r";
      text += (ends & 1) === client ? letter.toUpperCase() : letter;
    }
    return text;
  }
}
