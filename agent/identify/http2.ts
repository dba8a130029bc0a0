/** Tells what runs on HTTP from later bytes: gRPC in HTTP/2, WebSocket and HTTP/2 behind a 101. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { httpHeadEnd, httpStatus } from "./http.ts";
import { Match, find, latin1, startsWith } from "./match.ts";
import type { Opened } from "./upgrade.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER = 9;
/** Largest frame unless a SETTINGS allows more (RFC 9113 §6.5.2). */
const FRAME_LIMIT = 16384;
/** Streams are counted up: few connections live to see as many. */
const STREAM_LIMIT = 0x3ffffff;
/** Frames of a side that are looked through for its first HEADERS. */
const FRAMES = 64;

const Frame = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Bytes of a field block that are looked at: a table's new size, and one field. */
const BLOCK_BEGIN = 6;

const END_HEADERS = 0x4;
const PADDED = 0x8;
const PRIORITY = 0x20;

const frameLength = (view: DataView, at: number) =>
  (view.getUint8(at) << 16) | view.getUint16(at + 1);

/** Reports whether nine bytes are a frame's header: length, type, flags, stream (RFC 9113 §4.1). */
function isFrame(view: DataView, at: number): boolean {
  const length = frameLength(view, at);
  const flags = view.getUint8(at + 4);
  const stream = view.getUint32(at + 5);
  if (length > FRAME_LIMIT || stream > STREAM_LIMIT) return false;
  switch (view.getUint8(at + 3)) {
    case Frame.data:
      return stream > 0 && (flags & ~0x9) === 0;
    case Frame.headers:
      return stream > 0 && length > 0 && (flags & ~0x2d) === 0;
    case Frame.priority:
      return stream > 0 && length === 5;
    case Frame.rstStream:
      return stream > 0 && length === 4;
    case Frame.settings:
      return stream === 0 && length % 6 === 0 && flags <= 1 && (flags === 0 || length === 0);
    case Frame.pushPromise:
      return stream > 0 && length > 4 && (flags & ~0xc) === 0;
    case Frame.ping:
      return stream === 0 && length === 8 && flags <= 1;
    case Frame.goaway:
      return stream === 0 && length >= 8;
    case Frame.windowUpdate:
      return length === 4;
    case Frame.continuation:
      return stream > 0 && (flags & ~0x4) === 0;
    default:
      return false;
  }
}

/**
 * A connection that was joined late: two frames in a row, or HEADERS that begin with a
 * pseudo-header.
 */
export function isHttp2Midstream(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0) return Match.no; // frames of 64 KiB and more are rare
  if (end - at < FRAME_HEADER) return Match.more;
  if (!isFrame(view, at)) return Match.no;
  const length = frameLength(view, at);
  if (view.getUint8(at + 3) === Frame.headers) {
    const flags = view.getUint8(at + 4);
    if ((flags & END_HEADERS) === 0) return Match.no;
    const from = at + FRAME_HEADER + headersSkip(flags);
    const to = Math.min(from + BLOCK_BEGIN, at + FRAME_HEADER + length);
    if (to > end) return Match.more;
    return from < to && beginsWithPseudoHeader(view, from, to) ? Match.yes : Match.no;
  }
  const next = at + FRAME_HEADER + length;
  if (end - next < FRAME_HEADER) return Match.more;
  return isFrame(view, next) ? Match.yes : Match.no;
}

/** Bytes of padding's length and of priority in front of the field block (RFC 9113 §6.2). */
const headersSkip = (flags: number) =>
  ((flags & PADDED) !== 0 ? 1 : 0) + ((flags & PRIORITY) !== 0 ? 5 : 0);

/**
 * Pseudo-headers come first, and the static table has their names at 1 to 14 (RFC 7541 Appendix
 * A); a resized table may be told before (§6.3).
 */
function beginsWithPseudoHeader(view: DataView, at: number, end: number): boolean {
  let byte = view.getUint8(at);
  if (byte >> 5 === 1) {
    let i = at + 1;
    if (byte === 0x3f) while (i < end && view.getUint8(i) >= 0x80) i++;
    if (byte === 0x3f) i++;
    if (i >= end) return false;
    byte = view.getUint8(i);
  }
  if (byte >= 0x80) return (byte >= 0x81 && byte <= 0x8e) || byte >= 0xbe;
  if (byte >= 0x40) return (byte >= 0x41 && byte <= 0x4e) || byte >= 0x7e;
  const name = byte & 0x0f;
  return byte < 0x20 && name >= 1 && name <= 14;
}

const GRPC = "application/grpc";
/** The same in HPACK's Huffman code (RFC 7541 Appendix B): 88 bits, which are whole bytes. */
const GRPC_HUFFMAN = "\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64";
/** `-` in that code, six bits: gRPC-Web (`application/grpc-web`) is another protocol. */
const DASH = 0x16;

/** The content type of a side's first HEADERS (gRPC over HTTP/2, "Requests"). */
function isGrpc({ view, at, end }: Opened): Match {
  const preface = startsWith(view, at, end, PREFACE);
  if (preface === Match.more) return Match.more;
  let from = preface === Match.yes ? at + PREFACE.length : at;
  let isOpen = false;
  for (let i = 0; i < FRAMES; i++) {
    if (end - from < FRAME_HEADER) return Match.more;
    const type = view.getUint8(from + 3);
    const isBlock = type === Frame.headers || (isOpen && type === Frame.continuation);
    const next = from + FRAME_HEADER + frameLength(view, from);
    if (isBlock) {
      if (hasGrpcType(view, from + FRAME_HEADER, Math.min(next, end))) return Match.yes;
      if ((view.getUint8(from + 4) & END_HEADERS) !== 0) return next <= end ? Match.no : Match.more;
      isOpen = true;
    }
    if (next > end) return Match.more;
    from = next;
  }
  return Match.no;
}

function hasGrpcType(view: DataView, at: number, end: number): boolean {
  const plain = find(view, at, end, GRPC);
  if (plain >= 0) {
    const behind = plain + GRPC.length;
    return behind >= end || view.getUint8(behind) !== 0x2d;
  }
  const coded = find(view, at, end, GRPC_HUFFMAN);
  if (coded < 0) return false;
  const behind = coded + GRPC_HUFFMAN.length;
  const length = view.getUint8(coded - 1) & 0x7f;
  const isLonger = length > GRPC_HUFFMAN.length && behind < end;
  return !isLonger || view.getUint8(behind) >> 2 !== DASH;
}

/** `Upgrade: websocket` (RFC 6455 §4.2.2) or `h2c` (RFC 7540 §3.2) in the head of a 101. */
const UPGRADE = /\r\nupgrade:[ \t]*(websocket|h2c)[ \t]*\r\n/i;

/** Longest head of a 101 that is waited for. */
const HEAD_LIMIT = 8192;

/** What is told by what HTTP carries, and not by a side's first bytes. */
export const CARRIED = [
  { protocol: "grpc", side: "either", transport: "tcp", source: "gRPC over HTTP/2, content-type" },
  { protocol: "websocket", side: "server", transport: "tcp", source: "RFC 6455 §4.2.2" },
] as const;

/** What HTTP turned out to carry; `null` while bytes that would tell have not come. */
export function httpCarries(
  protocol: ProtocolName,
  client: Opened | null,
  server: Opened | null,
): ProtocolName | null {
  if (protocol === "http2") {
    const asked = client ? isGrpc(client) : Match.more;
    if (asked !== Match.more) return asked === Match.yes ? "grpc" : "http2";
    const answered = server ? isGrpc(server) : Match.more;
    return answered === Match.more ? null : answered === Match.yes ? "grpc" : "http2";
  }
  if (protocol !== "http") return protocol;
  if (!server) return null;
  const { view, at, end } = server;
  const status = httpStatus(view, at, end);
  if (status !== 101) return end - at < 12 ? null : "http";
  const headEnd = httpHeadEnd(view, at, end);
  if (headEnd < 0) return end - at < HEAD_LIMIT ? null : "http";
  const upgrade = UPGRADE.exec(latin1(view, at, headEnd, HEAD_LIMIT))?.[1]?.toLowerCase();
  return upgrade === "websocket" ? "websocket" : upgrade === "h2c" ? "http2" : "http";
}
