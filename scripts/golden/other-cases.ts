/** Lists the golden captures of other programs: web servers, databases, plaintext, upgrades. */
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { createServer as createHttp } from "node:http";
import { connect as connectHttp2, createServer as createHttp2 } from "node:http2";
import { connect, createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { TLSSocket, createServer as createTls } from "node:tls";
import { mustRun } from "../scene/processes.ts";
import { beside, curl, plain, send, tls13 } from "./acts.ts";
import type { Case, Stage } from "./stage.ts";

async function serveNginx(stage: Stage, more = ""): Promise<void> {
  const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const config = stage.write(
    `nginx-${stage.port}.conf`,
    `daemon off; master_process off; user root; pid ${stage.file("nginx.pid")};
     error_log stderr; events { worker_connections 64; }
     http { access_log off; ${kinds.map((k) => `${k}_temp_path ${stage.folder};`).join(" ")}
       server { listen 127.0.0.1:${stage.port} ssl;
         ssl_certificate ${stage.certificate("server")};
         ssl_certificate_key ${stage.key("server")}; ssl_protocols TLSv1.2 TLSv1.3;
         ${more} return 200 "done\\n"; } }\n`,
  );
  await stage.serve(["nginx", "-p", stage.folder, "-e", "stderr", "-c", config]);
}

const POSTGRES = "/usr/lib/postgresql/15/bin";
const MARIADB_USER = "golden";

/** A cluster of its own, owned by `postgres`, which will not run as root. */
async function servePostgres(stage: Stage, ssl: boolean): Promise<void> {
  const data = stage.file(`postgres-${stage.port}`);
  mkdirSync(data);
  chmodSync(stage.folder, 0o755);
  const as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
  await mustRun(["chown", "postgres:postgres", data]);
  await mustRun([...as, `${POSTGRES}/initdb`, "-D", data, "-U", "golden", "-A", "trust"]);
  const key = `${data}/server.key`;
  await mustRun(["install", "-o", "postgres", "-m", "600", stage.key("server"), key]);
  const tls = ["-c", `ssl_cert_file=${stage.certificate("server")}`, "-c", `ssl_key_file=${key}`];
  await stage.serve([
    ...[...as, `${POSTGRES}/postgres`, "-D", data, "-p", String(stage.port), "-k", data],
    ...["-c", "listen_addresses=127.0.0.1", "-c", `ssl=${ssl ? "on" : "off"}`, ...(ssl ? tls : [])],
  ]);
}

function psql(stage: Stage, mode: string): Promise<string> {
  const target = `host=127.0.0.1 port=${stage.port} user=golden dbname=postgres gssencmode=disable`;
  return mustRun(["psql", "-X", "-A", "-t", `${target} sslmode=${mode}`, "-c", "select 40+2"]);
}

async function serveMariadb(stage: Stage): Promise<void> {
  const data = stage.file(`mariadb-${stage.port}`);
  await mustRun([
    ...["mariadb-install-db", "--no-defaults", `--datadir=${data}`, "--user=root"],
    ...["--auth-root-authentication-method=normal", "--skip-test-db"],
  ]);
  await stage.serve([
    ...["mariadbd", "--no-defaults", `--datadir=${data}`, `--port=${stage.port}`, "--user=root"],
    ...[`--socket=${data}/socket`, "--bind-address=127.0.0.1", "--skip-name-resolve"],
    ...[`--ssl-cert=${stage.certificate("server")}`, `--ssl-key=${stage.key("server")}`],
  ]);
  const create = `create user ${MARIADB_USER}@'127.0.0.1'`;
  await mustRun(["mariadb", "--no-defaults", `--socket=${data}/socket`, "-e", create]);
}

const mariadb = (stage: Stage, ...more: string[]) =>
  mustRun([
    ...["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", String(stage.port)],
    ...["-u", MARIADB_USER, "-e", "select 40+2", ...more],
  ]);

/** Answers every question with 192.0.2.7; over UDP truncated when the name says `long`. */
function dnsAnswer(question: Buffer, overTcp: boolean): Buffer {
  const long = question.includes("long") && !overTcp;
  let end = 12;
  while (question[end] !== 0) end += question[end]! + 1;
  const head = Buffer.from(question.subarray(0, end + 5));
  head.writeUInt16BE(long ? 0x8380 : 0x8180, 2);
  head.fill(0, 6, 12);
  if (long) return head;
  head.writeUInt16BE(1, 6);
  return Buffer.concat([head, Buffer.from("c00c00010001000000" + "3c0004c0000207", "hex")]);
}

async function askDns(stage: Stage, name: string): Promise<void> {
  const udp = createSocket("udp4");
  udp.on("message", (m, from) => udp.send(dnsAnswer(m, false), from.port, from.address));
  udp.bind(stage.port, "127.0.0.1");
  await once(udp, "listening");
  const tcp = createServer((socket) =>
    socket.on("data", (m: Buffer) => {
      const answer = dnsAnswer(m.subarray(2), true);
      socket.end(Buffer.concat([Buffer.from([0, answer.length]), answer]));
    }),
  );
  await beside(tcp, stage.port, async () => {
    const resolver = new Resolver();
    resolver.setServers([`127.0.0.1:${stage.port}`]);
    const [address] = await resolver.resolve4(name);
    if (address !== "192.0.2.7") throw new Error(`resolved to ${address}`);
    await sleep(100);
  });
  udp.close();
}

/** A mail server's greeting, and TLS behind STARTTLS. */
const smtpServer = (stage: Stage) =>
  createServer((socket: Socket) => {
    socket.on("error", () => {});
    socket.write("220 mail.golden ESMTP\r\n");
    const take = (bytes: Buffer) => {
      const line = bytes.toString("latin1");
      if (/^EHLO/.test(line)) socket.write("250-mail.golden\r\n250 STARTTLS\r\n");
      if (!/^STARTTLS/.test(line)) return;
      socket.off("data", take);
      socket.write("220 go ahead\r\n");
      const secure = new TLSSocket(socket, {
        isServer: true,
        cert: readFileSync(stage.certificate("server")),
        key: readFileSync(stage.key("server")),
      });
      secure.on("error", () => {});
      secure.on("data", (text: Buffer) =>
        secure.write(text.toString("latin1").trim() + " olleh\n"),
      );
    };
    socket.on("data", take);
  });

/** A web proxy that opens tunnels. */
const proxy = () =>
  createHttp().on("connect", (request, socket: Socket) => {
    const [host, port] = request.url!.split(":");
    const onward = connect(Number(port), host!, () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      onward.pipe(socket).pipe(onward);
    });
    onward.on("error", () => socket.destroy());
    socket.on("error", () => onward.destroy());
  });

const done = () => createHttp((_, response) => response.end("done\n"));

export const OTHER_CASES: readonly Case[] = [
  {
    name: "http",
    made: "Two requests of HTTP/1.1 on one connection.",
    needs: ["curl"],
    perform: (s) =>
      beside(done(), s.port, async () => {
        const url = `http://127.0.0.1:${s.port}/`;
        await mustRun(curl(url, url));
      }),
    flows: [plain("http")],
  },
  {
    name: "h2c",
    made: "HTTP/2 in plaintext, by prior knowledge.",
    perform: (s) => {
      const server = createHttp2((_, response) => response.end("done\n"));
      return beside(server as Server, s.port, async () => {
        const session = connectHttp2(`http://127.0.0.1:${s.port}`);
        const stream = session.request({ ":path": "/" });
        stream.resume();
        await once(stream, "close");
        session.close();
        await once(session, "close");
      });
    },
    flows: [plain("http2")],
  },
  {
    name: "redis",
    made: "Redis in plaintext.",
    needs: ["redis-server", "redis-cli"],
    perform: async (s) => {
      await s.serve(["redis-server", "--port", String(s.port), "--save", "", "--dir", s.folder]);
      await mustRun(["redis-cli", "-p", String(s.port), "set", "a", "1"]);
    },
    flows: [plain("redis")],
  },
  {
    name: "redis-mtls",
    made: "Redis inside TLS 1.3, client certificate presented.",
    needs: ["redis-server", "redis-cli"],
    perform: async (s) => {
      const files = (holder: "server" | "client", prefix: string) => [
        ...[`--${prefix}cert${prefix ? "-file" : ""}`, s.certificate(holder)],
        ...[`--${prefix}key${prefix ? "-file" : ""}`, s.key(holder)],
        ...[`--${prefix}${prefix ? "ca-cert-file" : "cacert"}`, s.file("golden-ca.pem")],
      ];
      await s.serve([
        ...["redis-server", "--port", "0", "--tls-port", String(s.port), "--save", ""],
        ...["--dir", s.folder, ...files("server", "tls-")],
      ]);
      const target = ["-p", String(s.port), "--tls", "--sni", "server.golden"];
      await mustRun(["redis-cli", ...target, ...files("client", ""), "set", "a", "1"]);
    },
    flows: [tls13({ mutual: "inferred-yes", sni: "server.golden" })],
  },
  {
    name: "postgres",
    made: "PostgreSQL in plaintext, TLS not asked for.",
    needs: ["postgres", "psql"],
    perform: async (s) => {
      await servePostgres(s, false);
      await psql(s, "disable");
    },
    flows: [plain("postgresql")],
  },
  {
    name: "postgres-tls",
    made: "PostgreSQL, SSLRequest agreed to.",
    needs: ["postgres", "psql"],
    perform: async (s) => {
      await servePostgres(s, true);
      await psql(s, "require");
    },
    flows: [tls13({ protocol: "postgresql", upgraded_from: "postgresql", mutual: "inferred-no" })],
  },
  {
    name: "postgres-stripped",
    made: "PostgreSQL, SSLRequest answered N, then plaintext.",
    needs: ["postgres", "psql"],
    perform: async (s) => {
      await servePostgres(s, false);
      await psql(s, "prefer");
    },
    flows: [plain("postgresql")],
  },
  {
    name: "postgres-refused",
    made: "PostgreSQL that takes TLS only: plaintext is refused with an error.",
    needs: ["postgres", "psql"],
    perform: async (s) => {
      await servePostgres(s, true);
      s.write(`postgres-${s.port}/pg_hba.conf`, "hostssl all all all trust\n");
      s.signal("SIGHUP");
      await sleep(300);
      await psql(s, "disable").catch(() => "refused, as it must be");
    },
    flows: [{ ...plain("postgresql", false), failure: "plaintext-refused" }],
  },
  {
    name: "mariadb-refused",
    made: "MariaDB refuses the login of a user that it does not know.",
    needs: ["mariadbd", "mariadb", "mariadb-install-db"],
    perform: async (s) => {
      await serveMariadb(s);
      await mariadb(s, "--skip-ssl", "-u", "nobody").catch(() => "refused, as it must be");
    },
    flows: [{ ...plain("mysql", false), failure: "plaintext-refused" }],
  },
  {
    name: "mariadb",
    made: "MariaDB in plaintext.",
    needs: ["mariadbd", "mariadb", "mariadb-install-db"],
    perform: async (s) => {
      await serveMariadb(s);
      await mariadb(s, "--skip-ssl");
    },
    flows: [plain("mysql")],
  },
  {
    name: "mariadb-tls",
    made: "MariaDB, the client asks for TLS; its server asks every client for a certificate.",
    needs: ["mariadbd", "mariadb", "mariadb-install-db"],
    perform: async (s) => {
      await serveMariadb(s);
      await mariadb(s, "--ssl");
    },
    flows: [tls13({ protocol: "mysql", upgraded_from: "mysql", mutual: "inferred-declined" })],
  },
  {
    name: "dns",
    made: "A name asked for over UDP.",
    perform: (s) => askDns(s, "short.golden"),
    flows: [plain("dns")],
  },
  {
    name: "dns-tcp",
    made: "A name asked for over UDP, the answer truncated, and again over TCP.",
    perform: (s) => askDns(s, "long.golden"),
    flows: [plain("dns"), plain("dns")],
  },
  {
    name: "ssh",
    made: "An SSH client at a server that says its version and leaves.",
    needs: ["ssh"],
    perform: (s) =>
      beside(
        createServer((socket) => {
          socket.on("error", () => {});
          socket.write("SSH-2.0-OpenSSH_9.2p1\r\n");
          socket.once("data", () => setTimeout(() => socket.end(), 100));
        }),
        s.port,
        async () => {
          const options = ["-o", "BatchMode=yes", "-F", "none", "-p", String(s.port)];
          await s.talk(["ssh", ...options, "golden@127.0.0.1"]);
        },
      ),
    flows: [{ protocol: "ssh", encryption: "encrypted-other", handshake: null }],
  },
  {
    name: "nginx-plaintext",
    made: "Plain HTTP to nginx's TLS port: a 400 in clear.",
    needs: ["nginx", "curl"],
    perform: async (s) => {
      await serveNginx(s);
      await mustRun(curl(`http://127.0.0.1:${s.port}/`));
    },
    flows: [{ ...plain("http", false), failure: "plaintext-to-tls" }],
  },
  {
    name: "nginx-mtls",
    made: "nginx demands a client certificate, curl presents one, HTTP/1.1 inside.",
    needs: ["nginx", "curl"],
    perform: async (s) => {
      const trust = `ssl_client_certificate ${s.file("golden-ca.pem")}; ssl_verify_client on;`;
      await serveNginx(s, trust);
      const name = ["--resolve", `server.golden:${s.port}:127.0.0.1`];
      const client = ["--cert", s.certificate("client"), "--key", s.key("client")];
      const trusted = ["--cacert", s.file("golden-ca.pem"), "--http1.1"];
      await mustRun(curl(...name, ...client, ...trusted, `https://server.golden:${s.port}/`));
    },
    flows: [tls13({ mutual: "inferred-yes", sni: "server.golden" })],
  },
  {
    name: "haproxy-mtls",
    made: "haproxy demands a client certificate; curl presents one, and is refused without.",
    needs: ["haproxy", "curl"],
    perform: async (s) => {
      const files = [s.certificate("server"), s.key("server")];
      const both = s.write("both.pem", files.map((file) => readFileSync(file, "utf8")).join(""));
      const config = s.write(
        "haproxy.cfg",
        `defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s
frontend golden
  bind 127.0.0.1:${s.port} ssl crt ${both} ca-file ${s.file("golden-ca.pem")} verify required
  http-request return status 200 content-type text/plain string "done"\n`,
      );
      await s.serve(["haproxy", "-db", "-f", config]);
      const url = ["-k", "--http1.1", `https://127.0.0.1:${s.port}/`];
      await mustRun(curl("--cert", s.certificate("client"), "--key", s.key("client"), ...url));
      const said = await s.talk(curl(...url));
      if (!said.includes("alert")) throw new Error(`not refused: ${said}`);
    },
    flows: [
      tls13({ mutual: "inferred-yes", sni: null }),
      {
        ...{ protocol: "tls", handshake: "failed", accepted: false, version: "TLSv1.3" },
        ...{ failure: "client-cert-missing", mutual: "inferred-declined" },
      },
    ],
  },
  {
    name: "alpn-mismatch",
    made: "A client that offers only ALPN names which the server does not know.",
    perform: (s) => {
      const cert = readFileSync(s.certificate("server"));
      const key = readFileSync(s.key("server"));
      const server = createTls({ cert, key, ALPNProtocols: ["h2"] }).on("tlsClientError", () => {});
      return beside(server, s.port, async () => {
        await s.opensslRefused("-alpn", "golden/1");
      });
    },
    flows: [
      {
        ...{ protocol: "tls", handshake: "failed", accepted: false, failure: "no-common-alpn" },
        alert: 120,
      },
    ],
  },
  {
    name: "connect",
    made: "HTTP CONNECT through a proxy to TLS, seen on both legs.",
    needs: ["curl"],
    perform: async (s) => {
      await s.serve(
        [
          ...["openssl", "s_server", "-accept", `127.0.0.1:${s.port + 1}`, "-www", "-quiet"],
          ...["-cert", s.certificate("server"), "-key", s.key("server")],
        ],
        s.port + 1,
      );
      await beside(proxy(), s.port, async () => {
        const via = ["--proxy", `http://127.0.0.1:${s.port}`, "-k", "-o", "/dev/null"];
        await mustRun(curl(...via, `https://127.0.0.1:${s.port + 1}/`));
      });
    },
    flows: [
      tls13({ protocol: "http", upgraded_from: "http", mutual: "inferred-no" }),
      tls13({ mutual: "inferred-no" }),
    ],
  },
  {
    name: "starttls",
    made: "SMTP with STARTTLS: a server that speaks first, and TLS in the middle.",
    perform: (s) =>
      beside(smtpServer(s), s.port, async () => {
        await s.opensslAnswered("-starttls", "smtp");
        await sleep(100);
      }),
    flows: [tls13({ protocol: "smtp", upgraded_from: "smtp", mutual: "inferred-no" })],
  },
  {
    name: "tls-to-plaintext",
    made: "A TLS client at a plain HTTP server.",
    perform: (s) =>
      beside(done(), s.port, async () => {
        await s.opensslRefused();
      }),
    flows: [{ protocol: "tls", handshake: "failed", accepted: false, failure: "tls-to-plaintext" }],
  },
  {
    name: "plaintext-closed",
    made: "Redis commands to a TLS server, which closes without a word.",
    perform: async (s) => {
      await s.opensslServer("-tls1_2");
      await send(s.port, "*1\r\n$4\r\nPING\r\n");
    },
    flows: [{ protocol: "redis", accepted: false, failure: "plaintext-refused" }],
  },
  {
    name: "plaintext-reset",
    made: "HTTP to a server that resets at the first byte.",
    perform: (s) =>
      beside(
        createServer((socket) => socket.once("data", () => socket.resetAndDestroy())),
        s.port,
        async () => void (await send(s.port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
      ),
    flows: [
      {
        ...{ protocol: "http", accepted: false, failure: "plaintext-refused", state: "reset" },
        encryption: "plaintext",
      },
    ],
  },
  {
    name: "port-closed",
    made: "A connection to a port on which nothing listens.",
    perform: async (s) => void (await send(s.port, "")),
    flows: [{ state: "refused", protocol: null, encryption: "none", accepted: null }],
  },
  {
    name: "unknown-protocol",
    made: "Bytes of no protocol that is known, answered.",
    perform: (s) =>
      beside(
        createServer((socket) => socket.once("data", () => socket.end("\u0001\u0007\u0002ok"))),
        s.port,
        async () => void (await send(s.port, "\u0001\u0009\u0002what")),
      ),
    flows: [plain(null)],
  },
];
