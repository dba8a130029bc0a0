/** Lists the kinds that Wireproof reads, so that all others are told and never dropped silently. */
import { KINDS_OF_INVENTORY } from "../attribution/inventory.ts";

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
  ...["CiliumNetworkPolicy.cilium.io", "CiliumClusterwideNetworkPolicy.cilium.io"],
  "CiliumCIDRGroup.cilium.io",
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

export function isKnownKind(groupKind: string): boolean {
  const kind = groupKind.slice(0, groupKind.indexOf("."));
  return (
    KINDS_OF_INVENTORY.has(kind) || POLICY_KINDS.has(groupKind) || CONTEXT_KINDS.has(groupKind)
  );
}

/** Kinds of Cilium's that tell what its agents found, or how addresses are given and announced. */
const CILIUM_STATE: ReadonlySet<string> = new Set(
  [
    ...["CiliumEndpoint", "CiliumEndpointSlice", "CiliumIdentity", "CiliumNode"],
    ...["CiliumExternalWorkload", "CiliumLoadBalancerIPPool", "CiliumPodIPPool"],
    ...["CiliumL2AnnouncementPolicy", "CiliumGatewayClassConfig", "CiliumBGPAdvertisement"],
    ...["CiliumBGPClusterConfig", "CiliumBGPNodeConfig", "CiliumBGPNodeConfigOverride"],
    ...["CiliumBGPPeerConfig", "CiliumBGPPeeringPolicy"],
  ].map((kind) => `${kind}.cilium.io`),
);

/** Kinds that may decide about a path or transport, where they are not read: by API group. */
const UNREAD: readonly RegExp[] = [
  /^[^.]+\.(cilium\.io|(crd\.)?projectcalico\.org|policy\.linkerd\.io)$/,
  /^TrafficPermissions\.auth\.consul\.hashicorp\.com$/,
];

/** Reports whether a kind that is not read may decide about a path, or about transport. */
export function isUnreadPolicy(groupKind: string): boolean {
  return !CILIUM_STATE.has(groupKind) && UNREAD.some((group) => group.test(groupKind));
}
