/** Listens to plaintext conversations in which TLS may be asked for, message by message. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { find, latin1 } from "./match.ts";

/** What a message means: for the upgrade to TLS, or that a tunnel begins behind it. */
export type Said = "asks" | "agrees" | "refuses" | "stripped" | "tunnels" | null;

/** How one protocol's conversation is cut into messages, and which of them matter. */
export type Dialogue = {
  /** Bytes of the message at `at`; 0 while it is not whole. `index` counts its side's messages. */
  next(view: DataView, at: number, end: number, role: number, index: number): number;
  /** Reads one whole message. */
  hear(view: DataView, at: number, end: number, role: number): Said;
};

const CLIENT = 0;

/** Longest message that is waited for; what is longer is passed over. */
export const MESSAGE_LIMIT = 2048;
/** Bytes of a message that are looked at. */
const LOOKED_AT = 512;

function nextLine(view: DataView, at: number, end: number): number {
  for (let i = at; i < end; i++) if (view.getUint8(i) === 0x0a) return i + 1 - at;
  return 0;
}

/** A conversation in lines: what the client's asks by, and what the server's answers mean. */
function lines(asks: RegExp, agrees: RegExp, refuses: RegExp, stripped?: RegExp): Dialogue {
  return {
    next: nextLine,
    hear: (view, at, end, role) => {
      const text = latin1(view, at, end, LOOKED_AT);
      if (role === CLIENT) return asks.test(text) ? "asks" : null;
      if (stripped?.test(text)) return "stripped";
      if (agrees.test(text)) return "agrees";
      return refuses.test(text) ? "refuses" : null;
    },
  };
}

/** ExtendedRequest by this name asks for TLS (RFC 4511 §4.14). */
const LDAP_START_TLS = "1.3.6.1.4.1.1466.20037";

/** An LDAPMessage (RFC 4511 §4.1.1): a BER sequence. */
const LDAP: Dialogue = {
  next: (view, at, end) => {
    if (end - at < 2) return 0;
    const first = view.getUint8(at + 1);
    const bytes = first < 0x80 ? 0 : first & 0x7f;
    if (bytes > 4 || end - at < 2 + bytes) return 0;
    let length = bytes === 0 ? first : 0;
    for (let i = 0; i < bytes; i++) length = length * 256 + view.getUint8(at + 2 + i);
    return 2 + bytes + length <= end - at ? 2 + bytes + length : 0;
  },
  hear: (view, at, end, role) => {
    const stop = Math.min(end, at + LOOKED_AT);
    if (role === CLIENT) return find(view, at, stop, LDAP_START_TLS) >= 0 ? "asks" : null;
    // [APPLICATION 24] ExtendedResponse: tag, length, then resultCode, ENUMERATED of one byte.
    for (let i = at + 5; i < Math.min(stop, at + 20); i++) {
      if (view.getUint8(i) !== 0x78) continue;
      const code = find(view, i + 2, Math.min(stop, i + 12), "\x0a\x01");
      if (code >= 0 && code + 2 < stop) return view.getUint8(code + 2) === 0 ? "agrees" : "refuses";
    }
    return null;
  },
};

/** The header with protocol identifier 2 asks for TLS; the server repeats it (AMQP 1.0 §5.2.1). */
const AMQP: Dialogue = {
  next: (_view, at, end, _role, index) => (index > 0 ? end - at : end - at < 8 ? 0 : 8),
  hear: (view, at, end, role) => {
    if (end - at !== 8) return null;
    const asks = view.getUint32(at) === 0x414d5150 && view.getUint8(at + 4) === 2;
    if (role === CLIENT) return asks ? "asks" : null;
    return asks ? "agrees" : "refuses";
  },
};

/**
 * A TPKT (RFC 1006 §6) with an X.224 connection request or confirm, which carry
 * RDP_NEG_REQ, RDP_NEG_RSP or RDP_NEG_FAILURE in their last 8 bytes ([MS-RDPBCGR] §2.2.1.1.1).
 */
const RDP: Dialogue = {
  next: (view, at, end) => {
    if (end - at < 4) return 0;
    if (view.getUint8(at) !== 3) return end - at;
    const length = Math.max(4, view.getUint16(at + 2));
    return length <= end - at ? length : 0;
  },
  hear: (view, at, end, role) => {
    const kind = end - at >= 15 ? view.getUint8(at + 5) & 0xf0 : 0;
    const negotiation = end - 8;
    if (kind === 0xe0 && role === CLIENT) {
      const asks = view.getUint8(negotiation) === 1 && view.getUint32(negotiation + 4, true) !== 0;
      return asks ? "asks" : null;
    }
    if (kind !== 0xd0 || role === CLIENT) return null;
    if (view.getUint8(negotiation) === 3) return "refuses";
    const isTls = view.getUint8(negotiation) === 2 && view.getUint32(negotiation + 4, true) !== 0;
    return isTls ? "agrees" : "refuses";
  },
};

/** Elements, each up to its `>` (RFC 6120 §5.4). */
const XMPP: Dialogue = {
  next: (view, at, end) => {
    for (let i = at; i < end; i++) if (view.getUint8(i) === 0x3e) return i + 1 - at;
    return 0;
  },
  hear: (view, at, end, role) => {
    const text = latin1(view, at, end, LOOKED_AT);
    if (role === CLIENT) return /^\s*<starttls\b/.test(text) ? "asks" : null;
    if (/^\s*<proceed\b/.test(text)) return "agrees";
    return /^\s*<failure\b/.test(text) ? "refuses" : null;
  },
};

/** The messages before the tunnel (RFC 1928 §3 to §6, RFC 1929 §2; SOCKS 4 and 4A). */
const SOCKS: Dialogue = {
  next: (view, at, end, role, index) => {
    const left = end - at;
    const wanted =
      role === CLIENT ? socksRequest(view, at, end, index) : socksReply(view, at, end, index);
    return wanted > 0 && wanted <= left ? wanted : 0;
  },
  // Granted: 00 5a of SOCKS 4, or 05 00 with an address of SOCKS 5.
  hear: (view, at, end, role) => {
    if (role === CLIENT || end - at < 8) return null;
    const granted = view.getUint8(at) === 0 ? 0x5a : 0;
    return view.getUint8(at + 1) === granted ? "tunnels" : null;
  },
};

function socksRequest(view: DataView, at: number, end: number, index: number): number {
  if (end - at < 2) return 0;
  const second = view.getUint8(at + 1);
  switch (view.getUint8(at)) {
    case 1: // user name and password
      return end - at < 3 + second ? 0 : 3 + second + view.getUint8(at + 2 + second);
    case 4: {
      const strings = end - at >= 8 && view.getUint32(at + 4) < 256 ? 2 : 1;
      let i = at + 8;
      for (let seen = 0; i < end; i++) if (view.getUint8(i) === 0 && ++seen === strings) break;
      return i < end ? i + 1 - at : 0;
    }
    case 5:
      return index === 0 ? 2 + second : socksAddressed(view, at, end);
    default:
      return end - at;
  }
}

function socksReply(view: DataView, at: number, end: number, index: number): number {
  if (end - at < 2) return 0;
  switch (view.getUint8(at)) {
    case 0:
      return 8;
    case 1:
      return 2;
    case 5:
      // The choice of a method, then the reply.
      return index === 0 ? 2 : socksAddressed(view, at, end);
    default:
      return end - at;
  }
}

/** A request or reply with an address in it (RFC 1928 §4). */
function socksAddressed(view: DataView, at: number, end: number): number {
  if (end - at < 5) return 0;
  switch (view.getUint8(at + 3)) {
    case 1:
      return 10;
    case 3:
      return 7 + view.getUint8(at + 4);
    case 4:
      return 22;
    default:
      return 2;
  }
}

/** Protocols in which TLS may follow a conversation; `upgrade.ts` has those with fixed places. */
export const DIALOGUES: ReadonlyMap<ProtocolName, Dialogue> = new Map<ProtocolName, Dialogue>([
  [
    "smtp", // RFC 3207 §4; some middleboxes write X over the offer
    lines(/^STARTTLS\s*$/i, /^220[ -]/, /^[45]\d\d /, /^250[ -]X{6,}[A-Z]?\s*$/),
  ],
  [
    "imap", // RFC 3501 §6.2.1
    lines(/^\S+ STARTTLS\s*$/i, /^[^*+ ]\S* OK\b/i, /^[^*+ ]\S* (NO|BAD)\b/i),
  ],
  ["pop3", lines(/^STLS\s*$/i, /^\+OK/i, /^-ERR/i)], // RFC 2595 §4
  ["ftp", lines(/^AUTH (TLS|SSL|TLS-C|TLS-P)\s*$/i, /^(234|334)[ -]/, /^[45]\d\d /)], // RFC 4217 §4
  ["irc", lines(/^STARTTLS\s*$/i, /^(:\S+ )?670 /, /^(:\S+ )?(691|421) /)], // IRCv3 tls
  ["nats", lines(/^(?!)/, /^INFO \{.*"tls_required":\s*true/, /^(?!)/)], // NATS protocol, TLS
  ["ldap", LDAP],
  ["amqp", AMQP],
  ["rdp", RDP],
  ["xmpp", XMPP],
  ["socks", SOCKS],
]);
