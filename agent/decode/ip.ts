/** Decodes IPv4 and IPv6 headers, and hands what they carry on to the transport. */
import { Fragment } from "./fragments.ts";
import type { Fragments } from "./fragments.ts";
import { Encap, IpProtocol, Stop, Unreachable, wrap } from "./packet.ts";
import type { Packet } from "./packet.ts";
import { decodeTransport } from "./transport.ts";
import { decodeTunnel, isTunnel } from "./tunnel.ts";

/** Most IPv6 extension headers that are walked (RFC 8200 §4.1 names seven kinds). */
const EXTENSIONS_LIMIT = 10;
/** Type of a routing header with segments (RFC 8754 §2): what it carries is SRv6's. */
const SEGMENT_ROUTING = 4;

/**
 * By code of "destination unreachable" in IPv4 (RFC 792; 6 to 12 RFC 1122 §3.2.2.1; 13 to 15
 * RFC 1812 §5.2.7.1). 4, "fragmentation needed" (RFC 1191 §4), asks for smaller packets, and
 * refuses nothing.
 */
const UNREACHABLE4: readonly number[] = [
  ...[Unreachable.net, Unreachable.host, Unreachable.protocol, Unreachable.port],
  ...[Unreachable.none, Unreachable.other], // 5: a source route failed
  ...[Unreachable.net, Unreachable.host, Unreachable.other], // unknown, unknown, source isolated
  ...[Unreachable.netProhibited, Unreachable.hostProhibited],
  ...[Unreachable.net, Unreachable.host], // for this type of service
  ...[Unreachable.adminProhibited, Unreachable.other, Unreachable.other], // 14, 15: precedence
];
/** The same in IPv6 (RFC 4443 §3.1): 0 is no route, 3 an address that cannot be reached. */
const UNREACHABLE6: readonly number[] = [
  ...[Unreachable.net, Unreachable.adminProhibited, Unreachable.other, Unreachable.host],
  ...[Unreachable.port, Unreachable.policyFailed, Unreachable.rejectRoute],
];

/** Decodes an IP packet whose version is told by its first four bits. */
export function decodeIp(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 1) return Stop.truncated;
  switch (view.getUint8(at) >> 4) {
    case 4:
      return decodeIpv4(view, at, end, packet);
    case 6:
      return decodeIpv6(view, at, end, packet);
    default:
      return Stop.malformed;
  }
}

/**
 * Decodes the IPv4 header at `at` (RFC 791 §3.1) and what it carries.
 *
 *      0               1               2               3
 *     +-------+-------+---------------+-------------------------------+
 *     |version|  ihl  |      tos      |         total length          |
 *     +-------+-------+---------------+-----+-------------------------+
 *     |        identification         |flags|     fragment offset     |
 *     +---------------+---------------+-----+-------------------------+
 *     |      ttl      |   protocol    |           checksum            |
 *     +---------------+---------------+-------------------------------+
 *     |                           source                              |
 *     |                         destination                           |
 *     +---------------------------------------------------------------+
 *
 * The checksum is not verified: with transmit offload the kernel has not filled it in yet. Linux
 * BIG TCP, and some offload engines, write a total length of 0: "to the end of the frame".
 */
export function decodeIpv4(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 20) return Stop.truncated;
  const headerLength = (view.getUint8(at) & 0x0f) << 2;
  const told = view.getUint16(at + 2);
  const totalLength = told === 0 ? end - at : told;
  if (headerLength < 20 || totalLength < headerLength) return Stop.malformed;
  readIpv4Addresses(view, at, packet);
  packet.protocol = view.getUint8(at + 9);
  packet.ipLength = totalLength;
  packet.parts = 1;
  const carriedAt = at + headerLength;
  const wireEnd = at + totalLength;
  const captured = Math.min(end, wireEnd);
  const place = view.getUint16(at + 6) & 0x3fff; // "more fragments", and the offset in words of 8
  if (place === 0) return decodeCarried(view, carriedAt, captured, wireEnd, packet);
  const { fragments } = packet;
  const offset = (place & 0x1fff) << 3;
  if (fragments === null) {
    if (offset !== 0) return Stop.fragment;
    return decodeCarried(view, carriedAt, captured, wireEnd, packet);
  }
  const more = (place & 0x2000) !== 0;
  const id = view.getUint16(at + 4);
  const length = wireEnd - carriedAt;
  const slot = fragments.take(packet, id, false, view, carriedAt, captured, offset, length, more);
  return slot < 0 ? notWhole(slot) : decodeDatagram(fragments, slot, packet);
}

/** A fragment that was kept, or one that contradicts itself. */
function notWhole(taken: number): Stop {
  return taken === Fragment.refused ? Stop.malformed : Stop.fragment;
}

/**
 * Decodes a datagram whose fragments have come, or as much of its beginning as has when it is given
 * up; the slot is released. Counts all its fragments: `parts` and `ipLength` are their sums.
 */
function decodeDatagram(fragments: Fragments, slot: number, packet: Packet): Stop {
  const view = fragments.view(slot);
  const end = fragments.beginning(slot);
  // What receivers drop brings no bytes: the headers alone name the flow.
  const isSpoilt = fragments.isSpoilt[slot] === 1;
  const ipLength = fragments.ipLength[slot]!;
  const parts = fragments.count[slot]!;
  packet.view = view;
  packet.protocol = fragments.protocol[slot]!;
  packet.ipLength = ipLength;
  packet.parts = parts;
  if (fragments.hasDisagreed[slot] === 1) packet.disagreed = 1;
  fragments.release(slot);
  if (end === 0) return Stop.truncated;
  const stop = fragments.isIpv6(slot)
    ? decodeExtensions(view, 0, end, end, packet.protocol, packet)
    : decodeCarried(view, 0, end, end, packet);
  if (isSpoilt) {
    packet.payloadEnd = packet.payloadAt;
    packet.payloadLength = 0;
  }
  return stop;
}

/** Gives up a datagram that is not whole: `packet` becomes what is known of its beginning. */
export function giveUpDatagram(fragments: Fragments, slot: number, packet: Packet): Stop {
  packet.unreachable = 0;
  packet.disagreed = 0;
  fragments.restore(slot, packet);
  return decodeDatagram(fragments, slot, packet);
}

/** Takes the addresses of the IPv4 header at `at`, as ::ffff:a.b.c.d. */
function readIpv4Addresses(view: DataView, at: number, packet: Packet): void {
  packet.source0 = packet.source1 = packet.destination0 = packet.destination1 = 0;
  packet.source2 = packet.destination2 = 0xffff;
  packet.source3 = view.getInt32(at + 12);
  packet.destination3 = view.getInt32(at + 16);
}

/** Takes the addresses of the IPv6 header at `at`. */
function readIpv6Addresses(view: DataView, at: number, packet: Packet): void {
  packet.source0 = view.getInt32(at + 8);
  packet.source1 = view.getInt32(at + 12);
  packet.source2 = view.getInt32(at + 16);
  packet.source3 = view.getInt32(at + 20);
  packet.destination0 = view.getInt32(at + 24);
  packet.destination1 = view.getInt32(at + 28);
  packet.destination2 = view.getInt32(at + 32);
  packet.destination3 = view.getInt32(at + 36);
}

/**
 * Decodes the IPv6 header at `at` (RFC 8200 §3), its extension headers (§4), and what they carry.
 * A payload length of 0 is a jumbogram's (RFC 2675), or BIG TCP: "to the end of the frame".
 */
export function decodeIpv6(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 40) return Stop.truncated;
  const told = view.getUint16(at + 4);
  const wireEnd = told === 0 ? end : at + 40 + told;
  readIpv6Addresses(view, at, packet);
  packet.ipLength = wireEnd - at;
  const captured = Math.min(end, wireEnd);
  packet.parts = 1;
  return decodeExtensions(view, at + 40, captured, wireEnd, view.getUint8(at + 6), packet);
}

/** Walks IPv6 extension headers from `at` on, the first of them of type `next`. */
function decodeExtensions(
  view: DataView,
  at: number,
  captured: number,
  wireEnd: number,
  next: number,
  packet: Packet,
): Stop {
  let position = at;
  let isSegmentRouted = false;
  for (let i = 0; i < EXTENSIONS_LIMIT; i++) {
    switch (next) {
      case 0: // hop-by-hop options
      case 43: // routing
      case 60: // destination options
      case 135: // mobility
      case 139: // HIP
      case 140: // shim6
        if (captured - position < 8) return Stop.truncated;
        if (next === 43 && view.getUint8(position + 2) === SEGMENT_ROUTING) isSegmentRouted = true;
        next = view.getUint8(position);
        position += (view.getUint8(position + 1) + 1) << 3;
        break;
      case 44: {
        if (captured - position < 8) return Stop.truncated;
        next = view.getUint8(position);
        const place = view.getUint16(position + 2) & 0xfff9;
        position += 8;
        if (place === 0) break; // an atomic fragment: the whole of it (RFC 6946)
        packet.protocol = next;
        return decodeIpv6Fragment(view, position, captured, wireEnd, place, packet);
      }
      default:
        packet.protocol = next;
        if (position > captured) return Stop.truncated;
        if (isSegmentRouted && (next === IpProtocol.ipip || next === IpProtocol.ipv6)) {
          if (!wrap(packet, Encap.srv6, 0)) return Stop.tooDeep;
          return decodeIp(view, position, captured, packet);
        }
        return decodeCarried(view, position, captured, wireEnd, packet);
    }
  }
  return Stop.malformed;
}

/** Takes a fragment of IPv6; `place` is the offset in bytes, with "more fragments" in bit 0. */
function decodeIpv6Fragment(
  view: DataView,
  at: number,
  captured: number,
  wireEnd: number,
  place: number,
  packet: Packet,
): Stop {
  const { fragments } = packet;
  const offset = place & 0xfff8;
  if (fragments === null) {
    if (offset !== 0) return Stop.fragment;
    return decodeExtensions(view, at, captured, wireEnd, packet.protocol, packet);
  }
  const more = (place & 1) !== 0;
  const id = view.getInt32(at - 4);
  const length = wireEnd - at;
  const slot = fragments.take(packet, id, true, view, at, captured, offset, length, more);
  return slot < 0 ? notWhole(slot) : decodeDatagram(fragments, slot, packet);
}

/** Decodes what `packet.protocol` announces: a transport, an ICMP error about one, or a tunnel. */
export function decodeCarried(
  view: DataView,
  at: number,
  end: number,
  wireEnd: number,
  packet: Packet,
): Stop {
  if (packet.protocol === IpProtocol.icmp || packet.protocol === IpProtocol.icmp6) {
    return decodeIcmp(view, at, end, packet);
  }
  if (isTunnel(packet.protocol)) return decodeTunnel(view, at, end, wireEnd, packet);
  return decodeTransport(view, at, end, wireEnd, packet);
}

/**
 * Decodes an ICMP destination-unreachable (RFC 792, type 3; RFC 4443 §3.1, type 1): the packet it
 * quotes names the flow that did not get through. Other messages carry no flow.
 */
function decodeIcmp(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 8) return Stop.truncated;
  const isIcmp4 = packet.protocol === IpProtocol.icmp;
  if (view.getUint8(at) !== (isIcmp4 ? 3 : 1)) return Stop.notTransport;
  const code = view.getUint8(at + 1);
  const unreachable = (isIcmp4 ? UNREACHABLE4 : UNREACHABLE6)[code] ?? Unreachable.other;
  if (unreachable === Unreachable.none) return Stop.notTransport;
  const quoted = at + 8;
  const ipLength = packet.ipLength;
  if (end - quoted < 28) return Stop.truncated;
  const version = view.getUint8(quoted) >> 4;
  if (version !== 4 && version !== 6) return Stop.malformed;
  const headerLength = version === 4 ? (view.getUint8(quoted) & 0x0f) << 2 : 40;
  if (headerLength < 20) return Stop.malformed;
  const transportAt = quoted + headerLength;
  if (end - transportAt < 8) return Stop.truncated;
  packet.unreachable = unreachable;
  packet.errorSource0 = packet.source0;
  packet.errorSource1 = packet.source1;
  packet.errorSource2 = packet.source2;
  packet.errorSource3 = packet.source3;
  if (version === 4) {
    if ((view.getUint16(quoted + 6) & 0x1fff) !== 0) return Stop.fragment;
    readIpv4Addresses(view, quoted, packet);
    packet.protocol = view.getUint8(quoted + 9);
  } else {
    readIpv6Addresses(view, quoted, packet);
    packet.protocol = view.getUint8(quoted + 6);
  }
  if (packet.protocol !== IpProtocol.tcp && packet.protocol !== IpProtocol.udp) {
    packet.protocol = isIcmp4 ? IpProtocol.icmp : IpProtocol.icmp6;
    return Stop.notTransport;
  }
  // Only the ports stand in what the smallest quotation holds.
  packet.sourcePort = view.getUint16(transportAt);
  packet.destinationPort = view.getUint16(transportAt + 2);
  packet.sequence = packet.protocol === IpProtocol.tcp ? view.getInt32(transportAt + 4) : 0;
  packet.acknowledgment = 0;
  packet.flags = 0;
  packet.payloadAt = packet.payloadEnd = end;
  packet.payloadLength = 0;
  packet.ipLength = ipLength;
  return Stop.none;
}
