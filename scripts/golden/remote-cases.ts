/** Lists the golden captures of remote desktops, terminals, tunnels and conversations. */
import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createHttps } from "node:https";
import { mustRun } from "../scene/processes.ts";
import {
  ask,
  beside,
  curl,
  exchange,
  gaveUp,
  hex,
  plain,
  sealed,
  thenTls,
  tls13,
  upgraded,
} from "./acts.ts";
import type { Case, Stage } from "./stage.ts";

/** An SSH server with a host key of its own, and one user's key. */
async function serveSsh(stage: Stage): Promise<void> {
  const home = stage.file(`ssh-${stage.port}`);
  mkdirSync(home, { mode: 0o700 });
  mkdirSync("/run/sshd", { recursive: true });
  for (const name of ["host", "user"]) {
    await mustRun(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", `${home}/${name}`]);
  }
  const options = [
    ...["UsePAM=no", "StrictModes=no", `AuthorizedKeysFile=${home}/user.pub`, "PidFile=none"],
    ...["PermitRootLogin=yes", "ListenAddress=127.0.0.1", `HostKey=${home}/host`],
  ];
  await stage.serve([
    ...["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-p", String(stage.port)],
    ...options.flatMap((option) => ["-o", option]),
  ]);
}

const sshClient = (stage: Stage, port = stage.port) => [
  ...["ssh", "-F", "none", "-i", stage.file(`ssh-${port}/user`), "-p", String(port)],
  ...[
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
  ],
];

const done = () => createServer((_, response) => response.end("done\n"));

/** A SOCKS proxy at the stage's port, and a server behind it at the next. */
async function throughSocks(stage: Stage, scheme: "socks4a" | "socks5", tls: boolean) {
  const behind = stage.port + 1;
  const proxy = `${scheme}://127.0.0.1:${stage.port}`;
  const fetchIt = (url: string) => mustRun(curl("-k", "--proxy", proxy, "-o", "/dev/null", url));
  if (tls) {
    const [cert, key] = [stage.certificate("server"), stage.key("server")].map((f) =>
      readFileSync(f),
    );
    const server = createHttps({ cert, key }, (_, response) => response.end("done\n"));
    await beside(server, behind, async () => void (await fetchIt(`https://localhost:${behind}/`)));
  } else {
    await beside(done(), behind, async () => void (await fetchIt(`http://localhost:${behind}/`)));
  }
}

const serveSocks5 = (stage: Stage) =>
  stage.serve(["microsocks", "-i", "127.0.0.1", "-p", String(stage.port)]);

/** OpenSSH's dynamic forwarding is a proxy of SOCKS 4, 4A and 5. */
async function serveSocks4(stage: Stage): Promise<void> {
  const { port } = stage;
  stage.port = port + 5;
  await serveSsh(stage);
  const client = sshClient(stage);
  stage.port = port;
  await stage.serve([...client, "-N", "-D", `127.0.0.1:${port}`, "root@127.0.0.1"]);
}

/** A connection request with RDP_NEG_REQ, and the confirm of it (MS-RDPBCGR §2.2.1.1, §2.2.1.2). */
const rdpRequest = (protocols: string) => hex("03000013 0e e0 0000 0000 00 01 00 0800", protocols);
const rdpConfirm = (kind: string, value: string) =>
  hex("03000013 0e d0 0000 1234 00", kind, "00 0800", value);

async function serveXrdp(stage: Stage): Promise<void> {
  const home = stage.file(`xrdp-${stage.port}`);
  mkdirSync(home);
  const config = stage.write(
    `xrdp-${stage.port}/xrdp.ini`,
    `[Globals]\nini_version=1\nfork=false
port=tcp://127.0.0.1:${stage.port}\nsecurity_layer=negotiate
crypt_level=high\ncertificate=${stage.certificate("server")}\nkey_file=${stage.key("server")}
ssl_protocols=TLSv1.2, TLSv1.3\nrsakeys_ini=/etc/xrdp/rsakeys.ini\nmax_bpp=16
[Logging]\nLogFile=${home}/log\nLogLevel=INFO\nEnableSyslog=false\n
[Xorg]\nname=Xorg\nlib=libxup.so\nusername=ask\npassword=ask\nip=127.0.0.1\nport=-1\ncode=20\n`,
  );
  await stage.serve(["xrdp", "--nodaemon", "--config", config]);
}

async function serveXmpp(stage: Stage, tls: boolean): Promise<void> {
  chmodSync(stage.folder, 0o755);
  const home = stage.file(`prosody-${stage.port}`);
  mkdirSync(home);
  const key = `${home}/server.key`;
  const own = ["-o", "prosody", "-m", "600"];
  await mustRun(["install", ...own, stage.key("server"), key]);
  await mustRun(["chown", "prosody", home]);
  const files = `certificate = "${stage.certificate("server")}"; key = "${key}"`;
  const config = stage.write(
    `prosody-${stage.port}/prosody.cfg.lua`,
    `interfaces = { "127.0.0.1" }\nc2s_ports = { ${stage.port} }\nc2s_direct_tls_ports = { }
s2s_ports = { }\nhttp_ports = { }\nhttps_ports = { }\ndata_path = "${home}"
modules_enabled = { "saslauth"${tls ? ', "tls"' : ""} }
modules_disabled = { "s2s" }\nauthentication = "anonymous"
c2s_require_encryption = false\nallow_unencrypted_plain_auth = true
${tls ? `ssl = { ${files} }` : ""}\nlog = { info = "${home}/log" }
VirtualHost "server.golden"\n`,
  );
  const as = ["setpriv", "--reuid=prosody", "--regid=prosody", "--clear-groups"];
  await stage.serve([...as, "prosody", "-F", "--config", config]);
}

const XMPP_HEAD =
  "<?xml version='1.0'?><stream:stream to='server.golden' xmlns='jabber:client' " +
  "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

export const REMOTE_CASES: readonly Case[] = [
  {
    name: "ssh-login",
    made: "OpenSSH: a login by key, one command.",
    needs: ["sshd", "ssh"],
    perform: async (s) => {
      await serveSsh(s);
      await mustRun([...sshClient(s), "root@127.0.0.1", "true"]);
    },
    flows: [sealed("ssh")],
  },
  {
    name: "telnet",
    made: "inetutils' telnetd on its registered port: options are negotiated, then a line.",
    needs: ["telnetd", "socat", "telnet"],
    port: 23,
    perform: async (s) => {
      const shell = s.write("telnet.sh", "#!/bin/sh\necho ready\nexec cat\n");
      chmodSync(shell, 0o755);
      const program = `EXEC:/usr/sbin/telnetd -h -E ${shell},nofork`;
      await s.serve(["socat", `TCP-LISTEN:${s.port},bind=127.0.0.1,reuseaddr`, program]);
      const client = ["telnet", "127.0.0.1", String(s.port)];
      await s.talk(client, [
        ["", "ready"],
        ["hello\n", "hello"],
      ]);
    },
    flows: [plain("telnet")],
  },
  {
    name: "vnc",
    made: "Xvnc: versions, no security, and the screen's description.",
    needs: ["Xvnc"],
    perform: async (s) => {
      await s.serve([
        ...["Xvnc", ":97", "-rfbport", String(s.port), "-interface", "127.0.0.1"],
        ...[
          "-SecurityTypes",
          "None",
          "-geometry",
          "64x64",
          "-nolisten",
          "tcp",
          "-nolisten",
          "unix",
        ],
      ]);
      await ask(s.port, [
        ["", "RFB 003.008\n"],
        ["RFB 003.008\n", "\u0001"],
        ["\u0001", hex("00000000")],
        ["\u0001", hex("0040 0040")],
      ]);
    },
    flows: [plain("vnc")],
  },
  {
    name: "rdp-tls",
    made: "xrdp agrees to TLS; FreeRDP, which has no channels opened, tries twice.",
    needs: ["xrdp", "xfreerdp", "Xvfb"],
    perform: async (s) => {
      await serveXrdp(s);
      await s.start(["Xvfb", ":98", "-screen", "0", "640x480x24", "-listen", "tcp"], async () =>
        (await mustRun(["cat", "/proc/net/tcp"])).includes(":17D2 "),
      );
      const place = [`/v:127.0.0.1:${s.port}`, "/sec:tls", "/cert:ignore", "/u:a", "/p:b"];
      await s.talk(["env", "DISPLAY=127.0.0.1:98", "timeout", "3", "xfreerdp", ...place]);
    },
    flows: [upgraded("rdp"), upgraded("rdp")],
  },
  {
    name: "rdp-refused",
    made: "RDP: a client that takes TLS only, and a server that knows standard security only.",
    constructed: "MS-RDPBCGR §2.2.1.1, §2.2.1.2.2",
    perform: (s) =>
      exchange(s.port, [
        ["client", rdpRequest("01000000")],
        ["server", rdpConfirm("03", "02000000")],
      ]),
    flows: [gaveUp("rdp")],
  },
  {
    name: "rdp-nla",
    made: "RDP: CredSSP agreed upon, which runs inside TLS.",
    constructed: "MS-RDPBCGR §2.2.1.1, §2.2.1.2.1, §5.4.5.2",
    perform: (s) =>
      exchange(
        s.port,
        [
          ["client", rdpRequest("03000000")],
          ["server", rdpConfirm("02", "02000000")],
        ],
        thenTls(s),
      ),
    flows: [upgraded("rdp", { sni: "server.golden" })],
  },
  {
    name: "socks5",
    made: "microsocks on its registered port, SOCKS 5; HTTP inside, seen on both legs.",
    needs: ["microsocks", "curl"],
    port: 1080,
    perform: async (s) => {
      await serveSocks5(s);
      await throughSocks(s, "socks5", false);
    },
    flows: [plain("socks"), plain("http")],
  },
  {
    name: "socks5-tls",
    made: "microsocks, SOCKS 5; TLS inside, seen on both legs.",
    needs: ["microsocks", "curl"],
    port: 1080,
    perform: async (s) => {
      await serveSocks5(s);
      await throughSocks(s, "socks5", true);
    },
    flows: [upgraded("socks"), tls13({ mutual: "inferred-no" })],
  },
  {
    name: "socks4a-tls",
    made: "OpenSSH's dynamic forwarding, SOCKS 4A; TLS inside.",
    needs: ["sshd", "ssh", "curl"],
    perform: async (s) => {
      await serveSocks4(s);
      await throughSocks(s, "socks4a", true);
    },
    flows: [sealed("ssh"), upgraded("socks"), tls13({ mutual: "inferred-no" })],
  },
  {
    name: "xmpp",
    made: "Prosody in plaintext: a stream, its features, an anonymous login.",
    needs: ["prosody"],
    perform: async (s) => {
      await serveXmpp(s, false);
      await ask(s.port, [
        [XMPP_HEAD, "</stream:features>"],
        ["<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>", "success"],
        ["</stream:stream>", "</stream:stream>"],
      ]);
    },
    flows: [plain("xmpp")],
  },
  {
    name: "xmpp-starttls",
    made: "Prosody, STARTTLS agreed to.",
    needs: ["prosody"],
    perform: async (s) => {
      await serveXmpp(s, true);
      const client = ["openssl", "s_client", "-connect", `127.0.0.1:${s.port}`, "-quiet"];
      const name = ["-starttls", "xmpp", "-xmpphost", "server.golden"];
      await s.talk([...client, ...name], [[XMPP_HEAD, "</stream:features>"]], "</stream:stream>");
    },
    flows: [upgraded("xmpp")],
  },
  {
    name: "irc",
    made: "ngIRCd on an unregistered port: a client signs on, joins a channel and leaves.",
    needs: ["ngircd"],
    perform: async (s) => {
      const config = s.write(
        "ngircd.conf",
        `[Global]\nName = irc.golden\nInfo = golden\nListen = 127.0.0.1\nPorts = ${s.port}
[Options]\nIdent = no\nDNS = no\nPAM = no\n`,
      );
      await s.serve(["ngircd", "-n", "-f", config]);
      await ask(s.port, [
        ["NICK golden\r\nUSER golden 0 * :Golden\r\n", " 001 "],
        ["JOIN #golden\r\n", "366"],
        ["QUIT :done\r\n", "ERROR"],
      ]);
    },
    flows: [plain("irc")],
  },
];
