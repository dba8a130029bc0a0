/** Finds where a mesh, or a network plugin, keeps its own settings: no other namespace counts. */
import {
  labelsAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
  type Labels,
} from "../../attribution/cluster-object.ts";
import { containersOf, readArgument } from "../mesh/container.ts";

/** A control plane: its settings count in its own namespace, whoever else uses the name. */
export type Plane = {
  title: string;
  /** The namespace that its own installers use. */
  home: string;
  /** Reports whether a ConfigMap has the name, and the form, of its settings. */
  isSettings: (map: ClusterObject) => boolean;
  /** Reports whether a workload is the control plane itself, by its pod's labels and container. */
  isRun: (labels: Labels, container: Json, namespace: string) => boolean;
};

const isNamed = (name: string) => (map: ClusterObject) => map.name === name;

/** manifests/charts/istio-control/istio-discovery/templates/deployment.yaml (istio 0000f4b). */
export const ISTIO: Plane = {
  title: "Istio",
  home: "istio-system",
  isSettings: isNamed("istio"),
  isRun: (labels, container) =>
    labels["app"] === "istiod" && textAt(container, "name") === "discovery",
};

/** charts/linkerd-control-plane/templates/destination.yaml (Linkerd 2.18). */
export const LINKERD: Plane = {
  title: "Linkerd",
  home: "linkerd",
  isSettings: isNamed("linkerd-config"),
  isRun: (_labels, container, namespace) =>
    textAt(container, "name") === "policy" &&
    readArgument(container, "--control-plane-namespace") === namespace,
};

/** charts/consul/templates: server-statefulset, server-config-configmap (consul-k8s 00446b4). */
export const CONSUL: Plane = {
  title: "Consul",
  home: "consul",
  isSettings: (map) =>
    map.name.endsWith("server-config") && textAt(map.body, "data", "server.json") !== null,
  isRun: (labels, container) =>
    labels["app"] === "consul" &&
    labels["component"] === "server" &&
    textAt(container, "name") === "consul",
};

/** install/kubernetes/cilium/templates/cilium-agent/daemonset.yaml (cilium 02515d1). */
export const CILIUM: Plane = {
  title: "Cilium",
  home: "kube-system",
  isSettings: isNamed("cilium-config"),
  isRun: (labels, container) =>
    labels["k8s-app"] === "cilium" && textAt(container, "name") === "cilium-agent",
};

export const PLANES: readonly Plane[] = [ISTIO, LINKERD, CONSUL, CILIUM];

const KINDS = new Set(["Deployment", "StatefulSet", "DaemonSet", "Pod"]);

/** The container by which a workload is shown to be the control plane; null where it is not. */
export function containerOf(plane: Plane, { kind, namespace, body }: ClusterObject): Json | null {
  if (!KINDS.has(kind)) return null;
  const pod = kind === "Pod" ? body : valueAt(body, "spec", "template");
  const labels = labelsAt(pod, "metadata", "labels");
  const containers = containersOf(valueAt(pod, "spec"));
  return containers.find((container) => plane.isRun(labels, container, namespace)) ?? null;
}

/**
 * Reports whether decisions rest on a workload as a control plane's. Pods that run where all
 * installers put them show nothing beyond their settings; only Linkerd's have flags that count.
 */
export function tellsPlane(object: ClusterObject): boolean {
  return PLANES.some((plane) => {
    const isUsual = object.kind === "Pod" && object.namespace === plane.home && plane !== LINKERD;
    return !isUsual && containerOf(plane, object) !== null;
  });
}

/**
 * The control plane's namespace: its installers' own, as soon as anything of it is there; else the
 * one in which its workloads are declared. Several of those, and it is not certain which: anybody
 * may run a workload that looks so.
 */
export function homeOf(
  plane: Plane,
  objects: readonly ClusterObject[],
): { namespace: string; isCertain: boolean } {
  const shown = new Set<string>();
  for (const object of objects) {
    const isOf = object.kind === "ConfigMap" ? plane.isSettings(object) : false;
    if (isOf && object.namespace === plane.home) return { namespace: plane.home, isCertain: true };
    if (containerOf(plane, object) !== null) shown.add(object.namespace);
  }
  if (shown.size === 0 || shown.has(plane.home)) return { namespace: plane.home, isCertain: true };
  const [only] = shown;
  return { namespace: shown.size === 1 ? only! : plane.home, isCertain: shown.size === 1 };
}

/** ConfigMaps that have the name, and the form, of its settings, wherever they stand. */
function mapsOf(plane: Plane, objects: readonly ClusterObject[]): ClusterObject[] {
  return objects.filter((o) => o.kind === "ConfigMap" && plane.isSettings(o));
}

/** The ConfigMap with the control plane's settings; null where it is not declared. */
export function settingsOf(plane: Plane, objects: readonly ClusterObject[]): ClusterObject | null {
  const maps = mapsOf(plane, objects);
  if (maps.length === 0) return null;
  const { namespace } = homeOf(plane, objects);
  return maps.find((map) => map.namespace === namespace) ?? null;
}

/** A ConfigMap that has the name of a control plane's settings, and stands elsewhere. */
export type Stray = { plane: Plane; map: ClusterObject; home: string };

export function straySettings(objects: readonly ClusterObject[]): Stray[] {
  return PLANES.flatMap((plane) => {
    const maps = mapsOf(plane, objects);
    if (maps.length === 0) return [];
    const home = homeOf(plane, objects).namespace;
    return maps.filter((map) => map.namespace !== home).map((map) => ({ plane, map, home }));
  });
}

/** Control planes whose settings are anybody's guess: workloads of several namespaces are one. */
export function doubtfulPlanes(objects: readonly ClusterObject[]): Plane[] {
  return PLANES.filter((plane) => !homeOf(plane, objects).isCertain);
}
