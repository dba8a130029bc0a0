/** Turns one-liners into what agents send, for tests of verdicts and of the judge. */
import {
  toClusterObject,
  type ClusterObject,
  type JsonMap,
} from "../collector/attribution/cluster-object.ts";
import type { Coverage } from "../protocol/coverage.ts";
import { CLIENT_BASES } from "../protocol/flow-record.ts";
import type { Flow } from "../protocol/flow-record.ts";
import type { Observation } from "../protocol/observation.ts";

/** Pods by name: address, node, namespace, one port. `twin-1` and `twin-2` are one workload. */
export const PODS = {
  web: { ip: "10.0.0.1", node: "a", namespace: "shop", port: 8080 },
  cart: { ip: "10.0.0.2", node: "a", namespace: "shop", port: 8080 },
  ledger: { ip: "10.0.1.1", node: "b", namespace: "pay", port: 8443 },
  "twin-1": { ip: "10.0.1.2", node: "b", namespace: "pay", port: 8443 },
  "twin-2": { ip: "10.0.1.3", node: "b", namespace: "pay", port: 8443 },
} as const;
export type PodName = keyof typeof PODS;
export const SERVICES = { "ledger-svc": "10.96.0.1", "twin-svc": "10.96.0.2" } as const;
/** In the pods' network, and nobody's. */
export const NOBODY = "10.0.9.9";

const manifest = (body: unknown) => toClusterObject(body as JsonMap, null)!;

/** The cluster that the pods and Services above make. */
export function clusterObjects(): ClusterObject[] {
  const nodes = ["a", "b"].map((name) =>
    manifest({
      ...{ apiVersion: "v1", kind: "Node", metadata: { name } },
      ...{ spec: { podCIDR: "10.0.0.0/16" }, status: { addresses: [] } },
    }),
  );
  const pods = Object.entries(PODS).map(([name, { ip, node, namespace, port }]) => {
    const app = name.replace(/-\d$/, "");
    const ownerReferences =
      app === name ? [] : [{ kind: "StatefulSet", name: app, controller: true }];
    return manifest({
      ...{ apiVersion: "v1", kind: "Pod" },
      metadata: { name, namespace, uid: `uid-${name}`, labels: { app }, ownerReferences },
      spec: { nodeName: node, containers: [{ name: "c", ports: [{ containerPort: port }] }] },
      status: { podIP: ip, podIPs: [{ ip }] },
    });
  });
  const services = Object.entries(SERVICES).map(([name, clusterIP]) =>
    manifest({
      ...{ apiVersion: "v1", kind: "Service", metadata: { name, namespace: "pay" } },
      spec: {
        ...{ clusterIP, selector: { app: name.replace("-svc", "") } },
        ports: [{ port: 443, targetPort: 8443, protocol: "TCP" }],
      },
    }),
  );
  return [...nodes, ...pods, ...services];
}

const NO_TLS = {
  ...{ cipher_suite: null, group: null, sni: null, alpn: null, alpn_offered: [], ja3: null },
  ...{ ja3s: null, ja4: null, client_cert: null, server_cert_subject: null, server_cert: null },
  ...{ client_cert_subject: null, client_certificate: null, mesh: null },
};
const negotiated = (version: string, cipher_suite: string, group: string | null) => ({
  ...{ encryption: "tls" as const, protocol: "tls" as const },
  tls: { ...NO_TLS, version, cipher_suite, group, mutual: "yes" as const },
});
const tls = (version: string, mutual: NonNullable<Flow["tls"]>["mutual"]) => ({
  ...{ encryption: "tls" as const, protocol: "tls" as const },
  tls: { ...NO_TLS, version, mutual },
});

/** What the bytes were, by the word of the notation. */
const POSTURES: Record<string, Partial<Flow>> = {
  quiet: { encryption: "none" },
  plain: { encryption: "plaintext", protocol: "http" },
  ssh: { encryption: "encrypted-other", protocol: "ssh" },
  "not-tls": { encryption: "unknown", notes: ["not-tls"] },
  bytes: { encryption: "unknown" },
  tls: tls("TLSv1.2", "no"),
  "tls?": tls("TLSv1.3", "inferred-no"),
  "tls-empty?": tls("TLSv1.3", "inferred-declined"),
  "tls1.0": tls("TLSv1.0", "no"),
  mtls: {
    ...{ encryption: "tls", protocol: "tls" },
    tls: { ...NO_TLS, version: "TLSv1.2", mutual: "yes", mesh: "istio" },
  },
  "mtls?": tls("TLSv1.3", "inferred-yes"),
  resumed: tls("TLSv1.3", "resumed"),
  meshed: {
    ...{ encryption: "tls", protocol: "tls" },
    tls: { ...NO_TLS, version: "TLSv1.3", mutual: "inferred-yes", mesh: "istio" },
  },
  null: negotiated("TLSv1.2", "TLS_RSA_WITH_NULL_SHA256", null),
  anon: negotiated("TLSv1.2", "TLS_DH_anon_WITH_AES_128_CBC_SHA", null),
  integrity: negotiated("TLSv1.3", "TLS_SHA256_SHA256", "secp256r1"),
  pq: negotiated("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768"),
  "3des": negotiated("TLSv1.2", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", null),
  unread: tls("TLSv1.3", null),
};

/** How it ended. `refused=CODE` names a failure of the server's, `left=CODE` one of the client's. */
const OUTCOMES: Record<string, Partial<Flow>> = {
  accepted: { state: "closed", accepted: true },
  open: { state: "established" },
  rst: { state: "refused", refused_by: "rst" },
  unreachable: { state: "refused", refused_by: "icmp-host-unreachable" },
  "no-port": { state: "refused", refused_by: "icmp-port-unreachable" },
  prohibited: { state: "refused", refused_by: "icmp-admin-prohibited" },
  untold: { state: "refused" },
  syn: { state: "attempted", packets: [1, 0] },
  silent: { state: "unanswered", packets: [4, 0] },
  "client-rst": { state: "reset", packets: [2, 0] },
  unasked: { state: "reset", packets: [1, 1], history: "sR" },
};

export type Seen = { node: string; observation: Observation };

let serial = 0;

/**
 * `web > ledger mtls? accepted`: client, server, what the bytes were, how it ended; and as wanted
 * `@c` or `@s` (seen at one end only), `@up` (at both nodes' uplinks, too), `@only-up`,
 * `@snat` (at an uplink under the node's address, too), `basis=BASIS` (by what the client is named;
 * else a SYN), `unasked` (it reset a SYN-ACK, and that is all), `one-way` (the agent says that it went on
 * and one side did not pass), `mid`, `live`, `udp`, `sctp`, `c-only`, `s-only`, `via=SERVICE`,
 * `+N` (starts N seconds into the window), `isn=N`, `answer=N` (the server's), `sport=N`, `port=N`, `sampling=N`, `xN`
 * (so many of it).
 */
export function seen(line: string, fromMs: number): Seen[] {
  const [client, arrow, server, ...words] = line.split(" ");
  if (arrow !== ">") throw new Error(`no connection: ${line}`);
  const times = Number(words.find((w) => /^x\d+$/.test(w))?.slice(1) ?? 1);
  const rest = words.filter((w) => !/^x\d+$/.test(w));
  return Array.from({ length: times }, () => one(client!, server!, rest, fromMs)).flat();
}

function addressOf(name: string): string {
  return name in PODS ? PODS[name as PodName].ip : name;
}

function one(client: string, server: string, words: readonly string[], fromMs: number): Seen[] {
  serial++;
  const value = (name: string) => words.find((w) => w.startsWith(name))?.slice(name.length);
  const has = (word: string) => words.includes(word);
  const startMs = fromMs + Number(value("+") ?? 1) * 1000;
  const proto = has("udp") ? "udp" : has("sctp") ? "sctp" : "tcp";
  const isn = Number(value("isn=") ?? serial);
  const record: Flow = {
    start: new Date(startMs).toISOString(),
    end: new Date(startMs + 1500).toISOString(),
    proto,
    ...{ src_ip: addressOf(client), src_port: Number(value("sport=") ?? 20_000 + serial) },
    ...{ dst_ip: addressOf(server), dst_port: Number(value("port=") ?? 8443) },
    ...{ client_basis: "syn", encap: [], packets: [5, 4], bytes: [500, 400], state: "established" },
    ...{ midstream: false, protocol: null, encryption: "none", upgraded_from: null },
    ...{ handshake: null, failure: null, accepted: null, tls: null, history: "", findings: [] },
    notes: [],
  };
  const isKnown = (word: string) =>
    /^(@([cs]|up|only-up|snat)|one-way|mid|live|udp|sctp|[cs]-only|(via|isn|answer|port|sport|sampling|refused|left|basis)=.+|\+-?[\d.]+)$/.test(
      word,
    );
  for (const word of words) {
    if (word in POSTURES) Object.assign(record, POSTURES[word]);
    else if (word in OUTCOMES) Object.assign(record, OUTCOMES[word]);
    else if (!isKnown(word)) throw new Error(`unknown word: ${word}`);
  }
  for (const [word, side] of [
    ["refused=", "server"],
    ["left=", "client"],
  ] as const) {
    const code = value(word);
    if (code === undefined) continue;
    const how = { side, basis: "close", alert: null, confidence: "certain" } as const;
    Object.assign(record, { state: "closed", accepted: false, failure: { code, ...how } });
  }
  if (has("mid")) record.midstream = true;
  const basis = CLIENT_BASES.find((b) => b === value("basis="));
  if (basis) record.client_basis = basis;
  if (has("c-only")) Object.assign(record, { packets: [5, 0], state: "attempted", accepted: null });
  if (has("s-only")) Object.assign(record, { packets: [0, 5], midstream: true, accepted: null });
  const hasIsn = proto === "tcp" && !record.midstream;
  const sighting = (vantage: "client" | "server", more: Partial<Flow>): Seen => {
    const name = vantage === "client" ? client : server;
    return {
      node: name in PODS ? PODS[name as PodName].node : "b",
      observation: {
        flow: `run.1.${serial}${vantage[0]}`,
        ...{ revision: 1, final: !has("live"), interface: `veth-${name}`, vantage },
        sampling: Number(value("sampling=") ?? 1),
        ...(has("one-way") ? { one_way: true } : {}),
        isn: [
          hasIsn ? isn : null,
          hasIsn && record.packets[1] > 0 ? Number(value("answer=") ?? isn + 1) : null,
        ],
        record: { ...record, ...more },
      },
    };
  };
  const atUplink = (node: string, more: Partial<Flow>): Seen => {
    const { observation } = sighting("client", more);
    const flow = `run.9.${serial}${node}`;
    const where = { interface: "eth0", interface_kind: "uplink" as const, vantage: null };
    return { node, observation: { ...observation, flow, ...where } };
  };
  const uplinks = [
    ...(has("@up") || has("@only-up") ? [atUplink("a", {}), atUplink("b", {})] : []),
    ...(has("@snat") ? [atUplink("a", { src_ip: "192.0.2.1", src_port: 1 })] : []),
  ];
  if (has("@only-up")) return uplinks;
  const via = value("via=");
  const addressed = via ? { dst_ip: SERVICES[via as keyof typeof SERVICES], dst_port: 443 } : {};
  return [
    ...(has("@s") ? [] : [sighting("client", addressed)]),
    ...(has("@c") ? [] : [sighting("server", {})]),
    ...uplinks,
  ];
}

/**
 * `web 0-60 99+1 s0.5`: watched from second 0 to 60 (`-10..70`: beyond the window), frames delivered and dropped, sampling;
 * `any` or `uplink`: not the pod's interface, but any of its node, or the uplink; `one-way`: one
 * direction is led past it; `malformed=N`, `notIp=N`: frames that stopped; `flood=WHO:N`: attempts
 * that were not kept, of a pod or an address; `lost=N`: it watched nothing, and tells of so many
 * observations of that time that were given up.
 */
export function covered(line: string, fromMs: number): { node: string; coverage: Coverage } {
  const [name, span, ...words] = line.split(" ") as [PodName, string, ...string[]];
  const [from, to] = span.split(/\.\.|(?<=\d)-/).map(Number) as [number, number];
  const frames = words.find((w) => /^\d+\+\d+$/.test(w)) ?? "100+0";
  const [delivered, dropped] = frames.split("+").map(Number) as [number, number];
  const sampling = Number(words.find((w) => /^s[\d.]+$/.test(w))?.slice(1) ?? 1);
  const where = words.includes("any")
    ? { interface: "*", addresses: [] }
    : words.includes("uplink")
      ? { interface: "eth0", interface_kind: "uplink" as const, addresses: [] }
      : { interface: `veth-${name}`, addresses: [PODS[name].ip] };
  const value = (word: string) => words.find((w) => w.startsWith(`${word}=`))?.split("=")[1];
  const stopped = Object.fromEntries(
    ["malformed", "notIp"].map((why) => [why, Number(value(why) ?? 0)]),
  );
  const [who, attempts] = value("flood")?.split(":") ?? [];
  const span_ms = { from_ms: fromMs + from * 1000, to_ms: fromMs + to * 1000 };
  const lost = Number(value("lost") ?? 0);
  const discards = [{ interface: where.interface, ...span_ms, observations: lost }];
  return {
    node: PODS[name].node,
    coverage: {
      ...{ ...where, source: "libpcap", sampling, ...span_ms, delivered, dropped },
      ...{ cut_off: 0, packets: delivered, stopped, discarded: {} },
      ...(words.includes("one-way") ? { one_direction: true } : {}),
      ...(who ? { floods: [{ source: addressOf(who), attempts: Number(attempts) }] } : {}),
      ...(lost > 0 ? { interface: "*", addresses: [], discards } : {}),
    },
  };
}
