/** Reads from Istio's ConfigMap what its policies are read with: root namespace, trust domain. */
import { isMap, textAt, valueAt, type ClusterObject } from "../../../attribution/cluster-object.ts";
import { homeOf, ISTIO, settingsOf } from "../../manifest/control-plane.ts";
import { readYaml } from "../../manifest/yaml-text.ts";

export type MeshConfig = {
  rootNamespace: string;
  trustDomain: string;
  /** Null where no settings tell it: it may have been set to anything. */
  declaredTrustDomain: string | null;
  /** Clients send mutual TLS where servers take it and no DestinationRule says otherwise. */
  autoMtls: boolean;
};

/**
 * Istio's own defaults where its ConfigMap `istio` is not declared, or cannot be read. Its charts
 * write the root namespace into it: without it the root is where istiod is.
 */
export function readMeshConfig(
  objects: readonly ClusterObject[],
  map: ClusterObject | null = settingsOf(ISTIO, objects),
): MeshConfig {
  const text = textAt(map?.body, "data", "mesh");
  const found = text === null ? undefined : readYaml(text);
  const declaredTrustDomain = isMap(found)
    ? (textAt(found, "trustDomain") ?? "cluster.local")
    : null;
  return {
    declaredTrustDomain,
    rootNamespace:
      textAt(found, "rootNamespace") ?? map?.namespace ?? homeOf(ISTIO, objects).namespace,
    trustDomain: declaredTrustDomain ?? "cluster.local",
    autoMtls: valueAt(found, "enableAutoMtls") !== false,
  };
}
