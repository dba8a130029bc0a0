/**
 * Runs a watcher as usual, but for the fault that the main thread plants in it: by the channel
 * `fault` in one that runs, as `RUN FAULT`, and by the environment in those that start.
 */
import { BroadcastChannel, workerData } from "node:worker_threads";
import { SystemCalls } from "../../agent/capture/system-calls.ts";
import { Line } from "../../agent/line.ts";
import type { Task } from "../../agent/worker-words.ts";

/** By fault, what comes of it at once. */
const FAULTS: Record<string, () => void> = {
  /** Whoever reads the frame once more comes to the same. */
  frame: () => {
    Line.prototype.frame = () => {
      throw new Error("planted");
    };
  },
  memory: () => {
    const kept: object[] = [];
    const leak = () => {
      for (let i = 0; i < 1000; i++) kept.push({ i, of: [i] });
    };
    for (;;) leak();
  },
  loop: () => {
    for (;;);
  },
  wait: () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0),
  /** In the kernel, out of which nothing brings it. */
  stuck: () => void new SystemCalls().poll(new Uint8Array(0), 0, -1),
};

const { run } = workerData as Task;
const channel = new BroadcastChannel("fault");
channel.onmessage = ({ data }: { data: unknown }) => {
  const [of, fault] = String(data).split(" ");
  if (of === run) FAULTS[fault!]!();
};
channel.unref();
if (process.env["FAULT_AT_START"] !== undefined) {
  // The first that is asked for is where the ring is waited for: it has joined the others by then.
  SystemCalls.prototype.event = () => {
    throw new Error("planted at the start");
  };
}
await import("../../agent/watcher-worker.ts");
