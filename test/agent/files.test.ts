/**
 * Checks captures of every format, link type and packing: what was put in comes out, frame by frame
 * and to the microsecond, and damage is told. Where tshark reads the same format, it is asked too.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { gzipSync, zstdCompressSync } from "node:zlib";
import t from "tap";
import type { t as Tap } from "tap";
import { openBytes } from "../../agent/capture/byte-source.ts";
import { FRAME_LIMIT } from "../../agent/capture/frame-source.ts";
import { readPcapFile } from "../../agent/capture/pcap-file.ts";
import { readResolution, toMicroseconds } from "../../agent/capture/resolution.ts";
import { join, latin1, random, u16, u32 } from "../frames.ts";
import type { Bytes } from "../frames.ts";
import { read } from "./captures.ts";
import { BIG, FRAMES, IP_PACKETS, LITTLE, block, description, enhanced } from "./containers.ts";
import { lz4Frame, lz4Legacy, lz4Packed, lz4Pieces, microsOf, pcap, pcapng } from "./containers.ts";
import { section, skippable, snoop, ticks } from "./containers.ts";
import type { Put } from "./containers.ts";

const folder = mkdtempSync(path.join(tmpdir(), "wireproof-files-"));
t.teardown(() => rmSync(folder, { recursive: true }));
const file = path.join(folder, "one.capture");

type Got = {
  frames: { bytes: Bytes; timeUs: number; wire: number; linkType: number; lane: number }[];
  damage: string | null;
};

/** What is read of these bytes; an operator's error by its code. */
async function readBytes(bytes: Uint8Array): Promise<Got> {
  writeFileSync(file, bytes);
  const clock = new Float64Array(1);
  const frames: Got["frames"] = [];
  try {
    const report = await readPcapFile(file, clock, (view, at, end, wire, linkType, lane) => {
      if (at < 0 || at > end || end > view.byteLength) throw new RangeError("beyond its view");
      const captured = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset + at, end - at);
      frames.push({ bytes: captured.slice(), timeUs: clock[0]!, wire, linkType, lane });
    });
    if (report.frames !== frames.length) throw new Error(`${report.frames} frames told`);
    return { frames, damage: report.damage };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== "string" || !code.startsWith("CONFIG_")) throw error;
    return { frames, damage: code };
  }
}

/** Bytes and times, for comparing. */
const meant = (list: readonly Put[]) =>
  list.map(({ bytes, timeUs }) => ({ timeUs, bytes: Buffer.from(bytes).toString("hex") }));

const hasTshark = spawnSync("tshark", ["--version"]).status === 0;

/** Times and ends as tshark reads them of the file that was written last; of each IP packet. */
function asked(): string[] {
  const fields = [
    "frame.time_epoch",
    "ip.src",
    "tcp.srcport",
    "ip.dst",
    "tcp.dstport",
    "tcp.seq_raw",
  ];
  const { stdout } = spawnSync(
    "tshark",
    ["-n", "-r", file, "-Y", "ip", "-T", "fields", ...fields.flatMap((field) => ["-e", field])],
    { encoding: "utf8" },
  );
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/^(\d+\.\d{6})\d*/, "$1"));
}

/** The same of what was put in. */
const EXPECTED = IP_PACKETS.map(({ bytes, timeUs }) => {
  const half = (at: number) => (bytes[at]! << 8) | bytes[at + 1]!;
  const word = (at: number) => half(at) * 65536 + half(at + 2);
  const time = `${Math.floor(timeUs / 1e6)}.${String(timeUs % 1e6).padStart(6, "0")}`;
  const [source, destination] = [bytes.subarray(12, 16), bytes.subarray(16, 20)];
  return [time, source.join("."), half(20), destination.join("."), half(22), word(24)].join("\t");
});

type Judge = { equal: typeof Tap.equal; strictSame: typeof Tap.strictSame };
type Check = { linkType?: number; of?: readonly Put[]; tshark?: boolean };

/** Reads bytes that hold `of`, whole and in order. */
async function check(t: Judge, name: string, bytes: Uint8Array, options: Check = {}) {
  const { linkType = 1, of = FRAMES, tshark = true } = options;
  const { frames, damage } = await readBytes(bytes);
  t.equal(damage, null, name);
  t.strictSame(meant(frames), meant(of), name);
  t.strictSame([...new Set(frames.map((frame) => frame.linkType))], [linkType], name);
  if (tshark && hasTshark) t.strictSame(asked(), EXPECTED, `${name}, as tshark reads it`);
}

t.test("libpcap's format and its kin: either byte order, each resolution", async (t) => {
  for (const order of [LITTLE, BIG]) {
    const name = order === BIG ? "big-endian" : "little-endian";
    await check(t, `${name} microseconds`, pcap(FRAMES, { order }));
    const nano = { order, magic: 0xa1b23c4d, isNano: true };
    await check(t, `${name} nanoseconds`, pcap(FRAMES, nano));
    const modified = { order, magic: 0xa1b2cd34, behindPacketHeader: [0, 0, 0, 2, 8, 0, 0, 0] };
    await check(t, `${name} modified`, pcap(FRAMES, modified));
    const size = order.word(pcap(FRAMES).length - 24);
    const software = { order, magic: 0x1c0001ab, behindHeader: size };
    const hardware = { order, magic: 0x1c0001ac, behindHeader: size, isNano: true };
    await check(t, `${name} IXIA, software`, pcap(FRAMES, software));
    // tshark 4.0 takes the nanoseconds of these for microseconds; later ones do not.
    await check(t, `${name} IXIA, hardware`, pcap(FRAMES, hardware), { tshark: false });
  }
  await check(t, "FCS flags above the link type", pcap(FRAMES, { linkType: 0x24000001 }));
});

t.test("snoop: padded records; links and versions that are not known are told", async (t) => {
  await check(t, "Ethernet", snoop(FRAMES));
  await check(t, "IEEE 802.3", snoop(FRAMES, 0));
  await check(t, "a link of its own", snoop(FRAMES, 18), { linkType: 0x10012, tshark: false });
  const version3 = snoop(FRAMES);
  version3[11] = 3;
  t.match(await readBytes(version3), { frames: [], damage: /snoop's version 3/ });
  const lying = snoop(FRAMES);
  lying.set(u32(10), 16 + 8); // the first record's length
  t.match(await readBytes(lying), { frames: [], damage: /claims 54 captured bytes in 10/ });
  t.strictSame(await readBytes(snoop([])), { frames: [], damage: null });
});

t.test("timestamps of every resolution are exact, against whole numbers of any size", async (t) => {
  const next = random(60);
  const some = (bits: number) => {
    const word = BigInt(next(2 ** 31)) * 2n + BigInt(next(2));
    return ((word << 32n) | BigInt(next(2 ** 31))) & ((1n << BigInt(bits)) - 1n);
  };
  for (let code = 0; code < 256; code++) {
    const resolution = readResolution(code);
    // Units of whole microseconds: as many of them as 2^53 microseconds are.
    for (let n = 0; n < 200; n++) {
      const at = some(1 + next(64));
      const right = microsOf(at, code);
      if (right >= 2n ** 53n) continue;
      const got = toMicroseconds(Number(at >> 32n), Number(at & 0xffffffffn), resolution);
      if (BigInt(got) !== right) t.fail(`${at} of resolution ${code}: ${got}, not ${right}`);
    }
  }
  for (const resolution of [3, 6, 7, 9, 12, 0x8a, 0x94, 0xa0]) {
    for (const offset of [0, 1_700_000_000, -5]) {
      if (ticks(FRAMES.at(-1)!.timeUs, resolution, offset) >= 2n ** 64n) continue;
      const of = FRAMES.map(({ bytes, timeUs }) => {
        const micros = microsOf(ticks(timeUs, resolution, offset), resolution);
        return { bytes, timeUs: Number(micros) + offset * 1e6 };
      });
      const { frames, damage } = await readBytes(pcapng(FRAMES, { resolution, offset }));
      t.equal(damage, null);
      t.strictSame(meant(frames), meant(of), `resolution ${resolution}, offset ${offset}`);
      if (!hasTshark || offset === -5) continue;
      const times = asked().map((line) => line.split("\t")[0]);
      const right = of.map(({ timeUs }) => (timeUs / 1e6).toFixed(6));
      t.strictSame(times, right, `resolution ${resolution}, offset ${offset}: tshark`);
    }
  }
});

t.test("pcapng: sections of either byte order, interfaces of their own", async (t) => {
  const [first, second] = [FRAMES.slice(0, 4), FRAMES.slice(4)];
  const part = (order: typeof BIG, puts: readonly Put[], resolution: number) => [
    section(order),
    description(order, { resolution: 3, linkType: 101 }),
    block(order, 0x0bad, [1, 2, 3]), // of a kind that nobody knows
    description(order, { resolution, offset: 1000 }),
    ...puts.map(({ bytes, timeUs }) => enhanced(order, 1, ticks(timeUs, resolution, 1000), bytes)),
  ];
  await check(t, "two", join(...part(LITTLE, first, 9), ...part(BIG, second, 6)));
  const { frames } = await readBytes(join(...part(BIG, first, 6), ...part(LITTLE, second, 9)));
  t.strictSame(
    frames.map(({ lane }) => lane),
    [1, 1, 1, 1, 3, 3, 3, 3],
    "the interfaces of each section are others",
  );
});

t.test("pcapng: a simple packet is as long as its interface's snap lets it be", async (t) => {
  const whole = FRAMES[2]!.bytes;
  for (const snap of [0, 33, 60, 1000]) {
    const captured = whole.subarray(0, snap === 0 ? whole.length : snap);
    const packet = block(LITTLE, 3, LITTLE.word(whole.length), captured);
    const bytes = join(section(LITTLE), description(LITTLE, { snap }), packet);
    const { frames, damage } = await readBytes(bytes);
    t.strictSame([damage, frames.length], [null, 1]);
    t.strictSame(Buffer.from(frames[0]!.bytes), Buffer.from(captured), `snap ${snap}`);
    t.equal(frames[0]!.wire, whole.length);
  }
});

/** Puts something before each frame, and perhaps behind. */
const around = (puts: readonly Put[], before: (put: Put) => readonly number[], behind = 0) =>
  puts.map((put) => ({
    timeUs: put.timeUs,
    bytes: join(before(put), put.bytes, new Uint8Array(behind)),
  }));
const zeros = (count: number) => new Array<number>(count).fill(0);

const PPI = (linkType: number, ...fields: number[]) => [
  ...[0, 0, ...LITTLE.half(8 + fields.length), ...LITTLE.word(linkType), ...fields],
];
/** time | type | flags | record length | loss | wire length | extension headers | before the frame */
const erf =
  (type: number, before: readonly number[], extensions: readonly number[] = []) =>
  ({ bytes: { length }, timeUs }: Put) => {
    const fraction = Math.ceil(((timeUs % 1e6) * 2 ** 32) / 1e6);
    const time = [...LITTLE.word(fraction), ...LITTLE.word(Math.floor(timeUs / 1e6))];
    const all = 16 + extensions.length + before.length + length;
    const hasMore = extensions.length > 0 ? 0x80 : 0;
    const head = [...time, type | hasMore, 4, ...u16(all), 0, 0, ...u16(length)];
    return [...head, ...extensions, ...before];
  };
const pktap = (linkType: number, record = 1) => [
  ...[...LITTLE.word(108), ...LITTLE.word(record), ...LITTLE.word(linkType)],
  ...[...zeros(24), ...LITTLE.word(1), ...zeros(68)],
];
const pktap2 = (linkType: number) => [
  ...[44, 0, 0, 40, 0, 0, ...LITTLE.half(linkType), ...zeros(28)],
  ...[...LITTLE.word(0x00080001), 0x65, 0x6e, 0x30, 0],
];
const nflog =
  (order: typeof BIG, family: number) =>
  ({ bytes: { length } }: Put) => {
    const prefix = [...order.half(4 + 5), ...order.half(10), ...latin1("drop\0"), 0, 0, 0];
    return [family, 0, 0, 5, ...prefix, ...order.half(4 + length), ...order.half(9)];
  };
const padded = (puts: readonly Put[]) =>
  puts.map(({ bytes, timeUs }) => ({ timeUs, bytes: join(bytes, zeros(-bytes.length & 3)) }));

t.test("link types that put a header before the frame", async (t) => {
  const all = async (name: string, linkType: number, of: readonly Put[], options: Check = {}) => {
    await check(t, name, pcap(of, { linkType }), options);
    await check(t, `${name} in pcapng`, pcapng(of, { linkType }), { ...options, tshark: false });
  };
  const ip = { of: IP_PACKETS };
  await all(
    "PPI",
    192,
    around(FRAMES, () => PPI(1)),
  );
  const field = [...LITTLE.half(2), ...LITTLE.half(20), ...zeros(20)];
  await all(
    "PPI with a field",
    192,
    around(FRAMES, () => PPI(1, ...field)),
  );
  await all(
    "PPI of IP",
    192,
    around(IP_PACKETS, () => PPI(12)),
    { ...ip, linkType: 12 },
  );

  await all("ERF Ethernet", 197, around(FRAMES, erf(2, [0, 0])));
  const extensions = [0x90, ...zeros(7), 0x10, ...zeros(7)];
  await all("ERF with extensions", 197, around(FRAMES, erf(2, [0, 0], extensions)));
  await all("ERF of colours", 197, around(FRAMES, erf(16, [0, 0])));
  await all("ERF IPv4", 197, around(IP_PACKETS, erf(22, [])), { ...ip, linkType: 101 });
  const cisco = [0x0f, 0, 8, 0];
  const hdlc = around(
    around(IP_PACKETS, () => cisco),
    erf(1, []),
  );
  const ofHdlc = { of: around(IP_PACKETS, () => cisco), linkType: 104 };
  await all("ERF of Cisco's HDLC", 197, hdlc, ofHdlc);

  await all(
    "netANALYZER",
    240,
    around(FRAMES, () => [0, 4, 0, 0], 4),
    {
      of: around(FRAMES, () => [], 4), // the frame check sequence stays
    },
  );
  const preamble = [0, 6, 0, 0, ...new Array<number>(7).fill(0x55), 0xd5];
  const transparent = around(FRAMES, () => preamble);
  await all("netANALYZER, transparent", 241, transparent, { tshark: false });

  await all(
    "PKTAP",
    258,
    around(FRAMES, () => pktap(1)),
  );
  await all(
    "PKTAP of IP",
    258,
    around(IP_PACKETS, () => pktap(12)),
    { ...ip, linkType: 12 },
  );
  const second = around(FRAMES, () => pktap2(1));
  await all("PKTAP, version 2", 258, second, { tshark: false });

  for (const order of [LITTLE, BIG]) {
    const of = padded(around(IP_PACKETS, nflog(order, 2)));
    const told = { ...ip, linkType: 228 };
    await check(t, "NFLOG", pcap(of, { order, linkType: 239 }), told);
    await check(t, "NFLOG", pcapng(of, { order, linkType: 239 }), told);
  }
  await all(
    "Cisco's HDLC",
    104,
    around(IP_PACKETS, () => cisco),
    ofHdlc,
  );
  const session = ({ bytes }: Put) => [0x11, 0, 0, 7, ...u16(bytes.length + 2), 0, 0x21];
  const pppoe = around(IP_PACKETS, session);
  await all("PPPoE", 51, pppoe, { of: pppoe, linkType: 51 });
});

t.test(
  "headers that hold no frame, or lie: told as not read, never a frame beyond its bytes",
  async (t) => {
    const whole: readonly [number, readonly number[]][] = [
      [192, PPI(1)],
      [197, erf(2, [0, 0], [0x90, ...zeros(7), 0x10, ...zeros(7)])(FRAMES[0]!)],
      [239, nflog(LITTLE, 2)(IP_PACKETS[0]!)],
      [240, [0, 4, 0, 0]],
      [241, [0, 6, 0, 0, 0x55, 0x55, 0xd5]],
      [258, pktap(1)],
      [258, pktap2(1)],
    ];
    for (const [linkType, header] of whole) {
      const bytes = join(header, FRAMES[0]!.bytes);
      const cuts = [...bytes.keys()].map((cut) => ({ bytes: bytes.subarray(0, cut), timeUs: 0 }));
      const { frames, damage } = await readBytes(pcap(cuts, { linkType }));
      t.strictSame([damage, frames.length], [null, cuts.length], `link type ${linkType}, cut`);
      const within = frames.slice(0, header.length);
      t.strictSame([...new Set(within.map((frame) => frame.linkType))], [linkType], "not read");
      const lies = [...header.keys()].flatMap((at) =>
        [0, 1, 0x7f, 0xff].map((value) => ({ timeUs: 0, bytes: bytes.with(at, value) as Bytes })),
      );
      const lied = await readBytes(pcap(lies, { linkType }));
      t.strictSame([lied.damage, lied.frames.length], [null, lies.length], `${linkType}, lies`);
    }
    const told = async (linkType: number, header: readonly number[]) => {
      const { frames } = await readBytes(
        pcap(
          around(FRAMES, () => header),
          { linkType },
        ),
      );
      return [...new Set(frames.map((frame) => frame.linkType))];
    };
    t.strictSame(await told(240, [0, 5, 0, 0]), [240], "an event of a pin");
    t.strictSame(await told(258, pktap(1, 0)), [258], "no packet follows");
    t.strictSame(
      await told(192, PPI(105)),
      [105],
      "a link inside that is not read has its own name",
    );
    t.strictSame(await told(192, PPI(0x10000)), [192], "a link that cannot be");
    t.strictSame(await told(197, erf(3, [])(FRAMES[0]!)), [197], "a record that is not read");
  },
);

const PLAIN = pcap(FRAMES);
const cutAt = (...places: number[]) =>
  [0, ...places].map((at, i) => PLAIN.subarray(at, places[i] ?? PLAIN.length));
const zstd = (bytes: Uint8Array) => zstdCompressSync(bytes);
const gzip = (bytes: Uint8Array) => gzipSync(bytes);

const PACKINGS = { gzip, zstd, lz4: lz4Packed, "lz4 legacy": lz4Legacy } as const;

t.test("packed in parts that end anywhere", async (t) => {
  for (const [name, pack] of Object.entries(PACKINGS)) {
    for (let at = 0; at <= PLAIN.length; at += 23) {
      const { frames, damage } = await readBytes(join(...cutAt(at).map(pack)));
      if (damage !== null) t.fail(`${name}, cut at ${at}: ${damage}`);
      if (frames.length !== FRAMES.length) t.fail(`${name}, cut at ${at}: ${frames.length} frames`);
    }
    const many = [...PLAIN].map((byte) => pack(Uint8Array.of(byte)));
    await check(t, `${name}, a part for each byte`, join(...many), { tshark: false });
  }
  await check(t, "an lz4 frame of 64 KiB and more", lz4Packed(join(PLAIN)), { tshark: false });
});

t.test("skippable frames in front, between and behind; parts of several kinds", async (t) => {
  const [a, b] = cutAt(100) as [Bytes, Bytes];
  const skip = skippable([1, 2, 3], 5);
  for (const [name, pack] of [
    ["zstd", zstd],
    ["lz4", lz4Packed],
  ] as const) {
    const bytes = join(skip, skippable([]), pack(a), skip, pack(b), skippable(zeros(70_000)));
    await check(t, name, bytes, { tshark: false });
  }
  await check(t, "mixed", join(zstd(a), lz4Packed(b)), { tshark: false });
  await check(t, "zeros behind", join(gzip(PLAIN), zeros(600)), { tshark: false });
  const only = await readBytes(join(skip, skip));
  t.strictSame(only, { frames: [], damage: "CONFIG_NOT_A_CAPTURE" });
});

t.test("gzip headers with everything in them", async (t) => {
  const member = gzip(PLAIN);
  const name = [...latin1("a name\0")];
  for (const flags of [4, 8, 16, 2, 31]) {
    const extra = (flags & 4) !== 0 ? [...LITTLE.half(6), ...zeros(6)] : [];
    const texts = [8, 16].flatMap((flag) => ((flags & flag) !== 0 ? name : []));
    const checksum = (flags & 2) !== 0 ? [0, 0] : [];
    const header = [...member.subarray(0, 3), flags, ...member.subarray(4, 10)];
    const bytes = join(header, extra, texts, checksum, member.subarray(10));
    await check(t, `flags ${flags}`, bytes, { tshark: false });
  }
});

t.test("lz4: blocks of any size, packed and not, linked; checksums and sizes", async (t) => {
  for (const pieceBytes of [1, 3, 64, 1000]) {
    for (const hasSize of [false, true]) {
      for (const hasBlockChecksums of [false, true]) {
        const bytes = lz4Pieces(PLAIN, pieceBytes, { hasSize, hasBlockChecksums });
        await check(t, `pieces of ${pieceBytes}`, bytes, { tshark: false });
      }
    }
  }
  // A block that refers to the packet in the block before: no literals, a match, five literals.
  const packet = pcap(FRAMES.slice(0, 1)).subarray(24);
  const before = pcap(FRAMES.slice(0, 1));
  const match = packet.length - 5 - 4 - 15;
  const sequence = [0x0f, ...LITTLE.half(packet.length), match, 0x50, ...packet.subarray(-5)];
  const blocks = [
    { bytes: before, isPacked: false },
    { bytes: Uint8Array.from(sequence), isPacked: true },
  ];
  const linked = lz4Frame(blocks, join(before, packet), { isLinked: true });
  const of = [FRAMES[0]!, FRAMES[0]!];
  await check(t, "a block that refers to the one before", linked, { of, tshark: false });
  const alone = lz4Frame(blocks, join(before, packet), { isLinked: false });
  t.match(await readBytes(alone), { frames: { length: 1 }, damage: /lz4 frame 1 .*its block 2: / });
});

t.test("damage behind the first part is told, and the first part is read", async (t) => {
  const [first, second] = [pcap(FRAMES.slice(0, 4)), pcap(FRAMES.slice(4)).subarray(24)];
  for (const [name, pack] of Object.entries(PACKINGS)) {
    const [a, b] = [pack(first), pack(second)];
    const whole = meant(FRAMES.slice(0, 4));
    const told = async (what: string, bytes: Uint8Array, damage: RegExp) => {
      const got = await readBytes(bytes);
      if (!damage.test(got.damage ?? "")) t.fail(`${name}: ${what}: ${got.damage}`);
      const before = meant(got.frames.slice(0, 4));
      if (!isDeepStrictEqual(before, whole)) t.fail(`${name}: ${what}: ${before.length} frames`);
    };
    for (let cut = 4; cut < b.length; cut += cut < 40 ? 1 : 17) {
      const isBetween = name === "lz4 legacy" && cut === 4; // a frame without blocks
      if (!isBetween) await told(`cut at ${cut}`, join(a, b.subarray(0, cut)), /2 of it.* cut off/);
    }
    await told("its magic", join(a, b.with(0, 0x77)), /from byte \d+ on is not packed/);
    await told("notes behind", join(a, latin1("some notes")), /from byte \d+ on is not packed/);
    await told("a letter behind", join(a, latin1("x")), /is not packed|is cut off/);
    if (name === "lz4 legacy") continue; // it has no checksum
    let unnoticed = 0;
    for (let at = 4; at < b.length; at += at < 40 ? 1 : 5) {
      const got = await readBytes(join(a, b.with(at, b[at]! ^ 0x10)));
      if (got.frames.length < 4) t.fail(`${name}: byte ${at}`);
      if (got.damage === null) unnoticed++;
    }
    // What says nothing of the bytes: gzip's time, its flags and system; zstd has no checksum here.
    if (name !== "zstd") t.ok(unnoticed <= (name === "gzip" ? 6 : 0), `${name}: ${unnoticed}`);
  }
});

t.test("damage within the first part loses little of what stands before it", async (t) => {
  const many = Array.from({ length: 200 }, (_, i) => FRAMES[i % 8]!);
  const noise = random(7);
  const noisy = many.map(({ bytes, timeUs }) => ({
    timeUs,
    bytes: join(
      bytes,
      Uint8Array.from({ length: 40 }, () => noise(256)),
    ),
  }));
  for (const [name, pack] of [
    ["gzip", gzip],
    ["lz4", lz4Packed],
  ] as const) {
    const packed = pack(pcap(noisy));
    const got = await readBytes(packed.with(packed.length - 20, packed.at(-20)! ^ 0xff));
    t.type(got.damage, "string", name);
    if (name === "gzip") t.ok(got.frames.length > 150, `${name}: ${got.frames.length} of 200`);
  }
});

t.test(
  "every container cut at every byte, and changed at random: told, never thrown",
  async (t) => {
    const containers: Record<string, Uint8Array> = {
      pcap: PLAIN,
      pcapng: pcapng(FRAMES.slice(0, 3), { order: BIG, resolution: 9 }),
      snoop: snoop(FRAMES.slice(0, 3)),
      nflog: pcap(padded(around(IP_PACKETS, nflog(LITTLE, 2))), { linkType: 239 }),
      erf: pcapng(around(FRAMES, erf(2, [0, 0])), { linkType: 197 }),
      gzip: join(...cutAt(90).map(gzip)),
      zstd: join(skippable([1]), ...cutAt(90).map(zstd)),
      lz4: join(...cutAt(90).map(lz4Packed)),
      "lz4 pieces": lz4Pieces(PLAIN, 50, { isLinked: true }),
      "lz4 legacy": join(...cutAt(90).map(lz4Legacy)),
    };
    const next = random(80);
    for (const [name, bytes] of Object.entries(containers)) {
      let told = 0;
      for (let cut = 0; cut < bytes.length; cut += 11) {
        const { frames, damage } = await readBytes(bytes.subarray(0, cut));
        if (damage !== null) told++;
        if (frames.length > FRAMES.length) t.fail(`${name}, cut at ${cut}`);
      }
      t.ok(told > bytes.length / 22, `${name}: ${told} cuts are told`);
      for (let n = 0; n < 100; n++) {
        const changed = Uint8Array.from(bytes);
        for (let i = next(4); i >= 0; i--) changed[next(bytes.length)] = next(256);
        const { frames } = await readBytes(changed);
        for (const frame of frames) {
          if (frame.bytes.length > FRAME_LIMIT) t.fail(`${name}: ${frame.bytes.length} bytes`);
        }
      }
    }
  },
);

t.test(
  "what unpacks without end is given up; skippable frames and tiny blocks are not",
  async (t) => {
    // zstd: a frame of blocks that repeat a zero 128 KiB times, in four bytes each (RFC 8878 §3.1.1.2).
    const repeated = [...LITTLE.word((131_072 << 3) | 2).slice(0, 3), 0];
    const blocks = new Array<number[]>(12_000).fill(repeated);
    const bomb = join([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58], ...blocks, [11, 0, 0, 0]);
    writeFileSync(file, bomb);
    const source = await openBytes(file);
    const into = new Uint8Array(1 << 20);
    let length = 0;
    for (let read; (read = await source.read(into, 0)) > 0;) length += read;
    source.close();
    t.match(source.damage, /unpacks to more than 2048 times its size/);
    t.ok(length >= 2 ** 30 && length < 2 ** 30 + 2 ** 20, `${length} bytes`);

    const skips = new Array<Bytes>(200_000).fill(skippable([]));
    await check(t, "skippable frames", Buffer.concat([...skips, zstd(PLAIN)]), { tshark: false });
    const empty = new Array<Uint8Array>(5_000).fill(gzip(new Uint8Array(0)));
    await check(t, "empty members", Buffer.concat([...empty, gzip(PLAIN)]), { tshark: false });
  },
);

t.test("a flow starts at its earliest frame and ends at its latest", async (t) => {
  const one = FRAMES.slice(0, 4).map((put) => ({ ...put, linkType: 1 }));
  const inOrder = read(one)[0]!;
  for (const order of [
    [1, 0, 2, 3],
    [0, 2, 3, 1],
    [3, 2, 1, 0],
  ]) {
    const flows = read(order.map((i) => one[i]!));
    t.equal(flows.length, 1, String(order));
    t.strictSame([flows[0]!.start, flows[0]!.end], [inOrder.start, inOrder.end], String(order));
  }
});
