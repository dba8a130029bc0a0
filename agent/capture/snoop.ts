/** Reads snoop's captures (RFC 1761), of Solaris and illumos. */
import type { Format, Interface, Taker } from "./file-format.ts";
import { FRAME_LIMIT } from "./frame-source.ts";
import { SNOOP_LINKS } from "./link-names.ts";

/** Link types of LINKTYPE_ by snoop's (RFC 1761 §4; IANA, snoop Datalink Types). */
const LINK_TYPES: ReadonlyMap<number, number> = new Map([
  [0, 1], // IEEE 802.3
  [2, 6], // IEEE 802.5
  [4, 1], // Ethernet
  [8, 10], // FDDI
]);

const VERSION = 2;
const PACKET_HEADER = 24;

export class Snoop implements Format {
  damage: string | null = null;
  frames = 0;
  readonly interfaces: Interface[];
  readonly wrapped = null;
  readonly isLittle = false;
  readonly #clock: Float64Array;

  /** "snoop" and three zeros(8) | version(4) | link type(4), all big-endian (§3) */
  constructor(view: DataView, taker: Taker) {
    this.#clock = taker.clock;
    const version = view.getUint32(8);
    const told = view.getUint32(12);
    const linkType = LINK_TYPES.get(told) ?? SNOOP_LINKS + told;
    this.interfaces = [{ name: "", linkType, onFrame: taker.onFrame }];
    if (version !== VERSION) this.damage = `it is of snoop's version ${version}`;
  }

  /**
   * wire length(4) | captured length(4) | record length(4) | drops so far(4) | seconds(4) |
   * microseconds(4) | bytes | padding, to the record's length (§4)
   */
  take(view: DataView, length: number): number {
    const { linkType, onFrame } = this.interfaces[0]!;
    let at = 0;
    while (this.damage === null && length - at >= PACKET_HEADER) {
      const captured = view.getUint32(at + 4);
      const record = view.getUint32(at + 8);
      if (captured > FRAME_LIMIT || record > FRAME_LIMIT || record < PACKET_HEADER + captured) {
        this.damage = `a packet claims ${captured} captured bytes in ${record} of its record`;
        return at;
      }
      if (at + record > length) return at;
      this.#clock[0] = view.getUint32(at + 16) * 1e6 + view.getUint32(at + 20);
      this.frames++;
      const bytesAt = at + PACKET_HEADER;
      onFrame(view, bytesAt, bytesAt + captured, view.getUint32(at), linkType, 0, 0);
      at += record;
    }
    return at;
  }
}
