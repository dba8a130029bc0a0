/** Says what the main thread and the threads of watchers tell each other. */
import type { LiveSource, Watch } from "./capture/frame-source.ts";
import type { Held } from "./capture/holdings.ts";
import type { WayCounts } from "./directions.ts";
import type { Counters } from "./counters.ts";
import type { Coverage } from "../protocol/coverage.ts";
import type { Flags } from "../protocol/settings.ts";
import type { Observation } from "../protocol/observation.ts";

/** What a thread is started with. */
export type Task = {
  /** The agent's settings: each thread reads them by itself. */
  flags: Flags;
  run: string;
  /** The group that shares what comes; null for the first. */
  group: number | null;
  /** Where it notes what it has open. */
  held: Held;
  /** How many batches of observations the main thread has taken. */
  taken: Int32Array<SharedArrayBuffer>;
};

export type Counts = {
  counters: Pick<Counters, Counted | "stopped" | "unread">;
  flows: number;
  watches: Watch[];
  droppedOnAny: number;
  refused: number;
  oneWay: OneWay[];
};
/** Connections of an interface, by whose packets were seen. */
export type OneWay = { name: string } & WayCounts;

export type Counted = {
  [Name in keyof Counters]: Counters[Name] extends number ? Name : never;
}[Exclude<keyof Counters, "frames">];

/** A thread's words. */
export type Word =
  | { is: "refused"; code: string; text: string }
  | { is: "opened"; kind: LiveSource["kind"]; group: number }
  | { is: "log"; level: "info" | "warn" | "error"; text: string }
  | { is: "observations"; rows: Observation[] }
  | { is: "coverage"; row: Coverage; index: number }
  /** All coverage that was asked for is told. */
  | { is: "told" }
  | { is: "counts"; counts: Counts };

/** The main thread's words. */
export type Order = "begin" | "coverage" | "end";
