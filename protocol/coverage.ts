/** Describes what a node watched on one interface in one interval, and what it missed. */
import Type from "typebox";
import { DISCARDS_LIMIT } from "./uplink-limits.ts";
import { WATCH_KINDS } from "./watch-kind.ts";

const count = Type.Integer({ minimum: 0 });

/**
 * Conservation: frames on the wire = delivered + dropped + cut_off, and
 * delivered = packets + the sum of `stopped`.
 */
export const Coverage = Type.Object({
  /** Host-side interface; `*` stands for the agent as a whole (its start, its stop, a gap). */
  interface: Type.String({ maxLength: 64 }),
  /** What it is; left out where it is a pod's. */
  interface_kind: Type.Optional(Type.Enum([...WATCH_KINDS])),
  /** Addresses of the pod behind the interface, as far as they are known. */
  addresses: Type.Array(Type.String({ maxLength: 45 }), { maxItems: 16 }),
  /** Milliseconds since the epoch, agent's clock; [from, to). */
  from_ms: Type.Number(),
  to_ms: Type.Number(),
  source: Type.Enum(["ring-cutoff", "ring", "libpcap", "file"]),
  sampling: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
  delivered: count,
  /** By the kernel. */
  dropped: count,
  /** Counted by the flow cutoff, and not delivered: also of flows that a sample leaves out. */
  cut_off: count,
  /** Frames decoded down to a flow. */
  packets: count,
  /** Frames of the interface that reached no flow, by why: see `END_NAMES` of the agent. */
  stopped: Type.Record(Type.String({ maxLength: 40 }), count, { maxProperties: 64 }),
  /** Flows of the interface that were not read or not told, by why: `no-room`, `not-of-pod`. */
  discarded: Type.Record(Type.String({ maxLength: 40 }), count, { maxProperties: 64 }),
  /**
   * TCP connections that went on and were counted in the interval, by whose packets passed the
   * interface: the client's alone, the server's alone, or both. Left out where there were none.
   */
  ways: Type.Optional(Type.Object({ client: count, server: count, both: count })),
  /** The network plugin leads one direction past the interface, as its latest connections show. */
  one_direction: Type.Optional(Type.Boolean()),
  /**
   * Attempts at the interface that nobody answered, more than could be kept: by source, `*` for all
   * others. None of them is listed as an observation.
   */
  floods: Type.Optional(
    Type.Array(Type.Object({ source: Type.String({ maxLength: 45 }), attempts: count }), {
      maxItems: 17,
    }),
  ),
  /**
   * Observations that were given up on their way to the collector, by the interface that they are
   * of (`*` where that is not known) and the time that they speak of. Told with `*` alone, for the
   * time of all of them.
   */
  discards: Type.Optional(
    Type.Array(
      Type.Object({
        interface: Type.String({ maxLength: 64 }),
        from_ms: Type.Number(),
        to_ms: Type.Number(),
        observations: count,
      }),
      { maxItems: DISCARDS_LIMIT },
    ),
  ),
});
export type Coverage = Type.Static<typeof Coverage>;
