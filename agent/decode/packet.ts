/** Holds what one frame said about addresses, ports, sequence and payload. */

import type { Fragments } from "./fragments.ts";

const NO_VIEW = new DataView(new ArrayBuffer(0));
const NO_PORTS: readonly number[] = [];

/** Why decoding stopped. Codes index the agent's counters, so every frame lands in exactly one. */
export const Stop = {
  none: 0, // decoded down to TCP or UDP payload
  truncated: 1, // a header runs past the captured bytes
  malformed: 2, // a length field contradicts itself
  fragment: 3, // a part of a datagram: counted with the whole, or when that is given up
  notIp: 4, // ARP, LLDP, IEEE 802.3 length frames, …
  notTransport: 5, // an IP protocol that carries no flow read here
  linkType: 6, // a link layer that is not read here
  tooDeep: 7, // more wrappers than `ENCAP_LIMIT`
} as const;
export type Stop = (typeof Stop)[keyof typeof Stop];

/** Names of the stop reasons, by code, as metrics and coverage print them. */
export const STOP_NAMES: readonly string[] = Object.keys(Stop);

/** Most wrappers (VLAN tags, MPLS labels, tunnels) that one frame may have. */
export const ENCAP_LIMIT = 8;

/** Wrapper kinds; an entry of `Packet.encap` is `kind << 24 | identifier`. */
export const Encap = {
  vlan: 1, // IEEE 802.1Q: VLAN identifier
  qinq: 2, // IEEE 802.1ad service tag
  mpls: 3,
  pppoe: 4,
  vxlan: 5, // network identifier
  geneve: 6,
  gre: 7,
  erspan: 8,
  ipip: 9,
  sixInFour: 10,
  gtp: 11,
  ah: 12,
  etherip: 13,
  srv6: 14,
  nsh: 15,
  gue: 16,
  fou: 17,
  l2tp: 18,
  vntag: 19,
  etag: 20,
  cmd: 21,
} as const;

/** What a number is of that names what is not read: see `Packet.unread`. */
export const Unread = { etherType: 0, ppp: 1, llc: 2, ipProtocol: 3 } as const;

/**
 * Why what an ICMP error quotes did not come to its destination, for both versions alike: those
 * that have no name of their own here are `other`.
 */
export const Unreachable = {
  none: 0,
  net: 1,
  host: 2,
  protocol: 3,
  port: 4,
  netProhibited: 5,
  hostProhibited: 6,
  adminProhibited: 7,
  policyFailed: 8,
  rejectRoute: 9,
  other: 10,
} as const;

/** TCP flags as they stand in the header's byte 13 (RFC 9293 §3.1). */
export const Tcp = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;

/** IP protocol numbers (IANA) of what is read. */
export const IpProtocol = {
  icmp: 1,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  gre: 47,
  esp: 50,
  ah: 51,
  icmp6: 58,
  etherip: 97, // RFC 3378
  l2tp: 115, // RFC 3931 §4.1.1
  sctp: 132,
  mpls: 137, // RFC 4023 §3
  ethernet: 143, // RFC 8986 §4.9
} as const;

/**
 * One frame's meaning; a single instance, overwritten by each decode. Its fields may be trusted
 * only after a decode that returned `Stop.none`.
 *
 * Addresses are four int32 words each; an IPv4 address stands as ::ffff:a.b.c.d. A sequence number
 * is an int32: `(a - b) | 0` is the distance from `b` to `a` around the circle, negative when `a`
 * is earlier (RFC 9293 §3.4). Positions `…At`, `…End` are in the frame's view.
 */
export class Packet {
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  sourcePort = 0;
  destinationPort = 0;
  /** IP protocol number. */
  protocol = 0;
  /** IP packet's length on the wire, in bytes. */
  ipLength = 0;
  sequence = 0;
  acknowledgment = 0;
  flags = 0;
  payloadAt = 0;
  payloadEnd = 0;
  /** Payload's length on the wire; more than `payloadEnd - payloadAt` where a snap cut it. */
  payloadLength = 0;
  /** Of an ICMP error, about the flow that the other fields name: one of `Unreachable`; else 0. */
  unreachable: number = Unreachable.none;
  /** Who sent that error; of other packets, who sent an earlier one. */
  errorSource0 = 0;
  errorSource1 = 0;
  errorSource2 = 0;
  errorSource3 = 0;
  encapCount = 0;
  readonly encap = new Int32Array(ENCAP_LIMIT);
  /** What the positions are in: the frame's view, or one where fragments were put together. */
  view: DataView = NO_VIEW;
  /** Packets on the wire that this one stands for: its fragments, else 1. */
  parts = 1;
  /** 1 when fragments carried different bytes for the same place. */
  disagreed = 0;
  /**
   * What stands there instead, where a decode returned `Stop.notIp`: `kind << 16 | number`, the
   * kind one of `Unread`. Where it returned `Stop.notTransport`, `protocol` tells it.
   */
  unread = 0;
  /** Ports that are looked at as VXLAN's, beside the usual ones. */
  vxlanPorts: readonly number[] = NO_PORTS;
  /** Where fragments are put together; without it the first one stands for its datagram. */
  fragments: Fragments | null = null;
}

/** Notes a wrapper, outermost first; false when there are too many. */
export function wrap(packet: Packet, kind: number, identifier: number): boolean {
  if (packet.encapCount === ENCAP_LIMIT) return false;
  packet.encap[packet.encapCount++] = (kind << 24) | (identifier & 0xffffff);
  return true;
}
