/** Tests the API by scripted requests against a server on loopback, hostile ones among them. */
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import t, { type Test } from "tap";
import { findPage } from "../collector/api/page-files.ts";
import { formatOpenapi } from "../collector/api/openapi.ts";
import { startApi, type ApiOptions } from "../collector/api/server.ts";
import { openSqlite } from "../collector/store/sqlite.ts";
import { verifyLog } from "../collector/evidence/verify.ts";
import { fillStore, FIRST_MS, judgeWindow, RECEIPTS, WINDOWS } from "./judged-store.ts";

const root = path.resolve(import.meta.dirname, "..");
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), "wireproof-api-"));
const filled = await fillStore(temporary);
const uiDirectory = path.join(temporary, "ui");
fs.mkdirSync(path.join(uiDirectory, "assets"), { recursive: true });
fs.writeFileSync(path.join(uiDirectory, "index.html"), "<!doctype html><title>Wireproof</title>");
fs.writeFileSync(path.join(uiDirectory, "assets/main-1.js"), "export {};\n".repeat(400));
fs.writeFileSync(path.join(temporary, "secret.txt"), "not for strangers");

const told: string[] = [];
const options: ApiOptions = {
  store: filled.store,
  evidenceDirectory: filled.evidence,
  evidenceKeyFile: filled.keyFile,
  uiDirectory,
  host: "127.0.0.1",
  port: 0,
  metrics: async () => "wireproof_flows_total 12\n",
  samples: () => [
    { rate: 1, key: null, nodes: ["node-a"] },
    { rate: 0.125, key: "00112233445566ff", nodes: ["node-b", "node-c"] },
  ],
  log: (level, text) => told.push(`${level} ${text}`),
};
const api = await startApi(options);
const at = new URL(api.address);
t.teardown(async () => {
  await api.close();
  await filled.log.close();
  await filled.store.close();
  fs.rmSync(temporary, { recursive: true, force: true });
});

type Response = { status: number; headers: http.IncomingHttpHeaders; body: string };

/** Sends the path as it stands: no client tidies it up. */
function ask(method: string, url: string, headers: Record<string, string>): Promise<Response> {
  return new Promise((resolve, reject) => {
    const to = { host: at.hostname, port: at.port, method, path: url, headers, agent: false };
    const request = http.request(to, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => {
        const body = Buffer.concat(parts).toString("latin1");
        resolve({ status: response.statusCode!, headers: response.headers, body });
      });
    });
    request.on("error", reject);
    request.end();
  });
}

/**
 * Runs a script: a request line, with headers after `|`, then what must hold of its response.
 *
 *     GET /api/windows | accept-encoding: gzip
 *     status == 200
 *     header content-encoding == gzip
 *     body contains "windows"                 or: body lacks …, body == …
 */
async function run(t: Test, script: string): Promise<void> {
  let response: Response = { status: 0, headers: {}, body: "" };
  let request = "";
  for (const line of script.split("\n").map((text) => text.trim())) {
    if (line === "" || line.startsWith("#")) continue;
    const words = /^(status|header (\S+)|body) (==|contains|lacks)(?: (.*))?$/.exec(line);
    if (!words) {
      const [first, ...rest] = line.split(" | ");
      const [method, url] = first!.split(" ") as [string, string];
      const headers = Object.fromEntries(rest.map((text) => text.split(": ") as [string, string]));
      request = first!.slice(0, 120);
      response = await ask(method, url, headers);
      continue;
    }
    const [, subject, header, relation, wanted = ""] = words;
    const { status, headers, body } = response;
    const found: string =
      subject === "status" ? String(status) : header ? String(headers[header] ?? "") : body;
    if (relation === "==") t.equal(found.trim(), wanted, `${request}: ${line}`);
    else if (relation === "lacks") t.notOk(found.includes(wanted), `${request}: ${line}`);
    else if (found.includes(wanted)) t.pass(`${request}: ${line}`);
    else t.fail(`${request}: ${line}`, { found: found.slice(0, 500) });
  }
}

const id = encodeURIComponent(RECEIPTS);

t.test("what was judged", async (t) => {
  await run(
    t,
    `
    GET /api/verdicts
    status == 200
    header content-type == application/json; charset=utf-8
    header cache-control == no-cache
    header x-content-type-options == nosniff
    header content-security-policy contains default-src 'none'; script-src 'self'
    body contains "from":"2026-11-22T01:02:00.000Z"
    body contains "counts":{"confirmed":10,"violated":3,"unproven":3,"undecidable":1,"unexpected":2,"nothing-demanded":1}
    body contains "reason":"plaintext-accepted"
    body lacks "coverage":{"node"

    # The count stays that of all, whatever is shown.
    GET /api/verdicts?verdict=violated&limit=1
    body contains "truncated":true
    body contains "confirmed":10
    body lacks "verdict":"confirmed"
    GET /api/verdicts?aspect=path&verdict=unexpected
    body contains "counts":{"confirmed":4,"violated":1,"unproven":0,"undecidable":1,"unexpected":2,"nothing-demanded":0}
    GET /api/verdicts?from=2026-11-22T01:00:00Z&to=2026-11-22T01:01:00Z
    body lacks plaintext-accepted
    GET /api/verdicts?from=${FIRST_MS}&to=${FIRST_MS + 1}&edge=${id}
    body contains "verdict":"confirmed","reason":"plaintext-refused"
    body lacks shop/cart
    GET /api/verdicts?from=2031-01-01T00:00:00Z
    status == 200
    body contains "verdicts":[]

    GET /api/windows
    body contains {"windows":[{"from":"2026-11-22T01:02:00.000Z","to":"2026-11-22T01:03:00.000Z"
    body contains "from":"2026-11-22T01:00:00.000Z"
    GET /api/windows?limit=1
    body lacks 2026-11-22T01:01:00.000Z"

    GET /api/map
    body contains "id":"pay/receipts[Deployment]"
    body contains "zones":["cde"]
    body contains "worst":"violated","aspects":{"transport":"violated","path":"confirmed"}
    body contains "worst":"undecidable","aspects":{"transport":"confirmed","path":"undecidable"}

    GET /api/edges?id=${id}
    body contains "latest":[{"verdict":{
    body contains "hash":"sha256:3f0c
    body contains "src_ip":"10.244.1.10"
    body contains {"id":"node-a/run1.3.1","record":null}
    body contains "aspect":"transport","verdict":"confirmed","reason":"plaintext-refused","entry":0
    GET /api/edges?id=nobody
    status == 404
    body == {"error":"no such edge was judged in these windows"}

    GET /api/coverage
    body contains {"coverage":{"node":"node-c","agent":false
    body contains "samples":[{"rate":1,"key":null,"nodes":["node-a"]},{"rate":0.125,"key":"00
    GET /api/findings
    body contains "code":"scan"
    body contains "severity":"high"
    GET /metrics
    header content-type == text/plain; version=0.0.4; charset=utf-8
    body == wireproof_flows_total 12
    GET /healthz
    body == {"status":"ok"}
    HEAD /api/verdicts
    status == 200
    body ==
    `,
  );
});

t.test("the evidence log's files and proofs", async (t) => {
  await run(
    t,
    `
    GET /api/evidence/checkpoint
    status == 200
    header cache-control == no-store
    header content-type == text/plain; charset=utf-8
    body contains wireproof.test/cluster
    GET /api/evidence/key
    body contains wireproof.test/cluster+
    body lacks PRIVATE
    GET /api/evidence/prove?index=0
    body contains c2sp.org/tlog-proof@v1
    body contains wireproof.verdict/1
    GET /api/evidence/prove?index=999999
    status == 404
    GET /api/evidence/tile/entries/000.p/60
    status == 200
    header content-type == application/octet-stream
    header cache-control contains max-age
    GET /api/evidence/tile/0/000.p/60
    status == 200
    GET /api/evidence/tile/0/000
    status == 404
    `,
  );
  // What the API gives out is a log that verifies.
  const copy = path.join(temporary, "copy");
  for (const name of ["checkpoint", "tile/0/000.p/60", "tile/entries/000.p/60"]) {
    const { body } = await ask("GET", `/api/evidence/${name}`, {});
    fs.mkdirSync(path.dirname(path.join(copy, name)), { recursive: true });
    fs.writeFileSync(path.join(copy, name), Buffer.from(body, "latin1"));
  }
  t.strictSame(verifyLog(copy, filled.keyFile).problems, []);
});

t.test("hostile requests", async (t) => {
  await run(
    t,
    `
    POST /api/verdicts
    status == 405
    header allow == GET, HEAD
    header x-content-type-options == nosniff
    DELETE /
    status == 405
    GET /api/verdicts?from=yesterday
    status == 400
    body contains expected a time
    GET /api/verdicts?limit=0
    status == 400
    GET /api/verdicts?limit=1e3
    status == 400
    GET /api/verdicts?limit=99999999999999999999
    status == 400
    GET /api/verdicts?from=5&to=5
    body == {"error":"from must be before to"}
    GET /api/verdicts?aspect=coverage
    status == 400
    GET /api/verdicts?verdict=fine
    body contains one of confirmed, violated
    GET /api/verdicts?edge=a&edge=b
    body == {"error":"edge is given twice"}
    GET /api/verdicts?__proto__=1
    status == 400
    GET /api/verdicts?edge=${"x".repeat(2001)}
    status == 400
    GET /api/verdicts?edge=%00%ff%zz'--
    status == 200
    GET /api/edges
    body contains id is missing
    GET /api/evidence/prove?index=-1
    status == 400
    GET /api/evidence/prove?index=9007199254740993
    status == 400
    GET /api/live?x=1
    status == 400
    GET /api/nothing
    status == 404
    GET /api
    status == 404
    GET /api/verdicts/
    status == 404
    GET /${"a".repeat(9000)}
    status == 414
    GET /${"a".repeat(20000)}
    status == 431
    GET http://elsewhere/api/verdicts
    status == 400
    GET /api/verdicts | host: attacker.example
    status == 421
    GET /api/verdicts | host: localhost:8080
    status == 200

    GET /api/evidence/tile/../../secret.txt
    status == 404
    GET /api/evidence/tile/..%2f..%2fsecret.txt
    status == 404
    GET /api/evidence/tile/0/000.p/060
    status == 404
    GET /api/evidence/tile/entries
    status == 404
    GET /../secret.txt
    status == 404
    body lacks strangers
    GET /assets/../../secret.txt
    status == 404
    GET /%2e%2e/secret.txt
    status == 404
    GET /assets\\..\\secret.txt
    status == 404
    GET //etc/passwd
    body lacks root:
    `,
  );
  t.strictSame(told, [], "nothing of this is worth a line in the log");
});

t.test("the page's files", async (t) => {
  await run(
    t,
    `
    GET /
    status == 200
    header content-type == text/html; charset=utf-8
    header cache-control == no-cache
    body contains <title>Wireproof</title>
    GET /edges
    body contains <title>Wireproof</title>
    GET /assets/main-1.js | accept-encoding: gzip
    header content-encoding == gzip
    header cache-control contains immutable
    GET /assets/main-1.js | accept-encoding: gzip;q=0
    header content-encoding ==
    header content-type == text/javascript; charset=utf-8
    GET /assets/main-2.js
    status == 404
    `,
  );
  const { headers } = await ask("GET", "/api/windows", {});
  const again = await ask("GET", "/api/windows", { "if-none-match": headers.etag! });
  t.equal(again.status, 304);
  t.equal(findPage(new Map(), "/"), null, "without a page there is none");
});

/** Listens to /api/live until `enough` events came. */
function listen(enough: number): { events: Promise<string[]>; open: Promise<void> } {
  let opened = () => {};
  const open = new Promise<void>((resolve) => (opened = resolve));
  const events = new Promise<string[]>((resolve, reject) => {
    const found: string[] = [];
    const request = http.get(`${api.address}/api/live`, (response) => {
      opened();
      let rest = "";
      response.on("data", (part: Buffer) => {
        const blocks = (rest + part.toString()).split("\n\n");
        rest = blocks.pop()!;
        found.push(...blocks.filter((block) => block.startsWith("event: window")));
        if (found.length < enough) return;
        resolve(found);
        request.destroy();
      });
      response.on("error", () => {});
    });
    request.on("error", reject);
  });
  return { events, open };
}

t.test("live", async (t) => {
  const { events, open } = listen(3);
  const vanishing = net.connect(Number(at.port), at.hostname);
  vanishing.write("GET /api/live HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await new Promise((resolve) => vanishing.once("data", resolve));
  vanishing.destroy();
  await open;
  await judgeWindow(filled.store, filled.log, WINDOWS); // found by polling
  await new Promise((resolve) => setTimeout(resolve, 1500));
  api.notify();
  const found = await events;
  t.match(found[0], "2026-11-22T01:02:00.000Z");
  t.match(found[1], "2026-11-22T01:03:00.000Z");
  t.equal(found[2], found[1], "told again: it was judged again");
  await run(t, "GET /api/verdicts\nbody contains 2026-11-22T01:03:00.000Z");
});

t.test("a client that reads nothing does not hurt the others", async (t) => {
  const slow = Array.from({ length: 20 }, () => net.connect(Number(at.port), at.hostname));
  for (const socket of slow) {
    socket.on("error", () => {});
    socket.pause();
    socket.write("GET /api/verdicts HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20));
  }
  const broken = net.connect(Number(at.port), at.hostname);
  broken.on("error", () => {});
  broken.end("\x16\x03\x01\x00\x00 not HTTP\r\n\r\n");
  await run(t, "GET /healthz\nstatus == 200\nGET /api/windows\nstatus == 200");
  for (const socket of slow) socket.destroy();
  await run(t, "GET /healthz\nstatus == 200");
});

t.test("a store without verdicts, or with rows of another release", async (t) => {
  const store = openSqlite(path.join(temporary, "other"));
  const other = await startApi({ ...options, store, evidenceKeyFile: null });
  const get = async (url: string) => {
    const response = await fetch(`${other.address}${url}`);
    return { status: response.status, text: await response.text() };
  };
  t.match((await get("/api/verdicts")).text, '"from":null');
  t.match((await get("/api/windows")).text, '{"windows":[]}');
  t.match((await get("/api/map")).text, '"nodes":[]');
  t.equal((await get("/api/edges?id=x")).status, 404);
  t.equal((await get("/api/evidence/key")).status, 404);
  const span = { fromMs: 0, toMs: 60_000, edge: "x", aspect: "path" };
  const half = { verdict: { schema: "wireproof.verdict/1", verdict: "confirmed", edge: {} } };
  for (const [i, body] of [null, 7, {}, { verdict: { schema: "?" } }, half].entries()) {
    store.saveVerdicts([{ ...span, edge: `x${i}`, body }], {});
  }
  for (const aspect of ["coverage", "finding"]) {
    store.saveVerdicts([{ ...span, aspect, body: { [aspect]: 1 } }], {});
  }
  t.match((await get("/api/verdicts")).text, '"verdicts":[]');
  t.match((await get("/api/coverage")).text, '"nodes":[]');
  t.match((await get("/api/findings")).text, '"findings":[]');
  await store.close();
  t.equal((await get("/healthz")).status, 500, "a store that does not answer is not healthy");
  await other.close();
});

t.test("the operator's mistakes", async (t) => {
  const key = startApi({ ...options, evidenceKeyFile: filled.signerFile });
  await t.rejects(key, { code: "CONFIG_API_KEY" }, "a signer key is never offered");
  const missing = startApi({ ...options, evidenceKeyFile: path.join(temporary, "none") });
  await t.rejects(missing, { code: "CONFIG_API_KEY" });
  const taken = startApi({ ...options, port: Number(at.port) });
  await t.rejects(taken, { code: "CONFIG_API_LISTEN" });
});

t.test("openapi.json is what the routes say", async (t) => {
  const read = (name: string) => fs.readFileSync(path.join(root, name), "utf8");
  const { version } = JSON.parse(read("package.json")) as { version: string };
  const written = read("collector/api/openapi.json");
  t.ok(written === formatOpenapi(version), "run `node scripts/openapi.ts` after a change");
});
