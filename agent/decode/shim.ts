/** Decodes what stands between Ethernet and IP: VN-tag, E-tag, Cisco's metadata, NSH. */
import { decodeEthernet, decodeEtherType, decodeMpls } from "./ethernet.ts";
import { decodeIp } from "./ip.ts";
import { CISCO_METADATA, E_TAG, NSH, VN_TAG } from "./ether-type.ts";
import { Encap, Stop, Unread, wrap } from "./packet.ts";
import type { Packet } from "./packet.ts";

/**
 * Decodes the shim at `at`, and what it carries:
 *
 *     VN-tag (Cisco, before 802.1BR)   direction, interfaces(4) | EtherType(2)
 *     E-tag (IEEE 802.1BR-2012 §11)    priority, port identifiers(6) | EtherType(2)
 *     Cisco metadata                   version 1 | length 1 | option(2) | group(2) | EtherType(2)
 *
 * The last as packet-cisco-metadata.c of Wireshark 4.0 has it; other versions and lengths stop.
 */
export function decodeShim(
  view: DataView,
  at: number,
  end: number,
  etherType: number,
  packet: Packet,
): Stop {
  if (etherType === NSH) return decodeNsh(view, at, end, packet);
  const length = etherType === VN_TAG ? 4 : 6;
  if (end - at < length + 2) return Stop.truncated;
  if (etherType === CISCO_METADATA && view.getUint16(at) !== 0x0101)
    return notRead(etherType, packet);
  const kind = etherType === VN_TAG ? Encap.vntag : etherType === E_TAG ? Encap.etag : Encap.cmd;
  if (!wrap(packet, kind, 0)) return Stop.tooDeep;
  return decodeEtherType(view, at + length + 2, end, view.getUint16(at + length), packet);
}

/**
 * Network Service Header (RFC 8300 §2.2): its length is of all of it, in words of 4 bytes.
 *
 *     2 bits of version, O, U, 6 of TTL, 6 of length | metadata type(1) | next(1) | path(4) | …
 *
 * Of another version, with O (§2.2: no packet of a user), or with another next protocol it stops.
 */
function decodeNsh(view: DataView, at: number, end: number, packet: Packet): Stop {
  if (end - at < 8) return Stop.truncated;
  const first = view.getUint16(at);
  const length = (first & 0x3f) << 2;
  if (length < 8) return Stop.malformed;
  if ((first & 0xe000) !== 0) return notRead(NSH, packet);
  if (length > end - at) return Stop.truncated;
  if (!wrap(packet, Encap.nsh, 0)) return Stop.tooDeep;
  return decodeNext(view, at + length, end, view.getUint8(at + 3), packet);
}

/** Next protocols of NSH (RFC 8300 §2.2) and of VXLAN-GPE, which are the same up to these. */
export function decodeNext(
  view: DataView,
  at: number,
  end: number,
  next: number,
  packet: Packet,
): Stop {
  switch (next) {
    case 1: // IPv4
    case 2: // IPv6
      return decodeIp(view, at, end, packet);
    case 3:
      return decodeEthernet(view, at, end, packet);
    case 4:
      return decodeNsh(view, at, end, packet);
    case 5:
      return decodeMpls(view, at, end, packet);
    default:
      return notRead(NSH, packet);
  }
}

function notRead(etherType: number, packet: Packet): Stop {
  packet.unread = (Unread.etherType << 16) | etherType;
  return Stop.notIp;
}
