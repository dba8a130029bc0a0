/**
 * Assembles eBPF instructions (RFC 9669), with labels instead of distances.
 *
 *      opcode(1) | source(4 bits) destination(4 bits) | offset(2) | immediate(4)
 */

/** Bytes that a load or store moves: BPF_W, BPF_H, BPF_B, BPF_DW. */
export const Size = { word: 0x00, half: 0x08, byte: 0x10, double: 0x18 } as const;
export type Size = (typeof Size)[keyof typeof Size];

/** Arithmetic on 64 bits, or on the low 32 of them: then the others become 0. */
export const Alu = {
  add: 0x00,
  subtract: 0x10,
  multiply: 0x20,
  or: 0x40,
  and: 0x50,
  shiftLeft: 0x60,
  shiftRight: 0x70,
  xor: 0xa0,
  move: 0xb0,
  shiftRightSigned: 0xc0,
} as const;
export type Alu = (typeof Alu)[keyof typeof Alu];

/** Comparisons of 64 bits: of a register with another, or with an immediate. */
export const Jump = {
  equal: 0x10,
  greater: 0x20,
  greaterOrEqual: 0x30,
  anyBitOf: 0x40,
  notEqual: 0x50,
  less: 0xa0,
  lessOrEqual: 0xb0,
  lessSigned: 0xc0,
} as const;
export type Jump = (typeof Jump)[keyof typeof Jump];

/** Helpers that work on a map (linux/bpf.h): the key's address is in r2. */
export const MapCall = { lookUp: 1, update: 2, delete: 3 } as const;
export type MapCall = (typeof MapCall)[keyof typeof MapCall];

/** A register, r0..r10: 10 is the end of the stack. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;
/** What an instruction works with beside its destination. */
export type Operand = { register: Register } | number;

const CLASS_LOAD_IMMEDIATE = 0x18; // BPF_LD | BPF_IMM | BPF_DW: two instructions long
const PSEUDO_MAP = 1; // the immediate is a map's file descriptor
const CLASS_LOAD = 0x61; // BPF_LDX | BPF_MEM
const CLASS_STORE_IMMEDIATE = 0x62; // BPF_ST | BPF_MEM
const CLASS_STORE = 0x63; // BPF_STX | BPF_MEM
const ATOMIC_ADD = 0xdb; // BPF_STX | BPF_ATOMIC | BPF_DW, BPF_ADD
const CLASS_JUMP = 0x05;
const CLASS_ALU = { 32: 0x04, 64: 0x07 } as const;
const FROM_REGISTER = 0x08;
const TO_BIG_ENDIAN = 0xdc;
const CALL = 0x85;
const EXIT = 0x95;

type Line = { code: number; to: number; from: number; offset: number; value: number };

export class BpfAssembler {
  readonly #lines: Line[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { line: number; label: string }[] = [];

  #emit(code: number, to: number, from: number, offset: number, value: number): this {
    this.#lines.push({ code, to, from, offset, value });
    return this;
  }

  /** The next instruction is where jumps to `label` go. */
  label(label: string): this {
    if (this.#labels.has(label)) throw new Error(`label ${label} stands twice`);
    this.#labels.set(label, this.#lines.length);
    return this;
  }

  alu(operation: Alu, to: Register, operand: Operand, bits: 32 | 64 = 64): this {
    const code = CLASS_ALU[bits] | operation;
    return typeof operand === "number"
      ? this.#emit(code, to, 0, 0, operand)
      : this.#emit(code | FROM_REGISTER, to, operand.register, 0, 0);
  }

  move(to: Register, operand: Operand): this {
    return this.alu(Alu.move, to, operand);
  }

  /** Turns the low 16 or 32 bits of a register into network order; the others become 0. */
  toBigEndian(to: Register, bits: 16 | 32): this {
    return this.#emit(TO_BIG_ENDIAN, to, 0, 0, bits);
  }

  load(size: Size, to: Register, base: Register, offset: number): this {
    return this.#emit(CLASS_LOAD | size, to, base, offset, 0);
  }

  store(size: Size, base: Register, offset: number, operand: Operand): this {
    return typeof operand === "number"
      ? this.#emit(CLASS_STORE_IMMEDIATE | size, base, 0, offset, operand)
      : this.#emit(CLASS_STORE | size, base, operand.register, offset, 0);
  }

  /** Adds a register to 64 bits in memory, at once for all processors. */
  addTo(base: Register, offset: number, from: Register): this {
    return this.#emit(ATOMIC_ADD, base, from, offset, 0);
  }

  jump(label: string): this {
    this.#jumps.push({ line: this.#lines.length, label });
    return this.#emit(CLASS_JUMP, 0, 0, 0, 0);
  }

  /** `operand` as a number is sign-extended from 32 bits. */
  jumpIf(comparison: Jump, left: Register, operand: Operand, label: string): this {
    this.#jumps.push({ line: this.#lines.length, label });
    return typeof operand === "number"
      ? this.#emit(CLASS_JUMP | comparison, left, 0, 0, operand)
      : this.#emit(CLASS_JUMP | comparison | FROM_REGISTER, left, operand.register, 0, 0);
  }

  loadMap(to: Register, fd: number): this {
    return this.#emit(CLASS_LOAD_IMMEDIATE, to, PSEUDO_MAP, 0, fd).#emit(0, 0, 0, 0, 0);
  }

  /** Calls a helper of the kernel's by its number; r1..r5 are lost. */
  call(helper: number): this {
    return this.#emit(CALL, 0, 0, 0, helper);
  }

  /** Calls a helper with a map and the key that lies at `key` of the stack. */
  callMap(helper: MapCall, fd: number, key: number): this {
    this.loadMap(1, fd).move(2, { register: 10 }).alu(Alu.add, 2, key);
    return this.call(helper);
  }

  exit(): this {
    return this.#emit(EXIT, 0, 0, 0, 0);
  }

  /** The program in bytes, little-endian. */
  assemble(): Uint8Array<ArrayBuffer> {
    for (const { line, label } of this.#jumps) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new Error(`label ${label} stands nowhere`);
      this.#lines[line]!.offset = target - line - 1;
    }
    const bytes = new Uint8Array(new ArrayBuffer(this.#lines.length * 8));
    const view = new DataView(bytes.buffer);
    this.#lines.forEach(({ code, to, from, offset, value }, i) => {
      view.setUint8(i * 8, code);
      view.setUint8(i * 8 + 1, (from << 4) | to);
      view.setInt16(i * 8 + 2, offset, true);
      view.setInt32(i * 8 + 4, value, true);
    });
    return bytes;
  }
}
