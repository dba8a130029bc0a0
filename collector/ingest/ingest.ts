/** Listens for agents over mutual TLS, and hands their messages to conversations. */
import { constants, type X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { WebSocketServer, type WebSocket } from "ws";
import { ConfigError } from "../../protocol/config-error.ts";
import { MESSAGE_BYTES_LIMIT, UPLINK_PATH } from "../../protocol/uplink-limits.ts";
import type { Store } from "../store/store.ts";
import { handshakeReason, nodeOf } from "./authenticate.ts";
import { Conversation, Ingested, type IngestCounters, type Log } from "./conversation.ts";
import type { SampleGroup } from "./samples.ts";

const CONNECTIONS_LIMIT = 20_000;
/** Batches of one connection that may wait for the store before its socket is paused. */
const WAITING_LIMIT = 16;
/** A message above the protocol's limit but within this is read, to be refused with a reason. */
const PAYLOAD_BYTES_LIMIT = MESSAGE_BYTES_LIMIT * 2;
/** One kind of failed handshake is logged at most this often; all are counted. */
const HANDSHAKE_LOG_INTERVAL_MS = 10_000;

export type IngestOptions = {
  host?: string;
  /** 0 takes any free port. */
  port: number;
  keyFile: string;
  certFile: string;
  /** Signed the agents' certificates. */
  caFile: string;
  trustDomain: string;
  store: Store;
  log: Log;
  helloTimeoutMs?: number;
  pingIntervalMs?: number;
  reloadIntervalMs?: number;
};

export type Ingest = {
  port: number;
  counters: IngestCounters;
  /** Nodes that are connected and welcomed now. */
  nodes(): string[];
  /** The same, by which flows their agents read, as far as they tell it. */
  samples(): SampleGroup[];
  close(): Promise<void>;
};

type Keys = { key: Buffer; cert: Buffer; ca: Buffer };

export async function listen(options: IngestOptions): Promise<Ingest> {
  const { log } = options;
  const all = new Ingested(options.store, log, Date.now);
  let keys = await readKeys(options);
  const server = secureServer(keys);
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: PAYLOAD_BYTES_LIMIT,
    perMessageDeflate: { zlibDeflateOptions: { level: 1 }, threshold: 256 },
    clientTracking: true,
  });
  countHandshakes(server, all);
  server.on("upgrade", (request, socket: TLSSocket, head) => {
    const certificate = socket.getPeerX509Certificate();
    const node = certificate ? nodeOf(certificate, options.trustDomain) : null;
    if (request.url !== UPLINK_PATH) return void socket.end("HTTP/1.1 404 Not Found\r\n\r\n");
    if (node === null) {
      noteHandshake(all, "not-an-agent", `${socket.remoteAddress}`);
      return void socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    }
    sockets.handleUpgrade(request, socket, head, (ws) => {
      converse(ws, new Conversation(all, node, replyTo(ws)), certificate!, options);
    });
  });

  const reload = setInterval(async () => {
    const now = await readKeys(options).catch(() => null);
    if (now === null || sameKeys(keys, now)) return;
    try {
      server.setSecureContext({ ...TLS, ...now });
    } catch (error) {
      log("error", `ingest: the changed key files are not used: ${(error as Error).message}`);
      return;
    }
    // Who was let in by the old CA must show that the new one knows it.
    const closing = !keys.ca.equals(now.ca);
    keys = now;
    log("info", "ingest: took the changed key files");
    if (closing) for (const ws of sockets.clients) ws.close(1012, "ca-changed");
  }, options.reloadIntervalMs ?? 10_000);

  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(cannotListen(options, error)));
    server.listen(options.port, options.host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    counters: all.counters,
    nodes: () => [...all.nodes.keys()].sort(),
    samples: () => all.samples(),
    close: () => {
      clearInterval(reload);
      for (const ws of sockets.clients) ws.terminate();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

const TLS = {
  minVersion: "TLSv1.2",
  requestCert: true,
  rejectUnauthorized: true,
  // No resumption: each connection proves its certificate as it stands today.
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const;

function secureServer(keys: Keys): Server {
  let server: Server;
  try {
    server = createServer({ ...TLS, ...keys, handshakeTimeout: 10_000 }, (_, response) => {
      response.writeHead(404).end();
    });
  } catch (error) {
    const told = `ingest: not a matching key, certificate and CA: ${(error as Error).message}`;
    throw new ConfigError("CONFIG_INGEST_KEYS", told, error);
  }
  server.maxConnections = CONNECTIONS_LIMIT;
  server.headersTimeout = server.requestTimeout = 10_000;
  return server;
}

/** Counts handshakes that failed, most of all those refused for their certificate. */
function countHandshakes(server: Server, all: Ingested): void {
  // Kept from the start of the connection: it is gone from a socket that was closed.
  const addresses = new WeakMap<object, string>();
  server.on("connection", (socket: Socket) => {
    addresses.set(socket, socket.remoteAddress ?? "?");
  });
  server.on("tlsClientError", (error: Error & { code?: string }, socket: TLSSocket) => {
    const raw = (socket as unknown as { _parent?: object })._parent;
    const address = socket.remoteAddress ?? (raw && addresses.get(raw)) ?? "unknown address";
    const reason = handshakeReason(socket.authorizationError, error.code);
    const detail = String(socket.authorizationError ?? error.code ?? error.message);
    noteHandshake(all, reason, address, detail);
  });
}

const lastLogged = new WeakMap<Ingested, Map<string, number>>();

function noteHandshake(all: Ingested, reason: string, address: string, detail = ""): void {
  const counts = all.counters.handshakes;
  counts[reason] = (counts[reason] ?? 0) + 1;
  const logged = lastLogged.get(all) ?? new Map<string, number>();
  lastLogged.set(all, logged);
  const now = all.clock();
  if (now - (logged.get(reason) ?? -Infinity) < HANDSHAKE_LOG_INTERVAL_MS) return;
  logged.set(reason, now);
  const why = detail ? ` (${detail})` : "";
  all.log("warn", `ingest: ${address}: refused in the handshake: ${reason}${why}`);
}

/** Carries one socket's messages until either side ends it. */
function converse(
  ws: WebSocket,
  conversation: Conversation,
  certificate: X509Certificate,
  options: IngestOptions,
): void {
  const expiresMs = Date.parse(certificate.validTo);
  let silent = 0;
  const hello = setTimeout(() => {
    if (conversation.spool === "") conversation.refuse("bad-message", "no hello came");
  }, options.helloTimeoutMs ?? 10_000);
  const pulse = setInterval(() => {
    if (Date.now() > expiresMs) ws.close(1008, "certificate-expired");
    else if (++silent > 2) ws.terminate();
    else ws.ping();
  }, options.pingIntervalMs ?? 15_000);
  ws.on("pong", () => (silent = 0));
  ws.on("message", (data: Buffer) => {
    silent = 0;
    if (data.length > MESSAGE_BYTES_LIMIT) return conversation.refuse("too-large");
    void conversation.take(data).then(() => {
      if (conversation.waiting < WAITING_LIMIT) ws.resume();
    });
    if (conversation.waiting >= WAITING_LIMIT) ws.pause();
  });
  ws.on("error", (error: Error & { code?: string }) => {
    // Told by `ws` while it closes this one connection: too large, bad UTF-8, bad compression.
    const large = error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH";
    conversation.refuse(large ? "too-large" : "bad-message", error.code);
  });
  ws.on("close", () => {
    clearTimeout(hello);
    clearInterval(pulse);
    conversation.end();
  });
}

function replyTo(ws: WebSocket) {
  return {
    send: (message: Uint8Array) => {
      if (ws.readyState === ws.OPEN) ws.send(message, { compress: false });
    },
    close: (code: number, reason: string) => {
      ws.resume(); // the other side's close must be read
      ws.close(code, reason);
    },
    terminate: () => ws.terminate(),
  };
}

async function readKeys(options: IngestOptions): Promise<Keys> {
  const load = async (what: string, file: string) => {
    try {
      return await readFile(file);
    } catch (error) {
      const told = `ingest: ${what} ${file}: ${(error as { code?: string }).code}`;
      throw new ConfigError("CONFIG_INGEST_KEYS", told, error);
    }
  };
  const [key, cert, ca] = await Promise.all([
    load("key", options.keyFile),
    load("certificate", options.certFile),
    load("CA", options.caFile),
  ]);
  return { key, cert, ca };
}

function sameKeys(a: Keys, b: Keys): boolean {
  return a.key.equals(b.key) && a.cert.equals(b.cert) && a.ca.equals(b.ca);
}

function cannotListen(options: IngestOptions, error: Error): ConfigError {
  const where = `${options.host ?? "*"}:${options.port}`;
  return new ConfigError("CONFIG_INGEST_LISTEN", `ingest: ${where}: ${error.message}`, error);
}
