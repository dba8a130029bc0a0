/** Reads pcap and pcapng files, gzip'd and zstd'd ones too, and hands out their frames. */
import { createReadStream, statSync } from "node:fs";
import type { Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { ConfigError } from "../../protocol/config-error.ts";
import { FRAME_LIMIT } from "./frame-source.ts";
import type { Lane, OnFrame } from "./frame-source.ts";
import { readPcapng } from "./pcapng.ts";
import type { Interface } from "./pcapng.ts";

/** Bytes read from disk at a time. */
const CHUNK_BYTES = 1 << 20;

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
};

/** What a format's reader keeps between chunks; `take` returns how many bytes it has used. */
export type Format = {
  take(view: DataView, length: number, onFrame: OnFrame): number;
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
  readonly #perMicro: number;
  readonly #extra: number;
  readonly #linkType: number;

  constructor(view: DataView, little: boolean, magic: number) {
    this.#little = little;
    this.#perMicro = magic === MAGIC_NANO ? 1000 : 1;
    this.#extra = magic === MAGIC_MODIFIED ? 8 : 0;
    this.#linkType = view.getUint32(20, little) & 0xffff; // above: FCS length and flags
  }

  /** seconds(4) | fraction(4) | captured length(4) | wire length(4) | bytes */
  take(view: DataView, length: number, onFrame: OnFrame): number {
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
      const timeUs = seconds * 1e6 + view.getUint32(at + 4, little) / this.#perMicro;
      const wire = view.getUint32(at + 12, little);
      this.frames++;
      onFrame(view, at + header, end, wire, Math.floor(timeUs), this.#linkType, 0, 0);
      at = end;
    }
    return at;
  }
}

/** Chooses the format by the first bytes; null when they are none that is known. */
function openFormat(view: DataView): { format: Format; used: number } | null {
  const magic = view.getUint32(0);
  if (magic === PCAPNG_SECTION) return { format: readPcapng(), used: 0 };
  for (const little of [false, true]) {
    const value = view.getUint32(0, little);
    if (value === MAGIC_MICRO || value === MAGIC_NANO || value === MAGIC_MODIFIED) {
      return { format: new Pcap(view, little, value), used: 24 };
    }
  }
  return null;
}

/** Opens the file's bytes, unpacked where they are packed. */
function openStream(path: string, first: Uint8Array): { bytes: Readable; raw: Readable } {
  const raw = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  const isGzip = first[0] === 0x1f && first[1] === 0x8b;
  const isZstd = first[0] === 0x28 && first[1] === 0xb5 && first[2] === 0x2f && first[3] === 0xfd;
  if (isGzip) return { bytes: raw.pipe(createGunzip({ chunkSize: CHUNK_BYTES })), raw };
  if (isZstd) return { bytes: raw.pipe(createZstdDecompress({ chunkSize: CHUNK_BYTES })), raw };
  return { bytes: raw, raw };
}

async function firstBytes(path: string): Promise<Uint8Array> {
  for await (const chunk of createReadStream(path, { start: 0, end: 3 })) return chunk as Buffer;
  return new Uint8Array(0);
}

/**
 * Reads a capture as far as it goes. A damaged file is reported in `damage`, never thrown; a file
 * that cannot be opened, or is no capture at all, is a `ConfigError`.
 */
export async function readPcapFile(
  path: string,
  onFrame: OnFrame,
  options: FileOptions = {},
): Promise<FileReport> {
  let size: number;
  let first: Uint8Array;
  try {
    size = statSync(path).size;
    first = await firstBytes(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ConfigError("CONFIG_CAPTURE_UNREADABLE", `cannot read ${path}: ${reason}`, error);
  }
  const { bytes, raw } = openStream(path, first);
  // An error of the file below must end the unpacking above it.
  raw.on("error", (error) => bytes.destroy(error));
  let rawBytes = 0;
  raw.on("data", (chunk: string | Buffer) => (rawBytes += chunk.length));
  let format: Format | null = null;
  let damage: string | null = null;
  // Unused bytes of earlier chunks stand at the front; it grows to one frame and a chunk.
  let buffer = new Uint8Array(CHUNK_BYTES * 2);
  let filled = 0;
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) {
      if (filled + chunk.length > buffer.length) {
        const larger = new Uint8Array(Math.max(buffer.length * 2, filled + chunk.length));
        larger.set(buffer.subarray(0, filled));
        buffer = larger;
      }
      buffer.set(chunk, filled);
      filled += chunk.length;
      const view = new DataView(buffer.buffer);
      let used = 0;
      if (!format) {
        if (filled < 24) continue;
        const opened = openFormat(view);
        if (!opened) break;
        format = opened.format;
        used = opened.used;
      }
      const rest = used > 0 ? new DataView(buffer.buffer, used) : view;
      used += format.take(rest, filled - used, onFrame);
      buffer.copyWithin(0, used, filled);
      filled -= used;
      options.onProgress?.(rawBytes, size);
      if (format.damage) break;
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error; // ours, not the file's
    damage = `reading it failed (${code})`;
  }
  bytes.destroy();
  raw.destroy();
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
