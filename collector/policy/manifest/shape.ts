/** Checks the fields of a declared object against what its kind allows; tells each fault's path. */
import { parseDocument } from "yaml";
import Type, { type TSchema } from "typebox";
import { parseRange } from "../../attribution/address.ts";
import {
  groupKind,
  isMap,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import { CALICO_SPECS, findCalicoFaults, isOfCalico } from "../packet/calico/shape.ts";
import { findCiliumFaults, isCiliumPolicy } from "../packet/cilium/shape.ts";
import { CONSUL_SPECS, findIntentionFaults } from "../mesh/consul/shape.ts";
import {
  labels,
  oneOf,
  only,
  orNull,
  peers,
  port,
  ports,
  selector,
  text,
  texts,
} from "./fields.ts";
import { findLinkerdFaults, LINKERD_SPECS } from "../mesh/linkerd/shape.ts";
import type { Fault } from "./problem.ts";
import { findSchemaFaults } from "./schema-fault.ts";
import { findSegmentationFaults, Segmentation } from "../segmentation/shape.ts";
import { readYaml } from "./yaml-text.ts";

const networkPolicy = only({
  podSelector: selector,
  policyTypes: orNull(Type.Array(oneOf("Ingress", "Egress"))),
  ingress: orNull(Type.Array(only({ from: peers, ports }))),
  egress: orNull(Type.Array(only({ to: peers, ports }))),
});

const strict = { additionalProperties: false };
const oneProperty = { minProperties: 1, maxProperties: 1 };
/** Of the fields just one: the API's servers hold it, and what names none is of a newer version. */
const exactlyOne = (type: TSchema): TSchema => ({ ...type, ...oneProperty });
const adminSubject = only({
  namespaces: selector,
  pods: only({ namespaceSelector: selector, podSelector: selector }),
});
const adminPorts = orNull(
  Type.Array(
    only({
      portNumber: only({ protocol: oneOf("TCP", "UDP", "SCTP"), port }),
      portRange: only({ protocol: oneOf("TCP", "UDP", "SCTP"), start: port, end: port }),
      namedPort: text,
    }),
  ),
);
const adminPeer = only({
  namespaces: selector,
  pods: only({ namespaceSelector: selector, podSelector: selector }),
  nodes: selector,
  networks: Type.Array(text),
  domainNames: Type.Array(text),
});
const adminRules = (peer: string, ...actions: string[]) =>
  orNull(
    Type.Array(
      Type.Object(
        {
          name: Type.Optional(text),
          action: oneOf(...actions),
          ports: Type.Optional(adminPorts),
          [peer]: Type.Array(adminPeer, { minItems: 1 }),
        },
        { additionalProperties: false },
      ),
    ),
  );
const adminNetworkPolicy = Type.Object(
  {
    priority: Type.Integer({ minimum: 0, maximum: 1000 }),
    subject: adminSubject,
    ingress: Type.Optional(adminRules("from", "Allow", "Deny", "Pass")),
    egress: Type.Optional(adminRules("to", "Allow", "Deny", "Pass")),
  },
  { additionalProperties: false },
);
const baselineAdminNetworkPolicy = Type.Object(
  {
    subject: adminSubject,
    ingress: Type.Optional(adminRules("from", "Allow", "Deny")),
    egress: Type.Optional(adminRules("to", "Allow", "Deny")),
  },
  { additionalProperties: false },
);

const clusterPort = Type.Object(
  {
    destinationPort: Type.Object(
      {
        number: Type.Optional(port),
        range: Type.Optional(Type.Object({ start: port, end: port }, strict)),
      },
      { ...strict, ...oneProperty },
    ),
  },
  strict,
);
const clusterProtocols = Type.Optional(
  Type.Array(
    Type.Object(
      {
        tcp: Type.Optional(clusterPort),
        udp: Type.Optional(clusterPort),
        sctp: Type.Optional(clusterPort),
        destinationNamedPort: Type.Optional(text),
      },
      { ...strict, ...oneProperty },
    ),
  ),
);
/** `ports` is what v1alpha2 had until November 2025, where `protocols` is now. */
const clusterRules = (peer: string, peers: TSchema) =>
  orNull(
    Type.Array(
      Type.Object(
        {
          name: Type.Optional(text),
          action: oneOf("Accept", "Deny", "Pass"),
          protocols: clusterProtocols,
          ports: Type.Optional(adminPorts),
          [peer]: Type.Array(peers, { minItems: 1 }),
        },
        strict,
      ),
    ),
  );
const clusterPods = { namespaces: selector, pods: adminSubject.properties["pods"]! };
const clusterPeer = only(clusterPods);
const clusterEgressPeer = only({
  ...clusterPods,
  nodes: selector,
  networks: Type.Array(text, { minItems: 1 }),
  domainNames: Type.Array(text, { minItems: 1 }),
});
const clusterNetworkPolicy = Type.Object(
  {
    tier: oneOf("Admin", "Baseline"),
    priority: Type.Integer({ minimum: 0, maximum: 1000 }),
    subject: exactlyOne(clusterPeer),
    ingress: Type.Optional(clusterRules("from", exactlyOne(clusterPeer))),
    egress: Type.Optional(clusterRules("to", exactlyOne(clusterEgressPeer))),
  },
  strict,
);

const mtls = orNull(only({ mode: oneOf("UNSET", "DISABLE", "PERMISSIVE", "STRICT") }));
const istioSelector = orNull(only({ matchLabels: labels }));
const peerAuthentication = only({
  selector: istioSelector,
  mtls,
  portLevelMtls: orNull(Type.Record(Type.String({ pattern: "^[0-9]{1,5}$" }), mtls)),
});

const clauses = (...names: string[]) =>
  only(
    Object.fromEntries(
      names.flatMap((n) => [
        [n, texts],
        [notOf(n), texts],
      ]),
    ),
  );
const notOf = (name: string) => `not${name[0]!.toUpperCase()}${name.slice(1)}`;
const authorizationPolicy = only({
  selector: istioSelector,
  targetRef: Type.Unknown(),
  targetRefs: orNull(Type.Array(Type.Unknown())),
  action: orNull(oneOf("ALLOW", "DENY", "AUDIT", "CUSTOM")),
  provider: orNull(only({ name: text })),
  rules: orNull(
    Type.Array(
      orNull(
        only({
          from: orNull(
            Type.Array(
              only({
                source: clauses(
                  ...["principals", "requestPrincipals", "namespaces", "serviceAccounts"],
                  ...["ipBlocks", "remoteIpBlocks"],
                ),
              }),
            ),
          ),
          to: orNull(
            Type.Array(only({ operation: clauses("hosts", "ports", "methods", "paths") })),
          ),
          when: orNull(Type.Array(only({ key: text, values: texts, notValues: texts }))),
        }),
      ),
    ),
  ),
});

const labelled = orNull(only({ matchLabels: labels, matchExpressions: Type.Unknown() }));
const template = Type.Object({
  metadata: Type.Optional(orNull(Type.Object({ labels: Type.Optional(labels) }))),
});
const workload = Type.Object({ selector: Type.Optional(labelled), template });

/** By kind and API group, the shape of `spec`; kinds that are not here have no fields we check. */
const SPECS: Readonly<Record<string, TSchema>> = {
  "NetworkPolicy.networking.k8s.io": networkPolicy,
  "AdminNetworkPolicy.policy.networking.k8s.io": adminNetworkPolicy,
  "BaselineAdminNetworkPolicy.policy.networking.k8s.io": baselineAdminNetworkPolicy,
  "ClusterNetworkPolicy.policy.networking.k8s.io": clusterNetworkPolicy,
  "PeerAuthentication.security.istio.io": peerAuthentication,
  "AuthorizationPolicy.security.istio.io": authorizationPolicy,
  "Segmentation.wireproof.io": Segmentation,
  ...CALICO_SPECS,
  ...LINKERD_SPECS,
  ...CONSUL_SPECS,
  "Deployment.apps": workload,
  "StatefulSet.apps": workload,
  "DaemonSet.apps": workload,
};

/** Objects never change, and most of them are in force for many versions of the policy. */
const found = new WeakMap<ClusterObject, Fault[]>();

/** Every wrong field of an object; empty for one that the API server would take. */
export function findFaults(object: ClusterObject): Fault[] {
  const known = found.get(object) ?? checkObject(object);
  found.set(object, known);
  return known;
}

/** YAML texts that tell how a mesh is set up, by the name of their ConfigMap. */
const SETTINGS: Readonly<Record<string, string>> = { istio: "mesh", "linkerd-config": "values" };

/** Settings that cannot be read are not the defaults. */
function findSettingsFaults({ name, body }: ClusterObject): Fault[] {
  const key = SETTINGS[name];
  const text = key === undefined ? null : textAt(body, "data", key);
  if (text === null) return [];
  const path = ["data", key!];
  const [error] = parseDocument(text).errors;
  if (error !== undefined) return [{ path, reason: error.message.split("\n")[0]! }];
  return isMap(readYaml(text)) ? [] : [{ path, reason: "must be a map" }];
}

function checkObject(object: ClusterObject): Fault[] {
  if (groupKind(object) === "ConfigMap.") return findSettingsFaults(object);
  if (isCiliumPolicy(object)) return [...findLabelFaults(object), ...findCiliumFaults(object)];
  const schema = SPECS[groupKind(object)];
  if (schema === undefined) return findLabelFaults(object);
  const spec = valueAt(object.body, "spec");
  const mayBeEmpty =
    object.apiVersion.startsWith("security.istio.io/") ||
    (object.apiVersion.startsWith("consul.hashicorp.com/") && object.kind !== "ServiceIntentions");
  if (spec === undefined || spec === null) {
    return mayBeEmpty ? [] : [{ path: ["spec"], reason: "is missing" }];
  }
  const shape = findSchemaFaults(schema, spec, ["spec"]);
  if (shape.length > 0) return shape;
  const references =
    schema === Segmentation ? findSegmentationFaults(spec as unknown as Segmentation) : [];
  const ofLinkerd = groupKind(object).endsWith(".policy.linkerd.io");
  return [
    ...[...findLabelFaults(object), ...walk(spec, ["spec"], ofLinkerd), ...references],
    ...(isOfCalico(object) ? findCalicoFaults(object, spec) : []),
    ...(ofLinkerd ? findLinkerdFaults(object, spec) : []),
    ...(object.kind === "ServiceIntentions" ? findIntentionFaults(spec) : []),
  ];
}

function findLabelFaults(object: ClusterObject): Fault[] {
  const found = valueAt(object.body, "metadata", "labels");
  if (found === undefined || found === null) return [];
  if (!isMap(found)) return [{ path: ["metadata", "labels"], reason: "must be a map" }];
  return Object.entries(found)
    .filter(([, value]) => typeof value !== "string")
    .map(([key]) => ({ path: ["metadata", "labels", key], reason: "must be a string" }));
}

/**
 * Rules between fields, wherever in a spec they stand (validation of the Kubernetes API). Linkerd
 * takes a single address (`bare`) where a range is meant; Kubernetes does not.
 */
function walk(value: Json | undefined, path: readonly (string | number)[], bare = false): Fault[] {
  if (Array.isArray(value)) {
    return value.flatMap((item, i) => walk(item as Json, [...path, i], bare));
  }
  if (!isMap(value)) return [];
  const faults: Fault[] = [];
  const fault = (reason: string, ...steps: (string | number)[]) =>
    faults.push({ path: [...path, ...steps], reason });
  const { operator, values, cidr, except, endPort, ipBlock, start, end } = value;
  if (typeof start === "number" && typeof end === "number" && end < start) {
    fault("must not be below start", "end");
  }
  if (typeof operator === "string" && "key" in value) {
    const count = Array.isArray(values) ? values.length : 0;
    const wants = operator === "In" || operator === "NotIn";
    if (wants && count === 0) fault(`operator ${operator} needs values`, "values");
    if (!wants && count > 0) fault(`operator ${operator} takes no values`, "values");
  }
  if (typeof endPort === "number") {
    if (typeof value["port"] !== "number") fault("needs a numeric port", "endPort");
    else if (endPort < value["port"]) fault("must not be below port", "endPort");
  }
  if (typeof cidr === "string") {
    const range = parseRange(cidr);
    if (range === null || !(bare || cidr.includes("/"))) fault("must be an address range", "cidr");
    for (const [i, entry] of (Array.isArray(except) ? except : []).entries()) {
      const inner = parseRange(String(entry));
      const inside = range && inner && inner.family === range.family;
      if (!inside || inner.first < range.first || inner.last > range.last) {
        fault("must be an address range inside cidr", "except", i);
      }
    }
  }
  if (ipBlock && (value["podSelector"] || value["namespaceSelector"])) {
    fault("must not stand beside a selector", "ipBlock");
  }
  for (const list of ["ipBlocks", "notIpBlocks", "cidrs", "networks"]) {
    const entries = value[list];
    for (const [i, entry] of (Array.isArray(entries) ? entries : []).entries()) {
      if (isMap(entry)) continue; // a range with its exceptions, read by `cidr`
      if (parseRange(String(entry)) === null) fault("must be an address or a range", list, i);
    }
  }
  for (const [key, inner] of Object.entries(value))
    faults.push(...walk(inner, [...path, key], bare));
  return faults;
}
