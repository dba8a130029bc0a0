/**
 * Shapes of Calico's policy kinds, and what its validation holds between their fields
 * (api/pkg/apis/projectcalico/v3, libcalico-go/lib/validator/v3/validator.go).
 */
import Type, { type TSchema } from "typebox";
import { parseRange } from "../../../attribution/address.ts";
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import { oneOf, only, orNull, text, texts } from "../../manifest/fields.ts";
import type { Fault } from "../../manifest/problem.ts";
import { METADATA, readMetadata } from "./metadata.ts";
import { isFault, mentions, parseSelector } from "./selector.ts";

const strict = { additionalProperties: false };
const maybe = (type: TSchema) => Type.Optional(orNull(type));
const flag = orNull(Type.Boolean());
const order = orNull(Type.Number());
const octet = Type.Integer({ minimum: 0, maximum: 255 });
const types = orNull(Type.Array(oneOf("Ingress", "Egress"), { uniqueItems: true }));

const portNumber = Type.Integer({ minimum: 0, maximum: 65535 });
const ports = orNull(Type.Array(Type.Union([portNumber, text])));
const entity = orNull(
  only({
    nets: texts,
    notNets: texts,
    selector: orNull(text),
    notSelector: orNull(text),
    namespaceSelector: orNull(text),
    services: orNull(only({ name: text, namespace: orNull(text) })),
    serviceAccounts: orNull(only({ names: texts, selector: orNull(text) })),
    ports,
    notPorts: ports,
    // Calico Enterprise and Cloud.
    domains: texts,
  }),
);
const protocol = orNull(Type.Union([Type.Integer({ minimum: 1, maximum: 255 }), text]));
const icmp = orNull(only({ type: orNull(octet), code: orNull(octet) }));
const rules = orNull(
  Type.Array(
    Type.Object(
      {
        action: oneOf("Allow", "Deny", "Log", "Pass"),
        ipVersion: maybe(Type.Union([Type.Literal(4), Type.Literal(6)])),
        protocol: Type.Optional(protocol),
        notProtocol: Type.Optional(protocol),
        icmp: Type.Optional(icmp),
        notICMP: Type.Optional(icmp),
        source: Type.Optional(entity),
        destination: Type.Optional(entity),
        http: maybe(only({ methods: texts, paths: orNull(Type.Array(Type.Unknown())) })),
        metadata: maybe(only({ annotations: Type.Unknown() })),
      },
      strict,
    ),
  ),
);
const policy = {
  tier: orNull(text),
  order,
  selector: orNull(text),
  serviceAccountSelector: orNull(text),
  types,
  ingress: rules,
  egress: rules,
  performanceHints: texts,
};
const networkPolicy = only(policy);
const globalNetworkPolicy = only({
  ...policy,
  namespaceSelector: orNull(text),
  doNotTrack: flag,
  preDNAT: flag,
  applyOnForward: flag,
});
const tier = only({ order, defaultAction: orNull(oneOf("Deny", "Pass")) });
const networkSet = only({ nets: texts, allowedEgressDomains: texts });
const hostEndpoint = Type.Object({
  node: maybe(text),
  interfaceName: maybe(text),
  expectedIPs: Type.Optional(texts),
  profiles: Type.Optional(texts),
});
const ipPool = Type.Object({ cidr: text, allowedUses: Type.Optional(texts) });

/** Both groups hold the same objects: the API's own, and what its server stores. */
export const CALICO_GROUPS = ["projectcalico.org", "crd.projectcalico.org"] as const;

/** By kind and API group, the shape of `spec`. */
export const CALICO_SPECS: Readonly<Record<string, TSchema>> = Object.fromEntries(
  CALICO_GROUPS.flatMap((group) => [
    [`NetworkPolicy.${group}`, networkPolicy],
    [`GlobalNetworkPolicy.${group}`, globalNetworkPolicy],
    [`Tier.${group}`, tier],
    [`NetworkSet.${group}`, networkSet],
    [`GlobalNetworkSet.${group}`, networkSet],
    [`HostEndpoint.${group}`, hostEndpoint],
    [`IPPool.${group}`, ipPool],
  ]),
);

/** Reports whether an object is of one of Calico's groups, and of this kind. */
export function isOfCalico({ apiVersion, kind }: ClusterObject, wanted?: string): boolean {
  if (wanted !== undefined && kind !== wanted) return false;
  return CALICO_GROUPS.some((group) => apiVersion.startsWith(`${group}/`));
}

/** What tiers of these names must end with (api/pkg/apis/projectcalico/v3/tier.go). */
const BUILT_IN_ACTIONS: ReadonlyMap<string, string> = new Map([
  ["default", "Deny"],
  ["kube-admin", "Pass"],
  ["kube-baseline", "Pass"],
]);

type Path = (string | number)[];
type Tell = (reason: string, ...steps: Path) => void;

/** Rules between fields; what a selector, a port or a range must look like. */
export function findCalicoFaults(object: ClusterObject, spec: Json): Fault[] {
  const faults: Fault[] = [];
  const tell: Tell = (reason, ...steps) => faults.push({ path: ["spec", ...steps], reason });
  if (readMetadata(object) === undefined) {
    faults.push({ path: ["metadata", "annotations", METADATA], reason: "must be a map in JSON" });
  }
  switch (object.kind) {
    case "NetworkPolicy":
    case "GlobalNetworkPolicy":
      for (const field of ["selector", "serviceAccountSelector", "namespaceSelector"]) {
        checkSelector(spec, [field], tell);
      }
      for (const direction of ["ingress", "egress"] as const) {
        listAt(spec, direction).forEach((rule, i) =>
          checkRule(object, rule, direction, (reason, ...steps) =>
            tell(reason, direction, i, ...steps),
          ),
        );
      }
      break;
    case "Tier": {
      const wanted = BUILT_IN_ACTIONS.get(object.name);
      const action = textAt(spec, "defaultAction") ?? "Deny";
      if (wanted !== undefined && action !== wanted) {
        tell(`must be ${wanted} for tier ${object.name}`, "defaultAction");
      }
      break;
    }
    case "NetworkSet":
    case "GlobalNetworkSet":
      checkRanges(spec, ["nets"], tell);
      break;
    case "HostEndpoint":
      checkRanges(spec, ["expectedIPs"], tell);
      break;
    case "IPPool":
      if (parseRange(textAt(spec, "cidr") ?? "") === null) tell("must be an address range", "cidr");
  }
  return faults;
}

function checkSelector(value: Json | undefined, path: string[], tell: Tell, inRule = false): void {
  const written = textAt(value, ...path);
  if (written === null) return;
  const found = parseSelector(written);
  if (isFault(found)) {
    tell(`${found.reason} (at character ${found.at + 1})`, ...path);
  } else if (mentions(found, "global") && !(inRule && found.op === "global")) {
    const where = "stands alone, and only in the namespaceSelector of a rule's end";
    tell(`global() ${where}`, ...path);
  }
}

function checkRule(
  object: ClusterObject,
  rule: Json,
  direction: "ingress" | "egress",
  tell: Tell,
): void {
  const carries = protocolOf(valueAt(rule, "protocol"));
  if (carries === undefined) tell(PROTOCOLS, "protocol");
  if (protocolOf(valueAt(rule, "notProtocol")) === undefined) tell(PROTOCOLS, "notProtocol");
  if (isMap(valueAt(rule, "icmp")) && carries !== 1 && carries !== 58) {
    tell("needs protocol ICMP or ICMPv6", "icmp");
  }
  if (isMap(valueAt(rule, "http"))) {
    if (textAt(rule, "action") !== "Allow") tell("must stand in an Allow rule", "http");
    if (direction === "egress") tell("must not stand in an egress rule", "http");
    if (carries !== null && carries !== 6) tell("needs protocol TCP", "http");
  }
  for (const end of ["source", "destination"]) {
    const at: Tell = (reason, ...steps) => tell(reason, end, ...steps);
    const entity = valueAt(rule, end);
    if (!isMap(entity)) continue;
    checkSelector(entity, ["selector"], at);
    checkSelector(entity, ["notSelector"], at);
    checkSelector(entity, ["namespaceSelector"], at, true);
    checkSelector(entity, ["serviceAccounts", "selector"], at);
    checkRanges(entity, ["nets"], at);
    checkRanges(entity, ["notNets"], at);
    checkPorts(entity, "ports", carries, at);
    checkPorts(entity, "notPorts", carries, at);
    if (isMap(entity["services"])) {
      if (end !== (direction === "ingress" ? "source" : "destination")) {
        at(`must not stand in the ${end} of an ${direction} rule`, "services");
      }
      checkServices(object, entity, end, at);
    }
  }
}

const PROTOCOLS = "must be TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite, or a number of 1 to 255";
const NUMBERS: Readonly<Record<string, number>> = {
  ...{ tcp: 6, udp: 17, sctp: 132, icmp: 1 },
  ...{ icmpv6: 58, udplite: 136 },
};

/** A protocol's number (IANA); null where none is named, undefined where it is none. */
export function protocolOf(value: Json | undefined): number | null | undefined {
  if (value === undefined || value === null) return null;
  const number = Number(value);
  if (Number.isInteger(number) && number >= 1 && number <= 255) return number;
  const name = String(value).toLowerCase();
  return Object.hasOwn(NUMBERS, name) ? NUMBERS[name] : undefined;
}

function checkRanges(value: Json | undefined, path: string[], tell: Tell): void {
  listAt(value, ...path).forEach((entry, i) => {
    if (parseRange(String(entry)) === null) tell("must be an address or a range", ...path, i);
  });
}

const WITH_PORTS: ReadonlySet<number | null | undefined> = new Set([6, 17, 132]);

function checkPorts(
  entity: Json,
  field: "ports" | "notPorts",
  carries: number | null | undefined,
  tell: Tell,
): void {
  listAt(entity, field).forEach((entry, i) => {
    const port = parsePort(entry);
    if (port === null) tell("must be a port, a range a:b of ports, or a name", field, i);
    else if (carries === null ? typeof port !== "string" : !WITH_PORTS.has(carries)) {
      tell("needs protocol TCP, UDP or SCTP", field, i);
    }
  });
}

/** A number or range as both its ends, a name as it is; null for neither (numorstring/port.go). */
export function parsePort(value: Json): readonly [first: number, last: number] | string | null {
  const parts = /^(\d+)(?::(\d+))?$/.exec(String(value));
  if (parts === null) {
    return /^[a-zA-Z0-9_.-]{1,128}$/.test(String(value)) ? String(value) : null;
  }
  const first = Number(parts[1]);
  const last = Number(parts[2] ?? parts[1]);
  return last > 65535 || first > last ? null : [first, last];
}

function checkServices(object: ClusterObject, entity: Json, end: string, tell: Tell): void {
  const name = textAt(entity, "services", "name");
  if (name === null) tell("needs a name", "services");
  if (object.kind === "GlobalNetworkPolicy" && textAt(entity, "services", "namespace") === null) {
    tell("needs a namespace in a GlobalNetworkPolicy", "services");
  }
  const besides = ["selector", "notSelector", "namespaceSelector", "nets", "notNets"];
  // Of a destination the Service's ports count; a source may name its own.
  const ports = end === "destination" ? ["ports", "notPorts"] : [];
  for (const field of [...besides, "serviceAccounts", ...ports]) {
    const value = valueAt(entity, field);
    const isEmpty = value === "" || (Array.isArray(value) && value.length === 0);
    if (value !== undefined && value !== null && !isEmpty) {
      tell("must not stand beside services", field);
    }
  }
}
