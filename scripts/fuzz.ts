/**
 * Sends mutated frames of the golden captures through the line; nothing may be thrown, memory stays
 * bounded, every frame and flow is accounted for, and work is bounded by what came, counted in
 * reads and not in time: `npm run fuzz -- [COUNT] [SEED]`.
 */
import { globSync } from "node:fs";
import path from "node:path";
import { readPcapFile } from "../agent/capture/pcap-file.ts";
import { FLOW_TABLE_DEFAULTS } from "../agent/flow/flow-table.ts";
import { SLOT_BYTES } from "../agent/flow/opening.ts";
import { Line } from "../agent/line.ts";
import type { Flow } from "../protocol/flow-record.ts";

const GOLDEN = path.join(import.meta.dirname, "../test/golden");
const TABLE = { ...FLOW_TABLE_DEFAULTS, flows: 2048, slots: 1024, livingSeconds: 20 };

type Frame = { bytes: Uint8Array<ArrayBuffer>; linkType: number };
export type Outcome = {
  frames: number;
  flows: number;
  records: Map<string, number>;
  /** Bytes sent, reads that they caused, and most reads that one frame caused. */
  bytes: number;
  steps: number;
  mostSteps: number;
};

/** Reads that a byte sent may cause, over all frames of a run. */
const STEPS_PER_BYTE = 4;
/** Reads that one frame may cause by each byte that it and both openings of its flow can hold. */
const STEPS_PER_HELD_BYTE = 2;

/**
 * Counts what is read of any view while `work` runs: a step is one read of one to four bytes, and
 * all decoding is made of them.
 */
async function counting<T>(work: (steps: () => number) => Promise<T>): Promise<T> {
  const proto = DataView.prototype;
  const names = ["getUint8", "getUint16", "getUint32", "getInt16", "getInt32"] as const;
  const originals = names.map((name) => proto[name]);
  let steps = 0;
  names.forEach((name, i) => {
    const original = originals[i]!;
    proto[name] = function (this: DataView, at: number, little?: boolean) {
      steps++;
      return original.call(this, at, little);
    };
  });
  try {
    return await work(() => steps);
  } finally {
    names.forEach((name, i) => (proto[name] = originals[i]!));
  }
}

/** Cuts a TCP segment over IPv4 into segments of at most `size` bytes; others stay whole. */
function drip(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer>[] {
  const view = new DataView(bytes.buffer);
  if (bytes.length < 54 || view.getUint16(12) !== 0x0800 || view.getUint8(23) !== 6) return [bytes];
  const tcpAt = 14 + (view.getUint8(14) & 15) * 4;
  if (tcpAt + 20 > bytes.length) return [bytes];
  const payloadAt = tcpAt + (view.getUint8(tcpAt + 12) >> 4) * 4;
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  for (let at = payloadAt; at < bytes.length && pieces.length < 2048; at += size) {
    const payload = bytes.subarray(at, Math.min(bytes.length, at + size));
    const piece = new Uint8Array(payloadAt + payload.length);
    piece.set(bytes.subarray(0, payloadAt));
    piece.set(payload, payloadAt);
    const head = new DataView(piece.buffer);
    head.setUint16(16, piece.length - 14);
    head.setUint32(tcpAt + 4, (view.getUint32(tcpAt + 4) + at - payloadAt) >>> 0);
    pieces.push(piece);
  }
  return pieces.length === 0 ? [bytes] : pieces;
}

async function framesOf(file: string): Promise<Frame[]> {
  const frames: Frame[] = [];
  await readPcapFile(file, new Float64Array(1), (view, at, end, _wire, linkType) => {
    const bytes = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset + at, end - at);
    frames.push({ bytes: bytes.slice(), linkType });
  });
  return frames;
}

/** Numbers below a bound from a seed (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

/** A frame with bytes flipped, cut, doubled, or lengths made to lie. */
function mutate(bytes: Uint8Array<ArrayBuffer>, below: (n: number) => number) {
  const length = bytes.length;
  switch (below(6)) {
    case 0:
      return bytes.slice(0, below(length + 1));
    case 1:
    case 2: {
      const copy = bytes.slice();
      for (let n = 1 + below(4); n > 0; n--) copy[below(length)] = below(256);
      return copy;
    }
    case 3: {
      // In the headers, where lengths, offsets and flags are.
      const copy = bytes.slice();
      copy[12 + below(Math.min(length - 12, 60))] = below(256);
      return copy;
    }
    case 4: {
      const copy = bytes.slice();
      const at = below(length);
      copy.copyWithin(at, below(length), length);
      return copy;
    }
    case 5: {
      // Record and message lengths, right behind the headers.
      const copy = bytes.slice();
      if (length > 80) copy[66 + below(Math.min(length - 66, 24))] = [0, 1, 127, 255][below(4)]!;
      return copy;
    }
    default:
      return bytes;
  }
}

/** Runs `count` frames; throws what the line throws, with the seed that brings it back. */
export function fuzz(count: number, seed: number): Promise<Outcome> {
  return counting((steps) => run(count, seed, steps));
}

async function run(count: number, seed: number, steps: () => number): Promise<Outcome> {
  const captures: Frame[][] = [];
  for (const file of globSync("*.pcap", { cwd: GOLDEN }).sort()) {
    captures.push(await framesOf(path.join(GOLDEN, file)));
  }
  const below = random(seed);
  const records = new Map<string, number>();
  let final = 0;
  const onFlow = (record: Flow, _flow: number, isFinal: boolean) => {
    if (isFinal) final++;
    JSON.stringify(record);
    const key = record.protocol ?? record.encryption;
    records.set(key, (records.get(key) ?? 0) + 1);
  };
  const line = new Line({ table: TABLE, revisions: true, reportIntervalMs: 1000 }, onFlow);
  let done = 0;
  let rounds = 0;
  let bytes = 0;
  let mostSteps = 0;
  let timeUs = 1.7e15;
  const startSteps = steps();
  while (done < count) {
    const frames = captures[below(captures.length)]!;
    // The same connections again and again, each time on an interface of their own.
    const lane = ++rounds & 0xffff;
    const size = below(16) === 0 ? 1 + below(16) : 0;
    const oneIn = [2, 16, 64][below(3)]!; // what is mutated less often is read further
    for (let i = 0; i < frames.length && done < count; i++) {
      const pick = below(oneIn * 4) === 0 ? below(frames.length) : i; // out of order, again, never
      const { bytes: whole, linkType } = frames[pick]!;
      for (const piece of size > 0 ? drip(whole, size) : [whole]) {
        if (done === count) break;
        const frame = below(oneIn) === 0 ? mutate(piece, below) : piece;
        timeUs += below(oneIn * 25) === 0 ? below(20_000_000) - 1000 : below(1000);
        const before = steps();
        try {
          line.clock[0] = timeUs;
          const view = new DataView(frame.buffer);
          line.frame(view, 0, frame.length, frame.length, linkType, lane);
          if (below(2000) === 0) line.report(4);
        } catch (error) {
          const hex = Buffer.from(frame).toString("hex");
          throw new Error(`seed ${seed}, frame ${done}: ${hex}`, { cause: error });
        }
        done++;
        bytes += frame.length;
        const took = steps() - before;
        mostSteps = Math.max(mostSteps, took);
        const { table } = line;
        const fits = table.count <= table.capacity && table.openings.inUse <= TABLE.slots;
        const isBounded = took <= STEPS_PER_HELD_BYTE * (frame.length + 2 * SLOT_BYTES);
        if (!fits || !isBounded) {
          const hex = Buffer.from(frame).toString("hex");
          throw new Error(`seed ${seed}, frame ${done}: out of bounds, ${took} reads: ${hex}`);
        }
      }
    }
  }
  const total = steps() - startSteps;
  if (total > STEPS_PER_BYTE * bytes) {
    throw new Error(`seed ${seed}: ${total} reads for ${bytes} bytes`);
  }
  line.finish();
  const { counters, table } = line;
  const kept =
    counters.frames === count &&
    counters.opened === counters.ended &&
    counters.ended === final &&
    table.count === 0 &&
    table.openings.inUse === 0;
  if (!kept) throw new Error(`seed ${seed}: ${JSON.stringify(counters)}, ${final} told as final`);
  return { frames: count, flows: final, records, bytes, steps: total, mostSteps };
}

if (process.argv[1] === import.meta.filename) {
  const [count = 5_000_000, seed = Date.now() % 1_000_000_000] = process.argv.slice(2).map(Number);
  if (!Number.isSafeInteger(count) || count < 1 || !Number.isSafeInteger(seed)) {
    console.error("fuzz: COUNT and SEED are whole numbers: npm run fuzz -- [COUNT] [SEED]");
    process.exit(2);
  }
  console.log(`seed ${seed}`);
  const { frames, flows, records, bytes, steps, mostSteps } = await fuzz(count, seed);
  const kinds = [...records].map(([kind, n]) => `${n} ${kind}`).join(", ");
  console.log(`${frames} frames, ${flows} flows; told: ${kinds}`);
  console.log(
    `${(steps / bytes).toFixed(2)} reads a byte (at most ${STEPS_PER_BYTE}), ` +
      `${mostSteps} for one frame`,
  );
}
