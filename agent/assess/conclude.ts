/** Says of a flow's record why it says what it says: one reason for each conclusion. */
import { isTls13 } from "../tls/codes.ts";
import { alertName } from "../tls/describe.ts";
import { CLIENT, SERVER } from "../tls/side.ts";
import type { Handshake } from "../tls/handshake.ts";
import type { Flow, Tls } from "../../protocol/flow-record.ts";
import type { Reading } from "./reading.ts";
import { basisWords, endWords, failureWords, refusalWords } from "./words.ts";

/** One field of the record, its value, why it has it, and where the rule is written. */
export type Conclusion = { field: string; value: string; why: string; source: string | null };

export function conclude(record: Flow, reading: Reading | undefined): Conclusion[] {
  const list: Conclusion[] = [];
  const tell = (field: string, value: string, why: string, source: string | null = null) =>
    list.push({ field, value, why, source });
  const h = reading?.tls ?? null;
  tell("client", record.client_basis, CLIENT_BASES[record.client_basis], null);
  tell("state", record.state, stateWhy(record));
  tell("protocol", record.protocol ?? "null", protocolWhy(record));
  tell("encryption", record.encryption, encryptionWhy(record));
  if (record.tls && h) {
    const [why, source] = mutualWhy(record, h);
    tell("tls.mutual", record.tls.mutual ?? "null", why, source);
    if (record.tls.mesh !== null) tell("tls.mesh", record.tls.mesh, meshWhy(record.tls));
  }
  if (record.handshake !== null && h) {
    tell("handshake", record.handshake, handshakeWhy(record, h));
  }
  if (record.failure) {
    const { code, side, basis, alert, confidence } = record.failure;
    const by = side === null || basis === "inferred" ? "" : ` of the ${side}`;
    const told = alert === null ? "" : ` ${alert} (${alertName(alert)})`;
    const sure = confidence === "certain" ? "certain" : "likely, other causes look the same";
    const why = `${failureWords(record.failure)}; ${basisWords(basis)}${told}${by}; ${sure}`;
    tell("failure.code", code, why, basis === "alert" ? "RFC 8446 §6" : null);
  }
  tell("accepted", String(record.accepted), acceptedWhy(record, h));
  for (const finding of record.findings) tell("finding", finding, "");
  for (const note of record.notes) tell("note", note, NOTES[note] ?? "");
  return list;
}

const CLIENT_BASES: Readonly<Record<Flow["client_basis"], string>> = {
  syn: "it sent the SYN",
  handshake: "what it sent is what clients send",
  port: "the other end's port is one that servers have, its own is not",
  "first-seen": "it was seen first; nothing else tells the ends apart",
};

const NOTES: Readonly<Record<string, string>> = {
  "overlap-disagrees": "two segments disagreed about the same bytes; those that came first count",
  "opening-full": "too many connections were being read at once: its bytes were not kept",
  "bytes-missing": "bytes of a stream were not captured: nothing is concluded from their absence",
  snapped: "frames were captured in part only: what was cut off is a gap in the stream",
  "not-tls": "the client's first bytes are no TLS",
  "login-only": "TLS covers the login alone: the data behind it stands in plaintext",
  "answered-403": "a mesh's proxy denies with such an answer: whether it was let in is open",
  "may-be-denied": "the server asked for a certificate and was shown none: it may deny inside",
  renegotiated: "the client began a second handshake inside of the first one, which is not seen",
  ech: "the hello carries an encrypted one inside: the name is the outer one",
  "tls-malformed": "records or messages contradict the protocol; reading stopped there",
};

function stateWhy(record: Flow): string {
  const joined = record.midstream ? "the capture joined it after its start; " : "";
  switch (record.state) {
    case "attempted":
      return record.proto === "tcp"
        ? "a SYN was seen, and the capture ends before an answer"
        : "packets of one direction only were seen";
    case "unanswered":
      return "a SYN was sent, and nobody answered it";
    case "refused":
      return refusedWhy(record);
    case "closed":
      return `${joined}both sides sent a FIN`;
    case "reset":
      return `${joined}a RST ended it`;
    default:
      return `${joined}${endWords(record)}`;
  }
}

function refusedWhy({ refused_by: by }: Flow): string {
  if (by === "icmp-other")
    return "ICMP errors came back, of several kinds or one without a name here";
  return `${by ? refusalWords(by) : "a RST or an ICMP error"} came back, and nothing else`;
}

function protocolWhy({ protocol, upgraded_from, encryption }: Flow): string {
  if (upgraded_from !== null) return `${upgraded_from} negotiated the TLS inside`;
  if (protocol !== null) return "told by its bytes, whatever the port";
  if (encryption === "none") return "no payload was sent";
  return "no signature matched the bytes of either side";
}

/** Protocols that are as encrypted as what they carry. */
const TUNNELS: ReadonlySet<string> = new Set(["http", "socks"]);

function encryptionWhy(record: Flow): string {
  if (record.notes.includes("login-only")) return "TLS covers the login alone, not the data";
  switch (record.encryption) {
    case "tls":
      return record.upgraded_from === null
        ? "the bytes are TLS records"
        : "behind the negotiation the bytes are TLS records";
    case "plaintext":
      return `${record.protocol} was read in clear, and no encryption was begun`;
    case "unknown":
      return record.protocol === null
        ? "bytes that nothing recognises are called neither encrypted nor plaintext"
        : "what follows what was agreed on was not seen, or nothing recognises it";
    case "none":
      return "no payload was sent";
    default:
      return TUNNELS.has(record.protocol ?? "")
        ? "what is inside of the tunnel is encrypted"
        : `${record.protocol ?? "it"} encrypts what it carries`;
  }
}

function mutualWhy(record: Flow, h: Handshake): [string, string | null] {
  if (!h.serverHello) {
    const begun = h.clientHello ? "the server's hello was not seen" : "no hello came whole";
    return [`${begun}: it is not known what would follow`, null];
  }
  if (record.tls?.resumed_from) {
    const { src_ip: ip, src_port: port, start, mutual } = record.tls.resumed_from;
    const showed = `there: ${mutual ?? "not known"}`;
    return [
      `the session goes on from the flow of ${ip}:${port} at ${start}, which issued it; ${showed}`,
      "RFC 5246 §7.3",
    ];
  }
  if (record.tls?.mutual === "resumed") {
    return [
      "the session goes on from an earlier one: no certificate is shown again",
      isTls13(h.serverHello.version) ? "RFC 8446 §2.2" : "RFC 5246 §7.3",
    ];
  }
  if (isTls13(h.serverHello.version)) {
    if (h.transport !== "t") {
      return ["TLS 1.3 encrypts certificates; datagrams hide the sizes that would tell", null];
    }
    const why = {
      none: "its flight is exactly a Finished",
      declined: "its flight is exactly an empty Certificate and a Finished",
      presented: "its flight is too large for anything but a certificate",
      certificate: "it sent a certificate, and nothing tells that it proved to hold its key",
      padded: "its records are padded to whole blocks, which hide what it sent",
      alert: "the client left instead of answering",
      unclear: "the sizes of its flight fit no sum",
      incomplete: "its flight was not seen whole",
    }[h.flight.kind];
    return [`TLS 1.3 encrypts certificates; the client's sizes tell: ${why}`, "RFC 8446 §4.4"];
  }
  if (record.tls?.mutual === null && h.renegotiated) {
    return [
      "what a second handshake, inside of the first one, showed is not seen",
      "RFC 5246 §7.4",
    ];
  }
  if (h.ssl2) return ["SSL 2.0 encrypts what would show a client's certificate", null];
  if (h.clientShowed === false) {
    return ["the client was asked, and sent an empty list", "RFC 5246 §7.4.6"];
  }
  if (h.clientShowed) {
    const isRead = h.clientChain !== null && h.clientChain.length > 0;
    return [`the client's certificate ${isRead ? "was read" : "came"}`, "RFC 5246 §7.4.6"];
  }
  if (record.tls?.mutual === "no") {
    const why = h.asked ? "the client was asked, and sent none" : "the server did not ask for one";
    return [why, "RFC 5246 §7.4.4"];
  }
  return ["the server's flight was not seen whole", null];
}

/** What of the mesh's marks was there, and what its name for the server holds. */
function meshWhy({ mesh_target: target, alpn_offered, sni }: Tls): string {
  const offered = alpn_offered.length > 0 ? `ALPN ${alpn_offered.join(", ")}` : "no ALPN";
  const named = sni === null ? "no SNI" : `SNI ${sni}`;
  const told = `${offered}, ${named}`;
  if (!target) return `${told}: no name of the server stands in clear`;
  const { service, namespace, subset, port, identity, trust_domain: domain } = target;
  const parts = Object.entries({ service, namespace, subset, port, identity, domain })
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name === "domain" ? "trust domain" : name} ${value}`);
  return `${told}: ${parts.join(", ")}`;
}

function handshakeWhy(record: Flow, h: Handshake): string {
  switch (record.handshake) {
    case "complete":
    case "resumed":
      return "both sides' Finished were sent, as far as records tell";
    case "failed":
      return "it was given up: see failure";
    default:
      break;
  }
  const ends =
    record.state === "closed" || record.state === "reset" ? "it ended" : "the capture ends";
  if (!h.clientHello) return `${ends} before the ClientHello came whole`;
  if (!h.serverHello) return `${ends} behind the ClientHello: nothing says that it failed`;
  return `${ends} before both Finished were seen`;
}

function acceptedWhy(record: Flow, h: Handshake | null): string {
  if (record.accepted === false) return "it was refused: see failure";
  if (record.accepted === true) {
    switch (h?.transport) {
      case "t":
        return "the server answered with application data, which acknowledges the Finished";
      case "d":
        return "both sides sent application data behind their Finished";
      case "q":
        return "the server sent more than it may before it has read the client's Finished";
      default:
        return "the server answered the client's bytes";
    }
  }
  if (h?.serverHello) {
    return "no application data of the server's was seen that answers the client";
  }
  if (record.encryption === "none") return "no payload was sent";
  return "nothing seen tells whether the server took it";
}

/** What limits a reading, in words: for flows of which little was seen. */
export function limits(record: Flow, h: Handshake | null): string[] {
  const said: string[] = [];
  if (h?.clientHello && !h.serverHello && record.handshake === "incomplete") {
    said.push("Of TLS there is a ClientHello alone: what was offered is known, nothing agreed.");
  }
  if (h && !h.clientHello && !h.serverHello) {
    said.push("TLS began, but no hello came whole: its rest was not captured, or not yet sent.");
  }
  if (record.midstream) {
    said.push("The capture joined this flow after its start: no handshake can be read.");
  }
  if (record.notes.includes("snapped")) {
    said.push("Frames were captured in part (a snap length): capture whole frames to read more.");
  }
  if (record.notes.includes("bytes-missing") && !record.notes.includes("snapped")) {
    said.push("Bytes of a stream were not captured: the capture dropped frames, or began late.");
  }
  if (record.packets[1] === 0 && record.packets[0] > 0) {
    said.push("Only one direction was captured, or nobody answered.");
  }
  if (h?.malformed[CLIENT]) said.push("The client's stream stops being TLS records.");
  if (h?.malformed[SERVER]) said.push("The server's stream stops being TLS records.");
  return said;
}
