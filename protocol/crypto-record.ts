/** Tells what a flow's record alone says of its cryptography. */
import type { CryptoFacts } from "./crypto-profile.ts";
import type { Tls } from "./flow-record.ts";

/** What its handshake alone would tell is null. */
export function factsOfRecord(tls: Tls): CryptoFacts {
  return {
    version: tls.version,
    suite: tls.cipher_suite,
    group: tls.group,
    signature: tls.signature ?? null,
    primeBits: null,
    certificateKey: tls.server_cert?.key ?? null,
    certificateSignature: tls.server_cert?.signature ?? null,
    resumed: tls.mutual === "resumed",
    offeredGroups: null,
    extendedMasterSecret: null,
  };
}
