/** Decodes TCP, UDP, ESP and SCTP headers into a `Packet`. */
import { IpProtocol, Stop } from "./packet.ts";
import type { Packet } from "./packet.ts";
import { decodeUdpTunnel } from "./tunnel.ts";
import { UdpTunnel, udpTunnelOf } from "./udp-tunnel.ts";

/**
 * Decodes the transport header at `at`; `wireEnd` is where the IP packet ends on the wire, which is
 * past `end` when a snap cut the frame.
 */
export function decodeTransport(
  view: DataView,
  at: number,
  end: number,
  wireEnd: number,
  packet: Packet,
): Stop {
  switch (packet.protocol) {
    case IpProtocol.tcp:
      return decodeTcp(view, at, end, wireEnd, packet);
    case IpProtocol.udp:
      return decodeUdp(view, at, end, wireEnd, packet);
    case IpProtocol.esp: // RFC 4303 §2: SPI, sequence number; no ports
      return decodePlain(view, at, end, wireEnd, 8, packet);
    case IpProtocol.sctp: // RFC 9260 §3.1: ports, verification tag, checksum
      return decodePlain(view, at, end, wireEnd, 12, packet);
    default:
      return Stop.notTransport;
  }
}

/**
 * TCP (RFC 9293 §3.1):
 *
 *     +-------------------------------+-------------------------------+
 *     |          source port          |       destination port        |
 *     +-------------------------------+-------------------------------+
 *     |                        sequence number                        |
 *     |                    acknowledgment number                      |
 *     +-------+-------+---------------+-------------------------------+
 *     |offset | rsrvd |     flags     |            window             |
 *     +-------+-------+---------------+-------------------------------+
 *     |           checksum            |        urgent pointer         |
 *     +-------------------------------+-------------------------------+
 */
function decodeTcp(view: DataView, at: number, end: number, wireEnd: number, packet: Packet): Stop {
  if (end - at < 20) return Stop.truncated;
  const headerLength = (view.getUint8(at + 12) >> 4) << 2;
  if (headerLength < 20 || at + headerLength > wireEnd) return Stop.malformed;
  packet.sourcePort = view.getUint16(at);
  packet.destinationPort = view.getUint16(at + 2);
  packet.sequence = view.getInt32(at + 4);
  packet.acknowledgment = view.getInt32(at + 8);
  packet.flags = view.getUint8(at + 13);
  packet.payloadAt = Math.min(at + headerLength, end);
  packet.payloadEnd = end;
  packet.payloadLength = wireEnd - at - headerLength;
  return Stop.none;
}

/** Takes a header of fixed length; only SCTP's begins with ports, ESP's are 0. */
function decodePlain(
  view: DataView,
  at: number,
  end: number,
  wireEnd: number,
  headerLength: number,
  packet: Packet,
): Stop {
  if (end - at < headerLength) return Stop.truncated;
  const hasPorts = packet.protocol === IpProtocol.sctp;
  packet.sourcePort = hasPorts ? view.getUint16(at) : 0;
  packet.destinationPort = hasPorts ? view.getUint16(at + 2) : 0;
  packet.sequence = 0;
  packet.acknowledgment = 0;
  packet.flags = 0;
  packet.payloadAt = at + headerLength;
  packet.payloadEnd = end;
  packet.payloadLength = wireEnd - at - headerLength;
  return Stop.none;
}

/** UDP (RFC 768). A length of 0 is a jumbogram's (RFC 2675 §4): the IP length stands. */
function decodeUdp(view: DataView, at: number, end: number, wireEnd: number, packet: Packet): Stop {
  if (end - at < 8) return Stop.truncated;
  const length = view.getUint16(at + 4);
  if (length !== 0 && length < 8) return Stop.malformed;
  packet.sourcePort = view.getUint16(at);
  packet.destinationPort = view.getUint16(at + 2);
  packet.sequence = 0;
  packet.acknowledgment = 0;
  packet.flags = 0;
  const udpEnd = length === 0 ? wireEnd : Math.min(wireEnd, at + length);
  packet.payloadAt = at + 8;
  packet.payloadEnd = Math.min(end, udpEnd);
  packet.payloadLength = udpEnd - at - 8;
  const tunnel = udpTunnelOf(view, at + 8, packet.payloadEnd, packet.payloadLength, packet);
  if (tunnel === UdpTunnel.none) return Stop.none;
  return decodeUdpTunnel(tunnel, view, at + 8, packet.payloadEnd, udpEnd, packet);
}
