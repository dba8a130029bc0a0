/**
 * Verifies an evidence log from its files and a public key alone. This file is for auditors.
 *
 * The log is a directory in the format of C2SP tlog-tiles:
 *
 *     checkpoint             size and root hash of the log, signed
 *     tile/entries/…         the entries, 256 to a file
 *     tile/<level>/…         the hashes between the entries and the root
 *
 * What is done, in this order, holding no more than 256 entries at a time:
 *
 *   1. the checkpoint's signature is checked with the public key;
 *   2. every entry is read, hashed, and compared with the hash that the tiles hold for it;
 *   3. every tile is computed again from the entries, and compared with the file;
 *   4. the root computed from the entries is compared with the signed one;
 *   5. with an earlier checkpoint: its signature is checked, and the root computed from the first
 *      entries, as many as it tells of, is compared with its root.
 *
 * Steps 2 to 4 find every change, deletion, insertion and reordering of entries below the signed
 * size by anyone without the signing key; step 5 finds them even when the key's holder made them,
 * for all entries that the earlier checkpoint covers, and finds a log that was cut back to an
 * older, rightly signed state.
 */
import fs from "node:fs";
import path from "node:path";
import { parseEntry } from "./entry.ts";
import { checkInclusion, equalHashes, HASH_LENGTH, hashLeaf, proveInclusion } from "./merkle.ts";
import { openCheckpoint, parseVerifier, type Checkpoint, type Verifier } from "./note.ts";
import { OperatorError } from "./operator-error.ts";
import { decodeEntries, decodeTile, Edge, nodeReader } from "./tile.ts";
import { tilePath, tilesAt, TILE_WIDTH, type Tile } from "./tile.ts";

/** Beyond this many, problems are counted and not listed. */
const PROBLEMS_LIMIT = 20;
/** A bundle of the longest entries is 256 × (2 + 65,535) bytes. */
const FILE_BYTES_LIMIT = 17 << 20;

export type Report = {
  ok: boolean;
  /** As signed; null when no checkpoint could be opened. */
  origin: string | null;
  size: number | null;
  root: string | null;
  /** Entries read and hashed; tiles recomputed and compared. */
  entries: number;
  tiles: number;
  /** The earlier checkpoint's size, when one was given and could be opened. */
  since: number | null;
  /** What is wrong, in sentences; the first `PROBLEMS_LIMIT` of `problem_count`. */
  problems: string[];
  problem_count: number;
  /** What this verification cannot exclude, in sentences. */
  limits: string[];
};

/** Verifies the log in `directory`. Throws only when it cannot begin: no such log, no such key. */
export function verifyLog(directory: string, keyFile: string, sinceFile?: string): Report {
  const verifier = readVerifier(keyFile);
  const report: Report = {
    ...{ ok: false, origin: null, size: null, root: null, entries: 0, tiles: 0, since: null },
    ...{ problems: [], problem_count: 0, limits: [] },
  };
  const complain = (problem: string) => {
    if (report.problem_count++ < PROBLEMS_LIMIT) report.problems.push(problem);
  };
  if (!fs.existsSync(path.join(directory, "checkpoint")) && !fs.existsSync(tiles(directory))) {
    throw new OperatorError("CONFIG_EVIDENCE", `evidence: ${directory}: no evidence log is there`);
  }
  const since =
    sinceFile === undefined ? null : readSince(given("--since", sinceFile), verifier, complain);
  const current = readCheckpoint(directory, verifier, complain);
  if (current !== null) {
    report.origin = current.origin;
    report.size = current.size;
    report.root = Buffer.from(current.root).toString("base64");
    report.since = since && since.size;
    if (since !== null && since.size > current.size) {
      complain(
        `the log was cut: an earlier checkpoint covers ${since.size} entries, ` +
          `and now there are ${current.size}`,
      );
    }
    recompute(directory, current, since, report, complain);
  }
  report.limits = limitsOf(sinceFile !== undefined, since);
  report.ok = report.problem_count === 0;
  return report;
}

/** Steps 2 to 5: reads all entries once, in order, and computes everything from them. */
function recompute(
  directory: string,
  current: Checkpoint,
  since: Checkpoint | null,
  report: Report,
  complain: (problem: string) => void,
): void {
  const edge = new Edge();
  const compare = (tile: Tile, hashes: readonly Uint8Array[]) => {
    report.tiles++;
    const found = readTile(directory, tile);
    if (found === null) complain(`${tilePath(tile)} is missing`);
    else if (tile.level === 0 && found.length === tile.width * HASH_LENGTH) {
      return; // compared entry by entry, which tells more
    } else if (!equalHashes(found, Buffer.concat(hashes))) {
      complain(`${tilePath(tile)} is not what the entries below it amount to`);
    }
  };
  const compareSince = () => {
    if (since === null || edge.size !== since.size) return;
    if (equalHashes(edge.root(), since.root)) return;
    complain(
      `the first ${since.size} entries are not those of the earlier checkpoint: ` +
        "they were changed, removed or reordered after it was signed",
    );
  };
  compareSince();
  for (let index = 0; index * TILE_WIDTH < current.size; index++) {
    const width = Math.min(TILE_WIDTH, current.size - index * TILE_WIDTH);
    const bundle: Tile = { level: "entries", index, width };
    const bytes = readTile(directory, bundle);
    const entries = bytes && decodeEntries(bytes, width);
    if (!entries) {
      const what = bytes ? `does not hold exactly ${width} entries` : "is missing";
      complain(`${tilePath(bundle)} ${what}: entries from ${edge.size} on cannot be verified`);
      return;
    }
    const leaves = readTile(directory, { level: 0, index, width });
    const committed = leaves && decodeTile(leaves, width);
    const foreign: number[] = [];
    const malformed: number[] = [];
    for (const [i, entry] of entries.entries()) {
      const hash = hashLeaf(entry);
      if (committed && !equalHashes(hash, committed[i]!)) foreign.push(edge.size);
      else if (parseEntry(entry) === null) malformed.push(edge.size);
      report.entries++;
      edge.add(hash, compare);
      compareSince();
    }
    const by = tilePath({ level: 0, index, width });
    if (foreign.length > 0) complain(`${tell(foreign)} not what the log committed to (${by})`);
    if (malformed.length > 0) complain(`${tell(malformed)} not canonical JSON`);
  }
  for (const { tile, hashes } of edge.partials()) compare(tile, hashes);
  if (!equalHashes(edge.root(), current.root)) {
    complain(
      "the root of the entries is not the signed one: " +
        "entries were changed, removed, inserted or reordered after it was signed",
    );
  }
}

/** Names entries, runs of them by their ends: `entries 3 to 5, 9 are`. */
function tell(indices: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const index of indices) {
    const last = runs.at(-1);
    if (last && last[1] === index - 1) last[1] = index;
    else runs.push([index, index]);
  }
  if (indices.length === 1) return `entry ${indices[0]} is`;
  const texts = runs.slice(0, 5).map(([a, b]) => (a === b ? `${a}` : `${a} to ${b}`));
  return `entries ${texts.join(", ")}${runs.length > 5 ? " and others" : ""} are`;
}

/** What stays possible although all was found in order. */
function limitsOf(asked: boolean, since: Checkpoint | null): string[] {
  const always =
    "Whether the entries were true when they were written: the log proves only that they are " +
    "the ones that were.";
  if (since !== null) {
    return [
      `That entries from ${since.size} on were replaced by whoever holds the signing key: only ` +
        "the entries before are covered by the earlier checkpoint.",
      always,
    ];
  }
  if (asked) return ["The earlier checkpoint could not be used.", always];
  return [
    "That newer entries were cut off by somebody who kept an older copy of the log, or that the " +
      "log was written anew by whoever holds the signing key: no earlier checkpoint was given " +
      "(--since FILE). Keep copies of `checkpoint` where the log's owner cannot change them.",
    always,
  ];
}

/** An entry, and what proves offline that it is in the log: C2SP tlog-proof. */
export type Proven = { index: number; entry: string; proof: string };

/** Every entry below the log's checkpoint, in order, as it stands there: nothing is verified. */
export function* listEntries(directory: string): Generator<{ index: number; text: string }> {
  const bytes = readFile(path.join(directory, "checkpoint"));
  const told = `evidence: ${directory}: no evidence log is there`;
  if (bytes === null) throw new OperatorError("CONFIG_EVIDENCE", told);
  const opened = openCheckpoint(bytes, null);
  if (opened.problem !== null) throw failed(`the checkpoint: ${opened.problem}`);
  const { size } = opened.checkpoint;
  for (let first = 0; first < size; first += TILE_WIDTH) {
    const width = Math.min(TILE_WIDTH, size - first);
    const held = readTile(directory, { level: "entries", index: first / TILE_WIDTH, width });
    const entries = held && decodeEntries(held, width);
    if (!entries) throw failed(`the entries from ${first} on cannot be read`);
    for (const [i, entry] of entries.entries()) {
      yield { index: first + i, text: Buffer.from(entry).toString() };
    }
  }
}

/** Proves the entry from the log's files, and checks the proof before giving it away. */
export function proveEntry(directory: string, index: number, keyFile?: string): Proven {
  const refuse = (what: string) => new OperatorError("CONFIG_EVIDENCE_PROVE", `evidence: ${what}`);
  const bytes = readFile(path.join(directory, "checkpoint"));
  if (bytes === null) throw refuse(`${directory}: no evidence log is there`);
  const verifier = keyFile === undefined ? null : readVerifier(keyFile);
  const opened = openCheckpoint(bytes, verifier);
  if (opened.problem !== null) throw failed(`the checkpoint: ${opened.problem}`);
  const { size, root } = opened.checkpoint;
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) {
    throw refuse(`there is no entry ${index}: the log holds ${size}, counted from 0`);
  }
  const bundle = Math.floor(index / TILE_WIDTH);
  const width = Math.min(TILE_WIDTH, size - bundle * TILE_WIDTH);
  const held = readTile(directory, { level: "entries", index: bundle, width });
  const entry = (held && decodeEntries(held, width))?.[index % TILE_WIDTH];
  if (entry === undefined) throw failed(`the entries around ${index} cannot be read`);
  const read = nodeReader((level, tileIndex) => {
    const { full, width: partial } = tilesAt(level, size);
    const tile: Tile = { level, index: tileIndex, width: tileIndex < full ? TILE_WIDTH : partial };
    const found = readTile(directory, tile);
    const hashes = found && decodeTile(found, tile.width);
    if (!hashes) throw failed(`${tilePath(tile)} is missing or damaged`);
    return hashes;
  });
  const hashes = proveInclusion(index, size, read);
  if (!checkInclusion(hashes, index, size, hashLeaf(entry), root)) {
    throw failed(`entry ${index} is not under the signed root`);
  }
  const lines = hashes.map((hash) => `${Buffer.from(hash).toString("base64")}\n`).join("");
  const proof = `c2sp.org/tlog-proof@v1\nindex ${index}\n${lines}\n${Buffer.from(bytes)}`;
  return { index, entry: Buffer.from(entry).toString(), proof };
}

/** Thrown when the files contradict each other; the command exits with 1. */
export class VerificationError extends Error {}

function failed(what: string): VerificationError {
  return new VerificationError(`evidence: ${what}`);
}

/** The report as a person reads it. */
export function formatReport(report: Report): string {
  const lines = [
    report.size === null
      ? "The log has no checkpoint that the key given has signed."
      : `${report.origin}: ${report.size} entries, root ${report.root}`,
    `${report.entries} entries and ${report.tiles} tiles computed again and compared.`,
  ];
  if (report.since !== null) {
    lines.push(`Held against an earlier checkpoint of ${report.since} entries.`);
  }
  lines.push("");
  if (report.ok) lines.push("VERIFIED: nothing below the checkpoint was changed.");
  else lines.push("FAILED:", ...report.problems.map((problem) => `  - ${problem}`));
  const more = report.problem_count - report.problems.length;
  if (more > 0) lines.push(`  - and ${more} more`);
  lines.push("", "Not excluded:", ...report.limits.map((limit) => `  - ${limit}`));
  return `${lines.join("\n")}\n`;
}

function readCheckpoint(
  directory: string,
  verifier: Verifier,
  complain: (problem: string) => void,
): Checkpoint | null {
  const bytes = readFile(path.join(directory, "checkpoint"));
  const opened = bytes ? openCheckpoint(bytes, verifier) : { problem: "it is missing" };
  if (opened.problem === null) return opened.checkpoint;
  complain(`the checkpoint does not count: ${opened.problem}`);
  return null;
}

function readSince(
  bytes: Uint8Array,
  verifier: Verifier,
  complain: (problem: string) => void,
): Checkpoint | null {
  const opened = openCheckpoint(bytes, verifier);
  if (opened.problem === null) return opened.checkpoint;
  complain(`the earlier checkpoint does not count: ${opened.problem}`);
  return null;
}

function readVerifier(keyFile: string): Verifier {
  const verifier = parseVerifier(Buffer.from(given("--key", keyFile)).toString());
  if (verifier !== null) return verifier;
  const told = `evidence: ${keyFile} is no Ed25519 verifier key (name+id+base64)`;
  throw new OperatorError("CONFIG_EVIDENCE_KEY", told);
}

function given(option: string, file: string): Uint8Array {
  const bytes = readFile(file);
  if (bytes !== null) return bytes;
  throw new OperatorError("CONFIG_EVIDENCE_FILE", `evidence: ${option} ${file}: no such file`);
}

/**
 * The bytes of a tile, or null. A partial tile may be gone once the full one is there, which begins
 * with all that the partial one held.
 */
function readTile(directory: string, tile: Tile): Uint8Array | null {
  const exact = readFile(path.join(directory, tilePath(tile)));
  if (exact !== null || tile.width === TILE_WIDTH) return exact;
  const full = readFile(path.join(directory, tilePath({ ...tile, width: TILE_WIDTH })));
  if (full === null) return null;
  if (tile.level !== "entries") return full.subarray(0, tile.width * HASH_LENGTH);
  let end = 0;
  for (let i = 0; i < tile.width && end + 2 <= full.length; i++) {
    end += 2 + ((full[end]! << 8) | full[end + 1]!);
  }
  return full.subarray(0, end);
}

function tiles(directory: string): string {
  return path.join(directory, "tile");
}

/** The file's bytes, or null when there is none; no more than any file of a log can have. */
function readFile(file: string): Uint8Array | null {
  try {
    if (!fs.statSync(file).isFile()) return null;
    const fd = fs.openSync(file, "r");
    try {
      const bytes = Buffer.alloc(Math.min(fs.fstatSync(fd).size, FILE_BYTES_LIMIT));
      return bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, 0));
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new OperatorError("CONFIG_EVIDENCE_FILE", `evidence: ${file}: ${code}`, error);
  }
}
