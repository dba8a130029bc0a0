/** Keeps a thread that waits for the ring, and starts it anew when it ends by a fault. */
import { Worker } from "node:worker_threads";
import type { SystemCalls } from "./system-calls.ts";
import type { Waits } from "./wake.ts";

/** Milliseconds before the first new start, doubled with each up to the second. */
const RESTART_MS = 100;
const RESTART_LIMIT_MS = 5000;

/** The waiting thread's file, as sources or built. */
const own = import.meta.url;
const WORKER = new URL(`./capture-worker${own.slice(own.lastIndexOf("."))}`, own);

export type RingWaiterOptions = {
  calls: SystemCalls;
  /** File descriptors of the ring's socket, and of a netlink socket. */
  ring: number;
  links: number;
  /** Called with bits of `Wake`, and the errno that the socket reported, else 0. */
  onWake: (wake: number, errno: number) => void;
  log: (level: "info" | "warn" | "error", text: string) => void;
  /** Another thread than the usual, for tests of its faults. */
  worker?: URL;
};

export class RingWaiter {
  readonly #options: RingWaiterOptions;
  readonly #stop: number;
  readonly #turn = new Int32Array(new SharedArrayBuffer(4));
  #worker: Worker | null = null;
  #timer: NodeJS.Timeout | null = null;
  #delayMs = RESTART_MS;
  #onClosed: (() => void) | null = null;
  /** Times that the thread ended by a fault. */
  faults = 0;

  constructor(options: RingWaiterOptions) {
    this.#options = options;
    this.#stop = options.calls.event();
    this.#start();
  }

  #start(): void {
    this.#timer = null;
    const { ring, links, worker, onWake } = this.#options;
    const workerData: Waits = { ring, links, stop: this.#stop, turn: this.#turn };
    // No limits of its own: near them a compiling thread of the engine waits for a collection that
    // a thread which is ending no longer makes, and the process never ends.
    const thread = new Worker(worker ?? WORKER, { workerData });
    this.#worker = thread;
    let fault: unknown = null;
    thread.on("message", ([wake, errno]: [number, number]) => {
      this.#delayMs = RESTART_MS;
      if (this.#onClosed === null) onWake(wake, errno);
      this.#giveTurn();
    });
    thread.on("error", (error) => (fault = error));
    thread.on("exit", () => {
      this.#worker = null;
      if (this.#onClosed !== null) return this.#closed();
      this.faults++;
      const reason = fault instanceof Error ? fault.message : String(fault);
      this.#options.log("error", `the capture's thread ended: ${reason}; it is started anew`);
      this.#timer = setTimeout(() => this.#start(), this.#delayMs);
      this.#delayMs = Math.min(this.#delayMs * 2, RESTART_LIMIT_MS);
    });
  }

  #giveTurn(): void {
    Atomics.store(this.#turn, 0, 1);
    Atomics.notify(this.#turn, 0);
  }

  /** Ends the thread; `onClosed` is called when it no longer touches what it waited for. */
  close(onClosed: () => void): void {
    this.#onClosed = onClosed;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#options.calls.raise(this.#stop);
    this.#giveTurn();
    if (this.#worker === null) this.#closed();
  }

  #closed(): void {
    this.#options.calls.close(this.#stop);
    this.#onClosed!();
  }
}
