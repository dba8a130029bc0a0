/** Serves kinds of some API groups over loopback, as an API server lists, discovers and watches. */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { KubeConfig } from "@kubernetes/client-node";

/** One kind in one version of its group; core kinds have the group "". */
export type ServedKind = { group: string; version: string; plural: string; kind: string };

/** Begins to listen; returns what a client needs to know. */
export async function listenOnLoopback(server: http.Server): Promise<KubeConfig> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const kubeConfig = new KubeConfig();
  kubeConfig.loadFromOptions({
    clusters: [{ name: "c", server: `http://127.0.0.1:${port}`, skipTLSVerify: true }],
    users: [{ name: "u", token: "t" }],
    contexts: [{ name: "x", cluster: "c", user: "u" }],
    currentContext: "x",
  });
  return kubeConfig;
}

export class ServedApi {
  readonly kinds: ServedKind[] = [];
  /** Objects, by plural and group: `pods.`, `servers.policy.linkerd.io`. */
  readonly items = new Map<string, object[]>();
  /** Plurals and groups that answer with another status. */
  readonly refused = new Map<string, number>();
  /** Paths in the order of the requests, with `?watch` where they watch. */
  readonly asked: { path: string; atMs: number }[] = [];
  readonly #watches: http.ServerResponse[] = [];
  readonly #server = http.createServer((request, response) => this.#answer(request, response));

  listen(): Promise<KubeConfig> {
    return listenOnLoopback(this.#server);
  }

  serve(apiVersion: string, kind: string, plural: string, ...items: object[]): void {
    const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
    this.kinds.push({ group: group!, version: version!, plural, kind });
    const name = `${plural}.${group}`;
    this.items.set(name, [...(this.items.get(name) ?? []), ...items]);
  }

  /** Ends all watches as a broken connection does. */
  cut(): void {
    for (const watch of this.#watches.splice(0)) watch.socket?.destroy();
  }

  close(): void {
    this.cut();
    this.#server.closeAllConnections();
    this.#server.close();
  }

  count(path: string): number {
    return this.asked.filter((one) => one.path === path).length;
  }

  #answer(request: http.IncomingMessage, response: http.ServerResponse): void {
    const url = new URL(request.url!, "http://x");
    const isWatch = url.searchParams.get("watch") === "true";
    this.asked.push({ path: `${url.pathname}${isWatch ? "?watch" : ""}`, atMs: Date.now() });
    const parts = url.pathname.split("/").slice(1);
    const [group, version, plural] = parts[0] === "api" ? ["", parts[1], parts[2]] : parts.slice(1);
    const ofGroup = this.kinds.filter((kind) => kind.group === group);
    const ofVersion = ofGroup.filter((kind) => kind.version === version);
    const end = (status: number, body: unknown = {}) =>
      void response.writeHead(status).end(JSON.stringify(body));
    const refused = this.refused.get(`${plural ?? "*"}.${group}`);
    if (refused !== undefined) return end(refused);
    if (ofGroup.length === 0) return end(404);
    if (version === undefined) {
      const versions = [...new Set(ofGroup.map((kind) => kind.version))].map((one) => ({
        groupVersion: `${group}/${one}`,
        version: one,
      }));
      return end(200, { versions, preferredVersion: versions[0] });
    }
    if (ofVersion.length === 0) return end(404);
    if (plural === undefined) {
      const resources = ofVersion.flatMap(({ plural: name, kind }) => [
        // A part of an object says the kind of the whole.
        { name: `${name}/status`, kind },
        { name, kind },
      ]);
      return end(200, { resources });
    }
    const found = ofVersion.find((kind) => kind.plural === plural);
    if (found === undefined) return end(404);
    if (isWatch) {
      response.writeHead(200).flushHeaders();
      this.#watches.push(response);
      return;
    }
    const items = this.items.get(`${plural}.${group}`)!;
    const limit = Number(url.searchParams.get("limit") ?? Infinity);
    end(200, { metadata: { resourceVersion: "1" }, items: items.slice(0, limit) });
  }
}
