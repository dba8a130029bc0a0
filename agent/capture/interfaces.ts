/** Lists host-side interfaces of pods, and the pod's addresses behind each. */
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";

export type HostInterface = {
  name: string;
  index: number;
  /** Its type, ARPHRD_… of linux/if_arp.h: 1 for Ethernet. */
  hardware: number;
  /** Addresses that the node routes to this interface alone: the pod's. */
  addresses: string[];
};

const SYS = "/sys/class/net";

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // gone, or not there on this kernel
  }
}

/**
 * Reports whether an interface is one end of a pair whose other end is in another namespace, as a
 * pod's is: its link index is not its own, and it sits on no device of this one.
 */
function isPodSide(name: string): boolean {
  const index = readText(path.join(SYS, name, "ifindex")).trim();
  const link = readText(path.join(SYS, name, "iflink")).trim();
  if (index === "" || link === index || link === "0") return false;
  return !/DEVTYPE=(vlan|bridge|wlan)/.test(readText(path.join(SYS, name, "uevent")));
}

/**
 * Interfaces to watch now. Without a pattern, those that lead into other network namespaces; with
 * one, those whose whole name it matches.
 */
export function listInterfaces(pattern: RegExp | null): HostInterface[] {
  const routes = hostRoutes();
  let names: string[];
  try {
    names = readdirSync(SYS);
  } catch {
    return [];
  }
  return names
    .filter((name) => (pattern ? pattern.test(name) : isPodSide(name)))
    .map((name) => ({
      name,
      index: Number(readText(path.join(SYS, name, "ifindex")).trim()) || 0,
      hardware: Number(readText(path.join(SYS, name, "type")).trim()),
      addresses: routes.get(name) ?? [],
    }))
    .filter((i) => i.index > 0);
}

/** Host routes by interface: /32 of /proc/net/route, /128 of /proc/net/ipv6_route. */
function hostRoutes(): Map<string, string[]> {
  const routes = new Map<string, string[]>();
  const add = (name: string, address: string) => {
    routes.set(name, [...(routes.get(name) ?? []), address]);
  };
  for (const line of readText("/proc/net/route").split("\n").slice(1)) {
    const [name, destination, , , , , , mask] = line.trim().split(/\s+/);
    if (!name || mask !== "FFFFFFFF" || !destination) continue;
    const bytes = destination.match(/../g) ?? []; // little-endian
    add(name, bytes.reverse().map((byte) => parseInt(byte, 16)).join(".")); // prettier-ignore
  }
  for (const line of readText("/proc/net/ipv6_route").split("\n")) {
    const fields = line.trim().split(/\s+/);
    const name = fields[9];
    const isHost = fields[1] === "80" && name !== undefined && name !== "lo";
    // Local addresses of the node itself are flagged RTF_LOCAL (0x80000000).
    if (!isHost || parseInt(fields[8] ?? "0", 16) >= 0x80000000) continue;
    const groups = fields[0]!.match(/..../g) ?? [];
    add(name, new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1));
  }
  return routes;
}
