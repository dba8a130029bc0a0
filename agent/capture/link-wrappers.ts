/** Takes off what some link types put before their frames, and hands on the frame inside. */
import type { OnFrame } from "./frame-source.ts";

/** Where the frame inside stands, and of which link type it is. */
type Inner = { at: number; end: number; linkType: number };

/** Finds the frame inside; false where there is none, as in a record of the capturer's own. */
type Find = (view: DataView, at: number, end: number, isLittle: boolean, inner: Inner) => boolean;

const ETHERNET = 1;
const PPP_HDLC = 50;
const RAW_IP = 101;
const C_HDLC = 104;
const IPV4 = 228;
const IPV6 = 229;

/** PPI (CACE, PPI Packet Header 1.0.7 §3): version(1) | flags(1) | length(2) | link type(4) | … */
function findPpi(view: DataView, at: number, end: number, _: boolean, inner: Inner): boolean {
  if (end - at < 8 || view.getUint8(at) !== 0) return false;
  const header = view.getUint16(at + 2, true);
  inner.at = at + header;
  inner.linkType = view.getUint32(at + 4, true);
  return header >= 8;
}

/** By record type (Endace, ERF Types Reference Guide): bytes before the frame, its link. */
const ERF_TYPES = new Map<number, { before: number; linkType: number }>();
for (const type of [1, 10, 15, 19]) ERF_TYPES.set(type, { before: 0, linkType: PPP_HDLC });
for (const type of [2, 11, 16, 20]) ERF_TYPES.set(type, { before: 2, linkType: ETHERNET });
for (const type of [5, 17]) ERF_TYPES.set(type, { before: 4, linkType: PPP_HDLC });
for (const type of [22, 23]) ERF_TYPES.set(type, { before: 0, linkType: RAW_IP });

/** Most extension headers of an ERF record that are walked. */
const ERF_EXTENSIONS_LIMIT = 16;

/**
 * ERF: time(8) | type(1) | flags(1) | record length(2) | loss or colour(2) | wire length(2), then,
 * where the type's high bit is set, extension headers of 8 bytes, whose own high bit tells of more.
 */
function findErf(view: DataView, at: number, end: number, _: boolean, inner: Inner): boolean {
  if (end - at < 16) return false;
  const type = view.getUint8(at + 8);
  const recordEnd = at + view.getUint16(at + 10);
  let hasMore = type >= 0x80;
  inner.at = at + 16;
  for (let i = 0; hasMore && i < ERF_EXTENSIONS_LIMIT && end > inner.at; i++) {
    hasMore = view.getUint8(inner.at) >= 0x80;
    inner.at += 8;
  }
  const kind = ERF_TYPES.get(type & 0x7f);
  if (hasMore || kind === undefined) return false;
  inner.at += kind.before;
  inner.end = Math.min(end, recordEnd);
  inner.linkType = kind.linkType;
  const isCisco = kind.linkType === PPP_HDLC && end > inner.at && view.getUint8(inner.at) !== 0xff;
  if (isCisco) inner.linkType = C_HDLC;
  return true;
}

/** `NFULA_PAYLOAD` of linux/netfilter/nfnetlink_log.h. */
const NFLOG_PAYLOAD = 9;
/** AF_INET and AF_INET6 of Linux. */
const NFLOG_FAMILIES: ReadonlyMap<number, number> = new Map([
  [2, IPV4],
  [10, IPV6],
]);
/** Most attributes of an NFLOG packet that are walked. */
const NFLOG_ATTRIBUTES_LIMIT = 64;

/**
 * NFLOG (tcpdump.org, LINKTYPE_NFLOG): family(1) | version(1) | group(2), then attributes of
 * length(2) | type(2) | value, each padded to 4, in the byte order of the file.
 */
function findNflog(view: DataView, at: number, end: number, isLittle: boolean, inner: Inner) {
  if (end - at < 4 || view.getUint8(at + 1) !== 0) return false;
  let attribute = at + 4;
  for (let i = 0; i < NFLOG_ATTRIBUTES_LIMIT && end - attribute >= 4; i++) {
    const length = view.getUint16(attribute, isLittle);
    if (length < 4) return false;
    if (view.getUint16(attribute + 2, isLittle) === NFLOG_PAYLOAD) {
      inner.at = attribute + 4;
      inner.end = Math.min(end, attribute + length);
      inner.linkType = NFLOG_FAMILIES.get(view.getUint8(at)) ?? RAW_IP;
      return true;
    }
    attribute += (length + 3) & ~3;
  }
  return false;
}

/** netANALYZER: 4 bytes, little-endian, of which bit 8 tells of an event of its own pins. */
function findNetAnalyzer(view: DataView, at: number, end: number, _: boolean, inner: Inner) {
  inner.at = at + 4;
  inner.linkType = ETHERNET;
  return end - at >= 4 && (view.getUint8(at + 1) & 1) === 0;
}

/** The same, with the preamble (bytes of 0x55) and the start-of-frame byte (IEEE 802.3 §3.2). */
function findTransparent(view: DataView, at: number, end: number, _: boolean, inner: Inner) {
  if (!findNetAnalyzer(view, at, end, _, inner)) return false;
  while (inner.at < end && view.getUint8(inner.at) === 0x55) inner.at++;
  return inner.at < end && view.getUint8(inner.at++) === 0xd5;
}

const PKTAP_V2 = 0x00080000;
const PKTAP_PACKET = 1;

/**
 * PKTAP (tcpdump.org, LINKTYPE_PKTAP), little-endian: length(4) | record type(4) | link type(4) |
 * interface(24) | flags(4) | …; with the flag of version 2: length(1) | offsets(5) | link type(2).
 */
function findPktap(view: DataView, at: number, end: number, _: boolean, inner: Inner): boolean {
  if (end - at < 40) return false;
  if ((view.getUint32(at + 36, true) & PKTAP_V2) !== 0) {
    const header = view.getUint8(at);
    inner.at = at + header;
    inner.linkType = view.getUint16(at + 6, true);
    return header >= 40;
  }
  const header = view.getUint32(at, true);
  inner.at = at + header;
  inner.linkType = view.getUint32(at + 8, true);
  return header >= 40 && view.getUint32(at + 4, true) === PKTAP_PACKET;
}

const FINDS: ReadonlyMap<number, Find> = new Map([
  [192, findPpi],
  [197, findErf],
  [239, findNflog],
  [240, findNetAnalyzer],
  [241, findTransparent],
  [258, findPktap],
]);

/** Hands on what is inside the frames of such a link type; where that is nothing, the whole. */
export function unwrapping(linkType: number, isLittle: boolean, onFrame: OnFrame): OnFrame {
  const find = FINDS.get(linkType)!;
  const inner: Inner = { at: 0, end: 0, linkType: 0 };
  return (view, at, end, wire, outer, lane, direction) => {
    inner.end = end;
    const isFound = find(view, at, end, isLittle, inner) && inner.at <= inner.end;
    // What is not found is counted, and told, as of a link type that is not read.
    if (!isFound || inner.linkType > 0xffff) {
      return onFrame(view, at, end, wire, outer, lane, direction);
    }
    const innerWire = Math.max(0, wire - (inner.at - at));
    onFrame(view, inner.at, inner.end, innerWire, inner.linkType, lane, direction);
  };
}
