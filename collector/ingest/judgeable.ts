/** Looks for rows that no window could judge: one of them must not be acknowledged as good. */
import type { Coverage } from "../../protocol/coverage.ts";
import type { Observation } from "../../protocol/observation.ts";
import type { Batch } from "../../protocol/uplink.ts";

/** Nothing was seen later than when its batch was closed, by the agent's own clock, but so much. */
const AHEAD_MS = 60_000;
/** No connection, and no interval, that is told of now began before. */
const AGE_MS = 10 * 366 * 86_400_000;
/** RFC 3339 §5.6, in UTC; up to nanoseconds. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;

/** Why a batch holds something that cannot be judged; null where all of it can be. */
export function whyUnjudgeable({ clock_ms: clockMs, observations, coverage }: Batch) {
  for (const observation of observations) {
    const why = whyNoFlow(observation, clockMs);
    if (why !== null) return `a flow that ${why}`;
  }
  for (const row of coverage) {
    const why = whyNoInterval(row, clockMs);
    if (why !== null) return `coverage that ${why}`;
  }
  return null;
}

function whyNoFlow({ record: { start, end } }: Observation, clockMs: number): string | null {
  if (!TIME.test(start) || !TIME.test(end)) return "has no times of RFC 3339";
  return whyNoSpan(Date.parse(start), Date.parse(end), clockMs);
}

function whyNoInterval({ from_ms, to_ms, discards }: Coverage, clockMs: number): string | null {
  for (const lost of discards ?? []) {
    const why = whyNoSpan(lost.from_ms, lost.to_ms, clockMs);
    if (why !== null) return why;
  }
  return whyNoSpan(from_ms, to_ms, clockMs);
}

function whyNoSpan(fromMs: number, toMs: number, clockMs: number): string | null {
  if (!Number.isFinite(fromMs) || !Number.isFinite(toMs)) return "has no times";
  if (toMs < fromMs) return "ends before it begins";
  if (toMs > clockMs + AHEAD_MS) return "is later than the agent's own clock";
  return fromMs < clockMs - AGE_MS ? "began years ago" : null;
}
