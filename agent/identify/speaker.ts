/** Tells from a datagram which side sent it, where a protocol's requests and answers differ. */
import { isRtspRequest, isSipResponse } from "./calls.ts";
import { Match } from "./match.ts";
import type { Signature } from "./signatures.ts";
import type { ProtocolName } from "../../protocol/flow-record.ts";

type Side = Signature["side"];
/** Asked of datagrams that the protocol's own signature has taken. */
type Speaker = (view: DataView, at: number, end: number) => Side;

const sideOf = (isClient: boolean): Side => (isClient ? "client" : "server");

/** QR (RFC 1035 §4.1.1). */
const dns: Speaker = (view, at) => sideOf((view.getUint8(at + 2) & 0x80) === 0);

/** Mode (RFC 5905 §7.3): 3 asks, 4 answers; peers and broadcasts have neither side. */
const ntp: Speaker = (view, at) => {
  const mode = view.getUint8(at) & 7;
  return mode === 3 ? "client" : mode === 4 ? "server" : "either";
};

/**
 * Flags (RFC 7296 §3.1): the original initiator's messages have I. Of version 1 (RFC 2408 §3.1) the
 * first message alone tells: no responder has chosen its cookie yet. On port 4500 zeros go before.
 */
const ike: Speaker = (view, at) => {
  if (view.getUint32(at) === 0) at += 4;
  if (view.getUint8(at + 17) !== 0x10) return sideOf((view.getUint8(at + 19) & 0x08) !== 0);
  const isFirst = view.getUint32(at + 8) === 0 && view.getUint32(at + 12) === 0;
  return isFirst ? "client" : "either";
};

/** An initiation, or its response (WireGuard paper §5.4). */
const wireguard: Speaker = (view, at) => {
  const type = view.getUint8(at);
  return type === 1 ? "client" : type === 2 ? "server" : "either";
};

/** Application tags (RFC 4120 §5.10): AS, TGS and AP, 10, 12, 14 to ask; answers, and an error. */
const kerberos: Speaker = (view, at) => {
  const tag = view.getUint8(at);
  if (tag === 0x6a || tag === 0x6c || tag === 0x6e) return "client";
  return tag === 0x6b || tag === 0x6d || tag === 0x6f || tag === 0x7e ? "server" : "either";
};

/** P_CONTROL_HARD_RESET_CLIENT_…, _SERVER_… (OpenVPN network protocol, opcodes). */
const openvpn: Speaker = (view, at) => {
  const opcode = view.getUint8(at) >> 3;
  return sideOf(opcode !== 2 && opcode !== 8);
};

/** Line ends alone keep a path open, and say nothing. */
const sip: Speaker = (view, at, end) => {
  if (view.getUint8(at) < 0x20) return "either";
  return sideOf(isSipResponse(view, at, end) !== Match.yes);
};

const SPEAKERS: ReadonlyMap<ProtocolName, Speaker> = new Map<ProtocolName, Speaker>([
  ["dns", dns],
  ["llmnr", dns],
  ["ntp", ntp],
  ["ike", ike],
  ["wireguard", wireguard],
  ["kerberos", kerberos],
  ["openvpn", openvpn],
  ["sip", sip],
  ["rtsp", (view, at, end) => sideOf(isRtspRequest(view, at, end) === Match.yes)],
  // Told, and never answered.
  ["syslog", () => "client"],
  ["statsd", () => "client"],
]);

/** Who sends such a datagram, by its signature or by what it says. */
export function speakerOf(signature: Signature, view: DataView, at: number, end: number): Side {
  if (signature.side !== "either") return signature.side;
  return SPEAKERS.get(signature.protocol)?.(view, at, end) ?? "either";
}
