/** Turns a flow's record into an observation, and an interface's counters into coverage. */
import type { LiveSource, Watch } from "./capture/frame-source.ts";
import { KEY } from "./flow/flow-key.ts";
import { Side } from "./flow/flow-table.ts";
import type { Line } from "./line.ts";
import { formatAddress } from "../protocol/address.ts";
import type { Coverage } from "../protocol/coverage.ts";
import type { Flow } from "../protocol/flow-record.ts";
import type { Observation } from "../protocol/observation.ts";
import type { WatchKind } from "../protocol/watch-kind.ts";

/** What an interface had counted when its coverage was last told. */
type Told = {
  watch: Watch;
  sinceMs: number;
  delivered: number;
  dropped: number;
  cutOff: number;
};

export class Sightings {
  readonly #run: string;
  readonly #offer: (observation: Observation) => void;
  /** By lane: the interface as it was last seen; kept while its flows live. */
  readonly #lanes = new Map<number, Told>();
  #discardedBefore = 0;
  /** Frames dropped on any interface, when that was last told, and since when. */
  #lostBefore = 0;
  #lostSinceMs = 0;
  readonly #stoppedBefore: Record<string, number> = {};

  constructor(run: string, offer: (observation: Observation) => void) {
    this.#run = run;
    this.#offer = offer;
  }

  /** Takes note of an interface, before its first frame. */
  know(watch: Watch, nowMs: number): void {
    const known = this.#lanes.get(watch.lane);
    // Lanes are given again after some ten thousand others.
    if (known && known.watch.index === watch.index && known.watch.name === watch.name) {
      known.watch = watch;
      return;
    }
    const counted = { delivered: 0, dropped: 0, cutOff: 0 };
    this.#lanes.set(watch.lane, { watch, sinceMs: nowMs, ...counted });
  }

  /** Offers what is known of a flow, as its next revision. */
  tell(line: Line, record: Flow, flow: number, final: boolean): void {
    const lane = line.table.keys[flow * KEY + 9]! >>> 8;
    const watch = this.#lanes.get(lane)?.watch;
    const addresses = watch?.addresses ?? [];
    const atClient = addresses.includes(record.src_ip);
    const atServer = addresses.includes(record.dst_ip);
    const client = flow * 2 + (line.clientSide(flow) === 0 ? 0 : 1);
    const server = client ^ 1;
    const isn = (at: number) =>
      (line.table.sideFlags[at]! & Side.syn) === 0 ? null : line.table.isn(at);
    this.#offer({
      flow: `${this.#run}.${lane}.${line.serial[flow]}`,
      revision: line.revision[flow]!,
      final,
      interface: watch?.name ?? "",
      ...kindOf(watch),
      vantage: atClient === atServer ? null : atClient ? "client" : "server",
      isn: [isn(client), isn(server)],
      sampling: 1,
      record,
    });
  }

  /** What an interface's watch has covered since it was last told. */
  coverage(watch: Watch, line: Line, source: LiveSource["kind"], nowMs: number): Coverage {
    this.know(watch, nowMs);
    const told = this.#lanes.get(watch.lane)!;
    const untilMs = Math.min(watch.untilMs ?? nowMs, nowMs);
    const from = Math.min(told.sinceMs, untilMs); // a clock that stepped back covers nothing
    const delivered = watch.delivered - told.delivered;
    const { evicted, noSlot } = line.counters;
    const discarded = evicted + noSlot - this.#discardedBefore;
    this.#discardedBefore = evicted + noSlot;
    const stopped = this.#stoppedSince(line);
    const notDecoded = Object.values(stopped).reduce((a, b) => a + b, 0);
    const floods = toldFloods(line);
    told.delivered = watch.delivered;
    const dropped = Math.max(0, watch.dropped - told.dropped);
    told.dropped = watch.dropped;
    const cutOff = watch.cutOff - told.cutOff;
    told.cutOff = watch.cutOff;
    told.sinceMs = nowMs;
    return {
      interface: watch.name,
      ...kindOf(watch),
      addresses: [...watch.addresses].slice(0, 16),
      from_ms: from,
      to_ms: untilMs,
      source,
      sampling: 1,
      delivered,
      dropped,
      cut_off: cutOff,
      // Stops are counted for the node as a whole; each is told once, with the first interface.
      packets: Math.max(0, delivered - notDecoded),
      stopped,
      discarded: discarded > 0 ? { "no-room": discarded } : {},
      ...(floods.length > 0 ? { floods } : {}),
    };
  }

  /**
   * Frames that the kernel dropped since this was last asked, of which `total` is the count so far,
   * without telling on which interface: any may miss them. Null where there are none.
   */
  lostOnAny(total: number, source: LiveSource["kind"], nowMs: number): Coverage | null {
    const dropped = total - this.#lostBefore;
    const from = Math.min(this.#lostSinceMs || nowMs, nowMs);
    this.#lostBefore = total;
    this.#lostSinceMs = nowMs;
    if (dropped <= 0) return null;
    return {
      ...{ interface: "*", addresses: [], from_ms: from, to_ms: nowMs, source, sampling: 1 },
      ...{ delivered: 0, dropped, cut_off: 0, packets: 0, stopped: {}, discarded: {} },
    };
  }

  #stoppedSince(line: Line): Record<string, number> {
    const since: Record<string, number> = {};
    for (const [reason, count] of Object.entries(line.counters.stoppedByName())) {
      const before = this.#stoppedBefore[reason] ?? 0;
      if (count > before) since[reason] = count - before;
      this.#stoppedBefore[reason] = count;
    }
    return since;
  }
}

/** Most interfaces are pods': what they are is told of the others alone. */
function kindOf(watch: Watch | undefined): { interface_kind?: WatchKind } {
  return watch === undefined || watch.kind === "pod" ? {} : { interface_kind: watch.kind };
}

/** Sources of floods that are named. */
const SOURCES_TOLD = 16;

function toldFloods(line: Line): NonNullable<Coverage["floods"]> {
  const { sources, others } = line.floods.take(SOURCES_TOLD);
  const told = sources.map(({ words, attempts }) => ({
    source: formatAddress(words[0]!, words[1]!, words[2]!, words[3]!),
    attempts,
  }));
  return others > 0 ? [...told, { source: "*", attempts: others }] : told;
}
