/** Tells of which sides a connection that went on was seen: both, or one alone. */
import { IpProtocol } from "../decode/packet.ts";
import { Side, keyAt } from "./flow-record.ts";
import type { FlowTable } from "./flow-table.ts";

/** `unknown`: not TCP, or nothing shows that the side that was not seen ever answered. */
export const Ways = { unknown: 0, both: 1, client: 2, server: 3 } as const;

/**
 * Sides of which packets were seen, by `Ways`. Some network plugins lead what is sent to a pod past
 * the host's side of its interface (Cilium with BPF host routing: bpf_redirect_peer), so that only
 * what comes from it is seen there.
 */
export function waysOf(table: FlowTable, flow: number, clientSide: number): number {
  if ((table.keys[keyAt(flow) + 9]! & 0xff) !== IpProtocol.tcp) return Ways.unknown;
  const client = flow * 2 + clientSide;
  const server = client ^ 1;
  // What the source counted and did not hand over is among the packets.
  const isClientSeen = table.packets(client) > 0;
  if (isClientSeen && table.packets(server) > 0) return Ways.both;
  const seen = isClientSeen ? client : server;
  if (!showsAnswers(table, flow, seen)) return Ways.unknown;
  return isClientSeen ? Ways.client : Ways.server;
}

/**
 * Reports whether what a side sent shows that the other, of which nothing was seen, sent something
 * too. A SYN, however often repeated, shows nothing of the kind, nor does a SYN-ACK that answers a
 * forged address, nor a single segment of a connection that was joined midway.
 */
function showsAnswers(table: FlowTable, flow: number, seen: number): boolean {
  const flags = table.sideFlags(seen);
  const other = table.sideFlags(seen ^ 1);
  if ((other & Side.based) === 0) return false; // it has acknowledged nothing
  if (table.acked(seen) > 0) return true; // it acknowledges more than it did at first
  if ((flags & Side.syn) === 0) return false;
  // The client acknowledges the SYN of the server; a server speaks when its own is acknowledged.
  return table.client(flow) === (seen & 1) || (flags & Side.data) !== 0;
}
