/** Recognises answers by which a server refuses plaintext in plaintext. */
import { latin1Of } from "../read/text.ts";
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
      return ASKS_FOR_TLS.test(latin1Of(view, at, Math.min(end, at + LOOKED_THROUGH)));
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

/** What Envoy's RBAC filter writes (Istio's and Consul's sidecars). */
const RBAC_DENIES = "RBAC: access denied";
/** Fields that a proxy's own 403 has: Linkerd's has no others towards those outside of the mesh. */
const BARE_FIELDS = /^(date|content-length: ?0|connection|l5d-[a-z-]+)\b/i;
/** HPACK (RFC 7541): `:status` with the value 403, by a literal or in Huffman's code. */
const H2_403 = [
  [0x03, 0x34, 0x30, 0x33],
  [0x83, 0x68, 0x0c, 0xff],
];

/**
 * Reports whether the server's first answer may be a mesh's denial, by its proxy, of what came in
 * plaintext: 403 with nothing behind it, or with the words of Envoy's RBAC filter. A program's own
 * 403 may look alike, so that such an answer tells nothing of acceptance.
 */
export function mayBeDenial(protocol: ProtocolName | null, server: Opened): boolean {
  const { view, at, end } = server;
  if (protocol === "http2" || protocol === "grpc") return isBareHttp2Denial(server);
  if (protocol !== "http" || httpStatus(view, at, end) !== 403) return false;
  const text = latin1Of(view, at, Math.min(end, at + LOOKED_THROUGH));
  const answers = text.split("\r\n\r\n");
  const rest = answers.pop()!;
  if (answers.length === 1 && rest.startsWith(RBAC_DENIES)) return true;
  return answers.every(isBareDenial) && (rest === "" || isBareDenial(rest));
}

function isBareDenial(head: string): boolean {
  const [line, ...fields] = head.split("\r\n");
  return /^HTTP\/1\.[01] 403/.test(line!) && fields.every((field) => BARE_FIELDS.test(field));
}

/** The server's first HEADERS frame ends its stream, and begins with `:status: 403`. */
function isBareHttp2Denial({ view, at, end }: Opened): boolean {
  let next = at;
  for (let frames = 0; frames < 16 && end - next >= 9; frames++) {
    const length = (view.getUint8(next) << 16) | view.getUint16(next + 1);
    const [type, flags] = [view.getUint8(next + 3), view.getUint8(next + 4)];
    if (type !== 1) {
      next += 9 + length;
      continue;
    }
    const [isLast, isPlain] = [(flags & 0x01) !== 0, (flags & 0x28) === 0];
    if (!isLast || !isPlain || end - next < 14) return false;
    // Literal with the name of index 8: indexed anew, not indexed, or never indexed.
    if (![0x48, 0x08, 0x18].includes(view.getUint8(next + 9))) return false;
    return H2_403.some((value) => value.every((byte, i) => view.getUint8(next + 10 + i) === byte));
  }
  return false;
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
