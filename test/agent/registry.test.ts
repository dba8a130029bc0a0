/**
 * Checks the tables of IANA's names: against lists that were copied from the registries and from
 * RFCs, not from the tables; and how the registries' CSV files are read.
 */
import t from "tap";
import { CIPHER_SUITES } from "../../agent/tls/cipher-suites.ts";
import { isGrease, signatureName } from "../../agent/tls/codes.ts";
import { ALERTS, ALPN_IDS, EXTENSIONS, GROUPS } from "../../agent/tls/registry.ts";
import { SIGNATURE_SCHEMES } from "../../agent/tls/registry.ts";
import { Cursor } from "../../agent/read/cursor.ts";
import { readServerKeyExchange } from "../../agent/tls/server-hello.ts";
import { readAlpnIds, readCode, readCsv, readTable } from "../../scripts/iana.ts";
import { join, u16, viewOf } from "../frames.ts";

/** Rows of tls-parameters-8.csv as the registry offered it in 2025. */
const GROUP_ROWS = `Value,Description,DTLS-OK,Recommended,Reference,Comment
0,Reserved,,,[RFC8447],
1,sect163k1,Y,D,[RFC8422][RFC-ietf-tls-rfc8447bis-14],[https://datatracker.ietf.org/]
14,sect571r1,Y,N,[RFC8422],
22,secp256k1,Y,N,[RFC8422],
23,secp256r1,Y,Y,[RFC8422],
29,x25519,Y,Y,[RFC-ietf-tls-rfc8446bis-13][RFC8422],
31,brainpoolP256r1tls13,Y,N,[RFC8734],
34,GC256A,Y,N,[RFC9189],
41,curveSM2,N,N,[RFC8998],
42-255,Unassigned,,,,
256,ffdhe2048,Y,N,[RFC7919],
508-511,Reserved for Private Use,,,[RFC7919],
512,MLKEM512,Y,N,[draft-connolly-tls-mlkem-key-agreement-05],FIPS 203 version of ML-KEM-512
2570,Reserved,Y,N,[RFC8701],
4587,SecP256r1MLKEM768,Y,N,[draft-kwiatkowski-tls-ecdhe-mlkem-03],Combining secp256r1 ECDH
4588,X25519MLKEM768,Y,N,[draft-kwiatkowski-tls-ecdhe-mlkem-03],Combining X25519 ECDH
4589,SecP384r1MLKEM1024,Y,N,[draft-kwiatkowski-tls-ecdhe-mlkem-03],Combining secp384r1 ECDH
25497,X25519Kyber768Draft00 (OBSOLETE),Y,N,[draft-tls-westerbaan-xyber768d00-02],Pre-standards
65281,arbitrary_explicit_prime_curves,Y,N,[RFC8422],
`;

/** Rows of tls-parameters-4.csv; one description goes over two lines. */
const SUITE_ROWS = `Value,Description,DTLS-OK,Recommended,Reference
"0x00,0x1C-1D",Reserved to avoid conflicts with SSLv3,,,[RFC5246]
"0x00,0x47-4F","Reserved to avoid conflicts with
deployed implementations",,,[Pasi_Eronen]
"0x00,0xC6",TLS_SM4_GCM_SM3,N,N,[RFC8998]
"0x00,0xFF",TLS_EMPTY_RENEGOTIATION_INFO_SCSV,Y,N,[RFC5746]
"0x01-09,*",Unassigned,,,
"0x0A,0x0A",Reserved,Y,N,[RFC8701]
"0x13,0x01",TLS_AES_128_GCM_SHA256,Y,Y,[RFC8446]
"0x13,0x05",TLS_AES_128_CCM_8_SHA256,Y,N,[RFC8446][IESG Action 2018-08-16]
"0xC0,0x2B",TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,Y,Y,[RFC5289]
"0xC0,0x6B",TLS_PSK_WITH_ARIA_256_GCM_SHA384,Y,N,[RFC6209]
"0xC0,0xB0",TLS_ECCPWD_WITH_AES_128_GCM_SHA256,Y,N,[RFC8492]
"0xC1,0x00",TLS_GOSTR341112_256_WITH_KUZNYECHIK_CTR_OMAC,N,N,[RFC9189]
"0xCC,0xA8",TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,Y,Y,[RFC7905]
"0xD0,0x05",TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256,Y,Y,[RFC8442]
`;

const SCHEME_ROWS = `Value,Description,Recommended,Reference,Comment
0x0000-0x0200,Reserved for backward compatibility,,[RFC-ietf-tls-rfc8446bis-13],
0x0201,rsa_pkcs1_sha1,N,[RFC-ietf-tls-rfc8446bis-13][RFC9155],
0x0403,ecdsa_secp256r1_sha256,Y,[RFC-ietf-tls-rfc8446bis-13],
0x0420,rsa_pkcs1_sha256_legacy,N,[draft-davidben-tls13-pkcs1-00],
0x0708,sm2sig_sm3,N,[RFC8998],
0x070F,gostr34102012_512c,N,[RFC9367],
0x0804,rsa_pss_rsae_sha256,Y,[RFC-ietf-tls-rfc8446bis-13],
0x081A,ecdsa_brainpoolP256r1tls13_sha256,N,[RFC8734],
0x0904,mldsa44,N,[draft-ietf-tls-mldsa-00],
0xFE00-0xFFFF,Reserved for Private Use,,[RFC-ietf-tls-rfc8446bis-13],
`;

t.test("registries' rows: each name is in our table, what is no name is not", async (t) => {
  for (const [rows, table, names] of [
    [GROUP_ROWS, GROUPS, 15],
    [SUITE_ROWS, CIPHER_SUITES, 10],
    [SCHEME_ROWS, SIGNATURE_SCHEMES, 8],
  ] as const) {
    const read = readTable(rows);
    t.equal(read.size, names);
    for (const [code, name] of read) t.equal(table.get(code), name, name);
  }
});

t.test("names from RFCs", async (t) => {
  // RFC 8446 §B.2.
  const alerts = { 0: "close_notify", 22: "record_overflow", 116: "certificate_required" };
  for (const [code, name] of Object.entries(alerts)) t.equal(ALERTS.get(Number(code)), name);
  // RFC 8446 §4.2, RFC 9849, RFC 5746.
  const extensions = { 13: "signature_algorithms", 43: "supported_versions", 51: "key_share" };
  for (const [code, name] of Object.entries({
    ...extensions,
    0xfe0d: "encrypted_client_hello",
    0xff01: "renegotiation_info",
  })) {
    t.equal(EXTENSIONS.get(Number(code)), name);
  }
  t.equal(ALPN_IDS.get("h2"), "HTTP/2 over TLS");
  t.ok(CIPHER_SUITES.size > 350, `${CIPHER_SUITES.size} suites`);
  for (const table of [CIPHER_SUITES, GROUPS, SIGNATURE_SCHEMES, EXTENSIONS]) {
    t.strictSame([...table.keys()].filter(isGrease), [], "GREASE has no name");
  }
});

t.test("pairs of TLS 1.2 (RFC 5246 §7.4.1.4.1) that are no scheme", async (t) => {
  const names = [0x0402, 0x0301, 0x0303, 0x0101, 0x0804, 0x0808, 0x1234].map(signatureName);
  t.strictSame(names, [
    ...["dsa_sha256", "rsa_pkcs1_sha224", "ecdsa_sha224", "rsa_pkcs1_md5"],
    ...["rsa_pss_rsae_sha256", "ed448", "0x1234"],
  ]);
});

t.test("CSV: quotes, commas, lines and codes", async (t) => {
  t.strictSame(readCsv('a,"b,""c""\nd",\r\n1,2,3\n'), [
    ["a", 'b,"c"\nd', ""],
    ["1", "2", "3"],
  ]);
  t.strictSame(["0xC0,0x2B", "0x0403", "29"].map(readCode), [0xc02b, 0x0403, 29]);
  t.ok(["42-255", "0x00,0x1C-1D", "0x01-09,*", ""].every((text) => Number.isNaN(readCode(text))));
  const ids = readAlpnIds(
    "Protocol,Identification Sequence,Reference\n" +
      'HTTP/2 over TLS,"0x68 0x32 (""h2"")",[RFC9113]\n' +
      'Reserved,0x0A 0x0A,[RFC8701]\nSMB2,"0x73 0x6D 0x62 (""smb"")",[x]\n',
  );
  t.strictSame([...ids.keys()], ["h2", "smb"]);
});

const read = (suite: string, version: number, ...parts: (Uint8Array | number[])[]) => {
  const bytes = join(...parts);
  return readServerKeyExchange(new Cursor(viewOf(bytes), 0, bytes.length), suite, version);
};
const vector = (length: number, first = 0x80) => [
  ...u16(length),
  first,
  ...new Array<number>(length - 1).fill(7),
];

t.test("ServerKeyExchange: group, prime and signature of each exchange", async (t) => {
  const curve = [3, ...u16(23), 5, 4, 1, 2, 3, 4]; // named_curve, secp256r1, a point
  const signature = [...u16(0x0403), ...vector(8)];
  const [ecdhe, old] = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0x0302];
  const none = { group: null, primeBits: null, signature: null };
  t.strictSame(read(ecdhe, 0x0303, curve, signature), { ...none, group: 23, signature: 0x0403 });
  t.strictSame(read(ecdhe, old, curve, vector(8)), { ...none, group: 23 }, "no scheme below 1.2");
  const dhe = [...vector(256), ...vector(1, 2), ...vector(256)];
  const rsa = "TLS_DHE_RSA_WITH_AES_128_CBC_SHA";
  const scheme = { ...none, primeBits: 2048, signature: 0x0401 };
  t.strictSame(read(rsa, 0x0303, dhe, u16(0x0401), vector(8)), scheme);
  // A leading zero byte and seven zero bits are no part of the prime.
  const small = [
    ...u16(65),
    0,
    1,
    ...new Array<number>(63).fill(9),
    ...vector(1, 2),
    ...vector(64),
  ];
  t.equal(read("TLS_DH_anon_WITH_AES_128_CBC_SHA", 0x0303, small)?.primeBits, 505);
  const psk = "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA";
  t.strictSame(read(psk, 0x0303, vector(4), curve), { ...none, group: 23 }, "behind the hint");
  t.equal(read(ecdhe, 0x0303, [1, 0, 0, 0, 0, 0, 0]), null, "an explicit curve has no name");
  t.equal(read("TLS_RSA_WITH_AES_128_CBC_SHA", 0x0303, dhe), null);
  t.equal(read("TLS_DH_RSA_WITH_AES_128_CBC_SHA", 0x0303, dhe), null, "static: in the certificate");
  const whole = join(dhe, u16(0x0401), vector(8));
  for (let cut = 0; cut < 517; cut++) {
    if (read(rsa, 0x0303, whole.subarray(0, cut)) !== null) t.fail(`cut at ${cut}`);
  }
});
