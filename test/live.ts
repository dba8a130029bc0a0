/** Makes network namespaces where that is possible, and cleans them up in every case. */
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

/**
 * Makes a network namespace, removed at exit, with pairs of veths: `sa0` and `sb0`, and so on. The
 * kernel says nothing of its own in it.
 */
export function makePairs(netns: string, pairs: number): void {
  atExit(() => void spawnSync("ip", ["netns", "del", netns]));
  ip(`netns add ${netns}`);
  const quiet = ["all", "default"].map((name) => `net.ipv6.conf.${name}.disable_ipv6=1`);
  spawnSync("ip", ["netns", "exec", netns, "sysctl", "-qw", ...quiet]);
  for (let i = 0; i < pairs; i++) {
    // The longest frames of the captures were recorded with segmentation offload.
    ip(`-n ${netns} link add sa${i} mtu 65535 type veth peer name sb${i} mtu 65535`);
    for (const name of [`sa${i}`, `sb${i}`]) ip(`-n ${netns} link set ${name} up`);
  }
}
