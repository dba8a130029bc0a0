/** Tests several workers: that they tell what one would, and what comes of each fault of theirs. */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import t from "tap";
import { Holdings, makeHeld } from "../../agent/capture/holdings.ts";
import { SystemCalls } from "../../agent/capture/system-calls.ts";
import { readAgentConfig } from "../../agent/config.ts";
import { CoverageSum } from "../../agent/coverage-sum.ts";
import type { Coverage } from "../../protocol/coverage.ts";
import { makePairs, whyNotLive } from "../live.ts";

t.setTimeout(120_000);

// ---- how they are asked for, and summed up ---------------------------------------------------------

const share = (from_ms: number, to_ms: number, delivered: number): Coverage => ({
  ...{ interface: "a", addresses: [], from_ms, to_ms, source: "ring", sampling: 1, delivered },
  ...{ dropped: 1, cut_off: 2, packets: delivered - 1, stopped: { notIp: 1 }, discarded: {} },
});

t.test(
  "coverage is what every worker covered, without holes where they spoke in turn",
  async (t) => {
    const sum = new CoverageSum(2);
    sum.add(0, 7, share(0, 100, 10));
    t.strictSame(sum.take(), [], "the other has not spoken");
    sum.add(1, 7, share(20, 105, 5));
    sum.add(0, 7, share(100, 110, 1));
    const [first] = sum.take();
    t.match(first, {
      ...{ index: 7, row: { from_ms: 20, to_ms: 105, delivered: 16, dropped: 3, cut_off: 6 } },
    });
    t.match(first, { row: { packets: 13, stopped: { notIp: 3 } } });
    sum.add(0, 7, share(110, 200, 0));
    sum.add(1, 7, share(105, 205, 0));
    t.match(sum.take(), [{ row: { from_ms: 105, to_ms: 200 } }], "on where it was told");
    sum.add(0, 7, share(200, 300, 0));
    sum.add(1, 7, share(250, 305, 0)); // it began anew
    t.match(sum.take(), [{ row: { from_ms: 250, to_ms: 300 } }]);
    sum.add(0, 7, share(300, 400, 0));
    sum.add(0, 7, share(450, 500, 0));
    sum.add(1, 7, share(305, 500, 0));
    t.match(sum.take(), [{ row: { from_ms: 450, to_ms: 500 } }], "a hole in one's word");
    sum.add(0, 7, share(500, 600, 3));
    t.strictSame([sum.take(), sum.take()], [[], []]);
    t.match(sum.take(), [{ row: { from_ms: 600, to_ms: 600, delivered: 3 } }], "half is no cover");
    sum.add(1, 0, share(0, 50, 0));
    t.match(sum.take(), [{ index: 0, row: { from_ms: 0, to_ms: 50, dropped: 1 } }]);
  },
);

t.test("workers need a ring", async (t) => {
  const least = { node: "n", collector: "wss://a:1", key: "-", cert: "-", ca: "-", workers: "2" };
  for (const more of [{ replay: "a.pcapng" }, { capture: "libpcap" }]) {
    t.throws(() => readAgentConfig({ ...least, ...more }), { code: "CONFIG_WORKERS" });
  }
  t.equal(readAgentConfig(least).workers, 2);
});

// ---- what a thread that is gone leaves open --------------------------------------------------------

const noLinux = process.platform !== "linux" ? "system calls of Linux" : false;
const isOpen = (fd: number) => fs.existsSync(`/proc/self/fd/${fd}`);

t.test("what is left open is closed once, and nothing else", { skip: noLinux }, (t) => {
  const held = makeHeld(0);
  const thread = new SystemCalls(new Holdings(held));
  const own = new SystemCalls();
  const [gone, left, shared] = [thread.event(), thread.event(), thread.event()];
  new Holdings(held).noteShared(shared);
  thread.close(gone);
  const others = own.event();
  t.equal(others, gone, "the number is given again");
  t.equal(new Holdings(held).release(own), shared);
  t.strictSame([others, left, shared].map(isOpen), [true, false, true]);
  const later = own.event();
  t.equal(later, left);
  t.ok(new Holdings(held).isEmpty);
  t.equal(new Holdings(held).release(own), -1);
  t.strictSame([others, later, shared].map(isOpen), [true, true, true], "never twice");
  for (const fd of [others, later, shared]) own.close(fd);
  t.throws(() => thread.close(others), /descriptor \d+ is not noted as open/);
  t.end();
});

t.test("a ring that is left mapped is the kernel's no longer", { skip: noLinux }, (t) => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-held-")), "ring");
  t.teardown(() => fs.rmSync(path.dirname(file), { recursive: true }));
  const held = makeHeld(1 << 20);
  const length = 1 << 20;
  fs.writeFileSync(file, Buffer.alloc(length, 1));
  const fd = fs.openSync(file, "r+");
  const isMapped = () => fs.readFileSync("/proc/self/maps", "utf8").includes(file);
  const { view } = new SystemCalls(new Holdings(held)).map(fd, length, "map");
  fs.closeSync(fd); // what is mapped stays
  t.equal(view.buffer, held.memory);
  view.setUint8(length - 1, 7);
  t.equal(fs.readFileSync(file)[length - 1], 7);
  t.ok(isMapped());
  new Holdings(held).release(new SystemCalls());
  t.notOk(isMapped());
  t.equal(view.getUint8(length - 1), 0);
  t.throws(() => new SystemCalls(new Holdings(held)).map(-1, 2 * length, "map"), RangeError);
  t.end();
});

// ---- live -------------------------------------------------------------------------------------------

const netns = `wpwk${process.pid.toString(36)}`;
const skip = whyNotLive();
if (skip === false) makePairs(netns, 4);

/** Runs a file beside this one in the namespace. */
function run(file: string, ...args: readonly string[]) {
  const argv = [process.execPath, path.join(import.meta.dirname, file), ...args];
  return spawnSync("ip", ["netns", "exec", netns, ...argv], {
    ...{ encoding: "utf8" as const, timeout: 100_000, killSignal: "SIGTERM" as const },
  });
}

/** What it prints. */
function told<Result>(file: string, ...args: readonly string[]): Result {
  const { stdout, stderr } = run(file, ...args);
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout) as Result;
}

type Told = { told: object; flows: object; by: Record<string, string[]>; covered: Coverage[] };
const work = (...args: readonly string[]) =>
  told<Record<string, unknown> & Told>("working.ts", ...args);
const ofInterface = (covered: Coverage[], name: string) =>
  covered.filter((row) => row.interface === name);
const total = (rows: Coverage[]) =>
  rows.reduce((sum, { delivered, cut_off, dropped }) => sum + delivered + cut_off + dropped, 0);

t.test("three workers tell what one would, and each flow is told by one", { skip }, (t) => {
  const { sent, strays, told, flows, by, twice, covered, metrics, seen, log } = work("3");
  t.strictSame(told, flows);
  t.strictSame(twice, [], "no flow goes on behind its end");
  t.strictSame([...new Set(Object.values(by).flat())].sort(), ["runw1", "runw2", "runw3"]);
  const rows = ofInterface(covered, "sb0");
  t.equal(total(rows), sent);
  rows.slice(1).forEach((row, i) => t.equal(row.from_ms, rows[i]!.to_ms, "without a hole"));
  const stopped = rows.map((row) => Object.values(row.stopped).reduce((a, b) => a + b, 0));
  rows.forEach((row, i) => t.equal(row.delivered, row.packets + stopped[i]!));
  const stray = rows.map((row) => (row.stopped["notIp"] ?? 0) + (row.stopped["notTransport"] ?? 0));
  t.equal(stray.reduce((a, b) => a + b), strays); // prettier-ignore
  const { delivered, cutOff } = seen as { delivered: number; cutOff: number };
  t.equal(delivered + cutOff, sent, "metrics are of all");
  t.match(metrics, { opened: Object.keys(flows).length });
  t.equal(ofInterface(covered, "sb1").length >= 3, true, "one that went, and one that came");
  t.equal((log as string[]).filter((text) => text.includes("capture by ring-cutoff")).length, 3);
  t.end();
});

t.test("a worker that ends by a fault is started anew in its place", { skip }, (t) => {
  const { sent, again, by, covered, faults, log } = work("3", "faulty");
  t.equal(faults, 1);
  t.match((log as string[]).join("\n"), /worker 2 ended: planted; it is started anew/);
  for (const [name, workers] of Object.entries(by)) {
    const who = [...new Set(workers)].sort().join(" ");
    t.match(
      who,
      /^(runw1|runw3|(runw2 )?runw4)$/,
      `${name}: the others' flows stay where they are`,
    );
  }
  const rows = ofInterface(covered, "sb0");
  t.equal(total(rows), (sent as number) + (again as number));
  const holes = rows.slice(1).map((row, i) => row.from_ms - rows[i]!.to_ms);
  t.equal(holes.filter((ms) => ms > 0).length, 1, `the gap is told: ${holes.join()} ms`);
  t.end();
});

type Failed = {
  text: string;
  /** Frames sent while a worker hung, and when all was well again. */
  during: number;
  sent: number;
  /** Told before the fault, of the gap, and behind it; and of what time, one row after another. */
  totals: [before: number, gap: number, after: number];
  spans: [fromMs: number, toMs: number][];
  faults: number;
  open: Open;
};
type Open = { descriptors: number; rings: number; sockets: number };
type Failing = {
  first: { sent: number; open: Open };
  steps: Failed[];
  last: Open;
  /** By name, of either end: packets and bytes. And who told of it. */
  flows: Record<string, Record<string, [packets: number, bytes: number]>>;
  by: Record<string, string>;
  strays: number;
  log: string[];
};

t.test("a worker that fails in any way is closed for, and started anew", { skip }, (t) => {
  const { first, steps, last, flows, by, strays, log } = told<Failing>("failing.ts");
  let before = first.sent;
  for (const { text, sent, totals, spans } of steps) {
    t.equal(totals[0], before, `${text}: all that was sent before the fault is told`);
    t.equal(totals[2], sent, `${text}: and all behind it`);
    const covered = spans.filter(([from, to]) => from < to); // others tell of no time at all
    const holes = covered.slice(1).map(([from], i) => from - covered[i]![1]);
    t.equal(holes.filter((ms) => ms !== 0).length, 1, `${text}: one gap: ${holes.join()} ms`);
    t.ok(holes.every((ms) => ms >= 0));
    before = 0;
  }
  t.strictSame(
    steps.map(({ faults }) => faults),
    [1, 2, 4, 6, 7, 8],
    "one each; in the third a thread fails, and the next at its start; in the fourth two at once",
  );
  const ends = log.filter((line) => /ended|does not start|cut short|cannot/.test(line));
  const memory = "ended: Worker terminated due to reaching memory limit: JS heap out of memory";
  const anew = "it is started anew";
  t.strictSame(ends.slice(0, 4), [
    `worker 2 ended: planted; ${anew}`,
    `worker 2 ${memory}; ${anew}`,
    `worker 2 ended: planted; ${anew}`,
    "worker 2 does not start: planted at the start",
  ]);
  const silent = `ended: it has not answered for 4 s; ${anew}`;
  t.strictSame(ends.slice(4, 6).sort(), [`worker 2 ${silent}`, `worker 3 ${silent}`]);
  t.strictSame(ends.slice(6), [`worker 2 ${memory}; ${anew}`, `worker 1 ended: planted; ${anew}`]);

  // While two hung the third went on: what came to it is told, as soon as they are given up.
  const hung = steps[3]!;
  let share = 0;
  for (const [name, sides] of Object.entries(flows)) {
    if (by[name] !== "runw1") continue;
    for (const [packets] of Object.values(sides)) share += packets;
  }
  t.ok(share > hung.during / 10, `${share} of ${hung.during} packets`);
  const toldOf = hung.totals[1];
  t.ok(
    toldOf >= share && toldOf <= share + strays,
    `${toldOf} told, ${strays} of no flow among them`,
  );

  // Two sockets more send.
  for (const { text, open } of steps) {
    const { descriptors } = first.open;
    t.match(open, { descriptors, rings: 3, sockets: 5 }, `${text}: nothing more is open`);
  }
  t.match(last, { rings: 0, sockets: 2 });
  t.end();
});

t.test("a worker that cannot even be ended ends the agent", { skip }, (t) => {
  const { signal, status, stderr } = run("failing.ts", "stuck");
  t.match(stderr, /worker 2 cannot be ended: the agent is, to be started anew\n$/);
  t.strictSame([status, signal], [null, "SIGKILL"]);
  t.end();
});

type Sent = { sent: number; total: number; from: number; to: number; open: Open };
type Restarted = {
  first: Sent;
  steps: (Sent & { what: string; faults: number })[];
  opened: number;
  packets: Record<string, number>;
  log: string[];
  last: Open;
};

for (const tier of ["ring-cutoff", "libpcap"]) {
  t.test(`${tier}: one that is alone is begun anew behind a fault`, { skip }, (t) => {
    const { first, steps, opened, packets, log, last } = told<Restarted>("restarting.ts", tier);
    t.equal(first.total, first.sent);
    t.equal(steps.length, tier === "libpcap" ? 2 : 4);
    let before = first;
    for (const [i, step] of steps.entries()) {
      t.equal(step.total, step.sent, `${step.what}: all that was sent behind it is told`);
      t.ok(step.from > before.to, `${step.what}: and the time between is a gap`);
      t.equal(step.faults, i + 1);
      t.strictSame(step.open, first.open, `${step.what}: nothing more is open`);
      before = step;
    }
    t.match(
      log.join("\n"),
      /reading ended by a fault, and is begun anew: Error: planted in frame\n/,
    );
    const isRefused = log.filter((text) => text.includes("cannot begin anew: Error: planted in"));
    t.equal(isRefused.length, tier === "libpcap" ? 0 : 1);
    // The last one had a number more, where the one before it did not begin.
    const who = tier === "libpcap" ? "runr3" : "runr6";
    t.strictSame(Object.keys(packets).includes(who), true, Object.keys(packets).join());
    t.ok(opened > 40, "counted are the flows of the latest");
    t.ok(packets[who]! > 500);
    if (tier !== "libpcap") t.match(last, { rings: 0 });
    t.end();
  });
}
