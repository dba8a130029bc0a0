/** Turns workload objects whose pods are not there into the pods that their templates describe. */
import {
  groupKind,
  isMap,
  labelsAt,
  textAt,
  valueAt,
  type ClusterObject,
} from "./cluster-object.ts";
import { toPodHolder, type Holder, type NamespaceText, type Workload } from "./holder.ts";
import { isPassing, ownerOf, selfOf } from "./owner.ts";

const TEMPLATE = ["spec", "template"];
/** Where each kind keeps its pod template; with the API groups that it was ever in. */
const TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  "Deployment.apps": TEMPLATE,
  "Deployment.extensions": TEMPLATE,
  "ReplicaSet.apps": TEMPLATE,
  "ReplicaSet.extensions": TEMPLATE,
  "ReplicationController.": TEMPLATE,
  "StatefulSet.apps": TEMPLATE,
  "DaemonSet.apps": TEMPLATE,
  "DaemonSet.extensions": TEMPLATE,
  "DeploymentConfig.apps.openshift.io": TEMPLATE,
  "Rollout.argoproj.io": TEMPLATE,
  "VirtualMachine.kubevirt.io": TEMPLATE,
  "Job.batch": TEMPLATE,
  "CronJob.batch": ["spec", "jobTemplate", "spec", "template"],
};

export const WORKLOAD_KINDS = Object.keys(TEMPLATES);

/** Who usually owns what stands between a workload and its pods, where nothing tells. */
const PARENTS: Readonly<Record<string, string>> = { ReplicaSet: "Deployment", Job: "CronJob" };

/**
 * Pods as the templates say, without addresses. Left out: a workload whose pods are there; one
 * that another declared workload owns (a Deployment's ReplicaSet); one whose pods are there by way
 * of an owner that is not declared (pods of ReplicaSet `web-5d9c` stand for Deployment `web`).
 */
export function templatePods(
  objects: Iterable<ClusterObject>,
  pods: readonly Holder[],
  space: (namespace: string) => NamespaceText,
): Holder[] {
  const templates = [...objects].filter((object) => groupKind(object) in TEMPLATES);
  const declared = new Set(templates.map((object) => nameOf(selfOf(object))));
  const running = new Set<string>();
  for (const { owner, workload } of pods) {
    if (owner === null || workload === null) continue;
    const { kind, namespace, name } = owner;
    for (const one of [owner, workload]) running.add(nameOf(one));
    const parent = PARENTS[kind];
    if (parent === undefined) continue;
    running.add(nameOf({ kind: parent, namespace, name: name.replace(/-[a-z0-9]+$/, "") }));
  }
  return templates.flatMap((object) => {
    const [self, owner] = [selfOf(object), ownerOf(object)];
    const isOwned = nameOf(owner) !== nameOf(self);
    if (isOwned && declared.has(nameOf(owner))) return [];
    if (running.has(nameOf(self))) return [];
    const template = valueAt(object.body, ...TEMPLATES[groupKind(object)]!);
    if (!isMap(template)) return [];
    const pod = {
      name: textAt(template, "metadata", "name") ?? object.name,
      labels: labelsAt(template, "metadata", "labels"),
      annotations: labelsAt(template, "metadata", "annotations"),
    };
    const workloads = { owner: self, root: isPassing(self) ? owner : self };
    const spec = valueAt(template, "spec");
    return [toPodHolder(object, pod, spec, [], workloads, space(object.namespace))];
  });
}

const nameOf = ({ kind, namespace, name }: Workload) => `${kind}/${namespace}/${name}`;
