/** Follows a live Kubernetes API by list and watch, and starts again after whatever breaks. */
import http from "node:http";
import https from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import type { KubeConfig } from "@kubernetes/client-node";
import {
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
  blind: (kind: string, name: string, trouble: Trouble | null) => void;
};

export type Trouble = { sinceMs: number; reason: string };

export type ClusterOptions = {
  resources?: readonly Resource[];
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

const NOT_SERVED = "not served";

/** A resource with the version in which it is served now: `v1`, `policy.linkerd.io/v1beta3`. */
type Served = Resource & { apiVersion: string };

/** How a watch came to its end: null for the version asks for a fresh list. */
type Watched = {
  version: string | null;
  events: number;
  /** When the server was last heard. */
  aliveMs: number;
  ended: boolean;
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
  private readonly firstDelayMs: number;
  private readonly lastDelayMs: number;
  private readonly silenceMs: number;
  private readonly stopping = new AbortController();
  private readonly states = new Map<string, string>();
  private readonly blindSince = new Map<string, number>();
  private readonly listed = new Set<string>();
  private running: Promise<unknown> = Promise.resolve();

  constructor(kubeConfig: KubeConfig, events: ClusterEvents, options: ClusterOptions = {}) {
    this.kubeConfig = kubeConfig;
    this.events = events;
    this.resources = options.resources ?? RESOURCES;
    this.firstDelayMs = options.firstDelayMs ?? 200;
    this.lastDelayMs = options.lastDelayMs ?? 30_000;
    this.silenceMs = options.silenceMs ?? (WATCH_S + 60) * 1000;
  }

  start(): void {
    this.running = Promise.all(this.resources.map((resource) => this.follow(resource)));
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }

  /** Every resource was listed at least once, is not served, or may not be read. */
  get isSynced(): boolean {
    return this.resources.every((resource) => this.listed.has(nameOf(resource)));
  }

  /** Lists, then watches from there; lists afresh when the version is gone or sense is lost. */
  private async follow(resource: Resource): Promise<void> {
    const present = new Map<string, ClusterObject>();
    let served: Served | null = null;
    let version: string | null = null;
    let failures = 0;
    let aliveMs = -Infinity;
    while (!this.stopping.signal.aborted) {
      try {
        if (served === null || version === null) {
          served = await this.find(resource);
          version = await this.list(served, present, aliveMs);
        }
        this.listed.add(nameOf(resource));
        this.tell(resource, "watching");
        const seen = await this.watch(served, version, present);
        aliveMs = seen.aliveMs;
        failures = seen.events > 0 || seen.ended ? 0 : failures + 1;
        version = seen.version;
        if (seen.broken !== null) {
          failures++;
          this.tell(resource, `watch broke: ${seen.broken}`);
        }
        if (failures > 0) await this.wait(failures);
      } catch (error) {
        if (this.stopping.signal.aborted) return;
        const { status } = error as Partial<ApiError>;
        // What may not be read is told as such; to wait for it would judge nothing at all.
        const isSettled = status === 404 || status === 403;
        if (isSettled) this.listed.add(nameOf(resource));
        if (status === 404) this.drop(present);
        this.tell(resource, status === 404 ? NOT_SERVED : `failed: ${(error as Error).message}`);
        version = null;
        failures++;
        await this.wait(isSettled ? 100 : failures);
      }
    }
  }

  private async wait(failures: number): Promise<void> {
    const ms = Math.min(this.firstDelayMs * 2 ** Math.min(failures - 1, 20), this.lastDelayMs);
    await delay(ms, undefined, { signal: this.stopping.signal }).catch(() => {});
  }

  private tell(resource: Resource, state: string): void {
    const name = nameOf(resource);
    if (this.states.get(name) === state) return;
    this.states.set(name, state);
    this.events.log(`cluster: ${name}: ${state}`);
    if (state === "watching" || state === NOT_SERVED) {
      this.blindSince.delete(name);
      return this.events.blind(resource.kind, name, null);
    }
    const sinceMs = this.blindSince.get(name) ?? Date.now();
    this.blindSince.set(name, sinceMs);
    this.events.blind(resource.kind, name, { sinceMs, reason: state });
  }

  /** Which of the groups serves the kind now, and in which version. */
  private async find(resource: Resource): Promise<Served> {
    for (const group of resource.groups) {
      if (group === "") return { ...resource, apiVersion: resource.version };
      try {
        const found = await this.getJson(`/apis/${group}`);
        const versions = listAt(found, "versions").map((entry) => textAt(entry, "version"));
        const preferred = textAt(found, "preferredVersion", "version");
        const version = versions.includes(resource.version) ? resource.version : preferred;
        if (version === null) throw new Error(`${group} names no version`);
        const apiVersion = `${group}/${version}`;
        if (resource.groups.length > 1 && !(await this.serves(apiVersion, resource))) continue;
        return { ...resource, apiVersion };
      } catch (error) {
        if ((error as Partial<ApiError>).status !== 404) throw error;
      }
    }
    throw new ApiError(404, `404 ${resource.groups.join(", ")}`);
  }

  private async serves(apiVersion: string, { plural }: Resource): Promise<boolean> {
    const found = await this.getJson(`/apis/${apiVersion}`);
    return listAt(found, "resources").some((entry) => textAt(entry, "name") === plural);
  }

  /** The kind is gone, and its objects with it. */
  private drop(present: Map<string, ClusterObject>): void {
    const nowMs = Date.now();
    for (const object of present.values()) this.events.removed(object, nowMs, nowMs);
    present.clear();
  }

  /** Makes `present` equal to what the API holds; returns the version to watch from. */
  private async list(
    resource: Served,
    present: Map<string, ClusterObject>,
    aliveMs: number,
  ): Promise<string | null> {
    const found = new Map<string, ClusterObject>();
    let version: string | null = null;
    let next: string | null = null;
    do {
      const query: Record<string, string> = { limit: String(PAGE_LIMIT) };
      if (next !== null) query["continue"] = next;
      const page = await this.getJson(pathOf(resource, query));
      if (!Array.isArray(valueAt(page, "items"))) throw new Error("the answer is no list");
      version = textAt(page, "metadata", "resourceVersion");
      next = textAt(page, "metadata", "continue");
      for (const item of listAt(page, "items")) {
        const object = this.toObject(resource, item);
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
    resource: Served,
    from: string | null,
    present: Map<string, ClusterObject>,
  ): Promise<Watched> {
    const query = {
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_S),
      resourceVersion: from ?? "0",
    };
    const stream = await this.open(pathOf(resource, query));
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
          return { version: null, events, aliveMs, ended: false, broken };
        }
        version = textAt(body, "metadata", "resourceVersion") ?? version;
        if (type === "BOOKMARK") continue;
        const object = this.toObject(resource, body);
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
      const ended = Date.now() - openedMs > this.firstDelayMs;
      return { version, events, aliveMs: Date.now(), ended, broken: null };
    } catch (error) {
      if (this.stopping.signal.aborted) throw error;
      // Whether everything before the break arrived is not known: begin from a list.
      const broken = (error as Error).message;
      return { version: null, events, aliveMs, ended: false, broken };
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

function pathOf(resource: Served, query: Record<string, string>): string {
  const { apiVersion, plural, fieldSelector } = resource;
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
