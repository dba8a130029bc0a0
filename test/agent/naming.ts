/** Puts bytes before the signatures, cut at each length, alone and with the other side's. */
import t from "tap";
import { Match } from "../../agent/identify/match.ts";
import { Recognition } from "../../agent/identify/recognition.ts";
import { SIGNATURES } from "../../agent/identify/signatures.ts";
import { viewOf } from "../frames.ts";

export type Side = "client" | "server";
/** A name, with `?` where the bytes agree with it and are too common alone; who says it; what. */
export type Vector = readonly [name: string, side: Side, bytes: Uint8Array];

/** What a side's signatures say together: the first sure name, else `more`, a likely one, `no`. */
export function say(side: Side, bytes: Uint8Array, midstream = false): string {
  let pending = false;
  let likely = "no";
  for (const s of SIGNATURES) {
    if (s.transport === "udp" || (s.midstream && !midstream)) continue;
    if (s.side !== side && s.side !== "either" && !midstream) continue;
    const match = s.test(viewOf(bytes), 0, bytes.length);
    if (match === Match.yes) return s.protocol;
    pending ||= match === Match.more;
    if (match === Match.likely) likely = `${s.protocol}?`;
  }
  return pending ? "more" : likely;
}

/** Checks that each vector is waited for, then named, and keeps its name, byte by byte. */
export function checkCuts(vectors: readonly Vector[], midstream = false): void {
  for (const [i, [name, side, bytes]] of vectors.entries()) {
    t.test(`${name} of a ${side} (${i}): more, then its name for good`, async (t) => {
      let seen = "more";
      for (let length = 1; length <= bytes.length; length++) {
        const said = say(side, bytes.subarray(0, length), midstream);
        const isLawful = said === name || (said === "more" && seen === "more");
        if (!isLawful) t.fail(`${length} bytes: ${said} behind ${seen}`);
        seen = said;
      }
      t.equal(seen, name);
    });
  }
}

/** The name that a whole datagram gets, between these ports. */
export function nameOfDatagram(bytes: Uint8Array, server = 40001, client = 40000): string {
  const recognition = new Recognition(false, { client, server });
  return recognition.lookAtDatagram(0, viewOf(bytes), 0, bytes.length)?.protocol ?? "no";
}

/** The name that a connection gets whose sides begin so, whatever comes first, byte by byte. */
export function nameOfPair(client: Uint8Array, server: Uint8Array, port = 7000): string {
  const names = new Set<string>();
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const recognition = new Recognition(false, { client: 40000, server: port });
    let name = "no";
    for (const role of order) {
      const bytes = role === 0 ? client : server;
      for (let length = 1; length <= bytes.length && name === "no"; length++) {
        name = recognition.look(role, viewOf(bytes), 0, length)?.protocol ?? "no";
      }
    }
    names.add(name);
  }
  return [...names].join(" or ");
}

/** As `nameOfPair`, of one side alone. */
export function nameOf(side: Side, bytes: Uint8Array, port = 7000, midstream = false): string {
  const recognition = new Recognition(midstream, { client: 40000, server: port });
  for (let length = 1; length <= bytes.length; length++) {
    const role = side === "client" ? 0 : 1;
    const found = recognition.look(role, viewOf(bytes), 0, length);
    if (found) return found.protocol;
  }
  return "no";
}
