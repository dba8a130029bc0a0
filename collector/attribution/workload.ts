/** Turns workload objects whose pods are not there into the pods that their templates describe. */
import {
  groupKind,
  isMap,
  labelsAt,
  textAt,
  valueAt,
  type ClusterObject,
} from "./cluster-object.ts";
import { toPodHolder, workloadOf, type Holder, type NamespaceText } from "./holder.ts";

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
  const declared = new Set(templates.map((o) => `${o.kind}/${o.namespace}/${o.name}`));
  const running = new Set<string>();
  for (const { workload } of pods) {
    if (workload === null) continue;
    running.add(`${workload.kind}/${workload.namespace}/${workload.name}`);
    const parent = workload.name.replace(/-[a-z0-9]+$/, "");
    if (workload.kind === "ReplicaSet") running.add(`Deployment/${workload.namespace}/${parent}`);
    if (workload.kind === "Job") running.add(`CronJob/${workload.namespace}/${parent}`);
  }
  return templates.flatMap((object) => {
    const workload = workloadOf(object);
    const owned = workload.name !== object.name || workload.kind !== object.kind;
    if (owned && declared.has(`${workload.kind}/${workload.namespace}/${workload.name}`)) return [];
    if (running.has(`${object.kind}/${object.namespace}/${object.name}`)) return [];
    const template = valueAt(object.body, ...TEMPLATES[groupKind(object)]!);
    if (!isMap(template)) return [];
    const pod = {
      name: textAt(template, "metadata", "name") ?? object.name,
      labels: labelsAt(template, "metadata", "labels"),
      annotations: labelsAt(template, "metadata", "annotations"),
    };
    const self = { kind: object.kind, namespace: object.namespace, name: object.name };
    const spec = valueAt(template, "spec");
    return [toPodHolder(object, pod, spec, [], self, space(object.namespace))];
  });
}
