/**
 * Checks who is said to have refused, on real traffic: a kernel's filter refuses each port in a way
 * of its own, and tshark says which codes came.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { explainFlow } from "../../agent/explain-flow.ts";
import type { Flow } from "../../protocol/flow-record.ts";
import { atExit, ip, whyNotLive } from "../live.ts";
import { framesOf, read } from "./captures.ts";

type Way = {
  /** As nftables writes it; null where no rule is, and the kernel answers by itself. */
  rule: string | null;
  proto: "tcp" | "udp";
  /** Type and code of the ICMP error; null where none comes. */
  code: string | null;
  by: string;
};

/** nft(8), "reject statement"; the codes are those of RFC 792, RFC 1812 §5.2.7.1, RFC 4443 §3.1. */
const WAYS4: readonly Way[] = [
  ["net-unreachable", 0, "icmp-net-unreachable"],
  ["host-unreachable", 1, "icmp-host-unreachable"],
  ["prot-unreachable", 2, "icmp-protocol-unreachable"],
  ["port-unreachable", 3, "icmp-port-unreachable"],
  ["net-prohibited", 9, "icmp-net-prohibited"],
  ["host-prohibited", 10, "icmp-host-prohibited"],
  ["admin-prohibited", 13, "icmp-admin-prohibited"],
].flatMap(([name, code, by]) => ways(`icmp type ${name}`, `3 ${code}`, by as string));
const WAYS6: readonly Way[] = [
  ["no-route", 0, "icmp-net-unreachable"],
  ["admin-prohibited", 1, "icmp-admin-prohibited"],
  ["addr-unreachable", 3, "icmp-host-unreachable"],
  ["port-unreachable", 4, "icmp-port-unreachable"],
  ["policy-fail", 5, "icmp-policy-failed"],
  ["reject-route", 6, "icmp-reject-route"],
].flatMap(([name, code, by]) => ways(`icmpv6 type ${name}`, `1 ${code}`, by as string));
const RESETS: readonly Way[] = [
  { rule: "tcp reset", proto: "tcp", code: null, by: "rst" },
  { rule: null, proto: "tcp", code: null, by: "rst" },
];
/** RFC 1122 §4.1.3.1: nobody listens there. */
const unheard = (code: string): Way => ({
  ...{ rule: null, proto: "udp", code, by: "icmp-port-unreachable" },
});

function ways(rule: string, code: string, by: string): Way[] {
  return (["tcp", "udp"] as const).map((proto) => ({ rule, proto, code, by }));
}

const FAMILIES = [
  {
    family: "ip",
    router: "10.66.1.1",
    far: "10.66.2.9",
    ways: [...WAYS4, ...RESETS, unheard("3 3")],
  },
  {
    family: "ip6",
    router: "fd66:1::1",
    far: "fd66:2::9",
    ways: [...WAYS6, ...RESETS, unheard("1 4")],
  },
] as const;

const FIRST_PORT = 7000;
const client = `wpk${process.pid.toString(36)}`;
const router = `${client}r`;
const folder = mkdtempSync(path.join(tmpdir(), "wireproof-refusals-"));
t.teardown(() => rmSync(folder, { recursive: true }));
const missing = ["nft", "tcpdump", "tshark"].find(
  (tool) => spawnSync(tool, ["--version"]).error !== undefined,
);
const skip = whyNotLive() || (missing !== undefined && `${missing} is missing`);
const within = (netns: string, ...argv: string[]) => ["netns", "exec", netns, ...argv];

function run(argv: string[], input = ""): string {
  const { status, stdout, stderr } = spawnSync("ip", argv, { encoding: "utf8", input });
  if (status !== 0) throw new Error(`ip ${argv.join(" ")}: ${stderr}`);
  return stdout;
}

/** A client and its router, behind which a network is that nobody lives in. */
function makeHosts(): void {
  atExit(() => [client, router].forEach((name) => spawnSync("ip", ["netns", "del", name])));
  for (const name of [client, router]) {
    ip(`netns add ${name}`);
    run(within(name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"));
    ip(`-n ${name} link set lo up`);
  }
  const on = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
  const unlimited = ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"];
  run(within(router, "sysctl", "-qw", ...on, ...unlimited));
  ip(`-n ${client} link add eth0 type veth peer name eth1 netns ${router}`);
  ip(`-n ${router} link add far type veth peer name nobody`);
  ip(`-n ${client} link set eth0 up`);
  for (const link of ["eth1", "far", "nobody"]) ip(`-n ${router} link set ${link} up`);
  for (const [name, link, address] of [
    [client, "eth0", "10.66.1.2/24"],
    [client, "eth0", "fd66:1::2/64"],
    [router, "eth1", "10.66.1.1/24"],
    [router, "eth1", "fd66:1::1/64"],
    [router, "far", "10.66.2.1/24"],
    [router, "far", "fd66:2::1/64"],
  ]) {
    ip(`-n ${name} addr add ${address} dev ${link}`);
  }
  ip(`-n ${client} route add default via 10.66.1.1`);
  ip(`-n ${client} -6 route add default via fd66:1::1`);
}

/** Rules of one family: each way has a port of its own. */
function rulesOf(family: string, list: readonly Way[]): string {
  const rules = list.flatMap(({ rule, proto }, i) =>
    rule === null ? [] : [`${proto} dport ${FIRST_PORT + i} reject with ${rule}`],
  );
  const chain = "chain c { type filter hook forward priority 0;";
  return `table ${family} t { ${chain} ${rules.join("; ")}; }; }\n`;
}

/** By port: types and codes of the ICMP errors that quote it, as tshark reads them. */
function foreignCodes(file: string): Map<string, Set<string>> {
  const fields = "icmp.type icmp.code icmpv6.type icmpv6.code tcp.dstport udp.dstport".split(" ");
  const argv = ["-r", file, "-Y", "icmp.type == 3 || icmpv6.type == 1", "-T", "fields"];
  const { stdout } = spawnSync("tshark", [...argv, ...fields.flatMap((f) => ["-e", f])], {
    encoding: "utf8",
  });
  const codes = new Map<string, Set<string>>();
  for (const line of stdout.split("\n").slice(0, -1)) {
    const [type4, code4, type6, code6, tcpPort, udpPort] = line.split("\t");
    const port = tcpPort || udpPort!;
    codes.set(port, (codes.get(port) ?? new Set()).add(`${type4 || type6} ${code4 || code6}`));
  }
  return codes;
}

t.test(
  "real refusals, by a filter and by kernels: the record says by what",
  { skip },
  async (t) => {
    makeHosts();
    for (const { family, router: own, far, ways: list } of FAMILIES) {
      const file = path.join(folder, `${family}.pcap`);
      run(within(router, "nft", "-f", "-"), rulesOf(family, list));
      const tcpdump = ["tcpdump", "-i", "eth0", "-w", file, "-U", "--immediate-mode", "-Z", "root"];
      const capture = spawn("ip", within(client, ...tcpdump, "tcp or udp or icmp or icmp6"));
      const ended = new Promise((resolve) => capture.on("close", resolve));
      let said = "";
      capture.stderr.on("data", (text: Buffer) => (said += text.toString()));
      while (!said.includes("listening")) await sleep(10);
      const words = new Map<string, string>();
      for (const host of [far, own]) {
        // By itself a kernel refuses what is for itself; the filter stands before all else.
        const places = list.flatMap(({ rule, proto }, i) =>
          (rule === null) === (host === own) ? [`${proto}:${FIRST_PORT + i}`] : [],
        );
        const knocking = path.join(import.meta.dirname, "knocking.ts");
        const told = run(within(client, process.execPath, knocking, host, places.join(",")));
        for (const line of told.trim().split("\n")) {
          const [, port, word] = JSON.parse(line) as [string, string, string];
          words.set(port, word);
        }
      }
      await sleep(100);
      capture.kill("SIGINT");
      await ended;

      const records = read(await framesOf(file));
      const codes = foreignCodes(file);
      list.forEach(({ rule, proto, code, by }, i) => {
        const port = FIRST_PORT + i;
        const what = `${family} ${proto}: ${rule ?? "no rule"} (${words.get(String(port))})`;
        t.strictSame([...(codes.get(String(port)) ?? [])], code === null ? [] : [code], what);
        const found: Flow[] = records.filter((r) => r.dst_port === port && r.proto === proto);
        t.match(found, [{ state: "refused", refused_by: by, accepted: null }], what);
        // Linux tells programs of some errors only; none of these connected.
        t.not(words.get(String(port)), "connected", what);
      });
      const first = records.findIndex((r) => r.refused_by === list[0]!.by);
      const { steps } = await explainFlow([file], first + 1, "jsonl");
      const told = `ICMP ${list[0]!.by.slice(5).replaceAll("-", " ")}, from ${own}`;
      t.match(steps, [{ what: /^SYN/ }, { what: told, source: /^RFC/ }]);
    }
  },
);
