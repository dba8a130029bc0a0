/**
 * Describes what an agent and the collector say to each other: WebSocket over mutual TLS, one
 * msgpack map a binary message (`msgpackr`, `useRecords`, no shared structures).
 *
 *      agent                                   collector
 *        | hello {spool, first_seq, clock_ms, …} -> |   node name: from the certificate
 *        | <--- welcome {acknowledged, clock_ms}    |   every seq <= acknowledged is durable
 *        | batch {seq, …} ------------------------> |
 *        | batch {seq + 1, …} --------------------> |   several may be under way
 *        | <---------------------- ack {seq}        |   all batches <= seq are durable
 *        | <------------- refuse {code, text} close |
 *
 * Batches of one spool are numbered 1, 2, 3 … for ever; the spool's name (`spool`) tells one
 * numbering from another. A batch at or below the acknowledged number is a duplicate: it is
 * acknowledged again and not stored. A number that skips ahead is a gap: the spool discarded what
 * lies between, and the collector records the loss.
 */
import Type from "typebox";
import { Coverage } from "./coverage.ts";
import { Observation } from "./observation.ts";
import { BATCH_ROWS_LIMIT, UPLINK_VERSION } from "./uplink-limits.ts";

const seq = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const clockMs = Type.Number({ minimum: 0, maximum: 8.64e15 });
const name = Type.String({ minLength: 1, maxLength: 253 });

/** Which flows an agent reads. Two agents that tell the same read the same ones. */
export const SampleTold = Type.Object({
  /** Share of all flows; 1 where all are read. */
  rate: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
  /**
   * Of the key by which flows are drawn, never the key: the first 8 bytes of
   * SHA-256("wireproof sampling key" | 0 | key), in hex. Absent where all flows are read.
   */
  key: Type.Optional(Type.String({ pattern: "^[0-9a-f]{16}$" })),
});
export type SampleTold = Type.Static<typeof SampleTold>;

export const Hello = Type.Object({
  type: Type.Literal("hello"),
  version: Type.Literal(UPLINK_VERSION),
  /** Node name that the agent believes it has; must agree with its certificate. */
  node: name,
  /** Random name of the spool's numbering, kept with the spool. */
  spool: Type.String({ minLength: 8, maxLength: 64 }),
  /** Lowest number that the spool still holds, or the next one. */
  first_seq: seq,
  software: Type.String({ maxLength: 64 }),
  clock_ms: clockMs,
  /** Older agents do not tell it. */
  sample: Type.Optional(SampleTold),
});
export type Hello = Type.Static<typeof Hello>;

export const Batch = Type.Object({
  type: Type.Literal("batch"),
  seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  /** Agent's clock when the batch was closed. */
  clock_ms: clockMs,
  observations: Type.Array(Observation, { maxItems: BATCH_ROWS_LIMIT }),
  coverage: Type.Array(Coverage, { maxItems: BATCH_ROWS_LIMIT }),
});
export type Batch = Type.Static<typeof Batch>;

/** Told now and then between batches: clocks drift, and step, while an agent stays connected. */
export const Clock = Type.Object({ type: Type.Literal("clock"), clock_ms: clockMs });
export type Clock = Type.Static<typeof Clock>;

export type Welcome = { type: "welcome"; acknowledged: number; clock_ms: number };
export type Ack = { type: "ack"; seq: number; clock_ms: number };

export const REFUSALS = {
  "bad-message": "a message did not match the schema",
  "too-large": "a message was larger than the limit",
  "wrong-node": "the hello names another node than the certificate",
  "duplicate-node": "another agent with this node's name and another spool is connected",
  "out-of-order": "batches must rise by their number",
  "not-durable": "the collector could not store the batch; send it again later",
  "unsupported-version": "the uplink version is not spoken here",
} as const;
export type RefusalCode = keyof typeof REFUSALS;
export type Refuse = { type: "refuse"; code: RefusalCode; text: string };
export type CollectorMessage = Welcome | Ack | Refuse;
