/** Lists the golden captures of TLS that OpenSSL plays alone: versions, resumption, refusals. */
import { ONCE } from "./acts.ts";
import type { Case, Stage, Truth } from "./stage.ts";

const SERVER_SUBJECT = "CN=server.golden,O=golden";
const CLIENT_SUBJECT = "CN=client,OU=payments\\, north,O=golden";

/** TLS ≤ 1.2 without a client certificate, answered. */
const oneWay12 = (version: string, cipher_suite: string, more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", handshake: "complete", accepted: true, failure: null },
  ...{ version, cipher_suite, mutual: "no", sni: "server.golden", client_cert_subject: null },
  server_cert_subject: SERVER_SUBJECT,
  ...more,
});

/** TLS 1.3, answered; certificates are not to be seen. */
const answered13 = (mutual: string, more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", handshake: "complete", accepted: true, failure: null },
  ...{ version: "TLSv1.3", mutual, sni: "server.golden", group: "x25519" },
  ...{ server_cert_subject: null, client_cert_subject: null },
  ...more,
});

const refused = (failure: string, more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", handshake: "failed", accepted: false, failure },
  ...more,
});

const OLD = ["-cipher", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"];
const GCM = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
const ASKS = ["-verify", "1"];
const DEMANDS = ["-Verify", "1", "-verify_return_error"];
const AES_GCM = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";

/** Two connections, the second with the session of the first. */
const twice =
  (server: readonly string[], first: readonly string[], second: readonly string[] = first) =>
  async (stage: Stage): Promise<void> => {
    const session = stage.file("session");
    await stage.opensslServer(...server);
    await stage.opensslAnswered(...first, "-sess_out", session);
    await stage.opensslAnswered(...second, "-sess_in", session);
  };

export const TLS_CASES: readonly Case[] = [
  {
    name: "tls10",
    made: "TLS 1.0, ECDHE over P-256.",
    perform: (s) => s.openssl(["-tls1", ...OLD], "-tls1", ...OLD, "-groups", "P-256"),
    flows: [oneWay12("TLSv1.0", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", { group: "secp256r1" })],
  },
  {
    name: "tls11",
    made: "TLS 1.1, RSA key exchange.",
    perform: (s) =>
      s.openssl(
        ["-tls1_1", "-cipher", "AES256-SHA:@SECLEVEL=0"],
        "-tls1_1",
        ...OLD.slice(0, 1),
        "AES256-SHA:@SECLEVEL=0",
      ),
    flows: [oneWay12("TLSv1.1", "TLS_RSA_WITH_AES_256_CBC_SHA", { group: null })],
  },
  {
    name: "tls12",
    made: "TLS 1.2 with ALPN h2 selected, ECDHE over P-384.",
    perform: (s) =>
      s.openssl([...GCM, "-alpn", "h2"], ...GCM, "-groups", "P-384", "-alpn", "h2,http/1.1"),
    flows: [oneWay12("TLSv1.2", AES_GCM, { group: "secp384r1", alpn: "h2", ...ONCE })],
  },
  {
    name: "tls12-ecdsa",
    made: "TLS 1.2, ECDSA certificate, ChaCha20, no server name sent.",
    perform: (s) =>
      s.openssl(
        s.presenting("ecdsa"),
        "-tls1_2",
        "-noservername",
        "-groups",
        "X25519:P-256",
        "-cipher",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
      ),
    flows: [
      oneWay12("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", {
        ...{ group: "x25519", sni: null, server_cert_subject: "CN=ecdsa.golden,O=golden" },
      }),
    ],
  },
  {
    name: "tls12-ticket",
    made: "TLS 1.2 resumed by a session ticket.",
    perform: twice(GCM, GCM),
    flows: [
      oneWay12("TLSv1.2", AES_GCM),
      // The certificate is that of the handshake that issued the session.
      oneWay12("TLSv1.2", AES_GCM, { handshake: "resumed", mutual: "resumed" }),
    ],
  },
  {
    name: "tls12-session-id",
    made: "TLS 1.2 resumed by a session id.",
    perform: twice([...GCM, "-no_ticket"], [...GCM, "-no_ticket"]),
    flows: [
      oneWay12("TLSv1.2", AES_GCM),
      // The certificate is that of the handshake that issued the session.
      oneWay12("TLSv1.2", AES_GCM, { handshake: "resumed", mutual: "resumed" }),
    ],
  },
  {
    name: "mtls12",
    made: "TLS 1.2, client certificate demanded and presented.",
    perform: (s) => s.openssl([...GCM, ...DEMANDS], ...GCM, ...s.presenting("client")),
    flows: [oneWay12("TLSv1.2", AES_GCM, { mutual: "yes", client_cert_subject: CLIENT_SUBJECT })],
  },
  {
    name: "mtls12-declined",
    made: "TLS 1.2, client certificate asked for and not given.",
    perform: (s) => s.openssl([...GCM, ...ASKS], ...GCM),
    flows: [oneWay12("TLSv1.2", AES_GCM)],
  },
  {
    name: "mtls12-missing",
    made: "TLS 1.2, client certificate demanded and not given.",
    perform: (s) => s.opensslFails([...GCM, ...DEMANDS], ...GCM),
    flows: [refused("client-cert-missing", { version: "TLSv1.2", mutual: "no", alert: 40 })],
  },
  {
    name: "mtls12-stranger",
    made: "TLS 1.2, client certificate of an authority that the server does not know.",
    perform: (s) => s.opensslFails([...GCM, ...DEMANDS], ...GCM, ...s.presenting("stranger")),
    flows: [
      refused("client-cert-untrusted", {
        ...{ version: "TLSv1.2", client_cert_subject: "CN=stranger,O=nobody", alert: 48 },
      }),
    ],
  },
  {
    name: "server-untrusted12",
    made: "TLS 1.2, a client that does not know the server's authority.",
    perform: (s) => s.opensslFails(GCM, ...GCM, "-CAfile", s.file("unknown-ca.pem")),
    flows: [refused("server-cert-untrusted", { version: "TLSv1.2", alert: 48 })],
  },
  {
    name: "server-expired12",
    made: "TLS 1.2, the server's certificate has expired.",
    perform: (s) => s.opensslFails([...GCM, ...s.presenting("expired")], ...GCM),
    flows: [
      refused("server-cert-expired", {
        ...{ alert: 45, server_cert_subject: "CN=expired.golden,O=golden" },
      }),
    ],
  },
  {
    name: "tls13",
    made: "TLS 1.3, AES-128.",
    perform: (s) => s.openssl(["-tls1_3"], "-ciphersuites", "TLS_AES_128_GCM_SHA256"),
    flows: [answered13("inferred-no", { cipher_suite: "TLS_AES_128_GCM_SHA256" })],
  },
  {
    name: "tls13-sha384",
    made: "TLS 1.3, AES-256 with SHA-384.",
    perform: (s) => s.openssl(["-tls1_3"], "-ciphersuites", "TLS_AES_256_GCM_SHA384"),
    flows: [answered13("inferred-no", { cipher_suite: "TLS_AES_256_GCM_SHA384" })],
  },
  {
    name: "tls13-chacha",
    made: "TLS 1.3, ChaCha20.",
    perform: (s) => s.openssl(["-tls1_3"], "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
    flows: [answered13("inferred-no", { cipher_suite: "TLS_CHACHA20_POLY1305_SHA256" })],
  },
  {
    name: "tls13-retry",
    made: "TLS 1.3, the server asks for another group with a HelloRetryRequest.",
    perform: (s) => s.openssl(["-groups", "P-384"], "-groups", "X25519:P-384"),
    flows: [answered13("inferred-no", { group: "secp384r1" })],
  },
  {
    name: "tls13-psk",
    made: "TLS 1.3 resumed by a ticket.",
    perform: twice(["-tls1_3"], []),
    flows: [answered13("inferred-no"), answered13("resumed", { handshake: "resumed" })],
  },
  {
    name: "tls13-external-psk",
    made: "TLS 1.3 with a key shared beforehand, over a fresh exchange.",
    perform: (s) =>
      s.openssl(["-tls1_3", "-psk", "0011223344556677", "-nocert"], "-psk", "0011223344556677"),
    flows: [answered13("resumed", { handshake: "resumed" })],
  },
  {
    name: "mtls13",
    made: "TLS 1.3, client certificate demanded and presented.",
    perform: (s) => s.openssl(["-tls1_3", ...DEMANDS], ...s.presenting("client")),
    flows: [answered13("inferred-yes")],
  },
  {
    name: "mtls13-ecdsa",
    made: "TLS 1.3, ECDSA certificates on both sides, AES-128.",
    perform: (s) =>
      s.openssl(
        ["-tls1_3", ...DEMANDS, ...s.presenting("ecdsa")],
        ...s.presenting("ecdsa"),
        "-ciphersuites",
        "TLS_AES_128_GCM_SHA256",
      ),
    flows: [answered13("inferred-yes", { cipher_suite: "TLS_AES_128_GCM_SHA256" })],
  },
  {
    name: "mtls13-declined",
    made: "TLS 1.3, client certificate asked for and not given.",
    perform: (s) => s.openssl(["-tls1_3", ...ASKS]),
    flows: [answered13("inferred-declined")],
  },
  {
    name: "mtls13-retry",
    made: "TLS 1.3, HelloRetryRequest, client certificate presented.",
    perform: (s) =>
      s.openssl(
        ["-groups", "P-256", ...DEMANDS],
        "-groups",
        "X25519:P-256",
        ...s.presenting("client"),
      ),
    flows: [answered13("inferred-yes", { group: "secp256r1" })],
  },
  {
    name: "mtls13-missing",
    made: "TLS 1.3, client certificate demanded and not given.",
    perform: (s) => s.opensslFails(["-tls1_3", ...DEMANDS]),
    flows: [refused("client-cert-missing", { version: "TLSv1.3", mutual: "inferred-declined" })],
  },
  {
    name: "mtls13-stranger",
    made: "TLS 1.3, client certificate of an authority that the server does not know.",
    perform: (s) => s.opensslFails(["-tls1_3", ...DEMANDS], ...s.presenting("stranger")),
    flows: [refused("client-cert-refused", { version: "TLSv1.3", mutual: "inferred-yes" })],
  },
  {
    name: "server-untrusted13",
    made: "TLS 1.3, a client that does not know the server's authority.",
    perform: (s) => s.opensslFails(["-tls1_3"], "-CAfile", s.file("unknown-ca.pem")),
    flows: [refused("server-cert-refused", { version: "TLSv1.3" })],
  },
  {
    name: "no-common-version",
    made: "A client of TLS 1.2 at a server of TLS 1.3.",
    perform: (s) => s.opensslFails(["-tls1_3"], "-tls1_2"),
    flows: [refused("no-common-version", { alert: 70, mutual: null })],
  },
  {
    name: "no-common-cipher",
    made: "TLS 1.2, a client and a server without a suite in common.",
    perform: (s) => s.opensslFails(GCM, "-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"),
    flows: [refused("no-common-parameters", { alert: 40 })],
  },
  {
    name: "no-common-group",
    made: "TLS 1.3, a client and a server without a group in common.",
    perform: (s) => s.opensslFails(["-tls1_3", "-groups", "P-384"], "-groups", "X25519"),
    flows: [refused("no-common-parameters", { alert: 40 })],
  },
  {
    name: "unknown-name",
    made: "A server name that the server refuses to serve.",
    perform: (s) =>
      s.opensslFails([
        "-servername",
        "other.golden",
        "-servername_fatal",
        "-cert2",
        s.certificate("server"),
        "-key2",
        s.key("server"),
      ]),
    flows: [refused("unrecognized-name", { alert: 112 })],
  },
];
