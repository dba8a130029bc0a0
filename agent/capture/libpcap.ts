/** Captures live through npm `pcap`, one session per interface; interfaces may come and go. */
import { createRequire } from "node:module";
import { endianness } from "node:os";
import { ConfigError } from "../../protocol/config-error.ts";
import type { WatchKind } from "../../protocol/watch-kind.ts";
import { SNAP_BYTES } from "./frame-source.ts";
import type { LiveSource, OnFrame, Watch } from "./frame-source.ts";
import { watchAs } from "./interfaces.ts";
import type { Wanted } from "./interfaces.ts";
import { Lanes } from "./lanes.ts";
import { KernelLinks } from "./links.ts";
import type { Links } from "./links.ts";
import type { Link } from "./rtnetlink.ts";
import { SysfsLinks } from "./sysfs-links.ts";
import { RefusedCall, SystemCalls } from "./system-calls.ts";
import { beginWatch, goesOn } from "./watching.ts";

/** Kernel buffer of one session. */
const BUFFER_BYTES = 2 << 20;
/** Milliseconds after which the kernel hands over a block that is not full. */
const BLOCK_TIMEOUT_MS = 50;

const LINK_TYPES: ReadonlyMap<string, number> = new Map([
  ["LINKTYPE_NULL", 0],
  ["LINKTYPE_ETHERNET", 1],
  ["LINKTYPE_RAW", 101],
  ["LINKTYPE_LINUX_SLL", 113],
]);

/** What is used of npm `pcap` (3.x); its own types lack the inner session. */
type PcapSession = {
  buf: Buffer;
  header: Buffer;
  link_type: string;
  session: { read_callback: () => void; dispatch(buf: Buffer, header: Buffer): number };
  on(event: "packet", listener: () => void): void;
  stats(): { ps_recv: number; ps_drop: number; ps_ifdrop: number };
  close(): void;
};
type Pcap = { createSession(device: string, options: object): PcapSession };

type Open = Watch & { session: PcapSession };

export type LibpcapOptions = {
  wanted: Wanted;
  clock: Float64Array;
  onFrame: OnFrame;
  /** Called with each new watch, before its first frame. */
  onWatch: (watch: Watch) => void;
  log: (level: "info" | "warn" | "error", text: string) => void;
};

/** By rtnetlink; where no system calls can be made, by the files of sysfs. */
function openLinks(): Links {
  try {
    return new KernelLinks(new SystemCalls());
  } catch (error) {
    if (!(error instanceof RefusedCall)) throw error;
    return new SysfsLinks();
  }
}

/** Loads the addon late: reading files needs none of it. */
function loadPcap(): Pcap {
  try {
    return createRequire(import.meta.url)("pcap") as Pcap;
  } catch (error) {
    throw new ConfigError(
      "CONFIG_NO_PCAP",
      "cannot capture live: the addon `pcap` is not built for this Node " +
        "(needs libpcap-dev and a C++ compiler; scripts/demo and scripts/test build it)",
      error,
    );
  }
}

export class Libpcap implements LiveSource {
  readonly kind = "libpcap";
  readonly passedOver = null;
  readonly #options: LibpcapOptions;
  readonly #pcap: Pcap;
  readonly #watches = new Map<number, Open>();
  readonly #links: Links;
  readonly #lanes = new Lanes();
  /** Watches that ended since the last rescan, whoever noticed. */
  #ended: Watch[] = [];
  /** Interfaces whose capture was refused, or ended: it is tried again with each rescan. */
  readonly #waiting = new Set<number>();
  readonly #refused = new Set<number>();

  constructor(options: LibpcapOptions) {
    this.#options = options;
    this.#pcap = loadPcap();
    this.#links = openLinks();
  }

  watches(): Watch[] {
    for (const watch of this.#watches.values()) this.#readDrops(watch);
    return [...this.#watches.values()];
  }

  /** Each session tells its own drops. */
  droppedOnAny(): number {
    return 0;
  }

  refused(): number {
    return 0;
  }

  rescan(): Watch[] {
    for (const index of new Set([...this.#links.changed(), ...this.#waiting])) {
      this.#lookAt(index);
    }
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  /** Begins or ends the watch of one interface, as it is now. */
  #lookAt(index: number): void {
    const link = this.#links.get(index);
    const kind = link ? watchAs(link, this.#options.wanted) : null;
    const watch = this.#watches.get(index);
    if (watch && goesOn(watch, link, kind, this.#links)) return;
    if (watch) this.#end(watch, "the interface is gone");
    this.#waiting.delete(index);
    if (kind !== null) this.#open(link!, kind);
    else this.#refused.delete(index);
  }

  #open(link: Link, kind: WatchKind): void {
    const { name, index } = link;
    let session: PcapSession;
    try {
      session = this.#pcap.createSession(name, {
        filter: "",
        snap_length: SNAP_BYTES,
        buffer_size: BUFFER_BYTES,
        buffer_timeout: BLOCK_TIMEOUT_MS,
        promiscuous: false,
      });
    } catch (error) {
      this.#waiting.add(index);
      if (this.#refused.has(index)) return; // told once for as long as it lasts
      this.#refused.add(index);
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log("error", `cannot open capture on ${name}: ${reason}`);
      return;
    }
    this.#refused.delete(index);
    const watch: Open = { ...beginWatch(link, kind, this.#lanes.take(), this.#links), session };
    this.#watches.set(index, watch);
    this.#options.onWatch(watch);
    this.#hand(watch);
    this.#options.log("info", `watching ${name}`);
  }

  /** Hands the session's frames on; the header is `struct pcap_pkthdr` with 32-bit times. */
  #hand(watch: Open): void {
    const { session } = watch;
    const { buf, header } = session;
    const view = new DataView(buf.buffer, buf.byteOffset, buf.length);
    const head = new DataView(header.buffer, header.byteOffset, header.length);
    const little = endianness() === "LE";
    const linkType = LINK_TYPES.get(session.link_type) ?? -1;
    const { clock, onFrame } = this.#options;
    session.on("packet", () => {
      watch.delivered++;
      clock[0] = head.getUint32(0, little) * 1e6 + head.getUint32(4, little);
      const captured = Math.min(head.getUint32(8, little), buf.length);
      onFrame(view, 0, captured, head.getUint32(12, little), linkType, watch.lane, 0);
    });
    // The addon throws out of its callback when the interface vanishes under it.
    const inner = session.session;
    inner.read_callback = () => {
      try {
        inner.dispatch(buf, header);
      } catch {
        this.#end(watch, "its capture ended");
      }
    };
  }

  #readDrops(watch: Open): void {
    try {
      const stats = watch.session.stats();
      watch.dropped = stats.ps_drop;
    } catch {
      // The session has just ended: what was counted stands.
    }
  }

  #end(watch: Open, why: string): void {
    if (this.#watches.get(watch.index) !== watch) return;
    this.#readDrops(watch);
    this.#watches.delete(watch.index);
    this.#lanes.free(watch.lane);
    this.#waiting.add(watch.index);
    this.#ended.push(watch);
    try {
      watch.session.close();
    } catch {
      // Closed by its own failure.
    }
    this.#options.log("info", `no longer watching ${watch.name}: ${why}`);
  }

  close(): void {
    for (const watch of [...this.#watches.values()]) this.#end(watch, "stopped");
    this.#links.close();
  }
}
