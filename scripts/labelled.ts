/**
 * Loads captures whose truth is known by how they were made, and holds readings against it. A
 * folder has its truth in `truth.tsv`, a row a flow or a row a capture (columns: see `fromRow`), or
 * in `truth.json`, as `scripts/golden.ts` writes it.
 */
import { existsSync, globSync, readFileSync } from "node:fs";
import path from "node:path";
import { readPcapFile } from "../agent/capture/pcap-file.ts";
import { decodeFrame } from "../agent/decode/ethernet.ts";
import { Packet, Stop } from "../agent/decode/packet.ts";
import { FLOW_TABLE_DEFAULTS } from "../agent/flow/flow-table.ts";
import { Line } from "../agent/line.ts";
import type { Flow } from "../protocol/flow-record.ts";

export type Frame = {
  bytes: Uint8Array<ArrayBuffer>;
  timeUs: number;
  linkType: number;
  /** Both ends, as the frame's flow has them; "" where it carries none. */
  ends: string;
};

/** What is known of a flow; null where it is not. */
export type FlowTruth = {
  accepted: boolean | null;
  /** What the client showed. */
  certificate: "presented" | "declined" | "none" | "resumed" | null;
  handshake: "complete" | "failed" | "resumed" | null;
  scene: string;
};

/** A flow, or each flow of a capture where `clientPort` is null. */
export type Labelled = {
  folder: string;
  file: string;
  clientPort: number | null;
  serverPort: number | null;
  truth: FlowTruth;
};

const SHOWN: Readonly<Record<string, FlowTruth["certificate"]>> = {
  ...{ yes: "presented", "inferred-yes": "presented", no: "none", "inferred-no": "none" },
  ...{ "inferred-declined": "declined", resumed: "resumed" },
};

const wordOf = <T extends string>(text: string | undefined, words: readonly T[]): T | null =>
  words.find((word) => word === text) ?? null;

/** Of mesh captures the table says in words what happened. */
function fromWords(row: Readonly<Record<string, string>>): FlowTruth {
  const answered = row.application_answered!.toLowerCase();
  const shown = row.client_certificate!;
  const isOne = !/resumed/.test(row.handshake!);
  return {
    accepted: answered.startsWith("yes") ? true : answered.startsWith("no") ? false : null,
    certificate: !isOne ? null : shown === "yes" ? "presented" : null,
    handshake: row.handshake!.startsWith("failed") ? "failed" : null,
    scene: `${row.handshake}; ${row.application_answered}`,
  };
}

function fromRow(row: Readonly<Record<string, string>>): FlowTruth {
  if (row.client_port === undefined) return fromWords(row);
  return {
    accepted: row.accepted === "True" ? true : row.accepted === "False" ? false : null,
    certificate: wordOf(row.cert, ["presented", "declined", "none", "resumed"] as const),
    handshake: wordOf(row.handshake, ["complete", "failed", "resumed"] as const),
    scene: `${row.client} to ${row.server}, ${row.scene}`,
  };
}

function readTable(folder: string): Labelled[] {
  const [head, ...lines] = readFileSync(path.join(folder, "truth.tsv"), "utf8").trim().split("\n");
  const names = head!.split("\t");
  return lines.map((line) => {
    const cells = line.split("\t");
    const row = Object.fromEntries(names.map((name, i) => [name, cells[i] ?? ""]));
    const port = (text: string | undefined) => (text === undefined ? null : Number(text));
    const ports = { clientPort: port(row.client_port), serverPort: port(row.server_port) };
    return { folder, file: row.file!, ...ports, truth: fromRow(row) };
  });
}

type Golden = { captures: { file: string; made: string; flows: Record<string, unknown>[] }[] };

async function readGolden(folder: string): Promise<Labelled[]> {
  const labelled: Labelled[] = [];
  const { captures } = JSON.parse(readFileSync(path.join(folder, "truth.json"), "utf8")) as Golden;
  for (const { file, made, flows } of captures) {
    const records = readFrames(await framesOf(path.join(folder, file)));
    records.sort((a, b) => (a.start < b.start ? -1 : 1));
    flows.forEach((flow, i) => {
      const { src_port: clientPort = null, dst_port: serverPort = null } = records[i] ?? {};
      const truth: FlowTruth = {
        accepted: ((flow.answered ?? flow.accepted) as boolean | null | undefined) ?? null,
        certificate: SHOWN[String(flow.mutual)] ?? null,
        handshake: wordOf(String(flow.handshake), ["complete", "failed", "resumed"] as const),
        scene: made,
      };
      labelled.push({ folder, file, clientPort, serverPort, truth });
    });
  }
  return labelled;
}

/** All that is labelled in the folders, or in those below them. */
export async function labelledIn(folders: readonly string[]): Promise<Labelled[]> {
  const labelled: Labelled[] = [];
  for (const root of folders) {
    for (const name of globSync("**/truth.{tsv,json}", { cwd: root }).sort()) {
      const folder = path.dirname(path.join(root, name));
      if (name.endsWith("json")) labelled.push(...(await readGolden(folder)));
      else labelled.push(...readTable(folder));
    }
  }
  return labelled.filter(({ folder, file }) => existsSync(path.join(folder, file)));
}

export async function framesOf(file: string): Promise<Frame[]> {
  const frames: Frame[] = [];
  const clock = new Float64Array(1);
  const packet = new Packet();
  await readPcapFile(file, clock, (view, at, end, _wire, linkType) => {
    const isFlow = decodeFrame(view, at, end, linkType, packet) === Stop.none;
    const ports = [packet.sourcePort, packet.destinationPort].sort((a, b) => a - b);
    const bytes = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset + at, end - at);
    const ends = isFlow ? ports.join(" ") : "";
    frames.push({ bytes: bytes.slice(), timeUs: clock[0]!, linkType, ends });
  });
  return frames;
}

const records: Flow[] = [];
const table = { ...FLOW_TABLE_DEFAULTS, flows: 4096, slots: 1024 };
const options = { table, revisions: false, reportIntervalMs: 1e9 };
const line = new Line(options, (record) => records.push(record));

/** The records of the flows that the frames make. */
export function readFrames(frames: readonly Frame[]): Flow[] {
  records.length = 0;
  line.nowUs = 0;
  for (const { bytes, timeUs, linkType } of frames) {
    line.clock[0] = timeUs;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    line.frame(view, 0, bytes.length, bytes.length, linkType, 0);
  }
  line.finish();
  return [...records];
}

/** The records that a label speaks of: of a whole capture, those in which something was said. */
export function recordsOf(label: Labelled, flows: readonly Flow[]): Flow[] {
  const { clientPort, serverPort } = label;
  if (clientPort === null) return flows.filter((f) => f.proto === "tcp");
  return flows.filter((f) => f.src_port === clientPort && f.dst_port === serverPort);
}

export const Fault = {
  accepted: "accepted, and it was not",
  refused: "refused, and it was accepted",
  shown: "a certificate, and none was shown",
  unshown: "no certificate, and one was shown",
  failed: "a failed handshake, and it was complete",
  complete: "a complete handshake, and it failed",
} as const;
export type Fault = (typeof Fault)[keyof typeof Fault];

/** What a record says that is not so. */
export function faultsOf({ accepted, failure, handshake, tls }: Flow, truth: FlowTruth): Fault[] {
  const shown = tls?.mutual ? (SHOWN[tls.mutual] ?? null) : null;
  const isDone = handshake === "complete" || handshake === "resumed";
  const wasDone = truth.handshake === "complete" || truth.handshake === "resumed";
  const faults: Fault[] = [];
  if (accepted === true && truth.accepted === false) faults.push(Fault.accepted);
  if ((accepted === false || failure) && truth.accepted === true) faults.push(Fault.refused);
  if (truth.certificate !== null && shown !== null) {
    const isShown = shown === "presented";
    if (isShown && truth.certificate !== "presented") faults.push(Fault.shown);
    if (!isShown && truth.certificate === "presented") faults.push(Fault.unshown);
  }
  if (handshake === "failed" && wasDone) faults.push(Fault.failed);
  if (isDone && truth.handshake === "failed") faults.push(Fault.complete);
  return faults;
}

/** Reports whether a record says what the client showed. */
export const tellsCertificate = ({ tls }: Flow): boolean =>
  tls?.mutual != null && tls.mutual !== "resumed";
