/** Describes where frames come from: a file, libpcap, or the kernel's ring. */
import type { WatchKind } from "../../protocol/watch-kind.ts";

/** Largest frame that is believed: BIG TCP's 512 KiB and some. */
export const FRAME_LIMIT = 1 << 20;

/**
 * Captured bytes of a live frame, where what to keep is not chosen by flow: a whole TLS record, as
 * offload delivers it.
 */
export const SNAP_BYTES = 17_000;

/**
 * Called for each frame. `[at, end)` of `view` are the captured bytes: borrowed, valid during the
 * call. `lane` is the interface. When the frame was captured, microseconds since the epoch, stands
 * in the source's `clock[0]`: a double that is handed to a function is born anew on the heap for
 * each call.
 */
export type OnFrame = (
  view: DataView,
  at: number,
  end: number,
  wireLength: number,
  linkType: number,
  lane: number,
  /** Of `Direction`, where the source tells it. */
  direction: number,
) => void;

/** Which way a frame crossed its interface: at a pod's host side, `inbound` comes from the pod. */
export const Direction = { unknown: 0, inbound: 1, outbound: 2 } as const;

/** One interface under watch by a live source, or by a recording that is replayed. */
export type Watch = {
  lane: number;
  name: string;
  index: number;
  kind: WatchKind;
  /** Of the pod behind the interface, as far as they are known. */
  addresses: readonly string[];
  /** Frames handed over, and those the kernel dropped, since the watch began. */
  delivered: number;
  dropped: number;
  /** Frames that were counted by flow, and not handed over. */
  cutOff: number;
  /** Of a watch that has ended: until when nothing is missing, milliseconds since the epoch. */
  untilMs?: number;
};

/** What `--capture` may say; `auto` takes the first of the others that works. */
export const CAPTURES = ["auto", "ring-cutoff", "ring", "libpcap"] as const;
export type CaptureChoice = (typeof CAPTURES)[number];

/**
 * What a source counted of flows and did not hand over. A flow's key stands at `k` of `keys` as
 * `agent/flow/flow-key.ts` writes it: ends in 8 words, ports, protocol | lane << 8.
 */
export type PassedOver = {
  /** Payload of each side that is handed over, unless another number is asked for. */
  readonly budgetBytes: number;
  /**
   * Until then frames were dropped, microseconds since the epoch; 0 where none were. Of flows that
   * lived by then what was handed over may be less than was spent.
   */
  readonly lostUs: number;
  /** By side, of the flow that was read last: packets, and bytes of IP, since it is known. */
  readonly packets: Float64Array;
  readonly bytes: Float64Array;
  /** The same as they stood when its ends last connected anew. */
  readonly marked: Float64Array;
  readonly markedBytes: Float64Array;
  /** Reads a flow's counts; false where nothing is known of it. */
  read(keys: Int32Array, k: number): boolean;
  /** The flow has begun. */
  begin(keys: Int32Array, k: number): void;
  /** The flow has ended: its counts are given up; at leisure where nothing was passed over. */
  forget(keys: Int32Array, k: number, isWhole: boolean): void;
  /**
   * Asks that so much payload of each side is handed over: of a flow that has spent less by then; 0
   * for no more. Meant for the connection of these initial sequence numbers, 0 where one is not
   * known. Returns false where there is no room to note it.
   */
  ask(keys: Int32Array, k: number, bytes: readonly number[], isn: readonly number[]): boolean;
  /** Nothing more is asked of the flow. */
  withdraw(keys: Int32Array, k: number): void;
  /** Gives up counts of flows that `isFlow` does not know, some at a time. */
  sweep(isFlow: (keys: Int32Array) => boolean): void;
};

/** A source that runs until it is closed; interfaces may come and go. */
export type LiveSource = {
  /** `libpcap`, `file`, … as `Coverage.source` has it. */
  kind: "ring-cutoff" | "ring" | "libpcap" | "file";
  /** Interfaces under watch, with counters as they are now: the kernel is asked about each. */
  watches(): Watch[];
  /** Frames that the kernel dropped so far without telling whose they were, on any interface. */
  droppedOnAny(): number;
  /** Frames handed over only because there was no room to count their flow, as of `watches`. */
  refused(): number;
  /** Opens what has appeared and closes what has gone; returns the watches that ended. */
  rescan(): Watch[];
  /** Null where every frame is handed over. */
  readonly passedOver: PassedOver | null;
  /** Hands over what is ready, and ends. */
  close(): void;
};

/** One interface of a source. */
export type Lane = {
  name: string;
  /** Frames that the kernel dropped before they could be read, so far. */
  dropped: number;
};
