/**
 * Checks inspect: captures cut at every byte and with lengths that lie, exit codes and messages, the
 * scene's recording as it was made, and a slice of fuzz.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import t from "tap";
import { FRAME_LIMIT } from "../../agent/capture/frame-source.ts";
import { readPcapFile } from "../../agent/capture/pcap-file.ts";
import { toJson } from "../../agent/assess/record-text.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { fuzz } from "../../scripts/fuzz.ts";
import { mergeCaptures } from "../../scripts/scene/pcapng.ts";
import { GOLDEN, framesOf, meaning, read } from "./captures.ts";

type FileFlow = Flow & { schema: string; file: string };

const launcher = path.join(import.meta.dirname, "../../wireproof");
const folder = mkdtempSync(path.join(tmpdir(), "wireproof-inspect-"));
t.teardown(() => rmSync(folder, { recursive: true }));

const pcap = readFileSync(path.join(GOLDEN, "redis.pcap"));
/** Two datagrams: small enough to be cut at every byte in every wrapping. */
const small = readFileSync(path.join(GOLDEN, "dns.pcap"));
const pcapng = mergeCaptures([{ interface: "eth0", bytes: small }], "cut");
const file = path.join(folder, "one.capture");

/** Frames read of these bytes, and what is told about damage; an operator's error by its code. */
async function readBytes(bytes: Uint8Array): Promise<{ frames: number; damage: string | null }> {
  writeFileSync(file, bytes);
  let frames = 0;
  try {
    const report = await readPcapFile(file, new Float64Array(1), (view, at, end) => {
      if (at < 0 || end > view.byteLength) throw new RangeError("a frame beyond its view");
      frames++;
    });
    if (report.frames !== frames) throw new Error(`${report.frames} told, ${frames} given`);
    return { frames, damage: report.damage };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== "string" || !code.startsWith("CONFIG_")) throw error;
    return { frames, damage: code };
  }
}

/** Where each block ends, given where a block's length stands and what is to be added to it. */
function ends(bytes: Buffer, first: number, lengthAt: number, more: number): number[] {
  const list = [first];
  for (let at = first; at < bytes.length; list.push(at)) {
    at += bytes.readUInt32LE(at + lengthAt) + more;
  }
  return list;
}

t.test("a pcap cut at every byte: read as far as it goes, and the damage is told", async (t) => {
  const records = ends(pcap, 24, 8, 16);
  t.equal(records.at(-1), pcap.length);
  for (let cut = 0; cut <= pcap.length; cut++) {
    const { frames, damage } = await readBytes(pcap.subarray(0, cut));
    const whole = Math.max(0, records.filter((end) => end <= cut).length - 1);
    if (frames !== whole) t.fail(`cut at ${cut}: ${frames} frames, not ${whole}`);
    if (cut < 24) {
      if (damage !== "CONFIG_NOT_A_CAPTURE") t.fail(`cut at ${cut}: ${damage}`);
    } else if ((damage === null) !== records.includes(cut)) t.fail(`cut at ${cut}: ${damage}`);
  }
});

t.test("a pcapng cut at every byte: the same", async (t) => {
  const blocks = ends(pcapng, 0, 4, 0);
  const packets = ends(small, 24, 8, 16).length - 1;
  t.strictSame(await readBytes(pcapng), { frames: packets, damage: null });
  for (let cut = 24; cut < pcapng.length; cut++) {
    const { frames, damage } = await readBytes(pcapng.subarray(0, cut));
    const whole = Math.max(0, blocks.filter((end) => end <= cut).length - 3);
    if (frames !== whole) t.fail(`cut at ${cut}: ${frames} frames, not ${whole}`);
    if ((damage === null) !== blocks.includes(cut)) t.fail(`cut at ${cut}: ${damage}`);
  }
});

for (const [name, packed] of [
  ["gzip", gzipSync(small)],
  ["zstd", zstdCompressSync(small)],
] as const) {
  t.test(`a ${name} file cut at every byte: damage, never an error of ours`, async (t) => {
    const whole = await readBytes(packed);
    t.strictSame(whole, { frames: ends(small, 24, 8, 16).length - 1, damage: null });
    for (let cut = 0; cut < packed.length; cut++) {
      const { frames, damage } = await readBytes(packed.subarray(0, cut));
      // The trailer holds no packets: what is cut off there is told, but loses nothing.
      if (damage === null) t.fail(`cut at ${cut}: nothing told`);
      if (frames > whole.frames) t.fail(`cut at ${cut}: ${frames} frames`);
    }
  });
}

/** A copy with a little-endian uint32 replaced. */
function with32(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE(value, at);
  return copy;
}

t.test("lengths that lie are damage: what stood before them is read", async (t) => {
  const [, second] = ends(pcap, 24, 8, 16);
  const check = async (bytes: Buffer, frames: number, damage: RegExp) => {
    const told = await readBytes(bytes);
    t.equal(told.frames, frames, String(damage));
    t.match(told.damage, damage);
  };
  await check(with32(pcap, second! + 8, 0xffffffff), 1, /claims 4294967295 captured bytes/);
  await check(with32(pcap, second! + 8, FRAME_LIMIT + 1), 1, /claims 1048577/);
  await check(with32(pcap, second! + 8, FRAME_LIMIT), 1, /ends inside a packet/);
  const [, description, packets] = ends(pcapng, 0, 4, 0);
  await check(with32(pcapng, description! + 4, 8), 0, /claims 8 bytes/);
  await check(with32(pcapng, description! + 4, 13), 0, /claims 13 bytes/);
  await check(with32(pcapng, packets! + 4, 0xfffffff0), 0, /claims 4294967280/);
  await check(with32(pcapng, packets! + 8, 7), 0, /interface that is not described/);
  await check(with32(pcapng, packets! + 20, 0xffff), 0, /claims 65535 captured bytes/);
  await check(with32(pcapng, 8, 0x12345678), 0, /unknown byte order/);
});

/** Runs the command; stderr by line. */
function inspect(...argv: string[]) {
  const { status, stdout, stderr } = spawnSync(launcher, ["inspect", ...argv], {
    encoding: "utf8",
  });
  return { status, stdout, stderr: stderr.split("\n").slice(0, -1) };
}

t.test("exit codes and messages", async (t) => {
  const place = (name: string, bytes: Uint8Array | string) => {
    writeFileSync(path.join(folder, name), bytes);
    return path.join(folder, name);
  };
  const fails = (argv: string[], told: RegExp) => {
    const { status, stdout, stderr } = inspect(...argv);
    t.strictSame([status, stdout, stderr.length], [2, "", 1], argv.join(" "));
    t.match(stderr[0], told);
  };
  fails([place("notes.txt", "these are notes, and no packets at all")], /notes\.txt is no capture/);
  fails([place("empty.pcap", "")], /empty\.pcap is no capture/);
  fails([path.join(folder, "missing.pcap")], /cannot read .*missing\.pcap: ENOENT/);
  mkdirSync(path.join(folder, "a-folder"));
  fails([path.join(folder, "a-folder")], /cannot read .*a-folder: EISDIR/);
  t.equal(inspect("--format", "xml", file).status, 2);
  t.equal(inspect().status, 2, "no file at all");

  const cut = place("cut.pcap", pcap.subarray(0, pcap.length - 3));
  const damaged = inspect("--format", "jsonl", cut);
  t.equal(damaged.status, 0, "a damaged capture is read");
  t.strictSame(damaged.stderr.length, 1);
  t.match(damaged.stderr[0], /cut\.pcap is damaged: it ends inside a packet/);
  const records = damaged.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Flow);
  t.match(records, [{ schema: "wireproof.flow/1", file: "cut.pcap", protocol: "redis" }]);
  const none = inspect("--format", "jsonl", place("none.pcap", pcap.subarray(0, 24)));
  t.strictSame([none.status, none.stdout], [0, ""], "a capture without packets has no flows");
  t.match(inspect(cut).stdout, /plaintext redis; .*\n\n1 flow\n/);

  // Nothing readable: one sentence, and 2; beside a capture that is read as well.
  const wifi = place("wifi.pcap", with32(pcap, 20, 105));
  const count = ends(pcap, 24, 8, 16).length - 1;
  const none105 = new RegExp(`wifi\\.pcap: of its ${count} frames none can be read: link type 105`);
  fails([wifi], none105);
  fails(["--format", "jsonl", wifi], none105);
  const both = inspect("--format", "jsonl", wifi, place("whole.pcap", pcap));
  t.strictSame([both.status, both.stderr.length], [2, 1], "the other is read, and printed");
  t.match(both.stderr[0], none105);
  t.match(both.stdout, '"protocol":"redis"');
  const twice = inspect(wifi, wifi);
  t.strictSame([twice.status, twice.stdout, twice.stderr.length], [2, "", 3]);
  t.match(twice.stderr[2], /no frame of 2 captures can be read/);
  const early = place("early.pcap", pcap.subarray(0, 30));
  fails([early], /early\.pcap is damaged: .*; no frame stands before that/);
});

t.test("the same capture in every wrapping gives the same flows", async (t) => {
  const plain = meaning(read(await framesOf(path.join(GOLDEN, "mtls12.pcap"))));
  const bytes = readFileSync(path.join(GOLDEN, "mtls12.pcap"));
  const big = Buffer.from(bytes);
  // Every header field in the other byte order.
  for (let at = 0; at < 24; at += 4) big.writeUInt32BE(bytes.readUInt32LE(at), at);
  big.writeUInt16BE(2, 4);
  big.writeUInt16BE(4, 6);
  for (const at of ends(bytes, 24, 8, 16).slice(0, -1)) {
    for (let i = at; i < at + 16; i += 4) big.writeUInt32BE(bytes.readUInt32LE(i), i);
  }
  const nano = with32(bytes, 0, 0xa1b23c4d);
  for (const at of ends(bytes, 24, 8, 16).slice(0, -1)) {
    nano.writeUInt32LE(bytes.readUInt32LE(at + 4) * 1000, at + 4);
  }
  const wrapped = { big, nano, gzip: gzipSync(bytes), zstd: zstdCompressSync(bytes) };
  const all = { ...wrapped, pcapng: mergeCaptures([{ interface: "x", bytes }], "") };
  for (const [name, packed] of Object.entries(all)) {
    writeFileSync(file, packed);
    const flows = read(await framesOf(file));
    t.equal(meaning(flows), plain, name);
    t.equal(flows[0]?.start, read(await framesOf(path.join(GOLDEN, "mtls12.pcap")))[0]?.start);
  }
});

type SceneCase = {
  id: string;
  client_ip: string;
  server_ip: string | null;
  port: number | null;
  posture: "plaintext" | "tls" | "mtls" | "resumed" | "none";
  result: "accepted" | "refused" | "turned-down" | "silence" | "none";
  made: number;
};

/** By what: nft's rules in network-policies.yaml, and a kernel whose port is closed. */
const TURNED_DOWN: Readonly<Record<string, string>> = {
  "denied-by-icmp": "icmp-admin-prohibited",
  "denied-by-reset": "rst",
  "closed-port": "rst",
};

/** What a record says, in the words of the scene's truth. */
function postureOf({ encryption, tls }: Flow): string {
  if (encryption !== "tls") return encryption === "plaintext" ? "plaintext" : "none";
  if (tls?.mutual === "resumed") return "resumed";
  return tls?.mutual === "yes" || tls?.mutual === "inferred-yes" ? "mtls" : "tls";
}

t.test("the scene's recording: every flow comes out as it was made", async (t) => {
  const truth = JSON.parse(readFileSync(path.join(GOLDEN, "scene.truth.json"), "utf8")) as {
    cases: SceneCase[];
  };
  const { status, stdout } = inspect("--format", "jsonl", path.join(GOLDEN, "scene.pcapng"));
  t.equal(status, 0);
  const records = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Flow);
  const known = (one: SceneCase, r: Flow) =>
    r.src_ip === one.client_ip && r.dst_ip === one.server_ip && r.dst_port === one.port;
  // Cases share edges, and clients that are refused look up names: each edge by its cases.
  for (const one of truth.cases) {
    const cases = truth.cases.filter(
      (c) => c.client_ip === one.client_ip && c.server_ip === one.server_ip && c.port === one.port,
    );
    const flows = records.filter((r) => known(one, r));
    if (one.id === "scan") {
      const tried = records.filter((r) => r.src_ip === one.client_ip && r.proto === "tcp");
      t.ok(tried.length >= one.made, `scan: ${tried.length} attempts`);
      t.strictSame([...new Set(tried.map((r) => r.accepted))], [null], "scan: nothing accepted");
      continue;
    }
    if (one.result === "none" || one.id === "no-agent") {
      t.equal(flows.length, 0, `${one.id}: nothing was sent, or nobody watches that node`);
      continue;
    }
    t.ok(flows.length >= cases.length, `${one.id}: ${flows.length} flows`);
    if (one.posture === "resumed") {
      // Each session was made, and then used once more.
      const of = (posture: string) => flows.filter((r) => postureOf(r) === posture).length;
      t.ok(of("mtls") >= one.made && of("resumed") >= one.made, one.id);
      t.equal(of("mtls") + of("resumed"), flows.length, one.id);
    }
    for (const r of flows) {
      const what = `${one.id} ${r.history}`;
      switch (one.result) {
        case "accepted":
          t.equal(r.accepted, true, what);
          if (one.posture !== "resumed") t.equal(postureOf(r), one.posture, what);
          break;
        case "turned-down":
          t.strictSame([r.state, r.accepted], ["refused", null], what);
          t.equal(r.refused_by, TURNED_DOWN[one.id], what);
          break;
        case "refused":
          t.equal(r.accepted, false, what);
          t.not(r.failure, null, what);
          break;
        default:
          t.ok(r.state === "unanswered" || r.state === "attempted", `${what} ${r.state}`);
          t.equal(r.accepted, null, what);
      }
    }
  }
});

t.test("200,000 mutated frames: nothing thrown, everything accounted for", async (t) => {
  const before = process.memoryUsage().rss;
  for (const seed of [20261122, 1, 2, 3]) {
    const { frames, flows, records } = await fuzz(50_000, seed);
    t.equal(frames, 50_000, `seed ${seed}`);
    t.ok(flows > 1000, `${flows} flows`);
    for (const protocol of ["tls", "http", "postgresql", "mysql", "redis", "dns", "ssh"]) {
      t.ok((records.get(protocol) ?? 0) > 0, `${protocol} was met`);
    }
  }
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  t.ok(grown < 250, `memory grew by ${Math.round(grown)} MiB`);
});

/** Of records that say the same of TLS, or have none; each makes another text. */
const DIFFERENCES: readonly Partial<Flow>[] = [
  ...[{ state: "refused", refused_by: "rst" }, { refused_by: "icmp-other" }],
  ...[{ state: "reset" }, { state: "closed" }, { midstream: true }, { midstream: false }],
  ...[{ protocol: "smtp" }, { encryption: "plaintext" }, { upgraded_from: "smtp" }],
  ...[{ handshake: "complete" }, { handshake: "failed" }, { accepted: true }, { accepted: null }],
  ...[{ failure: { reason: "alert" } }, { failure: null }, { history: "Ss" }],
  ...[{ findings: ["overlap-disagrees"] }, { findings: [] }, { findings: ["a", "b"] }],
  ...[{ notes: ["not-tls"] }, { notes: ["joined"] }, { notes: [] }],
] as unknown as Partial<Flow>[];

t.test(
  "records are written as JSON.stringify writes them, behind what is put before",
  async (t) => {
    const files = readdirSync(GOLDEN).filter((file) => file.endsWith(".jsonl"));
    let written = 0;
    for (const file of files) {
      for (const line of readFileSync(path.join(GOLDEN, file), "utf8").trim().split("\n")) {
        const { schema, file: of, ...record } = JSON.parse(line) as FileFlow;
        const origin = `${JSON.stringify({ schema, file: of }).slice(1, -1)},`;
        const frozen = {
          ...record,
          tls: record.tls && Object.freeze({ ...record.tls, sni: '"\n"' }),
        };
        const others = DIFFERENCES.map((difference) => ({ ...frozen, ...difference }));
        for (const flow of [record, frozen, ...others, frozen, ...others.reverse()]) {
          written++;
          if (toJson(flow) !== JSON.stringify(flow)) t.fail(line);
          if (toJson(flow, origin) !== JSON.stringify({ schema, file: of, ...flow })) t.fail(line);
        }
      }
    }
    t.ok(written > 300);
  },
);
