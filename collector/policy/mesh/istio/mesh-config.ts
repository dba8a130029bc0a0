/** Reads from Istio's ConfigMap what its policies are read with: root namespace, trust domain. */
import { textAt, valueAt, type ClusterObject } from "../../../attribution/cluster-object.ts";
import { readYaml } from "../../manifest/yaml-text.ts";

export type MeshConfig = {
  rootNamespace: string;
  trustDomain: string;
  /** Clients send mutual TLS where servers take it and no DestinationRule says otherwise. */
  autoMtls: boolean;
};

/** Istio's own defaults where there is no ConfigMap `istio`, or it cannot be read. */
export function readMeshConfig(objects: readonly ClusterObject[]): MeshConfig {
  const map = objects.find((o) => o.kind === "ConfigMap" && o.name === "istio");
  const text = textAt(map?.body, "data", "mesh");
  const found = text === null ? undefined : readYaml(text);
  return {
    rootNamespace: textAt(found, "rootNamespace") ?? "istio-system",
    trustDomain: textAt(found, "trustDomain") ?? "cluster.local",
    autoMtls: valueAt(found, "enableAutoMtls") !== false,
  };
}
