/** Reads the rules of Calico's policies. */
import type { AddressRange } from "../../../attribution/address.ts";
import { isMap, listAt, textAt, valueAt, type Json } from "../../../attribution/cluster-object.ts";
import type { Transport } from "../../../attribution/holder.ts";
import {
  EVERYTHING,
  isNothing,
  NOTHING,
  onePort,
  subtract,
  TRANSPORTS,
  union,
  type PortSet,
} from "../port-set.ts";
import { NAMESPACE, OF_ACCOUNT, OF_NAMESPACE, SERVICE_ACCOUNT } from "./endpoint.ts";
import { readRanges } from "./nets.ts";
import { allOf, isFault, parseSelector, replace, withPrefix, type Selector } from "./selector.ts";
import { parsePort, protocolOf } from "./shape.ts";

export type Action = "Allow" | "Deny" | "Pass" | "Log";

/** Ports by their numbers, on any transport, and by their names. */
export type Ports = { numbers: PortSet; names: readonly string[] };

/** One end as a rule names it; null for each thing that it does not name. */
export type RuleEnd = {
  /** Picks pods, network sets and host endpoints; the address must be one of theirs. */
  positive: Selector | null;
  /** The address must be none of theirs; beside `positive` it is a part of that. */
  negative: Selector | null;
  nets: readonly AddressRange[] | null;
  notNets: readonly AddressRange[] | null;
  service: { namespace: string; name: string; isGuessed: boolean } | null;
  ports: Ports | null;
  notPorts: Ports | null;
  hasDomains: boolean;
};

export type Rule = {
  action: Action;
  transports: readonly Transport[];
  ipVersion: number | null;
  source: RuleEnd;
  destination: RuleEnd;
  hasHttp: boolean;
  /** It does not take every port that the client may use. */
  hasSourcePorts: boolean;
  /** It speaks of ICMP's types without naming ICMP. */
  hasIcmp: boolean;
};

const NUMBERS: readonly [Transport, number][] = [
  ["SCTP", 132],
  ["TCP", 6],
  ["UDP", 17],
];

/** Reads a rule that is known to be well-formed; `namespace` is empty for a global policy. */
export function readRule(value: Json, namespace: string): Rule {
  const protocol = protocolOf(valueAt(value, "protocol")) ?? null;
  const notProtocol = protocolOf(valueAt(value, "notProtocol")) ?? null;
  const ipVersion = valueAt(value, "ipVersion");
  const transports = NUMBERS.filter(
    ([, number]) => (protocol === null || protocol === number) && notProtocol !== number,
  ).map(([name]) => name);
  const source = readEnd(valueAt(value, "source"), namespace);
  const destination = readEnd(valueAt(value, "destination"), namespace);
  return {
    action: textAt(value, "action") as Action,
    transports,
    ipVersion: typeof ipVersion === "number" ? ipVersion : null,
    source,
    destination,
    hasHttp: isMap(valueAt(value, "http")),
    hasSourcePorts:
      (source.ports !== null && !isNothing(subtract(EVERYTHING, source.ports.numbers))) ||
      source.notPorts !== null,
    hasIcmp: isMap(valueAt(value, "notICMP")),
  };
}

/**
 * What an end picks (rules.go getEndpointSelector): its namespaceSelector, else the policy's own
 * namespace, as soon as any selector is there; `all()` is every namespace, and `global()` what is
 * in none. A notSelector beside that is a part of it (rule_scanner.go combineMatchesIfPossible).
 */
function readEnd(value: Json | undefined, namespace: string): RuleEnd {
  const spaces = read(value, "namespaceSelector");
  const hasSpace: Selector = { op: "has", key: NAMESPACE };
  let within: Selector | null = null;
  if (spaces !== null) {
    const prefixed = withPrefix(spaces, OF_NAMESPACE);
    within = replace(replace(prefixed, "all", hasSpace), "global", { op: "not", of: hasSpace });
  } else if (namespace !== "") within = { op: "==", key: NAMESPACE, value: namespace };
  const named = allOf(readAccounts(value), read(value, "selector"));
  const negative = read(value, "notSelector");
  const isNarrowed = named !== null || negative !== null || spaces !== null;
  const positive = allOf(isNarrowed ? within : null, named);
  const service = valueAt(value, "services");
  const serviceSpace = textAt(service, "namespace");
  return {
    positive: positive && allOf(positive, negative && { op: "not", of: negative }),
    negative: positive === null ? negative : null,
    nets: readList(value, "nets"),
    notNets: readList(value, "notNets"),
    service: isMap(service)
      ? {
          namespace: serviceSpace ?? namespace,
          name: textAt(service, "name") ?? "",
          isGuessed: serviceSpace === null,
        }
      : null,
    ports: readPorts(value, "ports"),
    notPorts: readPorts(value, "notPorts"),
    hasDomains: listAt(value, "domains").length > 0,
  };
}

/** Service accounts by their names and their labels, both of which must hold. */
function readAccounts(value: Json | undefined): Selector | null {
  const selector = read(valueAt(value, "serviceAccounts"), "selector");
  const names = listAt(value, "serviceAccounts", "names").map(String);
  return allOf(
    selector && withPrefix(selector, OF_ACCOUNT),
    names.length === 0 ? null : { op: "in", key: SERVICE_ACCOUNT, values: new Set(names) },
  );
}

/** A selector that is known to be well-formed; null where there is none. */
export function read(value: Json | undefined, field: string): Selector | null {
  const written = textAt(value, field);
  if (written === null) return null;
  const found = parseSelector(written);
  return isFault(found) ? null : found;
}

function readList(value: Json | undefined, field: string): readonly AddressRange[] | null {
  if (!isMap(value) || listAt(value, field).length === 0) return null;
  return readRanges(value, field);
}

function readPorts(value: Json | undefined, field: string): Ports | null {
  const ports = listAt(value, field).map(parsePort);
  if (ports.length === 0) return null;
  let numbers = NOTHING;
  for (const port of ports) {
    if (port === null || typeof port === "string") continue;
    const [first, last] = [Math.max(port[0], 1), port[1]];
    for (const transport of TRANSPORTS) numbers = union(numbers, onePort(transport, first, last));
  }
  return { numbers, names: ports.filter((port) => typeof port === "string") };
}

/** What is not known where a rule cannot be decided, in words. */
export function unknownOf(rule: Rule): string {
  const ends = [rule.source, rule.destination];
  if (rule.hasHttp) return "what the HTTP request asks for";
  if (rule.hasIcmp) return "ICMP";
  if (rule.hasSourcePorts) return "the port that the client uses";
  if (ends.some(({ service }) => service !== null)) return "the endpoints of a Service";
  if (ends.some(({ hasDomains }) => hasDomains)) return "the addresses of a name";
  if (ends.some(({ nets, notNets }) => (nets ?? notNets) !== null)) {
    return "an address that is not known";
  }
  return "labels or addresses that are not known";
}
