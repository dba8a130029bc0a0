/** Names what numbers of packets and flows stand for, as records do. */
import { Encap, IpProtocol, Unreachable } from "../decode/packet.ts";
import { BY_RST } from "../flow/flow-record.ts";
import type { Flow, RefusalName } from "../../protocol/flow-record.ts";

export const ENCAP_NAMES: ReadonlyMap<number, string> = new Map([
  [Encap.vlan, "vlan"],
  [Encap.qinq, "qinq"],
  [Encap.mpls, "mpls"],
  [Encap.pppoe, "pppoe"],
  [Encap.vxlan, "vxlan"],
  [Encap.geneve, "geneve"],
  [Encap.gre, "gre"],
  [Encap.erspan, "erspan"],
  [Encap.ipip, "ipip"],
  [Encap.sixInFour, "6in4"],
  [Encap.gtp, "gtp"],
  [Encap.ah, "ah"],
  [Encap.etherip, "etherip"],
  [Encap.srv6, "srv6"],
  [Encap.nsh, "nsh"],
  [Encap.gue, "gue"],
  [Encap.fou, "fou"],
  [Encap.l2tp, "l2tp"],
  [Encap.vntag, "vntag"],
  [Encap.etag, "etag"],
  [Encap.cmd, "cmd"],
]);

export const PROTO_NAMES: ReadonlyMap<number, Flow["proto"]> = new Map([
  [IpProtocol.tcp, "tcp"],
  [IpProtocol.udp, "udp"],
  [IpProtocol.esp, "esp"],
  [IpProtocol.sctp, "sctp"],
]);

export const REFUSAL_NAMES: ReadonlyMap<number, RefusalName> = new Map([
  [BY_RST, "rst"],
  [Unreachable.net, "icmp-net-unreachable"],
  [Unreachable.host, "icmp-host-unreachable"],
  [Unreachable.protocol, "icmp-protocol-unreachable"],
  [Unreachable.port, "icmp-port-unreachable"],
  [Unreachable.netProhibited, "icmp-net-prohibited"],
  [Unreachable.hostProhibited, "icmp-host-prohibited"],
  [Unreachable.adminProhibited, "icmp-admin-prohibited"],
  [Unreachable.policyFailed, "icmp-policy-failed"],
  [Unreachable.rejectRoute, "icmp-reject-route"],
  [Unreachable.other, "icmp-other"],
]);
