/** Recognises message brokers: AMQP, MQTT, Kafka, NATS, STOMP. */
import { Match, anyOf, firstLine, isPrintable, line, startsWith } from "./match.ts";

/**
 * `AMQP` and four bytes: protocol identifier or 0, then the version (AMQP 0-9-1 §4.2.2; AMQP 1.0
 * §2.2, with 2 for TLS §5.2.1 and 3 for SASL §5.3.1). The server answers with its own.
 */
export function isAmqpHeader(view: DataView, at: number, end: number): Match {
  const match = startsWith(view, at, end, "AMQP");
  if (match !== Match.yes) return match;
  return end - at < 8 ? Match.more : Match.yes;
}

/** Octet that ends a frame (AMQP 0-9-1 §4.2.3). */
const FRAME_END = 0xce;

/** Type 1 to 3 or 8, channel, size, payload, 0xCE. A server's first is connection.start on 0. */
export function isAmqpFrame(view: DataView, at: number, end: number): Match {
  const type = view.getUint8(at);
  if (type < 1 || (type > 3 && type !== 8)) return Match.no;
  if (end - at < 7) return Match.more;
  const size = view.getUint32(at + 3);
  if (size > 1 << 20) return Match.no;
  if (end - at >= 11 && view.getUint32(at + 7) === 0x000a000a) return Match.yes;
  if (end - at < 8 + size) return size > 4000 ? Match.no : Match.more;
  if (view.getUint8(at + 7 + size) !== FRAME_END) return Match.no;
  return type === 8 ? zeroSize(size) : Match.yes;
}

/** A heartbeat has no payload. */
const zeroSize = (size: number): Match => (size === 0 ? Match.yes : Match.no);

/** A frame of AMQP 1.0: size, data offset ≥ 2, type, channel, then a described type (§2.3.1). */
export function isAmqp1Frame(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0) return Match.no;
  if (end - at < 11) return Match.more;
  const size = view.getUint32(at);
  const offset = view.getUint8(at + 4);
  if (size < 11 || size > 1 << 20 || offset !== 2 || view.getUint8(at + 5) > 1) return Match.no;
  if (view.getUint16(at + 8) !== 0x0053) return Match.no;
  const performative = view.getUint8(at + 10);
  const isKnown =
    (performative >= 0x10 && performative <= 0x18) ||
    (performative >= 0x40 && performative <= 0x44);
  return isKnown ? Match.yes : Match.no;
}

/** CONNECT: 0x10, remaining length, protocol name, level (MQTT 3.1.1 §3.1.2, 5.0 §3.1.2). */
export function isMqttConnect(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0x10) return Match.no;
  const name = behindLength(view, at + 1, end);
  if (name <= 0) return name < 0 ? Match.no : Match.more;
  if (end - name < 3) return Match.more;
  const length = view.getUint16(name);
  if (length !== 4 && length !== 6) return Match.no;
  return startsWith(view, name + 2, end, length === 4 ? "MQTT" : "MQIsdp");
}

/** Position behind a variable byte integer (MQTT §2.2.3), 0 while it has not come, -1: none. */
function behindLength(view: DataView, at: number, end: number): number {
  for (let i = at; i < at + 4; i++) {
    if (i >= end) return 0;
    if (view.getUint8(i) < 0x80) return i + 1;
  }
  return -1;
}

/** CONNACK with its lawful flags and codes; only likely, for it is as short as four bytes. */
export function isMqttConnack(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) !== 0x20) return Match.no;
  if (end - at < 4) return Match.more;
  const length = view.getUint8(at + 1);
  const flags = view.getUint8(at + 2);
  const code = view.getUint8(at + 3);
  return length >= 2 && length < 128 && flags <= 1 && (code <= 5 || code >= 0x80)
    ? Match.likely
    : Match.no;
}

/** Any other packet, whose lengths agree with each other and with the segment (MQTT §2.1). */
export function isMqttPacket(view: DataView, at: number, end: number): Match {
  const type = view.getUint8(at) >> 4;
  const flags = view.getUint8(at) & 0x0f;
  const wanted = type === 6 || type === 8 || type === 10 ? 2 : 0;
  if (type === 0 || (type !== 3 && flags !== wanted)) return Match.no;
  const behind = behindLength(view, at + 1, end);
  if (behind <= 0) return behind < 0 ? Match.no : Match.more;
  let length = 0;
  for (let i = behind - 1; i > at; i--) length = length * 128 + (view.getUint8(i) & 0x7f);
  if (type === 12 || type === 13) return length === 0 ? Match.likely : Match.no;
  if (type !== 3) return behind + length === end && length < 512 ? Match.likely : Match.no;
  if (end - behind < 2) return Match.more;
  const topic = view.getUint16(behind);
  if (topic === 0 || topic + 2 > length || topic > 1024) return Match.no;
  return isPrintable(view, behind + 2, Math.min(end, behind + 2 + topic)) ? Match.likely : Match.no;
}

/** Highest version of each Kafka request by its key (Kafka protocol, "API Keys"), with room. */
const KAFKA_KEYS = 92;
const KAFKA_VERSIONS = 20;

/**
 * A request: int32 size, int16 key, int16 version, int32 correlation, nullable client identifier
 * (Kafka protocol, "Request Header").
 */
export function isKafkaRequest(view: DataView, at: number, end: number): Match {
  if (view.getUint8(at) > 6) return Match.no; // 100 MB is the broker's own limit
  if (end - at < 14) return end - at >= 8 && !hasKafkaHead(view, at) ? Match.no : Match.more;
  if (!hasKafkaHead(view, at)) return Match.no;
  const size = view.getUint32(at);
  const identifier = view.getInt16(at + 12);
  if (identifier < -1 || identifier > 255 || 10 + identifier > size) return Match.no;
  if (identifier <= 0) return end - at === 4 + size ? Match.likely : Match.no;
  if (!isPrintable(view, at + 14, Math.min(end, at + 14 + identifier))) return Match.no;
  if (end - at < 14 + Math.min(identifier, 4)) return Match.more;
  return identifier >= 4 || end - at === 4 + size ? Match.yes : Match.likely;
}

function hasKafkaHead(view: DataView, at: number): boolean {
  const size = view.getUint32(at);
  const key = view.getUint16(at + 4);
  return (
    size >= 10 && size <= 0x06400000 && key < KAFKA_KEYS && view.getUint16(at + 6) < KAFKA_VERSIONS
  );
}

/** `INFO {…}` (NATS protocol). */
export const isNatsServer = line(
  ["INFO {", "+OK", "-ERR '", "PING", "PONG", "MSG ", "HMSG "],
  anyOf("", /^INFO \{.*("server_id"|"max_payload"|"auth_required"|"version")/, /^-ERR '/),
  /^(INFO \{|\+OK|PING|PONG|H?MSG \S+ \S+ (\S+ )?\d+( \d+)?\s*$)/,
);
export const isNatsClient = line(
  ["CONNECT {", "SUB ", "PUB ", "HPUB ", "PING", "PONG"],
  /^(CONNECT \{|H?PUB \S+ (\S+ )?\d+( \d+)?\s*$)/i,
  /^(SUB \S+ (\S+ )?\S+|PING|PONG)\s*$/i,
);

/** A frame's command on a line of its own, then a header (STOMP 1.2, "STOMP Frames"). */
function stomp(commands: readonly string[]) {
  return (view: DataView, at: number, end: number): Match => {
    let best: Match = Match.no;
    for (const command of commands) {
      const match = startsWith(view, at, end, `${command}\n`);
      const withReturn = startsWith(view, at, end, `${command}\r\n`);
      const lines = match === Match.yes ? 1 : withReturn === Match.yes ? 2 : 0;
      if (lines > 0) {
        const header = firstLine(view, at + command.length + lines, end);
        if (header === null) return Match.more;
        return /^[\w.-]+:/.test(header) ? Match.yes : Match.no;
      }
      if (match === Match.more || withReturn === Match.more) best = Match.more;
    }
    return best;
  };
}

export const isStompClient = stomp(["CONNECT", "STOMP", "SEND", "SUBSCRIBE", "DISCONNECT", "ACK"]);
export const isStompServer = stomp(["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"]);
