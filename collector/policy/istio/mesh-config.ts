/** Reads from Istio's ConfigMap what its policies are read with: root namespace, trust domain. */
import { parseDocument } from "yaml";
import { isMap, textAt, type ClusterObject, type Json } from "../../attribution/cluster-object.ts";

export type MeshConfig = { rootNamespace: string; trustDomain: string };

/** Istio's own defaults where there is no ConfigMap `istio`, or it cannot be read. */
export function readMeshConfig(objects: readonly ClusterObject[]): MeshConfig {
  const map = objects.find((o) => o.kind === "ConfigMap" && o.name === "istio");
  const text = textAt(map?.body, "data", "mesh");
  const document = text === null ? null : parseDocument(text);
  const mesh =
    document === null || document.errors.length > 0 ? null : (document.toJS() as Json | null);
  const found = isMap(mesh) ? mesh : undefined;
  return {
    rootNamespace: textAt(found, "rootNamespace") ?? "istio-system",
    trustDomain: textAt(found, "trustDomain") ?? "cluster.local",
  };
}
