/** Checks rules of the network against the port on which a mesh brings connections to its pods. */
import type { ClusterObject } from "../../attribution/cluster-object.ts";
import { formatHolder, type Holder } from "../../attribution/holder.ts";
import type { Decision } from "../decision/because.ts";
import type { Because } from "../expectation.ts";
import { NetworkLayer } from "../packet/network-layer.ts";
import { ACCESS, CONFIGURATION, type Rule } from "./rule.ts";
import { toSteps, type Scope } from "./scope.ts";

export const TUNNEL_PORT = {
  closed: {
    id: "mesh-tunnel-port-closed",
    title: "a port is open, and the mesh's own, by which it is reached, is not",
    why: "Proxies wrap what goes there and bring it to their own port: it never arrives.",
    remedy: "let in the mesh's port too (ambient 15008, Linkerd 4143, Consul 20000)",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
  opens: {
    id: "mesh-tunnel-port-opens-all",
    title: "a rule that opens the mesh's own port, and with it every port",
    why: "Inside the tunnel any port can be asked for: the network no longer decides which.",
    remedy: "say which ports may be reached by the mesh's own authorization",
    level: "note",
    pci: "warning",
    controls: ACCESS,
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

const RULES = TUNNEL_PORT;

/** Pairs of sorts of pods that are asked about; what is left is told. */
const PAIRS_LIMIT = 250_000;
/** Stands for every port that no manifest names. */
const OTHER_PORT = 50_505;

export function checkTunnelPorts(scope: Scope): void {
  const layer = new NetworkLayer(scope.declared.objects, scope.faultsOf, "undecidable");
  const pods = scope.pods.filter((pod) => scope.policy.meshedOf(pod).mesh !== null);
  if (pods.length ** 2 > PAIRS_LIMIT) {
    for (const rule of Object.values(RULES)) {
      scope.skip(rule, `more than ${PAIRS_LIMIT} pairs of pods in a mesh`);
    }
    return;
  }
  const told = new Set<string>();
  for (const server of pods) {
    const ports = server.ports.filter((p) => p.transport === "TCP").map((p) => p.port);
    for (const client of pods) {
      const ask = (port: number) => layer.decide(client, server, "TCP", port);
      for (const port of ports) {
        const [other] = scope.policy.carriedOn(client, server, port);
        if (other === undefined || other === port || ask(port).path !== "allowed") continue;
        const there = ask(other);
        if (there.path !== "denied") continue;
        const sentence =
          `port ${port} of ${formatHolder(server)} is open to ${formatHolder(client)}, but its ` +
          `mesh brings connections to port ${other}: ${there.because[0]!.sentence}`;
        report(scope, told, RULES.closed, there.because[0], server, sentence);
      }
      checkOpened(scope, told, client, server, ports, ask);
    }
  }
}

function checkOpened(
  scope: Scope,
  told: Set<string>,
  client: Holder,
  server: Holder,
  ports: readonly number[],
  ask: (port: number) => Decision,
): void {
  const tunnel = scope.policy.tunnelPortOf(server);
  const { mesh } = scope.policy.meshedOf(client);
  if (tunnel === null || mesh !== scope.policy.meshedOf(server).mesh) return;
  const there = ask(tunnel);
  const shut = [...ports, OTHER_PORT].find((port) => ask(port).path === "denied");
  const opening = there.because.findLast(({ rule }) => /ingress/i.test(rule));
  if (there.path !== "allowed" || shut === undefined || opening === undefined) return;
  const which =
    shut === OTHER_PORT ? "ports that no rule lets in" : `port ${shut}, which is denied`;
  const sentence =
    `${opening.sentence}: port ${tunnel} brings it to every port of ${formatHolder(server)}, ` +
    `${which}, too`;
  report(scope, told, RULES.opens, opening, server, sentence);
}

/** Once for a rule and a server's workload. */
function report(
  scope: Scope,
  told: Set<string>,
  rule: Rule,
  because: Because | undefined,
  server: Holder,
  sentence: string,
): void {
  const isOf = ({ kind, namespace, name }: ClusterObject) =>
    kind === because?.kind && namespace === because.namespace && name === because.name;
  const object = scope.valid.find(isOf);
  if (because === undefined || object === undefined) return;
  const { kind, namespace, name } = because;
  const key = [rule.id, kind, namespace, name, because.rule, formatHolder(server)].join(" ");
  if (told.has(key)) return;
  told.add(key);
  scope.report(rule, object, toSteps(because.rule), sentence);
}
