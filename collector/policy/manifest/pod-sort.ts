/** Picks one pod of each sort: what rules treat alike need not be asked about again. */
import type { Labels } from "../../attribution/cluster-object.ts";
import type { Holder } from "../../attribution/holder.ts";

/** Annotations that meshes and network plugins read; others may hold anything, secrets too. */
const READ = /(^|\.)(istio\.io|linkerd\.io|consul\.hashicorp\.com|cilium\.io|projectcalico\.org)\//;
/** Among them, what Calico's plugin writes on each pod: its address, its container. */
const WRITTEN = /^cni\.projectcalico\.org\//;

/** In the order of their names. */
export function kept(labels: Labels, isKept: (key: string) => boolean): Labels {
  const entries = Object.entries(labels).filter(([key]) => isKept(key));
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

export const readAnnotations = (annotations: Labels): Labels =>
  kept(annotations, (key) => READ.test(key) && !WRITTEN.test(key));

/** The first pod of each sort, in their order; `sortOf` gives a text for what tells two apart. */
export function onePerSort(pods: readonly Holder[], sortOf: (pod: Holder) => string): Holder[] {
  return [...Map.groupBy(pods, sortOf).values()].map(([first]) => first!);
}

/** All but what tells replicas of one template apart; the node counts for pods on its network. */
export function sortOfReplica(pod: Holder): string {
  const {
    uid: _uid,
    object: _object,
    spec: _spec,
    node,
    name: _name,
    owner: _owner,
    ...rest
  } = pod;
  const annotations = readAnnotations(pod.annotations);
  return JSON.stringify([{ ...rest, annotations }, pod.hostNetwork ? node : null]);
}
