/** What a signature says of bytes, and the comparisons that most signatures are made of. */
import { latin1Of } from "../read/text.ts";

/**
 * What a test says of `[at, end)`: not this protocol; this one; too few bytes to tell; or bytes
 * that agree and are too common to name a protocol alone: the other side's, or a port, must agree.
 */
export const Match = { no: 0, yes: 1, more: 2, likely: 3 } as const;
export type Match = (typeof Match)[keyof typeof Match];

export type Test = (view: DataView, at: number, end: number) => Match;

/** Longest first line that is waited for. */
const LINE_LIMIT = 1024;

/** Compares the first bytes with text; `more` while what came agrees so far. */
export function startsWith(view: DataView, at: number, end: number, text: string): Match {
  const length = Math.min(text.length, end - at);
  for (let i = 0; i < length; i++) {
    if (view.getUint8(at + i) !== text.charCodeAt(i)) return Match.no;
  }
  return length === text.length ? Match.yes : Match.more;
}

/** As `startsWith`, for an ASCII text given in capitals, whatever the case of the bytes. */
function startsWithAnyCase(view: DataView, at: number, end: number, text: string): Match {
  const length = Math.min(text.length, end - at);
  for (let i = 0; i < length; i++) {
    const byte = view.getUint8(at + i);
    const upper = byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
    if (upper !== text.charCodeAt(i)) return Match.no;
  }
  return length === text.length ? Match.yes : Match.more;
}

/** Bytes as text, one character a byte, at most `limit` of them. */
export function latin1(view: DataView, at: number, end: number, limit: number): string {
  return latin1Of(view, at, Math.min(end, at + limit));
}

/** The first line without its end, `null` while it has not come, `""` when it is no text. */
export function firstLine(view: DataView, at: number, end: number): string | null {
  const limit = Math.min(end, at + LINE_LIMIT);
  for (let i = at; i < limit; i++) {
    const byte = view.getUint8(i);
    if (byte === 0x0a) {
      const last = i > at && view.getUint8(i - 1) === 0x0d ? i - 1 : i;
      return latin1(view, at, last, LINE_LIMIT);
    }
    if ((byte < 0x20 && byte !== 0x09 && byte !== 0x0d) || byte === 0x7f) return "";
  }
  return limit - at < LINE_LIMIT ? null : latin1(view, at, limit, LINE_LIMIT);
}

/** One pattern of several, each a whole alternative. */
export const anyOf = (flags: string, ...patterns: readonly RegExp[]): RegExp =>
  new RegExp(patterns.map((pattern) => `(?:${pattern.source})`).join("|"), flags);

/** Begins with one of `words`, given in capitals, in any case; then its first line decides. */
export function line(words: readonly string[], sure: RegExp, likely?: RegExp): Test {
  return (view, at, end) => {
    let best: Match = Match.no;
    for (const word of words) {
      const match = startsWithAnyCase(view, at, end, word);
      if (match === Match.no) continue;
      best = match;
      if (match === Match.yes) break;
    }
    if (best !== Match.yes) return best;
    const text = firstLine(view, at, end);
    if (text === null) return Match.more;
    if (sure.test(text)) return Match.yes;
    return likely?.test(text) ? Match.likely : Match.no;
  };
}

/** Reports whether `[at, end)` is printable ASCII. */
export function isPrintable(view: DataView, at: number, end: number): boolean {
  for (let i = at; i < end; i++) {
    const byte = view.getUint8(i);
    if (byte < 0x20 || byte > 0x7e) return false;
  }
  return true;
}

/** Finds `text` in `[at, end)`: its position, or -1. */
export function find(view: DataView, at: number, end: number, text: string): number {
  const last = end - text.length;
  for (let i = at; i <= last; i++) {
    if (startsWith(view, i, end, text) === Match.yes) return i;
  }
  return -1;
}
