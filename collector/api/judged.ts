/** Reads judged windows out of the store: which there are, and what was judged in them. */
import type { Store, VerdictRow } from "../store/store.ts";
import { noCounts, VERDICTS, WORST_FIRST, type VerdictWord } from "../verdict/verdict.ts";
import type { CoverageEntry, FindingEntry, VerdictEntry } from "./answers.ts";
import type { WindowSummary } from "./answers.ts";
import { ASPECTS } from "./question.ts";

/** Milliseconds since the epoch; [fromMs, toMs). */
export type Range = { fromMs: number; toMs: number };

/** Most rows that one answer reads; what is beyond is told as `truncated`. */
const ROWS_LIMIT = 20_000;
/** A window's counts are counted anew after this long: late data may have changed them. */
const SUMMARY_AGE_MS = 30_000;
/** Windows whose counts are kept. */
const SUMMARIES_LIMIT = 2000;

export function worstOf(words: readonly VerdictWord[]): VerdictWord {
  return WORST_FIRST.find((word) => words.includes(word)) ?? "unproven";
}

export class Judged {
  readonly #store: Store;
  readonly #summaries = new Map<number, { summary: WindowSummary | null; readMs: number }>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Forgets what was remembered of windows: something was judged again. */
  forget(): void {
    this.#summaries.clear();
  }

  /** The newest window that holds rows of these aspects, or null when there is none. */
  newest(aspects: readonly string[] = ASPECTS): Range | null {
    const newest = aspects.map((aspect) => this.#store.newestWindow(aspect));
    return newest.reduce((a, b) => (a && b ? (b.fromMs > a.fromMs ? b : a) : (a ?? b)), null);
  }

  /** The verdicts of the range that answer to the edge and aspect, and whether there are more. */
  verdicts(range: Range, edge?: string, aspect?: string) {
    const { rows, truncated } = this.#rows(range, aspect, edge);
    const verdicts = rows.flatMap((row) => toVerdict(row) ?? []);
    return { verdicts, truncated };
  }

  coverage(range: Range): { nodes: CoverageEntry[]; truncated: boolean } {
    const { rows, truncated } = this.#rows(range, "coverage");
    return { nodes: rows.flatMap((row) => toCoverage(row) ?? []), truncated };
  }

  findings(range: Range): { findings: FindingEntry[]; truncated: boolean } {
    const { rows, truncated } = this.#rows(range, "finding");
    return { findings: rows.flatMap((row) => toFinding(row) ?? []), truncated };
  }

  /** The last `count` windows before the newest one's end, newest first; silent ones left out. */
  async summaries(count: number, nowMs: number): Promise<WindowSummary[]> {
    const newest = this.newest();
    if (newest === null) return [];
    const lengthMs = newest.toMs - newest.fromMs;
    const found: WindowSummary[] = [];
    for (let i = 0; i < count; i++) {
      const fromMs = newest.fromMs - i * lengthMs;
      if (fromMs < 0) break;
      const summary = this.#summary({ fromMs, toMs: fromMs + lengthMs }, nowMs);
      if (summary !== null) found.push(summary);
      await new Promise((resolve) => setImmediate(resolve)); // others are served between windows
    }
    return found;
  }

  #summary(range: Range, nowMs: number): WindowSummary | null {
    const known = this.#summaries.get(range.fromMs);
    if (known && nowMs - known.readMs < SUMMARY_AGE_MS) return known.summary;
    const { rows, truncated } = this.#rows(range);
    const counts = noCounts();
    const edges = new Set<string>();
    for (const row of rows) {
      // A window of another length overlaps two of these; it belongs to where it begins.
      const read = row.fromMs < range.fromMs ? null : toVerdict(row);
      if (read === null) continue;
      counts[read.verdict.verdict]++;
      edges.add(row.edge);
    }
    const summary =
      edges.size === 0 ? null : { ...spell(range), edges: edges.size, counts, truncated };
    if (this.#summaries.size >= SUMMARIES_LIMIT) this.#summaries.clear();
    this.#summaries.set(range.fromMs, { summary, readMs: nowMs });
    return summary;
  }

  #rows(range: Range, aspect?: string, edge?: string) {
    const rows = this.#store.verdicts({
      ...{ ...range, limit: ROWS_LIMIT + 1 },
      ...(aspect === undefined ? {} : { aspect }),
      ...(edge === undefined ? {} : { edge }),
    });
    return { rows: rows.slice(0, ROWS_LIMIT), truncated: rows.length > ROWS_LIMIT };
  }
}

/** A range as answers spell it. */
export function spell(range: Range): { from: string; to: string } {
  return { from: formatMs(range.fromMs), to: formatMs(range.toMs) };
}

function formatMs(ms: number): string {
  return new Date(Math.min(Math.max(ms, 0), 253402300799999)).toISOString();
}

/** A row's body is JSON that another release may have written: what is not known is left out. */
function toVerdict(row: VerdictRow): VerdictEntry | null {
  const body = bodyOf<VerdictEntry>(row, "verdict");
  if (body === null) return null;
  const { verdict: v } = body;
  const known = v.schema === "wireproof.verdict/1" && VERDICTS.includes(v.verdict);
  const lists = [v.because, v.flows, v.protocols, v.tlsVersions, v.findings];
  const ends = isObject(v.edge) ? [v.edge.client, v.edge.server] : [];
  const whole =
    ends.length === 2 &&
    ends.every((end) => isObject(end) && Array.isArray(end.zones)) &&
    lists.every((list) => Array.isArray(list)) &&
    [v.counts, v.coverage, v.provenance].every(isObject);
  return known && ASPECTS.includes(v.aspect) && whole ? body : null;
}

function toCoverage(row: VerdictRow): CoverageEntry | null {
  const body = bodyOf<CoverageEntry>(row, "coverage");
  return body !== null && typeof body.coverage.node === "string" ? body : null;
}

function toFinding(row: VerdictRow): FindingEntry | null {
  const body = bodyOf<FindingEntry>(row, "finding");
  return body !== null && typeof body.finding.code === "string" ? body : null;
}

function bodyOf<T extends { entry: number | null }>(
  { body }: VerdictRow,
  field: keyof T & string,
): T | null {
  if (!isObject(body) || !isObject(body[field])) return null;
  const entry = typeof body["entry"] === "number" ? body["entry"] : null;
  return { [field]: body[field], entry } as T;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
