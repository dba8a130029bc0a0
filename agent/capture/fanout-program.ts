/**
 * Assembles the eBPF program by which the kernel deals frames out to several packet sockets: all
 * that may belong to one flow goes to one of them.
 *
 * Told apart by the addresses alone, of either end alike: ports are not in every fragment. They are
 * those of the innermost IP packet that `header-walk.ts` comes to, of an ICMP error those of the
 * packet that it quotes. A tunnel's packet in fragments, and what is in a wrapper that is not
 * walked, is dealt by the ends outside of it.
 */
import { Alu, BpfAssembler, Jump, Size } from "./bpf-assembler.ts";
import { Stack, loadBytes, takeIpv4Addresses, walkHeaders } from "./header-walk.ts";
import type { Walk } from "./header-walk.ts";

/** "Destination unreachable" of ICMP (RFC 792), and of ICMP for IPv6 (RFC 4443 §3.1). */
const UNREACHABLE = [3, 1] as const;
const ICMP_HEADER = 8;

/** Odd numbers that spread bits (golden ratio, and xxHash's second prime of 32 bits), as signed. */
const SPREADS = [0x9e3779b1 | 0, 0x85ebca77 | 0] as const;

const { source, destination, transport, ip } = Stack;

/** The program: its result, modulo the number of sockets, is the socket. */
export function assembleFanout(vxlanPorts: readonly number[] = []): Uint8Array<ArrayBuffer> {
  const b = new BpfAssembler();
  const walk: Walk = {
    ...{ b, hasTunnels: true, vxlanPorts },
    ...{ from: "network header", icmp: ["icmp", "icmp6"] },
  };
  b.move(6, { register: 1 });
  for (let at = 0; at < 32; at += 8) b.store(Size.double, 10, source + at, 0);
  walkHeaders(walk);
  b.jump("other");
  ["icmp", "icmp6"].forEach((label, i) => {
    b.label(label);
    loadBytes(walk, transport, 1);
    b.load(Size.byte, 1, 10, transport).jumpIf(Jump.notEqual, 1, UNREACHABLE[i]!, "other");
    b.alu(Alu.add, 8, ICMP_HEADER);
    if (i === 0) {
      loadBytes(walk, transport, 20);
      takeIpv4Addresses(b, transport);
    } else loadBytes(walk, ip, 40);
    b.jump("other");
  });
  b.label("other").move(0, 0);
  SPREADS.forEach((spread, i) => {
    b.load(Size.double, 1, 10, source + i * 8).load(Size.double, 2, 10, destination + i * 8);
    // Of either half the sum, and its high bits, which the multiplication would push out.
    b.alu(Alu.add, 1, { register: 2 }).move(2, { register: 1 }).alu(Alu.shiftRight, 2, 32);
    b.alu(Alu.add, 1, { register: 2 })
      .alu(Alu.multiply, 1, spread)
      .alu(Alu.add, 0, { register: 1 });
  });
  return b.alu(Alu.shiftRight, 0, 16).exit().assemble();
}
