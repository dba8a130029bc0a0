/**
 * Runs one of several watchers in a thread of its own; the main thread alone has the uplink. A
 * fault ends the thread as it is: the main thread closes what it has open.
 */
import { parentPort, workerData } from "node:worker_threads";
import { Holdings } from "./capture/holdings.ts";
import { ConfigError } from "../protocol/config-error.ts";
import type { Observation } from "../protocol/observation.ts";
import { readAgentConfig } from "./config.ts";
import { Watcher } from "./watcher.ts";
import type { Order, Task, Word } from "./worker-words.ts";

/** Observations of one batch, and milliseconds after which one that is not full goes. */
const BATCH_ROWS = 256;
const BATCH_MS = 50;
/** Batches that the main thread may be behind; then this one waits, and the ring fills. */
const BATCHES_LIMIT = 64;
const COUNTS_MS = 1000;

const { flags, run, group, held, taken } = workerData as Task;
const port = parentPort!;
const say = (word: Word) => port.postMessage(word);

let rows: Observation[] = [];
let batches = 0;
function handOver(): void {
  if (rows.length === 0) return;
  say({ is: "observations", rows });
  rows = [];
  batches++;
  for (;;) {
    const come = Atomics.load(taken, 0);
    if (batches - come < BATCHES_LIMIT) return;
    Atomics.wait(taken, 0, come);
  }
}

function sayCounts({ line, capture, sightings }: Watcher): void {
  const watches = capture.watches();
  const [droppedOnAny, refused] = [capture.droppedOnAny(), capture.refused()];
  const { unreadLinks: _, ...counters } = line.counters;
  say({
    is: "counts",
    counts: {
      ...{ counters, flows: line.table.count, watches, droppedOnAny, refused },
      oneWay: [...sightings.oneWay()],
    },
  });
}

let watcher: Watcher | null = null;
let timers: NodeJS.Timeout[] = [];

function obey(order: Order): void {
  if (watcher === null) return;
  if (order === "begin") watcher.begin();
  else if (order === "coverage") watcher.tellCoverage();
  else {
    timers.forEach(clearInterval);
    watcher.end();
    handOver();
    sayCounts(watcher);
    port.close();
  }
  if (order === "coverage") say({ is: "told" });
}

port.on("message", obey);
const holdings = new Holdings(held);
let joined = -1;
const onSocket = (fd: number, group: number) => {
  holdings.noteShared(fd);
  joined = group;
};

async function open(): Promise<void> {
  watcher = await Watcher.open({
    ...{ config: readAgentConfig(flags), run },
    log: (level, text) => say({ is: "log", level, text }),
    onObservation: (row) => {
      rows.push(row);
      if (rows.length >= BATCH_ROWS) handOver();
    },
    onCoverage: (row, index) => say({ is: "coverage", row, index }),
    ...{ fanout: { group, onSocket }, holdings },
  });
  const { capture } = watcher;
  timers = [
    setInterval(handOver, BATCH_MS),
    setInterval(() => watcher && sayCounts(watcher), COUNTS_MS),
  ];
  say({ is: "opened", kind: capture.kind, group: joined });
}

void open().catch((error: unknown) => {
  if (!(error instanceof ConfigError)) throw error;
  say({ is: "refused", code: error.code, text: error.message });
  port.close();
});
