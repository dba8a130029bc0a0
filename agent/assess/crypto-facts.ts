/** Gathers what a connection's cryptography is judged by, from its record and its handshake. */
import { Extension, isGrease } from "../tls/codes.ts";
import type { Handshake } from "../tls/handshake.ts";
import { GROUPS } from "../tls/registry.ts";
import type { CryptoFacts } from "../../protocol/crypto-profile.ts";
import { factsOfRecord } from "../../protocol/crypto-record.ts";
import type { Flow } from "../../protocol/flow-record.ts";

/** Null where the flow is no TLS, or nothing of its handshake was seen. */
export function cryptoFactsOf(record: Flow, h: Handshake | null): CryptoFacts | null {
  const { tls } = record;
  if (!tls || !h || (!h.clientHello && !h.serverHello)) return null;
  const hello = h.secondHello ?? h.clientHello;
  const offered = hello?.groups.filter((group) => !isGrease(group));
  return {
    ...factsOfRecord(tls),
    primeBits: h.primeBits,
    resumed: h.abbreviated || (h.serverHello?.selectsPsk ?? false),
    offeredGroups: offered?.map((group) => GROUPS.get(group) ?? String(group)) ?? null,
    extendedMasterSecret:
      h.serverHello?.extensions.includes(Extension.extendedMasterSecret) ?? null,
  };
}
