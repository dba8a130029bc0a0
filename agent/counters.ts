/** Counts what became of frames and flows, so that nothing is lost without being told. */
import { STOP_NAMES, Stop, Unread } from "./decode/packet.ts";
import type { Packet } from "./decode/packet.ts";
import { REFUSAL_NAMES } from "./owner.ts";

/** Why a frame reached no flow: decoding stopped, or it is not the pod's whose interface it is. */
export const END_NAMES: readonly string[] = [...STOP_NAMES, ...REFUSAL_NAMES];

/** Most kinds of what is not read that are counted apart: strangers may send any number. */
const UNREAD_LIMIT = 64;

export class Counters {
  /** Frames by the number of `END_NAMES`; `stopped[0]` are those that reached a flow. */
  readonly stopped = new Float64Array(END_NAMES.length);
  /** Frames of flows that a sample leaves out; they were decoded, and are told as stopped. */
  notSampled = 0;
  /** Frames by link type, of those whose link layer is not read. */
  readonly unreadLinks = new Map<number, number>();
  /**
   * Frames by what stands in them that is not read, as `Packet.unread` says it, and those of kinds
   * beyond the limit.
   */
  readonly unread = new Map<number, number>();
  unreadOthers = 0;
  /** Bytes on the wire of all frames, captured or not. */
  wireBytes = 0;
  /** Flows opened, ended; of the ended, those that made room for others. */
  opened = 0;
  ended = 0;
  evicted = 0;
  /** Of the evicted, attempts that are told by their source alone; they are not among the ended. */
  aggregated = 0;
  /** Times that the clock was set back. */
  clockSteps = 0;
  /** Sides whose opening was not read because every slot was taken. */
  noSlot = 0;
  /** Times that the source was asked for more of a flow, for no more, and could not note it. */
  budgetsRaised = 0;
  budgetsClosed = 0;
  budgetsRefused = 0;
  /** Sides of which the most was asked: what they said beyond that was not read. */
  budgetsSpent = 0;

  /** Counts a frame by where decoding stopped, and by what it met there. */
  noteStop(stop: number, linkType: number, { unread, protocol }: Packet): void {
    this.stopped[stop]!++;
    if (stop === Stop.notIp) this.#noteUnread(unread);
    else if (stop === Stop.notTransport) this.#noteUnread((Unread.ipProtocol << 16) | protocol);
    else if (stop === Stop.linkType) {
      this.unreadLinks.set(linkType, (this.unreadLinks.get(linkType) ?? 0) + 1);
    }
  }

  #noteUnread(kind: number): void {
    const count = this.unread.get(kind) ?? 0;
    if (count > 0 || this.unread.size < UNREAD_LIMIT) this.unread.set(kind, count + 1);
    else this.unreadOthers++;
  }

  /** Frames handed in so far. */
  get frames(): number {
    return this.stopped.reduce((a, b) => a + b, this.notSampled);
  }

  /** Stopped frames by the name of their reason; those that went through are left out. */
  stoppedByName(): Record<string, number> {
    const named: Record<string, number> = {};
    for (let i = 1; i < this.stopped.length; i++) {
      if (this.stopped[i]! > 0) named[END_NAMES[i]!] = this.stopped[i]!;
    }
    if (this.notSampled > 0) named["notSampled"] = this.notSampled;
    return named;
  }
}
