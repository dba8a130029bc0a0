/**
 * Appends entries to a log in a directory, so that whoever holds an earlier checkpoint can tell
 * whether anything before it was changed.
 *
 * An append writes, in this order, each step on the disk before the next:
 *
 *     1  entry bundles and tiles of the larger tree     nobody reads them yet
 *     2  checkpoint.next, its name in the directory     from here on the append has happened
 *     3  rename to checkpoint                           readers see it
 *
 * A crash before 2 leaves files that the next append overwrites. A crash after 2 is carried on at
 * the next open, never taken back: a checkpoint that somebody may have seen is not followed by
 * another of the same size. After a failed write or sync nothing is known about the disk (its
 * pages may be lost and marked clean), so the log stops for good, and signs no more: reopen it.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { equalHashes, hashLeaf } from "./merkle.ts";
import { formatKeys, isKeyName, openCheckpoint, parseSigner, signCheckpoint } from "./note.ts";
import { verifierOf, type Checkpoint, type Signer, type Verifier } from "./note.ts";
import { OperatorError } from "./operator-error.ts";
import { decodeEntries, decodeTile, encodeEntries, levelsOf, tilePath, tilesAt } from "./tile.ts";
import { Edge, ENTRY_BYTES_LIMIT, TILE_WIDTH, type Tile } from "./tile.ts";

/** What the log asks of a disk; a test lets each of them fail in turn. */
export type LogFiles = {
  /** Null when there is no such file. */
  load(file: string): Promise<Uint8Array | null>;
  exists(file: string): Promise<boolean>;
  /** Does nothing when it is there. */
  makeDirectory(directory: string): Promise<void>;
  open(file: string, flags: string): Promise<number>;
  write(fd: number, bytes: Uint8Array, at: number): Promise<number>;
  sync(fd: number): Promise<void>;
  close(fd: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(fileOrDirectory: string): Promise<void>;
};

const write = promisify(fs.write);

export const DISK: LogFiles = {
  load: (file) => fs.promises.readFile(file).catch(nullWhen("ENOENT")),
  exists: async (file) => (await fs.promises.stat(file).catch(nullWhen("ENOENT"))) !== null,
  makeDirectory: async (directory) => {
    await fs.promises.mkdir(directory).catch(nullWhen("EEXIST"));
  },
  open: (file, flags) => promisify(fs.open)(file, flags, 0o644),
  write: async (fd, bytes, at) => (await write(fd, bytes, 0, bytes.length, at)).bytesWritten,
  sync: promisify(fs.fsync),
  close: promisify(fs.close),
  rename: promisify(fs.rename),
  remove: (file) => fs.promises.rm(file, { recursive: true, force: true }),
};

export type LogOptions = {
  directory: string;
  /** The text of the signer key, as `createKeys` made it; its name is the log's origin. */
  signer: string;
  log: (level: "info" | "warn" | "error", text: string) => void;
  files?: LogFiles;
};

/** Invariant: `checkpoint` is signed, on the disk, and is what a reader of the files sees. */
export class EvidenceLog {
  #edge = new Edge();
  /** As the checkpoint says; the edge is ahead of it while an append is under way, or failed. */
  #size = 0;
  /** The last bundle's entries, until it is full. */
  #tail: Uint8Array[] = [];
  #checkpoint = "";
  /** Tiles that the last append filled. */
  #filled: Tile[] = [];
  #fatal: Error | null = null;
  #turns: Promise<unknown> = Promise.resolve();
  #lock: DatabaseSync;
  readonly #directory: string;
  readonly #signer: Signer;
  readonly #verifier: Verifier;
  readonly #files: LogFiles;
  readonly #log: LogOptions["log"];
  readonly #directories = new Set<string>();

  private constructor(options: LogOptions, signer: Signer, lock: DatabaseSync) {
    this.#directory = options.directory;
    this.#signer = signer;
    this.#verifier = verifierOf(signer);
    this.#files = options.files ?? DISK;
    this.#log = options.log;
    this.#lock = lock;
  }

  /** Opens the log, or begins it with a checkpoint of size 0; throws when it cannot. */
  static async open(options: LogOptions): Promise<EvidenceLog> {
    const signer = parseSigner(options.signer);
    if (!signer) {
      throw new OperatorError("CONFIG_EVIDENCE_KEY", "evidence: the key is no Ed25519 signer key");
    }
    const log = new EvidenceLog(options, signer, takeLock(options.directory));
    try {
      await log.#load();
    } catch (error) {
      log.#lock.close();
      throw error;
    }
    return log;
  }

  /** Entries in the log; the next one's index. */
  get size(): number {
    return this.#size;
  }

  /** The newest checkpoint, a signed note: keep a copy where the log's owner cannot change it. */
  get checkpoint(): string {
    return this.#checkpoint;
  }

  /** Why the log has stopped for good, or null. */
  get fatal(): Error | null {
    return this.#fatal;
  }

  /**
   * Appends the entries, each at most 65,535 bytes, under one checkpoint; resolves once all of it
   * is on the disk. When it rejects, the log has stopped; reopen it, and compare `size` with what
   * was expected before appending again: the append may have happened.
   */
  appendAll(entries: readonly Uint8Array[]): Promise<{ first: number; size: number }> {
    const long = entries.find((entry) => entry.length > ENTRY_BYTES_LIMIT);
    if (long) return Promise.reject(new RangeError(`evidence: entry of ${long.length} bytes`));
    const turn = this.#turns.then(() => this.#append(entries));
    this.#turns = turn.catch(() => {});
    return turn;
  }

  async close(): Promise<void> {
    await this.#turns;
    this.#fatal ??= new Error("evidence: the log is closed");
    if (this.#lock.isOpen) this.#lock.close();
  }

  async #append(entries: readonly Uint8Array[]): Promise<{ first: number; size: number }> {
    if (this.#fatal) throw this.#fatal;
    const first = this.size;
    if (entries.length === 0) return { first, size: first };
    try {
      await this.#grow(entries);
      await this.#publish(signCheckpoint(this.#edge.size, this.#edge.root(), this.#signer));
    } catch (error) {
      const told = "evidence: a write failed; the log has stopped, and signs nothing more";
      this.#fatal = new Error(told, { cause: error });
      this.#log("error", `${told}: ${(error as Error).message}`);
      throw this.#fatal;
    }
    return { first, size: this.size };
  }

  /** Writes what the larger tree needs, and puts it on the disk. */
  async #grow(entries: readonly Uint8Array[]): Promise<void> {
    const full: Tile[] = [];
    const writes: { tile: Tile; bytes: Uint8Array }[] = [];
    for (const entry of entries) {
      this.#tail.push(entry);
      this.#edge.add(hashLeaf(entry), (tile, hashes) => {
        full.push(tile);
        writes.push({ tile, bytes: Buffer.concat(hashes) });
      });
      if (this.#tail.length === TILE_WIDTH) {
        const index = this.#edge.size / TILE_WIDTH - 1;
        const tile: Tile = { level: "entries", index, width: TILE_WIDTH };
        full.push(tile);
        writes.push({ tile, bytes: encodeEntries(this.#tail) });
        this.#tail = [];
      }
    }
    const { full: index, width } = tilesAt(0, this.#edge.size);
    if (width > 0) {
      const tile: Tile = { level: "entries", index, width };
      writes.push({ tile, bytes: encodeEntries(this.#tail) });
    }
    for (const { tile, hashes } of this.#edge.partials()) {
      writes.push({ tile, bytes: Buffer.concat(hashes) });
    }
    const touched = new Set<string>();
    for (const { tile, bytes } of writes) {
      const file = path.join(this.#directory, tilePath(tile));
      await this.#makeDirectories(path.dirname(file), touched);
      await this.#writeDurably(file, bytes);
      touched.add(path.dirname(file));
    }
    for (const directory of touched) await this.#syncDirectory(directory);
    this.#filled = full;
  }

  async #publish(note: string): Promise<void> {
    const next = path.join(this.#directory, "checkpoint.next");
    await this.#writeDurably(next, Buffer.from(note));
    await this.#syncDirectory(this.#directory);
    await this.#files.rename(next, path.join(this.#directory, "checkpoint"));
    await this.#syncDirectory(this.#directory);
    this.#checkpoint = note;
    this.#size = this.#edge.size;
    // A full tile holds all that its partial ones held (tlog-tiles, "Partial Tiles").
    for (const tile of this.#filled) {
      const partials = path.join(this.#directory, `${tilePath(tile)}.p`);
      this.#directories.delete(partials);
      await this.#files.remove(partials).catch(() => {}); // they take space, and harm nothing
    }
    this.#filled = [];
  }

  async #load(): Promise<void> {
    const next = path.join(this.#directory, "checkpoint.next");
    const current = await this.#openCheckpoint("checkpoint");
    const bytes = await this.#files.load(next);
    const opened = bytes && openCheckpoint(bytes, this.#verifier);
    if (opened && opened.problem !== null) {
      this.#log("warn", `evidence: passed over checkpoint.next: ${opened.problem}`);
    } else if (opened && (current === null || opened.checkpoint.size > current.checkpoint.size)) {
      await this.#loadEdge(opened.checkpoint);
      this.#log("info", `evidence: carried on an interrupted append: size ${this.#edge.size}`);
      return this.#publish(Buffer.from(bytes!).toString());
    }
    if (current === null) {
      const tiles = await this.#files.exists(path.join(this.#directory, "tile"));
      if (tiles) throw damaged(this.#directory, "there are tiles, but no checkpoint");
      await this.#syncDirectory(path.dirname(path.resolve(this.#directory)));
      return this.#publish(signCheckpoint(0, this.#edge.root(), this.#signer));
    }
    await this.#loadEdge(current.checkpoint);
    this.#checkpoint = current.note;
    this.#size = current.checkpoint.size;
  }

  async #openCheckpoint(name: string): Promise<{ checkpoint: Checkpoint; note: string } | null> {
    const bytes = await this.#files.load(path.join(this.#directory, name));
    if (bytes === null) return null;
    const opened = openCheckpoint(bytes, this.#verifier);
    if (opened.problem !== null) throw damaged(this.#directory, `${name}: ${opened.problem}`);
    return { checkpoint: opened.checkpoint, note: Buffer.from(bytes).toString() };
  }

  /** Reads the right edge of the tree, and holds it against the checkpoint. */
  async #loadEdge({ size, root }: Checkpoint): Promise<void> {
    const edge = new Edge();
    edge.size = size;
    let tail: Uint8Array[] | null = [];
    for (let level = 0; level < levelsOf(size); level++) {
      const { full, width } = tilesAt(level, size);
      edge.levels[level] = [];
      if (width === 0) continue;
      const bytes = await this.#loadTile({ level, index: full, width });
      const hashes = decodeTile(bytes, width);
      if (!hashes) throw damaged(this.#directory, `a tile of level ${level} has the wrong size`);
      edge.levels[level] = hashes;
    }
    const { full, width } = tilesAt(0, size);
    if (width > 0) {
      tail = decodeEntries(await this.#loadTile({ level: "entries", index: full, width }), width);
    }
    const agree = tail?.every((entry, i) => equalHashes(hashLeaf(entry), edge.levels[0]![i]!));
    if (!agree || !equalHashes(edge.root(), root)) {
      throw damaged(this.#directory, `its last tiles do not agree with the checkpoint`);
    }
    this.#edge = edge;
    this.#tail = tail!;
  }

  async #loadTile(tile: Tile): Promise<Uint8Array> {
    const bytes = await this.#files.load(path.join(this.#directory, tilePath(tile)));
    if (bytes === null) throw damaged(this.#directory, `${tilePath(tile)} is missing`);
    return bytes;
  }

  async #writeDurably(file: string, bytes: Uint8Array): Promise<void> {
    const fd = await this.#files.open(file, "w");
    try {
      for (let at = 0; at < bytes.length;) {
        at += await this.#files.write(fd, bytes.subarray(at), at);
      }
      await this.#files.sync(fd);
    } finally {
      await this.#files.close(fd);
    }
  }

  /** Makes a directory and those above it; each new name is to be synced in its parent. */
  async #makeDirectories(directory: string, touched: Set<string>): Promise<void> {
    if (directory === this.#directory || this.#directories.has(directory)) return;
    const parent = path.dirname(directory);
    await this.#makeDirectories(parent, touched);
    // Also when it was there: a run that crashed may have made it, and not synced its name.
    await this.#files.makeDirectory(directory);
    touched.add(parent);
    this.#directories.add(directory);
  }

  async #syncDirectory(directory: string): Promise<void> {
    const fd = await this.#files.open(directory, "r");
    try {
      await this.#files.sync(fd);
    } finally {
      await this.#files.close(fd);
    }
  }
}

/**
 * Makes a key pair named `name` (the log's origin): `evidence.key`, which signs, and
 * `evidence.pub`, which is for auditors. Gives their paths; never replaces a key.
 */
export function createKeys(directory: string, name: string): string[] {
  if (!isKeyName(name)) {
    const told = `evidence: key name ${JSON.stringify(name)}: no spaces and no "+"`;
    throw new OperatorError("CONFIG_EVIDENCE_KEY", told);
  }
  const { signer, verifier } = formatKeys(name, randomBytes(32));
  const files = ["evidence.key", "evidence.pub"].map((file) => path.join(directory, file));
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    fs.writeFileSync(files[0]!, `${signer}\n`, { flag: "wx", mode: 0o600, flush: true });
    fs.writeFileSync(files[1]!, `${verifier}\n`, { flag: "wx", mode: 0o644, flush: true });
  } catch (error) {
    const { code } = error as { code?: string };
    const told = code === "EEXIST" ? "a key is there already, and is not replaced" : code;
    throw new OperatorError("CONFIG_EVIDENCE_KEY", `evidence: ${directory}: ${told}`, error);
  }
  return files;
}

function damaged(directory: string, what: string): OperatorError {
  const todo = `"wireproof evidence verify ${directory}" tells more`;
  return new OperatorError("CONFIG_EVIDENCE_DAMAGED", `evidence: ${directory}: ${what}; ${todo}`);
}

/** One writer per log. The kernel lets the lock go when the process ends, however it ends. */
function takeLock(directory: string): DatabaseSync {
  let lock: DatabaseSync | undefined;
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o755 });
    lock = new DatabaseSync(path.join(directory, "lock"));
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    return lock;
  } catch (error) {
    lock?.close();
    const text = (error as Error).message;
    const held = /locked/.test(text);
    const told = held ? "another process writes to it" : `cannot be opened: ${text}`;
    const code = held ? "CONFIG_EVIDENCE_IN_USE" : "CONFIG_EVIDENCE";
    throw new OperatorError(code, `evidence: ${directory}: ${told}`, error);
  }
}

function nullWhen(wanted: string): (error: unknown) => null {
  return (error) => {
    if ((error as { code?: string }).code === wanted) return null;
    throw error;
  };
}
