/**
 * Tells what bytes are by their own lengths, where neither a port nor a field in front says so: an
 * IP packet, a frame of one, a segment. `length` is always what is there on the wire, of which
 * `[at, end)` is captured.
 */
import { ENCAP_LIMIT, IpProtocol } from "./packet.ts";

/** Tags of a frame that are stepped over. */
const TAGS_LIMIT = 2;
/** What a frame carries when it is padded (IEEE 802.3 §3.2.7), and a check sequence behind it. */
const PADDED = 46 + 4;

/** Length of the IP packet that begins here, as it says; 0 where none does that fits. */
function ipLength(view: DataView, at: number, end: number, length: number): number {
  if (end - at < 20) return 0;
  const version = view.getUint8(at) >> 4;
  if (version === 6) {
    if (end - at < 40) return 0;
    const told = 40 + view.getUint16(at + 4);
    return told > length ? 0 : told;
  }
  const headerLength = (view.getUint8(at) & 0x0f) << 2;
  const told = view.getUint16(at + 2);
  const fits = version === 4 && headerLength >= 20 && told >= headerLength && told <= length;
  return fits ? told : 0;
}

/** Reports whether an IP packet of exactly this length begins here. */
export function isWholeIp(view: DataView, at: number, end: number, length: number): boolean {
  return length > 0 && ipLength(view, at, end, length) === length;
}

/**
 * Reports whether an Ethernet frame with IP or ARP begins here: the EtherType (behind two tags at
 * most), and an IP packet that says the length that is there, or less of a frame that is padded; or
 * what is the same in every ARP packet for IPv4 (RFC 826).
 */
export function isFrameOfIp(view: DataView, at: number, end: number, length: number): boolean {
  let behind = at + 14;
  for (let i = 0; i < TAGS_LIMIT && end - behind >= 4; i++) {
    const type = view.getUint16(behind - 2);
    if (type !== 0x8100 && type !== 0x88a8) break;
    behind += 4;
  }
  if (end - behind < 8) return false;
  const type = view.getUint16(behind - 2);
  if (type === 0x0806) {
    return view.getUint32(behind) === 0x00010800 && view.getUint16(behind + 4) === 0x0604;
  }
  const version = view.getUint8(behind) >> 4;
  if (type === 0x0800 ? version !== 4 : type !== 0x86dd || version !== 6) return false;
  const rest = length - (behind - at);
  const told = ipLength(view, behind, end, rest);
  return told > 0 && (told === rest || rest <= PADDED);
}

/**
 * Reports whether a header of TCP or UDP agrees with what is there: UDP's length is just that;
 * TCP's offset is within, its reserved bits are 0 (RFC 9293 §3.1; but for AE, RFC 9768 §3), and
 * without URG so is its urgent pointer.
 */
export function isSegment(
  view: DataView,
  at: number,
  end: number,
  length: number,
  protocol: number,
): boolean {
  if (protocol === IpProtocol.udp) return end - at >= 8 && view.getUint16(at + 4) === length;
  if (protocol !== IpProtocol.tcp || end - at < 20) return false;
  const offset = view.getUint8(at + 12);
  const headerLength = (offset >> 4) << 2;
  const isUrgent = (view.getUint8(at + 13) & 0x20) !== 0;
  if (headerLength < 20 || headerLength > length || (offset & 0x0e) !== 0) return false;
  return isUrgent || view.getUint16(at + 18) === 0;
}

/**
 * Reports whether an IP packet begins here that nothing else could be: of exactly this length, no
 * fragment, without extension headers, from a host, and with TCP, UDP or (IPv4 alone, RFC 792)
 * ICMP that agrees with it. Of bytes at random one in 2^50 is such a packet.
 */
export function isPlainPacket(view: DataView, at: number, end: number, length: number): boolean {
  if (!isWholeIp(view, at, end, length)) return false;
  if (view.getUint8(at) >> 4 === 6) {
    if (!isUnicast6(view, at + 8)) return false;
    return isSegment(view, at + 40, end, length - 40, view.getUint8(at + 6));
  }
  if ((view.getUint16(at + 6) & 0xbfff) !== 0 || view.getUint8(at + 8) === 0) return false;
  const headerLength = (view.getUint8(at) & 0x0f) << 2;
  const inner = at + headerLength;
  const protocol = view.getUint8(at + 9);
  if (protocol !== IpProtocol.icmp) {
    return isSegment(view, inner, end, length - headerLength, protocol);
  }
  return end - inner >= 8 && view.getUint8(inner) <= 18 && view.getUint8(inner + 1) <= 15;
}

/** Global, unique local or link-local (RFC 4291 §2.4, RFC 4193 §3.1). */
function isUnicast6(view: DataView, at: number): boolean {
  const first = view.getUint16(at);
  return first >> 13 === 1 || first >> 9 === 0x7e || first >> 6 === 0x3fa;
}

/**
 * Reports whether a stack of MPLS labels begins here (RFC 3032 §2.1), with an IP packet behind it,
 * or a frame, with a pseudowire's control word or without: see `decodeMpls`.
 */
export function isLabelStack(view: DataView, at: number, end: number, length: number): boolean {
  for (let i = 0; i < ENCAP_LIMIT; i++) {
    const behind = at + 4 * (i + 1);
    if (end - behind < 20) return false;
    if ((view.getUint8(behind - 2) & 1) === 0) continue;
    const rest = length - (behind - at);
    const nibble = view.getUint8(behind) >> 4;
    if (nibble === 4 || nibble === 6) return isWholeIp(view, behind, end, rest);
    const control = view.getUint16(behind) === 0 ? 4 : 0;
    return isFrameOfIp(view, behind + control, end, rest - control);
  }
  return false;
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
