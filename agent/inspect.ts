/** Runs captures through the line and prints their flows: the `inspect` command. */
import path from "node:path";
import { once } from "node:events";
import { Unread, runCapture } from "./capture-run.ts";
import type { Run } from "./capture-run.ts";
import { FLOW_TABLE_DEFAULTS } from "./flow/flow-table.ts";
import { Line } from "./line.ts";
import { Sightings } from "./sightings.ts";
import { cryptoFactsOf } from "./assess/crypto-facts.ts";
import { toJson } from "./assess/record-text.ts";
import { flowLine, painter } from "./assess/sentence.ts";
import type { Paint } from "./assess/sentence.ts";
import { Summary } from "./assess/summary.ts";
import { parseVxlanPorts } from "./vxlan-ports.ts";
import type { Where } from "./assess/where.ts";
import { judgeAllCrypto } from "../protocol/crypto-profile.ts";
import { FLOW_SCHEMA } from "../protocol/flow-schema.ts";
import type { Flow } from "../protocol/flow-record.ts";
import type { Observation } from "../protocol/observation.ts";

export type InspectOptions = {
  format: "text" | "jsonl";
  /** A filter of what is printed and summed up, in the language of `assess/where.ts`. */
  where?: string;
  /** Ports that are looked at as VXLAN's, by commas. */
  vxlanPort?: string;
  /** Judge the cryptography of every TLS flow; a filter that asks for it does so by itself. */
  crypto?: boolean;
  colour?: boolean;
  /** Called with every flow as an observation. */
  onObservation?: (observation: Observation) => void;
};

/** Characters that are printed together. */
const PRINTED_AT_ONCE = 1 << 16;

/** The filter's room brings the whole schema along: only who filters pays for it. */
async function readWhere(expression: string): Promise<Where> {
  const { parseWhere } = await import("./assess/where.ts");
  return parseWhere(expression);
}

/** What all captures of one command are printed by. */
class Printer {
  /** Of all flows, those that the filter keeps back too. */
  flows = 0;
  readonly #format: "text" | "jsonl";
  readonly #where: Where | null;
  readonly #paint: Paint;
  readonly #summary = new Summary();
  #pending = "";

  constructor(format: "text" | "jsonl", where: Where | null, paint: Paint) {
    this.#format = format;
    this.#where = where;
    this.#paint = paint;
  }

  /** Adds a capture's records, and prints once there is enough. */
  async add(name: string, records: readonly Flow[]): Promise<void> {
    const origin = { schema: FLOW_SCHEMA, file: name } as const;
    const head = `${JSON.stringify(origin).slice(1, -1)},`;
    for (const record of records) {
      this.flows++;
      if (this.#where && !this.#where.matches({ ...origin, ...record })) continue;
      if (this.#format === "text") {
        this.#summary.add(record);
        this.#pending += `${flowLine(record, this.flows, this.#paint)}\n`;
      } else this.#pending += `${toJson(record, head)}\n`;
      if (this.#pending.length >= PRINTED_AT_ONCE) await this.print();
    }
  }

  async print(): Promise<void> {
    const out = this.#pending;
    this.#pending = "";
    if (out !== "" && !process.stdout.write(out)) await once(process.stdout, "drain");
  }

  /** Prints what is left, and for people the summary. */
  async end(): Promise<void> {
    if (this.#format === "text") this.#pending += this.#summary.text(this.flows, this.#paint);
    await this.print();
  }
}

/**
 * Reads each capture to its end and prints every flow: how many flows there were, and captures of
 * which nothing could be read. Damage is told on stderr, and captures that cannot be read are, the
 * others are printed; where there is no other it is a `ConfigError`.
 */
export async function inspect(
  files: readonly string[],
  options: InspectOptions,
): Promise<{ flows: number; unread: number }> {
  const vxlanPorts = parseVxlanPorts(options.vxlanPort ?? null, "inspect");
  const where = options.where === undefined ? null : await readWhere(options.where);
  const judges =
    options.crypto === true || (where?.fields.some((f) => f.startsWith("tls.crypto")) ?? false);
  const printer = new Printer(options.format, where, painter(options.colour === true));
  const unread = new Unread(files.length);
  for (const file of files) {
    const run = await inspectFile(file, options, { judges, vxlanPorts }, printer);
    if (run.unread !== null) unread.note(run.unread);
    if (run.isStopped) break;
  }
  unread.check();
  await printer.end();
  return { flows: printer.flows, unread: unread.count };
}

async function inspectFile(
  file: string,
  { format, onObservation }: InspectOptions,
  { judges, vxlanPorts }: { judges: boolean; vxlanPorts: readonly number[] },
  printer: Printer,
): Promise<Run> {
  const name = path.basename(file);
  const records: Flow[] = [];
  const sightings = onObservation ? new Sightings(name.slice(0, 32), onObservation) : null;
  const line: Line = new Line(
    { table: FLOW_TABLE_DEFAULTS, revisions: false, reportIntervalMs: Infinity, vxlanPorts },
    (record: Flow, flow: number, final: boolean) => {
      const facts = judges ? cryptoFactsOf(record, line.reading(flow)?.tls ?? null) : null;
      const tls = facts && record.tls ? { ...record.tls, crypto: judgeAllCrypto(facts) } : null;
      records.push(tls ? { ...record, tls } : record);
      sightings?.tell(line, record, flow, final);
    },
  );
  const onChunk = async (isLive: boolean) => {
    await printer.add(name, records);
    records.length = 0;
    if (isLive) await printer.print();
  };
  return runCapture(file, line, { format, onChunk });
}
