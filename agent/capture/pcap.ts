/** Reads libpcap's savefiles and their kin: a file header, then packets behind theirs. */
import type { Format, Interface, Taker } from "./file-format.ts";
import { FRAME_LIMIT } from "./frame-source.ts";
import { WRAPPED_LINKS } from "./link-names.ts";

/** How a kind of file differs; both headers in bytes. */
export type PcapVariant = { fileHeader: number; packetHeader: number; isNano: boolean };

/** By the first four bytes, in the file's own byte order. */
export const PCAP_VARIANTS: ReadonlyMap<number, PcapVariant> = new Map([
  [0xa1b2c3d4, { fileHeader: 24, packetHeader: 16, isNano: false }],
  [0xa1b23c4d, { fileHeader: 24, packetHeader: 16, isNano: true }],
  // Alexey Kuznetzov's: interface index, protocol and packet type behind each packet's header.
  [0xa1b2cd34, { fileHeader: 24, packetHeader: 24, isNano: false }],
  // IXIA's hardware and software captures: how long all packets are, behind the file's header
  // (Wireshark 4.0, wiretap/libpcap.c).
  [0x1c0001ac, { fileHeader: 28, packetHeader: 16, isNano: true }],
  [0x1c0001ab, { fileHeader: 28, packetHeader: 16, isNano: false }],
]);

export class Pcap implements Format {
  damage: string | null = null;
  frames = 0;
  readonly interfaces: Interface[];
  wrapped: Interface | null;
  readonly isLittle: boolean;
  readonly #variant: PcapVariant;
  readonly #clock: Float64Array;

  /** `view` begins with the file's header. */
  constructor(view: DataView, isLittle: boolean, variant: PcapVariant, taker: Taker) {
    this.isLittle = isLittle;
    this.#variant = variant;
    this.#clock = taker.clock;
    const linkType = view.getUint32(20, isLittle) & 0xffff; // above: FCS length and flags
    const only = { name: "", linkType, onFrame: taker.onFrame };
    this.interfaces = [only];
    this.wrapped = WRAPPED_LINKS.has(linkType) ? only : null;
  }

  /** seconds(4) | fraction(4) | captured length(4) | wire length(4) | bytes */
  take(view: DataView, length: number): number {
    const { isLittle } = this;
    const { packetHeader, isNano } = this.#variant;
    const { linkType, onFrame } = this.interfaces[0]!;
    let at = 0;
    while (length - at >= packetHeader) {
      const captured = view.getUint32(at + 8, isLittle);
      if (captured > FRAME_LIMIT) {
        this.damage = `a packet claims ${captured} captured bytes`;
        return at;
      }
      const end = at + packetHeader + captured;
      if (end > length) return at;
      const seconds = view.getUint32(at, isLittle);
      const fraction = view.getUint32(at + 4, isLittle);
      this.#clock[0] = seconds * 1e6 + (isNano ? Math.floor(fraction / 1000) : fraction);
      const wire = view.getUint32(at + 12, isLittle);
      this.frames++;
      onFrame(view, at + packetHeader, end, wire, linkType, 0, 0);
      at = end;
    }
    return at;
  }
}
