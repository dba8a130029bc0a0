/** Matches the rules of Calico's policies against the two ends of a connection, and its port. */
import {
  labelsAt,
  listAt,
  textAt,
  type ClusterObject,
} from "../../../attribution/cluster-object.ts";
import {
  hasOwnNetwork,
  namedPort,
  toServiceHolder,
  type Holder,
  type Transport,
} from "../../../attribution/holder.ts";
import { hasLabels } from "../../../attribution/selector.ts";
import { and, not, type Ternary } from "../../decision/ternary.ts";
import { EVERYTHING, holds, NOTHING, onePort, subtract, union, type PortSet } from "../port-set.ts";
import type { Endpoints } from "./endpoint.ts";
import { type Family } from "./nets.ts";
import type { Ports, Rule, RuleEnd } from "./rule.ts";
import { isOfCalico } from "./shape.ts";

type Service = NonNullable<RuleEnd["service"]>;

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

  /** Whether a rule speaks of two ends, by all but the server's port. */
  match(rule: Rule, client: Holder, server: Holder, families: readonly Family[]): Ternary {
    if (rule.transports.length === 0) return false;
    let found: Ternary | undefined;
    for (const family of families) {
      const here = this.matchIn(rule, client, server, family);
      // Of which family the connection is, is not known.
      found = found === undefined || found === here ? here : null;
    }
    if (found === false) return false;
    return rule.hasHttp || rule.hasIcmp || rule.hasSourcePorts ? null : (found ?? null);
  }

  private matchIn(rule: Rule, client: Holder, server: Holder, family: Family): Ternary {
    if (rule.ipVersion !== null && rule.ipVersion !== family) return false;
    const source = this.matchEnd(rule.source, client, family);
    if (source === false) return false;
    const destination = this.matchEnd(rule.destination, server, family);
    return destination === true ? source : destination;
  }

  /**
   * A rule with ranges of the other family alone is not there for this one, be they to match or not
   * (felix/rules/policy.go FilterRuleToIPVersion).
   */
  private matchEnd(end: RuleEnd, holder: Holder, family: Family): Ternary {
    const { positive, negative, nets, notNets, service } = end;
    const { endpoints } = this;
    let found: Ternary = true;
    if (positive !== null) found = endpoints.matches(positive, holder, family);
    if (found === false) return false;
    if (nets !== null) found = and([found, endpoints.nets.isWithin(nets, holder, family)]);
    if (notNets !== null) {
      const isThere = notNets.some((range) => range.family === family);
      found = and([found, isThere, not(endpoints.nets.isWithin(notNets, holder, family))]);
    }
    if (negative !== null) found = and([found, not(endpoints.matches(negative, holder, family))]);
    if (service !== null) found = and([found, this.isBehind(service, holder)]);
    if (end.hasDomains) found = and([found, hasOwnNetwork(holder) ? false : null]);
    return found;
  }

  /**
   * Whether an end is an endpoint of a Service, ready or not (serviceindex.go). A rule that leaves
   * out the namespace means the policy's own by the API's text, and no Service by Felix's source.
   */
  private isBehind(service: Service, holder: Holder): Ternary {
    const object = this.services.get(`${service.namespace}/${service.name}`);
    const selector = labelsAt(object?.body, "spec", "selector");
    // One that is not declared, or selects nothing, has endpoints that somebody else makes.
    if (Object.keys(selector).length === 0 || holder.kind === "node") return null;
    const isPod = holder.kind === "pod" && holder.namespace === service.namespace;
    if (!isPod || !hasLabels(holder.labels, selector)) return false;
    return service.isGuessed ? null : true;
  }

  /** Whether a rule takes a port of this server. */
  takes(rule: Rule, server: Holder, transport: Transport, port: number): Ternary {
    if (!rule.transports.includes(transport)) return false;
    const { service, ports, notPorts } = rule.destination;
    if (service !== null) {
      const found = this.portsBehind(service, server);
      return found === null ? null : holds(found, transport, port);
    }
    const isOf = ({ numbers, names }: Ports): Ternary => {
      if (holds(numbers, transport, port)) return true;
      if (names.length === 0) return false;
      const named = this.named(names, server);
      return named === null ? null : holds(named, transport, port);
    };
    const taken = ports === null ? true : isOf(ports);
    return notPorts === null || taken === false ? taken : and([taken, not(isOf(notPorts))]);
  }

  /** All the ports of this server that a rule takes; null where that is not known. */
  portsOn(rule: Rule, server: Holder): PortSet | null {
    const { service, ports, notPorts } = rule.destination;
    const toSet = (some: Ports): PortSet | null => {
      const named = this.named(some.names, server);
      return named && union(some.numbers, named);
    };
    const taken =
      service !== null
        ? this.portsBehind(service, server)
        : ports === null
          ? EVERYTHING
          : toSet(ports);
    const except = notPorts === null ? NOTHING : toSet(notPorts);
    if (taken === null || except === null) return null;
    return only(subtract(taken, except), rule.transports);
  }

  /** What names stand for; a node has named ports only where it is a host endpoint. */
  private named(names: readonly string[], server: Holder): PortSet | null {
    if (!hasOwnNetwork(server))
      return names.some((name) => this.hostPorts.has(name)) ? null : NOTHING;
    let found = NOTHING;
    for (const { name, transport, port } of server.ports) {
      if (name !== null && names.includes(name))
        found = union(found, onePort(transport, port, port));
    }
    return found;
  }

  /** The ports of a pod that a Service leads to. */
  private portsBehind(service: Service, server: Holder): PortSet | null {
    const isBehind = this.isBehind(service, server);
    if (isBehind !== true) return isBehind === null ? null : NOTHING;
    const object = this.services.get(`${service.namespace}/${service.name}`)!;
    let found = NOTHING;
    for (const offered of toServiceHolder(object, [], { labels: {}, annotations: {} }).ports) {
      const { target, transport } = offered;
      const port = typeof target === "string" ? namedPort(server, target, transport) : target;
      if (port !== null) found = union(found, onePort(transport, port, port));
    }
    return found;
  }
}

export function only(set: PortSet, transports: readonly Transport[]): PortSet {
  const keep = (name: Transport) => (transports.includes(name) ? set[name] : []);
  return { SCTP: keep("SCTP"), TCP: keep("TCP"), UDP: keep("UDP") };
}
