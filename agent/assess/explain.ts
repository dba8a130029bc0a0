/** Writes down how one flow was read, step by step; listens as its `Trace`. */
import { Tcp } from "../decode/packet.ts";
import type { Signature } from "../identify/signatures.ts";
import type { UpgradeState } from "../identify/upgrade.ts";
import type { ClientFlight, FlightOffers } from "../tls/client-flight.ts";
import { ContentType, HandshakeType, isTls13 } from "../tls/codes.ts";
import { alertName, describeFlight, describeMessage, recordName } from "../tls/describe.ts";
import type { Negotiated } from "../tls/describe.ts";
import { ja4 } from "../tls/fingerprint.ts";
import { CLIENT, SERVER } from "../tls/side.ts";
import type { AnswerKind, Transport } from "../tls/trace.ts";
import { Cursor } from "../read/cursor.ts";
import { readClientHello } from "../tls/client-hello.ts";
import { readServerHello } from "../tls/server-hello.ts";
import type { Flow, ProtocolName, RefusalName } from "../../protocol/flow-record.ts";
import type { Trace, TracedPacket } from "./trace.ts";
import { refusalWords } from "./words.ts";

/** One thing that was read. */
export type Step = {
  /** Number of the frame in the file, from 1, as Wireshark counts. */
  frame: number;
  /** Microseconds since the epoch. */
  timeUs: number;
  side: "client" | "server" | null;
  /** Bytes of the side's stream; null where the step is about none. */
  from: number | null;
  to: number | null;
  what: string;
  /** The section that says so. */
  source: string | null;
  details: string[];
};

/** Steps that are kept of one flow; what comes behind is counted. */
const STEPS_LIMIT = 400;
/** Bytes of an unknown side that are shown, and that its randomness is measured over. */
const SHOWN_BYTES = 48;
const MEASURED_BYTES = 1024;

const NO_BYTES = new Uint8Array(0);
const NO_RECORD = { side: -1, from: null, to: null };
const other = (side: number) => 1 - side;
const bytes = (n: number) => (n === 1 ? "1 byte" : `${n} bytes`);
const who = (side: number) => (side === CLIENT ? "client" : "server");

export class Explanation implements Trace {
  readonly steps: Step[] = [];
  left = 0;
  /** Of the frame that is being read; the caller moves them on. */
  frame = 0;
  timeUs = 0;
  readonly #expected = [0, 0];
  readonly #spoke = [false, false];
  readonly #snapped = [false, false];
  #negotiated: Negotiated | null = null;
  #flight: Step | null = null;
  /** The last record, and where it stands in its stream; datagrams have no such places. */
  #record: Readonly<{ side: number; from: number | null; to: number | null }> = NO_RECORD;
  #transport: Transport = "t";
  /** The first bytes of each side, in order. */
  readonly #first = [NO_BYTES, NO_BYTES];
  readonly #firstSeen: (Pick<Step, "frame" | "timeUs"> | null)[] = [null, null];
  /** Steps whose side is who sent the first packet, whatever the content. */
  readonly #byRole: Step[] = [];

  #tell(
    side: number | null,
    from: number | null,
    to: number | null,
    what: string,
    source: string | null,
    details: string[] = [],
  ): Step {
    const { frame, timeUs } = this;
    const name = side === null ? null : who(side);
    const step: Step = { frame, timeUs, side: name, from, to, what, source, details };
    if (this.steps.length < STEPS_LIMIT) this.steps.push(step);
    else this.left++;
    return step;
  }

  #ofRole(
    role: number,
    from: number | null,
    to: number | null,
    what: string,
    source: string | null,
    details: string[] = [],
  ): void {
    this.#byRole.push(this.#tell(role, from, to, what, source, details));
  }

  packet(packet: TracedPacket): void {
    const { role, flags, offset, payloadLength, acked } = packet;
    const spans = payloadLength > 0 && offset >= 0;
    const from = spans ? offset : null;
    const to = spans ? offset + payloadLength : null;
    if ((flags & Tcp.syn) !== 0) {
      const answers = (flags & Tcp.ack) !== 0;
      const what = answers ? "SYN, ACK: the server takes the connection" : "SYN: it opens";
      this.#ofRole(role, null, null, what, "RFC 9293 §3.5");
    }
    if (payloadLength > 0) this.#payload(packet, from, to);
    if ((flags & Tcp.fin) !== 0) this.#ofRole(role, from, to, "FIN: it closes", "RFC 9293 §3.6");
    if ((flags & Tcp.rst) !== 0) {
      const behind = acked > 0 ? `, having had ${acked} bytes of the ${who(other(role))}'s` : "";
      this.#ofRole(role, null, null, `RST: it breaks off${behind}`, "RFC 9293 §3.5.2");
    }
  }

  error(kind: RefusalName, sender: string, refuses: boolean): void {
    const why = "the flow was answered before, or this quotes not what opened it";
    const means = refuses ? "" : `: refuses nothing, ${why}`;
    const what = `${refusalWords(kind)}, from ${sender}${means}`;
    this.#tell(null, null, null, what, sender.includes(":") ? "RFC 4443 §3.1" : "RFC 792");
  }

  /** The first payload of a side, what was cut off, and what is missing. */
  #payload(packet: TracedPacket, from: number | null, to: number | null): void {
    const { role, payloadLength, capturedLength } = packet;
    if (!this.#spoke[role]) {
      this.#spoke[role] = true;
      const what = `first payload, ${bytes(payloadLength)}`;
      this.#ofRole(role, from, to, what, null);
    }
    if (capturedLength < payloadLength && !this.#snapped[role]) {
      this.#snapped[role] = true;
      const what = `captured in part: ${capturedLength} of ${payloadLength} bytes of payload`;
      this.#ofRole(role, from, to, what, null);
    }
    this.#keep(packet);
    if (from === null || to === null) return;
    const expected = this.#expected[role]!;
    if (from > expected) {
      this.#ofRole(
        role,
        expected,
        from,
        `${bytes(from - expected)} before this have not come yet`,
        null,
      );
    }
    if (to > expected) this.#expected[role] = to;
  }

  /** Keeps the first bytes of a side; what comes out of order is left out. */
  #keep({ role, offset, view, payloadAt, capturedLength }: TracedPacket): void {
    const have = this.#first[role]!;
    const follows = offset < 0 ? have.length === 0 : offset === have.length;
    const length = Math.min(capturedLength, MEASURED_BYTES - have.length);
    if (!follows || length <= 0) return;
    const kept = new Uint8Array(have.length + length);
    kept.set(have);
    kept.set(new Uint8Array(view.buffer, view.byteOffset + payloadAt, length), have.length);
    this.#first[role] = kept;
    this.#firstSeen[role] ??= { frame: this.frame, timeUs: this.timeUs };
  }

  matched(
    role: number,
    { protocol, side, transport, source, midstream }: Signature,
    length: number,
  ) {
    if (protocol === "quic" || protocol === "dtls") this.#transport = protocol[0] as Transport;
    const of = side === "either" ? "of either side" : `of the ${side}`;
    const over = transport === "both" ? "TCP or UDP" : transport.toUpperCase();
    const joined = midstream ? ", joined after its start" : "";
    const what = `the bytes match ${protocol}, signature ${of} over ${over}${joined}`;
    this.#ofRole(role, 0, length, what, source);
  }

  unmatched(role: number, length: number): void {
    this.#ofRole(role, 0, length, "no signature matches these bytes", null);
  }

  upgraded(protocol: ProtocolName, state: UpgradeState): void {
    const what = {
      none: "negotiates nothing",
      asked:
        protocol === "http" ? "the client asks for a tunnel" : "the client asks for encryption",
      agreed: protocol === "http" ? "the proxy grants it" : "both sides agree to begin TLS",
      refused: "the server does not begin TLS",
      stripped: "the offer was taken out on its way, or TLS agreed upon and not begun",
    }[state];
    this.#tell(null, null, null, `${protocol}: ${what}`, null);
  }

  tunnelled(protocol: ProtocolName): void {
    const what = `${protocol}: a tunnel begins; what is inside of it is read anew`;
    this.#tell(null, null, null, what, protocol === "http" ? "RFC 9110 §9.3.6" : "RFC 1928 §6");
  }

  beginsTls(clientFrom: number, serverFrom: number, inside: ProtocolName | null): void {
    const behind = inside === null ? "" : ` inside ${inside}`;
    const what =
      `TLS is read${behind}: from byte ${clientFrom} of the client's stream, ` +
      `byte ${serverFrom} of the server's`;
    this.#tell(null, null, null, what, "RFC 8446 §5.1");
  }

  ridesIn(protocol: ProtocolName, source: string): void {
    const what = `TLS is read inside packets of ${protocol}: bytes below are counted in it alone`;
    this.#tell(null, null, null, what, source);
  }

  record(
    side: number,
    type: number,
    version: number,
    length: number,
    offset: number,
    inClear: boolean,
  ): void {
    const from = offset;
    const to = offset + length + (type === 0 ? 0 : 5);
    this.#record = { side, from, to };
    const hidden = inClear ? "" : ", encrypted";
    const field = `version field 0x${version.toString(16).padStart(4, "0")}`;
    const what = `record ${recordName(type)}, ${bytes(length)}${hidden}, ${field}`;
    const source = type === 0 ? "RFC 6101 §E.2" : "RFC 8446 §5.1";
    this.#tell(side, from, to, what, inClear ? source : "RFC 8446 §5.2");
    if (type !== ContentType.changeCipherSpec) return;
    // Before the ServerHello its version is not known: a second hello's is of TLS 1.3 as well.
    const is13 = this.#negotiated !== null && isTls13(this.#negotiated.version);
    const means = is13
      ? "for middleboxes alone, it changes nothing (RFC 8446 §D.4)"
      : "from here on this side encrypts (RFC 5246 §7.1)";
    this.steps.at(-1)?.details.push(means);
  }

  message(side: number, view: DataView, at: number, end: number): void {
    const { what, source, details } = describeMessage(view, at, end, this.#negotiated);
    const here = this.#record.side === side ? this.#record : null;
    const step = this.#tell(side, here?.from ?? null, here?.to ?? null, what, source, details);
    const c = new Cursor(view, at + 4, end);
    switch (view.getUint8(at)) {
      case HandshakeType.clientHello: {
        const hello = readClientHello(c);
        if (hello) step.details.push(...ja4Pieces(ja4(hello, this.#transport)));
        return;
      }
      case HandshakeType.serverHello: {
        const hello = readServerHello(c);
        if (hello) this.#negotiated = { suite: hello.cipherSuite, version: hello.version };
      }
    }
  }

  alert(side: number, level: number, code: number): void {
    const how = level === 2 ? "fatal" : "warning";
    const { from, to } = this.#record;
    this.#tell(side, from, to, `alert ${code}, ${alertName(code)} (${how})`, "RFC 8446 §6");
  }

  flight(
    lengths: readonly number[],
    hashBytes: number,
    offers: FlightOffers,
    flight: ClientFlight,
  ): void {
    if (lengths.length === 0) return;
    const { what, source, details } = describeFlight(lengths, hashBytes, offers, flight);
    // Later records add to the sums, or change what the flight is taken for: then it is told anew.
    if (this.#flight?.what === what) {
      this.#flight.details = details;
      return;
    }
    const { from, to } = this.#record;
    this.#flight = this.#tell(CLIENT, from, to, what, source, details);
  }

  answer(kind: AnswerKind, length: number, acked: number, finishedEnd: number): void {
    const acks =
      acked < 0
        ? this.#transport === "t"
          ? "its segment filled a gap, so its acknowledgment says nothing"
          : "datagrams acknowledge nothing: it came behind the client's data"
        : `its segment acknowledges ${acked} bytes, the Finished ends at ${finishedEnd}`;
    const [what, source] = ANSWERS[kind];
    const { from, to } = this.#record;
    this.#tell(SERVER, from, to, what, source, [`${length} bytes; ${acks}`]);
  }

  /** The flow is over: unknown bytes are shown, and content may turn its sides around. */
  finish(record: Flow, swapped: boolean): void {
    if (record.protocol === null && record.encryption === "unknown") {
      for (const side of [CLIENT, SERVER]) this.#showBytes(side);
      this.steps.sort((a, b) => a.frame - b.frame);
    }
    if (!swapped) return;
    // Content showed the first sender to be the server: what packets told changes sides.
    for (const step of this.#byRole) step.side = step.side === "client" ? "server" : "client";
  }

  #showBytes(role: number): void {
    const bytes = this.#first[role]!;
    if (bytes.length === 0) return;
    const shown = Buffer.from(bytes.subarray(0, SHOWN_BYTES)).toString("hex");
    const details = [shown.replaceAll(/..(?=.)/g, "$& ")];
    const note = randomness(bytes);
    if (note !== null) details.push(note);
    const what = `unknown: its first ${Math.min(SHOWN_BYTES, bytes.length)} bytes`;
    this.#ofRole(role, 0, bytes.length, what, null, details);
    Object.assign(this.steps.at(-1)!, this.#firstSeen[role]);
  }
}

/** What a server's record behind the client's Finished was taken for, and where that is written. */
const ANSWERS: Readonly<Record<AnswerKind, readonly [string, string]>> = {
  early: ["sent before the server had the client's Finished: no answer", "RFC 9293 §3.4"],
  alert: ["2 + 17 bytes are the size of an alert: no answer", "RFC 8446 §6"],
  ticket: ["may be a session ticket: no answer yet", "RFC 8446 §4.6.1"],
  control: ["may be a KeyUpdate, a late request, or HTTP/2's own: no answer yet", "RFC 8446 §4.6"],
  answer: ["application data behind the client's Finished: the server answers", "RFC 8446 §2"],
};

/** JA4 (FoxIO) taken apart: transport and version, counts, ALPN; then two hashes. */
function ja4Pieces(text: string): string[] {
  const [a = "", b = "", c = ""] = text.split("_");
  const over = a[0] === "t" ? "TCP" : a[0] === "q" ? "QUIC" : "DTLS";
  const named = a[3] === "d" ? "with a server name" : "without a server name";
  const counts = `${Number(a.slice(4, 6))} suites, ${Number(a.slice(6, 8))} extensions`;
  return [
    `JA4 ${text}`,
    `  ${a}: over ${over}, version ${a.slice(1, 3)}, ${named}, ` +
      `${counts}, ALPN ${a.slice(8)}; GREASE is not counted`,
    `  ${b}: SHA-256 of the suites in order of their numbers, first 12 digits`,
    `  ${c}: the same of the extensions without server_name and ALPN, then signature_algorithms`,
  ];
}

/**
 * How random bytes look, by their Shannon entropy, beside that of as many random bytes. A note for
 * people: compressed data looks as random as encrypted, so nothing is ever concluded from it.
 */
export function randomness(bytes: Uint8Array): string | null {
  if (bytes.length < 32) return null;
  const counts = new Array<number>(256).fill(0);
  for (const byte of bytes) counts[byte]!++;
  let entropy = 0;
  for (const count of counts) {
    if (count > 0) entropy -= (count / bytes.length) * Math.log2(count / bytes.length);
  }
  const expected = expectedEntropy(bytes.length);
  const looks = entropy > expected - 0.25 ? "as random bytes have" : "less than random bytes have";
  return (
    `entropy ${entropy.toFixed(2)} bits a byte over ${bytes.length} bytes, ${looks} ` +
    `(about ${expected.toFixed(2)}); compressed data looks the same: this proves nothing`
  );
}

/** Mean entropy of `n` bytes drawn evenly: each value's count is Poisson, of mean n / 256. */
function expectedEntropy(n: number): number {
  const mean = n / 256;
  let probability = Math.exp(-mean);
  let sum = 0;
  for (let count = 1; count < mean + 40 * Math.sqrt(mean) + 20; count++) {
    probability *= mean / count;
    sum -= 256 * probability * (count / n) * Math.log2(count / n);
  }
  return sum;
}
