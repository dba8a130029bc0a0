/** Recognises HTTP/1.x by its first line and HTTP/2 by its preface, and finds where a head ends. */
import { Match, startsWith } from "./match.ts";

const METHODS = [
  ...["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND"],
  ...["PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "M-SEARCH"],
  ...["NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "QUERY"],
].map((method) => `${method} `);

/** Longest first line that is waited for; a longer one is believed by its method. */
const LINE_LIMIT = 4096;

/** METHOD SP request-target SP HTTP/1.x CRLF (RFC 9112 §3). SIP and RTSP share the methods. */
export function isHttpRequest(view: DataView, at: number, end: number): Match {
  let best: Match = Match.no;
  for (const method of METHODS) {
    const match = startsWith(view, at, end, method);
    if (match === Match.yes) return hasHttpVersion(view, at + method.length, end);
    if (match === Match.more) best = Match.more;
  }
  return best;
}

/** Looks at how the first line ends: ` HTTP/1.1`. */
function hasHttpVersion(view: DataView, at: number, end: number): Match {
  const limit = Math.min(end, at + LINE_LIMIT);
  for (let i = at; i < limit; i++) {
    const byte = view.getUint8(i);
    if (byte === 0x0a) {
      const last = view.getUint8(i - 1) === 0x0d ? i - 1 : i;
      if (last - at < 9) return Match.no;
      return startsWith(view, last - 9, last, " HTTP/") === Match.yes ? Match.yes : Match.no;
    }
    if (byte < 0x20 && byte !== 0x0d) return Match.no;
  }
  return limit - at >= LINE_LIMIT ? Match.yes : Match.more;
}

export function isHttpResponse(view: DataView, at: number, end: number): Match {
  const match = startsWith(view, at, end, "HTTP/1.");
  if (match !== Match.yes) return match;
  if (end - at < 12) return Match.more;
  return view.getUint8(at + 8) === 0x20 ? Match.yes : Match.no;
}

/** The client's connection preface (RFC 9113 §3.4). */
export function isHttp2Preface(view: DataView, at: number, end: number): Match {
  return startsWith(view, at, end, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

/** The server's preface: a SETTINGS frame on stream 0, whose length is a multiple of 6. */
export function isHttp2Settings(view: DataView, at: number, end: number): Match {
  if (end - at < 9) return view.getUint8(at) === 0 ? Match.more : Match.no;
  const length = (view.getUint8(at) << 16) | view.getUint16(at + 1);
  const isSettings = view.getUint8(at + 3) === 4 && view.getUint8(at + 4) === 0;
  const isAgreed = length % 6 === 0 && length <= 240 && view.getUint32(at + 5) === 0;
  if (!isSettings || !isAgreed) return Match.no;
  if (length === 0) return Match.yes;
  if (end - at < 11) return Match.more;
  const setting = view.getUint16(at + 9);
  return setting >= 1 && setting <= 0x10 ? Match.yes : Match.no;
}

/** Status code of a response's first line, or 0. */
export function httpStatus(view: DataView, at: number, end: number): number {
  if (isHttpResponse(view, at, end) !== Match.yes) return 0;
  let status = 0;
  for (let i = at + 9; i < at + 12; i++) {
    const digit = view.getUint8(i) - 0x30;
    if (digit < 0 || digit > 9) return 0;
    status = status * 10 + digit;
  }
  return status;
}

/** Position behind the empty line that ends a head (RFC 9112 §2.1), or -1 while it has not come. */
export function httpHeadEnd(view: DataView, at: number, end: number): number {
  for (let i = at; i + 3 < end; i++) {
    if (view.getUint32(i) === 0x0d0a0d0a) return i + 4;
  }
  return -1;
}
