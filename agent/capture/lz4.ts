/** Unpacks lz4 frames (LZ4 Frame Format 1.6.4), whose blocks `lz4-napi` reads. */
import { uncompressSync } from "lz4-napi";
import xxhash from "xxhash-wasm";
import type { Intake } from "./intake.ts";
import { CUT_OFF, word } from "./packing.ts";
import type { Unpacking } from "./packing.ts";

/** The format's checksums, XXH32 with a seed of 0, once they are there. */
const checksums = xxhash();

/** How far back a block may refer. */
const WINDOW = 1 << 16;
/** Bytes that are handed on together, where more are at hand. */
const TOGETHER = 1 << 16;
/** A sequence says at most so many bytes with each of its own. */
const MOST_TIMES = 255;
/** Most bytes of a legacy frame's block. */
const LEGACY_BLOCK = 8 << 20;
/** Most that one takes where nothing could be packed. */
const LEGACY_MOST = LEGACY_BLOCK + Math.floor(LEGACY_BLOCK / MOST_TIMES) + 16;
const STORED = 0x80000000;

/** Flags of a frame's descriptor. */
const Flag = { dictionary: 1, reserved: 2, checksum: 4, size: 8, blockChecksum: 16, alone: 32 };

/** What was unpacked of a frame: the end of it, as far as blocks may refer to it, and more. */
class Output {
  readonly #bytes: Uint8Array;
  readonly #blockLimit: number;
  #length = 0;
  #shown = 0;
  /** Bytes unpacked so far. */
  total = 0;

  constructor(blockLimit: number) {
    this.#blockLimit = blockLimit;
    this.#bytes = new Uint8Array(WINDOW + TOGETHER + 2 * blockLimit);
  }

  /** Bytes that were not handed on yet. */
  get waiting(): number {
    return this.#length - this.#shown;
  }

  /** Room for one more block is there again once what waits was handed on. */
  get isFull(): boolean {
    return this.#length + this.#blockLimit > this.#bytes.length;
  }

  add(block: Uint8Array): void {
    if (this.isFull) {
      const kept = Math.min(WINDOW, this.#length);
      this.#bytes.copyWithin(0, this.#length - kept, this.#length);
      this.#length = this.#shown = kept;
    }
    this.#bytes.set(block, this.#length);
    this.#length += block.length;
    this.total += block.length;
  }

  /** What waits; it stands until the next `add`. */
  show(): Uint8Array {
    const shown = this.#bytes.subarray(this.#shown, this.#length);
    this.#shown = this.#length;
    return shown;
  }

  /** What a linked block may refer to. */
  get window(): Uint8Array {
    return this.#bytes.subarray(Math.max(0, this.#length - WINDOW), this.#length);
  }
}

/** Unpacks a block behind its length's 4 bytes, which are overwritten; or says why it cannot. */
function unpackBlock(bytes: Uint8Array, limit: number, window?: Uint8Array): Uint8Array | string {
  // The library wants to be told how much room there is, in place of the block's own length.
  const room = Math.min(limit, MOST_TIMES * (bytes.length - 4));
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, room, true);
  try {
    return uncompressSync(bytes, window);
  } catch (error) {
    return (error as Error).message;
  }
}

/** What a frame's header says of its blocks. */
type Header = {
  blockLimit: number;
  isLinked: boolean;
  hasBlockChecksums: boolean;
  hasChecksum: boolean;
  /** Bytes of everything, where it is told. */
  size: number | null;
};

/** magic(4) | flags(1) | largest block(1) | [size(8)] | [dictionary(4)] | checksum(1) */
async function readHeader(intake: Intake): Promise<Header | string> {
  if (!(await intake.has(7))) return CUT_OFF;
  const flags = intake.held[4]!;
  const sizeCode = (intake.held[5]! >> 4) & 7;
  if (flags >> 6 !== 1 || (flags & Flag.reserved) !== 0) return "it is of an unknown version";
  if ((flags & Flag.dictionary) !== 0) return "it needs a dictionary";
  if (sizeCode < 4) return "its blocks are of an unknown size";
  const length = (flags & Flag.size) !== 0 ? 15 : 7;
  if (!(await intake.has(length))) return CUT_OFF;
  const header = intake.cut(length);
  const { create32 } = await checksums;
  const checksum = create32().update(header.subarray(4, length - 1));
  if (((checksum.digest() >>> 8) & 0xff) !== header[length - 1]) {
    return "its header's checksum is wrong";
  }
  return {
    blockLimit: 1 << (8 + 2 * sizeCode),
    isLinked: (flags & Flag.alone) === 0,
    hasBlockChecksums: (flags & Flag.blockChecksum) !== 0,
    hasChecksum: (flags & Flag.checksum) !== 0,
    size: length === 15 ? word(header, 6) + 2 ** 32 * word(header, 10) : null,
  };
}

/** Bytes of the next block with its length and checksum; 4 where its length is not at hand. */
function blockLength({ held }: Intake, { hasBlockChecksums }: Header): number {
  const told = held.length < 4 ? 0 : word(held, 0) & ~STORED;
  return told === 0 ? 4 : 4 + told + (hasBlockChecksums ? 4 : 0);
}

/**
 * length(4), with the high bit where it is not packed | bytes | [checksum(4)]; null where a length
 * of 0 ends the frame, a sentence where the block is broken.
 */
async function readBlock(
  intake: Intake,
  header: Header,
  output: Output,
): Promise<Uint8Array | string | null> {
  if (!(await intake.has(4))) return CUT_OFF;
  const length = blockLength(intake, header);
  const told = word(intake.held, 0) & ~STORED;
  if (told > header.blockLimit) return `claims ${told} bytes`;
  if (!(await intake.has(length))) return CUT_OFF;
  const isStored = (word(intake.held, 0) & STORED) !== 0;
  const block = intake.cut(length);
  if (told === 0) return null;
  const packed = block.subarray(4, 4 + told);
  if (header.hasBlockChecksums) {
    const { create32 } = await checksums;
    const isRight = word(block, 4 + told) === create32().update(packed).digest();
    if (!isRight) return "its checksum is wrong";
  }
  if (isStored) return packed;
  const window = header.isLinked ? output.window : undefined;
  return unpackBlock(block.subarray(0, 4 + told), header.blockLimit, window);
}

/** A frame: header, blocks, a length of 0, and the checksum(4) of everything where announced. */
export async function* unpackLz4(intake: Intake): Unpacking {
  const header = await readHeader(intake);
  if (typeof header === "string") return header;
  const output = new Output(header.blockLimit);
  const checksum = header.hasChecksum ? (await checksums).create32() : null;
  for (let n = 1; ; n++) {
    const mayWait = intake.held.length < blockLength(intake, header);
    if (output.waiting > 0 && (mayWait || output.isFull || output.waiting >= TOGETHER)) {
      const shown = output.show();
      checksum?.update(shown);
      yield shown;
    }
    const block = await readBlock(intake, header, output);
    if (typeof block === "object" && block !== null) {
      output.add(block);
      continue;
    }
    const shown = output.show();
    checksum?.update(shown);
    if (shown.length > 0) yield shown;
    if (block === null) break;
    return block === CUT_OFF ? block : `its block ${n}: ${block}`;
  }
  if (header.size !== null && header.size !== output.total) return "its size is not what it says";
  if (checksum === null) return null;
  if (!(await intake.has(4))) return CUT_OFF;
  return word(intake.cut(4), 0) === checksum.digest() ? null : "its checksum is wrong";
}

/** A legacy frame: magic(4), then blocks of length(4) | bytes, until something else begins. */
export async function* unpackLegacy(intake: Intake): Unpacking {
  intake.cut(4);
  for (let n = 1; await intake.has(4); n++) {
    const length = word(intake.held, 0);
    if (length > LEGACY_MOST) return null; // another frame's magic
    if (!(await intake.has(4 + length))) return CUT_OFF;
    const bytes = unpackBlock(intake.cut(4 + length), LEGACY_BLOCK);
    if (typeof bytes === "string") return `its block ${n}: ${bytes}`;
    yield bytes;
  }
  return intake.held.length === 0 ? null : CUT_OFF;
}
