/** Makes the scene's traffic: per case the real client that is run, and what must come of it. */
import path from "node:path";
import type { Authority, Certificates } from "./certificates.ts";
import { OUTBOUND_PORT } from "./envoy.ts";
import { podOf, type Plan } from "./plan.ts";

/** `resumed`: mutual TLS, then the same session once more. */
export type Posture = "plaintext" | "tls" | "mtls" | "resumed" | "none";
/**
 * `turned-down`: the SYN was, by RST or ICMP. `silence`: no answer at all. `none`: no traffic is
 * made.
 */
export type Result = "accepted" | "refused" | "turned-down" | "silence" | "none";

/** `folder`: for what goes with the scene. */
type Place = { folder: string; certificates: Certificates; plan: Plan };

export type Client = {
  /** Id in `expectation.yaml`. */
  case: string;
  workload: string;
  /** What the client sends: the truth, known from how it is made. */
  posture: Posture;
  result: Result;
  /** Exit codes that show that result. */
  exits: readonly number[];
  /** Null where the case consists in silence. */
  command: ((place: Place) => string[]) | null;
};

const addressOf = (place: Place, workload: string) => podOf(place.plan, workload).address;

/** Through the Service's address, translated on the client's node. */
const serviceOf = (place: Place, name: string) => {
  const service = place.plan.services.find((s) => s.name === name);
  if (!service) throw new Error(`no Service ${name} with an address in the manifests`);
  return service;
};

const CURL = ["curl", "-sS", "-o", "/dev/null", "--connect-timeout", "2", "--max-time", "3"];

const plain =
  (server: string, port: number, ...more: string[]) =>
  (place: Place) => [...CURL, ...more, `http://${addressOf(place, server)}:${port}/`];

const hostOf = (server: string) => {
  const [namespace, name] = server.split("/");
  return `${name}.${namespace}.svc.cluster.local`;
};

/** TLS; the server's name is verified. `holder`: whose certificate the client brings. */
const securedBy =
  (authority: Authority) =>
  (server: string, port: number, holder: string | null, ...more: string[]) =>
  (place: Place) => {
    const host = hostOf(server);
    const { certificates } = place;
    const own = holder
      ? ["--cert", certificates.certificate(holder), "--key", certificates.key(holder)]
      : [];
    return [
      ...[...CURL, ...more, "--cacert", certificates.authority(authority), ...own],
      ...["--resolve", `${host}:${port}:${addressOf(place, server)}`, `https://${host}:${port}/`],
    ];
  };

const secured = securedBy("mesh");

/** One request by OpenSSL's client, which stays until the server closes. */
const ASK =
  `ask() { printf 'GET / HTTP/1.1\\r\\nHost: scene\\r\\nConnection: close\\r\\n\\r\\n' | ` +
  `openssl s_client -ign_eof "$@" 2>&1; }; `;
const ASK_ONCE = `${ASK} ask "$@" | grep 'HTTP/1.1 200'`;
/** `$0`: the file for the session, which goes with the scene. */
const ASK_TWICE =
  `${ASK} ask -sess_out "$0" "$@" | grep 'HTTP/1.1 200' && ` +
  `ask -sess_in "$0" "$@" | grep -z 'Reused, TLSv1.3.*HTTP/1.1 200'`;

/** Mutual TLS with the marks of an Istio sidecar: ALPN and SNI as it sets them. */
const meshed = (server: string, port: number, holder: string, script: string) => (place: Place) => {
  const { certificates } = place;
  return [
    ...["sh", "-c", script, path.join(place.folder, "session")],
    ...["-connect", `${addressOf(place, server)}:${port}`],
    ...["-servername", `outbound_.${port}_._.${hostOf(server)}`],
    ...["-alpn", "istio-peer-exchange,istio", "-CAfile", certificates.authority("mesh")],
    ...["-verify_return_error", "-verify_hostname", hostOf(server)],
    ...["-cert", certificates.certificate(holder), "-key", certificates.key(holder)],
  ];
};

/** To the client's own proxy, which takes it to the server. */
const viaProxy = () => [...CURL, "--fail", `http://127.0.0.1:${OUTBOUND_PORT}/`];

const psql = (mode: "require" | "disable", timeoutSeconds: number) => (place: Place) => [
  ...["psql", "-X", "-q", "-t", "-c", "select 1", "-d"],
  `host=${addressOf(place, "data/postgres")} user=postgres dbname=postgres sslmode=${mode} ` +
    `gssencmode=disable connect_timeout=${timeoutSeconds}`,
];

const redis =
  (port: number, ...more: (string | ((place: Place) => string))[]) =>
  (place: Place) => [
    ...["redis-cli", "-e", "-h", addressOf(place, "data/cache"), "-p", `${port}`],
    ...more.map((word) => (typeof word === "string" ? word : word(place))),
    ...["set", "basket", "3"],
  ];

const accepted = { result: "accepted", exits: [0] } as const;
const turnedDown = { result: "turned-down", exits: [7] } as const;

export const CLIENTS: readonly Client[] = [
  {
    case: "mtls13",
    workload: "shop/web",
    posture: "mtls",
    ...accepted,
    command: meshed("pay/ledger", 8443, "shop/web", ASK_ONCE),
  },
  {
    case: "mtls13-sidecar",
    workload: "shop/orders",
    posture: "mtls",
    ...accepted,
    command: viaProxy,
  },
  {
    case: "mtls12",
    workload: "shop/cart",
    posture: "mtls",
    ...accepted,
    command: meshed("pay/settlement", 8443, "shop/cart", ASK_ONCE),
  },
  {
    case: "resumed",
    workload: "shop/cart",
    posture: "resumed",
    ...accepted,
    command: meshed("pay/ledger", 8443, "shop/cart", ASK_TWICE),
  },
  {
    case: "mesh-unseen",
    workload: "shop/web",
    posture: "mtls",
    ...accepted,
    command: securedBy("own")("pay/exchange", 8443, "own/web"),
  },
  {
    case: "ambient-tunnel",
    workload: "fleet/dispatch",
    posture: "mtls",
    ...accepted,
    command: viaProxy,
  },
  {
    case: "inside-tunnel",
    workload: "fleet/dispatch",
    posture: "none",
    result: "none",
    exits: [],
    command: null,
  },
  {
    case: "plaintext-accepted",
    workload: "shop/web",
    posture: "plaintext",
    ...accepted,
    command: plain("pay/receipts", 8080),
  },
  {
    case: "plaintext-refused",
    workload: "shop/probe",
    posture: "plaintext",
    result: "refused",
    exits: [52, 56],
    command: plain("pay/ledger", 8443),
  },
  {
    case: "server-cert-expired",
    workload: "shop/cart",
    posture: "mtls",
    result: "refused",
    exits: [60],
    command: secured("pay/billing", 8443, "shop/cart", "--tls-max", "1.2"),
  },
  {
    case: "client-cert-refused",
    workload: "shop/intruder",
    posture: "mtls",
    result: "refused",
    exits: [52, 55, 56],
    command: secured("pay/ledger", 8443, "shop/intruder", "--http1.1", "--tlsv1.3"),
  },
  {
    case: "one-way-tls",
    workload: "shop/web",
    posture: "tls",
    ...accepted,
    command: secured("pay/invoices", 8443, "shop/web"),
  },
  {
    case: "denied-and-dropped",
    workload: "shop/probe",
    posture: "none",
    result: "silence",
    exits: [2],
    command: psql("disable", 4),
  },
  {
    case: "denied-by-icmp",
    workload: "shop/mailer",
    posture: "none",
    ...turnedDown,
    command: plain("shop/search", 8080),
  },
  {
    case: "denied-by-reset",
    workload: "shop/mailer",
    posture: "none",
    ...turnedDown,
    command: plain("shop/catalog", 8080),
  },
  {
    case: "closed-port",
    workload: "shop/mailer",
    posture: "none",
    ...turnedDown,
    command: plain("data/cache", 9121),
  },
  {
    case: "denied-and-accepted",
    workload: "shop/reports",
    posture: "plaintext",
    ...accepted,
    command: redis(6379),
  },
  {
    case: "nothing-declared",
    workload: "shop/mailer",
    posture: "plaintext",
    ...accepted,
    command: plain("shop/notify", 8080),
  },
  {
    case: "scan",
    workload: "shop/scanner",
    posture: "none",
    result: "refused",
    exits: [0, 7, 28],
    // Forty addresses of node-a's range, most of which no pod has, on ports where nobody listens.
    command: (place) => {
      const range = place.plan.nodes[0]!.podCidr.replace(/\d+\/\d+$/, "[10-49]");
      return [
        ...["curl", "-s", "-o", "/dev/null", "--connect-timeout", "2.5", "-Z"],
        ...["--parallel-immediate", "--parallel-max", "100", `http://${range}:{22,3389}/`],
      ];
    },
  },
  {
    case: "silent-pod",
    workload: "shop/cart",
    posture: "none",
    result: "none",
    exits: [],
    command: null,
  },
  {
    case: "no-agent",
    workload: "legacy/batch",
    posture: "plaintext",
    ...accepted,
    command: plain("legacy/mainframe", 8080),
  },
  {
    case: "masqueraded",
    workload: "legacy/courier",
    posture: "plaintext",
    ...accepted,
    command: plain("legacy/depot", 9090),
  },
  {
    case: "masqueraded-unseen",
    workload: "legacy/batch",
    posture: "plaintext",
    ...accepted,
    command: plain("legacy/depot", 9090),
  },
  {
    case: "http1-service",
    workload: "shop/web",
    posture: "plaintext",
    ...accepted,
    command: (place) => {
      const { clusterIp, port } = serviceOf(place, "shop/search");
      return [...CURL, "--fail", `http://${clusterIp}:${port}/`];
    },
  },
  {
    case: "http2-cleartext",
    workload: "shop/web",
    posture: "plaintext",
    ...accepted,
    command: plain("shop/catalog", 8080, "--http2-prior-knowledge"),
  },
  {
    case: "legacy-from-client",
    workload: "shop/web",
    posture: "plaintext",
    ...accepted,
    command: plain("legacy/mainframe", 8080),
  },
  {
    case: "postgres-upgraded",
    workload: "shop/catalog",
    posture: "tls",
    ...accepted,
    command: psql("require", 3),
  },
  {
    case: "postgres-plaintext",
    workload: "shop/reports",
    posture: "plaintext",
    ...accepted,
    command: psql("disable", 3),
  },
  {
    case: "redis-tls",
    workload: "shop/catalog",
    posture: "tls",
    ...accepted,
    command: redis(6380, "--tls", "--cacert", (place) => place.certificates.authority("mesh")),
  },
  {
    case: "redis-plaintext",
    workload: "shop/cart",
    posture: "plaintext",
    ...accepted,
    command: redis(6379),
  },
  {
    case: "dns",
    workload: "shop/web",
    posture: "plaintext",
    ...accepted,
    command: (place) => {
      const { clusterIp } = serviceOf(place, "kube-system/kube-dns");
      return [
        ...["dig", "+short", "+tries=1", "+time=2", `@${clusterIp}`],
        "ledger.pay.svc.cluster.local",
      ];
    },
  },
];
