/** Describes what the collector asks of a store, whichever engine keeps it. */
import type { Coverage } from "../../protocol/coverage.ts";
import type { Observation } from "../../protocol/observation.ts";
import type { Batch } from "../../protocol/uplink.ts";

/** A batch as it came in. Times are milliseconds since the epoch by the collector's clock. */
export type Received = { node: string; spool: string; batch: Batch; receivedMs: number };

/** What became of a batch; either way all that was in it is durable. */
export type Appended = {
  /** Its number was acknowledged before, and it was not stored again. */
  duplicate: boolean;
  /** Numbers between the last acknowledged one and this: the agent's spool gave them up. */
  gap: { from: number; to: number } | null;
};

/** `id` rises in the order of storing, and is never given twice. */
export type StoredObservation = {
  id: number;
  node: string;
  receivedMs: number;
  observation: Observation;
};
export type StoredCoverage = { id: number; node: string; receivedMs: number; coverage: Coverage };

export type SpoolState = {
  node: string;
  spool: string;
  acknowledged: number;
  heardMs: number;
  /** The agent's clock less the collector's at the last hello; includes the way of one message. */
  clockOffsetMs: number;
  software: string;
};

/** Batches `from` to `to`, both included, that never came. */
export type Gap = {
  id: number;
  node: string;
  spool: string;
  from: number;
  to: number;
  recordedMs: number;
};

/** One judgement of one edge in one window [fromMs, toMs); judging again replaces it. */
export type VerdictRow = {
  fromMs: number;
  toMs: number;
  edge: string;
  aspect: string;
  /** Any JSON. */
  body: unknown;
};

/** What names a row among those of all windows. */
export type VerdictKey = Pick<VerdictRow, "fromMs" | "edge" | "aspect">;

export type VerdictQuery = {
  /** Windows that overlap [fromMs, toMs). */
  fromMs: number;
  toMs: number;
  edge?: string;
  aspect?: string;
  limit?: number;
};

/** One entry of the evidence log about a policy object; kept as long as the log is. */
export type PolicyRow = { entry: number; body: unknown };

/** An object as it was from then on, or that it was gone; by the collector's clock. */
export type DeclaredRow = {
  /** Names the object among all. */
  key: string;
  atMs: number;
  /** It came about after this: behind a break nobody knows when. */
  sinceMs: number;
  removed: boolean;
  /** Any JSON. */
  body: unknown;
};

/**
 * Law: what `append` resolved for is on the disk, once; what `saveVerdicts` returned for is on the
 * disk together with its cursors, so whoever consumes by cursor loses and repeats nothing, whenever
 * the process is killed.
 */
export type Store = {
  /** Rejects when the batch could not be made durable; then none of it was stored. */
  append(received: Received): Promise<Appended>;
  /** Highest number of which all at or below are durable or told as a gap; 0 when none. */
  acknowledged(node: string, spool: string): number;
  /** Notes that an agent said hello. */
  heard(state: Omit<SpoolState, "acknowledged">): void;
  spools(): SpoolState[];
  gapsSince(id: number, limit: number): Gap[];

  observationsSince(id: number, limit: number): StoredObservation[];
  /** The highest revision of a flow, or null. */
  observation(node: string, flow: string): StoredObservation | null;
  /** The highest revision of each flow that lived at any time in [fromMs, toMs), by id. */
  flowsBetween(fromMs: number, toMs: number): IterableIterator<StoredObservation>;
  coverageSince(id: number, limit: number): StoredCoverage[];
  /** What was watched at any time in [fromMs, toMs). */
  coverageBetween(fromMs: number, toMs: number): StoredCoverage[];

  /** Where a consumer stands; 0 when it has not begun. */
  cursor(name: string): number;
  /** Saves verdicts, forgets those that no longer hold, and moves cursors: all or nothing. */
  saveVerdicts(
    rows: readonly VerdictRow[],
    cursors: Readonly<Record<string, number>>,
    withdrawn?: readonly VerdictKey[],
    policies?: readonly PolicyRow[],
  ): void;
  /** All of them, in the order of the log. */
  policies(): IterableIterator<PolicyRow>;
  verdicts(query: VerdictQuery): VerdictRow[];
  /** The window that begins last among those with rows of the aspect; null when there is none. */
  newestWindow(aspect: string): { fromMs: number; toMs: number } | null;

  /** Notes what was declared, and that up to `knownMs` nothing else changed. */
  saveDeclared(rows: readonly DeclaredRow[], knownMs: number): void;
  /** All that was noted, in the order of noting. */
  declared(): IterableIterator<DeclaredRow>;

  /**
   * Deletes observations and coverage received before `beforeMs`; returns how many. The cursor
   * `expired` tells up to when some may be gone.
   */
  expireFlows(beforeMs: number): number;
  /** Deletes verdicts whose window ended before `beforeMs`; returns how many. */
  expireVerdicts(beforeMs: number): number;
  /** Deletes what was declared and replaced, or gone, before `beforeMs`; returns how many. */
  expireDeclared(beforeMs: number): number;
  close(): Promise<void>;
};
