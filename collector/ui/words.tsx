/** Shows the six words: each by colour, by symbol, by line; no two alike in any of them. */
import type { VerdictWord } from "../verdict/verdict.ts";

type Look = { symbol: string; dash: readonly number[] | null; sentence: string };

/** In the order in which they are shown: what needs attention comes first. */
export const WORDS = {
  violated: {
    symbol: "✕",
    dash: null,
    sentence: "At least one connection contradicts what is declared.",
  },
  unexpected: {
    symbol: "!",
    dash: [10, 3, 2, 3],
    sentence: "Traffic on a path about which nothing is declared.",
  },
  unproven: {
    symbol: "?",
    dash: [7, 5],
    sentence: "Not exercised, or seen through a gap: no success.",
  },
  undecidable: {
    symbol: "~",
    dash: [2, 4],
    sentence: "The rule depends on what no passive observer can see: no success.",
  },
  "nothing-demanded": {
    symbol: "–",
    dash: [1, 6],
    sentence: "Anything would have met what is declared: no success.",
  },
  confirmed: {
    symbol: "✓",
    dash: null,
    sentence: "The expectation was exercised, and every observation agrees.",
  },
} as const satisfies Record<VerdictWord, Look>;

export const WORD_ORDER = Object.keys(WORDS) as VerdictWord[];

export function Word({ word }: { word: VerdictWord }) {
  return (
    <span class={`word ${word}`} title={WORDS[word].sentence}>
      <span class="symbol" aria-hidden="true">
        {WORDS[word].symbol}
      </span>
      {word}
    </span>
  );
}
