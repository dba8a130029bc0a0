/** Tells pages, by server-sent events, that a window was judged. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { spell, type Judged } from "./judged.ts";

export const LIVE_PATH = "/api/live";
export const LIVE_TYPE = "text/event-stream";
export const LIVE_SENTENCE =
  "Server-sent events: `window` with {from, to} when a window was judged, or judged again.";

const CLIENTS_LIMIT = 200;
/** A client that lets this much pile up is dropped; it comes back and asks for what it missed. */
const WAITING_BYTES_LIMIT = 64 << 10;
const POLL_MS = 1000;
/** Share of time that polling may take: a large store is asked less often. */
const POLL_SHARE = 0.02;
/** Within the idle limit of the server and of most proxies. */
const HEARTBEAT_MS = 15_000;

export class Live {
  readonly #judged: Judged;
  readonly #clients = new Set<ServerResponse>();
  readonly #log: (level: "warn", text: string) => void;
  #poll: NodeJS.Timeout | null = null;
  #heartbeat: NodeJS.Timeout | null = null;
  #told = "";
  #isFailing = false;

  constructor(judged: Judged, log: (level: "warn", text: string) => void) {
    this.#judged = judged;
    this.#log = log;
  }

  /** Takes the response over until either side ends it; false when there are too many. */
  add(request: IncomingMessage, response: ServerResponse): boolean {
    if (this.#clients.size >= CLIENTS_LIMIT) return false;
    response.writeHead(200, { "content-type": LIVE_TYPE, "cache-control": "no-store" });
    if (request.method === "HEAD") {
      response.end();
      return true;
    }
    response.on("close", () => this.#remove(response));
    response.on("error", () => this.#remove(response));
    this.#clients.add(response);
    this.#send(response, "retry: 2000\n\n");
    const text = this.#read();
    if (text !== "") this.#send(response, text);
    if (this.#clients.size === 1) this.#begin(text);
    return true;
  }

  /** Something was judged: all are told, also when no window is new. */
  notify(): void {
    this.#judged.forget();
    if (this.#clients.size === 0) return;
    this.#told = this.#read();
    if (this.#told !== "") this.#sendAll(this.#told);
  }

  close(): void {
    for (const client of [...this.#clients]) {
      this.#remove(client);
      client.destroy();
    }
  }

  #begin(told: string): void {
    this.#told = told;
    this.#heartbeat = setInterval(() => this.#sendAll(": still here\n\n"), HEARTBEAT_MS);
    this.#wait(POLL_MS);
  }

  #wait(ms: number): void {
    this.#poll = setTimeout(() => {
      const startMs = performance.now();
      const text = this.#read();
      const tookMs = performance.now() - startMs;
      if (text !== "" && text !== this.#told) {
        this.#told = text;
        this.#judged.forget();
        this.#sendAll(text);
      }
      if (this.#clients.size > 0) this.#wait(Math.max(POLL_MS, tookMs / POLL_SHARE));
    }, ms);
  }

  /** The event of the newest window; empty when there is none, or the store does not answer. */
  #read(): string {
    try {
      const newest = this.#judged.newest();
      this.#isFailing = false;
      return newest ? `event: window\ndata: ${JSON.stringify(spell(newest))}\n\n` : "";
    } catch (error) {
      if (!this.#isFailing) this.#log("warn", `api: live: ${(error as Error).message}`);
      this.#isFailing = true;
      return "";
    }
  }

  #sendAll(text: string): void {
    for (const client of [...this.#clients]) this.#send(client, text);
  }

  #send(client: ServerResponse, text: string): void {
    client.write(text);
    if (client.writableLength > WAITING_BYTES_LIMIT) {
      this.#remove(client);
      client.destroy();
    }
  }

  #remove(client: ServerResponse): void {
    if (!this.#clients.delete(client) || this.#clients.size > 0) return;
    if (this.#poll) clearTimeout(this.#poll);
    if (this.#heartbeat) clearInterval(this.#heartbeat);
    this.#poll = this.#heartbeat = null;
  }
}
