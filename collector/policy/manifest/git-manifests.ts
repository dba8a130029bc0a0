/** Reads the manifests of a folder as each commit of its git repository has them. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import { ConfigError } from "../../../protocol/config-error.ts";
import { isManifest, parseManifests, type Declared } from "./declared.ts";

export type Commit = { id: string; atMs: number; who: string; subject: string };

/** Most bytes that one answer of git's may have. */
const ANSWER_LIMIT = 1 << 30;

export class GitManifests {
  private readonly folder: string;
  /** The folder within the repository, with a slash behind it; empty for the whole of it. */
  private readonly prefix: string;
  /** What a blob holds: most files are the same in most commits. */
  private readonly blobs = new Map<string, Declared>();

  private constructor(folder: string, prefix: string) {
    this.folder = folder;
    this.prefix = prefix;
  }

  /** Null where the folder is in no git repository, or there is no git. */
  static open(folder: string): GitManifests | null {
    const told = git(folder, ["rev-parse", "--show-prefix"]);
    return told === null ? null : new GitManifests(folder, told.toString().trim());
  }

  /** Commits on the way to HEAD that touched the folder, the oldest first. */
  commits(): Commit[] {
    const format = "--format=%H%x00%ct%x00%an <%ae>%x00%s";
    const order = ["--first-parent", "--reverse", "--diff-merges=first-parent"];
    const told = git(this.folder, ["log", ...order, format, "--", "."]);
    return (told?.toString() ?? "")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const [id, seconds, who, subject] = line.split("\0");
        return { id: id!, atMs: Number(seconds) * 1000, who: who!, subject: subject! };
      });
  }

  /** The commit that a revision names (`HEAD~1`, a tag, part of a hash); null for none. */
  resolve(revision: string): string | null {
    if (revision.startsWith("-")) return null;
    const words = ["rev-parse", "--verify", "--quiet", `${revision}^{commit}`];
    return git(this.folder, words)?.toString().trim() ?? null;
  }

  /** The last commit that was made at an instant or before; null for none. */
  commitAt(ms: number): string | null {
    const before = `--before=${new Date(ms).toISOString()}`;
    const told = git(this.folder, ["rev-list", "-1", "--first-parent", before, "HEAD"]);
    return told?.toString().trim() || null;
  }

  /** The manifests of the folder as a commit has them. */
  declaredAt(commit: string): Declared {
    const words = ["ls-tree", "-r", "-z", "--full-tree", commit, "--", this.prefix || "."];
    const listed = (git(this.folder, words)?.toString() ?? "").split("\0").flatMap((line) => {
      const [, type, blob, name] = /^\d+ (\w+) ([0-9a-f]+)\t(.*)$/s.exec(line) ?? [];
      if (type !== "blob" || !isManifest(name!)) return [];
      return [{ blob: blob!, file: path.posix.relative(this.prefix || ".", name!) }];
    });
    this.read(listed);
    const declared: Declared = { objects: [], problems: [], unknownKinds: [], files: [] };
    for (const { blob, file } of listed) {
      const found = this.blobs.get(`${blob} ${file}`);
      if (found === undefined) continue;
      declared.files.push(file);
      declared.objects.push(...found.objects);
      declared.problems.push(...found.problems);
      declared.unknownKinds.push(...found.unknownKinds);
    }
    return declared;
  }

  private read(listed: readonly { blob: string; file: string }[]): void {
    const wanted = listed.filter(({ blob, file }) => !this.blobs.has(`${blob} ${file}`));
    if (wanted.length === 0) return;
    const input = wanted.map(({ blob }) => `${blob}\n`).join("");
    const answer = git(this.folder, ["cat-file", "--batch"], input) ?? Buffer.alloc(0);
    let at = 0;
    for (const { blob, file } of wanted) {
      const end = answer.indexOf(10, at);
      const length = Number(/ blob (\d+)$/.exec(answer.toString("latin1", at, end))?.[1]);
      if (end < 0 || Number.isNaN(length)) return;
      const text = answer.toString("utf8", end + 1, end + 1 + length);
      const declared: Declared = { objects: [], problems: [], unknownKinds: [], files: [] };
      parseManifests(text, file, declared);
      this.blobs.set(`${blob} ${file}`, declared);
      at = end + 1 + length + 1;
    }
  }
}

/** What git says; null where it refuses. Throws where it says more than is read. */
function git(folder: string, words: readonly string[], input?: string): Buffer | null {
  const told = spawnSync("git", ["-C", folder, ...words], {
    ...(input === undefined ? {} : { input }),
    maxBuffer: ANSWER_LIMIT,
  });
  if ((told.error as NodeJS.ErrnoException | undefined)?.code === "ENOBUFS") {
    throw new ConfigError("CONFIG_GIT", `git ${words[0]} of ${folder}: the answer is too long`);
  }
  return told.status === 0 ? told.stdout : null;
}
