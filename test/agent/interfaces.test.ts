/** Tests which interfaces are watched: the rule, what the kernel tells, and many that come and go. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import t from "tap";
import { kindOf, watchAs } from "../../agent/capture/interfaces.ts";
import { Lanes } from "../../agent/capture/lanes.ts";
import { KernelLinks } from "../../agent/capture/links.ts";
import { readMessages } from "../../agent/capture/rtnetlink.ts";
import type { SystemCalls } from "../../agent/capture/system-calls.ts";
import type { Link } from "../../agent/capture/rtnetlink.ts";
import { readAgentConfig } from "../../agent/config.ts";
import { hex } from "../frames.ts";
import { atExit, whyNotLive } from "../live.ts";

t.setTimeout(120_000);

// ---- the rule -----------------------------------------------------------------------------------

/** `name kind …`: `out` leads to another namespace, `down`, `port:KIND` and `part` have a master. */
function linkOf(text: string): Link {
  const [name, kind, ...more] = text.split(" ") as [string, string, ...string[]];
  const port = more.find((word) => word.startsWith("port:"));
  const number = more.find((word) => /^\d+$/.test(word));
  return {
    ...{ name, index: 7, hardware: Number(number ?? 1), isUp: !more.includes("down") },
    ...{ kind: kind === "-" ? null : kind, peer: 0, leadsOut: more.includes("out") },
    master: port || more.includes("part") ? 3 : 0,
    masterKind: port?.slice(5) ?? null,
  };
}

t.test("an interface is what the kernel says of it, as network plugins lay them", async (t) => {
  // The devices that `ip -d link` shows on nodes of these plugins.
  const rows: readonly (readonly [string, string | null])[] = [
    ["veth5f2a9c veth out port:bridge", "pod"], // flannel, on cni0
    ["vethweplb1c6d0e veth out port:bridge", "pod"], // Weave
    ["cali12d4a061371 veth out", "pod"],
    ["lxcf1e8b1d2b0c4 veth out", "pod"], // Cilium
    ["lxc5d2c9c0a1b77 netkit out 65534", "pod"], // Cilium in netkit mode
    ["azv3d1f2e9a11b veth out", "pod"], // Azure
    ["gke52f2e9a11b0 veth out", "pod"],
    ["eni58a4c9f6c2e veth out", "pod"], // AWS VPC CNI
    ["0a58c2a1b2f3d4e veth out port:openvswitch", "pod"], // OVN-Kubernetes
    ["lxc_health veth out", null], // no pod: Cilium's own probes
    ["cilium_host veth", null],
    ["cilium_net veth", null],
    ["bpfout.cali veth", null],
    ["vethwe-bridge veth port:bridge", null],
    ["cni0 bridge", null],
    ["ovs-system openvswitch", null],
    ["kube-ipvs0 dummy down", null],
    ["nodelocaldns dummy", null],
    ["eth0 -", "uplink"],
    ["ens5 - port:openvswitch", "uplink"], // OVN-Kubernetes' br-ex
    ["eth1 - port:bond", null],
    ["enP5p1 - part", null], // Azure's virtual function behind eth0
    ["bond0 bond", "uplink"],
    ["ib0 - 32", null], // InfiniBand is not read
    ["flannel.1 vxlan", "tunnel"],
    ["cilium_vxlan vxlan", "tunnel"],
    ["genev_sys_6081 geneve port:openvswitch", "tunnel"],
    ["wg0 wireguard 65534", "tunnel"],
    ["cilium_wg0 wireguard 65534", "tunnel"],
    ["tunl0 ipip 768", "tunnel"],
    ["ipsec0 xfrm 65534", "tunnel"],
    ["flannel0 tun 65534", "tunnel"],
    ["vnet0 tun", null], // a tap: of a machine
    ["lo - 772", "host"],
  ];
  for (const [text, kind] of rows) t.equal(kindOf(linkOf(text)), kind, text);
});

t.test("watched is what was asked for, by kind or by name", async (t) => {
  const all = { pattern: null, kinds: ["pod", "uplink", "tunnel", "host"] as const };
  const pods = { pattern: null, kinds: ["pod"] as const };
  const named = (pattern: RegExp) => ({ pattern, kinds: [] });
  t.equal(watchAs(linkOf("cali1 veth out down"), pods), "pod");
  t.equal(watchAs(linkOf("eth0 -"), pods), null);
  t.equal(watchAs(linkOf("eth0 -"), all), "uplink");
  t.equal(watchAs(linkOf("tunl0 ipip 768 down"), all), null, "until it is up");
  t.equal(watchAs(linkOf("cni0 bridge"), all), null);
  t.equal(watchAs(linkOf("cni0 bridge"), named(/^cni0$/)), "other");
  t.equal(watchAs(linkOf("eth0 - down"), named(/^eth.$/)), "uplink");
  t.equal(
    watchAs(linkOf("vnet0 tun"), named(/^vnet\d$/)),
    "pod",
    "a machine that the operator names",
  );
  t.equal(watchAs(linkOf("lxc_health veth out"), named(/^lxc.*$/)), "pod");
  t.equal(watchAs(linkOf("cali1 veth out"), named(/^eth.$/)), null);
});

t.test("--watch and --interfaces, and the mistakes with them", async (t) => {
  const flags = { collector: "wss://c", key: "k", cert: "c", ca: "a" };
  const wanted = (more: Record<string, string>) => readAgentConfig({ ...flags, ...more }).wanted;
  t.strictSame(wanted({}), { pattern: null, kinds: ["pod"] });
  t.strictSame(wanted({ watch: "uplinks, host" }), { pattern: null, kinds: ["uplink", "host"] });
  t.strictSame(wanted({ interfaces: "a|b" }), { pattern: /^(?:a|b)$/, kinds: ["pod"] });
  t.throws(() => wanted({ watch: "pods", interfaces: "a" }), { code: "CONFIG_WATCH" });
  t.throws(() => wanted({ watch: "pod" }), /some of pods, uplinks, tunnels, host, by commas/);
  t.throws(() => wanted({ interfaces: "(" }), { code: "CONFIG_REGEX" });
});

t.test("a lane is given again only when it is free, and as late as can be", async (t) => {
  const lanes = new Lanes();
  t.equal(lanes.take(), 0);
  t.equal(lanes.take(), 1);
  lanes.free(1);
  for (let i = 2; i < 65_536; i++) lanes.free(lanes.take());
  t.strictSame([lanes.take(), lanes.take()], [1, 2], "0 is still taken");
});

// ---- what the kernel tells --------------------------------------------------------------------

/** What messages say, a line each. */
function read(bytes: Uint8Array): string[] {
  const told: string[] = [];
  readMessages(bytes, bytes.length, {
    link: ({ index, name, kind, leadsOut }) => told.push(`${index} ${name} ${kind} ${leadsOut}`),
    linkGone: (index) => told.push(`${index} gone`),
    address: (index, address, table) => told.push(`${index} ${address} in ${table}`),
    addressGone: (index, address, table) => told.push(`${index} no ${address} in ${table}`),
    torn: () => told.push("torn"),
  });
  return told;
}

// nlmsghdr, ifinfomsg, IFLA_IFNAME, IFLA_LINKINFO { IFLA_INFO_KIND }, IFLA_LINK_NETNSID.
const LINK = hex(
  "44000000 1000 0000 00000000 00000000  00 00 0100 09000000 01000000 00000000" +
    "0a00 0300 7665746830 00 0000  10001280 0a000100 766574680000 0000  08002500 00000000",
);
// nlmsghdr, rtmsg of a /32 in table 254, RTA_DST, RTA_OIF.
const ROUTE = hex(
  "2c000000 1800 0000 00000000 00000000  02 20 00 00 fe 03 fd 01 00000000" +
    "08000100 0a010002  08000400 09000000",
);
const changed = (bytes: Uint8Array, at: number, ...values: number[]) => {
  const copy = bytes.slice();
  copy.set(values, at);
  return copy;
};

t.test("messages of the kernel are read; what is not ours is passed over", async (t) => {
  t.equal(LINK.length, 0x44);
  t.equal(ROUTE.length, 0x2c);
  t.strictSame(read(LINK), ["9 veth0 veth true"]);
  t.strictSame(read(changed(LINK, 4, 17)), ["9 gone"]);
  t.strictSame(read(changed(changed(LINK, 4, 17), 16, 7)), [], "a port that leaves its bridge");
  t.strictSame(read(ROUTE), ["9 10.1.0.2 in 254"]);
  t.strictSame(read(changed(ROUTE, 4, 25)), ["9 no 10.1.0.2 in 254"]);
  t.strictSame(read(changed(ROUTE, 17, 24)), [], "a network");
  t.strictSame(read(changed(ROUTE, 23, 2)), [], "an address of the node");
  t.strictSame(read(Buffer.concat([LINK, ROUTE])), ["9 veth0 veth true", "9 10.1.0.2 in 254"]);
});

t.test("a message that is cut off or contradicts itself is passed over", async (t) => {
  const both = Buffer.concat([ROUTE, LINK]);
  for (let length = 0; length < both.length; length++) {
    const told = read(both.subarray(0, length));
    t.same(told, length < ROUTE.length ? [] : ["9 10.1.0.2 in 254"], `${length} bytes`);
  }
  for (let at = 0; at < both.length; at++) {
    for (const value of [0, 1, 3, 0xff]) read(changed(both, at, value)); // ends, and throws nothing
  }
});

t.test("a listing that a change has torn makes no interface gone", async (t) => {
  const DONE = hex("14000000 0300 0000 00000000 00000000 00000000");
  // NLM_F_DUMP_INTR of linux/netlink.h, in whichever message the kernel noticed.
  const [torn, tornLink] = [changed(DONE, 6, 0x10), changed(changed(LINK, 6, 0x10), 20, 8)];
  const said: (Uint8Array | null)[] = [];
  const calls = {
    ...{ socket: () => 1, bind: () => {}, write: () => true, close: () => {} },
    receive: (_fd: number, into: Uint8Array) => {
      const bytes = said.shift();
      if (bytes) into.set(bytes);
      return bytes === null ? -1 : (bytes?.length ?? 0);
    },
  };
  const links = new KernelLinks(calls as unknown as SystemCalls);
  const heard = (...messages: readonly (Uint8Array | null | undefined)[]) => {
    said.push(...(messages as (Uint8Array | null)[]));
    links.changed();
    return [Array.from(links.all(), ({ index }) => index), said.length];
  };
  const none = undefined;
  const [eight, down] = [changed(LINK, 20, 8), changed(LINK, 24, 0)];
  const ninth = () => links.get(9)?.isUp;
  t.strictSame(heard(none, LINK, DONE, none, DONE), [[9], 0], "at the start, and routes");
  t.strictSame(heard(null, none, torn, none), [[9], 0], "some was lost, and the listing is torn");
  t.strictSame(heard(none, tornLink, DONE, none), [[9, 8], 0], "again");
  t.strictSame(heard(none, eight, DONE, none, DONE), [[8], 0], "and whole");
  // The kernel's messages of three that go, the last of which it had no room for.
  t.strictSame(heard(LINK, none), [[8, 9], 0]);
  t.strictSame(heard(null, none, eight, DONE, null, down, none), [[8, 9], 0], "it went down");
  t.equal(ninth(), false, "and is not gone before all that was told is heard");
  t.strictSame(heard(none, eight, DONE, none, DONE), [[8], 0], "it is, by a listing since then");
});

// ---- live ---------------------------------------------------------------------------------------

const nodes = `wpi${process.pid.toString(36)}`;
const pods = `${nodes}p`;
const cleanUp = () => [nodes, pods].forEach((name) => spawnSync("ip", ["netns", "del", name]));

const skip = whyNotLive();
if (skip === false) {
  atExit(cleanUp);
}

/** What a child says that runs in a new namespace, with another for pods beside it. */
function inNode<T>(file: string, ...args: readonly string[]): T {
  cleanUp();
  for (const name of [nodes, pods]) {
    spawnSync("ip", ["netns", "add", name]);
    const quiet = ["all", "default"].map((each) => `net.ipv6.conf.${each}.disable_ipv6=1`);
    if (args.length > 0) spawnSync("ip", ["netns", "exec", name, "sysctl", "-qw", ...quiet]);
  }
  spawnSync("ip", `-n ${nodes} link add sa0 type veth peer name sb0`.split(" "));
  for (const name of ["sa0", "sb0"]) spawnSync("ip", ["-n", nodes, "link", "set", name, "up"]);
  const child = path.join(import.meta.dirname, file);
  const argv = ["netns", "exec", nodes, process.execPath, child, ...args, pods];
  const options = { encoding: "utf8", timeout: 60_000, killSignal: "SIGKILL" } as const;
  const { stdout, stderr } = spawnSync("ip", argv, options);
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout) as T;
}

type Step = {
  what: string;
  changed: string[];
  told: Record<string, Link>;
  said: Record<string, Link>;
  addresses: Record<string, string[]>;
  listings: number;
};
type Sysfs = { links: Record<string, Link>; addresses: Record<string, string[]>; second: number };

t.test("what changes is told, and all is as `ip` has it, also what was lost", { skip }, (t) => {
  const { steps, sysfs } = inNode<{ steps: Step[]; sysfs: Sysfs }>("linking.ts");
  for (const { what, told, said } of steps) t.strictSame(told, said, what);
  const step = (what: string) => steps.find((each) => each.what === what)!;
  t.strictSame(step("nothing new").changed, []);
  t.match(step("all kinds").told, {
    ...{ br0: { kind: "bridge" }, vx0: { kind: "vxlan" }, tun0: { hardware: 65534 } },
    ...{ here: { leadsOut: false }, pod0: { leadsOut: true, masterKind: "bridge" } },
  });
  t.strictSame(step("a port leaves its bridge").changed, ["pod0"]);
  const both = ["10.1.0.2", "10.1.0.3", "fd00:1::2"];
  t.strictSame(step("routes").addresses, { pod0: both });
  t.strictSame(
    step("routes go").addresses,
    { pod0: ["10.1.0.2", "fd00:1::2"] },
    "one of two tables",
  );
  t.strictSame(step("a link goes down").addresses, {}, "the kernel tells of no route");
  t.strictSame(step("another name").addresses, { pod1: ["10.1.0.9"] });
  t.match(step("the other end moves").told, { here: { leadsOut: true } });
  t.strictSame(step("routes move").addresses, { here: ["10.1.0.9", "fd00:1::9"] });
  t.equal(step("gone").listings, 1, "until here nothing was listed again");
  t.equal(step("lost").changed.length, 600);
  t.equal(step("lost").listings, 2, "messages were lost, so all was");
  t.equal(step("lost again").changed.length, 600);
  // Without system calls: the same, as far as it decides.
  for (const [name, link] of Object.entries(sysfs.links)) {
    t.equal(kindOf(link), kindOf(step("lost again").said[name]!), `${name} by sysfs`);
  }
  t.strictSame(sysfs.addresses, { here: ["10.1.0.7"] });
  t.equal(sysfs.second, 1, "what is gone has changed");
  t.end();
});

type Place = { name: string; packets: number[]; bytes: number[] };

for (const tier of ["ring-cutoff", "libpcap"]) {
  t.test(`${tier}: tunnels and the host's own traffic are seen when asked for`, { skip }, (t) => {
    const all = inNode<Record<string, unknown>>("kinds.ts", tier, "pod,uplink,tunnel,host");
    t.strictSame(all["watches"], { lo: "host", pod0: "pod", tun0: "tunnel", vx0: "tunnel" });
    const inside = { to: "10.71.0.2", vantage: null, state: "closed" };
    const bare = { ...inside, to: "10.72.0.2" };
    t.match(all["seen"], [
      { name: "lo", kind: "host", to: "127.0.0.1", vantage: null, encap: [], state: "closed" },
      { name: "pod0", kind: "pod", ...inside, encap: ["vxlan:7"] },
      // What goes to the other node as datagrams is no secret, and told by what it is.
      { name: "pod0", kind: "pod", ...bare, encap: ["fou"] },
      { name: "pod0", kind: "pod", ...bare, encap: ["fou"] },
      { name: "tun0", kind: "tunnel", ...bare, encap: [] },
      { name: "tun0", kind: "tunnel", ...bare, encap: [] },
      { name: "vx0", kind: "tunnel", ...inside, encap: [] },
    ]);
    const [lo, wrapped, shortSent, longSent, short, long, plain] = all["seen"] as Place[];
    t.strictSame(wrapped!.packets, plain!.packets);
    t.strictSame([shortSent!.packets, longSent!.packets], [short!.packets, long!.packets]);
    t.equal(lo!.packets[0]! + lo!.packets[1]!, all["loopback"], "each packet once");
    // A device of bare IP packets, with a connection that is longer than what is handed over.
    t.ok(long!.bytes[1]! > 400_000);
    const sums = [0, 1].map((side) => short!.packets[side]! + long!.packets[side]!);
    t.strictSame(sums, all["tunnel"], "all that the device counts itself");
    const cutOff = all["cutOff"] as number;
    if (tier === "ring-cutoff") t.ok(cutOff > sums[1]! / 2, `${cutOff} of ${String(sums)} cut off`);
    else t.equal(cutOff, 0);
    const pods = inNode<Record<string, unknown>>("kinds.ts", tier, "pod");
    t.strictSame(pods["watches"], { pod0: "pod" });
    t.equal((pods["seen"] as Place[]).length, 3);
    t.end();
  });
}

const COUNT = 300;
for (const tier of ["ring-cutoff", "ring"]) {
  t.test(`${tier}: ${COUNT} pods come and go at once, and none is missed`, { skip }, (t) => {
    const told = inNode<Record<string, unknown>>("come-and-go.ts", tier, String(COUNT));
    const { watched, addressed, greeted, twice, ended, endedGreeted, left, dropped } = told;
    t.equal(told["early"], 0, "nothing is watched before it is asked for");
    t.strictSame([watched, addressed, greeted], [COUNT, COUNT, COUNT], "with address and frames");
    t.strictSame([ended, endedGreeted], [COUNT, COUNT]);
    t.strictSame([twice, left, dropped], [[], ["sb0"], 0]);
    const { sent, seen } = told["steady"] as Record<string, number>;
    t.ok(sent! > 50, `${sent} frames in between`);
    t.equal(seen, sent);
    t.end();
  });
}
