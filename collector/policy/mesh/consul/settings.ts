/** Reads what Consul's intentions are read with: its servers' settings, and its defaults. */
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { formatObject, toBecause, toFaultBecause } from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import type { Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";
import { CONSUL, settingsOf } from "../../manifest/control-plane.ts";
import { containersOf } from "../container.ts";

/** What holds where no intention speaks; null action: nothing declares it. */
export type DefaultAction = { action: "allow" | "deny" | null; because: readonly Because[] };

/** What a service's proxy does with what comes in. */
export type ServiceSettings = {
  /** Null where it depends on what is not valid. */
  isHttp: Ternary;
  /** Whether something declares the protocol, or Consul's own `tcp` stands in. */
  isProtocolDeclared: boolean;
  isPermissive: Ternary;
  /** Ports that Envoy opens in plaintext for one path each. */
  exposed: ReadonlySet<number>;
  because: readonly Because[];
};

/** Protocols that Envoy reads as HTTP (agent/structs/config_entry.go IsProtocolHTTPLike). */
const HTTP = new Set(["http", "http2", "grpc"]);

export class ConsulSettings {
  readonly defaultAction: DefaultAction;
  /** The lowest TLS version that proxies take, as a record names it: `TLSv1.2`. */
  readonly minVersion: string | null;
  private readonly mesh: ClusterObject | null;
  private readonly proxyDefaults: ClusterObject | null;
  private readonly serviceDefaults: ReadonlyMap<string, ClusterObject[]>;
  private readonly faultsOf: (object: ClusterObject) => readonly Fault[];

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    this.faultsOf = faultsOf;
    const ofConsul = objects.filter((o) => o.apiVersion.startsWith("consul.hashicorp.com/"));
    this.mesh = ofConsul.find((o) => o.kind === "Mesh") ?? null;
    this.proxyDefaults =
      ofConsul.find((o) => o.kind === "ProxyDefaults" && o.name === "global") ?? null;
    const defaults = ofConsul.filter((o) => o.kind === "ServiceDefaults");
    this.serviceDefaults = Map.groupBy(defaults, ({ name }) => name);
    this.defaultAction = readDefaultAction(objects);
    const minimum = textAt(this.mesh?.body, "spec", "tls", "incoming", "tlsMinVersion");
    this.minVersion = /^TLSv1_[0-3]$/.test(minimum ?? "") ? minimum!.replace("_", ".") : null;
  }

  /** `service` as Consul names it. */
  of(service: string): ServiceSettings {
    const own = this.serviceDefaults.get(service) ?? [];
    const global = this.proxyDefaults === null ? [] : [this.proxyDefaults];
    const all = [...own, ...global];
    const broken = all.flatMap((object) => {
      const fault = this.faultsOf(object)[0];
      return fault === undefined ? [] : [toFaultBecause(object, fault)];
    });
    const unknown = { isHttp: null, isProtocolDeclared: true, isPermissive: null };
    if (broken.length > 0) return { ...unknown, exposed: new Set(), because: broken };
    const protocols = own.flatMap((o) => textAt(o.body, "spec", "protocol") ?? []);
    const wide = textAt(this.proxyDefaults?.body, "spec", "config", "protocol");
    const told = protocols.length > 0 ? protocols : wide === null ? [] : [wide];
    const kinds = new Set(told.map((protocol) => HTTP.has(protocol.toLowerCase())));
    const mode = this.modeOf(own);
    return {
      isHttp: kinds.size > 1 ? null : kinds.has(true),
      isProtocolDeclared: told.length > 0,
      isPermissive: mode.isPermissive,
      exposed: new Set(
        all.flatMap((o) =>
          listAt(o.body, "spec", "expose", "paths").flatMap((path) => {
            const port = valueAt(path, "listenerPort");
            return typeof port === "number" ? [port] : [];
          }),
        ),
      ),
      because: mode.because,
    };
  }

  /**
   * The service's own mode comes before that of all proxies. Permissive takes Mesh's consent to be
   * written; what was written before the consent was taken back stays.
   */
  private modeOf(own: readonly ClusterObject[]): Pick<ServiceSettings, "isPermissive" | "because"> {
    const ranked = [...own, ...(this.proxyDefaults === null ? [] : [this.proxyDefaults])];
    const found = ranked.find((o) => textAt(o.body, "spec", "mutualTLSMode") !== null);
    if (found === undefined) return { isPermissive: false, because: [] };
    const mode = textAt(found.body, "spec", "mutualTLSMode");
    const rule = "spec.mutualTLSMode";
    const sentence = `${formatObject(found)}: mutual TLS is ${mode}`;
    if (mode === "strict") {
      return { isPermissive: false, because: [toBecause(found, rule, sentence)] };
    }
    const consent =
      valueAt(this.mesh?.body, "spec", "allowEnablingPermissiveMutualTLS") === true &&
      this.faultsOf(this.mesh!).length === 0;
    if (consent) {
      const plain = `${sentence}: what is not mutual TLS goes to the program, past all intentions`;
      return { isPermissive: true, because: [toBecause(found, rule, plain)] };
    }
    const unsure =
      `undecidable: ${sentence}, which Mesh does not allow (allowEnablingPermissiveMutualTLS): ` +
      "it holds only if it was written before";
    return { isPermissive: null, because: [toBecause(found, rule, unsure)] };
  }
}

/**
 * The servers' `default_intention_policy`, else the default policy of their access lists; where
 * these are off everything is allowed. Helm keeps it in the ConfigMap `…-server-config`.
 */
export function readDefaultAction(
  objects: readonly ClusterObject[],
  map: ClusterObject | null = settingsOf(CONSUL, objects),
): DefaultAction {
  const data = valueAt(map?.body, "data");
  if (map === null || !isMap(data)) return { action: null, because: [] };
  return readServerFiles(
    map,
    Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

function readServerFiles(
  map: ClusterObject,
  files: readonly (readonly [string, Json | undefined])[],
): DefaultAction {
  let [intention, access, isOn]: (string | boolean | null)[] = [null, null, false];
  for (const [name, text] of files) {
    if (!name.endsWith(".json")) continue;
    const parsed = parse(text);
    if (parsed === null) {
      const sentence = `undecidable: ${name} of ${formatObject(map)} cannot be read`;
      return { action: null, because: [toBecause(map, `data.${name}`, sentence)] };
    }
    // Later files come over earlier ones.
    intention = textAt(parsed, "default_intention_policy") ?? intention;
    access = textAt(parsed, "acl", "default_policy") ?? access;
    const enabled = valueAt(parsed, "acl", "enabled");
    if (typeof enabled === "boolean") isOn = enabled;
  }
  const told = intention ?? (isOn === true ? (access ?? "allow") : "allow");
  const field = intention !== null ? "default_intention_policy" : "acl.default_policy";
  const why = intention === null && isOn !== true ? " (access lists are off)" : "";
  if (told !== "allow" && told !== "deny") {
    const sentence = `undecidable: ${field} of ${formatObject(map)} is ${String(told)}`;
    return { action: null, because: [toBecause(map, field, sentence)] };
  }
  const sentence = `${formatObject(map)}: without an intention ${told} holds${why}`;
  return { action: told, because: [toBecause(map, field, sentence)] };
}

function parse(text: Json | undefined): Json | null {
  try {
    return typeof text === "string" ? (JSON.parse(text) as Json) : null;
  } catch {
    return null;
  }
}

const PREFIX = "consul.hashicorp.com/";
/** Ports of connect-inject/constants and of its webhook. */
const PUBLIC_PORT = 20000;
const HEALTH_PORT = 21000;
const PROBE_PORTS = { livenessProbe: 20300, readinessProbe: 20400, startupProbe: 20500 };

/** What a pod's manifest says to the webhook that puts the proxy into it. */
export type PodSettings = {
  /** Services of a pod with several, in the order of their ports; else none or one. */
  services: readonly string[];
  ports: readonly (number | null)[];
  publicPort: number;
  /** Whether all that comes in goes to the proxy. */
  isTransparent: Ternary;
  /** Ports that do not; null where the list cannot be read. */
  excludedInbound: ReadonlySet<number> | null;
  excludedOutbound: ReadonlySet<number> | null;
  hasExcludedNetworks: boolean;
  /** The port of its metrics, which may be left out of the proxy. */
  metricsPort: number;
  hasMetrics: Ternary;
};

export function readPodSettings(pod: Holder, spec: Json | undefined): PodSettings {
  const annotation = (name: string) => pod.annotations[PREFIX + name] ?? null;
  const list = (name: string) =>
    (annotation(name) ?? "")
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  const redirect = parse(annotation("redirect-traffic-config") ?? undefined);
  const excluded = (name: string, field: string) =>
    toPorts([...list(name), ...listAt(redirect ?? undefined, field).map(String)]);
  const inbound = excluded("transparent-proxy-exclude-inbound-ports", "ExcludeInboundPorts");
  const metrics = toFlag(annotation("enable-metrics"));
  const metricsPort = Number(annotation("prometheus-scrape-port")) || 20200;
  const own = probePorts(spec, annotation("transparent-proxy-overwrite-probes") !== "false");
  const health = annotation("use-proxy-health-check") === "true" ? [HEALTH_PORT] : [];
  const scraped = metrics === true ? [metricsPort] : [];
  const isTransparent =
    annotation("transparent-proxy") ?? pod.namespaceLabels[`${PREFIX}transparent-proxy`] ?? null;
  return {
    services: list("connect-service"),
    ports: list("connect-service-port").map((part) => toPort(part, pod)),
    publicPort: PUBLIC_PORT,
    // Helm's own default is on.
    isTransparent: isTransparent === null ? true : toFlag(isTransparent),
    excludedInbound: inbound && new Set([...inbound, ...own, ...health, ...scraped]),
    excludedOutbound: excluded("transparent-proxy-exclude-outbound-ports", "ExcludeOutboundPorts"),
    hasExcludedNetworks: list("transparent-proxy-exclude-outbound-cidrs").length > 0,
    metricsPort,
    hasMetrics: metrics,
  };
}

/** Probes are turned to ports of their own, one for each container (webhook overwriteProbes). */
function probePorts(spec: Json | undefined, isOn: boolean): number[] {
  const containers = listAt(spec, "containers").filter(
    (container) => textAt(container, "name") !== "consul-dataplane",
  );
  if (!isOn || containersOf(spec).length === 0) return [];
  return containers.flatMap((container, i) =>
    Object.entries(PROBE_PORTS).flatMap(([probe, first]) =>
      isMap(valueAt(container, probe, "httpGet")) ? [first + i] : [],
    ),
  );
}

function toPort(text: string, pod: Holder): number | null {
  const number = Number(text);
  if (Number.isInteger(number)) return number;
  return pod.ports.find((p) => p.name === text && p.transport === "TCP")?.port ?? null;
}

function toPorts(texts: readonly string[]): ReadonlySet<number> | null {
  const ports = texts.map(Number);
  return ports.every((p) => Number.isInteger(p) && p >= 1 && p <= 65535) ? new Set(ports) : null;
}

/** As Go's strconv.ParseBool reads it; null for what it does not take. */
function toFlag(text: string | null): Ternary {
  if (text === null) return null;
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  return /^(0|f|F|FALSE|false|False)$/.test(text) ? false : null;
}
