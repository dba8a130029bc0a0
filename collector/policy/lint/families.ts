/** Lists every rule of the linter by family, with the check that finds its breaches. */
import { ADMIN_POLICY, checkAdminPolicies } from "./admin-policy.ts";
import { checkConsul, CONSUL_INTENTION } from "./consul-intention.ts";
import { checkCrossings, CROSSING } from "./crossing.ts";
import { checkDefaultDeny, DEFAULT_DENY } from "./default-deny.ts";
import { checkDestinationRules, DESTINATION_RULE } from "./destination-rule.ts";
import { checkIstioAuthentication, ISTIO_AUTHENTICATION } from "./istio-authentication.ts";
import { checkIstioAuthorization, ISTIO_AUTHORIZATION } from "./istio-authorization.ts";
import { checkLinkerd, LINKERD_AUTHORIZATION } from "./linkerd-authorization.ts";
import { checkManifests, MANIFEST } from "./manifest.ts";
import { checkMeshedWorkloads, MESHED_WORKLOAD } from "./meshed-workload.ts";
import { checkNetworkPolicies, NETWORK_POLICY } from "./network-policy.ts";
import type { Rule } from "./rule.ts";
import type { Scope } from "./scope.ts";
import { checkSelection, SELECTION } from "./selection.ts";
import { checkSettings, SETTINGS } from "./settings.ts";
import { checkTunnelPorts, TUNNEL_PORT } from "./tunnel-port.ts";
import { checkZones, ZONE } from "./zone.ts";

export type Family = {
  title: string;
  rules: readonly Rule[];
  check: (scope: Scope) => void;
};

const family = (
  title: string,
  rules: Readonly<Record<string, Rule>>,
  check: Family["check"],
): Family => ({ title, rules: Object.values(rules), check });

export const FAMILIES: readonly Family[] = [
  family("manifests", MANIFEST, (scope) => checkManifests(scope, RULE_IDS)),
  family("selectors", SELECTION, checkSelection),
  family("NetworkPolicy: default-deny", DEFAULT_DENY, checkDefaultDeny),
  family("NetworkPolicy", NETWORK_POLICY, checkNetworkPolicies),
  family("the cluster's own tiers", ADMIN_POLICY, checkAdminPolicies),
  family("settings", SETTINGS, checkSettings),
  family("any mesh", MESHED_WORKLOAD, checkMeshedWorkloads),
  family("a mesh's own port", TUNNEL_PORT, checkTunnelPorts),
  family("Istio: PeerAuthentication", ISTIO_AUTHENTICATION, checkIstioAuthentication),
  family("Istio: DestinationRule", DESTINATION_RULE, checkDestinationRules),
  family("Istio: AuthorizationPolicy", ISTIO_AUTHORIZATION, checkIstioAuthorization),
  family("Linkerd", LINKERD_AUTHORIZATION, checkLinkerd),
  family("Consul", CONSUL_INTENTION, checkConsul),
  family("segmentation", ZONE, checkZones),
  family("segmentation against the network", CROSSING, checkCrossings),
];

export const ALL_RULES: readonly Rule[] = FAMILIES.flatMap(({ rules }) => rules);

const RULE_IDS: ReadonlySet<string> = new Set(ALL_RULES.map(({ id }) => id));
