/** Keeps how far the reading of one flow's openings has come, while it is read. */
import { Recognition } from "../identify/recognition.ts";
import type { Ports } from "../identify/recognition.ts";
import type { Opened } from "../identify/upgrade.ts";
import type { TdsUnwrap } from "./tds-unwrap.ts";

/** How far the reading of both sides has come; by role throughout. */
export class Progress {
  readonly recognition: Recognition;
  readonly opened: (Opened | null)[] = [null, null];
  /** Stream offsets at which what the sides say begins: behind a PROXY header. */
  readonly start = [0, 0];
  /** Stream offsets at which TLS begins; -1 while that is not known. */
  tlsFrom = [-1, -1];
  /** The server's last plaintext may come after the client's hello did. */
  serverMayTalk = false;
  /** How much of each side has come in order. */
  readonly come = [0, 0];
  /** Unknown bytes up to here begin no hello. */
  readonly held = [0, 0];
  /** How much of a conversation was listened to, and how many messages that was. */
  readonly heard = [0, 0];
  readonly messages = [0, 0];
  /** What HTTP carries is told, or is nothing of its own. */
  isCarriedTold = false;
  /** Of TDS, whose packets carry TLS. */
  tds: TdsUnwrap | null = null;

  constructor(midstream: boolean, ports: Ports) {
    this.recognition = new Recognition(midstream, ports);
  }
}
