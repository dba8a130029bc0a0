/** Lists what is followed of a live cluster: the kinds that attribution and policy rest on. */

/** One kind as the API serves it. One that is not served (no such CRD) is asked for again later. */
export type Resource = {
  /** API groups, the empty one for Kubernetes' core: the first that serves the kind is followed. */
  groups: readonly string[];
  /** The version that is read best; where that has not the kind, another of the group's. */
  version: string;
  /** As a ClusterRole names it; what is asked for is what the API itself says. */
  plural: string;
  kind: string;
  /** Follows some objects of the kind only: `metadata.name=istio`. */
  fieldSelector?: string;
};

/** `pods.`, `servers.policy.linkerd.io`: names a resource in what is told of it. */
export function nameOf({ groups, plural, fieldSelector }: Resource): string {
  const which = fieldSelector === undefined ? "" : `?${fieldSelector}`;
  return `${plural}${groups[0] === "" ? "" : `.${groups[0]}`}${which}`;
}

/** `NetworkPolicy` as `networkpolicies`, `Gateway` as `gateways`, `Mesh` as `meshes`. */
function toPlural(kind: string): string {
  const lower = kind.toLowerCase();
  if (/(intentions|defaults|services)$/.test(lower)) return lower;
  if (/[^aeiou]y$/.test(lower)) return `${lower.slice(0, -1)}ies`;
  return /(s|sh)$/.test(lower) ? `${lower}es` : `${lower}s`;
}

function of(groups: string | readonly string[], version: string, ...kinds: string[]): Resource[] {
  const all = typeof groups === "string" ? [groups] : groups;
  return kinds.map((kind) => ({ groups: all, version, plural: toPlural(kind), kind }));
}

/** ConfigMaps hold anything, secrets too: only those by name that tell how a mesh is set up. */
function configMap(name: string): Resource {
  const fieldSelector = `metadata.name=${name}`;
  return { ...of("", "v1", "ConfigMap")[0]!, fieldSelector };
}

const CALICO = ["projectcalico.org", "crd.projectcalico.org"];

export const RESOURCES: readonly Resource[] = [
  ...of("", "v1", "Node", "Namespace", "Pod", "Service", "ServiceAccount"),
  ...of("discovery.k8s.io", "v1", "EndpointSlice"),
  ...of("networking.k8s.io", "v1", "NetworkPolicy"),
  ...of("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy"),
  ...of(
    "policy.networking.k8s.io",
    "v1alpha1",
    ...["AdminNetworkPolicy", "BaselineAdminNetworkPolicy"],
  ),
  ...of("security.istio.io", "v1", "PeerAuthentication", "AuthorizationPolicy"),
  ...of("networking.istio.io", "v1", "DestinationRule", "ServiceEntry", "Sidecar", "Gateway"),
  ...of("policy.linkerd.io", "v1beta3", "Server"),
  ...of("policy.linkerd.io", "v1beta1", "ServerAuthorization"),
  ...of(
    "policy.linkerd.io",
    "v1alpha1",
    ...["AuthorizationPolicy", "MeshTLSAuthentication", "NetworkAuthentication"],
    ...["HTTPLocalRateLimitPolicy", "EgressNetwork"],
  ),
  ...of("policy.linkerd.io", "v1beta3", "HTTPRoute"),
  ...of("gateway.networking.k8s.io", "v1", "HTTPRoute", "GRPCRoute", "Gateway"),
  ...of(
    "consul.hashicorp.com",
    "v1alpha1",
    ...["ServiceIntentions", "ServiceDefaults", "ProxyDefaults", "Mesh", "ExportedServices"],
  ),
  ...of("cilium.io", "v2", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"),
  ...of("cilium.io", "v2", "CiliumCIDRGroup"),
  ...of(CALICO, "v3", "NetworkPolicy", "GlobalNetworkPolicy", "Tier", "Profile"),
  ...of(CALICO, "v3", "NetworkSet", "GlobalNetworkSet", "HostEndpoint"),
  ...of("wireproof.io", "v1", "Segmentation"),
  ...["istio", "linkerd-config", "consul-server-config", "cilium-config"].map(configMap),
];
