/**
 * Sends mutated frames of the golden captures through the line; nothing may be thrown, memory stays
 * bounded, every frame and flow is accounted for: `npm run fuzz -- [COUNT] [SEED]`.
 */
import { globSync } from "node:fs";
import path from "node:path";
import { readPcapFile } from "../agent/capture/pcap-file.ts";
import { FLOW_TABLE_DEFAULTS } from "../agent/flow/flow-table.ts";
import { Line } from "../agent/line.ts";
import type { Flow } from "../protocol/flow-record.ts";

const GOLDEN = path.join(import.meta.dirname, "../test/golden");
const TABLE = { ...FLOW_TABLE_DEFAULTS, flows: 1024, slots: 128 };

type Frame = { bytes: Uint8Array<ArrayBuffer>; linkType: number };
export type Outcome = { frames: number; flows: number; records: Map<string, number> };

async function framesOf(file: string): Promise<Frame[]> {
  const frames: Frame[] = [];
  await readPcapFile(file, (view, at, end, _wire, _timeUs, linkType) => {
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

/** A frame with bytes flipped, cut, doubled, or lengths made to lie; half of them as they were. */
function mutate(bytes: Uint8Array<ArrayBuffer>, below: (n: number) => number) {
  const length = bytes.length;
  switch (below(12)) {
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
export async function fuzz(count: number, seed: number): Promise<Outcome> {
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
  let timeUs = 1.7e15;
  while (done < count) {
    const frames = captures[below(captures.length)]!;
    const lane = below(64);
    for (let i = 0; i < frames.length && done < count; i++) {
      const pick = below(8) === 0 ? below(frames.length) : i; // out of order, again, never
      const { bytes, linkType } = frames[pick]!;
      const frame = mutate(bytes, below);
      timeUs += below(50) === 0 ? below(20_000_000) - 1000 : below(1000);
      const view = new DataView(frame.buffer);
      try {
        line.frame(view, 0, frame.length, frame.length, timeUs, linkType, lane);
        if (below(2000) === 0) line.report(4);
      } catch (error) {
        const hex = Buffer.from(frame).toString("hex");
        throw new Error(`seed ${seed}, frame ${done}: ${hex}`, { cause: error });
      }
      done++;
      const { table } = line;
      const fits = table.count <= table.capacity && table.openings.inUse <= TABLE.slots;
      if (!fits) throw new Error(`seed ${seed}, frame ${done}: out of bounds`);
    }
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
  return { frames: count, flows: final, records };
}

if (process.argv[1] === import.meta.filename) {
  const count = Number(process.argv[2] ?? 1_000_000);
  const seed = Number(process.argv[3] ?? Date.now() % 1_000_000_000);
  console.log(`seed ${seed}`);
  const { frames, flows, records } = await fuzz(count, seed);
  const kinds = [...records].map(([kind, n]) => `${n} ${kind}`).join(", ");
  console.log(`${frames} frames, ${flows} flows; told: ${kinds}`);
}
