/** Asks what was required of a connection, by every version of the policy that it met. */
import type { Holder, Transport } from "../attribution/holder.ts";
import type { Expectation, Posture } from "../policy/expectation.ts";
import type { Expected, Lifetime } from "../policy/history/history.ts";
import { pass } from "./gate.ts";
import type { Matrix } from "./matrix.ts";
import type { Connection } from "./pair.ts";
import { sayOfPath } from "./path.ts";
import { agreed } from "./say.ts";
import type { Say } from "./say.ts";
import type { Said } from "./tally.ts";
import { sayOfTransport } from "./transport.ts";
import type { Aspect } from "./verdict.ts";

/** What is required of a connection that shows `wire`. */
export type Expect = (
  client: Holder,
  server: Holder,
  port: number,
  carrier: Transport,
  life: Lifetime,
  wire: Posture | null,
) => Expected;

/** ESP and its like are none: no policy speaks of them. */
export const CARRIERS: Record<string, Transport> = { tcp: "TCP", udp: "UDP", sctp: "SCTP" };

/** A connection whose ends are known, in the window that is judged. */
export type Known = {
  c: Connection;
  client: Holder;
  server: Holder;
  carrier: Transport;
  fromMs: number;
  toMs: number;
  apartMs: number;
};

export function expectedOf(known: Known, expect: Expect, wire: Posture | null): Expected {
  const { c, client, server, carrier, fromMs, toMs, apartMs } = known;
  const life = { atMs: c.startMs, fromMs, toMs: Math.min(c.endMs, toMs), apartMs };
  return expect(client, server, c.port, carrier, life, wire);
}

/** What the connection showed of who it is; null where that is not known. */
export function shownBy({ posture }: Connection): Posture | null {
  return posture === "plaintext" || posture === "tls" || posture === "mtls" ? posture : null;
}

/** Agents tell of a living flow again within this time: what they would have seen, they told. */
const TOLD_WITHIN_MS = 30_000;

/** What it says of both aspects, as far as it may prove or contradict. */
export function sayOf(
  { c: told, toMs }: Known,
  expected: Expected,
  matrix: Matrix,
): Record<Aspect, Said> {
  const isOverdue = !told.final && toMs - told.startMs > TOLD_WITHIN_MS;
  const c = isOverdue ? { ...told, final: true } : told;
  const { atStart, later } = expected;
  const met = later.at(-1) ?? atStart[0];
  const ask = (of: (expectation: Expectation) => Say): Said => {
    const under = (expectation: Expectation) => pass(of(expectation), c, matrix, expectation);
    const begun = agreed(atStart.map(under), "policy-changed");
    return { say: agreed([begun, ...later.map(under)], "begun-under-older-policy"), met };
  };
  return { path: ask((e) => sayOfPath(c, e, matrix)), transport: ask((e) => sayOfTransport(c, e)) };
}
