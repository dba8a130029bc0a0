/** Reads `toPorts` of a Cilium rule: the ports it speaks of, and what else it asks for there. */
import { listAt, textAt, valueAt, type Json } from "../../../attribution/cluster-object.ts";
import { hasOwnNetwork, type Holder, type Transport } from "../../../attribution/holder.ts";
import { NOTHING, onePort, union, type PortSet } from "../port-set.ts";

/** All ports from `first` to `last`, or those that the server's pod gives the name to. */
type PortSpan = {
  carriers: readonly Transport[];
  first: number;
  last: number;
  name: string | null;
};

/** What a rule asks of a connection beside its ends and port. */
export type Condition = {
  /** The field: `rules.http`. */
  at: string;
  /** What nobody can read from outside, told to a person. */
  why: string;
  /**
   * Whether it yields to a rule without it: "if a layer 4 rule is specified … the layer 7 portions
   * of the latter rule will have no effect" (Documentation/security/policy/layer7.rst). TLS, names
   * and listeners are merged into the other rule instead (rule.go mergePortProto).
   */
  yields: boolean;
};

export type PortClause = {
  /** `toPorts[0]` */
  at: string;
  spans: readonly PortSpan[];
  conditions: readonly Condition[];
};

const CARRIERS: readonly Transport[] = ["TCP", "UDP", "SCTP"];

/** IANA's service names (RFC 6335 §5.1, pkg/iana/svcname.go): with a letter, so never a number. */
export function isPortName(text: string): boolean {
  if (text.length > 15 || !/[A-Za-z]/.test(text)) return false;
  return /^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/.test(text);
}

/** As Go's ParseUint with base 0 reads it: a leading zero makes it octal. Null: no port. */
export function parsePortNumber(text: string): number | null {
  if (!/^\d{1,6}$/.test(text)) return null;
  const isOctal = text.length > 1 && text.startsWith("0");
  if (isOctal && /[89]/.test(text)) return null;
  const number = isOctal ? parseInt(text, 8) : Number(text);
  return number <= 65535 ? number : null;
}

/** Null where the rule has no list of ports at all: it then speaks of every port. */
export function readPortClauses(rule: Json): PortClause[] | null {
  const clauses = listAt(rule, "toPorts");
  // A rule of ICMP types speaks of no port (utils/parserules.go icmpRules).
  if (clauses.length + listAt(rule, "icmps").length === 0) return null;
  return clauses.map((clause, i) => ({
    at: `toPorts[${i}]`,
    spans: listAt(clause, "ports").flatMap(readSpan),
    conditions: readConditions(clause),
  }));
}

function readSpan(value: Json): PortSpan[] {
  const named = textAt(value, "protocol") ?? "ANY";
  const carriers = named === "ANY" ? CARRIERS : CARRIERS.filter((carrier) => carrier === named);
  const port = textAt(value, "port");
  if (port === null || carriers.length === 0) return [];
  // Compared without regard to case, and never with an endPort (l4.go toMapState).
  if (isPortName(port)) return [{ carriers, first: 0, last: 0, name: port.toLowerCase() }];
  const first = parsePortNumber(port) ?? 0;
  if (first === 0) return [{ carriers, first: 1, last: 65535, name: null }];
  const end = valueAt(value, "endPort");
  const last = typeof end === "number" && end > first ? end : first; // l4.go keysForRange
  return [{ carriers, first, last, name: null }];
}

/** The lowest and the highest port that any clause may speak of. */
export function spanOf(clauses: readonly PortClause[] | null): readonly [number, number] {
  const spans = clauses?.flatMap((clause) => clause.spans) ?? null;
  if (spans === null || spans.some(({ name }) => name !== null)) return [1, 65535];
  return [
    spans.reduce((lowest, { first }) => Math.min(lowest, first), 65536),
    spans.reduce((highest, { last }) => Math.max(highest, last), 0),
  ];
}

/** The ports of this server that a clause speaks of. */
export function portsOf({ spans }: PortClause, server: Holder): PortSet {
  let set = NOTHING;
  for (const span of spans) {
    for (const carrier of span.carriers) {
      const [first, last] = resolve(span, server, carrier) ?? [1, 0];
      set = union(set, onePort(carrier, first, last));
    }
  }
  return set;
}

/** Whether a clause speaks of one port of this server. */
export function speaksOf(
  { spans }: PortClause,
  server: Holder,
  transport: Transport,
  port: number,
): boolean {
  return spans.some((span) => {
    if (!span.carriers.includes(transport)) return false;
    const found = resolve(span, server, transport);
    return found !== null && found[0] <= port && port <= found[1];
  });
}

/** Only a pod of its own network gives names to ports; null where it has none of that name. */
function resolve(span: PortSpan, server: Holder, carrier: Transport): [number, number] | null {
  const { first, last, name } = span;
  if (name === null) return [first, last];
  if (!hasOwnNetwork(server)) return null;
  const found = server.ports.find(
    (port) => port.name?.toLowerCase() === name && port.transport === carrier,
  );
  return found === undefined ? null : [found.port, found.port];
}

function readConditions(clause: Json): Condition[] {
  const conditions: Condition[] = [];
  const inBand = (at: string, what: string) =>
    conditions.push({
      at,
      why: `denial-in-band: ${what}; the proxy answers the others itself`,
      yields: true,
    });
  const hidden = (at: string, why: string) => conditions.push({ at, why, yields: false });
  const rules = valueAt(clause, "rules");
  if (listAt(rules, "http").length > 0) inBand("rules.http", "only some HTTP requests pass");
  if (listAt(rules, "kafka").length > 0) inBand("rules.kafka", "only some Kafka requests pass");
  if (textAt(rules, "l7proto") !== null) {
    inBand("rules.l7proto", `only some requests of ${textAt(rules, "l7proto")} pass`);
  }
  const dns = listAt(rules, "dns");
  // "`*` alone matches all names": such a rule reads along, and refuses nothing.
  const isAnyName = dns.some((one) => textAt(one, "matchPattern") === "*");
  if (dns.length > 0 && !isAnyName) inBand("rules.dns", "only queries for some names pass");
  if (listAt(clause, "serverNames").length > 0) {
    hidden("serverNames", "only TLS with one of some server names passes");
  }
  for (const at of ["terminatingTLS", "originatingTLS"]) {
    if (valueAt(clause, at)) hidden(at, "a proxy ends the TLS, and begins another");
  }
  if (valueAt(clause, "listener")) hidden("listener", "a listener of Envoy's own decides");
  return conditions;
}
