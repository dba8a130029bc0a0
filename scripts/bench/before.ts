/** Checks an earlier state of the project out, to be measured beside this one. */
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ROOT } from "./program.ts";

/** The commit that speed is held against. */
export const BEFORE = "bfd7328";

export type Before = {
  /** Programs of that state: as its launcher starts it, and with its sources compiled before. */
  launcher: string;
  built: string;
  remove(): void;
};

const git = (...args: string[]) => spawnSync("git", args, { cwd: ROOT, encoding: "utf8" });

/** Null, and a word on stderr, where the clone does not reach back that far. */
export function checkOutBefore(): Before | null {
  const folder = path.join(mkdtempSync(path.join(tmpdir(), "wireproof-before-")), "wireproof");
  const remove = () => {
    git("worktree", "remove", "--force", folder);
    rmSync(path.dirname(folder), { recursive: true, force: true });
  };
  const { status, stderr } = git("worktree", "add", "--detach", folder, BEFORE);
  if (status !== 0) {
    remove();
    console.error(`bench: ${BEFORE} cannot be checked out, nothing is held against it: ${stderr}`);
    return null;
  }
  symlinkSync(path.join(ROOT, "node_modules"), path.join(folder, "node_modules"));
  const launcher = path.join(folder, "wireproof");
  const built = path.join(folder, "wireproof-built");
  const run = spawnSync("npm", ["run", "build"], { cwd: folder, encoding: "utf8" });
  if (run.status !== 0) {
    remove();
    throw new Error(`bench: ${BEFORE} does not build: ${run.stdout}${run.stderr}`);
  }
  const script = readFileSync(launcher, "utf8");
  writeFileSync(built, script.replace("$here/wireproof.ts", "$here/dist/wireproof.js"));
  chmodSync(built, 0o755);
  return { launcher, built, remove };
}
