/** Holds a connection's cryptography against the profiles that a declared path asks for. */
import {
  judgeCrypto,
  type CryptoFacts,
  type CryptoProfile,
} from "../../protocol/crypto-profile.ts";
import type { Flow } from "../../protocol/flow-record.ts";

type Tls = NonNullable<Flow["tls"]>;

/** The gravest verdict of all profiles. */
export function holdAgainst(
  profiles: readonly CryptoProfile[],
  tls: Tls,
): "meets" | "misses" | "undecidable" {
  const facts = factsOf(tls);
  const verdicts = new Set(profiles.map((profile) => judgeCrypto(profile, facts).verdict));
  if (verdicts.has("misses")) return "misses";
  return verdicts.has("undecidable") ? "undecidable" : "meets";
}

/** What a flow record tells; what its handshake alone would tell is not known here. */
function factsOf(tls: Tls): CryptoFacts {
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
