/** Watches a node's interfaces: captures, reads flows, hands over observations and coverage. */
import { randomBytes } from "node:crypto";
import type { LiveSource, OnFrame, Watch } from "./capture/frame-source.ts";
import type { Holdings } from "./capture/holdings.ts";
import { Replay } from "./capture/replay.ts";
import { openCapture } from "./capture/tiers.ts";
import type { Fanout } from "./capture/ring-capture.ts";
import type { AgentConfig } from "./config.ts";
import { Stop } from "./decode/packet.ts";
import { FLOW_TABLE_DEFAULTS } from "./flow/flow-table.ts";
import { Line } from "./line.ts";
import { Sightings } from "./sightings.ts";
import type { Coverage } from "../protocol/coverage.ts";
import type { Observation } from "../protocol/observation.ts";

/** Milliseconds between two looks for flows to end or to report; and while nothing comes. */
const TICK_MS = 250;
const QUIET_TICK_MS = 1000;
/** The same for interfaces that came or went, and for counts of flows that nobody knows. */
const RESCAN_MS = 1000;
const SWEEP_MS = 2000;

/** A flow that has ended is told as final after so long: late packets are counted to it. */
const ENDED_SECONDS = 2;

export type WatcherOptions = {
  config: AgentConfig;
  /** Names this watcher, unlike all others before it. */
  run: string;
  log: (level: "info" | "warn" | "error", text: string) => void;
  onObservation: (observation: Observation) => void;
  /** `index` is the interface's, 0 of what was lost on any. */
  onCoverage: (coverage: Coverage, index: number) => void;
  /** Shares what comes with other watchers. */
  fanout?: Fanout;
  /** Notes what is open, for whoever may have to close it. */
  holdings?: Holdings;
  /** Called when the watcher has ended by a fault, and closed its capture; else that is thrown. */
  onFault?: (error: unknown) => void;
};

export class Watcher {
  readonly line: Line;
  readonly capture: LiveSource;
  readonly #options: WatcherOptions;
  readonly sightings: Sightings;
  #timer: NodeJS.Timeout | null = null;
  /** When there was a look of each kind, in milliseconds of the monotonic clock. */
  #lookedMs = 0;
  #rescannedMs = 0;
  #sweptMs = 0;
  /** Frames that had reached a flow at the last look. */
  #frames = 0;
  #hasFailed = false;
  #isClosed = false;

  private constructor(
    options: WatcherOptions,
    line: Line,
    sightings: Sightings,
    capture: LiveSource,
  ) {
    this.#options = options;
    this.line = line;
    this.sightings = sightings;
    this.capture = capture;
    line.countPassedOver(capture.passedOver);
  }

  /** Opens the capture, which hands over nothing before `begin`; throws `ConfigError`. */
  static async open(options: WatcherOptions): Promise<Watcher> {
    const { config, run, log, onObservation, fanout, holdings } = options;
    const { sample, vxlanPorts } = config;
    const sampling = sample?.rate ?? 1;
    const sightings = new Sightings(run, onObservation, { log, sampling });
    const table = {
      ...FLOW_TABLE_DEFAULTS,
      flows: Math.ceil(config.flows / config.workers),
      endedSeconds: ENDED_SECONDS,
      hashSeed: randomBytes(4).readInt32LE(),
    };
    const line = new Line(
      { table, revisions: true, reportIntervalMs: config.reportIntervalMs, sample, vxlanPorts },
      (record, flow, final) => sightings.tell(line, record, flow, final),
    );
    const { clock } = line;
    const onFrame: OnFrame = (view, at, end, wire, linkType, lane, direction) => {
      if (watcher.#hasFailed) return;
      try {
        line.frame(view, at, end, wire, linkType, lane, direction);
      } catch (error) {
        watcher.#fail(error);
      }
    };
    const onWatch = (watch: Watch) => {
      line.know(watch);
      sightings.know(watch, Date.now());
    };
    const onChange = () => watcher.#guard(() => watcher.#rescan());
    const capture: LiveSource =
      config.replay === null
        ? openCapture({
            choice: config.capture,
            wanted: config.wanted,
            ringBytes: config.ringMib << 20,
            ...{ flows: table.flows, sample, vxlanPorts },
            ...(fanout ? { fanout } : {}),
            ...(holdings ? { holdings } : {}),
            ...{ clock, onFrame, onWatch, log, onChange },
          })
        : await Replay.open(config.replay, `${config.node}/`, clock, onFrame, log);
    capture.watches().forEach(onWatch); // those of a recording
    const watcher = new Watcher(options, line, sightings, capture);
    return watcher;
  }

  begin(): void {
    this.#lookedMs = this.#rescannedMs = this.#sweptMs = performance.now();
    this.#lookIn(TICK_MS);
    this.#guard(() => this.#rescan());
  }

  /** Reports whether it could be done: a fault ends the watcher. */
  #guard(work: () => void): boolean {
    if (this.#hasFailed) return false;
    try {
      work();
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  /** Nothing is known of what the fault left behind: it is not looked at any more. */
  #fail(error: unknown): void {
    const { onFault } = this.#options;
    if (onFault === undefined) throw error;
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    // A block of the ring may be under way.
    setImmediate(() => {
      this.#close();
      onFault(error);
    });
  }

  #close(): void {
    if (!this.#isClosed) this.capture.close();
    this.#isClosed = true;
  }

  #lookIn(ms: number): void {
    this.#timer = setTimeout(() => this.#guard(() => this.#look()), ms);
  }

  /** One timer for all: each time that it wakes the process costs more than what is done then. */
  #look(): void {
    const { line } = this;
    const nowMs = performance.now();
    if (nowMs - this.#rescannedMs >= RESCAN_MS - TICK_MS / 2) {
      this.#rescannedMs = nowMs;
      this.#rescan();
    }
    line.advance(Date.now() * 1000);
    const round = this.#options.config.reportIntervalMs / 4;
    line.report(Math.ceil(round / Math.max(TICK_MS, nowMs - this.#lookedMs)));
    this.#lookedMs = nowMs;
    if (nowMs - this.#sweptMs >= SWEEP_MS - TICK_MS / 2) {
      this.#sweptMs = nowMs;
      line.sweep();
    }
    const frames = line.counters.stopped[Stop.none]!;
    const isQuiet = frames === this.#frames && !line.hasNews;
    this.#frames = frames;
    this.#lookIn(isQuiet ? QUIET_TICK_MS : TICK_MS);
  }

  #rescan(): void {
    const ended = this.capture.rescan();
    if (ended.length > 0) this.#tell(ended);
    for (const watch of ended) this.sightings.ended(watch, Date.now());
  }

  /** Tells what was covered since this was last told; reports whether it goes on. */
  tellCoverage(): boolean {
    return this.#guard(() => this.#tell(this.capture.watches()));
  }

  #tell(watches: readonly Watch[]): void {
    const { capture, line, sightings } = this;
    const { onCoverage } = this.#options;
    const nowMs = Date.now();
    for (const watch of watches) {
      onCoverage(sightings.coverage(watch, line, capture.kind, nowMs), watch.index);
    }
    const lost = sightings.lostOnAny(capture.droppedOnAny(), capture.kind, nowMs);
    if (lost !== null) onCoverage(lost, 0);
  }

  /** Tells all that is known, and ends. */
  end(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.tellCoverage();
    this.#close();
    this.#guard(() => this.line.finish());
  }
}
