/**
 * Checks what `inspect` is given: the standard input, pipes that are still being written, several
 * captures of which some cannot be read.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { zstdCompressSync } from "node:zlib";
import t from "tap";
import type { t as Tap } from "tap";
import type { FlowRecord } from "../../protocol/flow-record.ts";
import type { Bytes } from "../frames.ts";
import { ethernet, ipv4, latin1, udp } from "../frames.ts";
import { GOLDEN } from "./captures.ts";
import { FRAMES, pcap, skippable } from "./containers.ts";
import type { Put } from "./containers.ts";

const launcher = path.join(import.meta.dirname, "../../wireproof");
const folder = mkdtempSync(path.join(tmpdir(), "wireproof-inputs-"));
t.teardown(() => rmSync(folder, { recursive: true }));

const golden = path.join(GOLDEN, "mtls13.pcap");
const capture = readFileSync(golden);
const packed = Buffer.concat([
  skippable([1, 2, 3]),
  zstdCompressSync(capture.subarray(0, 1000)),
  zstdCompressSync(capture.subarray(1000)),
]);

/** Runs the command; `input` comes by a pipe. */
function inspect(argv: readonly string[], input?: Uint8Array) {
  const options = { encoding: "utf8" as const, ...(input && { input }) };
  const { status, stdout, stderr } = spawnSync(launcher, ["inspect", ...argv], options);
  return { status, stdout, stderr: stderr.split("\n").slice(0, -1) };
}

/** Runs a line of the shell; what it prints. */
function shell(line: string, ...argv: readonly string[]) {
  const { status, stdout, stderr } = spawnSync("sh", ["-c", line, launcher, ...argv], {
    encoding: "utf8",
  });
  return { status, stdout, stderr: stderr.split("\n").slice(0, -1) };
}

/** Records without the name of their file. */
const nameless = (text: string) => text.replaceAll(/"file":"[^"]*"/g, '"file":""');
const JSONL = ["--format", "jsonl"];

t.test("the standard input: piped, redirected, named, packed", async (t) => {
  const right = inspect([golden, ...JSONL]);
  t.strictSame([right.status, right.stderr], [0, []]);
  const same = (got: ReturnType<typeof inspect>, file: string, what: string) => {
    t.strictSame([got.status, got.stderr], [0, []], what);
    t.equal(nameless(got.stdout), nameless(right.stdout), what);
    const files = got.stdout.trimEnd().split("\n");
    t.ok(
      files.every((line) => line.includes(`"file":"${file}"`)),
      `${what}: file is ${file}`,
    );
  };
  same(inspect(["-", ...JSONL], capture), "-", "a pipe");
  same(inspect(["/dev/stdin", ...JSONL], capture), "stdin", "a pipe by its path");
  same(inspect(["-", ...JSONL], packed), "-", "packed, by a pipe");
  same(shell('"$0" inspect - --format jsonl < "$1"', golden), "-", "redirected");
  const fifo = path.join(folder, "a.fifo");
  const line = 'mkfifo "$2"; cat "$1" > "$2" & "$0" inspect "$2" --format jsonl';
  same(shell(line, golden, fifo), "a.fifo", "a named pipe");
  const where = ["--where", "protocol == tls"];
  same(inspect(["-", ...JSONL, ...where], capture), "-", "with a filter");
  const judged = inspect([golden, ...JSONL, "--crypto"]).stdout;
  const piped = inspect(["-", ...JSONL, "--crypto"], packed).stdout;
  t.equal(nameless(piped), nameless(judged), "with the cryptography judged");
  t.match(judged, '"crypto":', "which is there");
});

t.test("the standard input is read once, whatever is asked of it", async (t) => {
  const kept = () => readdirSync(tmpdir()).filter((name) => /^wireproof-\w{6}$/.test(name));
  const before = kept();
  for (const format of ["text", "jsonl"]) {
    const told = ["--explain", "1", "--format", format];
    const right = inspect([golden, ...told]);
    const piped = inspect(["-", ...told], packed);
    t.strictSame([piped.status, piped.stderr], [0, []], format);
    const unnamed = (text: string) => nameless(text).replace(/flow 1 of \S+/, "flow 1 of it");
    t.equal(unnamed(piped.stdout), unnamed(right.stdout), format);
  }
  t.strictSame(kept(), before, "no copy is left behind");
  const second = inspect([golden, "-", "--explain", "2", ...JSONL], pcap(FRAMES));
  t.match(JSON.parse(second.stdout.split("\n")[0]!), { file: "-", src_port: 41_000 });
  const twice = /the standard input can be read once, and is named twice/;
  for (const argv of [
    ["-", "-"],
    ["-", "/dev/stdin"],
    ["-", "--policy", "-"],
  ]) {
    const got = inspect(argv, capture);
    t.strictSame([got.status, got.stdout, got.stderr.length], [2, "", 1], argv.join(" "));
    t.match(got.stderr[0], twice);
  }
  const nothing = inspect(["-"], new Uint8Array(0));
  t.strictSame([nothing.status, nothing.stdout, nothing.stderr.length], [2, "", 1]);
  t.match(nothing.stderr[0], /: - is no capture: expected pcap/);
  const notes = inspect(["-", "--explain", "1"], latin1("these are notes"));
  t.strictSame([notes.status, notes.stdout, notes.stderr.length], [2, "", 1]);
});

t.test("captures that cannot be read: each is told, the others are printed, 2", async (t) => {
  const place = (name: string, bytes: Uint8Array) => {
    writeFileSync(path.join(folder, name), bytes);
    return path.join(folder, name);
  };
  const missing = path.join(folder, "missing.pcap");
  const notes = place("notes.txt", latin1("these are notes, and no packets at all"));
  const directory = path.join(folder, "directory");
  mkdirSync(directory);
  const wifi = place("wifi.pcap", pcap(FRAMES, { linkType: 105 }));
  const whole = place("whole.pcap", pcap(FRAMES));
  const told = [/missing\.pcap: ENOENT/, /notes\.txt is no capture/, /directory: EISDIR/];
  const mixed = [missing, notes, whole, directory, golden, wifi];
  for (const more of [[], ["--crypto"], ["--where", "proto == tcp"]]) {
    const got = inspect([...mixed, ...JSONL, ...more]);
    const right = inspect([whole, golden, ...JSONL, ...more]);
    t.equal(right.status, 0);
    t.equal(got.status, 2);
    t.equal(got.stdout, right.stdout, "the others are printed");
    t.equal(got.stderr.length, 4, "one sentence for each");
    [...told, /wifi\.pcap: .* none can be read/].forEach((what, i) => t.match(got.stderr[i], what));
  }
  const text = inspect(mixed);
  t.match([text.status, text.stdout], [2, /\n3 flows\n/]);
  const alone = inspect([missing, notes]);
  t.strictSame([alone.status, alone.stdout, alone.stderr.length], [2, "", 3]);
  t.match(alone.stderr[2], /no frame of 2 captures can be read/);

  const third = inspect([...mixed, "--explain", "3", ...JSONL]);
  t.equal(third.status, 2, "captures before it could not be read");
  t.match(JSON.parse(third.stdout.split("\n")[0]!), { kind: "flow", file: "mtls13.pcap" });
  t.match(third.stderr, told);
  const none = inspect([...mixed, "--explain", "4", ...JSONL]);
  t.match([none.status, none.stderr.at(-1)], [2, /there is no flow 4, but 3 flows/]);

  const policy = place(
    "policy.yaml",
    latin1("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"),
  );
  t.equal(inspect([whole, "--policy", policy, ...JSONL]).status, 0);
  const judged = inspect([missing, whole, "--policy", policy, ...JSONL]);
  t.equal(judged.status, 2, "judged, but not all that was named");
  t.match(judged.stdout, '"file":"whole.pcap"');
});

/** Queries for names, one a millisecond, an hour behind the frames before. */
const LATER: readonly Put[] = Array.from({ length: 3000 }, (_, i) => ({
  bytes: ethernet(ipv4({ protocol: 17 }, udp(latin1("later"), { from: 50_000 }))),
  timeUs: FRAMES.at(-1)!.timeUs + 3.6e9 + i * 1000,
}));

/** Hands a capture to the command piece by piece, all but its end, and ends it by signals. */
async function live(
  t: { match: typeof Tap.match; strictSame: typeof Tap.strictSame },
  bytes: Bytes,
) {
  const child = spawn(launcher, ["inspect", "-", ...JSONL]);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value!) as FlowRecord;
  let stderr = "";
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  let from = 0;
  for (const to of [3, 20, 30, bytes.length - 20]) {
    child.stdin.write(bytes.subarray(from, to));
    await new Promise((resolve) => setImmediate(resolve));
    from = to;
  }
  const ended = [await next(), await next()];
  t.match(ended, [{ src_port: 41_000 }, { src_port: 41_001, file: "-" }], "while it is open");
  // The second ends it at once, where the sender does not.
  child.kill("SIGINT");
  child.kill("SIGTERM");
  t.match(await next(), { src_port: 50_000, proto: "udp" });
  const [status] = (await once(child, "close")) as [number | null];
  t.strictSame([status, stderr], [0, ""], "it ends well");
  child.stdin.destroy();
}

t.test("a live pipe: flows are told as they end, the rest when the operator ends it", async (t) => {
  await live(t, pcap([...FRAMES, ...LATER]));
  await live(t, Uint8Array.from(zstdCompressSync(pcap([...FRAMES, ...LATER]))));
});

t.test("a sender that ends in the middle of a packet: told, and the rest is printed", async (t) => {
  const { status, stdout, stderr } = inspect(["-", ...JSONL], pcap(FRAMES).subarray(0, -7));
  t.equal(status, 0);
  t.match(stderr, [/- is damaged: it ends inside a packet .*; read 7 frames before that/]);
  t.match(stdout, '"src_port":41001');
  const packed = inspect(["-", ...JSONL], zstdCompressSync(pcap(FRAMES)).subarray(0, -7));
  t.match(packed.stderr, [
    /- is damaged: zstd frame 1 of it, from byte 0 on, is broken: it is cut/,
  ]);
});
