/** Tells a trace of a packet of its flow. */
import { IpProtocol, Tcp } from "../decode/packet.ts";
import type { Packet } from "../decode/packet.ts";
import { Side } from "../flow/flow-record.ts";
import { News } from "../flow/flow-table.ts";
import type { FlowTable } from "../flow/flow-table.ts";
import { CLIENT, SERVER } from "../tls/side.ts";
import { formatAddress } from "../../protocol/address.ts";
import { REFUSAL_NAMES } from "./names.ts";
import type { Trace } from "./trace.ts";

/** The packet was just taken by the table, as one of `flow`; its positions are in `view`. */
export function tellPacket(
  table: FlowTable,
  packet: Packet,
  flow: number,
  view: DataView,
  trace: Trace,
): void {
  const kind = REFUSAL_NAMES.get(packet.unreachable);
  if (kind !== undefined) {
    const { errorSource0, errorSource1, errorSource2, errorSource3 } = packet;
    const sender = formatAddress(errorSource0, errorSource1, errorSource2, errorSource3);
    return trace.error(kind, sender, (table.news & News.refused) !== 0);
  }
  const isTcp = packet.protocol === IpProtocol.tcp;
  const at = flow * 2 + table.side;
  const peer = flow * 2 + 1 - table.side;
  const syn = (packet.flags & Tcp.syn) !== 0 ? 1 : 0;
  const isBased = (table.sideFlags(peer) & Side.based) !== 0;
  const acks = isTcp && isBased && (packet.flags & Tcp.ack) !== 0;
  trace.packet({
    role: table.side === table.client(flow) ? CLIENT : SERVER,
    flags: isTcp ? packet.flags : 0,
    offset: isTcp ? (packet.sequence + syn - table.first(at)) | 0 : -1,
    payloadLength: packet.payloadLength,
    capturedLength: packet.payloadEnd - packet.payloadAt,
    view,
    payloadAt: packet.payloadAt,
    acked: acks ? (packet.acknowledgment - table.first(peer)) | 0 : -1,
  });
}
