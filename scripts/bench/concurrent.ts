/** Opens many flows at a time in one line, leaves them open, and prints what memory that takes. */
import path from "node:path";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import { isEnd, loadTemplates, readdress } from "./traffic.ts";

const flows = Number(process.argv[2] ?? 50_000);
// A refused client leaves: it is no flow that stays open.
const loaded = await loadTemplates(path.resolve("test/golden"));
const templates = loaded.filter(({ name }) => name !== "mtls13-stranger");
const rss = () => process.memoryUsage().rss / 2 ** 20;
const empty = rss();
const line = new Line(
  { table: FLOW_TABLE_DEFAULTS, revisions: true, reportIntervalMs: 30_000 },
  () => {},
);
let timeUs = 1.7e15;
let packets = 0;
const before = process.cpuUsage();
for (let i = 0; i < flows; i++) {
  const template = templates[i % templates.length]!;
  for (const frame of template.frames) {
    if (isEnd(frame)) break;
    readdress(frame, i, 0);
    line.frame(frame.view, 0, frame.bytes.length, frame.bytes.length, timeUs++, 1, 0);
    packets++;
  }
}
const { user, system } = process.cpuUsage(before);
const { heapUsed, arrayBuffers } = process.memoryUsage();
console.log(
  JSON.stringify({
    flows: line.table.count,
    openings: line.table.openings.inUse,
    emptyMib: empty,
    rssMib: rss(),
    heapMib: heapUsed / 2 ** 20,
    buffersMib: arrayBuffers / 2 ** 20,
    usPerFlow: (user + system) / flows,
    packets,
  }),
);
