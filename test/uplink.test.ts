/** Tests the uplink from an agent's spool to the collector's store, through every failure. */
import { spawn, type ChildProcess } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import tls from "node:tls";
import { Packr, Unpackr } from "msgpackr";
import t from "tap";
import { WebSocket } from "ws";
import { readAgentConfig } from "../agent/config.ts";
import { tlsLink, type Connect } from "../agent/uplink/link.ts";
import { Discards } from "../agent/uplink/discards.ts";
import { DISK, encodeFrames, parseSegment, Spool, type SpoolFiles } from "../agent/uplink/spool.ts";
import { Uplink, type UplinkOptions } from "../agent/uplink/uplink.ts";
import { nodeOf } from "../collector/ingest/authenticate.ts";
import { Conversation, Ingested } from "../collector/ingest/conversation.ts";
import { listen, type Ingest } from "../collector/ingest/ingest.ts";
import { initCa, issue } from "../collector/pki.ts";
import { openSqlite } from "../collector/store/sqlite.ts";
import type { Store } from "../collector/store/store.ts";
import type { Coverage } from "../protocol/coverage.ts";
import type { Observation } from "../protocol/observation.ts";
import { MESSAGE_BYTES_LIMIT, UPLINK_PATH } from "../protocol/uplink-limits.ts";
import { seeded } from "../scripts/world/draw.ts";

const root = path.resolve(import.meta.dirname, "..");
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-uplink-"));
t.teardown(() => fs.rmSync(temporary, { recursive: true, force: true }));
let directories = 0;
const fresh = () => path.join(temporary, String(++directories));
const packr = new Packr({ useRecords: true });
const unpackr = new Unpackr({ useRecords: true });
const quiet = () => {};
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

async function until(what: string, is: () => boolean, withinMs = 8000): Promise<void> {
  for (const end = Date.now() + withinMs; !is(); await sleep(3)) {
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
  }
}

const AT_MS = Date.parse("2026-11-22T01:02:03Z");

function observation(i: number): Observation {
  return {
    flow: `run.1.${i}`,
    ...{ revision: 1, final: true, interface: "veth1", vantage: "client", sampling: 1 },
    isn: [i, null],
    record: {
      start: "2026-11-22T01:02:03.000001Z",
      end: "2026-11-22T01:02:04.5Z",
      ...{ proto: "tcp", src_ip: "10.0.0.1", src_port: 40000, dst_ip: "10.0.0.2", dst_port: 443 },
      ...{ client_basis: "syn", encap: [], packets: [1, 2], bytes: [3, 4], state: "closed" },
      ...{ midstream: false, protocol: "http", encryption: "plaintext", upgraded_from: null },
      ...{ handshake: null, failure: null, accepted: true, tls: null, history: "ShADad" },
      ...{ findings: [], notes: [] },
    },
  };
}

function coverage(i: number): Coverage {
  return {
    ...{ interface: "veth1", addresses: ["10.0.0.1"], source: "ring" },
    ...{ from_ms: AT_MS + i, to_ms: AT_MS + i + 1 },
    ...{ sampling: 1, delivered: 1, dropped: 0, cut_off: 0, packets: 1, stopped: {} },
    discarded: {},
  };
}

/** What the collector was told of observations that were given up, all of one interface. */
function toldLost(store: Store): number {
  const START_MS = Date.parse("2026-11-22T01:02:03Z");
  let lost = 0;
  for (const { coverage: c } of store.coverageSince(0, 1e6)) {
    for (const { interface: name, from_ms, to_ms, observations } of c.discards ?? []) {
      const isRight = name === "veth1" && from_ms === START_MS && to_ms === START_MS + 1500;
      if (!isRight || c.from_ms !== from_ms || c.to_ms !== to_ms || c.delivered > 0) return NaN;
      lost += observations;
    }
  }
  return lost;
}

const numberOf = (o: Observation) => Number(o.flow.slice(6));
const arrived = (store: Store) =>
  store.observationsSince(0, 1e6).map((row) => numberOf(row.observation));

// ---- the spool -----------------------------------------------------------------------------

const openSpool = (directory: string, bytesLimit = 1 << 20, files?: SpoolFiles) =>
  Spool.open({ directory, bytesLimit, log: quiet, ...(files ? { files } : {}) });
const batchOf = (text: string) => ({ rows: 1, encode: (n: number) => Buffer.from(`${n}:${text}`) });

async function heldBy(spool: Spool): Promise<string[]> {
  const held: string[] = [];
  for (let seq = 1; ;) {
    const batch = await spool.read(seq);
    if (batch === null) return held;
    held.push(Buffer.from(batch.payload).toString());
    seq = batch.seq + 1;
  }
}

t.test("a segment cut at every byte yields its whole frames, and any flipped bit ends it", (t) => {
  const frames = ["a", "", "three"].map((said, i) => {
    return { seq: 7 + i, rows: i, payload: Buffer.from(said) };
  });
  const bytes = encodeFrames(frames);
  const ends = [0];
  for (const frame of frames) ends.push(ends.at(-1)! + encodeFrames([frame]).length);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const whole = ends.filter((end) => end <= cut);
    const found = parseSegment(bytes.subarray(0, cut), 7);
    t.strictSame([found.offsets.length, found.length], [whole.length - 1, whole.at(-1)]);
  }
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const bad = Uint8Array.from(bytes);
    bad[bit >> 3]! ^= 1 << (bit & 7);
    const frame = ends.findIndex((end) => end > bit >> 3) - 1;
    if (parseSegment(bad, 7).offsets.length !== frame) t.fail(`flipped bit ${bit} not seen`);
  }
  t.end();
});

t.test("a spool cut at every byte goes on with the first number that was not whole", async (t) => {
  const directory = fresh();
  const spool = await openSpool(directory);
  for (const text of ["one", "two", "three"]) await spool.append([batchOf(text)]);
  const name = spool.name;
  await spool.close();
  const file = path.join(directory, "0000000000000001.wpspool1");
  const bytes = fs.readFileSync(file);
  for (let cut = bytes.length; cut >= 0; cut--) {
    fs.writeFileSync(file, bytes.subarray(0, cut));
    const again = await openSpool(directory);
    const whole = parseSegment(bytes.subarray(0, cut), 1);
    t.equal(again.nextSeq, whole.offsets.length + 1);
    t.equal(fs.statSync(file).size, whole.length);
    await again.append([batchOf("new")]);
    t.equal((await heldBy(again)).at(-1), `${whole.offsets.length + 1}:new`);
    t.equal(again.name, name);
    await again.close();
  }
});

t.test("numbers go on for ever; the oldest are discarded at the cap, and counted", async (t) => {
  const directory = fresh();
  let spool = await openSpool(directory, 64 << 10);
  for (let i = 0; i < 300; i++) {
    await spool.append([batchOf("x".repeat(1000))]);
    if (i === 10) await spool.acknowledge(5);
  }
  t.ok(spool.bytes <= 64 << 10, "the cap holds");
  t.ok(spool.firstSeq > 200);
  t.equal(spool.rowsHeld + spool.discarded.full + spool.rowsAcknowledged, 300);
  t.equal(spool.rowsHeld, 301 - spool.firstSeq);
  const { firstSeq } = spool;
  await spool.close();
  spool = await openSpool(directory, 64 << 10);
  t.equal(spool.nextSeq, 301);
  t.equal(spool.firstSeq, firstSeq);
  await spool.acknowledge(300);
  t.equal(spool.firstSeq, 301);
  await spool.close();
  spool = await openSpool(directory, 64 << 10);
  t.equal(spool.nextSeq, 301, "also when all is acknowledged");
  await t.rejects(openSpool(directory), { code: "CONFIG_SPOOL_IN_USE" });
  await spool.close();
});

/** A disk of which the call number `fails` fails with `code`. */
function failing(fails: number, code: string): { files: SpoolFiles; calls: () => number } {
  let calls = 0;
  const wrapped = Object.entries(DISK).map(([name, call]) => [
    name,
    async (...args: unknown[]) => {
      if (calls++ !== fails) return (call as (...a: unknown[]) => unknown)(...args);
      // A write that fails may have left a part.
      if (name === "writeAt")
        await DISK.writeAt(args[0] as number, new Uint8Array(9), args[2] as number);
      throw Object.assign(new Error(`${name} failed`), { code });
    },
  ]);
  return { files: Object.fromEntries(wrapped) as SpoolFiles, calls: () => calls };
}

t.test("each call to the disk fails once: every spooled batch is held once", async (t) => {
  for (const code of ["ENOSPC", "EIO"]) {
    for (let fails = 0; ; fails++) {
      const disk = failing(fails, code);
      const directory = fresh();
      const open = () => openSpool(directory, 64 << 10, disk.files);
      let spool = await open().catch(open);
      const spooled: string[] = [];
      const put = async (text: string) => {
        while ((await spool.append([batchOf(text)])) !== null);
        spooled.push(`${spool.nextSeq - 1}:${text}`);
      };
      for (let i = 0; i < 12; i++) await put(String(i).repeat(900));
      await spool.acknowledge(10);
      await spool.read(11).catch(() => {});
      await put("more");
      await spool.close();
      spool = await open().catch(open);
      await put("last");
      const held = await heldBy(spool).catch(() => heldBy(spool));
      t.strictSame(held, spooled.slice(-held.length), `${code} at call ${fails}`);
      t.ok(held.length >= spooled.length - 10, "what was not acknowledged is held");
      await spool.close();
      if (disk.calls() <= fails) break;
    }
  }
});

// ---- both sides in one process -------------------------------------------------------------

/** A collector that can be stopped and started, and links to it that lose what is under way. */
class World {
  readonly directory = fresh();
  store: Store | null = null;
  #all: Ingested | null = null;
  readonly #cuts = new Set<() => void>();
  readonly #random: () => number;
  lossy = true;
  storeFails = false;
  /** Refuses batches that hold this flow, as a collector of another release might. */
  refuses = "";

  constructor(random: () => number) {
    this.#random = random;
    this.start();
  }

  start(): void {
    if (!this.store) {
      const { append } = (this.store = openSqlite(this.directory));
      this.store.append = (received) =>
        this.storeFails
          ? Promise.reject(new Error("disk full"))
          : append.call(this.store, received);
    }
    this.#all ??= new Ingested(this.store, quiet, Date.now);
  }

  async stop(): Promise<void> {
    this.cut();
    const { store } = this;
    this.#all = this.store = null;
    await store?.close();
  }

  cut(): void {
    for (const cut of this.#cuts) cut();
  }

  readonly connect: Connect = async (events) => {
    const all = this.#all;
    if (!all || (this.lossy && this.#random() < 0.2)) throw new Error("no link");
    let open = true;
    const cut = () => {
      if (!open) return;
      open = false;
      this.#cuts.delete(cut);
      conversation.end();
      events.closed("cut");
    };
    this.#cuts.add(cut);
    const wire = (deliver: (bytes: Uint8Array) => void) => {
      let last = Promise.resolve();
      return (bytes: Uint8Array) => {
        const ms = this.#random() * 2;
        last = last
          .then(() => sleep(ms))
          .then(() => {
            if (this.lossy && this.#random() < 0.02) cut();
            if (open) deliver(bytes);
          });
      };
    };
    const toAgent = wire((bytes) => events.message(bytes));
    const conversation = new Conversation(all, "node-1", {
      send: toAgent,
      close: () => setTimeout(cut, 5),
      terminate: cut,
    });
    const take = wire((bytes) => {
      const { observations } = unpackr.unpack(bytes) as { observations?: Observation[] };
      const bad = observations?.some((o) => o.flow === this.refuses);
      if (bad) conversation.refuse("bad-message");
      else void conversation.take(bytes);
    });
    return { send: take, close: cut };
  };
}

/** A disk that is full while `full`. */
function fillable() {
  const disk = { full: false, files: DISK };
  const refuse = async () => {
    throw Object.assign(new Error("disk full"), { code: "ENOSPC" });
  };
  disk.files = {
    ...DISK,
    writeAt: (...args) => (disk.full ? refuse() : DISK.writeAt(...args)),
    sync: (fd) => (disk.full ? refuse() : DISK.sync(fd)),
  };
  return disk;
}

const uplinkOptions = (connect: Connect, directory: string): UplinkOptions => ({
  ...{ node: "node-1", software: "test", spoolDirectory: directory, connect, log: quiet },
  ...{ batchRowsLimit: 5, batchAgeMs: 3, inFlightLimit: 3, backoffMinMs: 2, backoffMaxMs: 10 },
});

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
  t.test(`every acknowledged observation arrives once, in order (seed ${seed})`, async (t) => {
    const random = seeded(seed);
    const world = new World(random);
    const disk = fillable();
    const options = { ...uplinkOptions(world.connect, fresh()), files: disk.files };
    let uplink = await Uplink.open(options);
    let discarded = 0;
    let offered = 0;
    const conserved = () => {
      const c = uplink.counters;
      const out = c.pending + c.spooled + c.acknowledged + sum(Object.values(c.discarded));
      t.equal(c.carried + c.offered, out, `conservation ${JSON.stringify(c)}`);
    };
    for (let step = 0; step < 60; step++) {
      for (let n = random() * 12; n > 0; n--) uplink.offer(observation(++offered));
      uplink.offer(coverage(step));
      const what = random();
      if (what < 0.1) world.cut();
      else if (what < 0.15) await world.stop();
      else if (what < 0.3) world.start();
      else if (what < 0.4) disk.full = !disk.full;
      else if (what < 0.45) world.storeFails = !world.storeFails;
      else if (what < 0.5) {
        disk.full = false;
        await uplink.stop(random() < 0.5 ? 0 : 20);
        conserved();
        discarded += sum(Object.values(uplink.counters.discarded));
        uplink = await Uplink.open(options);
      }
      await sleep(random() * 6);
    }
    world.start();
    world.lossy = world.storeFails = disk.full = false;
    await until("all acknowledged", () => {
      const { pending, spooled } = uplink.counters;
      return pending === 0 && spooled === 0;
    });
    conserved();
    discarded += sum(Object.values(uplink.counters.discarded));
    await uplink.stop();
    const numbers = arrived(world.store!);
    const watched = world.store!.coverageSince(0, 1e6).length;
    t.ok(
      numbers.every((n, i) => i === 0 || n > numbers[i - 1]!),
      "once, in order",
    );
    t.equal(numbers.length + watched + discarded, offered + 60, "all of them");
    t.strictSame(world.store!.gapsSince(0, 10), [], "no number is missing");
    await world.stop();
  });
}

t.test("what a full spool discards is a gap that the collector records", async (t) => {
  const world = new World(seeded(9));
  world.lossy = false;
  await world.stop();
  const options = { ...uplinkOptions(world.connect, fresh()), spoolBytesLimit: 64 << 10 };
  const uplink = await Uplink.open(options);
  for (let i = 1; i <= 1000; i++) uplink.offer(observation(i));
  await until("spooled", () => uplink.counters.pending === 0);
  const { full } = uplink.counters.discarded;
  t.ok(full > 100);
  world.start();
  await until("acknowledged", () => uplink.counters.spooled === 0);
  const numbers = arrived(world.store!);
  t.equal(numbers.length, 1000 - full);
  t.equal(numbers.at(-1), 1000);
  const gaps = world.store!.gapsSince(0, 10);
  t.match(gaps, [{ node: "node-1", from: 1, to: full / 5 }]);
  uplink.tellDiscards("ring");
  await until("told", () => uplink.counters.acknowledged === 1000 - full + 1);
  t.equal(toldLost(world.store!), full, "of which interface and time they were");
  uplink.tellDiscards("ring");
  t.equal(uplink.counters.offered, 1001, "once");
  t.type(uplink.clockOffsetMs, "number");
  t.ok(Math.abs(uplink.clockOffsetMs!) < 1000);
  await uplink.stop();
  await world.stop();
});

t.test("an agent's clock is heard all along, and a step of it is told", async (t) => {
  const store = openSqlite(fresh());
  const lines: string[] = [];
  let nowMs = 1_800_000_000_000;
  const all = new Ingested(
    store,
    (_, line) => lines.push(line),
    () => nowMs,
  );
  const conversation = new Conversation(all, "node-1", {
    ...{ send: quiet, close: quiet, terminate: quiet },
  });
  const tell = (message: object) => conversation.take(packr.pack(message));
  const offset = () => store.spools().map(({ clockOffsetMs }) => clockOffsetMs);
  await tell(hello({ clock_ms: nowMs + 10 }));
  t.strictSame(offset(), [10]);
  nowMs += 30_000;
  await tell({ type: "clock", clock_ms: nowMs + 40 });
  t.strictSame(offset(), [10], "within the way of a message");
  await tell({ type: "clock", clock_ms: nowMs + 700 });
  t.strictSame(offset(), [700]);
  t.strictSame(lines, []);
  await tell({ type: "clock", clock_ms: nowMs - 3_600_000 });
  t.strictSame(offset(), [-3_600_000]);
  t.match(lines, [/node-1: its clock moved by 3600\.7 s/]);
  await tell({ type: "clock", clock_ms: "now" });
  t.match(lines[1], /bad-message/);
  await store.close();
  // And agents tell it.
  const world = new World(seeded(10));
  world.lossy = false;
  const clocks: number[] = [];
  const connect: Connect = async (events) => {
    const link = await world.connect(events);
    const send = (bytes: Uint8Array) => {
      const told = unpackr.unpack(bytes) as { type: string; clock_ms: number };
      if (told.type === "clock") clocks.push(told.clock_ms);
      link.send(bytes);
    };
    return { close: (why) => link.close(why), send };
  };
  const options = { ...uplinkOptions(connect, fresh()), clockIntervalMs: 5 };
  const uplink = await Uplink.open(options);
  await until("told", () => clocks.length > 2);
  t.ok(clocks.every((ms) => Math.abs(ms - Date.now()) < 60_000));
  await uplink.stop();
  await world.stop();
});

t.test("a disk that stays full: rows beyond the limit are discarded, and counted", async (t) => {
  const world = new World(seeded(12));
  world.lossy = false;
  const disk = fillable();
  const lines: string[] = [];
  const log = (_: string, line: string) => void lines.push(line);
  const base = uplinkOptions(world.connect, fresh());
  const options = { ...base, batchRowsLimit: 500, files: disk.files, log };
  const uplink = await Uplink.open(options);
  disk.full = true;
  const taken = [...Array(20_100).keys()].filter((i) => uplink.offer(observation(i + 1))).length;
  t.equal(taken, 20_000);
  t.match(uplink.counters, { pending: 20_000, spooled: 0, discarded: { disk: 100 } });
  await sleep(50);
  disk.full = false;
  await until("acknowledged", () => uplink.counters.acknowledged === 20_000);
  const told = lines.filter((line) => line.startsWith("spool:"));
  t.match(told, [/cannot write: ENOSPC/, /takes batches again/], "one line a change of state");
  t.equal(told.length, 2);
  t.equal(arrived(world.store!).length, 20_000);
  uplink.tellDiscards("ring");
  await until("told", () => uplink.counters.acknowledged === 20_001);
  t.equal(toldLost(world.store!), 100);
  await uplink.stop();
  await world.stop();
});

t.test("a batch that the collector refuses does not hold up the others", async (t) => {
  const world = new World(seeded(13));
  world.lossy = false;
  world.refuses = "run.1.33";
  const uplink = await Uplink.open(uplinkOptions(world.connect, fresh()));
  const malformed = { ...observation(0), revision: -1 };
  t.equal(uplink.offer(malformed), false);
  for (let i = 1; i <= 100; i++) uplink.offer(observation(i));
  await until("all but one batch", () => uplink.counters.acknowledged === 95);
  t.match(uplink.counters, { spooled: 0, discarded: { refused: 5, malformed: 1 } });
  const numbers = arrived(world.store!);
  t.strictSame(
    numbers,
    [...Array(100).keys()].map((i) => i + 1).filter((i) => i < 31 || i > 35),
  );
  t.match(world.store!.gapsSince(0, 9), [{ from: 7, to: 7 }], "the collector knows of the loss");
  uplink.tellDiscards("ring");
  await until("told", () => uplink.counters.acknowledged === 96);
  t.equal(toldLost(world.store!), 6);
  await uplink.stop();
  await world.stop();
});

t.test("an agent stops at once while it is connecting", async (t) => {
  const never: Connect = () => new Promise(() => {});
  const uplink = await Uplink.open(uplinkOptions(never, fresh()));
  uplink.offer(observation(1));
  const before = Date.now();
  await uplink.stop();
  t.ok(Date.now() - before < 1000);
  t.equal(uplink.counters.spooled, 1, "what was offered is in the spool");
});

t.test("a spool that went back in time begins a new numbering", async (t) => {
  const world = new World(seeded(10));
  world.lossy = false;
  const directory = fresh();
  const send = async (from: number) => {
    const uplink = await Uplink.open(uplinkOptions(world.connect, directory));
    for (let i = from; i < from + 5; i++) uplink.offer(observation(i));
    await until("acknowledged", () => uplink.connected && uplink.counters.spooled === 0);
    await until("acknowledged", () => uplink.counters.acknowledged > 0);
    await uplink.stop();
  };
  await send(1);
  fs.cpSync(directory, `${directory}-before`, { recursive: true });
  await send(6);
  fs.rmSync(directory, { recursive: true });
  fs.renameSync(`${directory}-before`, directory);
  await send(11);
  const numbers = arrived(world.store!);
  t.strictSame(
    [...new Set(numbers)],
    [...Array(15).keys()].map((i) => i + 1),
    "nothing is lost",
  );
  await world.stop();
});

t.test("the store: revisions, intervals, cursors, verdicts, expiry", async (t) => {
  const store = openSqlite(fresh());
  const put = (seq: number, observations: Observation[]) =>
    store.append({
      ...{ node: "n", spool: "s", receivedMs: seq * 1000 },
      batch: {
        type: "batch",
        seq,
        clock_ms: AT_MS + 10_000,
        observations,
        coverage: [coverage(seq)],
      },
    });
  const second = { ...observation(1), revision: 2 };
  const done = await Promise.all([put(1, [observation(1), observation(2)]), put(2, [second])]);
  t.strictSame(
    done,
    [1, 2].map(() => ({ duplicate: false, gap: null })),
  );
  t.strictSame(await put(2, [second]), { duplicate: true, gap: null });
  t.strictSame(await put(5, []), { duplicate: false, gap: { from: 3, to: 4 } });
  t.equal(store.acknowledged("n", "s"), 5);
  t.equal(store.acknowledged("n", "other"), 0);
  t.strictSame(store.observation("n", "run.1.1")?.observation, second);
  t.equal(store.observation("n", "none"), null);
  t.strictSame(
    store.observationsSince(1, 1).map((row) => row.id),
    [2],
  );
  const at = Date.parse("2026-11-22T01:02:04Z");
  t.strictSame(
    [...store.flowsBetween(at, at + 1)].map((row) => row.id),
    [2, 3],
  );
  t.strictSame([...store.flowsBetween(at + 600, at + 700)], []);
  t.strictSame(
    store.coverageBetween(AT_MS + 2, AT_MS + 3).map((row) => row.coverage.from_ms - AT_MS),
    [2],
  );
  const row = { fromMs: 0, toMs: 60, edge: "a>b:1", aspect: "transport", body: { verdict: "x" } };
  store.saveVerdicts([row, { ...row, aspect: "path" }], { observations: 3 });
  store.saveVerdicts([{ ...row, body: { verdict: "y" } }], { observations: 4 });
  t.equal(store.cursor("observations"), 4);
  t.equal(store.cursor("other"), 0);
  const query = { fromMs: 59, toMs: 61 };
  t.strictSame(store.verdicts({ ...query, aspect: "transport" }), [
    { ...row, body: { verdict: "y" } },
  ]);
  t.equal(store.verdicts({ ...query, edge: "a>b:1" }).length, 2);
  t.throws(() => store.saveVerdicts([{ ...row, body: 1n }], { observations: 9 }));
  t.equal(store.cursor("observations"), 4, "both or neither");
  t.equal(store.expireFlows(2000), 3);
  t.strictSame(
    store.observationsSince(0, 9).map((r) => r.id),
    [3],
  );
  t.equal(store.expireVerdicts(61), 2);
  await store.close();
});

// ---- over TLS ------------------------------------------------------------------------------

type Pki = { directory: string; collector: string[]; agent: string[]; ca: string };

async function makePki(agent = "node-1", days = 1): Promise<Pki> {
  const directory = fresh();
  const [ca] = await initCa(directory, "test.domain");
  return {
    ...{ directory, ca: ca! },
    collector: await issue(directory, { ip: ["127.0.0.1"] }),
    agent: await issue(directory, { agent, days }),
  };
}

async function listenWith(pki: Pki, store: Store, lines: string[]): Promise<Ingest> {
  return listen({
    ...{ host: "127.0.0.1", port: 0, trustDomain: "test.domain", store, reloadIntervalMs: 30 },
    ...{ certFile: pki.collector[0]!, keyFile: pki.collector[1]!, caFile: pki.ca },
    log: (_, text) => lines.push(text),
  });
}

/** A client that says whatever it is told to; `said` is what it heard, and how it ended. */
function stranger(ingest: Ingest, pki: Pki, leaf: string[] | null) {
  const said: unknown[] = [];
  const read = (file: string) => fs.readFileSync(file);
  const ws = new WebSocket(`wss://127.0.0.1:${ingest.port}${UPLINK_PATH}`, {
    ca: read(pki.ca),
    ...(leaf ? { cert: read(leaf[0]!), key: read(leaf[1]!) } : {}),
  });
  ws.on("message", (data) => said.push(unpackr.unpack(data as Buffer)));
  ws.on("error", () => {});
  const ended = new Promise<string>((resolve) =>
    ws.on("close", (code, reason) => resolve(`${code} ${reason}`)),
  );
  const opened = new Promise<boolean>((resolve) => {
    ws.on("open", () => resolve(true));
    ws.on("close", () => resolve(false));
  });
  return { ws, said, ended, opened, send: (m: unknown) => ws.send(packr.pack(m)) };
}

const hello = (more: object = {}) => ({
  ...{ type: "hello", version: 1, node: "node-1", spool: "spool-one", first_seq: 1 },
  ...{ software: "test", clock_ms: Date.now(), ...more },
});
const batch = (seq: number, more: object = {}) => ({
  ...{
    type: "batch",
    seq,
    clock_ms: AT_MS + 10_000,
    observations: [observation(seq)],
    coverage: [],
    ...more,
  },
});

const at = (times: { start?: string; end?: string }): Observation => {
  const one = observation(1);
  return { ...one, record: { ...one.record, ...times } };
};

t.test("a strange message closes its own connection only, with a reason", async (t) => {
  const pki = await makePki();
  const store = openSqlite(fresh());
  const lines: string[] = [];
  const ingest = await listenWith(pki, store, lines);
  const other = await issue(pki.directory, { agent: "node-2" });
  const steady = stranger(ingest, pki, other);
  await steady.opened;
  steady.send(hello({ node: "node-2" }));

  const refused = async (code: string, close: string, ...messages: unknown[]) => {
    const one = stranger(ingest, pki, pki.agent);
    t.ok(await one.opened);
    for (const m of messages) m instanceof Uint8Array ? one.ws.send(m) : one.send(m);
    t.equal(await one.ended, `${close} ${code}`);
    t.match(one.said.at(-1), { type: "refuse", code, text: String });
    await until("gone", () => !ingest.nodes().includes("node-1"));
  };
  await refused("bad-message", "1008", Uint8Array.of(0xc1, 0xff));
  await refused("bad-message", "1008", null);
  await refused("bad-message", "1008", batch(1));
  await refused("bad-message", "1008", hello(), hello());
  await refused("bad-message", "1008", hello(), batch(1, { coverage: [{ interface: 7 }] }));
  const later = { from_ms: AT_MS + 9_000, to_ms: AT_MS + 90_000 };
  for (const unjudgeable of [
    { observations: [at({ start: "yesterday" })] },
    { observations: [at({ end: "2026-13-40T01:02:03Z" })] },
    { observations: [at({ start: "2026-11-22T01:02:05Z" })] }, // ends before
    { observations: [at({ end: "2027-11-22T01:02:03Z" })] }, // by its own clock not yet
    { observations: [at({ start: "1970-01-01T00:00:00Z" })] },
    { observations: [observation(1), at({ start: "" })] },
    { coverage: [{ ...coverage(1), ...later }] },
    { coverage: [{ ...coverage(1), from_ms: AT_MS + 9_000 }] },
    { coverage: [{ ...coverage(1), from_ms: -8e15 }] },
    { coverage: [{ ...coverage(1), discards: [{ ...later, interface: "*", observations: 1 }] }] },
  ]) {
    await refused("bad-message", "1008", hello(), batch(1, unjudgeable));
  }
  t.equal(store.acknowledged("node-1", "spool-one"), 0);
  await refused("unsupported-version", "1008", hello({ version: 2 }));
  await refused("wrong-node", "1008", hello({ node: "node-9" }));
  const { append } = store;
  store.append = (received) => sleep(50).then(() => append.call(store, received));
  await refused("out-of-order", "1008", hello(), batch(5), batch(4));
  store.append = append;
  await refused("too-large", "1009", hello(), Buffer.alloc(MESSAGE_BYTES_LIMIT + 1));
  const huge = stranger(ingest, pki, pki.agent);
  await huge.opened;
  huge.ws.send(Buffer.alloc(MESSAGE_BYTES_LIMIT * 2 + 1));
  t.match(await huge.ended, /^1009/);

  const first = stranger(ingest, pki, pki.agent);
  await first.opened;
  first.send(hello());
  await until("welcome", () => first.said.length === 1);
  const second = stranger(ingest, pki, pki.agent);
  await second.opened;
  second.send(hello({ spool: "spool-two" }));
  t.equal(await second.ended, "1008 duplicate-node");
  t.ok(lines.some((line) => line.includes("node-1: duplicate-node")));
  const same = stranger(ingest, pki, pki.agent);
  await same.opened;
  same.send(hello());
  t.match(await first.ended, /^1006/, "the same spool replaces its own older socket");
  same.send(batch(5));
  same.send(batch(6));
  await until("acks", () => same.said.length === 3);
  t.match(same.said, [{ type: "welcome", acknowledged: 5 }, { seq: 5 }, { seq: 6 }]);
  t.strictSame(arrived(store), [5, 6], "a duplicate is acknowledged again, not stored");
  t.match(store.gapsSince(0, 9), [{ from: 1, to: 4 }]);
  t.match(ingest.counters, { batches: 2, duplicates: 1, lost: 4, refused: { "too-large": 2 } });

  store.append = () => Promise.reject(new Error("disk full"));
  same.send(batch(7));
  t.equal(await same.ended, "1013 not-durable");
  t.equal(same.said.length, 4, "nothing acknowledged");
  t.equal(steady.ws.readyState, WebSocket.OPEN, "the others go on");
  t.strictSame(ingest.nodes(), ["node-2"]);
  steady.ws.terminate();
  await ingest.close();
  await store.close();
});

t.test("a certificate that proves no agent is refused in the handshake", async (t) => {
  const pki = await makePki();
  const foreign = await makePki();
  const store = openSqlite(fresh());
  const lines: string[] = [];
  const ingest = await listenWith(pki, store, lines);
  const expired = await issue(pki.directory, { agent: "old", days: -1 });
  t.notOk(await stranger(ingest, pki, foreign.agent).opened);
  t.notOk(await stranger(ingest, pki, expired).opened);
  t.notOk(await stranger(ingest, pki, null).opened);
  t.notOk(await stranger(ingest, pki, pki.collector).opened);
  await new Promise<void>((resolve) => {
    const socket = tls.connect(ingest.port, "127.0.0.1", { ca: fs.readFileSync(pki.ca) });
    socket.on("error", () => {}).on("close", () => resolve());
  });
  const { handshakes } = ingest.counters;
  t.match(handshakes, { "other-ca": 1, expired: 1, "no-certificate": 2, "wrong-purpose": 1 });
  for (const reason of Object.keys(handshakes)) {
    const told = lines.filter((line) => line.includes(`in the handshake: ${reason}`));
    t.match(told, [/^ingest: 127\.0\.0\.1: /], `one line: ${reason}`);
  }
  await ingest.close();
  await store.close();
});

t.test("an agent takes changed key files, and refuses another's collector", async (t) => {
  const pki = await makePki();
  const store = openSqlite(fresh());
  const ingest = await listenWith(pki, store, []);
  const link = {
    ...{ certFile: pki.agent[0]!, keyFile: pki.agent[1]!, caFile: pki.ca, reloadIntervalMs: 20 },
    ...{ url: `wss://127.0.0.1:${ingest.port}`, trustDomain: "test.domain" },
  };
  const lines: string[] = [];
  const log = (_: string, text: string) => void lines.push(text);
  const uplink = await Uplink.open({ ...uplinkOptions(await tlsLink(link), fresh()), log });
  await until("connected", () => uplink.connected);
  await issue(pki.directory, { agent: "node-1" });
  await until("told", () => lines.some((line) => line.includes("key files changed")));
  await until("connected", () => uplink.connected);
  uplink.offer(observation(1));
  await until("acknowledged", () => uplink.counters.acknowledged === 1);
  await issue(pki.directory, { ip: ["127.0.0.1"] });
  await uplink.stop();

  const wrong = await tlsLink({ ...link, trustDomain: "elsewhere" });
  await t.rejects(wrong({ message: quiet, closed: quiet }), /does not name spiffe:..elsewhere/);
  const agentOnly = { ...link, keyFile: pki.ca };
  await t.rejects(tlsLink(agentOnly), { code: "CONFIG_UPLINK_KEYS" });
  await t.rejects(tlsLink({ ...link, url: "http://x" }), { code: "CONFIG_UPLINK_URL" });
  await ingest.close();
  await store.close();
});

t.test("agents that read different flows are named, those that do not are not", async (t) => {
  const pki = await makePki("node-0");
  const store = openSqlite(fresh());
  const lines: string[] = [];
  const ingest = await listenWith(pki, store, lines);
  const flags = { collector: "wss://c", key: "k", cert: "c", ca: "a" };
  const join = async (node: string, sampling: string, samplingKey: string) => {
    const [certFile, keyFile] = await issue(pki.directory, { agent: node });
    const connect = await tlsLink({
      ...{ certFile: certFile!, keyFile: keyFile!, caFile: pki.ca, trustDomain: "test.domain" },
      url: `wss://127.0.0.1:${ingest.port}`,
    });
    const { sampleTold: sample } = readAgentConfig({ ...flags, sampling, samplingKey });
    const uplink = await Uplink.open({ ...uplinkOptions(connect, fresh()), node, sample });
    await until("connected", () => uplink.connected);
    return uplink;
  };
  const old = stranger(ingest, pki, pki.agent);
  await old.opened;
  old.send(hello({ node: "node-0" }));
  await until("welcome", () => old.said.length === 1);
  t.strictSame(ingest.samples(), [], "an older agent does not say which flows it reads");

  const first = await join("node-1", "1/8", "secret");
  const second = await join("node-2", "0.125", "secret");
  // printf 'wireproof sampling key\0secret' | sha256sum | cut -c-16
  const [key, other] = ["225fcc244e5250a6", "db6ad273ebe18660"];
  t.strictSame(ingest.samples(), [{ rate: 0.125, key, nodes: ["node-1", "node-2"] }]);
  t.strictSame(lines, [], "alike");
  const third = await join("node-3", "1/8", "other");
  const differing = { rate: 0.125, key: other, nodes: ["node-3"] };
  t.match(ingest.samples(), [{ nodes: ["node-1", "node-2"] }, differing]);
  const fourth = await join("node-4", "1/8", "other");
  t.equal(lines.length, 1, "one line for all of them");
  t.equal(
    lines[0],
    "ingest: agents read different flows, so that of a connection one end alone may be seen: " +
      `0.125 by key ${key}: node-1, node-2; 0.125 by key ${other}: node-3 (shares of all flows); ` +
      "give all of them the same --sampling and --sampling-key",
  );
  const all = await join("node-5", "1", "other");
  t.match(
    lines[1],
    `: 1: node-5; 0.125 by key ${key}: node-1, node-2; 0.125 by key ${other}: node`,
  );
  t.match(ingest.samples()[0], { rate: 1, key: null, nodes: ["node-5"] });
  for (const uplink of [first, second, all]) await uplink.stop();
  await until("gone", () => ingest.samples().length === 1);
  const again = await join("node-1", "1/8", "other");
  t.strictSame(lines.slice(2), ["ingest: agents read the same flows again"]);
  const bad = stranger(ingest, pki, await issue(pki.directory, { agent: "node-6" }));
  await bad.opened;
  bad.send(hello({ node: "node-6", sample: { rate: 0.5, key: "the key itself" } }));
  t.equal(await bad.ended, "1008 bad-message");
  for (const uplink of [third, fourth, again]) await uplink.stop();
  old.ws.terminate();
  await ingest.close();
  await store.close();
});

t.test("a node's name is read from exactly one well-formed SPIFFE id", async (t) => {
  const named = (subjectAltName: string | undefined) => nodeOf({ subjectAltName }, "td");
  t.equal(named("URI:spiffe://td/agent/node-1.example"), "node-1.example");
  t.equal(named("DNS:x, URI:spiffe://td/agent/n, IP Address:1.2.3.4"), "n");
  for (const bad of [
    ...[undefined, "", "DNS:spiffe://td/agent/n", "URI:spiffe://td/agent/"],
    ...["URI:spiffe://td/agent/a/b", "URI:spiffe://other/agent/n", "URI:spiffe://td/collector"],
    ...["URI:spiffe://td/agent/n, URI:spiffe://td/agent/m", "URI:spiffe://td/agent/.."],
    ...[
      'URI:"spiffe://td/agent/n"',
      'DNS:"x, URI:spiffe://td/agent/n"',
      "URI:spiffe://td/agent/n?",
    ],
  ]) {
    t.equal(named(bad), null, String(bad));
  }
});

// ---- two processes, killed -----------------------------------------------------------------

/** Runs a program text as a child process, resolving once it has printed a line. */
async function start(program: string): Promise<{ child: ChildProcess; line: string }> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise<string>((resolve) => child.stdout!.once("data", resolve));
  child.stdout!.resume();
  return { child, line: String(line).trim() };
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

t.test("SIGKILL of either side at any time loses and repeats nothing", async (t) => {
  const pki = await makePki();
  const [spool, data, numbers] = [fresh(), fresh(), path.join(fresh())];
  const url = (file: string) => JSON.stringify(path.join(root, file));
  const keys = (leaf: string[]) =>
    JSON.stringify({ certFile: leaf[0], keyFile: leaf[1], caFile: pki.ca });
  const collector = (port: number) => `
    import { listen } from ${url("collector/ingest/ingest.ts")};
    import { openSqlite } from ${url("collector/store/sqlite.ts")};
    const ingest = await listen({ ...${keys(pki.collector)}, host: "127.0.0.1", port: ${port},
      trustDomain: "test.domain", store: openSqlite("${data}"), log() {} });
    console.log(ingest.port);`;
  // The agent writes down what it offered, before; the next one goes on behind it.
  const agent = (port: number) => `
    import fs from "node:fs";
    import { Uplink } from ${url("agent/uplink/uplink.ts")};
    import { tlsLink } from ${url("agent/uplink/link.ts")};
    const connect = await tlsLink({ ...${keys(pki.agent)}, url: "wss://127.0.0.1:${port}" });
    const uplink = await Uplink.open({ node: "node-1", software: "t", connect, log() {},
      spoolDirectory: "${spool}", batchRowsLimit: 10, batchAgeMs: 5, backoffMinMs: 10,
      backoffMaxMs: 50 });
    const row = ${JSON.stringify(observation(0))};
    let i = fs.existsSync("${numbers}") ? Number(fs.readFileSync("${numbers}", "utf8")) : 0;
    console.log("ready");
    setInterval(() => {
      const before = uplink.counters;
      if (before.pending > 200) return;
      fs.writeFileSync("${numbers}.new", String(i + 20));
      fs.renameSync("${numbers}.new", "${numbers}");
      for (let n = 0; n < 20; n++) uplink.offer({ ...row, flow: "run.1." + ++i });
    }, 2);`;
  let sink = await start(collector(0));
  const port = Number(sink.line);
  const random = seeded(11);
  let source = await start(agent(port));
  for (let round = 0; round < 3; round++) {
    await sleep(150 + random() * 250);
    await kill(source.child);
    source = await start(agent(port));
    await sleep(150 + random() * 250);
    await kill(sink.child);
    sink = await start(collector(port));
  }
  await sleep(400);
  await kill(source.child);
  await kill(sink.child);

  // What the spool still holds is what the collector lacks, and nothing else is missing.
  const store = openSqlite(data);
  const held = await openSpool(spool);
  const acknowledged = store.acknowledged("node-1", held.name);
  const waiting: number[] = [];
  for (let seq = acknowledged + 1; ;) {
    const next = await held.read(seq);
    if (next === null) break;
    t.equal(next.seq, seq++, "the spool goes on where the collector stands");
    const { observations } = unpackr.unpack(next.payload) as { observations: Observation[] };
    waiting.push(...observations.map(numberOf));
  }
  const all = [...arrived(store), ...waiting];
  t.comment(`${arrived(store).length} arrived, ${waiting.length} in the spool`);
  t.ok(arrived(store).length > 100);
  t.ok(
    all.every((n, i) => i === 0 || n > all[i - 1]!),
    "once, in order",
  );
  t.strictSame(store.gapsSince(0, 9), []);
  // Only what was in a killed agent's memory, never spooled, may be missing: a run of numbers at
  // each of its ends.
  const holes = all.filter((n, i) => i > 0 && n !== all[i - 1]! + 1).length;
  t.ok(holes <= 4, `${holes} holes for 4 kills`);
  await held.close();
  await store.close();
});

t.test("what is given up is remembered by interface and minute, and not without end", async (t) => {
  const discards = new Discards();
  const at = (name: string, second: number, i = 0): Observation => {
    const time = (s: number) => new Date(Date.UTC(2026, 10, 22, 1, 0, s)).toISOString();
    const { record, ...rest } = observation(i);
    const span = { start: time(second - 5), end: time(second) };
    return { ...rest, interface: name, record: { ...record, ...span } };
  };
  const rowsOf = () => discards.take("ring").flatMap((row) => row.discards ?? []);
  for (const second of [10, 20, 70]) discards.note(at("veth1", second));
  discards.note(at("veth2", 20));
  t.strictSame(
    rowsOf().map((row) => [row.interface, row.to_ms - row.from_ms, row.observations]),
    [
      ["veth1", 15_000, 2],
      ["veth1", 5_000, 1],
      ["veth2", 5_000, 1],
    ],
  );
  t.strictSame(rowsOf(), []);
  // What was told of others and given up itself is told again.
  discards.note(at("veth1", 10));
  const [row] = discards.take("ring");
  discards.note(row!);
  t.strictSame(discards.take("ring"), [row]);
  discards.note(coverage(3));
  t.strictSame(rowsOf(), [], "coverage that is missing covers nothing");
  for (let i = 0; i < 5000; i++) discards.note(at(`veth${i}`, 10));
  const many = discards.take("ring");
  t.ok(many.every((told) => told.discards!.length <= 64));
  const all = many.flatMap((told) => told.discards!);
  t.ok(all.length <= 1025);
  t.equal(sum(all.map((told) => told.observations)), 5000);
  t.ok(all.some((told) => told.interface === "*" && told.observations > 3000));
  // A batch that nobody can read.
  discards.noteBatch(7, null, 9000);
  discards.noteBatch(5, new Uint8Array([0xc1]), 9000);
  t.strictSame(rowsOf(), [{ interface: "*", from_ms: 0, to_ms: 9000, observations: 12 }]);
});
