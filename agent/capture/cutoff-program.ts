/**
 * Assembles the eBPF socket filter of the flow cutoff, which hands over the first payload of each
 * side of a flow and counts the rest.
 *
 * What is handed over whatever was before: anything that is no TCP or UDP over IPv4 or IPv6 right
 * behind the link layer (one VLAN tag is stepped over), SYN, FIN, RST, fragments, headers that
 * contradict themselves, UDP to the ports of tunnels, whose inner packets are the flows. Of other
 * packets: payload until its side has spent its budget, and packets without payload (they only
 * acknowledge) until the other side has. A flow that finds no room in the map is handed over whole.
 */
import { Alu, BpfAssembler, Jump, Size } from "./bpf-assembler.ts";
import type { Register } from "./bpf-assembler.ts";

/**
 * The key of a flow, 44 bytes: the addresses of its low and its high end (16 bytes each, IPv4 as
 * ::ffff:a.b.c.d), their ports (2 each), all in network order; interface(4) and protocol(4) in the
 * machine's. Ends are ordered as `agent/flow/flow-key.ts` orders them: by the addresses' words as
 * signed numbers, the last word first, then by port.
 */
export const FLOW_KEY_BYTES = 44;
export const FlowKey = { low: 0, high: 16, ports: 32, index: 36, protocol: 40 } as const;

/**
 * Of a flow, each for the low end and 8 bytes on for the high end: payload handed over; packets and
 * bytes (of IP) that were not, since the entry was made; the same as they stood at the last SYN.
 */
export const FLOW_VALUE_BYTES = 80;
export const FlowValue = { spent: 0, packets: 16, bytes: 32, marked: 48, markedBytes: 64 } as const;

/** Of an interface, by its index: its kind, then counters of 8 bytes. */
export const INTERFACE_VALUE_BYTES = 40;
export const InterfaceValue = {
  kind: 0,
  cutOff: 8,
  cutBytes: 16,
  refused: 24,
  passed: 32,
} as const;
/** What its frames begin with; of others nothing is cut off. */
export const InterfaceKind = { ethernet: 0, rawIp: 1, loopback: 2, other: 3 } as const;

/** Destination ports of VXLAN (two), VXLAN-GPE, Geneve, GTP-U: see `agent/decode/tunnel.ts`. */
const TUNNEL_PORTS = [4789, 8472, 4790, 6081, 2152];

/** Helpers (linux/bpf.h). */
const MAP_LOOKUP = 1;
const MAP_UPDATE = 2;
const LOAD_BYTES = 26;
const NOT_THERE_YET = 1; // BPF_NOEXIST
const EEXIST = 17;

/** `struct __sk_buff`: positions of what is read. */
const LENGTH = 0;
const PACKET_TYPE = 4;
const PROTOCOL = 16;
const INDEX = 40;
const OUTGOING = 4;

/** TCP flags. */
const FIN = 1;
const SYN = 2;
const RST = 4;

/** The stack, below r10: pointers and numbers, the flow's key, headers, a new entry. */
const INTERFACE = -8;
const IP_BYTES = -16;
/** What follows the IP header, and then only the payload, in bytes. */
const REST = -24;
const KEY = -88;
const IP = -136;
const SOURCE = IP + 8; // where IPv6 has it
const DESTINATION = IP + 24;
const TRANSPORT = -160;
const ENTRY = -240;

/** A 16-bit number of the network's as it is loaded on a little-endian machine. */
const swapped = (n: number) => ((n & 0xff) << 8) | (n >>> 8);

export type CutoffProgram = {
  /** Payload of a side that is handed over, in bytes. */
  budget: number;
  /** Captured bytes of packets whose flow is counted, and of all others. */
  snap: number;
  otherSnap: number;
  /** File descriptors of the maps. */
  flows: number;
  interfaces: number;
};

export function assembleCutoff(options: CutoffProgram): Uint8Array<ArrayBuffer> {
  const b = new BpfAssembler();
  // r6: the frame's context. r7: side. r8: position, then TCP flags. r9: type, then protocol.
  b.move(6, { register: 1 });
  findInterface(b, options);
  findNetwork(b);
  readIpv4(b);
  readIpv6(b);
  readTransport(b);
  orderEnds(b);
  decide(b, options);
  open(b, options);
  b.label("pass").move(7, options.snap).jump("hand over");
  b.label("other").move(7, options.otherSnap);
  b.label("hand over").load(Size.double, 1, 10, INTERFACE).move(2, 1);
  b.addTo(1, InterfaceValue.passed, 2);
  b.move(0, { register: 7 }).exit();
  b.label("keep back").move(0, 0).exit();
  return b.assemble();
}

/** Copies `length` bytes of the frame at r8 to the stack; a frame that is too short is passed. */
function loadBytes(b: BpfAssembler, to: number, length: number): void {
  b.move(1, { register: 6 }).move(2, { register: 8 });
  b.move(3, { register: 10 }).alu(Alu.add, 3, to).move(4, length);
  b.call(LOAD_BYTES).jumpIf(Jump.notEqual, 0, 0, "other");
}

function findInterface(b: BpfAssembler, { interfaces }: CutoffProgram): void {
  b.load(Size.word, 2, 6, INDEX).store(Size.word, 10, KEY + FlowKey.index, { register: 2 });
  b.loadMap(1, interfaces).move(2, { register: 10 });
  b.alu(Alu.add, 2, KEY + FlowKey.index).call(MAP_LOOKUP);
  b.jumpIf(Jump.equal, 0, 0, "keep back");
  b.store(Size.double, 10, INTERFACE, { register: 0 });
  b.load(Size.word, 7, 0, InterfaceValue.kind);
  // What leaves by a loopback comes in again by it.
  b.jumpIf(Jump.notEqual, 7, InterfaceKind.loopback, "watched");
  b.load(Size.word, 1, 6, PACKET_TYPE).jumpIf(Jump.equal, 1, OUTGOING, "keep back");
  b.label("watched").jumpIf(Jump.equal, 7, InterfaceKind.other, "other");
}

/** Steps over the link layer: r8 is where the IP header begins, r9 the EtherType as loaded. */
function findNetwork(b: BpfAssembler): void {
  b.move(8, 0).load(Size.word, 9, 6, PROTOCOL);
  b.jumpIf(Jump.equal, 7, InterfaceKind.rawIp, "network");
  loadBytes(b, IP, 14);
  b.load(Size.half, 9, 10, IP + 12).move(8, 14);
  b.jumpIf(Jump.equal, 9, swapped(0x8100), "tag");
  b.jumpIf(Jump.notEqual, 9, swapped(0x88a8), "network");
  b.label("tag");
  loadBytes(b, IP, 4);
  b.load(Size.half, 9, 10, IP + 2).move(8, 18);
  b.label("network").jumpIf(Jump.equal, 9, swapped(0x86dd), "ipv6");
  b.jumpIf(Jump.notEqual, 9, swapped(0x0800), "other");
}

/** RFC 791 §3.1; addresses are written where IPv6 has them. */
function readIpv4(b: BpfAssembler): void {
  loadBytes(b, IP, 20);
  b.load(Size.byte, 1, 10, IP).move(2, { register: 1 }).alu(Alu.shiftRight, 2, 4);
  b.jumpIf(Jump.notEqual, 2, 4, "other");
  b.alu(Alu.and, 1, 15).alu(Alu.shiftLeft, 1, 2).jumpIf(Jump.less, 1, 20, "other");
  b.load(Size.half, 2, 10, IP + 6).jumpIf(Jump.anyBitOf, 2, swapped(0x3fff), "other");
  b.load(Size.half, 3, 10, IP + 2)
    .toBigEndian(3, 16)
    .jumpIf(Jump.notEqual, 3, 0, "ipv4 length");
  b.load(Size.word, 3, 6, LENGTH).alu(Alu.subtract, 3, { register: 8 }); // BIG TCP: to the end
  b.label("ipv4 length").jumpIf(Jump.less, 3, { register: 1 }, "other");
  b.store(Size.double, 10, IP_BYTES, { register: 3 }).alu(Alu.subtract, 3, { register: 1 });
  b.store(Size.double, 10, REST, { register: 3 }).alu(Alu.add, 8, { register: 1 });
  b.load(Size.byte, 9, 10, IP + 9)
    .load(Size.word, 1, 10, IP + 12)
    .load(Size.word, 2, 10, IP + 16);
  for (const at of [SOURCE, DESTINATION]) {
    b.store(Size.double, 10, at, 0).store(Size.word, 10, at + 8, swapped(0xffff) << 16);
  }
  b.store(Size.word, 10, SOURCE + 12, { register: 1 });
  b.store(Size.word, 10, DESTINATION + 12, { register: 2 }).jump("transport");
}

/** RFC 8200 §3; behind extension headers nothing is looked for. */
function readIpv6(b: BpfAssembler): void {
  b.label("ipv6");
  loadBytes(b, IP, 40);
  b.load(Size.byte, 1, 10, IP).alu(Alu.shiftRight, 1, 4).jumpIf(Jump.notEqual, 1, 6, "other");
  b.load(Size.half, 3, 10, IP + 4)
    .toBigEndian(3, 16)
    .jumpIf(Jump.notEqual, 3, 0, "ipv6 length");
  b.load(Size.word, 3, 6, LENGTH).alu(Alu.subtract, 3, { register: 8 }); // BIG TCP: to the end
  b.alu(Alu.subtract, 3, 40);
  b.label("ipv6 length").store(Size.double, 10, REST, { register: 3 }).alu(Alu.add, 3, 40);
  b.store(Size.double, 10, IP_BYTES, { register: 3 }).alu(Alu.add, 8, 40);
  b.load(Size.byte, 9, 10, IP + 6);
}

/** RFC 9293 §3.1, RFC 768: leaves the payload's length, r8 the TCP flags, 0 for UDP. */
function readTransport(b: BpfAssembler): void {
  b.label("transport").store(Size.word, 10, KEY + FlowKey.protocol, { register: 9 });
  b.jumpIf(Jump.equal, 9, 17, "udp").jumpIf(Jump.notEqual, 9, 6, "other");
  loadBytes(b, TRANSPORT, 20);
  b.load(Size.byte, 1, 10, TRANSPORT + 12)
    .alu(Alu.shiftRight, 1, 4)
    .alu(Alu.shiftLeft, 1, 2);
  b.jumpIf(Jump.less, 1, 20, "other").load(Size.double, 2, 10, REST);
  b.jumpIf(Jump.greater, 1, { register: 2 }, "other").alu(Alu.subtract, 2, { register: 1 });
  b.store(Size.double, 10, REST, { register: 2 });
  b.load(Size.byte, 8, 10, TRANSPORT + 13).jump("ends");
  b.label("udp");
  loadBytes(b, TRANSPORT, 8);
  b.load(Size.half, 1, 10, TRANSPORT + 2);
  for (const port of TUNNEL_PORTS) b.jumpIf(Jump.equal, 1, swapped(port), "other");
  // An empty datagram counts as 8 bytes: an endless row of them ends as well.
  b.load(Size.double, 1, 10, REST).jumpIf(Jump.less, 1, 8, "other").move(8, 0);
  b.load(Size.half, 1, 10, TRANSPORT + 4)
    .toBigEndian(1, 16)
    .jumpIf(Jump.equal, 1, 0, "ends");
  b.jumpIf(Jump.less, 1, 8, "other"); // a length that contradicts itself
}

/** Writes the key, and which of its ends the sender is: r7 is 0 for the low end, 1 for the high. */
function orderEnds(b: BpfAssembler): void {
  b.label("ends");
  for (const word of [12, 8, 4, 0]) {
    b.load(Size.word, 1, 10, SOURCE + word).load(Size.word, 2, 10, DESTINATION + word);
    b.jumpIf(Jump.equal, 1, { register: 2 }, `equal ${word}`);
    for (const register of [1, 2] as const) {
      b.toBigEndian(register, 32).alu(Alu.shiftLeft, register, 32);
      b.alu(Alu.shiftRightSigned, register, 32);
    }
    b.jumpIf(Jump.lessSigned, 1, { register: 2 }, "from low").jump("from high");
    b.label(`equal ${word}`);
  }
  b.load(Size.half, 1, 10, TRANSPORT).toBigEndian(1, 16);
  b.load(Size.half, 2, 10, TRANSPORT + 2).toBigEndian(2, 16);
  b.jumpIf(Jump.greater, 1, { register: 2 }, "from high");
  const copy = (from: number, to: number) => {
    b.load(Size.double, 1, 10, from).store(Size.double, 10, KEY + to, { register: 1 });
    b.load(Size.double, 1, 10, from + 8).store(Size.double, 10, KEY + to + 8, { register: 1 });
  };
  const copyPort = (from: number, to: number) =>
    b.load(Size.half, 1, 10, from).store(Size.half, 10, KEY + to, { register: 1 });
  b.label("from low").move(7, 0);
  copy(SOURCE, FlowKey.low);
  copy(DESTINATION, FlowKey.high);
  copyPort(TRANSPORT, FlowKey.ports);
  copyPort(TRANSPORT + 2, FlowKey.ports + 2).jump("flow");
  b.label("from high").move(7, 1);
  copy(SOURCE, FlowKey.high);
  copy(DESTINATION, FlowKey.low);
  copyPort(TRANSPORT, FlowKey.ports + 2);
  copyPort(TRANSPORT + 2, FlowKey.ports);
}

/** Passes, or counts: r3 becomes the sender's column of the flow's value, r5 the other's. */
function decide(b: BpfAssembler, { flows, budget }: CutoffProgram): void {
  b.label("flow").loadMap(1, flows).move(2, { register: 10 }).alu(Alu.add, 2, KEY);
  b.call(MAP_LOOKUP).jumpIf(Jump.equal, 0, 0, "new");
  b.jumpIf(Jump.anyBitOf, 8, SYN, "mark").jumpIf(Jump.anyBitOf, 8, FIN | RST, "pass");
  b.move(2, { register: 7 }).alu(Alu.shiftLeft, 2, 3);
  b.move(3, { register: 0 }).alu(Alu.add, 3, { register: 2 });
  b.load(Size.double, 1, 10, REST).jumpIf(Jump.notEqual, 1, 0, "payload");
  b.move(5, { register: 0 }).jumpIf(Jump.equal, 7, 1, "other end").alu(Alu.add, 5, 8);
  b.label("other end").load(Size.double, 4, 5, FlowValue.spent);
  b.jumpIf(Jump.greaterOrEqual, 4, budget, "cut").jump("pass");
  b.label("payload").load(Size.double, 4, 3, FlowValue.spent);
  b.jumpIf(Jump.greaterOrEqual, 4, budget, "cut");
  b.addTo(3, FlowValue.spent, 1).jump("pass");
  b.label("cut").move(1, 1).load(Size.double, 2, 10, IP_BYTES);
  b.addTo(3, FlowValue.packets, 1).addTo(3, FlowValue.bytes, 2);
  b.load(Size.double, 4, 10, INTERFACE);
  b.addTo(4, InterfaceValue.cutOff, 1).addTo(4, InterfaceValue.cutBytes, 2).jump("keep back");
  // A SYN begins a new connection between these ends, or repeats itself: its budget is whole again.
  b.label("mark");
  for (const [from, to] of [
    [FlowValue.packets, FlowValue.marked],
    [FlowValue.bytes, FlowValue.markedBytes],
  ] as const) {
    for (const side of [0, 8]) {
      b.load(Size.double, 1, 0, from + side).store(Size.double, 0, to + side, { register: 1 });
    }
  }
  for (const side of [0, 8]) b.store(Size.double, 0, FlowValue.spent + side, 0);
  b.jump("pass");
}

/** The first payload of a flow makes its entry; what does not fit is counted, and passed. */
function open(b: BpfAssembler, { flows }: CutoffProgram): void {
  b.label("new").jumpIf(Jump.anyBitOf, 8, SYN | FIN | RST, "pass");
  b.load(Size.double, 1, 10, REST).jumpIf(Jump.equal, 1, 0, "pass");
  for (let at = 0; at < FLOW_VALUE_BYTES; at += 8) b.store(Size.double, 10, ENTRY + at, 0);
  const spend = (side: Register) =>
    b.store(Size.double, 10, ENTRY + FlowValue.spent + side * 8, { register: 1 });
  b.jumpIf(Jump.equal, 7, 1, "high spends");
  spend(0).jump("insert");
  b.label("high spends");
  spend(1);
  b.label("insert").loadMap(1, flows).move(2, { register: 10 }).alu(Alu.add, 2, KEY);
  b.move(3, { register: 10 }).alu(Alu.add, 3, ENTRY).move(4, NOT_THERE_YET).call(MAP_UPDATE);
  // Another processor may have made it meanwhile: then this packet alone is not charged.
  b.jumpIf(Jump.equal, 0, 0, "pass").jumpIf(Jump.equal, 0, -EEXIST, "pass");
  b.load(Size.double, 1, 10, INTERFACE).move(2, 1).addTo(1, InterfaceValue.refused, 2);
}
