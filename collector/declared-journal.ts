/**
 * Keeps what is declared, as it changes, in the store: after a new start it is known again who held
 * which address, and when each policy came to be in force, also of what no window was judged yet.
 */
import {
  isMap,
  keyOf,
  listAt,
  toClusterObject,
  valueAt,
  type ClusterObject,
  type Json,
  type JsonMap,
  type ObjectName,
  type Source,
} from "./attribution/cluster-object.ts";
import type { DeclaredRow, Store } from "./store/store.ts";

/** What of a status tells who holds which address. */
const STATUS = ["phase", "podIP", "podIPs", "startTime", "addresses", "loadBalancer"];
/** Without a change it is noted so often that there was none. */
const HEARTBEAT_MS = 10_000;

/** One change: the object as it was from then on, or the name of one that was gone. */
export type Noted = {
  object: ClusterObject;
  atMs: number;
  sinceMs: number;
  removed: boolean;
};

type Body = { object: Json; source: Source | null };

export class DeclaredJournal {
  readonly #store: Store;
  #waiting: DeclaredRow[] = [];
  #writtenMs = -Infinity;
  /** By key, what of the object was noted last. */
  readonly #gists = new Map<string, string>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Up to then nothing changed beyond what was noted; -Infinity where nothing was. */
  get knownMs(): number {
    return this.#store.cursor("declared") || -Infinity;
  }

  /** What was noted before, in the order of noting. */
  *noted(): IterableIterator<Noted> {
    for (const { key, atMs, sinceMs, removed, body } of this.#store.declared()) {
      const { object: json, source } = body as Body;
      const object = toClusterObject(json, source);
      if (object === null) continue;
      if (removed) this.#gists.delete(key);
      else this.#gists.set(key, gistOf(object));
      yield { object, atMs, sinceMs, removed };
    }
  }

  /** Reports whether it is another than what was noted of it last. */
  differs(object: ClusterObject): boolean {
    return this.#gists.get(keyOf(object)) !== gistOf(object);
  }

  apply(object: ClusterObject, atMs: number, sinceMs: number): void {
    const key = keyOf(object);
    const gist = gistOf(object);
    if (this.#gists.get(key) === gist) return;
    this.#gists.set(key, gist);
    const body: Body = { object: trim(object.body), source: object.source };
    this.#waiting.push({ key, atMs, sinceMs, removed: false, body });
  }

  remove({ apiVersion, kind, namespace, name }: ObjectName, atMs: number, sinceMs: number): void {
    const key = keyOf({ apiVersion, kind, namespace, name });
    if (!this.#gists.delete(key)) return;
    const body: Body = {
      object: { apiVersion, kind, metadata: { namespace, name } },
      source: null,
    };
    this.#waiting.push({ key, atMs, sinceMs, removed: true, body });
  }

  /** Writes what waits; throws, and keeps it, where the store cannot take it. */
  flush(nowMs: number): void {
    if (this.#waiting.length === 0 && nowMs - this.#writtenMs < HEARTBEAT_MS) return;
    this.#store.saveDeclared(this.#waiting, nowMs);
    this.#waiting = [];
    this.#writtenMs = nowMs;
  }
}

/** What must differ to be noted: the content, and what the status tells of addresses. */
export function gistOf({ hash, uid, body }: ClusterObject): string {
  return `${uid} ${hash} ${JSON.stringify(statusOf(body))}`;
}

function statusOf(body: JsonMap): JsonMap {
  const status = valueAt(body, "status");
  if (!isMap(status)) return {};
  return Object.fromEntries(
    STATUS.flatMap((name) => (name in status ? [[name, status[name]]] : [])),
  );
}

/** Without the server's bookkeeping, but for when the object was written. */
function trim(body: JsonMap): JsonMap {
  const times = listAt(body, "metadata", "managedFields").map((field) => ({
    time: valueAt(field, "time"),
  }));
  const metadata = valueAt(body, "metadata");
  if (!isMap(metadata)) return body;
  return {
    ...body,
    metadata: { ...metadata, managedFields: times },
    ...("status" in body ? { status: statusOf(body) } : {}),
  };
}
