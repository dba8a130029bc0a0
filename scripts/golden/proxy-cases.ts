/** Lists the golden captures of meshes' proxies: Envoy as the sidecar of Istio, and of Consul. */
import { ENVOY } from "../scene/envoy.ts";
import { plain, send, tls13 } from "./acts.ts";
import { besideEnvoy, throughEnvoy } from "./envoy.ts";
import type { Sidecars } from "./envoy.ts";
import { CONSUL } from "./stage.ts";
import type { Case, Truth } from "./stage.ts";

/** As istiod configures them: ALPN of the metadata exchange, SNI of the service. */
const ISTIO: Sidecars = {
  ...{ server: "server", client: "client", version: "TLSv1_3", groups: ["X25519"] },
  sni: "outbound_.8080_._.ledger.pay.svc.cluster.local",
  alpn: ["istio-peer-exchange", "istio"],
};
const ISTIO_TRUTH: Truth = { mesh: "istio", sni: ISTIO.sni };

const istio = (mutual: string | null, more: Truth = {}): Truth =>
  tls13({ ...ISTIO_TRUTH, group: "x25519", mutual, ...more });

const refused = (failure: string, more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", handshake: "failed", accepted: false, failure },
  ...more,
});

/** Only tickets came and the end: whether it was let in is not on the wire. */
const NO_ANSWER: Truth = { accepted: null, answered: false };

/** As Consul's agent configures them: versions are Envoy's own. */
const CONSULS: Sidecars = {
  ...{ server: "web", client: "api", groups: ["X25519", "P-256"] },
  sni: `web.default.dc1.internal.${CONSUL}`,
};

const consul = (more: Truth = {}): Truth => ({
  ...{ protocol: "tls", encryption: "tls", handshake: "complete", accepted: true, failure: null },
  ...{ version: "TLSv1.2", group: "x25519", sni: CONSULS.sni, mesh: "consul", mutual: "yes" },
  client_cert_subject: "CN=api.svc.default.5b0d6f3e.consul",
  server_cert_subject: "CN=web.svc.default.5b0d6f3e.consul",
  ...more,
});

const needs = [ENVOY];

export const PROXY_CASES: readonly Case[] = [
  {
    name: "envoy-istio",
    made: "Envoy as Istio's sidecar on both sides, mutual TLS over a hybrid group, answered.",
    needs,
    perform: (s) => throughEnvoy(s, { ...ISTIO, groups: ["X25519MLKEM768"] }, true),
    flows: [istio("inferred-yes", { group: "X25519MLKEM768" })],
  },
  {
    name: "envoy-istio-resumed",
    made: "Envoy as Istio's sidecar, a second connection with the session of the first.",
    needs,
    perform: (s) => throughEnvoy(s, ISTIO, true, ["hello\n", "hello\n"]),
    flows: [istio("inferred-yes"), istio("resumed", { handshake: "resumed" })],
  },
  {
    name: "envoy-istio-denied",
    made: "Envoy as Istio's sidecar, its policy over TCP denies the client at its first byte.",
    needs,
    perform: (s) => throughEnvoy(s, { ...ISTIO, denies: true }, false),
    flows: [istio("inferred-yes", NO_ANSWER)],
  },
  {
    name: "envoy-istio-silent",
    made: "Envoy as Istio's sidecar, the client leaves without a word.",
    needs,
    perform: (s) => throughEnvoy(s, ISTIO, false, [""]),
    // A flight in one record counts as whole once the server went on before the client left.
    flows: [istio(null, NO_ANSWER)],
  },
  {
    name: "envoy-istio-down",
    made: "Envoy as Istio's sidecar, nobody listens behind the server's.",
    needs,
    perform: (s) => throughEnvoy(s, { ...ISTIO, down: true }, false),
    flows: [refused("server-aborted", { ...ISTIO_TRUTH, mutual: null })],
  },
  {
    name: "envoy-istio-stranger",
    made: "Envoy as Istio's sidecar, client certificate of an authority the server does not know.",
    needs,
    perform: (s) => throughEnvoy(s, { ...ISTIO, client: "stranger" }, false),
    flows: [refused("client-cert-refused", { ...ISTIO_TRUTH, mutual: "inferred-yes" })],
  },
  {
    name: "envoy-istio-missing",
    made: "Envoy as Istio's sidecar, a client without a certificate.",
    needs,
    perform: (s) => throughEnvoy(s, { ...ISTIO, client: null }, false),
    flows: [refused("client-cert-missing", { ...ISTIO_TRUTH, mutual: "inferred-declined" })],
  },
  {
    name: "envoy-istio-distrusted",
    made: "Envoy as Istio's sidecar, the client does not know the server's authority.",
    needs,
    perform: (s) => throughEnvoy(s, { ...ISTIO, distrusts: true }, false),
    flows: [refused("server-cert-refused", { ...ISTIO_TRUTH, mutual: null })],
  },
  {
    name: "envoy-istio-plaintext",
    made: "A request in plaintext to Envoy as Istio's sidecar under STRICT.",
    needs,
    perform: (s) =>
      besideEnvoy(s, ISTIO, async () => {
        const said = await send(s.port, "GET / HTTP/1.1\r\nHost: ledger.pay\r\n\r\n");
        if (said !== "") throw new Error(`answered: ${said}`);
      }),
    flows: [{ ...plain("http", false), failure: "plaintext-refused" }],
  },
  {
    name: "envoy-consul-resumed",
    made: "Envoy as Consul's, TLS 1.2, a second connection with the session of the first.",
    needs,
    perform: (s) => throughEnvoy(s, CONSULS, true, ["hello\n", "hello\n"]),
    flows: [consul(), consul({ handshake: "resumed", mutual: "resumed", group: null })],
  },
  {
    name: "envoy-consul-denied",
    made: "Envoy as Consul's, TLS 1.2, an intention denies the client at its first byte.",
    needs,
    perform: (s) => throughEnvoy(s, { ...CONSULS, denies: true }, false),
    flows: [consul(NO_ANSWER)],
  },
];
