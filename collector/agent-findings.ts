/** Finds in a window what agents tell of themselves, and of pods whatever their edges. */
import { formatHolder } from "./attribution/holder.ts";
import type { Holder } from "./attribution/holder.ts";
import type { Gap, Store, StoredCoverage } from "./store/store.ts";
import type { ClusterFinding } from "./verdict/verdict.ts";

const GAPS_BATCH = 10_000;
/** Agents whose clock differs by more are told. */
const CLOCK_LIMIT_MS = 2_000;

/** Who held an address in the window. */
type WhoHad = (address: string) => Holder | null;

export function findInAgents(
  store: Store,
  fromMs: number,
  toMs: number,
  whoHad: WhoHad,
): ClusterFinding[] {
  const span = { from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() };
  // What goes on into the next window is told in that.
  const words = store.coverageBetween(fromMs, toMs).filter((w) => w.coverage.to_ms <= toMs);
  const gaps = allGaps(store)
    .filter((gap) => gap.recordedMs >= fromMs && gap.recordedMs < toMs)
    .map((gap) => ({
      ...{ code: "uplink-gap", ...span, subject: `node/${gap.node}` },
      sentence: `the agent of ${gap.node} gave up batches ${gap.from} to ${gap.to} of its spool`,
    }));
  const clocks = store
    .spools()
    .filter((s) => s.heardMs >= fromMs && Math.abs(s.clockOffsetMs) > CLOCK_LIMIT_MS)
    .map((s) => ({
      ...{ code: "clock-stepped", ...span, subject: `node/${s.node}` },
      sentence:
        `the clock of ${s.node} differs by ${Math.round(s.clockOffsetMs / 100) / 10} s: ` +
        "its flows may stand in the wrong window",
    }));
  const told = [...floodsIn(words, whoHad), ...spoofsIn(words, whoHad)];
  return [...gaps, ...told.map((finding) => ({ ...finding, ...span })), ...clocks];
}

type Told = Omit<ClusterFinding, "from" | "to">;

/** By node and source, attempts that an agent could not keep. */
function floodsIn(words: readonly StoredCoverage[], whoHad: WhoHad): Told[] {
  const attempts = words.flatMap(({ node, coverage }) =>
    (coverage.floods ?? []).map((flood) => ({ node, ...flood, count: flood.attempts })),
  );
  return summed(attempts, ({ node, source }) => `${node} ${source}`).map(
    ({ node, source, count }) => {
      const subject = source === "*" ? `node/${node}` : nameOf(source, whoHad);
      return {
        ...{ code: "syn-flood", subject },
        sentence:
          `${count} connections that nobody answered came from ` +
          `${source === "*" ? "many addresses" : subject}, more than the agent of ${node} keeps: ` +
          "they are counted, and not listed",
      };
    },
  );
}

/** By pod, packets that it sent under addresses that are not its own. */
function spoofsIn(words: readonly StoredCoverage[], whoHad: WhoHad): Told[] {
  const spoofs = words.flatMap(({ node, coverage }) => {
    const count = coverage.stopped["spoofedSource"] ?? 0;
    const address = coverage.addresses[0];
    const subject = address === undefined ? `node/${node}` : nameOf(address, whoHad);
    return count > 0 ? [{ node, name: coverage.interface, subject, count }] : [];
  });
  return summed(spoofs, ({ subject }) => subject).map(({ node, name, subject, count }) => ({
    ...{ code: "spoofed-source", subject },
    sentence:
      `${count} packets left ${subject} by ${name} of ${node} under addresses that are not its ` +
      "own: they are counted, and no flow's",
  }));
}

function nameOf(address: string, whoHad: WhoHad): string {
  const held = whoHad(address);
  return held === null ? address : formatHolder(held);
}

/** One of each key, with the counts of all. */
function summed<T extends { count: number }>(rows: readonly T[], keyOf: (row: T) => string): T[] {
  const sums = new Map<string, T>();
  for (const row of rows) {
    const key = keyOf(row);
    const known = sums.get(key);
    if (known) known.count += row.count;
    else sums.set(key, { ...row });
  }
  return [...sums.values()];
}

function allGaps(store: Store): Gap[] {
  const gaps: Gap[] = [];
  for (;;) {
    const batch = store.gapsSince(gaps.at(-1)?.id ?? 0, GAPS_BATCH);
    gaps.push(...batch);
    if (batch.length < GAPS_BATCH) return gaps;
  }
}
