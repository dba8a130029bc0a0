/** Captures live through one packet ring for all interfaces; interfaces may come and go. */
import type { LiveSource, OnLiveFrame, Watch } from "./frame-source.ts";
import { SNAP_BYTES } from "./frame-source.ts";
import { loadProgram } from "./bpf-program.ts";
import { assembleFanout } from "./fanout-program.ts";
import { FlowCutoff } from "./flow-cutoff.ts";
import { listInterfaces } from "./interfaces.ts";
import type { HostInterface } from "./interfaces.ts";
import { PacketRing, BLOCK_BYTES } from "./packet-ring.ts";
import { CutOffFlows } from "./cut-off-flows.ts";
import { RingReader } from "./ring-reader.ts";
import { RingWaiter } from "./ring-waiter.ts";
import { AF_NETLINK, RefusedCall, SOCK_RAW } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";
import { Wake } from "./wake.ts";

/** NETLINK_ROUTE; RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE (linux/rtnetlink.h). */
const NETLINK_ROUTE = 0;
const LINKS_AND_ROUTES = 0x1 | 0x40 | 0x400;
/** Milliseconds after which interfaces are listed although nothing told of a change. */
const LOOK_ANYWAY_MS = 30_000;
/** Milliseconds between two listings because of what netlink told. */
const LOOK_AGAIN_MS = 50;
/** Milliseconds for which an interface that is gone may have frames in a block that is not full. */
const LINGER_MS = 150;
/** errno of a socket whose device went down: ours is bound to none, so nothing is lost. */
const ENETDOWN = 100;

/** Shares frames with others of a group; null makes one. */
export type Fanout = {
  group: number | null;
  /** Called when a socket has joined, in place of the one before it. */
  onSocket: (fd: number, group: number) => void;
};

export type RingCaptureOptions = {
  calls: SystemCalls;
  pattern: RegExp | null;
  /** Each frame's time is set in `clock[0]`, microseconds since the epoch. */
  clock: Float64Array;
  onFrame: OnLiveFrame;
  /** Called when interfaces came or went between two calls of `rescan`. */
  onChange: () => void;
  log: (level: "info" | "warn" | "error", text: string) => void;
  ringBytes: number;
  /** Room for flows, and payload of each side that is handed over; null hands everything over. */
  cutoff: { flows: number; budgetBytes: number } | null;
  /** Without it all frames come here. */
  fanout?: Fanout;
  /** Another waiting thread than the usual, for tests of its faults. */
  worker?: URL;
};

/** A ring that is being read. */
type Open = {
  ring: PacketRing;
  reader: RingReader;
  waiter: RingWaiter;
  links: number;
  cutoff: FlowCutoff | null;
};

export class RingCapture implements LiveSource {
  readonly kind: "ring-cutoff" | "ring";
  readonly passedOver: CutOffFlows | null;
  readonly #options: RingCaptureOptions;
  readonly #watches = new Map<number, Watch>();
  /** Watches that ended since the last rescan. */
  #ended: Watch[] = [];
  #lanes = 0;
  #open: Open | null;
  /** Of rings before this one. */
  #droppedBefore = 0;
  #refusedBefore = 0;
  #isFull = false;
  #isRefused = false;
  #faultsBefore = 0;
  #isStale = true;
  #lookedMs = 0;
  #timer: NodeJS.Timeout | null = null;
  /** When the ring was last read to its end, milliseconds since the epoch. */
  #readMs = 0;
  #isClosed = false;
  /** That shares frames; null before one was joined. */
  #group: number | null = null;

  /** Throws `RefusedCall`. */
  constructor(options: RingCaptureOptions) {
    this.#options = options;
    const { cutoff } = options;
    this.kind = cutoff ? "ring-cutoff" : "ring";
    this.passedOver = cutoff ? new CutOffFlows(cutoff.budgetBytes, this.#watches) : null;
    this.#open = this.#openRing();
  }

  #openRing(): Open {
    const { calls, clock, onFrame, log, ringBytes, worker } = this.#options;
    const ring = new PacketRing(calls, ringBytes);
    let links = -1;
    let cutoff: FlowCutoff | null = null;
    try {
      if (this.#options.cutoff) {
        const { flows, budgetBytes } = this.#options.cutoff;
        cutoff = new FlowCutoff(calls, flows, budgetBytes);
        ring.filterBy(cutoff.programFd);
        if (cutoff.withoutTunnels !== null) {
          log("warn", `flows in tunnels are handed over whole: ${cutoff.withoutTunnels}`);
        }
      } else ring.filterInterfaces([], SNAP_BYTES);
      ring.bind();
      if (this.#options.fanout) this.#join(ring, this.#options.fanout);
      links = this.#openLinks();
      const reader = new RingReader(ring.view, BLOCK_BYTES, this.#watches, clock, onFrame);
      const waiter = new RingWaiter({
        ...{ calls, ring: ring.fd, links, log },
        ...(worker ? { worker } : {}),
        onWake: (wake, errno) => this.#wake(wake, errno),
      });
      this.#readMs = Date.now();
      this.passedOver?.use(cutoff);
      return { ring, reader, waiter, links, cutoff };
    } catch (error) {
      ring.close();
      cutoff?.close();
      if (links >= 0) calls.close(links);
      throw error;
    }
  }

  /** Before any interface is watched: frames would go to those that are there already. */
  #join(ring: PacketRing, fanout: Fanout): void {
    const { calls } = this.#options;
    const program = loadProgram(calls, "wp_fanout", assembleFanout());
    try {
      this.#group = ring.join(this.#group ?? fanout.group, program);
      fanout.onSocket(ring.fd, this.#group);
    } finally {
      calls.close(program); // the group keeps it
    }
  }

  /** A socket that tells of interfaces and routes that change. */
  #openLinks(): number {
    const { calls } = this.#options;
    const attempt = "netlink socket";
    const fd = calls.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, attempt);
    const address = new Uint8Array(Uint32Array.of(AF_NETLINK, 0, LINKS_AND_ROUTES).buffer);
    try {
      calls.bind(fd, address, attempt); // struct sockaddr_nl
      return fd;
    } catch (error) {
      calls.close(fd);
      throw error;
    }
  }

  #wake(wake: number, errno: number): void {
    if ((wake & Wake.frames) !== 0) this.#read();
    if ((wake & (Wake.links | Wake.routes)) !== 0) this.#isStale = true;
    if ((wake & Wake.links) !== 0) this.#lookSoon();
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

  /** Looks for interfaces at once, but not for each of many that change together. */
  #lookSoon(afterMs = LOOK_AGAIN_MS): void {
    if (this.#timer !== null || this.#isClosed) return;
    const waitMs = Math.max(0, this.#lookedMs + afterMs - Date.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (this.#look()) this.#options.onChange();
    }, waitMs);
  }

  watches(): Watch[] {
    for (const watch of this.#watches.values()) this.#countCutOff(watch);
    return [...this.#watches.values()];
  }

  #countCutOff(watch: Watch): void {
    const cutoff = this.#open?.cutoff;
    if (cutoff?.readInterface(watch.index)) watch.cutOff = cutoff.cutOff;
  }

  droppedOnAny(): number {
    this.#open?.ring.count();
    const dropped = this.#droppedBefore + (this.#open?.ring.dropped ?? 0);
    if (dropped > 0 && this.passedOver) this.passedOver.hasLost = true;
    return dropped;
  }

  refused(): number {
    let refused = this.#refusedBefore;
    const cutoff = this.#open?.cutoff;
    for (const { index } of this.#watches.values()) {
      if (cutoff?.readInterface(index)) refused += cutoff.refused;
    }
    return refused;
  }

  /** Times that the waiting thread ended by a fault. */
  get faults(): number {
    return this.#faultsBefore + (this.#open?.waiter.faults ?? 0);
  }

  rescan(): Watch[] {
    if (this.#open === null) this.#reopen();
    this.droppedOnAny();
    if (!this.#isFull && this.refused() > 0) {
      this.#isFull = true;
      this.#options.log("warn", "no room to count more flows: they are handed over whole");
    }
    this.#look();
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  /** Lists interfaces where they may have changed; reports whether any came or went. */
  #look(): boolean {
    this.#read();
    if (this.#open === null) return false;
    const nowMs = Date.now();
    const isEnding = this.#endLeft();
    if (!this.#isStale && nowMs - this.#lookedMs < LOOK_ANYWAY_MS) return isEnding;
    this.#isStale = false;
    this.#lookedMs = nowMs;
    const found = new Map(listInterfaces(this.#options.pattern).map((i) => [i.index, i]));
    let changed = false;
    for (const [index, watch] of this.#watches) {
      const now = found.get(index);
      if (now && now.name === watch.name) watch.addresses = now.addresses;
      else if (now)
        this.#end(watch); // the same one under another name
      else if (watch.untilMs === undefined) {
        watch.untilMs = nowMs; // its last frames are still in the ring
        this.#lookSoon(LINGER_MS);
      }
    }
    for (const [index, host] of found) {
      if (this.#watches.has(index)) continue;
      changed = true;
      this.#allow(host);
      this.#options.log("info", `watching ${host.name}`);
    }
    if (changed && this.#open.cutoff === null) {
      this.#open.ring.filterInterfaces([...this.#watches.keys()], SNAP_BYTES);
    }
    return changed || isEnding;
  }

  /** Ends the watches of interfaces that left so long ago that all their frames were read. */
  #endLeft(): boolean {
    let some = false;
    for (const watch of this.#watches.values()) {
      if (watch.untilMs === undefined || this.#readMs < watch.untilMs + LINGER_MS) continue;
      this.#end(watch);
      some = true;
    }
    return some;
  }

  #end(watch: Watch): void {
    this.#forbid(watch);
    this.#ended.push(watch);
    this.#options.log("info", `no longer watching ${watch.name}: the interface is gone`);
  }

  #allow({ name, index, hardware, addresses }: HostInterface): void {
    const lane = this.#lanes++ & 0xffff;
    const counters = { delivered: 0, dropped: 0, cutOff: 0 };
    this.#watches.set(index, { name, index, lane, addresses, ...counters });
    this.passedOver?.know(lane, index);
    this.#open?.cutoff?.allow(index, hardware);
  }

  #forbid(watch: Watch): void {
    const cutoff = this.#open?.cutoff;
    this.#watches.delete(watch.index);
    if (!cutoff?.readInterface(watch.index)) return;
    watch.cutOff = cutoff.cutOff;
    this.#refusedBefore += cutoff.refused;
    cutoff.forbid(watch.index);
  }

  /** The ring cannot be read on: its watches end where it was last read whole. */
  #fail(reason: string): void {
    if (this.#open === null) return;
    this.#options.log("error", `the packet ring is opened anew: ${reason}`);
    for (const watch of this.#watches.values()) {
      this.#forbid(watch);
      this.#ended.push({ ...watch, untilMs: Math.min(watch.untilMs ?? Infinity, this.#readMs) });
    }
    this.#closeRing();
    this.#isStale = true;
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

  #closeRing(): void {
    const open = this.#open;
    if (open === null) return;
    const { ring, waiter, links, cutoff } = open;
    ring.count();
    this.#droppedBefore += ring.dropped;
    this.#faultsBefore += waiter.faults;
    this.#open = null;
    this.passedOver?.use(null);
    waiter.close(() => {
      ring.close();
      cutoff?.close();
      this.#options.calls.close(links);
    });
  }

  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#read();
    this.#closeRing();
  }
}
