/**
 * Decodes what carries another packet: over IP (IP in IP, 6in4, GRE, AH, EtherIP, SRv6, MPLS, L2TP)
 * and over UDP what `udp-tunnel.ts` tells.
 */
import { l2tpFrame } from "./checks.ts";
import { TRANSPARENT_ETHERNET } from "./ether-type.ts";
import { decodeEthernet, decodeEtherType, decodeMpls, decodePpp } from "./ethernet.ts";
import { decodeCarried, decodeIp } from "./ip.ts";
import { Encap, IpProtocol, Stop, wrap } from "./packet.ts";
import type { Packet } from "./packet.ts";
import { decodeNext } from "./shim.ts";
import { decodeTransport } from "./transport.ts";
import { UdpTunnel, gtpPayload, gueInner, l2tpPpp } from "./udp-tunnel.ts";

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

/** Protocol types of GRE that are no EtherTypes of IP. */
const ERSPAN_II = 0x88be; // and I, which has no sequence number
const ERSPAN_III = 0x22eb;
const PPP = 0x880b;
/** Most source routes of a GRE header that are walked. */
const ROUTES_LIMIT = 16;

/**
 * GRE (RFC 2784 §2.1, RFC 2890 §2, and the routing of RFC 1701): flags(2) | type(2), then, as the
 * flags C, R, K, S say, checksum(2) and offset(2), key(4), sequence number(4), source routes.
 */
function decodeGre(view: DataView, at: number, end: number, packet: Packet): Stop {
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

/** Decodes what `udpTunnelOf` told; `at` is behind the UDP header, `wireEnd` the datagram's end. */
export function decodeUdpTunnel(
  tunnel: UdpTunnel,
  view: DataView,
  at: number,
  end: number,
  wireEnd: number,
  packet: Packet,
): Stop {
  switch (tunnel) {
    case UdpTunnel.vxlan:
      if (!wrap(packet, Encap.vxlan, view.getUint32(at + 4) >>> 8)) return Stop.tooDeep;
      return decodeEthernet(view, at + 8, end, packet);
    case UdpTunnel.vxlanGpe:
      if (!wrap(packet, Encap.vxlan, view.getUint32(at + 4) >>> 8)) return Stop.tooDeep;
      return decodeNext(view, at + 8, end, view.getUint8(at + 3), packet);
    case UdpTunnel.geneve: {
      if (!wrap(packet, Encap.geneve, view.getUint32(at + 4) >>> 8)) return Stop.tooDeep;
      const inner = at + 8 + ((view.getUint8(at) & 0x3f) << 2);
      const protocol = view.getUint16(at + 2);
      if (protocol === TRANSPARENT_ETHERNET) return decodeEthernet(view, inner, end, packet);
      return decodeEtherType(view, inner, end, protocol, packet);
    }
    case UdpTunnel.gtp:
      if (!wrap(packet, Encap.gtp, 0)) return Stop.tooDeep;
      return decodeIp(view, gtpPayload(view, at, end), end, packet);
    case UdpTunnel.gue: {
      if (!wrap(packet, Encap.gue, 0)) return Stop.tooDeep;
      const inner = gueInner(view, at);
      if (inner === at) return decodeIp(view, at, end, packet);
      packet.protocol = view.getUint8(at + 1);
      return decodeCarried(view, inner, end, wireEnd, packet);
    }
    case UdpTunnel.gre:
      return decodeGre(view, at, end, packet);
    case UdpTunnel.mpls:
      return decodeMpls(view, at, end, packet);
    case UdpTunnel.l2tp:
      if (!wrap(packet, Encap.l2tp, 0)) return Stop.tooDeep;
      return decodeEthernet(view, l2tpFrame(view, at + 4, end, wireEnd - at - 4), end, packet);
    case UdpTunnel.l2tpPpp:
      if (!wrap(packet, Encap.l2tp, 0)) return Stop.tooDeep;
      return decodePpp(view, l2tpPpp(view, at, end), end, packet);
    default:
      if (!wrap(packet, Encap.fou, 0)) return Stop.tooDeep;
      return decodeIp(view, at, end, packet);
  }
}
