/** Follows a live Kubernetes API by list and watch, and starts again after whatever breaks. */
import http from "node:http";
import https from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import type { KubeConfig } from "@kubernetes/client-node";
import {
  groupKind,
  isMap,
  keyOf,
  listAt,
  textAt,
  toClusterObject,
  valueAt,
  type ClusterObject,
  type Json,
  type ObjectName,
} from "./cluster-object.ts";
import { Discovery, type Served } from "./discovery.ts";
import { nameOf, RESOURCES, type Resource } from "./resource.ts";

/**
 * What the follower tells. Nothing else leaves it; none of these may throw. A change came about
 * after `sinceMs`, and at `nowMs` at the latest: behind a break nobody knows when.
 */
export type ClusterEvents = {
  applied: (object: ClusterObject, nowMs: number, sinceMs: number) => void;
  removed: (object: ObjectName, nowMs: number, sinceMs: number) => void;
  /** One line for each change of a resource's state. */
  log: (line: string) => void;
  /**
   * Since `sinceMs` it is not known what there is of a resource, or it is known again (null). Of
   * one that is not served it is known: nothing.
   */
  blind: (kind: string, name: string, trouble: Trouble | null, nowMs: number) => void;
};

/** `sinceMs` is -Infinity for what was never known. */
export type Trouble = { sinceMs: number; reason: string };

/** Kinds of some groups that decide and are not read: `decides` is asked for `KIND.GROUP`. */
export type Unread = { groups: readonly string[]; decides: (groupKind: string) => boolean };

export type ClusterOptions = {
  resources?: readonly Resource[];
  /** Of these it is told whether there are any. */
  unread?: Unread;
  /** First delay after a failure; doubled by each further one up to the last. */
  firstDelayMs?: number;
  lastDelayMs?: number;
  /** A connection on which nothing came for so long is given up. */
  silenceMs?: number;
};

/** Largest line of a watch, and largest page of a list, in bytes. */
const BYTES_LIMIT = 256 << 20;
const PAGE_LIMIT = 500;
/** The server ends a watch after so long; well before the silence limit. */
const WATCH_S = 240;
/** So often it is looked for objects that are not read: within the grace after a change. */
const LOOK_MS = 15_000;

const NOT_SERVED = "not served";
const WATCHING = "watching";
const NONE = "none";
/** What is told of a resource of which it is known what there is. */
const KNOWN: ReadonlySet<string> = new Set([WATCHING, NOT_SERVED, NONE]);

/** Where the objects of a kind are found. */
type Path = Served & { fieldSelector?: string | undefined };

/** How a watch came to its end: null for the version asks for a fresh list. */
type Watched = {
  version: string | null;
  events: number;
  /** When the server was last heard. */
  aliveMs: number;
  /** It did not end at once: what failed before it is over. */
  lasted: boolean;
  broken: string | null;
};

class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class Cluster {
  private readonly kubeConfig: KubeConfig;
  private readonly events: ClusterEvents;
  private readonly resources: readonly Resource[];
  private readonly unread: Unread | null;
  private readonly discovery = new Discovery((path) => this.getJsonIfThere(path));
  private readonly firstDelayMs: number;
  private readonly lastDelayMs: number;
  private readonly silenceMs: number;
  private readonly stopping = new AbortController();
  private readonly states = new Map<string, string>();
  /** When it was last known what there is of a resource that is told as trouble, by its name. */
  private readonly blindSince = new Map<string, number>();
  /** Names of which it was known at some time what there is. */
  private readonly known = new Set<string>();
  /** Names of which the first answer has come. */
  private readonly listed = new Set<string>();
  private hasLooked = false;
  private running: Promise<unknown> = Promise.resolve();

  constructor(kubeConfig: KubeConfig, events: ClusterEvents, options: ClusterOptions = {}) {
    this.kubeConfig = kubeConfig;
    this.events = events;
    this.resources = options.resources ?? RESOURCES;
    this.unread = options.unread ?? null;
    this.firstDelayMs = options.firstDelayMs ?? 200;
    this.lastDelayMs = options.lastDelayMs ?? 30_000;
    this.silenceMs = options.silenceMs ?? (WATCH_S + 60) * 1000;
  }

  start(): void {
    const following = this.resources.map((resource) => this.follow(resource));
    if (this.unread !== null) following.push(this.lookForUnread(this.unread));
    this.running = Promise.all(following);
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }

  /** Every resource was listed at least once, is not served, or may not be read. */
  get isSynced(): boolean {
    if (this.unread !== null && !this.hasLooked) return false;
    return this.resources.every((resource) => this.listed.has(nameOf(resource)));
  }

  /** Lists, then watches from there; lists afresh when the version is gone or sense is lost. */
  private async follow(resource: Resource): Promise<void> {
    const { kind } = resource;
    const name = nameOf(resource);
    const present = new Map<string, ClusterObject>();
    let path: Path | null = null;
    let version: string | null = null;
    let failures = 0;
    let failedMs = -Infinity;
    let aliveMs = -Infinity;
    while (!this.stopping.signal.aborted) {
      try {
        if (path === null || version === null) {
          const served = await this.discovery.find(resource, Date.now(), failedMs);
          if (served === null) throw new ApiError(404, NOT_SERVED);
          path = { ...served, fieldSelector: resource.fieldSelector };
          version = await this.list(path, present, aliveMs);
        }
        this.listed.add(name);
        this.tell(kind, name, WATCHING);
        const seen = await this.watch(path, version, present);
        aliveMs = seen.aliveMs;
        failures = seen.events > 0 || seen.lasted ? 0 : failures + 1;
        version = seen.version;
        if (seen.broken !== null) {
          failures++;
          failedMs = Date.now();
          this.tell(kind, name, `watch broke: ${seen.broken}`);
        }
        if (failures > 0) await this.wait(failures);
      } catch (error) {
        if (this.stopping.signal.aborted) return;
        const { status } = error as Partial<ApiError>;
        // What may not be read is told as such; to wait for it would judge nothing at all.
        if (status === 404 || status === 403) this.listed.add(name);
        if (status === 404) this.drop(present);
        this.tell(kind, name, status === 404 ? NOT_SERVED : `failed: ${(error as Error).message}`);
        version = null;
        failures = status === 404 ? 0 : failures + 1;
        failedMs = Date.now();
        // A kind that is not served comes with a CRD, some day. Rights come within seconds where an
        // API server has just started: it answers 403 until it has read who may do what.
        await this.wait(status === 404 ? Infinity : failures);
      }
    }
  }

  private async wait(failures: number): Promise<void> {
    await this.pause(
      Math.min(this.firstDelayMs * 2 ** Math.min(failures - 1, 20), this.lastDelayMs),
    );
  }

  private async pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.stopping.signal }).catch(() => {});
  }

  /** `knownMs`: when it was last known what there is, if that is not now. */
  private tell(kind: string, name: string, state: string, knownMs = Date.now()): void {
    if (this.states.get(name) === state) return;
    // That there is nothing of what nobody asked for is no news.
    const isNews = state !== NONE || this.states.has(name);
    this.states.set(name, state);
    if (isNews) this.events.log(`cluster: ${name}: ${state}`);
    if (KNOWN.has(state)) {
      this.known.add(name);
      this.blindSince.delete(name);
      return this.events.blind(kind, name, null, Date.now());
    }
    const lastMs = this.known.has(name) ? knownMs : -Infinity;
    const sinceMs = this.blindSince.get(name) ?? lastMs;
    this.blindSince.set(name, sinceMs);
    this.events.blind(kind, name, { sinceMs, reason: state }, Date.now());
  }

  /** Tells whether there are objects of kinds that may decide and are not read; looks again. */
  private async lookForUnread({ groups, decides }: Unread): Promise<void> {
    const told = new Map<string, Map<string, string>>();
    let failures = 0;
    let lookedMs = -Infinity;
    while (!this.stopping.signal.aborted) {
      const startMs = Date.now();
      let isWhole = true;
      for (const group of groups) {
        const before = told.get(group) ?? new Map<string, string>();
        try {
          const served = await this.discovery.kindsOf(group, startMs, lookedMs);
          const now = new Map<string, string>();
          for (const one of served.filter((kind) => decides(groupKind(kind)))) {
            const name = `${one.plural}.${group}`;
            now.set(name, one.kind);
            this.tell(one.kind, name, await this.stateOf(one), lookedMs);
          }
          for (const [name, kind] of before) if (!now.has(name)) this.tell(kind, name, NONE);
          told.set(group, now);
          this.tell("", `*.${group}`, NONE);
        } catch (error) {
          if (this.stopping.signal.aborted) return;
          // As with a kind that is followed, what may not be read is told, and not waited for.
          if ((error as Partial<ApiError>).status !== 403) isWhole = false;
          this.tell("", `*.${group}`, `failed: ${(error as Error).message}`, lookedMs);
        }
      }
      lookedMs = startMs;
      failures = isWhole ? 0 : failures + 1;
      this.hasLooked ||= isWhole;
      if (isWhole) await this.pause(Math.min(LOOK_MS, this.lastDelayMs));
      else await this.wait(failures);
    }
  }

  /** One object is as good as many. Where nobody may list them, there may be some. */
  private async stateOf(served: Served): Promise<string> {
    try {
      const page = await this.getJson(pathOf(served, { limit: "1" }));
      return listAt(page, "items").length > 0 ? "there are some, and they are not read" : NONE;
    } catch (error) {
      const { status } = error as Partial<ApiError>;
      // Not served any more, or a kind that is no more than asked and answered.
      if (status === 404 || status === 405) return NONE;
      if (status === 403) return "may not be listed: whether there are any is not known";
      throw error;
    }
  }

  /** The kind is gone, and its objects with it. */
  private drop(present: Map<string, ClusterObject>): void {
    const nowMs = Date.now();
    for (const object of present.values()) this.events.removed(object, nowMs, nowMs);
    present.clear();
  }

  /** Makes `present` equal to what the API holds; returns the version to watch from. */
  private async list(
    path: Path,
    present: Map<string, ClusterObject>,
    aliveMs: number,
  ): Promise<string | null> {
    const found = new Map<string, ClusterObject>();
    let version: string | null = null;
    let next: string | null = null;
    do {
      const query: Record<string, string> = { limit: String(PAGE_LIMIT) };
      if (next !== null) query["continue"] = next;
      const page = await this.getJson(pathOf(path, query));
      if (!Array.isArray(valueAt(page, "items"))) throw new Error("the answer is no list");
      version = textAt(page, "metadata", "resourceVersion");
      next = textAt(page, "metadata", "continue");
      for (const item of listAt(page, "items")) {
        const object = this.toObject(path, item);
        if (object !== null) found.set(keyOf(object), object);
      }
    } while (next !== null);
    const nowMs = Date.now();
    for (const [key, object] of present) {
      if (found.has(key)) continue;
      present.delete(key);
      this.events.removed(object, nowMs, aliveMs);
    }
    for (const [key, object] of found) this.take(key, object, present, nowMs, aliveMs);
    return version;
  }

  /** Takes events until the stream ends; a null version asks for a fresh list. */
  private async watch(
    path: Path,
    from: string | null,
    present: Map<string, ClusterObject>,
  ): Promise<Watched> {
    const query = {
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_S),
      resourceVersion: from ?? "0",
    };
    const stream = await this.open(pathOf(path, query));
    const openedMs = Date.now();
    let version: string | null = from;
    let events = 0;
    let aliveMs = openedMs;
    try {
      for await (const line of linesOf(stream)) {
        aliveMs = Date.now();
        const event = JSON.parse(line) as Json;
        const type = textAt(event, "type");
        const body = valueAt(event, "object");
        if (type === "ERROR") {
          // 410 Gone, and anything else that the server gives up for: begin from a list.
          const broken = textAt(body, "message") ?? "the server ended the watch";
          return { version: null, events, aliveMs, lasted: false, broken };
        }
        version = textAt(body, "metadata", "resourceVersion") ?? version;
        if (type === "BOOKMARK") continue;
        const object = this.toObject(path, body);
        if (object === null || !["ADDED", "MODIFIED", "DELETED"].includes(type ?? "")) {
          throw new Error("an event is none of the kinds known");
        }
        events++;
        const key = keyOf(object);
        if (type !== "DELETED") this.take(key, object, present, aliveMs, aliveMs);
        else if (present.delete(key)) this.events.removed(object, aliveMs, aliveMs);
      }
      if (!stream.complete) throw new Error("the connection was cut");
      // One that ends at once, and tells nothing, counts as a failure: it would be asked for ever.
      const nowMs = Date.now();
      const lasted = nowMs - openedMs > this.firstDelayMs;
      return { version, events, aliveMs: nowMs, lasted, broken: null };
    } catch (error) {
      if (this.stopping.signal.aborted) throw error;
      // Whether everything before the break arrived is not known: begin from a list.
      const broken = (error as Error).message;
      const lasted = Date.now() - openedMs > this.lastDelayMs;
      return { version: null, events, aliveMs, lasted, broken };
    } finally {
      stream.destroy();
    }
  }

  private take(
    key: string,
    object: ClusterObject,
    present: Map<string, ClusterObject>,
    nowMs: number,
    sinceMs: number,
  ): void {
    const before = present.get(key);
    if (before !== undefined && before.uid !== object.uid) {
      this.events.removed(before, nowMs, sinceMs);
    } else if (before?.resourceVersion && before.resourceVersion === object.resourceVersion) return;
    present.set(key, object);
    this.events.applied(object, nowMs, sinceMs);
  }

  /** Lists leave out what kind their items are. */
  private toObject({ apiVersion, kind }: Served, body: Json | undefined): ClusterObject | null {
    return isMap(body) ? toClusterObject({ apiVersion, kind, ...body }, null) : null;
  }

  /** Null for what is not there. */
  private async getJsonIfThere(path: string): Promise<Json | null> {
    try {
      return await this.getJson(path);
    } catch (error) {
      if ((error as Partial<ApiError>).status === 404) return null;
      throw error;
    }
  }

  private async getJson(path: string): Promise<Json> {
    const stream = await this.open(path);
    const chunks: Buffer[] = [];
    let lengthBytes = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      lengthBytes += chunk.length;
      if (lengthBytes > BYTES_LIMIT) throw new Error("the answer is too long");
      chunks.push(chunk);
    }
    if (!stream.complete) throw new Error("the connection was cut");
    return JSON.parse(Buffer.concat(chunks).toString("utf8")) as Json;
  }

  /** Asks with the credentials as they are now: mounted tokens and certificates change. */
  private async open(path: string): Promise<http.IncomingMessage> {
    const cluster = this.kubeConfig.getCurrentCluster();
    if (cluster === null) throw new Error("the kubeconfig names no current cluster");
    const options: https.RequestOptions = {};
    await this.kubeConfig.applyToHTTPSOptions(options);
    if (!cluster.proxyUrl) options.agent = false; // a kept agent would keep old certificates
    const url = new URL(`${cluster.server.replace(/\/$/, "")}${path}`);
    const { request } = url.protocol === "https:" ? https : http;
    return new Promise((resolve, reject) => {
      const sent = request(url, { ...options, signal: this.stopping.signal }, (answer) => {
        const status = answer.statusCode ?? 0;
        if (status === 200) return resolve(answer);
        answer.resume();
        reject(new ApiError(status, `${status} ${answer.statusMessage ?? ""}`.trim()));
      });
      sent.setTimeout(this.silenceMs, () => sent.destroy(new Error("nothing came for too long")));
      sent.on("error", reject);
      sent.end();
    });
  }
}

function pathOf(path: Path, query: Record<string, string>): string {
  const { apiVersion, plural, fieldSelector } = path;
  const root = apiVersion.includes("/") ? "apis" : "api";
  const selected = fieldSelector === undefined ? query : { ...query, fieldSelector };
  return `/${root}/${apiVersion}/${plural}?${new URLSearchParams(selected).toString()}`;
}

/** Lines of a stream that are not empty; throws when the stream breaks, or a line has no end. */
async function* linesOf(stream: http.IncomingMessage): AsyncGenerator<string> {
  let chunks: Buffer[] = [];
  let lengthBytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let at = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, at)) {
      const line = Buffer.concat([...chunks, chunk.subarray(at, end)])
        .toString("utf8")
        .trim();
      chunks = [];
      lengthBytes = 0;
      at = end + 1;
      if (line !== "") yield line;
    }
    chunks.push(chunk.subarray(at));
    lengthBytes += chunk.length - at;
    if (lengthBytes > BYTES_LIMIT) throw new Error("a line is too long");
  }
}
