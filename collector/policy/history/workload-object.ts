/** Makes of the pods of a time what decisions rest on: one object for each sort of pod. */
import { createHash } from "node:crypto";
import {
  hashObject,
  isMap,
  listAt,
  toClusterObject,
  valueAt,
  type ClusterObject,
  type Json,
  type JsonMap,
} from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { kept, readAnnotations } from "../manifest/pod-sort.ts";

/** Labels that controllers make up for each rollout or run: no policy is written with them. */
const MADE_UP = new Set([
  ...["pod-template-hash", "controller-revision-hash", "pod-template-generation"],
  ...["controller-uid", "batch.kubernetes.io/controller-uid", "rollouts-pod-template-hash"],
]);
/** Fields of a container that decisions rest on: ports, probes, what a proxy is told. */
const CONTAINER_FIELDS = [
  ...["name", "ports", "args", "command", "env", "restartPolicy"],
  ...["livenessProbe", "readinessProbe", "startupProbe"],
];

/**
 * One Pod object for each sort of pod of a workload, named by its workload; further sorts have a
 * part of their hash behind the name. Addresses are left out: they are the moment's.
 */
export function toWorkloadObjects(pods: Iterable<Holder>): ClusterObject[] {
  const sorts = new Map<string, ClusterObject>();
  const names = new Set<string>();
  for (const pod of pods) {
    if (pod.kind !== "pod" || pod.workload === null) continue;
    const body = bodyOf(pod);
    const sort = `${formatHolder(pod)} ${hashObject(body)}`;
    if (sorts.has(sort)) continue;
    const { kind, name } = pod.workload;
    const plain = kind === "Pod" ? name : `${name}.${kind.toLowerCase()}`;
    const digest = createHash("sha256").update(sort).digest("hex").slice(0, 8);
    const own = names.has(`${pod.namespace}/${plain}`) ? `${plain}.${digest}` : plain;
    names.add(`${pod.namespace}/${plain}`);
    const metadata = { ...(body["metadata"] as JsonMap), name: own };
    sorts.set(sort, toClusterObject({ ...body, metadata }, null)!);
  }
  return [...sorts.values()];
}

function bodyOf({ namespace, workload, labels, annotations, spec, ...pod }: Holder): JsonMap {
  const { kind, name } = workload!;
  const isOwn = kind === "Pod";
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace,
      labels: kept(labels, (key) => !MADE_UP.has(key)),
      annotations: readAnnotations(annotations),
      ...(isOwn ? {} : { ownerReferences: [referenceTo(kind, name)] }),
    },
    spec: {
      serviceAccountName: pod.serviceAccount,
      hostNetwork: pod.hostNetwork,
      ...(pod.hostNetwork ? { nodeName: pod.node } : {}),
      containers: listAt(spec, "containers").map(prune),
      initContainers: listAt(spec, "initContainers").map(prune),
    },
  };
}

/** The version of a group is not known, and of no matter to who it is. */
function referenceTo(kind: string, name: string): JsonMap {
  const dot = kind.indexOf(".");
  if (dot < 0) return { kind, name, controller: true };
  const apiVersion = `${kind.slice(dot + 1)}/unknown`;
  return { apiVersion, kind: kind.slice(0, dot), name, controller: true };
}

/** Values of variables stay out but for the meshes' own: a program's may be secrets. */
function prune(container: Json): Json {
  if (!isMap(container)) return null;
  const isProxy = /^(istio-proxy|istio-init|linkerd-proxy|linkerd-init|consul-)/.test(
    String(valueAt(container, "name")),
  );
  const told = CONTAINER_FIELDS.flatMap((field): [string, Json][] => {
    const value = container[field];
    if (value === undefined) return [];
    const isTold = field !== "env" && field !== "args" && field !== "command";
    return isTold || isProxy ? [[field, value]] : [];
  });
  return Object.fromEntries(told);
}
