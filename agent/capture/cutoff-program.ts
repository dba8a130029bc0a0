/**
 * Assembles the eBPF socket filter of the flow cutoff, which hands over the first payload of each
 * side of a flow and counts the rest.
 *
 * What is handed over whatever was before: anything in which `header-walk.ts` finds no TCP or
 * UDP, SYN, FIN, RST, fragments. Of other packets: payload until its side has spent its budget, and
 * packets without payload (they only acknowledge) until the other side has. A flow that finds no
 * room in the map is handed over whole. Of flows that a sample leaves out nothing is, and of them
 * there are no entries: their frames are counted to the interface alone.
 *
 * Only the program writes a flow's entry, so that no count is ever lost. The agent writes what it
 * wishes for as budget into a map of its own, which is looked at while there is budget left.
 */
import { Alu, BpfAssembler, Jump, MapCall, Size } from "./bpf-assembler.ts";
import type { Register } from "./bpf-assembler.ts";
import { InterfaceKind, Stack, walkHeaders } from "./header-walk.ts";
import { InterfaceCount, findInterface } from "./interface-table.ts";
import type { InterfaceMaps } from "./interface-table.ts";
import { leaveOut } from "./sample-program.ts";
import type { Draw } from "./sample-program.ts";

/**
 * The key of a flow, 44 bytes: the addresses of its low and its high end (16 bytes each, IPv4 as
 * ::ffff:a.b.c.d), their ports (2 each), all in network order; interface(4) and protocol(4) in the
 * machine's. Ends are ordered as `agent/flow/flow-key.ts` orders them: by the addresses' words as
 * signed numbers, the last word first, then by port.
 */
export const FLOW_KEY_BYTES = 44;
export const FlowKey = { low: 0, high: 16, ports: 32, index: 36, protocol: 40 } as const;

/**
 * Of a flow, each for the low end and 8 bytes on for the high end: payload to be handed over, 0
 * once it was; payload handed over. Then each for the low end and `END_BYTES` on for the high end:
 * packets and bytes (of IP) that were not handed over, since the entry was made; the same as they
 * stood at the last SYN; sequence number of that (4 bytes, as in the packet), 0 when none came
 * since the entry was made.
 *
 * The two directions of a flow are often two processors': what one of them goes on writing shares
 * no cache line (64 bytes) with what the other one reads. The kernel's entry begins with 48 bytes
 * of its own and the key in 48.
 */
export const FLOW_VALUE_BYTES = 160;
export const END_BYTES = 64;
export const FlowValue = {
  budget: 0,
  spent: 16,
  packets: 32,
  bytes: 40,
  marked: 48,
  markedBytes: 56,
  isn: 64,
} as const;

/** What the agent wishes of a flow: budget and sequence number as above, of either end. */
export const WISH_BYTES = 32;
export const Wish = { budget: 0, isn: 16 } as const;

/** Flag of an update (linux/bpf.h). */
const NOT_THERE_YET = 1; // BPF_NOEXIST
const EEXIST = 17;

/** `struct __sk_buff`: position of what is read. */
const PACKET_TYPE = 4;
const OUTGOING = 4;

/** TCP flags. */
const FIN = 1;
const SYN = 2;
const RST = 4;

const { interface: INTERFACE, key: KEY, rest: REST, ipBytes: IP_BYTES, entry: ENTRY } = Stack;
const { source: SOURCE, destination: DESTINATION, transport: TRANSPORT } = Stack;

/** What a sample draws by. */
const OF_KEY = {
  ends: [
    { address: KEY + FlowKey.low, port: KEY + FlowKey.ports },
    { address: KEY + FlowKey.high, port: KEY + FlowKey.ports + 2 },
  ],
  protocol: KEY + FlowKey.protocol,
} as const;

export type CutoffProgram = {
  /** Payload of a side that is handed over, in bytes. */
  budget: number;
  /** Captured bytes of packets whose flow is counted, and of all others. */
  snap: number;
  otherSnap: number;
  /** File descriptors of the maps. */
  flows: number;
  wishes: number;
  interfaces: InterfaceMaps;
  /** Flows in tunnels are counted too. */
  hasTunnels: boolean;
  /** Ports of VXLAN beside the usual ones. */
  vxlanPorts: readonly number[];
  /** Null takes all flows. */
  sample: Draw | null;
};

export function assembleCutoff(options: CutoffProgram): Uint8Array<ArrayBuffer> {
  const b = new BpfAssembler();
  // r6: the frame's context. r7: side. r8: position, then TCP flags. r9: type, then protocol.
  b.move(6, { register: 1 });
  findWatched(b, options);
  const { hasTunnels, vxlanPorts } = options;
  walkHeaders({ b, hasTunnels, vxlanPorts, from: "frame", icmp: ["other", "other"] });
  orderEnds(b);
  decide(b, options);
  open(b, options);
  b.label("pass").move(7, options.snap).jump("hand over");
  b.label("other").move(7, options.otherSnap);
  b.label("hand over").move(0, { register: 7 }).exit();
  b.label("keep back").move(0, 0).exit();
  return b.assemble();
}

function findWatched(b: BpfAssembler, { interfaces }: CutoffProgram): void {
  findInterface(b, interfaces, KEY + FlowKey.index, "keep back");
  b.store(Size.double, 10, INTERFACE, { register: 0 });
  // What leaves by a loopback comes in again by it.
  b.jumpIf(Jump.notEqual, 7, InterfaceKind.loopback, "watched");
  b.load(Size.word, 1, 6, PACKET_TYPE).jumpIf(Jump.equal, 1, OUTGOING, "keep back");
  b.label("watched").jumpIf(Jump.equal, 7, InterfaceKind.other, "other");
}

/** Writes the key, and which of its ends the sender is: r7 is 0 for the low end, 1 for the high. */
function orderEnds(b: BpfAssembler): void {
  b.store(Size.word, 10, KEY + FlowKey.protocol, { register: 9 });
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

/**
 * Passes, or counts: r9 becomes the flow's value, r6 the same so far on that the sender's counters
 * come to lie where the low end's do, r7 so far on that the budget does of whose payload it is, or
 * of whose it acknowledges. To an address constants alone are added: with another number the
 * verifier asks for CAP_PERFMON.
 */
function decide(b: BpfAssembler, { flows, wishes, budget }: CutoffProgram): void {
  b.label("flow").callMap(MapCall.lookUp, flows, KEY).jumpIf(Jump.equal, 0, 0, "new");
  b.jumpIf(Jump.anyBitOf, 8, SYN, "mark").jumpIf(Jump.anyBitOf, 8, FIN | RST, "pass");
  b.move(9, { register: 0 }).move(6, { register: 0 });
  b.load(Size.double, 1, 10, REST).jumpIf(Jump.equal, 7, 1, "high sends");
  b.move(7, { register: 9 }).jumpIf(Jump.notEqual, 1, 0, "budget").jump("high's budget");
  b.label("high sends").alu(Alu.add, 6, END_BYTES);
  b.move(7, { register: 9 }).jumpIf(Jump.equal, 1, 0, "budget");
  b.label("high's budget").alu(Alu.add, 7, 8);
  b.label("budget").load(Size.double, 4, 7, FlowValue.budget);
  b.jumpIf(Jump.equal, 4, 0, "cut");
  fulfil(b, wishes);
  b.label("fulfilled").load(Size.double, 4, 7, FlowValue.budget);
  b.load(Size.double, 5, 7, FlowValue.spent);
  b.jumpIf(Jump.less, 5, { register: 4 }, "spend").store(Size.double, 7, FlowValue.budget, 0);
  b.label("cut").move(1, 1).load(Size.double, 2, 10, IP_BYTES);
  b.addTo(6, FlowValue.packets, 1).addTo(6, FlowValue.bytes, 2);
  b.label("count").move(1, 1).load(Size.double, 4, 10, INTERFACE);
  b.addTo(4, InterfaceCount.cutOff, 1).jump("keep back");
  // Of what only acknowledges the rest is 0.
  b.label("spend").load(Size.double, 1, 10, REST).addTo(7, FlowValue.spent, 1).jump("pass");
  // A SYN begins a new connection between these ends, or repeats itself: its budget is whole again.
  b.label("mark");
  for (const [from, to] of [
    [FlowValue.packets, FlowValue.marked],
    [FlowValue.bytes, FlowValue.markedBytes],
  ] as const) {
    for (const end of [0, END_BYTES]) {
      b.load(Size.double, 1, 0, from + end).store(Size.double, 0, to + end, { register: 1 });
    }
  }
  for (const side of [0, 8]) {
    b.store(Size.double, 0, FlowValue.spent + side, 0);
    b.store(Size.double, 0, FlowValue.budget + side, budget);
  }
  b.load(Size.word, 1, 10, TRANSPORT + 4).jumpIf(Jump.equal, 7, 1, "high connects");
  b.store(Size.word, 0, FlowValue.isn, { register: 1 }).jump("pass");
  b.label("high connects")
    .store(Size.word, 0, FlowValue.isn + END_BYTES, { register: 1 })
    .jump("pass");
}

/** Takes the agent's wish, unless it is meant for an earlier connection. "No more" is the last. */
function fulfil(b: BpfAssembler, wishes: number): void {
  b.callMap(MapCall.lookUp, wishes, KEY).jumpIf(Jump.equal, 0, 0, "fulfilled");
  for (const side of [0, 1]) {
    b.load(Size.word, 1, 9, FlowValue.isn + side * END_BYTES);
    b.load(Size.word, 2, 0, Wish.isn + side * 8).jumpIf(Jump.equal, 1, 0, `meant ${side}`);
    b.jumpIf(Jump.notEqual, 1, { register: 2 }, "fulfilled").label(`meant ${side}`);
  }
  b.load(Size.double, 1, 0, Wish.budget).load(Size.double, 2, 0, Wish.budget + 8);
  b.store(Size.double, 9, FlowValue.budget, { register: 1 });
  b.store(Size.double, 9, FlowValue.budget + 8, { register: 2 });
  b.jumpIf(Jump.notEqual, 1, 0, "fulfilled").jumpIf(Jump.notEqual, 2, 0, "fulfilled");
  b.callMap(MapCall.delete, wishes, KEY);
}

/** The first payload of a flow makes its entry; what does not fit is counted, and passed. */
function open(b: BpfAssembler, { flows, budget, sample }: CutoffProgram): void {
  b.label("new");
  if (sample !== null) leaveOut(b, sample, OF_KEY, "count");
  b.jumpIf(Jump.anyBitOf, 8, SYN | FIN | RST, "pass");
  b.load(Size.double, 1, 10, REST).jumpIf(Jump.equal, 1, 0, "pass");
  for (let at = 0; at < FLOW_VALUE_BYTES; at += 8) b.store(Size.double, 10, ENTRY + at, 0);
  for (const side of [0, 8]) b.store(Size.double, 10, ENTRY + FlowValue.budget + side, budget);
  const spend = (side: Register) =>
    b.store(Size.double, 10, ENTRY + FlowValue.spent + side * 8, { register: 1 });
  b.jumpIf(Jump.equal, 7, 1, "high spends");
  spend(0).jump("insert");
  b.label("high spends");
  spend(1);
  b.label("insert").move(3, { register: 10 }).alu(Alu.add, 3, ENTRY).move(4, NOT_THERE_YET);
  b.callMap(MapCall.update, flows, KEY);
  // Another processor may have made it meanwhile: then this packet alone is not charged.
  b.jumpIf(Jump.equal, 0, 0, "pass").jumpIf(Jump.equal, 0, -EEXIST, "pass");
  b.load(Size.double, 1, 10, INTERFACE).move(2, 1).addTo(1, InterfaceCount.refused, 2);
}
