/** Reads the rules of Calico's policies and matches them against the two ends of a connection. */
import type { AddressRange } from "../../attribution/address.ts";
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import {
  namedPort,
  toServiceHolder,
  type Holder,
  type Transport,
} from "../../attribution/holder.ts";
import { readLabelMap, selects } from "../../attribution/selector.ts";
import type { Ternary } from "../peer.ts";
import {
  EVERYTHING,
  isNothing,
  NOTHING,
  onePort,
  subtract,
  union,
  type PortSet,
} from "../port-set.ts";
import { and, not } from "../ternary.ts";
import {
  NAMESPACE,
  OF_ACCOUNT,
  OF_NAMESPACE,
  SERVICE_ACCOUNT,
  type Endpoints,
} from "./endpoint.ts";
import { isWorkload, readRanges, type Family } from "./nets.ts";
import { allOf, isFault, parseSelector, replace, withPrefix, type Selector } from "./selector.ts";
import { isOfCalico, parsePort, protocolOf } from "./shape.ts";

export type Action = "Allow" | "Deny" | "Pass" | "Log";

type Port = readonly [first: number, last: number] | string;

/** One end as a rule names it; null for each thing that it does not name. */
type RuleEnd = {
  /** Picks pods, network sets and host endpoints; the address must be one of theirs. */
  positive: Selector | null;
  /** The address must be none of theirs; beside `positive` it is a part of that. */
  negative: Selector | null;
  nets: readonly AddressRange[] | null;
  notNets: readonly AddressRange[] | null;
  service: { namespace: string; name: string; isGuessed: boolean } | null;
  ports: readonly Port[] | null;
  notPorts: readonly Port[] | null;
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
  /** What it takes of any server's ports; null where that depends on the server. */
  fixed: PortSet | null;
};

/** `ports`: of the server. */
export type RuleMatch = { ternary: Ternary; ports: PortSet };

const NO_MATCH: RuleMatch = { ternary: false, ports: NOTHING };
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
  const { ports, notPorts, service } = destination;
  const isFixed =
    service === null &&
    [ports, notPorts].every((list) => !list?.some((p) => typeof p === "string"));
  return {
    action: textAt(value, "action") as Action,
    transports,
    ipVersion: typeof ipVersion === "number" ? ipVersion : null,
    source,
    destination,
    hasHttp: isMap(valueAt(value, "http")),
    hasSourcePorts: !isEverything(numbersOf(source.ports, source.notPorts, () => NOTHING)),
    hasIcmp: isMap(valueAt(value, "notICMP")),
    fixed: isFixed
      ? only(
          numbersOf(ports, notPorts, () => NOTHING),
          transports,
        )
      : null,
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

function readPorts(value: Json | undefined, field: string): readonly Port[] | null {
  const list = listAt(value, field);
  const ports = list.map(parsePort).filter((port) => port !== null);
  return list.length === 0 ? null : ports;
}

/** The ports named, without those excepted; `named` finds what a name stands for. */
function numbersOf(
  ports: readonly Port[] | null,
  notPorts: readonly Port[] | null,
  named: (name: string) => PortSet,
): PortSet {
  const toSet = (list: readonly Port[]) =>
    list.reduce(
      (set, port) => union(set, typeof port === "string" ? named(port) : span(port)),
      NOTHING,
    );
  const taken = ports === null ? EVERYTHING : toSet(ports);
  return notPorts === null ? taken : subtract(taken, toSet(notPorts));
}

function span([first, last]: readonly [number, number]): PortSet {
  const [start, end] = [Math.max(first, 1), last];
  return (["SCTP", "TCP", "UDP"] as const).reduce(
    (set, transport) => union(set, onePort(transport, start, end)),
    NOTHING,
  );
}

function isEverything(set: PortSet): boolean {
  return isNothing(subtract(EVERYTHING, set));
}

function only(set: PortSet, transports: readonly Transport[]): PortSet {
  const keep = (name: Transport) => (transports.includes(name) ? set[name] : []);
  return { SCTP: keep("SCTP"), TCP: keep("TCP"), UDP: keep("UDP") };
}

export class Rules {
  private readonly endpoints: Endpoints;
  private readonly services = new Map<string, ClusterObject>();
  /** Names of the ports that host endpoints have. */
  private readonly hostPorts = new Set<string>();

  constructor(objects: readonly ClusterObject[], endpoints: Endpoints) {
    this.endpoints = endpoints;
    for (const object of objects) {
      if (object.kind === "Service" && object.apiVersion === "v1") {
        this.services.set(`${object.namespace}/${object.name}`, object);
      } else if (isOfCalico(object, "HostEndpoint")) {
        for (const port of listAt(object.body, "spec", "ports")) {
          this.hostPorts.add(textAt(port, "name") ?? "");
        }
      }
    }
  }

  /** Whether a rule speaks of a connection between two ends, and of which of the server's ports. */
  match(rule: Rule, client: Holder, server: Holder): RuleMatch {
    if (rule.transports.length === 0) return NO_MATCH;
    const found = rule.fixed === null ? this.portsOn(rule, server) : null;
    const isUnsure =
      rule.hasHttp || rule.hasIcmp || rule.hasSourcePorts || (rule.fixed ?? found) === null;
    const { nets } = this.endpoints;
    const answers = nets.familiesOf(client, server).map((family) => {
      if (rule.ipVersion !== null && rule.ipVersion !== family) return false;
      const here = this.matchEnd(rule.source, client, family);
      return here === false ? false : and([here, this.matchEnd(rule.destination, server, family)]);
    });
    const ternary = answers.every((answer) => answer === answers[0]) ? answers[0]! : null;
    if (ternary === false) return NO_MATCH;
    const ports = rule.fixed ?? found ?? only(EVERYTHING, rule.transports);
    return { ternary: isUnsure ? null : ternary, ports };
  }

  /**
   * A rule with ranges of the other family alone is not there for this one, be they to match or not
   * (felix/rules/policy.go FilterRuleToIPVersion).
   */
  private matchEnd(end: RuleEnd, holder: Holder, family: Family): Ternary {
    const { positive, negative, nets, notNets, service } = end;
    const terms: Ternary[] = [];
    if (nets !== null) terms.push(this.endpoints.nets.isWithin(nets, holder, family));
    if (notNets !== null) {
      const isThere = notNets.some((range) => range.family === family);
      terms.push(isThere && not(this.endpoints.nets.isWithin(notNets, holder, family)));
    }
    if (positive !== null) terms.push(this.endpoints.matches(positive, holder, family));
    if (negative !== null) terms.push(not(this.endpoints.matches(negative, holder, family)));
    if (service !== null) terms.push(this.isBehind(service, holder));
    if (end.hasDomains) terms.push(isWorkload(holder) ? false : null);
    return and(terms);
  }

  /**
   * Whether an end is an endpoint of a Service, ready or not (serviceindex.go). A rule that leaves
   * out the namespace means the policy's own by the API's text, and no Service by Felix's source.
   */
  private isBehind(service: NonNullable<RuleEnd["service"]>, holder: Holder): Ternary {
    const object = this.services.get(`${service.namespace}/${service.name}`);
    const selector = labelsAt(object?.body, "spec", "selector");
    // One that is not declared, or selects nothing, has endpoints that somebody else makes.
    if (Object.keys(selector).length === 0 || holder.kind === "node") return null;
    const isPod = holder.kind === "pod" && holder.namespace === service.namespace;
    if (!isPod || !selects(readLabelMap(selector), holder.labels)) return false;
    return service.isGuessed ? null : true;
  }

  /** The ports of this server that a rule takes; null where that is not known. */
  private portsOn(rule: Rule, server: Holder): PortSet | null {
    const { service, ports, notPorts } = rule.destination;
    if (service !== null) return this.portsBehind(service, server, rule.transports);
    let isOpen = false;
    const named = (name: string) => {
      // Named ports are those of endpoints; a node has some only where it is a host endpoint.
      if (!isWorkload(server)) isOpen ||= this.hostPorts.has(name);
      else {
        return server.ports
          .filter((port) => port.name === name)
          .reduce(
            (set, port) => union(set, onePort(port.transport, port.port, port.port)),
            NOTHING,
          );
      }
      return NOTHING;
    };
    const found = only(numbersOf(ports, notPorts, named), rule.transports);
    return isOpen ? null : found;
  }

  /** The ports of a pod that a Service leads to. */
  private portsBehind(
    service: NonNullable<RuleEnd["service"]>,
    server: Holder,
    transports: readonly Transport[],
  ): PortSet | null {
    if (this.isBehind(service, server) !== true) return null;
    const object = this.services.get(`${service.namespace}/${service.name}`)!;
    const found = toServiceHolder(object, [], { labels: {}, annotations: {} }).ports.reduce(
      (set, { target, transport }) => {
        const port = typeof target === "string" ? namedPort(server, target, transport) : target;
        return port === null ? set : union(set, onePort(transport, port, port));
      },
      NOTHING,
    );
    return only(found, transports);
  }
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
