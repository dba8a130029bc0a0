/**
 * Runs several watchers, each in a thread of its own, which share what comes: the kernel deals
 * frames out by flow (`capture/fanout-program.ts`). What they tell is told as if by one.
 *
 * A thread may end by a fault at any point: it throws, its memory is spent, or it does not answer
 * and is ended from here. What it left open is closed then (`capture/holdings.ts`), and another is
 * started in its place. The kernel deals by place in the group: so that the flows of others stay
 * where they are, the socket of the one that is gone is held open until the next one's has joined,
 * and takes its place.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { getHeapStatistics } from "node:v8";
import { Worker } from "node:worker_threads";
import type { LiveSource, Watch } from "./capture/frame-source.ts";
import { Holdings, makeHeld } from "./capture/holdings.ts";
import type { Held } from "./capture/holdings.ts";
import { SystemCalls } from "./capture/system-calls.ts";
import { CoverageSum } from "./coverage-sum.ts";
import { Counters } from "./counters.ts";
import { NO_WAYS, addedWays } from "./directions.ts";
import type { WayCounts } from "./directions.ts";
import { RestartDelay } from "./restart-delay.ts";
import type { Sightings } from "./sightings.ts";
import type { WatcherOptions } from "./watcher.ts";
import type { Counted, Counts, OneWay, Order, Task, Word } from "./worker-words.ts";
import type { Flags } from "../protocol/settings.ts";
import { ConfigError } from "../protocol/config-error.ts";

/** Milliseconds that the threads have to tell the rest. */
const END_MS = 10_000;
/** Milliseconds for which one that is cut short is waited for. */
const CUT_SHORT_MS = 2000;
/** Milliseconds in which a thread answers the order to tell its coverage. */
const ANSWER_MS = 10_000;
/**
 * That time is counted in looks, between which this thread reads what was answered: no other one is
 * blamed for a time in which this one stood still. To open a capture more of them may pass.
 */
const LOOKS = 10;
const OPENING_LOOKS = 6 * LOOKS;
/**
 * A thread's own memory for objects, in MiB, and in bytes for each flow that it has room for: about
 * twice what is needed when no two handshakes are alike (4.4 KB each of mutual TLS 1.2, measured).
 * At that limit the thread ends, and not the process. Rings and tables are apart from it. It is
 * never more than the engine allows this thread.
 */
const HEAP_MIB = 256;
const HEAP_FLOW_BYTES = 8 << 10;
/**
 * The young part of it, as large as the launcher makes it. At its limit the engine allows a thread
 * 16 MiB to end in (node_worker.cc, `NearHeapLimit`), which must hold what outlives one collection.
 * A single object that is larger than that still ends the process (measured).
 */
const YOUNG_MIB = 12;

/** A thread's file, as sources or built. */
const own = import.meta.url;
const WORKER = new URL(`./watcher-worker${own.slice(own.lastIndexOf("."))}`, own);

type Place = {
  number: number;
  thread: Worker | null;
  /** What the thread has open. */
  held: Held;
  taken: Int32Array<SharedArrayBuffer>;
  /** Of the thread before, until this one's has joined; else -1. */
  socket: number;
  isOpen: boolean;
  /** A thread was open here once: it is started anew for as long as it takes. */
  wasOpen: boolean;
  isTelling: boolean;
  /** Looks since something was asked of it that it has not answered. */
  silentLooks: number;
  /** Why the thread ends, or ended. */
  fault: Error | null;
  /** It is told that none can be started here. */
  isRefused: boolean;
  delay: RestartDelay;
  /** Of all threads before this one together, and of this one. */
  before: Counts | null;
  counts: Counts | null;
};

export type WorkersOptions = WatcherOptions & {
  /** What `config` was read from. */
  flags: Flags;
  /** For tests of faults: another thread than the usual, another time than `ANSWER_MS`. */
  worker?: URL;
  answerMs?: number;
};

export class Workers {
  readonly line = { counters: new Counters(), table: { count: 0 } };
  /** What metrics ask of a source, as of the last second. */
  readonly capture: Pick<LiveSource, "kind" | "watches" | "droppedOnAny" | "refused">;
  readonly sightings: Pick<Sightings, "sampling" | "oneWay">;
  /** Threads that ended by a fault. */
  faults = 0;
  readonly #options: WorkersOptions;
  readonly #heapMib: number;
  readonly #answerMs: number;
  readonly #looks: NodeJS.Timeout;
  #calls: SystemCalls | null = null;
  readonly #places: readonly Place[];
  readonly #sum: CoverageSum;
  #started = 0;
  #group: number | null = null;
  #kind: LiveSource["kind"] = "ring";
  #hasBegun = false;
  #isEnding = false;

  private constructor(options: WorkersOptions) {
    const { workers, flows, ringMib } = options.config;
    this.#options = options;
    this.#heapMib = Math.min(
      HEAP_MIB + Math.ceil((flows / workers) * (HEAP_FLOW_BYTES / 2 ** 20)),
      Math.floor(getHeapStatistics().heap_size_limit / 2 ** 20),
    );
    this.#answerMs = options.answerMs ?? ANSWER_MS;
    this.#looks = setInterval(() => this.#look(), this.#answerMs / LOOKS);
    this.#sum = new CoverageSum(workers);
    this.#places = Array.from({ length: workers }, (_, number) => ({
      ...{ number, thread: null, held: makeHeld(ringMib << 20), socket: -1, silentLooks: 0 },
      ...{ isOpen: false, wasOpen: false, isTelling: false, isRefused: false, fault: null },
      ...{ taken: new Int32Array(new SharedArrayBuffer(4)), delay: new RestartDelay() },
      ...{ before: null, counts: null },
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
    const { held } = place;
    const task: Task = { flags: { ...flags, capture }, run, group: this.#group, held, taken };
    const thread = new Worker(worker ?? WORKER, {
      workerData: task,
      resourceLimits: {
        maxOldGenerationSizeMb: this.#heapMib,
        maxYoungGenerationSizeMb: YOUNG_MIB,
      },
    });
    Object.assign(place, { thread, taken, silentLooks: 0, fault: null });
    return new Promise((resolve, reject) => {
      thread.on("message", (word: Word) => {
        this.#hear(place, word);
        if (word.is === "opened") resolve();
      });
      thread.on("error", (error: unknown) => {
        place.fault = error instanceof Error ? error : new Error(String(error));
      });
      thread.on("exit", () => {
        place.fault ??= new Error("nobody has asked for it");
        reject(place.fault);
        this.#ended(place, place.fault);
      });
    });
  }

  #hear(place: Place, word: Word): void {
    const { log, onObservation } = this.#options;
    switch (word.is) {
      case "opened":
        this.#kind = word.kind;
        this.#group = word.group;
        Object.assign(place, { isOpen: true, wasOpen: true, isRefused: false, silentLooks: 0 });
        this.#giveUpSocket(place);
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
        place.delay.reset();
        return this.#sum.add(place.number, word.index, word.row);
      case "told":
        place.isTelling = false;
        return this.#told();
      case "counts":
        place.counts = word.counts;
        return this.#count();
      case "refused":
        place.fault = new ConfigError(word.code as `CONFIG_${string}`, word.text);
        return;
    }
  }

  /** Hands on what was covered, once nobody is asked for it any more. */
  #told(): void {
    if (this.#places.some(({ isTelling }) => isTelling)) return;
    for (const { index, row } of this.#sum.take()) this.#options.onCoverage(row, index);
  }

  /**
   * Ends each thread that has not answered for too long; what the others covered goes on. Where one
   * cannot be ended, as in a call that the kernel does not come back from, its share of the flows
   * would be seen by nobody for ever, and even an exit would wait for it.
   */
  #look(): void {
    for (const place of this.#places) {
      const { thread, isOpen, isTelling, fault } = place;
      if (thread === null || (isOpen && !isTelling && fault === null)) continue;
      const looks = ++place.silentLooks;
      const limit = isOpen ? LOOKS : OPENING_LOOKS;
      if (looks === limit) {
        const seconds = (looks * this.#answerMs) / LOOKS / 1000;
        place.fault = new Error(`it has not answered for ${seconds} s`);
        place.isTelling = false;
        void thread.terminate();
        if (isTelling) this.#told();
      } else if (looks === limit + LOOKS) {
        const told = `worker ${place.number + 1} cannot be ended: the agent is, to be started anew`;
        this.#options.log("error", told);
        process.kill(process.pid, "SIGKILL");
      }
    }
  }

  #ended(place: Place, fault: Error): void {
    const { isOpen, isTelling, before, counts } = place;
    Object.assign(place, { thread: null, isOpen: false, isTelling: false, counts: null });
    place.before = before && counts ? addedCounts(before, counts) : (counts ?? before);
    this.#closeLeft(place);
    if (isTelling) this.#told();
    if (this.#isEnding || !place.wasOpen) return; // else told by `open`
    this.#tellFault(place, isOpen, fault);
    setTimeout(() => {
      if (!this.#isEnding) this.#start(place).catch(() => {}); // told when its thread has ended
    }, place.delay.next());
  }

  #tellFault(place: Place, wasOpen: boolean, { message }: Error): void {
    const who = `worker ${place.number + 1}`;
    if (!(place.fault instanceof ConfigError)) this.faults++;
    if (wasOpen) this.#options.log("error", `${who} ended: ${message}; it is started anew`);
    else if (!place.isRefused) {
      place.isRefused = true; // told once for as long as it lasts
      this.#options.log("error", `${who} does not start: ${message}`);
    }
  }

  /**
   * Closes what a thread that is gone had open, but for its socket: that keeps the place in the
   * group, unless the one before it still does.
   */
  #closeLeft(place: Place): void {
    const holdings = new Holdings(place.held);
    if (holdings.isEmpty) return;
    this.#calls ??= new SystemCalls();
    const socket = holdings.release(this.#calls);
    const isKept = place.wasOpen && place.socket < 0 && !this.#isEnding;
    if (isKept) place.socket = socket;
    else if (socket >= 0) this.#calls.close(socket);
  }

  #giveUpSocket(place: Place): void {
    if (place.socket >= 0) this.#calls?.close(place.socket);
    place.socket = -1;
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
      if (!place.isOpen || place.isTelling || place.fault !== null) continue;
      Object.assign(place, { isTelling: true, silentLooks: 0 });
      this.#order(place, "coverage");
    }
  }

  /** Has all that is known told, and ends the threads. */
  async end(): Promise<void> {
    this.#isEnding = true;
    clearInterval(this.#looks);
    const ends = this.#places.flatMap((place) => {
      const { thread } = place;
      if (thread === null) return [];
      const end = new Promise((resolve) => thread.once("exit", resolve));
      if (place.isOpen) this.#order(place, "end");
      else void thread.terminate(); // it has nothing to tell yet
      return [end];
    });
    const timer = setTimeout(() => {
      for (const { thread, number } of this.#places) {
        if (thread === null) continue;
        this.#options.log("error", `worker ${number + 1} does not end, and is cut short`);
        void thread.terminate();
      }
    }, END_MS);
    await Promise.race([Promise.all(ends), sleep(END_MS + CUT_SHORT_MS, null, { ref: false })]);
    clearTimeout(timer);
    for (const { index, row } of this.#sum.take(true)) this.#options.onCoverage(row, index);
    for (const place of this.#places) this.#giveUpSocket(place);
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
  const counters = {
    ...{ ...one.counters, stopped: one.counters.stopped.slice() },
    unread: new Map(one.counters.unread),
  };
  for (const name of Object.keys(counters) as Counted[]) {
    if (typeof counters[name] === "number") counters[name] += other.counters[name];
  }
  other.counters.stopped.forEach((n, stop) => (counters.stopped[stop]! += n));
  for (const [kind, n] of other.counters.unread) {
    counters.unread.set(kind, (counters.unread.get(kind) ?? 0) + n);
  }
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
