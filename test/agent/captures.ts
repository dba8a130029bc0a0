/** Loads golden captures into frames, changes how they were sent, and reads them through the line. */
import path from "node:path";
import { readPcapFile } from "../../agent/capture/pcap-file.ts";
import { FLOW_TABLE_DEFAULTS } from "../../agent/flow/flow-table.ts";
import { Line } from "../../agent/line.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { frameAt, FIN, viewOf } from "../frames.ts";

export const GOLDEN = path.join(import.meta.dirname, "../golden");

export type Frame = { bytes: Uint8Array<ArrayBuffer>; timeUs: number; linkType: number };

export async function framesOf(file: string): Promise<Frame[]> {
  const frames: Frame[] = [];
  const clock = new Float64Array(1);
  await readPcapFile(file, clock, (view, at, end, _wire, linkType) => {
    const bytes = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset + at, end - at);
    frames.push({ bytes: bytes.slice(), timeUs: clock[0]!, linkType });
  });
  return frames;
}

const records: Flow[] = [];
const line = new Line(
  {
    table: { ...FLOW_TABLE_DEFAULTS, flows: 64, slots: 16 },
    revisions: false,
    reportIntervalMs: 1e9,
  },
  (record) => records.push(record),
);

/** The records of the flows that the frames make, in the order in which they began. */
export function read(frames: readonly Frame[]): Flow[] {
  records.length = 0;
  line.nowUs = 0;
  for (const { bytes, timeUs, linkType } of frames) {
    frameAt(line, viewOf(bytes), 0, bytes.length, bytes.length, timeUs, linkType, 0);
  }
  line.finish();
  return records.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
}

/** What must not change with how the bytes were cut into segments. */
export function meaning(flows: readonly Flow[]): string {
  return JSON.stringify(flows, (key, value: unknown) =>
    ["packets", "bytes", "start", "end"].includes(key) ? undefined : value,
  );
}

/** Where things stand in an Ethernet frame of IPv4 and TCP; null for others. */
export type Place = { payloadAt: number; end: number; sequence: number; ends: string };

export function placeOf({ bytes }: Frame): Place | null {
  const view = viewOf(bytes);
  if (bytes.length < 54 || view.getUint16(12) !== 0x0800 || bytes[23] !== 6) return null;
  const tcpAt = 14 + (bytes[14]! & 15) * 4;
  const payloadAt = tcpAt + (bytes[tcpAt + 12]! >> 4) * 4;
  const end = 14 + view.getUint16(16);
  const ends = Buffer.from(bytes.subarray(26, 34)).toString("hex");
  const ports = Buffer.from(bytes.subarray(tcpAt, tcpAt + 4)).toString("hex");
  return { payloadAt, end, sequence: view.getInt32(tcpAt + 4), ends: ends + ports };
}

/** The frame's payload from `from` to `to` as a segment of its own; the last takes the FIN. */
function part(frame: Frame, place: Place, from: number, to: number): Frame {
  const head = frame.bytes.subarray(0, place.payloadAt);
  const payload = frame.bytes.subarray(place.payloadAt + from, place.payloadAt + to);
  const bytes = new Uint8Array(head.length + payload.length);
  bytes.set(head);
  bytes.set(payload, head.length);
  const view = viewOf(bytes);
  const tcpAt = 14 + (bytes[14]! & 15) * 4;
  view.setUint16(16, bytes.length - 14);
  view.setInt32(tcpAt + 4, (place.sequence + from) | 0);
  if (place.payloadAt + to < place.end) bytes[tcpAt + 13]! &= ~FIN;
  return { ...frame, bytes };
}

/** The frame as two segments, cut at `at` of its payload. */
export function split(frame: Frame, place: Place, at: number): [Frame, Frame] {
  return [part(frame, place, 0, at), part(frame, place, at, place.end - place.payloadAt)];
}

/** A copy of the list with the entry at `i` replaced by others. */
export function replaced<T>(list: readonly T[], i: number, ...others: T[]): T[] {
  return [...list.slice(0, i), ...others, ...list.slice(i + 1)];
}
