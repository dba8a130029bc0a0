/** Brings observations and coverage to the collector: batched, spooled, sent, acknowledged. */
import { Packr, Unpackr } from "msgpackr";
import type { Coverage } from "../../protocol/coverage.ts";
import type { Observation } from "../../protocol/observation.ts";
import type { Clock, CollectorMessage, Hello, SampleTold } from "../../protocol/uplink.ts";
import { BATCH_ROWS_LIMIT, UPLINK_VERSION } from "../../protocol/uplink-limits.ts";
import { Batch, renumbered } from "./batch.ts";
import type { Closed } from "./batch.ts";
import { Discards } from "./discards.ts";
import type { Connect, Link } from "./link.ts";
import { Spool, type Log, type SpoolFiles, type Unnumbered } from "./spool.ts";

/** Rows that wait in memory for a disk that takes none. */
const PENDING_ROWS_LIMIT = 20_000;
/** Batches spooled with one fsync. */
const GROUP_LIMIT = 16;
const WELCOME_TIMEOUT_MS = 10_000;
/** The collector hears the agent's clock so often. */
const CLOCK_INTERVAL_MS = 30_000;

export type UplinkOptions = {
  node: string;
  software: string;
  /** Which flows are read, as the collector is told. */
  sample?: SampleTold;
  spoolDirectory: string;
  spoolBytesLimit?: number;
  /** Opens links: `tlsLink` of `link.ts`. */
  connect: Connect;
  log: Log;
  batchRowsLimit?: number;
  batchAgeMs?: number;
  /** The collector hears this agent's clock so often. */
  clockIntervalMs?: number;
  /** Batches sent and not yet acknowledged. */
  inFlightLimit?: number;
  backoffMinMs?: number;
  backoffMaxMs?: number;
  files?: SpoolFiles;
};

type Unneeded = "files" | "spoolBytesLimit" | "sample";

/** Rows by where they are; at rest, `carried + offered` is the sum of all below it. */
export type UplinkCounters = {
  /** Found in the spool when it was opened. */
  carried: number;
  offered: number;
  pending: number;
  spooled: number;
  acknowledged: number;
  discarded: Record<Discard, number>;
};

/**
 * disk: it took nothing for too long; full: the spool's cap; damaged: by the disk; malformed,
 * too-large: no row of the protocol; refused: by the collector; stopped: offered or pending then.
 */
export type Discard =
  "disk" | "full" | "damaged" | "malformed" | "too-large" | "refused" | "stopped";

const packr = new Packr({ useRecords: true });
const unpackr = new Unpackr({ useRecords: true });

/**
 * Invariants: a batch is sent only after it is on the disk; at most `inFlightLimit` are unanswered;
 * on each link they rise by number, beginning after what the welcome acknowledged.
 */
export class Uplink {
  readonly #options: Required<Omit<UplinkOptions, Unneeded>> & Pick<UplinkOptions, "sample">;
  readonly #spool: Spool;
  readonly #discards: Discards;
  readonly #carried: number;
  readonly #discarded = { disk: 0, malformed: 0, "too-large": 0, stopped: 0 };
  readonly #running: Promise<void>;
  readonly #open = new Batch();
  /** With the numbers that they will most likely have. */
  #closed: Closed[] = [];
  #offered = 0;
  #pending = 0;
  #ageTimer: NodeJS.Timeout | null = null;
  #spooling: Promise<void> | null = null;
  #stopping = false;
  readonly #pauses = new Set<() => void>();
  #giveUp: () => void = () => {};
  readonly #givenUp = new Promise<null>((resolve) => (this.#giveUp = () => resolve(null)));
  #link: Link | null = null;
  #welcomed = false;
  /** Something was acknowledged on the link in hand. */
  #moved = false;
  #next = 1;
  /** Highest number that the collector can know: sent in this run, or found in the spool. */
  #highestSent: number;
  /** Batches to send one at a time, after a refusal; the last batch given up for one. */
  #oneByOne = 0;
  #passOver = 0;
  /** When each batch in flight was sent, by number. */
  readonly #inFlight = new Map<number, number>();
  #pumping = false;
  #pumpAgain = false;
  #clock: { tripMs: number; offsetMs: number }[] = [];
  #told = "";

  private constructor(options: UplinkOptions, spool: Spool, discards: Discards) {
    const rows = Math.min(options.batchRowsLimit ?? BATCH_ROWS_LIMIT, BATCH_ROWS_LIMIT);
    this.#options = {
      batchAgeMs: 1000,
      inFlightLimit: 8,
      backoffMinMs: 250,
      backoffMaxMs: 30_000,
      clockIntervalMs: CLOCK_INTERVAL_MS,
      ...options,
      batchRowsLimit: rows,
    };
    this.#spool = spool;
    this.#discards = discards;
    this.#carried = spool.rowsHeld;
    this.#highestSent = spool.nextSeq - 1;
    this.#running = this.#run();
  }

  static async open(options: UplinkOptions): Promise<Uplink> {
    const discards = new Discards();
    const spool = await Spool.open({
      directory: options.spoolDirectory,
      log: options.log,
      ...(options.spoolBytesLimit === undefined ? {} : { bytesLimit: options.spoolBytesLimit }),
      ...(options.files === undefined ? {} : { files: options.files }),
      onGivenUp: (rows, payload) => discards.noteBatch(rows, payload, Date.now()),
    });
    return new Uplink(options, spool, discards);
  }

  /** Takes a row on its way. False when it had to be discarded, which is counted by reason. */
  offer(row: Observation | Coverage): boolean {
    this.#offered++;
    if (this.#stopping) return this.#discard("stopped", row);
    if (this.#pending >= PENDING_ROWS_LIMIT) return this.#discard("disk", row);
    // What the collector would refuse must not stand at the head of the spool.
    let answer = this.#open.offer(row);
    if (answer === "full") {
      this.#closeBatch();
      answer = this.#open.offer(row);
    }
    if (answer === "malformed") return this.#discard("malformed", row);
    if (answer !== "taken") return this.#discard("too-large", row);
    this.#pending++;
    if (this.#open.rows >= this.#options.batchRowsLimit) this.#closeBatch();
    else this.#ageTimer ??= setTimeout(() => this.#closeBatch(), this.#options.batchAgeMs);
    return true;
  }

  /** Offers what was given up since this was last called, by interface and time. */
  tellDiscards(source: Coverage["source"]): void {
    for (const row of this.#discards.take(source)) this.offer(row);
  }

  get connected(): boolean {
    return this.#welcomed;
  }

  /**
   * The collector's clock less ours, in milliseconds, from the quickest of the last exchanges (as
   * NTP chooses); null before the first welcome. It errs by at most half of that exchange's time.
   */
  get clockOffsetMs(): number | null {
    const best = this.#clock.toSorted((a, b) => a.tripMs - b.tripMs)[0];
    return best ? best.offsetMs : null;
  }

  get counters(): UplinkCounters {
    return {
      carried: this.#carried,
      offered: this.#offered,
      pending: this.#pending,
      spooled: this.#spool.rowsHeld,
      acknowledged: this.#spool.rowsAcknowledged,
      discarded: { ...this.#discarded, ...this.#spool.discarded },
    };
  }

  get spoolBytes(): number {
    return this.#spool.bytes;
  }

  /** Spools what is open, waits up to `withinMs` for acknowledgements, and closes everything. */
  async stop(withinMs = 3000): Promise<void> {
    if (this.#stopping) return this.#running;
    this.#stopping = true;
    const until = Date.now() + withinMs;
    this.#closeBatch();
    while (Date.now() < until) {
      const idle = this.#pending === 0 && (!this.#welcomed || this.#spool.rowsHeld === 0);
      if (idle) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    this.#giveUp();
    for (const end of this.#pauses) end();
    this.#link?.close("agent stops");
    await this.#running;
    await this.#spooling;
    this.#discarded.stopped += this.#pending;
    this.#pending = 0;
    await this.#spool.close();
  }

  #discard(
    reason: "disk" | "malformed" | "too-large" | "stopped",
    row: Observation | Coverage,
  ): false {
    this.#discarded[reason]++;
    this.#discards.note(row);
    return false;
  }

  #closeBatch(): void {
    if (this.#ageTimer) clearTimeout(this.#ageTimer);
    this.#ageTimer = null;
    if (this.#open.rows > 0) {
      const seq = this.#spool.nextSeq + this.#closed.length;
      this.#closed.push(this.#open.close(seq, Date.now()));
    }
    if (this.#closed.length > 0) this.#spooling ??= this.#drain();
  }

  /** Spools closed batches, one fsync for each group, until there are none. */
  async #drain(): Promise<void> {
    let waitMs = this.#options.backoffMinMs;
    while (this.#closed.length > 0) {
      const group = this.#closed.slice(0, GROUP_LIMIT);
      const failure = await this.#spool.append(group.map(toUnnumbered));
      if (failure === null) {
        this.#closed.splice(0, group.length);
        this.#pending -= group.reduce((sum, { rows }) => sum + rows, 0);
        waitMs = this.#options.backoffMinMs;
        void this.#pump();
        continue;
      }
      if (this.#stopping) break;
      await this.#pause(waitMs);
      waitMs = Math.min(waitMs * 2, this.#options.backoffMaxMs);
    }
    this.#spooling = null; // in the same step in which nothing was left, so none is left behind
  }

  async #run(): Promise<void> {
    const { backoffMinMs, backoffMaxMs, log } = this.#options;
    let waitMs = backoffMinMs;
    while (!this.#stopping) {
      const since = Date.now();
      const why = await this.#converse();
      if (this.#stopping) return;
      // A welcome alone is no reason to hurry: the collector may be unable to store.
      if (this.#moved || Date.now() - since > backoffMaxMs) waitMs = backoffMinMs;
      if (this.#told !== why) log("warn", `uplink: ${why}; trying again`);
      this.#told = why;
      // Jitter, so that the agents of a cluster do not come back in one moment.
      await this.#pause(waitMs * (0.5 + Math.random() / 2));
      waitMs = Math.min(waitMs * 2, backoffMaxMs);
    }
  }

  /** Waits, but not beyond the moment at which the uplink is told to stop. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#pauses.add(end);
    });
  }

  /** Holds one conversation from hello to close; tells why it ended. */
  async #converse(): Promise<string> {
    this.#moved = false;
    let taking: Promise<void> = Promise.resolve();
    let link: Link | null = null;
    let end: (why: string) => void = () => {};
    const ended = new Promise<string>((resolve) => (end = resolve));
    const message = (bytes: Uint8Array) => {
      taking = taking
        .then(() => this.#take(link!, bytes, sentAt))
        .catch((error: unknown) => {
          link!.close((error as Error).message);
        });
    };
    let sentAt = 0;
    try {
      const connecting = this.#options.connect({ message, closed: (why) => end(why) });
      link = await Promise.race([connecting, this.#givenUp]);
      if (link === null) {
        connecting.then(
          (late) => late.close("agent stops"),
          () => {},
        );
        return "stopped while connecting";
      }
    } catch (error) {
      return (error as Error).message;
    }
    this.#link = link;
    if (this.#stopping) link.close("agent stops");
    sentAt = Date.now();
    const late = setTimeout(() => {
      if (!this.#welcomed) link.close("no welcome came");
    }, WELCOME_TIMEOUT_MS);
    link.send(packr.pack(this.#hello(sentAt)));
    const clock = setInterval(() => {
      const told: Clock = { type: "clock", clock_ms: Date.now() };
      if (this.#welcomed) link.send(packr.pack(told));
    }, this.#options.clockIntervalMs);
    const why = await ended;
    clearTimeout(late);
    clearInterval(clock);
    this.#link = null;
    await taking;
    this.#welcomed = false;
    this.#inFlight.clear();
    return why;
  }

  #hello(nowMs: number): Hello {
    return {
      type: "hello",
      version: UPLINK_VERSION,
      node: this.#options.node,
      spool: this.#spool.name,
      first_seq: this.#spool.firstSeq,
      software: this.#options.software,
      clock_ms: nowMs,
      ...(this.#options.sample ? { sample: this.#options.sample } : {}),
    };
  }

  async #take(link: Link, bytes: Uint8Array, helloAt: number): Promise<void> {
    if (link !== this.#link) return;
    const message = parseCollectorMessage(bytes);
    if (message === null) throw new Error("the collector's message is not understood");
    if (message.type === "refuse") {
      await this.#suspect(message.code);
      throw new Error(`refused: ${message.code}: ${message.text}`);
    }
    if (message.type === "welcome") {
      if (this.#welcomed) throw new Error("welcomed twice");
      return this.#begin(message.acknowledged, message.clock_ms, helloAt);
    }
    if (!this.#welcomed || message.seq > this.#highestSent) {
      throw new Error(`batch ${message.seq} was acknowledged and never sent`);
    }
    const sentAt = this.#inFlight.get(message.seq);
    if (sentAt !== undefined) this.#measure(sentAt, message.clock_ms);
    for (const seq of this.#inFlight.keys()) if (seq <= message.seq) this.#inFlight.delete(seq);
    this.#moved = true;
    if (this.#oneByOne > 0) this.#oneByOne--;
    this.#tellConnected();
    await this.#spool.acknowledge(message.seq);
    void this.#pump();
  }

  /**
   * One batch that the collector does not understand (it may be of an older release) must not hold
   * up all others: they are sent one by one, and the one that is refused again is given up.
   */
  async #suspect(code: string): Promise<void> {
    const [seq] = this.#inFlight.keys();
    if ((code !== "bad-message" && code !== "too-large") || seq === undefined) return;
    if (this.#oneByOne > 0) {
      await this.#spool.refuse(seq);
      this.#passOver = seq;
      this.#options.log("error", `uplink: batch ${seq} is refused (${code}); passed over`);
    }
    this.#oneByOne = this.#options.inFlightLimit;
  }

  async #begin(acknowledged: number, clockMs: number, helloAt: number): Promise<void> {
    if (acknowledged > this.#highestSent) {
      // The disk went back in time: numbers given before would be taken for duplicates.
      await this.#spool.rename();
      throw new Error(`the collector holds batch ${acknowledged}, unknown here: new numbering`);
    }
    this.#measure(helloAt, clockMs);
    await this.#spool.acknowledge(acknowledged);
    this.#next = Math.max(acknowledged, this.#passOver) + 1;
    this.#welcomed = true;
    if (this.#spool.rowsHeld === 0) this.#tellConnected();
    void this.#pump();
  }

  /** Told once batches get through, so that a collector that cannot store is one line, not many. */
  #tellConnected(): void {
    if (this.#told !== "connected") this.#options.log("info", "uplink: connected");
    this.#told = "connected";
  }

  /** Sends from the spool while there is room in flight. */
  async #pump(): Promise<void> {
    this.#pumpAgain = true;
    if (this.#pumping) return;
    this.#pumping = true;
    const { inFlightLimit } = this.#options;
    const link = this.#link;
    try {
      while (this.#welcomed && this.#link && this.#pumpAgain) {
        if (this.#inFlight.size >= (this.#oneByOne > 0 ? 1 : inFlightLimit)) break;
        this.#pumpAgain = false;
        const current = this.#link;
        const batch = await this.#spool.read(this.#next);
        if (current !== this.#link || !this.#welcomed) {
          this.#pumpAgain = true;
          continue;
        }
        if (batch === null) continue;
        this.#next = batch.seq + 1;
        this.#highestSent = Math.max(this.#highestSent, batch.seq);
        this.#inFlight.set(batch.seq, Date.now());
        current.send(batch.payload);
        this.#pumpAgain = true;
      }
    } catch (error) {
      link?.close(`spool: ${(error as Error).message}`);
    } finally {
      this.#pumping = false;
    }
  }

  /** The middle of an exchange is taken for the moment at which the other side read its clock. */
  #measure(sentAt: number, clockMs: number): void {
    const now = Date.now();
    this.#clock.push({ tripMs: now - sentAt, offsetMs: clockMs - (sentAt + now) / 2 });
    if (this.#clock.length > 8) this.#clock.shift();
  }
}

function toUnnumbered(closed: Closed): Unnumbered {
  const { rows, bytes } = closed;
  return { rows, encode: (seq) => (seq === closed.seq ? bytes : renumbered(closed, seq)) };
}

/** Null when the bytes are no message of a collector's. */
function parseCollectorMessage(bytes: Uint8Array): CollectorMessage | null {
  let said: Record<string, unknown>;
  try {
    said = unpackr.unpack(bytes) as Record<string, unknown>;
  } catch {
    return null;
  }
  if (typeof said !== "object" || said === null) return null;
  const isCount = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  const timed = typeof said["clock_ms"] === "number";
  if (said["type"] === "welcome" && timed && isCount(said["acknowledged"])) {
    return said as CollectorMessage;
  }
  if (said["type"] === "ack" && timed && isCount(said["seq"])) return said as CollectorMessage;
  const refused = typeof said["code"] === "string" && typeof said["text"] === "string";
  return said["type"] === "refuse" && refused ? (said as CollectorMessage) : null;
}
