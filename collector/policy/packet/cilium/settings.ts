/** Reads what Cilium's policies are read with: its agent's settings, and who the API server is. */
import { parseAddress, type Address } from "../../../attribution/address.ts";
import {
  listAt,
  textAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Ternary } from "../../decision/ternary.ts";
import { CILIUM, settingsOf } from "../../manifest/control-plane.ts";

/** From ConfigMap `cilium-config`; what it does not tell is as pkg/option and its chart have it. */
export type CiliumSettings = {
  object: ClusterObject | null;
  /** Documentation/security/policy/intro.rst; null where the word is none of the three. */
  enforcement: "default" | "always" | "never" | null;
  /** Whether what is denied passes, and is told only. */
  audits: boolean;
  /** Whether nodes have policies at all; null where nothing tells. */
  hostFirewall: Ternary;
  /** Whether nodes are told apart by their labels; null where nothing tells. */
  nodeLabels: Ternary;
  /** Whether only some of a node's labels count then. */
  choosesNodeLabels: boolean;
  /** `policy-cidr-match-mode`. */
  cidrMatchesNodes: boolean;
  cidrMatchesPods: boolean;
  /** Whether a node reaches its own pods where no policy lets it. */
  allowsLocalhost: boolean;
  /** Whether `enableDefaultDeny` counts. */
  mayNotIsolate: boolean;
  /** Null where nothing tells. */
  clusterName: string | null;
  /** Whether other labels than the standard ones make an identity. */
  choosesLabels: boolean;
  /** Whether both families of addresses are in use; null where nothing tells. */
  dualStack: Ternary;
  /** Null where nothing tells the addresses of the API server. */
  apiServers: readonly Address[] | null;
};

export function readSettings(
  objects: readonly ClusterObject[],
  object: ClusterObject | null = settingsOf(CILIUM, objects),
): CiliumSettings {
  const told = (key: string) => (object === null ? null : textAt(object.body, "data", key));
  const flag = (key: string, standard: boolean) => {
    const text = told(key);
    return text === null ? standard : text === "true";
  };
  /** A flag whose standard is known only where the settings are declared. */
  const off = (key: string): Ternary => (object === null ? null : flag(key, false));
  const mode = (told("enable-policy") ?? "default").toLowerCase();
  const matching = (told("policy-cidr-match-mode") ?? "").split(/[\s,]+/);
  const known = mode === "default" || mode === "always" || mode === "never";
  const families = [told("enable-ipv4"), told("enable-ipv6")];
  return {
    object,
    enforcement: known ? mode : null,
    audits: flag("policy-audit-mode", false),
    hostFirewall: off("enable-host-firewall"),
    nodeLabels: off("enable-node-selector-labels"),
    choosesNodeLabels: told("node-labels") !== null,
    cidrMatchesNodes: matching.includes("nodes"),
    cidrMatchesPods: matching.includes("pods"),
    // On Kubernetes `auto` is `always`.
    allowsLocalhost: told("allow-localhost") !== "policy",
    mayNotIsolate: flag("enable-non-default-deny-policies", true),
    clusterName: told("cluster-name"),
    choosesLabels: (told("labels") ?? told("label-prefix-file")) !== null,
    dualStack: families.includes(null) ? null : families.every((family) => family === "true"),
    apiServers: readApiServers(objects),
  };
}

/** The addresses behind Service `default/kubernetes`, which Cilium takes for the API server. */
function readApiServers(objects: readonly ClusterObject[]): Address[] | null {
  const found = objects.filter(
    ({ kind, namespace, name, body }) =>
      namespace === "default" &&
      ((kind === "Endpoints" && name === "kubernetes") ||
        (kind === "EndpointSlice" &&
          (name === "kubernetes" ||
            textAt(body, "metadata", "labels", "kubernetes.io/service-name") === "kubernetes"))),
  );
  if (found.length === 0) return null;
  return found.flatMap(({ body }) => addressesOf(body));
}

/** Those that an EndpointSlice, or an Endpoints, lists. */
export function addressesOf(body: Json): Address[] {
  const listed = listAt(body, "endpoints").flatMap((endpoint) => listAt(endpoint, "addresses"));
  const nested = listAt(body, "subsets")
    .flatMap((subset) => listAt(subset, "addresses"))
    .flatMap((address) => textAt(address, "ip") ?? []);
  return [...listed, ...nested].flatMap((text) => parseAddress(String(text)) ?? []);
}
