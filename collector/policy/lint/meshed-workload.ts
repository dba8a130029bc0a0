/** Checks where a workload, or some of its ports, stays outside of the mesh of its namespace. */
import { textAt, type ClusterObject } from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { readMeshed, SIDECARS, type Mesh } from "../mesh/meshed.ts";
import { ENCRYPTION, type Rule } from "./rule.ts";
import type { Scope } from "./scope.ts";

const graver = { pci: "error", hipaa: "error" } as const;

export const MESHED_WORKLOAD = {
  inbound: {
    id: "mesh-inbound-port-excluded",
    title: "ports on which the proxy is passed by",
    why: "What comes in there meets neither mutual TLS nor the mesh's authorization.",
    remedy: "drop the annotation, or guard the ports by NetworkPolicy",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
  outbound: {
    id: "mesh-outbound-excluded",
    title: "what goes out past the proxy",
    why: "These connections carry no mutual TLS and no identity.",
    remedy: "drop the annotation, or guard the way by NetworkPolicy",
    level: "note",
    pci: "warning",
    hipaa: "warning",
    controls: ENCRYPTION,
  },
  opaque: {
    id: "mesh-opaque-port",
    title: "ports on which Linkerd reads no protocol",
    why: "Mutual TLS holds, but HTTP is not seen: policy of routes does not apply.",
    remedy: "keep it for protocols in which the server speaks first",
    level: "note",
    strict: "note",
  },
  optedOut: {
    id: "mesh-opted-out",
    title: "a workload that leaves the mesh of its namespace",
    why: "It runs without a proxy where its neighbours have one: nothing is encrypted for it.",
    remedy: "drop the label or annotation, or say why it must stay outside",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
    needsPods: true,
  },
  hostNetwork: {
    id: "mesh-host-network",
    title: "a pod on the node's network in a meshed namespace",
    why: "No proxy is put into it, and NetworkPolicy is not for it.",
    remedy: "give it a network of its own, or a namespace outside of the mesh",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
    needsPods: true,
  },
  noSidecar: {
    id: "mesh-sidecar-missing",
    title: "a running pod without the proxy that it should have",
    why: "It was started before the mesh was switched on, or the injector failed.",
    remedy: "restart the workload, and look at the injector's webhook",
    level: "error",
    controls: ENCRYPTION,
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

const RULES = MESHED_WORKLOAD;

type Exclusion = {
  name: string;
  mesh: Mesh;
  rule: Rule;
  /** Null where this value leaves nothing out. */
  tell: (value: string) => string | null;
};

const listed = (what: string) => (value: string) =>
  value.trim() === "" ? null : `${what} ${value}`;
/** A list of what *is* captured: `*` captures all. */
const onlyListed = (what: string) => (value: string) =>
  value.trim() === "*" ? null : `${what} ${value.trim() === "" ? "all" : `all but ${value}`}`;

/**
 * istio cni/pkg/plugin/sidecar_redirect.go; linkerd2 pkg/k8s/labels.go; consul-k8s
 * control-plane/connect-inject/constants/annotations_and_labels.go.
 */
const ISTIO = "traffic.sidecar.istio.io/";
const LINKERD = "config.linkerd.io/";
const CONSUL = "consul.hashicorp.com/transparent-proxy";
const inbound = { rule: RULES.inbound };
const outbound = { rule: RULES.outbound };
const istio = { mesh: "istio" } as const;
const linkerd = { mesh: "linkerd" } as const;
const consul = { mesh: "consul" } as const;

const EXCLUSIONS: readonly Exclusion[] = [
  { name: `${ISTIO}excludeInboundPorts`, ...istio, ...inbound, tell: listed("ports") },
  { name: `${ISTIO}includeInboundPorts`, ...istio, ...inbound, tell: onlyListed("ports:") },
  {
    name: "sidecar.istio.io/interceptionMode",
    ...{ ...istio, ...inbound },
    tell: (value) => (value === "NONE" ? "everything" : null),
  },
  { name: `${ISTIO}excludeOutboundPorts`, ...istio, ...outbound, tell: listed("ports") },
  { name: `${ISTIO}excludeOutboundIPRanges`, ...istio, ...outbound, tell: listed("addresses") },
  {
    name: `${ISTIO}includeOutboundIPRanges`,
    ...istio,
    ...outbound,
    tell: onlyListed("addresses:"),
  },
  { name: `${LINKERD}skip-inbound-ports`, ...linkerd, ...inbound, tell: listed("ports") },
  { name: `${LINKERD}skip-outbound-ports`, ...linkerd, ...outbound, tell: listed("ports") },
  { name: `${LINKERD}skip-subnets`, ...linkerd, ...inbound, tell: listed("subnets") },
  { name: `${LINKERD}opaque-ports`, ...linkerd, rule: RULES.opaque, tell: listed("ports") },
  { name: `${CONSUL}-exclude-inbound-ports`, ...consul, ...inbound, tell: listed("ports") },
  { name: `${CONSUL}-exclude-outbound-ports`, ...consul, ...outbound, tell: listed("ports") },
  { name: `${CONSUL}-exclude-outbound-cidrs`, ...consul, ...outbound, tell: listed("addresses") },
  { name: `${CONSUL}-exclude-uids`, ...consul, ...outbound, tell: listed("users") },
  {
    name: CONSUL,
    ...{ ...consul, ...inbound },
    tell: (value) => (/^(0|f|F|FALSE|false|False)$/.test(value) ? "everything" : null),
  },
];

const VERBS = new Map<Rule, string>([
  [RULES.inbound, "come in past the proxy"],
  [RULES.outbound, "go out past the proxy"],
  [RULES.opaque, "are opaque to the proxy"],
]);

export function checkMeshedWorkloads(scope: Scope): void {
  for (const pod of scope.pods) {
    checkExclusions(scope, pod);
    checkMembership(scope, pod);
  }
  // What a namespace says holds for each of its pods that says nothing.
  for (const space of scope.ofKind("Namespace", "v1")) {
    for (const { name, mesh, rule, tell } of EXCLUSIONS) {
      const value = space.annotations[name];
      const what = value === undefined || mesh !== "linkerd" ? null : tell(value);
      if (what !== null) tellSpace(scope, space, rule, name, what);
    }
  }
}

function tellSpace(scope: Scope, space: ClusterObject, rule: Rule, name: string, what: string) {
  const sentence = `namespace ${space.name}: ${what} ${VERBS.get(rule)}`;
  scope.report(rule, space, ["metadata", "annotations", name], sentence);
}

function checkExclusions(scope: Scope, pod: Holder): void {
  const found = scope.policy.meshedOf(pod).mesh;
  for (const { name, mesh, rule, tell } of EXCLUSIONS) {
    const value = pod.annotations[name];
    const what = value === undefined || mesh !== found ? null : tell(value);
    if (what === null) continue;
    const sentence = `${formatHolder(pod)}: ${what} ${VERBS.get(rule)}`;
    scope.reportPod(rule, pod, ["metadata", "annotations", name], sentence);
  }
}

/** Labels and annotations that take a pod out of a mesh (`readMeshed`). */
const OPT_OUTS: readonly [string, string][] = [
  ["sidecar.istio.io/inject", "false"],
  ["istio.io/dataplane-mode", "none"],
  ["linkerd.io/inject", "disabled"],
  ["consul.hashicorp.com/connect-inject", "false"],
];

function checkMembership(scope: Scope, pod: Holder): void {
  const who = formatHolder(pod);
  const around = readMeshed(scope.anyPodIn(pod.namespace));
  const own = readMeshed(pod);
  if (around.mesh !== null && pod.hostNetwork) {
    const sentence = `${who} is on the node's network, though ${around.sentence}`;
    scope.reportPod(RULES.hostNetwork, pod, ["spec", "hostNetwork"], sentence);
  } else if (around.mesh !== null && own.mesh === null && own.certain) {
    const key = OPT_OUTS.find(
      ([name, value]) => (pod.labels[name] ?? pod.annotations[name]) === value,
    )?.[0];
    const map = key !== undefined && key in pod.labels ? "labels" : "annotations";
    const path = key === undefined ? ["metadata"] : ["metadata", map, key];
    scope.reportPod(
      RULES.optedOut,
      pod,
      path,
      `${who}: ${own.sentence}, though ${around.sentence}`,
    );
  }
  const object = scope.objectOf(pod);
  const isRunning = object?.kind === "Pod" && textAt(object.body, "status", "phase") === "Running";
  const hasProxy = pod.containers.some((name) => name in SIDECARS);
  const needsProxy = own.certain && own.mesh !== null && own.mesh !== "ambient";
  const isGateway = pod.annotations["consul.hashicorp.com/gateway-kind"] !== undefined;
  if (isRunning && needsProxy && !hasProxy && !isGateway) {
    const sentence = `${who} runs without the proxy of ${own.mesh}, though ${own.sentence}`;
    scope.reportPod(RULES.noSidecar, pod, ["spec", "containers"], sentence);
  }
}
