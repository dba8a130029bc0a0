/** Begins watches of interfaces, and keeps them as the kernel tells of their interfaces. */
import type { WatchKind } from "../../protocol/watch-kind.ts";
import type { Watch } from "./frame-source.ts";
import { mayHavePod } from "./interfaces.ts";
import type { Links } from "./links.ts";
import type { Link } from "./rtnetlink.ts";

export function beginWatch(link: Link, kind: WatchKind, lane: number, links: Links): Watch {
  const { name, index } = link;
  const counters = { delivered: 0, dropped: 0, cutOff: 0 };
  return { name, index, kind, lane, addresses: addressesOf(index, kind, links), ...counters };
}

/**
 * Reports whether the interface is what is watched still; its addresses are brought up to date. Of
 * one that goes down they stay what they were: the routes go first, and its last flows are told.
 */
export function goesOn(
  watch: Watch,
  link: Link | undefined,
  kind: WatchKind | null,
  links: Links,
): boolean {
  if (kind === null || kind !== watch.kind || link?.name !== watch.name) return false;
  const addresses = addressesOf(watch.index, kind, links);
  if (link.isUp || addresses.length > 0) watch.addresses = addresses;
  return true;
}

function addressesOf(index: number, kind: WatchKind, links: Links): string[] {
  return mayHavePod(kind) ? links.addressesOf(index) : [];
}
