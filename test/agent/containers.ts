/** Builds captures of every format and packing from frames, byte by byte. */
import { compressFrameSync } from "lz4-napi";
import xxhash from "xxhash-wasm";
import { ACK, SYN, ethernet, ipv4, join, latin1, tcp, u16, u32 } from "../frames.ts";
import type { Bytes } from "../frames.ts";

/** A frame as it is put into a capture: captured bytes, and when, in microseconds. */
export type Put = { bytes: Bytes; timeUs: number; wire?: number };

/** Numbers in the byte order of a file. */
export type Order = { half(n: number): number[]; word(n: number): number[] };
export const BIG: Order = { half: u16, word: u32 };
export const LITTLE: Order = {
  half: (n) => u16(n).reverse(),
  word: (n) => u32(n).reverse(),
};

const START_US = 1_795_000_000_123_456;

/** Two connections over IPv4: a request in plaintext each, and an answer. */
export const IP_PACKETS: readonly Put[] = [41_000, 41_001].flatMap((port, i) => {
  const client = (sequence: number, acknowledgment: number, flags: number, text: string) =>
    ipv4({}, tcp({ from: port, to: 80, sequence, acknowledgment, flags }, latin1(text)));
  const server = (sequence: number, acknowledgment: number, flags: number, text: string) =>
    ipv4(
      { source: "10.0.0.2", destination: "10.0.0.1" },
      tcp({ from: 80, to: port, sequence, acknowledgment, flags }, latin1(text)),
    );
  return [
    client(100, 0, SYN, ""),
    server(500, 101, SYN | ACK, ""),
    client(101, 501, ACK, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    server(501, 128, ACK, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
  ].map((bytes, n) => ({ bytes, timeUs: START_US + i * 1e6 + n * 1001 }));
});

/** The same on Ethernet. */
export const FRAMES: readonly Put[] = IP_PACKETS.map((put) => ({
  ...put,
  bytes: ethernet(put.bytes),
}));

/** libpcap's savefile, or one of its kin. */
export function pcap(
  puts: readonly Put[],
  {
    order = LITTLE,
    magic = 0xa1b2c3d4,
    linkType = 1,
    isNano = false,
    behindHeader = [] as readonly number[],
    behindPacketHeader = [] as readonly number[],
  } = {},
): Bytes {
  const { half, word } = order;
  const head = [...word(magic), ...half(2), ...half(4), ...word(0), ...word(0), ...word(262144)];
  const packets = puts.map(({ bytes, timeUs, wire = bytes.length }) => {
    const fraction = (timeUs % 1e6) * (isNano ? 1000 : 1);
    const time = [...word(Math.floor(timeUs / 1e6)), ...word(fraction)];
    return join(time, word(bytes.length), word(wire), behindPacketHeader, bytes);
  });
  return join(head, word(linkType), behindHeader, ...packets);
}

/** snoop's format (RFC 1761), each record padded to four bytes. */
export function snoop(puts: readonly Put[], link = 4): Bytes {
  const packets = puts.map(({ bytes, timeUs, wire = bytes.length }) => {
    const padding = -bytes.length & 3;
    const lengths = [...u32(wire), ...u32(bytes.length), ...u32(24 + bytes.length + padding)];
    const time = [...u32(Math.floor(timeUs / 1e6)), ...u32(timeUs % 1e6)];
    return join(lengths, u32(0), time, bytes, new Uint8Array(padding));
  });
  return join(latin1("snoop\0\0\0"), u32(2), u32(link), ...packets);
}

/** A block of pcapng: type, length, body padded to four, length. */
export function block({ word }: Order, type: number, ...body: (Uint8Array | number[])[]): Bytes {
  const inside = join(...body);
  const padding = new Uint8Array(-inside.length & 3);
  const length = word(12 + inside.length + padding.length);
  return join(word(type), length, inside, padding, length);
}

export const section = (order: Order): Bytes =>
  block(order, 0x0a0d0d0a, [
    ...[...order.word(0x1a2b3c4d), ...order.half(1), ...order.half(0)],
    ...[...order.word(0xffffffff), ...order.word(0xffffffff)],
  ]);

/** An option of pcapng, padded to four. */
const option = ({ half }: Order, code: number, value: readonly number[]): number[] => [
  ...[...half(code), ...half(value.length), ...value],
  ...new Array<number>(-value.length & 3).fill(0),
];

export function description(
  order: Order,
  { linkType = 1, snap = 0, resolution = 6, offset = 0 } = {},
): Bytes {
  const { half, word } = order;
  const high = Math.floor(offset / 2 ** 32);
  const words = [...word(high >>> 0), ...word(offset >>> 0)];
  const seconds = order === BIG ? words : [...word(offset >>> 0), ...word(high >>> 0)];
  const options = [...option(order, 9, [resolution]), ...option(order, 14, seconds)];
  return block(order, 1, [...half(linkType), ...half(0), ...word(snap)], options, word(0));
}

/** An enhanced packet block, of a timestamp in units of its interface. */
export function enhanced(order: Order, id: number, at: bigint, bytes: Bytes, wire?: number): Bytes {
  const { word } = order;
  const time = [...word(Number(at >> 32n)), ...word(Number(at & 0xffffffffn))];
  const lengths = [...word(bytes.length), ...word(wire ?? bytes.length)];
  return block(order, 6, word(id), time, lengths, bytes);
}

/** A timestamp in units of `if_tsresol`, the latest that is not behind the time. */
export function ticks(timeUs: number, resolution: number, offset = 0): bigint {
  const n = BigInt(resolution & 0x7f);
  const perSecond = (resolution & 0x80) !== 0 ? 2n ** n : 10n ** n;
  return ((BigInt(timeUs) - BigInt(offset) * 1_000_000n) * perSecond) / 1_000_000n;
}

/** What such a timestamp says, in whole microseconds: the slow way. */
export function microsOf(at: bigint, resolution: number): bigint {
  const n = BigInt(resolution & 0x7f);
  const perSecond = (resolution & 0x80) !== 0 ? 2n ** n : 10n ** n;
  return (at * 1_000_000n) / perSecond;
}

export function pcapng(
  puts: readonly Put[],
  { order = LITTLE, linkType = 1, resolution = 6, offset = 0 } = {},
): Bytes {
  return join(
    section(order),
    description(order, { linkType, resolution, offset }),
    ...puts.map(({ bytes, timeUs, wire }) =>
      enhanced(order, 0, ticks(timeUs, resolution, offset), bytes, wire),
    ),
  );
}

/** A frame that nobody needs to read (RFC 8878 §3.1.2). */
export const skippable = (bytes: Uint8Array | readonly number[], nibble = 0): Bytes =>
  join(LITTLE.word(0x184d2a50 + nibble), LITTLE.word(bytes.length), bytes);

const { h32Raw } = await xxhash();

/** A block of lz4's that holds bytes as they are, in one sequence. */
function literals(bytes: Uint8Array): Bytes {
  if (bytes.length < 15) return join([bytes.length << 4], bytes);
  const more = bytes.length - 15;
  const lengths = [...new Array<number>(Math.floor(more / 255)).fill(255), more % 255];
  return join([0xf0], lengths, bytes);
}

/** An lz4 frame of blocks as they are given, each with whether it is packed. */
export function lz4Frame(
  blocks: readonly { bytes: Uint8Array; isPacked: boolean }[],
  content: Uint8Array,
  { isLinked = false, hasSize = true, hasBlockChecksums = true } = {},
): Bytes {
  const { word } = LITTLE;
  const flags = 0x44 | (isLinked ? 0 : 32) | (hasSize ? 8 : 0) | (hasBlockChecksums ? 16 : 0);
  const size = hasSize ? [...word(content.length), ...word(0)] : [];
  const descriptor = Uint8Array.of(flags, 0x40, ...size); // blocks of up to 64 KiB
  const laid = blocks.map(({ bytes, isPacked }) => {
    const checksum = hasBlockChecksums ? word(h32Raw(bytes)) : [];
    return join(word((bytes.length | (isPacked ? 0 : 0x80000000)) >>> 0), bytes, checksum);
  });
  const head = [(h32Raw(descriptor) >>> 8) & 0xff];
  return join(word(0x184d2204), descriptor, head, ...laid, word(0), word(h32Raw(content)));
}

/** A frame of blocks of so many bytes each. */
export function lz4Pieces(bytes: Bytes, pieceBytes: number, options = {}): Bytes {
  const blocks: { bytes: Uint8Array; isPacked: boolean }[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const isPacked = blocks.length % 2 === 0;
    const piece = bytes.subarray(at, at + pieceBytes);
    blocks.push({ bytes: isPacked ? literals(piece) : piece, isPacked });
  }
  return lz4Frame(blocks, bytes, options);
}

/** As `lz4-napi` packs it: blocks that refer to what stood before in them. */
export const lz4Packed = (bytes: Uint8Array): Bytes =>
  Uint8Array.from(
    compressFrameSync(Buffer.from(bytes), { contentChecksum: true, blockChecksums: true }),
  );

/** lz4's legacy frame, of blocks of up to 8 MiB. */
export function lz4Legacy(bytes: Bytes): Bytes {
  const packed = literals(bytes);
  return join(LITTLE.word(0x184c2102), LITTLE.word(packed.length), packed);
}
