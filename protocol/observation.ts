/** Describes what one node says about one flow: sent again, as a revision, when it learns more. */
import Type from "typebox";
import { Flow } from "./flow-record.ts";
import { WATCH_KINDS } from "./watch-kind.ts";

const int32 = Type.Integer({ minimum: -2147483648, maximum: 2147483647 });

export const Observation = Type.Object({
  /** Names the flow on its node, across restarts: `<agent run>.<interface index>.<counter>`. */
  flow: Type.String({ minLength: 1, maxLength: 64 }),
  /** Rises by one; the highest is what counts. */
  revision: Type.Integer({ minimum: 1, maximum: 0xffffffff }),
  /** No further revision comes. */
  final: Type.Boolean(),
  /** Host-side interface on which the packets were seen. */
  interface: Type.String({ maxLength: 64 }),
  /** What that interface is; left out where it is a pod's. */
  interface_kind: Type.Optional(Type.Enum([...WATCH_KINDS])),
  /** Which end of the flow is the pod behind that interface; null where that is not known. */
  vantage: Type.Union([Type.Literal("client"), Type.Literal("server"), Type.Null()]),
  /**
   * Initial sequence numbers of client and server (int32; null where not seen). Two sightings of
   * one connection, at two veths or on two nodes and across Service NAT, carry the same pair.
   */
  isn: Type.Tuple([Type.Union([int32, Type.Null()]), Type.Union([int32, Type.Null()])]),
  /** Share of flows that this agent reads: 1 when not sampled. */
  sampling: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
  /** The connection went on, and of one side nothing passed the interface. */
  one_way: Type.Optional(Type.Boolean()),
  record: Flow,
});
export type Observation = Type.Static<typeof Observation>;
