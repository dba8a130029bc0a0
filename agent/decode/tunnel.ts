/** Decodes what carries another packet: IP-in-IP and 6in4, GRE, AH; VXLAN and Geneve over UDP. */
import { decodeEthernet, decodeEtherType } from "./ethernet.ts";
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

/** Decodes the packet inside; `at` is behind the outer IP header. */
export function decodeTunnel(view: DataView, at: number, end: number, packet: Packet): Stop {
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
      return decodeAh(view, at, end, packet);
    default:
      return Stop.notTransport;
  }
}

/**
 * GRE (RFC 2784 §2.1, RFC 2890 §2). ERSPAN II (EtherType 0x88be) puts 8 bytes before the inner
 * Ethernet frame when a sequence number is present, and none (ERSPAN I) otherwise.
 */
function decodeGre(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 4) return Stop.truncated;
  const flags = view.getUint16(at);
  const etherType = view.getUint16(at + 2);
  if ((flags & 7) !== 0) return Stop.notTransport; // version 1 is PPTP's
  const hasSequence = (flags & 0x1000) !== 0;
  let inner = at + 4;
  if ((flags & 0x8000) !== 0) inner += 4; // checksum
  if ((flags & 0x2000) !== 0) inner += 4; // key
  if (hasSequence) inner += 4;
  if (etherType === 0x88be) {
    if (!wrap(packet, Encap.erspan, 0)) return Stop.tooDeep;
    return decodeEthernet(view, inner + (hasSequence ? 8 : 0), end, packet);
  }
  if (!wrap(packet, Encap.gre, 0)) return Stop.tooDeep;
  if (etherType === 0x6558) return decodeEthernet(view, inner, end, packet);
  return decodeEtherType(view, inner, end, etherType, packet);
}

/** Ports of VXLAN (IANA's, and Linux's old default that network plugins keep) and Geneve. */
const VXLAN = 4789;
const VXLAN_LINUX = 8472;
const GENEVE = 6081;
const TRANSPARENT_ETHERNET = 0x6558;

/**
 * Reports whether a datagram to one of the ports above has the header of its tunnel:
 *
 *     VXLAN (RFC 7348 §5)    00001000 | 0 | network identifier(3) | 0, and an Ethernet frame
 *     Geneve (RFC 8926 §3.4) version 0, options length | flags | protocol(2) | identifier(3) | 0
 */
export function isUdpTunnel(view: DataView, at: number, end: number, port: number): boolean {
  if (port === VXLAN || port === VXLAN_LINUX) {
    if (end - at < 8 + 14 || view.getUint32(at) !== 0x08000000) return false;
    return view.getUint8(at + 7) === 0 && isEtherType(view.getUint16(at + 8 + 12));
  }
  if (port !== GENEVE || end - at < 8 || view.getUint8(at) >> 6 !== 0) return false;
  if ((view.getUint8(at + 1) & 0x3f) !== 0 || view.getUint8(at + 7) !== 0) return false;
  const protocol = view.getUint16(at + 2);
  return protocol === TRANSPARENT_ETHERNET || isEtherType(protocol);
}

/** EtherTypes that stand in what pods send: IPv4, IPv6, ARP, a VLAN tag. */
function isEtherType(type: number): boolean {
  return type === 0x0800 || type === 0x86dd || type === 0x0806 || type === 0x8100;
}

/** Decodes what `isUdpTunnel` has recognised; `at` is behind the UDP header. */
export function decodeUdpTunnel(view: DataView, at: number, end: number, packet: Packet): Stop {
  const identifier = view.getUint32(at + 4) >>> 8;
  if (packet.destinationPort !== GENEVE) {
    if (!wrap(packet, Encap.vxlan, identifier)) return Stop.tooDeep;
    return decodeEthernet(view, at + 8, end, packet);
  }
  if (!wrap(packet, Encap.geneve, identifier)) return Stop.tooDeep;
  const inner = at + 8 + ((view.getUint8(at) & 0x3f) << 2);
  const protocol = view.getUint16(at + 2);
  if (protocol === TRANSPARENT_ETHERNET) return decodeEthernet(view, inner, end, packet);
  return decodeEtherType(view, inner, end, protocol, packet);
}

/** Authentication Header (RFC 4302 §2): signed, not encrypted. */
function decodeAh(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 12) return Stop.truncated;
  if (!wrap(packet, Encap.ah, 0)) return Stop.tooDeep;
  const inner = at + ((view.getUint8(at + 1) + 2) << 2);
  if (inner > end) return Stop.truncated;
  packet.protocol = view.getUint8(at);
  if (isTunnel(packet.protocol)) return decodeTunnel(view, inner, end, packet);
  return decodeTransport(view, inner, end, end, packet);
}
