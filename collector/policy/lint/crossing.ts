/** Checks where a segmentation file and the NetworkPolicy family contradict each other. */
import { groupKind, type ClusterObject } from "../../attribution/cluster-object.ts";
import type { Holder, Transport } from "../../attribution/holder.ts";
import { formatObject } from "../decision/because.ts";
import type { Because } from "../expectation.ts";
import { isUnreadPolicy } from "../manifest/known-kinds.ts";
import { NetworkLayer } from "../packet/network-layer.ts";
import {
  EVERYTHING,
  intersect,
  isNothing,
  NOTHING,
  onePort,
  TRANSPORTS,
  union,
  type PortSet,
} from "../packet/port-set.ts";
import type { Segmentation as Spec } from "../segmentation/shape.ts";
import { Segmentations } from "../segmentation/segmentation.ts";
import { CONFIGURATION, type Rule } from "./rule.ts";
import { toSteps, type Scope } from "./scope.ts";
import { nameZone, podsByZone, segmentations, specOf } from "./zone.ts";

export const CROSSING = {
  dead: {
    id: "segmentation-path-dead",
    title: "a path that NetworkPolicy lets nobody use",
    why: "The two declarations disagree: one of them is out of date.",
    remedy: "let the path pass by a NetworkPolicy, or drop it",
    level: "warning",
    controls: CONFIGURATION,
    needsPods: true,
  },
  forbidden: {
    id: "segmentation-forbids-allowed",
    title: "a NetworkPolicy that allows what segmentation denies",
    why: "The network lets pass a crossing that is a violation by the segmentation file.",
    remedy: "narrow the NetworkPolicy, or declare the path",
    level: "note",
    pci: "warning",
    strict: "warning",
    controls: { pci: ["1.2.8", "1.3.1"], nist: ["ac-4", "sc-7"] },
    needsPods: true,
  },
} as const satisfies Record<string, Rule>;

const RULES = CROSSING;

/** Pairs of sorts of pods that are held against each other for a file; what is left is told. */
const PAIRS_LIMIT = 250_000;
const TOO_MANY = `more than ${PAIRS_LIMIT} pairs of pods`;

export function checkCrossings(scope: Scope): void {
  const { objects } = scope.declared;
  const isCertain =
    objects.every((o) => scope.faultsOf(o).length === 0 || !NETWORK.has(o.kind)) &&
    !objects.some((o) => isUnreadPolicy(groupKind(o)));
  // What may be let pass is: a path is dead only where nothing could use it.
  const wide = new NetworkLayer(objects, scope.faultsOf, "match");
  const strict = new NetworkLayer(objects, scope.faultsOf, "undecidable");
  for (const file of segmentations(scope)) {
    const spec = specOf(file);
    if (isCertain) checkDead(scope, file, spec, wide);
    checkForbidden(scope, file, spec, strict);
  }
}

const NETWORK = new Set([
  ...["NetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"],
  ...["ClusterNetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"],
  "GlobalNetworkPolicy",
]);

function checkDead(scope: Scope, file: ClusterObject, spec: Spec, layer: NetworkLayer): void {
  const zones = podsByZone(scope, spec);
  let pairs = 0;
  for (const [i, path] of (spec.paths ?? []).entries()) {
    const clients = zones.get(path.from) ?? [];
    const servers = zones.get(path.to) ?? [];
    if (path.from === path.to || clients.length === 0 || servers.length === 0) continue;
    pairs += clients.length * servers.length;
    if (pairs > PAIRS_LIMIT) return scope.skip(RULES.dead, TOO_MANY);
    const wanted = toPortSet(path.ports);
    const isUsed = clients.some((client) =>
      servers.some((server) => !isNothing(intersect(wanted, layer.permit(client, server)))),
    );
    if (isUsed) continue;
    const way = `from ${nameZone(path.from, clients)} to ${nameZone(path.to, servers)}`;
    const sentence = `${formatObject(file)}: path ${i} ${way} is let pass by no network policy`;
    scope.report(RULES.dead, file, ["spec", "paths", i], sentence);
  }
}

/** `8443`, `9000-9010`, `53/udp`; TCP where it does not say. */
function toPortSet(ports: readonly (number | string)[] | undefined): PortSet {
  if (ports === undefined) return EVERYTHING;
  return ports.reduce<PortSet>((set, entry) => {
    const [range, carrier] = String(entry).split("/");
    const [first, last] = range!.split("-").map(Number);
    const transport = (carrier ?? "tcp").toUpperCase() as Transport;
    return union(set, onePort(transport, first!, last ?? first!));
  }, NOTHING);
}

function checkForbidden(scope: Scope, file: ClusterObject, spec: Spec, layer: NetworkLayer): void {
  const zoned = new Segmentations([file], scope.faultsOf);
  const pods = scope.pods.filter((pod) => !pod.hostNetwork);
  if (spec.default?.betweenZones !== "deny") return;
  if (pods.length ** 2 > PAIRS_LIMIT) return scope.skip(RULES.forbidden, TOO_MANY);
  const told = new Set<string>();
  for (const client of pods) {
    for (const server of pods) {
      const because = findForbidden(client, server, layer, zoned, scope.atMs);
      if (because === null) continue;
      const { kind, namespace, name, rule, sentence } = because.allowed;
      const key = `${kind} ${namespace}/${name} ${rule}`;
      if (told.has(key)) continue;
      told.add(key);
      const policy = scope.valid.find(
        (o) => o.kind === kind && o.namespace === namespace && o.name === name,
      );
      if (policy === undefined) continue;
      const denied = because.denied.sentence;
      scope.report(RULES.forbidden, policy, toSteps(rule), `${sentence}, but it is ${denied}`);
    }
  }
}

/** The rule that lets the server be reached, and what denies it; null where they agree. */
function findForbidden(
  client: Holder,
  server: Holder,
  layer: NetworkLayer,
  zoned: Segmentations,
  atMs: number,
): { allowed: Because; denied: Because } | null {
  const set = layer.permit(client, server);
  for (const transport of TRANSPORTS) {
    for (const port of portsIn(set, transport, server)) {
      const decision = layer.decide(client, server, transport, port);
      const allowed = decision.because.find(({ rule }) => rule.startsWith("spec.ingress["));
      if (decision.path !== "allowed" || allowed === undefined) continue;
      const [zones] = zoned.decide(client, server, transport, port, atMs);
      if (zones?.path === "denied") return { allowed, denied: zones.because[0]! };
    }
  }
  return null;
}

/** The server's own ports that are let pass, and the first of each range. */
function portsIn(set: PortSet, transport: Transport, server: Holder): number[] {
  const own = server.ports.filter((p) => p.transport === transport).map((p) => p.port);
  const inside = own.filter((p) => set[transport].some(([a, b]) => a <= p && p <= b));
  return [...new Set([...inside, ...set[transport].map(([first]) => first)])];
}
