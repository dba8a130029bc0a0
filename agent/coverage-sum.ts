/** Adds up what several watchers say of one interface and interval, each of which saw a share. */
import { NO_WAYS, addedWays } from "./directions.ts";
import type { Coverage } from "../protocol/coverage.ts";

/** Rounds for which a row waits for those who have not spoken of its interface. */
const ROUNDS_LIMIT = 3;
/** The index of what was lost on any interface, of which only those speak who lost something. */
const ANY = 0;
/** `Coverage.floods` has so many rows. */
const FLOODS_LIMIT = 17;

type Waiting = { rows: Map<number, Coverage>; rounds: number };
/** Until when an interface is told, and until when each place's word on it reaches. */
type Told = { untilMs: number; ends: Map<number, number>; round: number };

export class CoverageSum {
  /** Watchers whose word it takes. */
  readonly #places: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #told = new Map<number, Told>();
  #round = 0;

  constructor(places: number) {
    this.#places = places;
  }

  /** Takes what the watcher of a place says; `index` is the interface's. */
  add(place: number, index: number, row: Coverage): void {
    const waiting = this.#waiting.get(index) ?? { rows: new Map<number, Coverage>(), rounds: 0 };
    this.#waiting.set(index, waiting);
    const before = waiting.rows.get(place);
    if (before === undefined) return void waiting.rows.set(place, row);
    // Of two stretches with a hole between them the later one counts: the watcher began anew.
    const from_ms = before.to_ms < row.from_ms ? row.from_ms : before.from_ms;
    waiting.rows.set(place, { ...added(before, row), from_ms, to_ms: row.to_ms });
  }

  /**
   * A round is over, or all of them are: returns what all have spoken of. It is covered from when
   * the last of them began until the first of them ended. What lacks a word covers no time at all.
   */
  take(isLast = false): { index: number; row: Coverage }[] {
    const sums: { index: number; row: Coverage }[] = [];
    this.#round++;
    for (const [index, waiting] of this.#waiting) {
      const isWhole = index === ANY || waiting.rows.size === this.#places;
      if (!isWhole && !isLast && ++waiting.rounds < ROUNDS_LIMIT) continue;
      const rows = [...waiting.rows.values()];
      const span = index === ANY ? spanOf(rows) : this.#spanOf(index, waiting.rows, isWhole);
      sums.push({ index, row: { ...rows.reduce(added), ...span } });
      this.#waiting.delete(index);
    }
    for (const [index, { round }] of this.#told) {
      if (this.#round - round > ROUNDS_LIMIT) this.#told.delete(index);
    }
    return sums;
  }

  /** Who goes on where their last word ended leaves no hole behind what is told. */
  #spanOf(index: number, rows: ReadonlyMap<number, Coverage>, isWhole: boolean): Span {
    const told = this.#told.get(index);
    const ends = new Map(Array.from(rows, ([place, { to_ms }]) => [place, to_ms]));
    const untilMs = Math.min(...ends.values());
    const begins = Array.from(rows, ([place, { from_ms }]) => {
      const goesOn = from_ms <= (told?.ends.get(place) ?? -Infinity);
      return goesOn ? told!.untilMs : from_ms;
    });
    this.#told.set(index, { untilMs, ends, round: this.#round });
    const from = isWhole ? Math.min(untilMs, Math.max(...begins)) : untilMs;
    return { from_ms: from, to_ms: untilMs };
  }
}

type Span = Pick<Coverage, "from_ms" | "to_ms">;

/** All of the time that some speak of. */
function spanOf(rows: readonly Coverage[]): Span {
  return {
    from_ms: Math.min(...rows.map((row) => row.from_ms)),
    to_ms: Math.max(...rows.map((row) => row.to_ms)),
  };
}

/** Counts of both; of what is no count the later word. */
function added(one: Coverage, other: Coverage): Coverage {
  const floods = [...(one.floods ?? []), ...(other.floods ?? [])].slice(0, FLOODS_LIMIT);
  return {
    ...one,
    ...other,
    delivered: one.delivered + other.delivered,
    dropped: one.dropped + other.dropped,
    cut_off: one.cut_off + other.cut_off,
    packets: one.packets + other.packets,
    stopped: addedTables(one.stopped, other.stopped),
    discarded: addedTables(one.discarded, other.discarded),
    ...(one.ways || other.ways
      ? { ways: addedWays(one.ways ?? NO_WAYS, other.ways ?? NO_WAYS) }
      : {}),
    // What lacks a direction for one lacks it: the network plugin deals alike with all.
    ...(one.one_direction || other.one_direction ? { one_direction: true } : {}),
    ...(floods.length > 0 ? { floods } : {}),
  };
}

type Table = Record<string, number>;

function addedTables(one: Table, other: Table): Table {
  const sum = { ...one };
  for (const [name, count] of Object.entries(other)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}
