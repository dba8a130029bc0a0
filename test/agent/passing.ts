/** Is the flow cutoff as a plain model: what it hands over, what it counts, what it is asked. */
import type { PassedOver } from "../../agent/capture/frame-source.ts";
import { decodeFrame } from "../../agent/decode/ethernet.ts";
import { IpProtocol, Packet, Stop, Tcp } from "../../agent/decode/packet.ts";
import { KEY, isLowEnd, writeKey } from "../../agent/flow/flow-key.ts";
import { viewOf } from "../frames.ts";
import type { Frame } from "./captures.ts";

type Pair = [low: number, high: number];
type Known = {
  spent: Pair;
  budget: Pair;
  isn: Pair;
  packets: Pair;
  bytes: Pair;
  marked: Pair;
  markedBytes: Pair;
};
const TO_COUNT: readonly number[] = [IpProtocol.tcp, IpProtocol.udp];

/** What the agent asks is heard at once, or never. */
export class ModelCutoff implements PassedOver {
  readonly budgetBytes: number;
  readonly lostUs = 0;
  readonly packets = new Float64Array(2);
  readonly bytes = new Float64Array(2);
  readonly marked = new Float64Array(2);
  readonly markedBytes = new Float64Array(2);
  cutOff = 0;
  readonly #isDeaf: boolean;
  readonly #flows = new Map<string, Known>();
  readonly wishes = new Map<string, { bytes: Pair; isn: Pair }>();

  constructor(budgetBytes: number, isDeaf: boolean) {
    this.budgetBytes = budgetBytes;
    this.#isDeaf = isDeaf;
  }

  begin(): void {}

  /** Reports whether a frame is handed over. */
  passes({ bytes, linkType }: Frame): boolean {
    const packet = new Packet();
    const stop = decodeFrame(viewOf(bytes), 0, bytes.length, linkType, packet);
    const isWhole = stop === Stop.none && packet.unreachable === 0;
    if (!isWhole || !TO_COUNT.includes(packet.protocol) || isFragment(bytes)) return true;
    const side = isLowEnd(packet) ? 0 : 1;
    const keys = new Int32Array(KEY);
    writeKey(keys, 0, packet, side, packet.protocol);
    const name = keys.join();
    const { flags } = packet;
    const length = packet.payloadLength + (packet.protocol === IpProtocol.udp ? 8 : 0);
    const known = this.#flows.get(name);
    if (known === undefined) {
      if ((flags & (Tcp.syn | Tcp.fin | Tcp.rst)) !== 0 || length === 0) return true;
      const made = this.#made();
      made.spent[side] = length;
      this.#flows.set(name, made);
      return true;
    }
    if ((flags & Tcp.syn) !== 0) {
      known.marked = [...known.packets];
      known.markedBytes = [...known.bytes];
      known.spent = [0, 0];
      known.budget = [this.budgetBytes, this.budgetBytes];
      known.isn[side] = packet.sequence;
    }
    if ((flags & (Tcp.syn | Tcp.fin | Tcp.rst)) !== 0) return true;
    const concerned = length > 0 ? side : 1 - side;
    const wish = this.wishes.get(name);
    const isMeant = wish?.isn.every((isn, i) => known.isn[i] === 0 || known.isn[i] === isn);
    if (known.budget[concerned] !== 0 && isMeant) known.budget = [...wish!.bytes];
    if (known.spent[concerned]! < known.budget[concerned]!) {
      known.spent[side]! += length;
      return true;
    }
    known.budget[concerned] = 0;
    known.packets[side]!++;
    known.bytes[side]! += packet.ipLength;
    this.cutOff++;
    return false;
  }

  #made(): Known {
    const zeros = (): Pair => [0, 0];
    return {
      ...{ spent: zeros(), budget: [this.budgetBytes, this.budgetBytes], isn: zeros() },
      ...{ packets: zeros(), bytes: zeros(), marked: zeros(), markedBytes: zeros() },
    };
  }

  read(keys: Int32Array, k: number): boolean {
    const known = this.#flows.get(nameOf(keys, k));
    if (known === undefined) return false;
    for (const what of ["packets", "bytes", "marked", "markedBytes"] as const) {
      this[what].set(known[what]);
    }
    return true;
  }

  forget(keys: Int32Array, k: number): void {
    this.#flows.delete(nameOf(keys, k));
  }

  ask(keys: Int32Array, k: number, bytes: readonly number[], isn: readonly number[]): boolean {
    const wish = { bytes: [...bytes] as Pair, isn: [...isn] as Pair };
    if (!this.#isDeaf) this.wishes.set(nameOf(keys, k), wish);
    return !this.#isDeaf;
  }

  withdraw(keys: Int32Array, k: number): void {
    this.wishes.delete(nameOf(keys, k));
  }

  sweep(): void {
    // Every flow of a capture ends in the table.
  }
}

/** The key, on the only interface there is. */
function nameOf(keys: Int32Array, k: number): string {
  return [...keys.subarray(k, k + KEY - 1), keys[k + KEY - 1]! & 0xff].join();
}

/** Fragments are all handed over: here of plain IPv4 alone, as captures have them. */
function isFragment(bytes: Uint8Array): boolean {
  const view = viewOf(bytes);
  return view.getUint16(12) === 0x0800 && (view.getUint16(20) & 0x3fff) !== 0;
}
