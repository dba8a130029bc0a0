/**
 * Checks how cryptography is judged: each profile's own text, case by case, and the goldens, whose
 * parameters were chosen by the script that made them.
 */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { CRYPTO_PROFILE_NAMES, judgeCrypto, readSuite } from "../../protocol/crypto-profile.ts";
import type { CryptoFacts, CryptoProfile } from "../../protocol/crypto-profile.ts";
import { CIPHER_SUITES } from "../../agent/tls/cipher-suites.ts";
import type { FlowRecord } from "../../protocol/flow-record.ts";
import { GOLDEN } from "./captures.ts";

const launcher = path.join(import.meta.dirname, "../../wireproof");

/** TLS 1.2 over P-256 with an RSA certificate: SP 800-52 Rev. 2 and FIPS 140-3 have no complaint. */
const GOOD: CryptoFacts = {
  version: "TLSv1.2",
  suite: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
  group: "secp256r1",
  signature: "rsa_pss_rsae_sha256",
  primeBits: null,
  certificateKey: "RSA 2048",
  certificateSignature: "sha256WithRSAEncryption",
  resumed: false,
  offeredGroups: ["secp256r1"],
  extendedMasterSecret: true,
};
const NOW: CryptoFacts = {
  ...GOOD,
  version: "TLSv1.3",
  suite: "TLS_AES_256_GCM_SHA384",
  signature: null,
  certificateKey: null,
  certificateSignature: null,
  extendedMasterSecret: false,
};

type Case = readonly [what: string, facts: CryptoFacts, verdict: string, reason?: RegExp];

const CASES: Readonly<Record<CryptoProfile, readonly Case[]>> = {
  "sp800-52r2": [
    ["as §3.3.1 lists it", GOOD, "meets"],
    ["CBC with SHA-1 is listed", { ...GOOD, suite: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA" }, "meets"],
    ["CCM_8 is listed", { ...GOOD, suite: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8" }, "meets"],
    ["P-384 certificate", { ...GOOD, certificateKey: "EC P-384" }, "meets"],
    ["TLS 1.1", { ...GOOD, version: "TLSv1.1" }, "misses", /TLSv1\.1 is not allowed .*§3\.1/],
    ["SSLv3", { ...GOOD, version: "SSLv3" }, "misses", /SSLv3/],
    ["3DES", { ...GOOD, suite: "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA" }, "misses", /§3\.3\.1/],
    ["RC4", { ...GOOD, suite: "TLS_RSA_WITH_RC4_128_MD5" }, "misses", /none of the allowed/],
    ["NULL", { ...GOOD, suite: "TLS_ECDHE_RSA_WITH_NULL_SHA" }, "misses", /none of the allowed/],
    ["ChaCha20", { ...NOW, suite: "TLS_CHACHA20_POLY1305_SHA256" }, "misses", /none of the/],
    ["Camellia", { ...GOOD, suite: "TLS_DHE_RSA_WITH_CAMELLIA_128_CBC_SHA" }, "misses", /none/],
    [
      "RSA transport",
      { ...GOOD, suite: "TLS_RSA_WITH_AES_128_GCM_SHA256" },
      "misses",
      /RSA key ex/,
    ],
    ["anonymous", { ...GOOD, suite: "TLS_ECDH_anon_WITH_AES_128_CBC_SHA" }, "misses", /anon/],
    ["X25519", { ...GOOD, group: "x25519" }, "misses", /x25519 alone .*SP 800-56A Rev\. 3/],
    ["brainpool", { ...GOOD, group: "brainpoolP256r1" }, "misses", /no approved key exchange/],
    ["DHE 1024", { ...GOOD, group: null, primeBits: 1024 }, "misses", /1024 bits is below 2048/],
    ["DHE 2048", { ...GOOD, group: null, primeBits: 2048 }, "undecidable", /prime/],
    ["RSA 1024", { ...GOOD, certificateKey: "RSA 1024" }, "misses", /RSA 1024 .*§3\.2\.1/],
    ["SHA-1 signed", { ...GOOD, certificateSignature: "sha1WithRSAEncryption" }, "misses", /sha1/],
    ["ecdsa SHA-1", { ...GOOD, certificateSignature: "ecdsa-with-SHA1" }, "misses", /SHA1/],
    ["PSS, hash unread", { ...GOOD, certificateSignature: "RSASSA-PSS" }, "undecidable", /hash/],
    ["key exchange by SHA-1", { ...GOOD, signature: "rsa_pkcs1_sha1" }, "misses", /rsa_pkcs1_sha1/],
    ["1.3: certificate hidden", NOW, "undecidable", /TLS 1\.3 encrypts the server's certificate/],
    ["1.3 over ML-KEM hybrid", { ...NOW, group: "X25519MLKEM768" }, "undecidable", /encrypts/],
    ["1.3 with X25519", { ...NOW, group: "x25519" }, "misses", /x25519/],
    [
      "resumed",
      { ...GOOD, group: null, certificateKey: null, resumed: true },
      "undecidable",
      /res/,
    ],
    ["psk_ke", { ...NOW, group: null }, "undecidable", /pre-shared key alone/],
    ["nothing agreed", { ...GOOD, version: null, suite: null }, "undecidable", /nothing was neg/],
  ],
  "fips140-3": [
    ["approved throughout", GOOD, "meets"],
    ["Ed25519 is in FIPS 186-5", { ...GOOD, certificateKey: "Ed25519" }, "meets"],
    ["without EMS", { ...GOOD, extendedMasterSecret: false }, "misses", /extended_master_secret/],
    ["EMS not looked at", { ...GOOD, extendedMasterSecret: null }, "undecidable", /extended_m/],
    ["ChaCha20", { ...NOW, suite: "TLS_CHACHA20_POLY1305_SHA256" }, "misses", /not approved/],
    ["X25519 alone", { ...NOW, group: "x25519" }, "misses", /x25519 alone/],
    ["X25519MLKEM768", { ...NOW, group: "X25519MLKEM768" }, "undecidable", /encrypts/],
    ["MLKEM1024", { ...NOW, group: "MLKEM1024" }, "undecidable", /encrypts/],
    ["Kyber draft", { ...NOW, group: "X25519Kyber768Draft00" }, "misses", /no approved/],
    ["SM2", { ...NOW, group: "curveSM2" }, "misses", /curveSM2/],
    ["ECDSA of TLS 1.2", { ...GOOD, signature: "ecdsa_sha224" }, "meets"],
    ["dsa", { ...GOOD, signature: "dsa_sha256" }, "misses", /dsa_sha256 .*FIPS 186-5/],
    ["gost", { ...GOOD, signature: "gostr34102012_256a" }, "misses", /gost/],
  ],
  "mozilla-modern": [
    ["TLS 1.2", GOOD, "misses", /TLSv1\.2 is not allowed/],
    ["TLS 1.3", NOW, "undecidable", /encrypts/],
    ["ChaCha20 is fine", { ...NOW, suite: "TLS_CHACHA20_POLY1305_SHA256" }, "undecidable"],
    ["CCM is not", { ...NOW, suite: "TLS_AES_128_CCM_SHA256" }, "misses", /CCM/],
    ["P-521", { ...NOW, group: "secp521r1" }, "misses", /secp521r1/],
  ],
  "mozilla-intermediate": [
    ["ECDHE, GCM, RSA 2048", GOOD, "meets"],
    ["X25519", { ...GOOD, group: "x25519" }, "meets"],
    ["CBC", { ...GOOD, suite: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256" }, "misses", /CBC/],
    ["TLS 1.0", { ...GOOD, version: "TLSv1.0" }, "misses", /TLSv1\.0/],
    [
      "DHE 2048",
      {
        ...GOOD,
        suite: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
        group: null,
        primeBits: 2048,
      },
      "meets",
    ],
    ["RSA 1024", { ...GOOD, certificateKey: "RSA 1024" }, "misses", /RSA 1024/],
  ],
  cnsa2: [
    ["TLS 1.2", GOOD, "misses", /TLS 1\.3 only/],
    ["AES-128", { ...NOW, suite: "TLS_AES_128_GCM_SHA256" }, "misses", /AES-256/],
    ["P-384 is of CNSA 1.0", { ...NOW, group: "secp384r1" }, "misses", /CNSA 1\.0/],
    ["hybrid", { ...NOW, group: "SecP384r1MLKEM1024" }, "misses", /alone/],
    ["ML-KEM-768", { ...NOW, group: "X25519MLKEM768" }, "misses", /not ML-KEM-1024/],
    ["ML-KEM-1024", { ...NOW, group: "MLKEM1024" }, "undecidable", /encrypts/],
  ],
  "post-quantum": [
    ["TLS 1.2", GOOD, "misses", /before 1\.3 .*offers none/],
    ["hybrid", { ...NOW, group: "X25519MLKEM768" }, "meets"],
    ["pure", { ...NOW, group: "MLKEM768" }, "meets"],
    ["P-256 hybrid", { ...NOW, group: "SecP256r1MLKEM768" }, "meets"],
    [
      "offered in vain",
      { ...NOW, group: "x25519", offeredGroups: ["X25519MLKEM768", "x25519"] },
      "misses",
      /x25519 does not hold .*; the client offers X25519MLKEM768$/,
    ],
    ["offer unknown", { ...NOW, group: "x25519", offeredGroups: null }, "misses", /computer$/],
  ],
};

for (const profile of CRYPTO_PROFILE_NAMES) {
  t.test(`${profile}: each case, and why`, async (t) => {
    for (const [what, facts, verdict, reason] of CASES[profile]) {
      const judged = judgeCrypto(profile, facts);
      t.equal(judged.verdict, verdict, what);
      t.equal(judged.reasons.length > 0, verdict !== "meets", `${what}: reasons`);
      if (reason)
        t.ok(
          judged.reasons.some((r) => reason.test(r)),
          `${what}: ${judged.reasons}`,
        );
    }
  });
}

t.test("every reason that misses is told, not the first alone", async (t) => {
  const facts = { ...GOOD, version: "TLSv1.0", suite: "TLS_RSA_WITH_RC4_128_SHA", group: null };
  const judged = judgeCrypto("sp800-52r2", { ...facts, certificateKey: "RSA 512" });
  t.equal(judged.reasons.length, 4, judged.reasons.join("; "));
});

t.test("every suite of the registry is taken apart", async (t) => {
  t.strictSame(readSuite("TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256"), {
    name: "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256",
    ...{ exchange: "ECDHE_PSK", cipher: "AES_128_CCM_8", hash: "SHA256" },
  });
  t.match(readSuite("TLS_AES_128_CCM_8_SHA256"), { exchange: "", cipher: "AES_128_CCM_8" });
  t.match(readSuite("TLS_RSA_WITH_AES_128_CCM"), { exchange: "RSA", cipher: "AES_128_CCM" });
  const scsv = /SCSV$/;
  for (const name of CIPHER_SUITES.values()) {
    if (readSuite(name).cipher === "" && !scsv.test(name)) t.fail(name);
  }
  // Nothing but AES is allowed by SP 800-52 Rev. 2, and no export, anonymous or PSK suite.
  const allowed = [...CIPHER_SUITES.values()].filter((suite) => {
    const facts = suite.includes("_WITH_") ? { ...GOOD, suite } : { ...NOW, suite };
    return judgeCrypto("sp800-52r2", facts).verdict !== "misses";
  });
  t.ok(allowed.includes("TLS_DHE_RSA_WITH_AES_256_CCM"));
  t.strictSame(
    allowed.filter((suite) => !/^TLS_(EC)?DHE_(RSA|ECDSA|DSS)_WITH_AES_|^TLS_AES_/.test(suite)),
    [],
  );
});

t.test("the goldens, as they were made: inspect --crypto", async (t) => {
  const file = (name: string) => path.join(GOLDEN, `${name}.pcap`);
  const run = (...argv: string[]) =>
    spawnSync(launcher, ["inspect", "--format", "jsonl", ...argv])
      .stdout.toString()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as FlowRecord);
  const judged = (name: string) => {
    const crypto = run("--crypto", file(name))[0]?.tls?.crypto;
    return CRYPTO_PROFILE_NAMES.map((profile) => crypto?.[profile]?.verdict).join(" ");
  };
  // TLS 1.2, P-384, AES-128-GCM, RSA 2048; what Mozilla's modern and CNSA 2.0 want is TLS 1.3.
  t.equal(judged("tls12"), "meets meets misses meets misses misses");
  // TLS 1.0.
  t.equal(judged("tls10"), "misses misses misses misses misses misses");
  // ChaCha20 and X25519 under TLS 1.2: fine for Mozilla alone; ECDSA P-256.
  t.equal(judged("tls12-ecdsa"), "misses misses misses meets misses misses");
  // TLS 1.3 with P-256 after a HelloRetryRequest: its certificate is not seen.
  t.equal(judged("mtls13-retry"), "undecidable undecidable undecidable undecidable misses misses");
  t.equal(run(file("tls12"))[0]?.tls?.crypto, undefined, "only where it is asked for");
  t.equal(run("--crypto", file("redis"))[0]?.tls, null);
  const where = run(
    "--where",
    "tls.crypto.sp800-52r2.verdict == meets",
    file("tls12"),
    file("tls10"),
  );
  t.strictSame(
    where.map((r) => r.file),
    ["tls12.pcap"],
    "a filter that asks for it has it judged",
  );
});
