/** Tells which end of a flow is its client, as far as packets' headers do: by flags, by ports. */
import { Tcp } from "../decode/packet.ts";
import type { Packet } from "../decode/packet.ts";

/** What a flow's client is named by. All but `flags` is a guess. */
export const Basis = { firstSeen: 0, ports: 1, flags: 2 } as const;

/** Well-known ports (RFC 6335 §6) are servers'. */
const WELL_KNOWN = 1024;
/** From here on Linux takes ports of connections (ip_local_port_range); others begin at 49152. */
const EPHEMERAL = 32768;

/**
 * The side, 0 or 1, whose port is more likely a server's, of two ports; -1 where neither is. Of
 * datagrams none but well-known ports say so: who sends the first one says as much as others do.
 */
export function serverByPorts(low: number, high: number, isTcp: boolean): number {
  if (low < WELL_KNOWN !== high < WELL_KNOWN) return low < WELL_KNOWN ? 0 : 1;
  if (isTcp && low < EPHEMERAL !== high < EPHEMERAL) return low < EPHEMERAL ? 0 : 1;
  return -1;
}

/**
 * Reports whether a segment answers a SYN, as none but its server does: a SYN-ACK, or a reset of
 * sequence number 0, by which a segment without acknowledgment is refused (RFC 9293 §3.10.7.1).
 */
export function answersSyn({ flags, sequence }: Packet): boolean {
  if ((flags & Tcp.ack) === 0) return false;
  return (flags & Tcp.syn) !== 0 || ((flags & Tcp.rst) !== 0 && sequence === 0);
}
