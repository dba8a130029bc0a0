/** Spells numbers, times, names for people. */
import type { WorkloadName } from "../verdict/verdict.ts";

export function spellWorkload({ kind, namespace, name }: WorkloadName): string {
  if (kind === "pod") return `${namespace}/${name}`;
  return kind === "unknown" ? `${name} (not attributed)` : `${name} (${kind})`;
}

/** What a workload is filtered and grouped by. */
export function groupOf({ kind, namespace }: WorkloadName): string {
  return kind === "pod" ? namespace : kind === "node" ? "nodes" : "outside";
}

/** Rounded down, so that 100 % says all of them. */
export function spellShare(part: number, whole: number): string {
  if (whole === 0) return "–";
  const tenths = Math.floor((part / whole) * 1000 + 1e-9);
  return `${(tenths / 10).toFixed(tenths % 10 === 0 ? 0 : 1)} %`;
}

export function spellCount(count: number): string {
  return count.toLocaleString("en").replaceAll(",", "\u202f");
}

export function spellBytes(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  let rest = bytes;
  for (; rest >= 1000 && unit < units.length - 1; unit++) rest /= 1000;
  return `${unit === 0 || rest >= 100 ? Math.round(rest) : rest.toFixed(1)} ${units[unit]}`;
}

/** `01:02:00`, UTC; the page says so once. */
export function spellClock(time: string): string {
  return time.slice(11, 19);
}

/** `2026-11-22 01:02:00–01:03:00 UTC` */
export function spellWindow(from: string, to: string): string {
  const end = from.slice(0, 10) === to.slice(0, 10) ? spellClock(to) : spellTime(to);
  return `${spellTime(from)}–${end} UTC`;
}

function spellTime(time: string): string {
  return `${time.slice(0, 10)} ${spellClock(time)}`;
}
