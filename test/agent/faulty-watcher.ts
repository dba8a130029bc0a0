/** Runs a watcher as usual, but the second that is started ends by a fault when it is told to. */
import { BroadcastChannel, workerData } from "node:worker_threads";
import { Line } from "../../agent/line.ts";
import type { Task } from "../../agent/worker-words.ts";

const { run } = workerData as Task;
if (run.endsWith("w2")) {
  const channel = new BroadcastChannel("fault");
  channel.onmessage = () => {
    channel.close();
    // Whoever reads the frame once more comes to the same.
    Line.prototype.frameNow = () => {
      throw new Error("planted");
    };
  };
}
await import("../../agent/watcher-worker.ts");
