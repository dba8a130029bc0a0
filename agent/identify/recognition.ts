/** Tells what a flow speaks from what both of its sides said to the signatures. */
import { Match } from "./match.ts";
import { SIGNATURES } from "./signatures.ts";
import type { Signature } from "./signatures.ts";

/** Bytes of a side beyond which an unknown protocol stays unknown. */
const IDENTIFY_LIMIT = 4096;
/** Datagrams of a side beyond which it does. */
const DATAGRAM_LIMIT = 4;

const UDP = SIGNATURES.filter((signature) => signature.transport !== "tcp");

/**
 * Signatures over TCP by the first byte that they may begin with, once one was asked for. A test
 * says `more` of a first byte that it may still take, so the tests themselves tell.
 */
const TCP: (readonly Signature[] | undefined)[] = Array.from({ length: 256 }, () => undefined);

function beginningWith(byte: number): readonly Signature[] {
  const known = TCP[byte];
  if (known !== undefined) return known;
  const view = new DataView(Uint8Array.of(byte).buffer);
  const may = (s: Signature) => s.transport !== "udp" && s.test(view, 0, 1) !== Match.no;
  return (TCP[byte] = SIGNATURES.filter(may));
}

const NONE: readonly Signature[] = [];

/** Protocols whose opening may come behind other datagrams: STUN's, as in WebRTC (RFC 7983). */
const LATE = UDP.filter(({ protocol }) => protocol === "quic" || protocol === "dtls");

/** The two ends of a flow; mid-stream it is not known which of them is the server's. */
export type Ports = { client: number; server: number };

/** One flow's two sides; `role` is 0 for the client, 1 for the server. */
export class Recognition {
  /** By role: nothing more is looked at. */
  readonly done: boolean[] = [false, false];
  /** By role: what it said is named by itself, and not by a port or the other side. */
  readonly isSure: boolean[] = [false, false];
  readonly #length: number[] = [0, 0];
  readonly #likely: (readonly Signature[])[] = [NONE, NONE];
  readonly #midstream: boolean;
  readonly #ports: Ports;

  constructor(midstream: boolean, ports: Ports) {
    this.#midstream = midstream;
    this.#ports = ports;
  }

  /** Some bytes of a side agreed with a protocol, and too little was seen to name it. */
  get isLikely(): boolean {
    return this.#likely[0]!.length + this.#likely[1]!.length > 0;
  }

  /** Begins anew with a side: what it said so far stood in front of its own protocol. */
  again(role: number): void {
    this.done[role] = false;
    this.#length[role] = 0;
    this.#likely[role] = NONE;
  }

  /** Looks at a side's stream from its first byte on. Null: unknown; `done` tells whether yet. */
  look(role: number, view: DataView, at: number, end: number): Signature | null {
    if (this.done[role]! || end - at <= this.#length[role]!) return null;
    this.#length[role] = end - at;
    let pending = false;
    const likely: Signature[] = [];
    for (const signature of beginningWith(view.getUint8(at))) {
      if (!this.#fits(signature, role)) continue;
      const match = signature.test(view, at, end);
      if (match === Match.yes || (match === Match.likely && this.#isAgreed(signature, role))) {
        this.done[role] = true;
        this.isSure[role] = match === Match.yes;
        return signature;
      }
      if (match === Match.more) pending = true;
      if (match === Match.likely) likely.push(signature);
    }
    if (likely.length > 0) this.#likely[role] = likely;
    if (!pending || end - at >= IDENTIFY_LIMIT) this.done[role] = true;
    return null;
  }

  /** Looks at one datagram of a side, whole; of later ones only for what may come late. */
  lookAtDatagram(role: number, view: DataView, at: number, end: number): Signature | null {
    if (end <= at) return null;
    if (this.done[role]!) return LATE.find((s) => s.test(view, at, end) === Match.yes) ?? null;
    const likely: Signature[] = [];
    for (const signature of UDP) {
      const match = signature.test(view, at, end);
      if (match === Match.no || match === Match.more) continue;
      if (match === Match.yes || this.#isAgreed(signature, role)) {
        this.done[role] = true;
        return signature;
      }
      likely.push(signature);
    }
    this.#likely[role] = likely.length > 0 ? likely : NONE;
    if (++this.#length[role]! >= DATAGRAM_LIMIT) this.done[role] = true;
    return null;
  }

  /** Joined mid-stream, or without a SYN, either side may be the client. */
  #fits(signature: Signature, role: number): boolean {
    if (signature.midstream && !this.#midstream) return false;
    if (signature.side === "either" || this.#midstream) return true;
    return (signature.side === "client") === (role === 0);
  }

  /**
   * A likely match is taken when a registered port, or the other side's bytes, say the same. Of two
   * sides joined late one must be the client, and a datagram's other side says no more than itself.
   */
  #isAgreed({ protocol, side, transport, ports }: Signature, role: number): boolean {
    const { client, server } = this.#ports;
    const isDatagram = transport === "udp";
    if (ports?.includes(server)) return true;
    if (ports?.includes(client) && (this.#midstream || isDatagram)) return true;
    const isOther = (other: Signature) =>
      other.protocol === protocol && (other.side !== side || side === "either");
    return !isDatagram && this.#likely[1 - role]!.some(isOther);
  }
}
