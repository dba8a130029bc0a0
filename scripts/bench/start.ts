/** Measures what commands take that do next to nothing: the start of the program. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { EvidenceLog, createKeys } from "../../collector/evidence/log.ts";
import { encodeEntry } from "../../collector/evidence/entry.ts";
import { BEFORE } from "./before.ts";
import type { Before } from "./before.ts";
import { ROOT } from "./program.ts";
import { timeInTurn } from "./timing.ts";

const ROUNDS = 9;
const CAPTURE = path.join(ROOT, "test/golden/mtls13-ecdsa.pcap");
const MANIFESTS = path.join(ROOT, "scripts/scene/manifests");
const WEB = "shop/web-6f7c8d9b55[ReplicaSet]";
const CART = "shop/cart-5d8f7b6c44[ReplicaSet]";

/** A log of one entry, and its public key. */
async function makeLog(folder: string): Promise<[string, string]> {
  const [key, pub] = createKeys(path.join(folder, "keys"), "log.example");
  const directory = path.join(folder, "log");
  const signer = readFileSync(key!, "utf8");
  const log = await EvidenceLog.open({ directory, signer, log: () => undefined });
  await log.appendAll([encodeEntry({ kind: "bench" })]);
  await log.close();
  return [directory, pub!];
}

export async function startReport(
  print: (line: string) => void,
  before: Before | null,
): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-start-"));
  try {
    const [log, pub] = await makeLog(folder);
    const commands: [string, string[]][] = [
      ["--help", ["--help"]],
      ["inspect --help", ["inspect", "--help"]],
      ["inspect of one flow", ["inspect", CAPTURE]],
      [
        "policy explain",
        ["policy", "explain", "--manifests", MANIFESTS, "--from", WEB, "--to", CART, "--port", "1"],
      ],
      ["evidence verify", ["evidence", "verify", log, "--key", pub]],
    ];
    print(`\n## Start\n\nMedians of ${ROUNDS} runs in turn; in brackets, to ${BEFORE}:\n`);
    print("| command | CPU seconds | wall seconds |");
    print("| --- | ---: | ---: |");
    for (const [name, args] of commands) {
      const runs = [{ name: "now", argv: [path.join(ROOT, "wireproof"), ...args] }];
      if (before) runs.push({ name: "before", argv: [before.launcher, ...args] });
      const took = timeInTurn(runs, ROUNDS);
      const [now, then] = [took.get("now"), took.get("before")];
      if (!now) throw new Error(`bench: ${name} fails`);
      const cell = (of: "cpu" | "wall") =>
        `${now[of].toFixed(3)}${then ? ` (${(now[of] / then[of]).toFixed(2)})` : ""}`;
      print(`| ${name} | ${cell("cpu")} | ${cell("wall")} |`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
