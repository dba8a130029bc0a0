/** Captures live through one packet ring for all interfaces; interfaces may come and go. */
import type { LiveSource, OnFrame, Watch } from "./frame-source.ts";
import { SNAP_BYTES } from "./frame-source.ts";
import { loadProgram } from "./bpf-program.ts";
import { assembleFanout } from "./fanout-program.ts";
import { FlowCutoff } from "./flow-cutoff.ts";
import { watchAs } from "./interfaces.ts";
import type { Wanted } from "./interfaces.ts";
import { Lanes } from "./lanes.ts";
import { KernelLinks } from "./links.ts";
import { PacketRing, BLOCK_BYTES } from "./packet-ring.ts";
import { CutOffFlows } from "./cut-off-flows.ts";
import { RingReader } from "./ring-reader.ts";
import { RingWaiter, Wake } from "./ring-waiter.ts";
import type { Link } from "./rtnetlink.ts";
import type { Draw } from "./sample-program.ts";
import { RefusedCall } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";
import { beginWatch, goesOn } from "./watching.ts";
import type { WatchKind } from "../../protocol/watch-kind.ts";

/** Milliseconds between two looks at what netlink told: a new filter costs more than a message. */
const LOOK_AGAIN_MS = 50;
/** Milliseconds for which an interface that is gone may have frames in a block that is not full. */
const LINGER_MS = 150;
/** errno of a socket whose device went down: ours is bound to none, so nothing is lost. */
const ENETDOWN = 100;
/** Milliseconds for which frames may be in the ring before they are read. */
const IN_RING_MS = 5000;

/** Shares frames with others of a group; null makes one. */
export type Fanout = {
  group: number | null;
  /** Called when the socket has joined. */
  onSocket: (fd: number, group: number) => void;
};

export type RingCaptureOptions = {
  calls: SystemCalls;
  wanted: Wanted;
  /** Each frame's time is set in `clock[0]`, microseconds since the epoch. */
  clock: Float64Array;
  onFrame: OnFrame;
  /** Called with each new watch, before its first frame. */
  onWatch: (watch: Watch) => void;
  /** Called when interfaces may have come or gone since the last `rescan`, to have it called. */
  onChange: () => void;
  log: (level: "info" | "warn" | "error", text: string) => void;
  ringBytes: number;
  /**
   * Room for flows, payload of each side that is handed over, and of which flows at all, if not
   * of all; null hands everything over.
   */
  cutoff: { flows: number; budgetBytes: number; sample?: Draw | null } | null;
  /** Ports of VXLAN beside the usual ones. */
  vxlanPorts?: readonly number[];
  /** Without it all frames come here. */
  fanout?: Fanout;
};

/** A ring that is being read. */
type Open = {
  ring: PacketRing;
  reader: RingReader;
  waiter: RingWaiter;
  cutoff: FlowCutoff | null;
};

export class RingCapture implements LiveSource {
  readonly kind: "ring-cutoff" | "ring";
  readonly passedOver: CutOffFlows | null;
  readonly #options: RingCaptureOptions;
  readonly #watches = new Map<number, Watch>();
  readonly #links: KernelLinks;
  readonly #lanes = new Lanes();
  /** Watches that ended since the last rescan. */
  #ended: Watch[] = [];
  #open: Open | null;
  /** Of rings before this one; and of all, when they were last counted. */
  #droppedBefore = 0;
  #droppedKnown = 0;
  /** Of watches that ended; and of those that live, by interface, when they were last counted. */
  #refusedBefore = 0;
  readonly #refusedBy = new Map<number, number>();
  #isFull = false;
  #isRefused = false;
  /** Every interface is to be looked at: the ring is new. */
  #isNew = true;
  #lookedMs = 0;
  #timer: NodeJS.Timeout | null = null;
  /** When the ring was last read to its end, milliseconds since the epoch. */
  #readMs = 0;
  #isClosed = false;

  /** Throws `RefusedCall`. */
  constructor(options: RingCaptureOptions) {
    this.#options = options;
    const { cutoff } = options;
    this.kind = cutoff ? "ring-cutoff" : "ring";
    this.passedOver = cutoff ? new CutOffFlows(cutoff.budgetBytes, this.#watches) : null;
    this.#links = new KernelLinks(options.calls);
    try {
      this.#open = this.#openRing();
    } catch (error) {
      this.#links.close();
      throw error;
    }
  }

  #openRing(): Open {
    const { calls, clock, onFrame, log, ringBytes } = this.#options;
    const ring = new PacketRing(calls, ringBytes);
    let cutoff: FlowCutoff | null = null;
    try {
      if (this.#options.cutoff) {
        const { flows, budgetBytes, sample = null } = this.#options.cutoff;
        cutoff = new FlowCutoff(calls, flows, budgetBytes, sample, this.#options.vxlanPorts);
        ring.filterBy(cutoff.programFd);
        if (cutoff.withoutTunnels !== null) {
          log("warn", `flows in tunnels are handed over whole: ${cutoff.withoutTunnels}`);
        }
      } else ring.filterInterfaces([], SNAP_BYTES);
      ring.bind();
      if (this.#options.fanout) this.#join(ring, this.#options.fanout);
      const reader = new RingReader(ring.view, BLOCK_BYTES, this.#watches, clock, onFrame);
      const waiter = new RingWaiter({
        ...{ calls, ring: ring.fd, links: this.#links.fd },
        onWake: (wake, errno) => this.#wake(wake, errno),
      });
      this.#readMs = Date.now();
      this.passedOver?.use(cutoff);
      this.#isNew = true;
      return { ring, reader, waiter, cutoff };
    } catch (error) {
      ring.close();
      cutoff?.close();
      throw error;
    }
  }

  /** Before any interface is watched: frames would go to those that are there already. */
  #join(ring: PacketRing, fanout: Fanout): void {
    const { calls } = this.#options;
    const program = loadProgram(calls, "wp_fanout", assembleFanout(this.#options.vxlanPorts));
    try {
      fanout.onSocket(ring.fd, ring.join(fanout.group, program));
    } finally {
      calls.close(program); // the group keeps it
    }
  }

  #wake(wake: number, errno: number): void {
    if ((wake & Wake.frames) !== 0) this.#read();
    if ((wake & Wake.links) !== 0) {
      this.#links.take();
      this.#lookSoon();
    }
    if (errno !== 0 && errno !== ENETDOWN) {
      this.#fail(`its socket reports ${this.#options.calls.errorName(errno)}`);
    }
  }

  /** Reads what is ready; also called from time to time, should no thread wait for the ring. */
  #read(): void {
    const open = this.#open;
    if (open === null) return;
    const nowMs = Date.now();
    if (!open.reader.read()) this.#fail("a block of the ring contradicts itself");
    else if (open.reader.isDrained) this.#readMs = nowMs;
  }

  /**
   * Looks for interfaces at once, but not for each of many that change together, nor before the
   * first `rescan`: what is handed over needs somebody to take it.
   */
  #lookSoon(afterMs = LOOK_AGAIN_MS): void {
    if (this.#timer !== null || this.#isClosed || this.#lookedMs === 0) return;
    const waitMs = Math.max(0, this.#lookedMs + afterMs - Date.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#options.onChange();
    }, waitMs);
  }

  watches(): Watch[] {
    for (const watch of this.#watches.values()) this.#count(watch);
    if (!this.#isFull && this.refused() > 0) {
      this.#isFull = true;
      this.#options.log("warn", "no room to count more flows: they are handed over whole");
    }
    return [...this.#watches.values()];
  }

  #count(watch: Watch): void {
    const interfaces = this.#open?.cutoff?.interfaces;
    if (!interfaces?.read(watch.index)) return;
    watch.cutOff = interfaces.cutOff;
    this.#refusedBy.set(watch.index, interfaces.refused);
  }

  droppedOnAny(): number {
    this.#open?.ring.count();
    const dropped = this.#droppedBefore + (this.#open?.ring.dropped ?? 0);
    if (dropped > this.#droppedKnown && this.passedOver) {
      this.passedOver.lostUs = (Date.now() + IN_RING_MS) * 1000;
    }
    this.#droppedKnown = dropped;
    return dropped;
  }

  refused(): number {
    let refused = this.#refusedBefore;
    for (const count of this.#refusedBy.values()) refused += count;
    return refused;
  }

  rescan(): Watch[] {
    if (this.#open === null) this.#reopen();
    this.droppedOnAny();
    this.#look();
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  /** Looks at the interfaces that have changed. */
  #look(): void {
    this.#read();
    if (this.#open === null) return;
    this.#lookedMs = Date.now();
    let indexes: Iterable<number> = this.#links.changed();
    let isChanged = this.#endLeft();
    if (this.#isNew) indexes = Array.from(this.#links.all(), (link) => link.index);
    this.#isNew = false;
    for (const index of indexes) if (this.#lookAt(index)) isChanged = true;
    if (isChanged && this.#open.cutoff === null) {
      this.#open.ring.filterInterfaces([...this.#watches.keys()], SNAP_BYTES);
    }
  }

  /** Begins or ends the watch of one interface, as it is now; reports whether it did. */
  #lookAt(index: number): boolean {
    const link = this.#links.get(index);
    const kind = link ? watchAs(link, this.#options.wanted) : null;
    const watch = this.#watches.get(index);
    if (watch && goesOn(watch, link, kind, this.#links)) return false;
    if (kind === null) {
      if (watch === undefined || watch.untilMs !== undefined) return false;
      watch.untilMs = this.#lookedMs; // its last frames are still in the ring
      this.#lookSoon(LINGER_MS);
      return false;
    }
    if (watch) this.#end(watch); // the same one under another name, or as something else
    return this.#allow(link!, kind);
  }

  /** Ends the watches of interfaces that left so long ago that all their frames were read. */
  #endLeft(): boolean {
    let some = false;
    for (const watch of this.#watches.values()) {
      if (watch.untilMs === undefined || this.#readMs < watch.untilMs + LINGER_MS) continue;
      this.#end(watch);
      this.#lookAt(watch.index); // where another has its number by now
      some = true;
    }
    return some;
  }

  #end(watch: Watch): void {
    this.#forbid(watch);
    this.#ended.push(watch);
    this.#options.log("info", `no longer watching ${watch.name}: the interface is gone`);
  }

  /** Begins a watch; reports whether there was room for it. */
  #allow(link: Link, kind: WatchKind): boolean {
    const { name, index, hardware } = link;
    if (this.#open?.cutoff?.interfaces.allow(index, hardware) === false) {
      this.#options.log("error", `${name} is not watched: too many interfaces are`);
      return false;
    }
    const watch = beginWatch(link, kind, this.#lanes.take(), this.#links);
    this.#watches.set(index, watch);
    this.passedOver?.know(watch.lane, index);
    this.#options.onWatch(watch);
    this.#options.log("info", `watching ${name}`);
    return true;
  }

  #forbid(watch: Watch): void {
    this.#count(watch);
    this.#watches.delete(watch.index);
    this.#lanes.free(watch.lane);
    this.#refusedBefore += this.#refusedBy.get(watch.index) ?? 0;
    this.#refusedBy.delete(watch.index);
    this.#open?.cutoff?.interfaces.forbid(watch.index);
  }

  /**
   * The ring cannot be read on: its watches end where it was last read whole. One that shares
   * frames would lose its place among the others: that is a fault, behind which the place is kept.
   */
  #fail(reason: string): void {
    if (this.#open === null) return;
    if (this.#options.fanout) throw new Error(`the packet ring cannot be read on: ${reason}`);
    this.#options.log("error", `the packet ring is opened anew: ${reason}`);
    for (const watch of this.#watches.values()) {
      this.#forbid(watch);
      this.#ended.push({ ...watch, untilMs: Math.min(watch.untilMs ?? Infinity, this.#readMs) });
    }
    this.passedOver?.use(null);
    this.#closeRing();
  }

  /** Tried at each rescan until it succeeds; told when it does not. */
  #reopen(): void {
    if (this.#isClosed) return;
    try {
      this.#open = this.#openRing();
      this.#isRefused = false;
    } catch (error) {
      if (!(error instanceof RefusedCall)) throw error;
      if (!this.#isRefused) {
        this.#options.log("error", `cannot open the packet ring: ${error.message}`);
      }
      this.#isRefused = true; // told once for as long as it lasts
    }
  }

  #closeRing(onClosed: () => void = () => {}): void {
    const open = this.#open;
    if (open === null) return onClosed();
    const { ring, waiter, cutoff } = open;
    ring.count();
    this.#droppedBefore += ring.dropped;
    this.#open = null;
    waiter.close(() => {
      ring.close();
      cutoff?.close();
      onClosed();
    });
  }

  /** What was counted of flows can be asked for until the event loop turns. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#read();
    this.#closeRing(() => {
      this.passedOver?.use(null);
      this.#links.close();
    });
  }
}
