/** Recognises SIP and RTSP by their first line, which both have from HTTP. */
import { Match, find, line, startsWith } from "./match.ts";
import type { Test } from "./match.ts";

/** Methods of RFC 3261 and its extensions (IANA, "SIP Methods"), and of Microsoft's servers. */
const SIP_METHODS = [
  ...["INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "INFO", "PRACK", "SUBSCRIBE"],
  ...["NOTIFY", "UPDATE", "MESSAGE", "REFER", "PUBLISH", "BENOTIFY", "SERVICE", "NEGOTIATE"],
].map((method) => `${method} `);

/** Method SP Request-URI SP SIP/2.0 (RFC 3261 §7.1); a very long URI is believed by its scheme. */
const SIP_REQUEST = /^[A-Z-]+ (?:\S+ SIP\/2\.0 *|sips?:\S{900,})$/i;
const isSipRequestLine = line(SIP_METHODS, SIP_REQUEST);

const CR = 0x0d;
/** Line ends in front of a message that are passed over (RFC 3261 §7.5). */
const BLANK_LIMIT = 8;

/** Position of the first byte that ends no line. */
function behindBlank(view: DataView, at: number, end: number): number {
  const limit = Math.min(end, at + BLANK_LIMIT);
  while (at < limit && (view.getUint8(at) === CR || view.getUint8(at) === 0x0a)) at++;
  return at;
}

const behindBlankLines = (test: Test): Test => {
  return (view, at, end) => {
    const first = view.getUint8(at);
    const from = first === CR ? behindBlank(view, at, end) : at;
    return from === end ? Match.more : test(view, from, end);
  };
};

export const isSipRequest = behindBlankLines(isSipRequestLine);

/** SIP/2.0 SP Status-Code (RFC 3261 §7.2). */
export const isSipResponse = behindBlankLines((view, at, end) => {
  const match = startsWith(view, at, end, "SIP/2.0 ");
  if (match !== Match.yes) return match;
  for (let i = at + 8; i < at + 11; i++) {
    if (i === end) return Match.more;
    if (view.getUint8(i) < 0x30 || view.getUint8(i) > 0x39) return Match.no;
  }
  return Match.yes;
});

/** An extension's method with a SIP URI: in a datagram the whole line is there. */
const SIP_EXTENSION = /^[A-Z][A-Za-z0-9_.!%*+`'~-]* (?:sips?|tel|urn):\S+ SIP\/2\.0 *$/;

export function isSipDatagram(view: DataView, at: number, end: number): Match {
  const from = behindBlank(view, at, end);
  // Keep-alives of RFC 5626 §3.5.1 and §4.4.1 are line ends alone.
  if (from === end) return end - at === 2 || end - at === 4 ? Match.likely : Match.no;
  const first = view.getUint8(from);
  if (first < 0x41 || first > 0x5a) return Match.no;
  if (isSipResponse(view, from, end) === Match.yes) return Match.yes;
  if (isSipRequestLine(view, from, end) === Match.yes) return Match.yes;
  if (find(view, from, Math.min(end, from + 512), " SIP/2.0") < 0) return Match.no;
  return line([""], SIP_EXTENSION)(view, from, end) === Match.yes ? Match.yes : Match.no;
}

const RTSP_METHODS = [
  ...["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER"],
  ...["SET_PARAMETER", "ANNOUNCE", "RECORD", "REDIRECT", "PLAY_NOTIFY"],
].map((method) => `${method} `);

/** Method SP URI SP RTSP/1.0 (RFC 2326 §6.1, RFC 7826 §7.1). */
export const isRtspRequest = line(RTSP_METHODS, /^[A-Z_]+ \S+ RTSP\/\d\.\d *$/i);

export function isRtspResponse(view: DataView, at: number, end: number): Match {
  const match = startsWith(view, at, end, "RTSP/");
  if (match !== Match.yes) return match;
  if (end - at < 9) return Match.more;
  return view.getUint8(at + 8) === 0x20 ? Match.yes : Match.no;
}
