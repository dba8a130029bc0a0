/** Configures the scene's servers: for each workload, the real programs that run in its pod. */
import { mkdirSync, writeFileSync, chmodSync, chownSync } from "node:fs";
import path from "node:path";
import type { Authority, Certificates } from "./certificates.ts";
import { ENVOY, HBONE_PORT, sidecar, strictServer, tunnelClient, tunnelServer } from "./envoy.ts";
import { podOf, type Plan } from "./plan.ts";
import { mustRun } from "./processes.ts";

/** What a server may use: a folder of its own, the certificates, everybody's address. */
type Place = { folder: string; certificates: Certificates; plan: Plan };

export type Server = {
  workload: string;
  /** TCP ports that answer once it is up; a resolver answers TCP as well. */
  ports: readonly number[];
  /** Writes the configuration; returns the command. */
  prepare: (place: Place) => string[] | Promise<string[]>;
};

function write(place: Place, name: string, text: string): string {
  const file = path.join(place.folder, name);
  writeFileSync(file, text);
  return file;
}

const envoy = (place: Place, config: string) => [
  ...[ENVOY, "-c", write(place, "envoy.json", config), "--concurrency", "1"],
  ...["--disable-hot-restart", "-l", "warning"],
];

/** One process, in the foreground; `listen` and what follows it. */
const nginx =
  (listen: string, more: (place: Place) => string[] = () => []) =>
  (place: Place) => {
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (kind) => `${kind}_temp_path ${place.folder};`,
    );
    const config = [
      "daemon off; master_process off; user root;",
      `pid ${place.folder}/pid; error_log stderr;`,
      "events { worker_connections 64; }",
      `http { access_log off; ${temporary.join(" ")}`,
      `server { listen ${listen}; ${more(place).join(" ")} return 200 "done\\n"; } }`,
    ];
    return [
      ...["nginx", "-p", place.folder, "-e", "stderr"],
      ...["-c", write(place, "nginx.conf", `${config.join("\n")}\n`)],
    ];
  };

/** Refuses in the handshake whoever brings no certificate of the authority. */
const haproxy =
  (holder: string, port: number, more: string, authority: Authority = "mesh") =>
  (place: Place) => {
    const { certificates } = place;
    const config = [
      "global",
      "  maxconn 64",
      "defaults",
      "  mode http",
      "  timeout connect 2s",
      "  timeout client 5s",
      "  timeout server 5s",
      "frontend scene",
      `  bind :${port} ssl crt ${certificates.both(holder)} ` +
        `ca-file ${certificates.authority(authority)} verify required ${more}`,
      '  http-request return status 200 content-type text/plain string "done"',
    ];
    return ["haproxy", "-db", "-f", write(place, "haproxy.cfg", `${config.join("\n")}\n`)];
  };

/** Plaintext on 6379, its own one-way TLS on 6380. */
function redis(place: Place): string[] {
  const { certificates } = place;
  return [
    ...["redis-server", "--port", "6379", "--tls-port", "6380", "--save", "", "--dir"],
    ...[place.folder, "--protected-mode", "no", "--bind", "0.0.0.0", "--tls-auth-clients", "no"],
    ...["--tls-cert-file", certificates.certificate("data/cache")],
    ...["--tls-key-file", certificates.key("data/cache")],
    ...["--tls-ca-cert-file", certificates.authority("mesh")],
  ];
}

const POSTGRES = "/usr/lib/postgresql";

/** Takes both: plaintext, and the upgrade to TLS by SSLRequest. Refuses to run as root. */
async function postgres(place: Place): Promise<string[]> {
  const [version] = (await mustRun(["ls", POSTGRES])).trim().split("\n").reverse();
  const bin = path.join(POSTGRES, version!, "bin");
  const user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];
  const [uid, gid] = (await mustRun(["sh", "-c", "id -u postgres; id -g postgres"]))
    .trim()
    .split("\n")
    .map(Number);
  chownSync(place.folder, uid!, gid!);
  const data = path.join(place.folder, "data");
  const { certificates } = place;
  for (const file of [certificates.certificate("data/postgres"), certificates.key("data/postgres")])
    chownSync(file, uid!, gid!);
  chmodSync(certificates.key("data/postgres"), 0o600);
  await mustRun([
    ...[...user, `${bin}/initdb`, "-D", data, "-U", "postgres", "-A", "trust"],
    ...["--no-sync", "--locale=C"],
  ]);
  writeFileSync(path.join(data, "pg_hba.conf"), "host all all 0.0.0.0/0 trust\n");
  const set = (name: string, value: string) => ["-c", `${name}=${value}`];
  return [
    ...[...user, `${bin}/postgres`, "-D", data],
    ...set("listen_addresses", "0.0.0.0"),
    ...set("unix_socket_directories", ""),
    ...set("fsync", "off"),
    ...set("shared_buffers", "16MB"),
    ...set("ssl", "on"),
    ...set("ssl_cert_file", certificates.certificate("data/postgres")),
    ...set("ssl_key_file", certificates.key("data/postgres")),
  ];
}

/** Answers for the Services of the plan. */
function unbound(place: Place): string[] {
  const config = [
    "server:",
    "  do-daemonize: no",
    '  username: ""',
    '  chroot: ""',
    `  directory: "${place.folder}"`,
    '  pidfile: ""',
    "  use-syslog: no",
    "  num-threads: 1",
    "  interface: 0.0.0.0",
    "  do-ip6: no",
    "  access-control: 0.0.0.0/0 allow",
    '  module-config: "iterator"',
    '  local-zone: "cluster.local." static',
    ...place.plan.services.map((service) => {
      const [namespace, name] = service.name.split("/");
      return `  local-data: "${name}.${namespace}.svc.cluster.local. IN A ${service.clusterIp}"`;
    }),
    "remote-control:",
    "  control-enable: no",
  ];
  return ["unbound", "-d", "-c", write(place, "unbound.conf", `${config.join("\n")}\n`)];
}

const oneWay = (holder: string) => (place: Place) => [
  `ssl_certificate ${place.certificates.certificate(holder)};`,
  `ssl_certificate_key ${place.certificates.key(holder)};`,
  "ssl_protocols TLSv1.3; ssl_session_tickets off;",
];

const TLS12 = "ssl-max-ver TLSv1.2 no-tls-tickets";

export const SERVERS: readonly Server[] = [
  {
    workload: "pay/ledger",
    ports: [8443],
    prepare: (place) => envoy(place, strictServer(place.certificates, "pay/ledger", 8443)),
  },
  {
    workload: "shop/orders",
    ports: [],
    prepare: (place) =>
      envoy(
        place,
        sidecar(place.certificates, "shop/orders", {
          address: podOf(place.plan, "pay/ledger").address,
          port: 8443,
          sni: "outbound_.8443_._.ledger.pay.svc.cluster.local",
        }),
      ),
  },
  { workload: "pay/settlement", ports: [8443], prepare: haproxy("pay/settlement", 8443, TLS12) },
  { workload: "pay/billing", ports: [8443], prepare: haproxy("pay/billing", 8443, TLS12) },
  { workload: "pay/vault", ports: [8200], prepare: haproxy("pay/vault", 8200, "") },
  {
    workload: "pay/exchange",
    ports: [8443],
    prepare: haproxy("pay/exchange", 8443, "ssl-min-ver TLSv1.3", "own"),
  },
  {
    workload: "pay/invoices",
    ports: [8443],
    prepare: nginx("8443 ssl", oneWay("pay/invoices")),
  },
  { workload: "pay/receipts", ports: [8080], prepare: nginx("8080") },
  { workload: "shop/catalog", ports: [8080], prepare: nginx("8080 http2") },
  { workload: "shop/search", ports: [8080], prepare: nginx("8080") },
  { workload: "shop/notify", ports: [8080], prepare: nginx("8080") },
  { workload: "legacy/mainframe", ports: [8080], prepare: nginx("8080") },
  { workload: "legacy/depot", ports: [9090], prepare: nginx("9090") },
  {
    workload: "fleet/tracker",
    ports: [8080, HBONE_PORT],
    prepare: (place) => envoy(place, tunnelServer(place.certificates, "fleet/tracker", 8080)),
  },
  {
    workload: "fleet/dispatch",
    ports: [],
    prepare: (place) => {
      const server = { address: podOf(place.plan, "fleet/tracker").address, port: 8080 };
      return envoy(place, tunnelClient(place.certificates, "fleet/dispatch", server));
    },
  },
  { workload: "data/cache", ports: [6379, 6380], prepare: redis },
  { workload: "data/postgres", ports: [5432], prepare: postgres },
  { workload: "kube-system/coredns", ports: [53], prepare: unbound },
];

/** Prepares one server in its folder; returns its command. */
export async function prepareServer(
  server: Server,
  folder: string,
  certificates: Certificates,
  plan: Plan,
): Promise<string[]> {
  const own = path.join(folder, server.workload.replace("/", "-"));
  mkdirSync(own, { recursive: true });
  return server.prepare({ folder: own, certificates, plan });
}
