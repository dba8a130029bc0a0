/** Stands in for the thread that waits for frames: wakes the reader once, then ends by a fault. */
import { parentPort } from "node:worker_threads";

parentPort!.postMessage([1, 0]);
throw new Error("planted");
