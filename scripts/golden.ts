/**
 * Makes the golden captures: real clients and servers on the loopback of a network namespace of its
 * own, one capture per case, and beside them the truth, which is how they were made. Needs root.
 *
 *     node scripts/golden.ts [--install] [CASE…]
 *
 * A case whose programs are missing is left as it is, and named. `--install` gets them first, as
 * the Debian packages that `golden/packages.ts` lists; keep their services from starting yourself.
 *
 * Envoy is the one that `scripts/bootstrap.sh` brings for the demo. QUIC needs the Python package
 * aioquic, in the Python that GOLDEN_PYTHON names (else python3).
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { closeSync, openSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BROKER_CASES } from "./golden/broker-cases.ts";
import { DATAGRAM_CASES } from "./golden/datagram-cases.ts";
import { DIRECTORY_CASES } from "./golden/directory-cases.ts";
import { MAIL_CASES } from "./golden/mail-cases.ts";
import { NETWORK_CASES } from "./golden/network-cases.ts";
import { OTHER_CASES } from "./golden/other-cases.ts";
import { OPENSSL_CASES } from "./golden/openssl-cases.ts";
import { FarHost, WIRE } from "./golden/far-host.ts";
import { PACKAGES } from "./golden/packages.ts";
import { PROXY_CASES } from "./golden/proxy-cases.ts";
import { REMOTE_CASES } from "./golden/remote-cases.ts";
import { SERVICE_CASES } from "./golden/service-cases.ts";
import { STACK_CASES } from "./golden/stack-cases.ts";
import { STORE_CASES } from "./golden/store-cases.ts";
import { Stage } from "./golden/stage.ts";
import type { Case } from "./golden/stage.ts";
import { TLS_CASES } from "./golden/tls-cases.ts";
import { killGroup, mustRun, startProcess, startTimeOf, until } from "./scene/processes.ts";

const GOLDEN = path.join(import.meta.dirname, "../test/golden");
const CASES: readonly Case[] = [
  ...TLS_CASES,
  ...OTHER_CASES,
  ...DATAGRAM_CASES,
  ...MAIL_CASES,
  ...BROKER_CASES,
  ...STORE_CASES,
  ...DIRECTORY_CASES,
  ...REMOTE_CASES,
  ...NETWORK_CASES,
  ...SERVICE_CASES,
  ...PROXY_CASES,
  ...STACK_CASES,
  ...OPENSSL_CASES,
];
const FIRST_PORT = 6001;
/** For one case, its servers' start included. */
const LIMIT_MS = 40_000;

/** Performs one case under tcpdump. */
async function record(stage: Stage, one: Case): Promise<void> {
  const file = stage.file(`${one.name}.pcap`);
  const log = openSync(stage.file("tcpdump.log"), "w");
  const taken = one.wire ?? `portrange ${stage.port}-${stage.port + 9}`;
  const tcpdump = startProcess(
    [
      ...["tcpdump", "-i", one.wire ? WIRE : "lo", "-n", "-U", "-s", "0", "--immediate-mode"],
      ...["-Z", "root", "-w", file, taken],
    ],
    log,
  );
  closeSync(log);
  await until(
    "tcpdump writes",
    5000,
    () => (statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0,
  );
  await sleep(50);
  try {
    const tooLong = sleep(LIMIT_MS, null, { ref: false }).then(() => {
      throw new Error(`not done in ${LIMIT_MS} ms`);
    });
    await Promise.race([one.perform(stage), tooLong]);
    await sleep(150);
  } finally {
    killGroup(tcpdump.pid, "SIGINT");
    await until("tcpdump ends", 3000, () => startTimeOf(tcpdump.pid!) === null);
    await stage.strike();
  }
  const bytes = readFileSync(file);
  if (bytes.includes("PRIVATE KEY")) throw new Error(`${one.name}: a private key is in it`);
  writeFileSync(path.join(GOLDEN, `${one.name}.pcap`), bytes);
  console.error(`${one.name}: ${bytes.length} bytes`);
}

/** Writes the truth of all cases whose capture is there. */
function writeTruth(): void {
  const captures = CASES.filter((c) => existsSync(path.join(GOLDEN, `${c.name}.pcap`))).map(
    ({ name, made, constructed, flows }) => ({
      ...{ file: `${name}.pcap`, made },
      ...(constructed ? { constructed: true, source: constructed } : {}),
      flows,
    }),
  );
  const truth = { schema: "wireproof.golden-truth/1", captures };
  writeFileSync(path.join(GOLDEN, "truth.json"), `${JSON.stringify(truth, null, 2)}\n`);
}

/** A module of Debian's Python, a file, or a command. */
function isMissing(name: string): boolean {
  if (name.startsWith("/")) return !existsSync(name);
  const module = name.startsWith("python3-") ? name.slice(8) : null;
  const argv = module ? ["/usr/bin/python3", "-c", `import ${module}`] : ["which", name];
  return spawnSync(argv[0]!, argv.slice(1)).status !== 0;
}

/** Installs what the cases need and is not there. */
function install(names: readonly string[]): void {
  const wanted = CASES.filter((c) => names.length === 0 || names.includes(c.name));
  const isPackaged = (name: string) => name in PACKAGES || !name.startsWith("/");
  const programs = wanted.flatMap((c) => c.needs ?? []).filter(isPackaged);
  const packages = new Set(
    programs.filter(isMissing).flatMap((p) => (PACKAGES[p] ?? p).split(" ")),
  );
  if (packages.size === 0) return;
  const argv = ["install", "--yes", "--no-install-recommends", ...packages];
  const { status } = spawnSync("apt-get", argv, { stdio: "inherit" });
  if (status !== 0) throw new Error(`apt-get ${argv.join(" ")}: exit ${status}`);
}

async function recordAll(names: readonly string[]): Promise<void> {
  await mustRun(["ip", "link", "set", "lo", "mtu", "1500", "up"]);
  mkdirSync(GOLDEN, { recursive: true });
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-golden-"));
  const failed: string[] = [];
  const leftOut: string[] = [];
  const far = await FarHost.make();
  try {
    const stage = new Stage(folder, far);
    await stage.makeCertificates();
    for (const [i, one] of CASES.entries()) {
      if (names.length > 0 && !names.includes(one.name)) continue;
      const missing = (one.needs ?? []).filter(isMissing);
      if (missing.length > 0) {
        leftOut.push(one.name);
        console.error(`${one.name}: left as it is, not installed: ${missing.join(", ")}`);
        continue;
      }
      stage.port = one.port ?? FIRST_PORT + i * 10;
      try {
        await record(stage, one);
      } catch (error) {
        failed.push(one.name);
        console.error(`${one.name}: ${(error as Error).message}`);
      }
    }
    writeTruth();
  } finally {
    far.end();
    rmSync(folder, { recursive: true, force: true });
  }
  if (leftOut.length > 0) console.error(`left as they are: ${leftOut.join(", ")}`);
  if (failed.length > 0) throw new Error(`not made: ${failed.join(", ")}`);
}

const options = process.argv.slice(2).filter((word) => word.startsWith("--"));
const names = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const unknown = names.filter((name) => !CASES.some((c) => c.name === name));
if (unknown.length > 0) throw new Error(`no such case: ${unknown.join(", ")}`);
if (options.includes("--inside")) await recordAll(names);
else {
  if (options.includes("--install")) install(names);
  // A namespace of its own: its loopback carries nothing else, and goes with the last process.
  const again = [process.execPath, import.meta.filename, "--inside", ...names];
  const { status } = spawnSync("unshare", ["--net", ...again], { stdio: "inherit" });
  process.exitCode = status ?? 1;
}
