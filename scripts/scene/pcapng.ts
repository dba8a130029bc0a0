/** Merges captures of one interface each into one pcapng with named interfaces. */

/** One tcpdump file (microseconds, little-endian, Ethernet) and the name its interface gets. */
export type Capture = { interface: string; bytes: Buffer };

type Packet = { at: bigint; id: number; wireLength: number; frame: Buffer; outbound: boolean };

/** Frames that the host sends into the pod carry this source address (see `network.ts`). */
const HOST_MAC = Buffer.from("eeeeeeeeeeee", "hex");
const SNAP_BYTES = 4096;

/** Reads classic pcap: 24 bytes of header, then 16 bytes and the frame for each packet. */
function readPackets({ bytes }: Capture, id: number): Packet[] {
  if (bytes.length < 24 || bytes.readUInt32LE(0) !== 0xa1b2c3d4) {
    throw new Error("not a little-endian microsecond pcap file");
  }
  const packets: Packet[] = [];
  for (let at = 24; at + 16 <= bytes.length;) {
    const length = bytes.readUInt32LE(at + 8);
    if (at + 16 + length > bytes.length) break; // tcpdump was stopped in the middle of a write.
    const frame = bytes.subarray(at + 16, at + 16 + length);
    packets.push({
      at: BigInt(bytes.readUInt32LE(at)) * 1_000_000n + BigInt(bytes.readUInt32LE(at + 4)),
      id,
      wireLength: bytes.readUInt32LE(at + 12),
      frame,
      outbound: frame.subarray(6, 12).equals(HOST_MAC),
    });
    at += 16 + length;
  }
  return packets;
}

const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** An option: code, length, value, padded to four bytes. */
function option(code: number, value: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, padded(value)]);
}

const END_OF_OPTIONS = Buffer.alloc(4);

/** A block: type, total length, body, total length again (draft-ietf-opsawg-pcapng §3.1). */
function block(type: number, ...body: Buffer[]): Buffer {
  const inside = Buffer.concat(body);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(inside.length + 12, 4);
  return Buffer.concat([head, inside, head.subarray(4)]);
}

function sectionHeader(comment: string): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(0x1a2b3c4d, 0);
  body.writeUInt16LE(1, 4);
  body.writeBigInt64LE(-1n, 8);
  return block(0x0a0d0d0a, body, option(1, Buffer.from(comment)), END_OF_OPTIONS);
}

function interfaceDescription(name: string): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(1, 0); // LINKTYPE_ETHERNET
  body.writeUInt32LE(SNAP_BYTES, 4);
  return block(1, body, option(2, Buffer.from(name)), END_OF_OPTIONS);
}

/** An Enhanced Packet Block; its flags tell the direction as seen by the node: 1 in, 2 out. */
function enhancedPacket(packet: Packet): Buffer {
  const body = Buffer.alloc(20);
  body.writeUInt32LE(packet.id, 0);
  body.writeUInt32LE(Number(packet.at >> 32n), 4);
  body.writeUInt32LE(Number(packet.at & 0xffffffffn), 8);
  body.writeUInt32LE(packet.frame.length, 12);
  body.writeUInt32LE(packet.wireLength, 16);
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(packet.outbound ? 2 : 1);
  return block(6, body, padded(packet.frame), option(2, flags), END_OF_OPTIONS);
}

/** Interfaces in the order given; packets by time, then by interface. */
export function mergeCaptures(captures: readonly Capture[], comment: string): Buffer {
  const packets = captures
    .flatMap((capture, id) => readPackets(capture, id))
    .sort((a, b) => (a.at === b.at ? a.id - b.id : a.at < b.at ? -1 : 1));
  return Buffer.concat([
    sectionHeader(comment),
    ...captures.map((capture) => interfaceDescription(capture.interface)),
    ...packets.map(enhancedPacket),
  ]);
}
