/** Puts in the place of an address the first of all those that no declared range tells from it. */
import { formatAddress, parseAddress, parseRange } from "../../attribution/address.ts";
import type { ClusterObject } from "../../attribution/cluster-object.ts";
import type { Holder } from "../../attribution/holder.ts";
import { NETWORKS } from "../mesh/linkerd/settings.ts";

/** Whatever may be an address or a range, wherever it is written. */
const WRITTEN = /[\da-fA-F:.]*[:.][\da-fA-F:.]+(?:\/\d{1,3})?/g;

/**
 * Pods of a workload whose addresses lie in the same piece are one sort to all rules, today's
 * addresses and tomorrow's. Every range that any object, or annotation, names is cut at; more than
 * needed, so never too few.
 */
export function toPieces(
  objects: readonly ClusterObject[],
  pods: readonly Holder[],
): (addresses: readonly string[]) => string[] {
  const starts = { 4: new Set([0n]), 6: new Set([0n]) };
  const texts = [
    NETWORKS, // what holds where nothing declares it
    ...objects.map(({ body }) => JSON.stringify([body["spec"], body["data"], body["specs"]])),
    ...objects.map(({ body }) => JSON.stringify([body["subsets"], body["endpoints"]])),
    ...new Set(pods.flatMap(annotationsOf)),
  ];
  for (const text of texts) {
    for (const [written] of text.matchAll(WRITTEN)) {
      const range = parseRange(written);
      if (range === null) continue;
      starts[range.family].add(range.first).add(range.last + 1n);
    }
  }
  const sorted = { 4: ascending(starts[4]), 6: ascending(starts[6]) };
  return (addresses) =>
    addresses.flatMap((text) => {
      const address = parseAddress(text);
      if (address === null) return [];
      const { family, value } = address;
      return formatAddress({ family, value: lastUpTo(sorted[family], value) });
    });
}

function annotationsOf({ annotations, namespaceAnnotations }: Holder): string[] {
  return [...Object.values(annotations), ...Object.values(namespaceAnnotations)];
}

function ascending(values: ReadonlySet<bigint>): bigint[] {
  return [...values].sort((a, b) => (a < b ? -1 : 1));
}

/** The greatest that is not above `value`; the first of them is 0. */
function lastUpTo(sorted: readonly bigint[], value: bigint): bigint {
  let [low, high] = [0, sorted.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! <= value) low = middle;
    else high = middle;
  }
  return sorted[low]!;
}
