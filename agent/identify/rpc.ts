/** Recognises remote procedure calls in binary: Thrift in its four forms, Dubbo. */
import { Fields } from "./fields.ts";
import { Match } from "./match.ts";
import type { Test } from "./match.ts";

/** Thrift's message types (thrift-binary-protocol.md, "Message"). */
const CALL = 1;
const REPLY = 2;
const EXCEPTION = 3;
const ONEWAY = 4;

const NAME_LIMIT = 128;
const FRAME_LIMIT = 0x1000000;

const isLetter = (byte: number) =>
  (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte === 0x5f;
/** Letters, digits, `.` and, behind a multiplexed service's name, `:`. */
const isNamePart = (byte: number) =>
  isLetter(byte) || (byte >= 0x30 && byte <= 0x3a) || byte === 0x2e;

/** Which types a side sends. */
const isOf = (isReply: boolean, type: number) =>
  isReply ? type === REPLY || type === EXCEPTION : type === CALL || type === ONEWAY;

function methodName(f: Fields, length: number): void {
  f.expect(length >= 1 && length <= NAME_LIMIT);
  f.expect(isLetter(f.uint8()));
  f.run(length - 1, isNamePart);
}

/** 0x8001 | 0 | type | int32 length of the name | name | sequence number. */
function strictBinary(f: Fields, isReply: boolean): void {
  f.expect(f.uint16() === 0x8001);
  f.expect(f.uint8() === 0);
  f.expect(isOf(isReply, f.uint8()));
  methodName(f, f.uint32());
}

/** int32 length of the name | name | type | int32 sequence number | type of the first field. */
function oldBinary(f: Fields, isReply: boolean): void {
  methodName(f, f.uint32());
  f.expect(isOf(isReply, f.uint8()));
  f.skip(4);
  f.expect(f.uint8() <= 16);
}

/** 0x82 | type(3) version(5) 1 | varint sequence number | varint length of the name | name. */
function compact(f: Fields, isReply: boolean): void {
  f.expect(f.uint8() === 0x82);
  const byte = f.uint8();
  f.expect((byte & 0x1f) === 1 && isOf(isReply, byte >> 5));
  let length = 1;
  while (f.uint8() >= 0x80 && length < 6) length++;
  f.expect(length <= 5);
  methodName(f, f.uint8());
}

const bare = (isReply: boolean): Test => {
  return (view, at, end) => {
    const f = new Fields(view, at, end);
    const first = view.getUint8(at);
    if (first === 0x80) strictBinary(f, isReply);
    else if (first === 0x82) compact(f, isReply);
    else if (first === 0) oldBinary(f, isReply);
    else return Match.no;
    return f.match;
  };
};

export const isThriftCall = bare(false);
export const isThriftReply = bare(true);

/** A message behind the four bytes of its length (TFramedTransport), or THeader's there. */
const framed = (isReply: boolean): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) !== 0) return Match.no;
    const f = new Fields(view, at, end);
    const length = f.uint32();
    f.expect(length >= 6 && length < FRAME_LIMIT);
    if (f.match !== Match.yes) return f.match;
    if (f.at === end) return Match.more;
    switch (view.getUint8(f.at)) {
      case 0x80:
        strictBinary(f, isReply);
        break;
      case 0x82:
        compact(f, isReply);
        break;
      case 0x0f:
        header(f);
        break;
      default:
        oldBinary(f, isReply);
    }
    return f.match;
  };
};

/** 0x0fff | flags | sequence number | size in words | protocol 0 or 2 (HeaderFormat.md). */
function header(f: Fields): void {
  f.expect(f.uint16() === 0x0fff);
  f.skip(6);
  const words = f.uint16();
  f.expect(words >= 1 && words <= 0x1000);
  const protocol = f.uint8();
  f.expect(protocol === 0 || protocol === 2);
  f.expect(f.uint8() <= 4);
}

export const isThriftFramedCall = framed(false);
export const isThriftFramedReply = framed(true);

/** Statuses of an answer (Dubbo protocol, "Status"). */
const DUBBO_STATUS = [20, 30, 31, 40, 50, 60, 70, 80, 90, 100];

/**
 *     0xdabb | request, two-way, event, serialization(5) | status | int64 id | int32 length
 */
const dubbo = (isResponse: boolean): Test => {
  return (view, at, end) => {
    if (view.getUint8(at) !== 0xda) return Match.no;
    const f = new Fields(view, at, end);
    f.expect(f.uint16() === 0xdabb);
    const flags = f.uint8();
    f.expect((flags & 0x1f) !== 0 && (flags & 0x80) === (isResponse ? 0 : 0x80));
    const status = f.uint8();
    f.expect(isResponse ? DUBBO_STATUS.includes(status) : status === 0);
    f.skip(8);
    f.expect(f.uint32() < FRAME_LIMIT * 4);
    return f.match;
  };
};

export const isDubboRequest = dubbo(false);
export const isDubboResponse = dubbo(true);
