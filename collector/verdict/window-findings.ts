/** Finds what a window shows beside verdicts: blind spots, forged traffic, rules slipped past. */
import { findScans } from "./movement.ts";
import type { Tally } from "./tally.ts";
import type { ClusterFinding, NodeCoverage } from "./verdict.ts";
import type { WindowInput } from "./window-input.ts";

type Found = Omit<ClusterFinding, "from" | "to">;

/** In [fromMs, toMs), milliseconds since the epoch. */
export function findInWindow(
  tally: Tally,
  nodes: readonly NodeCoverage[],
  { fromMs, toMs }: Pick<WindowInput, "fromMs" | "toMs">,
): ClusterFinding[] {
  const [from, to] = [fromMs, toMs].map((ms) => new Date(ms).toISOString()) as [string, string];
  const found = [
    ...findScans(tally),
    ...findInNodes(nodes),
    ...findOneEnded(tally),
    ...findSlipped(tally),
    ...findForeign(tally),
    ...findAliens(tally),
    ...findUndeclared(tally),
  ];
  return found.map((one) => ({ ...one, from, to }));
}

function findInNodes(nodes: readonly NodeCoverage[]): Found[] {
  const lacking = nodes.filter((n) => (n.oneDirection ?? 0) > 0);
  const blind = nodes.filter((n) => !n.agent && n.pods > 0);
  return [
    ...lacking.map((n) => ({
      code: "one-direction",
      subject: `node/${n.node}`,
      sentence:
        `on node ${n.node} the network plugin leads one direction past ${n.oneDirection} ` +
        `of ${n.interfaces} interfaces: what is seen there proves nothing`,
    })),
    ...blind.map((n) => ({
      code: "blind-spot",
      subject: `node/${n.node}`,
      sentence: `node ${n.node} runs ${n.pods} pods, and no agent watched them in the window`,
    })),
  ];
}

/** One finding about each end that shows accepted connections which never came to the other. */
function findOneEnded({ oneEnded }: Tally): Found[] {
  return sorted(oneEnded).map(([subject, count]) => ({
    code: "one-end-only",
    subject,
    sentence:
      `${count} accepted connections were seen at ${subject}, and not at the interface of a pod ` +
      "at their ends that was watched whole: they were made up, or led past it",
  }));
}

/** One finding about each server whose denial by identity let a client pass that showed none. */
function findSlipped({ slipped }: Tally): Found[] {
  return sorted(slipped).map(([subject, client]) => ({
    code: "denial-slipped-past",
    subject,
    sentence:
      `${client} was accepted by ${subject} without showing an identity, ` +
      "which a rule denies when it is shown: demand mutual TLS there",
  }));
}

/** One finding about each namespace that was used, and to which nothing declares a path. */
function findUndeclared({ edges }: Tally): Found[] {
  const bySpace = new Map<string, number>();
  for (const { first, cells } of edges.values()) {
    const isOne = [...cells.path.values()].some(({ kind }) => kind === "undemanded");
    const space = first.server?.namespace ?? "";
    if (isOne) bySpace.set(space, (bySpace.get(space) ?? 0) + 1);
  }
  return sorted(bySpace).map(([space, count]) => ({
    code: "nothing-declared",
    subject: `namespace/${space}`,
    sentence:
      `${count} edges lead into namespace ${space}, and nothing declares a path to any of its ` +
      "workloads: a policy that denies by default makes each of them a decision",
  }));
}

/** One finding about each client whose certificate names another, or another mesh. */
function findAliens({ aliens }: Tally): Found[] {
  return sorted(aliens).map(([subject, server]) => ({
    code: "foreign-identity",
    subject,
    sentence:
      `${subject} was let in by ${server} with mutual TLS, and an identity in it is not that of ` +
      "the pod, or none of the mesh's: find who holds that certificate",
  }));
}

/** One finding about each agent that speaks of pods which are not on its node. */
function findForeign({ foreign }: Tally): Found[] {
  return sorted(foreign).map(([node, count]) => ({
    code: "foreign-pod",
    subject: `node/${node}`,
    sentence:
      `the agent of node ${node} told ${count} connections at the interfaces of pods that run ` +
      "elsewhere: they were kept apart; its certificate may be in other hands",
  }));
}

const sorted = <T>(of: ReadonlyMap<string, T>) => [...of].sort(([a], [b]) => (a < b ? -1 : 1));
