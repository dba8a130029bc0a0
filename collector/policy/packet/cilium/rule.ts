/** Compiles Cilium's policies into rules: whom each is for, whom it speaks of, and what it says. */
import {
  isMap,
  labelsAt,
  listAt,
  textAt,
  valueAt,
  type ClusterObject,
  type Json,
} from "../../../attribution/cluster-object.ts";
import type { Direction } from "../network-policy.ts";
import type { Fault } from "../../manifest/problem.ts";
import { NAMESPACE_KEY } from "./identity.ts";
import { inNamespace, readLabelSelector, type LabelSelector } from "./label-selector.ts";
import { readPeers, type PeerContext, type Peers } from "./peer.ts";
import { readPortClauses, spanOf, type PortClause } from "./port-clause.ts";
import { listRules, SECTIONS } from "./shape.ts";

export type Rule = {
  isDeny: boolean;
  /** `spec.ingress[0]` */
  at: string;
  peers: Peers;
  /** Null for every port. */
  ports: readonly PortClause[] | null;
  /** No clause speaks of a port below the first, or above the second. */
  span: readonly [lowest: number, highest: number];
  authentication: "required" | "test-always-fail" | null;
};

/** What one `spec` says of one direction, for the pods or the nodes that it selects. */
export type Section = {
  object: ClusterObject;
  direction: Direction;
  onNodes: boolean;
  applies: LabelSelector;
  /** Whether what no rule allows is then denied. */
  isolates: boolean;
  /** `spec.ingress` */
  at: string;
  rules: readonly Rule[];
  /** Not null: the policy is not valid, and may say anything. */
  fault: Fault | null;
};

/** `spec` and each of `specs`, by direction; a broken policy may be for pods and nodes alike. */
export function compile(
  object: ClusterObject,
  faults: readonly Fault[],
  context: PeerContext,
): Section[] {
  const [fault = null] = faults;
  if (fault !== null) return broken(object, fault, faults);
  return listRules(object).flatMap(({ rule, path }) => {
    const at = path.length === 1 ? "spec" : `specs[${path[1]}]`;
    return (["ingress", "egress"] as const).flatMap((direction) => {
      const section = compileSection(object, rule, at, direction, context);
      return section === null ? [] : [section];
    });
  });
}

function compileSection(
  object: ClusterObject,
  spec: Json,
  at: string,
  direction: Direction,
  context: PeerContext,
): Section | null {
  const entries = (["", "Deny"] as const).flatMap((suffix) =>
    listAt(spec, direction + suffix).map((entry, i) => ({
      entry,
      isDeny: suffix === "Deny",
      at: `${at}.${direction}${suffix}[${i}]`,
    })),
  );
  // An empty list is as none (repository.go computePolicyEnforcementAndRules).
  if (entries.length === 0) return null;
  const told = valueAt(spec, "enableDefaultDeny", direction);
  const side = direction === "ingress" ? "from" : "to";
  const rules = entries.flatMap(({ entry, isDeny, at: place }) => {
    const peers = readPeers(entry, side, object.namespace, isDeny, context);
    if (peers === null) return [];
    const mode = textAt(entry, "authentication", "mode");
    const ports = readPortClauses(entry);
    return [
      {
        isDeny,
        at: place,
        peers,
        ports,
        span: spanOf(ports),
        authentication: mode === "disabled" ? null : (mode as Rule["authentication"]),
      },
    ];
  });
  return {
    object,
    direction,
    ...readSubject(object, spec),
    isolates: !context.settings.mayNotIsolate || told !== false,
    at: `${at}.${direction}`,
    rules,
    fault: null,
  };
}

/**
 * A policy of a namespace is for its pods only: its namespace stands in for the one that the labels
 * of the selector name with their source, and beside any other (utils.go ParseToCiliumRule).
 */
function readSubject(object: ClusterObject, spec: Json): Pick<Section, "onNodes" | "applies"> {
  const nodes = valueAt(spec, "nodeSelector") ?? null;
  if (nodes !== null) return { onNodes: true, applies: readLabelSelector(nodes) };
  const selector = valueAt(spec, "endpointSelector") ?? undefined;
  const { namespace } = object;
  if (namespace === "") return { onNodes: false, applies: readLabelSelector(selector) };
  const labels = Object.entries(labelsAt(selector, "matchLabels"));
  const matchLabels = Object.fromEntries(labels.filter(([key]) => key !== `k8s:${NAMESPACE_KEY}`));
  const expressions = listAt(selector, "matchExpressions");
  const own = readLabelSelector({ matchLabels, matchExpressions: expressions });
  return { onNodes: false, applies: inNamespace(own, namespace) };
}

/** The checker of shapes tells no more faults than this: others may be behind them. */
const FAULTS_TOLD = 8;

/** A policy that is not valid: for the ends it selects where that much is sure, else for all. */
function broken(object: ClusterObject, fault: Fault, faults: readonly Fault[]): Section[] {
  const isElsewhere = faults.every(({ path }) => {
    const [first, second, third] = path;
    const field = first === "specs" ? third : second;
    return first === "metadata" || SECTIONS.some((section) => section === field);
  });
  const selectOne = listRules(object).every(
    ({ rule }) => isMap(valueAt(rule, "endpointSelector")) !== isMap(valueAt(rule, "nodeSelector")),
  );
  const isSure = isElsewhere && selectOne && faults.length < FAULTS_TOLD;
  const rest = { object, isolates: false, rules: [], fault };
  const subjects = isSure
    ? listRules(object).map(({ rule }) => readSubject(object, rule))
    : [false, true].map((onNodes) => ({
        onNodes,
        applies: object.namespace === "" || onNodes ? [] : inNamespace([], object.namespace),
      }));
  return subjects
    .filter(({ onNodes }) => !onNodes || object.namespace === "")
    .flatMap((subject) =>
      (["ingress", "egress"] as const).map((direction) => ({
        ...rest,
        ...subject,
        direction,
        at: "spec",
      })),
    );
}
