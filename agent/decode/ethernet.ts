/** Decodes a link layer, and hands the IP packet inside on. */
import { isShim } from "./ether-type.ts";
import { decodeIp, decodeIpv4, decodeIpv6 } from "./ip.ts";
import { Encap, Stop, Unread, wrap } from "./packet.ts";
import type { Packet } from "./packet.ts";
import { decodeShim } from "./shim.ts";

/** Link types as pcap files number them (tcpdump.org, LINKTYPE_…). */
export const LinkType = {
  null: 0,
  ethernet: 1,
  ppp: 9,
  rawBsd: 12,
  rawOpenBsd: 14,
  pppHdlc: 50,
  pppEther: 51,
  raw: 101,
  ciscoHdlc: 104,
  loop: 108,
  linuxSll: 113,
  ipv4: 228,
  ipv6: 229,
  linuxSll2: 276,
} as const;

/** Decodes one frame of the given link type into `packet`; allocates nothing. */
export function decodeFrame(
  view: DataView,
  at: number,
  end: number,
  linkType: number,
  packet: Packet,
): Stop {
  packet.encapCount = 0;
  packet.unreachable = 0;
  if (packet.view !== view) packet.view = view; // a store of an object tells the collector
  packet.parts = 1;
  packet.disagreed = 0;
  switch (linkType) {
    case LinkType.ethernet:
      return decodeEthernet(view, at, end, packet);
    case LinkType.linuxSll: // Linux cooked v1: protocol in bytes 14..15
      if (end - at < 16) return Stop.truncated;
      return decodeEtherType(view, at + 16, end, view.getUint16(at + 14), packet);
    case LinkType.linuxSll2: // Linux cooked v2: protocol in bytes 0..1
      if (end - at < 20) return Stop.truncated;
      return decodeEtherType(view, at + 20, end, view.getUint16(at), packet);
    case LinkType.ppp:
    case LinkType.pppHdlc:
      return decodePpp(view, at, end, packet);
    case LinkType.pppEther:
      return decodeEtherType(view, at, end, 0x8864, packet);
    case LinkType.ciscoHdlc: // address(1), control(1), an EtherType (RFC 1547 §4.3.1)
      if (end - at < 4) return Stop.truncated;
      return decodeEtherType(view, at + 4, end, view.getUint16(at + 2), packet);
    case LinkType.rawBsd:
    case LinkType.rawOpenBsd:
    case LinkType.raw:
      return decodeIp(view, at, end, packet);
    case LinkType.ipv4:
      return decodeIpv4(view, at, end, packet);
    case LinkType.ipv6:
      return decodeIpv6(view, at, end, packet);
    case LinkType.null:
    case LinkType.loop: // four bytes of address family, in the byte order of the capturing host
      if (end - at < 4) return Stop.truncated;
      return decodeIp(view, at + 4, end, packet);
    default:
      return Stop.linkType;
  }
}

/** Ethernet II: destination, source, EtherType (IEEE 802.3 §3.1.1). */
export function decodeEthernet(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 14) return Stop.truncated;
  return decodeEtherType(view, at + 14, end, view.getUint16(at + 12), packet);
}

/** Decodes what an EtherType announces: IP, a tag or a shim, an MPLS label stack, or PPPoE. */
export function decodeEtherType(
  view: DataView,
  at: number,
  end: number,
  etherType: number,
  packet: Packet,
): Stop {
  switch (etherType) {
    case 0x0800:
      return decodeIpv4(view, at, end, packet);
    case 0x86dd:
      return decodeIpv6(view, at, end, packet);
    case 0x8100: // IEEE 802.1Q
    case 0x88a8: // IEEE 802.1ad
    case 0x9100: {
      if (end - at < 4) return Stop.truncated;
      const kind = etherType === 0x8100 ? Encap.vlan : Encap.qinq;
      if (!wrap(packet, kind, view.getUint16(at) & 0x0fff)) return Stop.tooDeep;
      return decodeEtherType(view, at + 4, end, view.getUint16(at + 2), packet);
    }
    case 0x8847:
    case 0x8848:
      return decodeMpls(view, at, end, packet);
    case 0x8864: // PPPoE session (RFC 2516 §4): six bytes, then the PPP protocol
      if (end - at < 8) return Stop.truncated;
      if (!wrap(packet, Encap.pppoe, view.getUint16(at + 2))) return Stop.tooDeep;
      return decodePpp(view, at + 6, end, packet);
    default:
      if (isShim(etherType)) return decodeShim(view, at, end, etherType, packet);
      if (etherType <= LENGTH_LIMIT) return decodeSnap(view, at, end, packet);
      packet.unread = (Unread.etherType << 16) | etherType;
      return Stop.notIp;
  }
}

/**
 * MPLS (RFC 3032 §2.1): the label's bottom bit ends the stack. Behind it IP, or a pseudowire: an
 * Ethernet frame, with a control word before it whose first half is 0 (RFC 4448 §4.6) or without.
 * What begins with 1 is of the pseudowire itself (RFC 4385 §5).
 */
export function decodeMpls(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 4) return Stop.truncated;
  if (!wrap(packet, Encap.mpls, view.getUint32(at) >>> 12)) return Stop.tooDeep;
  const inner = at + 4;
  if ((view.getUint8(at + 2) & 1) === 0) return decodeMpls(view, inner, end, packet);
  if (end - inner < 2) return Stop.truncated;
  const nibble = view.getUint8(inner) >> 4;
  if (nibble === 4 || nibble === 6) return decodeIp(view, inner, end, packet);
  packet.unread = (Unread.etherType << 16) | 0x8847;
  if (nibble === 1) return Stop.notIp;
  const hasControl = view.getUint16(inner) === 0;
  return decodeEthernet(view, hasControl ? inner + 4 : inner, end, packet);
}

/**
 * A PPP frame (RFC 1661 §2) at its address and control bytes, which may be left out, and whose
 * protocol may be shortened to its last byte (§6.5, §6.6): IPv4, IPv6, or what is not read.
 */
export function decodePpp(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 2) return Stop.truncated;
  if (view.getUint16(at) === 0xff03) at += 2;
  if (end - at < 2) return Stop.truncated;
  const isShort = (view.getUint8(at) & 1) === 1;
  const protocol = isShort ? view.getUint8(at) : view.getUint16(at);
  const inner = at + (isShort ? 1 : 2);
  switch (protocol) {
    case 0x0021:
      return decodeIpv4(view, inner, end, packet);
    case 0x0057:
      return decodeIpv6(view, inner, end, packet);
    case 0x0281: // MPLS (RFC 3032 §4.3)
      return decodeMpls(view, inner, end, packet);
    default:
      packet.unread = (Unread.ppp << 16) | protocol;
      return Stop.notIp;
  }
}

/** Types up to here are the length of an IEEE 802.3 frame. */
const LENGTH_LIMIT = 1500;

/** LLC with a SNAP header (RFC 1042): AA AA 03 | 00 00 00 | EtherType. */
function decodeSnap(view: DataView, at: number, end: number, packet: Packet): Stop {
  packet.unread = (Unread.llc << 16) | (end - at < 2 ? 0 : view.getUint16(at));
  if (end - at < 8) return Stop.notIp;
  const isSnap = view.getUint32(at) === 0xaaaa0300 && view.getUint16(at + 4) === 0;
  const type = isSnap ? view.getUint16(at + 6) : 0;
  return type > LENGTH_LIMIT ? decodeEtherType(view, at + 8, end, type, packet) : Stop.notIp;
}
