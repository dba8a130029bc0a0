/** Recognises answers by which a server refuses plaintext in plaintext. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { httpStatus } from "./http.ts";
import type { Opened } from "./upgrade.ts";

/** What servers write when plain HTTP reaches their TLS port: nginx, Go, Apache, Tomcat, Envoy. */
const ASKS_FOR_TLS =
  /sent to HTTPS port|HTTP request to an HTTPS server|plain HTTP to an SSL|requires TLS/i;
/** Bytes of an answer that are looked through. */
const LOOKED_THROUGH = 1024;

/** Reports whether the server's first bytes say that this protocol is not taken in plaintext. */
export function refusesPlaintext(protocol: ProtocolName | null, server: Opened): boolean {
  const { view, at, end } = server;
  switch (protocol) {
    case "http": {
      const status = httpStatus(view, at, end);
      if (status < 400 || status > 499) return false;
      return ASKS_FOR_TLS.test(latin1(view, at, Math.min(end, at + LOOKED_THROUGH)));
    }
    case "postgresql": {
      // ErrorResponse in the place of an authentication request; an `N` to SSLRequest may precede.
      let first = at;
      while (first < end && view.getUint8(first) === 0x4e) first++;
      return end - first >= 5 && view.getUint8(first) === 0x45 && view.getUint32(first + 1) < 4096;
    }
    case "mysql": {
      // ERR_Packet behind the greeting: the login was not taken.
      const next = behindGreeting(server);
      return end - next >= 5 && view.getUint8(next + 4) === 0xff;
    }
    default:
      return false;
  }
}

/** Where a MySQL server's second packet begins; `end` where its first is not whole. */
function behindGreeting({ view, at, end }: Opened): number {
  if (end - at < 4) return end;
  return Math.min(end, at + 4 + (view.getUint16(at, true) | (view.getUint8(at + 2) << 16)));
}

/**
 * Reports whether bytes that have not come yet may make the answer a refusal: the body of a 4xx,
 * PostgreSQL's first message, what follows MySQL's greeting.
 */
export function mayYetRefuse(protocol: ProtocolName | null, server: Opened): boolean {
  const { view, at, end } = server;
  switch (protocol) {
    case "http": {
      const status = httpStatus(view, at, end);
      return status >= 400 && status <= 499 && end - at < LOOKED_THROUGH;
    }
    case "postgresql": {
      let first = at;
      while (first < end && view.getUint8(first) === 0x4e) first++;
      return first === end || (view.getUint8(first) === 0x45 && end - first < 5);
    }
    case "mysql":
      return end - behindGreeting(server) < 5;
    default:
      return false;
  }
}

function latin1(view: DataView, at: number, end: number): string {
  let text = "";
  for (let i = at; i < end; i++) text += String.fromCharCode(view.getUint8(i));
  return text;
}
