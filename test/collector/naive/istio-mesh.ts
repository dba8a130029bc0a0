/** Puts Istio's policies together for one connection, by who is in the mesh. */
import {
  appliesTo,
  judgeSidecar,
  judgeZtunnel,
  type Answer,
  type AuthorizationPolicyBody,
  type Connection,
  type Identity,
} from "./authorization-policy.ts";
import type { Cluster, NaiveEnd, NaiveService, Question } from "./cluster.ts";
import type { Path } from "./network-tiers.ts";
import {
  deniesIdentity,
  deniesPlaintext,
  isAuthenticated,
  sidecarMode,
  type PeerAuthenticationBody,
} from "./peer-authentication.ts";
import type { Required } from "./segmentation.ts";
import { matches, type Known } from "./selector.ts";

export type Mesh = { root: string; trustDomain: string };

type Wire = { plaintext: Known; tls: Known; mtls: Known };
export type IstioAnswer = { path: Path; required: Required; wire: Wire };

export const HBONE = 15008;

const TAKES_ALL: Wire = { plaintext: true, tls: true, mtls: true };

type Policies = { authentications: PeerAuthenticationBody[]; rules: AuthorizationPolicyBody[] };

function policiesIn(bodies: readonly { kind: string }[]): Policies {
  return {
    authentications: bodies.filter(
      (body): body is PeerAuthenticationBody => body.kind === "PeerAuthentication",
    ),
    rules: bodies.filter(
      (body): body is AuthorizationPolicyBody => body.kind === "AuthorizationPolicy",
    ),
  };
}

/**
 * Contracts, `policy explain`: "a workload counts as meshed when its manifest shows it, or when a
 * mesh policy selects it and nothing says otherwise". Null: nothing tells.
 */
function meshOf(
  end: NaiveEnd,
  policies: Policies,
  root: string,
): "istio" | "ambient" | "none" | null {
  if (end.mesh !== null || end.kind !== "pod") return end.mesh ?? "none";
  const isSelected =
    isAuthenticated(policies.authentications, end, root) ||
    policies.rules.some((policy) => appliesTo(policy, end, root));
  return isSelected ? "istio" : null;
}

/** ConvertProtocol (pkg/config/kube/conversion.go): the part of the name before the hyphen. */
function protocolOf(name: string): "HTTP" | "TCP" | "unknown" {
  const [first] = name.split("-");
  if (["http", "http2", "grpc"].includes(first!)) return "HTTP";
  return ["tcp", "https", "tls"].includes(first!) ? "TCP" : "unknown";
}

type Protocol = "HTTP" | "TCP" | "unknown" | "none";

/** What Services say of a pod's port; `none` where no Service leads to it. */
function protocolsAt(pod: NaiveEnd, port: number, { services }: Cluster): Set<Protocol> {
  const found = servicesAt(pod, port, services).map(([, name]) => protocolOf(name));
  return new Set(found.length === 0 ? ["none"] : found);
}

/** The Services that lead to a pod's port, each with its port's name. */
function servicesAt(
  pod: NaiveEnd,
  port: number,
  services: Cluster["services"],
): [NaiveService, string][] {
  return services.flatMap((service) => {
    const { namespace, selector, ports } = service;
    // One without a selector has the endpoints that somebody else gives it.
    if (namespace !== pod.namespace || Object.keys(selector).length === 0) return [];
    if (!matches({ matchLabels: { ...selector } }, pod.labels)) return [];
    const leading = ports.filter(({ target }) =>
      typeof target === "number"
        ? target === port
        : pod.ports.some((p) => p.name === target && p.port === port && p.transport === "TCP"),
    );
    return leading.map(({ name }): [NaiveService, string] => [service, name]);
  });
}

/**
 * Whether the client's proxy surely knows the server by a Service: straight to a pod, and to the
 * addresses of a headless one, auto mutual TLS adds nothing (xds/endpoints/mtls_checker.go).
 */
function isByService({ server, port }: Question, { services }: Cluster): boolean {
  const leading = servicesAt(server, port, services);
  return leading.length > 0 && !leading.some(([{ isHeadless }]) => isHeadless);
}

/** The identity of a client's certificate, if its proxy has one. */
function accountOf({ namespace, serviceAccount }: NaiveEnd): Identity {
  return { namespace, account: serviceAccount };
}

function toPath(answers: ReadonlySet<Answer | "denied-in-band">): Path {
  const [answer] = answers;
  if (answers.size > 1 || answer === "denied-in-band") return "undecidable";
  return answer!;
}

/** A pod with a sidecar. */
function judgeAtSidecar(
  policies: Policies,
  question: Question,
  cluster: Cluster,
  mesh: Mesh,
): IstioAnswer {
  const { client, server, port } = question;
  const mode = sidecarMode(policies.authentications, server, port, mesh.root);
  const protocols = protocolsAt(server, port, cluster);
  const known = {
    ...{ client, server, port },
    trustDomain: mesh.trustDomain,
  };
  const answers = new Set<Answer | "denied-in-band">();
  const identities = identitiesAtSidecar(policies, question, cluster, mode, mesh);
  const worlds = identities.flatMap((identity) =>
    [...protocols].map((protocol) => ({ protocol, connection: { ...known, identity } })),
  );
  for (const { protocol, connection } of worlds) {
    // What is not known to be TCP is sniffed (ListenerProtocolAuto): it may be either.
    if (protocol !== "HTTP") {
      for (const a of judgeSidecar(policies.rules, true, connection, mesh.root)) answers.add(a);
    }
    if (protocol !== "TCP") {
      for (const a of judgeSidecar(policies.rules, false, connection, mesh.root)) {
        answers.add(a === "denied" ? "denied-in-band" : a); // 403 inside of mutual TLS
      }
    }
  }
  const path = toPath(answers);
  if (mode === "STRICT") {
    return { path, required: "mtls", wire: { plaintext: false, tls: false, mtls: true } };
  }
  if (mode === "DISABLE" && protocols.has("HTTP")) {
    // Mesh TLS is a protocol error on a port known to be HTTP; of other TLS nothing is written.
    const isHttp = protocols.size === 1;
    return {
      path,
      required: "any",
      wire: { plaintext: true, tls: null, mtls: isHttp ? false : null },
    };
  }
  return { path, required: "any", wire: TAKES_ALL };
}

/** All that the client may have shown. */
function identitiesAtSidecar(
  policies: Policies,
  question: Question,
  cluster: Cluster,
  mode: string,
  mesh: Mesh,
): Identity[] {
  const { client } = question;
  const own = meshOf(client, policies, mesh.root);
  if (mode === "DISABLE") return ["nobody"]; // "Connection is not tunneled."
  if (own === "none") return ["nobody"];
  if (mode === "STRICT") return [accountOf(client)]; // whoever is let in has shown one
  if (own === "istio" && isByService(question, cluster)) return [accountOf(client)];
  // Of ztunnel, whether it sends HBONE to a sidecar depends on how that is installed.
  return ["nobody", accountOf(client)];
}

/** A pod that ztunnel guards: HBONE is taken on every port, and its denials are inside of it. */
function judgeAtZtunnel(
  policies: Policies,
  question: Question,
  cluster: Cluster,
  mesh: Mesh,
): IstioAnswer {
  const { client, server, port } = question;
  const isPlainDenied = deniesPlaintext(policies.authentications, server, port, mesh.root);
  const own = meshOf(client, policies, mesh.root);
  const connection = { client, server, port, trustDomain: mesh.trustDomain };
  const answers = new Set<Answer | "denied-in-band">();
  // ztunnel always tunnels to a pod of its own kind; a sidecar does to what it knows by a Service;
  // and where plaintext is denied, what was let in was tunnelled.
  const isTunnelled =
    own === "ambient" || (own === "istio" && isByService(question, cluster)) || isPlainDenied;
  if (own === "none" || !isTunnelled) {
    const plain: Connection = { ...connection, identity: "nobody" };
    for (const a of judgeZtunnel(policies.rules, plain, mesh.root)) answers.add(a);
  }
  if (own !== "none") {
    const tunnelled: Connection = { ...connection, identity: accountOf(client) };
    for (const a of judgeZtunnel(policies.rules, tunnelled, mesh.root)) {
      answers.add(a === "denied" ? "denied-in-band" : a);
    }
  }
  const path = toPath(answers);
  const mtls = !deniesIdentity(policies.authentications, server, port, mesh.root);
  if (isPlainDenied)
    return { path, required: "mtls", wire: { plaintext: false, tls: false, mtls } };
  // What is declared is STRICT, and this istiod makes nothing of it: which ones do is not known.
  const declared = sidecarMode(policies.authentications, server, port, mesh.root);
  if (declared === "STRICT") {
    return { path, required: "mtls", wire: { plaintext: null, tls: null, mtls } };
  }
  return { path, required: "any", wire: { plaintext: true, tls: true, mtls } };
}

/**
 * Whether the connection may come in HBONE, on port 15008, whatever port is asked for (istio.io, ambient/usage/networkpolicy): from any of the mesh to an ambient pod, and "sidecar workloads
 * receiving traffic will also need to allow inbound traffic on port 15008".
 */
export function mayComeByHbone(
  bodies: readonly { kind: string }[],
  { client, server, port, transport }: Question,
  mesh: Mesh,
): boolean {
  const policies = policiesIn(bodies);
  const [from, to] = [client, server].map((end) => meshOf(end, policies, mesh.root));
  if (transport !== "TCP" || port === HBONE) return false;
  if (to === "ambient") return from !== "none";
  if (to !== "istio" || from !== "ambient") return false;
  return sidecarMode(policies.authentications, server, port, mesh.root) !== "DISABLE";
}

/** What the server's proxy makes of a TCP connection; null where there is none. */
export function judgeIstio(
  bodies: readonly { kind: string }[],
  question: Question,
  cluster: Cluster,
  mesh: Mesh,
): IstioAnswer | null {
  if (question.transport !== "TCP") return null;
  const policies = policiesIn(bodies);
  const own = meshOf(question.server, policies, mesh.root);
  if (own === "istio") return judgeAtSidecar(policies, question, cluster, mesh);
  if (own === "ambient") return judgeAtZtunnel(policies, question, cluster, mesh);
  return null;
}
