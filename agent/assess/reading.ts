/** Reads the openings of one flow: tells its protocol, follows upgrades, hands TLS its bytes. */
import { httpCarries } from "../identify/http2.ts";
import { mayBeDenial, mayYetRefuse, refusesPlaintext } from "../identify/refusal.ts";
import { DIALOGUES, MESSAGE_LIMIT } from "../identify/dialogue.ts";
import type { Dialogue } from "../identify/dialogue.ts";
import { Match } from "../identify/match.ts";
import { proxyHeaderLength } from "../identify/proxy.ts";
import type { Ports } from "../identify/recognition.ts";
import type { Signature } from "../identify/signatures.ts";
import { isTlsClientHello } from "../identify/tls-record.ts";
import { Upgrade } from "../identify/upgrade.ts";
import { alike } from "../tls/alike.ts";
import { Handshake } from "../tls/handshake.ts";
import { CLIENT, SERVER } from "../tls/side.ts";
import { RECORD_HEADER, isRecordHeader, mayBeRecord } from "../tls/record.ts";
import type { ProtocolName } from "../../protocol/flow-record.ts";
import type { Trace } from "./trace.ts";
import { DatagramReading } from "./datagrams.ts";
import { Progress } from "./progress.ts";
import { TdsUnwrap } from "./tds-unwrap.ts";

/** Bytes of a side within which plaintext may turn into TLS. */
const UPGRADE_LIMIT = 16384;
/** Bytes of a side that are kept for the other side to name. */
const LIKELY_LIMIT = 4096;
/** Shared by all that are settled, and never written to. */
const NO_UPGRADE = new Upgrade();
const NEITHER: boolean[] = [false, false];

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
  /** The answer may be a mesh's denial: it tells nothing of acceptance. */
  mayBeDenied = false;
  /** The server's answer may yet turn out to be such a refusal. */
  mayRefuse = false;
  /** The server's first bytes came. */
  serverIsRead = false;
  /** The client has not said more than its greeting: it may go on to ask for TLS. */
  isGreeting = false;
  /** Of TDS: TLS covers the login alone. */
  loginOnly = false;
  /** A PROXY header stands in front of what the client says. */
  isProxied = false;
  /** What opened a tunnel (HTTP CONNECT, SOCKS); the other fields speak of what is inside. */
  tunnelOf: ProtocolName | null = null;
  /** Something was said inside of it. */
  tunnelSpoke = false;
  /** What followed a refused upgrade: nothing, more of the client, an answer to that. */
  afterRefusal: "nothing" | "asked" | "answered" = "nothing";
  /** A TLS hello was answered, or a TLS port spoken to, in another protocol. */
  serverProtocol: ProtocolName | null = null;
  history = "";
  /** When payload last came in order, microseconds since the epoch; milliseconds since before. */
  lastBytesUs = 0;
  quietMs = 0;

  readonly #midstream: boolean;
  /** Reads on where a certificate may yet be shown: of files, which end. */
  readonly #isPatient: boolean;
  /** Null once nothing more is read: a flow that lives on keeps only what it will tell. */
  #progress: Progress | null;
  /** Of flows over UDP. */
  #datagrams: DatagramReading | null = null;
  /** QUIC: bytes of each side of the flow table when the handshake was complete. */
  bytesAtFinish: readonly [number, number] | null = null;

  readonly #trace: Trace | null;

  constructor(midstream: boolean, ports: Ports, trace: Trace | null = null, isPatient = false) {
    this.#midstream = midstream;
    this.#isPatient = isPatient;
    this.#progress = new Progress(midstream, ports);
    this.#trace = trace;
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
    const progress = this.#progress!;
    const { recognition } = progress;
    const from = progress.tlsFrom[role]!;
    if (from >= 0) {
      if (base + end - at <= from) return from;
      const skip = Math.max(0, from - base);
      return this.#readTls(role, view, at + skip, end, base + skip, acked);
    }
    const start = progress.start[role]!;
    if (base < start) {
      if (base + end - at <= start) return start;
      return this.#read(role, view, at + start - base, end, start, acked);
    }
    progress.come[role] = base + end - at;
    this.serverIsRead ||= role === SERVER;
    this.tunnelSpoke ||= this.tunnelOf !== null && progress.come[role]! > start;
    this.#noteRefusal(role);
    const isStart = base === start;
    if (isStart) progress.opened[role] = { view, at, end };
    if (isStart) this.#identify(role, view, at, end);
    if (this.protocol === "proxy-protocol") {
      const length = role === CLIENT ? this.#passProxyHeader(view, at, end) : 0;
      if (length === 0) return base;
      return this.#read(role, view, at + length, end, base + length, acked);
    }
    if (this.protocol === "tds") return this.#readTds(role, view, at, end, base, acked);
    if (!this.tls && this.#beginsTls(role, view, at, end, base)) {
      return this.#read(role, view, at, end, base, acked);
    }
    if (this.protocol === null) {
      const held = progress.hold(role, view, at, end, base);
      // What may be named yet, also by the other side's first bytes, is kept.
      const mayBeNamed = recognition.isLikely && !recognition.done[1 - role]!;
      const isKept = mayBeNamed && progress.come[role]! <= LIKELY_LIMIT;
      if (!recognition.done[role]! || isKept) return base;
      return progress.come[role]! > UPGRADE_LIMIT ? -1 : held;
    }
    const dialogue = DIALOGUES.get(this.protocol);
    if (dialogue) return this.#listen(dialogue, role, view, at, end, base, acked);
    return this.#isDone(role) ? -1 : base;
  }

  /** TDS carries TLS in its own packets, and may go on without. */
  #readTds(
    role: number,
    view: DataView,
    at: number,
    end: number,
    base: number,
    acked: number,
  ): number {
    const { upgrade } = this;
    const before = upgrade.state;
    const tds = (this.#progress!.tds ??= new TdsUnwrap(upgrade, this.#trace));
    const needed = tds.read(this.#inTls(role), view, at, end, base, acked);
    this.loginOnly = tds.loginOnly;
    if (upgrade.state !== before) {
      this.note("u", role);
      this.#trace?.upgraded("tds", upgrade.state);
    }
    if (tds.tls && !this.tls) {
      this.tls = tds.tls;
      this.upgradedFrom = "tds";
      this.notTls = false;
    }
    const isOver = !tds.tls && this.#progress!.come[role]! > UPGRADE_LIMIT;
    return isOver || (tds.isPlain && this.#isDone(role)) ? -1 : needed;
  }

  /** Listens to a conversation in which TLS may be asked for, up to a ClientHello. */
  #listen(
    dialogue: Dialogue,
    role: number,
    view: DataView,
    at: number,
    end: number,
    base: number,
    acked: number,
  ): number {
    const { heard, messages, come } = this.#progress!;
    let next = at + Math.max(0, heard[role]! - base);
    while (next < end) {
      const hello = role === CLIENT ? isTlsClientHello(view, next, end) : Match.no;
      if (hello === Match.more) break;
      if (hello === Match.yes) {
        this.upgradedFrom = this.protocol;
        this.#beginTls(base + next - at, heard[SERVER]!);
        this.#progress!.serverMayTalk = true;
        return this.#read(role, view, at, end, base, acked);
      }
      const length = dialogue.next(view, next, end, role, messages[role]!);
      if (length === 0) {
        if (end - next > MESSAGE_LIMIT) next = end;
        break;
      }
      const said = dialogue.hear(view, next, next + length, role);
      if (said === "tunnels") {
        this.#enterTunnel(heard[CLIENT]!, base + next + length - at); // the server grants it
        return this.#read(role, view, at, end, base, acked);
      }
      if (this.upgrade.hear(said, role === CLIENT)) {
        this.note("u", role);
        this.#trace?.upgraded(this.protocol!, this.upgrade.state);
        // Asking once more, by another word, is not going on without.
        const isAgain = this.upgrade.state === "refused" && this.afterRefusal === "asked";
        if (isAgain) this.afterRefusal = "nothing";
      }
      messages[role]!++;
      next += length;
    }
    heard[role] = base + next - at;
    this.isGreeting = messages[CLIENT]! < 2;
    return come[role]! > UPGRADE_LIMIT ? -1 : heard[role]!;
  }

  /** Passes over the PROXY header: what follows is the client's own. Returns its length, or 0. */
  #passProxyHeader(view: DataView, at: number, end: number): number {
    const length = proxyHeaderLength(view, at, end);
    if (length === 0) return 0;
    this.isProxied = true;
    this.upgradedFrom = "proxy-protocol";
    this.protocol = null;
    this.notTls = false;
    this.#progress!.beginAt(CLIENT, length);
    return length;
  }

  /** What opened the tunnel is said: the sides begin anew inside it. */
  #enterTunnel(clientFrom: number, serverFrom: number): void {
    this.tunnelOf = this.protocol;
    this.protocol = this.serverProtocol = null;
    this.notTls = false;
    this.unmatched = [false, false];
    this.upgrade = new Upgrade();
    this.#progress!.beginAt(CLIENT, clientFrom);
    this.#progress!.beginAt(SERVER, serverFrom);
    this.note("u", SERVER);
    this.#trace?.tunnelled(this.tunnelOf!);
  }

  /** Remembers whether the sides went on after a refused upgrade. */
  #noteRefusal(role: number): void {
    if (this.upgrade.state !== "refused") return;
    if (role === CLIENT && this.afterRefusal === "nothing") this.afterRefusal = "asked";
    if (role === SERVER && this.afterRefusal === "asked") this.afterRefusal = "answered";
  }

  /** Tells where TLS begins, when it has begun: at the start, upgraded to, or behind a preface. */
  #beginsTls(role: number, view: DataView, at: number, end: number, base: number): boolean {
    if (this.protocol === "tls") {
      // A server that spoke first did so in plaintext; its TLS begins behind that.
      const greeted = this.unmatched[SERVER] && this.serverProtocol === null;
      const { start, come } = this.#progress!;
      this.upgradedFrom ??= this.tunnelOf;
      this.#beginTls(start[CLIENT]!, greeted ? come[SERVER]! : start[SERVER]!);
      return this.#progress!.tlsFrom[role]! >= 0;
    }
    if (this.protocol !== null) {
      if (DIALOGUES.has(this.protocol) || this.upgrade.state === "refused") return false;
      const [ofClient, ofServer] = this.#progress!.opened;
      if (this.upgrade.follow(this.protocol, ofClient!, ofServer!)) {
        this.note("u", CLIENT);
        this.#trace?.upgraded(this.protocol, this.upgrade.state);
      }
      if (this.upgrade.state !== "agreed") return false;
      const from = this.#progress!.start[CLIENT]! + this.upgrade.clientFrom;
      if (this.protocol === "http") {
        this.#enterTunnel(from, this.upgrade.serverFrom);
        return true;
      }
      this.upgradedFrom = this.protocol;
      this.#beginTls(from, this.upgrade.serverFrom);
      return true;
    }
    const from = this.#progress!.laterHello(role, view, at, end, base, Match.yes);
    if (from < 0) return false;
    this.protocol = "tls";
    this.upgradedFrom ??= this.tunnelOf;
    const other = this.#progress!.come[1 - role]!;
    this.#beginTls(role === CLIENT ? from : other, role === CLIENT ? other : from);
    return true;
  }

  /** A connection over UDP is being followed. */
  get follows(): boolean {
    return this.#datagrams?.follows ?? false;
  }

  /**
   * Reads one datagram of a flow over UDP, and reports whether this side's next one is wanted;
   * see `DatagramReading.read`. `role` is CLIENT for who was taken for the client.
   */
  readDatagram(role: number, view: DataView, at: number, end: number, mayFollow: boolean): boolean {
    if (!this.#progress) return false;
    const { recognition } = this.#progress;
    const datagrams = (this.#datagrams ??= new DatagramReading(recognition, this.#trace));
    const wanted = datagrams.read(role, view, at, end, mayFollow);
    this.protocol = datagrams.protocol;
    this.tls = datagrams.tls;
    this.unmatched[role] ||= datagrams.protocol === null;
    if (datagrams.client >= 0) {
      this.clientByContent = true;
      this.swapped = datagrams.client !== CLIENT;
    }
    return wanted;
  }

  /**
   * Nothing more is read of either side: what was only for reading is given up. Reports whether it
   * may become the reading of other flows too (`settled.ts`).
   */
  settle(): boolean {
    this.#progress = null;
    this.#datagrams = null;
    if (this.upgrade.state === "none" && !this.upgrade.gss) this.upgrade = NO_UPGRADE;
    if (!this.unmatched.includes(true)) this.unmatched = NEITHER;
    if (this.tls?.settle()) this.tls = alike(this.tls);
    return (this.tls?.isOver ?? true) && this.#trace === null;
  }

  /** Payload came in order, at `nowUs`. */
  come(nowUs: number): void {
    this.quietMs = this.lastBytesUs === 0 ? 0 : (nowUs - this.lastBytesUs) / 1000;
    this.lastBytesUs = nowUs;
  }

  /** A side ended the connection. */
  close(role: number, kind: "fin" | "rst", acked: number, nowUs: number): void {
    const waitedMs = (nowUs - this.lastBytesUs) / 1000;
    const side = this.#inTls(role);
    const inTls = this.#progress?.tds?.innerOf(1 - side, acked) ?? acked;
    this.tls?.close({ side, kind, acked: inTls, waitedMs });
  }

  note(letter: string, role: number): void {
    if (this.tls) return this.tls.note(letter, role);
    const said = role === CLIENT ? letter.toUpperCase() : letter.toLowerCase();
    if (this.history.length < 40) this.history += said;
  }

  /** Letters of the whole flow: what came before TLS, then TLS. */
  get letters(): string {
    return this.history + (this.tls?.history ?? "");
  }

  #identify(role: number, view: DataView, at: number, end: number): void {
    const { recognition } = this.#progress!;
    if (recognition.done[role]! || end <= at) return;
    // Who connects may be the server of the TLS inside: its records are none of a client's.
    const isTls = isTlsClientHello(view, at, end) !== Match.no || mayBeRecord(view, at, end);
    const isFirst = role === CLIENT && !this.#midstream && this.protocol === null && !isTls;
    if (isFirst) this.notTls = true;
    const signature = recognition.look(role, view, at, end);
    if (signature) {
      this.#trace?.matched(role, signature, end - at);
      this.#take(signature, role);
      return;
    }
    if (!recognition.done[role]!) return;
    this.unmatched[role] = true;
    this.#trace?.unmatched(role, end - at);
    this.note("d", role);
  }

  #take({ protocol, side, isCommonLater }: Signature, role: number): void {
    const isTelling = !isCommonLater && this.#progress!.recognition.isSure[role]!;
    if (side !== "either" && !this.clientByContent && (isTelling || !this.#midstream)) {
      this.clientByContent = true;
      if (this.#midstream && (side === "client") !== (role === CLIENT)) this.swapped = true;
    }
    if (role === SERVER) this.serverProtocol = protocol;
    // A server's TLS alert to bytes that are no TLS does not make them TLS.
    if (role === SERVER && protocol === "tls" && this.notTls) return;
    if (this.protocol === null) {
      this.protocol = protocol;
      // What the other side said before is no answer to what is heard from here on.
      const { come, heard, messages } = this.#progress!;
      heard[1 - role] = come[1 - role]!;
      messages[1 - role] = come[1 - role]! > 0 ? 1 : 0;
      if (protocol !== "tls") this.notTls = !this.#midstream;
      if (protocol !== "tls") this.note("d", role);
    }
  }

  #beginTls(clientFrom: number, serverFrom: number): void {
    this.#trace?.beginsTls(clientFrom, serverFrom, this.upgradedFrom);
    this.tls = new Handshake("t", this.#trace, this.#isPatient);
    this.notTls = false;
    this.#progress!.tlsFrom = [clientFrom, serverFrom];
    // A server that answered a hello in another protocol is not read as TLS.
    const isUpgraded = this.upgradedFrom !== null && this.upgradedFrom !== "proxy-protocol";
    if (this.serverProtocol !== null && this.serverProtocol !== "tls" && !isUpgraded) {
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
      !this.#progress!.recognition.done[SERVER]!
    ) {
      this.#identify(SERVER, view, at, end);
      if (!this.#progress!.recognition.done[SERVER]!) return base;
      if (this.serverProtocol !== "tls") return -1;
    }
    if (role === SERVER && this.#progress!.serverMayTalk) {
      const from = this.#passLastWords(view, at, end);
      if (from < 0) return base;
      at += from;
      base += from;
    }
    tls.pause(this.quietMs);
    const needed = tls.read(side, view, at, end, base, acked);
    return tls.isRead(side) ? -1 : needed;
  }

  /** Length of what the server still said in plaintext; -1 while its TLS has not begun. */
  #passLastWords(view: DataView, at: number, end: number): number {
    const dialogue = DIALOGUES.get(this.upgradedFrom!);
    let next = at;
    while (end - next >= 3 && !isRecordHeader(view, next)) {
      const nth = this.#progress!.messages[SERVER]!;
      const length = dialogue?.next(view, next, end, SERVER, nth) ?? 0;
      if (length === 0) return -1;
      next += length;
    }
    if (end - next < RECORD_HEADER) return -1;
    this.#progress!.serverMayTalk = false;
    return next - at;
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
      this.mayBeDenied = mayBeDenial(this.protocol, server);
      this.mayRefuse = !this.refusedInBand && mayYetRefuse(this.protocol, server);
      if (this.mayRefuse) return false;
    }
    switch (this.upgrade.state) {
      case "asked":
        return this.upgrade.gss;
      case "refused":
        // A proxy's refusal is an answer like another; else the sides may go on in plaintext.
        if (this.protocol !== "http" && this.afterRefusal !== "answered") return false;
        break;
      case "none":
        // MySQL's client decides with its first packet; the other side is needed until then.
        if (this.protocol === "mysql" && !this.#progress!.recognition.done[CLIENT]!) return false;
        break;
    }
    if (this.#mayCarry(role)) return false;
    return this.#progress!.recognition.done[role]!;
  }

  /** Tells what HTTP carries: gRPC, WebSocket. Reports whether bytes of this side may yet tell. */
  #mayCarry(role: number): boolean {
    const progress = this.#progress!;
    if (progress.isCarriedTold || (this.protocol !== "http" && this.protocol !== "http2")) {
      return false;
    }
    const serverRole = this.swapped ? CLIENT : SERVER;
    const [client, server] = [progress.opened[1 - serverRole]!, progress.opened[serverRole]!];
    const carried = httpCarries(this.protocol, client, server);
    // A request says nothing of it: only the answer to it is waited for.
    if (carried === null) return this.protocol === "http2" || role === serverRole;
    progress.isCarriedTold = true;
    if (this.serverProtocol === this.protocol) this.serverProtocol = carried;
    this.protocol = carried;
    return false;
  }
}
