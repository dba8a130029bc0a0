/** Finds the line and column at which a field of a declared object stands in its file. */
import { isMap as isYamlMap, isSeq, LineCounter, parseAllDocuments, type Document } from "yaml";
import type { ClusterObject } from "../../attribution/cluster-object.ts";

export type Step = string | number;

/** Both count from 1. */
export type Place = { line: number; column: number };

/** Where an object was read from: the text of the whole file, and the way to it. */
export type Origin = {
  text: string;
  /** The number of its document in the file, from 0. */
  document: number;
  /** The way from the document's top to the object. */
  at: readonly Step[];
  /** The way to a field as it was written, for one in the object that was made of it. */
  toSource: ((path: readonly Step[]) => readonly Step[]) | null;
};

/** Largest text that is read again to find places in it, in UTF-16 code units. */
const TEXT_LIMIT = 16 << 20;

type Parsed = { documents: readonly Document[]; lines: LineCounter };

export class Places {
  private readonly origins: ReadonlyMap<ClusterObject, Origin>;
  /** By text: a file is read again once, and only where something in it is to be told. */
  private readonly parsed = new Map<string, Parsed | null>();

  constructor(origins: ReadonlyMap<ClusterObject, Origin>) {
    this.origins = origins;
  }

  /** The nearest enclosing field where the path ends early; the object's first line at worst. */
  of(object: ClusterObject, path: readonly Step[]): Place {
    const first = { line: object.source?.line ?? 1, column: 1 };
    const origin = this.origins.get(object);
    const parsed = origin === undefined ? null : this.parse(origin.text);
    const document = parsed?.documents[origin!.document];
    if (origin === undefined || document === undefined) return first;
    const steps = [...origin.at, ...(origin.toSource?.(path) ?? path)];
    const { line, col } = parsed!.lines.linePos(offsetOf(document, steps));
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  private parse(text: string): Parsed | null {
    const known = this.parsed.get(text);
    if (known !== undefined) return known;
    const lines = new LineCounter();
    // As it was read the first time.
    const documents =
      text.length > TEXT_LIMIT
        ? []
        : parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true });
    const parsed = Array.isArray(documents) ? { documents, lines } : null;
    this.parsed.set(text, parsed);
    return parsed;
  }
}

/** Where a path of the document begins; the nearest enclosing node where the path ends early. */
export function offsetOf(document: Document, steps: readonly Step[]): number {
  let node: unknown = document.contents;
  let offset = rangeOf(node) ?? document.range?.[0] ?? 0;
  for (const step of steps) {
    let next: unknown;
    if (isYamlMap(node)) {
      const pair = node.items.find((p) => String((p.key as { value?: unknown })?.value) === step);
      offset = rangeOf(pair?.key) ?? offset;
      next = pair?.value;
    } else if (isSeq(node) && typeof step === "number") {
      next = node.items[step];
      offset = rangeOf(next) ?? offset;
    }
    if (next === undefined || next === null) break;
    node = next;
  }
  return offset;
}

export function rangeOf(node: unknown): number | null {
  const range = (node as { range?: readonly number[] } | null | undefined)?.range;
  return range?.[0] ?? null;
}
