/** Shapes of Linkerd's policy kinds (linkerd2 policy-controller/k8s/api/src/policy). */
import Type, { type TSchema } from "typebox";
import {
  isMap,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import { oneOf, orNull, only, port, selector, text, texts } from "../../manifest/fields.ts";
import type { Fault } from "../../manifest/problem.ts";

const strict = { additionalProperties: false };
const maybe = (type: TSchema) => Type.Optional(orNull(type));

const DEFAULT_POLICY_NAMES = [
  ...["all-authenticated", "all-unauthenticated", "cluster-authenticated"],
  ...["cluster-unauthenticated", "deny", "audit"],
];

const server = Type.Object(
  {
    podSelector: maybe(selector),
    externalWorkloadSelector: maybe(selector),
    port: Type.Union([port, Type.String({ minLength: 1 })]),
    proxyProtocol: maybe(oneOf("unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS")),
    accessPolicy: maybe(oneOf(...DEFAULT_POLICY_NAMES)),
  },
  strict,
);

const networks = orNull(
  Type.Array(Type.Object({ cidr: text, except: Type.Optional(texts) }, strict)),
);

const serverAuthorization = Type.Object(
  {
    server: only({ name: orNull(text), selector }),
    client: only({
      networks,
      unauthenticated: orNull(Type.Boolean()),
      meshTLS: orNull(
        only({
          unauthenticatedTLS: orNull(Type.Boolean()),
          identities: texts,
          serviceAccounts: orNull(
            Type.Array(Type.Object({ name: text, namespace: maybe(text) }, strict)),
          ),
        }),
      ),
    }),
  },
  strict,
);

const reference = Type.Object(
  { group: maybe(text), kind: text, name: text, namespace: maybe(text) },
  strict,
);

const authorizationPolicy = Type.Object(
  { targetRef: reference, requiredAuthenticationRefs: Type.Array(reference) },
  strict,
);

const meshTlsAuthentication = only({
  identities: texts,
  identityRefs: orNull(Type.Array(reference)),
});

const networkAuthentication = Type.Object({ networks }, strict);

/** By kind and API group, the shape of `spec`. */
export const LINKERD_SPECS: Readonly<Record<string, TSchema>> = {
  "Server.policy.linkerd.io": server,
  "ServerAuthorization.policy.linkerd.io": serverAuthorization,
  "AuthorizationPolicy.policy.linkerd.io": authorizationPolicy,
  "MeshTLSAuthentication.policy.linkerd.io": meshTlsAuthentication,
  "NetworkAuthentication.policy.linkerd.io": networkAuthentication,
};

type Path = (string | number)[];

/** Rules between fields, which Linkerd's admission webhook holds (runtime/src/admission.rs). */
export function findLinkerdFaults(object: ClusterObject, spec: Json): Fault[] {
  const faults: Fault[] = [];
  const fault = (reason: string, ...steps: Path) =>
    faults.push({ path: ["spec", ...steps], reason });
  switch (object.kind) {
    case "Server":
      if (isMap(valueAt(spec, "podSelector")) === isMap(valueAt(spec, "externalWorkloadSelector")))
        fault("needs podSelector or externalWorkloadSelector, and not both");
      break;
    case "ServerAuthorization":
      checkClient(valueAt(spec, "client"), fault);
      break;
    case "AuthorizationPolicy":
      checkPolicy(object, spec, fault);
      break;
    case "MeshTLSAuthentication": {
      const refs = listAt(spec, "identityRefs");
      if (listAt(spec, "identities").length + refs.length === 0) {
        fault("needs identities or identityRefs");
      }
      refs.forEach((ref, i) => {
        const kind = kindOf(ref);
        if (kind === "namespace" && valueAt(ref, "namespace"))
          fault("a Namespace has no namespace", "identityRefs", i, "namespace");
        else if (kind !== "serviceaccount" && kind !== "namespace")
          fault("must be a ServiceAccount or a Namespace", "identityRefs", i, "kind");
      });
      break;
    }
    case "NetworkAuthentication":
      if (listAt(spec, "networks").length === 0) fault("needs an entry", "networks");
  }
  return faults;
}

function checkClient(client: Json | undefined, fault: (reason: string, ...at: Path) => void): void {
  const meshTls = valueAt(client, "meshTLS");
  const isOpen = valueAt(client, "unauthenticated") === true;
  if (!isMap(meshTls)) {
    if (!isOpen) fault("needs unauthenticated or meshTLS", "client");
    return;
  }
  const names = listAt(meshTls, "identities").length + listAt(meshTls, "serviceAccounts").length;
  const isAnyTls = valueAt(meshTls, "unauthenticatedTLS") === true;
  if (isOpen) fault("must not stand beside meshTLS", "client", "unauthenticated");
  if (isAnyTls && names > 0) {
    fault("must not stand beside identities", "client", "meshTLS", "unauthenticatedTLS");
  }
  if (!isAnyTls && names === 0) fault("authorizes no client", "client", "meshTLS");
}

function checkPolicy(
  { namespace }: ClusterObject,
  spec: Json,
  fault: (reason: string, ...at: Path) => void,
): void {
  const target = valueAt(spec, "targetRef");
  const kind = kindOf(target);
  if (kind === "namespace" && textAt(target, "name") !== namespace) {
    fault("must be the policy's own namespace", "targetRef", "name");
  } else if (!TARGETS.has(kind)) fault("is no target of Linkerd's", "targetRef", "kind");
  let identities = 0;
  let ranges = 0;
  listAt(spec, "requiredAuthenticationRefs").forEach((ref, i) => {
    const authentication = kindOf(ref);
    if (authentication === "networkauthentication") ranges++;
    else if (IDENTITIES.has(authentication)) identities++;
    else fault("is no authentication of Linkerd's", "requiredAuthenticationRefs", i, "kind");
  });
  const steps = ["requiredAuthenticationRefs"];
  if (identities > 1) fault("only one MeshTLSAuthentication or ServiceAccount is taken", ...steps);
  if (ranges > 1) fault("only one NetworkAuthentication is taken", ...steps);
}

const TARGETS = new Set(["server", "namespace", "httproute", "grpcroute"]);
const IDENTITIES = new Set(["meshtlsauthentication", "serviceaccount"]);

/** The group that each kind belongs to; a route may be the Gateway API's or Linkerd's own. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  server: ["policy.linkerd.io"],
  meshtlsauthentication: ["policy.linkerd.io"],
  networkauthentication: ["policy.linkerd.io"],
  httproute: ["policy.linkerd.io", "gateway.networking.k8s.io"],
  grpcroute: ["gateway.networking.k8s.io"],
  namespace: ["", "core"],
  serviceaccount: ["", "core"],
};

/** The kind that a reference names, in small letters; empty where its group is not the kind's. */
export function kindOf(reference: Json | undefined): string {
  const kind = (textAt(reference, "kind") ?? "").toLowerCase();
  const group = (textAt(reference, "group") ?? "").toLowerCase();
  return Object.hasOwn(GROUPS, kind) && GROUPS[kind]!.includes(group) ? kind : "";
}
