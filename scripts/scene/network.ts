/**
 * Builds the network: a namespace per node and per pod, routed veths as Calico lays them.
 *
 *     pod netns                    node netns                           wire netns
 *     eth0 10.244.1.10/32 ──veth── wpweb  ee:ee:ee:ee:ee:ee
 *       default via 169.254.1.1      10.244.1.10 dev wpweb, proxy_arp
 *                                  eth0 172.20.0.11 ────────veth────── node-a ┐
 *                                    10.244.2.0/24 via 172.20.0.12            ├ br0 172.20.0.1
 *                                                                      node-b ┘
 *     host: wp<run> 198.18.N.1 ───────────────veth──────────────────── uplink 198.18.N.2
 *
 * Only nodes reach the host, only at the uplink's address, and the wire namespace masquerades them,
 * so that several scenes can stand side by side.
 */
import { spawnSync } from "node:child_process";
import { mustRun } from "./processes.ts";
import type { NodePlan, Plan } from "./plan.ts";

const GATEWAY = "172.20.0.1";
const HOST_MAC = "ee:ee:ee:ee:ee:ee";

export type Names = {
  wire: string;
  node: (name: string) => string;
  pod: (workload: string) => string;
  /** The host's end of the uplink, and its two addresses. */
  uplink: string;
  hostAddress: string;
  wireAddress: string;
};

/** Every name of a run; `lane` (1..254) keeps the uplinks of several runs apart. */
export function namesOf(run: string, lane: number): Names {
  return {
    wire: `wp-${run}-wire`,
    node: (name) => `wp-${run}-${name}`,
    pod: (workload) => `wp-${run}-${workload.replace("/", "-")}`,
    uplink: `wp${run}`.slice(0, 15),
    hostAddress: `198.18.${lane}.1`,
    wireAddress: `198.18.${lane}.2`,
  };
}

/** All namespaces of a plan: the wire, the nodes, the pods. */
export function namespacesOf(plan: Plan, names: Names): string[] {
  return [
    names.wire,
    ...plan.nodes.map((node) => names.node(node.name)),
    ...plan.pods.map((pod) => names.pod(pod.workload)),
  ];
}

const ipBatch = (netns: string | null, lines: string[]) =>
  mustRun(["ip", ...(netns === null ? [] : ["-n", netns]), "-batch", "-"], {
    input: `${lines.join("\n")}\n`,
  });

const sysctl = (netns: string, settings: string[]) =>
  mustRun(["ip", "netns", "exec", netns, "sysctl", "-q", "-e", "-w", ...settings]);

/** An IPv4-only cluster: no router solicitations, no link-local traffic. */
const ONLY_IPV4 = ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"];

async function buildWire(plan: Plan, names: Names): Promise<void> {
  await sysctl(names.wire, [...ONLY_IPV4, "net.ipv4.ip_forward=1"]);
  await ipBatch(names.wire, [
    "link set lo up",
    "link add br0 type bridge",
    `addr add ${GATEWAY}/24 dev br0`,
    "link set br0 up",
    ...plan.nodes.flatMap(({ name }) => [
      `link add ${name} type veth peer name eth0 netns ${names.node(name)}`,
      `link set ${name} master br0 up`,
    ]),
  ]);
}

/** The way from the nodes to the collector on the host, and to nothing else there. */
async function buildUplink(names: Names): Promise<void> {
  await ipBatch(null, [
    `link add ${names.uplink} type veth peer name uplink netns ${names.wire}`,
    `addr add ${names.hostAddress}/30 dev ${names.uplink}`,
    `link set ${names.uplink} up`,
  ]);
  await ipBatch(names.wire, [`addr add ${names.wireAddress}/30 dev uplink`, "link set uplink up"]);
  await nft(names.wire, [
    "table ip scene {",
    "  chain forward {",
    "    type filter hook forward priority filter; policy accept;",
    `    oifname "uplink" ip saddr ${GATEWAY}/24 ip daddr ${names.hostAddress} accept`,
    '    oifname "uplink" drop',
    "  }",
    "  chain postrouting {",
    "    type nat hook postrouting priority srcnat; policy accept;",
    '    oifname "uplink" masquerade',
    "  }",
    "}",
  ]);
}

const nft = (netns: string, lines: string[]) =>
  mustRun(["ip", "netns", "exec", netns, "nft", "-f", "-"], { input: `${lines.join("\n")}\n` });

async function buildNode(plan: Plan, names: Names, node: NodePlan): Promise<void> {
  const netns = names.node(node.name);
  await sysctl(netns, [...ONLY_IPV4, "net.ipv4.ip_forward=1"]);
  await ipBatch(netns, [
    "link set lo up",
    `addr add ${node.address}/24 dev eth0`,
    "link set eth0 up",
    `route add default via ${GATEWAY}`,
    // An address of this node's range without a pod stays without an answer, as with Calico.
    `route add blackhole ${node.podCidr}`,
    ...plan.nodes
      .filter((other) => other !== node)
      .map((other) => `route add ${other.podCidr} via ${other.address}`),
    ...node.pods.flatMap((pod) => [
      `link add ${pod.interface} type veth peer name eth0 netns ${names.pod(pod.workload)}`,
      `link set ${pod.interface} address ${HOST_MAC} up`,
      `route add ${pod.address} dev ${pod.interface} scope link`,
    ]),
  ]);
  await sysctl(
    netns,
    node.pods.flatMap((pod) => [
      `net.ipv4.conf.${pod.interface}.proxy_arp=1`,
      `net.ipv4.neigh.${pod.interface}.proxy_delay=0`,
    ]),
  );
  await nft(netns, rulesOf(plan, node));
}

/**
 * Service addresses as kube-proxy translates them; this node's address in the place of the pods
 * that it masquerades; what it enforces.
 */
function rulesOf(plan: Plan, node: NodePlan): string[] {
  return [
    "table ip scene {",
    "  chain services {",
    "    type nat hook prerouting priority dstnat; policy accept;",
    ...plan.services.map(
      (s) =>
        `    ip daddr ${s.clusterIp} ${s.protocol} dport ${s.port} ` +
        `dnat to ${s.endpoint}:${s.targetPort}`,
    ),
    "  }",
    "  chain leaving {",
    "    type nat hook postrouting priority srcnat; policy accept;",
    ...node.pods
      .filter((pod) => pod.masqueraded)
      .map((pod) => `    oifname "eth0" ip saddr ${pod.address} masquerade`),
    "  }",
    "  chain policies {",
    "    type filter hook forward priority filter; policy accept;",
    "    ct state established,related accept",
    ...plan.enforced
      .filter((rule) => rule.node === node.name)
      .map(
        (rule) =>
          `    ip daddr ${rule.address} tcp dport ${rule.port} ` +
          `ip saddr != { ${rule.allowed.join(", ")} } counter ${rule.statement}`,
      ),
    "  }",
    "}",
  ];
}

async function buildPod(names: Names, workload: string, address: string): Promise<void> {
  await ipBatch(names.pod(workload), [
    "link set lo up",
    "link set eth0 up",
    `addr add ${address}/32 dev eth0`,
    "route add 169.254.1.1 dev eth0 scope link",
    "route add default via 169.254.1.1 dev eth0",
  ]);
}

/** Builds all of it; on failure the caller removes what there is. */
export async function buildNetwork(plan: Plan, names: Names): Promise<void> {
  await ipBatch(
    null,
    namespacesOf(plan, names).map((netns) => `netns add ${netns}`),
  );
  await Promise.all(plan.pods.map((pod) => sysctl(names.pod(pod.workload), ONLY_IPV4)));
  await buildWire(plan, names);
  await buildUplink(names);
  for (const node of plan.nodes) await buildNode(plan, names, node);
  await Promise.all(plan.pods.map((pod) => buildPod(names, pod.workload, pod.address)));
}

/**
 * Ends by id every process inside the namespaces, then removes them with all their links. In one
 * go, so that it can also be done while the process exits.
 */
export function removeNetwork(namespaces: readonly string[], uplink: string): void {
  const ip = (args: string[], input = "") =>
    spawnSync("ip", args, { input, encoding: "utf8" }).stdout ?? "";
  const there = new Set(
    ip(["netns", "list"])
      .split("\n")
      .map((line) => line.split(" ")[0]!),
  );
  const ours = namespaces.filter((netns) => there.has(netns));
  for (const netns of ours) {
    for (const pid of ip(["netns", "pids", netns]).split("\n").map(Number)) {
      if (!(pid > 1)) continue;
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended meanwhile.
      }
    }
  }
  ip(["link", "del", uplink]);
  ip(["-force", "-batch", "-"], ours.map((netns) => `netns del ${netns}\n`).join(""));
}
