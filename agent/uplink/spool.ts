/** Keeps numbered batches on disk, capped, until the collector has acknowledged them. */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { crc32 } from "node:zlib";
import { ConfigError } from "../../protocol/config-error.ts";
import { takeLock } from "./spool-lock.ts";

/** Bytes that a frame has before its payload. */
const FRAME_HEADER_LENGTH = 20;
const SPOOL_BYTES_DEFAULT = 256 << 20;
/** A smaller cap is taken for a slip of the operator's. */
const SPOOL_BYTES_MINIMUM = 64 << 10;
const SEGMENT_BYTES_LIMIT = 8 << 20;

const SEGMENT = /^(\d{16})\.wpspool1$/;
const NAME = /^[0-9a-f]{32}$/;

export type Log = (level: "info" | "warn" | "error", text: string) => void;

/** What the spool asks of a disk; a test lets each of them fail in turn. */
export type SpoolFiles = {
  list(directory: string): Promise<string[]>;
  load(file: string): Promise<Uint8Array>;
  open(file: string, flags: string): Promise<number>;
  readAt(fd: number, into: Uint8Array, at: number): Promise<number>;
  writeAt(fd: number, bytes: Uint8Array, at: number): Promise<number>;
  sync(fd: number): Promise<void>;
  truncate(fd: number, length: number): Promise<void>;
  close(fd: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(file: string): Promise<void>;
};

const read = promisify(fs.read);
const write = promisify(fs.write);

export const DISK: SpoolFiles = {
  list: promisify(fs.readdir),
  load: promisify(fs.readFile),
  open: (file, flags) => promisify(fs.open)(file, flags, 0o600),
  readAt: async (fd, into, at) => (await read(fd, into, 0, into.length, at)).bytesRead,
  writeAt: async (fd, bytes, at) => (await write(fd, bytes, 0, bytes.length, at)).bytesWritten,
  sync: promisify(fs.fsync),
  truncate: promisify(fs.ftruncate),
  close: promisify(fs.close),
  rename: promisify(fs.rename),
  remove: promisify(fs.unlink),
};

/** A batch that is to be numbered: how many rows it carries, and its bytes once it has a number. */
export type Unnumbered = { rows: number; encode: (seq: number) => Uint8Array };
export type Numbered = { seq: number; payload: Uint8Array };

/** Numbers within a segment rise by one: batch `first + i` begins at `offsets[i]`. */
type Segment = {
  first: number;
  file: string;
  fd: number;
  offsets: number[];
  rows: number[];
  /** Bytes known to be on the disk; what lies beyond was never told to be spooled. */
  length: number;
};

type GivenUp = { rows: number; payload: Uint8Array | null };

export type SpoolOptions = {
  directory: string;
  bytesLimit?: number;
  log: Log;
  files?: SpoolFiles;
  /** Called with each batch that is given up; null where its bytes cannot be read any more. */
  onGivenUp?: (rows: number, payload: Uint8Array | null) => void;
};

/**
 * Writes frames, one behind the other.
 *
 *      0        4        8                16       20
 *     +--------+--------+----------------+--------+-------------- …
 *     | length | crc32  |      seq       |  rows  | payload
 *     +--------+--------+----------------+--------+-------------- …
 *
 * Big-endian; `length` is the payload's, and the CRC covers all that follows it.
 */
export function encodeFrames(frames: readonly (Numbered & { rows: number })[]): Uint8Array {
  const payloads = frames.reduce((sum, { payload }) => sum + payload.length, 0);
  const bytes = new Uint8Array(frames.length * FRAME_HEADER_LENGTH + payloads);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { seq, rows, payload } of frames) {
    const end = at + FRAME_HEADER_LENGTH + payload.length;
    view.setUint32(at, payload.length);
    view.setBigUint64(at + 8, BigInt(seq));
    view.setUint32(at + 16, rows);
    bytes.set(payload, at + FRAME_HEADER_LENGTH);
    view.setUint32(at + 4, crc32(bytes.subarray(at + 8, end)));
    at = end;
  }
  return bytes;
}

/**
 * Finds the frames of a segment whose first number is `first`, up to the first byte that is not
 * part of a whole frame: there a write was torn, and `length` says where.
 */
export function parseSegment(
  bytes: Uint8Array,
  first: number,
): { offsets: number[]; rows: number[]; length: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsets: number[] = [];
  const rows: number[] = [];
  let at = 0;
  while (at + FRAME_HEADER_LENGTH <= bytes.length) {
    const end = at + FRAME_HEADER_LENGTH + view.getUint32(at);
    if (end > bytes.length) break;
    if (view.getUint32(at + 4) !== crc32(bytes.subarray(at + 8, end))) break;
    if (view.getBigUint64(at + 8) !== BigInt(first + offsets.length)) break;
    offsets.push(at);
    rows.push(view.getUint32(at + 16));
    at = end;
  }
  return { offsets, rows, length: at };
}

/**
 * Invariants: segments are in the order of their numbers, and the last is the one written to;
 * there is always one, so its name carries the numbering on when all others are gone;
 * `acknowledged < firstSeq <= nextSeq`.
 *
 * All work on the disk is done one step after the other (`#turn`), so that a batch is never read
 * while its segment is being removed.
 */
export class Spool {
  /** Rows given up: the cap was reached, the disk damaged their batch, the collector refused it. */
  readonly discarded = { full: 0, damaged: 0, refused: 0 };
  /** Rows held and not acknowledged; rows acknowledged since the spool was opened. */
  rowsHeld = 0;
  rowsAcknowledged = 0;
  /** Failed calls to the disk; bytes cut from torn or damaged segments. */
  failures = 0;
  cutBytes = 0;
  #name = "";
  #segments: Segment[] = [];
  #acknowledged = 0;
  #turns: Promise<unknown> = Promise.resolve();
  #dirty = false;
  #failing: string | null = null;
  #lock: DatabaseSync | null;
  readonly #directory: string;
  readonly #bytesLimit: number;
  readonly #segmentBytes: number;
  readonly #files: SpoolFiles;
  readonly #log: Log;
  readonly #onGivenUp: NonNullable<SpoolOptions["onGivenUp"]>;

  private constructor(options: SpoolOptions, lock: DatabaseSync) {
    this.#directory = options.directory;
    this.#bytesLimit = options.bytesLimit ?? SPOOL_BYTES_DEFAULT;
    this.#segmentBytes = Math.min(SEGMENT_BYTES_LIMIT, Math.floor(this.#bytesLimit / 8));
    this.#files = options.files ?? DISK;
    this.#log = options.log;
    this.#onGivenUp = options.onGivenUp ?? (() => {});
    this.#lock = lock;
  }

  /** Opens the spool in `directory`, cutting what a crash left torn; throws when it cannot. */
  static async open(options: SpoolOptions): Promise<Spool> {
    const limit = options.bytesLimit ?? SPOOL_BYTES_DEFAULT;
    if (limit < SPOOL_BYTES_MINIMUM) {
      const least = `at least ${SPOOL_BYTES_MINIMUM} bytes`;
      throw new ConfigError("CONFIG_SPOOL_SIZE", `spool: ${limit} is too small; use ${least}`);
    }
    const lock = takeLock(options.directory);
    const spool = new Spool(options, lock);
    try {
      await spool.#load();
    } catch (error) {
      lock.close();
      for (const { fd } of spool.#segments) await spool.#files.close(fd).catch(() => {});
      throw error;
    }
    return spool;
  }

  /** The random name of this numbering. */
  get name(): string {
    return this.#name;
  }

  /** Lowest number still held, or the next one. */
  get firstSeq(): number {
    const held = this.#segments.find((s) => lastOf(s) > this.#acknowledged && s.offsets.length > 0);
    return held ? Math.max(held.first, this.#acknowledged + 1) : this.nextSeq;
  }

  /** The number that the next batch will have. */
  get nextSeq(): number {
    return lastOf(this.#active) + 1;
  }

  /** Bytes on the disk. */
  get bytes(): number {
    return this.#segments.reduce((sum, s) => sum + s.length, 0);
  }

  get #active(): Segment {
    return this.#segments.at(-1)!;
  }

  /**
   * Numbers the batches and returns when they are on the disk (one fsync for all). A failure of the
   * disk is a value: its code is returned, nothing was numbered, and the caller tries again later.
   */
  append(batches: readonly Unnumbered[]): Promise<string | null> {
    return this.#turn(async () => {
      try {
        await this.#write(batches);
      } catch (error) {
        return this.#failed("write", error);
      }
      if (this.#failing !== null) this.#log("info", "spool: the disk takes batches again");
      this.#failing = null;
      return null;
    });
  }

  /** Returns the first held batch whose number is `seq` or above, or null. */
  read(seq: number): Promise<Numbered | null> {
    return this.#turn(async () => {
      for (const segment of this.#segments) {
        for (let i = Math.max(0, seq - segment.first); i < segment.offsets.length; i++) {
          const payload = await this.#payload(segment, i);
          if (payload !== null) return { seq: segment.first + i, payload };
        }
      }
      return null;
    });
  }

  /** Lets go of every batch up to `seq`. */
  acknowledge(seq: number): Promise<void> {
    return this.#turn(async () => {
      const to = Math.min(seq, this.nextSeq - 1);
      if (to > this.#acknowledged) {
        const rows = this.#rowsIn(this.#acknowledged + 1, to);
        this.rowsHeld -= rows;
        this.rowsAcknowledged += rows;
        this.#acknowledged = to;
      }
      try {
        const large = this.#active.length * 4 >= this.#segmentBytes;
        if (large && lastOf(this.#active) <= this.#acknowledged) await this.#roll();
        while (this.#segments.length > 1 && lastOf(this.#segments[0]!) <= this.#acknowledged) {
          await this.#removeOldest();
        }
      } catch (error) {
        this.#failed("remove acknowledged segments", error); // tried again at the next ack
      }
    });
  }

  /** Gives up one batch that the collector refuses; whoever sends passes over it. */
  refuse(seq: number): Promise<void> {
    return this.#turn(async () => {
      const segment = this.#segments.find((s) => s.first <= seq && seq <= lastOf(s));
      if (!segment) return;
      const index = seq - segment.first;
      const given = await this.#batch(segment, index);
      this.#giveUp(segment, index, "refused");
      this.#onGivenUp(given.rows, given.payload);
    });
  }

  /** Takes a new name, because the collector holds numbers that this spool has not yet given. */
  rename(): Promise<void> {
    return this.#turn(() => this.#writeName(randomBytes(16).toString("hex")));
  }

  async close(): Promise<void> {
    await this.#turn(async () => {
      for (const { fd } of this.#segments) await this.#files.close(fd).catch(() => {});
      this.#lock?.close();
      this.#lock = null;
    });
  }

  #turn<T>(step: () => Promise<T>): Promise<T> {
    const turn = this.#turns.then(step);
    this.#turns = turn.catch(() => {});
    return turn;
  }

  #failed(doing: string, error: unknown): string {
    const code = (error as { code?: string }).code;
    if (typeof code !== "string") throw error; // ours, not the disk's
    this.failures++;
    if (this.#failing !== code) this.#log("warn", `spool: cannot ${doing}: ${code}; trying again`);
    this.#failing = code;
    return code;
  }

  async #write(batches: readonly Unnumbered[]): Promise<void> {
    const first = this.nextSeq;
    const frames = batches.map(({ rows, encode }, i) => {
      return { seq: first + i, rows, payload: encode(first + i) };
    });
    const bytes = encodeFrames(frames);
    while (this.bytes + bytes.length > this.#bytesLimit && this.bytes > 0) {
      if (this.#segments.length === 1) await this.#roll();
      await this.#discardOldest();
    }
    if (this.#active.length >= this.#segmentBytes) await this.#roll();
    const active = this.#active;
    if (this.#dirty) await this.#files.truncate(active.fd, active.length);
    this.#dirty = true;
    await writeAll(this.#files, active.fd, bytes, active.length);
    await this.#files.sync(active.fd);
    this.#dirty = false;
    for (const { rows, payload } of frames) {
      active.offsets.push(active.length);
      active.rows.push(rows);
      active.length += FRAME_HEADER_LENGTH + payload.length;
      this.rowsHeld += rows;
    }
  }

  /** Begins a new segment. Before it is listed, its name is on the disk. */
  async #roll(): Promise<void> {
    const first = this.nextSeq;
    if (this.#active?.first === first && this.#active.length === 0) return;
    const file = path.join(this.#directory, `${String(first).padStart(16, "0")}.wpspool1`);
    if (this.#dirty) await this.#files.truncate(this.#active.fd, this.#active.length);
    this.#dirty = false;
    const fd = await this.#files.open(file, "w+");
    try {
      await this.#syncDirectory();
    } catch (error) {
      await this.#files.close(fd).catch(() => {});
      throw error;
    }
    this.#segments.push({ first, file, fd, offsets: [], rows: [], length: 0 });
  }

  async #discardOldest(): Promise<void> {
    const oldest = this.#segments[0]!;
    const first = Math.max(this.#acknowledged + 1, oldest.first);
    const last = lastOf(oldest);
    const given: GivenUp[] = [];
    for (let seq = first; seq <= last; seq++) {
      given.push(await this.#batch(oldest, seq - oldest.first));
    }
    const rows = this.#rowsIn(first, last);
    await this.#removeOldest();
    for (const { rows: some, payload } of given) this.#onGivenUp(some, payload);
    this.discarded.full += rows;
    this.rowsHeld -= rows;
    if (first > last) return;
    const range = `batches ${first} to ${last} (${rows} rows)`;
    this.#log("warn", `spool: full (${this.#bytesLimit} bytes); discarded ${range}`);
  }

  async #removeOldest(): Promise<void> {
    const oldest = this.#segments[0]!;
    await this.#files.remove(oldest.file).catch((error: unknown) => {
      if ((error as { code?: string }).code !== "ENOENT") throw error;
    });
    this.#segments.shift();
    await this.#files.close(oldest.fd).catch(() => {});
  }

  /** Rows in the held batches from `first` to `last`, both included. */
  #rowsIn(first: number, last: number): number {
    let sum = 0;
    for (const segment of this.#segments) {
      const begin = Math.max(0, first - segment.first);
      const end = Math.min(segment.rows.length, last + 1 - segment.first);
      for (let i = begin; i < end; i++) sum += segment.rows[i]!;
    }
    return sum;
  }

  #giveUp(segment: Segment, index: number, reason: "damaged" | "refused"): void {
    this.discarded[reason] += segment.rows[index]!;
    this.rowsHeld -= segment.rows[index]!;
    segment.rows[index] = 0;
  }

  /** A batch that is about to be given up; one that turns out to be damaged has been by then. */
  async #batch(segment: Segment, index: number): Promise<GivenUp> {
    const payload = await this.#payload(segment, index).catch(() => null);
    return { rows: segment.rows[index]!, payload };
  }

  /** The payload of a segment's batch, or null when the disk does not give it back unharmed. */
  async #payload(segment: Segment, index: number): Promise<Uint8Array | null> {
    const at = segment.offsets[index]!;
    const frame = new Uint8Array((segment.offsets[index + 1] ?? segment.length) - at);
    let filled = 0;
    try {
      while (filled < frame.length) {
        const got = await this.#files.readAt(segment.fd, frame.subarray(filled), at + filled);
        if (got === 0) break;
        filled += got;
      }
    } catch (error) {
      this.#failed("read", error);
      throw error;
    }
    const { offsets, length } = parseSegment(frame, segment.first + index);
    if (offsets.length === 1 && length === frame.length) return frame.subarray(FRAME_HEADER_LENGTH);
    this.cutBytes += frame.length;
    this.#onGivenUp(segment.rows[index]!, null);
    this.#giveUp(segment, index, "damaged");
    this.#log("error", `spool: batch ${segment.first + index} is damaged; passed over`);
    return null;
  }

  async #load(): Promise<void> {
    const names = await this.#files.list(this.#directory);
    for (const name of names.filter((n) => SEGMENT.test(n)).sort()) {
      const file = path.join(this.#directory, name);
      const bytes = await this.#files.load(file);
      const first = Number(SEGMENT.exec(name)![1]);
      const found = parseSegment(bytes, first);
      // What a roll left behind that failed half-way: its numbers went to the segment before it.
      const before = this.#segments.at(-1);
      if (found.length === 0 && before && first <= lastOf(before)) {
        await this.#files.remove(file);
        continue;
      }
      const fd = await this.#files.open(file, "r+");
      this.#segments.push({ first, file, fd, ...found });
      if (found.length === bytes.length) continue;
      this.cutBytes += bytes.length - found.length;
      const what = `${bytes.length - found.length} bytes that are no whole batch`;
      this.#log("warn", `spool: ${name}: cut ${what}`);
      await this.#files.truncate(fd, found.length);
      await this.#files.sync(fd);
    }
    this.rowsHeld = this.#rowsIn(1, Number.MAX_SAFE_INTEGER);
    if (this.#segments.length === 0) await this.#create(names);
    else if (names.includes("name")) {
      const text = Buffer.from(await this.#files.load(path.join(this.#directory, "name")));
      this.#name = text.toString("latin1").trim();
    }
    // Numbers without their name may have been given before under another: begin a new numbering.
    if (!NAME.test(this.#name)) await this.#writeName(randomBytes(16).toString("hex"));
  }

  /** An empty spool: its name first, so that no number is ever given without one. */
  async #create(names: readonly string[]): Promise<void> {
    if (names.includes("name")) this.#log("warn", "spool: its segments are gone; begins anew");
    await this.#writeName(randomBytes(16).toString("hex"));
    const file = path.join(this.#directory, `${"1".padStart(16, "0")}.wpspool1`);
    const fd = await this.#files.open(file, "w+");
    this.#segments.push({ first: 1, file, fd, offsets: [], rows: [], length: 0 });
    await this.#syncDirectory();
    await this.#syncDirectory(path.dirname(path.resolve(this.#directory)));
  }

  async #writeName(name: string): Promise<void> {
    const file = path.join(this.#directory, "name");
    const fd = await this.#files.open(`${file}.new`, "w");
    try {
      await writeAll(this.#files, fd, Buffer.from(`${name}\n`), 0);
      await this.#files.sync(fd);
    } finally {
      await this.#files.close(fd);
    }
    await this.#files.rename(`${file}.new`, file);
    await this.#syncDirectory();
    this.#name = name;
  }

  async #syncDirectory(directory = this.#directory): Promise<void> {
    const fd = await this.#files.open(directory, "r");
    try {
      await this.#files.sync(fd);
    } finally {
      await this.#files.close(fd);
    }
  }
}

function lastOf(segment: Segment): number {
  return segment.first + segment.offsets.length - 1;
}

async function writeAll(files: SpoolFiles, fd: number, bytes: Uint8Array, at: number) {
  for (let done = 0; done < bytes.length;) {
    done += await files.writeAt(fd, bytes.subarray(done), at + done);
  }
}
