/**
 * Watches one of two interfaces of a pod, in the namespace of its node, while the pod's connections
 * come by it and are answered by the other, and then by the same; prints what it tells of both.
 *
 *     node one-way.ts TIER POD CONNECTIONS
 *
 * POD is the pod's namespace. `wp1` and `wp2` lead there, and the pod sends by the first.
 */
import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:net";
import type { CaptureChoice } from "../../agent/capture/frame-source.ts";
import { openCapture } from "../../agent/capture/tiers.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { Sightings } from "../../agent/sightings.ts";
import type { Observation } from "../../protocol/observation.ts";

const [tier, pod, count] = process.argv.slice(2) as [CaptureChoice, string, string];
/** Beyond the budget of the cutoff, so that it counts most of the packets by itself. */
const ANSWER_BYTES = 400_000;
const CLIENT = `let open = ${count}; for (let i = 0; i < ${count}; i++) {
  const socket = require("net").connect(9000, "10.66.0.1"); let got = 0;
  socket.on("data", (bytes) => (got += bytes.length)).write("hello");
  socket.on("end", () => { if (got === ${ANSWER_BYTES}) console.log("whole"); socket.end(); }); }`;

const told: string[] = [];
const newest = new Map<string, Observation>();
const sightings = new Sightings("run", (observation) => newest.set(observation.flow, observation), {
  log: (_, text) => told.push(text),
});
const table = { ...FLOW_TABLE_DEFAULTS, flows: 1024, slots: 64, endedSeconds: 1 };
const line: Line = new Line({ table, revisions: true, reportIntervalMs: 1e9 }, (r, flow, final) =>
  sightings.tell(line, r, flow, final),
);
const source = openCapture({
  ...{ choice: tier, ringBytes: 8 << 20, flows: 1024, clock: line.clock, log: () => {} },
  wanted: { pattern: /^wp1$/, kinds: [] },
  onWatch: (watch) => {
    line.know(watch);
    sightings.know(watch, Date.now());
  },
  onFrame: (...frame) => line.frame(...frame),
  onChange: () => {},
});
line.countPassedOver(source.passedOver);
source.rescan();
const server = createServer((socket) => socket.end(Buffer.alloc(ANSWER_BYTES, 120)));
await new Promise<void>((resolve) => server.listen(9000, "10.66.0.1", resolve));

/** Connects, and waits until all has ended here; what was told of it. */
async function talk(): Promise<object> {
  newest.clear();
  told.length = 0;
  const argv = ["netns", "exec", pod, process.execPath, "-e", CLIENT];
  const client = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  client.stdout.on("data", (bytes: Buffer) => (said += bytes.toString()));
  await new Promise((resolve) => client.on("close", resolve));
  await new Promise((resolve) => setTimeout(resolve, 300));
  source.rescan();
  line.finish();
  const [watch] = source.watches();
  const coverage = sightings.coverage(watch!, line, source.kind, Date.now());
  const observations = [...newest.values()].filter((o) => o.record.dst_port === 9000);
  return {
    whole: said.split("whole").length - 1,
    ways: coverage.ways,
    oneDirection: coverage.one_direction ?? false,
    oneWay: observations.filter((o) => o.one_way === true).length,
    flows: observations.length,
    cutOff: coverage.cut_off,
    vantages: [...new Set(observations.map((o) => o.vantage))],
    told: [...told],
  };
}

const bypassed = await talk();
spawnSync("ip", ["route", "replace", "10.66.0.2/32", "dev", "wp1"]);
const again = await talk();
source.close();
process.stdout.write(`${JSON.stringify({ bypassed, again })}\n`, () => process.exit(0));
