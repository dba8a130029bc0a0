/** Reads the openings of one flow: tells its protocol, follows upgrades, hands TLS its bytes. */
import { mayYetRefuse, refusesPlaintext } from "../identify/refusal.ts";
import { Match, SIGNATURES } from "../identify/signatures.ts";
import { isTlsClientHello, isTlsMidstream } from "../identify/tls-record.ts";
import { Upgrade } from "../identify/upgrade.ts";
import type { Opened } from "../identify/upgrade.ts";
import { CLIENT, Handshake, SERVER } from "../tls/handshake.ts";
import type { ProtocolName } from "../../protocol/flow-record.ts";
import { DatagramReading } from "./datagrams.ts";

/** Bytes of a side beyond which an unknown protocol stays unknown. */
const IDENTIFY_LIMIT = 4096;

/** Bytes of a side within which plaintext may turn into TLS. */
const UPGRADE_LIMIT = 16384;

/** What one side's bytes said to the signatures. */
type SideMatch = { done: boolean; length: number };

/** Shared by all that are settled, and never written to. */
const NO_UPGRADE = new Upgrade();
const NEITHER: boolean[] = [false, false];

/** How far the reading of both sides has come. */
class Progress {
  readonly matched: SideMatch[] = [
    { done: false, length: 0 },
    { done: false, length: 0 },
  ];
  readonly opened: (Opened | null)[] = [null, null];
  /** Stream offsets at which TLS begins; -1 while that is not known. */
  tlsFrom = [-1, -1];
  /** How much of each side has come in order. */
  readonly come = [0, 0];
}

/**
 * The reading of one flow. `role` is CLIENT or SERVER throughout; the caller knows which side of
 * the flow table that is, and asks `swapped` whether content showed it to be the other way round.
 */
export class Reading {
  protocol: ProtocolName | null = null;
  /** The plaintext protocol around the TLS. */
  upgradedFrom: ProtocolName | null = null;
  tls: Handshake | null = null;
  upgrade = new Upgrade();
  /** Content showed that the flow's first sender is its server. */
  swapped = false;
  clientByContent = false;
  /** A whole opening was looked at, and nothing matched. */
  unmatched: boolean[] = [false, false];
  /** The first bytes of a side that was read from its start are no TLS. */
  notTls = false;
  /** The server answered plaintext by asking for TLS, or by its protocol's refusal. */
  refusedInBand = false;
  /** The server's answer may yet turn out to be such a refusal. */
  mayRefuse = false;
  /** A TLS hello was answered, or a TLS port spoken to, in another protocol. */
  serverProtocol: ProtocolName | null = null;
  history = "";
  /** Letters of the ends: F and R of the client, f and r of the server. */
  ends = "";
  /** When payload last came in order, microseconds since the epoch. */
  lastBytesUs = 0;
  firstClose: { role: number; kind: "fin" | "rst" } | null = null;

  readonly #midstream: boolean;
  /** Null once nothing more is read: a flow that lives on keeps only what it will tell. */
  #progress: Progress | null = new Progress();
  /** Of flows over UDP. */
  #datagrams: DatagramReading | null = null;
  /** QUIC: bytes of each side of the flow table when the handshake was complete. */
  bytesAtFinish: readonly [number, number] | null = null;

  constructor(midstream: boolean) {
    this.#midstream = midstream;
  }

  /**
   * Reads what a side has said so far: `[at, end)` are its bytes from stream offset `base` on.
   * Returns the stream offset up to which bytes are no longer needed, or -1 when none are any more.
   */
  read(role: number, view: DataView, at: number, end: number, base: number, acked: number): number {
    if (!this.#progress) return -1;
    const needed = this.#read(role, view, at, end, base, acked);
    // The slot is returned: its bytes are no longer ours.
    if (needed < 0) this.#progress.opened[role] = null;
    return needed;
  }

  #read(
    role: number,
    view: DataView,
    at: number,
    end: number,
    base: number,
    acked: number,
  ): number {
    const from = this.#progress!.tlsFrom[role]!;
    if (from >= 0) {
      if (base + end - at < from) return from;
      const skip = Math.max(0, from - base);
      return this.#readTls(role, view, at + skip, end, base + skip, acked);
    }
    this.#progress!.come[role] = base + end - at;
    if (base === 0) this.#progress!.opened[role] = { view, at, end };
    this.#identify(role, view, at, end);
    if (!this.tls && this.#beginsTls(role, view, at, end, base)) {
      return this.#read(role, view, at, end, base, acked);
    }
    if (this.protocol === null && this.#progress!.matched[role]!.done) {
      // Unknown bytes are passed over; a hello may yet begin a later segment.
      return this.#progress!.come[role]! > UPGRADE_LIMIT
        ? -1
        : this.#hold(role, view, at, end, base);
    }
    return this.#isDone(role) ? -1 : base;
  }

  /** Tells where TLS begins, when it has begun: at the start, upgraded to, or behind a preface. */
  #beginsTls(role: number, view: DataView, at: number, end: number, base: number): boolean {
    if (this.protocol === "tls") {
      // A server that spoke first did so in plaintext; its TLS begins behind that.
      const greeted = this.unmatched[SERVER] && this.serverProtocol === null;
      this.#beginTls(0, greeted ? this.#progress!.come[SERVER]! : 0);
      return this.#progress!.tlsFrom[role]! >= 0;
    }
    if (this.protocol !== null) {
      if (
        this.upgrade.follow(
          this.protocol,
          this.#progress!.opened[CLIENT]!,
          this.#progress!.opened[SERVER]!,
        )
      ) {
        this.note("u", CLIENT);
      }
      if (this.upgrade.state !== "agreed") return false;
      this.upgradedFrom = this.protocol;
      this.#beginTls(this.upgrade.clientFrom, this.upgrade.serverFrom);
      return true;
    }
    const isHello = role === CLIENT && base > 0 && isTlsClientHello(view, at, end) === Match.yes;
    if (!isHello) return false;
    this.protocol = "tls";
    this.#beginTls(base, this.#progress!.come[SERVER]!);
    return true;
  }

  /** Keeps the first bytes of a segment that may grow into a hello; gives up the others. */
  #hold(role: number, view: DataView, at: number, end: number, base: number): number {
    const mayGrow =
      role === CLIENT && base > 0 && end > at && isTlsClientHello(view, at, end) === Match.more;
    return mayGrow ? base : base + end - at;
  }

  /** A connection over UDP is being followed. */
  get follows(): boolean {
    return this.#datagrams?.follows ?? false;
  }

  /**
   * Reads one datagram of a flow over UDP, and reports whether this side's next one is wanted;
   * see `DatagramReading.read`. `role` is CLIENT for who sent the first packet.
   */
  readDatagram(
    role: number,
    view: DataView,
    at: number,
    end: number,
    port: { source: number; destination: number },
    mayFollow: boolean,
  ): boolean {
    if (!this.#progress) return false;
    const datagrams = (this.#datagrams ??= new DatagramReading());
    const wanted = datagrams.read(role, view, at, end, port, mayFollow);
    this.protocol = datagrams.protocol;
    this.tls = datagrams.tls;
    this.unmatched[role] ||= datagrams.protocol === null;
    if (datagrams.client >= 0) {
      this.clientByContent = true;
      this.swapped = datagrams.client !== CLIENT;
    }
    return wanted;
  }

  /** Nothing more is read of either side: what was only for reading is given up. */
  settle(): void {
    this.#progress = null;
    this.#datagrams = null;
    if (this.upgrade.state === "none" && !this.upgrade.gss) this.upgrade = NO_UPGRADE;
    if (!this.unmatched.includes(true)) this.unmatched = NEITHER;
    this.tls?.settle();
  }

  /** A side ended the connection. */
  close(role: number, kind: "fin" | "rst", acked: number, nowUs: number): void {
    this.firstClose ??= { role, kind };
    const letter = kind === "fin" ? "f" : "r";
    if (this.ends.length < 4) this.ends += role === CLIENT ? letter.toUpperCase() : letter;
    const waitedMs = (nowUs - this.lastBytesUs) / 1000;
    this.tls?.close({ side: this.#inTls(role), kind, acked, waitedMs });
  }

  note(letter: string, role: number): void {
    if (this.tls) this.tls.note(letter, role);
    else if (this.history.length < 40) {
      this.history += role === CLIENT ? letter.toUpperCase() : letter.toLowerCase();
    }
  }

  /** Letters of the whole flow: what came before TLS, then TLS. */
  get letters(): string {
    return this.history + (this.tls?.history ?? "");
  }

  #identify(role: number, view: DataView, at: number, end: number): void {
    const own = this.#progress!.matched[role]!;
    if (own.done || end - at <= own.length) return;
    own.length = end - at;
    const asClient = role === CLIENT ? "client" : "server";
    let pending = false;
    for (const signature of SIGNATURES) {
      if (signature.transport !== "tcp") continue;
      // Joined mid-stream, or without a SYN, either side may be the client.
      const fits = signature.side === "either" || signature.side === asClient || this.#midstream;
      if (!fits) continue;
      const match = signature.test(view, at, end);
      if (match === Match.more) pending = true;
      if (match !== Match.yes) continue;
      own.done = true;
      this.#take(signature.protocol, signature.side, role);
      return;
    }
    if (this.#midstream && isTlsMidstream(view, at, end) === Match.yes) {
      own.done = true;
      this.#take("tls", "either", role);
      return;
    }
    if (pending && end - at < IDENTIFY_LIMIT) return;
    own.done = true;
    this.unmatched[role] = true;
    if (role === CLIENT && !this.#midstream && this.protocol === null) this.notTls = true;
    this.note("d", role);
  }

  #take(protocol: ProtocolName, side: "client" | "server" | "either", role: number): void {
    if (side !== "either" && !this.clientByContent) {
      this.clientByContent = true;
      const isClient = side === "client";
      if (this.#midstream && isClient !== (role === CLIENT)) this.swapped = true;
    }
    if (role === SERVER) this.serverProtocol = protocol;
    // A server's TLS alert to bytes that are no TLS does not make them TLS.
    if (role === SERVER && protocol === "tls" && this.notTls) return;
    if (this.protocol === null) {
      this.protocol = protocol;
      if (protocol !== "tls") this.notTls = !this.#midstream;
      if (protocol !== "tls") this.note("d", role);
    }
  }

  #beginTls(clientFrom: number, serverFrom: number): void {
    this.tls = new Handshake();
    this.notTls = false;
    this.#progress!.tlsFrom = [clientFrom, serverFrom];
    // A server that answered a hello in another protocol is not read as TLS.
    if (this.serverProtocol !== null && this.serverProtocol !== "tls" && !this.upgradedFrom) {
      this.#progress!.tlsFrom[SERVER] = -1;
    }
  }

  #readTls(
    role: number,
    view: DataView,
    at: number,
    end: number,
    base: number,
    acked: number,
  ): number {
    const tls = this.tls!;
    const side = this.#inTls(role);
    if (
      role === SERVER &&
      this.#progress!.tlsFrom[SERVER] === 0 &&
      !this.#progress!.matched[SERVER]!.done
    ) {
      this.#identify(SERVER, view, at, end);
      if (!this.#progress!.matched[SERVER]!.done) return base;
      if (this.serverProtocol !== "tls") return -1;
    }
    const needed = tls.read(side, view, at, end, base, acked);
    return tls.isRead(side) ? -1 : needed;
  }

  /** The side's part in TLS: a flow joined late may have been taken the wrong way round. */
  #inTls(role: number): number {
    return this.swapped ? 1 - role : role;
  }

  /** Nothing more of this side is waited for. */
  #isDone(role: number): boolean {
    const server = this.#progress!.opened[SERVER];
    if (role === SERVER && server) {
      this.refusedInBand ||= refusesPlaintext(this.protocol, server);
      this.mayRefuse = !this.refusedInBand && mayYetRefuse(this.protocol, server);
      if (this.mayRefuse) return false;
    }
    switch (this.upgrade.state) {
      case "asked":
        return this.upgrade.gss;
      case "none":
        // MySQL's client decides with its first packet; the other side is needed until then.
        if (this.protocol === "mysql" && !this.#progress!.matched[CLIENT]!.done) return false;
        break;
    }
    return this.#progress!.matched[role]!.done;
  }
}
