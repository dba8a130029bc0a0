/** Lists the kinds that Wireproof reads, so that all others are told and never dropped silently. */
import { groupKind, type ClusterObject } from "../../attribution/cluster-object.ts";
import { KINDS_OF_INVENTORY } from "../../attribution/inventory.ts";
import { CALICO_GROUPS } from "../packet/calico/shape.ts";
import { tellsPlane, PLANES } from "./control-plane.ts";

const ofCalico = (...kinds: readonly string[]) =>
  kinds.flatMap((kind) => CALICO_GROUPS.map((group) => `${kind}.${group}`));

/** Kinds of the policy rooms, with their API group. */
const POLICY_KINDS: ReadonlySet<string> = new Set([
  ...["NetworkPolicy.networking.k8s.io", "AdminNetworkPolicy.policy.networking.k8s.io"],
  "BaselineAdminNetworkPolicy.policy.networking.k8s.io",
  "ClusterNetworkPolicy.policy.networking.k8s.io",
  ...["PeerAuthentication.security.istio.io", "AuthorizationPolicy.security.istio.io"],
  ...["Server.policy.linkerd.io", "ServerAuthorization.policy.linkerd.io"],
  ...["AuthorizationPolicy.policy.linkerd.io", "MeshTLSAuthentication.policy.linkerd.io"],
  "NetworkAuthentication.policy.linkerd.io",
  ...["ServiceIntentions.consul.hashicorp.com", "ServiceDefaults.consul.hashicorp.com"],
  ...["ProxyDefaults.consul.hashicorp.com", "Mesh.consul.hashicorp.com"],
  ...ofCalico("NetworkPolicy", "GlobalNetworkPolicy", "Tier", "NetworkSet", "GlobalNetworkSet"),
  ...ofCalico("HostEndpoint", "IPPool", "Profile"),
  ...["CiliumNetworkPolicy.cilium.io", "CiliumClusterwideNetworkPolicy.cilium.io"],
  "CiliumCIDRGroup.cilium.io",
  "Segmentation.wireproof.io",
]);

/** Kinds that say what there is, and how it is reached. */
const CONTEXT_KINDS: ReadonlySet<string> = new Set([
  ...["Ingress.networking.k8s.io", "Route.route.openshift.io"],
  ...["ServiceEntry.networking.istio.io", "DestinationRule.networking.istio.io"],
  ...["Sidecar.networking.istio.io", "ConfigMap."],
  ...["Gateway.networking.istio.io", "Gateway.gateway.networking.k8s.io"],
  ...["HTTPRoute.policy.linkerd.io", "HTTPLocalRateLimitPolicy.policy.linkerd.io"],
  "ExportedServices.consul.hashicorp.com",
  ...["HTTPRoute.gateway.networking.k8s.io", "GRPCRoute.gateway.networking.k8s.io"],
  "ServiceAccount.",
]);

/** Kinds that are known, and decide nothing that is judged. */
const SILENT_KINDS: ReadonlySet<string> = new Set([
  // Staged policies are tried, and never enforced.
  ...ofCalico("StagedNetworkPolicy", "StagedGlobalNetworkPolicy", "StagedKubernetesNetworkPolicy"),
  ...ofCalico("FelixConfiguration", "KubeControllersConfiguration", "ClusterInformation"),
  ...ofCalico("BGPConfiguration", "BGPFilter", "BGPPeer", "CalicoNodeStatus", "IPReservation"),
  ...ofCalico("BlockAffinity", "IPAMBlock", "IPAMConfig", "IPAMConfiguration", "IPAMHandle"),
]);

export function isKnownKind(kind: string): boolean {
  const isRead = KINDS_OF_INVENTORY.has(kind) || POLICY_KINDS.has(kind) || CONTEXT_KINDS.has(kind);
  return isRead || SILENT_KINDS.has(kind);
}

/** Kinds that decide nothing but about pods of their own namespace. */
export const CONFINED_KINDS: ReadonlySet<string> = new Set([
  ...["NetworkPolicy.networking.k8s.io", "CiliumNetworkPolicy.cilium.io"],
  ...ofCalico("NetworkPolicy"),
]);

/** Of the inventory, what decisions rest on beside the ends themselves. */
const SURROUNDINGS: ReadonlySet<string> = new Set(["Namespace.", "Node.", "Service."]);

/** Reports whether a decision may rest on an object, other than as one of the two ends. */
export function isDeciding(object: ClusterObject): boolean {
  const kind = groupKind(object);
  // Those that tell how a mesh, or a network plugin, is set up; others may hold anything.
  if (kind === "ConfigMap.") return PLANES.some((plane) => plane.isSettings(object));
  if (kind === "EndpointSlice.discovery.k8s.io" || kind === "Endpoints.") {
    return object.namespace === "default" && object.name === "kubernetes"; // the API servers
  }
  if (POLICY_KINDS.has(kind) || CONTEXT_KINDS.has(kind) || SURROUNDINGS.has(kind)) return true;
  return isUnreadPolicy(kind) || tellsPlane(object);
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

/** Kinds that may decide about a path or transport where they are not read, by API group. */
const UNREAD: ReadonlyMap<string, RegExp> = new Map([
  ...["cilium.io", "policy.linkerd.io", ...CALICO_GROUPS].map((group) => [group, /./] as const),
  ["auth.consul.hashicorp.com", /^TrafficPermissions$/],
]);

/** Groups of which any kind may be one that decides and is not read. */
export const UNREAD_GROUPS: readonly string[] = [...UNREAD.keys()];

/** Reports whether a kind that is not read may decide about a path, or about transport. */
export function isUnreadPolicy(kind: string): boolean {
  const dot = kind.indexOf(".");
  const names = UNREAD.get(kind.slice(dot + 1));
  return names !== undefined && names.test(kind.slice(0, dot)) && !CILIUM_STATE.has(kind);
}
