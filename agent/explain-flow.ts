/** Reads captures for one flow's sake, and prints how it was read: `inspect --explain N`. */
import path from "node:path";
import { conclude, limits } from "./assess/conclude.ts";
import type { Conclusion } from "./assess/conclude.ts";
import { cryptoFactsOf } from "./assess/crypto-facts.ts";
import { Explanation } from "./assess/explain.ts";
import type { Step } from "./assess/explain.ts";
import { flowLine, printable } from "./assess/sentence.ts";
import type { Paint, Tone } from "./assess/sentence.ts";
import { Unread, runCapture } from "./capture-run.ts";
import { KeptPipes } from "./capture/kept-pipe.ts";
import { readPcapFile } from "./capture/pcap-file.ts";
import { FLOW_TABLE_DEFAULTS } from "./flow/flow-table.ts";
import { Line } from "./line.ts";
import type { LineOptions } from "./line.ts";
import { ConfigError } from "../protocol/config-error.ts";
import {
  CRYPTO_PROFILES,
  CRYPTO_PROFILE_NAMES,
  judgeAllCrypto,
} from "../protocol/crypto-profile.ts";
import type { CryptoProfile, CryptoVerdict } from "../protocol/crypto-profile.ts";
import { FLOW_SCHEMA } from "../protocol/flow-schema.ts";
import type { Flow, FlowRecord } from "../protocol/flow-record.ts";

/** How one flow was read: what `--explain --format jsonl` prints, one line for each step. */
export type Explained = {
  record: FlowRecord;
  steps: readonly Step[];
  /** Steps beyond those that are kept. */
  left: number;
  limits: readonly string[];
  conclusions: readonly Conclusion[];
  crypto: Record<CryptoProfile, CryptoVerdict> | null;
  /** Captures before it of which nothing could be read. */
  unread: number;
};

const OPTIONS = { table: FLOW_TABLE_DEFAULTS, revisions: false, reportIntervalMs: Infinity };

/** Where a flow stands: its capture, what that is called, and its serial number there. */
type Place = { file: string; name: string; serial: number };

/** Finds flow `number`, counted as `inspect` prints them; `unread` takes what cannot be read. */
async function find(
  files: readonly string[],
  number: number,
  options: LineOptions,
  { format, kept, unread }: { format: "text" | "jsonl"; kept: KeptPipes; unread: Unread },
): Promise<Place> {
  let flows = 0;
  let serial = 0;
  for (const given of files) {
    const name = path.basename(given);
    const line: Line = new Line(options, (_, flow) => {
      flows++;
      if (flows === number) serial = line.serial[flow]!;
    });
    const file = await kept.pathOf(given).catch((error: unknown) => {
      if (!(error instanceof ConfigError)) throw error;
      return void unread.note(error.message);
    });
    if (file === undefined) continue;
    const run = await runCapture(file, line, { format, name });
    if (run.unread !== null) unread.note(run.unread);
    if (serial > 0) return { file, name, serial };
  }
  unread.check();
  const there = flows === 1 ? "1 flow" : `${flows} flows`;
  throw new ConfigError("CONFIG_NO_FLOW", `--explain: there is no flow ${number}, but ${there}`);
}

/**
 * Reads the captures twice: first for which flow is meant, then that one with every step told.
 * `vxlanPorts` as `LineOptions` has them.
 */
export async function explainFlow(
  files: readonly string[],
  number: number,
  format: "text" | "jsonl" = "text",
  vxlanPorts: readonly number[] = [],
): Promise<Explained> {
  const options = { ...OPTIONS, vxlanPorts };
  const kept = new KeptPipes();
  try {
    const unread = new Unread(files.length);
    const place = await find(files, number, options, { format, kept, unread });
    return { ...(await explainAt(place, options)), unread: unread.count };
  } finally {
    kept.close();
  }
}

/** Reads a capture for one flow's sake. */
async function explainAt(
  { file, name, serial }: Place,
  options: LineOptions,
): Promise<Omit<Explained, "unread">> {
  const trace = new Explanation();
  let explained: Omit<Explained, "unread"> | null = null;
  const line: Line = new Line(
    { ...options, traced: { serial, trace } },
    (record: Flow, flow: number) => {
      if (line.serial[flow] !== serial) return;
      const reading = line.reading(flow);
      trace.finish(record, reading?.swapped ?? false);
      const facts = cryptoFactsOf(record, reading?.tls ?? null);
      explained = {
        record: { schema: FLOW_SCHEMA, file: name, ...record },
        steps: trace.steps,
        left: trace.left,
        limits: limits(record, reading?.tls ?? null),
        conclusions: conclude(record, reading),
        crypto: facts && judgeAllCrypto(facts),
      };
    },
  );
  await readPcapFile(file, line.clock, (view, at, end, wire, linkType) => {
    trace.frame++;
    trace.timeUs = line.clock[0]!;
    line.frame(view, at, end, wire, linkType, 0);
  });
  line.finish();
  if (!explained) throw new Error(`the flow of ${name} is not there when read again`);
  return explained;
}

/** One JSON object a line: the record, each step, each conclusion, each profile's verdict. */
export function formatExplainedJsonl(explained: Explained): string {
  const { record, steps, conclusions, crypto, limits: said } = explained;
  const lines: unknown[] = [{ kind: "flow", ...record }];
  for (const step of steps) lines.push({ kind: "step", ...step });
  for (const limit of said) lines.push({ kind: "limit", limit });
  for (const conclusion of conclusions) lines.push({ kind: "conclusion", ...conclusion });
  for (const profile of CRYPTO_PROFILE_NAMES) {
    if (crypto) lines.push({ kind: "crypto", profile, ...crypto[profile] });
  }
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

/** Columns of a step: frame, milliseconds since the first step, side, bytes of its stream. */
function stepLine(step: Step, startUs: number, paint: Paint): string[] {
  const { frame, timeUs, side, from, to, what, source, details } = step;
  const ms = ((timeUs - startUs) / 1000).toFixed(3);
  const bytes = from === null || to === null ? "" : `${from}..${to}`;
  const head = `${String(frame).padStart(6)} ${ms.padStart(11)}  ${(side ?? "").padEnd(6)}`;
  const section = source === null ? "" : `  ${paint("dim", `[${source}]`)}`;
  return [
    `${head}  ${bytes.padEnd(13)}  ${printable(what)}${section}`,
    ...details.map((detail) => `${" ".repeat(42)}${paint("dim", printable(detail))}`),
  ];
}

const TONES: Readonly<Record<CryptoVerdict["verdict"], Tone>> = {
  meets: "good",
  misses: "bad",
  undecidable: "weak",
};

export function formatExplained(explained: Explained, number: number, paint: Paint): string {
  const { record, steps, left, conclusions, crypto } = explained;
  const startUs = steps[0]?.timeUs ?? 0;
  const title = paint("strong", `flow ${number} of ${printable(record.file)}`);
  const lines = [title, flowLine(record, number, paint), ""];
  lines.push(
    paint(
      "dim",
      " frame          ms  side    stream bytes   what was read, and where it is written",
    ),
  );
  for (const step of steps) lines.push(...stepLine(step, startUs, paint));
  if (left > 0) lines.push(`${" ".repeat(42)}and ${left} more steps`);
  if (explained.limits.length > 0) lines.push("", ...explained.limits);
  lines.push("", paint("strong", "concluded"));
  for (const { field, value, why, source } of conclusions) {
    const section = source === null ? "" : `  ${paint("dim", `[${source}]`)}`;
    const because = why === "" ? "" : `  ${printable(why)}`;
    lines.push(`  ${field.padEnd(13)} ${printable(value).padEnd(18)}${because}${section}`);
  }
  if (crypto) {
    lines.push("", paint("strong", "cryptography"));
    for (const profile of CRYPTO_PROFILE_NAMES) {
      const { verdict, reasons } = crypto[profile];
      const name = CRYPTO_PROFILES[profile].padEnd(26);
      lines.push(`  ${name} ${paint(TONES[verdict], verdict)}`);
      for (const reason of reasons) lines.push(`${" ".repeat(29)}${printable(reason)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}
