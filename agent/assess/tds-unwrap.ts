/**
 * Takes the TLS out of TDS packets, and notices what goes on in plaintext behind it.
 *
 * PRELOGIN tells what each side wants (MS-TDS §2.2.6.5). The handshake's records then ride in
 * packets of type 0x12, cut where a packet is full and not where a record ends; behind the
 * handshake records stand alone (§3.2.5.1). Where both sides said ENCRYPT_OFF, TLS covers the login
 * alone, and packets in plaintext follow. First bytes tell them apart: records begin with 20 to 23,
 * which is no type of TDS packets.
 *
 *     | 12 header | record, be|  | 12 header | gun here |  | 17 03 03 … |  | 04 header | tokens |
 */
import { Tds, TDS_HEADER as HEADER, preloginEncryption, tdsPacketLength } from "../identify/tds.ts";
import { Match } from "../identify/match.ts";
import { isTlsClientHello } from "../identify/tls-record.ts";
import type { Upgrade } from "../identify/upgrade.ts";
import { Handshake } from "../tls/handshake.ts";
import { CLIENT, SERVER } from "../tls/side.ts";
import { RECORD_HEADER, isRecordHeader } from "../tls/record.ts";
import type { Trace } from "./trace.ts";

/** ENCRYPTION of PRELOGIN (MS-TDS §2.2.6.5). */
const Encrypt = { off: 0, on: 1, notSupported: 2, required: 3 } as const;

/** TLS of a side that is kept at a time: a record, and what came with its end. */
const BYTES_LIMIT = 32 * 1024;
/** Bytes that are handed on at once. */
const STEP = 4096;
/** Longest PRELOGIN whose options are read. */
const PRELOGIN_LIMIT = 4096;
/** Bytes of a side's header and hello by which its first packet is told. */
const TOLD_BY = HEADER + 11;
/** Places that are remembered; acknowledgments beyond them say nothing. */
const PLACES_LIMIT = 128;

/** One side's place in its stream, and the TLS taken out of it. */
class Lane {
  /** Stream offset of what is read next; -1 before the first byte. */
  next = -1;
  /** Bytes left of the packet or record at `next`, and whether they are TLS. */
  left = 0;
  isTls = false;
  encryption = -1;
  /** TLS that came and is not read yet: `[base, base + length)` of the TLS alone. */
  bytes = new Uint8Array(0);
  length = 0;
  base = 0;
  /** Up to here the TLS is read, or passed over before it came. */
  read = 0;
  /** Stream offsets where TLS goes on behind something else, and its own offsets there. */
  readonly outer: number[] = [];
  readonly inner: number[] = [];

  /** Behind all TLS that came. */
  get end(): number {
    return this.base + this.length;
  }
}

export class TdsUnwrap {
  /** Null until TLS began. */
  tls: Handshake | null = null;
  /** The sides agreed to encrypt the login alone, or plaintext came behind the TLS. */
  loginOnly = false;
  /** The sides went on without TLS. */
  isPlain = false;
  readonly #lanes: readonly Lane[] = [new Lane(), new Lane()];
  /** The server's side went on in plaintext. */
  #isAnswered = false;
  readonly #upgrade: Upgrade;
  readonly #trace: Trace | null;

  /** `upgrade` is told what PRELOGIN asks for and answers. */
  constructor(upgrade: Upgrade, trace: Trace | null) {
    this.#upgrade = upgrade;
    this.#trace = trace;
  }

  /**
   * Reads what a side has said, like `Reading.read`; `side` is its part in TLS. Returns the offset
   * up to which bytes are not needed any more, or -1 when none are.
   */
  read(side: number, view: DataView, at: number, end: number, base: number, acked: number): number {
    const lane = this.#lanes[side]!;
    if (lane.next < 0) lane.next = base;
    const position = (offset: number) => at + offset - base;
    while (position(lane.next) < end) {
      const from = position(lane.next);
      if (lane.left > 0) {
        const to = Math.min(end, from + lane.left);
        const innerAcked = this.innerOf(1 - side, acked);
        if (lane.isTls) this.#feed(lane, side, view, from, to, innerAcked);
        lane.left -= to - from;
        lane.next += to - from;
        continue;
      }
      const step = this.#enter(lane, side, view, from, end);
      if (step === "waits") break;
      if (step === "ends") return this.#settle();
      if (this.tls?.isRead(side)) return -1;
    }
    this.#settle();
    return this.tls?.isRead(side) ? -1 : lane.next;
  }

  /** Reads the head of what stands next: the lane then knows how long it is, and what. */
  #enter(
    lane: Lane,
    side: number,
    view: DataView,
    at: number,
    end: number,
  ): "goes on" | "waits" | "ends" {
    const first = view.getUint8(at);
    if (this.tls && first >= 20 && first <= 23) {
      if (end - at < RECORD_HEADER) return "waits";
      if (!isRecordHeader(view, at)) return "ends";
      this.#pass(lane, 0, RECORD_HEADER + view.getUint16(at + 3), true);
      return "goes on";
    }
    if (end - at < HEADER) return "waits";
    const length = tdsPacketLength(view, at);
    if (length === 0) {
      this.#takePlain(side, isMultiplexed(view, at, end));
      return "ends";
    }
    const mayCarry = first === Tds.prelogin || (first === Tds.reply && side === SERVER);
    if (!mayCarry) return this.#goOnInPlain(lane, side, length);
    if (end - at < Math.min(length, TOLD_BY)) return "waits";
    const body = at + HEADER;
    const isInRecord = this.tls !== null && (lane.length > 0 || lane.read > lane.end);
    if (isInRecord || beginsTls(view, body, Math.min(end, at + length), side)) {
      this.#begin();
      this.#pass(lane, HEADER, length - HEADER, true);
      return "goes on";
    }
    const isOptions = !this.tls && length > HEADER && view.getUint8(body) === 0;
    if (!isOptions) return this.#goOnInPlain(lane, side, length);
    if (length <= PRELOGIN_LIMIT) {
      if (end - at < length) return "waits";
      lane.encryption = preloginEncryption(view, body, at + length);
      this.#negotiate();
    }
    this.#pass(lane, length, 0, false);
    return "goes on";
  }

  /** Passes over a header of `skipped` bytes; `left` bytes follow, which are TLS or nothing. */
  #pass(lane: Lane, skipped: number, left: number, isTls: boolean): void {
    lane.next += skipped;
    lane.left = left;
    lane.isTls = isTls;
    if (!isTls || lane.outer.length >= PLACES_LIMIT) return;
    const last = lane.outer.length - 1;
    const delta = last < 0 ? -1 : lane.outer[last]! - lane.inner[last]!;
    if (lane.next - lane.end === delta) return;
    lane.outer.push(lane.next);
    lane.inner.push(lane.end);
  }

  #begin(): void {
    if (this.tls) return;
    this.tls = new Handshake("t", this.#trace);
    this.#trace?.ridesIn("tds", "MS-TDS §3.2.5.1");
    const [client, server] = this.#lanes;
    this.loginOnly = client!.encryption === Encrypt.off && server!.encryption === Encrypt.off;
  }

  /** A packet that holds no TLS: in its place TLS is over, or does not begin. */
  #goOnInPlain(lane: Lane, side: number, length: number): "goes on" | "ends" {
    if (this.tls) {
      this.#takePlain(side, true);
      return "ends";
    }
    // Of the server this may still be what it says before the client decides.
    if (side === CLIENT || this.#lanes[CLIENT]!.encryption < 0) this.isPlain = true;
    if (side === CLIENT && asksForAll(lane.encryption)) this.#upgrade.hear(null, true);
    this.#pass(lane, 0, length, false);
    return "goes on";
  }

  /** Something follows the TLS of this side; `isPlain`: it is read to be plaintext. */
  #takePlain(side: number, isPlain: boolean): void {
    if (!this.tls) this.isPlain = true;
    if (!this.tls || !isPlain) return;
    this.loginOnly = true;
    this.#isAnswered ||= side === SERVER;
  }

  /** The server answered the login in plaintext; it came behind the client's Finished. */
  #settle(): number {
    if (this.#isAnswered && this.tls && this.tls.finishedEnd >= 0) this.tls.answered = true;
    return -1;
  }

  /** Says what PRELOGIN agreed on; see the table in MS-TDS §2.2.6.5. */
  #negotiate(): void {
    const [client, server] = [this.#lanes[CLIENT]!.encryption, this.#lanes[SERVER]!.encryption];
    if (asksForAll(client) && this.#upgrade.state === "none") this.#upgrade.hear("asks", true);
    if (client < 0 || server < 0) return;
    const isGiven = server === Encrypt.on || server === Encrypt.required;
    if (asksForAll(client)) this.#upgrade.hear(isGiven ? "agrees" : "refuses", false);
    else if (client === Encrypt.off && isGiven) {
      this.#upgrade.hear("asks", true);
      this.#upgrade.hear("agrees", false);
    }
  }

  /** Hands `[at, end)` on to TLS, record by record as they come. */
  #feed(lane: Lane, side: number, view: DataView, at: number, end: number, acked: number): void {
    for (let from = at; from < end; from += STEP) {
      const to = Math.min(end, from + STEP);
      this.#keep(lane, view, from, to);
      if (lane.length === 0) continue;
      const kept = new DataView(lane.bytes.buffer, 0, lane.length);
      lane.read = this.tls!.read(side, kept, 0, lane.length, lane.base, acked);
      const used = Math.min(lane.read - lane.base, lane.length);
      lane.bytes.copyWithin(0, used, lane.length);
      lane.base += used;
      lane.length -= used;
    }
  }

  /** Keeps what TLS has not passed over before it came. */
  #keep(lane: Lane, view: DataView, at: number, end: number): void {
    const passed = Math.min(end - at, Math.max(0, lane.read - lane.end));
    if (lane.length === 0) lane.base += passed;
    const count = Math.min(end - at - passed, BYTES_LIMIT - lane.length);
    if (lane.length + count > lane.bytes.length) {
      const larger = new Uint8Array(Math.min(BYTES_LIMIT, Math.max(STEP, 2 * lane.bytes.length)));
      larger.set(lane.bytes);
      lane.bytes = larger;
    }
    const source = new Uint8Array(view.buffer, view.byteOffset + at + passed, count);
    lane.bytes.set(source, lane.length);
    lane.length += count;
  }

  /** Where offset `outer` of a side's stream stands in its TLS; -1 where that is not known. */
  innerOf(side: number, outer: number): number {
    const lane = this.#lanes[side]!;
    if (outer < 0 || lane.outer.length >= PLACES_LIMIT) return -1;
    let i = lane.outer.length - 1;
    while (i >= 0 && lane.outer[i]! > outer) i--;
    if (i < 0) return 0;
    const most = lane.inner[i + 1] ?? Infinity;
    return Math.min(most, lane.inner[i]! + outer - lane.outer[i]!);
  }
}

const asksForAll = (encryption: number) =>
  encryption === Encrypt.on || encryption === Encrypt.required;

/** Reports whether a packet's body begins with a record, or with an SSLv2-style hello. */
function beginsTls(view: DataView, at: number, end: number, side: number): boolean {
  if (end - at < RECORD_HEADER) return false;
  if (isRecordHeader(view, at)) return true;
  return side === CLIENT && isTlsClientHello(view, at, end) === Match.yes;
}

/** A packet of several sessions in one connection: 53, flags, session, length ([MC-SMP] §2.2.1). */
function isMultiplexed(view: DataView, at: number, end: number): boolean {
  if (end - at < HEADER || view.getUint8(at) !== 0x53) return false;
  const length = view.getUint32(at + 4, true);
  return [1, 2, 4, 8].includes(view.getUint8(at + 1)) && length >= 16 && length <= 0x10000;
}
