/** Hears what each connection of a window says, and adds it to a tally. */
import { formatHolder, toExternal } from "../attribution/holder.ts";
import type { Holder } from "../attribution/holder.ts";
import type { Expectation } from "../policy/expectation.ts";
import { CARRIERS, expectedOf, sayOf, shownBy } from "./expect.ts";
import type { Known } from "./expect.ts";
import { isMadeUp, portOf } from "./matrix.ts";
import type { Matrix, Sights } from "./matrix.ts";
import type { Connection } from "./pair.ts";
import { undemanded, unreadable } from "./say.ts";
import { isAlien } from "./transport.ts";
import { Tally } from "./tally.ts";
import type { Ends } from "./tally.ts";
import type { WindowInput } from "./window-input.ts";

/** What nobody held is one end: a scan of a subnet, or made-up sources, are no thousand edges. */
const NOBODY = "unattributed[Unknown]";
/** Whoever sends a SYN alone may write any source: outside of what is declared they are one. */
const ANYBODY: Holder = { ...toExternal("unanswered"), addresses: [] };
const ANYBODY_NAME = formatHolder(ANYBODY);

export class Hearing {
  readonly tally = new Tally();
  readonly #input: WindowInput;
  readonly #sights: Sights;
  /** By edge and the objects that decided: whether who shows an identity is denied. */
  readonly #deniedWhenShown = new Map<string, boolean>();

  constructor(input: WindowInput, sights: Sights) {
    this.#input = input;
    this.#sights = sights;
  }

  add(c: Connection): void {
    const { tally } = this;
    const matrix = this.#sights.of(c);
    const isAnybody = this.#isAnybody(c);
    const ends: Ends = {
      ...{ client: isAnybody ? ANYBODY : c.client, server: c.server },
      clientName: isAnybody ? ANYBODY_NAME : c.client ? c.clientName : NOBODY,
      serverName: c.server ? c.serverName : NOBODY,
      provenance: { client: c.clientProvenance, server: c.serverProvenance },
    };
    this.#noteOthers(c, matrix, ends.clientName);
    const carrier = CARRIERS[c.proto];
    if (!carrier) return;
    const id = `${ends.clientName} -> ${ends.serverName} : ${c.port}/${c.proto}`;
    if (!c.client || !c.server) {
      const path = { say: unreadable("not-attributable"), met: null };
      tally.addConnection(id, ends, c, { path }, false);
      return;
    }
    const { fromMs, toMs, clocksApartMs: apartMs, expect } = this.#input;
    const known: Known = { c, client: c.client, server: c.server, carrier, fromMs, toMs, apartMs };
    const expected = expectedOf(known, expect, shownBy(c));
    const inGrace = expected.atStart.length + expected.later.length > 1;
    const said = sayOf(known, expected, matrix);
    const isUndeclared = this.#input.declared.undeclared.has(c.server.namespace);
    if (isUndeclared && said.path.say.kind === "unexpected") {
      said.path.say = undemanded(said.path.say.reason);
    }
    tally.addConnection(id, ends, c, said, inGrace);
    if (isAlien(c, expected.atStart[0].transport)) tally.addAlien(c.clientName, c.serverName);
    if (this.#slipsPast(id, known, expected.atStart[0])) {
      tally.addSlipped(c.serverName, c.clientName);
    }
  }

  /** An address outside that is in no zone, is nobody's actor, and had no answer to answer. */
  #isAnybody({ client, established }: Connection): boolean {
    if (client?.kind !== "external" || established) return false;
    const { zonesOf, actorOf } = this.#input;
    return zonesOf(client).length === 0 && !actorOf?.(client);
  }

  /** What it shows of others: who served, who may be behind an address, who tries what. */
  #noteOthers(c: Connection, matrix: Matrix, client: string): void {
    const { tally } = this;
    const port = `${c.port}/${c.proto}`;
    tally.sampling = Math.min(tally.sampling, c.sampling);
    // What never was established contradicts nothing, whoever it was.
    const isHeld = c.established || c.accepted === true;
    if (isHeld && c.clientIsNode) tally.masked.add(portOf(c.serverName, c));
    if (isHeld && c.client === null && c.server !== null) {
      tally.unknown.add(`> ${c.serverName} ${port}`);
    }
    if (isHeld && c.server === null) {
      tally.unknown.add(`${c.client ? c.clientName : ""} > ${c.isPortKnown ? port : "*"}`);
    }
    if (c.accepted === true && isMadeUp(matrix)) {
      const seenBy = c.atClient ? c.clientName : c.atServer ? c.serverName : null;
      tally.addOneEnded(seenBy ?? `node/${c.sightings.map((s) => s.node).sort()[0]}`);
    }
    // Whoever the client was, at the server's own end it is the server that answered.
    if (c.accepted === true && c.rolesKnown && c.atServer && c.server !== null) {
      tally.served.add(portOf(c.server, c));
    }
    // A server's clients are no targets.
    if (!c.rolesKnown && c.midstream) return;
    const { dst_ip: address } = c.sightings[0]!.attributed.observation.record;
    const targets = tally.targetsOf(client);
    targets.add(`${address} ${port}`, c.accepted === true);
  }

  /** Reports whether policy denies who shows its identity, and let this one in, which did not. */
  #slipsPast(id: string, known: Known, met: Expectation): boolean {
    const { posture, accepted, rolesKnown } = known.c;
    const isBare = posture === "plaintext" || posture === "tls";
    if (!isBare || accepted !== true || !rolesKnown || met.path !== "allowed") return false;
    const asked = [id, ...met.pathBecause.map(({ hash }) => hash)].join(" ");
    const isKnown = this.#deniedWhenShown.get(asked);
    if (isKnown !== undefined) return isKnown;
    const isDenied = expectedOf(known, this.#input.expect, "mtls").atStart[0].path === "denied";
    this.#deniedWhenShown.set(asked, isDenied);
    return isDenied;
  }
}
