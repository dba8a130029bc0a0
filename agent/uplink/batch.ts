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
    beginHead(observations);
    observations.double(seq);
    observations.double(clockMs);
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

/** Ends where the number follows. */
function beginHead(to: MessagePack): void {
  to.object(HEAD);
  to.text("batch");
}

/** Where the number stands in a message, behind the byte that says what it is. */
const SEQ_AT = (() => {
  const head = new MessagePack(HEAD_BYTES);
  beginHead(head);
  return head.at + 1;
})();

/** The message with another number. */
export function renumbered({ bytes }: Closed, seq: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeDoubleBE(seq, SEQ_AT);
  return copy;
}
