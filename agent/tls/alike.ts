/** Keeps one copy of handshakes that nothing can change any more and that say the same. */
import type { Certificate } from "./certificate.ts";
import type { Handshake } from "./handshake.ts";
import { InternedBy } from "./interned.ts";

const handshakes = new InternedBy<Handshake>();

/** Of hellos, equal ones are one object (`Interned`). */
const numbers = new WeakMap<object, number>();
let last = 0;

/** A number for an object, 0 for none: two that are the same object have the same. */
export function numberOf(value: object | null): number {
  if (value === null) return 0;
  const known = numbers.get(value);
  if (known !== undefined) return known;
  numbers.set(value, ++last);
  return last;
}

/** An equal one that came before, or the handshake itself. All that a record tells is compared. */
export function alike(h: Handshake): Handshake {
  const facts =
    (h.retried ? 1 : 0) |
    (h.ssl2Hello ? 2 : 0) |
    (h.asked ? 4 : 0) |
    (h.serverHelloDone ? 8 : 0) |
    (h.clientKeyExchange ? 16 : 0) |
    (h.abbreviated ? 32 : 0) |
    (h.clientFinished ? 64 : 0) |
    (h.serverFinished ? 128 : 0) |
    (h.refusedAtHello ? 256 : 0) |
    (h.refusedByAlert ? 512 : 0) |
    (h.finishedEnd >= 0 ? 1024 : 0);
  const hellos = `${numberOf(h.clientHello)} ${numberOf(h.secondHello)} ${numberOf(h.serverHello)}`;
  const chains = `${spell(h.serverChain)} ${spell(h.clientChain)} ${h.clientShowed}`;
  const flight = `${h.flight.kind} ${h.flight.records}`;
  const from = numberOf(h.resumedFrom);
  const numeric = `${h.group} ${h.primeBits} ${h.signature} ${from}`;
  return handshakes.of(`${hellos} ${facts} ${numeric} ${flight} ${chains} ${h.history}`, h);
}

/** Of certificates that are known by their bytes, equal ones are one object. */
function spell(chain: readonly Certificate[] | null): string {
  if (chain === null) return "-";
  let spelt = "";
  for (const certificate of chain) spelt += `${numberOf(certificate)}+`;
  return spelt;
}
