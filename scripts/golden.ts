/**
 * Makes the golden captures: real clients and servers on the loopback of a network namespace of its
 * own, one capture per case, and beside them the truth, which is how they were made. Needs root.
 *
 *     node scripts/golden.ts [CASE…]
 *
 * QUIC needs the Python package aioquic, in the Python that GOLDEN_PYTHON names (else python3).
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { closeSync, openSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DATAGRAM_CASES } from "./golden/datagram-cases.ts";
import { OTHER_CASES } from "./golden/other-cases.ts";
import { Stage } from "./golden/stage.ts";
import type { Case } from "./golden/stage.ts";
import { TLS_CASES } from "./golden/tls-cases.ts";
import { killGroup, mustRun, startProcess, startTimeOf, until } from "./scene/processes.ts";

const GOLDEN = path.join(import.meta.dirname, "../test/golden");
const CASES: readonly Case[] = [...TLS_CASES, ...OTHER_CASES, ...DATAGRAM_CASES];
const FIRST_PORT = 6001;

/** Performs one case under tcpdump. */
async function record(stage: Stage, one: Case): Promise<void> {
  const file = stage.file(`${one.name}.pcap`);
  const log = openSync(stage.file("tcpdump.log"), "w");
  const tcpdump = startProcess(
    [
      ...["tcpdump", "-i", "lo", "-n", "-U", "-s", "0", "--immediate-mode", "-Z", "root"],
      ...["-w", file, "portrange", `${stage.port}-${stage.port + 9}`],
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
    await one.perform(stage);
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
    ({ name, made, flows }) => ({ file: `${name}.pcap`, made, flows }),
  );
  const truth = { schema: "wireproof.golden-truth/1", captures };
  writeFileSync(path.join(GOLDEN, "truth.json"), `${JSON.stringify(truth, null, 2)}\n`);
}

async function recordAll(names: readonly string[]): Promise<void> {
  await mustRun(["ip", "link", "set", "lo", "mtu", "1500", "up"]);
  mkdirSync(GOLDEN, { recursive: true });
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-golden-"));
  const failed: string[] = [];
  try {
    const stage = new Stage(folder);
    await stage.makeCertificates();
    for (const [i, one] of CASES.entries()) {
      if (names.length > 0 && !names.includes(one.name)) continue;
      const missing = (one.needs ?? []).filter((n) => spawnSync("which", [n]).status !== 0);
      if (missing.length > 0) {
        console.error(`${one.name}: left as it is, not installed: ${missing.join(", ")}`);
        continue;
      }
      stage.port = FIRST_PORT + i * 10;
      try {
        await record(stage, one);
      } catch (error) {
        failed.push(one.name);
        console.error(`${one.name}: ${(error as Error).message}`);
      }
    }
    writeTruth();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (failed.length > 0) throw new Error(`not made: ${failed.join(", ")}`);
}

const [mode, ...names] = process.argv.slice(2);
if (mode === "--inside") await recordAll(names);
else {
  // A namespace of its own: its loopback carries nothing else, and goes with the last process.
  const again = [
    process.execPath,
    import.meta.filename,
    "--inside",
    ...(mode ? [mode] : []),
    ...names,
  ];
  const { status } = spawnSync("unshare", ["--net", ...again], { stdio: "inherit" });
  process.exitCode = status ?? 1;
}
