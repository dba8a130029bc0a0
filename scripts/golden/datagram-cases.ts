/** Lists the golden captures over UDP: QUIC that aioquic plays, DTLS between OpenSSL and GnuTLS. */
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Case, Holder, Stage, Truth } from "./stage.ts";

const QUIC = path.join(import.meta.dirname, "quic.py");
const ALPN = "golden/1";

/** TLS inside QUIC is always 1.3; certificates and the chosen ALPN are encrypted. */
const quic = (more: Truth = {}): Truth => ({
  ...{ protocol: "quic", encryption: "quic", state: "established", handshake: "complete" },
  ...{ accepted: null, failure: null, version: "TLSv1.3", sni: "server.golden", alpn: null },
  ...{ mutual: null, server_cert_subject: null },
  ...more,
});

const dtls = (more: Truth = {}): Truth => ({
  ...{ protocol: "dtls", encryption: "dtls", state: "established", handshake: "complete" },
  ...{ accepted: true, failure: null, version: "DTLSv1.2", mutual: "no", sni: "server.golden" },
  ...{ server_cert_subject: "CN=server.golden,O=golden", client_cert_subject: null },
  ...more,
});

const refused = (failure: string, more: Truth = {}): Truth =>
  dtls({ handshake: "failed", accepted: false, failure, ...more });

/** One exchange; `first` is the version of the client's first packet, `wanted` all it offers. */
async function askQuic(
  stage: Stage,
  alpn: string,
  first: string,
  wanted: string,
  ...options: string[]
): Promise<string> {
  const python = process.env["GOLDEN_PYTHON"] ?? "python3";
  const credentials = [stage.certificate("server"), stage.key("server")];
  const server = [python, QUIC, "serve", String(stage.port), ...credentials, ALPN, ...options];
  await stage.serveDatagrams(server);
  const client = [python, QUIC, "ask", String(stage.port), stage.file("golden-ca.pem"), alpn];
  const said = await stage.talk([...client, first, wanted]);
  await sleep(100);
  return said;
}

async function answeredQuic(
  stage: Stage,
  first: string,
  wanted = first,
  ...options: string[]
): Promise<void> {
  const said = await askQuic(stage, ALPN, first, wanted, ...options);
  if (!said.includes("olleh")) throw new Error(`not answered: ${said}`);
}

/** GnuTLS's server, which echoes, and OpenSSL's client. */
async function serveDtls(stage: Stage, asks: string, priority = "NORMAL"): Promise<void> {
  await stage.serveDatagrams([
    ...["gnutls-serv", "--udp", "--echo", "-q", "-p", String(stage.port), asks],
    ...["--x509certfile", stage.certificate("server"), "--x509keyfile", stage.key("server")],
    ...["--x509cafile", stage.file("golden-ca.pem"), "--priority", priority],
  ]);
}

const dtlsClient = (stage: Stage, version: string, more: readonly string[]): string[] => [
  ...["openssl", "s_client", version, "-connect", `127.0.0.1:${stage.port}`],
  ...["-servername", "server.golden", "-CAfile", stage.file("golden-ca.pem"), ...more],
];

async function answeredDtls(stage: Stage, version: string, ...more: string[]): Promise<void> {
  await stage.talk(dtlsClient(stage, version, more), [["hello\n", "hello"]], "Q\n");
  await sleep(100);
}

/** OpenSSL on both sides: GnuTLS's server drops a client over UDP without a word. */
async function refusedDtls(stage: Stage, holder: Holder | null): Promise<void> {
  const credentials = ["-cert", stage.certificate("server"), "-key", stage.key("server")];
  await stage.serveDatagrams([
    ...["openssl", "s_server", "-dtls1_2", "-accept", `127.0.0.1:${stage.port}`, "-quiet"],
    ...[...credentials, "-CAfile", stage.file("golden-ca.pem"), "-naccept", "3"],
    ...["-Verify", "1", "-verify_return_error"],
  ]);
  const presented = holder === null ? [] : stage.presenting(holder);
  const said = await stage.talk(dtlsClient(stage, "-dtls1_2", presented));
  if (!said.includes("alert")) throw new Error(`not refused: ${said}`);
}

/** Chromium, whose hello also has a post-quantum key share; it trusts the server's public key. */
async function askWithChromium(stage: Stage): Promise<void> {
  const python = process.env["GOLDEN_PYTHON"] ?? "python3";
  const credentials = [stage.certificate("server"), stage.key("server")];
  await stage.serveDatagrams([python, QUIC, "serve", String(stage.port), ...credentials, "h3"]);
  const der = new X509Certificate(readFileSync(stage.certificate("server"))).publicKey.export({
    ...({ type: "spki", format: "der" } as const),
  });
  const spki = createHash("sha256").update(der).digest("base64");
  const place = `server.golden:${stage.port}`;
  await stage.talk([
    ...["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--timeout=1500"],
    ...[`--user-data-dir=${stage.file("chromium")}`, `--origin-to-force-quic-on=${place}`],
    ...["--host-resolver-rules=MAP server.golden 127.0.0.1"],
    ...[`--ignore-certificate-errors-spki-list=${spki}`, "--dump-dom", `https://${place}/`],
  ]);
}

const AIOQUIC = ["python3"];
const GNUTLS = ["gnutls-serv"];
const DEMANDS = "--require-client-cert";

export const DATAGRAM_CASES: readonly Case[] = [
  {
    name: "quic",
    made: "QUIC version 1 with aioquic, answered.",
    needs: AIOQUIC,
    perform: (s) => answeredQuic(s, "1"),
    flows: [quic()],
  },
  {
    name: "quic-v2",
    made: "QUIC version 2 from the first packet on.",
    needs: AIOQUIC,
    perform: (s) => answeredQuic(s, "2"),
    flows: [quic()],
  },
  {
    name: "quic-v1-to-v2",
    made: "A client that begins with version 1, and a server that goes on with version 2.",
    needs: AIOQUIC,
    perform: (s) => answeredQuic(s, "1", "2,1"),
    flows: [quic()],
  },
  {
    name: "quic-retry",
    made: "QUIC behind a Retry: the second Initial has a token and another connection id.",
    needs: AIOQUIC,
    perform: (s) => answeredQuic(s, "1", "1", "retry"),
    flows: [quic()],
  },
  {
    name: "quic-alpn-mismatch",
    made: "A QUIC client that offers only ALPN names which the server does not know.",
    needs: AIOQUIC,
    perform: async (s) => {
      const said = await askQuic(s, "other/1", "1", "1");
      if (!said.includes("failed")) throw new Error(`answered all the same: ${said}`);
    },
    flows: [
      {
        ...{ protocol: "quic", encryption: "quic", handshake: "failed", accepted: false },
        ...{ failure: "no-common-alpn", alert: 120, sni: "server.golden" },
      },
    ],
  },
  {
    name: "quic-chromium",
    made: "Chromium's hello: it spans two datagrams, in pieces that it puts out of order.",
    needs: [...AIOQUIC, "chromium"],
    perform: askWithChromium,
    flows: [quic({ group: "x25519" })],
  },
  {
    name: "dtls12",
    made: "DTLS 1.2: OpenSSL's client, GnuTLS's server, which asks for no certificate.",
    needs: GNUTLS,
    perform: async (s) => {
      await serveDtls(s, "--disable-client-cert");
      await answeredDtls(s, "-dtls1_2");
    },
    flows: [dtls()],
  },
  {
    name: "dtls10",
    made: "DTLS 1.0 between the same.",
    needs: GNUTLS,
    perform: async (s) => {
      await serveDtls(s, "--disable-client-cert", "NORMAL:+VERS-DTLS1.0:+SHA1");
      await answeredDtls(s, "-dtls1", "-cipher", "DEFAULT:@SECLEVEL=0");
    },
    flows: [dtls({ version: "DTLSv1.0" })],
  },
  {
    name: "dtls12-mutual",
    made: "DTLS 1.2 with a client certificate.",
    needs: GNUTLS,
    perform: async (s) => {
      await serveDtls(s, DEMANDS);
      await answeredDtls(s, "-dtls1_2", ...s.presenting("client"));
    },
    flows: [
      dtls({ mutual: "yes", client_cert_subject: "CN=client,OU=payments\\, north,O=golden" }),
    ],
  },
  {
    name: "dtls12-missing",
    made: "DTLS 1.2, a client certificate demanded and not given.",
    perform: (s) => refusedDtls(s, null),
    flows: [refused("client-cert-missing", { mutual: "no" })],
  },
  {
    name: "dtls12-stranger",
    made: "DTLS 1.2, a client certificate of an unknown authority.",
    perform: (s) => refusedDtls(s, "stranger"),
    flows: [
      refused("client-cert-untrusted", {
        ...{ mutual: "yes", client_cert_subject: "CN=stranger,O=nobody" },
      }),
    ],
  },
];
