/** Reads what Linkerd's policies are read with: the control plane's settings, and a workload's. */
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import { parseRange } from "../../../attribution/address.ts";
import type { Holder, HolderObject } from "../../../attribution/holder.ts";
import type { Block } from "../../decision/block.ts";
import type { Ternary } from "../../decision/ternary.ts";
import { containerOf, homeOf, LINKERD, settingsOf } from "../../manifest/control-plane.ts";
import { readYaml } from "../../manifest/yaml-text.ts";
import { containersOf, readArgument, readEnv } from "../container.ts";

export type DefaultPolicy =
  | "all-authenticated"
  | "all-unauthenticated"
  | "cluster-authenticated"
  | "cluster-unauthenticated"
  | "deny"
  | "audit";

/** Null where the settings are not declared. */
export type TransportMode = "transport-header" | "transparent";

/** Ascending or not; null where the text is no list of ports. */
export type PortList = readonly (readonly [first: number, last: number])[] | null;

/** A setting, with the object and the field that say so; null for the chart's own default. */
export type Stated<T> = { value: T; object: HolderObject | null; rule: string };

export type ClusterSettings = {
  /** Whether the control plane's own objects are declared: its names are then certain. */
  isDeclared: boolean;
  controlNamespace: string;
  trustDomain: string;
  /** Null where nothing that could be read tells it. */
  declaredTrustDomain: string | null;
  /** Null where the name is none of Linkerd's. */
  defaultPolicy: Stated<DefaultPolicy | null>;
  clusterNetworks: readonly Block[];
  probeNetworks: readonly Block[];
  opaquePorts: PortList;
  ignoredInbound: PortList;
  ignoredOutbound: PortList;
  proxyPorts: { inbound: number; admin: number; control: number };
  /** Which port a meshed client dials: the proxy's inbound port, or the program's own. */
  transportMode: Stated<TransportMode | null>;
};

/** Defaults of charts/linkerd-control-plane/values.yaml. */
export const NETWORKS = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8";
const OPAQUE = "25,587,3306,4444,5432,6379,9300,11211";
const IGNORED = "4567,4568";

const POLICIES: ReadonlySet<string> = new Set<DefaultPolicy>([
  ...(["all-authenticated", "all-unauthenticated", "cluster-authenticated"] as const),
  ...(["cluster-unauthenticated", "deny", "audit"] as const),
]);

export function toDefaultPolicy(text: string): DefaultPolicy | null {
  return POLICIES.has(text) ? (text as DefaultPolicy) : null;
}

/** `25,3306,9000-9010`; null where any part is neither a port nor a range (parse_portset). */
export function parsePorts(text: string): PortList {
  const ports: [number, number][] = [];
  for (const part of text.split(",")) {
    if (part.trim() === "") continue;
    const found = /^\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?$/.exec(part);
    const first = Number(found?.[1]);
    const last = Number(found?.[2] ?? found?.[1]);
    if (found === null || first < 1 || last > 65535 || last < first) return null;
    ports.push([first, last]);
  }
  return ports;
}

export function isAmong(ports: PortList, port: number): Ternary {
  return ports === null ? null : ports.some(([first, last]) => first <= port && port <= last);
}

/** What the control plane was installed with: its ConfigMap, and its policy controller's flags. */
export function readClusterSettings(
  objects: readonly ClusterObject[],
  map: ClusterObject | null = settingsOf(LINKERD, objects),
): ClusterSettings {
  const values = readValues(map);
  const home = homeOf(LINKERD, objects).namespace;
  const controller =
    objects.find((o) => o.namespace === home && containerOf(LINKERD, o) !== null) ?? null;
  const flags = (controller && containerOf(LINKERD, controller)) ?? undefined;
  const state = (flag: string | null, ...path: string[]): Stated<string | null> => {
    const told = flag === null ? null : readArgument(flags, flag);
    if (told !== null) return { value: told, object: controller, rule: `args ${flag}` };
    const value = toText(valueAt(values, ...path));
    return { value, object: value === null ? null : map, rule: `data.values ${path.join(".")}` };
  };
  const policy = state("--default-policy", "proxy", "defaultInboundPolicy");
  const domain = state("--identity-domain", "identityTrustDomain").value;
  const ofCluster = isMap(values)
    ? (toText(valueAt(values, "clusterDomain")) ?? "cluster.local")
    : null;
  const declaredTrustDomain = domain ?? ofCluster;
  const probes = state("--probe-networks").value ?? joinList(valueAt(values, "policyController"));
  const mode = state(null, "proxy", "outboundTransportMode");
  const proxyPort = (name: string, standard: number) => {
    const found = valueAt(values, "proxy", "ports", name);
    return typeof found === "number" ? found : standard;
  };
  const ports = (path: string[], standard: string) =>
    parsePorts(toText(valueAt(values, ...path)) ?? standard);
  return {
    isDeclared: map !== null || controller !== null,
    controlNamespace: home,
    trustDomain: declaredTrustDomain ?? "cluster.local",
    declaredTrustDomain,
    defaultPolicy: {
      ...policy,
      value:
        policy.value !== null
          ? toDefaultPolicy(policy.value)
          : values === null
            ? null // it may say anything
            : "all-unauthenticated",
    },
    clusterNetworks: toBlocks(state("--cluster-networks", "clusterNetworks").value ?? NETWORKS),
    probeNetworks: toBlocks(probes ?? "0.0.0.0/0,::/0"),
    opaquePorts: ports(["proxy", "opaquePorts"], OPAQUE),
    ignoredInbound: ports(["proxyInit", "ignoreInboundPorts"], IGNORED),
    ignoredOutbound: ports(["proxyInit", "ignoreOutboundPorts"], IGNORED),
    proxyPorts: {
      inbound: proxyPort("inbound", 4143),
      admin: proxyPort("admin", 4191),
      control: proxyPort("control", 4190),
    },
    transportMode: {
      ...mode,
      object: mode.object ?? (isMap(values) ? map : null),
      // Charts before 2.18 know no mode: meshed clients dial the program's own port.
      value: toMode(mode.value) ?? (isMap(values) ? "transparent" : null),
    },
  };
}

/** Undefined where there is no text; null where it cannot be read. */
function readValues(map: ClusterObject | null): Json | undefined {
  const text = textAt(map?.body, "data", "values");
  if (text === null) return undefined;
  const values = readYaml(text);
  return isMap(values) ? values : null;
}

function toMode(text: string | null): TransportMode | null {
  return text === "transport-header" || text === "transparent" ? text : null;
}

function toText(value: Json | undefined): string | null {
  if (typeof value === "number") return String(value);
  return typeof value === "string" && value !== "" ? value : null;
}

function joinList(controller: Json | undefined): string | null {
  const list = listAt(controller, "probeNetworks");
  return list.length === 0 ? null : list.join(",");
}

function toBlocks(text: string): Block[] {
  return text.split(",").flatMap((entry) => {
    const range = parseRange(entry.trim());
    return range === null ? [] : [{ range, except: [] }];
  });
}

/** What a pod's own manifest says to its proxy. */
export type WorkloadSettings = {
  defaultPolicy: Stated<DefaultPolicy | null>;
  /** Whether the policy is the whole cluster's, and nothing nearer to the pod says it. */
  isClusterWide: boolean;
  opaque: PortList;
  requireIdentity: PortList;
  skipInbound: PortList;
  skipOutbound: PortList;
  skipSubnets: readonly Block[];
  inboundPort: number;
  adminPort: number;
  controlPort: number;
  /** Ports with an HTTP probe of the kubelet's. */
  probes: ReadonlySet<number>;
};

const PREFIX = "config.linkerd.io/";

/**
 * A pod that runs the proxy has its settings since it was made, and its own annotations tell them.
 * One that is yet to be made inherits those of its namespace (AppendNamespaceAnnotations).
 */
export function readWorkloadSettings(pod: Holder, cluster: ClusterSettings): WorkloadSettings {
  const containers = containersOf(pod.spec);
  const proxy = containers.find((c) => textAt(c, "name") === "linkerd-proxy");
  const init = containers.find((c) => textAt(c, "name") === "linkerd-init");
  const isInjected = pod.containers.includes("linkerd-proxy");
  const annotation = (name: string): string | null => {
    const own = pod.annotations[PREFIX + name];
    return own ?? (isInjected ? null : (pod.namespaceAnnotations[PREFIX + name] ?? null));
  };
  const list = (name: string, otherwise: PortList): PortList => {
    const text = annotation(name);
    return text === null ? otherwise : parsePorts(text);
  };
  const told = (flag: string): PortList | undefined => {
    const text = readArgument(init, flag);
    return text === null ? undefined : parsePorts(text);
  };
  const proxyPort = (name: string, standard: number) => Number(annotation(name)) || standard;
  const exposed = new Set(
    containers.flatMap((c) => listAt(c, "ports").map((p) => valueAt(p, "containerPort"))),
  );
  const defaults = (cluster.opaquePorts ?? []).flatMap(([first, last]) =>
    [...exposed].flatMap((p): [number, number][] =>
      typeof p === "number" && first <= p && p <= last ? [[p, p]] : [],
    ),
  );
  return {
    ...readDefaultPolicy(pod, cluster, isInjected, proxy),
    opaque: list("opaque-ports", isInjected ? [] : defaults),
    requireIdentity: list("proxy-require-identity-inbound-ports", []),
    skipInbound:
      told("--inbound-ports-to-ignore") ?? list("skip-inbound-ports", cluster.ignoredInbound),
    skipOutbound:
      told("--outbound-ports-to-ignore") ?? list("skip-outbound-ports", cluster.ignoredOutbound),
    skipSubnets: toBlocks(annotation("skip-subnets") ?? ""),
    inboundPort: proxyPort("inbound-port", cluster.proxyPorts.inbound),
    adminPort: proxyPort("admin-port", cluster.proxyPorts.admin),
    controlPort: proxyPort("control-port", cluster.proxyPorts.control),
    probes: new Set(containers.flatMap(readProbePorts)),
  };
}

function readDefaultPolicy(
  pod: Holder,
  cluster: ClusterSettings,
  isInjected: boolean,
  proxy: Json | undefined,
): Pick<WorkloadSettings, "defaultPolicy" | "isClusterWide"> {
  const name = `${PREFIX}default-inbound-policy`;
  const own = pod.annotations[name];
  const inherited = isInjected ? undefined : pod.namespaceAnnotations[name];
  const text = own ?? inherited;
  if (text !== undefined) {
    const rule =
      own === undefined ? `annotation ${name} of namespace ${pod.namespace}` : `annotation ${name}`;
    const value = toDefaultPolicy(text);
    return { defaultPolicy: { value, object: pod.object, rule }, isClusterWide: false };
  }
  const env = readEnv(proxy, "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY");
  if (cluster.defaultPolicy.object === null && env !== null) {
    const rule = "env LINKERD2_PROXY_INBOUND_DEFAULT_POLICY";
    const defaultPolicy = { value: toDefaultPolicy(env), object: pod.object, rule };
    return { defaultPolicy, isClusterWide: true };
  }
  return { defaultPolicy: cluster.defaultPolicy, isClusterWide: true };
}

/** Ports of a container's HTTP probes, by number or by the name of one of its own ports. */
function readProbePorts(container: Json): number[] {
  return ["livenessProbe", "readinessProbe", "startupProbe"].flatMap((probe) => {
    const port = valueAt(container, probe, "httpGet", "port");
    if (typeof port === "number") return [port];
    const named = listAt(container, "ports").find((p) => {
      const isTcp = (textAt(p, "protocol") ?? "TCP").toUpperCase() === "TCP";
      return isTcp && (textAt(p, "name") ?? "").toLowerCase() === String(port).toLowerCase();
    });
    const number = typeof port === "string" ? valueAt(named, "containerPort") : undefined;
    return typeof number === "number" ? [number] : [];
  });
}
