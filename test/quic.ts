/** Builds QUIC packets: varints, frames, and Initial packets protected as RFC 9001 says. */
import { createCipheriv } from "node:crypto";
import { deriveInitialKeys } from "../agent/quic/protection.ts";
import { quicVersionOf } from "../agent/quic/version.ts";
import { join, u16, u32, viewOf } from "./frames.ts";
import type { Bytes } from "./frames.ts";

export const V1 = 1;
export const V2 = 0x6b3343cf;

/** A variable-length integer (RFC 9000 §16) of at most four bytes. */
export function varint(n: number): number[] {
  if (n < 64) return [n];
  return n < 16384 ? u16(0x4000 | n) : u32((0x80000000 | n) >>> 0);
}

export const crypto = (offset: number, bytes: Uint8Array): Bytes =>
  join([6], varint(offset), varint(bytes.length), bytes);

/** CONNECTION_CLOSE (RFC 9000 §19.19) with an empty reason. */
export const close = (error: number): Bytes => join([0x1c], varint(error), [0, 0]);

export type InitialFields = {
  /** Who sends it, and the client's first destination connection id: they choose the keys. */
  from: "client" | "server";
  keyId: Uint8Array;
  version?: number;
  /** The version whose keys protect it, where it is another. */
  keyVersion?: number;
  destination?: Uint8Array;
  source?: Uint8Array;
  token?: Uint8Array;
  number?: number;
  numberLength?: number;
  /** The packet is padded until it is this long. */
  length?: number;
};

/** An Initial packet (RFC 9000 §17.2.2), protected (RFC 9001 §5). */
export function initial(fields: InitialFields, ...frames: readonly Uint8Array[]): Bytes {
  const { from, keyId, version = V1, number = 0, numberLength = 4 } = fields;
  const destination = fields.destination ?? (from === "client" ? keyId : new Uint8Array(0));
  const { source = new Uint8Array(0), token = new Uint8Array(0) } = fields;
  const known = quicVersionOf(fields.keyVersion ?? version)!;
  const keys = deriveInitialKeys(known, keyId)[from === "client" ? 0 : 1];
  const type = ((4 - known.typeShift) & 3) << 4;
  const ids = join([destination.length], destination, [source.length], source);
  const head = join([0xc0 | type | (numberLength - 1)], u32(version), ids);
  const withToken = join(head, from === "client" || token.length > 0 ? varint(token.length) : [0]);
  const before = join(withToken, token);
  const bare = join(...frames);
  const padding = Math.max(
    0,
    (fields.length ?? 0) - before.length - 2 - numberLength - 16 - bare.length,
  );
  const payload = join(bare, new Uint8Array(Math.max(padding, 4 - bare.length, 0)));
  const numberBytes = u32(number).slice(4 - numberLength);
  const header = join(before, u16(0x4000 | (numberLength + payload.length + 16)), numberBytes);
  const nonce = Uint8Array.from(keys.iv);
  numberBytes.forEach((byte, i) => (nonce[12 - numberLength + i]! ^= byte));
  const cipher = createCipheriv("aes-128-gcm", keys.key, nonce);
  cipher.setAAD(header);
  const sealed = join(cipher.update(payload), cipher.final());
  const packet = join(header, sealed, cipher.getAuthTag());
  const numberAt = header.length - numberLength;
  const sample = packet.subarray(numberAt + 4, numberAt + 20);
  const mask = createCipheriv("aes-128-ecb", keys.headerKey, null).update(sample);
  packet[0]! ^= mask[0]! & 0x0f;
  for (let i = 0; i < numberLength; i++) packet[numberAt + i]! ^= mask[1 + i]!;
  return packet;
}

/** A long header of another type (RFC 9000 §17.2), with bytes that nobody can read. */
export function long(type: number, version: number, ids: Uint8Array, length: number): Bytes {
  return join(
    [0xc0 | (type << 4)],
    u32(version),
    ids,
    varint(length),
    new Uint8Array(length).fill(7),
  );
}

/** A short header, and bytes that nobody can read. */
export const short = (length = 40): Bytes => join([0x41], new Uint8Array(length - 1).fill(9));

/** The packet number's view of a packet's last bytes: its tag, as hexadecimal. */
export const tagOf = (packet: Uint8Array): string =>
  Buffer.from(viewOf(packet).buffer, packet.length - 16, 16).toString("hex");
