/** Gathers rows, each written as it comes, until they go to the spool as one message. */
import type { Coverage } from "../../protocol/coverage.ts";
import type { Observation } from "../../protocol/observation.ts";
import rowSchema from "../../protocol/row-schema.json" with { type: "json" };
import type { Batch as BatchMessage } from "../../protocol/uplink.ts";
import { MessagePack } from "./message-pack.ts";
import { Shapes, writerOf } from "./row-writer.ts";

/** Most bytes of one row. */
const ROW_BYTES_LIMIT = 1 << 20;
/** Bytes of one kind of rows from which on a batch takes no more. */
const BATCH_BYTES = 256 << 10;

const shapes = new Shapes();
const HEAD = shapes.of([
  "type",
  "seq",
  "clock_ms",
  "observations",
  "coverage",
] satisfies readonly (keyof BatchMessage)[]);
/** What stands before the rows, and room for it. */
const HEAD_BYTES = 128;
const writeObservation = writerOf(rowSchema.observation, shapes);
const writeCoverage = writerOf(rowSchema.coverage, shapes);

/** A batch that takes no more rows, as a message. */
export type Closed = { rows: number; seq: number; bytes: Buffer };

export class Batch {
  /** Rows that it has. */
  rows = 0;
  #coverages = 0;
  readonly #observations = new MessagePack(ROW_BYTES_LIMIT);
  readonly #coverage = new MessagePack(ROW_BYTES_LIMIT);

  /** Takes a row; else says why not: `full` when it may find room in the next batch. */
  offer(row: Observation | Coverage): "taken" | "full" | "malformed" | "too-large" {
    const isObservation = "flow" in row;
    const to = isObservation ? this.#observations : this.#coverage;
    const { at } = to;
    if (at >= BATCH_BYTES) return "full";
    const isWritten = (isObservation ? writeObservation : writeCoverage)(to, row);
    if (!isWritten) {
      const { isFull } = to;
      to.rollBack(at);
      if (!isFull) return "malformed";
      return at > 0 ? "full" : "too-large";
    }
    this.rows++;
    if (!isObservation) this.#coverages++;
    return "taken";
  }

  /** Gives up its rows as one message. */
  close(seq: number, clockMs: number): Closed {
    const { rows } = this;
    const observations = new MessagePack(HEAD_BYTES);
    writeHead(observations, seq, clockMs);
    observations.list(rows - this.#coverages);
    const coverage = new MessagePack(HEAD_BYTES);
    coverage.list(this.#coverages);
    const parts = [observations, this.#observations, coverage, this.#coverage];
    const bytes = Buffer.concat(parts.map((part) => part.written));
    this.#observations.clear();
    this.#coverage.clear();
    this.rows = this.#coverages = 0;
    return { rows, seq, bytes };
  }
}

function writeHead(to: MessagePack, seq: number, clockMs: number): void {
  to.object(HEAD);
  to.text("batch");
  to.double(seq);
  to.double(clockMs);
}

/** The message with another number. */
export function renumbered({ bytes }: Closed, seq: number): Buffer {
  const head = new MessagePack(HEAD_BYTES);
  writeHead(head, seq, 0);
  const clockMs = bytes.readDoubleBE(head.at - 8);
  head.clear();
  writeHead(head, seq, clockMs);
  return Buffer.concat([head.written, bytes.subarray(head.at)]);
}
