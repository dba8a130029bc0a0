/** Tells the packets at a pod's interface that it sends, or is sent, under its own addresses. */
import { Direction } from "./capture/frame-source.ts";
import type { Watch } from "./capture/frame-source.ts";
import { Encap, Packet, STOP_NAMES, Unreachable } from "./decode/packet.ts";
import { Fact, keyAt } from "./flow/flow-record.ts";
import type { FlowRecords } from "./flow/flow-record.ts";
import { addressWords } from "../protocol/address.ts";

/** Why a packet is no flow's. The numbers go on from those of `Stop`. */
const FIRST = STOP_NAMES.length;
export const Refusal = {
  none: 0,
  spoofedSource: FIRST, // the pod sends it under an address that is not its own
  misdelivered: FIRST + 1, // it is led to the pod, as by a bridge that floods, and not meant for it
  insideTunnel: FIRST + 2, // of a tunnel that ends at the pod: inside may stand what it likes
} as const;
/** In their order. */
export const REFUSAL_NAMES: readonly string[] = Object.keys(Refusal).slice(1);

/** Wrappers that have addresses of their own around those inside. */
const TUNNELS: ReadonlySet<number> = new Set([
  ...[Encap.vxlan, Encap.geneve, Encap.gre, Encap.erspan, Encap.ipip, Encap.sixInFour, Encap.gtp],
]);

/**
 * Of one interface. Where no address of a packet's family is known nothing is refused. That the
 * node sends to the pod, and what the pod sends, is told apart by the kernel; where it is not, one
 * end must be the pod's. Allocates nothing, unless the addresses have changed.
 */
export class Owner {
  readonly #watch: Watch;
  /** The addresses that `#words` was read from. */
  #read: readonly string[] = [];
  /** Four words an address. */
  #words = new Int32Array(0);
  #hasIpv4 = false;
  #hasIpv6 = false;
  /** Of a flow that is asked about. */
  readonly #first = new Packet();

  constructor(watch: Watch) {
    this.#watch = watch;
  }

  refuses(p: Packet, direction: number): number {
    if (this.#read !== this.#watch.addresses) this.#take(this.#watch.addresses);
    if (!(isIpv4(p) ? this.#hasIpv4 : this.#hasIpv6)) return Refusal.none;
    // An ICMP error stands for the packet that it quotes, and goes the other way.
    const isQuoted = p.unreachable !== Unreachable.none;
    const mayBeSource = direction !== (isQuoted ? Direction.inbound : Direction.outbound);
    const mayBeDestination = direction !== (isQuoted ? Direction.outbound : Direction.inbound);
    if (mayBeSource && this.#owns(p.source0, p.source1, p.source2, p.source3)) return Refusal.none;
    if (
      mayBeDestination &&
      this.#owns(p.destination0, p.destination1, p.destination2, p.destination3)
    ) {
      return Refusal.none;
    }
    if (isTunnelled(p)) return Refusal.insideTunnel;
    if (direction === Direction.inbound) {
      return isLocalSource(p) ? Refusal.none : Refusal.spoofedSource;
    }
    const isLocal = isForMany(p) || (direction === Direction.unknown && isLocalSource(p));
    return isLocal ? Refusal.none : Refusal.misdelivered;
  }

  /** As `refuses`, of a flow, which may have begun before the addresses were known. */
  refusesFlow(table: FlowRecords, flow: number): boolean {
    const p = this.#first;
    const { keys } = table;
    const isHigh = (table.flowFlags(flow) & Fact.fromHigh) !== 0;
    const source = keyAt(flow) + (isHigh ? 4 : 0);
    const destination = keyAt(flow) + (isHigh ? 0 : 4);
    p.source0 = keys[source]!;
    p.source1 = keys[source + 1]!;
    p.source2 = keys[source + 2]!;
    p.source3 = keys[source + 3]!;
    p.destination0 = keys[destination]!;
    p.destination1 = keys[destination + 1]!;
    p.destination2 = keys[destination + 2]!;
    p.destination3 = keys[destination + 3]!;
    return this.refuses(p, table.firstDirection(flow)) !== Refusal.none;
  }

  #take(addresses: readonly string[]): void {
    const words = addresses.flatMap((text) => addressWords(text) ?? []);
    this.#read = addresses;
    this.#words = Int32Array.from(words);
    this.#hasIpv4 = addresses.some((text) => !text.includes(":"));
    this.#hasIpv6 = addresses.some((text) => text.includes(":"));
  }

  #owns(w0: number, w1: number, w2: number, w3: number): boolean {
    const words = this.#words;
    for (let at = 0; at < words.length; at += 4) {
      if (words[at + 3] !== w3 || words[at + 2] !== w2) continue;
      if (words[at + 1] === w1 && words[at] === w0) return true;
    }
    return false;
  }
}

/** Both ends stand as ::ffff:a.b.c.d, as `Packet` has it. */
const isIpv4 = (p: Packet): boolean => (p.source0 | p.source1) === 0 && p.source2 === 0xffff;

function isTunnelled({ encap, encapCount }: Packet): boolean {
  for (let i = 0; i < encapCount; i++) if (TUNNELS.has(encap[i]! >>> 24)) return true;
  return false;
}

/** No address yet (DHCP, duplicate address detection), or one of the link alone. */
function isLocalSource(p: Packet): boolean {
  if (isIpv4(p)) return p.source3 === 0 || p.source3 >>> 16 === 0xa9fe; // 169.254.0.0/16, RFC 3927
  const isUnspecified = (p.source0 | p.source1 | p.source2 | p.source3) === 0;
  return isUnspecified || p.source0 >>> 22 === 0x3fa; // fe80::/10, RFC 4291 §2.5.6
}

/** Multicast, broadcast, and what stays on the link. */
function isForMany(p: Packet): boolean {
  if (isIpv4(p)) {
    const to = p.destination3;
    return to >>> 28 === 0xe || to === -1 || to >>> 16 === 0xa9fe; // 224.0.0.0/4, RFC 5771
  }
  return p.destination0 >>> 24 === 0xff || p.destination0 >>> 22 === 0x3fa; // ff00::/8, fe80::/10
}
