/** Builds frames byte by byte: headers as functions, each around what it carries. */

import type { Line } from "../agent/line.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

export function join(...parts: readonly (Uint8Array | readonly number[])[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Text as bytes, one a character. */
export const latin1 = (text: string): Bytes => Uint8Array.from(text, (c) => c.charCodeAt(0));
/** Bytes of hexadecimal text; spaces are for the reader. */
export const hex = (text: string): Bytes =>
  Uint8Array.from(text.replaceAll(/\s/g, "").match(/../g) ?? [], (two) => parseInt(two, 16));
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export const u16 = (n: number): number[] => [(n >>> 8) & 255, n & 255];
export const u24 = (n: number): number[] => [(n >>> 16) & 255, ...u16(n)];
export const u32 = (n: number): number[] => [...u16(n >>> 16), ...u16(n)];

/** The four or sixteen bytes of an address. */
export function address(text: string): number[] {
  if (!text.includes(":")) return text.split(".").map(Number);
  const [head = "", tail] = text.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((g) => parseInt(g, 16)));
  const before = groups(head);
  const behind = groups(tail ?? "");
  const zeros = new Array<number>(8 - before.length - behind.length).fill(0);
  return [...before, ...zeros, ...behind].flatMap(u16);
}

export const SYN = 2;
export const FIN = 1;
export const RST = 4;
export const ACK = 16;

export type TcpFields = {
  from?: number;
  to?: number;
  sequence?: number;
  acknowledgment?: number;
  flags?: number;
  options?: readonly number[];
};

/** TCP (RFC 9293 §3.1); options are padded to whole words. */
export function tcp(fields: TcpFields, payload: Uint8Array = new Uint8Array(0)): Bytes {
  const { from = 40000, to = 443, sequence = 0, acknowledgment = 0, flags = ACK } = fields;
  const options = [...(fields.options ?? [])];
  while (options.length % 4 !== 0) options.push(0);
  const words = 5 + options.length / 4;
  const head = [...u16(from), ...u16(to), ...u32(sequence), ...u32(acknowledgment)];
  return join(head, [words << 4, flags, 0xff, 0xff, 0, 0, 0, 0], options, payload);
}

/** UDP (RFC 768); `length` lies on demand. */
export function udp(
  payload: Uint8Array,
  fields: { from?: number; to?: number; length?: number } = {},
): Bytes {
  const { from = 40000, to = 53, length = payload.length + 8 } = fields;
  return join(u16(from), u16(to), u16(length), [0, 0], payload);
}

export type Ipv4Fields = {
  source?: string;
  destination?: string;
  protocol?: number;
  length?: number;
  /** Flags and offset, as they stand in bytes 6 and 7. */
  fragment?: number;
  options?: readonly number[];
};

/** IPv4 (RFC 791 §3.1); options are whole words. */
export function ipv4(fields: Ipv4Fields, payload: Uint8Array): Bytes {
  const { source = "10.0.0.1", destination = "10.0.0.2", protocol = 6, fragment = 0 } = fields;
  const options = fields.options ?? [];
  const headerLength = 20 + options.length;
  const length = fields.length ?? headerLength + payload.length;
  const head = [0x40 | (headerLength / 4), 0, ...u16(length), 0, 1, ...u16(fragment)];
  const tail = [64, protocol, 0, 0, ...address(source), ...address(destination)];
  return join(head, tail, options, payload);
}

export type Ipv6Fields = {
  source?: string;
  destination?: string;
  next?: number;
  length?: number;
};

/** IPv6 (RFC 8200 §3); extension headers are part of the payload. */
export function ipv6(fields: Ipv6Fields, payload: Uint8Array): Bytes {
  const { source = "fd00::1", destination = "fd00::2", next = 6 } = fields;
  const length = fields.length ?? payload.length;
  const head = [0x60, 0, 0, 0, ...u16(length), next, 64];
  return join(head, address(source), address(destination), payload);
}

/** An IPv6 extension header of 8 + `extra` bytes that announces `next`. */
export const extension = (next: number, extra = 0): number[] => [
  ...[next, extra / 8, 0, 0, 0, 0, 0, 0],
  ...new Array<number>(extra).fill(0),
];

export const ethernet = (payload: Uint8Array, type = 0x0800): Bytes =>
  join([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], u16(type), payload);

/** A tag of 802.1Q or 802.1ad, and the type of what it carries. */
export const tag = (id: number, type: number): number[] => [...u16(id), ...u16(type)];

/** Numbers from a seed: the same everywhere (mulberry32). */
export function random(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

/** Has a line take one frame, of that time. */
export function frameAt(
  line: Line,
  view: DataView,
  at: number,
  end: number,
  wireLength: number,
  timeUs: number,
  linkType: number,
  lane: number,
): void {
  line.clock[0] = timeUs;
  line.frame(view, at, end, wireLength, linkType, lane);
}
