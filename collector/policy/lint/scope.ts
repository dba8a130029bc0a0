/** Gathers what the checks of the linter read, and takes what they find. */
import {
  groupKind,
  valueAt,
  type ClusterObject,
  type Json,
  type Labels,
} from "../../attribution/cluster-object.ts";
import { formatHolder, namespaceText, toExternal, type Holder } from "../../attribution/holder.ts";
import { KINDS_OF_INVENTORY, type Inventory } from "../../attribution/inventory.ts";
import { selects, type Selector } from "../../attribution/selector.ts";
import type { Declared } from "../manifest/declared.ts";
import { readMeshConfig, type MeshConfig } from "../mesh/istio/mesh-config.ts";
import { PeerAuthentications, type Effective } from "../mesh/istio/peer-authentication.ts";
import { ServicePorts, type ListenerProtocol } from "../mesh/istio/service-port.ts";
import type { Ternary } from "../decision/ternary.ts";
import type { Step } from "../manifest/place.ts";
import { onePerSort } from "../manifest/pod-sort.ts";
import { Policy } from "../policy.ts";
import type { Fault, Problem } from "../manifest/problem.ts";
import { ServiceTargets } from "../mesh/service-target.ts";
import { findFaults } from "../manifest/shape.ts";
import type { Rule } from "./rule.ts";

/** What a check found: `object` is null for text that could not be read as one. */
export type Found = {
  rule: Rule;
  object: ClusterObject | null;
  path: readonly Step[];
  sentence: string;
  /** Where there is no object. */
  problem: Problem | null;
  /** Of the pod's template, beside the object's own. */
  annotations: Labels;
};

/** Annotations that say something about a pod's proxy. */
const OF_MESH = /(^|\.)(istio\.io|linkerd\.io|consul\.hashicorp\.com|wireproof\.io)\//;

export class Scope {
  readonly declared: Declared;
  /** Objects whose every field is as its kind allows: the others are told, and not judged. */
  readonly valid: readonly ClusterObject[];
  /** One pod of each sort that all rules treat alike. */
  readonly pods: readonly Holder[];
  readonly policy: Policy;
  readonly meshConfig: MeshConfig;
  readonly atMs: number;
  readonly found: Found[] = [];
  /** Checks that were left out, and why: for want of pods, or for too many of them. */
  readonly skipped = new Map<Rule, string>();
  private readonly peerAuthentications: PeerAuthentications;
  private readonly servicePorts: ServicePorts;
  private readonly faults = new Map<ClusterObject, readonly Fault[]>();
  /** Of the kinds that the inventory reads, by kind, namespace and name. */
  private readonly byName = new Map<string, ClusterObject>();
  private readonly byNamespace: ReadonlyMap<string, Holder[]>;
  private readonly modes = new WeakMap<Holder, Map<number, Effective>>();
  private readonly protocols = new WeakMap<Holder, Map<number, ListenerProtocol>>();
  private readonly seen = new Set<string>();

  constructor(declared: Declared, inventory: Inventory, atMs: number) {
    const { objects } = declared;
    this.declared = declared;
    this.atMs = atMs;
    for (const object of objects) {
      if (KINDS_OF_INVENTORY.has(groupKind(object))) this.byName.set(nameOf(object), object);
    }
    this.valid = objects.filter((object) => this.faultsOf(object).length === 0);
    this.pods = onePerSort(inventory.pods(-Infinity), sortOf);
    this.byNamespace = Map.groupBy(this.pods, ({ namespace }) => namespace);
    this.policy = new Policy(objects);
    this.meshConfig = readMeshConfig(objects);
    const root = this.meshConfig.rootNamespace;
    this.peerAuthentications = new PeerAuthentications([...objects], this.faultsOf, root);
    this.servicePorts = new ServicePorts(objects, new ServiceTargets(objects));
  }

  readonly faultsOf = (object: ClusterObject): readonly Fault[] => {
    const known = this.faults.get(object) ?? findFaults(object);
    this.faults.set(object, known);
    return known;
  };

  /** Valid objects of a kind, by the beginning of their API version. */
  ofKind(kind: string, version: string): ClusterObject[] {
    return this.valid.filter((o) => o.kind === kind && o.apiVersion.startsWith(version));
  }

  /** Null where it is not declared, and nothing but its name is known. */
  namespaceOf(name: string): ClusterObject | null {
    return this.byName.get(nameOf({ kind: "Namespace", namespace: "", name })) ?? null;
  }

  objectOf({ object }: Holder): ClusterObject | null {
    if (object === null) return null;
    return this.byName.get(nameOf(object)) ?? null;
  }

  podsIn(namespace: string): readonly Holder[] {
    return this.byNamespace.get(namespace) ?? [];
  }

  /** Istio's mode of mutual TLS on a port of a pod. */
  modeOf(pod: Holder, port: number): Effective {
    const known = this.modes.get(pod) ?? new Map<number, Effective>();
    this.modes.set(pod, known);
    const mesh = this.policy.meshedOf(pod).mesh === "ambient" ? "ambient" : "istio";
    const mode = known.get(port) ?? this.peerAuthentications.effective(pod, port, mesh);
    known.set(port, mode);
    return mode;
  }

  /** What Istio reads on a port of a pod. */
  protocolOf(pod: Holder, port: number): ListenerProtocol {
    const known = this.protocols.get(pod) ?? new Map<number, ListenerProtocol>();
    this.protocols.set(pod, known);
    const protocol = known.get(port) ?? this.servicePorts.protocolOf(pod, port);
    known.set(port, protocol);
    return protocol;
  }

  /** A pod that the namespace might have, without any label of its own. */
  anyPodIn(namespace: string): Holder {
    const space = namespaceText(namespace, this.namespaceOf(namespace));
    return {
      ...toExternal("any"),
      kind: "pod",
      namespace,
      addresses: [],
      namespaceLabels: space.labels,
      namespaceAnnotations: space.annotations,
    };
  }

  /** Whether a pod's namespace is selected; null where its labels are not declared. */
  isIn(selector: Selector, pod: Holder): Ternary {
    if (selects(selector, pod.namespaceLabels)) return true;
    const isNamed = selector.some(
      (r) => r.key === NAME_LABEL && !selects([r], pod.namespaceLabels),
    );
    return isNamed || this.namespaceOf(pod.namespace) !== null ? false : null;
  }

  /** Tells that a check was left out. */
  skip(rule: Rule, reason: string): void {
    this.skipped.set(rule, reason);
  }

  report(rule: Rule, object: ClusterObject, path: readonly Step[], sentence: string): void {
    this.add({ rule, object, path, sentence, problem: null, annotations: {} });
  }

  /** Tells something of a pod, once for its workload; `path` begins at its metadata or spec. */
  reportPod(rule: Rule, pod: Holder, path: readonly Step[], sentence: string): void {
    const object = this.objectOf(pod);
    if (object === null) return;
    const full = [...templatePath(object), ...path];
    const workload = `${rule.id} ${formatHolder(pod)} ${path.join("/")}`;
    if (this.seen.has(workload)) return;
    this.seen.add(workload);
    const { annotations } = pod;
    this.add({ rule, object, path: full, sentence, problem: null, annotations });
  }

  reportProblem(rule: Rule, problem: Problem): void {
    const who = [problem.kind ?? "the document", problem.name].filter(Boolean).join(" ");
    const sentence = `${who}: ${problem.reason}`;
    this.add({ rule, object: null, path: [], sentence, problem, annotations: {} });
  }

  private add(found: Found): void {
    if (found.rule.needsPods === true && this.pods.length === 0) return;
    this.found.push(found);
  }
}

function nameOf({ kind, namespace, name }: Pick<ClusterObject, "kind" | "namespace" | "name">) {
  return `${kind}/${namespace}/${name}`;
}

const NAME_LABEL = "kubernetes.io/metadata.name";

/** The way from an object to its pod: a Pod is its own. */
function templatePath({ body }: ClusterObject): Step[] {
  if (valueAt(body, "spec", "jobTemplate") !== undefined) {
    return ["spec", "jobTemplate", "spec", "template"];
  }
  return valueAt(body, "spec", "template") === undefined ? [] : ["spec", "template"];
}

/** What tells pods apart to any rule. */
function sortOf(pod: Holder): string {
  const annotations = Object.entries(pod.annotations).filter(
    ([key]) => OF_MESH.test(key) && key !== "sidecar.istio.io/status",
  );
  return JSON.stringify([
    ...[formatHolder(pod), Object.entries(pod.labels).sort(), pod.ports, pod.containers],
    ...[pod.serviceAccount, pod.hostNetwork, annotations.sort()],
  ]);
}

/** `a`, `a and b`, `a, b and 3 more`: at most two are named. */
export function nameSome(names: readonly string[]): string {
  const [first, second, ...rest] = [...new Set(names)];
  if (second === undefined) return first ?? "nothing";
  return rest.length === 0
    ? `${first} and ${second}`
    : `${first}, ${second} and ${rest.length} more`;
}

/** Names of the workloads of some pods. */
export function nameWorkloads(pods: readonly Holder[]): string {
  return nameSome(pods.map(formatHolder));
}

/** `spec.ingress[0]` as steps. */
export function toSteps(rule: string): Step[] {
  const steps = rule.split(/[.[\]]+/).filter((step) => step !== "");
  return steps.map((step) => (/^\d+$/.test(step) ? Number(step) : step));
}

/** The number of each entry of a list, with the entry. */
export function numbered(list: readonly Json[]): (readonly [number, Json])[] {
  return list.map((entry, i) => [i, entry] as const);
}
