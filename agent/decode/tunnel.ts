/**
 * Decodes what carries another packet over IP: IP-in-IP, 6in4, GRE, AH, EtherIP, SRv6, MPLS, L2TP.
 * Over UDP: `udp-tunnel.ts`.
 */
import { isFrameOfIp } from "./checks.ts";
import { decodeEthernet, decodeEtherType, decodeMpls, decodePpp } from "./ethernet.ts";
import { decodeIp } from "./ip.ts";
import { ENCAP_LIMIT, Encap, IpProtocol, Stop } from "./packet.ts";
import type { Packet } from "./packet.ts";
import { decodeTransport } from "./transport.ts";

/** Reports whether an IP protocol wraps another packet that is read. */
export function isTunnel(protocol: number): boolean {
  switch (protocol) {
    case IpProtocol.ipip:
    case IpProtocol.ipv6:
    case IpProtocol.gre:
    case IpProtocol.ah:
    case IpProtocol.etherip:
    case IpProtocol.l2tp:
    case IpProtocol.mpls:
    case IpProtocol.ethernet:
      return true;
    default:
      return false;
  }
}

/** Notes a wrapper, outermost first; false when there are too many. */
export function wrap(packet: Packet, kind: number, identifier: number): boolean {
  if (packet.encapCount === ENCAP_LIMIT) return false;
  packet.encap[packet.encapCount++] = (kind << 24) | (identifier & 0xffffff);
  return true;
}

/**
 * Decodes the packet inside; `at` is behind the outer IP header, `wireEnd` where that packet ends
 * on the wire.
 */
export function decodeTunnel(
  view: DataView,
  at: number,
  end: number,
  wireEnd: number,
  packet: Packet,
): Stop {
  switch (packet.protocol) {
    case IpProtocol.ipip:
      if (!wrap(packet, Encap.ipip, 0)) return Stop.tooDeep;
      return decodeIp(view, at, end, packet);
    case IpProtocol.ipv6:
      if (!wrap(packet, Encap.sixInFour, 0)) return Stop.tooDeep;
      return decodeIp(view, at, end, packet);
    case IpProtocol.gre:
      return decodeGre(view, at, end, packet);
    case IpProtocol.ah:
      return decodeAh(view, at, end, wireEnd, packet);
    case IpProtocol.etherip: // RFC 3378 §3: version 3, and 12 bits of 0
      if (end - at < 2) return Stop.truncated;
      if (view.getUint16(at) !== 0x3000) return Stop.notTransport;
      if (!wrap(packet, Encap.etherip, 0)) return Stop.tooDeep;
      return decodeEthernet(view, at + 2, end, packet);
    case IpProtocol.ethernet: // as SRv6 has it, with a routing header or without
      if (!wrap(packet, Encap.srv6, 0)) return Stop.tooDeep;
      return decodeEthernet(view, at, end, packet);
    case IpProtocol.mpls:
      return decodeMpls(view, at, end, packet);
    case IpProtocol.l2tp: {
      const inner = l2tpFrame(view, at, end, wireEnd - at);
      if (inner < 0) return Stop.notTransport;
      if (!wrap(packet, Encap.l2tp, 0)) return Stop.tooDeep;
      return decodeEthernet(view, inner, end, packet);
    }
    default:
      return Stop.notTransport;
  }
}

/** Behind an L2TPv3 session stand a cookie of 0, 4 or 8 bytes, and a sublayer of 0 or 4. */
const L2TP_LONGEST = 12;

/**
 * Where the Ethernet frame begins in an L2TPv3 data message that begins with its session (RFC 3931
 * §4.1), or -1: in a control message (session 0), and where no frame of IP or ARP comes to its
 * right length. How long cookie and sublayer are is agreed upon in advance, and not in the message.
 */
export function l2tpFrame(view: DataView, at: number, end: number, length: number): number {
  if (end - at < 4 || view.getUint32(at) === 0) return -1;
  for (let skipped = 0; skipped <= L2TP_LONGEST; skipped += 4) {
    const inner = at + 4 + skipped;
    if (isFrameOfIp(view, inner, end, length - (inner - at))) return inner;
  }
  return -1;
}

/** Protocol types of GRE that are no EtherTypes of IP. */
export const TRANSPARENT_ETHERNET = 0x6558; // NVGRE's too (RFC 7637)
const ERSPAN_II = 0x88be; // and I, which has no sequence number
const ERSPAN_III = 0x22eb;
const PPP = 0x880b;
/** Most source routes of a GRE header that are walked. */
const ROUTES_LIMIT = 16;

/**
 * GRE (RFC 2784 §2.1, RFC 2890 §2, and the routing of RFC 1701): flags(2) | type(2), then, as the
 * flags C, R, K, S say, checksum(2) and offset(2), key(4), sequence number(4), source routes.
 */
export function decodeGre(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 4) return Stop.truncated;
  const flags = view.getUint16(at);
  const type = view.getUint16(at + 2);
  const hasSequence = (flags & 0x1000) !== 0;
  let inner = at + 4;
  if ((flags & 7) === 1) return decodePptp(view, at, end, flags, packet);
  if ((flags & 7) !== 0) return Stop.notTransport;
  if ((flags & 0xc000) !== 0) inner += 4;
  if ((flags & 0x2000) !== 0) inner += 4;
  if (hasSequence) inner += 4;
  if ((flags & 0x4000) !== 0) inner = skipRoutes(view, inner, end);
  if (inner < 0) return Stop.truncated;
  if (type === ERSPAN_II || type === ERSPAN_III) {
    return decodeErspan(view, inner, end, type, hasSequence, packet);
  }
  if (!wrap(packet, Encap.gre, 0)) return Stop.tooDeep;
  if (type === TRANSPARENT_ETHERNET) return decodeEthernet(view, inner, end, packet);
  return decodeEtherType(view, inner, end, type, packet);
}

/** Source route entries: family(2) | offset(1) | length(1) | routing; an empty one ends them. */
function skipRoutes(view: DataView, at: number, end: number): number {
  for (let i = 0; i < ROUTES_LIMIT && end - at >= 4; i++) {
    const length = view.getUint8(at + 3);
    const isLast = view.getUint16(at) === 0 && length === 0;
    at += 4 + length;
    if (isLast) return at;
  }
  return -1;
}

/**
 * ERSPAN (draft-foschiano-erspan §4): type I has no header of its own, II has 8 bytes, III 12 and,
 * as its last bit says, 8 more; III tells by its frame type whether Ethernet or IP follows.
 */
function decodeErspan(
  view: DataView,
  at: number,
  end: number,
  type: number,
  hasSequence: boolean,
  packet: Packet,
): Stop {
  if (!wrap(packet, Encap.erspan, 0)) return Stop.tooDeep;
  if (type === ERSPAN_II) return decodeEthernet(view, at + (hasSequence ? 8 : 0), end, packet);
  if (end - at < 12) return Stop.truncated;
  const last = view.getUint16(at + 10);
  const inner = at + 12 + ((last & 1) !== 0 ? 8 : 0);
  const isIp = ((last >> 10) & 0x1f) === 2;
  return isIp ? decodeIp(view, inner, end, packet) : decodeEthernet(view, inner, end, packet);
}

/**
 * PPTP's GRE (RFC 2637 §4.1): flags(2) | 0x880b | payload length(2) | call(2), then, as S and A
 * say, sequence and acknowledgment numbers, and a PPP frame; compressed or encrypted ones stop.
 */
function decodePptp(view: DataView, at: number, end: number, flags: number, packet: Packet): Stop {
  if (end - at < 8) return Stop.truncated;
  const hasPayload = view.getUint16(at + 2) === PPP && view.getUint16(at + 4) > 0;
  if (!hasPayload) return Stop.notTransport;
  const inner = at + 8 + ((flags & 0x1000) !== 0 ? 4 : 0) + ((flags & 0x0080) !== 0 ? 4 : 0);
  if (!wrap(packet, Encap.gre, 0)) return Stop.tooDeep;
  return decodePpp(view, inner, end, packet);
}

/** Authentication Header (RFC 4302 §2): signed, not encrypted. */
function decodeAh(view: DataView, at: number, end: number, wireEnd: number, packet: Packet): Stop {
  if (end - at < 12) return Stop.truncated;
  if (!wrap(packet, Encap.ah, 0)) return Stop.tooDeep;
  const inner = at + ((view.getUint8(at + 1) + 2) << 2);
  if (inner > end) return Stop.truncated;
  packet.protocol = view.getUint8(at);
  if (isTunnel(packet.protocol)) return decodeTunnel(view, inner, end, wireEnd, packet);
  return decodeTransport(view, inner, end, wireEnd, packet);
}
