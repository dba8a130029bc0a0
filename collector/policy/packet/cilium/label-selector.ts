/** Reads Cilium's label selectors, and matches them against what an end is taken for. */
import { labelsAt, listAt, textAt, type Json } from "../../../attribution/cluster-object.ts";
import { not, type Ternary } from "../../decision/ternary.ts";
import {
  CLUSTER_KEY,
  NAMESPACE_KEY,
  NAMESPACE_LABELS,
  type Found,
  type Identities,
  type Identity,
} from "./identity.ts";

export type LabelRequirement = {
  /** Where the label comes from: `k8s`, `reserved`; null for any. */
  source: string | null;
  key: string;
  operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  values: ReadonlySet<string>;
  /** Whether it is one of Kubernetes' labels that a pod has, or has not, for sure. */
  isPlain: boolean;
};

/** All requirements hold; none at all matches every end. */
export type LabelSelector = readonly LabelRequirement[];

/** Reads a selector that is known to be well-formed; `source` is that of keys without one. */
export function readLabelSelector(
  value: Json | undefined,
  source: string | null = null,
): LabelSelector {
  const equal = Object.entries(labelsAt(value, "matchLabels")).map(([key, text]) => ({
    ...parseKey(key, source),
    operator: "In" as const,
    values: new Set([text]),
  }));
  const expressions = listAt(value, "matchExpressions").map((expression) => ({
    ...parseKey(textAt(expression, "key") ?? "", source),
    operator: textAt(expression, "operator") as LabelRequirement["operator"],
    values: new Set(listAt(expression, "values").map(String)),
  }));
  return [...equal, ...expressions];
}

/** `k8s:app`, `any:app`, `app`, `$host` for `reserved:host` (labels.go parseSource). */
function parseKey(
  text: string,
  standard: string | null,
): Pick<LabelRequirement, "source" | "key" | "isPlain"> {
  const at = text.indexOf(":");
  const prefix = text.startsWith("$") ? "reserved" : at < 0 ? null : text.slice(0, at);
  const key = text.startsWith("$") ? text.slice(1) : text.slice(at + 1);
  const source = prefix === null ? standard : prefix === "any" || prefix === "" ? null : prefix;
  return { source, key, isPlain: (source === null || source === "k8s") && key !== CLUSTER_KEY };
}

const IN_NAMESPACE = { source: "k8s", key: NAMESPACE_KEY, isPlain: true };

/** A selector for the pods of one namespace. */
export function inNamespace(selector: LabelSelector, namespace: string): LabelSelector {
  return [...selector, { ...IN_NAMESPACE, operator: "In", values: new Set([namespace]) }];
}

/**
 * Reads a peer of `fromEndpoints` or `toEndpoints`. One that names no namespace is for the policy's
 * own; in a policy of the whole cluster (`namespace` empty) for pods of any. One that names what is
 * reserved is left alone (k8s/apis/cilium.io/utils getEndpointSelector).
 */
export function readEndpointSelector(value: Json | undefined, namespace: string): LabelSelector {
  const selector = readLabelSelector(value);
  if (selector.some(({ source }) => source === "reserved")) return selector;
  const isK8s = ({ source }: LabelRequirement) => source === null || source === "k8s";
  if (selector.some((one) => isK8s(one) && one.key === NAMESPACE_KEY)) return selector;
  if (namespace === "") {
    return [...selector, { ...IN_NAMESPACE, operator: "Exists", values: new Set() }];
  }
  if (selector.some((one) => isK8s(one) && one.key.startsWith(NAMESPACE_LABELS))) return selector;
  return inNamespace(selector, namespace);
}

export function matchesLabels(
  selector: LabelSelector,
  identity: Identity,
  identities: Identities,
): Ternary {
  let result: Ternary = true;
  // A pod's plain labels are looked up by far the most.
  const labels = identity.kind === "pod" && identity.allCount ? identity.labels : null;
  for (const one of selector) {
    const isPlain = labels !== null && one.isPlain;
    const met = isPlain
      ? meetsPlain(one, labels.get(one.key))
      : meets(one, identities.find(identity, one.source, one.key));
    if (met === false) return false;
    if (met === null) result = null;
  }
  return result;
}

function meetsPlain({ operator, values }: LabelRequirement, value: string | undefined): Ternary {
  switch (operator) {
    case "In":
      return value !== undefined && values.has(value);
    case "NotIn":
      return value === undefined || !values.has(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    default:
      return null; // of a policy that is not valid
  }
}

/** Whether a label meets a requirement; a missing one meets `NotIn`. */
export function meets({ operator, values }: LabelRequirement, found: Found): Ternary {
  const { exists, value } = found;
  const isAmong = (): Ternary => {
    if (exists !== true) return exists;
    return value === null ? null : values.has(value);
  };
  switch (operator) {
    case "In":
      return isAmong();
    case "NotIn":
      return not(isAmong());
    case "Exists":
      return exists;
    case "DoesNotExist":
      return not(exists);
    default:
      return null; // of a policy that is not valid
  }
}
