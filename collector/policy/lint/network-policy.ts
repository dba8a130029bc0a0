/** Checks where a NetworkPolicy lets in, or out, more or less than it seems to. */
import {
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../attribution/cluster-object.ts";
import { parseRange } from "../../attribution/address.ts";
import { formatHolder, namedPort, type Holder } from "../../attribution/holder.ts";
import { readSelector, selects } from "../../attribution/selector.ts";
import { formatObject } from "../decision/because.ts";
import type { Direction } from "../packet/network-policy.ts";
import { readPeers, readPorts, type Peer } from "../packet/peer.ts";
import { and, type Ternary } from "../decision/ternary.ts";
import { ServiceTargets } from "../mesh/service-target.ts";
import { ACCESS, BOUNDARY, CONFIGURATION, type Rule } from "./rule.ts";
import { nameSome, nameWorkloads, numbered, type Scope } from "./scope.ts";

export const NETWORK_POLICY = {
  allowAll: {
    id: "network-allow-all",
    title: "an ingress rule without `from`",
    why: "It lets in every pod and every address, the world's too.",
    remedy: "name the pods, or the ranges, that may call",
    level: "warning",
    pci: "error",
    hipaa: "error",
    controls: ACCESS,
  },
  allPods: {
    id: "network-allow-all-pods",
    title: "an ingress rule for every pod of the cluster",
    why: "An empty namespaceSelector takes every namespace: one pod that is taken over is enough.",
    remedy: "name the namespaces, by the label kubernetes.io/metadata.name",
    level: "note",
    pci: "warning",
    hipaa: "warning",
    controls: ACCESS,
  },
  openToWorld: {
    id: "network-open-to-world",
    title: "an ingress rule for every address",
    why: "Whoever reaches the pod's address, or a Service that leads to it, may connect.",
    remedy: "name the ranges that may call, such as the load balancer's",
    level: "warning",
    pci: "error",
    hipaa: "error",
    controls: BOUNDARY,
  },
  anywhere: {
    id: "network-egress-anywhere",
    title: "an egress rule for every address",
    why: "A pod that is taken over may send what it holds to anywhere.",
    remedy: "name the pods, or the ranges, that it needs",
    level: "note",
    pci: "error",
    hipaa: "warning",
    controls: BOUNDARY,
  },
  noPeer: {
    id: "network-peer-matches-nothing",
    title: "a peer that is no pod",
    why: "The rule lets nobody pass by it: a label may be misspelt, or the workload renamed.",
    remedy: "correct the selectors, or drop the peer",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
  noNamespace: {
    id: "network-peer-namespace-unknown",
    title: "a peer in a namespace that is not among the manifests",
    why: "Whether there is anybody whom the rule lets pass is not known here.",
    remedy: "look whether the namespace's name or labels are misspelt",
    level: "note",
    strict: "note",
    needsPods: true,
  },
  noPort: {
    id: "network-unknown-port-name",
    title: "a port's name that no selected pod has",
    why: "Names are those of the containers' ports: one that none has lets nothing pass.",
    remedy: "correct the name, or give the number",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
  noEffect: {
    id: "network-policy-types-leave-out-rules",
    title: "rules for a direction that policyTypes leaves out",
    why: "They have no effect: the policy isolates no pod in that direction.",
    remedy: "add the direction to policyTypes, or drop its rules",
    level: "error",
    controls: CONFIGURATION,
  },
  isolates: {
    id: "network-policy-types-absent",
    title: "egress rules without policyTypes",
    why: "Without policyTypes Ingress always counts: all that comes in is denied, too.",
    remedy: "set policyTypes to what is meant",
    level: "note",
    strict: "note",
    controls: CONFIGURATION,
  },
} as const satisfies Record<string, Rule>;

const RULES = NETWORK_POLICY;

/** What each check of a rule is told. */
type Place = { policy: ClusterObject; direction: Direction; pods: readonly Holder[]; at: number };

export function checkNetworkPolicies(scope: Scope): void {
  const targets = new ServiceTargets(scope.declared.objects);
  for (const policy of scope.ofKind("NetworkPolicy", "networking.k8s.io/")) {
    const spec = valueAt(policy.body, "spec");
    checkTypes(scope, policy, spec);
    const selector = readSelector(valueAt(spec, "podSelector") ?? undefined);
    const pods = scope
      .podsIn(policy.namespace)
      .filter((pod) => !pod.hostNetwork && selects(selector, pod.labels));
    for (const direction of ["ingress", "egress"] as const) {
      if (!isOf(spec, direction)) continue;
      for (const [at, rule] of numbered(listAt(spec, direction))) {
        const place = { policy, direction, pods, at };
        checkRule(scope, place, rule, targets);
        checkPortNames(scope, place, rule);
      }
    }
  }
}

/** Whether the policy speaks of a direction. */
function isOf(spec: Json | undefined, direction: Direction): boolean {
  const types = listAt(spec, "policyTypes");
  if (types.length > 0) return types.includes(direction === "ingress" ? "Ingress" : "Egress");
  return direction === "ingress" || Array.isArray(valueAt(spec, "egress"));
}

function checkTypes(scope: Scope, policy: ClusterObject, spec: Json | undefined): void {
  const name = formatObject(policy);
  const types = listAt(spec, "policyTypes");
  for (const direction of ["ingress", "egress"] as const) {
    if (listAt(spec, direction).length === 0 || isOf(spec, direction)) continue;
    const sentence = `${name}: the ${direction} rules have no effect: policyTypes leaves them out`;
    scope.report(RULES.noEffect, policy, ["spec", direction], sentence);
  }
  const isSilent = types.length === 0 && listAt(spec, "ingress").length === 0;
  if (isSilent && Array.isArray(valueAt(spec, "egress"))) {
    const path = valueAt(spec, "policyTypes") === undefined ? ["egress"] : ["policyTypes"];
    const what = "without policyTypes it denies all ingress, too";
    const sentence = `${name} names egress alone, but ${what}`;
    scope.report(RULES.isolates, policy, ["spec", ...path], sentence);
  }
}

function checkRule(scope: Scope, place: Place, rule: Json, targets: ServiceTargets): void {
  const { policy, direction, pods, at } = place;
  const name = formatObject(policy);
  const list = direction === "ingress" ? "from" : "to";
  const path = ["spec", direction, at];
  const ports = formatPorts(rule);
  const peers = readPeers(valueAt(rule, list));
  if (peers === null) {
    const isIn = direction === "ingress";
    const what = isIn ? `lets in everybody ${ports}` : `lets out to everywhere ${ports}`;
    const services = isIn ? tellServices(pods, targets) : "";
    const sentence = `${name}: ${direction} rule ${at} ${what}${services}`;
    scope.report(isIn ? RULES.allowAll : RULES.anywhere, policy, path, sentence);
    return;
  }
  for (const [i, peer] of peers.entries()) {
    const step = [...path, list, i];
    if (peer.blocks.some(({ range }) => isWorld(range))) {
      const block = [...step, "ipBlock", "cidr"];
      if (direction === "ingress") {
        const what = `lets every address reach ${nameWorkloads(pods)} ${ports}`;
        const sentence = `${name}: ingress rule ${at} ${what}${tellServices(pods, targets)}`;
        scope.report(RULES.openToWorld, policy, block, sentence);
      } else {
        const sentence = `${name}: egress rule ${at} lets out to every address ${ports}`;
        scope.report(RULES.anywhere, policy, block, sentence);
      }
    } else if (isEverybody(peer)) {
      if (direction === "egress") continue;
      const sentence = `${name}: ingress rule ${at} lets in every pod of the cluster ${ports}`;
      scope.report(RULES.allPods, policy, [...step, "namespaceSelector"], sentence);
    } else if (peer.namespaces !== null && isNobody(scope, peer, policy.namespace)) {
      const anyPod = { ...peer, pods: [] };
      const isElsewhere = isNobody(scope, anyPod, policy.namespace);
      const who = isElsewhere ? "is in a namespace without any declared pod" : "is no declared pod";
      const sentence = `${name}: peer ${i} of ${direction} rule ${at} ${who}`;
      scope.report(isElsewhere ? RULES.noNamespace : RULES.noPeer, policy, step, sentence);
    }
  }
}

/** Half of all addresses, or more: two halves are a way to write all of them. */
function isWorld({ family, first, last }: { family: 4 | 6; first: bigint; last: bigint }): boolean {
  return last - first + 1n >= 1n << (family === 4 ? 31n : 127n);
}

function isEverybody({ namespaces, pods }: Peer): boolean {
  return namespaces !== null && namespaces !== "own" && namespaces.length + pods.length === 0;
}

function isNobody(scope: Scope, peer: Peer, own: string): boolean {
  const pods = peer.namespaces === "own" ? scope.podsIn(own) : scope.pods;
  return pods.every((pod) => isPeer(scope, peer, own, pod) === false);
}

function isPeer(scope: Scope, { namespaces, pods }: Peer, own: string, pod: Holder): Ternary {
  if (namespaces === null || pod.hostNetwork) return false;
  const there = namespaces === "own" ? pod.namespace === own : scope.isIn(namespaces, pod);
  return and([there, selects(pods, pod.labels)]);
}

function checkPortNames(scope: Scope, { policy, direction, pods, at }: Place, rule: Json): void {
  const ports = readPorts(valueAt(rule, "ports")) ?? [];
  if (ports.every(({ name }) => name === null)) return;
  const peers = readPeers(valueAt(rule, "to"));
  const servers =
    direction === "ingress"
      ? pods
      : scope.pods.filter((pod) =>
          peers === null
            ? true
            : peers.some((peer) => isPeer(scope, peer, policy.namespace, pod) !== false),
        );
  if (servers.length === 0) return;
  for (const [i, { name, transport }] of ports.entries()) {
    if (name === null) continue;
    if (servers.some((pod) => namedPort(pod, name, transport) !== null)) continue;
    const who =
      peers === null && direction === "egress" ? "no pod" : `no port of ${nameWorkloads(servers)}`;
    const sentence =
      `${formatObject(policy)}: ${direction} rule ${at} names port ${name} (${transport}), ` +
      `and ${who} has that name`;
    scope.report(RULES.noPort, policy, ["spec", direction, at, "ports", i, "port"], sentence);
  }
}

/** `on every port`, or `on TCP 80, UDP 53`. */
function formatPorts(rule: Json): string {
  const ports = listAt(rule, "ports");
  if (ports.length === 0) return "on every port";
  const texts = ports.map((entry) => {
    const port = valueAt(entry, "port") ?? null;
    const end = valueAt(entry, "endPort") ?? null;
    const range = `${String(port)}${end === null ? "" : `-${String(end)}`}`;
    return `${textAt(entry, "protocol") ?? "TCP"} ${port === null ? "all" : range}`;
  });
  return `on ${texts.slice(0, 4).join(", ")}${texts.length > 4 ? " and more" : ""}`;
}

/** Services that bring in traffic from outside of the cluster. */
function tellServices(pods: readonly Holder[], targets: ServiceTargets): string {
  const open = pods.flatMap((pod) =>
    targets.selecting(pod).flatMap((service) => {
      const type = textAt(service.body, "spec", "type");
      const isOpen = type === "LoadBalancer" || type === "NodePort";
      return isOpen ? [`${formatObject(service)} (${type}) leads to ${formatHolder(pod)}`] : [];
    }),
  );
  return open.length === 0 ? "" : `; ${nameSome(open)}`;
}

/** Ranges that leave out nothing; both families are asked by themselves. */
export function isWholeRange(text: string): boolean {
  const range = parseRange(text);
  return range !== null && isWorld(range);
}
