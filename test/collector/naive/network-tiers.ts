/** Puts the tiers of network policy together: what each direction, and so the path, comes to. */
import { isAdminPolicy, judgeTier } from "./admin-policy.ts";
import type { Cluster, Question } from "./cluster.ts";
import {
  judgeNetworkPolicies,
  type Direction,
  type NetworkPolicyBody,
  type Outcome,
  type Outcomes,
} from "./network-policy.ts";

export type Path = "allowed" | "denied" | "undeclared" | "undecidable";

function isNetworkPolicy(body: { kind: string }): body is NetworkPolicyBody {
  return body.kind === "NetworkPolicy";
}

/** Admin, then NetworkPolicy, then Baseline: who has made a final decision ends it. */
function judgeDirection(
  bodies: readonly { kind: string }[],
  direction: Direction,
  question: Question,
  { nodes, podsInBlocks }: Cluster,
): Outcomes {
  const admin = bodies.filter(isAdminPolicy);
  const outcomes = new Set<Outcome>();
  let goesOn = false;
  for (const outcome of judgeTier(admin, "Admin", direction, question, nodes)) {
    if (outcome === "none" || outcome === "pass") goesOn = true;
    else outcomes.add(outcome);
  }
  if (!goesOn) return outcomes;
  const namespaced = bodies.filter(isNetworkPolicy);
  const middle = judgeNetworkPolicies(namespaced, direction, question, podsInBlocks);
  for (const outcome of middle) if (outcome !== "none") outcomes.add(outcome);
  if (!middle.has("none")) return outcomes;
  for (const outcome of judgeTier(admin, "Baseline", direction, question, nodes)) {
    outcomes.add(outcome === "pass" ? "none" : outcome);
  }
  return outcomes;
}

function toPath(outcomes: Outcomes): Path {
  if (outcomes.size > 1) return "undecidable";
  const [outcome] = outcomes;
  return outcome === "none" || outcome === "pass" ? "undeclared" : outcome!;
}

/** The gravest of them (contracts: denied > undecidable > allowed > undeclared). */
export function gravest(paths: readonly Path[]): Path {
  for (const path of ["denied", "undecidable", "allowed"] as const) {
    if (paths.includes(path)) return path;
  }
  return "undeclared";
}

/**
 * "Connection needs source egress AND destination ingress": the network plugin's part.
 * `isPermitted` where no way is left that denies it.
 */
export function judgeNetwork(
  bodies: readonly { kind: string }[],
  question: Question,
  cluster: Cluster,
): { path: Path; isPermitted: boolean } {
  const { client, server } = question;
  // NetworkPolicy: "a pod cannot block access to itself"; ClusterNetworkPolicy: "a Pod connecting
  // to its own Pod IP is not subject to CNP" (api-overview.md). A pod without an address is a
  // manifest's, and may stand for replicas, which are subject: it is judged as two of those.
  if (client === server && client.addresses.length > 0) {
    return { path: "undeclared", isPermitted: true };
  }
  // "OR if the traffic source is the pod's local node": whatever any policy says, none decides.
  if (client.kind === "node" && server.kind === "pod" && client.name === server.node) {
    return { path: "undeclared", isPermitted: true };
  }
  const both = (["egress", "ingress"] as const).map((direction) =>
    judgeDirection(bodies, direction, question, cluster),
  );
  return {
    path: gravest(both.map(toPath)),
    isPermitted: !both.some((outcomes) => outcomes.has("denied")),
  };
}
