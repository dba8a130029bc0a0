/**
 * Notes what a thread has open, in memory that outlives it, so that who started it can close that.
 *
 * When a thread ends by a fault its descriptors stay open, for they are the process', and its ring
 * stays mapped, by which its socket lives on. A number is noted once it is open and struck out
 * before it is closed, and what is noted is closed only when the thread is gone. So what stands
 * here then was not closed before, and nobody else can have been given the same number. A thread
 * that ends between the two leaves one open at most; it never has one closed that is another's.
 */
import { ringBytes } from "./packet-ring.ts";
import { memoryFor } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";

/** Most descriptors of a thread at a time: it needs some ten. */
const DESCRIPTORS_LIMIT = 64;

/** What a thread is given to note in; another may be given the same when it is gone. */
export type Held = {
  /** 0, or one more than a descriptor; negative for the socket that shares frames with others. */
  descriptors: Int32Array<SharedArrayBuffer>;
  /** Where it maps its ring: nobody else can be given this memory while it is held here. */
  memory: SharedArrayBuffer;
};

/** Room for a thread whose ring is of about so many bytes, as `--ring-mib` has it. */
export function makeHeld(bytes: number): Held {
  return {
    descriptors: new Int32Array(new SharedArrayBuffer(DESCRIPTORS_LIMIT * 4)),
    memory: memoryFor(ringBytes(bytes)),
  };
}

export class Holdings {
  readonly #held: Held;

  constructor(held: Held) {
    this.#held = held;
  }

  get memory(): SharedArrayBuffer {
    return this.#held.memory;
  }

  /** The descriptor is open. */
  note(fd: number): void {
    const at = this.#held.descriptors.indexOf(0);
    if (at < 0) throw new Error(`more than ${DESCRIPTORS_LIMIT} descriptors are open`);
    this.#held.descriptors[at] = fd + 1;
  }

  /** The descriptor, a socket, shares frames with others from now on. */
  noteShared(fd: number): void {
    this.#held.descriptors[this.#find(fd)] = -(fd + 1);
  }

  /** The descriptor is about to be closed. */
  strike(fd: number): void {
    this.#held.descriptors[this.#find(fd)] = 0;
  }

  /** Nothing is open, nor mapped: the socket of a ring is closed after that. */
  get isEmpty(): boolean {
    return this.#held.descriptors.every((noted) => noted === 0);
  }

  #find(fd: number): number {
    const at = this.#held.descriptors.findIndex((noted) => Math.abs(noted) === fd + 1);
    if (at < 0) throw new Error(`descriptor ${fd} is not noted as open`);
    return at;
  }

  /**
   * The thread is gone: gives back its ring's memory and closes what it left open, but for the
   * socket that shares frames with others, if there is one. Returns that; else -1.
   */
  release(calls: Pick<SystemCalls, "close" | "unmapIn">): number {
    const left = this.#held.descriptors.filter((noted) => noted !== 0);
    this.#held.descriptors.fill(0);
    calls.unmapIn(this.#held.memory);
    let shared = -1;
    for (const noted of left) {
      if (noted < 0) shared = -noted - 1;
      else calls.close(noted - 1);
    }
    return shared;
  }
}
