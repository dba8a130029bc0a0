/** What the agents of a world tell: observations and coverage, each by its own clock. */
import type { Coverage } from "../../protocol/coverage.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import type { Observation } from "../../protocol/observation.ts";
import { BEHIND_MS, serviceAddress, WINDOW_MS } from "./cluster.ts";
import type { Cluster, Pod } from "./cluster.ts";
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
  plaintext: { encryption: "plaintext", protocol: "http" },
};

/** What the packets of an attempt show of it, wherever they were seen from the start on. */
function shown(draw: Draw, { posture, fate, isReset }: Attempt): Partial<Flow> {
  if (isReset) return { state: "refused", packets: [1, 0] };
  switch (fate) {
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
const DIED_OVER_TLS = { mtls: "client-cert-refused", tls: "client-cert-missing" } as const;

const refusal = (code: string, confidence: "certain" | "likely" = "likely"): Partial<Flow> => ({
  ...{ accepted: false, ...(code.startsWith("client-") ? { handshake: "failed" as const } : {}) },
  failure: { code, side: "server", basis: "close", alert: null, confidence },
});

export function tell(cluster: Cluster, attempts: readonly Attempt[], draw: Draw, epochMs: number) {
  const told: Told = { observations: [], coverage: [] };
  for (const attempt of attempts) {
    const facts = shown(draw, attempt);
    const reaches = attempt.fate !== "blocked" && attempt.fate !== "gone";
    for (const vantage of ["client", "server"] as const) {
      if (vantage === "server" && !reaches) continue;
      const seen = sighting(cluster, attempt, vantage, facts, draw, epochMs);
      if (seen !== null) told.observations.push(seen);
    }
  }
  for (const pod of cluster.pods) told.coverage.push(...coverageOf(pod, draw, epochMs));
  return told;
}

function sighting(
  cluster: Cluster,
  attempt: Attempt,
  vantage: "client" | "server",
  facts: Partial<Flow>,
  draw: Draw,
  epochMs: number,
): Told["observations"][number] | null {
  const { client, server, port, serial, startMs, endMs } = attempt;
  const { node } = vantage === "client" ? client : server;
  const isLost = draw.chance(node.dropShare);
  const sees = node.watched.find(([from, to]) => from < Math.min(endMs, TOLD_MS) && startMs < to);
  if (sees === undefined || isLost || startMs >= TOLD_MS) return null;
  const isMidway = sees[0] > startMs;
  const seenMs = Math.min(endMs, sees[1], TOLD_MS);
  const isOver = seenMs === endMs;
  const time = (ms: number) => new Date(epochMs + ms + node.offsetMs).toISOString();
  const isMasked = cluster.masquerades && vantage === "server" && client.node !== server.node;
  const ends = {
    src_ip: isMasked ? client.node.address : client.address,
    src_port: isMasked ? 1_024 + serial : 30_000 + serial,
    ...(attempt.isByService && vantage === "client"
      ? { dst_ip: serviceAddress(port), dst_port: 80 }
      : { dst_ip: server.address, dst_port: port }),
  };
  const record: Flow = {
    ...{ start: time(Math.max(startMs, sees[0])), end: time(seenMs), proto: "tcp", ...ends },
    ...{ client_basis: "syn", encap: [], packets: [5, 4], bytes: [500, 400] },
    ...{ state: isOver ? "closed" : "established", midstream: false, protocol: null },
    ...{ encryption: "none", upgraded_from: null, handshake: null, failure: null },
    ...{ accepted: null, tls: null, history: "", findings: [], notes: [], ...facts },
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
      ...{ vantage, sampling: 1 },
      isn: isMidway ? [null, null] : [serial * 2, answered ? serial * 2 + 1 : null],
      record,
    },
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
          ...{ sampling: 1, delivered, packets: delivered },
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
export function isWatchedWhole({ node, bornMs, diedMs }: Pod): boolean {
  const [from, to] = [Math.max(bornMs, -60_000), Math.min(diedMs, TOLD_MS)];
  return node.dropShare === 0 && node.watched.some(([a, b]) => a <= from && to <= b);
}
