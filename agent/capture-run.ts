/** Runs one capture through a line, and tells on stderr what of it was not read. */
import path from "node:path";
import { STANDARD_INPUT } from "./capture/byte-source.ts";
import type { OnFrame } from "./capture/frame-source.ts";
import { linkName } from "./capture/link-names.ts";
import { readPcapFile } from "./capture/pcap-file.ts";
import type { FileReport } from "./capture/pcap-file.ts";
import type { Line } from "./line.ts";
import { tellUnread } from "./unread.ts";
import { ConfigError } from "../protocol/config-error.ts";

/** Files from which on progress is shown, in bytes. */
const PROGRESS_FROM = 20 << 20;

/** Flows that end between two times of printing, once a file is read: their records wait. */
const FINISHED_AT_ONCE = 1024;

/** Link types that are named of one capture. */
const LINKS_TOLD = 4;

export type RunOptions = {
  format: "text" | "jsonl";
  /** How the file is called, where what is read is a copy of it. */
  name?: string;
  /** Takes the frames in the line's place. */
  onFrame?: OnFrame;
  /** Awaited now and then, and when flows have ended. */
  onChunk?: (isLive: boolean) => Promise<void>;
};

export type Run = {
  /** Null, or why nothing of the capture could be read. */
  unread: string | null;
  /** The operator ended a live capture: nothing more is to be read. */
  isStopped: boolean;
};

/** Reads a capture to its end, and ends its flows. */
export async function runCapture(file: string, line: Line, options: RunOptions): Promise<Run> {
  const name = options.name ?? path.basename(file);
  const { onChunk = async () => {} } = options;
  const onFrame: OnFrame = (view, at, end, wire, linkType) =>
    line.frame(view, at, end, wire, linkType, 0);
  let report: FileReport;
  try {
    const telling = { onProgress: progressOf(name), onChunk };
    report = await readPcapFile(file, line.clock, options.onFrame ?? onFrame, telling);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { unread: error.message, isStopped: false };
  }
  while (line.finish(FINISHED_AT_ONCE)) await onChunk(false);
  await onChunk(false);
  const { isStopped } = report;
  const unread = nothingRead(name, report, line.counters.unreadLinks);
  if (unread === null) tell(name, report, line, options.format);
  return { unread, isStopped };
}

/** Captures of which nothing could be read: each is told, unless there is no other. */
export class Unread {
  count = 0;
  readonly #files: number;
  #last = "";

  /** Of so many captures. */
  constructor(files: number) {
    this.#files = files;
  }

  note(why: string): void {
    this.count++;
    this.#last = why;
    if (this.#files > 1) process.stderr.write(`wireproof: ${why}\n`);
  }

  /** Where none could be read, that is an error. */
  check(): void {
    if (this.count === 0 || this.count < this.#files) return;
    const all = `no frame of ${this.#files} captures can be read`;
    throw new ConfigError("CONFIG_NOTHING_READ", this.#files === 1 ? this.#last : all);
  }
}

/** What comes by the standard input comes once. */
export function refuseRepeatedInput(files: readonly string[]): void {
  if (files.filter((file) => STANDARD_INPUT.has(file)).length < 2) return;
  const names = [...STANDARD_INPUT].join(" and ");
  const what = `the standard input can be read once, and is named twice (${names} are the same)`;
  throw new ConfigError("CONFIG_INPUT_TWICE", what);
}

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

/** Tells damage, link layers that are not read, and frames that carried no flow. */
function tell(name: string, report: FileReport, line: Line, format: "text" | "jsonl"): void {
  const { unreadLinks } = line.counters;
  if (report.damage) {
    process.stderr.write(
      `wireproof: ${name} is damaged: ${report.damage}; ` +
        `read ${report.frames} frames before that\n`,
    );
  }
  for (const [linkType, n] of [...unreadLinks].slice(0, LINKS_TOLD)) {
    const link = linkName(linkType);
    process.stderr.write(`wireproof: ${name}: ${n} frames are not read: link type ${link}\n`);
  }
  const more = unreadLinks.size - LINKS_TOLD;
  if (more > 0)
    process.stderr.write(`wireproof: ${name}: nor are those of ${more} link types more\n`);
  const { lines, usual } = tellUnread(line.counters, line.fragments.lost);
  for (const told of lines) process.stderr.write(`wireproof: ${name}: ${told}\n`);
  if (usual.length > 0 && format === "text") {
    const told = usual.join(", ");
    process.stderr.write(`wireproof: ${name}: frames that carried no flow: ${told}\n`);
  }
}

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
