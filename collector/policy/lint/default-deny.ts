/** Checks which namespaces let in, or out, what no policy speaks of. */
import type { Holder } from "../../attribution/holder.ts";
import { NetworkLayer } from "../packet/network-layer.ts";
import type { Direction } from "../packet/network-policy.ts";
import { BOUNDARY, type Rule } from "./rule.ts";
import { nameWorkloads, type Scope } from "./scope.ts";

export const DEFAULT_DENY = {
  ingress: {
    id: "network-no-default-deny-ingress",
    title: "a namespace without default-deny for ingress",
    why: "A pod that no policy selects takes whatever comes, and a new one is such a pod.",
    remedy: "add a NetworkPolicy with an empty podSelector and policyTypes [Ingress]",
    level: "warning",
    pci: "error",
    hipaa: "error",
    controls: {
      pci: ["1.3.1", "7.2.1", "7.3.3"],
      hipaa: ["164.312(a)(1)"],
      nist: ["sc-7.5", "ac-4"],
    },
    needsPods: true,
  },
  egress: {
    id: "network-no-default-deny-egress",
    title: "a namespace without default-deny for egress",
    why: "A pod that no policy selects may connect to anything, outside of the cluster too.",
    remedy: "add a NetworkPolicy with an empty podSelector and policyTypes [Egress]",
    level: "note",
    pci: "error",
    hipaa: "warning",
    controls: { ...BOUNDARY, pci: ["1.3.2", "7.3.3"] },
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

/** A port of which no policy is likely to speak by itself. */
const PORT = 64_999;

export function checkDefaultDeny(scope: Scope): void {
  const layer = new NetworkLayer(scope.declared.objects, scope.faultsOf, "never");
  const namespaces = new Set(
    scope.pods.filter((pod) => !pod.hostNetwork).map(({ namespace }) => namespace),
  );
  for (const namespace of [...namespaces].sort()) {
    for (const direction of ["ingress", "egress"] as const) {
      checkOne(scope, layer, namespace, direction);
    }
  }
}

function checkOne(scope: Scope, layer: NetworkLayer, name: string, direction: Direction): void {
  const stranger = scope.anyPodIn("wireproof-stranger");
  /** Whether anything that is declared speaks of a stranger and this pod. */
  const isBound = (pod: Holder) => {
    const [client, server] = direction === "ingress" ? [stranger, pod] : [pod, stranger];
    const { because } = layer.decide(client, server, "TCP", PORT);
    // What the stranger itself is bound by does not count.
    const other = direction === "ingress" ? /egress/i : /ingress/i;
    return because.some(({ rule }) => !other.test(rule));
  };
  if (isBound(scope.anyPodIn(name))) return;
  const pods = scope.podsIn(name).filter((pod) => !pod.hostNetwork);
  const open = pods.filter((pod) => !isBound(pod));
  const does = direction === "ingress" ? "whatever comes reaches" : "nothing binds";
  const who =
    open.length === 0
      ? "each workload is selected by some policy, but one that is added would be open"
      : `${does} ${nameWorkloads(open)}`;
  const sentence = `namespace ${name} has no default-deny for ${direction}: ${who}`;
  const rule = DEFAULT_DENY[direction];
  const space = scope.namespaceOf(name);
  if (space !== null) scope.report(rule, space, ["metadata", "name"], sentence);
  else scope.reportPod(rule, open[0] ?? pods[0]!, ["metadata"], sentence);
}
