/** Checks where Istio's PeerAuthentication leaves mutual TLS open, or says less than it seems. */
import {
  isMap,
  labelsAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Labels,
} from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import { hasLabels } from "../../attribution/selector.ts";
import { byAge, formatObject } from "../decision/because.ts";
import { readMeshed } from "../mesh/meshed.ts";
import { ServiceTargets } from "../mesh/service-target.ts";
import { CONFIGURATION, ENCRYPTION, type Rule } from "./rule.ts";
import { nameWorkloads, type Scope } from "./scope.ts";

const graver = { pci: "error", hipaa: "error" } as const;

export const ISTIO_AUTHENTICATION = {
  permissive: {
    id: "istio-mtls-permissive",
    title: "mutual TLS is PERMISSIVE",
    why: "The server takes plaintext beside mutual TLS, from anybody who reaches it.",
    remedy: "set STRICT as soon as every caller is in the mesh",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
  disabled: {
    id: "istio-mtls-disabled",
    title: "mutual TLS is DISABLE",
    why: "The sidecar ends no TLS: what arrives, plaintext too, goes on as it is.",
    remedy: "set STRICT, or leave the mode out to inherit it",
    level: "error",
    controls: ENCRYPTION,
  },
  undeclared: {
    id: "istio-mtls-undeclared",
    title: "nothing declares a mode: it is PERMISSIVE",
    why: "A meshed workload for which no PeerAuthentication sets a mode takes plaintext.",
    remedy: "declare a PeerAuthentication with STRICT in the root namespace, or in this one",
    level: "warning",
    ...graver,
    controls: ENCRYPTION,
  },
  shadowed: {
    id: "istio-peerauthentication-shadowed",
    title: "an older PeerAuthentication of the same level counts",
    why: "Of several at one level Istio takes the oldest, and passes over the others.",
    remedy: "keep one for each namespace, and one for each set of workloads",
    level: "warning",
    controls: CONFIGURATION,
  },
  rootSelector: {
    id: "istio-selector-in-root-namespace",
    title: "a PeerAuthentication with a selector in the root namespace",
    why: "Istio passes it over: it secures neither the mesh nor a workload.",
    remedy: "drop the selector for the whole mesh, or move it to the workload's namespace",
    level: "error",
    controls: CONFIGURATION,
  },
  portsWithoutSelector: {
    id: "istio-port-mtls-without-selector",
    title: "portLevelMtls without a selector",
    why: "Istio takes modes of ports from policies of workloads alone, and refuses this one.",
    remedy: "add a selector, or drop portLevelMtls",
    level: "error",
    controls: CONFIGURATION,
  },
  servicePort: {
    id: "istio-port-mtls-service-port",
    title: "portLevelMtls names a Service's port",
    why: "Its keys are the containers' ports: the mode is set for a port that nobody uses.",
    remedy: "name the port that the Service's targetPort leads to",
    level: "error",
    controls: CONFIGURATION,
    needsPods: true,
  },
  unknownPort: {
    id: "istio-port-mtls-unknown-port",
    title: "portLevelMtls names a port that no selected container has",
    why: "The mode is set for a port that no selected workload declares.",
    remedy: "name the container's port, or drop the entry",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

const RULES = ISTIO_AUTHENTICATION;

export function checkIstioAuthentication(scope: Scope): void {
  const policies = scope.ofKind("PeerAuthentication", "security.istio.io/").sort(byAge);
  const { rootNamespace } = scope.meshConfig;
  const targets = new ServiceTargets(scope.declared.objects);
  const counted: ClusterObject[] = [];
  for (const policy of policies) {
    const selector = selectorOf(policy);
    if (policy.namespace === rootNamespace && Object.keys(selector).length > 0) {
      const name = formatObject(policy);
      const sentence = `${name} has a selector in the root namespace: Istio passes it over`;
      scope.report(RULES.rootSelector, policy, ["spec", "selector"], sentence);
    } else counted.push(policy);
  }
  const dead = checkShadowed(scope, counted);
  for (const policy of counted) {
    if (!dead.has(policy)) checkModes(scope, policy);
    checkPorts(scope, policy, targets);
  }
  checkUndeclared(scope);
}

function selectorOf(policy: ClusterObject): Labels {
  return labelsAt(policy.body, "spec", "selector", "matchLabels");
}

function selectedBy(scope: Scope, policy: ClusterObject): Holder[] {
  const labels = selectorOf(policy);
  return scope.podsIn(policy.namespace).filter((pod) => hasLabels(pod.labels, labels));
}

function checkModes(scope: Scope, policy: ClusterObject): void {
  const { rootNamespace } = scope.meshConfig;
  const isWide = Object.keys(selectorOf(policy)).length === 0;
  const level = !isWide
    ? "the workloads that it selects"
    : policy.namespace === rootNamespace
      ? "the whole mesh"
      : `namespace ${policy.namespace}`;
  const tell = (mode: string | null, path: string[], where: string) => {
    const what = `${formatObject(policy)}: mutual TLS is ${mode} for ${where}`;
    if (mode === "PERMISSIVE") scope.report(RULES.permissive, policy, path, what);
    if (mode === "DISABLE") scope.report(RULES.disabled, policy, path, what);
  };
  tell(textAt(policy.body, "spec", "mtls", "mode"), ["spec", "mtls", "mode"], level);
  const ports = valueAt(policy.body, "spec", "portLevelMtls");
  if (!isMap(ports) || isWide) return;
  for (const [port, value] of Object.entries(ports)) {
    const path = ["spec", "portLevelMtls", port, "mode"];
    tell(textAt(value, "mode"), path, `port ${port} of ${level}`);
  }
}

/** Keys are the containers' ports (`ComposePeerAuthentication`; istio simulation tests). */
function checkPorts(scope: Scope, policy: ClusterObject, targets: ServiceTargets): void {
  const ports = valueAt(policy.body, "spec", "portLevelMtls");
  if (!isMap(ports) || Object.keys(ports).length === 0) return;
  const name = formatObject(policy);
  if (Object.keys(selectorOf(policy)).length === 0) {
    // ValidatePeerAuthentication of istio pkg/config/validation/validation.go
    const sentence = `${name} sets modes of ports without a selector: Istio refuses it`;
    scope.report(RULES.portsWithoutSelector, policy, ["spec", "portLevelMtls"], sentence);
    return;
  }
  const pods = selectedBy(scope, policy);
  for (const text of Object.keys(ports)) {
    const port = Number(text);
    const path = ["spec", "portLevelMtls", text];
    const isMeant = (pod: Holder) =>
      pod.ports.some((p) => p.transport === "TCP" && p.port === port) ||
      targets.portsTo(pod, port).length > 0;
    if (pods.length === 0 || pods.some(isMeant)) continue;
    const meant = pods.flatMap((pod) =>
      targets
        .offersOf(pod)
        .flatMap((offer) => (offer.port === port ? [{ pod, number: offer.target }] : [])),
    )[0];
    if (meant !== undefined) {
      const sentence =
        `${name}: ${port} is a port of a Service for ${formatHolder(meant.pod)}, and leads to ` +
        `the container's port ${meant.number}: the mode set here does not count for it`;
      scope.report(RULES.servicePort, policy, path, sentence);
    } else if (pods.every((pod) => pod.ports.length > 0)) {
      const sentence = `${name}: no container of ${nameWorkloads(pods)} has port ${port}`;
      scope.report(RULES.unknownPort, policy, path, sentence);
    }
  }
}

/** Those of which nothing counts, for an older one of their level stands before them. */
function checkShadowed(scope: Scope, policies: readonly ClusterObject[]): Set<ClusterObject> {
  const dead = new Set<ClusterObject>();
  const tell = (policy: ClusterObject, by: ClusterObject, where: string) => {
    const isDated = policy.createdMs !== null && by.createdMs !== null;
    const why = isDated
      ? "is older"
      : "counts where both are of one age: no creation time is given";
    const sentence = `${formatObject(policy)} is passed over ${where}: ${formatObject(by)} ${why}`;
    scope.report(RULES.shadowed, policy, ["metadata", "name"], sentence);
  };
  const wide = new Map<string, ClusterObject>();
  for (const policy of policies) {
    if (Object.keys(selectorOf(policy)).length > 0) continue;
    const first = wide.get(policy.namespace);
    if (first === undefined) wide.set(policy.namespace, policy);
    else {
      dead.add(policy);
      tell(policy, first, `in namespace ${policy.namespace}`);
    }
  }
  const narrow = policies.filter((policy) => Object.keys(selectorOf(policy)).length > 0);
  const first = new Map<Holder, ClusterObject>();
  const bySelector = new Map<string, ClusterObject>();
  for (const policy of narrow) {
    const key = `${policy.namespace} ${sorted(selectorOf(policy))}`;
    const same = bySelector.get(key);
    if (same === undefined) bySelector.set(key, policy);
    else {
      dead.add(policy);
      tell(policy, same, "by the same selector");
      continue;
    }
    const pods = selectedBy(scope, policy);
    const taken = pods.flatMap((pod) => {
      const by = first.get(pod);
      if (by === undefined) first.set(pod, policy);
      return by === undefined ? [] : [{ pod, by }];
    });
    if (taken.length === 0) continue;
    if (taken.length === pods.length) dead.add(policy);
    tell(policy, taken[0]!.by, `for ${nameWorkloads(taken.map(({ pod }) => pod))}`);
  }
  return dead;
}

function sorted(labels: Labels): string {
  return JSON.stringify(Object.entries(labels).sort());
}

function checkUndeclared(scope: Scope): void {
  const isOpen = (pod: Holder) => {
    const ports = pod.ports.filter((p) => p.transport === "TCP").map((p) => p.port);
    return (ports.length > 0 ? ports : [0]).some((port) => {
      const { mode, because } = scope.modeOf(pod, port);
      return mode === "PERMISSIVE" && because.every(({ rule }) => rule === "spec");
    });
  };
  const told = new Set<string>();
  const nothing = "no PeerAuthentication sets a mode";
  for (const space of scope.ofKind("Namespace", "v1")) {
    const any = scope.anyPodIn(space.name);
    const { mesh, sentence: why } = readMeshed(any);
    const pods = scope.podsIn(space.name);
    const open = pods.filter((pod) => isMeshed(scope, pod) && isOpen(pod));
    if ((mesh !== "istio" && mesh !== "ambient") || !(pods.length === 0 ? isOpen(any) : open[0])) {
      continue;
    }
    told.add(space.name);
    const who = pods.length === 0 ? "its pods" : nameWorkloads(open);
    const sentence = `${why}, and ${nothing} for ${who}: plaintext is taken`;
    scope.report(RULES.undeclared, space, ["metadata", "name"], sentence);
  }
  for (const pod of scope.pods) {
    if (told.has(pod.namespace) || !isMeshed(scope, pod) || !isOpen(pod)) continue;
    const who = formatHolder(pod);
    const sentence = `${who} is in the mesh, and ${nothing} for it: plaintext is taken`;
    scope.reportPod(RULES.undeclared, pod, ["metadata"], sentence);
  }
}

/** A gateway's proxy has listeners of its own, which PeerAuthentication is not for. */
function isMeshed(scope: Scope, pod: Holder): boolean {
  const { mesh } = scope.policy.meshedOf(pod);
  const isGateway = pod.containers.length === 1 && pod.containers[0] === "istio-proxy";
  return (mesh === "istio" || mesh === "ambient") && !isGateway;
}
