/**
 * Tells what Calico's selectors match at the ends of a connection: pods by their labels, network
 * sets and host endpoints by the addresses that they hold (felix/labelindex/named_port_index.go).
 */
import type { AddressRange } from "../../../attribution/address.ts";
import {
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Labels,
} from "../../../attribution/cluster-object.ts";
import { hasOwnNetwork, type Holder } from "../../../attribution/holder.ts";
import { and, or, type Ternary } from "../../decision/ternary.ts";
import { labelsOf } from "./metadata.ts";
import { readRanges, type Family, type Nets } from "./nets.ts";
import { evaluate, type Lookup, type Selector } from "./selector.ts";
import { isOfCalico } from "./shape.ts";

export const NAMESPACE = "projectcalico.org/namespace";
export const SERVICE_ACCOUNT = "projectcalico.org/serviceaccount";
const ORCHESTRATOR = "projectcalico.org/orchestrator";
const NAME = "projectcalico.org/name";
/** What stands before the labels of a pod's namespace, and of its service account. */
export const OF_NAMESPACE = "pcns.";
export const OF_ACCOUNT = "pcsa.";

/** Something that is no pod, and has labels and addresses. */
type AddressSet = {
  lookup: Lookup;
  ranges: readonly AddressRange[];
  /** It is not valid: it may hold any address. */
  isBroken: boolean;
  /** It names domains, which resolve to addresses outside that nobody declared. */
  hasDomains: boolean;
  /** A host endpoint: no pod has its address. */
  isHost: boolean;
};

export class Endpoints {
  readonly nets: Nets;
  private readonly accounts = new Map<string, ClusterObject>();
  private readonly sets: readonly AddressSet[];
  private readonly setsOf = new WeakMap<Selector, readonly AddressSet[]>();
  private readonly lookups = new WeakMap<Holder, Lookup>();
  /** Nodes may be host endpoints though none is declared. */
  private readonly hostsAreMade: boolean;

  constructor(
    objects: readonly ClusterObject[],
    faultsOf: (object: ClusterObject) => readonly unknown[],
    nets: Nets,
  ) {
    this.nets = nets;
    const namespaces = new Map<string, ClusterObject>();
    for (const object of objects) {
      if (object.apiVersion !== "v1") continue;
      if (object.kind === "ServiceAccount") {
        this.accounts.set(`${object.namespace}/${object.name}`, object);
      } else if (object.kind === "Namespace") namespaces.set(object.name, object);
    }
    this.sets = objects.flatMap((object) => {
      const isSet = isOfCalico(object, "NetworkSet") || isOfCalico(object, "GlobalNetworkSet");
      const isHost = isOfCalico(object, "HostEndpoint");
      if (!isSet && !isHost) return [];
      const domains = valueAt(object.body, "spec", "allowedEgressDomains");
      return {
        lookup: lookupOf(object, namespaces),
        ranges: readRanges(object.body, "spec", isHost ? "expectedIPs" : "nets"),
        isBroken: faultsOf(object).length > 0,
        hasDomains: Array.isArray(domains) && domains.length > 0,
        isHost,
      };
    });
    this.hostsAreMade = objects.some(
      (object) =>
        isOfCalico(object, "KubeControllersConfiguration") &&
        textAt(object.body, "spec", "controllers", "node", "hostEndpoint", "autoCreate") ===
          "Enabled",
    );
  }

  /** Whether the end, by its labels or its address, is one of those that a selector picks. */
  matches(selector: Selector, holder: Holder, family: Family): Ternary {
    // A pod on the node's network is no endpoint of Calico's (conversion.go IsHostNetworked).
    const inside = hasOwnNetwork(holder);
    const own = inside && evaluate(selector, this.labelsOf(holder));
    const sets = this.picked(selector);
    if (own === true || (sets.length === 0 && !this.hostsAreMade)) return own;
    const found: Ternary[] = [own];
    if (!inside && this.hostsAreMade && holder.kind !== "external") {
      found.push(and([evaluate(selector, lookupMade), null]));
    }
    for (const set of sets) {
      if (inside && set.isHost) continue;
      const within = this.nets.isWithin(set.ranges, holder, family);
      const isOpen = set.isBroken || (set.hasDomains && !inside);
      found.push(and([evaluate(selector, set.lookup), isOpen ? or([within, null]) : within]));
    }
    return or(found);
  }

  /** The sets that a selector may pick. */
  private picked(selector: Selector): readonly AddressSet[] {
    const known = this.setsOf.get(selector);
    if (known !== undefined) return known;
    const found = this.sets.filter(({ lookup }) => evaluate(selector, lookup) !== false);
    this.setsOf.set(selector, found);
    return found;
  }

  /**
   * A pod's labels as Calico has them (workload_endpoint_default.go, workloadendpointprocessor.go):
   * its own, but for those that would feign a namespace or an account; where it runs; and those of
   * its namespace and service account under a prefix (conversion.go NamespaceToProfile,
   * ServiceAccountToProfile).
   */
  labelsOf(pod: Holder): Lookup {
    const known = this.lookups.get(pod);
    if (known !== undefined) return known;
    const { namespace, serviceAccount } = pod;
    const account = this.accounts.get(`${namespace}/${serviceAccount}`);
    const labels = new Map<string, string | null>();
    const add = (prefix: string, more: Labels) => {
      for (const [key, value] of Object.entries(more)) labels.set(`${prefix}${key}`, value);
    };
    add("", pod.labels);
    for (const key of labels.keys()) if (isInherited(key)) labels.delete(key);
    add(OF_NAMESPACE, pod.namespaceLabels);
    add(OF_ACCOUNT, account?.labels ?? {});
    labels.set(NAMESPACE, namespace).set(`${OF_NAMESPACE}${NAME}`, namespace);
    labels.set(SERVICE_ACCOUNT, serviceAccount).set(`${OF_ACCOUNT}${NAME}`, serviceAccount);
    labels.set(ORCHESTRATOR, "k8s");
    const lookup: Lookup = (key) => {
      const found = labels.get(key);
      // The labels of an account that is not declared are not known.
      if (found !== undefined || account !== undefined) return found;
      return key.startsWith(OF_ACCOUNT) ? null : undefined;
    };
    this.lookups.set(pod, lookup);
    return lookup;
  }
}

/** Labels of a set or a host endpoint; a NetworkSet has those of its namespace too. */
export function lookupOf(
  object: ClusterObject,
  namespaces: ReadonlyMap<string, ClusterObject>,
): Lookup {
  const labels = labelsOf(object);
  if (object.kind !== "NetworkSet") {
    // The profiles of a host endpoint give it labels too; that of Calico's own has none.
    const profiles = listAt(object.body, "spec", "profiles");
    const hasOthers = profiles.some((profile) => profile !== "projectcalico-default-allow");
    return (key) => own(labels, key) ?? (hasOthers ? null : undefined);
  }
  const { namespace } = object;
  const inherited = namespaces.get(namespace)?.labels ?? {};
  return (key) => {
    if (key === NAMESPACE) return namespace;
    if (!key.startsWith(OF_NAMESPACE)) return own(labels, key);
    const bare = key.slice(OF_NAMESPACE.length);
    // The API server gives each Namespace its name as a label.
    return bare === NAME || bare === "kubernetes.io/metadata.name"
      ? namespace
      : own(inherited, bare);
  };
}

/** Labels of a host endpoint that Calico makes of a node: any, but those of a pod. */
const lookupMade: Lookup = (key) => {
  const isOfPod = [NAMESPACE, ORCHESTRATOR, SERVICE_ACCOUNT].includes(key);
  return isOfPod || isInherited(key) ? undefined : null;
};

function isInherited(key: string): boolean {
  return key.startsWith(OF_NAMESPACE) || key.startsWith(OF_ACCOUNT);
}

function own(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}
