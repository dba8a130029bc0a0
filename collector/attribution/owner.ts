/** Tells to which workload a pod belongs: its owner, and the root of its owners. */
import { isMap, listAt, textAt, type ClusterObject } from "./cluster-object.ts";
import type { Workload } from "./holder.ts";

/** Kubernetes' own groups of workloads, `extensions` by its old name: their kinds need none. */
const PLAIN_GROUPS: ReadonlySet<string> = new Set(["", "apps", "batch", "extensions"]);

/** `Deployment`, `Rollout.argoproj.io`: two kinds of one name do not merge. */
function kindName(apiVersion: string, kind: string): string {
  const group = apiVersion.includes("/") ? apiVersion.split("/")[0]! : "";
  return PLAIN_GROUPS.has(group) ? kind : `${kind}.${group}`;
}

/** The object itself, named as a workload. */
export function selfOf({ apiVersion, kind, namespace, name }: ClusterObject): Workload {
  return { kind: kindName(apiVersion, kind), namespace, name };
}

/** One ownerReference up, the controlling one; static pods belong to themselves, not the Node. */
export function ownerOf(object: ClusterObject): Workload {
  const owners = listAt(object.body, "metadata", "ownerReferences").filter(isMap);
  const owner = owners.find((o) => o["controller"] === true);
  const [name, kind] = [textAt(owner, "name"), textAt(owner, "kind")];
  if (name === null || kind === null || kind === "Node") return selfOf(object);
  const { namespace } = object;
  return { kind: kindName(textAt(owner, "apiVersion") ?? "", kind), namespace, name };
}

/** What makes up the hash that a ReplicaSet's name ends with, by the label that its pods have. */
const MAKERS: readonly (readonly [label: string, kind: string])[] = [
  ["pod-template-hash", "Deployment"],
  ["rollouts-pod-template-hash", "Rollout.argoproj.io"],
];

/** A Job's pods come within so long after the time for which its CronJob made it. */
const JOB_AGE_MS = 31 * 86_400_000;

/** Reports whether a workload stands between its owner, if it has one, and the pods. */
export const isPassing = ({ kind }: Workload) => kind === "ReplicaSet" || kind === "Job";

/**
 * The root of a pod's owners. What stands between, a ReplicaSet or a Job, is not listed in a
 * cluster, so its name has to tell: `web-6f7c8d9b55` with `pod-template-hash: 6f7c8d9b55` is
 * Deployment `web`, `backup-29934916` is CronJob `backup` when the number is the minute (before
 * Kubernetes 1.21 the second) for which it was made. Who makes such names and labels by hand is
 * taken for a Deployment, or a CronJob; who was made from a CronJob by hand, under another name, is
 * its Job. `find` gives what is declared of an owner, as manifests may have it: that decides.
 */
export function rootOf(
  pod: ClusterObject,
  find: (owner: Workload) => ClusterObject | null,
): Workload {
  const owner = ownerOf(pod);
  if (!isPassing(owner)) return owner;
  const declared = find(owner);
  if (declared !== null) return ownerOf(declared);
  const { namespace, name } = owner;
  if (owner.kind === "ReplicaSet") {
    for (const [label, kind] of MAKERS) {
      const hash = pod.labels[label];
      if (hash === undefined || !name.endsWith(`-${hash}`)) continue;
      const parent = name.slice(0, -hash.length - 1);
      if (parent !== "") return { kind, namespace, name: parent };
    }
    return owner;
  }
  const parts = /^(.+)-(\d{8}|\d{10})$/.exec(name);
  if (parts === null || pod.createdMs === null) return owner;
  const [, parent, digits] = parts;
  const ageMs = pod.createdMs - Number(digits) * (digits!.length === 8 ? 60_000 : 1000);
  const isMade = ageMs > -60_000 && ageMs < JOB_AGE_MS;
  return isMade ? { kind: "CronJob", namespace, name: parent! } : owner;
}
