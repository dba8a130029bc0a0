/**
 * Holds Calico's tiers against a second, naive reading of them on random clusters in which all is
 * known: felix/calc/policy_sorter.go's order, felix/rules/endpoints.go's tiers, and the rules of
 * api/pkg/apis/projectcalico/v3, each written down as its sentence says it.
 */
import t from "tap";
import { toClusterObject, type ClusterObject } from "../../collector/attribution/cluster-object.ts";
import { Inventory } from "../../collector/attribution/inventory.ts";
import type { Holder } from "../../collector/attribution/holder.ts";
import { NetworkLayer } from "../../collector/policy/packet/network-layer.ts";
import { holds } from "../../collector/policy/packet/port-set.ts";
import { findFaults } from "../../collector/policy/manifest/shape.ts";

const SEED = 20_260_822;

function toRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

type Person = { space: string; name: string; color: string; team: string; ip: string };
type End = { color?: string; space?: string; net?: string; notNet?: string; ports?: number[] };
type Rule = { action: string; protocol?: string; source: End; destination: End };
type Rules = { ingress: Rule[]; egress: Rule[]; types: string[] };
type Policy = Rules & {
  name: string;
  space: string;
  tier: string;
  order: number | null;
  color: string | null;
};
type Kube = { name: string; space: string; color: string | null; from: string[] };
type Tier = { name: string; order: number | null; action: string };
type World = { people: Person[]; tiers: Tier[]; policies: Policy[]; kube: Kube[] };

const SPACES = { a: "red", b: "blue" } as const;
const COLORS = ["green", "gray"];

function make(random: (below: number) => number): World {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
  const perhaps = <T>(value: () => T): T | undefined => (random(3) === 0 ? value() : undefined);
  const end = (isServer: boolean): End => ({
    ...some(
      "color",
      perhaps(() => pick(COLORS)),
    ),
    ...some(
      "space",
      perhaps(() => pick(["red", "blue", "all"])),
    ),
    ...some(
      "net",
      perhaps(() => pick(["10.0.0.0/30", "10.0.0.4/30", "10.0.0.0/8"])),
    ),
    ...some("notNet", random(6) === 0 ? "10.0.0.2/31" : undefined),
    ...some("ports", isServer && random(2) === 0 ? [pick([80, 90]), 100] : undefined),
  });
  const rule = (): Rule => {
    const [source, destination] = [end(false), end(true)];
    const protocol = destination.ports === undefined ? perhaps(() => pick(["TCP", "UDP"])) : "TCP";
    const action = pick(["Allow", "Allow", "Deny", "Pass", "Log"]);
    return { action, ...some("protocol", protocol), source, destination };
  };
  const list = <T>(most: number, one: (i: number) => T): T[] =>
    Array.from({ length: random(most + 1) }, (_, i) => one(i));
  const order = () => (random(4) === 0 ? null : pick([1, 10, 1000, 1000, 2000]));
  const tiers = list(3, (i): Tier => ({
    name: `t${i}`,
    order: order(),
    action: pick(["Deny", "Pass"]),
  }));
  return {
    people: Array.from({ length: 5 }, (_, i) => {
      const space = pick(["a", "b"] as const);
      const ip = `10.0.0.${i + 1}`;
      return { space, name: `p${i}`, color: pick(COLORS), team: SPACES[space], ip };
    }),
    tiers,
    policies: list(6, (i) => ({
      name: `${pick(["c", "k", "x"])}${i}`,
      space: pick(["", "a", "b"]),
      tier: pick(["default", ...tiers.map(({ name }) => name)]),
      order: order(),
      color: perhaps(() => pick(COLORS)) ?? null,
      ingress: list(3, rule),
      egress: list(3, rule),
      types: pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
    })),
    kube: list(3, (i) => ({
      name: `${pick(["d", "l"])}${i}`,
      space: pick(["a", "b"]),
      color: perhaps(() => pick(COLORS)) ?? null,
      from: list(2, () => pick(COLORS)),
    })),
  };
}

function some<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>);
}

function toObjects({ people, tiers, policies, kube }: World): ClusterObject[] {
  const written = (end: End) => ({
    ...some("selector", end.color && `color == '${end.color}'`),
    ...some(
      "namespaceSelector",
      end.space && (end.space === "all" ? "all()" : `team == "${end.space}"`),
    ),
    ...some("nets", end.net && [end.net]),
    ...some("notNets", end.notNet && [end.notNet]),
    ...some("ports", end.ports),
  });
  const rules = (list: Rule[]) =>
    list.map(({ source, destination, ...rule }) => ({
      ...rule,
      source: written(source),
      destination: written(destination),
    }));
  const v3 = "projectcalico.org/v3";
  const bodies: object[] = [
    ...Object.entries(SPACES).map(([name, team]) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, labels: { team } },
    })),
    ...people.map(({ space, name, color, ip }) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: space, labels: { color } },
      spec: { containers: [{ name: "c" }] },
      status: { podIP: ip, podIPs: [{ ip }] },
    })),
    ...tiers.map(({ name, order, action }) => ({
      apiVersion: v3,
      kind: "Tier",
      metadata: { name },
      spec: { ...(order === null ? {} : { order }), defaultAction: action },
    })),
    ...policies.map(({ name, space, tier, order, color, ingress, egress, types }) => ({
      apiVersion: v3,
      kind: space === "" ? "GlobalNetworkPolicy" : "NetworkPolicy",
      metadata: { name, ...(space === "" ? {} : { namespace: space }) },
      spec: {
        tier,
        ...(order === null ? {} : { order }),
        ...(color === null ? {} : { selector: `color in {'${color}'}` }),
        types,
        ingress: rules(ingress),
        egress: rules(egress),
      },
    })),
    ...kube.map(({ name, space, color, from }) => ({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name, namespace: space },
      spec: {
        podSelector: color === null ? {} : { matchLabels: { color } },
        ingress: from.map((one) => ({ from: [{ podSelector: { matchLabels: { color: one } } }] })),
      },
    })),
  ];
  return bodies.map((body) => toClusterObject(body, null)!);
}

/** "Once a policy of a tier picks the endpoint, what none of its rules takes is the tier's." */
function naive(world: World, client: Person, server: Person, protocol: string, port: number) {
  return (["egress", "ingress"] as const).every((direction) => {
    const me = direction === "ingress" ? server : client;
    const word = direction === "ingress" ? "Ingress" : "Egress";
    const kubeAsPolicies: Policy[] = world.kube.map(({ name, space, color, from }) => ({
      ...{ name, space, color, tier: "default", order: 1000, types: ["Ingress"], egress: [] },
      ingress: from.map((one) => ({ action: "Allow", source: { color: one }, destination: {} })),
    }));
    const last = (order: number | null) => order ?? Number.MAX_VALUE;
    const tiers = [...world.tiers, { name: "default", order: 1_000_000, action: "Deny" }].sort(
      (x, y) => last(x.order) - last(y.order) || (x.name < y.name ? -1 : 1),
    );
    nextTier: for (const tier of tiers) {
      const policies = [...world.policies, ...kubeAsPolicies]
        .filter((p) => p.tier === tier.name && p.types.includes(word))
        .filter((p) => p.space === "" || p.space === me.space)
        .filter((p) => p.color === null || p.color === me.color)
        .sort((x, y) => last(x.order) - last(y.order) || (x.name < y.name ? -1 : 1));
      for (const policy of policies) {
        for (const rule of policy[direction]) {
          const speaks =
            (rule.protocol === undefined || rule.protocol === protocol) &&
            isEnd(rule.source, client, policy.space) &&
            isEnd(rule.destination, server, policy.space) &&
            (rule.destination.ports === undefined || rule.destination.ports.includes(port));
          if (!speaks || rule.action === "Log") continue;
          if (rule.action === "Pass") continue nextTier;
          return rule.action === "Allow";
        }
      }
      if (policies.length > 0 && tier.action === "Deny") return false;
    }
    return true;
  });
}

function isEnd(end: End, { color, space, team, ip }: Person, own: string): boolean {
  const number = Number(ip.split(".")[3]);
  const inNet = (net: string) =>
    net === "10.0.0.0/8" || (net === "10.0.0.0/30" ? number < 4 : net === "10.0.0.4/30" ? number < 8 && number > 3 : number === 2 || number === 3); // prettier-ignore
  if (end.net !== undefined && !inNet(end.net)) return false;
  if (end.notNet !== undefined && inNet(end.notNet)) return false;
  if (end.color !== undefined && end.color !== color) return false;
  if (end.space !== undefined) return end.space === "all" || end.space === team;
  return end.color === undefined || own === "" || own === space;
}

t.test(`agrees with a naive reading on random clusters (seed ${SEED})`, async (t) => {
  const random = toRandom(SEED);
  let count = 0;
  const wrong: string[] = [];
  const seen = new Set<string>();
  for (let i = 0; i < 600; i++) {
    const world = make(random);
    const objects = toObjects(world);
    const layer = new NetworkLayer(objects, findFaults, "undecidable");
    const inventory = new Inventory();
    for (const object of objects) inventory.apply(object, -Infinity);
    const hidden = new Map<Holder, Holder>();
    const hide = (pod: Holder): Holder => {
      const known = hidden.get(pod) ?? { ...pod, addresses: [] };
      hidden.set(pod, known);
      return known;
    };
    const pods = new Map<string, Holder>(inventory.pods(-Infinity).map((pod) => [pod.name, pod]));
    for (const client of world.people) {
      for (const server of world.people) {
        if (client === server) continue;
        const [from, to] = [pods.get(client.name)!, pods.get(server.name)!];
        const permitted = layer.permit(from, to);
        for (const [transport, port] of [
          ["TCP", 80],
          ["TCP", 100],
          ["UDP", 80],
        ] as const) {
          // prettier-ignore
          const { path } = layer.decide(from, to, transport, port);
          const expected = naive(world, client, server, transport, port);
          const isOpen = path === "allowed" || path === "undeclared";
          const isPermitted = holds(permitted, transport, port);
          const blind = layer.decide(hide(from), hide(to), transport, port).path;
          if (blind !== "undecidable" && blind !== path) {
            wrong.push(`cluster ${i}: ${client.name} ${server.name}: ${blind} without addresses`);
          }
          seen.add(path);
          count++;
          if (path === "undecidable" || isOpen !== expected || isPermitted !== expected) {
            wrong.push(`cluster ${i}: ${client.name} ${server.name} ${transport} ${port}: ${path}`);
          }
        }
      }
    }
  }
  t.equal(count, 36_000);
  t.strictSame([...seen].sort(), ["allowed", "denied", "undeclared"]);
  t.strictSame(wrong, []);
});
