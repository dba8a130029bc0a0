/** Judges connections by Linkerd's policy, as its control plane and proxies do. */
import type { ClusterObject } from "../../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../../attribution/holder.ts";
import {
  combine,
  formatObject,
  toBecause,
  toFaultBecause,
  UNDECLARED,
} from "../../decision/because.ts";
import type { Decision } from "../../decision/because.ts";
import type { Because } from "../../expectation.ts";
import {
  ANY_TRANSPORT,
  byMesh,
  toTransport,
  toUnknown,
  type MeshSay,
  type Transport,
} from "../mesh-say.ts";
import { isInBlocks } from "../../decision/block.ts";
import { and, or, type Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";
import { ServiceTargets } from "../service-target.ts";
import {
  Authorizations,
  isInNetworks,
  matchesClient,
  ofDefaultPolicy,
  parentServers,
  routeKey,
  toIdentity,
  type Authorization,
  type Client,
  type Ignored,
} from "./authorization.ts";
import { toCarried } from "./carried.ts";
import { Servers, type ProxyProtocol, type Server } from "./server.ts";
import {
  isAmong,
  readClusterSettings,
  readWorkloadSettings,
  toDefaultPolicy,
  type ClusterSettings,
  type DefaultPolicy,
  type WorkloadSettings,
} from "./settings.ts";

/** What holds on one port of one pod. */
type Port = {
  number: number;
  protocol: ProxyProtocol;
  /** Who says so: `Server a/web`, or the default policy's name and place. */
  title: Because;
  authorizations: readonly Authorization[];
  ofRoutes: readonly Authorization[];
  ignored: readonly Ignored[];
  /** Whether the kubelet's probes are let in, whatever else holds. */
  isProbed: boolean;
  /** Everybody may come in, and only the cluster's own default says so. */
  isOpenByDefault: boolean;
};

export class LinkerdPolicies {
  private readonly cluster: ClusterSettings;
  private readonly servers: Servers;
  private readonly authorizations: Authorizations;
  private readonly targets: ServiceTargets;
  /** Keys of the routes that are bound to a Server, by `namespace/name`. */
  private readonly routes = new Map<string, Set<string>>();
  private readonly settings = new WeakMap<Holder, WorkloadSettings>();

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
  ) {
    this.cluster = readClusterSettings(objects);
    this.servers = new Servers(objects, faultsOf);
    this.authorizations = new Authorizations(objects, faultsOf, this.cluster);
    this.targets = new ServiceTargets(objects);
    for (const object of objects) {
      if (object.kind !== "HTTPRoute" && object.kind !== "GRPCRoute") continue;
      for (const server of parentServers(object)) {
        const name = `${object.namespace}/${server}`;
        this.routes.set(name, (this.routes.get(name) ?? new Set()).add(routeKey(object)));
      }
    }
  }

  /** Reports whether any Server selects the pod, and its namespace does not keep it outside. */
  isSelected(pod: Holder): boolean {
    if (pod.namespaceAnnotations["linkerd.io/inject"] === "disabled") return false;
    return this.servers.selecting(pod).length > 0;
  }

  /** `meshed`: whether the client's proxy would prove an identity. TCP only. */
  judge(holder: Holder, meshed: Ternary, server: Holder, port: number): MeshSay {
    const settings = this.settingsOf(server);
    const aside = this.passesBy(holder, server, port, settings);
    if (aside !== null) return aside;
    const identified = this.isIdentified(holder, meshed, server, port);
    const account = holder.kind === "pod" ? holder.serviceAccount : null;
    const identity = account === null ? null : toIdentity(account, holder.namespace, this.cluster);
    const client = { holder, identified, identity };
    if (port === settings.inboundPort) return this.judgeTunnel(client, server, settings);
    const speaking = this.servers.at(server, port);
    const carried = toCarried(identified, port, speaking, settings, this.cluster);
    return { ...this.judgePort(client, server, port, settings), carried };
  }

  /** The port of the proxy's own that takes what other proxies wrap; TCP only. */
  tunnelPortOf(server: Holder): number {
    return this.settingsOf(server).inboundPort;
  }

  private settingsOf(pod: Holder): WorkloadSettings {
    const known = this.settings.get(pod);
    if (known !== undefined) return known;
    const settings = readWorkloadSettings(pod, this.cluster);
    this.settings.set(pod, settings);
    return settings;
  }

  /** What the packet filter in the pod hands to the program, and never to the proxy. */
  private passesBy(
    client: Holder,
    server: Holder,
    port: number,
    settings: WorkloadSettings,
  ): MeshSay | null {
    if (port === settings.adminPort) return null; // the proxy's own, and under its policy
    const pod = server.object!;
    const name = formatHolder(server);
    if (port === settings.controlPort) {
      const sentence = `undecidable: port ${port} of ${name} is the proxy's own, for tap`;
      return toUnknown([toBecause(pod, "annotation config.linkerd.io/control-port", sentence)]);
    }
    const skipped = isAmong(settings.skipInbound, port);
    const inside =
      settings.skipSubnets.length > 0 ? isInBlocks(settings.skipSubnets, client) : false;
    if (skipped === false && inside === false) return null;
    const field = skipped === false ? "skip-subnets" : "skip-inbound-ports";
    const rule = `annotation config.linkerd.io/${field}`;
    if (or([skipped, inside]) === true) {
      const what = skipped === true ? `port ${port}` : formatHolder(client);
      const sentence = `${name}: ${what} is kept from Linkerd's proxy: the program decides`;
      const because = [toBecause(pod, rule, sentence)];
      return { decision: UNDECLARED, transport: ANY_TRANSPORT, transportBecause: because };
    }
    const sentence = `undecidable: whether ${rule} of ${name} keeps this from the proxy`;
    return toUnknown([toBecause(pod, rule, sentence)]);
  }

  /** A meshed client proves who it is unless the port that it dials is kept from its proxy. */
  private isIdentified(client: Holder, meshed: Ternary, server: Holder, port: number): Ternary {
    if (meshed === false) return false;
    const { skipOutbound } = this.settingsOf(client);
    const dialled = [port, ...this.targets.portsTo(server, port)];
    const skipped = dialled.map((p) => isAmong(skipOutbound, p));
    if (skipped.every((s) => s === false)) return meshed;
    return skipped.every((s) => s === true) ? false : null;
  }

  private portOf(server: Holder, number: number, settings: WorkloadSettings): Port {
    const found = this.servers.at(server, number);
    return found === null
      ? this.defaultPort(server, number, settings)
      : this.serverPort(found, server, number, settings);
  }

  private serverPort(
    server: Server,
    pod: Holder,
    number: number,
    settings: WorkloadSettings,
  ): Port {
    const { object, protocol, accessPolicy } = server;
    const { found, ignored } = this.authorizations.ofServer(object);
    const routes = this.routes.get(`${object.namespace}/${object.name}`) ?? new Set<string>();
    const policy = accessPolicy === null ? null : toDefaultPolicy(accessPolicy);
    const access = policy === null ? [] : ofDefaultPolicy(policy, object, "spec.accessPolicy");
    const sentence = `${formatObject(object)} selects port ${number} of ${formatHolder(pod)}`;
    return {
      number,
      protocol,
      title: toBecause(object, "spec", sentence),
      authorizations: [...found, ...access],
      ofRoutes: this.authorizations.ofRoutes(object.namespace, routes),
      ignored,
      isProbed: settings.probes.has(number) && routes.size === 0,
      isOpenByDefault: false,
    };
  }

  private defaultPort(pod: Holder, number: number, settings: WorkloadSettings): Port {
    const { value, object, rule } = settings.defaultPolicy;
    const required = isAmong(settings.requireIdentity, number);
    const policy = value !== null && required === true ? UPGRADED[value] : value;
    const isUpgraded = policy !== value;
    const opaque = isAmong(settings.opaque, number);
    const place = isUpgraded
      ? "annotation config.linkerd.io/proxy-require-identity-inbound-ports"
      : rule;
    const by = isUpgraded ? pod.object! : (object ?? pod.object!);
    const who = object === null && !isUpgraded ? "Linkerd's own default" : formatObject(by);
    const sentence = `${who}: the default policy for ${formatHolder(pod)} is ${policy}`;
    const title = toBecause(by, place, sentence);
    const isUnsure = policy === null || (required === null && UPGRADED[policy] !== policy);
    const wrong = toBecause(
      isUpgraded || required === null ? pod.object! : by,
      place,
      `undecidable: ${place} of ${who} is not one of Linkerd's`,
    );
    return {
      number,
      protocol: opaque === null ? null : opaque ? "opaque" : "detect",
      title: isUnsure ? wrong : title,
      authorizations: isUnsure
        ? [{ ...UNREADABLE, rule: place }]
        : ofDefaultPolicy(policy, null, place),
      ofRoutes: [],
      ignored: [],
      isProbed: settings.probes.has(number),
      isOpenByDefault:
        !isUnsure &&
        settings.isClusterWide &&
        (policy === "all-unauthenticated" || policy === "audit"),
    };
  }

  private judgePort(
    client: Client,
    server: Holder,
    number: number,
    settings: WorkloadSettings,
  ): MeshSay {
    const broken = this.servers.at(server, number);
    if (broken !== null && broken.fault !== null) {
      return toUnknown([toFaultBecause(broken.object, broken.fault)]);
    }
    const port = this.portOf(server, number, settings);
    const probe = this.isProbe(client.holder, port);
    return {
      decision: this.decide(client, server, port, probe),
      ...this.transport(client, server, port, probe, settings),
    };
  }

  /** Whether this may be a probe of the kubelet's, let in by GET on its path. */
  private isProbe({ kind, addresses, ...rest }: Holder, port: Port): Ternary {
    if (!port.isProbed || port.protocol === "opaque" || port.protocol === "tls") return false;
    if (kind !== "node" && kind !== "external") return false;
    const holder = { kind, addresses, ...rest };
    const inside =
      kind === "node" && addresses.length === 0
        ? true
        : isInNetworks(this.cluster.probeNetworks, holder, this.cluster);
    // An address outside may be a node's that is not declared.
    return kind === "node" ? inside : and([inside, null]);
  }

  private decide(client: Client, server: Holder, port: Port, probe: Ternary): Decision {
    const who = formatHolder(client.holder);
    const matches = port.authorizations.map((authorization) => ({
      authorization,
      match: matchesClient(authorization, client, this.cluster),
    }));
    const taken = matches.filter(({ match }) => match === true);
    if (port.isOpenByDefault && taken.length > 0) return UNDECLARED;
    if (taken.length > 0) {
      const because = taken.map(({ authorization: { object, rule } }) =>
        object === null
          ? { ...port.title, sentence: `allowed: ${port.title.sentence}` }
          : toBecause(object, rule, `allowed by ${formatObject(object)}: it matches ${who}`),
      );
      return { path: "allowed", because };
    }
    if (probe === true) {
      const sentence =
        `allowed: a probe of port ${port.number} that the manifest of ${formatHolder(server)} ` +
        "declares; for others policy decides";
      return { path: "allowed", because: [toBecause(server.object!, "httpGet", sentence)] };
    }
    const unsure = matches.filter(({ match }) => match === null);
    if (unsure.length > 0) {
      return {
        path: "undecidable",
        because: unsure.map((m) => toUnsure(m.authorization, port, who)),
      };
    }
    const ofRoutes = port.ofRoutes.filter((a) => matchesClient(a, client, this.cluster) !== false);
    if (ofRoutes.length > 0) {
      const because = ofRoutes.map((a) => {
        const sentence =
          `undecidable: ${formatObject(a.object!)} lets ${who} use a route of port ` +
          `${port.number}; which route a request takes is its own matter`;
        return toBecause(a.object!, "spec.targetRef", sentence);
      });
      return { path: "undecidable", because };
    }
    return this.toDenial(port, who, probe);
  }

  private toDenial(port: Port, who: string, probe: Ternary): Decision {
    const { title, authorizations, ignored, protocol } = port;
    const none =
      authorizations.length === 0 ? "it authorizes nobody" : `no authorization matches ${who}`;
    const because: Because[] = [
      { ...title, sentence: `denied: ${title.sentence}, and ${none}` },
      ...authorizations.flatMap(({ object, rule }) =>
        object === null
          ? []
          : [toBecause(object, rule, `${formatObject(object)} does not match ${who}`)],
      ),
      ...ignored.map(({ object, reason }) =>
        toBecause(object, "spec", `${formatObject(object)} is passed over: ${reason}`),
      ),
    ];
    if ((protocol === "opaque" || protocol === "tls") && probe === false) {
      return { path: "denied", because };
    }
    const inBand = because.map((b, i) =>
      i > 0 ? b : { ...b, sentence: `denial-in-band: ${b.sentence}; HTTP is answered with 403` },
    );
    return { path: "undecidable", because: inBand };
  }

  private transport(
    client: Client,
    server: Holder,
    port: Port,
    probe: Ternary,
    settings: WorkloadSettings,
  ): Pick<MeshSay, "transport" | "transportBecause"> {
    const { protocol, authorizations, ofRoutes } = port;
    const isHttp = protocol !== "opaque" && protocol !== "tls";
    const by = (of: (kind: Authorization["authentication"]["kind"]) => Ternary): Ternary =>
      or([
        ...authorizations.map((a) => and([this.reaches(a, client.holder), ofKind(a, of)])),
        ...ofRoutes.map((a) => and([this.reaches(a, client.holder), ofKind(a, of), null])),
      ]);
    const plaintext = or([by((kind) => kind === "unauthenticated"), probe]);
    const oneWay = by((kind) =>
      kind === "unauthenticated" ? true : kind === "tls" ? null : false,
    );
    // The proxy ends no TLS but the mesh's: it reads the program's own as the bytes of HTTP/2.
    const isReadAsHttp = protocol === "http2" || port.number === settings.adminPort;
    const mutual = by(() => true);
    const taken = {
      plaintext,
      tls: isReadAsHttp ? and([oneWay, false]) : oneWay,
      mtls: mutual === false && isHttp ? null : mutual, // refused inside of the encryption
    };
    const all = [...authorizations, ...ofRoutes];
    const kinds = new Set(all.map((a) => (a.fault === null ? a.authentication.kind : null)));
    const required =
      plaintext === true
        ? "any"
        : plaintext === null || kinds.size === 0 || kinds.has(null)
          ? null
          : kinds.has("tls")
            ? "tls"
            : kinds.has("unauthenticated")
              ? null
              : "mtls";
    const because = authorizations.flatMap((a) =>
      a.object === null ? [] : [toBecause(a.object, a.rule, sayKind(a, a.object))],
    );
    return {
      transport: this.byLinkerd(toTransport(required, taken)),
      transportBecause: [...because, port.title, ...this.toModeBecause(port, server, settings)],
    };
  }

  private byLinkerd(transport: Transport): Transport {
    return byMesh(transport, "linkerd", this.cluster.declaredTrustDomain);
  }

  /** Whether the client's address is one that the authorization speaks of. */
  private reaches({ networks, fault }: Authorization, holder: Holder): Ternary {
    return fault === null ? isInNetworks(networks, holder, this.cluster) : null;
  }

  /** Where meshed clients are seen: on the proxy's port, or on the program's. */
  private toModeBecause(port: Port, server: Holder, { inboundPort }: WorkloadSettings): Because[] {
    const { value, object, rule } = this.cluster.transportMode;
    if (object === null || value === null) return [];
    const isTunnelled = value === "transport-header" || port.protocol === "opaque";
    const sentence =
      `meshed clients reach port ${port.number} of ${formatHolder(server)} on ` +
      (isTunnelled ? `the proxy's port ${inboundPort}` : "that port itself") +
      ` (${value})`;
    return [toBecause(object, rule, sentence)];
  }

  /**
   * The proxy's inbound port, where meshed clients name the port that they want inside mutual TLS
   * (app/inbound/src/direct.rs). An identity is needed; the rest is decided where all ports that
   * are declared agree.
   */
  private judgeTunnel(client: Client, server: Holder, settings: WorkloadSettings): MeshSay {
    const taken = { plaintext: false, tls: false, mtls: true };
    const transport = this.byLinkerd(toTransport("mtls", taken));
    const rule = `port ${settings.inboundPort}`;
    const name = formatHolder(server);
    const needs = `${rule} of ${name} is the proxy's own: it takes proven identities only`;
    const because = [toBecause(server.object!, rule, needs)];
    if (client.identified === false) {
      const sentence = `denied: ${needs}, and ${formatHolder(client.holder)} has none`;
      const denied = [toBecause(server.object!, rule, sentence)];
      return {
        decision: { path: "denied", because: denied },
        transport,
        transportBecause: because,
      };
    }
    const own = new Set([settings.inboundPort, settings.adminPort, settings.controlPort]);
    const numbers = new Set([
      ...server.ports.filter((p) => p.transport === "TCP").map((p) => p.port),
      ...this.servers.selecting(server).flatMap((s) => (typeof s.port === "number" ? s.port : [])),
    ]);
    const says = [...numbers]
      .filter((number) => !own.has(number))
      .map((number) => this.judgePort(client, server, number, settings).decision);
    const isOpen = says.every(({ path }) => path === "allowed" || path === "undeclared");
    const [first] = says;
    if (first !== undefined && (isOpen || says.every(({ path }) => path === first.path))) {
      return { decision: combine(says), transport, transportBecause: because };
    }
    const sentence = `undecidable: which port is wanted is told only within ${rule} of ${name}`;
    const unsure = [toBecause(server.object!, rule, sentence), ...combine(says).because];
    return {
      decision: { path: "undecidable", because: unsure },
      transport,
      transportBecause: because,
    };
  }
}

/** `proxy-require-identity-inbound-ports` on what a default policy lets in. */
const UPGRADED: Readonly<Record<DefaultPolicy, DefaultPolicy>> = {
  "all-unauthenticated": "all-authenticated",
  "cluster-unauthenticated": "cluster-authenticated",
  "all-authenticated": "all-authenticated",
  "cluster-authenticated": "cluster-authenticated",
  deny: "deny",
  audit: "audit",
};

/** Stands for a default policy that cannot be read: it may let in anybody. */
const UNREADABLE: Authorization = {
  object: null,
  rule: "",
  authentication: { kind: "unauthenticated" },
  networks: null,
  fault: "unreadable",
};

function ofKind(
  { authentication, fault }: Authorization,
  of: (kind: Authorization["authentication"]["kind"]) => Ternary,
): Ternary {
  return fault === null ? of(authentication.kind) : null;
}

function sayKind({ authentication, fault }: Authorization, object: ClusterObject): string {
  const words = {
    unauthenticated: "needs no identity",
    tls: "needs the mesh's TLS, and no identity",
    identities: "needs mutual TLS with an identity of the mesh",
  };
  const what = fault === null ? words[authentication.kind] : "depends on what is not valid";
  return `${formatObject(object)} ${what}`;
}

function toUnsure(authorization: Authorization, port: Port, who: string): Because {
  const { object, rule, fault } = authorization;
  if (object === null || fault === "unreadable") {
    const { title } = port;
    const isTold = title.sentence.startsWith("undecidable");
    const sentence = `undecidable: ${title.sentence}: whether it matches ${who} is not known`;
    return isTold ? title : { ...title, sentence };
  }
  if (fault !== null) return toFaultBecause(fault.object, fault.fault);
  const sentence =
    `undecidable: whether ${rule} of ${formatObject(object)} matches ${who} depends on its ` +
    "address, or on an identity that is not known";
  return toBecause(object, rule, sentence);
}
