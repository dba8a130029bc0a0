/** Matches the ends of a connection against the address ranges of Calico's rules and sets. */
import { inRange, parseRange, type AddressRange } from "../../../attribution/address.ts";
import {
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
} from "../../../attribution/cluster-object.ts";
import { addressesOf, hasOwnNetwork, type Holder } from "../../../attribution/holder.ts";
import type { Ternary } from "../../decision/ternary.ts";
import { isOfCalico } from "./shape.ts";

/** Of one connection both ends have the same. */
export type Family = 4 | 6;

export const FAMILIES: readonly Family[] = [4, 6];

/**
 * What no pod's address lies in: what Kubernetes refuses as an endpoint's address
 * (ValidateNonSpecialIP: unspecified, loopback, link-local, multicast), and 240.0.0.0/4 (RFC 1112).
 */
const NO_POD: readonly AddressRange[] = [
  ...["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"],
  ...["::/127", "fe80::/10", "ff00::/8"],
].map((text) => parseRange(text)!);

export class Nets {
  /** Where the addresses of pods come from; empty where no IPPool is declared. */
  private readonly pools: readonly AddressRange[];

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly unknown[],
  ) {
    const declared = objects.filter((object) => isOfCalico(object, "IPPool"));
    const ranges = declared.flatMap((pool) => {
      const uses = valueAt(pool.body, "spec", "allowedUses");
      if (Array.isArray(uses) && uses.length > 0 && !uses.includes("Workload")) return [];
      return parseRange(textAt(pool.body, "spec", "cidr") ?? "") ?? [];
    });
    // One that cannot be read leaves open where else a pod may be.
    this.pools = declared.some((pool) => faultsOf(pool).length > 0) ? [] : ranges;
  }

  /** The families that a connection of two ends may be of. */
  familiesOf(client: Holder, server: Holder): readonly Family[] {
    const [a, b] = [this.of(client), this.of(server)];
    const both = FAMILIES.filter((family) => a.includes(family) && b.includes(family));
    return both.length > 0 ? both : FAMILIES;
  }

  private of(holder: Holder): readonly Family[] {
    const known = addressesOf(holder);
    const found = known.length > 0 || !hasOwnNetwork(holder) ? known : this.pools;
    return found.length === 0
      ? FAMILIES
      : FAMILIES.filter((family) => found.some((address) => address.family === family));
  }

  /** Whether the address that a holder has in this family lies in one of the ranges. */
  isWithin(ranges: readonly AddressRange[], holder: Holder, family: Family): Ternary {
    const here = ranges.filter((range) => range.family === family);
    if (here.length === 0) return false;
    const last = family === 4 ? (1n << 32n) - 1n : (1n << 128n) - 1n;
    if (here.some((range) => range.first === 0n && range.last === last)) return true;
    const known = addressesOf(holder);
    if (known.length > 0) {
      const mine = known.filter((address) => address.family === family);
      const inside = mine.filter((address) => here.some((range) => inRange(range, address)));
      if (inside.length === 0) return false;
      // Of two addresses, which one the connection used is not known here.
      return inside.length === mine.length ? true : null;
    }
    if (!hasOwnNetwork(holder)) return null;
    const open = here.filter((range) => !NO_POD.some((none) => holds(none, range)));
    if (open.length === 0) return false;
    const pools = this.pools.filter((pool) => pool.family === family);
    if (pools.length === 0) return null;
    if (pools.every((pool) => open.some((range) => holds(range, pool)))) return true;
    return pools.some((pool) => open.some((range) => meets(range, pool))) ? null : false;
  }
}

/** Whether the first range holds all of the second. */
function holds(a: AddressRange, b: AddressRange): boolean {
  return a.family === b.family && a.first <= b.first && b.last <= a.last;
}

function meets(a: AddressRange, b: AddressRange): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

/** A list of ranges; what is none is left out, as Calico does (rules.go NormalizeIPNets). */
export function readRanges(body: ClusterObject["body"], ...path: readonly string[]) {
  return listAt(body, ...path).flatMap((text) => parseRange(String(text)) ?? []);
}
