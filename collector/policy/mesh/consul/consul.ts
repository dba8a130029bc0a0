/** Judges connections by Consul's intentions and proxies, as its Envoy configuration holds them. */
import type { ClusterObject } from "../../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../../attribution/holder.ts";
import { toBecause, UNDECLARED, type Decision } from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import {
  ANY_TRANSPORT,
  byMesh,
  toTransport,
  toUnknown,
  type Carried,
  type MeshSay,
} from "../mesh-say.ts";
import type { Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";
import { ServiceTargets } from "../service-target.ts";
import { Intentions, type Service } from "./intentions.ts";
import {
  ConsulSettings,
  readPodSettings,
  type PodSettings,
  type ServiceSettings,
} from "./settings.ts";

const PREFIX = "consul.hashicorp.com/";

export class ConsulPolicies {
  private readonly intentions: Intentions;
  private readonly consul: ConsulSettings;
  private readonly targets: ServiceTargets;
  private readonly settings = new WeakMap<Holder, PodSettings>();

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    this.intentions = new Intentions(objects, faultsOf);
    this.consul = new ConsulSettings(objects, faultsOf);
    this.targets = new ServiceTargets(objects);
  }

  /** Reports whether any intention names the pod's service, and not only every service. */
  isSelected(pod: Holder): boolean {
    return pod.kind === "pod" && this.intentions.names(this.serviceOf(pod, true, null));
  }

  /** `meshed`: whether the client's proxy would prove an identity. TCP only. */
  judge(client: Holder, meshed: Ternary, server: Holder, port: number): MeshSay {
    const settings = this.settingsOf(server);
    const gateway = server.annotations[`${PREFIX}gateway-kind`];
    if (gateway !== undefined) {
      const sentence = `undecidable: ${formatHolder(server)} is a ${gateway}: it has its own rules`;
      return toUnknown([toBecause(server.object!, `annotation ${PREFIX}gateway-kind`, sentence)]);
    }
    const at = port - settings.publicPort;
    const isPublic = at >= 0 && at < Math.max(settings.services.length, 1);
    const aside = isPublic ? null : this.passesBy(server, port, settings);
    if (aside !== null) return aside;
    const own = this.serviceOf(server, true, isPublic ? null : port);
    const picked = isPublic ? settings.services[at] : undefined;
    const service = picked === undefined ? own : { ...own, names: [picked], isKnown: true };
    const all = service.names.map((name) => this.consul.of(name));
    const proxy = mergeSettings(all.length === 0 ? [this.consul.of("")] : all);
    if (!isPublic && proxy.exposed.has(port)) {
      const sentence = `${formatHolder(server)} opens port ${port} in plaintext for one path`;
      return {
        decision: UNDECLARED,
        transport: toTransport("any", { plaintext: true, tls: false, mtls: false }),
        transportBecause: [toBecause(server.object!, "spec.expose.paths", sentence)],
      };
    }
    const isOpen = isPublic || !isServicePort(server, port, settings) ? false : proxy.isPermissive;
    const identified = this.isIdentified(client, meshed, server, port);
    const who = this.serviceOf(client, identified, null);
    const listener = toBecause(
      server.object!,
      "consul.hashicorp.com/connect-inject",
      `${formatHolder(server)}: its proxy takes mutual TLS with an identity of the mesh only`,
    );
    return {
      decision: this.decide(who, service, { identified, isOpen }, proxy, listener),
      transport:
        isOpen === true
          ? ANY_TRANSPORT
          : byMesh(
              toTransport(isOpen === null ? null : "mtls", {
                plaintext: isOpen,
                tls: isOpen,
                mtls: true,
              }),
              "consul",
              null, // `<uuid>.consul`, made by the servers when they first start
            ),
      transportBecause: [...proxy.because, ...(isOpen === true ? [] : [listener])],
      ...(isOpen === true ? {} : { minVersion: this.consul.minVersion }),
      carried: isPublic ? null : carry(identified, port, settings),
    };
  }

  private settingsOf(pod: Holder): PodSettings {
    const known = this.settings.get(pod);
    if (known !== undefined) return known;
    const settings = readPodSettings(pod, pod.spec);
    this.settings.set(pod, settings);
    return settings;
  }

  /** What does not go to the proxy: excluded ports, and all of a pod that is not transparent. */
  private passesBy(server: Holder, port: number, settings: PodSettings): MeshSay | null {
    const { excludedInbound, isTransparent, hasMetrics, metricsPort } = settings;
    const pod = server.object!;
    const name = formatHolder(server);
    const unknown = (rule: string) =>
      toUnknown([
        toBecause(pod, rule, `undecidable: whether port ${port} of ${name} goes to its proxy`),
      ]);
    if (isTransparent === null) return unknown(`annotation ${PREFIX}transparent-proxy`);
    const excluded = `annotation ${PREFIX}transparent-proxy-exclude-inbound-ports`;
    if (isTransparent && excludedInbound === null) return unknown(excluded);
    if (isTransparent && port === metricsPort && hasMetrics === null) {
      return unknown(`annotation ${PREFIX}enable-metrics`);
    }
    if (isTransparent && !excludedInbound!.has(port)) return null;
    const rule = isTransparent ? excluded : `annotation ${PREFIX}transparent-proxy`;
    const why = isTransparent ? "is left out" : "is not turned to its proxy";
    const sentence = `port ${port} of ${name} ${why}: the program decides`;
    const because = [toBecause(pod, rule, sentence)];
    return { decision: UNDECLARED, transport: ANY_TRANSPORT, transportBecause: because };
  }

  private isIdentified(client: Holder, meshed: Ternary, server: Holder, port: number): Ternary {
    if (meshed !== true) return meshed;
    const { excludedOutbound, hasExcludedNetworks, isTransparent } = this.settingsOf(client);
    if (isTransparent !== true || excludedOutbound === null || hasExcludedNetworks) return null;
    const dialled = [port, ...this.targets.portsTo(server, port)];
    const skipped = dialled.filter((p) => excludedOutbound.has(p)).length;
    return skipped === 0 ? true : skipped === dialled.length ? false : null;
  }

  /**
   * The service that a pod is to Consul: what its annotation says, else the Kubernetes Service that
   * selects it (endpoints_controller.go serviceName). `port` picks one of a pod with several.
   */
  private serviceOf(pod: Holder, identified: Ternary, port: number | null): Service {
    const annotation = (name: string) => pod.annotations[PREFIX + name];
    const gateway = annotation("gateway-kind");
    const known = annotation("consul-namespace");
    const base = {
      namespace: known ?? (this.intentions.hasNamespaces ? pod.namespace : "default"),
      isNamespaceKnown: known !== undefined || !this.intentions.hasNamespaces,
      // A mesh gateway hands on the connections of others, with their identities.
      isExternal: pod.kind !== "pod" || gateway === "mesh-gateway",
    };
    if (identified === false) return { ...base, names: [], isKnown: false };
    if (base.isExternal) return { ...base, names: [], isKnown: null };
    const names = this.namesOf(pod, port);
    return { ...base, names, isKnown: names.length > 0 ? true : null };
  }

  private namesOf(pod: Holder, port: number | null): readonly string[] {
    const { services, ports } = this.settingsOf(pod);
    const gateway = pod.annotations[`${PREFIX}gateway-consul-service-name`];
    if (gateway !== undefined) return [gateway];
    if (services.length > 1) {
      const at = port === null ? -1 : ports.indexOf(port);
      return at >= 0 && services[at] !== undefined ? [services[at]] : services;
    }
    if (services.length === 1) return services;
    const named = pod.annotations[`${PREFIX}kubernetes-service`];
    if (named !== undefined) return [named];
    return this.targets
      .selecting(pod)
      .filter((service) => service.labels[`${PREFIX}service-ignore`] !== "true")
      .map((service) => service.name);
  }

  private decide(
    client: Service,
    server: Service,
    { identified, isOpen }: { identified: Ternary; isOpen: Ternary },
    proxy: ServiceSettings,
    listener: Because,
  ): Decision {
    const { defaultAction } = this.consul;
    const isDeclared = this.intentions.isFor(server);
    if (identified === false) {
      // Past the proxy's mutual TLS nothing asks for intentions.
      if (isOpen === true || (!isDeclared && defaultAction.action !== "deny")) return UNDECLARED;
      if (isOpen === null) return { path: "undecidable", because: proxy.because };
      const sentence = `denied: ${listener.sentence}, and the client has none`;
      const because = [{ ...listener, sentence }, ...defaultAction.because];
      return { path: "denied", because };
    }
    const decision = this.decideIdentified(client, server, proxy, isDeclared, listener);
    if (identified === true || decision.path === "undeclared") return decision;
    const isSame = decision.path === "denied" && isOpen === false;
    return isSame ? decision : { path: "undecidable", because: [listener, ...decision.because] };
  }

  private decideIdentified(
    client: Service,
    server: Service,
    proxy: ServiceSettings,
    isDeclared: boolean,
    listener: Because,
  ): Decision {
    const { defaultAction } = this.consul;
    const { action, because, permissions } = this.intentions.decide(client, server);
    switch (action) {
      case "allow":
        return { path: "allowed", because };
      case "deny":
        return toDenial(because, proxy);
      case "unknown":
        return { path: "undecidable", because };
      case "http":
        // "In case L7 intentions slip through to here, treat them as deny" (agent/xds/rbac.go).
        if (proxy.isHttp === false && proxy.isProtocolDeclared) return toDenial(because, proxy);
        if (permissions !== undefined && permissions.every((p) => p === defaultAction.action)) {
          const all = [...because, ...defaultAction.because];
          return defaultAction.action === "allow"
            ? { path: "allowed", because: all }
            : toDenial(all, proxy);
        }
        return { path: "undecidable", because };
      case "none":
        return this.byDefault(proxy, isDeclared, noDefault(listener));
    }
  }

  private byDefault(proxy: ServiceSettings, isDeclared: boolean, nothing: Because): Decision {
    const { action, because } = this.consul.defaultAction;
    if (action === "deny") return toDenial(because, proxy);
    if (!isDeclared) return UNDECLARED;
    if (action === "allow") return { path: "allowed", because };
    return { path: "undecidable", because: because.length > 0 ? because : [nothing] };
  }
}

function noDefault(listener: Because): Because {
  const sentence =
    "undecidable: no intention speaks of the two, and the default of Consul's servers is not " +
    "declared (ConfigMap …-server-config)";
  return { ...listener, rule: "default_intention_policy", sentence };
}

/** HTTP is answered with 403 inside of the encryption; other protocols' connections are closed. */
function toDenial(because: readonly Because[], { isHttp }: ServiceSettings): Decision {
  if (isHttp === false) return { path: "denied", because };
  const inBand = because.map((b, i) =>
    i > 0 ? b : { ...b, sentence: `denial-in-band: ${b.sentence}; HTTP is answered with 403` },
  );
  return { path: "undecidable", because: inBand };
}

/** Several services that a port may be: only what all of them say. */
function mergeSettings(all: readonly ServiceSettings[]): ServiceSettings {
  const same = (values: readonly Ternary[]): Ternary =>
    new Set(values).size === 1 ? values[0]! : null;
  return {
    isHttp: same(all.map((one) => one.isHttp)),
    isProtocolDeclared: all.every((one) => one.isProtocolDeclared),
    isPermissive: same(all.map((one) => one.isPermissive)),
    exposed: new Set(all.flatMap((one) => [...one.exposed])),
    because: all.flatMap((one) => one.because),
  };
}

/**
 * Client proxies dial the public listener, one for each service of the pod in their order
 * (consul-k8s, connect-inject/constants ProxyDefaultInboundPort).
 */
function carry(identified: Ternary, port: number, settings: PodSettings): Carried | null {
  if (identified === false) return null;
  const { publicPort, services, ports } = settings;
  const at = services.length > 1 ? ports.indexOf(port) : 0;
  const all = Array.from({ length: Math.max(services.length, 1) }, (_, i) => publicPort + i);
  return { ports: at >= 0 ? [publicPort + at] : all, by: "Consul's client proxy" };
}

/** Whether it is the service's own port, which permissive mutual TLS leaves open. */
function isServicePort(server: Holder, port: number, { ports }: PodSettings): boolean {
  const own = ports.filter((p) => p !== null);
  return own.length > 0 ? own.includes(port) : server.ports.some((p) => p.port === port);
}
