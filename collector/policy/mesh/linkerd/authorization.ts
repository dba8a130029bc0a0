/** Matches a client against what authorizes it to reach one of Linkerd's Servers. */
import { parseRange } from "../../../attribution/address.ts";
import {
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
  type Labels,
} from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import { readSelector, selects } from "../../../attribution/selector.ts";
import { isInBlocks, type Block } from "../../decision/block.ts";
import { and, or, type Ternary } from "../../decision/ternary.ts";
import type { Fault } from "../../manifest/problem.ts";
import { kindOf } from "./shape.ts";
import type { ClusterSettings, DefaultPolicy } from "./settings.ts";

/** How a client must present itself; names as the proxy compares them. */
export type Authentication =
  { kind: "unauthenticated" } | { kind: "tls" } | { kind: "identities"; names: readonly string[] };

/** One of several that each suffice; null networks are all networks. */
export type Authorization = {
  object: ClusterObject | null;
  rule: string;
  authentication: Authentication;
  networks: readonly Block[] | "cluster" | null;
  /** What it depends on is not valid; `unreadable` where that is no object's field. */
  fault: { object: ClusterObject; fault: Fault } | "unreadable" | null;
};

/** A policy that its own control plane passes over, and why. */
export type Ignored = { object: ClusterObject; reason: string };

/** What is known of the client. */
export type Client = {
  holder: Holder;
  /** Whether it proves a mesh identity. */
  identified: Ternary;
  /** `web.pay.serviceaccount.identity.linkerd.cluster.local`; null where it cannot be told. */
  identity: string | null;
};

/** Mesh identities of service accounts, as the control plane makes them (cluster_info.rs). */
export function toIdentity(account: string, namespace: string, cluster: ClusterSettings): string {
  const { controlNamespace, trustDomain } = cluster;
  return `${account}.${namespace}.serviceaccount.identity.${controlNamespace}.${trustDomain}`;
}

/** The authorizations that a default policy stands for (defaults.rs); none for `deny`. */
export function ofDefaultPolicy(
  policy: DefaultPolicy,
  object: ClusterObject | null,
  rule: string,
): Authorization[] {
  if (policy === "deny") return [];
  const isAuthenticated = policy.endsWith("-authenticated");
  return [
    {
      object,
      rule,
      authentication: isAuthenticated
        ? { kind: "identities", names: ["*"] }
        : { kind: "unauthenticated" },
      networks: policy.startsWith("cluster-") ? "cluster" : null,
      fault: null,
    },
  ];
}

/** Whether this one lets the client in. */
export function matchesClient(
  { authentication, fault, networks }: Authorization,
  client: Client,
  cluster: ClusterSettings,
): Ternary {
  if (fault !== null) return null;
  const { holder, identified, identity } = client;
  const inside = isInNetworks(networks, holder, cluster);
  if (authentication.kind === "unauthenticated") return inside;
  if (authentication.kind === "tls") return and([inside, identified]);
  const named = or(authentication.names.map((name) => matchesName(name, identity, cluster)));
  return and([inside, identified, named]);
}

/** Whether the client's address is in the networks, as far as it is known. */
export function isInNetworks(
  networks: Authorization["networks"],
  holder: Holder,
  cluster: ClusterSettings,
): Ternary {
  if (networks === null) return true;
  if (networks === "cluster") {
    // The setting is where the pods are; a pod without an address yet will be there.
    if (holder.kind === "pod" && holder.addresses.length === 0) return true;
    return isInBlocks(cluster.clusterNetworks, holder);
  }
  return isInBlocks(networks, holder);
}

/** `*`, `*.suffix` (identity_match.rs), or the whole name. */
function matchesName(name: string, identity: string | null, cluster: ClusterSettings): Ternary {
  if (name === "*") return true;
  if (identity === null) return null;
  const isMatch = name.startsWith("*.") ? identity.endsWith(name.slice(1)) : name === identity;
  if (isMatch || cluster.isDeclared) return isMatch;
  // Without the control plane's settings its namespace and trust domain are a guess.
  const mark = ".serviceaccount.identity.";
  if (!name.includes(mark)) return name.startsWith("*.") ? null : false;
  const who = identity.slice(0, identity.indexOf(mark));
  const named = name.slice(0, name.indexOf(mark));
  const isOurs = named.startsWith("*.") ? who.endsWith(named.slice(1)) : named === who;
  return isOurs ? null : false;
}

/** All that may authorize clients of the Servers in one cluster. */
export class Authorizations {
  private readonly objects: ReadonlyMap<string, ClusterObject[]>;
  private readonly authentications = new Map<string, ClusterObject>();
  private readonly byServer = new WeakMap<
    ClusterObject,
    { found: Authorization[]; ignored: Ignored[] }
  >();
  private readonly faultsOf: (object: ClusterObject) => readonly Fault[];
  private readonly cluster: ClusterSettings;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly Fault[],
    cluster: ClusterSettings,
  ) {
    this.faultsOf = faultsOf;
    this.cluster = cluster;
    const ofKind = (...kinds: string[]) =>
      objects.filter(
        (o) => o.apiVersion.startsWith("policy.linkerd.io/") && kinds.includes(o.kind),
      );
    this.objects = Map.groupBy(
      ofKind("ServerAuthorization", "AuthorizationPolicy"),
      ({ namespace }) => namespace,
    );
    for (const object of ofKind("MeshTLSAuthentication", "NetworkAuthentication")) {
      const { kind, namespace, name } = object;
      this.authentications.set(`${kind.toLowerCase()}/${namespace}/${name}`, object);
    }
  }

  /** Those that count for a whole Server (`client_authzs` of inbound/index.rs). */
  ofServer(server: ClusterObject): { found: Authorization[]; ignored: Ignored[] } {
    const known = this.byServer.get(server);
    if (known !== undefined) return known;
    const found: Authorization[] = [];
    const ignored: Ignored[] = [];
    for (const object of this.objects.get(server.namespace) ?? []) {
      const fault = this.faultsOf(object)[0] ?? null;
      if (!this.isFor(object, fault, server.name, server.labels)) continue;
      this.read(object, fault, found, ignored);
    }
    this.byServer.set(server, { found, ignored });
    return { found, ignored };
  }

  /** Those that count for some requests of a Server: of the routes that are bound to it. */
  ofRoutes(namespace: string, routes: ReadonlySet<string>): Authorization[] {
    const found: Authorization[] = [];
    for (const object of this.objects.get(namespace) ?? []) {
      if (object.kind !== "AuthorizationPolicy") continue;
      const target = valueAt(object.body, "spec", "targetRef");
      const name = `${kindOf(target)}/${textAt(target, "group")}/${textAt(target, "name")}`;
      if (!routes.has(name.toLowerCase())) continue;
      this.read(object, this.faultsOf(object)[0] ?? null, found, []);
    }
    return found;
  }

  private isFor(object: ClusterObject, fault: Fault | null, name: string, labels: Labels): boolean {
    const spec = valueAt(object.body, "spec");
    const blind = fault !== null && fault.path[1] === undefined; // it may be for any
    if (object.kind === "ServerAuthorization") {
      const server = valueAt(spec, "server");
      if (blind || fault?.path[1] === "server") return true;
      const named = textAt(server, "name");
      if (named !== null) return named === name;
      return selects(readSelector(valueAt(server, "selector") ?? undefined), labels);
    }
    if (blind || fault?.path[1] === "targetRef") return true;
    const target = valueAt(spec, "targetRef");
    const kind = kindOf(target);
    return kind === "namespace" || (kind === "server" && textAt(target, "name") === name);
  }

  private read(
    object: ClusterObject,
    fault: Fault | null,
    found: Authorization[],
    ignored: Ignored[],
  ): void {
    const base = { object, networks: null, authentication: { kind: "unauthenticated" } as const };
    if (fault !== null) {
      found.push({ ...base, rule: "spec", fault: { object, fault } });
    } else if (object.kind === "ServerAuthorization") {
      found.push(this.ofServerAuthorization(object));
    } else {
      const result = this.ofPolicy(object);
      if (typeof result === "string") ignored.push({ object, reason: result });
      else found.push(result);
    }
  }

  private ofServerAuthorization(object: ClusterObject): Authorization {
    const client = valueAt(object.body, "spec", "client");
    const meshTls = valueAt(client, "meshTLS");
    const accounts = listAt(meshTls, "serviceAccounts").map((account) =>
      this.identityOf(account, object.namespace),
    );
    const names = [...listAt(meshTls, "identities").map(String), ...accounts];
    const networks = listAt(client, "networks");
    return {
      object,
      rule: "spec.client",
      authentication:
        valueAt(client, "unauthenticated") === true
          ? { kind: "unauthenticated" }
          : valueAt(meshTls, "unauthenticatedTLS") === true
            ? { kind: "tls" }
            : { kind: "identities", names },
      // None at all stands for the cluster's networks (policy-controller/grpc/src/inbound.rs).
      networks: networks.length === 0 ? "cluster" : networks.map(readNetwork),
      fault: null,
    };
  }

  /** All references hold together; a text says why the control plane passes the policy over. */
  private ofPolicy(object: ClusterObject): Authorization | string {
    const result: Authorization = {
      object,
      rule: "spec.requiredAuthenticationRefs",
      authentication: { kind: "unauthenticated" },
      networks: null,
      fault: null,
    };
    for (const ref of listAt(object.body, "spec", "requiredAuthenticationRefs")) {
      const kind = kindOf(ref);
      const namespace = textAt(ref, "namespace") ?? object.namespace;
      if (kind === "serviceaccount") {
        result.authentication = {
          kind: "identities",
          names: [this.identityOf(ref, object.namespace)],
        };
        continue;
      }
      const found = this.authentications.get(`${kind}/${namespace}/${textAt(ref, "name")}`);
      if (found === undefined) {
        return `there is no ${textAt(ref, "kind")} ${namespace}/${textAt(ref, "name")}`;
      }
      const fault = this.faultsOf(found)[0];
      if (fault !== undefined) result.fault = { object: found, fault };
      else if (kind === "networkauthentication") {
        result.networks = listAt(found.body, "spec", "networks").map(readNetwork);
      } else result.authentication = { kind: "identities", names: this.namesOf(found) };
    }
    return result;
  }

  private namesOf(authentication: ClusterObject): string[] {
    const { controlNamespace, trustDomain } = this.cluster;
    const spec = valueAt(authentication.body, "spec");
    const refs = listAt(spec, "identityRefs").map((ref) =>
      kindOf(ref) === "namespace"
        ? `*.${textAt(ref, "name")}.serviceaccount.identity.${controlNamespace}.${trustDomain}`
        : this.identityOf(ref, authentication.namespace),
    );
    return [...listAt(spec, "identities").map(String), ...refs];
  }

  private identityOf(reference: Json, own: string): string {
    const namespace = textAt(reference, "namespace") ?? own;
    return toIdentity(textAt(reference, "name") ?? "", namespace, this.cluster);
  }
}

function readNetwork(value: Json): Block {
  return {
    range: parseRange(textAt(value, "cidr") ?? "")!,
    except: listAt(value, "except").map((entry) => parseRange(String(entry))!),
  };
}

/** Labels that a route names its Servers by, in small letters: `httproute/GROUP/NAME`. */
export function routeKey(route: ClusterObject): string {
  const group = route.apiVersion.split("/")[0]!;
  return `${route.kind}/${group}/${route.name}`.toLowerCase();
}

/** The Servers of its own namespace that a route is bound to. */
export function parentServers(route: ClusterObject): string[] {
  return listAt(route.body, "spec", "parentRefs").flatMap((ref) => {
    const isServer =
      textAt(ref, "kind") === "Server" && textAt(ref, "group") === "policy.linkerd.io";
    const isOwn = (textAt(ref, "namespace") ?? route.namespace) === route.namespace;
    return isServer && isOwn ? [textAt(ref, "name") ?? ""] : [];
  });
}
