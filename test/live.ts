/** Says whether network namespaces can be made here, and cleans them up in every case. */
import { spawnSync } from "node:child_process";

/** What is missing, or false. */
export function whyNotLive(): string | false {
  if (process.getuid?.() !== 0) return "not root: network namespaces cannot be made";
  const probe = spawnSync("unshare", ["--net", "true"]);
  if (probe.status !== 0) return "network namespaces cannot be made here";
  return spawnSync("ip", ["-V"]).status === 0 ? false : "iproute2 is missing";
}

/** Runs `ip`; throws with what it says. */
export function ip(args: string): void {
  const { status, stderr } = spawnSync("ip", args.split(" "), { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args}: ${stderr}`);
}

/** Calls it when the process ends, also after a failure. */
export function atExit(cleanUp: () => void): void {
  process.once("exit", cleanUp);
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => process.exit(1));
}
