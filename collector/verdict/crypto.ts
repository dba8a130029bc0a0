/** Holds a connection's cryptography against the profiles that a declared path asks for. */
import { judgeCrypto, type CryptoProfile } from "../../protocol/crypto-profile.ts";
import { factsOfRecord } from "../../protocol/crypto-record.ts";
import type { Tls } from "../../protocol/flow-record.ts";

/** The gravest verdict of all profiles. */
export function holdAgainst(
  profiles: readonly CryptoProfile[],
  tls: Tls,
): "meets" | "misses" | "undecidable" {
  const facts = factsOfRecord(tls);
  const verdicts = new Set(profiles.map((profile) => judgeCrypto(profile, facts).verdict));
  if (verdicts.has("misses")) return "misses";
  return verdicts.has("undecidable") ? "undecidable" : "meets";
}
