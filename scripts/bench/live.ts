/** Makes the namespaces in which live capture is measured, and has it measured in there. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { initCa, issue } from "../../collector/pki.ts";
import { script } from "./program.ts";

const netns = `wpb${process.pid.toString(36)}`;
/** Another one, in which what is no load of ours has its other end. */
const peer = `${netns}p`;

function ip(args: string): void {
  const { status, stderr } = spawnSync("ip", args.split(" "), { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args}: ${stderr}`);
}

/** `wps0` leads to `wpw0`, and `wpw1` to the other namespace's `eth0`: agents watch `wpw.`. */
function makeNamespaces(): void {
  for (const name of [netns, peer]) ip(`netns add ${name}`);
  for (const name of [netns, peer]) {
    const quiet = ["all", "default"].map((which) => `net.ipv6.conf.${which}.disable_ipv6=1`);
    spawnSync("ip", ["netns", "exec", name, "sysctl", "-qw", ...quiet]);
  }
  ip(`-n ${netns} link add wps0 mtu 65000 type veth peer name wpw0 mtu 65000`);
  ip(`-n ${netns} link add wpw1 type veth peer name eth0 netns ${peer}`);
  for (const name of ["lo", "wps0", "wpw0", "wpw1"]) ip(`-n ${netns} link set ${name} up`);
  ip(`-n ${peer} link set eth0 up`);
  ip(`-n ${netns} addr add 10.77.0.1/24 dev wpw1`);
  ip(`-n ${peer} addr add 10.77.0.2/24 dev eth0`);
}

/** Hands over the section line by line; says why where it is left out. */
export async function liveReport(
  print: (line: string) => void,
  sections: readonly string[] = [],
): Promise<void> {
  print("\n## Live, on a veth\n");
  const isRoot = process.getuid?.() === 0 && spawnSync("unshare", ["--net", "true"]).status === 0;
  if (!isRoot) return print("Left out: network namespaces need root.");
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-bench-"));
  const cleanUp = () => {
    for (const name of [netns, peer]) spawnSync("ip", ["netns", "del", name]);
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", cleanUp);
  makeNamespaces();
  await initCa(folder);
  await issue(folder, { ip: ["127.0.0.1"], days: 1 });
  await issue(folder, { agent: "bench", days: 1 });
  const inside = ["netns", "exec", netns, ...script("live-report", [folder, peer, ...sections])];
  const child = spawn("ip", inside, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) print(line);
  process.off("exit", cleanUp);
  cleanUp();
}
