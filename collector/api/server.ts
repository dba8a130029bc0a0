/** Serves the API with the page over HTTP: read-only, to whoever reaches the address. */
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { ConfigError } from "../../protocol/config-error.ts";
import { parseVerifier } from "../evidence/note.ts";
import type { Store } from "../store/store.ts";
import { Judged } from "./judged.ts";
import { Live, LIVE_PATH } from "./live.ts";
import { etagOf, findPage, readPageFiles, type PageFile } from "./page-files.ts";
import { readQuestion } from "./question.ts";
import { refuse, ROUTES, type Answer, type Sources } from "./routes.ts";

const CONNECTIONS_LIMIT = 1000;
/** An edge's id, every character of it percent-encoded, fits. */
const URL_LIMIT = 8 << 10;
/** A socket on which nothing moves for this long is closed, whatever it waits for. */
const SOCKET_IDLE_MS = 30_000;
/** Below this, compression does not pay. */
const GZIP_BYTES_LEAST = 1400;

export type Log = (level: "info" | "warn" | "error", text: string) => void;

export type ApiOptions = {
  store: Store;
  evidenceDirectory: string;
  /** The log's verifier key, `evidence.pub`: offered to pages, and checked before proofs go out. */
  evidenceKeyFile: string | null;
  /** The built page; when it is not there, only the API is served. */
  uiDirectory: string;
  host: string;
  /** 0 takes any free port. */
  port: number;
  /** Prometheus text. */
  metrics: () => Promise<string>;
  /** Which flows the connected agents read. */
  samples: Sources["samples"];
  log: Log;
  /**
   * Names by which requests may address the server, beside `localhost` and literal addresses, when
   * it listens on loopback only: a foreign page cannot rebind its own name to read what is here.
   */
  allowedHosts?: readonly string[];
};

export type Api = {
  /** `http://127.0.0.1:8080` */
  address: string;
  /** Verdicts were saved, of a new window or of one judged again: pages are told. */
  notify(): void;
  close(): Promise<void>;
};

// Everything comes from here, and nothing is embedded elsewhere.
const SECURITY = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "x-frame-options": "DENY",
} as const;

type Serving = {
  sources: Sources;
  live: Live;
  files: Map<string, PageFile>;
  options: ApiOptions;
  /** Null: any name will do. */
  hosts: readonly string[] | null;
};

/** Begins to listen; throws only what the operator must mend. */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { log, store, evidenceDirectory, metrics, samples } = options;
  const judged = new Judged(store);
  const live = new Live(judged, log);
  const files = readPageFiles(options.uiDirectory);
  if (!files.has("/index.html")) {
    log("warn", `api: no page in ${options.uiDirectory} ("npm run ui" builds it): API only`);
  }
  const sources = { store, judged, evidenceDirectory, key: readKey(options), metrics, samples };
  const isLoopback = /^(127\.|::1$|localhost$)/.test(options.host);
  const hosts = isLoopback ? ["localhost", ...(options.allowedHosts ?? [])] : null;
  const serving: Serving = { sources, live, files, options, hosts };
  const server = createServer((request, response) => void serve(serving, request, response));
  guard(server);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(cannotListen(options, error)));
    server.listen(options.port, options.host, resolve);
  });
  server.on("error", (error) => log("error", `api: ${error.message}`));
  const { address, family, port } = server.address() as AddressInfo;
  return {
    address: `http://${family === "IPv6" ? `[${address}]` : address}:${port}`,
    notify: () => live.notify(),
    close: () => {
      live.close();
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

/** Sets the limits within which strangers may keep the server busy. */
function guard(server: Server): void {
  server.maxConnections = CONNECTIONS_LIMIT;
  server.headersTimeout = server.requestTimeout = 10_000;
  server.keepAliveTimeout = 5000;
  server.timeout = SOCKET_IDLE_MS;
  server.on("clientError", (error: Error & { code?: string }, socket: Socket) => {
    const long = error.code === "HPE_HEADER_OVERFLOW";
    const line = long ? "431 Request Header Fields Too Large" : "400 Bad Request";
    if (!socket.writable) return void socket.destroy();
    socket.end(`HTTP/1.1 ${line}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
  });
}

async function serve(serving: Serving, request: IncomingMessage, response: ServerResponse) {
  response.on("error", () => {}); // the client went away: `close` follows
  for (const [name, value] of Object.entries(SECURITY)) response.setHeader(name, value);
  try {
    const answer = await answerTo(serving, request, response);
    if (answer) await send(request, response, answer);
  } catch (error) {
    const path = (request.url ?? "").split("?")[0]!.slice(0, 80);
    if (isGone(error)) return;
    serving.options.log("error", `api: ${JSON.stringify(path)}: ${(error as Error).message}`);
    if (response.headersSent) return void response.destroy();
    await send(request, response, refuse(500, "the collector could not answer")).catch(() => {});
  }
}

/** What to send; null when it is on its way already. */
async function answerTo(
  { sources, live, files, hosts }: Serving,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<Answer | null> {
  const { method, url = "" } = request;
  if (method !== "GET" && method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    response.setHeader("connection", "close"); // its body is not read
    return refuse(405, "only GET and HEAD are answered");
  }
  if (url.length > URL_LIMIT) return refuse(414, `the URL is longer than ${URL_LIMIT} characters`);
  if (hosts && !isAllowed(request.headers.host, hosts)) {
    return refuse(421, "this address is not served under that name");
  }
  const mark = url.indexOf("?");
  const path = mark < 0 ? url : url.slice(0, mark);
  const query = mark < 0 ? "" : url.slice(mark + 1);
  if (!path.startsWith("/")) return refuse(400, "the URL must begin with a slash");
  if (path === LIVE_PATH) {
    if (query !== "") return refuse(400, "there are no parameters here");
    return live.add(request, response) ? null : refuse(503, "too many pages are watching");
  }
  for (const route of ROUTES) {
    const prefix = route.path.endsWith("*") ? route.path.slice(0, -1) : null;
    if (prefix === null ? path !== route.path : !path.startsWith(prefix)) continue;
    const question = readQuestion(query, route.parameters);
    if (typeof question === "string") return refuse(400, question);
    const rest = prefix === null ? "" : path.slice(prefix.length);
    return route.answer(sources, question, rest, Date.now());
  }
  if (/^\/api(\/|$)/.test(path)) return refuse(404, "there is no such route");
  const file = findPage(files, path);
  if (file === null) return refuse(404, "there is no such page");
  sendFile(request, response, file);
  return null;
}

async function send(request: IncomingMessage, response: ServerResponse, answer: Answer) {
  if (!("json" in answer)) {
    const { type, body, immutable } = answer;
    response.setHeader("content-type", type);
    response.setHeader("cache-control", immutable ? "public, max-age=31536000" : "no-store");
    if (typeof body === "string") return void response.end(body);
    return pipeline(body, response);
  }
  const isOk = answer.status === 200;
  response.statusCode = answer.status;
  response.setHeader("content-type", "application/json; charset=utf-8");
  response.setHeader("cache-control", isOk ? "no-cache" : "no-store");
  const bytes = Buffer.from(`${JSON.stringify(answer.json)}\n`);
  if (isOk && isUnchanged(request, response, etagOf(bytes))) return;
  const gzipped = bytes.length >= GZIP_BYTES_LEAST && takesGzip(request);
  end(response, gzipped ? await promisify(gzip)(bytes, { level: 4 }) : bytes, gzipped);
}

function sendFile(request: IncomingMessage, response: ServerResponse, file: PageFile): void {
  response.setHeader("content-type", file.type);
  const forever = "public, max-age=31536000, immutable";
  response.setHeader("cache-control", file.immutable ? forever : "no-cache");
  if (isUnchanged(request, response, file.etag)) return;
  const gzipped = file.gzipped.length < file.bytes.length && takesGzip(request);
  end(response, gzipped ? file.gzipped : file.bytes, gzipped);
}

/** Answers 304 when the client has this content. */
function isUnchanged(request: IncomingMessage, response: ServerResponse, etag: string): boolean {
  response.setHeader("etag", etag);
  const known = request.headers["if-none-match"]?.split(/\s*,\s*/);
  if (!known?.includes(etag)) return false;
  response.statusCode = 304;
  response.end();
  return true;
}

function end(response: ServerResponse, bytes: Buffer, gzipped: boolean): void {
  response.setHeader("vary", "accept-encoding");
  if (gzipped) response.setHeader("content-encoding", "gzip");
  response.setHeader("content-length", bytes.length);
  response.end(bytes); // to HEAD, Node sends the head alone
}

function takesGzip(request: IncomingMessage): boolean {
  const accepted = String(request.headers["accept-encoding"] ?? "");
  return /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/.test(accepted);
}

/** Names allowed, or a literal address, which no name server can point elsewhere. */
function isAllowed(host: string | undefined, names: readonly string[]): boolean {
  if (host === undefined) return false;
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return /^\[[0-9a-f:.]+\]$|^\d{1,3}(\.\d{1,3}){3}$/.test(name) || names.includes(name);
}

function isGone(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "ERR_STREAM_PREMATURE_CLOSE" || code === "ECONNRESET" || code === "EPIPE";
}

function readKey({ evidenceKeyFile: file }: ApiOptions): Sources["key"] {
  if (file === null) return null;
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (error) {
    const told = `api: evidence key ${file}: ${(error as { code?: string }).code}`;
    throw new ConfigError("CONFIG_API_KEY", told, error);
  }
  // Never offer what is not surely a public key: a signer key does not parse as one.
  if (parseVerifier(text) !== null) return { file, text };
  const told = `api: ${file} is no Ed25519 verifier key (name+id+base64), such as evidence.pub`;
  throw new ConfigError("CONFIG_API_KEY", told);
}

function cannotListen({ host, port }: ApiOptions, error: Error): ConfigError {
  return new ConfigError("CONFIG_API_LISTEN", `api: ${host}:${port}: ${error.message}`, error);
}
