/** Names what is not read: EtherTypes, IP protocols, and why decoding stopped. */
import type { Counters } from "./counters.ts";
import { ENCAP_LIMIT, Unread } from "./decode/packet.ts";

/** IEEE's EtherTypes, as IANA's "IEEE 802 Numbers" and Wireshark 4.0 (etypes.h) name them. */
const ETHER_TYPES: ReadonlyMap<number, string> = new Map([
  [0x0806, "ARP"],
  [0x0842, "Wake-on-LAN"],
  [0x22ea, "SRP"],
  [0x22f0, "AVTP"],
  [0x22f3, "TRILL"],
  [0x4305, "batman-adv"],
  [0x6002, "DEC MOP"],
  [0x6003, "DECnet"],
  [0x6558, "transparent Ethernet bridging"],
  [0x8035, "RARP"],
  [0x809b, "AppleTalk"],
  [0x80f3, "AARP"],
  [0x8137, "IPX"],
  [0x8808, "MAC control"],
  [0x8809, "LACP and other slow protocols"],
  [0x8863, "PPPoE discovery"],
  [0x886f, "MS NLB heartbeat"],
  [0x887b, "HomePlug"],
  [0x888e, "EAPOL"],
  [0x8892, "PROFINET"],
  [0x8899, "Realtek"],
  [0x88a2, "ATA over Ethernet"],
  [0x88a4, "EtherCAT"],
  [0x88b8, "GOOSE"],
  [0x88ba, "Sampled Values"],
  [0x88cc, "LLDP"],
  [0x88d9, "LLTD"],
  [0x88e1, "HomePlug AV"],
  [0x88e5, "MACsec"],
  [0x88e7, "provider backbone bridging"],
  [0x88f5, "MVRP"],
  [0x88f7, "PTP"],
  [0x88fb, "PRP"],
  [0x8902, "CFM"],
  [0x8906, "FCoE"],
  [0x8909, "Cisco metadata"],
  [0x8914, "FIP"],
  [0x8915, "RoCE"],
  [0x892f, "HSR"],
  [0x894f, "NSH"],
  [0x9000, "loopback test"],
]);

/** IANA's "Assigned Internet Protocol Numbers". */
const IP_PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [1, "ICMP"],
  [2, "IGMP"],
  [8, "EGP"],
  [9, "IGP"],
  [33, "DCCP"],
  [46, "RSVP"],
  [47, "GRE"],
  [58, "ICMPv6"],
  [59, "no next header"],
  [88, "EIGRP"],
  [89, "OSPF"],
  [94, "IPIP"],
  [97, "EtherIP"],
  [98, "ENCAP"],
  [103, "PIM"],
  [108, "IPComp"],
  [112, "VRRP"],
  [113, "PGM"],
  [115, "L2TP"],
  [124, "IS-IS"],
  [136, "UDP-Lite"],
  [138, "MANET"],
  [141, "WESP"],
  [142, "ROHC"],
  [144, "AGGFRAG"],
]);

/** Service access points of LLC, destination and source. */
const LLC: ReadonlyMap<number, string> = new Map([
  [0x4242, "spanning tree"],
  [0xaaaa, "SNAP"],
  [0xe0e0, "IPX"],
  [0xf0f0, "NetBIOS"],
  [0xfefe, "IS-IS"],
]);

/** PPP protocols (IANA, "Point-to-Point Protocol Field Assignments"). */
const PPP: ReadonlyMap<number, string> = new Map([
  [0x00fd, "compressed"],
  [0x0053, "encrypted"],
  [0x8021, "IPCP"],
  [0x8057, "IPv6CP"],
  [0x80fd, "CCP"],
  [0xc021, "LCP"],
  [0xc023, "PAP"],
  [0xc223, "CHAP"],
]);

const KINDS: Readonly<Record<number, readonly [what: string, names: ReadonlyMap<number, string>]>> =
  {
    [Unread.etherType]: ["EtherType", ETHER_TYPES],
    [Unread.ppp]: ["PPP protocol", PPP],
    [Unread.llc]: ["LLC", LLC],
    [Unread.ipProtocol]: ["IP protocol", IP_PROTOCOLS],
  };

/** A kind as `Packet.unread` says it, in words: `EtherType 0x88cc (LLDP)`. */
function unreadName(kind: number): string {
  const [what, names] = KINDS[kind >>> 16]!;
  const number = kind & 0xffff;
  const isIp = kind >>> 16 === Unread.ipProtocol;
  const told = isIp ? String(number) : `0x${number.toString(16).padStart(4, "0")}`;
  const name = names.get(number);
  return name === undefined ? `${what} ${told}` : `${what} ${told} (${name})`;
}

/** Frames by what is not read in them, in words. */
export function unreadByName({ unread, unreadOthers }: Unreadable): Record<string, number> {
  const named: Record<string, number> = {};
  for (const [kind, count] of unread) named[unreadName(kind)] = count;
  if (unreadOthers > 0) named["others"] = unreadOthers;
  return named;
}

type Unreadable = Pick<Counters, "unread" | "unreadOthers">;

/** What every network has, and no flow is in: told in passing, and only to people. */
const USUAL: ReadonlyMap<number, string> = new Map([
  [(Unread.etherType << 16) | 0x0806, "ARP"],
  [(Unread.etherType << 16) | 0x8035, "RARP"],
  [(Unread.llc << 16) | 0x4242, "spanning tree"],
  [(Unread.ipProtocol << 16) | 1, "ICMP"],
  [(Unread.ipProtocol << 16) | 2, "IGMP"],
  [(Unread.ipProtocol << 16) | 58, "ICMPv6"],
]);

/** Why frames of what is read were not. */
const REASONS: Readonly<Record<string, string>> = {
  truncated: "a header was not captured whole (truncated)",
  malformed: "lengths contradict each other (malformed)",
  tooDeep: `more than ${ENCAP_LIMIT} wrappers (tooDeep)`,
  others: "other kinds",
  fragments: "fragments whose beginning did not come",
};

/** Kinds that are told a line each; of the others the count of all together. */
const KINDS_TOLD = 16;

/**
 * What was not read of a capture: `lines` for every format, most frames first, and `usual`, what
 * carries no flow anywhere. `lost` are fragments of datagrams whose beginning did not come.
 */
export function tellUnread(counters: Counters, lost: number): { lines: string[]; usual: string[] } {
  // What these four stand for is told by name, or counted with its flow.
  const {
    notIp: _,
    notTransport: __,
    linkType: ___,
    fragment: ____,
    ...reasons
  } = counters.stoppedByName();
  const told = Object.entries({ ...reasons, others: counters.unreadOthers, fragments: lost }).map(
    ([name, n]): [string, number] => [REASONS[name] ?? name, n],
  );
  const usual: string[] = [];
  for (const [kind, n] of counters.unread) {
    const name = USUAL.get(kind);
    if (name === undefined) told.push([unreadName(kind), n]);
    else usual.push(`${n} ${name}`);
  }
  const sorted = told.filter(([, n]) => n > 0).toSorted(([, a], [, b]) => b - a);
  const rest = sorted.splice(KINDS_TOLD).reduce((sum, [, n]) => sum + n, 0);
  if (rest > 0) sorted.push(["further kinds", rest]);
  const lines = sorted.map(([name, n]) => {
    return `${n === 1 ? "1 frame is" : `${n} frames are`} not read: ${name}`;
  });
  return { lines, usual };
}
