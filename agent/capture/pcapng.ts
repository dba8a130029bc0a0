/** Reads the blocks of pcapng files (draft-ietf-opsawg-pcapng §4). */
import type { Format, Interface, Taker } from "./file-format.ts";
import { FRAME_LIMIT } from "./frame-source.ts";
import type { OnFrame } from "./frame-source.ts";
import { WRAPPED_LINKS } from "./link-names.ts";
import { readResolution, toMicroseconds } from "./resolution.ts";
import type { Resolution } from "./resolution.ts";

/** Block types (§11.1). */
const Block = {
  section: 0x0a0d0d0a,
  interface: 1,
  packet: 2, // obsolete
  simplePacket: 3,
  enhancedPacket: 6,
} as const;

/** Options of an interface description (§4.2), and of an enhanced packet (§4.3). */
const Option = { end: 0, name: 2, flags: 2, resolution: 9, offset: 14 } as const;

/** What a description tells of its interface's packets. */
type Description = Interface & {
  /** Most captured bytes of a packet; 0 where there is no limit. */
  snapLength: number;
  resolution: Resolution;
  /** To be added to each timestamp. */
  offsetUs: number;
};

/** Without `if_tsresol`: microseconds. */
const DEFAULT_RESOLUTION = readResolution(6);

/** Largest block that is believed: a frame with its options. */
const BLOCK_LIMIT = FRAME_LIMIT + (1 << 16);
/** Most interfaces of one section. */
const INTERFACES_LIMIT = 65535;

class Pcapng implements Format {
  damage: string | null = null;
  frames = 0;
  /** Of all sections, in the order of the file; a frame's lane is its place here. */
  readonly interfaces: Description[] = [];
  wrapped: Interface | null = null;
  /** Of the current section. */
  isLittle = false;
  /** Where the current section's interfaces begin. */
  #first = 0;
  readonly #clock: Float64Array;
  readonly #onFrame: OnFrame;

  constructor({ clock, onFrame }: Taker) {
    this.#clock = clock;
    this.#onFrame = onFrame;
  }

  /** type(4) | total length(4) | body, padded to 4 | total length(4) */
  take(view: DataView, length: number): number {
    let at = 0;
    while (length - at >= 12) {
      if (view.getUint32(at) === Block.section) {
        const magic = view.getUint32(at + 8);
        if (magic !== 0x1a2b3c4d && magic !== 0x4d3c2b1a) {
          this.damage = "a section header has an unknown byte order";
          return at;
        }
        this.isLittle = magic === 0x4d3c2b1a;
      }
      const type = view.getUint32(at, this.isLittle);
      const total = view.getUint32(at + 4, this.isLittle);
      if (total < 12 || total % 4 !== 0 || total > BLOCK_LIMIT) {
        this.damage = `a block claims ${total} bytes`;
        return at;
      }
      if (at + total > length) return at;
      this.#takeBlock(type, view, at + 8, at + total - 4);
      if (this.damage) return at;
      at += total;
      if (this.wrapped) return at;
    }
    return at;
  }

  #takeBlock(type: number, view: DataView, at: number, end: number): void {
    switch (type) {
      case Block.section:
        this.#first = this.interfaces.length;
        return;
      case Block.interface:
        this.#takeInterface(view, at, end);
        return;
      case Block.enhancedPacket:
        if (end - at < 20) return this.#spoil("an enhanced packet block is too short");
        return this.#takePacket(view, view.getUint32(at, this.isLittle), at + 4, end);
      case Block.packet:
        if (end - at < 20) return this.#spoil("a packet block is too short");
        return this.#takePacket(view, view.getUint16(at, this.isLittle), at + 4, end);
      case Block.simplePacket: {
        if (end - at < 4) return this.#spoil("a simple packet block is too short");
        const description = this.interfaces[this.#first];
        if (!description) return this.#spoil("a packet names an interface that is not described");
        const wire = view.getUint32(at, this.isLittle);
        // How much of it was captured is told by the interface alone (§4.4); the rest is padding.
        const captured = Math.min(wire, description.snapLength || wire, end - at - 4);
        this.frames++;
        this.#clock[0] = 0;
        const { linkType, onFrame } = description;
        onFrame(view, at + 4, at + 4 + captured, wire, linkType, this.#first, 0);
        return;
      }
    }
  }

  /** timestamp high(4) | low(4) | captured length(4) | wire length(4) | bytes | options */
  #takePacket(view: DataView, id: number, at: number, end: number): void {
    const { isLittle } = this;
    const description = this.interfaces[this.#first + id];
    if (!description) return this.#spoil("a packet names an interface that is not described");
    const high = view.getUint32(at, isLittle);
    const low = view.getUint32(at + 4, isLittle);
    const captured = view.getUint32(at + 8, isLittle);
    const wire = view.getUint32(at + 12, isLittle);
    if (captured > end - at - 16) return this.#spoil(`a packet claims ${captured} captured bytes`);
    const { linkType, onFrame, resolution, offsetUs } = description;
    this.#clock[0] = toMicroseconds(high, low, resolution) + offsetUs;
    this.frames++;
    const lane = this.#first + id;
    const options = at + 16 + ((captured + 3) & ~3);
    const direction = this.#directionOf(view, options, end);
    onFrame(view, at + 16, at + 16 + captured, wire, linkType, lane, direction);
  }

  /** The lowest two bits of epb_flags (§4.3.1): 1 inbound, 2 outbound; 0 where it is not there. */
  #directionOf(view: DataView, at: number, end: number): number {
    const { isLittle } = this;
    while (end - at >= 8) {
      const code = view.getUint16(at, isLittle);
      if (code === Option.end) return 0;
      if (code === Option.flags) return view.getUint32(at + 4, isLittle) & 3;
      at += 4 + ((view.getUint16(at + 2, isLittle) + 3) & ~3);
    }
    return 0;
  }

  /** link type(2) | reserved(2) | snap length(4) | options */
  #takeInterface(view: DataView, at: number, end: number): void {
    if (end - at < 8) return this.#spoil("an interface description is too short");
    if (this.interfaces.length >= INTERFACES_LIMIT) return this.#spoil("too many interfaces");
    const { isLittle } = this;
    const description: Description = {
      name: "",
      linkType: view.getUint16(at, isLittle),
      onFrame: this.#onFrame,
      snapLength: view.getUint32(at + 4, isLittle),
      resolution: DEFAULT_RESOLUTION,
      offsetUs: 0,
    };
    at += 8;
    while (end - at >= 4) {
      const code = view.getUint16(at, isLittle);
      const length = view.getUint16(at + 2, isLittle);
      at += 4;
      if (code === Option.end || at + length > end) break;
      if (code === Option.name) {
        const bytes = new Uint8Array(view.buffer, view.byteOffset + at, length);
        description.name = new TextDecoder().decode(bytes).replace(/\0+$/, "");
      } else if (code === Option.resolution && length >= 1) {
        description.resolution = readResolution(view.getUint8(at));
      } else if (code === Option.offset && length >= 8) {
        description.offsetUs = Number(view.getBigInt64(at, isLittle)) * 1e6;
      }
      at += (length + 3) & ~3;
    }
    this.interfaces.push(description);
    if (WRAPPED_LINKS.has(description.linkType)) this.wrapped = description;
  }

  #spoil(what: string): void {
    this.damage = what;
  }
}

export function readPcapng(to: Taker): Format {
  return new Pcapng(to);
}
