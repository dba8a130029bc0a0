/** Tells what Cilium takes an end for: the labels of its security identity. */
import { parseAddress } from "../../../attribution/address.ts";
import { listAt, textAt, type ClusterObject } from "../../../attribution/cluster-object.ts";
import type { Holder } from "../../../attribution/holder.ts";
import type { Ternary } from "../../decision/ternary.ts";
import type { CiliumSettings } from "./settings.ts";

/**
 * `host`: the node that the other end runs on, with all pods on its network. `remote-node`: any
 * other node, likewise. `unknown`: an end that is no one's address, such as a Service.
 */
export type IdentityKind = "pod" | "host" | "remote-node" | "world" | "unknown";

export type Identity = {
  kind: IdentityKind;
  holder: Holder;
  /** Kubernetes' labels that make up the identity, or may. */
  labels: ReadonlyMap<string, string>;
  /** Whether all of these labels count: else the settings choose among them. */
  allCount: boolean;
  /** Whether it is the API server. */
  isApiServer: Ternary;
};

/** A label as it is found: `value` null where it exists, but is not known. */
export type Found = { exists: Ternary; value: string | null };

const ABSENT: Found = { exists: false, value: null };
const HIDDEN: Found = { exists: null, value: null };
const BARE: Found = { exists: true, value: "" };

export const NAMESPACE_KEY = "io.kubernetes.pod.namespace";
export const NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels.";
const ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount";
export const CLUSTER_KEY = "io.cilium.k8s.policy.cluster";
/** Keys that Cilium gives; a pod's own that begin so are dropped (k8s/utils SanitizePodLabels). */
const OWN_PREFIX = "io.cilium.k8s";

export class Identities {
  private readonly settings: CiliumSettings;
  private readonly nodes: ReadonlyMap<string, ClusterObject>;
  private readonly known = new WeakMap<Holder, Map<IdentityKind, Identity>>();
  private readonly subjects = new WeakMap<Holder, Identity>();

  constructor(settings: CiliumSettings, nodes: readonly ClusterObject[]) {
    this.settings = settings;
    this.nodes = new Map(nodes.map((node) => [node.name, node]));
  }

  /** What `subject` takes `other` for; more than one where it is not known which. */
  of(subject: Holder, other: Holder): readonly Identity[] {
    const kinds = kindsOf(subject, other);
    return kinds.map((kind) => this.make(other, kind));
  }

  /** What an end is to the policies that select it; null for one that none can select. */
  asSubject(holder: Holder): Identity | null {
    const known = this.subjects.get(holder);
    if (known !== undefined) return known;
    const isNode = holder.kind === "node" || (holder.kind === "pod" && holder.hostNetwork);
    if (!isNode) return holder.kind === "pod" ? this.make(holder, "pod") : null;
    // Its own node's labels are chosen as a pod's are (endpoint.go InitWithNodeLabels).
    const own = Object.entries(this.labelsOfNode(holder)).filter(([key]) => isRelevant(key));
    const allCount = !this.settings.choosesLabels;
    const identity = { ...this.make(holder, "host"), labels: new Map(own), allCount };
    this.subjects.set(holder, identity);
    return identity;
  }

  private make(holder: Holder, kind: IdentityKind): Identity {
    const kinds = this.known.get(holder) ?? new Map<IdentityKind, Identity>();
    this.known.set(holder, kinds);
    const known = kinds.get(kind);
    if (known !== undefined) return known;
    const isNode = kind === "host" || kind === "remote-node";
    const labels = isNode ? this.labelsOfNode(holder) : labelsOf(holder);
    const isApiServer = kind === "pod" ? false : this.isApiServer(holder);
    const { choosesLabels, nodeLabels, choosesNodeLabels } = this.settings;
    const allCount = isNode
      ? kind === "remote-node" && nodeLabels === true && !choosesNodeLabels
      : !choosesLabels;
    const found = new Map(Object.entries(labels));
    const identity = { kind, holder, labels: found, allCount, isApiServer };
    kinds.set(kind, identity);
    return identity;
  }

  private labelsOfNode(holder: Holder): Readonly<Record<string, string>> {
    if (holder.kind === "node") return holder.labels;
    return (holder.node === null ? undefined : this.nodes.get(holder.node))?.labels ?? {};
  }

  private isApiServer(holder: Holder): Ternary {
    const { apiServers } = this.settings;
    if (apiServers === null) return null;
    const node = holder.node === null ? undefined : this.nodes.get(holder.node);
    const texts = [
      ...holder.addresses,
      ...listAt(node?.body, "status", "addresses").flatMap((one) => textAt(one, "address") ?? []),
    ];
    const own = texts.flatMap((text) => parseAddress(text) ?? []);
    if (own.length === 0) return null;
    return own.some((a) => apiServers.some((b) => a.family === b.family && a.value === b.value));
  }

  /** Looks a label up; `source` null stands for any source. */
  find(identity: Identity, source: string | null, key: string): Found {
    const reserved =
      source === null || source === "reserved" ? this.findReserved(identity, key) : ABSENT;
    if (reserved.exists !== false) return reserved;
    switch (identity.kind) {
      case "pod":
        return source === null || source === "k8s" ? this.findOfPod(identity, key) : ABSENT;
      case "host":
      case "remote-node": {
        const isLabel = source === null || source === "k8s" || source === "node";
        const value = isLabel ? identity.labels.get(key) : undefined;
        if (value === undefined) return ABSENT;
        return identity.allCount ? { exists: true, value } : HIDDEN;
      }
      case "world":
        return source === "cidr" || source === "cidrgroup" || source === "fqdn" ? HIDDEN : ABSENT;
      case "unknown":
        return HIDDEN;
    }
  }

  private findOfPod({ labels, allCount }: Identity, key: string): Found {
    if (key === CLUSTER_KEY) return { exists: true, value: this.settings.clusterName };
    const value = labels.get(key);
    if (value === undefined) return ABSENT;
    const isGiven = key === NAMESPACE_KEY || key.startsWith(OWN_PREFIX);
    return allCount || isGiven ? { exists: true, value } : HIDDEN;
  }

  private findReserved({ kind, holder, isApiServer }: Identity, key: string): Found {
    if (kind === "unknown") return HIDDEN;
    if (key === "kube-apiserver") return { exists: isApiServer, value: "" };
    if (kind === "host" || kind === "remote-node") return key === kind ? BARE : ABSENT;
    if (kind !== "world" || !key.startsWith("world")) return ABSENT;
    // In a cluster of one family there is `world` alone, in one of two there are the other two.
    const { dualStack } = this.settings;
    const family = parseAddress(holder.addresses[0] ?? "")?.family;
    if (key === "world") return { exists: dualStack === null ? null : !dualStack, value: "" };
    return key === `world-ipv${family}` ? { exists: dualStack, value: "" } : ABSENT;
  }
}

function kindsOf(subject: Holder, other: Holder): readonly IdentityKind[] {
  switch (other.kind) {
    case "external":
      return ["world"];
    case "service":
      return ["unknown"];
    case "pod":
      if (!other.hostNetwork) return ["pod"];
  }
  if (subject.node === null || other.node === null) return ["host", "remote-node"];
  return [subject.node === other.node ? "host" : "remote-node"];
}

/** The labels that make up a pod's identity (k8s/utils SanitizePodLabels, labelsfilter). */
function labelsOf(holder: Holder): Record<string, string> {
  if (holder.kind !== "pod") return {};
  const own = Object.entries(holder.labels).filter(([key]) => !key.startsWith(OWN_PREFIX));
  const given = Object.entries(holder.namespaceLabels).map(([key, value]) => [
    NAMESPACE_LABELS + key,
    value,
  ]);
  const labels = Object.fromEntries([...own, ...given]) as Record<string, string>;
  labels[NAMESPACE_KEY] = holder.namespace;
  if (holder.serviceAccount !== null) labels[ACCOUNT_KEY] = holder.serviceAccount;
  return Object.fromEntries(Object.entries(labels).filter(([key]) => isRelevant(key)));
}

/** The standard list of prefixes (labelsfilter/filter.go defaultLabelPrefixCfg). */
const INCLUDED = [
  NAMESPACE_KEY,
  "io.cilium.k8s.namespace.labels",
  "app.kubernetes.io",
  CLUSTER_KEY,
  ACCOUNT_KEY,
];
const IGNORED = [
  ...["io.kubernetes", "kubernetes.io", "statefulset.kubernetes.io/pod-name"],
  ...["apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index"],
  ...["batch.kubernetes.io/controller-uid", "k8s.io", "pod-template-generation"],
  ...["pod-template-hash", "controller-revision-hash", "controller-uid", "etcd_node"],
  "topology.kubernetes.io",
];

/** The longest prefix that includes wins over the shortest that ignores. */
export function isRelevant(key: string): boolean {
  const lengths = (prefixes: readonly string[]) =>
    prefixes.filter((prefix) => key.startsWith(prefix)).map(({ length }) => length);
  const ignored = lengths(IGNORED);
  const beta = key.lastIndexOf("beta.kubernetes.io");
  if (beta >= 0) ignored.push(beta + "beta.kubernetes.io".length);
  if (key.startsWith("annotation")) ignored.push(key.length);
  if (ignored.length === 0) return true;
  return Math.max(0, ...lengths(INCLUDED)) > Math.min(...ignored);
}
