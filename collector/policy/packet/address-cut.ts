/** Cuts the IPv4 space at every address range that the declared policies name. */
import { formatAddress, parseRange } from "../../attribution/address.ts";
import { listAt, textAt, type ClusterObject } from "../../attribution/cluster-object.ts";
import { toExternal, type Holder } from "../../attribution/holder.ts";
import { isOfCalico } from "./calico/shape.ts";
import { listCidrs } from "./cilium/cidr-group.ts";
import type { Direction } from "./network-policy.ts";

const END = 1n << 32n;

/** A piece of the outside that all rules treat alike; its holder has the first address of it. */
export type Outside = { name: string; holder: Holder };

/** Pieces in ascending order; the whole space where no policy names a range for the direction. */
export function cutAddresses(objects: readonly ClusterObject[], direction: Direction): Outside[] {
  const cuts = new Set<bigint>([0n]);
  const ofCilium = listCidrs(objects, direction);
  const pieces = [
    ...objects.flatMap((object) => piecesOf(object, direction)),
    ...ofCilium.flatMap(({ cidr, except }) => without(cidr, except)),
  ];
  for (const [first, end] of pieces) {
    cuts.add(first);
    if (end < END) cuts.add(end);
  }
  const starts = [...cuts].sort((a, b) => (a < b ? -1 : 1));
  return starts.map((first, i) => {
    const text = formatAddress({ family: 4, value: first });
    const last = formatAddress({ family: 4, value: (starts[i + 1] ?? END) - 1n });
    return { name: `${text}-${last}[External]`, holder: toExternal(text) };
  });
}

/** What the ranges of a policy take in, as [first, end): each `cidr` without its `except`s. */
function piecesOf(object: ClusterObject, direction: Direction): [bigint, bigint][] {
  const peers = direction === "ingress" ? "from" : "to";
  const rules = listAt(object.body, "spec", direction);
  if (isOfCalico(object)) {
    const end = direction === "ingress" ? "source" : "destination";
    const ranges = rules.flatMap((rule) => [
      ...listAt(rule, end, "nets"),
      ...listAt(rule, end, "notNets"),
    ]);
    const sets = ["nets", "expectedIPs"].flatMap((field) => listAt(object.body, "spec", field));
    return [...ranges, ...sets].flatMap((range) => without(String(range), []));
  }
  const found = rules.flatMap((rule) => listAt(rule, peers));
  switch (object.kind) {
    case "NetworkPolicy":
      return found.flatMap((peer) =>
        without(
          textAt(peer, "ipBlock", "cidr") ?? "",
          listAt(peer, "ipBlock", "except").map(String),
        ),
      );
    case "AdminNetworkPolicy":
    case "BaselineAdminNetworkPolicy":
    case "ClusterNetworkPolicy":
      return found.flatMap((peer) =>
        listAt(peer, "networks").flatMap((cidr) => without(String(cidr), [])),
      );
    default:
      return [];
  }
}

function without(cidr: string, except: readonly string[]): [bigint, bigint][] {
  const range = parseRange(cidr);
  if (range === null || range.family !== 4) return [];
  const holes = except
    .flatMap((text) => parseRange(text) ?? [])
    .sort((a, b) => (a.first < b.first ? -1 : 1));
  const pieces: [bigint, bigint][] = [];
  let from = range.first;
  for (const { first, last } of holes) {
    if (first > from) pieces.push([from, first]);
    if (last + 1n > from) from = last + 1n;
  }
  if (from <= range.last) pieces.push([from, range.last + 1n]);
  return pieces;
}
