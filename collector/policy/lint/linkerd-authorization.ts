/** Checks where Linkerd's policy lets in who proves no identity, or is passed over. */
import { listAt, textAt, valueAt, type ClusterObject } from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { formatObject } from "../decision/because.ts";
import { Authorizations, parentServers, routeKey } from "../mesh/linkerd/authorization.ts";
import { Servers, type Server } from "../mesh/linkerd/server.ts";
import { readClusterSettings, toDefaultPolicy } from "../mesh/linkerd/settings.ts";
import { kindOf } from "../mesh/linkerd/shape.ts";
import { readMeshed } from "../mesh/meshed.ts";
import type { Step } from "../manifest/place.ts";
import { ACCESS, CONFIGURATION, ENCRYPTION, IDENTITY, type Rule } from "./rule.ts";
import { nameWorkloads, numbered, type Scope } from "./scope.ts";

const graver = { pci: "error", hipaa: "error" } as const;

export const LINKERD_AUTHORIZATION = {
  openDefault: {
    id: "linkerd-default-unauthenticated",
    title: "the default policy lets in clients without an identity",
    why: "A port that no Server selects takes plaintext from anybody it speaks of.",
    remedy: "set all-authenticated, cluster-authenticated or deny",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
  openAccess: {
    id: "linkerd-access-policy-unauthenticated",
    title: "a Server's accessPolicy lets in clients without an identity",
    why: "It lets in more than the Server's authorizations say; audit denies nothing.",
    remedy: "leave accessPolicy out (it is then deny), and authorize the clients",
    level: "warning",
    ...graver,
    controls: ACCESS,
  },
  deniesAll: {
    id: "linkerd-server-denies-all",
    title: "a Server that authorizes nobody",
    why: "Once a Server selects a port, whoever is not authorized is denied.",
    remedy: "add an AuthorizationPolicy, unless that is meant",
    level: "note",
    strict: "note",
    controls: ACCESS,
  },
  dangling: {
    id: "linkerd-dangling-reference",
    title: "a reference to what is not declared",
    why: "Linkerd passes over the whole policy: it authorizes nobody.",
    remedy: "declare what is named, or correct the name",
    level: "error",
    controls: CONFIGURATION,
  },
  shadowed: {
    id: "linkerd-server-shadowed",
    title: "an older Server for the same port counts",
    why: "Of several Servers that select a port of a pod Linkerd takes the oldest.",
    remedy: "keep one Server for each port",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
  anyIdentity: {
    id: "linkerd-any-identity",
    title: "any identity of the mesh is taken",
    why: "Every meshed workload of the cluster, and of linked ones, may call.",
    remedy: "name the service accounts, or the namespaces, that may call",
    level: "warning",
    controls: IDENTITY,
  },
  unauthenticated: {
    id: "linkerd-unauthenticated-client",
    title: "clients without an identity are authorized",
    why: "What no identity is asked of comes in plaintext, too.",
    remedy: "ask for a MeshTLSAuthentication or a ServiceAccount",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
} as const satisfies Record<string, Rule>;

const RULES = LINKERD_AUTHORIZATION;
const GROUP = "policy.linkerd.io/";
const DEFAULT = "config.linkerd.io/default-inbound-policy";

export function checkLinkerd(scope: Scope): void {
  checkDefaults(scope);
  const { objects } = scope.declared;
  const cluster = readClusterSettings(objects);
  const authorizations = new Authorizations(objects, scope.faultsOf, cluster);
  for (const server of scope.ofKind("Server", GROUP)) checkServer(scope, server, authorizations);
  checkShadowed(scope, new Servers([...objects], scope.faultsOf));
  for (const policy of scope.ofKind("AuthorizationPolicy", GROUP)) checkPolicy(scope, policy);
  for (const policy of scope.ofKind("ServerAuthorization", GROUP)) checkClient(scope, policy);
  for (const authentication of scope.ofKind("MeshTLSAuthentication", GROUP)) {
    tellAnyIdentity(scope, authentication, ["spec", "identities"]);
  }
}

/** `audit` lets everybody in, and tells of it. */
function isOpen(policy: string | null): boolean {
  return policy !== null && (policy.endsWith("-unauthenticated") || policy === "audit");
}

function checkDefaults(scope: Scope): void {
  const cluster = readClusterSettings(scope.declared.objects);
  const spaces = scope.ofKind("Namespace", "v1");
  for (const space of spaces) {
    const value = space.annotations[DEFAULT];
    if (value === undefined || !isOpen(toDefaultPolicy(value))) continue;
    const sentence = `namespace ${space.name}: Linkerd's default policy is ${value}`;
    scope.report(RULES.openDefault, space, ["metadata", "annotations", DEFAULT], sentence);
  }
  const meshed = scope.pods.filter((pod) => scope.policy.meshedOf(pod).mesh === "linkerd");
  for (const pod of meshed) {
    const value = pod.annotations[DEFAULT];
    if (value === undefined || !isOpen(toDefaultPolicy(value))) continue;
    const sentence = `${formatHolder(pod)}: Linkerd's default policy is ${value}`;
    scope.reportPod(RULES.openDefault, pod, ["metadata", "annotations", DEFAULT], sentence);
  }
  const { value, object, rule } = cluster.defaultPolicy;
  if (!isOpen(value)) return;
  if (object !== null) {
    const declared = scope.declared.objects.find(
      (o) => o.kind === object.kind && o.name === object.name && o.namespace === object.namespace,
    );
    const path = rule.startsWith("args ") ? ["spec"] : ["data", "values"];
    const sentence = `${formatObject(object)}: Linkerd's default policy is ${value} (${rule})`;
    if (declared !== undefined) scope.report(RULES.openDefault, declared, path, sentence);
    return;
  }
  const nothing = `nothing declares Linkerd's default policy: its own is ${value}`;
  const isBare = (pod: Holder) =>
    pod.annotations[DEFAULT] === undefined && pod.namespaceAnnotations[DEFAULT] === undefined;
  const space = spaces.find(
    ({ name, annotations }) =>
      readMeshed(scope.anyPodIn(name)).mesh === "linkerd" && annotations[DEFAULT] === undefined,
  );
  const pod = meshed.find(isBare);
  if (space !== undefined) {
    const sentence = `namespace ${space.name} is in the mesh, and ${nothing}`;
    scope.report(RULES.openDefault, space, ["metadata", "annotations"], sentence);
  } else if (pod !== undefined) {
    const sentence = `${formatHolder(pod)} is in the mesh, and ${nothing}`;
    scope.reportPod(RULES.openDefault, pod, ["metadata"], sentence);
  }
}

function checkServer(scope: Scope, server: ClusterObject, authorizations: Authorizations): void {
  const name = formatObject(server);
  const access = textAt(server.body, "spec", "accessPolicy");
  if (isOpen(access)) {
    const sentence = `${name} lets in clients without an identity: accessPolicy is ${access}`;
    scope.report(RULES.openAccess, server, ["spec", "accessPolicy"], sentence);
  }
  const routes = scope.declared.objects.filter(
    (o) =>
      (o.kind === "HTTPRoute" || o.kind === "GRPCRoute") &&
      o.namespace === server.namespace &&
      parentServers(o).includes(server.name),
  );
  const count =
    authorizations.ofServer(server).found.length +
    authorizations.ofRoutes(server.namespace, new Set(routes.map(routeKey))).length;
  if (count > 0 || (access !== null && access !== "deny")) return;
  const sentence = `${name} authorizes nobody: no policy among the manifests is for it`;
  scope.report(RULES.deniesAll, server, ["spec"], sentence);
}

function checkShadowed(scope: Scope, servers: Servers): void {
  const shadowed = new Map<ClusterObject, { by: ClusterObject; pods: Holder[] }>();
  for (const pod of scope.pods) {
    const first = new Map<number, Server>();
    for (const server of servers.selecting(pod)) {
      if (server.fault !== null) continue;
      for (const port of portsOf(server, pod)) {
        const by = first.get(port);
        if (by === undefined) first.set(port, server);
        else if (by.object !== server.object) {
          const known = shadowed.get(server.object) ?? { by: by.object, pods: [] };
          known.pods.push(pod);
          shadowed.set(server.object, known);
        }
      }
    }
  }
  for (const [server, { by, pods }] of shadowed) {
    const isDated = server.createdMs !== null && by.createdMs !== null;
    const why = isDated ? "is older" : "counts where both are of one age";
    const what = `${formatObject(server)} is passed over for ${nameWorkloads(pods)}`;
    const sentence = `${what}: ${formatObject(by)} ${why}`;
    scope.report(RULES.shadowed, server, ["metadata", "name"], sentence);
  }
}

function portsOf({ port }: Server, pod: Holder): number[] {
  if (typeof port === "number") return [port];
  return pod.ports.filter((p) => p.name === port && p.transport === "TCP").map((p) => p.port);
}

function checkPolicy(scope: Scope, policy: ClusterObject): void {
  const spec = valueAt(policy.body, "spec");
  const name = formatObject(policy);
  const target = valueAt(spec, "targetRef");
  const kind = kindOf(target);
  const dangle = (what: string, namespace: string, path: Step[]) => {
    const sentence = `${name} is passed over: there is no ${what} in namespace ${namespace}`;
    scope.report(RULES.dangling, policy, path, sentence);
  };
  if (kind !== "namespace" && kind !== "") {
    const wanted = textAt(target, "name") ?? "";
    if (!has(scope, kind, policy.namespace, wanted)) {
      const path = ["spec", "targetRef", "name"];
      dangle(`${textAt(target, "kind")} ${wanted}`, policy.namespace, path);
    }
  }
  const refs = numbered(listAt(spec, "requiredAuthenticationRefs"));
  for (const [i, ref] of refs) {
    const found = kindOf(ref);
    const wanted = textAt(ref, "name") ?? "";
    const namespace = textAt(ref, "namespace") ?? policy.namespace;
    if (found === "serviceaccount" || has(scope, found, namespace, wanted)) continue;
    const path = ["spec", "requiredAuthenticationRefs", i, "name"];
    dangle(`${textAt(ref, "kind")} ${wanted}`, namespace, path);
  }
  if (refs.some(([, ref]) => kindOf(ref) !== "networkauthentication")) return;
  const ranges = refs.flatMap(([, ref]) => {
    const namespace = textAt(ref, "namespace") ?? policy.namespace;
    const found = scope
      .ofKind("NetworkAuthentication", GROUP)
      .find((o) => o.namespace === namespace && o.name === textAt(ref, "name"));
    return listAt(found?.body, "spec", "networks").map((network) => textAt(network, "cidr") ?? "");
  });
  const isAll = refs.length === 0 || ranges.some((range) => /^(0\.0\.0\.0|::)\/0$/.test(range));
  const who = isAll ? "anybody" : `whoever has an address in ${ranges.join(", ")}`;
  const sentence = `${name} asks for no identity: it lets in ${who}, in plaintext too`;
  scope.report(RULES.unauthenticated, policy, ["spec", "requiredAuthenticationRefs"], sentence);
}

/** Whether an object of a kind, in small letters, is declared, be it valid or not. */
function has(scope: Scope, kind: string, namespace: string, name: string): boolean {
  return scope.declared.objects.some(
    (o) => o.kind.toLowerCase() === kind && o.namespace === namespace && o.name === name,
  );
}

function checkClient(scope: Scope, policy: ClusterObject): void {
  const spec = valueAt(policy.body, "spec");
  const name = formatObject(policy);
  const server = textAt(spec, "server", "name");
  if (server !== null && !has(scope, "server", policy.namespace, server)) {
    const sentence = `${name}: there is no Server ${server} in namespace ${policy.namespace}`;
    scope.report(RULES.dangling, policy, ["spec", "server", "name"], sentence);
  }
  const client = ["spec", "client"];
  if (valueAt(spec, "client", "unauthenticated") === true) {
    const sentence = `${name} lets in clients without an identity`;
    scope.report(RULES.unauthenticated, policy, [...client, "unauthenticated"], sentence);
  }
  if (valueAt(spec, "client", "meshTLS", "unauthenticatedTLS") === true) {
    const sentence = `${name} lets in clients of the mesh's TLS without an identity`;
    const path = [...client, "meshTLS", "unauthenticatedTLS"];
    scope.report(RULES.unauthenticated, policy, path, sentence);
  }
  tellAnyIdentity(scope, policy, [...client, "meshTLS", "identities"]);
}

function tellAnyIdentity(scope: Scope, object: ClusterObject, path: readonly string[]): void {
  for (const [i, identity] of numbered(listAt(object.body, ...path))) {
    if (identity !== "*") continue;
    const sentence = `${formatObject(object)} takes any identity of the mesh`;
    scope.report(RULES.anyIdentity, object, [...path, i], sentence);
  }
}
