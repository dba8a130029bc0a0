/**
 * Runs several watchers, each in a thread of its own, which share what comes: the kernel deals
 * frames out by flow (`capture/fanout-program.ts`). What they tell is told as if by one.
 *
 * The kernel deals by place in the group. So that the flows of others stay where they are when a
 * thread ends by a fault, its socket is held open here until the next one's has joined, and takes
 * its place.
 */
import { Worker } from "node:worker_threads";
import type { LiveSource, Watch } from "./capture/frame-source.ts";
import { SystemCalls } from "./capture/system-calls.ts";
import { CoverageSum } from "./coverage-sum.ts";
import { Counters } from "./counters.ts";
import { NO_WAYS, addedWays } from "./directions.ts";
import type { WayCounts } from "./directions.ts";
import type { Sightings } from "./sightings.ts";
import type { WatcherOptions } from "./watcher.ts";
import type { Counted, Counts, OneWay, Order, Task, Word } from "./worker-words.ts";
import type { Flags } from "../protocol/settings.ts";
import { ConfigError } from "../protocol/config-error.ts";

/** Milliseconds before the first new start, doubled with each up to the second. */
const RESTART_MS = 100;
const RESTART_LIMIT_MS = 5000;
/** Milliseconds that the threads have to tell the rest. */
const END_MS = 10_000;

/** A thread's file, as sources or built. */
const own = import.meta.url;
const WORKER = new URL(`./watcher-worker${own.slice(own.lastIndexOf("."))}`, own);

type Place = {
  number: number;
  thread: Worker | null;
  taken: Int32Array<SharedArrayBuffer>;
  /** Its socket, held open here as well; -1 before it has one. */
  socket: number;
  isOpen: boolean;
  isTelling: boolean;
  isRefused: boolean;
  delayMs: number;
  /** Of all threads before this one together, and of this one. */
  before: Counts | null;
  counts: Counts | null;
};

export type WorkersOptions = WatcherOptions & {
  /** What `config` was read from. */
  flags: Flags;
  /** Another thread than the usual, for tests of its faults. */
  worker?: URL;
};

export class Workers {
  readonly line = { counters: new Counters(), table: { count: 0 } };
  /** What metrics ask of a source, as of the last second. */
  readonly capture: Pick<LiveSource, "kind" | "watches" | "droppedOnAny" | "refused">;
  readonly sightings: Pick<Sightings, "sampling" | "oneWay">;
  /** Threads that ended by a fault. */
  faults = 0;
  readonly #options: WorkersOptions;
  #calls: SystemCalls | null = null;
  readonly #places: readonly Place[];
  readonly #sum: CoverageSum;
  #started = 0;
  #group: number | null = null;
  #kind: LiveSource["kind"] = "ring";
  #hasBegun = false;
  #isEnding = false;

  private constructor(options: WorkersOptions) {
    const { workers } = options.config;
    this.#options = options;
    this.#sum = new CoverageSum(workers);
    this.#places = Array.from({ length: workers }, (_, number) => ({
      ...{ number, thread: null, socket: -1, isOpen: false, isTelling: false, counts: null },
      isRefused: false,
      ...{ taken: new Int32Array(new SharedArrayBuffer(4)), delayMs: RESTART_MS, before: null },
    }));
    const all = () => this.#living();
    const sum = (of: (counts: Counts) => number) =>
      this.#ever().reduce((total, counts) => total + of(counts), 0);
    const kind = () => this.#kind;
    this.sightings = {
      sampling: options.config.sample?.rate ?? 1,
      oneWay: () => addedOneWay(all().flatMap(({ oneWay }) => oneWay)),
    };
    this.capture = {
      get kind() {
        return kind();
      },
      watches: () => addedWatches(all().flatMap(({ watches }) => watches)),
      droppedOnAny: () => sum((counts) => counts.droppedOnAny),
      refused: () => sum((counts) => counts.refused),
    };
  }

  /** Opens captures one by one, which hand over nothing before `begin`; throws `ConfigError`. */
  static async open(options: WorkersOptions): Promise<Workers> {
    const workers = new Workers(options);
    try {
      for (const place of workers.#places) await workers.#start(place);
      return workers;
    } catch (error) {
      await workers.end();
      throw error;
    }
  }

  /** Starts a thread; resolves when its capture is open. */
  #start(place: Place): Promise<void> {
    const { config, flags, worker } = this.#options;
    const taken = new Int32Array(new SharedArrayBuffer(4));
    const run = `${this.#options.run}w${++this.#started}`;
    // What the first could open the others must: flows are dealt out between equals.
    const capture = this.#group === null || this.#kind === "file" ? config.capture : this.#kind;
    const task: Task = { flags: { ...flags, capture }, run, group: this.#group, taken };
    const thread = new Worker(worker ?? WORKER, { workerData: task });
    Object.assign(place, { thread, taken, isOpen: false, isTelling: false });
    return new Promise((resolve, reject) => {
      let fault: unknown = null;
      thread.on("message", (word: Word) => {
        if (word.is === "opened") resolve();
        if (word.is === "refused") {
          reject(new ConfigError(word.code as `CONFIG_${string}`, word.text));
        }
        this.#hear(place, word);
      });
      thread.on("error", (error) => (fault = error));
      thread.on("exit", () => {
        reject(fault instanceof Error ? fault : new Error("a worker ended"));
        this.#ended(place, fault);
      });
    });
  }

  #hear(place: Place, word: Word): void {
    const { log, onObservation, onCoverage } = this.#options;
    switch (word.is) {
      case "socket":
        return this.#hold(place, word.fd, word.group);
      case "opened":
        this.#kind = word.kind;
        place.isOpen = true;
        place.isRefused = false;
        if (this.#hasBegun) this.#order(place, "begin");
        return;
      case "log":
        return log(word.level, `worker ${place.number + 1}: ${word.text}`);
      case "observations":
        for (const row of word.rows) onObservation(row);
        Atomics.add(place.taken, 0, 1);
        Atomics.notify(place.taken, 0);
        return;
      case "coverage":
        place.delayMs = RESTART_MS;
        return this.#sum.add(place.number, word.index, word.row);
      case "told":
        place.isTelling = false;
        if (this.#places.some(({ isTelling }) => isTelling)) return;
        for (const { index, row } of this.#sum.take()) onCoverage(row, index);
        return;
      case "counts":
        place.counts = word.counts;
        return this.#count();
      case "fault":
        this.faults++;
        log("error", `worker ${place.number + 1} ended: ${word.text}; it is started anew`);
        return;
      case "refused":
        return; // told by `open`, or in the log when it is started anew
    }
  }

  /** Keeps a socket's place in the group, and gives up that of the socket before it. */
  #hold(place: Place, fd: number, group: number): void {
    this.#group = group;
    const before = place.socket;
    this.#calls ??= new SystemCalls();
    place.socket = this.#calls.duplicate(fd);
    if (before >= 0) this.#calls.close(before);
  }

  #ended(place: Place, fault: unknown): void {
    const wasTelling = place.isTelling;
    Object.assign(place, { thread: null, isOpen: false, isTelling: false });
    if (this.#isEnding || !this.#hasBegun) return;
    // What a thread cannot close itself, as when its memory is spent, would stay open for ever.
    if (fault !== null) throw fault;
    const { before, counts } = place;
    place.before = before && counts ? addedCounts(before, counts) : (counts ?? before);
    place.counts = null;
    if (wasTelling) this.#hear(place, { is: "told" });
    setTimeout(() => {
      if (this.#isEnding) return;
      this.#start(place).catch((error: Error) => {
        if (place.isRefused) return; // told once for as long as it lasts
        place.isRefused = true;
        this.#options.log("error", `worker ${place.number + 1} does not start: ${error.message}`);
      });
    }, place.delayMs);
    place.delayMs = Math.min(place.delayMs * 2, RESTART_LIMIT_MS);
  }

  #order(place: Place, order: Order): void {
    place.thread?.postMessage(order);
  }

  /** What the threads that run have counted. */
  #living(): Counts[] {
    return this.#places.flatMap(({ counts }) => counts ?? []);
  }

  /** The same, and what those before them had. */
  #ever(): Counts[] {
    return [...this.#places.flatMap(({ before }) => before ?? []), ...this.#living()];
  }

  #count(): void {
    const { counters, table } = this.line;
    Object.assign(counters, this.#ever().reduce(addedCounts).counters);
    table.count = this.#living().reduce((sum, { flows }) => sum + flows, 0);
  }

  begin(): void {
    this.#hasBegun = true;
    for (const place of this.#places) this.#order(place, "begin");
  }

  /** What was covered since this was last told is asked for, and told when all have spoken. */
  tellCoverage(): void {
    for (const place of this.#places) {
      if (!place.isOpen) continue;
      place.isTelling = true;
      this.#order(place, "coverage");
    }
  }

  /** Has all that is known told, and ends the threads. */
  async end(): Promise<void> {
    this.#isEnding = true;
    const ends = this.#places.flatMap((place) => {
      const { thread } = place;
      if (thread === null) return [];
      const end = new Promise((resolve) => thread.once("exit", resolve));
      this.#order(place, "end");
      return [end];
    });
    const timer = setTimeout(() => {
      for (const { thread } of this.#places) void thread?.terminate();
    }, END_MS);
    await Promise.all(ends);
    clearTimeout(timer);
    for (const { index, row } of this.#sum.take(true)) this.#options.onCoverage(row, index);
    for (const { socket } of this.#places) if (socket >= 0) this.#calls?.close(socket);
  }
}

/** One for each interface, with the counts of all. */
function addedWatches(watches: readonly Watch[]): Watch[] {
  const sums = new Map<number, Watch>();
  for (const watch of watches) {
    const sum = sums.get(watch.index);
    if (sum === undefined) sums.set(watch.index, { ...watch });
    else {
      sum.delivered += watch.delivered;
      sum.dropped += watch.dropped;
      sum.cutOff += watch.cutOff;
    }
  }
  return [...sums.values()];
}

/** Of two threads that are gone: only what is counted for ever. */
function addedCounts(one: Counts, other: Counts): Counts {
  const counters = { ...one.counters, stopped: one.counters.stopped.slice() };
  for (const name of Object.keys(counters) as Counted[]) {
    if (typeof counters[name] === "number") counters[name] += other.counters[name];
  }
  other.counters.stopped.forEach((n, stop) => (counters.stopped[stop]! += n));
  const droppedOnAny = one.droppedOnAny + other.droppedOnAny;
  const refused = one.refused + other.refused;
  return { counters, flows: 0, watches: [], droppedOnAny, refused, oneWay: [] };
}

/** One for each interface, with the connections of all. */
function addedOneWay(counts: readonly OneWay[]): OneWay[] {
  const sums = new Map<string, WayCounts>();
  for (const { name, ...ways } of counts) {
    sums.set(name, addedWays(sums.get(name) ?? NO_WAYS, ways));
  }
  return Array.from(sums, ([name, ways]) => ({ name, ...ways }));
}
