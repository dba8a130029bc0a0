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
} from "./cluster-object.ts";

/** One kind as the API serves it. One that is not served (no such CRD) is asked for again later. */
export type Resource = {
  apiVersion: string;
  plural: string;
  kind: string;
  /** Follows some objects of the kind only: `metadata.name=istio`. */
  fieldSelector?: string;
};

export const RESOURCES: readonly Resource[] = [
  ...[
    ["nodes", "Node"],
    ["namespaces", "Namespace"],
    ["pods", "Pod"],
    ["services", "Service"],
  ].map(([plural, kind]) => ({ apiVersion: "v1", plural: plural!, kind: kind! })),
  { apiVersion: "discovery.k8s.io/v1", plural: "endpointslices", kind: "EndpointSlice" },
  { apiVersion: "networking.k8s.io/v1", plural: "networkpolicies", kind: "NetworkPolicy" },
  ...["AdminNetworkPolicy", "BaselineAdminNetworkPolicy"].map((kind) => ({
    apiVersion: "policy.networking.k8s.io/v1alpha1",
    plural: kind.toLowerCase().replace(/y$/, "ies"),
    kind,
  })),
  ...["PeerAuthentication", "AuthorizationPolicy"].map((kind) => ({
    apiVersion: "security.istio.io/v1",
    plural: kind.toLowerCase().replace(/y$/, "ie").concat("s"),
    kind,
  })),
  { apiVersion: "networking.istio.io/v1", plural: "destinationrules", kind: "DestinationRule" },
  { apiVersion: "networking.istio.io/v1", plural: "serviceentries", kind: "ServiceEntry" },
  {
    apiVersion: "v1",
    plural: "configmaps",
    kind: "ConfigMap",
    fieldSelector: "metadata.name=istio",
  },
];

/** What the follower tells. Nothing else leaves it; none of these may throw. */
export type ClusterEvents = {
  applied: (object: ClusterObject, nowMs: number) => void;
  removed: (kind: string, namespace: string, name: string, nowMs: number) => void;
  /** One line for each change of a resource's state. */
  log: (line: string) => void;
};

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

  /** Every resource was listed at least once, or is not served. */
  get isSynced(): boolean {
    return this.resources.every(({ kind }) => this.listed.has(kind));
  }

  /** Resources that are not being watched right now, with their state. */
  get troubles(): string[] {
    return [...this.states].filter(([, state]) => state !== "watching").map((e) => e.join(": "));
  }

  /** Lists, then watches from there; lists afresh when the version is gone or sense is lost. */
  private async follow(resource: Resource): Promise<void> {
    const present = new Map<string, ClusterObject>();
    let version: string | null = null;
    let failures = 0;
    while (!this.stopping.signal.aborted) {
      try {
        version ??= await this.list(resource, present);
        this.listed.add(resource.kind);
        this.tell(resource, "watching");
        const seen = await this.watch(resource, version, present);
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
        if (status === 404) this.listed.add(resource.kind);
        this.tell(resource, status === 404 ? "not served" : `failed: ${(error as Error).message}`);
        version = null;
        failures++;
        await this.wait(status === 404 ? 100 : failures);
      }
    }
  }

  private async wait(failures: number): Promise<void> {
    const ms = Math.min(this.firstDelayMs * 2 ** Math.min(failures - 1, 20), this.lastDelayMs);
    await delay(ms, undefined, { signal: this.stopping.signal }).catch(() => {});
  }

  private tell(resource: Resource, state: string): void {
    if (this.states.get(resource.kind) === state) return;
    this.states.set(resource.kind, state);
    this.events.log(`cluster: ${resource.plural}: ${state}`);
  }

  /** Makes `present` equal to what the API holds; returns the version to watch from. */
  private async list(
    resource: Resource,
    present: Map<string, ClusterObject>,
  ): Promise<string | null> {
    const found = new Map<string, ClusterObject>();
    let version: string | null = null;
    let next: string | null = null;
    do {
      const query: Record<string, string> = { limit: String(PAGE_LIMIT) };
      if (next !== null) query["continue"] = next;
      const page = await this.getJson(resource, query);
      if (!Array.isArray(valueAt(page, "items"))) throw new Error("the answer is no list");
      version = textAt(page, "metadata", "resourceVersion");
      next = textAt(page, "metadata", "continue");
      for (const item of listAt(page, "items")) {
        const object = this.toObject(resource, item);
        if (object !== null) found.set(keyOf(object.kind, object.namespace, object.name), object);
      }
    } while (next !== null);
    const nowMs = Date.now();
    for (const [key, { kind, namespace, name }] of present) {
      if (found.has(key)) continue;
      present.delete(key);
      this.events.removed(kind, namespace, name, nowMs);
    }
    for (const [key, object] of found) this.take(key, object, present, nowMs);
    return version;
  }

  /** Takes events until the stream ends; a null version asks for a fresh list. */
  private async watch(
    resource: Resource,
    from: string | null,
    present: Map<string, ClusterObject>,
  ): Promise<{ version: string | null; events: number; ended: boolean; broken: string | null }> {
    const query = {
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_S),
      resourceVersion: from ?? "0",
    };
    const stream = await this.open(resource, query);
    const openedMs = Date.now();
    let version: string | null = from;
    let events = 0;
    try {
      for await (const line of linesOf(stream)) {
        const event = JSON.parse(line) as Json;
        const type = textAt(event, "type");
        const body = valueAt(event, "object");
        if (type === "ERROR") {
          // 410 Gone, and anything else that the server gives up for: begin from a list.
          const broken = textAt(body, "message") ?? "the server ended the watch";
          return { version: null, events, ended: false, broken };
        }
        version = textAt(body, "metadata", "resourceVersion") ?? version;
        if (type === "BOOKMARK") continue;
        const object = this.toObject(resource, body);
        if (object === null || !["ADDED", "MODIFIED", "DELETED"].includes(type ?? "")) {
          throw new Error("an event is none of the kinds known");
        }
        events++;
        const key = keyOf(object.kind, object.namespace, object.name);
        const nowMs = Date.now();
        if (type !== "DELETED") this.take(key, object, present, nowMs);
        else if (present.delete(key)) {
          this.events.removed(object.kind, object.namespace, object.name, nowMs);
        }
      }
      if (!stream.complete) throw new Error("the connection was cut");
      // One that ends at once, and tells nothing, counts as a failure: it would be asked for ever.
      const ended = Date.now() - openedMs > this.firstDelayMs;
      return { version, events, ended, broken: null };
    } catch (error) {
      if (this.stopping.signal.aborted) throw error;
      // Whether everything before the break arrived is not known: begin from a list.
      return { version: null, events, ended: false, broken: (error as Error).message };
    } finally {
      stream.destroy();
    }
  }

  private take(
    key: string,
    object: ClusterObject,
    present: Map<string, ClusterObject>,
    nowMs: number,
  ): void {
    const before = present.get(key);
    if (before !== undefined && before.uid !== object.uid) {
      this.events.removed(object.kind, object.namespace, object.name, nowMs);
    } else if (before?.resourceVersion && before.resourceVersion === object.resourceVersion) return;
    present.set(key, object);
    this.events.applied(object, nowMs);
  }

  /** Lists leave out what kind their items are. */
  private toObject({ apiVersion, kind }: Resource, body: Json | undefined): ClusterObject | null {
    return isMap(body) ? toClusterObject({ apiVersion, kind, ...body }, null) : null;
  }

  private async getJson(resource: Resource, query: Record<string, string>): Promise<Json> {
    const stream = await this.open(resource, query);
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
  private async open(
    { apiVersion, plural, fieldSelector }: Resource,
    query: Record<string, string>,
  ): Promise<http.IncomingMessage> {
    const cluster = this.kubeConfig.getCurrentCluster();
    if (cluster === null) throw new Error("the kubeconfig names no current cluster");
    const options: https.RequestOptions = {};
    await this.kubeConfig.applyToHTTPSOptions(options);
    if (!cluster.proxyUrl) options.agent = false; // a kept agent would keep old certificates
    const root = apiVersion.includes("/") ? "apis" : "api";
    const url = new URL(`${cluster.server.replace(/\/$/, "")}/${root}/${apiVersion}/${plural}`);
    const selected = fieldSelector === undefined ? query : { ...query, fieldSelector };
    url.search = new URLSearchParams(selected).toString();
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
