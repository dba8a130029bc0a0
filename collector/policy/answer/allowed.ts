/** Lists what the declared policies let pass, workload by workload. */
import type { ClusterObject } from "../../attribution/cluster-object.ts";
import { formatHolder, toExternal, type Holder } from "../../attribution/holder.ts";
import type { Inventory } from "../../attribution/inventory.ts";
import { cutAddresses } from "../packet/address-cut.ts";
import { backendPorts, listBackends } from "./ingress-backend.ts";
import { NetworkLayer } from "../packet/network-layer.ts";
import { onePerSort } from "../manifest/pod-sort.ts";
import {
  formatPortSet,
  intersect,
  isNothing,
  NOTHING,
  union,
  type PortSet,
} from "../packet/port-set.ts";
import type { Fault } from "../manifest/problem.ts";

/** One ordered pair, and all that it may use. */
export type AllowedPair = { from: string; to: string; ports: PortSet };

/** Pods that all rules treat alike, under the name of their workload. */
type End = { name: string; holders: readonly Holder[] };

const CONTROLLER: Holder = {
  ...toExternal("{ingress-controller}"),
  kind: "pod",
  namespace: "ingress-controller-ns",
  namespaceLabels: { "kubernetes.io/metadata.name": "ingress-controller-ns" },
};

/**
 * Every ordered pair that may speak, sorted by the bytes of its line. A port that a policy may let
 * pass, but not certainly, is left out. `further` narrows a pair by the other layers.
 */
export function listAllowed(
  objects: readonly ClusterObject[],
  inventory: Inventory,
  faultsOf: (object: ClusterObject) => readonly Fault[],
  further: (client: Holder, server: Holder, ports: PortSet) => PortSet = (_c, _s, ports) => ports,
): AllowedPair[] {
  const layer = new NetworkLayer(objects, faultsOf, "outside");
  const ends = listEnds(inventory);
  const outside = (direction: "ingress" | "egress"): End[] =>
    cutAddresses(objects, direction).map(({ name, holder }) => ({ name, holders: [holder] }));
  const pairs: AllowedPair[] = [];
  const add = (from: End, to: End, narrow: (server: Holder, ports: PortSet) => PortSet) => {
    if (from.name === to.name) return;
    let ports = NOTHING;
    for (const client of from.holders) {
      for (const server of to.holders) {
        const permitted = narrow(server, layer.permit(client, server));
        ports = union(ports, further(client, server, permitted));
      }
    }
    if (!isNothing(ports)) pairs.push({ from: from.name, to: to.name, ports });
  };
  const whole = (_: Holder, ports: PortSet) => ports;
  const destinations = [...ends, ...outside("egress")];
  for (const from of ends) for (const to of destinations) add(from, to, whole);
  for (const from of outside("ingress")) for (const to of ends) add(from, to, whole);

  const backends = listBackends(objects);
  if (backends.length > 0) {
    const services = new Map(
      objects.filter((o) => o.kind === "Service").map((o) => [`${o.namespace}/${o.name}`, o]),
    );
    const controller = { name: CONTROLLER.name, holders: [CONTROLLER] };
    for (const to of ends) {
      add(controller, to, (server, ports) =>
        intersect(ports, backendPorts(server, backends, services)),
      );
    }
  }
  const bytes = (pair: AllowedPair) => Buffer.from(formatPair(pair));
  return pairs
    .map((pair) => ({ pair, line: bytes(pair) }))
    .sort((a, b) => Buffer.compare(a.line, b.line))
    .map(({ pair }) => pair);
}

/** Workloads, each with one pod of every sort that its pods come in. */
function listEnds(inventory: Inventory): End[] {
  const pods = onePerSort(inventory.pods(-Infinity).map(toDeclared), (pod) => {
    const { namespace, labels, ports, serviceAccount, annotations } = pod;
    return JSON.stringify([
      ...[formatHolder(pod), namespace, Object.entries(labels).sort(), ports, serviceAccount],
      annotations["sidecar.istio.io/inject"],
    ]);
  });
  return [...Map.groupBy(pods, formatHolder)].map(([name, holders]) => {
    return { name, holders };
  });
}

/**
 * A pod as policies name it: without its address of the moment, and as if it had a network of its
 * own (whether rules hold for pods on the node's network is the network plugin's choice). Its name
 * is one owner up, as with other tools that read manifests.
 */
function toDeclared(pod: Holder): Holder {
  return { ...pod, workload: pod.owner, addresses: [], hostNetwork: false };
}

function formatPair({ from, to, ports }: AllowedPair): string {
  return `${from} => ${to} : ${formatPortSet(ports)}`;
}

export function formatAllowed(pairs: readonly AllowedPair[], format: "text" | "json" | "dot") {
  switch (format) {
    case "text":
      return pairs.map((pair) => `${formatPair(pair)}\n`).join("");
    case "json": {
      const rows = pairs.map(({ from, to, ports }) => ({
        from,
        to,
        connections: formatPortSet(ports),
        ports,
      }));
      return `${JSON.stringify(rows, null, 2)}\n`;
    }
    case "dot": {
      const names = [...new Set(pairs.flatMap(({ from, to }) => [from, to]))].sort();
      const quote = (text: string) => JSON.stringify(text);
      const nodes = names.map((name) => `  ${quote(name)};\n`);
      const edges = pairs.map(
        ({ from, to, ports }) =>
          `  ${quote(from)} -> ${quote(to)} [label=${quote(formatPortSet(ports))}];\n`,
      );
      return `digraph allowed {\n${nodes.join("")}${edges.join("")}}\n`;
    }
  }
}
