/**
 * Computes and checks the Merkle trees of RFC 6962 §2.1, which RFC 9162 §2.1 keeps.
 *
 * A node is named by level and index: (0, i) is leaf i, and (l, i) covers the complete subtree of
 * leaves [i·2^l, (i+1)·2^l). A range of leaves [low, high) is split where the RFC splits it: at the
 * largest power of two below its length. Sizes and indices are numbers up to 2^53 - 1.
 *
 *     hash                       size 5: the root is over [0, 4) and leaf 4
 *      / \
 *     /\  4
 *    /\ /\
 *    01 23
 */
import { createHash } from "node:crypto";

export const HASH_LENGTH = 32;

/** Gives the hash of a complete subtree that lies within the tree. */
export type ReadNode = (level: number, index: number) => Uint8Array;

const LEAF = Uint8Array.of(0x00);
const NODE = Uint8Array.of(0x01);

/** MTH({}): SHA-256 of nothing. */
export const EMPTY_ROOT: Uint8Array = createHash("sha256").digest();

/** SHA-256(0x00 || entry) */
export function hashLeaf(entry: Uint8Array): Uint8Array {
  return createHash("sha256").update(LEAF).update(entry).digest();
}

/** SHA-256(0x01 || left || right) */
export function hashNode(left: Uint8Array, right: Uint8Array): Uint8Array {
  return createHash("sha256").update(NODE).update(left).update(right).digest();
}

export function equalHashes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** The root of the first `size` leaves. */
export function treeHash(size: number, read: ReadNode): Uint8Array {
  return size === 0 ? EMPTY_ROOT : rangeHash(0, size, read);
}

/**
 * Proves that leaf `index` is in the tree of `size` leaves: the hashes beside its path, leaf first
 * (PATH of RFC 6962 §2.1.1), at most ⌈log₂ size⌉ of them. `0 <= index < size`.
 */
export function proveInclusion(index: number, size: number, read: ReadNode): Uint8Array[] {
  if (!(index >= 0 && index < size)) throw new RangeError(`no leaf ${index} in a tree of ${size}`);
  return proveLeaf(0, size, index, read);
}

/** Reports whether `proof` shows that `leaf` is the hash of entry `index` under `root`. */
export function checkInclusion(
  proof: readonly Uint8Array[],
  index: number,
  size: number,
  leaf: Uint8Array,
  root: Uint8Array,
): boolean {
  if (!isSize(size) || !isSize(index) || index >= size || !areHashes(proof)) return false;
  const computed = runLeafProof(proof, 0, size, index, leaf);
  return computed !== null && equalHashes(computed, root);
}

/**
 * Proves that the tree of `oldSize` leaves is a prefix of that of `size` leaves (PROOF of RFC 6962
 * §2.1.2). Empty when either is all of the other. `0 <= oldSize <= size`.
 */
export function proveConsistency(oldSize: number, size: number, read: ReadNode): Uint8Array[] {
  if (!(oldSize >= 0 && oldSize <= size)) throw new RangeError(`${oldSize} is not in 0..${size}`);
  return oldSize === 0 ? [] : proveTree(0, size, oldSize, read);
}

/** Reports whether `proof` shows that what was under `oldRoot` is the beginning of `root`'s. */
export function checkConsistency(
  proof: readonly Uint8Array[],
  oldSize: number,
  oldRoot: Uint8Array,
  size: number,
  root: Uint8Array,
): boolean {
  if (!isSize(size) || !isSize(oldSize) || oldSize > size || !areHashes(proof)) return false;
  if (oldSize === 0) {
    const both = size > 0 || equalHashes(root, EMPTY_ROOT);
    return proof.length === 0 && equalHashes(oldRoot, EMPTY_ROOT) && both;
  }
  const computed = runTreeProof(proof, 0, size, oldSize, oldRoot);
  return computed !== null && equalHashes(computed[0], oldRoot) && equalHashes(computed[1], root);
}

/** Leaves left of the split of a range of `count > 1` leaves: the largest power of two below. */
function splitOf(count: number): number {
  let k = 1;
  while (k * 2 < count) k *= 2;
  return k;
}

function rangeHash(low: number, high: number, read: ReadNode): Uint8Array {
  const count = high - low;
  const level = Math.round(Math.log2(count));
  // `low` is a multiple of `count` here, as every split leaves ranges that begin so.
  if (2 ** level === count) return read(level, low / count);
  const middle = low + splitOf(count);
  return hashNode(rangeHash(low, middle, read), rangeHash(middle, high, read));
}

function proveLeaf(low: number, high: number, index: number, read: ReadNode): Uint8Array[] {
  if (high - low === 1) return [];
  const middle = low + splitOf(high - low);
  return index < middle
    ? [...proveLeaf(low, middle, index, read), rangeHash(middle, high, read)]
    : [...proveLeaf(middle, high, index, read), rangeHash(low, middle, read)];
}

/** The root that follows from a proof for [low, high), or null when it has the wrong length. */
function runLeafProof(
  proof: readonly Uint8Array[],
  low: number,
  high: number,
  index: number,
  leaf: Uint8Array,
): Uint8Array | null {
  if (high - low === 1) return proof.length === 0 ? leaf : null;
  const beside = proof.at(-1);
  if (beside === undefined) return null;
  const middle = low + splitOf(high - low);
  const rest = proof.slice(0, -1);
  if (index < middle) {
    const left = runLeafProof(rest, low, middle, index, leaf);
    return left && hashNode(left, beside);
  }
  const right = runLeafProof(rest, middle, high, index, leaf);
  return right && hashNode(beside, right);
}

function proveTree(low: number, high: number, oldSize: number, read: ReadNode): Uint8Array[] {
  // The whole range is old: its hash is known to the checker only when it begins at 0.
  if (oldSize === high) return low === 0 ? [] : [rangeHash(low, high, read)];
  const middle = low + splitOf(high - low);
  return oldSize <= middle
    ? [...proveTree(low, middle, oldSize, read), rangeHash(middle, high, read)]
    : [...proveTree(middle, high, oldSize, read), rangeHash(low, middle, read)];
}

/** Old and new hash of [low, high) as they follow from a proof, or null. */
function runTreeProof(
  proof: readonly Uint8Array[],
  low: number,
  high: number,
  oldSize: number,
  oldRoot: Uint8Array,
): [Uint8Array, Uint8Array] | null {
  if (oldSize === high) {
    if (low === 0) return proof.length === 0 ? [oldRoot, oldRoot] : null;
    return proof.length === 1 ? [proof[0]!, proof[0]!] : null;
  }
  const beside = proof.at(-1);
  if (beside === undefined) return null;
  const middle = low + splitOf(high - low);
  const rest = proof.slice(0, -1);
  if (oldSize <= middle) {
    const left = runTreeProof(rest, low, middle, oldSize, oldRoot);
    return left && [left[0], hashNode(left[1], beside)];
  }
  const right = runTreeProof(rest, middle, high, oldSize, oldRoot);
  return right && [hashNode(beside, right[0]), hashNode(beside, right[1])];
}

function isSize(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0;
}

function areHashes(proof: readonly Uint8Array[]): boolean {
  return proof.every((hash) => hash.length === HASH_LENGTH);
}
