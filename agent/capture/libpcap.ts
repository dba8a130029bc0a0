/** Captures live through npm `pcap`, one session per interface; interfaces may come and go. */
import { createRequire } from "node:module";
import { endianness } from "node:os";
import { ConfigError } from "../../protocol/config-error.ts";
import { SNAP_BYTES } from "./frame-source.ts";
import type { LiveSource, OnLiveFrame, Watch } from "./frame-source.ts";
import { listInterfaces } from "./interfaces.ts";
import type { HostInterface } from "./interfaces.ts";

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
  pattern: RegExp | null;
  clock: Float64Array;
  onFrame: OnLiveFrame;
  log: (level: "info" | "warn" | "error", text: string) => void;
};

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
  readonly #watches = new Map<string, Open>();
  /** Watches that ended since the last rescan, whoever noticed. */
  #ended: Watch[] = [];
  #lanes = 0;
  readonly #refused = new Set<string>();

  constructor(options: LibpcapOptions) {
    this.#options = options;
    this.#pcap = loadPcap();
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
    const found = new Map(listInterfaces(this.#options.pattern).map((i) => [i.name, i]));
    for (const [name, watch] of this.#watches) {
      const now = found.get(name);
      if (now && now.index === watch.index) {
        watch.addresses = now.addresses;
        continue;
      }
      this.#end(watch, "the interface is gone");
    }
    for (const [name, host] of found) if (!this.#watches.has(name)) this.#open(host);
    for (const name of this.#refused) if (!found.has(name)) this.#refused.delete(name);
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  #open(host: HostInterface): void {
    let session: PcapSession;
    try {
      session = this.#pcap.createSession(host.name, {
        filter: "",
        snap_length: SNAP_BYTES,
        buffer_size: BUFFER_BYTES,
        buffer_timeout: BLOCK_TIMEOUT_MS,
        promiscuous: false,
      });
    } catch (error) {
      if (this.#refused.has(host.name)) return; // told once for as long as it lasts
      this.#refused.add(host.name);
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log("error", `cannot open capture on ${host.name}: ${reason}`);
      return;
    }
    this.#refused.delete(host.name);
    const lane = this.#lanes++ & 0xffff;
    const { name, index, addresses } = host;
    const counters = { delivered: 0, dropped: 0, cutOff: 0 };
    const watch: Open = { name, index, addresses, lane, ...counters, session };
    this.#watches.set(host.name, watch);
    this.#hand(watch);
    this.#options.log("info", `watching ${host.name}`);
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
    if (this.#watches.get(watch.name) !== watch) return;
    this.#readDrops(watch);
    this.#watches.delete(watch.name);
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
  }
}
