/** Reads what the kernel tells over rtnetlink: interfaces, and routes to single addresses. */
import { formatAddress } from "../../protocol/address.ts";
import { AF_NETLINK, SOCK_RAW } from "./system-calls.ts";
import type { SystemCalls } from "./system-calls.ts";

/** One interface, as the kernel describes it (linux/if_link.h). */
export type Link = {
  index: number;
  name: string;
  /** Its type, ARPHRD_… of linux/if_arp.h: 1 for Ethernet. */
  hardware: number;
  isUp: boolean;
  /** What made it (IFLA_INFO_KIND): `veth`, `vxlan`, …; null for a device of the hardware. */
  kind: string | null;
  /** Index of the one it is paired with, or stands on; 0 where there is none. */
  peer: number;
  /** That one is in another network namespace. */
  leadsOut: boolean;
  /** Index of the one that it is a port of, else 0; and what kind that is, where it has one. */
  master: number;
  masterKind: string | null;
};

/** What netlink messages are about; an `address` is one that is routed to the interface alone. */
export type OnLinks = {
  link(link: Link): void;
  linkGone(index: number): void;
  /** `table` is the routing table's number; of a route that took another's place nobody tells. */
  address(index: number, address: string, table: number, isReplaced: boolean): void;
  addressGone(index: number, address: string, table: number): void;
  /** Something changed while it was listed, so that some of it may be missing. */
  torn(): void;
};

/** NETLINK_ROUTE; RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE (linux/rtnetlink.h). */
const NETLINK_ROUTE = 0;
const LINKS_AND_ROUTES = 0x1 | 0x40 | 0x400;

/** `struct nlmsghdr`: length(4) | type(2) | flags(2) | sequence(4) | port(4). */
const HEADER_BYTES = 16;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
const NLM_F_REQUEST_DUMP = 0x1 | 0x300;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_REPLACE = 0x100;

/** `struct ifinfomsg`: family(1) | pad(1) | type(2) | index(4) | flags(4) | change(4). */
const LINK_BYTES = 16;
const IFF_UP = 1;
const IFLA_IFNAME = 3;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_EXT_MASK = 29;
const IFLA_LINK_NETNSID = 37;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_SLAVE_KIND = 4;
/** RTEXT_FILTER_SKIP_STATS: counters are half of a link's bytes. */
const SKIP_STATS = 1 << 3;

/**
 * `struct rtmsg`: family(1) | destination bits(1) | source bits(1) | tos(1) | table(1) |
 * protocol(1) | scope(1) | type(1) | flags(4).
 */
const ROUTE_BYTES = 12;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_TABLE = 15;
const RTN_UNICAST = 1;
const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;

/** Attributes follow their message: length(2) | type(2) | value, each begun at a multiple of 4. */
const ATTRIBUTE_BYTES = 4;
/** NLA_F_NESTED and NLA_F_NET_BYTEORDER stand in the type's upper bits. */
const TYPE_MASK = 0x3fff;

/** Most that the kernel puts into one answer (32 KiB), and room to spare. */
const RECEIVE_BYTES = 64 << 10;

/** A socket for dumps, or, with `hears`, one that is told of what changes. */
export function openNetlink(calls: SystemCalls, hears: boolean): number {
  const attempt = "netlink socket";
  const fd = calls.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, attempt);
  // struct sockaddr_nl: family(2) | pad(2) | port(4) | groups(4)
  const address = Uint32Array.of(AF_NETLINK, 0, hears ? LINKS_AND_ROUTES : 0);
  try {
    calls.bind(fd, new Uint8Array(address.buffer), attempt);
    return fd;
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}

const messages = new Uint8Array(new ArrayBuffer(RECEIVE_BYTES));

/**
 * Takes all that waits at the socket; returns false when the kernel lost some of it. It says so
 * before it hands over what came before the loss.
 */
export function hear(calls: SystemCalls, fd: number, on: OnLinks): boolean {
  let isWhole = true;
  for (;;) {
    const length = calls.receive(fd, messages);
    if (length === 0) return isWhole;
    if (length < 0) isWhole = false;
    else readMessages(messages, length, on);
  }
}

/** Asks for all of a kind, `RTM_GETLINK` or `RTM_GETROUTE`; returns false when it was refused. */
export function dump(calls: SystemCalls, fd: number, type: number, on: OnLinks): boolean {
  const request = new DataView(new ArrayBuffer(HEADER_BYTES + LINK_BYTES + ATTRIBUTE_BYTES + 4));
  const isLinks = type === RTM_GETLINK;
  const length = isLinks ? request.byteLength : HEADER_BYTES + ROUTE_BYTES;
  request.setUint32(0, length, true);
  request.setUint16(4, type, true);
  request.setUint16(6, NLM_F_REQUEST_DUMP, true);
  if (isLinks) {
    request.setUint16(HEADER_BYTES + LINK_BYTES, ATTRIBUTE_BYTES + 4, true);
    request.setUint16(HEADER_BYTES + LINK_BYTES + 2, IFLA_EXT_MASK, true);
    request.setUint32(HEADER_BYTES + LINK_BYTES + ATTRIBUTE_BYTES, SKIP_STATS, true);
  }
  calls.write(fd, new Uint8Array(request.buffer, 0, length));
  for (;;) {
    const received = calls.receive(fd, messages);
    if (received <= 0) return false; // the kernel answers at once, or not at all
    const end = readMessages(messages, received, on);
    if (end !== null) return end === NLMSG_DONE;
  }
}

/**
 * Reads netlink messages; returns the type of the one that ends a dump, where there is one. What
 * contradicts itself is passed over.
 */
export function readMessages(bytes: Uint8Array, length: number, on: OnLinks): number | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  let at = 0;
  while (at + HEADER_BYTES <= length) {
    const end = at + view.getUint32(at, true);
    if (end < at + HEADER_BYTES || end > length) return null;
    const type = view.getUint16(at + 4, true);
    if ((view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) on.torn();
    if (type === NLMSG_DONE || type === NLMSG_ERROR) return type;
    if (type === RTM_NEWLINK || type === RTM_DELLINK) readLink(view, at, end, type, on);
    else if (type === RTM_NEWROUTE || type === RTM_DELROUTE) readRoute(view, at, end, type, on);
    at = (end + 3) & ~3;
  }
  return null;
}

/** Calls `each` with the type and the value's place of each attribute in [at, end). */
function readAttributes(
  view: DataView,
  at: number,
  end: number,
  each: (type: number, at: number, end: number) => void,
): void {
  while (at + ATTRIBUTE_BYTES <= end) {
    const next = at + view.getUint16(at, true);
    if (next < at + ATTRIBUTE_BYTES || next > end) return;
    each(view.getUint16(at + 2, true) & TYPE_MASK, at + ATTRIBUTE_BYTES, next);
    at = (next + 3) & ~3;
  }
}

/** Text up to its closing zero. */
function textOf(view: DataView, at: number, end: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset + at, end - at);
  const zero = bytes.indexOf(0);
  return bytes.toString("latin1", 0, zero < 0 ? bytes.length : zero);
}

function readLink(view: DataView, at: number, end: number, type: number, on: OnLinks): void {
  at += HEADER_BYTES;
  if (at + LINK_BYTES > end) return;
  // Bridges tell of their ports with such messages too; one that leaves is not gone.
  if (view.getUint8(at) !== AF_UNSPEC) return;
  const index = view.getInt32(at + 4, true);
  if (type === RTM_DELLINK) return on.linkGone(index);
  const link: Link = {
    ...{ index, name: "", hardware: view.getUint16(at + 2, true), kind: null, peer: 0 },
    isUp: (view.getUint32(at + 8, true) & IFF_UP) !== 0,
    ...{ leadsOut: false, master: 0, masterKind: null },
  };
  readAttributes(view, at + LINK_BYTES, end, (attribute, from, to) => {
    const isNumber = to - from >= 4;
    if (attribute === IFLA_IFNAME) link.name = textOf(view, from, to);
    else if (attribute === IFLA_LINK && isNumber) link.peer = view.getInt32(from, true);
    else if (attribute === IFLA_MASTER && isNumber) link.master = view.getInt32(from, true);
    else if (attribute === IFLA_LINK_NETNSID) link.leadsOut = true;
    else if (attribute === IFLA_LINKINFO) {
      readAttributes(view, from, to, (inner, innerFrom, innerTo) => {
        if (inner === IFLA_INFO_KIND) link.kind = textOf(view, innerFrom, innerTo);
        if (inner === IFLA_INFO_SLAVE_KIND) link.masterKind = textOf(view, innerFrom, innerTo);
      });
    }
  });
  if (index > 0 && link.name !== "") on.link(link);
}

function readRoute(view: DataView, at: number, end: number, type: number, on: OnLinks): void {
  const isReplaced = (view.getUint16(at + 6, true) & NLM_F_REPLACE) !== 0;
  at += HEADER_BYTES;
  if (at + ROUTE_BYTES > end) return;
  const family = view.getUint8(at);
  const isV6 = family === AF_INET6;
  if (!isV6 && family !== AF_INET) return;
  // A route to a whole network says nothing, and neither does one to an address of the node.
  if (view.getUint8(at + 1) !== (isV6 ? 128 : 32)) return;
  if (view.getUint8(at + 7) !== RTN_UNICAST) return;
  let table = view.getUint8(at + 4);
  let index = 0;
  let address = "";
  readAttributes(view, at + ROUTE_BYTES, end, (attribute, from, to) => {
    if (attribute === RTA_OIF && to - from >= 4) index = view.getInt32(from, true);
    else if (attribute === RTA_TABLE && to - from >= 4) table = view.getUint32(from, true);
    else if (attribute === RTA_DST && to - from >= (isV6 ? 16 : 4)) {
      address = isV6
        ? formatAddress(...wordsAt(view, from))
        : formatAddress(0, 0, 0xffff, view.getInt32(from));
    }
  });
  if (index === 0 || address === "") return;
  if (type === RTM_NEWROUTE) on.address(index, address, table, isReplaced);
  else on.addressGone(index, address, table);
}

function wordsAt(view: DataView, at: number): [number, number, number, number] {
  const word = (i: number) => view.getInt32(at + i * 4);
  return [word(0), word(1), word(2), word(3)];
}
