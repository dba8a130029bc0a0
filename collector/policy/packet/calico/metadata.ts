/**
 * Reads the name and labels that Calico's API server stores in an annotation of an object of the
 * storage's group (libcalico-go/lib/backend/k8s/resources/resources.go).
 */
import {
  isMap,
  labelsAt,
  textAt,
  type ClusterObject,
  type Json,
  type Labels,
} from "../../../attribution/cluster-object.ts";

export const METADATA = "projectcalico.org/metadata";

/** Null where there is no such annotation, undefined where it cannot be read. */
export function readMetadata({ apiVersion, annotations }: ClusterObject): Json | null | undefined {
  if (!apiVersion.startsWith("crd.") || !Object.hasOwn(annotations, METADATA)) return null;
  try {
    const found = JSON.parse(annotations[METADATA]!) as Json;
    return isMap(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** An object's own labels, and over them those of the annotation. */
export function labelsOf(object: ClusterObject): Labels {
  const stored = readMetadata(object) ?? null;
  return stored === null ? object.labels : { ...object.labels, ...labelsAt(stored, "labels") };
}

/**
 * The name by which policies of one order follow one another: that of the annotation, else without
 * the `default.` that the API server once put before names of the default tier.
 */
export function nameOf(object: ClusterObject): string {
  const stored = readMetadata(object) ?? null;
  if (stored === null) return object.name;
  const isDefault = (textAt(object.body, "spec", "tier") ?? "default") === "default";
  return (
    textAt(stored, "name") ?? (isDefault ? object.name.replace(/^default\./, "") : object.name)
  );
}
