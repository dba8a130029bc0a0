/** Tells handshakes that begin behind application data: renegotiation, in TLS ≤ 1.2. */
import { ContentType, isTls13 } from "./codes.ts";
import type { Handshake } from "./handshake.ts";
import { RECORD_HEADER, isRecordHeader } from "./record.ts";

/**
 * Reports whether a segment behind the answer, with the payload in `[at, end)`, begins a handshake
 * anew: it is encrypted, and may show what the first one did not (RFC 5246 §7.4.1.1).
 */
export function isLateHandshake(
  { transport, serverHello }: Handshake,
  view: DataView,
  at: number,
  end: number,
): boolean {
  if (end - at < RECORD_HEADER || view.getUint8(at) !== ContentType.handshake) return false;
  if (transport !== "t" || serverHello === null || isTls13(serverHello.version)) return false;
  return isRecordHeader(view, at);
}
