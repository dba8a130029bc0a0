/** Runs the collector process against a live API: what it lists and watches is what is judged. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import t from "tap";
import type { CoverageAnswer, FindingsAnswer } from "../../collector/api/answers.ts";
import { createKeys } from "../../collector/evidence/log.ts";
import { initCa, issue } from "../../collector/pki.ts";

const ROOT = path.resolve(import.meta.dirname, "..", "..");

const node = (name: string) => ({
  metadata: { name, uid: `node-${name}`, resourceVersion: "1" },
  status: { addresses: [{ type: "InternalIP", address: "172.20.0.11" }] },
});
const pod = (name: string, nodeName: string, podIP: string) => ({
  metadata: { name, namespace: "shop", uid: `pod-${name}`, resourceVersion: "2" },
  spec: { nodeName, containers: [{ name: "app", ports: [{ containerPort: 8080 }] }] },
  status: { phase: "Running", podIP, startTime: "2026-01-01T00:00:00Z" },
});

/** An API server with nodes and pods; watches stay open until they are cut. */
class SmallApi {
  readonly items: Record<string, object[]> = {
    nodes: [node("n1")],
    pods: [pod("web", "n1", "10.1.0.1")],
  };
  readonly watches: http.ServerResponse[] = [];
  readonly server = http.createServer((request, response) => {
    const url = new URL(request.url!, "http://x");
    const items = this.items[url.pathname.split("/").at(-1)!];
    if (!items || !url.pathname.startsWith("/api/v1/")) {
      response.writeHead(404).end("{}");
    } else if (url.searchParams.get("watch") === "true") {
      response.writeHead(200, { "content-type": "application/json" });
      response.flushHeaders();
      this.watches.push(response);
    } else {
      response.end(JSON.stringify({ metadata: { resourceVersion: "5" }, items }));
    }
  });
}

const listening = (server: http.Server): Promise<number> =>
  new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });

async function freePort(): Promise<number> {
  const server = http.createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Asks until the answer holds, for ten seconds at most; the last answer either way. */
async function until<T>(url: string, holds: (answer: T) => boolean): Promise<T | null> {
  let last: T | null = null;
  for (let i = 0; i < 100; i++) {
    last = await fetch(url).then(
      (response) => response.json() as Promise<T>,
      () => null,
    );
    if (last && holds(last)) return last;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return last;
}

t.test("nodes and pods of a live API are judged, also after its sockets broke", async (t) => {
  t.setTimeout(60_000);
  const folder = mkdtempSync(path.join(tmpdir(), "wireproof-kubernetes-"));
  const api = new SmallApi();
  const port = await listening(api.server);
  // Plain HTTP is taken only together with this flag; it goes over loopback alone.
  const cluster = { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true };
  const kubeconfig = path.join(folder, "kubeconfig");
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster }],
      users: [{ name: "u", user: {} }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    }),
  );
  await initCa(folder, "test");
  await issue(folder, { ip: ["127.0.0.1"] });
  createKeys(folder, "test/log");
  const at = `127.0.0.1:${await freePort()}`;
  const collector = spawn(
    process.execPath,
    [
      path.join(ROOT, "wireproof.ts"),
      ...["collector", "--kubernetes", kubeconfig, "--uplink", "127.0.0.1:0", "--api", at],
      ...["--key", path.join(folder, "collector-key.pem")],
      ...["--cert", path.join(folder, "collector.pem"), "--ca", path.join(folder, "ca.pem")],
      ...["--trust-domain", "test", "--data", path.join(folder, "data")],
      ...["--evidence-key", path.join(folder, "evidence.key"), "--window", "1000"],
      ...["--close", "0"],
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  collector.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  t.teardown(async () => {
    const gone = new Promise((resolve) => collector.once("exit", resolve));
    if (collector.exitCode === null && collector.kill("SIGKILL")) await gone;
    api.server.closeAllConnections();
    api.server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const pods = (answer: CoverageAnswer) => answer.nodes.map((n) => n.coverage.pods);
  const first = await until<CoverageAnswer>(
    `http://${at}/api/coverage`,
    (a) => a.nodes?.length === 1,
  );
  t.strictSame(first && pods(first), [1], said.slice(-2000));
  const findings = await until<FindingsAnswer>(
    `http://${at}/api/findings`,
    (a) => a.findings?.length === 1,
  );
  t.match(findings?.findings[0]?.finding, { code: "blind-spot", subject: "node/n1" });

  // The sockets break, and the cluster is another one when they are back.
  api.items["nodes"] = [node("n1"), node("n2")];
  api.items["pods"]!.push(pod("cart", "n1", "10.1.0.2"), pod("db", "n2", "10.1.0.3"));
  for (const watch of api.watches.splice(0)) watch.socket?.destroy();
  const second = await until<CoverageAnswer>(
    `http://${at}/api/coverage`,
    (a) => a.nodes?.length === 2 && pods(a).join() === "2,1",
  );
  t.strictSame(second && pods(second), [2, 1], said.slice(-2000));
});
