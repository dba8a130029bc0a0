/** Recognises key-value and document stores by the first message of a side. */
import { Match } from "./match.ts";

/** Inline commands that clients send first (Redis protocol, "Inline commands"). */
const INLINE = /^(PING|HELLO [23][^\r]*|SELECT \d+|INFO[^\r]*|QUIT|ECHO [^\r]*)\r\n/i;

/** A RESP array of bulk strings, `*1\r\n$4\r\n`, or an inline command. */
export function isRedisRequest(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0x2a) return isInlineCommand(view, at, end);
  let i = skipDigits(view, at + 1, end);
  if (i === end) return i - at > 6 ? Match.no : Match.more;
  if (i === at + 1) return Match.no;
  for (const byte of [0x0d, 0x0a, 0x24]) {
    if (i === end) return Match.more;
    if (view.getUint8(i++) !== byte) return Match.no;
  }
  const digits = skipDigits(view, i, end);
  if (digits === end) return digits - i > 9 ? Match.no : Match.more;
  return digits > i && view.getUint8(digits) === 0x0d ? Match.yes : Match.no;
}

function skipDigits(view: DataView, at: number, end: number): number {
  while (at < end && view.getUint8(at) >= 0x30 && view.getUint8(at) <= 0x39) at++;
  return at;
}

function isInlineCommand(view: DataView, at: number, end: number): Match {
  let text = "";
  for (let i = at; i < Math.min(end, at + 128); i++) {
    const byte = view.getUint8(i);
    if (byte !== 0x0d && byte !== 0x0a && (byte < 0x20 || byte > 0x7e)) return Match.no;
    text += String.fromCharCode(byte);
    if (byte === 0x0a) return INLINE.test(text) ? Match.yes : Match.no;
  }
  return end - at < 128 ? Match.more : Match.no;
}
