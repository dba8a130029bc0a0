/** Finds what a window shows beside verdicts: blind spots, forged traffic, rules slipped past. */
import type { Holder } from "../attribution/holder.ts";
import { isOneEndOnly } from "./matrix.ts";
import type { Sights } from "./matrix.ts";
import { findScans } from "./movement.ts";
import type { Connection } from "./pair.ts";
import type { ClusterFinding, NodeCoverage } from "./verdict.ts";

type Found = { code: string; subject: string; sentence: string };

export type Seen = {
  from: string;
  to: string;
  connections: readonly Connection[];
  nodes: readonly NodeCoverage[];
  sights: Sights;
  /** Reports whether policy denies what shows the client's identity, and allows what does not. */
  isDeniedByIdentity: (c: Connection, client: Holder, server: Holder) => boolean;
};

export function findInWindow(seen: Seen): ClusterFinding[] {
  const { from, to, connections } = seen;
  const found = [...findInNodes(seen.nodes), ...findOneEnded(seen), ...findSlipped(seen)];
  return [...findScans(connections, from, to), ...found.map((one) => ({ ...one, from, to }))];
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
function findOneEnded({ connections, sights }: Seen): Found[] {
  const bySubject = new Map<string, number>();
  for (const c of connections) {
    if (c.accepted !== true || !isOneEndOnly(sights.of(c))) continue;
    const subject = c.atClient ? c.clientName : c.serverName;
    bySubject.set(subject, (bySubject.get(subject) ?? 0) + 1);
  }
  return [...bySubject].map(([subject, count]) => ({
    code: "one-end-only",
    subject,
    sentence:
      `${count} accepted connections were seen at the interface of ${subject}, and at none of ` +
      "their other ends, which were watched whole",
  }));
}

/** One finding about each server whose denial by identity let a client pass that showed none. */
function findSlipped({ connections, isDeniedByIdentity }: Seen): Found[] {
  const byServer = new Map<string, string>();
  for (const c of connections) {
    const isBare = c.posture === "plaintext" || c.posture === "tls";
    if (!isBare || c.accepted !== true || byServer.has(c.serverName)) continue;
    if (c.client === null || c.server === null || !c.rolesKnown) continue;
    if (isDeniedByIdentity(c, c.client, c.server)) byServer.set(c.serverName, c.clientName);
  }
  return [...byServer].map(([subject, client]) => ({
    code: "denial-slipped-past",
    subject,
    sentence:
      `${client} was accepted by ${subject} without showing an identity, ` +
      "which a rule denies when it is shown: demand mutual TLS there",
  }));
}
