/** Reads CiliumCIDRGroups: ranges of addresses that rules name by the group's name, or labels. */
import { parseRange, type AddressRange } from "../../../attribution/address.ts";
import {
  listAt,
  textAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { isInBlocks, type Block } from "../../decision/block.ts";
import { and, or, type Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";
import { meets, type LabelRequirement, type LabelSelector } from "./label-selector.ts";

export type CidrGroup = {
  name: string;
  labels: Readonly<Record<string, string>>;
  /** Null where the group is not valid. */
  ranges: readonly AddressRange[] | null;
};

export function readCidrGroups(
  objects: readonly ClusterObject[],
  faultsOf: (object: ClusterObject) => readonly Fault[],
): CidrGroup[] {
  return objects
    .filter((o) => o.kind === "CiliumCIDRGroup" && o.apiVersion.startsWith("cilium.io/"))
    .map((object) => ({
      name: object.name,
      labels: object.labels,
      ranges:
        faultsOf(object).length > 0
          ? null
          : listAt(object.body, "spec", "externalCIDRs").map((cidr) => parseRange(String(cidr))!),
    }));
}

/** Whether the holder's address lies in the group; null where the group cannot be read. */
function isInGroup({ ranges }: CidrGroup, holder: Holder): Ternary {
  if (ranges === null) return null;
  return isInBlocks(toBlocks(ranges), holder);
}

/**
 * Whether the labels of all groups that hold the address meet the selector, as they are put
 * together on one identity (types/selector.go matchesEncodedRequirements).
 */
export function matchesGroups(
  selector: LabelSelector,
  groups: readonly CidrGroup[],
  holder: Holder,
): Ternary {
  if (groups.length === 0) return null; // some may be in the cluster
  return and(selector.map((one) => meetsAny(one, groups, holder)));
}

function meetsAny(one: LabelRequirement, groups: readonly CidrGroup[], holder: Holder): Ternary {
  const isLabel = one.source === null || one.source === "cidrgroup";
  const holding = groups.filter(({ labels }) => {
    if (!isLabel || !Object.hasOwn(labels, one.key)) return false;
    return one.values.size === 0 || one.values.has(labels[one.key]!);
  });
  const exists = or(holding.map((group) => isInGroup(group, holder)));
  const key = one.operator === "In" ? "Exists" : one.operator;
  const operator = key === "NotIn" ? "DoesNotExist" : key;
  return meets({ ...one, operator }, { exists, value: "" });
}

export function toBlocks(
  ranges: readonly AddressRange[],
  except: readonly AddressRange[] = [],
): Block[] {
  return ranges.map((range) => ({ range, except }));
}

/** `cidr` without its `except`s, as text; for groups, all of their ranges. */
export type CidrText = { cidr: string; except: readonly string[] };

/** Every range that Cilium's policies name in a direction. */
export function listCidrs(
  objects: readonly ClusterObject[],
  direction: "ingress" | "egress",
): CidrText[] {
  const found: CidrText[] = [];
  const side = direction === "ingress" ? "from" : "to";
  let namesGroups = false;
  for (const { apiVersion, kind, body } of objects) {
    const isPolicy = kind === "CiliumNetworkPolicy" || kind === "CiliumClusterwideNetworkPolicy";
    if (!isPolicy || !apiVersion.startsWith("cilium.io/")) continue;
    const rules: Json[] = [body["spec"] ?? null, ...listAt(body, "specs")];
    const entries = rules.flatMap((rule) => [
      ...listAt(rule, direction),
      ...listAt(rule, `${direction}Deny`),
    ]);
    for (const entry of entries) {
      for (const cidr of listAt(entry, `${side}CIDR`)) found.push({ cidr: `${cidr}`, except: [] });
      for (const one of listAt(entry, `${side}CIDRSet`)) {
        const cidr = textAt(one, "cidr");
        const except = listAt(one, "except").map(String);
        if (cidr !== null) found.push({ cidr, except });
        else {
          namesGroups = true;
          found.push(...except.map((hole) => ({ cidr: hole, except: [] })));
        }
      }
    }
  }
  if (!namesGroups) return found;
  const groups = objects.filter(({ kind }) => kind === "CiliumCIDRGroup");
  const ranges = groups.flatMap(({ body }) => listAt(body, "spec", "externalCIDRs"));
  return [...found, ...ranges.map((cidr) => ({ cidr: `${cidr}`, except: [] }))];
}
