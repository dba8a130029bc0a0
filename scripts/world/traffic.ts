/**
 * Lets pods of a world talk: each attempt meets the plugin, the server's kernel, its proxy and its
 * application, and what became of it is known.
 */
import { admits, BEFORE_MS, rolesDuring, rulesDuring, WINDOW_MS } from "./cluster.ts";
import type { Cluster, Pod } from "./cluster.ts";
import type { Draw } from "./draw.ts";

/** `own`: mutual TLS of the applications, none of the mesh's. */
export type Posture = "mtls" | "tls" | "plaintext" | "resumed" | "own";

export type Attempt = {
  serial: number;
  /** Its port and sequence numbers, [client, server]: whoever writes raw packets repeats them. */
  numbers: readonly [number, number];
  /** Its first SYN was lost on the way, and came to the server when it was sent again. */
  delayMs: number;
  client: Pod;
  /** Who had the address then. */
  server: Pod;
  port: number;
  /**
   * It was sent to the Service of the server, to one of several apps, to the one that moves; null:
   * to its address.
   */
  by: "service" | "shared" | "moved" | null;
  posture: Posture;
  startMs: number;
  endMs: number;
  /**
   * blocked: the plugin dropped, or answered for the server. gone: no pod had the address. closed,
   * frozen: the server's kernel reset it, or nothing answered. turned-down: the mesh's proxy
   * refused the posture. died: the application closed wordless. served: it answered. lost: the
   * network lost it, and the client tried once.
   */
  fate: "lost" | "blocked" | "gone" | "closed" | "frozen" | "turned-down" | "died" | "served";
  /** The client got RST or an ICMP error for its SYN. */
  isReset: boolean;
};

const WAYS = [null, null, null, "service", "service", "shared"] as const;

/** Whoever connects, connects several times; one in eight connections lives for long. */
export function makeTraffic(
  cluster: Cluster,
  draw: Draw,
  pairs = draw.whole(3, 10),
  postures: readonly Posture[] = ["mtls", "mtls", "mtls", "plaintext", "tls", "resumed", "own"],
): Attempt[] {
  const attempts: Attempt[] = [];
  const { pods } = cluster;
  for (let i = 0; i < pairs; i++) {
    const client = draw.pick(pods);
    const app = draw.pick(pods).app;
    if (client.app === app) continue;
    const posture = draw.pick(postures);
    const times = draw.whole(1, 4);
    for (let n = 0; n < times; n++) {
      const startMs = draw.between(-BEFORE_MS, WINDOW_MS);
      if (startMs < client.bornMs || startMs > client.diedMs) continue;
      const named = draw.pick(pods.filter((pod) => pod.app === app));
      if (startMs < named.bornMs) continue;
      const heir = pods.find((pod) => pod.address === named.address && pod.bornMs > named.diedMs);
      const server = heir && startMs >= heir.bornMs ? heir : named;
      const isThere = startMs < server.diedMs && server === named;
      const by = isThere ? draw.pick(WAYS) : null;
      const base = { client, server, port: named.port, by, posture, startMs };
      const sent = { ...base, ...numbered(attempts.length + 1), isReset: false };
      // Sent again after 1 s, and twice as long each time (RFC 6298 §2, §5.5).
      const delayMs = draw.chance(0.05) ? draw.pick([1_000, 3_000, 7_000]) : 0;
      const isLate = startMs + delayMs >= Math.min(client.diedMs, server.diedMs);
      attempts.push(meet(cluster, draw, { ...sent, delayMs: isLate ? 0 : delayMs }));
      if (draw.chance(0.05)) attempts.push(...twinOf(cluster, draw, attempts.at(-1)!));
    }
  }
  for (let i = 0; cluster.moved !== null && i < 4; i++) {
    const startMs = draw.between(-BEFORE_MS, WINDOW_MS);
    // Whoever translates addresses follows late.
    const led = cluster.moved.find(({ toMs }) => startMs < toMs + cluster.lagMs)!;
    const [client, server] = [draw.pick(pods), draw.pick(led.value)];
    if (client.app === server.app || startMs < client.bornMs || startMs > client.diedMs) continue;
    const posture = draw.pick(["mtls", "plaintext"] as const);
    const base = { ...numbered(attempts.length + 1), client, server, port: server.port, posture };
    const sent = { ...base, startMs, by: "moved", delayMs: 0, isReset: false } as const;
    attempts.push(meet(cluster, draw, sent));
  }
  for (const server of pods.filter(() => draw.chance(0.1))) {
    const startMs = draw.between(Math.max(-BEFORE_MS, server.bornMs), WINDOW_MS);
    if (startMs < server.bornMs || startMs >= server.diedMs) continue;
    const client = kubeletOf(server);
    const base = { ...numbered(attempts.length + 1), client, server, port: server.port, startMs };
    const probe = {
      ...base,
      delayMs: 0,
      by: null,
      posture: "plaintext",
      isReset: false,
    } as const;
    attempts.push(meet(cluster, draw, probe));
  }
  return attempts;
}

function numbered(serial: number): Pick<Attempt, "serial" | "numbers"> {
  return { serial, numbers: [serial * 2, serial * 2 + 1] };
}

/**
 * From a client that writes raw packets: one under the same port and number to another server,
 * which may be in it, and answer with the other one's number.
 */
function twinOf({ pods, ...cluster }: Cluster, draw: Draw, first: Attempt): Attempt[] {
  const { client, startMs, numbers } = first;
  const { serial } = numbered(first.serial + 1);
  const server = draw.pick(pods);
  if (startMs < server.bornMs || startMs >= server.diedMs) return [];
  if (server.address === first.server.address || server === client) return [];
  if (server.app === client.app) return [];
  const own: readonly [number, number] = [numbers[0], draw.pick([numbers[1], serial * 2 + 1])];
  const posture = draw.pick(["mtls", "plaintext"] as const);
  const base = { serial, numbers: own, client, server, port: server.port, posture, startMs };
  const sent = { ...base, delayMs: 0, by: null, isReset: false };
  return [meet({ pods, ...cluster }, draw, sent)];
}

/** A pod's node, as somebody who connects. */
function kubeletOf({ node, port }: Pod): Pod {
  return {
    roles: [{ fromMs: -Infinity, toMs: Infinity, value: node.name }],
    ...{ name: node.name, app: node.name, namespace: "", node, address: node.address, port },
    ...{ bornMs: -Infinity, diedMs: Infinity, serves: "up", meshEnforces: true, isNode: true },
  };
}

function meet(cluster: Cluster, draw: Draw, base: Omit<Attempt, "endMs" | "fate">): Attempt {
  const { client, server, port, posture, startMs, delayMs } = base;
  const speaksMs = draw.chance(1 / 8) ? draw.between(10_000, 100_000) : draw.between(50, 2_000);
  const endMs = Math.min(startMs + delayMs + speaksMs, client.diedMs, server.diedMs);
  const short = { ...base, endMs: Math.min(startMs + delayMs + 300, client.diedMs) };
  const silent = { ...base, endMs: Math.min(startMs + 7_000, client.diedMs) };
  const actsMs = startMs + delayMs - cluster.lagMs;
  const [rules] = rulesDuring(cluster, server.app, actsMs, actsMs);
  if (startMs >= server.diedMs) {
    const isReset = draw.chance(0.5);
    return { ...(isReset ? short : silent), fate: "gone", isReset };
  }
  const [role] = rolesDuring(client, actsMs, actsMs);
  if (cluster.plugin !== "ignores" && admits(rules!, client, role!) === false) {
    const isReset = cluster.plugin === "resets";
    return { ...(isReset ? short : silent), fate: "blocked", isReset };
  }
  if (delayMs === 0 && draw.chance(0.03)) return { ...short, fate: "lost" };
  if (server.serves === "closed" || server.port !== port)
    return { ...short, fate: "closed", isReset: true };
  if (server.serves === "frozen") return { ...silent, fate: "frozen" };
  const isWanted = posture === "mtls" || posture === "resumed";
  if (rules!.mtls === "STRICT" && server.meshEnforces && !isWanted) {
    return { ...short, fate: "turned-down" };
  }
  return server.serves === "dying"
    ? { ...short, fate: "died" }
    : { ...base, endMs: Math.max(endMs, startMs + 1), fate: "served" };
}
