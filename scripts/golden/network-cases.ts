/** Lists the golden captures of what keeps networks running: names, time, routes, tunnels. */
import { mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { mustRun, run, until } from "../scene/processes.ts";
import { exchange, exchangeDatagrams, hex, plain, sealed } from "./acts.ts";
import { FAR, NEAR, WIRE } from "./far-host.ts";
import type { Case, Stage, Truth } from "./stage.ts";

/** Datagrams of one side, to which nothing answers. */
const unanswered = (protocol: string): Truth => ({ ...plain(protocol, null), proto: "udp" });
const answered = (protocol: string): Truth => ({
  ...{ ...plain(protocol), proto: "udp", state: "established" },
});

async function askDnsmasq(stage: Stage, ...how: string[]): Promise<void> {
  await stage.serve([
    ...["dnsmasq", "-k", "-C", "/dev/null", "-p", String(stage.port), "-a", "127.0.0.1", "-z"],
    ...["--no-resolv", "--no-hosts", "--address=/golden/192.0.2.7", "-x", stage.file("dnsmasq")],
  ]);
  const said = await mustRun(["dig", "@127.0.0.1", "-p", String(stage.port), ...how, "a.golden"]);
  if (!said.includes("192.0.2.7")) throw new Error(`dig: ${said}`);
}

async function askTime(stage: Stage): Promise<void> {
  const own = ["-d", "-x", "-u", "root"];
  const config = (name: string, ...lines: string[]) =>
    stage.write(
      name,
      [...lines, "cmdport 0", `pidfile ${stage.file(`${name}.pid`)}`, ""].join("\n"),
    );
  const server = config(
    "chrony-server",
    ...[`port ${stage.port}`, "bindaddress 127.0.0.1", "allow", "local stratum 8"],
  );
  await stage.serveDatagrams(["chronyd", ...own, "-f", server]);
  const client = config(
    "chrony-client",
    `server 127.0.0.1 port ${stage.port} iburst maxsamples 1`,
    "port 0",
  );
  await run(["chronyd", ...own, "-Q", "-t", "4", "-f", client]);
}

async function serveSnmp(stage: Stage): Promise<void> {
  const folder = stage.file(`snmp-${stage.port}`);
  mkdirSync(folder);
  const config = stage.write(
    `snmp-${stage.port}/snmpd.conf`,
    `rocommunity public\nrouser golden priv
createUser golden SHA "golden-auth" AES "golden-priv"\n`,
  );
  await stage.serveDatagrams([
    ...["env", `SNMP_PERSISTENT_DIR=${folder}`, "MIBS=", "snmpd", "-f", "-Ln", "-C", "-c", config],
    ...["-p", `${folder}/pid`, `udp:127.0.0.1:${stage.port}`],
  ]);
}

const snmpget = (stage: Stage, ...how: string[]) =>
  mustRun(["snmpget", ...how, `127.0.0.1:${stage.port}`, ".1.3.6.1.2.1.1.5.0"]);

/** util-linux's logger at rsyslog; `-d` is UDP, `-T` is TCP. */
async function log(stage: Stage, transport: "-d" | "-T", ...how: string[]): Promise<void> {
  const [module, input] = transport === "-d" ? ["imudp", "imudp"] : ["imtcp", "imtcp"];
  const config = stage.write(
    "rsyslog.conf",
    `module(load="${module}")\ninput(type="${input}" address="127.0.0.1" port="${stage.port}")
*.* ${stage.file("messages")}\n`,
  );
  const server = ["rsyslogd", "-n", "-f", config, "-i", stage.file("rsyslog.pid")];
  await (transport === "-d" ? stage.serveDatagrams(server) : stage.serve(server));
  await mustRun([
    ...["logger", "-n", "127.0.0.1", "-P", String(stage.port), transport, ...how, "hello golden"],
  ]);
}

/** Two BIRDs, of which the near one connects. */
async function speakBgp(stage: Stage): Promise<void> {
  const config = (name: string, own: string, number: number, other: string, passive: string) =>
    stage.write(
      `${name}.conf`,
      `router id ${own};\nprotocol device { }
protocol static { ipv4; route 198.51.100.0/24 blackhole; }
protocol bgp golden { local ${own} as ${number}; neighbor ${other} as ${64512 + 64513 - number};
 passive ${passive}; connect delay time 1; ipv4 { import all; export all; }; }\n`,
    );
  const far = config("bird-far", FAR, 64513, NEAR, "yes");
  const near = config("bird-near", NEAR, 64512, FAR, "no");
  const bird = (file: string) => ["bird", "-f", "-c", file, "-s", `${file}.ctl`];
  await stage.start(stage.far.there(...bird(far)), () => true);
  const show = ["birdc", "-s", `${near}.ctl`, "show", "protocols", "golden"];
  const isUp = async () => (await run(show)).output.includes("Established");
  await stage.start(bird(near), isUp);
  await sleep(300);
}

/** WireGuard in user space, on both hosts; a ping goes through. */
async function pingWireguard(stage: Stage): Promise<void> {
  const keys = new Map<string, string>();
  const hosts = [
    { name: "wgnear", there: [] as string[], inner: "10.7.0.1", outer: NEAR },
    { name: "wgfar", there: stage.far.there(), inner: "10.7.0.2", outer: FAR },
  ];
  for (const { name } of hosts) {
    const secret = await mustRun(["wg", "genkey"]);
    stage.write(`${name}.key`, secret);
    keys.set(name, (await run(["wg", "pubkey"], { input: secret })).output.trim());
  }
  for (const [i, { name, there, inner }] of hosts.entries()) {
    const other = hosts[1 - i]!;
    const isUp = async () => (await run([...there, "wg", "show", name])).code === 0;
    await stage.start([...there, "wireguard-go", "-f", name], isUp);
    await mustRun([
      ...[...there, "wg", "set", name, "listen-port", String(stage.port)],
      ...["private-key", stage.file(`${name}.key`), "peer", keys.get(other.name)!],
      ...["allowed-ips", "10.7.0.0/24", "endpoint", `${other.outer}:${stage.port}`],
    ]);
    await mustRun([...there, "ip", "address", "add", `${inner}/24`, "dev", name]);
    await mustRun([...there, "ip", "link", "set", name, "up"]);
  }
  await mustRun(["ping", "-c", "2", "-i", "0.3", "-W", "3", "10.7.0.2"]);
}

/** OpenVPN from one host to the other, both with certificates; a ping goes through. */
async function pingOpenvpn(stage: Stage, proto: "udp4" | "tcp4", wrap: string): Promise<void> {
  const shared = stage.file("openvpn.key");
  await mustRun(["openvpn", "--genkey", "secret", shared]);
  const common = [
    "--dev-type",
    "tun",
    "--verb",
    "3",
    "--data-ciphers",
    "AES-256-GCM",
    "--auth-nocache",
  ];
  const wrapped = wrap === "" ? [] : [`--${wrap}`, shared];
  const files = (holder: "server" | "client") => [
    ...["--ca", stage.file("golden-ca.pem"), "--cert", stage.certificate(holder)],
    ...["--key", stage.key(holder)],
  ];
  const side = (end: "server" | "client") => (proto === "tcp4" ? `${proto}-${end}` : proto);
  const isUp = (host: string[], name: string) => async () =>
    (await run([...host, "ip", "-4", "address", "show", "dev", name])).output.includes("10.9.0.");
  const there = stage.far.there();
  await stage.start(
    [
      ...[...there, "openvpn", ...common, "--dev", "ovfar", "--tls-server", "--dh", "none"],
      ...["--proto", side("server"), "--port", String(stage.port), "--local", FAR],
      ...[...files("server"), ...wrapped, "--ifconfig", "10.9.0.2", "10.9.0.1"],
    ],
    isUp(there, "ovfar"),
  );
  await stage.start(
    [
      ...["openvpn", ...common, "--dev", "ovnear", "--tls-client", "--nobind"],
      ...["--proto", side("client"), "--remote", FAR, String(stage.port)],
      ...[...files("client"), ...wrapped, "--ifconfig", "10.9.0.1", "10.9.0.2"],
    ],
    isUp([], "ovnear"),
  );
  const ping = ["ping", "-c", "1", "-W", "1", "10.9.0.2"];
  await until("a ping comes back", 12_000, async () => (await run(ping)).code === 0);
}

/** strongSwan on both hosts, its ESP in user space and therefore inside UDP. */
async function pingIpsec(stage: Stage, version: 1 | 2): Promise<void> {
  const hosts = [
    { name: "near", there: [] as string[], inner: "10.8.0.1", outer: NEAR },
    { name: "far", there: stage.far.there(), inner: "10.8.0.2", outer: FAR },
  ];
  const plugins = [
    ...["random", "nonce", "openssl", "pem", "pkcs1", "x509", "hmac", "kdf", "vici"],
    ...["kernel-libipsec", "kernel-netlink", "socket-default"],
  ].join(" ");
  const socketOf = (name: string) => `unix://${stage.file(`${name}.vici`)}`;
  for (const [i, { name, there, inner, outer }] of hosts.entries()) {
    const other = hosts[1 - i]!;
    const settings = stage.write(
      `strongswan-${name}.conf`,
      `charon-systemd {\n load = ${plugins}
 plugins {\n vici {\n socket = ${socketOf(name)}\n }\n }\n}\n`,
    );
    const connections = stage.write(
      `swanctl-${name}.conf`,
      `connections {\n golden {\n version = ${version}\n local_addrs = ${outer}
 remote_addrs = ${other.outer}\n proposals = aes256-sha256-ecp256
 local {\n auth = psk\n id = ${outer}\n }\n remote {\n auth = psk\n id = ${other.outer}\n }
 children {\n inner {\n local_ts = ${inner}/32\n remote_ts = ${other.inner}/32
 esp_proposals = aes256gcm16\n }\n }\n }\n}
secrets {\n ike-golden {\n secret = golden\n }\n}\n`,
    );
    await mustRun([...there, "ip", "address", "add", `${inner}/32`, "dev", "lo"]);
    const load = ["swanctl", "--load-all", "--file", connections, "--uri", socketOf(name)];
    const isUp = async () => (await run([...there, ...load])).code === 0;
    await stage.start([...there, "env", `STRONGSWAN_CONF=${settings}`, "charon-systemd"], isUp);
  }
  try {
    await mustRun(["swanctl", "--initiate", "--child", "inner", "--uri", socketOf("near")]);
    await mustRun(["ping", "-c", "2", "-i", "0.3", "-W", "3", "-I", "10.8.0.1", "10.8.0.2"]);
  } finally {
    for (const { there, inner } of hosts) {
      await run([...there, "ip", "address", "del", `${inner}/32`, "dev", "lo"]);
    }
  }
}

const MDNS = `
import socket, zeroconf, sys
z = zeroconf.Zeroconf(interfaces=["${NEAR}"])
z.register_service(zeroconf.ServiceInfo("_http._tcp.local.", "golden._http._tcp.local.",
  addresses=[socket.inet_aton("${NEAR}")], port=80, server="golden.local."))
z.close()
`;

/** ESP as a raw socket sends it: SPI, number, 40 bytes of what would be encrypted. */
const ESP = `
import os, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 50)
for n in range(1, 4):
  s.sendto(struct.pack(">II", 0xc0ffee01, n) + os.urandom(40), ("${FAR}", 0))
`;

const python = (code: string) => mustRun(["/usr/bin/python3", "-c", code]);

/** A question for `golden`, and the answer that repeats it (RFC 4795 §2.1). */
const LLMNR_NAME = "06676f6c64656e00 00010001";
const VPN = ["openvpn", "nsenter", "ping"];
const IPSEC = [
  ...["charon-systemd", "swanctl", "ping"],
  "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
];

export const NETWORK_CASES: readonly Case[] = [
  {
    name: "dns-edns",
    made: "dig at dnsmasq over UDP, with EDNS and a cookie.",
    needs: ["dnsmasq", "dig"],
    perform: (s) => askDnsmasq(s),
    flows: [answered("dns")],
  },
  {
    name: "dns-tcp-only",
    made: "dig at dnsmasq over TCP.",
    needs: ["dnsmasq", "dig"],
    perform: (s) => askDnsmasq(s, "+tcp"),
    flows: [plain("dns")],
  },
  {
    name: "mdns",
    made: "A service announced by zeroconf: probes and announcements to the group.",
    needs: ["python3-zeroconf"],
    wire: `udp port 5353 and src host ${NEAR}`,
    perform: async () => {
      await run(["ip", "route", "add", "224.0.0.0/4", "dev", WIRE]);
      await python(MDNS);
    },
    flows: [unanswered("mdns")],
  },
  {
    name: "llmnr",
    made: "A name asked for by LLMNR, and answered.",
    constructed: "RFC 4795 §2.1",
    port: 5355,
    perform: (s) =>
      exchangeDatagrams(s.port, [
        ["client", hex("1234 0000 0001 0000 0000 0000", LLMNR_NAME)],
        [
          "server",
          hex("1234 8000 0001 0001 0000 0000", LLMNR_NAME, "c00c 00010001 0000001e 0004 c0000207"),
        ],
      ]),
    flows: [answered("llmnr")],
  },
  {
    name: "ntp",
    made: "chrony's client at chrony's server.",
    needs: ["chronyd"],
    port: 123,
    perform: askTime,
    flows: [answered("ntp")],
  },
  {
    name: "snmp2",
    made: "snmpget at snmpd, version 2c.",
    needs: ["snmpd", "snmpget"],
    perform: async (s) => {
      await serveSnmp(s);
      await snmpget(s, "-v2c", "-c", "public");
    },
    flows: [answered("snmp")],
  },
  {
    name: "snmp3",
    made: "snmpget at snmpd, version 3: the engine is asked for in clear, the rest is encrypted.",
    needs: ["snmpd", "snmpget"],
    perform: async (s) => {
      await serveSnmp(s);
      const how = ["-l", "authPriv", "-u", "golden", "-a", "SHA", "-A", "golden-auth"];
      await snmpget(s, "-v3", ...how, "-x", "AES", "-X", "golden-priv");
    },
    flows: [{ protocol: "snmp", proto: "udp", state: "established" }],
  },
  {
    name: "syslog",
    made: "logger at rsyslog over UDP, RFC 5424.",
    needs: ["rsyslogd", "logger"],
    perform: (s) => log(s, "-d", "--rfc5424"),
    flows: [unanswered("syslog")],
  },
  {
    name: "syslog-old",
    made: "logger at rsyslog over UDP, RFC 3164.",
    needs: ["rsyslogd", "logger"],
    perform: (s) => log(s, "-d", "--rfc3164"),
    flows: [unanswered("syslog")],
  },
  {
    name: "syslog-tcp",
    made: "logger at rsyslog over TCP, RFC 5424, each message behind its length.",
    needs: ["rsyslogd", "logger"],
    perform: (s) => log(s, "-T", "--rfc5424", "--octet-count"),
    flows: [plain("syslog", null)],
  },
  {
    name: "statsd",
    made: "Metrics in datagrams, to which nobody answers.",
    constructed: "StatsD, docs/metric_types.md",
    perform: (s) =>
      exchangeDatagrams(s.port, [
        ["client", "golden.requests:1|c|@0.1"],
        ["client", "golden.latency:320|ms\ngolden.users:7|g"],
      ]),
    flows: [unanswered("statsd")],
  },
  {
    name: "statsd-tcp",
    made: "Metrics as lines over TCP.",
    constructed: "StatsD, docs/metric_types.md",
    perform: (s) => exchange(s.port, [["client", "golden.requests:1|c\ngolden.latency:320|ms\n"]]),
    flows: [plain("statsd", null)],
  },
  {
    name: "bgp",
    made: "BIRD at BIRD: OPEN, KEEPALIVE and UPDATE of both.",
    needs: ["bird", "birdc"],
    wire: "tcp port 179",
    perform: speakBgp,
    flows: [plain("bgp")],
  },
  {
    name: "wireguard",
    made: "WireGuard in user space, a handshake and two pings.",
    needs: ["wireguard-go", "wg", "ping"],
    wire: "udp port 51820",
    port: 51820,
    perform: pingWireguard,
    flows: [sealed("wireguard", { proto: "udp", accepted: null })],
  },
  {
    name: "openvpn",
    made: "OpenVPN over UDP on an unregistered port, a handshake and a ping.",
    needs: VPN,
    wire: "udp port 7777",
    port: 7777,
    perform: (s) => pingOpenvpn(s, "udp4", ""),
    flows: [sealed("openvpn", { proto: "udp", accepted: null })],
  },
  {
    name: "openvpn-auth",
    made: "OpenVPN over UDP, its control channel signed (tls-auth).",
    needs: VPN,
    wire: "udp port 7777",
    port: 7777,
    perform: (s) => pingOpenvpn(s, "udp4", "tls-auth"),
    flows: [sealed("openvpn", { proto: "udp", accepted: null })],
  },
  {
    name: "openvpn-tcp",
    made: "OpenVPN over TCP, its control channel encrypted (tls-crypt).",
    needs: VPN,
    wire: "tcp port 7777",
    port: 7777,
    perform: (s) => pingOpenvpn(s, "tcp4", "tls-crypt"),
    flows: [sealed("openvpn", { proto: "tcp", accepted: null })],
  },
  {
    name: "ike2",
    made: "strongSwan, IKEv2: the first exchange on port 500; the rest, and ESP, on 4500.",
    needs: IPSEC,
    wire: "udp port 500 or udp port 4500",
    perform: (s) => pingIpsec(s, 2),
    flows: [sealed("ike", { proto: "udp" }), sealed("ike", { proto: "udp" })],
  },
  {
    name: "ike1",
    made: "strongSwan, IKEv1: the first two exchanges on port 500; the rest, and ESP, on 4500.",
    needs: IPSEC,
    wire: "udp port 500 or udp port 4500",
    perform: (s) => pingIpsec(s, 1),
    flows: [sealed("ike", { proto: "udp" }), sealed("ike", { proto: "udp" })],
  },
  {
    name: "esp",
    made: "ESP by its protocol number, three packets of one security association.",
    constructed: "RFC 4303 §2",
    needs: ["/usr/bin/python3"],
    wire: "ip proto 50",
    perform: async () => void (await python(ESP)),
    flows: [sealed("esp", { proto: "esp", accepted: null })],
  },
];
