/** Matches a holder's addresses against ranges that have holes. */
import { inRange, type Address, type AddressRange } from "../../attribution/address.ts";
import { addressesOf, type Holder } from "../../attribution/holder.ts";
import type { Ternary } from "./ternary.ts";

export type Block = { range: AddressRange; except: readonly AddressRange[] };

/** Whether the holder's address lies in one of the ranges; null where that cannot be told. */
export function isInBlocks(blocks: readonly Block[], holder: Holder): Ternary {
  const addresses = addressesOf(holder);
  if (addresses.length === 0) return takesAll(blocks) ? true : null;
  const inside = (address: Address) =>
    blocks.some(
      ({ range, except }) =>
        inRange(range, address) && !except.some((hole) => inRange(hole, address)),
    );
  const count = addresses.filter(inside).length;
  // Of two addresses, which one the connection used is not known here.
  return count === 0 ? false : count === addresses.length ? true : null;
}

/** Whether the ranges leave out no address of either family. */
function takesAll(blocks: readonly Block[]): boolean {
  const whole = blocks.filter(({ range, except }) => {
    const bits = range.family === 4 ? 32n : 128n;
    return except.length === 0 && range.first === 0n && range.last === (1n << bits) - 1n;
  });
  return new Set(whole.map(({ range }) => range.family)).size === 2;
}
