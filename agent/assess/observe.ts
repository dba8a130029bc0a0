/** Turns a flow's counters and reading into its record. */
import { Encap, IpProtocol } from "../decode/packet.ts";
import type { FlowTable } from "../flow/flow-table.ts";
import { Fact, Side, keyAt } from "../flow/flow-record.ts";
import { Basis } from "../flow/roles.ts";
import { DIALOGUES } from "../identify/dialogue.ts";
import { mayBeAskedLater } from "../tls/client-hello.ts";
import { isDeprecated, judge, mutualOf, wentOnBehind } from "../tls/failure.ts";
import type { Judgement } from "../tls/failure.ts";
import type { Certificate } from "../tls/certificate.ts";
import { isTls13 } from "../tls/codes.ts";
import { SERVER } from "../tls/side.ts";
import type { Handshake } from "../tls/handshake.ts";
import { formatAddress, formatTime } from "../../protocol/address.ts";
import type { Failure, Flow, ProtocolName, ResumedFrom, Tls } from "../../protocol/flow-record.ts";
import { ENCAP_NAMES, PROTO_NAMES, REFUSAL_NAMES } from "./names.ts";
import type { Reading } from "./reading.ts";
import { clientCertOf, tlsOf } from "./tls-record.ts";

/** Seconds of capture without an answer after which an attempt counts as unanswered. */
const UNANSWERED_SECONDS = 30;

/** Wrappers that are told with their identifier. */
const IDENTIFIED: ReadonlySet<number> = new Set([Encap.vlan, Encap.vxlan, Encap.geneve]);

/** The ends of a flow, client first, and how that order is known. */
export type Ends = { clientSide: number; basis: Flow["client_basis"] };

/** Tells which side is the client: by SYN, by content, by port, or by who was seen first. */
export function endsOf(table: FlowTable, flow: number, reading: Reading | undefined): Ends {
  const told = table.client(flow);
  const basis = table.basis(flow);
  if (basis === Basis.flags) return { clientSide: told, basis: "syn" };
  if (reading?.clientByContent) {
    return { clientSide: reading.swapped ? 1 - told : told, basis: "handshake" };
  }
  return { clientSide: told, basis: basis === Basis.ports ? "port" : "first-seen" };
}

/** Of datagrams, that the first one seen was the server's shows that others came before. */
function isJoined(facts: number, isTcp: boolean, clientSide: number): boolean {
  if (isTcp) return (facts & Fact.midstream) !== 0;
  return ((facts & Fact.fromHigh) !== 0) !== (clientSide === 1);
}

/** The flow's record as far as it is known at `nowUs` (capture time, microseconds). */
export function observe(
  table: FlowTable,
  flow: number,
  reading: Reading | undefined,
  nowUs: number,
): Flow {
  const { clientSide, basis } = endsOf(table, flow, reading);
  const client = flow * 2 + clientSide;
  const server = flow * 2 + 1 - clientSide;
  const k = keyAt(flow);
  const ports = table.keys[k + 8]!;
  const lowPort = ports >>> 16;
  const highPort = ports & 0xffff;
  const facts = table.flowFlags(flow);
  const isTcp = (table.keys[k + 9]! & 0xff) === IpProtocol.tcp;
  const start = formatTime(table.startUs(flow));
  const lastUs = table.lastUs(flow);
  const dstPort = clientSide === 0 ? highPort : lowPort;
  const tls = reading?.tls ?? null;
  const state = stateOf(table, flow, isTcp, nowUs);
  const isWhole = !isTcp || !lacksBytes(table, flow);
  const quietMs = (nowUs - lastUs) / 1000;
  const seen = judgeFlow(table, flow, reading, client, server, quietMs, isWhole);
  const known = isWhole ? seen : withoutAbsence(seen, reading);
  const read = tls || reading?.protocol === "tls" ? tlsOf(tls, dstPort) : null;
  // What a second handshake showed, inside of the first one, is not seen.
  const hides = (facts & Fact.renegotiated) !== 0 && read !== null && read.mutual !== "yes";
  const said = hides ? withMutual(read, null) : read;
  const isUnasked = isWhole && tls !== null && wasNeverAsked(table, flow, client, tls);
  const isLast = table.closings.firstSide(flow) === clientSide && !table.closings.beginsLate(flow);
  // New keys are no reason for a client to leave at once; who is asked for a certificate answers.
  const mayAnswer = isWhole && known.failure === null ? tls?.mayAnswer : null;
  const isDone = mayAnswer === "update" ? isLast : mayAnswer === "request" && isUnasked;
  const late = isDone ? { ...known, accepted: true } : known;
  // A mesh's proxy that asked for a certificate and was shown none may deny inside of the TLS.
  const mayBeDenied =
    late.accepted === true && said?.mutual === "inferred-declined" && said.mesh !== null;
  const judged = mayBeDenied ? { ...late, accepted: null } : late;
  const notes = notesOf(facts, isWhole, reading);
  if (mayBeDenied) notes.push("may-be-denied");
  return {
    start,
    end: formatTime(lastUs),
    proto: PROTO_NAMES.get(table.keys[k + 9]! & 0xff) ?? "udp",
    src_ip: endAddress(table, k, clientSide),
    src_port: clientSide === 0 ? lowPort : highPort,
    dst_ip: endAddress(table, k, 1 - clientSide),
    dst_port: dstPort,
    client_basis: basis,
    encap: encapOf(table, flow),
    packets: [table.packets(client), table.packets(server)],
    bytes: [table.bytes(client), table.bytes(server)],
    state,
    refused_by: REFUSAL_NAMES.get(table.refusedBy(flow)) ?? null,
    midstream: isJoined(facts, isTcp, clientSide),
    protocol: protocolOf(reading),
    encryption: encryptionOf(table, flow, reading),
    upgraded_from: reading?.upgradedFrom ?? null,
    handshake: tls ? judged.handshake : null,
    failure: judged.failure as Failure | null,
    accepted: judged.accepted,
    tls: said && isUnasked ? withMutual(said, mutualOf(tls, true)) : said,
    history: historyOf(table, client, server, reading),
    findings: findingsOf(tls, judged, facts, start, reading),
    notes,
  };
}

/** What the flow speaks, or what carries it: a tunnel's own protocol, whatever is inside. */
function protocolOf(reading: Reading | undefined): ProtocolName | null {
  if (!reading) return null;
  return reading.tunnelOf ?? reading.protocol ?? (reading.isProxied ? "proxy-protocol" : null);
}

/** Names a flow by its start and its ends. */
export function nameOf(table: FlowTable, flow: number): Omit<ResumedFrom, "mutual"> {
  const k = keyAt(flow);
  const side = table.client(flow);
  const [low, high] = [table.keys[k + 8]! >>> 16, table.keys[k + 8]! & 0xffff];
  return {
    start: formatTime(table.startUs(flow)),
    src_ip: endAddress(table, k, side),
    src_port: side === 0 ? low : high,
    dst_ip: endAddress(table, k, 1 - side),
    dst_port: side === 0 ? high : low,
  };
}

function endAddress(table: FlowTable, k: number, side: number): string {
  const at = k + side * 4;
  const keys = table.keys;
  return formatAddress(keys[at]!, keys[at + 1]!, keys[at + 2]!, keys[at + 3]!);
}

function encapOf(table: FlowTable, flow: number): string[] {
  const wrappers = table.wrappers.at(table.encap(flow));
  if (wrappers.length === 0) return [];
  return [...wrappers].map((word) => {
    const kind = word >>> 24;
    const name = ENCAP_NAMES.get(kind) ?? "vlan";
    return IDENTIFIED.has(kind) ? `${name}:${word & 0xffffff}` : name;
  });
}

function stateOf(table: FlowTable, flow: number, isTcp: boolean, nowUs: number): Flow["state"] {
  const facts = table.flowFlags(flow);
  const low = table.sideFlags(flow * 2);
  const high = table.sideFlags(flow * 2 + 1);
  if (table.refusedBy(flow) !== 0) return "refused";
  if (!isTcp) return (facts & Fact.established) !== 0 ? "established" : "attempted";
  if ((low & high & Side.fin) !== 0) return "closed";
  if (((low | high) & Side.rst) !== 0) return "reset";
  if ((facts & Fact.established) !== 0) return "established";
  const quiet = nowUs - table.lastUs(flow) >= UNANSWERED_SECONDS * 1e6;
  return quiet || table.synCount(flow) >= 3 ? "unanswered" : "attempted";
}

function encryptionOf(
  table: FlowTable,
  flow: number,
  reading: Reading | undefined,
): Flow["encryption"] {
  const flags = table.sideFlags(flow * 2) | table.sideFlags(flow * 2 + 1);
  if ((flags & Side.data) === 0) return "none";
  if (reading?.loginOnly) return "plaintext"; // what follows the login is the data
  const isStream = (reading?.tls?.transport ?? "t") === "t";
  if (isStream && (reading?.tls || reading?.protocol === "tls")) return "tls";
  if (reading?.upgrade.gss) return "encrypted-other";
  // A tunnel is what is inside of it; until then its opening stands in plaintext.
  if (reading?.tunnelOf && !reading.tunnelSpoke) return "plaintext";
  switch (reading?.protocol) {
    case null:
    case undefined:
      return "unknown";
    case "quic":
    case "dtls":
      return reading.protocol;
    case "ssh":
    case "esp":
    case "ike":
    case "wireguard":
    case "openvpn":
      return "encrypted-other";
    default:
      // An upgrade under way has said nothing yet about what follows.
      return reading?.upgrade.state === "asked" ? "unknown" : "plaintext";
  }
}

/** Encrypted, and their handshakes not read: an answer on the wire is no acceptance. */
const UNJUDGED: ReadonlySet<ProtocolName> = new Set([
  ...(["tls", "quic", "dtls", "ike", "wireguard", "esp", "openvpn"] as const),
]);

const NOTHING: Judgement = { handshake: null, failure: null, accepted: null };

/**
 * Reports whether bytes of either side are known to exist and were not seen: behind a gap in the
 * stream, or acknowledged by the other side and never captured.
 */
function lacksBytes(table: FlowTable, flow: number): boolean {
  for (const at of [flow * 2, flow * 2 + 1]) {
    if ((table.sideFlags(at) & Side.based) === 0) continue;
    // Behind a side's opening nothing is read, handed over or not.
    const isCut = (table.sideFlags(at) & Side.cutOff) !== 0;
    if (isCut && (table.sideFlags(at) & Side.read) !== 0) continue;
    const sent = table.sent(at);
    const fin = (table.sideFlags(at) & Side.fin) !== 0 ? 1 : 0; // counts as a byte (RFC 9293 §3.4)
    if (table.acked(at ^ 1) > sent + fin) return true;
    const slot = table.slot(at);
    if (slot >= 0 && table.openings.have(slot) < sent) return true;
  }
  return false;
}

/** What was not seen may be what decides: only what stands in the bytes that came is kept. */
function withoutAbsence(judged: Judgement, reading: Reading | undefined): Judgement {
  const { failure } = judged;
  const tls = reading?.tls ?? null;
  const isSeen = tls === null || wentOnBehind(tls);
  // What was not seen may be a certificate that was asked for late, and tickets for that.
  const isLate = tls?.serverHello != null && isTls13(tls.serverHello.version);
  if (isLate && judged.accepted && mayBeAskedLater(tls.clientHello))
    return { ...judged, accepted: null };
  if (!failure && !isSeen && judged.accepted === null) return { ...judged, handshake: null };
  if (!failure || failure.basis === "alert") return judged;
  const isNamed = failure.code !== "tls-to-plaintext" || reading?.serverProtocol;
  const isUpgrade = failure.code === "upgrade-refused" || reading?.upgradedFrom;
  if (failure.basis === "in-band" && isNamed && !isUpgrade) return judged;
  return { handshake: judged.handshake && "incomplete", failure: null, accepted: null };
}

const withMutual = (tls: Tls, mutual: Tls["mutual"]): Tls => ({
  ...tls,
  mutual,
  client_cert: clientCertOf(mutual),
});

/** The most that an end of TLS says: two alerts, as Java pads them. */
const FAREWELL_BYTES = 2 * (5 + 35);

/**
 * A client that may be asked for its certificate later answers such a request. Reports whether it
 * ended, and said no more than farewell since the server's last word: then nobody asked.
 */
function wasNeverAsked(table: FlowTable, flow: number, client: number, tls: Handshake): boolean {
  const isOver = table.closings.firstSide(flow) >= 0 && !table.closings.beginsLate(flow);
  const isCut = (table.sideFlags(client) & Side.cutOff) !== 0;
  return (
    tls.lateFrom >= 0 && isOver && !isCut && table.sent(client) - tls.lateFrom <= FAREWELL_BYTES
  );
}

/** Handshake, failure and acceptance: TLS by its records, plaintext by who answered whom. */
function judgeFlow(
  table: FlowTable,
  flow: number,
  reading: Reading | undefined,
  client: number,
  server: number,
  quietMs: number,
  isWhole: boolean,
): Judgement {
  if (!reading) return NOTHING;
  const served = table.sideFlags(server);
  const spoke = (table.sideFlags(client) & Side.data) !== 0;
  const tls = reading.tls;
  if (tls) {
    if (tls.clientHello && !tls.serverHello && isOtherAnswer(reading, tls)) {
      return refused("tls-to-plaintext", "server", "in-band", "failed");
    }
    const judged = judge(tls, quietMs, table.startUs(flow) / 1000);
    if (judged.failure?.code === "silent" && tls.transport !== "t") {
      return judgeSilence(table, flow, server, judged);
    }
    return answeredOverQuic(table, flow, reading, server) ? { ...judged, accepted: true } : judged;
  }
  if (reading.protocol !== null && UNJUDGED.has(reading.protocol)) return NOTHING;
  if (reading.serverProtocol === "tls" && spoke) {
    return refused("plaintext-to-tls", "server", "in-band", null);
  }
  const other = reading.serverProtocol;
  if (spoke && other === "http" && reading.protocol !== "http" && reading.protocol !== null) {
    return refused("plaintext-to-tls", "server", "in-band", null); // nginx answers 400 to anything
  }
  if (reading.refusedInBand) {
    const code = reading.protocol === "http" ? "plaintext-to-tls" : "plaintext-refused";
    return refused(code, "server", "in-band", null);
  }
  const { upgrade, afterRefusal } = reading;
  const endedBy = table.closings.firstSide(flow);
  const isEnded = endedBy >= 0;
  const isRefused = upgrade.state === "refused" && reading.protocol !== "http";
  if (isRefused && afterRefusal !== "answered") {
    const isOver = afterRefusal === "nothing" && isEnded;
    return isOver ? refused("upgrade-refused", "server", "in-band", null) : NOTHING;
  }
  if ((served & Side.answered) !== 0) {
    // An upgrade that was agreed, or is asked for, is no application data yet.
    const negotiates = upgrade.state === "asked" || upgrade.state === "agreed";
    const mayRefuse = (reading.mayRefuse || reading.isGreeting) && (!isEnded || !isWhole);
    // Where TLS may be asked for at any time, a gap may hide that it was, and was refused.
    const mayHide = upgrade.state === "none" && DIALOGUES.has(reading.protocol!);
    const isUnread = !isWhole && (mayHide || !reading.serverIsRead);
    return negotiates || mayRefuse || isUnread || reading.mayBeDenied
      ? NOTHING
      : { ...NOTHING, accepted: true };
  }
  const isTcp = (table.keys[keyAt(flow) + 9]! & 0xff) === IpProtocol.tcp;
  // A server that speaks first has only greeted: it did not answer either.
  const isUnanswered = (served & Side.data) === 0 || DIALOGUES.has(reading.protocol!);
  const isTurnedDown = endedBy === 1 - table.client(flow);
  return isTcp && spoke && isUnanswered && isTurnedDown ? turnedDown(table, flow) : NOTHING;
}

/** Bytes of a client behind which a close refuses nothing: the server had begun to take them. */
const TAKEN_BYTES = 2048;

/**
 * A server that ended the connection at once, without a byte, refused plaintext: behind what the
 * client said, or before it, and reset what then came. One that had taken kilobytes, or waited, did
 * it for other reasons. A FIN alone looks as that of an application that died.
 */
function turnedDown(table: FlowTable, flow: number): Judgement {
  const { closings } = table;
  const server = flow * 2 + 1 - table.client(flow);
  const acked = table.acked(server);
  const spoken = table.sent(flow * 2 + table.client(flow));
  if (closings.beginsLate(flow) || acked > TAKEN_BYTES) return NOTHING;
  const isReset = (table.sideFlags(server) & Side.rst) !== 0;
  const code = "plaintext-refused";
  if (!closings.beginsByAnswer(flow)) {
    return isReset ? refused(code, "server", "close", null) : NOTHING;
  }
  if (closings.beginsByReset(flow)) return refused(code, "server", "reset", null);
  // Its reset belongs to its close where nothing had come in between.
  const isClosed = closings.beginsByBoth(flow, server & 1) && acked >= spoken;
  const judged = refused(code, "server", "close", null);
  const confidence = isClosed ? "certain" : "likely";
  return { ...judged, failure: { ...judged.failure!, confidence } };
}

/** A client over UDP that goes on for so long without an answer has said its hello again. */
const REPEATED_US = 500_000;

/**
 * Over UDP nothing acknowledges a hello, so one that stands alone may be all that was captured.
 * Only a client that repeats itself shows a silent server, and even then its way may be unseen.
 */
function judgeSilence(
  table: FlowTable,
  flow: number,
  server: number,
  silent: Judgement,
): Judgement {
  const isRepeated = table.lastUs(flow) - table.startUs(flow) >= REPEATED_US;
  if (!isRepeated || table.packets(server) > 0) return { ...NOTHING, handshake: "incomplete" };
  return { ...silent, accepted: null, failure: { ...silent.failure!, confidence: "likely" } };
}

/**
 * More than a server sends before it has read a client's 1-RTT packets, which acknowledge: twice
 * the largest initial window in use (32 packets; RFC 9002 §7.2 recommends 10). It may not read them
 * before it has verified the client's Finished (RFC 9001 §5.7), so behind that much it has;
 * tickets, new connection ids and probes of the path stay far below.
 */
const QUIC_ANSWER_BYTES = 64 * 1500;

/** Reports whether a QUIC server sent so much behind the handshake that it accepted the client. */
function answeredOverQuic(
  table: FlowTable,
  flow: number,
  reading: Reading,
  server: number,
): boolean {
  if (reading.tls?.transport !== "q" || reading.bytesAtFinish === null) return false;
  return table.bytes(server) - reading.bytesAtFinish[server - flow * 2]! > QUIC_ANSWER_BYTES;
}

/** The server answered a hello with bytes that are no TLS. */
function isOtherAnswer(reading: Reading, tls: Handshake): boolean {
  if (tls.transport !== "t") return false; // other datagrams belong to other protocols (RFC 7983)
  // What it said before an upgrade answers the upgrade, and no hello.
  const { upgradedFrom, tunnelOf } = reading;
  const isUpgraded = upgradedFrom !== "proxy-protocol" && upgradedFrom !== tunnelOf;
  if (upgradedFrom !== null && isUpgraded) return false;
  const isNamed = reading.serverProtocol !== null && reading.serverProtocol !== "tls";
  return isNamed || (reading.unmatched[SERVER]! && tls.alert?.side !== SERVER);
}

function refused(
  code: string,
  side: "client" | "server",
  basis: Failure["basis"],
  handshake: Judgement["handshake"],
): Judgement {
  const failure = { code, side, basis, alert: null, confidence: "certain" as const };
  return { handshake, failure, accepted: false };
}

/** SYNs, then what was read, in the order in which it came. */
function historyOf(
  table: FlowTable,
  client: number,
  server: number,
  reading: Reading | undefined,
): string {
  const syn = (table.sideFlags(client) & Side.syn) !== 0 ? "S" : "";
  const answer = (table.sideFlags(server) & Side.syn) !== 0 ? "s" : "";
  const ends = table.closings.letters(client >> 1, table.client(client >> 1));
  return syn + answer + (reading?.letters ?? "") + ends;
}

function findingsOf(
  h: Handshake | null,
  judged: Judgement,
  facts: number,
  start: string,
  reading: Reading | undefined,
): string[] {
  const findings: string[] = [];
  if (h?.serverHello && isDeprecated(h.serverHello.version)) {
    findings.push("tls-version-deprecated");
  }
  if ((facts & Fact.disagreed) !== 0) findings.push("overlap-disagrees");
  if (isPast(h?.serverChain, start) || isPast(h?.clientChain, start)) {
    findings.push("certificate-expired-on-wire");
  }
  if (judged.handshake === "failed") findings.push("handshake-refused");
  if (reading?.upgrade.state === "refused") findings.push("upgrade-refused");
  if (reading?.upgrade.state === "stripped") findings.push("upgrade-stripped");
  return findings;
}

/** Reports whether the leaf was no longer valid; times are RFC 3339 in UTC, in order as texts. */
function isPast(chain: readonly Certificate[] | null | undefined, time: string): boolean {
  const until = chain?.[0]?.notAfter ?? null;
  return until !== null && until < time;
}

function notesOf(facts: number, isWhole: boolean, reading: Reading | undefined): string[] {
  const notes: string[] = [];
  if (!isWhole) notes.push("bytes-missing");
  if ((facts & Fact.disagreed) !== 0) notes.push("overlap-disagrees");
  if ((facts & Fact.noSlot) !== 0) notes.push("opening-full");
  if ((facts & Fact.snapped) !== 0) notes.push("snapped");
  if (reading?.notTls) notes.push("not-tls");
  if (reading?.loginOnly) notes.push("login-only");
  if (reading?.mayBeDenied) notes.push("answered-403");
  const isAnew = reading?.tls?.renegotiated || (facts & Fact.renegotiated) !== 0;
  if (isAnew) notes.push("renegotiated");
  if (reading?.tls?.clientHello?.encryptedClientHello) notes.push("ech");
  if (reading?.tls?.malformed.includes(true)) notes.push("tls-malformed");
  return notes;
}
