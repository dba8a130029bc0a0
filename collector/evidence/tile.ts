/**
 * Names, cuts and reads the tiles of C2SP tlog-tiles (c2sp.org/tlog-tiles).
 *
 *     tile/0/000            hashes of leaves 0..255
 *     tile/0/x001/234       hashes of leaves 1234·256 and the 255 that follow
 *     tile/1/000.p/3        hashes of three complete tiles of level 0: a partial tile, 3 wide
 *     tile/entries/000      the entries 0..255 themselves, each after its length as uint16
 *
 * A tile of level L holds up to 256 hashes of tree level 8·L. Levels between are computed.
 */
import { HASH_LENGTH, hashNode, treeHash, type ReadNode } from "./merkle.ts";

/** Hashes in a full tile, and entries in a full bundle. */
export const TILE_WIDTH = 256;
const TILE_HEIGHT = 8;
/** A length is a uint16. */
export const ENTRY_BYTES_LIMIT = 65535;

/** `width` is 256 for a full tile, 1..255 for a partial one. */
export type Tile = { level: number | "entries"; index: number; width: number };

/** The path of a tile below the log's directory. */
export function tilePath({ level, index, width }: Tile): string {
  let groups = String(index % 1000).padStart(3, "0");
  for (let n = Math.floor(index / 1000); n > 0; n = Math.floor(n / 1000)) {
    groups = `x${String(n % 1000).padStart(3, "0")}/${groups}`;
  }
  return `tile/${level}/${groups}${width === TILE_WIDTH ? "" : `.p/${width}`}`;
}

/** Tiles of one level in a tree of `size` leaves: how many are full, and how wide the last is. */
export function tilesAt(level: number, size: number): { full: number; width: number } {
  const hashes = Math.floor(size / TILE_WIDTH ** level);
  return { full: Math.floor(hashes / TILE_WIDTH), width: hashes % TILE_WIDTH };
}

/** Levels that have tiles in a tree of `size` leaves. */
export function levelsOf(size: number): number {
  let levels = 0;
  while (Math.floor(size / TILE_WIDTH ** levels) > 0) levels++;
  return levels;
}

export function encodeEntries(entries: readonly Uint8Array[]): Uint8Array {
  const parts = entries.flatMap((entry) => {
    if (entry.length > ENTRY_BYTES_LIMIT) throw new RangeError(`entry of ${entry.length} bytes`);
    return [Uint8Array.of(entry.length >> 8, entry.length & 0xff), entry];
  });
  return Buffer.concat(parts);
}

/** The entries of a bundle, borrowed from it; null unless it is exactly `count` whole entries. */
export function decodeEntries(bytes: Uint8Array, count: number): Uint8Array[] | null {
  const entries: Uint8Array[] = [];
  let at = 0;
  while (at + 2 <= bytes.length && entries.length < count) {
    const end = at + 2 + ((bytes[at]! << 8) | bytes[at + 1]!);
    if (end > bytes.length) return null;
    entries.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return at === bytes.length && entries.length === count ? entries : null;
}

/** The hashes of a tile, borrowed from it; null unless it is exactly `width` of them. */
export function decodeTile(bytes: Uint8Array, width: number): Uint8Array[] | null {
  if (bytes.length !== width * HASH_LENGTH) return null;
  return Array.from({ length: width }, (_, i) =>
    bytes.subarray(i * HASH_LENGTH, (i + 1) * HASH_LENGTH),
  );
}

/** The node (level within the tile, index within the tile) over a tile's hashes. */
function nodeWithin(hashes: readonly Uint8Array[], level: number, index: number): Uint8Array {
  if (level === 0) return hashes[index]!;
  const left = nodeWithin(hashes, level - 1, index * 2);
  return hashNode(left, nodeWithin(hashes, level - 1, index * 2 + 1));
}

/** Reads nodes out of tiles; `readTile` gives the hashes of a tile, at least up to those asked. */
export function nodeReader(
  readTile: (level: number, index: number) => readonly Uint8Array[],
): ReadNode {
  return (level, index) => {
    const tileLevel = Math.floor(level / TILE_HEIGHT);
    const within = level % TILE_HEIGHT;
    const across = TILE_WIDTH / 2 ** within; // nodes of this level in a full tile
    const hashes = readTile(tileLevel, Math.floor(index / across));
    return nodeWithin(hashes, within, index % across);
  };
}

/**
 * The right edge of a growing tree: for each tile level, the hashes of the tile that is not yet
 * full. That is all one needs to grow the tree and know its root: at most 255 hashes a level.
 *
 * Invariant: `levels[L].length === floor(size / 256^L) % 256`.
 */
export class Edge {
  size = 0;
  readonly levels: Uint8Array[][] = [];

  /** Takes the next leaf's hash. `onFull` is told each tile that it fills, lowest level first. */
  add(leaf: Uint8Array, onFull: (tile: Tile, hashes: readonly Uint8Array[]) => void): void {
    this.size++;
    let hash = leaf;
    for (let level = 0; ; level++) {
      const hashes = (this.levels[level] ??= []);
      hashes.push(hash);
      if (hashes.length < TILE_WIDTH) return;
      const index = this.size / TILE_WIDTH ** (level + 1) - 1;
      onFull({ level, index, width: TILE_WIDTH }, hashes);
      hash = nodeWithin(hashes, TILE_HEIGHT, 0);
      this.levels[level] = [];
    }
  }

  /** The tiles that are not full, lowest level first. */
  partials(): { tile: Tile; hashes: readonly Uint8Array[] }[] {
    return this.levels.flatMap((hashes, level) => {
      if (hashes.length === 0) return [];
      const { full, width } = tilesAt(level, this.size);
      return [{ tile: { level, index: full, width }, hashes }];
    });
  }

  root(): Uint8Array {
    // Every node of the root's decomposition lies in a tile that is not full.
    return treeHash(
      this.size,
      nodeReader((level) => this.levels[level]!),
    );
  }
}
