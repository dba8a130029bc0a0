/** Opens a capture's bytes: of a file or of a pipe, unpacked where they are packed. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { isatty } from "node:tty";
import { ConfigError } from "../../protocol/config-error.ts";
import { CHUNK_BYTES, Intake, NOTHING } from "./intake.ts";
import type { Pieces } from "./intake.ts";
import { isPacked } from "./packing.ts";
import type { Unpacking } from "./packing.ts";

/** Spellings of the standard input. */
export const STANDARD_INPUT: ReadonlySet<string> = new Set(["-", "/dev/stdin"]);

/** The file's bytes in order, unpacked where they are packed, read into the caller's buffer. */
export type ByteSource = {
  /** Fills `[at, …)` of `into` as far as bytes are at hand; 0 at the end. */
  read(into: Uint8Array, at: number): number | Promise<number>;
  /** Null, or what is wrong with how the bytes are packed: nothing more can be read then. */
  readonly damage: string | null;
  /** Bytes read so far of the file as it lies on disk, and all of it. */
  readonly rawBytes: number;
  readonly size: number;
  /** The bytes come as somebody makes them. */
  readonly isLive: boolean;
  /** The operator has ended a live source (Ctrl-C), and the sender has not since. */
  readonly isStopped: boolean;
  close(): void;
};

/** A file's bytes, from its beginning. */
function piecesOfFile(fd: number): Pieces {
  let position = 0;
  return {
    next() {
      const piece = new Uint8Array(CHUNK_BYTES);
      const length = readSync(fd, piece, 0, CHUNK_BYTES, position);
      position += length;
      return length === 0 ? null : piece.subarray(0, length);
    },
    isStopped: false,
    close: () => undefined,
  };
}

/** An open file or pipe. */
export type Opened = { fd: number; size: number; isPipe: boolean };

/** What the system says of a path, as a mistake of the operator's. */
function unreadable(path: string, error: unknown): ConfigError {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) throw error; // ours, not the system's
  return new ConfigError("CONFIG_CAPTURE_UNREADABLE", `cannot read ${path}: ${code}`, error);
}

/** Opens a path, or the standard input; what cannot be opened is a `ConfigError`. */
export function openPath(path: string): Opened {
  try {
    const fd = STANDARD_INPUT.has(path) ? 0 : openSync(path, "r");
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw Object.assign(new Error(), { code: "EISDIR" });
    if (stat.isCharacterDevice() && isatty(fd)) {
      throw Object.assign(new Error(), { code: "it is a terminal, and no file or pipe" });
    }
    return { fd, size: stat.size, isPipe: stat.isFIFO() || stat.isSocket() };
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** The bytes of what was opened, as they lie there. */
export async function piecesOf({ fd, isPipe }: Opened): Promise<Pieces> {
  return isPipe ? (await import("./pipe.ts")).piecesOfPipe(fd) : piecesOfFile(fd);
}

/** Opens a capture for reading; what cannot be opened is a `ConfigError`. */
export async function openBytes(path: string): Promise<ByteSource> {
  const opened = openPath(path);
  try {
    const first = new Uint8Array(4);
    if (!opened.isPipe) readSync(opened.fd, first, 0, first.length, 0);
    if (!opened.isPipe && !isPacked(first)) return new PlainFile(opened);
    const pieces = await piecesOf(opened);
    const intake = new Intake(pieces);
    await intake.has(first.length);
    const unpacker = isPacked(intake.held) ? await import("./unpack.ts") : null;
    return new Stream(opened, pieces, intake, unpacker?.unpack(intake) ?? asTheyCome(intake));
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** A file that is read where it lies. */
class PlainFile implements ByteSource {
  readonly damage = null;
  readonly isLive = false;
  readonly isStopped = false;
  readonly size: number;
  rawBytes = 0;
  readonly #fd: number;

  constructor({ fd, size }: Opened) {
    this.#fd = fd;
    this.size = size;
  }

  read(into: Uint8Array, at: number): number {
    // By the thread that will look at the bytes: they are in its core's cache then.
    const length = readSync(this.#fd, into, at, CHUNK_BYTES, this.rawBytes);
    this.rawBytes += length;
    return length;
  }

  close(): void {
    if (this.#fd !== 0) closeSync(this.#fd);
  }
}

/** Bytes of a pipe, as they come. */
async function* asTheyCome(intake: Intake): Unpacking {
  for (let piece; (piece = await intake.take()) !== null;) yield piece;
  return null;
}

/** Bytes that are unpacked may be as many whatever they came of; beyond, so many times as many. */
const UNPACKED_BYTES = 1 << 30;
const UNPACKED_TIMES = 2048; // deflate's most is 1032

/** What comes by a pipe, or is packed. */
class Stream implements ByteSource {
  damage: string | null = null;
  readonly isLive: boolean;
  readonly size: number;
  readonly #fd: number;
  readonly #pieces: Pieces;
  readonly #intake: Intake;
  readonly #unpacking: Unpacking;
  #rest = NOTHING;
  #unpacked = 0;

  constructor({ fd, size, isPipe }: Opened, pieces: Pieces, intake: Intake, unpacking: Unpacking) {
    this.#fd = isPipe ? -1 : fd;
    this.size = size;
    this.isLive = isPipe;
    this.#pieces = pieces;
    this.#intake = intake;
    this.#unpacking = unpacking;
  }

  get rawBytes(): number {
    return this.#intake.came;
  }

  get isStopped(): boolean {
    return this.#pieces.isStopped;
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    while (this.#rest.length === 0) {
      if (this.damage !== null) return 0;
      const next = await this.#unpacking.next();
      if (next.done) {
        this.damage = next.value;
        return 0;
      }
      this.#rest = next.value;
      this.#unpacked += next.value.length;
      const limit = Math.max(UNPACKED_BYTES, UNPACKED_TIMES * this.rawBytes);
      if (this.#unpacked > limit) {
        this.damage = `it unpacks to more than ${UNPACKED_TIMES} times its size`;
      }
    }
    const length = Math.min(this.#rest.length, into.length - at);
    into.set(this.#rest.subarray(0, length), at);
    this.#rest = this.#rest.subarray(length);
    return length;
  }

  close(): void {
    this.#pieces.close();
    void this.#unpacking.return(null);
    if (this.#fd > 0) closeSync(this.#fd);
  }
}
