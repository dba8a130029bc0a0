/** Judges a handshake: whether it was complete, why it failed, and whether the server accepted. */
import { Alert, Version, isTls13 } from "./codes.ts";
import { CLIENT, SERVER } from "./handshake.ts";
import type { Handshake } from "./handshake.ts";

export type Outcome = "complete" | "failed" | "incomplete" | "resumed" | null;

/** In the words of `protocol/flow-record.ts`. */
export type Refusal = {
  code: string;
  side: "client" | "server" | null;
  basis: "alert" | "close" | "reset" | "timeout" | "in-band" | "inferred";
  alert: number | null;
  confidence: "certain" | "likely";
};

export type Judgement = { handshake: Outcome; failure: Refusal | null; accepted: boolean | null };

export type Mutual =
  "yes" | "no" | "inferred-yes" | "inferred-declined" | "inferred-no" | "resumed" | null;

function refusal(
  code: string,
  side: number | null,
  basis: Refusal["basis"],
  alert: number | null = null,
  confidence: Refusal["confidence"] = "certain",
): Judgement {
  const who = side === null ? null : side === CLIENT ? "client" : "server";
  const failure = { code, side: who, basis, alert, confidence } as const;
  return { handshake: "failed", failure, accepted: false };
}

/**
 * Judges what was seen. `quietMs` is for how long nothing came since the last packet, within the
 * capture: a side that stays silent is told after `SILENCE_MS`.
 */
export function judge(h: Handshake, quietMs: number, startMs: number): Judgement {
  if (!h.clientHello && !h.serverHello) return { handshake: null, failure: null, accepted: null };
  if (!h.serverHello) return judgeHello(h, quietMs);
  return isTls13(h.serverHello.version) ? judge13(h) : judge12(h, startMs);
}

/** Milliseconds of capture after which a side that owes an answer is silent. */
const SILENCE_MS = 5_000;
/** Milliseconds without an answer after which a close means that somebody gave up waiting. */
const GIVEN_UP_MS = 3_000;

const INCOMPLETE: Judgement = { handshake: "incomplete", failure: null, accepted: null };

/** Only the client's hello was seen, and perhaps an alert or the end. */
function judgeHello(h: Handshake, quietMs: number): Judgement {
  const { alert } = h;
  if (alert?.side === SERVER) return judgeHelloAlert(alert.code);
  if (alert?.side === CLIENT) return refusal("client-aborted", CLIENT, "alert", alert.code);
  const close = h.closes[0];
  if (h.malformed[SERVER]) {
    return close ? refusal("handshake-error", SERVER, "in-band", null, "likely") : INCOMPLETE;
  }
  if (close && close.waitedMs >= GIVEN_UP_MS) return refusal("silent", SERVER, "timeout");
  if (close?.side === SERVER) {
    if (close.kind === "rst") return refusal("server-aborted", SERVER, "reset");
    if (close.kind === "error") return refusal("server-aborted", SERVER, "close");
    return refusal("no-common-parameters", SERVER, "close", null, "likely");
  }
  if (close?.side === CLIENT) {
    const basis = close.kind === "rst" ? "reset" : "close";
    return refusal("client-aborted", CLIENT, basis);
  }
  if (quietMs >= SILENCE_MS) return refusal("silent", SERVER, "timeout");
  return INCOMPLETE;
}

/** The server's alert straight after the hello (RFC 8446 §6.2). */
function judgeHelloAlert(code: number): Judgement {
  switch (code) {
    case Alert.protocolVersion:
      return refusal("no-common-version", SERVER, "alert", code);
    case Alert.noApplicationProtocol:
      return refusal("no-common-alpn", SERVER, "alert", code);
    case Alert.unrecognizedName:
      return refusal("unrecognized-name", SERVER, "alert", code);
    case Alert.handshakeFailure:
    case Alert.illegalParameter:
    case Alert.insufficientSecurity:
      return refusal("no-common-parameters", SERVER, "alert", code);
    case Alert.unexpectedMessage: // Java, without a common group
    case Alert.internalError: // Go, whose choice of a configuration or certificate failed
      return refusal("no-common-parameters", SERVER, "alert", code, "likely");
    default:
      return judgeOtherAlert(code, SERVER);
  }
}

function judgeOtherAlert(code: number, side: number): Judgement {
  switch (code) {
    case Alert.badRecordMac:
    case Alert.recordOverflow:
      return refusal("record-error", side, "alert", code);
    case Alert.unexpectedMessage:
    case Alert.decodeError:
    case Alert.decryptError:
      return refusal("handshake-error", side, "alert", code);
    default:
      return refusal(`alert-${code}`, side, "alert", code);
  }
}

/** TLS ≤ 1.2: everything up to the Finished messages stands in clear. */
function judge12(h: Handshake, startMs: number): Judgement {
  const accepted = h.answered ? true : null;
  if (h.clientFinished && h.serverFinished) {
    return { handshake: h.abbreviated ? "resumed" : "complete", failure: null, accepted };
  }
  const { alert } = h;
  if (alert?.side === CLIENT && alert.level === 2) return judgeClientAlert(h, alert.code, startMs);
  if (alert?.side === SERVER && alert.level === 2) return judgeServerAlert(h, alert.code);
  const close = h.closes[0];
  if (!close) return INCOMPLETE;
  const basis = close.kind === "rst" ? "reset" : "close";
  if (close.side === CLIENT) {
    const sawFlight = h.serverChain !== null && !h.clientKeyExchange;
    if (sawFlight) return refusal("server-cert-refused", CLIENT, basis, null, "likely");
    return refusal("client-aborted", CLIENT, basis);
  }
  if (h.clientChain?.length === 0) {
    return refusal("client-cert-missing", SERVER, basis, null, "likely");
  }
  if (h.clientChain) return refusal("client-cert-refused", SERVER, basis, null, "likely");
  return refusal("server-aborted", SERVER, basis);
}

/** The client's alert about the server's flight. */
function judgeClientAlert(h: Handshake, code: number, startMs: number): Judgement {
  if (code === Alert.protocolVersion) return refusal("no-common-version", CLIENT, "alert", code);
  if (h.serverChain === null || h.clientKeyExchange) return judgeOtherAlert(code, CLIENT);
  switch (code) {
    case Alert.certificateExpired:
      return refusal("server-cert-expired", CLIENT, "alert", code);
    case Alert.unknownCa:
      return refusal("server-cert-untrusted", CLIENT, "alert", code);
    case Alert.badCertificate:
    case Alert.unsupportedCertificate:
    case Alert.certificateRevoked:
    case Alert.certificateUnknown:
      return refusal(likelyCertificateFault(h, startMs), CLIENT, "alert", code, "likely");
    default:
      return judgeOtherAlert(code, CLIENT);
  }
}

/** A vague alert about a certificate that can be read: what is visibly wrong with it. */
function likelyCertificateFault(h: Handshake, startMs: number): string {
  const leaf = h.serverChain?.[0];
  if (!leaf) return "server-cert-bad";
  if (leaf.notAfter !== null && Date.parse(leaf.notAfter) < startMs) return "server-cert-expired";
  const name = h.clientHello?.serverName?.toLowerCase();
  if (name !== undefined && !leaf.san.some((n) => coversName(n.toLowerCase(), name))) {
    return "server-cert-name";
  }
  return "server-cert-bad";
}

/** Reports whether a DNS name of a certificate, or its wildcard, covers a host (RFC 9525). */
function coversName(pattern: string, host: string): boolean {
  if (pattern === host) return true;
  if (!pattern.startsWith("*.")) return false;
  const dot = host.indexOf(".");
  return dot > 0 && host.slice(dot + 1) === pattern.slice(2);
}

/** The server's alert: about parameters before its certificate, about the client's after it. */
function judgeServerAlert(h: Handshake, code: number): Judgement {
  if (h.clientChain === null && !h.clientKeyExchange) return judgeHelloAlert(code);
  if (h.clientChain?.length === 0) {
    switch (code) {
      case Alert.handshakeFailure:
      case Alert.noCertificate:
      case Alert.badCertificate:
      case Alert.certificateUnknown:
      case Alert.certificateRequired:
      case Alert.accessDenied:
      case Alert.unexpectedMessage:
      case Alert.decodeError: // GnuTLS
        return refusal("client-cert-missing", SERVER, "alert", code);
    }
  } else if (h.clientChain) {
    switch (code) {
      case Alert.certificateExpired:
        return refusal("client-cert-expired", SERVER, "alert", code);
      case Alert.unknownCa:
        return refusal("client-cert-untrusted", SERVER, "alert", code);
      case Alert.handshakeFailure:
      case Alert.badCertificate:
      case Alert.unsupportedCertificate:
      case Alert.certificateRevoked:
      case Alert.certificateUnknown:
      case Alert.accessDenied:
        return refusal("client-cert-bad", SERVER, "alert", code);
    }
  } else if (h.asked && code === Alert.handshakeFailure) {
    return refusal("client-cert-missing", SERVER, "alert", code); // SSLv3: no message at all
  }
  return judgeOtherAlert(code, SERVER);
}

/** TLS 1.3: behind the ServerHello only sizes, order and ends are left. */
function judge13(h: Handshake): Judgement {
  const answered = h.flight.kind;
  const close = h.closes[0];
  const basis = close?.kind === "rst" ? "reset" : "close";
  if (h.alert?.side === CLIENT && h.finishedEnd < 0) {
    return refusal("server-cert-refused", CLIENT, "alert", h.alert.code);
  }
  if (h.refusedAtHello && h.finishedEnd < 0) {
    return refusal("no-common-parameters", SERVER, "inferred", null, "likely");
  }
  if (answered === "alert")
    return refusal("server-cert-refused", CLIENT, "inferred", null, "likely");
  if (h.finishedEnd < 0) {
    if (!close) return INCOMPLETE;
    if (close.side === CLIENT && answered === "incomplete") {
      // It left before it had seen anything of the server's.
      if (close.acked <= 0) return refusal("client-aborted", CLIENT, basis);
      return refusal("server-cert-refused", CLIENT, basis, null, "likely");
    }
    if (close.side === SERVER && answered === "incomplete") {
      return refusal("server-aborted", SERVER, basis);
    }
    return INCOMPLETE;
  }
  const outcome = h.serverHello!.selectsPsk ? "resumed" : "complete";
  if (h.answered) return { handshake: outcome, failure: null, accepted: true };
  if (isRefused13(h)) {
    if (answered === "presented") {
      return refusal("client-cert-refused", SERVER, "inferred", null, "likely");
    }
    if (answered === "declined") {
      return refusal("client-cert-missing", SERVER, "inferred", null, "likely");
    }
    return refusal("server-aborted", SERVER, basis, null, "likely");
  }
  return { handshake: outcome, failure: null, accepted: null };
}

/**
 * Reports whether the server left right behind the client's Finished: it closed first, or sent what
 * has the size of an alert, and sent no ticket and no answer. A client that left by itself is not
 * refused.
 */
function isRefused13(h: Handshake): boolean {
  if (h.recordsBehindFinished > 0) return false;
  const close = h.closes[0];
  if (h.alert?.side === SERVER) return true;
  return h.refusedByAlert || (close?.side === SERVER && !h.clientLeft());
}

/** How the client authenticated, in the words of `contracts.md`. */
export function mutualOf(h: Handshake): Mutual {
  // A certificate in clear is TLS ≤ 1.2, also where only the client's side was captured.
  if (!h.serverHello) return h.clientChain !== null && h.clientChain.length > 0 ? "yes" : null;
  if (isTls13(h.serverHello.version)) {
    switch (h.flight.kind) {
      case "none":
        return h.serverHello.selectsPsk ? "resumed" : "inferred-no";
      case "declined":
        return "inferred-declined";
      case "presented":
        return "inferred-yes";
      default:
        return null;
    }
  }
  if (h.abbreviated) return "resumed";
  if (h.serverHello.version === Version.ssl2) return null; // all of it is encrypted
  if (h.clientChain !== null && h.clientChain.length > 0) return "yes";
  if (h.renegotiated) return null; // a certificate may have been asked for, out of sight
  if (h.clientChain !== null || h.clientKeyExchange) return "no";
  if (h.serverHelloDone && !h.asked) return "no";
  return null;
}

/** Versions that RFC 8996 and RFC 7568 deprecate. */
export function isDeprecated(version: number): boolean {
  return version < Version.tls12 || version === Version.dtls10;
}
