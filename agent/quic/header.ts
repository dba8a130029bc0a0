/** Reads the clear part of QUIC's long headers, packet by packet of a datagram. */
import { Cursor } from "../read/cursor.ts";
import { PacketType, quicVersionOf } from "./version.ts";
import type { QuicVersion } from "./version.ts";

export const CONNECTION_ID_LIMIT = 20;

/**
 * Reads a variable-length integer (RFC 9000 §16); those beyond 2^53 - 1 fail the cursor, since no
 * length or offset that is read here can be that large.
 */
export function readVarint(c: Cursor): number {
  const first = c.uint8();
  const low6 = first & 0x3f;
  switch (first >> 6) {
    case 0:
      return low6;
    case 1:
      return (low6 << 8) | c.uint8();
    case 2:
      return (low6 << 24) | c.uint24();
    default: {
      const high = ((low6 << 24) | c.uint24()) >>> 0;
      const low = c.uint32() >>> 0;
      if (high >= 1 << 21) c.fail();
      return high * 2 ** 32 + low;
    }
  }
}

/** A long header; positions are in the view that it was read from. */
export type LongHeader = {
  /** Null where the version is not known: nothing behind the connection ids is read then. */
  version: QuicVersion | null;
  versionNumber: number;
  type: PacketType;
  /** Where the packet and its destination connection id begin. */
  at: number;
  destinationAt: number;
  destinationLength: number;
  /** Where the protected packet number begins, and where the packet ends. */
  numberAt: number;
  end: number;
};

/**
 * Reads the long header at `at` (RFC 9000 §17.2):
 *
 *     1 F T T R R P P | version(4) | length, destination id | length, source id |
 *     Initial: token length, token | length | packet number …
 *
 * Null where it contradicts itself or the datagram. A Retry, a Version Negotiation (version 0) and
 * unknown versions fill the datagram.
 */
export function readLongHeader(view: DataView, at: number, end: number): LongHeader | null {
  const c = new Cursor(view, at, end);
  const first = c.uint8();
  const versionNumber = c.uint32();
  const destinationLength = c.uint8();
  const destinationAt = c.at;
  c.skip(destinationLength);
  const sourceLength = c.uint8();
  c.skip(sourceLength);
  if (!c.ok || (first & 0x80) === 0) return null;
  const version = quicVersionOf(versionNumber);
  const shift = version?.typeShift ?? 0;
  const type = ((((first >> 4) & 3) + shift) & 3) as PacketType;
  const ids = { at, destinationAt, destinationLength };
  const rest = { version, versionNumber, type, ...ids, numberAt: end, end };
  if (version === null || type === PacketType.retry) return rest;
  if (destinationLength > CONNECTION_ID_LIMIT || sourceLength > CONNECTION_ID_LIMIT) return null;
  if (type === PacketType.initial) c.skip(readVarint(c));
  const length = readVarint(c);
  if (!c.ok || length > c.left) return null;
  return { ...rest, numberAt: c.at, end: c.at + length };
}
