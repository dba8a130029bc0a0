/** Runs captures through the line and prints their flows: the `inspect` command. */
import path from "node:path";
import { once } from "node:events";
import { readPcapFile } from "./capture/pcap-file.ts";
import type { FileReport } from "./capture/pcap-file.ts";
import { linkName } from "./capture/link-names.ts";
import { FLOW_TABLE_DEFAULTS } from "./flow/flow-table.ts";
import { Line } from "./line.ts";
import { Sightings } from "./sightings.ts";
import { cryptoFactsOf } from "./assess/crypto-facts.ts";
import { toJson } from "./assess/record-text.ts";
import { flowLine, painter } from "./assess/sentence.ts";
import { Summary } from "./assess/summary.ts";
import { tellUnread } from "./unread.ts";
import { parseVxlanPorts } from "./vxlan-ports.ts";
import type { Where } from "./assess/where.ts";
import { ConfigError } from "../protocol/config-error.ts";
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

/** Files from which on progress is shown, in bytes. */
const PROGRESS_FROM = 20 << 20;

/** Characters that are printed together. */
const PRINTED_AT_ONCE = 1 << 16;

/** Flows that end between two times of printing, once a file is read: their records wait. */
const FINISHED_AT_ONCE = 1024;

/** Shows how far a large file is read, on a terminal's stderr. */
function progressOf(name: string): (bytes: number, size: number) => void {
  let last = 0;
  return (bytes, size) => {
    if (!process.stderr.isTTY || size < PROGRESS_FROM) return;
    const percent = Math.floor((100 * bytes) / size);
    if (percent === last) return;
    last = percent;
    const bar = "#".repeat(percent / 5).padEnd(20, ".");
    process.stderr.write(`\r${name} [${bar}] ${percent} %${percent === 100 ? "\n" : ""}`);
  };
}

/** The filter's room brings the whole schema along: only who filters pays for it. */
async function readWhere(expression: string): Promise<Where> {
  const { parseWhere } = await import("./assess/where.ts");
  return parseWhere(expression);
}

/**
 * Reads each file to its end and prints every flow. A damaged capture is told on stderr; a file
 * that is none throws `ConfigError`, as do captures of which no frame at all could be read.
 * Resolves to the count of flows.
 */
export async function inspect(files: readonly string[], options: InspectOptions): Promise<number> {
  const vxlanPorts = parseVxlanPorts(options.vxlanPort ?? null, "inspect");
  const where = options.where === undefined ? null : await readWhere(options.where);
  const judges =
    options.crypto === true || (where?.fields.some((f) => f.startsWith("tls.crypto")) ?? false);
  const paint = painter(options.colour === true);
  let flows = 0;
  const summary = new Summary();
  let pending = "";
  const print = async () => {
    const out = pending;
    pending = "";
    if (!process.stdout.write(out)) await once(process.stdout, "drain");
  };
  const unread: string[] = [];
  for (const file of files) {
    const name = path.basename(file);
    const records: Flow[] = [];
    const origin = { schema: FLOW_SCHEMA, file: name } as const;
    const head = `${JSON.stringify(origin).slice(1, -1)},`;
    const { onObservation } = options;
    const sightings = onObservation ? new Sightings(name.slice(0, 32), onObservation) : null;
    const line: Line = new Line(
      {
        ...{ table: FLOW_TABLE_DEFAULTS, revisions: false, reportIntervalMs: Infinity },
        vxlanPorts,
      },
      (record: Flow, flow: number, final: boolean) => {
        const facts = judges ? cryptoFactsOf(record, line.reading(flow)?.tls ?? null) : null;
        const tls = facts && record.tls ? { ...record.tls, crypto: judgeAllCrypto(facts) } : null;
        records.push(tls ? { ...record, tls } : record);
        sightings?.tell(line, record, flow, final);
      },
    );
    const flush = async () => {
      for (const record of records) {
        flows++;
        if (where && !where.matches({ ...origin, ...record })) continue;
        if (options.format === "text") {
          summary.add(record);
          pending += `${flowLine(record, flows, paint)}\n`;
        } else pending += `${toJson(record, head)}\n`;
        if (pending.length >= PRINTED_AT_ONCE) await print();
      }
      records.length = 0;
    };
    const progress = progressOf(name);
    const report = await readPcapFile(
      file,
      line.clock,
      (view, at, end, wire, linkType) => line.frame(view, at, end, wire, linkType, 0),
      { onProgress: progress, onChunk: flush },
    );
    while (line.finish(FINISHED_AT_ONCE)) await flush();
    await flush();
    const nothing = nothingRead(name, report, line.counters.unreadLinks);
    if (nothing !== null) {
      unread.push(nothing);
      if (files.length > 1) process.stderr.write(`wireproof: ${nothing}\n`);
      continue;
    }
    if (report.damage) {
      process.stderr.write(
        `wireproof: ${name} is damaged: ${report.damage}; ` +
          `read ${report.frames} frames before that\n`,
      );
    }
    for (const [linkType, n] of line.counters.unreadLinks) {
      const link = linkName(linkType);
      process.stderr.write(`wireproof: ${name}: ${n} frames are not read: link type ${link}\n`);
    }
    const { lines, usual } = tellUnread(line.counters, line.fragments.lost);
    for (const told of lines) process.stderr.write(`wireproof: ${name}: ${told}\n`);
    if (usual.length > 0 && options.format === "text") {
      const told = usual.join(", ");
      process.stderr.write(`wireproof: ${name}: frames that carried no flow: ${told}\n`);
    }
  }
  if (files.length > 0 && unread.length === files.length) {
    const all = `no frame of ${files.length} captures can be read`;
    throw new ConfigError("CONFIG_NOTHING_READ", files.length === 1 ? unread[0]! : all);
  }
  if (options.format === "text") pending += summary.text(flows, paint);
  await print();
  return flows;
}

/** Link types that are named when none of them is read. */
const LINKS_TOLD = 4;

/** Says why no frame of a capture could be read; null where one was, or where it holds none. */
function nothingRead(
  name: string,
  { frames, damage }: FileReport,
  unreadLinks: ReadonlyMap<number, number>,
): string | null {
  if (frames === 0) {
    return damage === null ? null : `${name} is damaged: ${damage}; no frame stands before that`;
  }
  let unread = 0;
  for (const count of unreadLinks.values()) unread += count;
  if (unread < frames) return null;
  const links = [...unreadLinks.keys()].slice(0, LINKS_TOLD).map(linkName).join(", ");
  return `${name}: of its ${frames} frames none can be read: link type ${links}`;
}
