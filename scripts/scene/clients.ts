/** Makes the scene's traffic: per case the real client that is run, and what must come of it. */
import type { Certificates } from "./certificates.ts";
import { podOf, type Plan } from "./plan.ts";

export type Posture = "plaintext" | "tls" | "mtls" | "none";
/** `silence`: no answer at all. `none`: no traffic is made. */
export type Result = "accepted" | "refused" | "silence" | "none";

type Place = { certificates: Certificates; plan: Plan };

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

/** TLS; the server's name is verified. `holder`: whose certificate the client brings. */
const secured =
  (server: string, port: number, holder: string | null, ...more: string[]) =>
  (place: Place) => {
    const [namespace, name] = server.split("/");
    const host = `${name}.${namespace}.svc.cluster.local`;
    const { certificates } = place;
    const own = holder
      ? ["--cert", certificates.certificate(holder), "--key", certificates.key(holder)]
      : [];
    return [
      ...[...CURL, ...more, "--cacert", certificates.authority("mesh"), ...own],
      ...["--resolve", `${host}:${port}:${addressOf(place, server)}`, `https://${host}:${port}/`],
    ];
  };

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

export const CLIENTS: readonly Client[] = [
  {
    case: "mtls13",
    workload: "shop/web",
    posture: "mtls",
    ...accepted,
    command: secured("pay/ledger", 8443, "shop/web", "--http1.1"),
  },
  {
    case: "mtls13-sidecar",
    workload: "shop/orders",
    posture: "mtls",
    ...accepted,
    command: () => [...CURL, "--fail", "http://127.0.0.1:15001/"],
  },
  {
    case: "mtls12",
    workload: "shop/cart",
    posture: "mtls",
    ...accepted,
    command: secured("pay/settlement", 8443, "shop/cart"),
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
