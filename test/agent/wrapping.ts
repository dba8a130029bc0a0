/** Puts IP packets into wrappers of every kind, as their specifications lay them out. */
import { ethernet, ipv4, ipv6, join, u16, udp } from "../frames.ts";
import type { Bytes } from "../frames.ts";

/** Ports that are named as VXLAN's, and one that is not. */
export const VXLAN_PORTS = [5789];
export const OTHER_PORT = 6789;

export type Wrapping = {
  /** Puts an IP packet of this EtherType into a frame. */
  carry: (packet: Bytes, type: number) => Bytes;
  /** Words of the record's `encap`. */
  told: readonly string[];
  /** The cutoff looks into it. */
  isWalked?: true;
  /** What tshark has to be told to read it; null where version 4.0 does not know what it is. */
  shark?: readonly string[] | null;
};

/** From one end of a tunnel to the other. */
export const v4 = (protocol: number, payload: Uint8Array): Bytes =>
  ipv4({ source: "172.16.0.1", destination: "172.16.0.2", protocol }, payload);
export const v6 = (next: number, payload: Uint8Array): Bytes =>
  ipv6({ source: "fd01::1", destination: "fd01::2", next }, payload);
/** Over UDP to a port, behind the header of a tunnel. */
export const over = (to: number, head: readonly number[], inner: Uint8Array): Bytes =>
  v4(17, udp(join(head, inner), { from: 50_000, to }));

export const VXLAN = [8, 0, 0, 0, 0, 0, 42, 0];
/** The bottom of a stack of MPLS labels (RFC 3032 §2.1): 100, TTL 64; and one above it. */
const LABEL = [0, 6, 0x41, 64];
/** Another label, of a pseudowire with a control word (RFC 4385 §3). */
const PSEUDOWIRE = [0, 12, 0x81, 64, 0, 0, 0, 0];
/** And one of a pseudowire without. */
const OTHER_LABEL = [0, 18, 0xc1, 64];
const LABELS = [0, 6, 0x50, 64, ...LABEL];
/** Version 0, TTL 63, length 6 with metadata of type 1 (RFC 8300 §2.2, §2.4), and what is next. */
const nsh = (next: number) => [0x0f, 0xc6, 1, next, 0, 0, 7, 255, ...new Array<number>(16).fill(5)];
/** A routing header with one segment (RFC 8754 §2). */
const segments = (next: number) => [
  ...[next, 2, 4, 0, 0, 0, 0, 0],
  ...[0xfd, 1, ...new Array<number>(13).fill(0), 2],
];
/** An L2TPv3 session (RFC 3931 §4.1), a cookie of so many bytes, and maybe the sublayer (§4.6). */
const session = (cookie: number, sublayer = false) => [
  ...[0, 0, 0, 9],
  ...[0xc0, 0xff, 0xee, 1, 2, 3, 4, 5].slice(0, cookie),
  ...(sublayer ? [0x40, 0, 0, 7] : []),
];
/** How tshark is told what both ends of a session have agreed upon. */
const sharkSession = (cookie: number, sublayer = false) => [
  ...["-d", "l2tp.pw_type==0,eth"],
  ...["-o", `l2tp.cookie_size:${cookie === 0 ? "None" : `${cookie} Byte Cookie`}`],
  ...["-o", `l2tp.l2_specific:${sublayer ? "Default L2-Specific" : "None"}`],
];
const ipNumber = (type: number) => (type === 0x86dd ? 41 : 4);
const gpe = (next: number) => [0x0c, 0, 0, next, 0, 0, 44, 0];

export const WRAPPINGS: Readonly<Record<string, Wrapping>> = {
  "vxlan to a port that is named, with a policy": {
    carry: (packet, type) =>
      ethernet(over(VXLAN_PORTS[0]!, [0x88, 8, 0, 5, 0, 0, 43, 0], ethernet(packet, type))),
    told: ["vxlan:43"],
    isWalked: true,
  },
  "vxlan to another port": {
    carry: (packet, type) => ethernet(over(OTHER_PORT, VXLAN, ethernet(packet, type))),
    told: ["vxlan:42"],
  },
  "vxlan to another port, tagged, in gre": {
    carry: (packet, type) => {
      const tagged = ethernet(join(u16(7), u16(type), packet), 0x8100);
      return ethernet(v4(47, join([0, 0, 8, 0], over(OTHER_PORT, VXLAN, tagged))));
    },
    told: ["gre", "vxlan:42", "vlan:7"],
  },
  fou: {
    carry: (packet) => ethernet(over(OTHER_PORT, [], packet)),
    told: ["fou"],
    shark: null,
  },
  "fou over IPv6": {
    carry: (packet) => ethernet(v6(17, udp(packet, { to: OTHER_PORT })), 0x86dd),
    told: ["fou"],
    shark: null,
  },
  "fou of gre": {
    carry: (packet, type) =>
      ethernet(over(OTHER_PORT, [0x20, 0, ...u16(type), 0, 0, 0, 9], packet)),
    told: ["gre"],
    shark: null,
  },
  "fou of gre of Ethernet": {
    carry: (packet, type) => ethernet(over(OTHER_PORT, [0, 0, 0x65, 0x58], ethernet(packet, type))),
    told: ["gre"],
    shark: null,
  },
  "gue with a field": {
    carry: (packet, type) => ethernet(over(6080, [1, ipNumber(type), 0, 1, 0, 0, 0, 0], packet)),
    told: ["gue", "ipip"],
    shark: null,
  },
  "gue without a header": {
    carry: (packet) => ethernet(over(6080, [], packet)),
    told: ["gue"],
    shark: null,
  },
  "gue to another port": {
    carry: (packet, type) => ethernet(over(OTHER_PORT, [0, ipNumber(type), 0, 0], packet)),
    told: ["gue", "ipip"],
    shark: null,
  },
  "gue of gre to another port": {
    carry: (packet, type) =>
      ethernet(over(OTHER_PORT, [0, 47, 0, 0, 0, 0, 0x65, 0x58], ethernet(packet, type))),
    told: ["gue", "gre"],
    shark: null,
  },
  "gre over udp": {
    carry: (packet, type) => ethernet(over(4754, [0, 0, 0x65, 0x58], ethernet(packet, type))),
    told: ["gre"],
  },
  "mpls over udp": {
    carry: (packet) => ethernet(over(6635, LABELS, packet)),
    told: ["mpls", "mpls"],
  },
  "pseudowire over udp": {
    carry: (packet, type) => ethernet(over(6635, PSEUDOWIRE, ethernet(packet, type))),
    told: ["mpls"],
    shark: ["-d", "mpls.label==200,pwethcw"],
  },
  "pseudowire without a control word": {
    carry: (packet, type) => ethernet(join(OTHER_LABEL, ethernet(packet, type)), 0x8847),
    told: ["mpls"],
    shark: ["-d", "mpls.label==300,pwethnocw"],
  },
  "mpls over ip": { carry: (packet) => ethernet(v4(137, join(LABEL, packet))), told: ["mpls"] },
  "mpls in gre": {
    carry: (packet) => ethernet(v4(47, join([0, 0, 0x88, 0x47], LABEL, packet))),
    told: ["gre", "mpls"],
  },
  "l2tp over udp, both ways": {
    carry: (packet, type) => {
      const ports = packet.length > 100 ? { from: 1701, to: 50_000 } : { from: 50_000, to: 1701 };
      const inner = ethernet(packet, type);
      return ethernet(v4(17, udp(join([0, 3, 0, 0], session(8), inner), ports)));
    },
    told: ["l2tp"],
    shark: sharkSession(8),
  },
  "l2tp to another port": {
    carry: (packet, type) => {
      const inner = join([0, 3, 0, 0], session(4, true), ethernet(packet, type));
      return ethernet(v4(17, udp(inner, { from: OTHER_PORT, to: OTHER_PORT })));
    },
    told: ["l2tp"],
    shark: [...sharkSession(4, true), "-d", `udp.port==${OTHER_PORT},l2tp`],
  },
  ...Object.fromEntries(
    [0, 4, 8].flatMap((cookie) =>
      [false, true].map((sublayer): [string, Wrapping] => {
        const inner = (packet: Bytes, type: number) =>
          join(session(cookie, sublayer), ethernet(packet, type));
        const carry = (packet: Bytes, type: number) => ethernet(v4(115, inner(packet, type)));
        const name = `l2tp over ip, a cookie of ${cookie}${sublayer ? " and a sublayer" : ""}`;
        return [name, { carry, told: ["l2tp"], shark: sharkSession(cookie, sublayer) }];
      }),
    ),
  ),
  "l2tp of PPP": {
    carry: (packet, type) => {
      const ppp = join(u16(0xff03), u16(type === 0x86dd ? 0x57 : 0x21), packet);
      const head = [0x40, 2, ...u16(8 + ppp.length), 0, 1, 0, 2];
      return ethernet(over(1701, head, ppp));
    },
    told: ["l2tp"],
  },
  etherip: {
    carry: (packet, type) => ethernet(v4(97, join([0x30, 0], ethernet(packet, type)))),
    told: ["etherip"],
  },
  "srv6 of Ethernet": {
    carry: (packet, type) => ethernet(v6(43, join(segments(143), ethernet(packet, type))), 0x86dd),
    told: ["srv6"],
  },
  "srv6 of Ethernet, reduced": {
    carry: (packet, type) => ethernet(v6(143, ethernet(packet, type)), 0x86dd),
    told: ["srv6"],
  },
  "srv6 of IP": {
    carry: (packet, type) => ethernet(v6(43, join(segments(ipNumber(type)), packet)), 0x86dd),
    told: ["srv6"],
    isWalked: true,
  },
  "vn-tag": {
    carry: (packet, type) => ethernet(join([0, 3, 0, 0], u16(type), packet), 0x8926),
    told: ["vntag"],
  },
  "vn-tag before a VLAN": {
    carry: (packet, type) =>
      ethernet(join([0x80, 0, 0, 7], u16(0x8100), u16(7), u16(type), packet), 0x8926),
    told: ["vntag", "vlan:7"],
  },
  "e-tag": {
    carry: (packet, type) => ethernet(join([0, 0, 0, 3, 0, 0], u16(type), packet), 0x893f),
    told: ["etag"],
  },
  "cisco metadata": {
    carry: (packet, type) => ethernet(join([1, 1, 0, 1, 0, 10], u16(type), packet), 0x8909),
    told: ["cmd"],
  },
  nsh: {
    carry: (packet, type) => ethernet(join(nsh(type === 0x86dd ? 2 : 1), packet), 0x894f),
    told: ["nsh"],
  },
  "nsh in gpe": {
    carry: (packet, type) => ethernet(over(4790, gpe(4), join(nsh(3), ethernet(packet, type)))),
    told: ["vxlan:44", "nsh"],
  },
  "mpls in gpe": {
    carry: (packet) => ethernet(over(4790, gpe(5), join(LABEL, packet))),
    told: ["vxlan:44", "mpls"],
  },
};
