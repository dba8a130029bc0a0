/** Keeps one copy of readings that are over and say the same: a node speaks the same few ways. */
import { numberOf } from "../tls/alike.ts";
import { InternedBy } from "../tls/interned.ts";
import type { Reading } from "./reading.ts";

const readings = new InternedBy<Reading>();

/**
 * Nothing more is read of a flow: an equal reading that came before, or this one. All that a record
 * tells is compared.
 */
export function settled(r: Reading): Reading {
  if (!r.settle()) return r;
  const facts =
    (r.swapped ? 1 : 0) |
    (r.clientByContent ? 2 : 0) |
    (r.unmatched[0]! ? 4 : 0) |
    (r.unmatched[1]! ? 8 : 0) |
    (r.notTls ? 16 : 0) |
    (r.refusedInBand ? 32 : 0) |
    (r.mayBeDenied ? 64 : 0) |
    (r.mayRefuse ? 128 : 0) |
    (r.serverIsRead ? 256 : 0) |
    (r.loginOnly ? 512 : 0) |
    (r.isProxied ? 1024 : 0) |
    (r.tunnelSpoke ? 2048 : 0) |
    (r.upgrade.gss ? 4096 : 0) |
    (r.isGreeting ? 8192 : 0);
  const spoken = `${r.protocol} ${r.upgradedFrom} ${r.tunnelOf} ${r.serverProtocol}`;
  const turned = `${r.upgrade.state} ${r.afterRefusal}`;
  return readings.of(`${facts} ${spoken} ${turned} ${numberOf(r.tls)} ${r.history}`, r);
}
