/**
 * Waits in poll(2) for frames and for interfaces that come or go. The main thread is not held up: a
 * thread of the engine's pool waits for it. A thread that only reads a ring waits itself, a little
 * at a time.
 */
import { isMainThread } from "node:worker_threads";
import { POLLERR, POLLIN, POLLNVAL, SO_ERROR, SOL_SOCKET } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";

/** Why the reader of a ring is woken, as bits of a number. */
export const Wake = {
  frames: 1, // a block of the ring is ready
  links: 2, // interfaces came, went or changed, or routes, which tell pods' addresses
} as const;

/** Whoever ends the waiting says so; should it be missed, the process exits so late. */
const WAIT_MS = 60_000;
/** Timers and messages of a thread that waits itself are late by so much. */
const TURN_MS = 20;
/** `struct pollfd`: fd(4) | events(2) | what came(2); in units of 2 bytes. */
const POLLED = 4;
const CAME = 3;

export type RingWaiterOptions = {
  calls: SystemCalls;
  /** File descriptors of the ring's socket, and of a netlink socket. */
  ring: number;
  links: number;
  /** Called with bits of `Wake`, and the errno that the socket reported, else 0. */
  onWake: (wake: number, errno: number) => void;
};

export class RingWaiter {
  readonly #options: RingWaiterOptions;
  readonly #stop: number;
  readonly #polled = new Int16Array(new ArrayBuffer(3 * POLLED * 2));
  readonly #waits = new Uint8Array(this.#polled.buffer);
  readonly #error = new Uint8Array(new ArrayBuffer(4));
  #onClosed: (() => void) | null = null;
  /** Also when the process exits unasked, which would wait for the engine's pool. */
  readonly #onExit = () => this.#options.calls.raise(this.#stop);

  constructor(options: RingWaiterOptions) {
    const { calls, ring, links } = options;
    this.#options = options;
    this.#stop = calls.event();
    const view = new DataView(this.#polled.buffer);
    for (const [i, fd] of [ring, links, this.#stop].entries()) {
      view.setInt32(i * 8, fd, true);
      view.setInt16(i * 8 + 4, POLLIN, true);
    }
    process.once("exit", this.#onExit);
    this.#wait();
  }

  #wait(): void {
    const { calls } = this.#options;
    if (isMainThread) calls.pollAside(this.#waits, 3, WAIT_MS, (ready) => this.#came(ready));
    else setImmediate(() => this.#came(calls.poll(this.#waits, 3, TURN_MS)));
  }

  #came(ready: number): void {
    try {
      if (ready > 0 && this.#onClosed === null) this.#wake();
    } finally {
      // Also behind a fault: without one more turn what is open would never be closed.
      if (this.#onClosed === null) this.#wait();
      else this.#closed();
    }
  }

  #wake(): void {
    const onRing = this.#polled[CAME]!;
    const onLinks = this.#polled[POLLED + CAME]!;
    let wake = (onRing & POLLIN) !== 0 ? Wake.frames : 0;
    if (onLinks !== 0) wake |= Wake.links; // whoever is woken reads what netlink says
    const errno = (onRing & POLLERR) !== 0 ? this.#readError() : 0;
    if ((onRing & POLLNVAL) !== 0) throw new Error("the ring's socket is gone");
    if (wake !== 0 || errno !== 0) this.#options.onWake(wake, errno);
  }

  /** A socket that reports an error goes on reporting it until it is read. */
  #readError(): number {
    const { calls, ring } = this.#options;
    calls.getOption(ring, SOL_SOCKET, SO_ERROR, this.#error, "error of the ring's socket");
    return new DataView(this.#error.buffer).getInt32(0, true);
  }

  /** Ends the waiting; `onClosed` is called when nothing touches what was waited for any more. */
  close(onClosed: () => void): void {
    this.#onClosed = onClosed;
    this.#options.calls.raise(this.#stop);
  }

  #closed(): void {
    process.off("exit", this.#onExit);
    this.#options.calls.close(this.#stop);
    this.#onClosed!();
  }
}
