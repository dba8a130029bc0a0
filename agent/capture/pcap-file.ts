/** Reads captures of every format, packed or not, from files and pipes; hands out their frames. */
import { ConfigError } from "../../protocol/config-error.ts";
import { openBytes } from "./byte-source.ts";
import type { ByteSource } from "./byte-source.ts";
import type { Format, Taker } from "./file-format.ts";
import type { Lane, OnFrame } from "./frame-source.ts";
import { CHUNK_BYTES } from "./intake.ts";
import { PCAP_VARIANTS, Pcap } from "./pcap.ts";

const PCAPNG = 0x0a0d0d0a; // a section header's type (draft-ietf-opsawg-pcapng §4.1)
const SNOOP = 0x736e6f6f; // "snoo"

export type FileReport = {
  frames: number;
  /** Null, or what is wrong with the file and where; everything before it was read. */
  damage: string | null;
  lanes: Lane[];
  /** The operator ended a live capture before its sender did. */
  isStopped: boolean;
};

export type FileOptions = {
  /** Told now and then: bytes read of the file as it lies on disk, and its size. */
  onProgress?: (bytes: number, size: number) => void;
  /** Awaited between two chunks of frames; behind a live one the next may take its time. */
  onChunk?: (isLive: boolean) => Promise<void>;
};

/** How a format begins: bytes that must be there, those that it has used, and its reader. */
type Beginning = {
  length: number;
  used: number;
  open(view: DataView, to: Taker): Format | Promise<Format>;
};

/** The format that begins with these four bytes; null where none that is known does. */
function beginningOf(view: DataView): Beginning | null {
  const magic = view.getUint32(0);
  if (magic === PCAPNG) {
    const open = async (_: DataView, to: Taker) => (await import("./pcapng.ts")).readPcapng(to);
    return { length: 24, used: 0, open };
  }
  if (magic === SNOOP) {
    const open = async (at: DataView, to: Taker) => new (await import("./snoop.ts")).Snoop(at, to);
    return { length: 16, used: 16, open };
  }
  for (const isLittle of [false, true]) {
    const variant = PCAP_VARIANTS.get(view.getUint32(0, isLittle));
    if (variant === undefined) continue;
    const { fileHeader } = variant;
    const open = (at: DataView, to: Taker) => new Pcap(at, isLittle, variant, to);
    return { length: fileHeader, used: fileHeader, open };
  }
  return null;
}

/** Has a format take bytes from `used` on; returns up to where it has used them. */
async function take(format: Format, bytes: ArrayBuffer, used: number, filled: number) {
  for (;;) {
    const { wrapped } = format;
    if (wrapped !== null) {
      const { unwrapping } = await import("./link-wrappers.ts");
      wrapped.onFrame = unwrapping(wrapped.linkType, format.isLittle, wrapped.onFrame);
      format.wrapped = null;
    }
    used += format.take(new DataView(bytes, used), filled - used);
    if (format.wrapped === null || format.damage !== null) return used;
  }
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
  const source = await openBytes(path);
  try {
    const { format, damage } = await readFrames(source, { clock, onFrame }, options);
    const { isStopped } = source;
    if (!format) {
      if (damage !== null || isStopped) return { frames: 0, damage, lanes: [], isStopped };
      throw new ConfigError(
        "CONFIG_NOT_A_CAPTURE",
        `${path} is no capture: expected pcap, pcapng or snoop, perhaps packed (gzip, zstd, lz4)`,
      );
    }
    const lanes = format.interfaces.map(({ name }) => ({ name, dropped: 0 }));
    return { frames: format.frames, damage, lanes, isStopped };
  } finally {
    source.close();
  }
}

type Ended = { format: Format | null; damage: string | null };

async function readFrames(source: ByteSource, to: Taker, options: FileOptions): Promise<Ended> {
  let format: Format | null = null;
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
        const view = new DataView(buffer.buffer);
        const beginning = filled < 4 ? undefined : beginningOf(view);
        if (beginning === null) break;
        if (beginning === undefined || filled < beginning.length) continue;
        format = await beginning.open(view, to);
        used = beginning.used;
      }
      used = await take(format, buffer.buffer, used, filled);
      if (used > 0) buffer.copyWithin(0, used, filled);
      filled -= used;
      options.onProgress?.(source.rawBytes, source.size);
      await options.onChunk?.(source.isLive);
      if (format.damage) break;
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error; // ours, not the file's
    return { format, damage: `reading it failed (${code})` };
  }
  if (source.isStopped) return { format, damage: null };
  let damage = format?.damage ?? source.damage;
  if (damage === null && format !== null && filled > 0) {
    damage = `it ends inside a packet (${filled} bytes left over)`;
  }
  return { format, damage };
}
