/** Lists interfaces from sysfs, for machines where no system calls can be made. */
import { existsSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import path from "node:path";
import { formatAddress } from "../../protocol/address.ts";
import type { Link } from "./rtnetlink.ts";
import type { Links } from "./links.ts";

const SYS = "/sys/class/net";

/** ARPHRD_… of tunnels that sysfs does not name otherwise: TUNNEL, TUNNEL6, SIT, IPGRE. */
const TUNNELS: ReadonlyMap<number, string> = new Map([
  ...[[768, "ipip"] as const, [769, "ip6tnl"] as const],
  ...[[776, "sit"] as const, [778, "gre"] as const],
]);

function readText(...parts: readonly string[]): string {
  try {
    return readFileSync(path.join(...parts), "utf8").trim();
  } catch {
    return ""; // gone, or not there on this kernel
  }
}

export class SysfsLinks implements Links {
  readonly fd = -1;
  #links = new Map<number, Link>();
  #routes = new Map<string, string[]>();

  take(): void {
    // Nothing is told: it is read when it is asked for.
  }

  /** Reads one small file of each interface, and more of those that are new. */
  changed(): ReadonlySet<number> {
    const changed = new Set<number>();
    const found = new Map<number, Link>();
    for (const name of listNames()) {
      const index = Number(readText(SYS, name, "ifindex"));
      if (!(index > 0)) continue;
      const known = this.#links.get(index);
      if (known?.name === name) found.set(index, known);
      else {
        found.set(index, readLink(name, index));
        changed.add(index);
      }
    }
    for (const index of this.#links.keys()) if (!found.has(index)) changed.add(index);
    this.#links = found;
    for (const link of found.values()) {
      if (link.kind !== "veth" || link.leadsOut === !isPairHere(link, found)) continue;
      link.leadsOut = !link.leadsOut;
      changed.add(link.index);
    }
    const routes = hostRoutes();
    for (const { index, name } of found.values()) {
      if (String(this.#routes.get(name)) !== String(routes.get(name))) changed.add(index);
    }
    this.#routes = routes;
    return changed;
  }

  get(index: number): Link | undefined {
    return this.#links.get(index);
  }

  all(): Iterable<Link> {
    return this.#links.values();
  }

  addressesOf(index: number): string[] {
    return this.#routes.get(this.#links.get(index)?.name ?? "") ?? [];
  }

  close(): void {
    // Nothing is open.
  }
}

/** Indexes are each namespace's own: the pair is here when both name each other. */
function isPairHere({ index, peer }: Link, links: ReadonlyMap<number, Link>): boolean {
  return links.get(peer)?.peer === index;
}

function listNames(): string[] {
  try {
    return readdirSync(SYS);
  } catch {
    return [];
  }
}

function readLink(name: string, index: number): Link {
  const hardware = Number(readText(SYS, name, "type"));
  const peer = Number(readText(SYS, name, "iflink"));
  const isPaired = peer !== 0 && peer !== index;
  const kind = kindOf(name, hardware, isPaired);
  let master = "";
  try {
    master = path.basename(readlinkSync(path.join(SYS, name, "master")));
  } catch {
    // It is a port of none.
  }
  return {
    ...{ index, name, hardware, isUp: true, kind, peer: isPaired ? peer : 0 },
    leadsOut: false, // told by whether the other end is here
    master: master === "" ? 0 : Number(readText(SYS, master, "ifindex")),
    masterKind: master === "" ? null : deviceType(master),
  };
}

const deviceType = (name: string) =>
  /^DEVTYPE=(.+)$/m.exec(readText(SYS, name, "uevent"))?.[1] ?? null;

/** What made it, as `Link.kind`, as far as sysfs tells. */
function kindOf(name: string, hardware: number, isPaired: boolean): string | null {
  const told = deviceType(name) ?? TUNNELS.get(hardware);
  if (told !== undefined) return told;
  if (existsSync(path.join(SYS, name, "tun_flags"))) return "tun";
  if (isPaired) return "veth";
  return existsSync(path.join(SYS, name, "device")) ? null : "unknown";
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
    const words = (fields[0]!.match(/.{8}/g) ?? []).map((word) => parseInt(word, 16) | 0);
    add(name, formatAddress(words[0]!, words[1]!, words[2]!, words[3]!));
  }
  return routes;
}
