/** Reads pcap and pcapng files, gzip'd and zstd'd ones too, and hands out their frames. */
import { readSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import type { Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { ConfigError } from "../../protocol/config-error.ts";
import { FRAME_LIMIT } from "./frame-source.ts";
import type { Lane, OnFrame } from "./frame-source.ts";
import { readPcapng } from "./pcapng.ts";
import type { Interface } from "./pcapng.ts";

/** Bytes read at a time: what a core's own cache holds beside all else. */
const CHUNK_BYTES = 1 << 18;

/** pcap magics (libpcap savefile format): in this byte order, and the file's resolution. */
const MAGIC_MICRO = 0xa1b2c3d4;
const MAGIC_NANO = 0xa1b23c4d;
const MAGIC_MODIFIED = 0xa1b2cd34; // Alexey Kuznetsov's: 8 more bytes a packet
const PCAPNG_SECTION = 0x0a0d0d0a;

export type FileReport = {
  frames: number;
  /** Null, or what is wrong with the file and where; everything before it was read. */
  damage: string | null;
  lanes: Lane[];
};

export type FileOptions = {
  /** Told now and then: bytes read of the file as it lies on disk, and its size. */
  onProgress?: (bytes: number, size: number) => void;
  /** Awaited between two chunks of frames. */
  onChunk?: () => Promise<void>;
};

/** Who takes the frames; see `OnFrame`. */
export type Taker = { clock: Float64Array; onFrame: OnFrame };

/** What a format's reader keeps between chunks; `take` returns how many bytes it has used. */
export type Format = {
  take(view: DataView, length: number): number;
  /** Set when the file contradicts itself; nothing more is read then. */
  damage: string | null;
  frames: number;
  interfaces: Interface[];
};

/** libpcap's format: a header of 24 bytes, then packets with headers of 16. */
class Pcap implements Format {
  damage: string | null = null;
  frames = 0;
  readonly interfaces: Interface[] = [{ name: "", linkType: 0, unitsPerSecond: 1e6, offset: 0 }];
  readonly #little: boolean;
  readonly #isNano: boolean;
  readonly #extra: number;
  readonly #linkType: number;

  readonly #clock: Float64Array;
  readonly #onFrame: OnFrame;

  constructor(view: DataView, little: boolean, magic: number, { clock, onFrame }: Taker) {
    this.#clock = clock;
    this.#onFrame = onFrame;
    this.#little = little;
    this.#isNano = magic === MAGIC_NANO;
    this.#extra = magic === MAGIC_MODIFIED ? 8 : 0;
    this.#linkType = view.getUint32(20, little) & 0xffff; // above: FCS length and flags
  }

  /** seconds(4) | fraction(4) | captured length(4) | wire length(4) | bytes */
  take(view: DataView, length: number): number {
    const little = this.#little;
    const header = 16 + this.#extra;
    let at = 0;
    while (length - at >= header) {
      const captured = view.getUint32(at + 8, little);
      if (captured > FRAME_LIMIT) {
        this.damage = `a packet claims ${captured} captured bytes`;
        return at;
      }
      const end = at + header + captured;
      if (end > length) return at;
      const seconds = view.getUint32(at, little);
      const fraction = view.getUint32(at + 4, little);
      const micros = this.#isNano ? Math.floor(fraction / 1000) : fraction;
      this.#clock[0] = seconds * 1e6 + micros;
      const wire = view.getUint32(at + 12, little);
      this.frames++;
      this.#onFrame(view, at + header, end, wire, this.#linkType, 0, 0);
      at = end;
    }
    return at;
  }
}

/** Chooses the format by the first bytes; null when they are none that is known. */
function openFormat(view: DataView, to: Taker): { format: Format; used: number } | null {
  const magic = view.getUint32(0);
  if (magic === PCAPNG_SECTION) return { format: readPcapng(to), used: 0 };
  for (const little of [false, true]) {
    const value = view.getUint32(0, little);
    if (value === MAGIC_MICRO || value === MAGIC_NANO || value === MAGIC_MODIFIED) {
      return { format: new Pcap(view, little, value, to), used: 24 };
    }
  }
  return null;
}

/** The file's bytes in order, unpacked where they are packed, read into the caller's buffer. */
type ByteSource = {
  /** Fills `[at, …)` of `into` as far as bytes are at hand; 0 at the end. */
  read(into: Uint8Array, at: number): number | Promise<number>;
  /** Bytes read so far of the file as it lies on disk. */
  rawBytes(): number;
  close(): Promise<void>;
};

async function openBytes(path: string): Promise<ByteSource> {
  const handle = await open(path, "r");
  const first = new Uint8Array(4);
  await handle.read(first, 0, 4, 0);
  const isGzip = first[0] === 0x1f && first[1] === 0x8b;
  const isZstd = first[0] === 0x28 && first[1] === 0xb5 && first[2] === 0x2f && first[3] === 0xfd;
  if (isGzip) return unpacked(handle, createGunzip({ chunkSize: CHUNK_BYTES }));
  if (isZstd) return unpacked(handle, createZstdDecompress({ chunkSize: CHUNK_BYTES }));
  let position = 0;
  return {
    read(into, at) {
      // By the thread that will look at the bytes: they are in its core's cache then.
      const bytesRead = readSync(handle.fd, into, at, CHUNK_BYTES, position);
      position += bytesRead;
      return bytesRead;
    },
    rawBytes: () => position,
    close: () => handle.close(),
  };
}

/** Unpacks on the way; an error of the file below ends the unpacking above it. */
function unpacked(handle: FileHandle, unpack: Transform): ByteSource {
  const raw = handle.createReadStream({ start: 0, highWaterMark: CHUNK_BYTES, autoClose: false });
  let rawBytes = 0;
  raw.on("data", (chunk: string | Buffer) => (rawBytes += chunk.length));
  raw.on("error", (error) => unpack.destroy(error));
  const chunks = (raw.pipe(unpack) as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  return {
    async read(into, at) {
      if (rest.length === 0) {
        const next = await chunks.next();
        if (next.done) return 0;
        rest = next.value;
      }
      const took = Math.min(rest.length, into.length - at);
      into.set(rest.subarray(0, took), at);
      rest = rest.subarray(took);
      return took;
    },
    rawBytes: () => rawBytes,
    async close() {
      unpack.destroy();
      raw.destroy();
      await handle.close();
    },
  };
}

/**
 * Reads a capture as far as it goes; see `OnFrame`. A damaged file is reported in `damage`, never
 * thrown; a file that cannot be opened, or is no capture at all, is a `ConfigError`.
 */
export async function readPcapFile(
  path: string,
  clock: Float64Array,
  onFrame: OnFrame,
  options: FileOptions = {},
): Promise<FileReport> {
  let size: number;
  let source: ByteSource;
  try {
    size = statSync(path).size;
    source = await openBytes(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ConfigError("CONFIG_CAPTURE_UNREADABLE", `cannot read ${path}: ${reason}`, error);
  }
  let format: Format | null = null;
  let damage: string | null = null;
  // Unused bytes of earlier chunks stand at the front; it grows to one frame and a chunk.
  let buffer = new Uint8Array(CHUNK_BYTES * 2);
  let filled = 0;
  try {
    for (;;) {
      if (filled + CHUNK_BYTES > buffer.length) {
        const larger = new Uint8Array(buffer.length * 2);
        larger.set(buffer.subarray(0, filled));
        buffer = larger;
      }
      const read = await source.read(buffer, filled);
      if (read === 0) break;
      filled += read;
      let used = 0;
      if (!format) {
        if (filled < 24) continue;
        const opened = openFormat(new DataView(buffer.buffer), { clock, onFrame });
        if (!opened) break;
        format = opened.format;
        used = opened.used;
      }
      const rest = new DataView(buffer.buffer, used);
      used += format.take(rest, filled - used);
      buffer.copyWithin(0, used, filled);
      filled -= used;
      options.onProgress?.(source.rawBytes(), size);
      await options.onChunk?.();
      if (format.damage) break;
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error; // ours, not the file's
    damage = `reading it failed (${code})`;
  }
  await source.close();
  if (!format) {
    if (damage) return { frames: 0, damage, lanes: [] };
    throw new ConfigError(
      "CONFIG_NOT_A_CAPTURE",
      `${path} is no capture: expected pcap or pcapng, perhaps gzip'd or zstd'd`,
    );
  }
  damage ??= format.damage;
  if (damage === null && filled > 0) damage = `it ends inside a packet (${filled} bytes left over)`;
  const lanes = format.interfaces.map((i) => ({ name: i.name, dropped: 0 }));
  return { frames: format.frames, damage, lanes };
}
