/** Finds lateral movement in a window's connections: one client that tries many servers. */
import { formatShare } from "./confidence.ts";
import type { Connection } from "./pair.ts";
import type { ClusterFinding } from "./verdict.ts";

/** Different targets (address and port) within one window from which on a fan-out is told. */
const TARGETS_FROM = 20;
/** As many must have been seen in a sample, however small it is. */
const TARGETS_SEEN = 5;
/** Share of them that must have gone unaccepted: a busy client is accepted, a scanner is not. */
const UNACCEPTED_FROM = 0.7;

export function findScans(
  connections: readonly Connection[],
  from: string,
  to: string,
): ClusterFinding[] {
  const byClient = new Map<string, Map<string, boolean>>();
  const sampling = connections.reduce((least, c) => Math.min(least, c.sampling), 1);
  const targetsFrom = Math.max(TARGETS_SEEN, TARGETS_FROM * sampling);
  for (const c of connections) {
    if (!c.rolesKnown && c.midstream) continue; // a server's clients are no targets
    const targets = byClient.get(c.clientName) ?? new Map<string, boolean>();
    byClient.set(c.clientName, targets);
    const target = `${c.sightings[0]!.attributed.observation.record.dst_ip} ${c.port}/${c.proto}`;
    targets.set(target, (targets.get(target) ?? false) || c.accepted === true);
  }
  const findings: ClusterFinding[] = [];
  for (const [subject, targets] of byClient) {
    const unaccepted = [...targets.values()].filter((accepted) => !accepted).length;
    if (targets.size < targetsFrom || unaccepted / targets.size < UNACCEPTED_FROM) continue;
    const ports = new Set([...targets.keys()].map((t) => t.split(" ")[1]));
    const sentence =
      `${subject} tried ${targets.size} different targets on ${ports.size} ports ` +
      `in the window; ${unaccepted} of them accepted nothing` +
      (sampling < 1 ? `, in a sample of ${formatShare(sampling)} of all flows` : "");
    findings.push({ code: "scan", from, to, subject, sentence });
  }
  return findings;
}
