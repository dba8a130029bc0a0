/**
 * Makes and changes interfaces in the network namespace in which it runs, and prints one line of
 * JSON: what `Links` says after each step, and what `ip` says.
 *
 *     node linking.ts PODS
 *
 * PODS is another network namespace.
 */
import { spawnSync } from "node:child_process";
import { KernelLinks } from "../../agent/capture/links.ts";
import type { Links } from "../../agent/capture/links.ts";
import { SysfsLinks } from "../../agent/capture/sysfs-links.ts";
import { SystemCalls } from "../../agent/capture/system-calls.ts";

const pods = process.argv[2]!;

function ip(args: string, input = ""): string {
  const { stdout, stderr, status } = spawnSync("ip", args.split(" "), { input, encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args}: ${stderr}`);
  return stdout;
}

/** A link, as both tell of it: its index is left out where that says nothing. */
type Told = Record<string, unknown>;
/** ARPHRD_… as iproute2 names them. */
const HARDWARE: Record<string, number> = { ether: 1, loopback: 772, none: 65534 };
type IpLink = Record<"ifname" | "link_type" | "link" | "master", string> & {
  ifindex: number;
  flags: string[];
  linkinfo?: { info_kind?: string; info_slave_kind?: string };
  link_index?: number;
  link_netnsid?: number;
};

function saidByIp(): Record<string, Told> {
  const links = JSON.parse(ip("-d -j link")) as IpLink[];
  const indexOf = new Map(links.map((link) => [link.ifname, link.ifindex]));
  const said = links.map((link) => ({
    index: link.ifindex,
    name: link.ifname,
    hardware: HARDWARE[link.link_type],
    isUp: link.flags.includes("UP"),
    kind: link.linkinfo?.info_kind ?? null,
    peer: link.link_index ?? indexOf.get(link.link) ?? 0,
    leadsOut: link.link_netnsid !== undefined,
    master: indexOf.get(link.master) ?? 0,
    masterKind: link.linkinfo?.info_slave_kind ?? null,
  }));
  return Object.fromEntries(said.map((link) => [link.name, link]));
}

const byName = (links: Links) => Object.fromEntries([...links.all()].map((l) => [l.name, l]));
const addressesOf = (links: Links) =>
  Object.fromEntries(
    [...links.all()]
      .map((l) => [l.name, links.addressesOf(l.index).sort()] as const)
      .filter(([, addresses]) => addresses.length > 0),
  );

const links = new KernelLinks(new SystemCalls());
links.changed();
const steps: unknown[] = [];
function step(what: string, ...commands: readonly string[]): void {
  for (const command of commands) ip(command);
  const changed = links.changed();
  const names = new Map([...links.all()].map((l) => [l.index, l.name]));
  steps.push({
    what,
    changed: [...changed].map((index) => names.get(index) ?? "gone").sort(),
    told: byName(links),
    said: saidByIp(),
    addresses: addressesOf(links),
    listings: links.listings,
  });
}

step("nothing new");
step(
  "all kinds",
  ...["link set lo up", "link add br0 type bridge", "link add vx0 type vxlan id 5 dstport 4789"],
  ...["tuntap add tun0 mode tun", "tuntap add tap0 mode tap", "link add ifb9 type ifb"],
  ...["link add here type veth peer name there", "link set here up", "link set there up"],
  `link add pod0 type veth peer name eth0 netns ${pods}`,
  ...["link set pod0 up", "link set pod0 master br0", "link set br0 up"],
);
step("a port leaves its bridge", "link set pod0 nomaster");
step(
  "routes",
  ...[
    "addr add 10.1.0.1/32 dev lo",
    "route add 10.1.0.2/32 dev pod0",
    "route add 10.2.0.0/24 dev pod0",
  ],
  ...["route add 10.1.0.3/32 dev pod0 table 77", "-6 route add fd00:1::2/128 dev pod0"],
  "route add 10.1.0.2/32 dev pod0 table 77",
);
step("routes go", "route del 10.1.0.2/32 dev pod0", "route del 10.1.0.3/32 dev pod0 table 77");
step("a link goes down", "link set pod0 down");
step("another name", "link set pod0 name pod1", "link set pod1 up", "route add 10.1.0.9 dev pod1");
step("the other end moves", `link set there netns ${pods}`, `-n ${pods} link set there up`);
step(
  "routes move",
  ...["-6 route add fd00:1::9/128 dev pod1", "-6 route replace fd00:1::9/128 dev here"],
  "route replace 10.1.0.9 dev here",
);
step("gone", "link del pod1", "link del vx0", "route del 10.1.0.9", "-6 route del fd00:1::9");
const many = Array.from({ length: 600 }, (_, i) => `link add m${i} type ifb`);
ip("-batch -", many.join("\n")); // more than the socket has room for
step("lost");
ip("-batch -", many.map((line) => line.replace("add", "del").replace(" type ifb", "")).join("\n")); // prettier-ignore
step("lost again");

const sysfs = new SysfsLinks();
ip("route add 10.1.0.7/32 dev here");
sysfs.changed();
const first = { links: byName(sysfs), addresses: addressesOf(sysfs) };
ip("link del br0");
const second = sysfs.changed().size;
links.close();
process.stdout.write(`${JSON.stringify({ steps, sysfs: { ...first, second } })}\n`);
