/**
 * Tells what carries another packet over UDP: VXLAN (GPE too), Geneve, GTP-U, GUE, GRE, MPLS and
 * L2TP by their ports; the plain forms of VXLAN, IP (FOU), GRE, GUE and L2TPv3 to any port.
 */
import {
  isFrameOfIp,
  isLabelStack,
  isPlainPacket,
  isSegment,
  isWholeIp,
  l2tpFrame,
} from "./checks.ts";
import { TRANSPARENT_ETHERNET, isEtherType } from "./ether-type.ts";
import { IpProtocol } from "./packet.ts";
import type { Packet } from "./packet.ts";

/** Ports of VXLAN (IANA's, and Linux's old default that network plugins keep), and others'. */
const VXLAN = 4789;
const VXLAN_LINUX = 8472;
const VXLAN_GPE = 4790;
const GENEVE = 6081;
const GTP_USER = 2152;
const GUE = 6080;
const GRE_IN_UDP = 4754;
const MPLS_IN_UDP = 6635;
const L2TP = 1701;

/** What a datagram carries. */
export const UdpTunnel = {
  none: 0,
  vxlan: 1,
  vxlanGpe: 2,
  geneve: 3,
  gtp: 4,
  gue: 5,
  gre: 6,
  mpls: 7,
  l2tp: 8, // version 3, and an Ethernet frame
  l2tpPpp: 9, // version 2
  ip: 10,
} as const;
export type UdpTunnel = (typeof UdpTunnel)[keyof typeof UdpTunnel];

/**
 * Tells which tunnel's header begins at `at`, of `length` bytes on the wire. A port alone makes no
 * tunnel:
 *
 *     VXLAN (RFC 7348 §5)    00001000 | 0 | network identifier(3) | 0, and an Ethernet frame; with
 *                            a group policy 1000 1000 | 0D00 A000 | group(2)
 *     VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe §3.1) 00VVIPBO | 0(2) | next(1) | identifier(3) | 0
 *     Geneve (RFC 8926 §3.4) version 0, options length | flags | protocol(2) | identifier(3) | 0
 *     GTP-U (3GPP TS 29.281 §5.1) 001 1 0 ESP | 255 | length(2) | tunnel(4), and an IP packet
 *     GUE (draft-ietf-intarea-gue §3) 00, control(1), length(5) | protocol(1) | flags(2) | fields,
 *                            and a packet of that protocol; or an IP packet without a header (§4)
 *     GRE (RFC 8086 §3), MPLS (RFC 7510 §3), L2TP (RFC 3931 §4.1.2, RFC 2661 §3.1) as without UDP
 *
 * What those of GUE, MPLS and L2TP carry must have the length that it tells.
 */
export function udpTunnelOf(
  view: DataView,
  at: number,
  end: number,
  length: number,
  packet: Packet,
): UdpTunnel {
  const port = packet.destinationPort;
  switch (port) {
    case VXLAN:
    case VXLAN_LINUX:
      return isVxlan(view, at, end) ? UdpTunnel.vxlan : UdpTunnel.none;
    case VXLAN_GPE: {
      if (end - at < 8 + 8 || (view.getUint8(at) & 0xfc) !== 0x0c) return UdpTunnel.none;
      const next = view.getUint8(at + 3);
      const isZero = view.getUint16(at + 1) === 0 && view.getUint8(at + 7) === 0;
      return isZero && next >= 1 && next <= 5 ? UdpTunnel.vxlanGpe : UdpTunnel.none;
    }
    case GENEVE: {
      if (end - at < 8 || view.getUint8(at) >> 6 !== 0) return UdpTunnel.none;
      if ((view.getUint8(at + 1) & 0x3f) !== 0 || view.getUint8(at + 7) !== 0)
        return UdpTunnel.none;
      const protocol = view.getUint16(at + 2);
      const isRead = protocol === TRANSPARENT_ETHERNET || isEtherType(protocol);
      return isRead ? UdpTunnel.geneve : UdpTunnel.none;
    }
    case GTP_USER: {
      const inner = gtpPayload(view, at, end);
      if (inner < 0) return UdpTunnel.none;
      const version = view.getUint8(inner) >> 4;
      const least = version === 4 ? 20 : version === 6 ? 40 : Infinity;
      return end - inner >= least ? UdpTunnel.gtp : UdpTunnel.none;
    }
    case GUE:
      return isGue(view, at, end, length) ? UdpTunnel.gue : UdpTunnel.none;
    case GRE_IN_UDP:
      return isGre(view, at, end) ? UdpTunnel.gre : UdpTunnel.none;
    case MPLS_IN_UDP:
      return isLabelStack(view, at, end, length) ? UdpTunnel.mpls : UdpTunnel.none;
    default:
      if (packet.vxlanPorts.includes(port) && isVxlan(view, at, end)) return UdpTunnel.vxlan;
      if (port === L2TP || packet.sourcePort === L2TP) return l2tpOf(view, at, end, length);
      return byContent(view, at, end, length);
  }
}

function isVxlan(view: DataView, at: number, end: number): boolean {
  if (end - at < 8 + 14 || view.getUint8(at + 7) !== 0) return false;
  const first = view.getUint32(at);
  const hasPolicy = (first & 0xffb70000) >>> 0 === 0x88000000;
  return (first === PLAIN_VXLAN || hasPolicy) && isEtherType(view.getUint16(at + 8 + 12));
}

/** First word of a VXLAN header without extensions (RFC 7348 §5): the flag I, reserved bits 0. */
const PLAIN_VXLAN = 0x08000000;
/** L2TPv3's data messages begin so: type 0, version 3, and what is reserved (RFC 3931 §4.1.2.1). */
const L2TP_3_DATA = 0x00030000;
/** A GUE header without fields or flags: the protocol is in its second byte. */
const GUE_OF_IPIP = IpProtocol.ipip << 16;
const GUE_OF_IPV6 = IpProtocol.ipv6 << 16;
const GUE_OF_GRE = IpProtocol.gre << 16;

/**
 * Tunnels to any port, where every rule holds, so that nothing else is mistaken for one:
 *
 * - VXLAN: the 40 bits of its header that are fixed, and a frame whose EtherType agrees with the IP
 *   packet behind it, which tells just the length that is there (`isFrameOfIp`): 76 bits and more.
 * - GRE (as Linux' FOU carries it): reserved bits, routing and version 0, and a packet or a frame
 *   that agrees with its type and tells just that length: 49 bits and more.
 * - IP (FOU): a packet without fragment or extension that tells just that length, and TCP or UDP
 *   that agrees with it (`isPlainPacket`): 50 bits and more.
 * - GUE without fields, of IP or GRE, and L2TPv3, of a frame: a first word of 32 bits that are
 *   fixed, and behind it the same: 56 bits and more.
 *
 * Where a snap cut off what is to be checked the datagram is one like any other.
 */
function byContent(view: DataView, at: number, end: number, length: number): UdpTunnel {
  if (end - at < 20) return UdpTunnel.none;
  const first = view.getUint32(at);
  switch (first) {
    case PLAIN_VXLAN: {
      const isOne = view.getUint8(at + 7) === 0 && isFrameOfIp(view, at + 8, end, length - 8);
      return isOne ? UdpTunnel.vxlan : UdpTunnel.none;
    }
    case L2TP_3_DATA:
      return l2tpOf(view, at, end, length);
    case GUE_OF_IPIP:
    case GUE_OF_IPV6:
      return isWholeIp(view, at + 4, end, length - 4) ? UdpTunnel.gue : UdpTunnel.none;
    case GUE_OF_GRE:
      return isGreOf(view, at + 4, end, length - 4) ? UdpTunnel.gue : UdpTunnel.none;
  }
  const version = first >>> 28;
  if (version === 4 || version === 6) {
    return isPlainPacket(view, at, end, length) ? UdpTunnel.ip : UdpTunnel.none;
  }
  return isGreOf(view, at, end, length) ? UdpTunnel.gre : UdpTunnel.none;
}

/** A GRE header (RFC 2784 §2.1, RFC 2890 §2) without routing, and of a type as above. */
function isGre(view: DataView, at: number, end: number): boolean {
  if (end - at < 4 || (view.getUint16(at) & 0x4fff) !== 0) return false;
  const type = view.getUint16(at + 2);
  return isEtherType(type) || type === TRANSPARENT_ETHERNET;
}

/** The same with IP or a frame of it, which tells the length that is there. */
function isGreOf(view: DataView, at: number, end: number, length: number): boolean {
  const flags = view.getUint16(at);
  const type = view.getUint16(at + 2);
  if ((flags & 0x4fff) !== 0) return false;
  const words = 1 + (flags >> 15) + ((flags >> 13) & 1) + ((flags >> 12) & 1);
  const inner = at + 4 * words;
  const rest = length - 4 * words;
  if (end <= inner) return false;
  if (type === TRANSPARENT_ETHERNET) return isFrameOfIp(view, inner, end, rest);
  const version = type === 0x0800 ? 4 : type === 0x86dd ? 6 : -1;
  return view.getUint8(inner) >> 4 === version && isWholeIp(view, inner, end, rest);
}

/** Where what GUE carries begins: behind its header and fields, or at once. */
export function gueInner(view: DataView, at: number): number {
  const first = view.getUint8(at);
  return first >> 6 === 0 ? at + 4 + ((first & 0x1f) << 2) : at;
}

function isGue(view: DataView, at: number, end: number, length: number): boolean {
  if (end - at < 8) return false;
  const first = view.getUint8(at);
  if (first >> 6 === 1) return isWholeIp(view, at, end, length);
  if (first >> 5 !== 0) return false; // another variant, or control
  const inner = gueInner(view, at);
  const rest = length - (inner - at);
  const protocol = view.getUint8(at + 1);
  switch (protocol) {
    case IpProtocol.ipip:
    case IpProtocol.ipv6:
      return isWholeIp(view, inner, end, rest);
    case IpProtocol.gre:
      return isGre(view, inner, end);
    case IpProtocol.mpls:
      return isLabelStack(view, inner, end, rest);
    case IpProtocol.etherip:
      return isFrameOfIp(view, inner + 2, end, rest - 2);
    case IpProtocol.ethernet:
      return isFrameOfIp(view, inner, end, rest);
    default:
      return isSegment(view, inner, end, rest, protocol);
  }
}

function l2tpOf(view: DataView, at: number, end: number, length: number): UdpTunnel {
  if (end - at < 8) return UdpTunnel.none;
  if (view.getUint32(at) === L2TP_3_DATA) {
    return l2tpFrame(view, at + 4, end, length - 4) < 0 ? UdpTunnel.none : UdpTunnel.l2tp;
  }
  const ppp = l2tpPpp(view, at, end);
  if (ppp < 0) return UdpTunnel.none;
  const hasAddress = view.getUint16(ppp) === 0xff03;
  const protocolAt = hasAddress ? ppp + 2 : ppp;
  if (end - protocolAt < 2) return UdpTunnel.none;
  const inner = protocolAt + ((view.getUint8(protocolAt) & 1) === 1 ? 1 : 2);
  return isWholeIp(view, inner, end, length - (inner - at)) ? UdpTunnel.l2tpPpp : UdpTunnel.none;
}

/**
 * Where the PPP frame begins in a data message of L2TPv2 (RFC 2661 §3.1), or -1: T(1) 0, L, 0(2),
 * S, 0, O, P, 0(4), version(4) 2; then, as L, S, O say, length(2), tunnel(2), session(2), sequence
 * numbers(4), offset(2) and as many bytes.
 */
export function l2tpPpp(view: DataView, at: number, end: number): number {
  const flags = view.getUint16(at);
  if ((flags & 0xb4ff) !== 2) return -1;
  let ppp = at + 6 + ((flags & 0x4000) !== 0 ? 2 : 0) + ((flags & 0x0800) !== 0 ? 4 : 0);
  if ((flags & 0x0200) !== 0) {
    if (end - ppp < 2) return -1;
    ppp += 2 + view.getUint16(ppp);
  }
  return end - ppp < 2 ? -1 : ppp;
}

/** Most extension headers of a GTP-U packet that are walked. */
const GTP_EXTENSIONS_LIMIT = 8;

/**
 * Where the user's packet begins in a G-PDU, or -1 where this is none. With one of the flags E, S,
 * P four more bytes follow, whose last tells the first extension header's type; each of those is
 * length(1, in words) | content | next type(1).
 */
export function gtpPayload(view: DataView, at: number, end: number): number {
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
