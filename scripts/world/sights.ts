/** What the agents of a world tell: observations and coverage, each by its own clock. */
import type { Coverage } from "../../protocol/coverage.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import type { Observation } from "../../protocol/observation.ts";
import { BEHIND_MS, MOVED_ADDRESS, serviceAddress, sharedAddress, WINDOW_MS } from "./cluster.ts";
import type { Cluster, Node, Pod } from "./cluster.ts";
import type { Draw } from "./draw.ts";
import type { Attempt, Posture } from "./traffic.ts";

export type Told = {
  observations: { node: string; observation: Observation }[];
  coverage: { node: string; coverage: Coverage }[];
};

/** The world's time until which agents have told when the window is judged. */
export const TOLD_MS = WINDOW_MS + BEHIND_MS / 2;

const NO_TLS = {
  ...{ cipher_suite: null, group: null, sni: null, alpn: null, alpn_offered: [], ja3: null },
  ...{ ja3s: null, ja4: null, client_cert: null, server_cert_subject: null, server_cert: null },
  ...{ client_cert_subject: null, client_certificate: null },
};
const tls = (mutual: NonNullable<Flow["tls"]>["mutual"], mesh: "istio" | null): Partial<Flow> => ({
  ...{ encryption: "tls", protocol: "tls", handshake: "complete" },
  tls: { ...NO_TLS, version: "TLSv1.3", mutual, mesh },
});
const SHOWN: Record<Posture, Partial<Flow>> = {
  mtls: tls("inferred-yes", "istio"),
  tls: tls("inferred-declined", null),
  resumed: { ...tls("resumed", "istio"), handshake: "resumed" },
  own: tls("inferred-yes", null),
  plaintext: { encryption: "plaintext", protocol: "http" },
};

/** What the packets of an attempt show of it, wherever they were seen from the start on. */
function shown(draw: Draw, { posture, fate, isReset }: Attempt): Partial<Flow> {
  if (isReset) {
    const by = fate === "blocked" ? BY_POLICY : fate === "gone" ? BY_NOBODY : (["rst"] as const);
    return { state: "refused", refused_by: draw.pick(by), packets: [1, 0] };
  }
  switch (fate) {
    case "lost":
      return { state: draw.pick(["attempted", "unanswered"] as const), packets: [1, 0] };
    case "blocked":
    case "gone":
    case "frozen":
    case "closed":
      return { state: "unanswered", packets: [3, 0] };
    case "turned-down": {
      const code = posture === "plaintext" ? "plaintext-refused" : "client-cert-missing";
      return { ...SHOWN[posture], ...refusal(code, draw.chance(0.5) ? "certain" : "likely") };
    }
    case "died":
      // What reads and closes without tickets looks as who refuses: then the reading says likely.
      if (posture === "plaintext") return { ...SHOWN[posture], ...refusal("plaintext-refused") };
      if (posture === "resumed" || draw.chance(0.5)) return SHOWN[posture];
      return { ...SHOWN[posture], ...refusal(DIED_OVER_TLS[posture]) };
    default:
      return { ...SHOWN[posture], accepted: true };
  }
}
const BY_POLICY = ["rst", "icmp-admin-prohibited", "icmp-port-unreachable"] as const;
const BY_NOBODY = ["rst", "icmp-host-unreachable", "icmp-port-unreachable"] as const;
const DIED_OVER_TLS = {
  ...({ mtls: "client-cert-refused", own: "client-cert-refused" } as const),
  tls: "client-cert-missing",
} as const;

const refusal = (code: string, confidence: "certain" | "likely" = "likely"): Partial<Flow> => ({
  ...{ accepted: false, ...(code.startsWith("client-") ? { handshake: "failed" as const } : {}) },
  failure: { code, side: "server", basis: "close", alert: null, confidence },
});

export function tell(cluster: Cluster, attempts: readonly Attempt[], draw: Draw, epochMs: number) {
  const told: Told = { observations: [], coverage: [] };
  for (const attempt of attempts) {
    const facts = shown(draw, attempt);
    const reaches = !["blocked", "gone", "lost"].includes(attempt.fate);
    for (const vantage of ["client", "server"] as const) {
      if (vantage === "server" ? !reaches : attempt.client.isNode) continue;
      const seen = sighting(cluster, attempt, vantage, facts, draw, epochMs);
      if (seen !== null && !isLeftOut(told, attempt, vantage, seen)) told.observations.push(seen);
    }
  }
  for (const pod of cluster.pods) told.coverage.push(...coverageOf(pod, draw, epochMs));
  if (cluster.stolen)
    told.observations.push(...lies(cluster, cluster.stolen, attempts, draw, epochMs));
  if (cluster.stolen) told.coverage.push(...falseCoverage(cluster, cluster.stolen, epochMs));
  return told;
}

/** What an agent saw and does not tell: it counts it, in coverage rows of its own. */
function isLeftOut(
  told: Told,
  { client, server, serial, startMs }: Attempt,
  vantage: "client" | "server",
  { node: name, observation: { record, interface: at } }: Told["observations"][number],
): boolean {
  const { node } = vantage === "client" ? client : server;
  if (serial % 10 >= node.sampling * 10) return true;
  const row = (fields: Partial<Coverage>) => {
    const from_ms = Date.parse(record.start);
    const words = { ...NOTHING_WATCHED, interface: at, from_ms, to_ms: from_ms + 1, ...fields };
    told.coverage.push({ node: name, coverage: words });
    return true;
  };
  if (node.gaveUp && node.gaveUp[0] <= startMs && startMs < node.gaveUp[1]) {
    const [from_ms, to_ms] = [Date.parse(record.start), Date.parse(record.end)];
    const discards = [{ interface: at, from_ms, to_ms, observations: 1 }];
    return row({ interface: "*", from_ms, to_ms, discards });
  }
  const isUnanswered = record.state === "unanswered" || record.state === "refused";
  if (!node.isFlooded || !isUnanswered) return false;
  const own = vantage === "client" ? client.address : server.address;
  return row({ addresses: [own], floods: [{ source: record.src_ip, attempts: 1 }] });
}

const NOTHING_WATCHED: Coverage = {
  ...{ interface: "*", addresses: [], from_ms: 0, to_ms: 0, source: "ring-cutoff", sampling: 1 },
  ...{ delivered: 0, dropped: 0, cut_off: 0, packets: 0, stopped: {}, discarded: {} },
};

/**
 * What somebody says who has a node's certificate: of pods of any node, and of connections that
 * there were, that they were otherwise.
 */
function lies(
  cluster: Cluster,
  node: Node,
  attempts: readonly Attempt[],
  draw: Draw,
  epochMs: number,
): Told["observations"] {
  return Array.from({ length: draw.whole(2, 8) }, (_, i) => {
    const [client, server] = [draw.pick(cluster.pods), draw.pick(cluster.pods)];
    const serial = 9_000 + i;
    const startMs = draw.between(-10_000, WINDOW_MS);
    const times = { startMs, endMs: startMs + 500, delayMs: 0 };
    const numbers = [serial * 2, serial * 2 + 1] as const;
    const madeUp = { serial, numbers, client, server, port: server.port, ...times };
    const real = attempts.length > 0 && draw.chance(0.5) ? draw.pick(attempts) : madeUp;
    const fate = draw.pick(["served", "served", "blocked", "turned-down"] as const);
    const posture = draw.pick(["mtls", "plaintext", "tls"] as const);
    const lie: Attempt = { ...real, by: null, fate, posture, isReset: false };
    const at = draw.pick(["client", "server", "uplink"] as const);
    const time = (ms: number) => new Date(epochMs + ms).toISOString();
    const flow = `${node.name}.9.${i}`;
    const record = {
      ...recordOf(lie, shown(draw, lie)),
      start: time(lie.startMs),
      end: time(lie.endMs),
    };
    const place =
      at === "uplink" ? { interface: "eth0", interface_kind: at } : { interface: "veth-lie" };
    return {
      node: node.name,
      observation: {
        ...{ flow, revision: 1, final: true, vantage: at === "uplink" ? null : at, sampling: 1 },
        ...{ ...place, isn: [...lie.numbers], record },
      },
    };
  });
}

/** And that it watched the pods of others. */
function falseCoverage(cluster: Cluster, node: Node, epochMs: number): Told["coverage"] {
  return cluster.pods.map(({ address }) => ({
    node: node.name,
    coverage: {
      ...{ ...NOTHING_WATCHED, interface: `veth-lie-${address}`, addresses: [address] },
      ...{ from_ms: epochMs - 120_000, to_ms: epochMs + TOLD_MS, delivered: 1_000, packets: 1_000 },
    },
  }));
}

function sighting(
  cluster: Cluster,
  attempt: Attempt,
  vantage: "client" | "server",
  facts: Partial<Flow>,
  draw: Draw,
  epochMs: number,
): Told["observations"][number] | null {
  const { client, server, serial, numbers, endMs } = attempt;
  const startMs = attempt.startMs + (vantage === "server" ? attempt.delayMs : 0);
  const { node } = vantage === "client" ? client : server;
  const isLost = draw.chance(node.dropShare);
  const sees = node.watched.find(([from, to]) => from < Math.min(endMs, TOLD_MS) && startMs < to);
  if (sees === undefined || isLost || startMs >= TOLD_MS) return null;
  const isMidway = sees[0] > startMs;
  const seenMs = Math.min(endMs, sees[1], TOLD_MS);
  const isOver = seenMs === endMs;
  const time = (ms: number) => new Date(epochMs + ms + node.offsetMs).toISOString();
  const isMasked = cluster.masquerades && vantage === "server" && client.node !== server.node;
  const record: Flow = {
    ...recordOf(attempt, facts),
    ...{ start: time(Math.max(startMs, sees[0])), end: time(seenMs) },
    ...(isMasked ? { src_ip: client.node.address, src_port: 1_024 + serial } : {}),
    ...(vantage === "client" ? addressed(attempt) : {}),
    state: facts.state ?? (isOver ? "closed" : "established"),
    ...(isMidway ? joined(facts) : {}),
  };
  const answered = record.packets[1] > 0 && !isMidway;
  return {
    node: node.name,
    observation: {
      flow: `${node.name}.1.${serial}${vantage[0]}`,
      ...{
        revision: 1,
        final: isOver,
        interface: `veth-${vantage === "client" ? client.name : server.name}`,
      },
      ...{ vantage, sampling: node.sampling },
      isn: isMidway ? [null, null] : [numbers[0], answered ? numbers[1] : null],
      record,
    },
  };
}

/** What stands in the client's packets, before a Service's address is translated. */
function addressed({ by, port, server }: Attempt): Partial<Flow> {
  if (by === null) return {};
  const addresses = {
    service: serviceAddress(port),
    shared: sharedAddress(server.namespace),
    moved: MOVED_ADDRESS,
  };
  return { dst_ip: addresses[by], dst_port: 80 };
}

/** As it stands between the pods' own addresses, when it was over. */
function recordOf({ client, server, port, numbers }: Attempt, facts: Partial<Flow>): Flow {
  return {
    ...{ start: "", end: "", proto: "tcp", src_ip: client.address, src_port: 30_000 + numbers[0] },
    ...{ dst_ip: server.address, dst_port: port, state: "closed", midstream: false },
    ...{ client_basis: "syn", encap: [], packets: [5, 4], bytes: [500, 400], protocol: null },
    ...{ encryption: "none", upgraded_from: null, handshake: null, failure: null },
    ...{ accepted: null, tls: null, history: "", findings: [], notes: [], ...facts },
  };
}

/** Of what was joined midway only plaintext is known, and who answers whom. */
function joined(facts: Partial<Flow>): Partial<Flow> {
  const isPlain = facts.encryption === "plaintext";
  return {
    ...{ midstream: true, client_basis: "first-seen", tls: null, handshake: null, failure: null },
    ...{ encryption: isPlain ? "plaintext" : "unknown", protocol: isPlain ? "http" : null },
    accepted: isPlain && facts.accepted === true ? true : null,
  };
}

/** Agents tell of each interface every ten seconds, and at its end. */
function coverageOf(pod: Pod, draw: Draw, epochMs: number): Told["coverage"] {
  const { node } = pod;
  const rows: Told["coverage"] = [];
  for (const [from, to] of node.watched) {
    const first = Math.max(from, pod.bornMs, -120_000);
    const last = Math.min(to, pod.diedMs, TOLD_MS);
    for (let at = first; at < last;) {
      const until = Math.min(last, at + 10_000);
      const delivered = draw.whole(50, 200);
      rows.push({
        node: node.name,
        coverage: {
          ...{ interface: `veth-${pod.name}`, addresses: [pod.address], source: "ring-cutoff" },
          from_ms: epochMs + at + node.offsetMs,
          to_ms: epochMs + until + node.offsetMs,
          ...{ sampling: node.sampling, delivered, packets: delivered },
          dropped: Math.round((delivered * node.dropShare) / (1 - node.dropShare)),
          ...{ cut_off: 0, stopped: {}, discarded: {} },
        },
      });
      at = until;
    }
  }
  return rows;
}

/** Reports whether a pod's interface was watched whole all the time of the world that counts. */
export function isWatchedWhole({ node, bornMs, diedMs, isNode }: Pod): boolean {
  if (isNode) return false;
  const [from, to] = [Math.max(bornMs, -60_000), Math.min(diedMs, TOLD_MS)];
  if (node.dropShare > 0 || node.sampling < 1 || node.gaveUp || node.isFlooded) return false;
  return node.watched.some(([a, b]) => a <= from && to <= b);
}
