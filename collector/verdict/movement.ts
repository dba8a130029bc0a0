/** Finds lateral movement in a window's connections: one client that tries many servers. */
import { formatShare } from "./confidence.ts";
import type { Tally } from "./tally.ts";
import type { ClusterFinding } from "./verdict.ts";

/** Different targets (address and port) within one window from which on a fan-out is told. */
const TARGETS_FROM = 20;
/** As many must have been seen in a sample, however small it is. */
const TARGETS_SEEN = 5;
/** Share of them that must have gone unaccepted: a busy client is accepted, a scanner is not. */
const UNACCEPTED_FROM = 0.7;

export function findScans({ targets, sampling }: Tally): Omit<ClusterFinding, "from" | "to">[] {
  const targetsFrom = Math.max(TARGETS_SEEN, TARGETS_FROM * sampling);
  const findings = [];
  for (const [subject, tried] of [...targets].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const { targets: count, unaccepted, ports, isSampled } = tried.count();
    if (count < targetsFrom || unaccepted / count < UNACCEPTED_FROM) continue;
    const about = isSampled ? "about " : "";
    const sentence =
      `${subject} tried ${about}${count} different targets on ${ports} ports ` +
      `in the window; ${unaccepted} of them accepted nothing` +
      (sampling < 1 ? `, in a sample of ${formatShare(sampling)} of all flows` : "");
    findings.push({ code: "scan", subject, sentence });
  }
  return findings;
}
