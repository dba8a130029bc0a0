/** Lists the kinds that Wireproof reads, so that all others are told and never dropped silently. */
import { groupKind, type ClusterObject } from "../attribution/cluster-object.ts";
import { KINDS_OF_INVENTORY } from "../attribution/inventory.ts";
import { tellsSettings } from "./linkerd/settings.ts";

/** Kinds of the policy rooms, with their API group. */
export const POLICY_KINDS: ReadonlySet<string> = new Set([
  ...["NetworkPolicy.networking.k8s.io", "AdminNetworkPolicy.policy.networking.k8s.io"],
  "BaselineAdminNetworkPolicy.policy.networking.k8s.io",
  "ClusterNetworkPolicy.policy.networking.k8s.io",
  ...["PeerAuthentication.security.istio.io", "AuthorizationPolicy.security.istio.io"],
  ...["Server.policy.linkerd.io", "ServerAuthorization.policy.linkerd.io"],
  ...["AuthorizationPolicy.policy.linkerd.io", "MeshTLSAuthentication.policy.linkerd.io"],
  "NetworkAuthentication.policy.linkerd.io",
  ...["ServiceIntentions.consul.hashicorp.com", "ServiceDefaults.consul.hashicorp.com"],
  ...["ProxyDefaults.consul.hashicorp.com", "Mesh.consul.hashicorp.com"],
  "Segmentation.wireproof.io",
]);

/** Kinds that say what there is, and how it is reached. */
const CONTEXT_KINDS: ReadonlySet<string> = new Set([
  ...["Ingress.networking.k8s.io", "Route.route.openshift.io"],
  ...["ServiceEntry.networking.istio.io", "DestinationRule.networking.istio.io"],
  ...["Sidecar.networking.istio.io", "ConfigMap."],
  ...["HTTPRoute.policy.linkerd.io", "HTTPLocalRateLimitPolicy.policy.linkerd.io"],
  "ExportedServices.consul.hashicorp.com",
  ...["HTTPRoute.gateway.networking.k8s.io", "GRPCRoute.gateway.networking.k8s.io"],
]);

export function isKnownKind(kind: string): boolean {
  return KINDS_OF_INVENTORY.has(kind) || POLICY_KINDS.has(kind) || CONTEXT_KINDS.has(kind);
}

/** Of the inventory, what decisions rest on beside the ends themselves. */
const SURROUNDINGS: ReadonlySet<string> = new Set(["Namespace.", "Node.", "Service."]);

/** Reports whether a decision may rest on an object, other than as one of the two ends. */
export function isDeciding(object: ClusterObject): boolean {
  const kind = groupKind(object);
  if (POLICY_KINDS.has(kind) || CONTEXT_KINDS.has(kind) || SURROUNDINGS.has(kind)) return true;
  return isUnreadPolicy(kind) || tellsSettings(object);
}

/** Kinds that may decide about a path or transport, where they are not read: by API group. */
const UNREAD: readonly RegExp[] = [
  /^[^.]+\.(cilium\.io|(crd\.)?projectcalico\.org|policy\.linkerd\.io)$/,
  /^TrafficPermissions\.auth\.consul\.hashicorp\.com$/,
];

/** Reports whether a kind that is not read may decide about a path, or about transport. */
export function isUnreadPolicy(kind: string): boolean {
  return UNREAD.some((group) => group.test(kind));
}
