/** Decodes what carries another packet: IP-in-IP, 6in4, GRE, AH; VXLAN, Geneve, GTP over UDP. */
import { decodeEthernet, decodeEtherType, decodePpp } from "./ethernet.ts";
import { decodeIp } from "./ip.ts";
import { ENCAP_LIMIT, Encap, Stop } from "./packet.ts";
import type { Packet } from "./packet.ts";
import { decodeTransport } from "./transport.ts";

const IPIP = 4;
const IPV6 = 41;
const GRE = 47;
const AH = 51;

/** Reports whether an IP protocol wraps another packet that is read. */
export function isTunnel(protocol: number): boolean {
  return protocol === IPIP || protocol === IPV6 || protocol === GRE || protocol === AH;
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
    case IPIP:
      if (!wrap(packet, Encap.ipip, 0)) return Stop.tooDeep;
      return decodeIp(view, at, end, packet);
    case IPV6:
      if (!wrap(packet, Encap.sixInFour, 0)) return Stop.tooDeep;
      return decodeIp(view, at, end, packet);
    case GRE:
      return decodeGre(view, at, end, packet);
    case AH:
      return decodeAh(view, at, end, wireEnd, packet);
    default:
      return Stop.notTransport;
  }
}

/** Protocol types of GRE that are no EtherTypes of IP. */
const TRANSPARENT_ETHERNET = 0x6558; // NVGRE's too (RFC 7637)
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

/** Ports of VXLAN (IANA's, and Linux's old default that network plugins keep), and others'. */
const VXLAN = 4789;
const VXLAN_LINUX = 8472;
const VXLAN_GPE = 4790;
const GENEVE = 6081;
const GTP_USER = 2152;

/**
 * Reports whether a datagram to one of the ports above has the header of its tunnel:
 *
 *     VXLAN (RFC 7348 §5)    00001000 | 0 | network identifier(3) | 0, and an Ethernet frame; with
 *                            a group policy 1000 1000 | 0D00 A000 | group(2)
 *     VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe §3.1) 00VVIPBO | 0(2) | next(1) | identifier(3) | 0
 *     Geneve (RFC 8926 §3.4) version 0, options length | flags | protocol(2) | identifier(3) | 0
 *     GTP-U (3GPP TS 29.281 §5.1) 001 1 0 ESP | 255 | length(2) | tunnel(4), and an IP packet
 */
export function isUdpTunnel(view: DataView, at: number, end: number, port: number): boolean {
  switch (port) {
    case VXLAN:
    case VXLAN_LINUX: {
      if (end - at < 8 + 14 || view.getUint8(at + 7) !== 0) return false;
      const first = view.getUint32(at);
      const hasPolicy = (first & 0xffb70000) >>> 0 === 0x88000000;
      return (first === 0x08000000 || hasPolicy) && isEtherType(view.getUint16(at + 8 + 12));
    }
    case VXLAN_GPE: {
      if (end - at < 8 + 20 || (view.getUint8(at) & 0xfc) !== 0x0c) return false;
      const next = view.getUint8(at + 3);
      return view.getUint16(at + 1) === 0 && view.getUint8(at + 7) === 0 && next >= 1 && next <= 3;
    }
    case GENEVE: {
      if (end - at < 8 || view.getUint8(at) >> 6 !== 0) return false;
      if ((view.getUint8(at + 1) & 0x3f) !== 0 || view.getUint8(at + 7) !== 0) return false;
      const protocol = view.getUint16(at + 2);
      return protocol === TRANSPARENT_ETHERNET || isEtherType(protocol);
    }
    case GTP_USER: {
      const inner = gtpPayload(view, at, end);
      if (inner < 0) return false;
      const version = view.getUint8(inner) >> 4;
      return (version === 4 && end - inner >= 20) || (version === 6 && end - inner >= 40);
    }
    default:
      return false;
  }
}

/** EtherTypes that stand in what pods send: IPv4, IPv6, ARP, a VLAN tag. */
function isEtherType(type: number): boolean {
  return type === 0x0800 || type === 0x86dd || type === 0x0806 || type === 0x8100;
}

/** Most extension headers of a GTP-U packet that are walked. */
const GTP_EXTENSIONS_LIMIT = 8;

/**
 * Where the user's packet begins in a G-PDU, or -1 where this is none. With one of the flags E, S,
 * P four more bytes follow, whose last tells the first extension header's type; each of those is
 * length(1, in words) | content | next type(1).
 */
function gtpPayload(view: DataView, at: number, end: number): number {
  if (end - at < 8) return -1;
  const flags = view.getUint8(at);
  const behind = at + 8 + view.getUint16(at + 2);
  if ((flags & 0xf8) !== 0x30 || view.getUint8(at + 1) !== 255 || behind > end) return -1;
  if ((flags & 7) === 0) return behind > at + 8 ? at + 8 : -1;
  if (end - at < 12) return -1;
  let next = (flags & 4) !== 0 ? view.getUint8(at + 11) : 0;
  let inner = at + 12;
  for (let i = 0; i < GTP_EXTENSIONS_LIMIT && next !== 0; i++) {
    if (inner >= behind) return -1;
    const length = view.getUint8(inner) << 2;
    if (length === 0 || inner + length > behind) return -1;
    next = view.getUint8(inner + length - 1);
    inner += length;
  }
  return next === 0 && inner < behind ? inner : -1;
}

/** Decodes what `isUdpTunnel` has recognised; `at` is behind the UDP header. */
export function decodeUdpTunnel(view: DataView, at: number, end: number, packet: Packet): Stop {
  const identifier = view.getUint32(at + 4) >>> 8;
  switch (packet.destinationPort) {
    case GTP_USER:
      if (!wrap(packet, Encap.gtp, 0)) return Stop.tooDeep;
      return decodeIp(view, gtpPayload(view, at, end), end, packet);
    case GENEVE: {
      if (!wrap(packet, Encap.geneve, identifier)) return Stop.tooDeep;
      const inner = at + 8 + ((view.getUint8(at) & 0x3f) << 2);
      const protocol = view.getUint16(at + 2);
      if (protocol === TRANSPARENT_ETHERNET) return decodeEthernet(view, inner, end, packet);
      return decodeEtherType(view, inner, end, protocol, packet);
    }
    default: {
      if (!wrap(packet, Encap.vxlan, identifier)) return Stop.tooDeep;
      const isIp = packet.destinationPort === VXLAN_GPE && view.getUint8(at + 3) !== 3;
      return isIp ? decodeIp(view, at + 8, end, packet) : decodeEthernet(view, at + 8, end, packet);
    }
  }
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
