/** Opens one WebSocket to the collector over mutual TLS, with the key files as they are now. */
import { readFile } from "node:fs/promises";
import { checkServerIdentity, createSecureContext } from "node:tls";
import type { ConnectionOptions, PeerCertificate } from "node:tls";
import { WebSocket, type RawData } from "ws";
import { ConfigError } from "../../protocol/config-error.ts";
import { MESSAGE_BYTES_LIMIT, UPLINK_PATH } from "../../protocol/uplink-limits.ts";

/** A connection on which whole messages travel; `closed` is told once, and nothing after it. */
export type Link = { send(message: Uint8Array): void; close(why: string): void };
export type LinkEvents = { message(bytes: Uint8Array): void; closed(why: string): void };
/** Resolves once connected; rejects with the reason when that fails. */
export type Connect = (events: LinkEvents) => Promise<Link>;

export type LinkOptions = {
  /** `wss://host:port`; the path is the protocol's. */
  url: string;
  keyFile: string;
  certFile: string;
  caFile: string;
  /**
   * With it, the collector must show the URI SAN `spiffe://<trust domain>/collector`; without, its
   * certificate must name the host in `url`.
   */
  trustDomain?: string;
  handshakeTimeoutMs?: number;
  /** How often a ping is sent, and how often the key files are read for a change. */
  pingIntervalMs?: number;
  reloadIntervalMs?: number;
};

/** Reads the key files once, so that a wrong path is told at start; gives what opens links. */
export async function tlsLink(options: LinkOptions): Promise<Connect> {
  const url = collectorUrl(options.url);
  const first = await readKeys(options);
  try {
    createSecureContext(first);
  } catch (error) {
    const files = `${options.keyFile}, ${options.certFile}, ${options.caFile}`;
    const told = `uplink: ${files}: not a matching key, certificate and CA in PEM`;
    throw new ConfigError("CONFIG_UPLINK_KEYS", `${told}: ${(error as Error).message}`, error);
  }
  return (events) => openLink(url, options, events);
}

async function openLink(url: URL, options: LinkOptions, events: LinkEvents): Promise<Link> {
  const keys = await readKeys(options);
  const { trustDomain } = options;
  const tls: ConnectionOptions = {
    ...keys,
    minVersion: "TLSv1.2",
    checkServerIdentity: (host, certificate) =>
      trustDomain === undefined
        ? checkServerIdentity(host, certificate)
        : checkSpiffeId(certificate, `spiffe://${trustDomain}/collector`),
  };
  const socket = new WebSocket(url, {
    ...(tls as object),
    maxPayload: MESSAGE_BYTES_LIMIT,
    perMessageDeflate: { zlibDeflateOptions: { level: 1 }, threshold: 256 },
    handshakeTimeout: options.handshakeTimeoutMs ?? 10_000,
    followRedirects: false,
  });
  return new Promise<Link>((resolve, reject) => {
    let opened = false;
    let why = "";
    const timers: NodeJS.Timeout[] = [];
    socket.on("error", (error) => (why ||= error.message));
    socket.on("close", (code, reason) => {
      timers.forEach(clearInterval);
      why ||= reason.toString() || `closed with code ${code}`;
      if (opened) events.closed(why);
      else reject(new Error(why));
    });
    socket.on("message", (data: RawData) => events.message(data as Buffer));
    socket.on("open", () => {
      opened = true;
      const end = (reason: string) => {
        why ||= reason;
        socket.terminate();
      };
      timers.push(watchPulse(socket, options.pingIntervalMs ?? 15_000, end));
      timers.push(watchKeys(keys, options, end));
      resolve({
        send: (message) => socket.send(message, { compress: true }),
        close: (reason) => {
          why ||= reason;
          socket.close(1000, reason.slice(0, 100));
          // A collector that does not answer the close is not waited for.
          timers.push(setTimeout(() => socket.terminate(), 1000));
        },
      });
    });
  });
}

/** Ends a link on which nothing came back for two intervals. */
function watchPulse(socket: WebSocket, intervalMs: number, end: (why: string) => void) {
  let silent = 0;
  for (const sign of ["pong", "message"] as const) socket.on(sign, () => (silent = 0));
  return setInterval(() => {
    if (++silent > 2) end(`nothing heard for ${silent * intervalMs} ms`);
    else socket.ping();
  }, intervalMs);
}

/** Ends a link whose key files have changed: the next one opens with the new. */
function watchKeys(keys: Keys, options: LinkOptions, end: (why: string) => void) {
  return setInterval(() => {
    readKeys(options).then(
      (now) => {
        const same = keys.key.equals(now.key) && keys.cert.equals(now.cert);
        if (!same || !keys.ca.equals(now.ca)) end("key files changed");
      },
      () => {}, // being replaced just now: the link in hand is still good
    );
  }, options.reloadIntervalMs ?? 10_000);
}

type Keys = { key: Buffer; cert: Buffer; ca: Buffer };

async function readKeys(options: LinkOptions): Promise<Keys> {
  const load = async (what: string, file: string) => {
    try {
      return await readFile(file);
    } catch (error) {
      const told = `uplink: ${what} ${file}: ${(error as { code?: string }).code}`;
      throw new ConfigError("CONFIG_UPLINK_KEYS", told, error);
    }
  };
  const [key, cert, ca] = await Promise.all([
    load("key", options.keyFile),
    load("certificate", options.certFile),
    load("CA", options.caFile),
  ]);
  return { key, cert, ca };
}

/** Node quotes an alternative name that holds a comma or a quote, so plain splitting is safe. */
function checkSpiffeId(certificate: PeerCertificate, wanted: string): Error | undefined {
  const names = (certificate.subjectaltname ?? "").split(", ");
  if (names.includes(`URI:${wanted}`)) return undefined;
  return new Error(`the collector's certificate does not name ${wanted}`);
}

function collectorUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol !== "wss:" || url.pathname.length > 1) {
    const wanted = "expected wss://host:port";
    throw new ConfigError("CONFIG_UPLINK_URL", `uplink: collector ${text}: ${wanted}`);
  }
  url.pathname = UPLINK_PATH;
  return url;
}
