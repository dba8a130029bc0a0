/** Runs two Envoys in one: a client's sidecar and a server's, with TLS between them on the wire. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../scene/processes.ts";
import { ENVOY } from "../scene/envoy.ts";
import type { Holder, Stage } from "./stage.ts";

const TYPE = "type.googleapis.com/envoy";
const FILTERS = `${TYPE}.extensions.filters.network`;
const SOCKETS = `${TYPE}.extensions.transport_sockets.tls.v3`;

export type Sidecars = {
  server: Holder;
  /** Null: the client has none. */
  client: Holder | null;
  sni: string;
  alpn?: readonly string[];
  /** Both sides'; absent: Envoy's own, which is 1.2 of a client and 1.3 of a server. */
  version?: "TLSv1_2" | "TLSv1_3";
  groups: readonly string[];
  /** The server's policy lets somebody else in alone. */
  denies?: boolean;
  /** No application listens behind the server's sidecar. */
  down?: boolean;
  /** The client trusts another authority. */
  distrusts?: boolean;
};

const filter = (name: string, type: string, more: object) => ({
  name: `envoy.filters.network.${name}`,
  typed_config: { "@type": `${FILTERS}.${type}`, stat_prefix: "golden", ...more },
});

const onward = (cluster: string) => filter("tcp_proxy", "tcp_proxy.v3.TcpProxy", { cluster });

/** An authorization policy over TCP: by the client's SPIFFE id, at its first byte. */
const letsIn = (identity: string) =>
  filter("rbac", "rbac.v3.RBAC", {
    rules: {
      action: "ALLOW",
      policies: {
        only: {
          permissions: [{ any: true }],
          principals: [{ authenticated: { principal_name: { exact: identity } } }],
        },
      },
    },
  });

const cluster = (name: string, address: object, more: object = {}) => ({
  ...{ name, type: "STATIC", connect_timeout: "2s" },
  load_assignment: {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
  },
  ...more,
});

function context(stage: Stage, settings: Sidecars, holder: Holder | null, trusts: string): object {
  const { alpn = [], version, groups } = settings;
  const bounds = { tls_minimum_protocol_version: version, tls_maximum_protocol_version: version };
  const own = (of: Holder) => ({
    certificate_chain: { filename: stage.certificate(of) },
    private_key: { filename: stage.key(of) },
  });
  return {
    alpn_protocols: alpn,
    tls_params: { ecdh_curves: groups, ...(version ? bounds : {}) },
    tls_certificates: holder ? [own(holder)] : [],
    validation_context: { trusted_ca: { filename: stage.file(`${trusts}-ca.pem`) } },
  };
}

const socket = (type: "DownstreamTlsContext" | "UpstreamTlsContext", more: object) => ({
  name: "envoy.transport_sockets.tls",
  typed_config: { "@type": `${SOCKETS}.${type}`, ...more },
});

/** Applications reach their sidecars over sockets of the file system, so TLS is all on the wire. */
function configuration(stage: Stage, settings: Sidecars): string {
  const wire = { socket_address: { address: "127.0.0.1", port_value: stage.port } };
  // Nobody listens on the discard port (RFC 863): the refusal takes the loopback's time to come.
  const nobody = { socket_address: { address: "127.0.0.1", port_value: 9 } };
  const inbound = {
    address: wire,
    filter_chains: [
      {
        filters: [
          ...(settings.denies ? [letsIn("spiffe://golden.example/ns/test/sa/other")] : []),
          onward("application"),
        ],
        transport_socket: socket("DownstreamTlsContext", {
          require_client_certificate: true,
          common_tls_context: context(stage, settings, settings.server, "golden"),
        }),
      },
    ],
  };
  const trusts = settings.distrusts ? "unknown" : "golden";
  const toServer = {
    transport_socket: socket("UpstreamTlsContext", {
      sni: settings.sni,
      common_tls_context: context(stage, settings, settings.client, trusts),
    }),
  };
  const application = settings.down ? nobody : { pipe: { path: stage.file("application.sock") } };
  const outbound = {
    address: { pipe: { path: stage.file("outbound.sock") } },
    filter_chains: [{ filters: [onward("server")] }],
  };
  return JSON.stringify({
    static_resources: {
      listeners: [inbound, outbound],
      clusters: [cluster("application", application), cluster("server", wire, toServer)],
    },
  });
}

/** Sends a line through the client's sidecar, or none; resolves to what came back. */
async function speak(stage: Stage, line: string): Promise<string> {
  const client = connect(stage.file("outbound.sock"));
  let said = "";
  client.on("data", (bytes: Buffer) => (said += bytes.toString("latin1")));
  client.on("error", () => {});
  await once(client, "connect");
  if (line === "") await sleep(400);
  else client.write(line);
  if (line !== "") await until("an answer, or the end", 3000, () => said !== "" || client.closed);
  client.end();
  await until("the client's sidecar ends", 3000, () => client.closed);
  await sleep(50);
  return said;
}

/** Starts both sidecars, and an application that answers lines, while the client acts. */
export async function besideEnvoy(
  stage: Stage,
  settings: Sidecars,
  act: () => Promise<void>,
): Promise<void> {
  const application = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.write("olleh\n"));
  });
  application.listen(stage.file("application.sock"));
  try {
    const config = stage.write("envoy.json", configuration(stage, settings));
    await stage.serve([
      ...[ENVOY, "-c", config, "--disable-hot-restart", "--concurrency", "1"],
      ...["--log-level", "error"],
    ]);
    await act();
  } finally {
    application.close();
  }
}

/**
 * Has a client say each of the lines over a connection of its own. Whether the application answers
 * must be as is said.
 */
export const throughEnvoy = (
  stage: Stage,
  settings: Sidecars,
  answers: boolean,
  lines: readonly string[] = ["hello\n"],
): Promise<void> =>
  besideEnvoy(stage, settings, async () => {
    for (const line of lines) {
      const answered = (await speak(stage, line)) === "olleh\n";
      if (answered !== answers) throw new Error(`the application answered: ${answered}`);
    }
  });
