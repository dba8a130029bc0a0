/**
 * Reads the golden captures: as they were made, as their committed reading says, and the same
 * however their bytes are cut into segments. `UPDATE_GOLDEN=1` rewrites the committed readings,
 * never the truth: that is written by `scripts/golden.ts`, which made the captures.
 */
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import t from "tap";
import type { t as Tap } from "tap";
import type { Flow, FlowRecord } from "../../protocol/flow-record.ts";
import type { Truth } from "../../scripts/golden/stage.ts";
import { SIGNATURES } from "../../agent/identify/signatures.ts";
import { random } from "../frames.ts";
import type { Frame } from "./captures.ts";
import { GOLDEN, framesOf, meaning, placeOf, read, replaced, split } from "./captures.ts";

type Capture = { file: string; made: string; flows: Truth[] };
const truth = JSON.parse(readFileSync(path.join(GOLDEN, "truth.json"), "utf8")) as {
  captures: Capture[];
};
const SEED = 20261122;
const launcher = path.join(import.meta.dirname, "../../wireproof");

t.test("every capture has its truth, is small, and holds no private key", async (t) => {
  const files = globSync("*.pcap", { cwd: GOLDEN }).sort();
  t.strictSame(files, truth.captures.map((c) => c.file).sort());
  t.ok(files.length > 150, `${files.length} captures`);
  const total = files.reduce((sum, file) => sum + statSync(path.join(GOLDEN, file)).size, 0);
  t.ok(total < 1_200_000, `${total} bytes`);
  for (const file of files) {
    if (readFileSync(path.join(GOLDEN, file)).includes("PRIVATE KEY")) t.fail(file);
  }
});

t.test("every protocol that is recognised has a capture", async (t) => {
  const flows = truth.captures.flatMap((capture) => capture.flows);
  const captured = new Set(flows.flatMap((flow) => [flow.protocol, flow.upgraded_from]));
  const recognised = new Set(SIGNATURES.map((signature) => signature.protocol));
  t.strictSame([...recognised].filter((protocol) => !captured.has(protocol)).sort(), []);
  t.ok(recognised.size > 45, `${recognised.size} protocols`);
});

/** A record's value for a field of the truth. */
function valueOf(record: Flow, field: string): unknown {
  if (field === "failure") return record.failure?.code ?? null;
  if (field === "alert") return record.failure?.alert ?? null;
  if (field in record) return record[field as keyof Flow];
  return record.tls?.[field as keyof NonNullable<Flow["tls"]>] ?? null;
}

for (const { file, made, flows } of truth.captures) {
  t.test(`${file}: ${made}`, async (t) => {
    const records = read(await framesOf(path.join(GOLDEN, file)));
    t.equal(records.length, flows.length, "flows");
    flows.forEach(({ answered, ...flow }, i) => {
      const fields = Object.keys(flow);
      const told = fields.map((f) => [f, records[i] && valueOf(records[i], f)]);
      t.strictSame(Object.fromEntries(told), flow, `flow ${i + 1}`);
      if (answered !== undefined) t.not(records[i]?.accepted, !answered, `flow ${i + 1}: answered`);
    });
  });
}

t.test("the command prints what is committed", async (t) => {
  const files = truth.captures.map((c) => path.join(GOLDEN, c.file));
  const { stdout, stderr, status } = spawnSync(launcher, [
    ...["inspect", "--format", "jsonl", ...files],
  ]);
  t.equal(status, 0);
  t.equal(stderr.toString(), "", "nothing is damaged, nothing is warned of");
  const texts = new Map<string, string>();
  for (const text of stdout.toString().split("\n").slice(0, -1)) {
    const { file } = JSON.parse(text) as FlowRecord;
    texts.set(file, `${texts.get(file) ?? ""}${text}\n`);
  }
  for (const { file } of truth.captures) {
    const expected = path.join(GOLDEN, file.replace(/pcap$/, "jsonl"));
    const text = texts.get(file) ?? "";
    if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(expected, text);
    t.equal(text, existsSync(expected) ? readFileSync(expected, "utf8") : "", file);
  }
});

/** Calls `check` with every way to send the capture otherwise; it says what is wrong, or null. */
async function resent(
  t: { strictSame: typeof Tap.strictSame; equal: typeof Tap.equal; ok: typeof Tap.ok },
  change: (frames: Frame[], wrong: (what: string) => void, file: string) => number,
): Promise<void> {
  let tried = 0;
  for (const { file } of truth.captures) {
    const frames = await framesOf(path.join(GOLDEN, file));
    const before = meaning(read(frames));
    const wrong: string[] = [];
    tried += change(frames, (what) => wrong.push(what), file);
    t.strictSame(wrong.slice(0, 3), [], file);
    t.equal(meaning(read(frames)), before, `${file}: the line forgets one reading for the next`);
  }
  t.ok(tried > 1000, `${tried} ways to send them`);
}

/** Payload bytes of a segment at which each cut is tried. */
const LIMIT = 2048;

/**
 * Where early data or padding is told by acknowledgments alone: how far a segment acknowledges that
 * filled a gap is not used, so that less may be told.
 */
const BY_ACKNOWLEDGMENTS = ["openssl-early-data.pcap", "openssl-client-pads.pcap"];

/** Reports whether each flow is told as before, or left open. */
const isLess = (flows: readonly Flow[], before: readonly Flow[]): boolean =>
  flows.every((flow, i) =>
    ["accepted", "handshake", "failure", "mutual"].every((field) => {
      const told = valueOf(flow, field);
      return told === null || told === valueOf(before[i]!, field);
    }),
  );

t.test("split everywhere: two segments say what one said, in either order", async (t) => {
  const below = random(SEED);
  await resent(t, (frames, wrong, file) => {
    const whole = read(frames);
    const before = meaning(whole);
    const mayBeLess = BY_ACKNOWLEDGMENTS.includes(file);
    let tried = 0;
    frames.forEach((frame, i) => {
      const place = placeOf(frame);
      if (!place) return;
      const length = Math.min(LIMIT, place.end - place.payloadAt);
      for (let at = 1; at < length; at++) {
        const [first, second] = split(frame, place, at);
        tried++;
        if (meaning(read(replaced(frames, i, first, second))) !== before) {
          wrong(`frame ${i + 1} cut at ${at}`);
        }
        if (below(4) > 0) continue;
        const turned = read(replaced(frames, i, second, first));
        if (meaning(turned) !== before && !(mayBeLess && isLess(turned, whole))) {
          wrong(`frame ${i + 1} cut at ${at}, the second part first`);
        }
      }
    });
    return tried;
  });
});

t.test("sent twice, at once or later: the same", async (t) => {
  await resent(t, (frames, wrong) => {
    const before = meaning(read(frames));
    const all = frames.flatMap((frame) => [frame, frame]);
    if (meaning(read(all)) !== before) wrong("every frame twice");
    frames.forEach((frame, i) => {
      if (meaning(read(replaced(frames, i, frame, frame))) !== before) wrong(`frame ${i + 1}`);
      const later = i + 3;
      if (later >= frames.length || !placeOf(frame)) return;
      const copy = { ...frame, timeUs: frames[later]!.timeUs };
      const again = [...frames.slice(0, later), copy, ...frames.slice(later)];
      if (meaning(read(again)) !== before) wrong(`frame ${i + 1} again behind ${later}`);
    });
    return frames.length * 2;
  });
});

t.test("two segments of one side that overtook each other: the same", async (t) => {
  let pairs = 0;
  for (const { file } of truth.captures) {
    const frames = await framesOf(path.join(GOLDEN, file));
    const whole = read(frames);
    const before = meaning(whole);
    for (let i = 0; i + 1 < frames.length; i++) {
      const [one, two] = [frames[i]!, frames[i + 1]!];
      const [a, b] = [placeOf(one), placeOf(two)];
      if (!a || !b || a.ends !== b.ends || a.end === a.payloadAt) continue;
      const swapped = replaced(frames, i, { ...two, timeUs: one.timeUs });
      swapped[i + 1] = { ...one, timeUs: two.timeUs };
      pairs++;
      const turned = read(swapped);
      if (meaning(turned) === before) continue;
      if (BY_ACKNOWLEDGMENTS.includes(file) && isLess(turned, whole)) continue;
      t.fail(`${file}: frames ${i + 1} and ${i + 2}`);
    }
  }
  t.ok(pairs > 40, `${pairs} pairs`);
});

t.test("a segment that was not captured is never taken for one that was not sent", async (t) => {
  let tried = 0;
  let unsure = 0;
  for (const { file, flows } of truth.captures) {
    const frames = await framesOf(path.join(GOLDEN, file));
    const whole = read(frames);
    const wrong: string[] = [];
    frames.forEach((frame, i) => {
      const place = placeOf(frame);
      if (!place || place.payloadAt === place.end) return;
      tried++;
      for (const [n, flow] of read(frames.filter((other) => other !== frame)).entries()) {
        const before = whole[n];
        const says = `${file}, frame ${i + 1}: ${flow.failure?.code} ${flow.accepted}`;
        const isContrary = flow.accepted !== null && flow.accepted !== before?.accepted;
        // Bytes that are still there may say less: an alert without its hello, say.
        const isSure = flow.failure && !["alert", "in-band"].includes(flow.failure.basis);
        const isInvented = isSure && flow.failure?.code !== before?.failure?.code;
        if (isContrary && before?.accepted !== null) wrong.push(`${says}, not ${before?.accepted}`);
        const answered = flows[n]?.answered ?? null;
        if (answered !== null && flow.accepted === !answered) wrong.push(`${says}, it was not so`);
        if (isInvented) wrong.push(`${says}, not ${before?.failure?.code}`);
        if (flow.notes.includes("bytes-missing")) unsure++;
      }
    });
    t.strictSame(wrong.slice(0, 3), [], file);
  }
  t.ok(tried > 300 && unsure > 200, `${tried} segments left out, ${unsure} flows unsure`);
});

t.test("one direction alone, acknowledged by the other: nothing is concluded", async (t) => {
  for (const file of ["mtls13.pcap", "mtls12.pcap", "http.pcap", "mtls13-stranger.pcap"]) {
    const frames = await framesOf(path.join(GOLDEN, file));
    const client = read(frames)[0]!;
    const isServers = ({ bytes }: (typeof frames)[number]) =>
      ((bytes[34]! << 8) | bytes[35]!) === client.dst_port;
    const [alone] = read(frames.filter((frame) => !isServers(frame)));
    t.match(alone, { accepted: null, failure: null, notes: ["bytes-missing"] }, file);
  }
});
