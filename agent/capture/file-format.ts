/** Describes the reader of one capture format: what it is given, and what it hands out. */
import type { OnFrame } from "./frame-source.ts";

/** Who takes the frames; see `OnFrame`. */
export type Taker = { clock: Float64Array; onFrame: OnFrame };

export type Interface = {
  name: string;
  linkType: number;
  onFrame: OnFrame;
};

/** What a format's reader keeps between chunks. */
export type Format = {
  /** Takes what is whole of `[0, length)`; returns how many bytes it has used. */
  take(view: DataView, length: number): number;
  /** Set when the file contradicts itself; nothing more is read then. */
  damage: string | null;
  frames: number;
  /** In the order of the file; a frame's lane is its interface's place here. */
  readonly interfaces: Interface[];
  /** One whose frames stand behind headers of their own: nothing is taken while it is set. */
  wrapped: Interface | null;
  /** The byte order at this place of the file. */
  readonly isLittle: boolean;
};
