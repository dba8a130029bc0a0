/** Writes the capture of the bench: recorded flows multiplied, interleaved in time. */
import { closeSync, openSync, writeSync } from "node:fs";
import { bulkOf, loadTemplates, readdress } from "./traffic.ts";
import type { Frame } from "./traffic.ts";

/** Microseconds between the beginnings of two flows, and between two frames of a flow. */
const EVERY_US = 50;
const STEP_US = 900;
/** Data segments of the server's behind the recorded ones: most flows few, some many. */
const BULK_BYTES = 250;
const START_S = 1_795_000_000;

/** One frame to come: of flow `flow`, written with the given shift of the server's stream. */
type Next = { frame: Frame; flow: number; shift: number };

/** Packets of bulk of flow `i`: a heavy tail, 24 on average, each answered. */
const bulkOfFlow = (i: number): number => [2, 4, 6, 10, 20, 102][i % 6]!;

export type Made = { packets: number; flows: number; bytes: number };

export async function writeCapture(file: string, flows: number, bulk: boolean): Promise<Made> {
  const templates = (await loadTemplates()).map((t) => ({ ...t, bulk: bulkOf(t, BULK_BYTES) }));
  const out = openSync(file, "w");
  const buffer = Buffer.alloc(4 << 20);
  const head = Buffer.alloc(24);
  head.writeUInt32LE(0xa1b2c3d4, 0);
  head.writeUInt16LE(2, 4);
  head.writeUInt16LE(4, 6);
  head.writeUInt32LE(262144, 16);
  head.writeUInt32LE(1, 20);
  writeSync(out, head);
  let filled = 0;
  let bytes = 24;
  let packets = 0;
  const write = ({ frame, flow, shift }: Next, timeUs: number) => {
    readdress(frame, flow, shift);
    const length = frame.bytes.length;
    if (filled + 16 + length > buffer.length) {
      writeSync(out, buffer, 0, filled);
      filled = 0;
    }
    buffer.writeUInt32LE(START_S + Math.floor(timeUs / 1e6), filled);
    buffer.writeUInt32LE(timeUs % 1e6, filled + 4);
    buffer.writeUInt32LE(length, filled + 8);
    buffer.writeUInt32LE(length, filled + 12);
    buffer.set(frame.bytes, filled + 16);
    filled += 16 + length;
    bytes += 16 + length;
    packets++;
  };
  /** The frames of a flow, one by one. */
  function* framesOf(flow: number): Generator<Next> {
    const template = templates[flow % templates.length]!;
    let shift = 0;
    for (const [i, frame] of template.frames.entries()) {
      yield { frame, flow, shift };
      if (i !== template.bulkAt || !template.bulk || !bulk) continue;
      for (let n = bulkOfFlow(flow); n > 0; n--) {
        yield { frame: template.bulk.data, flow, shift };
        yield { frame: template.bulk.answer, flow, shift };
        shift += BULK_BYTES;
      }
    }
  }
  // Flows begin one after another, and go on in steps of equal length: a wheel of those alive.
  const wheel: Generator<Next>[][] = Array.from({ length: STEP_US / EVERY_US }, () => []);
  let alive = 0;
  for (let flow = 0, turn = 0; flow < flows || alive > 0; turn++) {
    const slot = wheel[turn % wheel.length]!;
    if (flow < flows) {
      slot.push(framesOf(flow++));
      alive++;
    }
    for (let i = slot.length - 1; i >= 0; i--) {
      const next = slot[i]!.next();
      if (!next.done) write(next.value, turn * EVERY_US + (slot.length - 1 - i));
      else {
        slot.splice(i, 1);
        alive--;
      }
    }
  }
  writeSync(out, buffer, 0, filled);
  closeSync(out);
  return { packets, flows, bytes };
}
