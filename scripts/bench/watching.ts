/**
 * Captures by one tier as the agent does, from decode to observations, and prints one line of JSON
 * for each line that comes in: what it counted since the last, and what that cost.
 *
 *     node watching.ts TIER INTERFACES
 */
import { createInterface } from "node:readline";
import type { CaptureChoice } from "../../agent/capture/frame-source.ts";
import { openCapture } from "../../agent/capture/tiers.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { Sightings } from "../../agent/sightings.ts";

const [tier, interfaces] = process.argv.slice(2) as [CaptureChoice, string];
let observations = 0;
const sightings = new Sightings("bench", () => observations++);
const table = { ...FLOW_TABLE_DEFAULTS, endedSeconds: 2 };
const line: Line = new Line({ table, revisions: true, reportIntervalMs: 30_000 }, (r, flow, last) =>
  sightings.tell(line, r, flow, last),
);
const capture = openCapture({
  choice: tier,
  wanted: { pattern: new RegExp(`^(?:${interfaces})$`), kinds: [] },
  onWatch: (watch) => sightings.know(watch, Date.now()),
  ...{ ringBytes: 32 << 20, flows: table.flows, onChange: () => {}, log: () => {} },
  clock: line.clock,
  onFrame: (view, at, end, wire, linkType, lane) =>
    line.frameNow(view, at, end, wire, linkType, lane),
});
capture.rescan();
line.countPassedOver(capture.passedOver);
// The agent's own timers.
setInterval(() => capture.rescan(), 1000);
setInterval(() => {
  line.advance(Date.now() * 1000);
  line.report(30);
}, 250);

type Counts = { delivered: number; cutOff: number; dropped: number };
function countNow(): Counts {
  const sum = { delivered: 0, cutOff: 0, dropped: capture.droppedOnAny() };
  for (const { delivered, cutOff, dropped } of capture.watches()) {
    sum.delivered += delivered;
    sum.cutOff += cutOff;
    sum.dropped += dropped;
  }
  return sum;
}

let before = countNow();
let cpu = process.cpuUsage();
let sinceMs = performance.now();
const lines = createInterface({ input: process.stdin });
lines.on("line", () => {
  capture.rescan();
  const now = countNow();
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - sinceMs) / 1000;
  console.log(
    JSON.stringify({
      tier: capture.kind,
      seconds,
      share: (user + system) / 1e6 / seconds,
      delivered: now.delivered - before.delivered,
      cutOff: now.cutOff - before.cutOff,
      dropped: now.dropped - before.dropped,
      flows: line.table.count,
      observations,
      rssMib: process.memoryUsage.rss() / 2 ** 20,
    }),
  );
  before = now;
  cpu = process.cpuUsage();
  sinceMs = performance.now();
});
lines.on("close", () => process.exit(0));
