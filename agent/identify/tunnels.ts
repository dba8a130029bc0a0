/** Recognises what carries other connections: SOCKS, OpenVPN, ESP inside UDP. */
import { Fields } from "./fields.ts";
import { Match } from "./match.ts";

const likely = (f: Fields): Match => (f.match === Match.yes ? Match.likely : f.match);

/** 5 | count | methods: none but those that IANA lists, and none twice (RFC 1928 §3). */
export function isSocks5Greeting(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  f.expect(f.uint8() === 5);
  const count = f.uint8();
  f.expect(count >= 1 && count <= 16);
  for (let i = 0; i < count && f.match === Match.yes; i++) {
    const method = f.uint8();
    f.expect(method <= 9 || (method >= 0x80 && method !== 0xff));
    for (let j = 1; j <= i && f.match === Match.yes; j++) {
      f.expect(view.getUint8(f.at - 1 - j) !== method);
    }
  }
  return likely(f);
}

/** 5 | the method chosen, or 0xff (RFC 1928 §3). */
export function isSocks5Choice(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  f.expect(f.uint8() === 5);
  const method = f.uint8();
  f.expect(method <= 9 || method >= 0x80);
  return likely(f);
}

/** Longest user's and host's name that is waited for. */
const NAME_LIMIT = 256;

/** 4 | CONNECT or BIND | port | address | user, ended by NUL | of 4A a host, too (SOCKS 4, 4A). */
export function isSocks4Request(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  f.expect(f.uint8() === 4);
  const command = f.uint8();
  f.expect(command === 1 || command === 2);
  f.expect(f.uint16() > 0);
  const address = f.uint32();
  // 0.0.0.x, x not 0, announces a name.
  const isNamed = address > 0 && address < 256;
  f.expect(address > 0);
  text(f);
  if (isNamed) text(f);
  if (f.match !== Match.yes) return f.match;
  return isNamed ? Match.yes : Match.likely;
}

function text(f: Fields): void {
  for (let i = 0; i < NAME_LIMIT && f.match === Match.yes; i++) {
    const byte = f.uint8();
    if (byte === 0) return;
    f.expect(byte >= 0x20 && byte !== 0x7f);
  }
  f.expect(false);
}

/** 0 | 90 to 93 | port | address (SOCKS 4). */
export function isSocks4Reply(view: DataView, at: number, end: number): Match {
  const f = new Fields(view, at, end);
  f.expect(f.uint8() === 0);
  const code = f.uint8();
  f.expect(code >= 90 && code <= 93);
  f.skip(6);
  return likely(f);
}

/** Opcodes of OpenVPN's first packets, in the upper five bits; the key's number below is 0. */
const CLIENT_V1 = 1 << 3;
const SERVER_V1 = 2 << 3;
const CLIENT_V2 = 7 << 3;
const SERVER_V2 = 8 << 3;
const CLIENT_V3 = 10 << 3;
const RESETS = [CLIENT_V1, SERVER_V1, CLIENT_V2, SERVER_V2, CLIENT_V3];

/** Opcode and session identifier. */
const HEAD = 9;
/** Packet number and time, in front of what tls-auth and tls-crypt protect. */
const REPLAY = 8;
/** Lengths of tls-auth's digests: MD5, SHA-1, SHA-224, -256, -384, -512. */
const DIGESTS = [16, 20, 28, 32, 48, 64];
const CRYPT_DIGEST = 32;

/**
 * A reset of a session's key, whole (OpenVPN's network protocol, "Reliability" and "TLS control
 * channel"; tls-crypt-v2.txt):
 *
 *     opcode | session | [digest | number | time] | acks | [acked …, their session] | packet 0
 *     opcode | session | number | time | digest | all that encrypted | [client's key, its length]
 */
function isReset(view: DataView, at: number, end: number): boolean {
  const length = end - at;
  const opcode = view.getUint8(at);
  if (length < HEAD + 5 || !RESETS.includes(opcode)) return false;
  if (view.getUint32(at + 1) === 0) return false;
  if (isPlainReset(view, at + HEAD, end)) return opcode !== CLIENT_V3;
  if (opcode === CLIENT_V3) return isWrappedKey(view, at, end);
  for (const digest of DIGESTS) {
    const from = at + HEAD + digest;
    if (from + REPLAY >= end || !isReplay(view, from)) continue;
    if (isPlainReset(view, from + REPLAY, end)) return true;
  }
  const isAnswer = opcode === SERVER_V2 || opcode === SERVER_V1;
  const hidden = length - HEAD - REPLAY - CRYPT_DIGEST;
  // A reset is 5 bytes; an answer acknowledges one packet, and may tell of flags behind that.
  const isLength = isAnswer ? hidden >= 17 && hidden <= 32 : hidden === 5;
  return isLength && isReplay(view, at + HEAD);
}

/** Count of acknowledged packets, these and the other session, number 0. */
function isPlainReset(view: DataView, at: number, end: number): boolean {
  if (end - at < 5) return false;
  const acks = view.getUint8(at);
  if (acks > 4) return false;
  const packet = at + 1 + (acks > 0 ? acks * 4 + 8 : 0);
  if (packet + 4 > end || view.getUint32(packet) !== 0) return false;
  if (acks > 0 && view.getUint32(at + 1) !== 0) return false;
  // OpenVPN 2.6 adds a few flags behind an answer; nothing else does.
  return packet + 4 === end || (acks > 0 && end - packet - 4 <= 16);
}

/** A number that has only begun, and a time between the years 2000 and 2100. */
function isReplay(view: DataView, at: number): boolean {
  const number = view.getUint32(at);
  const time = view.getUint32(at + 4);
  // From 2.6 on a client that takes cookies counts from 0x0f000000.
  const count = number >>> 24 === 0x0f ? number & 0xffffff : number;
  return count <= 255 && time >= 946684800 && time <= 4102444800;
}

/** tls-crypt-v2's client key at the end, the last two bytes of which are its length. */
function isWrappedKey(view: DataView, at: number, end: number): boolean {
  const key = view.getUint16(end - 2);
  const isLength = at + HEAD + REPLAY + CRYPT_DIGEST + 5 + key === end;
  return key >= 256 && key <= 1024 && isLength && isReplay(view, at + HEAD);
}

export function isOpenvpnDatagram(view: DataView, at: number, end: number): Match {
  return isReset(view, at, end) ? Match.yes : Match.no;
}

/** Longest reset: one that carries a client's key. */
const PACKET_LIMIT = 1200;

/** Over TCP each packet is behind two bytes of length. */
export function isOpenvpnStream(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) > PACKET_LIMIT >> 8) return Match.no;
  const f = new Fields(view, at, end);
  const length = f.uint16();
  f.expect(length >= HEAD + 5 && length <= PACKET_LIMIT);
  f.expect(RESETS.includes(f.uint8()));
  f.skip(length - 1);
  if (f.match !== Match.yes) return f.match;
  return isReset(view, at + 2, at + 2 + length) ? Match.yes : Match.no;
}

/** SPIs below are reserved (RFC 4303 §2.1). */
const RESERVED_SPI = 256;

/**
 * ESP inside UDP (RFC 3948 §2.1): SPI, sequence number, and what is encrypted, padded to words. Its
 * port, 4500, must agree; IKE has zeros in the SPI's place there. A single 0xff keeps a NAT open.
 */
export function isEspDatagram(view: DataView, at: number, end: number): Match {
  const length = end - at;
  if (length === 1) return view.getUint8(at) === 0xff ? Match.likely : Match.no;
  if (length < 24 || length % 4 !== 0) return Match.no;
  const isNumbered = view.getUint32(at + 4) > 0 && view.getUint32(at + 4) < 0x10000000;
  return view.getUint32(at) >= RESERVED_SPI && isNumbered ? Match.likely : Match.no;
}
