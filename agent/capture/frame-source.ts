/** Describes where frames come from: a file, libpcap, or the kernel's ring. */

/** Largest frame that is believed: BIG TCP's 512 KiB and some. */
export const FRAME_LIMIT = 1 << 20;

/**
 * Called for each frame. `[at, end)` of `view` are the captured bytes: borrowed, valid during the
 * call. `timeUs` is microseconds since the epoch, `lane` the interface (`FrameSource.lanes`).
 */
export type OnFrame = (
  view: DataView,
  at: number,
  end: number,
  wireLength: number,
  timeUs: number,
  linkType: number,
  lane: number,
) => void;

/** One interface of a source. */
export type Lane = {
  name: string;
  /** Frames that the kernel dropped before they could be read, so far. */
  dropped: number;
};
