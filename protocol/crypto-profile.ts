/**
 * Judges the cryptography that one TLS connection negotiated against published profiles. Pure: what
 * the wire showed goes in by IANA's names, a verdict with its reasons comes out.
 *
 * A profile is a table: for each part of the connection (version, suite, key exchange, …) what it
 * allows, and where that is written. A part that was not on the wire is never guessed: the verdict
 * is then `undecidable`, unless another part already misses the profile.
 */

/** Profiles by name, and as people call them. */
export const CRYPTO_PROFILES = {
  "sp800-52r2": "NIST SP 800-52 Rev. 2",
  "fips140-3": "FIPS 140-3 algorithms",
  "mozilla-modern": "Mozilla modern 5.7",
  "mozilla-intermediate": "Mozilla intermediate 5.7",
  cnsa2: "CNSA 2.0",
  "post-quantum": "post-quantum key exchange",
} as const;
export type CryptoProfile = keyof typeof CRYPTO_PROFILES;
export const CRYPTO_PROFILE_NAMES = Object.keys(CRYPTO_PROFILES) as readonly CryptoProfile[];

export const CRYPTO_VERDICTS = ["meets", "misses", "undecidable"] as const;

/** `undecidable`: nothing that was seen misses the profile, and not all of it was seen. */
export type CryptoVerdict = {
  verdict: (typeof CRYPTO_VERDICTS)[number];
  reasons: string[];
};

/** What the wire showed of one connection; null where it did not. */
export type CryptoFacts = {
  /** As `Tls.version` has it. */
  version: string | null;
  /** IANA names. */
  suite: string | null;
  group: string | null;
  signature: string | null;
  /** Bits of the prime of DHE (TLS ≤ 1.2). */
  primeBits: number | null;
  /** Key and signature of the server's own certificate, as `Certificate` has them. */
  certificateKey: string | null;
  certificateSignature: string | null;
  /** The session was resumed: its key exchange and certificate belong to an earlier connection. */
  resumed: boolean;
  /** Groups that the client offers, by name. */
  offeredGroups: readonly string[] | null;
  /** TLS ≤ 1.2: both sides agreed on the extended master secret (RFC 7627). */
  extendedMasterSecret: boolean | null;
};

/** What a profile says of one part: fine, a reason why it misses, or why it cannot be told. */
type Finding = { is: "fine" } | { is: "missed" | "unseen"; reason: string };
const FINE: Finding = { is: "fine" };
const missed = (reason: string): Finding => ({ is: "missed", reason });
const unseen = (reason: string): Finding => ({ is: "unseen", reason });

type Part = (facts: CryptoFacts, suite: Suite) => Finding;

/** A cipher suite taken apart: `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`. */
type Suite = {
  name: string;
  /** `ECDHE_RSA`; empty in TLS 1.3, whose suites do not name it. */
  exchange: string;
  /** `AES_128_GCM`, `CHACHA20_POLY1305`, `3DES_EDE_CBC`, … */
  cipher: string;
  hash: string;
};

export function readSuite(name: string): Suite {
  const old = /^(?:TLS|SSL)_(.+?)_WITH_(.+?)(?:_(MD5|SHA|SHA256|SHA384))?$/.exec(name);
  if (old) {
    const [, exchange = "", cipher = "", hash = ""] = old;
    return { name, exchange, cipher, hash };
  }
  const now = /^TLS_(.+?)_(SHA256|SHA384|SHA512|SM3)$/.exec(name);
  return { name, exchange: "", cipher: now?.[1] ?? "", hash: now?.[2] ?? "" };
}

const AES = /^AES_(128|256)_(CBC|GCM|CCM|CCM_8)$/;
const ML_KEM = /MLKEM(512|768|1024)$/;
/** Elliptic curves of SP 800-56A Rev. 3, Appendix D, that TLS names and are not deprecated. */
const NIST_CURVES: ReadonlySet<string> = new Set(["secp256r1", "secp384r1", "secp521r1"]);

/** Versions that a profile allows. */
function versions(allowed: readonly string[], source: string): Part {
  return ({ version }) => {
    if (version === null) return unseen("no version was negotiated");
    if (allowed.includes(version.replace(/^D?TLSv/, "TLSv"))) return FINE;
    return missed(`${version} is not allowed (${source})`);
  };
}

/** Why the key exchange is not on the wire, where it is not. */
function exchangeUnseen({ resumed, version }: CryptoFacts): Finding {
  if (resumed) return unseen("the session was resumed: its key exchange was an earlier one's");
  if (version?.endsWith("v1.3")) {
    return unseen("a pre-shared key alone made the keys: where it comes from is not on the wire");
  }
  return unseen("the key exchange was not seen");
}

/** Static RSA, PSK, anonymous and the like: what a suite of TLS ≤ 1.2 says of its key exchange. */
function isEphemeral({ exchange }: Suite): boolean {
  return /^(ECDHE|DHE)_(RSA|ECDSA|DSS)$/.test(exchange);
}

/** Key exchange by NIST's rules; `old` names what is said of the suites without (EC)DHE. */
function nistExchange(old: string): Part {
  return (facts, suite) => {
    const { group, primeBits, version } = facts;
    if (suite.exchange !== "" && !isEphemeral(suite)) {
      return missed(`${suite.exchange} key exchange is not allowed (${old})`);
    }
    if (group === null && primeBits === null) return exchangeUnseen(facts);
    if (primeBits !== null) {
      if (primeBits < 2048) return missed(`DHE over ${primeBits} bits is below 2048 (${old})`);
      return unseen(`DHE over ${primeBits} bits: whether the prime is a safe one is not looked at`);
    }
    if (NIST_CURVES.has(group!) || group!.startsWith("ffdhe") || ML_KEM.test(group!)) return FINE;
    if (group === "x25519" || group === "x448") {
      return missed(`${group} alone is no approved key exchange (SP 800-56A Rev. 3, Appendix D)`);
    }
    if (version === null) return exchangeUnseen(facts);
    return missed(`${group} is no approved key exchange (SP 800-56A Rev. 3, Appendix D; FIPS 203)`);
  };
}

/** Bits of `RSA 2048` and `RSA-PSS 2048`; null of `EC P-256`, `Ed25519` and others. */
function bitsOf(key: string): number | null {
  return /^RSA(-PSS)? \d+$/.test(key) ? Number(key.split(" ")[1]) : null;
}

/** The scheme by which the server signed its key exchange; on the wire in TLS 1.2 only. */
function signed(allowed: RegExp, source: string): Part {
  return ({ signature }) =>
    signature === null || allowed.test(signature)
      ? FINE
      : missed(`the server signed its key exchange by ${signature} (${source})`);
}

/** The server's certificate: its key, then the hash by which it was signed. */
function certificate(
  allowsKey: (key: string) => boolean,
  allowsSignature: (signature: string) => boolean,
  source: string,
): Part {
  return ({ certificateKey, certificateSignature, version, resumed }) => {
    if (certificateKey === null) {
      if (resumed) return unseen("the session was resumed: no certificate was shown");
      if (version?.endsWith("v1.3")) {
        return unseen("TLS 1.3 encrypts the server's certificate (RFC 8446 §2): it is not seen");
      }
      return unseen("the server's certificate was not seen");
    }
    if (!allowsKey(certificateKey)) {
      return missed(`the server's certificate has the key ${certificateKey} (${source})`);
    }
    if (certificateSignature === "RSASSA-PSS" || /^[\d.]+$/.test(certificateSignature ?? "")) {
      return unseen(`by which hash ${certificateSignature} signed the certificate is not read`);
    }
    if (certificateSignature !== null && !allowsSignature(certificateSignature)) {
      return missed(`the server's certificate is signed by ${certificateSignature} (${source})`);
    }
    return FINE;
  };
}

const WEAK_HASH = /md5|sha1|SHA1/;
const isNistKey = (key: string) => (bitsOf(key) ?? 0) >= 2048 || /^EC P-(256|384|521)$/.test(key);

/** SP 800-52 Rev. 2 (August 2019). */
const SP_800_52: readonly Part[] = [
  versions(["TLSv1.2", "TLSv1.3"], "SP 800-52 Rev. 2 §3.1"),
  (_, suite) => {
    const { name, cipher, hash } = suite;
    // §3.3.1.1: AES in CBC, GCM, CCM with SHA-1, SHA-256, SHA-384; §3.3.1.2: those of TLS 1.3.
    if (!AES.test(cipher) || hash === "MD5") {
      return missed(`${name} is none of the allowed suites (SP 800-52 Rev. 2 §3.3.1)`);
    }
    return FINE;
  },
  nistExchange("SP 800-52 Rev. 2 §3.3.1; RSA key transport and PSK are for Appendices C and D"),
  signed(/_sha(224|256|384|512)$/, "SP 800-131A Rev. 2 §3"),
  certificate(
    isNistKey,
    (signature) => !WEAK_HASH.test(signature) && !/^Ed/.test(signature),
    "SP 800-52 Rev. 2 §3.2.1",
  ),
];

/**
 * Algorithms approved under FIPS 140-3 (SP 800-140C, SP 800-140D). Whether a validated module ran
 * them is not on the wire: `meets` says that the algorithms are approved ones, no more.
 *
 * X25519MLKEM768 counts as approved: ML-KEM is (FIPS 203), its secret comes first in this group
 * (draft-ietf-tls-ecdhe-mlkem), and behind an approved secret another may be appended
 * (SP 800-56C Rev. 2 §2; SP 800-227 §4.6 on combining).
 */
const FIPS_140_3: readonly Part[] = [
  versions(
    ["TLSv1.2", "TLSv1.3"],
    "older versions sign with MD5 and SHA-1: SP 800-131A Rev. 2 §9, SP 800-52 Rev. 2 §3.1",
  ),
  (_, { name, cipher, hash }) =>
    AES.test(cipher) && hash !== "MD5"
      ? FINE
      : missed(`${name} uses ciphers or hashes that are not approved (SP 800-140C)`),
  nistExchange("SP 800-56A Rev. 3, SP 800-131A Rev. 2 §6"),
  ({ version, extendedMasterSecret }) => {
    if (version !== "TLSv1.2" || extendedMasterSecret === true) return FINE;
    if (extendedMasterSecret === null) return unseen("extended_master_secret was not looked at");
    return missed("TLS 1.2 without extended_master_secret (FIPS 140-3 IG D.Q, since May 2023)");
  },
  signed(
    /^(rsa_pkcs1|rsa_pss_(rsae|pss)|ecdsa(_secp\d+r1)?)_sha(224|256|384|512)$|^ed|^mldsa|^slhdsa/,
    "FIPS 186-5, FIPS 204, FIPS 205",
  ),
  certificate(
    (key) => isNistKey(key) || /^(Ed25519|Ed448|EC P-224|ML-DSA-(44|65|87))$/.test(key),
    (signature) => !WEAK_HASH.test(signature),
    "FIPS 186-5, FIPS 204",
  ),
];

/** Mozilla's Server Side TLS guidelines, version 5.7. */
const MOZILLA_13 = ["AES_128_GCM", "AES_256_GCM", "CHACHA20_POLY1305"];
const MOZILLA_12: ReadonlySet<string> = new Set([
  "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
  "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
  "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
  "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
  "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
  "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
  "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
  "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
  "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
]);
/** Version 5.7 is older than the hybrid, whose X25519 it lists: the hybrid is taken for that. */
const MOZILLA_GROUPS = ["x25519", "secp256r1", "secp384r1", "X25519MLKEM768"];

function mozilla(profile: "modern" | "intermediate"): readonly Part[] {
  const source = `Mozilla ${profile} 5.7`;
  const isModern = profile === "modern";
  return [
    versions(isModern ? ["TLSv1.3"] : ["TLSv1.2", "TLSv1.3"], source),
    (_, { name, exchange, cipher }) => {
      const isListed =
        exchange === "" ? MOZILLA_13.includes(cipher) : !isModern && MOZILLA_12.has(name);
      return isListed ? FINE : missed(`${name} is not in its list of suites (${source})`);
    },
    (facts, suite) => {
      const { group, primeBits } = facts;
      if (suite.exchange !== "" && !isEphemeral(suite)) return FINE; // told by the suite already
      if (primeBits !== null) {
        return primeBits >= 2048 ? FINE : missed(`DHE over ${primeBits} bits (${source})`);
      }
      if (group === null) return exchangeUnseen(facts);
      if (MOZILLA_GROUPS.includes(group)) return FINE;
      return missed(`${group} is not in its list of groups (${source})`);
    },
    certificate(
      (key) =>
        isModern
          ? /^EC P-(256|384)$/.test(key)
          : /^EC P-(256|384)$/.test(key) || (bitsOf(key) ?? 0) >= 2048,
      (signature) => /sha(256|384|512)|SHA(256|384|512)/.test(signature),
      source,
    ),
  ];
}

/**
 * CNSA 2.0 in TLS: draft-becker-cnsa2-tls-profile-03. ECDH over P-384, alone or in a hybrid, was
 * CNSA 1.0 (RFC 9151); in 2.0 the key exchange is ML-KEM-1024 alone.
 */
const CNSA_2: readonly Part[] = [
  versions(["TLSv1.3"], "CNSA 2.0 TLS profile: TLS 1.3 only"),
  (_, { name, exchange, cipher, hash }) =>
    exchange === "" && cipher === "AES_256_GCM" && hash === "SHA384"
      ? FINE
      : missed(`${name} is not TLS_AES_256_GCM_SHA384 (CNSA 2.0: AES-256, SHA-384)`),
  (facts) => {
    const { group } = facts;
    if (group === null) return exchangeUnseen(facts);
    if (group === "MLKEM1024") return FINE;
    if (group === "secp384r1") return missed("secp384r1 is CNSA 1.0; 2.0 needs ML-KEM-1024");
    if (group === "SecP384r1MLKEM1024") {
      return missed("SecP384r1MLKEM1024 has ML-KEM-1024, but the profile takes it alone");
    }
    return missed(`${group} is not ML-KEM-1024 (CNSA 2.0)`);
  },
  certificate(
    (key) => key === "ML-DSA-87",
    (signature) => /ML-DSA-87/.test(signature),
    "CNSA 2.0: ML-DSA-87",
  ),
];

/** Ready against a quantum computer that comes later and finds today's traffic recorded. */
const POST_QUANTUM: readonly Part[] = [
  (facts) => {
    const { group, offeredGroups } = facts;
    const offers = offeredGroups?.filter((name) => isPostQuantum(name)) ?? [];
    const client =
      offeredGroups === null
        ? ""
        : offers.length > 0
          ? `; the client offers ${offers.join(", ")}`
          : "; the client offers none either";
    if (!facts.version?.endsWith("v1.3")) {
      return missed(`TLS before 1.3 has no post-quantum key exchange${client}`);
    }
    if (group === null) return exchangeUnseen(facts);
    if (isPostQuantum(group)) return FINE;
    return missed(`${group} does not hold against a quantum computer${client}`);
  },
];

/** ML-KEM, alone or in a hybrid, and the drafts of it that were in use before FIPS 203. */
function isPostQuantum(group: string): boolean {
  return ML_KEM.test(group) || /Kyber768Draft00$/.test(group);
}

const PROFILES: Readonly<Record<CryptoProfile, readonly Part[]>> = {
  "sp800-52r2": SP_800_52,
  "fips140-3": FIPS_140_3,
  "mozilla-modern": mozilla("modern"),
  "mozilla-intermediate": mozilla("intermediate"),
  cnsa2: CNSA_2,
  "post-quantum": POST_QUANTUM,
};

/** Judges one connection against one profile. */
export function judgeCrypto(profile: CryptoProfile, facts: CryptoFacts): CryptoVerdict {
  if (facts.version === null || facts.suite === null) {
    return { verdict: "undecidable", reasons: ["nothing was negotiated as far as was seen"] };
  }
  const suite = readSuite(facts.suite);
  const told = new Map<string, Finding["is"]>();
  for (const part of PROFILES[profile]) {
    const finding = part(facts, suite);
    if (finding.is !== "fine") told.set(finding.reason, finding.is);
  }
  const reasonsOf = (is: Finding["is"]) => [...told].filter(([, i]) => i === is).map(([r]) => r);
  const misses = reasonsOf("missed");
  if (misses.length > 0) return { verdict: "misses", reasons: misses };
  const reasons = reasonsOf("unseen");
  return { verdict: reasons.length > 0 ? "undecidable" : "meets", reasons };
}

/** Judges one connection against every profile. */
export function judgeAllCrypto(facts: CryptoFacts): Record<CryptoProfile, CryptoVerdict> {
  const judged = CRYPTO_PROFILE_NAMES.map((profile) => [profile, judgeCrypto(profile, facts)]);
  return Object.fromEntries(judged) as Record<CryptoProfile, CryptoVerdict>;
}
