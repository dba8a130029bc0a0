/**
 * Waits in poll(2) for frames and for interfaces that come or go, and wakes the main thread, which
 * reads the ring itself: a fault here costs no frame, since the ring fills on until the next worker
 * waits for it.
 */
import { parentPort, workerData } from "node:worker_threads";
import { POLLERR, POLLIN, POLLNVAL, SO_ERROR, SOL_SOCKET, SystemCalls } from "./system-calls.ts";
import { Wake } from "./wake.ts";
import type { Waits } from "./wake.ts";

const { ring, links, stop, turn } = workerData as Waits;
const port = parentPort!;
const calls = new SystemCalls();

/** `struct pollfd`: fd(4) | events(2) | what came(2). */
const polled = new Int16Array(3 * 4);
const waits = new Uint8Array(polled.buffer);
new Int32Array(polled.buffer)[0] = ring;
new Int32Array(polled.buffer)[2] = links;
new Int32Array(polled.buffer)[4] = stop;
polled[2] = polled[6] = polled[10] = POLLIN;

/** A socket that reports an error goes on reporting it until it is read. */
function readError(): number {
  const error = new Uint8Array(4);
  calls.getOption(ring, SOL_SOCKET, SO_ERROR, error, "error of the ring's socket");
  return new DataView(error.buffer).getInt32(0, true);
}

/** A thread that waits cannot be ended: without this a process that exits would wait for ever. */
const WAIT_MS = 1000;

for (;;) {
  if (calls.poll(waits, 3, WAIT_MS) === 0) continue;
  const [onRing, onLinks, onStop] = [polled[3]!, polled[7]!, polled[11]!];
  if (onStop !== 0) break;
  let wake = (onRing & POLLIN) !== 0 ? Wake.frames : 0;
  if (onLinks !== 0) wake |= Wake.links; // the main thread reads what netlink says
  const error = (onRing & POLLERR) !== 0 ? readError() : 0;
  if ((onRing & POLLNVAL) !== 0) throw new Error("the ring's socket is gone");
  if (wake === 0 && error === 0) continue;
  Atomics.store(turn, 0, 0);
  port.postMessage([wake, error]);
  // Until the main thread has read what there was.
  while (Atomics.load(turn, 0) === 0) Atomics.wait(turn, 0, 0, WAIT_MS);
}
