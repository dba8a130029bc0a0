/** Shows the counts of the six words, with the share that is confirmed, window by window. */
import type { VerdictWord } from "../verdict/verdict.ts";
import type { Counts, WindowSummary } from "./answers.ts";
import type { Span } from "./shown.ts";
import { spellClock, spellCount, spellShare, spellWindow } from "./spelling.ts";
import { WORD_ORDER, WORDS } from "./words.tsx";

const total = (counts: Counts) => WORD_ORDER.reduce((sum, word) => sum + counts[word], 0);

type Props = {
  counts: Counts;
  words: ReadonlySet<VerdictWord>;
  onToggle: (word: VerdictWord) => void;
};

/** The six words as switches of the table's filter. */
export function Summary({ counts, words, onToggle }: Props) {
  const all = total(counts);
  return (
    <section class="summary" aria-label="Verdicts of this window">
      <div class="share">
        <strong>{spellShare(counts.confirmed, all)}</strong>
        <span>
          confirmed: {spellCount(counts.confirmed)} of {spellCount(all)} verdicts. Nothing else
          counts as success.
        </span>
      </div>
      <div class="tiles">
        {WORD_ORDER.map((word) => (
          <button
            key={word}
            class={`tile ${word}`}
            aria-pressed={words.has(word)}
            title={`${WORDS[word].sentence} Press to filter.`}
            onClick={() => onToggle(word)}
          >
            <span class="symbol" aria-hidden="true">
              {WORDS[word].symbol}
            </span>
            <strong>{spellCount(counts[word])}</strong>
            <span>{word}</span>
          </button>
        ))}
      </div>
    </section>
  );
}

type PastProps = {
  windows: readonly WindowSummary[];
  selected: Span | null;
  onSelect: (span: Span | null) => void;
};

/** Recent windows as stacked bars, the oldest left; each is a button that shows it. */
export function Past({ windows, selected, onSelect }: PastProps) {
  const newest = windows[0];
  const most = Math.max(1, ...windows.map(({ counts }) => total(counts)));
  return (
    <section class="past" aria-label="Recent windows">
      <div class="bars">
        {[...windows].reverse().map(({ from, to, counts, truncated }) => {
          const isShown = selected ? selected.from === from : from === newest?.from;
          const counted = WORD_ORDER.map((word) => `${counts[word]} ${word}`).join(", ");
          const told = truncated ? `${counted}, and more that were not counted` : counted;
          return (
            <button
              key={from}
              class="bar"
              aria-pressed={isShown}
              aria-label={`${spellWindow(from, to)}: ${told}`}
              title={`${spellWindow(from, to)}\n${told}`}
              onClick={() => onSelect(from === newest?.from ? null : { from, to })}
            >
              {WORD_ORDER.filter((word) => counts[word] > 0).map((word) => (
                <i key={word} class={word} style={{ height: `${(counts[word] / most) * 100}%` }} />
              ))}
            </button>
          );
        })}
      </div>
      <p>
        {windows.length > 0 && spellClock(windows.at(-1)!.from)}
        <span>{windows.length} windows, UTC</span>
        {newest && spellClock(newest.to)}
      </p>
    </section>
  );
}
