/** Judges a handshake: whether it was complete, why it failed, and whether the server accepted. */
import { mayBeAskedLater } from "./client-hello.ts";
import { Alert, Version, isTls13 } from "./codes.ts";
import { CLIENT, SERVER } from "./side.ts";
import type { Handshake } from "./handshake.ts";
import { PROMPT_MS } from "./hidden.ts";
import type { CloseSeen } from "./trace.ts";

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
  if (!h.clientHello && !h.serverHello) return IN_DOUBT;
  const judged = judgeRead(h, quietMs, startMs);
  // What stands behind a bound of ours was not read: it may be what decides.
  const isDecided = judged.handshake === "complete" || judged.handshake === "resumed";
  return h.isBounded && !isDecided ? IN_DOUBT : judged;
}

function judgeRead(h: Handshake, quietMs: number, startMs: number): Judgement {
  if (!h.serverHello) return judgeHello(h, quietMs);
  return isTls13(h.serverHello.version) ? judge13(h) : judge12(h, startMs);
}

/** Milliseconds of capture after which a side that owes an answer is silent, as of a SYN. */
const SILENCE_MS = 30_000;
/** Milliseconds without an answer after which a close means that somebody gave up waiting. */
const GIVEN_UP_MS = 3_000;

/** It may have been refused or not, and that cannot be told. */
const IN_DOUBT: Judgement = { handshake: null, failure: null, accepted: null };
const basisOf = (close: CloseSeen | undefined) => (close?.kind === "rst" ? "reset" : "close");
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
    // It had gone before it knew of the hello.
    if (close.acked === 0) return refusal("server-aborted", SERVER, basisOf(close));
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
  const basis = basisOf(close);
  if (close.side === CLIENT) {
    const sawFlight = h.serverChain !== null && !h.clientKeyExchange;
    if (sawFlight) return refusal("server-cert-refused", CLIENT, basis, null, "likely");
    return refusal("client-aborted", CLIENT, basis);
  }
  // A close refuses what it acknowledges, and at once.
  const isUnheard = close.acked >= 0 && close.acked <= h.flightStart;
  if (isUnheard || close.waitedMs >= PROMPT_MS) return refusal("server-aborted", SERVER, basis);
  if (h.clientShowed === false) {
    return refusal("client-cert-missing", SERVER, basis, null, "likely");
  }
  if (h.clientShowed) return refusal("client-cert-refused", SERVER, basis, null, "likely");
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
  if (h.clientShowed === null && !h.clientKeyExchange) return judgeHelloAlert(code);
  if (h.clientShowed === false) {
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
  } else if (h.clientShowed) {
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
      // A root of the same name and another key: the signature does not match (Envoy, measured).
      case Alert.decryptError:
        return refusal("client-cert-bad", SERVER, "alert", code, "likely");
    }
  } else if (h.asked && code === Alert.handshakeFailure) {
    return refusal("client-cert-missing", SERVER, "alert", code); // SSLv3: no message at all
  }
  return judgeOtherAlert(code, SERVER);
}

/** What a client says of a certificate (RFC 8446 §6.2). */
const CERTIFICATE_ALERTS: ReadonlySet<number> = new Set([
  ...[Alert.badCertificate, Alert.unsupportedCertificate, Alert.certificateRevoked],
  ...[Alert.certificateExpired, Alert.certificateUnknown, Alert.unknownCa, Alert.decryptError],
]);

/** TLS 1.3: behind the ServerHello only sizes, order and ends are left. */
function judge13(h: Handshake): Judgement {
  const { kind } = h.flight;
  const close = h.closes[0];
  const basis = basisOf(close);
  if (h.alert?.side === CLIENT && h.finishedEnd < 0) {
    const isOfCertificate = CERTIFICATE_ALERTS.has(h.alert.code) && !h.serverHello!.selectsPsk;
    if (!isOfCertificate) return judgeOtherAlert(h.alert.code, CLIENT);
    return refusal("server-cert-refused", CLIENT, "alert", h.alert.code);
  }
  if (h.refusedAtHello && h.finishedEnd < 0) {
    return refusal("no-common-parameters", SERVER, "inferred", null, "likely");
  }
  if (kind === "alert") return refusal("server-cert-refused", CLIENT, "inferred", null, "likely");
  if (h.finishedEnd < 0) {
    if (kind !== "incomplete") return IN_DOUBT;
    if (!close) return INCOMPLETE;
    // It had begun to answer, and the rest may hide in what came, or did not.
    if (h.flightStart >= 0 && close.acked > h.flightStart) return IN_DOUBT;
    if (close.side === SERVER) return refusal("server-aborted", SERVER, basis);
    // It left before it had seen anything of the server's.
    if (close.acked <= 0) return refusal("client-aborted", CLIENT, basis);
    return refusal("server-cert-refused", CLIENT, basis, null, "likely");
  }
  const outcome = h.serverHello!.selectsPsk ? "resumed" : "complete";
  const taken: Judgement = { handshake: outcome, failure: null, accepted: null };
  if (h.answered) return { ...taken, accepted: true };
  // Datagrams tell that both sides went on to application data.
  if (h.transport !== "t" && !(h.closes[0]?.side === SERVER || h.alert?.side === SERVER)) {
    return taken;
  }
  if (wentOnBehind(h)) return taken;
  if (h.alert?.side === SERVER || h.refusedByAlert) {
    // Where no certificate was asked for, a close behind the client's data is one like any other.
    const isHeard = close !== undefined && close.acked > h.finishedEnd;
    return h.flight.kind === "none" && isHeard ? IN_DOUBT : refusedFlight(h);
  }
  if (!h.serverPads && h.wasTaken) return taken;
  if (!close) return INCOMPLETE;
  // Who leaves by itself did not wait for a refusal.
  if (close.side === CLIENT || h.clientLeft) return IN_DOUBT;
  if (close.acked <= h.flightStart) return refusal("server-aborted", SERVER, basis);
  // A server may check a certificate for long, or wait and close, or, without tickets, read what
  // the client says, and close: all that looks the same.
  if (h.waited || close.acked > h.finishedEnd) return IN_DOUBT;
  if (h.recordsBehindFinished > 0) return IN_DOUBT; // padded
  return refusedFlight(h);
}

/**
 * Reports whether the handshake's end was seen: in clear, or in TLS 1.3 by what the server sent
 * behind the client's Finished. A padded record may be a ticket or an alert: one tells neither.
 */
export function wentOnBehind(h: Handshake): boolean {
  if (!h.serverHello || !isTls13(h.serverHello.version)) return true;
  return h.recordsBehindFinished > (h.serverPads ? 1 : 0);
}

/** The server left right behind the client's flight: by what the flight was. */
function refusedFlight(h: Handshake): Judgement {
  switch (h.flight.kind) {
    case "presented":
    case "certificate":
      return refusal("client-cert-refused", SERVER, "inferred", null, "likely");
    case "declined":
      return refusal("client-cert-missing", SERVER, "inferred", null, "likely");
    default:
      return refusal("server-aborted", SERVER, basisOf(h.closes[0]), null, "likely");
  }
}

/**
 * How the client authenticated, in the words of `contracts.md`. `isNeverAsked`: the flow is over,
 * and nothing in it can be a certificate that was shown behind the handshake.
 */
export function mutualOf(h: Handshake, isNeverAsked = false): Mutual {
  // A certificate in clear is TLS ≤ 1.2, also where only the client's side was captured.
  if (!h.serverHello) return h.clientShowed ? "yes" : null;
  if (isTls13(h.serverHello.version)) {
    // Who showed none yet may be asked later, out of sight (RFC 8446 §4.6.2).
    const isOpen = mayBeAskedLater(h.clientHello) && !isNeverAsked && !h.refusedByAlert;
    // Behind a PSK no certificate is asked for (RFC 8446 §4.3.2).
    if (h.serverHello.selectsPsk) return isOpen ? null : "resumed";
    switch (h.flight.kind) {
      case "none": {
        // What is left of refused early data may look like a Finished.
        const isEarly = h.clientHello?.offersEarlyData && !h.secondHello && !wentOnBehind(h);
        return isOpen || isEarly ? null : "inferred-no";
      }
      case "declined":
        return isOpen ? null : "inferred-declined";
      case "presented":
        return "inferred-yes";
      default:
        return null;
    }
  }
  if (h.abbreviated) return "resumed";
  if (h.serverHello.version === Version.ssl2) return null; // all of it is encrypted
  if (h.clientShowed) return "yes";
  if (h.renegotiated) return null; // a certificate may have been asked for, out of sight
  if (!h.clientHello) return null; // joined behind it: more may be missing
  if (h.clientShowed === false || h.clientKeyExchange) return "no";
  if (h.serverHelloDone && !h.asked) return "no";
  return null;
}

/** Versions that RFC 8996 and RFC 7568 deprecate. */
export function isDeprecated(version: number): boolean {
  return version < Version.tls12 || version === Version.dtls10;
}
