/** Leads the collector's side of the uplink protocol, knowing no sockets. */
import { Packr, Unpackr } from "msgpackr";
import { Compile } from "typebox/compile";
import { Batch, Clock, Hello, REFUSALS } from "../../protocol/uplink.ts";
import { UPLINK_VERSION } from "../../protocol/uplink-limits.ts";
import type { CollectorMessage, RefusalCode, SampleTold } from "../../protocol/uplink.ts";
import type { Store } from "../store/store.ts";
import { whyUnjudgeable } from "./judgeable.ts";
import { describeSamples, groupSamples } from "./samples.ts";
import type { SampleGroup } from "./samples.ts";

export type Log = (level: "info" | "warn" | "error", text: string) => void;

export type IngestCounters = {
  /** Batches made durable; those that were before; numbers that never came. */
  batches: number;
  duplicates: number;
  lost: number;
  observations: number;
  coverage: number;
  refused: Record<RefusalCode, number>;
  /** Handshakes that came to nothing, by reason. */
  handshakes: Record<string, number>;
};

/** The socket, as far as a conversation is concerned. */
export type Reply = {
  send(message: Uint8Array): void;
  close(code: number, reason: string): void;
  terminate(): void;
};

const packr = new Packr({ useRecords: true });
const unpackr = new Unpackr({ useRecords: true });
const helloCheck = Compile(Hello);
const batchCheck = Compile(Batch);
const clockCheck = Compile(Clock);
/** A clock that moved by less against ours is not written anew. */
const CLOCK_MOVED_MS = 50;
/** One that moved by more has stepped. */
const CLOCK_STEPPED_MS = 1_000;

/** WebSocket close codes (RFC 6455 §7.4.1 and IANA): 1008 policy, 1009 too big, 1013 later. */
const CLOSE_CODES: Partial<Record<RefusalCode, number>> = {
  "too-large": 1009,
  "not-durable": 1013,
};

/** Who is connected: at most one conversation for each node. */
export class Ingested {
  readonly counters: IngestCounters = {
    ...{ batches: 0, duplicates: 0, lost: 0, observations: 0, coverage: 0 },
    refused: Object.fromEntries(Object.keys(REFUSALS).map((code) => [code, 0])) as Record<
      RefusalCode,
      number
    >,
    handshakes: {},
  };
  readonly nodes = new Map<string, Conversation>();
  readonly store: Store;
  readonly log: Log;
  readonly clock: () => number;
  #storeFails = false;
  /** Samples that were told to differ; empty when they do not. */
  #differing = "";

  constructor(store: Store, log: Log, clock: () => number) {
    this.store = store;
    this.log = log;
    this.clock = clock;
  }

  /** One line for each change of the store's state, not for each batch. */
  tellStore(error: Error | null): void {
    if (error && !this.#storeFails) this.log("error", `ingest: cannot store: ${error.message}`);
    if (!error && this.#storeFails) this.log("info", "ingest: the store takes batches again");
    this.#storeFails = error !== null;
  }

  samples(): SampleGroup[] {
    return groupSamples(this.nodes.values());
  }

  /** One line for each change of which samples there are, not for each agent. */
  tellSamples(): void {
    const groups = this.samples();
    const isAlike = groups.length <= 1;
    const differing = isAlike ? "" : groups.map(({ rate, key }) => `${rate} ${key}`).join();
    if (differing === this.#differing) return;
    this.#differing = differing;
    if (isAlike) this.log("info", "ingest: agents read the same flows again");
    else this.log("warn", `ingest: ${describeSamples(groups)}`);
  }
}

/**
 * One agent's connection. `node` is proven by its certificate.
 *
 *     hello ──> welcomed ──> batch, batch, …      any state ──> closed (refused, replaced, lost)
 */
export class Conversation {
  readonly node: string;
  spool = "";
  /** Which flows the agent reads; null before it has told, and where it does not. */
  sample: SampleTold | null = null;
  closed = false;
  /** Batches that the store has not answered for. */
  waiting = 0;
  #welcomed = false;
  #software = "";
  #clockOffsetMs = 0;
  #durable = 0;
  #last = 0;
  readonly #all: Ingested;
  readonly #reply: Reply;

  constructor(all: Ingested, node: string, reply: Reply) {
    this.#all = all;
    this.node = node;
    this.#reply = reply;
  }

  /** Takes one message; resolves when all that follows from it is done. */
  async take(bytes: Uint8Array): Promise<void> {
    if (this.closed) return;
    let message: unknown;
    try {
      message = unpackr.unpack(bytes);
    } catch {
      return this.refuse("bad-message", "not msgpack");
    }
    if (this.#welcomed && clockCheck.Check(message)) return this.#clock(message.clock_ms);
    if (this.#welcomed) return this.#batch(message);
    this.#hello(message);
  }

  refuse(code: RefusalCode, detail = ""): void {
    if (this.closed) return;
    this.#all.counters.refused[code]++;
    const text = detail ? `${REFUSALS[code]}: ${detail}` : REFUSALS[code];
    if (code !== "not-durable") this.#all.log("warn", `ingest: ${this.node}: ${code}: ${text}`);
    this.#send({ type: "refuse", code, text });
    this.end();
    this.#reply.close(CLOSE_CODES[code] ?? 1008, code);
  }

  /** The socket is gone, or is not listened to any longer. */
  end(): void {
    this.closed = true;
    if (this.#all.nodes.get(this.node) === this) this.#all.nodes.delete(this.node);
  }

  #hello(message: unknown): void {
    const { store, nodes, clock } = this.#all;
    if (isObject(message) && message["type"] === "hello" && "version" in message) {
      if (message["version"] !== UPLINK_VERSION) return this.refuse("unsupported-version");
    }
    if (!helloCheck.Check(message)) {
      return this.refuse("bad-message", `hello expected: ${firstError(helloCheck, message)}`);
    }
    if (message.node !== this.node) return this.refuse("wrong-node", message.node);
    const other = nodes.get(this.node);
    if (other && other.spool !== message.spool) return this.refuse("duplicate-node");
    if (other) {
      other.end(); // the same agent came back before its old socket was known to be dead
      other.#reply.terminate();
    }
    this.spool = message.spool;
    this.#software = message.software;
    this.sample = message.sample ?? null;
    const { node, spool } = this;
    try {
      this.#hear(message.clock_ms);
      this.#durable = this.#last = store.acknowledged(node, spool);
    } catch (error) {
      return this.#notDurable(error as Error);
    }
    nodes.set(node, this);
    this.#all.tellSamples();
    this.#welcomed = true;
    this.#send({ type: "welcome", acknowledged: this.#durable, clock_ms: clock() });
  }

  /** Notes how far the agent's clock is from ours, less the way of one message. */
  #hear(clockMs: number): void {
    const { store, clock } = this.#all;
    const { node, spool } = this;
    const heardMs = clock();
    this.#clockOffsetMs = clockMs - heardMs;
    const clockOffsetMs = this.#clockOffsetMs;
    store.heard({ node, spool, heardMs, clockOffsetMs, software: this.#software });
  }

  #clock(clockMs: number): void {
    const movedMs = Math.abs(clockMs - this.#all.clock() - this.#clockOffsetMs);
    if (movedMs < CLOCK_MOVED_MS) return;
    if (movedMs > CLOCK_STEPPED_MS) {
      const told = `its clock moved by ${(movedMs / 1000).toFixed(1)} s against the collector's`;
      this.#all.log("warn", `ingest: ${this.node}: ${told}`);
    }
    try {
      this.#hear(clockMs);
    } catch (error) {
      this.#notDurable(error as Error);
    }
  }

  async #batch(message: unknown): Promise<void> {
    if (!batchCheck.Check(message)) {
      return this.refuse("bad-message", `batch expected: ${firstError(batchCheck, message)}`);
    }
    const why = whyUnjudgeable(message);
    if (why !== null) return this.refuse("bad-message", why);
    const { store, counters, clock } = this.#all;
    if (message.seq <= this.#last) {
      if (message.seq > this.#durable) return this.refuse("out-of-order");
      counters.duplicates++;
      return this.#send({ type: "ack", seq: this.#durable, clock_ms: clock() });
    }
    this.#last = message.seq;
    this.waiting++;
    const { node, spool } = this;
    try {
      const done = await store.append({ node, spool, batch: message, receivedMs: clock() });
      this.#all.tellStore(null);
      if (done.duplicate) counters.duplicates++;
      else {
        counters.batches++;
        counters.observations += message.observations.length;
        counters.coverage += message.coverage.length;
      }
      if (done.gap) this.#tellGap(done.gap);
    } catch (error) {
      return this.#notDurable(error as Error);
    } finally {
      this.waiting--;
    }
    this.#durable = Math.max(this.#durable, message.seq);
    this.#send({ type: "ack", seq: this.#durable, clock_ms: clock() });
  }

  #notDurable(error: Error): void {
    this.#all.tellStore(error);
    this.refuse("not-durable");
  }

  #tellGap({ from, to }: { from: number; to: number }): void {
    this.#all.counters.lost += to - from + 1;
    this.#all.log("warn", `ingest: ${this.node}: batches ${from} to ${to} never came`);
  }

  #send(message: CollectorMessage): void {
    if (!this.closed) this.#reply.send(packr.pack(message));
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Where the first mismatch lies; never the value, which may be anything. */
function firstError(check: { Errors(value: unknown): { instancePath: string }[] }, value: unknown) {
  const path = check.Errors(value)[0]?.instancePath || "/";
  return `mismatch at ${path.slice(0, 200)}`;
}
