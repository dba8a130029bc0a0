/** Remembers, by interface and time, observations that were given up before they were sent. */
import { Unpackr } from "msgpackr";
import type { Coverage } from "../../protocol/coverage.ts";
import type { Observation } from "../../protocol/observation.ts";
import type { Batch } from "../../protocol/uplink.ts";
import { DISCARDS_LIMIT } from "../../protocol/uplink-limits.ts";

type Discard = NonNullable<Coverage["discards"]>[number];

/** Stands for every interface of the node. */
const ANY = "*";
/** Observations of one interface that end within the same so many milliseconds are one row. */
const STRETCH_MS = 60_000;
/** Rows that are remembered; what comes beyond is of any interface. */
const ROWS_LIMIT = 1024;

const unpackr = new Unpackr({ useRecords: true });

/** Null where the bytes are no batch. */
function unpacked(payload: Uint8Array): Batch | null {
  try {
    const batch = unpackr.unpack(payload) as Partial<Batch> | null;
    const isBatch = Array.isArray(batch?.observations) && Array.isArray(batch.coverage);
    return isBatch ? (batch as Batch) : null;
  } catch {
    return null; // of another release
  }
}

export class Discards {
  readonly #rows = new Map<string, Discard>();

  /** Takes note of a row that is given up. What it told of others is remembered, too. */
  note(row: Observation | Coverage): void {
    if (!("flow" in row)) {
      for (const discard of row.discards ?? []) this.#add(discard);
      return;
    }
    const from_ms = Date.parse(row.record.start);
    const to_ms = Date.parse(row.record.end);
    if (Number.isNaN(from_ms) || Number.isNaN(to_ms)) return;
    this.#add({ interface: row.interface, from_ms, to_ms, observations: 1 });
  }

  /**
   * Takes note of a batch of so many rows, as it was spooled. Of one that cannot be read nothing is
   * known but that its rows were made before `nowMs`.
   */
  noteBatch(rows: number, payload: Uint8Array | null, nowMs: number): void {
    const batch = payload && unpacked(payload);
    if (batch) for (const row of [...batch.observations, ...batch.coverage]) this.note(row);
    else if (rows > 0) {
      this.#add({ interface: ANY, from_ms: 0, to_ms: nowMs, observations: rows });
    }
  }

  #add(discard: Discard): void {
    const stretch = Math.floor(discard.to_ms / STRETCH_MS);
    let key = `${stretch} ${discard.interface}`;
    if (!this.#rows.has(key) && this.#rows.size >= ROWS_LIMIT) key = ANY;
    const known = this.#rows.get(key);
    const isAny = key === ANY;
    if (known === undefined) {
      this.#rows.set(key, { ...discard, ...(isAny ? { interface: ANY } : {}) });
      return;
    }
    known.from_ms = Math.min(known.from_ms, discard.from_ms);
    known.to_ms = Math.max(known.to_ms, discard.to_ms);
    known.observations += discard.observations;
  }

  /** What was noted since this was last called, as coverage of no interface and no time. */
  take(source: Coverage["source"]): Coverage[] {
    const discards = [...this.#rows.values()];
    this.#rows.clear();
    const told: Coverage[] = [];
    for (let at = 0; at < discards.length; at += DISCARDS_LIMIT) {
      const some = discards.slice(at, at + DISCARDS_LIMIT);
      const from_ms = Math.min(...some.map((discard) => discard.from_ms));
      const to_ms = Math.max(...some.map((discard) => discard.to_ms));
      told.push({
        ...{ interface: ANY, addresses: [], from_ms, to_ms, source, sampling: 1 },
        ...{ delivered: 0, dropped: 0, cut_off: 0, packets: 0, stopped: {}, discarded: {} },
        discards: some,
      });
    }
    return told;
  }
}
