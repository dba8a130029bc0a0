/** Replays a recording in its own pace, as if its interfaces were watched now. */
import { formatAddress } from "../../protocol/address.ts";
import { Direction } from "./frame-source.ts";
import type { LiveSource, OnFrame, Watch } from "./frame-source.ts";
import { readPcapFile } from "./pcap-file.ts";

/** One frame kept of the recording; its bytes are our own copy. */
type Kept = {
  view: DataView;
  wire: number;
  timeUs: number;
  linkType: number;
  lane: number;
  direction: number;
};

/** Milliseconds between two batches of frames. */
const PACE_MS = 20;
/** Largest recording that is replayed, in bytes: all of it is held in memory. */
const BYTES_LIMIT = 256 << 20;

export class Replay implements LiveSource {
  readonly kind = "file";
  readonly passedOver = null;
  readonly #frames: Kept[];
  readonly #watches: Watch[];
  readonly #clock: Float64Array;
  readonly #onFrame: OnFrame;
  #timer: NodeJS.Timeout | null = null;
  #shiftUs = 0;
  #next = 0;

  private constructor(frames: Kept[], watches: Watch[], clock: Float64Array, onFrame: OnFrame) {
    this.#frames = frames;
    this.#watches = watches;
    this.#clock = clock;
    this.#onFrame = onFrame;
  }

  /** Reads the interfaces whose names begin with `prefix`; what is behind it is their name. */
  static async open(
    file: string,
    prefix: string,
    clock: Float64Array,
    onFrame: OnFrame,
    log: (level: "info" | "warn" | "error", text: string) => void,
  ): Promise<Replay> {
    const frames: Kept[] = [];
    const addresses = new Map<number, string>();
    let bytes = 0;
    const report = await readPcapFile(
      file,
      clock,
      (view, at, end, wire, linkType, lane, direction) => {
        bytes += end - at;
        if (bytes > BYTES_LIMIT) return;
        const copy = view.buffer.slice(view.byteOffset + at, view.byteOffset + end) as ArrayBuffer;
        const timeUs = clock[0]!;
        frames.push({ view: new DataView(copy), wire, timeUs, linkType, lane, direction });
        if (direction !== Direction.inbound || addresses.has(lane)) return;
        const source = sourceOf(view, at, end);
        if (source !== null) addresses.set(lane, source);
      },
    );
    if (report.damage) log("warn", `${file} is damaged: ${report.damage}`);
    if (bytes > BYTES_LIMIT)
      log("warn", `${file}: only its first ${BYTES_LIMIT} bytes are replayed`);
    const watches = report.lanes
      .map(({ name }, lane) => ({ name, lane }))
      .filter(({ name }) => name.startsWith(prefix))
      .map(({ name, lane }) => ({
        lane,
        name: name.slice(prefix.length),
        index: lane + 1,
        kind: "pod" as const, // the scene records pods' interfaces alone
        addresses: addresses.has(lane) ? [addresses.get(lane)!] : [],
        delivered: 0,
        dropped: 0,
        cutOff: 0,
      }));
    // All nodes of one recording keep the same time: the first frame of the whole file is now.
    const sorted = frames.toSorted((a, b) => a.timeUs - b.timeUs);
    return new Replay(sorted, watches, clock, onFrame);
  }

  #hand(): void {
    const nowUs = Date.now() * 1000;
    for (; this.#next < this.#frames.length; this.#next++) {
      const { view, wire, timeUs, linkType, lane, direction } = this.#frames[this.#next]!;
      const shifted = timeUs + this.#shiftUs;
      if (shifted > nowUs) return;
      const watch = this.#watches.find((w) => w.lane === lane);
      if (!watch) continue; // another node's
      watch.delivered++;
      this.#clock[0] = shifted;
      this.#onFrame(view, 0, view.byteLength, wire, linkType, lane, direction);
    }
  }

  watches(): Watch[] {
    return this.#watches;
  }

  droppedOnAny(): number {
    return 0;
  }

  refused(): number {
    return 0;
  }

  /** Begins with the first call: the first frame is now, the others keep their distance to it. */
  rescan(): Watch[] {
    if (this.#timer === null) {
      this.#shiftUs = Date.now() * 1000 - (this.#frames[0]?.timeUs ?? 0);
      this.#timer = setInterval(() => this.#hand(), PACE_MS);
    }
    return [];
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }
}

/** Source of an IPv4 packet on Ethernet: the pod's own address, when the frame came from it. */
function sourceOf(view: DataView, at: number, end: number): string | null {
  if (end - at < 34 || view.getUint16(at + 12) !== 0x0800) return null;
  return formatAddress(0, 0, 0xffff, view.getInt32(at + 26));
}
