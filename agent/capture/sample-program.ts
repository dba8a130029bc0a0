/** Assembles the draw by which flows are a sample's, as `agent/flow/sample.ts` tells it. */
import { Alu, Jump, Size } from "./bpf-assembler.ts";
import type { BpfAssembler } from "./bpf-assembler.ts";

/** A sample: a flow is taken whose draw, of 32 bits, is below `limit` (1 to 2^32 − 1). */
export type Draw = { keys: readonly [k0: number, k1: number]; limit: number };

/** Where the flow's words lie on the stack. */
export type Drawn = {
  /** Four words of an address, and a port, both in network order; of either end. */
  ends: readonly { address: number; port: number }[];
  /** The IP protocol, 4 bytes in the machine's order. */
  protocol: number;
};

/** r1 is the hash so far, r2 the word that goes in: one round of MurmurHash3_x86_32; spoils r3. */
function mix(b: BpfAssembler): void {
  b.alu(Alu.multiply, 2, 0xcc9e2d51 | 0, 32);
  rotateLeft(b, 2, 15);
  b.alu(Alu.multiply, 2, 0x1b873593, 32).alu(Alu.xor, 1, { register: 2 }, 32);
  rotateLeft(b, 1, 13);
  b.alu(Alu.multiply, 1, 5, 32).alu(Alu.add, 1, 0xe6546b64 | 0, 32);
}

function rotateLeft(b: BpfAssembler, register: 1 | 2, by: number): void {
  b.move(3, { register }).alu(Alu.shiftRight, 3, 32 - by, 32);
  b.alu(Alu.shiftLeft, register, by, 32).alu(Alu.or, register, { register: 3 }, 32);
}

/** Ends the hash in r1, of so many bytes; spoils r3. */
function finish(b: BpfAssembler, lengthBytes: number): void {
  const fold = (by: number) =>
    b.move(3, { register: 1 }).alu(Alu.shiftRight, 3, by, 32).alu(Alu.xor, 1, { register: 3 }, 32);
  b.alu(Alu.xor, 1, lengthBytes, 32);
  fold(16).alu(Alu.multiply, 1, 0x85ebca6b | 0, 32);
  fold(13).alu(Alu.multiply, 1, 0xc2b2ae35 | 0, 32);
  fold(16);
}

/** Jumps to `label` when the flow is none of the sample's; spoils r1 to r4. */
export function leaveOut(
  b: BpfAssembler,
  { keys, limit }: Draw,
  drawn: Drawn,
  label: string,
): void {
  b.move(4, 0);
  for (const { address, port } of drawn.ends) {
    b.alu(Alu.move, 1, keys[0] | 0, 32);
    for (let word = 0; word < 16; word += 4) {
      b.load(Size.word, 2, 10, address + word).toBigEndian(2, 32);
      mix(b);
    }
    b.load(Size.half, 2, 10, port).toBigEndian(2, 16);
    mix(b);
    finish(b, 20);
    b.alu(Alu.add, 4, { register: 1 }, 32);
  }
  b.alu(Alu.move, 1, keys[1] | 0, 32).move(2, { register: 4 });
  mix(b);
  b.load(Size.word, 2, 10, drawn.protocol);
  mix(b);
  finish(b, 8);
  b.alu(Alu.move, 2, limit | 0, 32).jumpIf(Jump.greaterOrEqual, 1, { register: 2 }, label);
}
