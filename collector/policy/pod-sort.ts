/** Picks one pod of each sort: what rules treat alike need not be asked about again. */
import type { Holder } from "../attribution/holder.ts";

/** The first pod of each sort, in their order; `sortOf` gives a text for what tells two apart. */
export function onePerSort(pods: readonly Holder[], sortOf: (pod: Holder) => string): Holder[] {
  return [...Map.groupBy(pods, sortOf).values()].map(([first]) => first!);
}

/** All but what tells replicas of one template apart; the node counts for pods on its network. */
export function sortOfReplica(pod: Holder): string {
  const { uid: _uid, object: _object, spec: _spec, node, name: _name, ...rest } = pod;
  return JSON.stringify([rest, pod.hostNetwork ? node : null]);
}
