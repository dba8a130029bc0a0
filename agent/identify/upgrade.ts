/** Follows plaintext negotiations that turn into TLS, and notices those that are refused. */
import type { ProtocolName } from "../../protocol/flow-record.ts";
import type { Said } from "./dialogue.ts";
import { PostgresqlRequest, isMysqlSslRequest } from "./sql.ts";
import { httpHeadEnd, httpStatus } from "./http.ts";
import { Match, startsWith } from "./match.ts";

/** Where a negotiation stands. */
export type UpgradeState =
  | "none" // this flow does not negotiate, as far as it is known
  | "asked" // the client asked for TLS
  | "agreed" // the server said yes; by fixed places, TLS begins at `clientFrom` and `serverFrom`
  | "refused" // the server said no; what follows is plaintext
  | "stripped"; // the offer was overwritten on its way, or agreed upon and not taken up

/** Bytes of one side from the stream's start; empty while none have come. */
export type Opened = { view: DataView; at: number; end: number };

/**
 * Protocols whose negotiation stands at fixed places, here or, of TDS, with the TLS in its packets;
 * the others are `DIALOGUES`.
 */
export const FOLLOWED: ReadonlySet<ProtocolName> = new Set([
  "postgresql",
  "mysql",
  "http",
  "tds",
] as const);

export class Upgrade {
  state: UpgradeState = "none";
  /** Where TLS begins, in bytes behind the start of each side's opening. */
  clientFrom = 0;
  serverFrom = 0;
  /** Encrypted by GSSAPI (PostgreSQL), which is no TLS. */
  gss = false;

  /** Looks at both openings again, from their start; returns whether the state changed. */
  follow(protocol: ProtocolName, client: Opened | null, server: Opened | null): boolean {
    const before = this.state;
    switch (protocol) {
      case "postgresql":
        if (client) this.#followPostgresql(client, server);
        break;
      case "mysql":
        if (client && server) this.#followMysql(client, server);
        break;
      case "http":
        if (client) this.#followConnect(client, server);
        break;
    }
    return this.state !== before;
  }

  /** Takes what one message of a conversation said; returns whether the state changed. */
  hear(said: Said, byClient: boolean): boolean {
    const before = this.state;
    // The client was told to begin TLS, and went on in plaintext.
    if (byClient && before === "agreed" && said !== "asks") this.state = "stripped";
    switch (said) {
      case "asks":
        this.state = "asked";
        break;
      case "agrees":
        if (before === "asked") this.state = "agreed";
        break;
      case "refuses":
        if (before === "asked") this.state = "refused";
        break;
      case "stripped":
        this.state = "stripped";
        break;
    }
    return this.state !== before;
  }

  /**
   * SSLRequest and GSSENCRequest are answered by one byte each; `N` lets the client ask on, or send
   * its StartupMessage in plaintext (PostgreSQL protocol, "SSL Session Encryption").
   */
  #followPostgresql(client: Opened, server: Opened | null): void {
    let at = client.at;
    let answer = server?.at ?? 0;
    let refused = false;
    while (client.end - at >= 8) {
      const code = client.view.getUint32(at + 4);
      if (code !== PostgresqlRequest.ssl && code !== PostgresqlRequest.gss) break;
      this.state = "asked";
      if (!server || answer >= server.end) return;
      const said = String.fromCharCode(server.view.getUint8(answer));
      at += 8;
      answer += 1;
      if (code === PostgresqlRequest.ssl && said === "S") {
        this.state = "agreed";
        this.clientFrom = at - client.at;
        this.serverFrom = answer - server.at;
        return;
      }
      if (code === PostgresqlRequest.gss && said === "G") {
        this.gss = true;
        return;
      }
      refused ||= code === PostgresqlRequest.ssl;
    }
    if (refused) this.state = "refused";
  }

  /** The client's SSLRequest is its first packet, 36 bytes; TLS follows without an answer. */
  #followMysql(client: Opened, server: Opened): void {
    if (client.end - client.at < 36 || server.end - server.at < 4) return;
    if (!isMysqlSslRequest(client.view, client.at)) return;
    const greeting =
      server.view.getUint16(server.at, true) | (server.view.getUint8(server.at + 2) << 16);
    this.state = "agreed";
    this.clientFrom = 36;
    this.serverFrom = 4 + greeting;
  }

  /** CONNECT (RFC 9110 §9.3.6): behind a 2xx answer the connection is a tunnel. */
  #followConnect(client: Opened, server: Opened | null): void {
    if (startsWith(client.view, client.at, client.end, "CONNECT ") !== Match.yes) return;
    this.state = "asked";
    if (!server) return;
    const clientEnd = httpHeadEnd(client.view, client.at, client.end);
    const serverEnd = httpHeadEnd(server.view, server.at, server.end);
    const status = httpStatus(server.view, server.at, server.end);
    if (clientEnd < 0 || serverEnd < 0 || status === 0) return;
    if (status < 200 || status > 299) {
      this.state = "refused";
      return;
    }
    this.state = "agreed";
    this.clientFrom = clientEnd - client.at;
    this.serverFrom = serverEnd - server.at;
  }
}
