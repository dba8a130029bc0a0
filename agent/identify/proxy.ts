/** Reads the PROXY protocol's header, which stands in front of what the client really says. */
import { Match, firstLine, startsWith } from "./match.ts";

const SIGNATURE2 = "\r\n\r\n\0\r\nQUIT\n";
/** Longest header of version 1, its line end included (PROXY protocol §2.1). */
const LINE_LIMIT = 107;

/** `PROXY TCP4 …` and version 2's signature (PROXY protocol §2.1, §2.2). */
export function isProxyHeader(view: DataView, at: number, end: number): Match {
  const text = startsWith(view, at, end, "PROXY ");
  if (text !== Match.no) {
    if (text === Match.more) return Match.more;
    const line = firstLine(view, at, end);
    if (line === null) return end - at > LINE_LIMIT ? Match.no : Match.more;
    return /^PROXY (TCP4|TCP6|UNKNOWN)( |$)/.test(line) ? Match.yes : Match.no;
  }
  const binary = startsWith(view, at, end, SIGNATURE2);
  if (binary !== Match.yes) return binary;
  if (end - at < 16) return Match.more;
  return view.getUint8(at + 12) >> 4 === 2 ? Match.yes : Match.no;
}

/** Bytes of the header; 0 while it is not whole. */
export function proxyHeaderLength(view: DataView, at: number, end: number): number {
  if (view.getUint8(at) === 0x50) {
    const line = firstLine(view, at, end);
    return line === null ? 0 : line.length + 2;
  }
  const length = end - at < 16 ? 0 : 16 + view.getUint16(at + 14);
  return length <= end - at ? length : 0;
}
