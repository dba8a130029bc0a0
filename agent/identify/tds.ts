/** Recognises the protocols of SQL Server, Sybase (TDS) and Oracle (TNS) by a packet's head. */
import { Fields } from "./fields.ts";
import { Match } from "./match.ts";
import type { Test } from "./match.ts";
import { isTlsClientHello, isTlsServerHello } from "./tls-record.ts";

/** Types of TDS packets (MS-TDS §2.2.3.1.1; 15 is of TDS 5). */
export const Tds = {
  batch: 1,
  login5: 2,
  rpc: 3,
  reply: 4,
  attention: 6,
  bulk: 7,
  federated: 8,
  transaction: 14,
  normal: 15,
  login7: 16,
  sspi: 17,
  prelogin: 18,
} as const;
export const TDS_HEADER = 8;
const HEADER = TDS_HEADER;
const TYPES: ReadonlySet<number> = new Set(Object.values(Tds));

/** Length of the packet whose header stands at `at`, itself included; 0 where none does. */
export function tdsPacketLength(view: DataView, at: number): number {
  const length = view.getUint16(at + 2);
  const isHeader = view.getUint8(at + 1) <= 0x1f && view.getUint8(at + 7) === 0;
  return TYPES.has(view.getUint8(at)) && isHeader && length >= HEADER ? length : 0;
}

/**
 * The header of a packet of `type`; returns the packet's length (MS-TDS §2.2.3.1):
 *
 *     type | status | uint16 length | SPID | packet number | window 0
 */
function tdsHeader(f: Fields, type: number): number {
  f.expect(f.uint8() === type);
  f.expect(f.uint8() <= 0x1f);
  const length = f.uint16();
  f.expect(length > HEADER && length <= 32767);
  f.skip(2);
  f.skip(1);
  f.expect(f.uint8() === 0);
  return length;
}

/** Bytes of a PRELOGIN's table that are looked through: some twenty options. */
const OPTIONS_BYTES = 100;

const tds = (type: number, rest: (f: Fields, length: number) => void): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) !== type) return Match.no;
    const f = new Fields(view, at, end);
    rest(f, tdsHeader(f, type));
    return f.match;
  };
};

/** The first option is VERSION, 6 bytes, where the table ends (MS-TDS §2.2.6.5). */
function preloginOptions(f: Fields, length: number): void {
  f.expect(f.uint8() === 0);
  const offset = f.uint16();
  f.expect(offset >= 6 && offset + 6 <= length - HEADER && offset % 5 === 1);
  f.expect(f.uint16() === 6);
}

export const isTdsPrelogin = tds(Tds.prelogin, preloginOptions);

/**
 * The ENCRYPTION option of a PRELOGIN that is whole, without the bits for client certificates;
 * -1 where it has none. Options are a token, uint16 offset and length, up to 0xff (§2.2.6.5).
 */
export function preloginEncryption(view: DataView, at: number, end: number): number {
  for (let i = at; end - i >= 5 && i < at + OPTIONS_BYTES; i += 5) {
    const token = view.getUint8(i);
    if (token === 0xff) return -1;
    const from = at + view.getUint16(i + 1);
    if (token === 1)
      return from < end && view.getUint16(i + 3) === 1 ? view.getUint8(from) & 3 : -1;
  }
  return -1;
}

/** A TLS hello in a PRELOGIN packet, of a conversation that was joined behind the options. */
const carried = (isHello: Test): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) !== Tds.prelogin) return Match.no;
    const f = new Fields(view, at, end);
    tdsHeader(f, Tds.prelogin);
    if (f.match !== Match.yes) return f.match;
    return end - at > HEADER ? isHello(view, at + HEADER, end) : Match.more;
  };
};
export const isTdsClientHello = carried(isTlsClientHello);
export const isTdsServerHello = carried(isTlsServerHello);

/** LOGIN7: its length, TDS version 7.0 to 7.4, packet size (MS-TDS §2.2.6.4). */
export const isTdsLogin = tds(Tds.login7, (f, length) => {
  const whole = f.uint32(true);
  f.expect(whole >= 36 && whole >= length - HEADER && whole <= 0x20000);
  const version = f.uint32();
  // On the wire 7.0 is 00 00 00 70, and 7.4 is 04 00 00 74.
  f.expect((version & 0xff) >= 0x70 && (version & 0xff) <= 0x74 && version >>> 24 <= 4);
});

/** The login of TDS 4 and 5: a host's name of 30 bytes and its length (TDS 5.0 specification). */
export const isTdsLogin5 = tds(Tds.login5, (f, length) => {
  f.expect(length >= 256 && length <= 1024);
  const from = f.at;
  f.run(30, (byte) => byte === 0 || byte >= 0x20);
  const name = f.uint8();
  f.expect(name <= 30);
  for (let i = 0; i < 30 && f.match === Match.yes; i++) {
    const isText = f.view.getUint8(from + i) !== 0;
    f.expect(isText === i < name);
  }
  f.run(30, (byte) => byte === 0 || byte >= 0x20);
  f.expect(f.uint8() <= 30);
});

/** Characters of UTF-16 by which ASCII is told. */
const TEXT = 6;

const isAscii = (c: number) => c === 9 || c === 10 || c === 13 || (c >= 0x20 && c < 0x7f);

/** `count` ASCII characters in UTF-16, little-endian. */
function wideText(f: Fields, count: number): void {
  for (let i = 0; i < count && f.match === Match.yes; i++) f.expect(isAscii(f.uint16(true)));
}

/**
 * ALL_HEADERS with the transaction descriptor in front (MS-TDS §2.2.5.3), from TDS 7.2 on: uint32
 * length of all, of which the halves are read already, uint32 length 18, type 2.
 */
function transactionHeaders(f: Fields, low: number, high: number): void {
  f.expect(high === 0 && low >= 22 && low <= 512);
  f.expect(f.uint32(true) === 18);
  f.expect(f.uint16(true) === 2);
}

/** A statement's text, behind these headers or bare. */
export const isTdsBatch = tds(Tds.batch, (f, length) => {
  f.expect(length >= HEADER + TEXT * 2);
  const first = f.uint16(true);
  const second = f.uint16(true);
  if (second === 0) return transactionHeaders(f, first, second);
  f.expect(isAscii(first) && isAscii(second));
  wideText(f, TEXT - 2);
});

/** The same of a procedure: its name behind its length, or 0xffff and a number up to 15. */
export const isTdsCall = tds(Tds.rpc, (f, length) => {
  f.expect(length >= HEADER + 6);
  const name = f.uint16(true);
  const next = f.uint16(true);
  if (next === 0) return transactionHeaders(f, name, next);
  if (name === 0xffff) {
    f.expect(next <= 15);
    return f.expect(f.uint16(true) <= 7); // option flags
  }
  f.expect(name >= 2 && name <= 128 && isAscii(next));
  wideText(f, Math.min(name, TEXT) - 1);
});

export const isTdsTransaction = tds(Tds.transaction, (f) => {
  const low = f.uint16(true);
  transactionHeaders(f, low, f.uint16(true));
});

/** Tokens that begin an answer (MS-TDS §2.2.7; the second line's are of TDS 5). */
const TOKENS = [
  ...[0x79, 0x81, 0xa9, 0xaa, 0xab, 0xad, 0xae, 0xd1, 0xd2, 0xe3, 0xed, 0xee, 0xfd, 0xfe, 0xff],
  ...[0xa1, 0xe2, 0xe5, 0xec],
];

/** A tabular result: the options of PRELOGIN, or a token with what must follow it. */
export const isTdsReply: Test = (view, at, end) => {
  if (view.getUint8(at) !== Tds.reply) return Match.no;
  const f = new Fields(view, at, end);
  const length = tdsHeader(f, Tds.reply);
  const token = f.uint8();
  if (f.match !== Match.yes) return f.match;
  if (token === 0) {
    const options = new Fields(view, at + HEADER, end);
    preloginOptions(options, length);
    return options.match;
  }
  f.expect(TOKENS.includes(token));
  switch (token) {
    case 0xe3: // ENVCHANGE: length, type
    case 0xaa: // ERROR, INFO, LOGINACK, SSPI: length
    case 0xab:
    case 0xad:
    case 0xed: {
      const tokenLength = f.uint16(true);
      f.expect(tokenLength >= 2 && tokenLength <= 0x3fff);
      const isSmall = f.uint8() <= 20 || token !== 0xe3;
      f.expect(isSmall);
      return f.match;
    }
    default:
      return f.match === Match.yes ? Match.likely : f.match;
  }
};

/** Versions that a TNS CONNECT or ACCEPT may name: 3.0 to 3.20. */
const isTnsVersion = (version: number) => version >= 300 && version <= 320;

/** Longest first packet, and with it the highest first byte. */
const TNS_LIMIT = 0x2000;

/**
 * Oracle Net's header, checksums of which are not used, and what `rest` expects behind it:
 *
 *     uint16 length | uint16 checksum 0 | type | flags | uint16 header checksum 0
 */
const tns = (type: number, least: number, rest: (f: Fields, length: number) => void): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) > TNS_LIMIT >> 8) return Match.no;
    const f = new Fields(view, at, end);
    const length = f.uint16();
    f.expect(length >= least && length <= TNS_LIMIT);
    f.expect(f.uint16() === 0);
    f.expect(f.uint8() === type);
    f.skip(1);
    f.expect(f.uint16() === 0);
    rest(f, length);
    return f.match;
  };
};

/** CONNECT: version, and the lowest one that it is compatible with. */
export const isTnsConnect = tns(1, 34, (f) => {
  const version = f.uint16();
  f.expect(isTnsVersion(version));
  const lowest = f.uint16();
  f.expect(isTnsVersion(lowest) && lowest <= version);
});

/** ACCEPT: the version agreed on, service options, SDU, TDU. */
export const isTnsAccept = tns(2, 24, (f) => f.expect(isTnsVersion(f.uint16())));

/** REFUSE: two reasons, and a length before `(`. */
export const isTnsRefuse = tns(4, 12, (f, length) => {
  f.skip(2);
  f.expect(f.uint16() === length - 12);
  if (length > 12) f.expect(f.uint8() === 0x28);
});

/** REDIRECT: a length before `(`. */
export const isTnsRedirect = tns(5, 10, (f, length) => {
  const text = f.uint16();
  f.expect(text > 0 && (text === length - 10 || length === 10));
  if (length > 10) f.expect(f.uint8() === 0x28);
});

const isTnsHeader11 = tns(11, 8, (f, length) => f.expect(length === 8));

/** RESEND: a header alone. */
export const isTnsResend: Test = (view, at, end) => {
  const match = isTnsHeader11(view, at, end);
  return match === Match.yes ? Match.likely : match;
};
