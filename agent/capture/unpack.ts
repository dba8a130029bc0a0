/** Unpacks gzip members, zstd and lz4 frames, as many as follow each other (RFC 1952, RFC 8878). */
import type { Transform } from "node:stream";
import { crc32, createInflateRaw, createZstdDecompress } from "node:zlib";
import { inflateRawSync, zstdDecompressSync } from "node:zlib";
import { CHUNK_BYTES, NOTHING } from "./intake.ts";
import type { Intake } from "./intake.ts";
import { CUT_OFF, Packing, word } from "./packing.ts";
import type { Unpacking } from "./packing.ts";

/** Unpacks everything; tells in the end which part of it is broken, if one is. */
export async function* unpack(intake: Intake): Unpacking {
  for (let n = 1; await intake.has(4); n++) {
    const from = intake.position;
    const [name, part] = await partAt(intake);
    if (part === null) return await behind(intake, from);
    const broken = yield* part;
    if (broken !== null) return `${name} ${n} of it, from byte ${from} on, is broken: ${broken}`;
  }
  return await behind(intake, intake.position);
}

/** The part that begins here; null where none does. */
async function partAt(intake: Intake): Promise<[string, Unpacking | null]> {
  const magic = word(intake.held, 0);
  if ((magic & 0xffff) === Packing.gzip) return ["gzip member", gunzip(intake)];
  if ((magic & 0xfffffff0) === Packing.skippable) return ["skippable frame", skip(intake)];
  switch (magic) {
    case Packing.zstd:
      return ["zstd frame", through(intake, ZSTD)];
    case Packing.lz4:
      return ["lz4 frame", (await import("./lz4.ts")).unpackLz4(intake)];
    case Packing.lz4Legacy:
      return ["lz4 frame", (await import("./lz4.ts")).unpackLegacy(intake)];
    default:
      return ["", null];
  }
}

/** Zeros may fill a tape's last block; anything else behind the last part is told. */
async function behind(intake: Intake, from: number): Promise<string | null> {
  for (let bytes; (bytes = await intake.take()) !== null;) {
    if (bytes.some((byte) => byte !== 0)) return `what stands from byte ${from} on is not packed`;
  }
  return null;
}

/** A skippable frame: magic(4) | length(4) | anything (RFC 8878 §3.1.2). */
async function* skip(intake: Intake): Unpacking {
  if (!(await intake.has(8))) return CUT_OFF;
  return (await intake.skip(8 + word(intake.held, 4))) ? null : CUT_OFF;
}

/** One of zlib's engines, and how it unpacks at once what is whole. */
type Engine = {
  open(options: { chunkSize: number }): Transform & { bytesWritten: number };
  atOnce(bytes: Uint8Array, options: object): unknown;
};

const ZSTD: Engine = { open: createZstdDecompress, atOnce: zstdDecompressSync };
const INFLATE: Engine = { open: createInflateRaw, atOnce: inflateRawSync };

/** Bytes of a small part, and those that it unpacks to at most. */
const SMALL_BYTES = 1 << 16;
const SMALL_UNPACKED_BYTES = 1 << 20;
/** Bytes that an engine hands over together where it is known to break soon: the last are lost. */
const SALVAGED_BYTES = 1 << 10;

/**
 * Unpacks a small part that is at hand as a whole: to open an engine takes ten times as long. Null
 * where it is not whole, or not small; false where it is broken.
 */
function atOnce(intake: Intake, { atOnce }: Engine): Uint8Array | null | false {
  const options = { info: true, maxOutputLength: SMALL_UNPACKED_BYTES };
  try {
    const unpacked = atOnce(intake.held.subarray(0, SMALL_BYTES), options);
    const { buffer, engine } = unpacked as { buffer: Buffer; engine: { bytesWritten: number } };
    intake.cut(engine.bytesWritten);
    return buffer;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error; // ours, not the file's
    return code === "Z_BUF_ERROR" || code === "ERR_BUFFER_TOO_LARGE" ? null : false;
  }
}

/**
 * Hands bytes to an engine until it has its end, and gives back what it left. An engine takes one
 * piece at a time, and tells by `bytesWritten` how much of it it wanted.
 */
async function* through(
  intake: Intake,
  kind: Engine,
  onPiece?: (piece: Uint8Array) => void,
): Unpacking {
  const whole = atOnce(intake, kind);
  if (whole) {
    onPiece?.(whole);
    if (whole.length > 0) yield whole;
    return null;
  }
  const engine = kind.open({ chunkSize: whole === null ? CHUNK_BYTES : SALVAGED_BYTES });
  let last = NOTHING;
  let fed = 0;
  const hand = (piece: Uint8Array | null) => {
    if (piece === null) return void engine.end();
    last = piece;
    fed += piece.length;
    engine.write(piece, (error) => {
      if (!error && engine.bytesWritten === fed) feed();
    });
  };
  const feed = () => void intake.take().then(hand, (error: Error) => engine.destroy(error));
  feed();
  try {
    for await (const piece of engine as AsyncIterable<Buffer>) {
      onPiece?.(piece);
      yield piece;
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error; // ours, not the file's
    return code === "Z_BUF_ERROR" ? CUT_OFF : message;
  } finally {
    engine.destroy();
  }
  const left = fed - engine.bytesWritten;
  if (left > 0) intake.giveBack(last.subarray(-left));
  return null;
}

/** Parts of a gzip member's header, as bits of its flags (RFC 1952 §2.3.1). */
const Gzip = { headerChecksum: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;

/**
 * A member: header | deflated bytes | CRC-32(4) | length(4), of what was packed. One member at a
 * time: `createGunzip` would go on by itself, and lose what it has of one where the next is broken.
 */
async function* gunzip(intake: Intake): Unpacking {
  const wrong = await passGzipHeader(intake);
  if (wrong !== null) return wrong;
  let [checksum, length] = [0, 0];
  const broken = yield* through(intake, INFLATE, (piece) => {
    checksum = crc32(piece, checksum);
    length = (length + piece.length) >>> 0;
  });
  if (broken !== null) return broken;
  if (!(await intake.has(8))) return CUT_OFF;
  const trailer = intake.cut(8);
  const isRight = word(trailer, 0) === checksum && word(trailer, 4) === length;
  return isRight ? null : "its checksum or its length is wrong";
}

/** ID(2) | method(1) | flags(1) | time(4) | flags(1) | system(1), and what the flags announce. */
async function passGzipHeader(intake: Intake): Promise<string | null> {
  if (!(await intake.has(10))) return CUT_OFF;
  const header = intake.cut(10);
  const flags = header[3]!;
  if (header[2] !== 8 || (flags & Gzip.reserved) !== 0) return "its header is not gzip's";
  if ((flags & Gzip.extra) !== 0) {
    if (!(await intake.has(2))) return CUT_OFF;
    const length = intake.cut(2);
    if (!(await intake.skip(length[0]! | (length[1]! << 8)))) return CUT_OFF;
  }
  for (const text of [Gzip.name, Gzip.comment]) {
    if ((flags & text) !== 0 && !(await passText(intake))) return CUT_OFF;
  }
  if ((flags & Gzip.headerChecksum) !== 0 && !(await intake.skip(2))) return CUT_OFF;
  return null;
}

/** Passes over a text that ends with a zero; false where the end comes before. */
async function passText(intake: Intake): Promise<boolean> {
  while (await intake.has(1)) {
    const end = intake.held.indexOf(0);
    if (end >= 0) return intake.skip(end + 1);
    await intake.skip(intake.held.length);
  }
  return false;
}
