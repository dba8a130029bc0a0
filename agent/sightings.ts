/** Turns a flow's record into an observation, and an interface's counters into coverage. */
import { Direction } from "./capture/frame-source.ts";
import type { LiveSource, Watch } from "./capture/frame-source.ts";
import { Fact, Side } from "./flow/flow-record.ts";
import type { Flood } from "./flow/floods.ts";
import { FLOW_TABLE_DEFAULTS } from "./flow/flow-table.ts";
import type { FlowTable } from "./flow/flow-table.ts";
import { mayHavePod } from "./capture/interfaces.ts";
import { Directions } from "./directions.ts";
import type { WayCounts } from "./directions.ts";
import { Ways, waysOf } from "./flow/ways.ts";
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
  /** Flows that had begun before it was known that they are not the pod's. */
  foreign: number;
  directions: Directions;
  /** It is told in the log that one direction is missing. */
  isTold: boolean;
};

/** Microseconds of a living connection after which a side that was not seen counts as not seen. */
const ONE_WAY_AFTER_US = 2e6;

/** Beyond the longest that a flow is idle before it ends. */
const KEPT_MS = (FLOW_TABLE_DEFAULTS.livingSeconds + 60) * 1000;

export type SightingsOptions = {
  log?: (level: "warn", text: string) => void;
  /** Share of flows that are read. */
  sampling?: number;
};

export class Sightings {
  readonly #run: string;
  readonly #offer: (observation: Observation) => void;
  readonly #log: NonNullable<SightingsOptions["log"]>;
  /** Share of flows that are read. */
  readonly sampling: number;
  /** By lane: the interface as it was last seen; kept while its flows live. */
  readonly #lanes = new Map<number, Told>();
  readonly #ended: { lane: number; told: Told | undefined; atMs: number }[] = [];
  readonly #podDirections = new Directions(null);
  /** Frames dropped on any interface, when that was last told, and since when. */
  #lostBefore = 0;
  #lostSinceMs = 0;

  /** By flow: `Ways` as it was counted, so that each counts once. */
  #counted = new Uint8Array(0);

  constructor(
    run: string,
    offer: (observation: Observation) => void,
    { log = () => {}, sampling = 1 }: SightingsOptions = {},
  ) {
    this.#run = run;
    this.#offer = offer;
    this.#log = log;
    this.sampling = sampling;
  }

  /** Takes note of an interface, before its first frame. */
  know(watch: Watch, nowMs: number): void {
    const known = this.#lanes.get(watch.lane);
    // Lanes are given again after some ten thousand others.
    if (known && known.watch.index === watch.index && known.watch.name === watch.name) {
      known.watch = watch;
      return;
    }
    const counted = { delivered: 0, dropped: 0, cutOff: 0, foreign: 0 };
    const directions = new Directions(watch.kind === "pod" ? this.#podDirections : null);
    const told = { watch, sinceMs: nowMs, ...counted, directions, isTold: false };
    this.#lanes.set(watch.lane, told);
  }

  /** The watch has ended: it is kept for as long as one of its flows may still be told. */
  ended(watch: Watch, nowMs: number): void {
    const { lane } = watch;
    this.#ended.push({ lane, told: this.#lanes.get(lane), atMs: nowMs });
    for (let oldest; (oldest = this.#ended[0]) && nowMs - oldest.atMs > KEPT_MS;) {
      this.#ended.shift();
      if (this.#lanes.get(oldest.lane) === oldest.told) this.#lanes.delete(oldest.lane);
    }
  }

  /** Offers what is known of a flow, as its next revision. */
  tell(line: Line, record: Flow, flow: number, final: boolean): void {
    const lane = line.table.laneOf(flow);
    const told = this.#lanes.get(lane);
    const watch = told?.watch;
    if (line.owners[lane]?.refusesFlow(line.table, flow)) {
      if (told && final) told.foreign++;
      return;
    }
    const clientSide = line.clientSide(flow);
    const client = flow * 2 + clientSide;
    const ways = this.#countWays(line, flow, clientSide, final, told);
    const server = client ^ 1;
    const isn = (at: number) =>
      (line.table.sideFlags(at) & Side.syn) === 0 ? null : line.table.isn(at);
    this.#offer({
      flow: `${this.#run}.${lane}.${line.serial[flow]}`,
      revision: line.revision[flow]!,
      final,
      interface: watch?.name ?? "",
      ...kindOf(watch),
      vantage: vantageOf(line.table, flow, clientSide, record, watch?.addresses ?? []),
      isn: [isn(client), isn(server)],
      sampling: this.sampling,
      ...(ways === Ways.client || ways === Ways.server ? { one_way: true } : {}),
      record,
    });
  }

  /** Counts a flow once it is known of which sides it is seen; returns that, by `Ways`. */
  #countWays(
    line: Line,
    flow: number,
    clientSide: number,
    final: boolean,
    told: Told | undefined,
  ): number {
    const { capacity } = line.table;
    if (this.#counted.length < capacity) this.#counted = new Uint8Array(capacity);
    if (line.revision[flow] === 1) this.#counted[flow] = Ways.unknown;
    const ways = waysOf(line.table, flow, clientSide);
    const isSettled = final || line.nowUs - line.table.startUs(flow) >= ONE_WAY_AFTER_US;
    if (ways === Ways.unknown || (ways !== Ways.both && !isSettled)) return Ways.unknown;
    if (told && this.#counted[flow] === Ways.unknown) {
      this.#counted[flow] = ways;
      told.directions.note(ways);
    }
    return ways;
  }

  /** Connections by the sides of which they were seen, of the interfaces where some lacked one. */
  *oneWay(): Iterable<{ name: string } & WayCounts> {
    for (const { watch, directions } of this.#lanes.values()) {
      const { counts } = directions;
      if (counts.client + counts.server > 0) yield { name: watch.name, ...counts };
    }
  }

  /** Fields of the coverage that ends now; says in the log when they change. */
  #takeDirections(told: Told): Pick<Coverage, "ways" | "one_direction"> {
    const { directions, watch } = told;
    // Uplinks may well share out two directions between them.
    const lacksOne = mayHavePod(watch.kind) && directions.lacksOne;
    if (lacksOne !== told.isTold) {
      this.#log(
        "warn",
        lacksOne
          ? `of connections at ${watch.name} one direction alone is seen: the other is led ` +
              "past it, as by BPF host routing; verdicts do not rest on it"
          : `connections at ${watch.name} are seen in both directions again`,
      );
    }
    told.isTold = lacksOne;
    const ways = directions.take();
    return { ...(ways ? { ways } : {}), ...(lacksOne ? { one_direction: true } : {}) };
  }

  /** What an interface's watch has covered since it was last told. */
  coverage(watch: Watch, line: Line, source: LiveSource["kind"], nowMs: number): Coverage {
    this.know(watch, nowMs);
    const told = this.#lanes.get(watch.lane)!;
    const untilMs = Math.min(watch.untilMs ?? nowMs, nowMs);
    const from = Math.min(told.sinceMs, untilMs); // a clock that stepped back covers nothing
    const delivered = watch.delivered - told.delivered;
    const { stopped, noRoom, attempts } = line.losses.take(watch.lane);
    const notDecoded = Object.values(stopped).reduce((a, b) => a + b, 0);
    const floods = toldFloods(line.floods.take(watch.lane), attempts);
    const directions = this.#takeDirections(told);
    told.delivered = watch.delivered;
    const dropped = Math.max(0, watch.dropped - told.dropped);
    told.dropped = watch.dropped;
    const cutOff = watch.cutOff - told.cutOff;
    told.cutOff = watch.cutOff;
    told.sinceMs = nowMs;
    const { foreign } = told;
    told.foreign = 0;
    return {
      interface: watch.name,
      ...kindOf(watch),
      addresses: [...watch.addresses].slice(0, 16),
      from_ms: from,
      to_ms: untilMs,
      source,
      sampling: this.sampling,
      delivered,
      dropped,
      cut_off: cutOff,
      packets: Math.max(0, delivered - notDecoded),
      stopped,
      discarded: {
        ...(noRoom > 0 ? { "no-room": noRoom } : {}),
        ...(foreign > 0 ? { "not-of-pod": foreign } : {}),
      },
      ...directions,
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
      ...{ interface: "*", addresses: [], from_ms: from, to_ms: nowMs, source },
      sampling: this.sampling,
      ...{ delivered: 0, dropped, cut_off: 0, packets: 0, stopped: {}, discarded: {} },
    };
  }
}

/**
 * Which end is the pod behind the interface: by the way in which the first packet crossed it; by
 * addresses alone where the source does not tell that. Null where its addresses are not known.
 */
function vantageOf(
  table: FlowTable,
  flow: number,
  clientSide: number,
  { src_ip: client, dst_ip: server }: Flow,
  addresses: readonly string[],
): Observation["vantage"] {
  const atClient = addresses.includes(client);
  const atServer = addresses.includes(server);
  const direction = table.firstDirection(flow);
  if (direction === Direction.unknown) {
    return atClient === atServer ? null : atClient ? "client" : "server";
  }
  const first = (table.flowFlags(flow) & Fact.fromHigh) !== 0 ? 1 : 0;
  const isClients = (first === clientSide) === (direction === Direction.inbound);
  if (isClients) return atClient ? "client" : null;
  return atServer ? "server" : null;
}

/** Most interfaces are pods': what they are is told of the others alone. */
function kindOf(watch: Watch | undefined): { interface_kind?: WatchKind } {
  return watch === undefined || watch.kind === "pod" ? {} : { interface_kind: watch.kind };
}

/** Sources of floods that are named. */
const SOURCES_TOLD = 16;

/** `others` came from sources that were not told apart. */
function toldFloods(floods: readonly Flood[], others: number): NonNullable<Coverage["floods"]> {
  const told = floods.slice(0, SOURCES_TOLD).map(({ words, attempts }) => ({
    source: formatAddress(words[0]!, words[1]!, words[2]!, words[3]!),
    attempts,
  }));
  const rest = floods.slice(SOURCES_TOLD).reduce((sum, { attempts }) => sum + attempts, others);
  return rest > 0 ? [...told, { source: "*", attempts: rest }] : told;
}
