/** Checks Cilium's policies as its API and its agent do (pkg/policy/api/rule_validation.go). */
import Type, { type TSchema } from "typebox";
import { parseAddress, parseRange } from "../../../attribution/address.ts";
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import {
  listedSelector,
  oneOf,
  only,
  orNull,
  selector,
  text,
  texts,
} from "../../manifest/fields.ts";
import type { Fault } from "../../manifest/problem.ts";
import { findSchemaFaults } from "../../manifest/schema-fault.ts";
import { isPortName, parsePortNumber } from "./port-clause.ts";

const strict = { additionalProperties: false };
/** What decides nothing here. */
const unread = Type.Unknown();
const list = (type: TSchema) => orNull(Type.Array(type));
const some = Type.Object({});

/** All names that pkg/policy/api/entity.go maps to selectors. */
const ENTITIES = [
  ...["all", "world", "world-ipv4", "world-ipv6", "cluster", "cluster-mesh", "host", "init"],
  ...["ingress", "unmanaged", "remote-node", "health", "none", "kube-apiserver"],
];
/** Those without ports never match; `ICMP` and `ICMPV6` are of versions before 1.17. */
const PROTOCOLS = [
  ...["TCP", "UDP", "SCTP", "ICMP", "ICMPV6", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP"],
  ...["AH", "ANY", ""],
];

const cidrSet = list(
  only({ cidr: text, cidrGroupRef: text, cidrGroupSelector: selector, except: texts }),
);
const icmps = list(only({ fields: list(only({ type: unread, family: unread })) }));
const ports = list(
  only({
    port: text,
    endPort: Type.Integer({ minimum: 0, maximum: 65535 }),
    protocol: oneOf(...PROTOCOLS),
  }),
);
const toDenyPorts = list(only({ ports }));
const toPorts = list(
  only({
    ports,
    terminatingTLS: some,
    originatingTLS: some,
    serverNames: Type.Array(text),
    listener: some,
    rules: orNull(
      only({
        http: list(some),
        dns: list(only({ matchName: text, matchPattern: text })),
        // Until Cilium 1.19.
        kafka: list(some),
        l7proto: text,
        l7: list(unread),
      }),
    ),
  }),
);
const authentication = orNull(
  Type.Object({ mode: oneOf("disabled", "required", "test-always-fail") }, strict),
);
const selectors = list(listedSelector);
const service = only({
  k8sService: orNull(only({ serviceName: text, namespace: text })),
  k8sServiceSelector: orNull(only({ selector, namespace: text })),
});
const from = {
  fromEndpoints: selectors,
  fromRequires: list(unread),
  fromCIDR: texts,
  fromCIDRSet: cidrSet,
  fromEntities: list(oneOf(...ENTITIES)),
  fromGroups: list(unread),
  fromNodes: selectors,
};
const to = {
  toEndpoints: selectors,
  toRequires: list(unread),
  toCIDR: texts,
  toCIDRSet: cidrSet,
  toEntities: list(oneOf(...ENTITIES)),
  toGroups: list(unread),
  toNodes: selectors,
  toServices: list(service),
};
const rule = only({
  endpointSelector: selector,
  nodeSelector: selector,
  ingress: list(only({ ...from, toPorts, icmps, authentication })),
  ingressDeny: list(only({ ...from, toPorts: toDenyPorts, icmps })),
  egress: list(
    only({
      ...to,
      toFQDNs: list(only({ matchName: text, matchPattern: text })),
      toPorts,
      icmps,
      authentication,
    }),
  ),
  egressDeny: list(only({ ...to, toPorts: toDenyPorts, icmps })),
  enableDefaultDeny: orNull(
    only({ ingress: orNull(Type.Boolean()), egress: orNull(Type.Boolean()) }),
  ),
  labels: unread,
  description: orNull(text),
  log: unread,
});
const cidrGroup = Type.Object({ externalCIDRs: list(text) }, strict);

export const SECTIONS = ["ingress", "ingressDeny", "egress", "egressDeny"] as const;
const PEERS = [
  ...["Endpoints", "CIDR", "CIDRSet", "Entities", "Nodes", "Groups", "Services", "FQDNs"],
];
const KINDS = new Set([
  ...["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup"],
]);
/** maxPorts and maxICMPFields of rule_validation.go. */
const PORTS_LIMIT = 40;

export function isCiliumPolicy({ apiVersion, kind }: ClusterObject): boolean {
  return apiVersion.startsWith("cilium.io/") && KINDS.has(kind);
}

/** One rule of a policy's `spec` or `specs`, with its place. */
export type PlacedRule = { rule: Json; path: readonly (string | number)[] };

/** `spec` and each of `specs`: all of them apply (cnp_types.go ParseRules). */
export function listRules(object: ClusterObject): PlacedRule[] {
  const spec = valueAt(object.body, "spec") ?? null;
  return [
    ...(spec === null ? [] : [{ rule: spec, path: ["spec"] }]),
    ...listAt(object.body, "specs").map((rule, i) => ({ rule, path: ["specs", i] })),
  ];
}

/** Every wrong field of one of Cilium's policies, or of a CiliumCIDRGroup. */
export function findCiliumFaults(object: ClusterObject): Fault[] {
  if (object.kind === "CiliumCIDRGroup") return findGroupFaults(object);
  const faults: Fault[] = [];
  for (const key of Object.keys(object.body)) {
    if (!["apiVersion", "kind", "metadata", "spec", "specs", "status"].includes(key)) {
      faults.push({ path: [key], reason: "unknown field" });
    }
  }
  const specs = valueAt(object.body, "specs") ?? null;
  if (specs !== null && !Array.isArray(specs)) {
    faults.push({ path: ["specs"], reason: "must be array" });
  }
  const rules = listRules(object);
  if (rules.length === 0) faults.push({ path: ["spec"], reason: "is missing, and so is specs" });
  for (const { rule: value, path } of rules) {
    const shape = findSchemaFaults(rule, value, path);
    faults.push(...(shape.length > 0 ? shape : findRuleFaults(object, value, path)));
  }
  return faults;
}

function findGroupFaults(object: ClusterObject): Fault[] {
  const spec = valueAt(object.body, "spec") ?? null;
  if (spec === null) return [{ path: ["spec"], reason: "is missing" }];
  const shape = findSchemaFaults(cidrGroup, spec, ["spec"]);
  if (shape.length > 0) return shape;
  return listAt(spec, "externalCIDRs").flatMap((cidr, i) =>
    isPrefix(cidr)
      ? []
      : [{ path: ["spec", "externalCIDRs", i], reason: "must be an address range" }],
  );
}

type Tell = (reason: string, ...steps: (string | number)[]) => void;

/** Rules between fields. */
function findRuleFaults(object: ClusterObject, rule: Json, path: Fault["path"]): Fault[] {
  const faults: Fault[] = [];
  const tell: Tell = (reason, ...steps) => faults.push({ path: [...path, ...steps], reason });
  const onNodes = isMap(valueAt(rule, "nodeSelector"));
  if (onNodes === isMap(valueAt(rule, "endpointSelector"))) {
    tell("needs endpointSelector or nodeSelector, and not both");
  }
  if (onNodes && object.kind === "CiliumNetworkPolicy") {
    tell("is for a CiliumClusterwideNetworkPolicy only", "nodeSelector");
  }
  if (SECTIONS.every((section) => listAt(rule, section).length === 0)) {
    tell("needs an entry in ingress, ingressDeny, egress or egressDeny: an empty list is none");
  }
  for (const key of ["endpointSelector", "nodeSelector"]) {
    checkSelector(valueAt(rule, key), (reason, ...steps) => tell(reason, key, ...steps));
  }
  for (const section of SECTIONS) {
    listAt(rule, section).forEach((entry, i) => {
      const here: Tell = (reason, ...steps) => tell(reason, section, i, ...steps);
      checkPeers(entry, section.startsWith("ingress") ? "from" : "to", here);
      checkPorts(entry, section, onNodes, here);
    });
  }
  return faults;
}

function checkPeers(entry: Json, side: "from" | "to", tell: Tell): void {
  const named = PEERS.map((name) => side + name).filter((name) => listAt(entry, name).length > 0);
  if (named.length > 1) {
    tell(`only one kind of peer is taken: ${named.join(", ")}`, named[1]!);
  }
  const requires = `${side}Requires`;
  if (listAt(entry, requires).length > 0) {
    tell("went with Cilium 1.19; before, it narrows every rule for its endpoints", requires);
  }
  for (const name of [`${side}Endpoints`, `${side}Nodes`]) {
    listAt(entry, name).forEach((one, i) =>
      checkSelector(one, (reason, ...steps) => tell(reason, name, i, ...steps)),
    );
  }
  listAt(entry, "toServices").forEach((one, i) =>
    checkSelector(valueAt(one, "k8sServiceSelector", "selector"), (reason, ...steps) =>
      tell(reason, "toServices", i, "k8sServiceSelector", "selector", ...steps),
    ),
  );
  listAt(entry, `${side}CIDR`).forEach((cidr, i) => {
    if (!isPrefix(cidr) && parseAddress(String(cidr)) === null) {
      tell("must be an address or a range", `${side}CIDR`, i);
    }
  });
  listAt(entry, `${side}CIDRSet`).forEach((one, i) =>
    checkCidrRule(one, (reason, ...steps) => tell(reason, `${side}CIDRSet`, i, ...steps)),
  );
  listAt(entry, "toFQDNs").forEach((one, i) => {
    if (textAt(one, "matchName") !== null && textAt(one, "matchPattern") !== null) {
      tell("takes matchName or matchPattern", "toFQDNs", i);
    }
  });
}

function checkCidrRule(one: Json, tell: Tell): void {
  const cidr = textAt(one, "cidr");
  const kinds = [cidr, textAt(one, "cidrGroupRef"), valueAt(one, "cidrGroupSelector") ?? null];
  if (kinds.filter((kind) => kind !== null).length !== 1) {
    tell("needs one of cidr, cidrGroupRef and cidrGroupSelector");
    return;
  }
  checkSelector(valueAt(one, "cidrGroupSelector"), (reason, ...steps) =>
    tell(reason, "cidrGroupSelector", ...steps),
  );
  const whole = cidr === null ? null : parseRange(cidr);
  if (cidr !== null && !isPrefix(cidr)) tell("must be an address range", "cidr");
  listAt(one, "except").forEach((entry, i) => {
    const hole = isPrefix(entry) ? parseRange(String(entry)) : null;
    if (hole === null) tell("must be an address range", "except", i);
    else if (whole !== null) {
      const inside = hole.family === whole.family && hole.first >= whole.first;
      if (!inside || hole.last > whole.last) tell("must lie within cidr", "except", i);
    }
  });
}

function checkPorts(entry: Json, section: string, onNodes: boolean, tell: Tell): void {
  const clauses = listAt(entry, "toPorts");
  const icmps = listAt(entry, "icmps");
  if (clauses.length > 0 && icmps.length > 0) tell("must not stand beside toPorts", "icmps");
  clauses.forEach((clause, i) => {
    const here: Tell = (reason, ...steps) => tell(reason, "toPorts", i, ...steps);
    const rules = valueAt(clause, "rules");
    const isDns = listAt(rules, "dns").length > 0;
    const proxied = ["http", "kafka", "l7"].filter((name) => listAt(rules, name).length > 0);
    const ports = listAt(clause, "ports");
    if (ports.length > PORTS_LIMIT) here(`takes at most ${PORTS_LIMIT}`, "ports");
    if (isDns && section === "ingress") here("is for egress only", "rules", "dns");
    if (isDns && ports.length === 0) here("needs ports", "rules", "dns");
    if (isDns && proxied.length > 0) here("takes one protocol only", "rules");
    if (onNodes && proxied.length > 0) here("is not for nodes", "rules", proxied[0]!);
    if (valueAt(clause, "listener") !== undefined) {
      if (section === "ingress") here("is for egress only", "listener");
      if (isDns || proxied.length > 0) here("must not stand beside rules", "listener");
    }
    const names = listAt(clause, "serverNames");
    if (names.includes("")) here("must not be empty", "serverNames", names.indexOf(""));
    if (names.length > 0 && (isDns || proxied.length > 0) && !valueAt(clause, "terminatingTLS")) {
      here("stands beside rules only where terminatingTLS does", "serverNames");
    }
    ports.forEach((one, p) => {
      const at: Tell = (reason, ...steps) => here(reason, "ports", p, ...steps);
      checkPort(one, proxied.length > 0, isDns, at);
    });
  });
}

function checkPort(one: Json, isProxied: boolean, isDns: boolean, tell: Tell): void {
  const port = textAt(one, "port");
  const end = valueAt(one, "endPort");
  const carrier = textAt(one, "protocol") ?? "ANY";
  if (port === null) {
    // Only protocols without ports may leave it out (isExtendedIPProtocol).
    if (["TCP", "UDP", "SCTP", "ANY"].includes(carrier)) tell("is missing", "port");
    return;
  }
  const number = isPortName(port) ? null : parsePortNumber(port);
  if (number === null && !isPortName(port)) tell("must be a port's number or name", "port");
  if (isProxied && carrier !== "TCP") tell("rules of HTTP and its kin need TCP", "protocol");
  if ((isProxied || isDns) && number === 0) tell("must not be 0 where rules stand", "port");
  if (isDns && typeof end === "number" && number !== null && end > number) {
    tell("must not be a range where rules of DNS stand", "endPort");
  }
}

function checkSelector(value: Json | undefined, tell: Tell): void {
  listAt(value, "matchExpressions").forEach((expression, i) => {
    const operator = textAt(expression, "operator");
    const count = listAt(expression, "values").length;
    const wants = operator === "In" || operator === "NotIn";
    if (wants && count === 0) {
      tell(`operator ${operator} needs values`, "matchExpressions", i, "values");
    }
    if (!wants && count > 0) {
      tell(`operator ${operator} takes no values`, "matchExpressions", i, "values");
    }
  });
}

function isPrefix(cidr: Json): boolean {
  return typeof cidr === "string" && cidr.includes("/") && parseRange(cidr) !== null;
}
